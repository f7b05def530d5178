//! A timer that makes a descriptor readable.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Longest time that the timer is set for; whoever waits for longer sets it again.
const LONGEST: Duration = Duration::from_secs(3600);

/// A timer descriptor, and when it is set for.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: TimerFd,
    set: Option<Instant>,
}

impl Alarm {
    pub(super) fn new() -> nix::Result<Self> {
        // The clock of `Instant`.
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        Ok(Self { timer, set: None })
    }

    /// Makes sure that the descriptor becomes readable at `instant` or before. An
    /// earlier alarm stays: it costs one needless wake-up, and setting the timer
    /// for every handshake would cost each two system calls.
    pub(super) fn set(&mut self, instant: Instant) -> nix::Result<()> {
        if self.set.is_some_and(|set| set <= instant) {
            return Ok(());
        }
        let now = Instant::now();
        // Zero would disarm it.
        let left = instant
            .saturating_duration_since(now)
            .clamp(Duration::from_nanos(1), LONGEST);
        let expiration = Expiration::OneShot(TimeSpec::from_duration(left));
        self.timer.set(expiration, TimerSetTimeFlags::empty())?;
        self.set = Some(now + left);
        Ok(())
    }

    /// Makes the descriptor unreadable after it has become readable.
    pub(super) fn clear(&mut self) {
        // Nothing to read means that it is as it should be.
        let _ = self.timer.wait();
        self.set = None;
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
