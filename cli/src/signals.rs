//! SIGINT and SIGTERM as something to wait for, so that a command that leaves a
//! socket file behind can remove it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::failure::Failure;

/// The signals that ask for the end.
const ENDS: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];

/// The signals that ask for the end, kept from ending the process while it lives.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Blocks them in this thread and in those that it starts from now on.
    pub(crate) fn block() -> Result<Self, Failure> {
        let set = SigSet::from_iter(ENDS);
        let make = || -> Result<Self, Errno> {
            let before = set.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
            let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
            let descriptor = SignalFd::with_flags(&set, flags)?;
            Ok(Self { descriptor, before })
        };
        make().map_err(|errno| Failure::io("cannot wait for signals")(errno.into()))
    }

    /// Reports a signal that has come.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.descriptor.read_signal() {
            Ok(Some(signal)) => {
                let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
                let signal = Signal::try_from(number).unwrap_or(Signal::SIGTERM);
                Err(Failure::Interrupted(signal))
            }
            // Another signal came meanwhile.
            Ok(None) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Failure::io("cannot wait for signals")(errno.into())),
        }
    }

    /// Waits until one of the descriptors is readable or ended, a signal has come, or
    /// the time is up.
    pub(crate) fn wait(
        &self,
        others: &[BorrowedFd<'_>],
        end: Option<Instant>,
    ) -> Result<(), Failure> {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![readable(self.descriptor.as_fd())];
        fds.extend(others.iter().map(|&fd| readable(fd)));
        let timeout = end.map_or(PollTimeout::NONE, |end| {
            let left = end.saturating_duration_since(Instant::now());
            // Rounded up: a wait that is too short would be made again and again.
            let millis = left
                .as_nanos()
                .div_ceil(Duration::from_millis(1).as_nanos());
            u16::try_from(millis).map_or(PollTimeout::from(u16::MAX), PollTimeout::from)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => self.check(),
            Err(errno) => Err(Failure::io("cannot wait")(io::Error::from(errno))),
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // One that has come since the last look takes its effect now.
        // It fails only for a set that is none.
        let _ = self.before.thread_set_mask();
    }
}
