//! The only wrapper of `sendmsg`, `recvmsg` and `poll`.
//!
//! ```text
//!   send / receive (loops, limits, errors)
//!         │  generic over System
//!         ▼
//!   System ──▶ Linux      the shipped implementation: nix
//!          └─▶ a script   in tests: EINTR, EAGAIN, short counts at the k-th call
//! ```
//!
//! Hidden from the documentation: it is public for tests and no part of the
//! stable interface.
//!
//! # Invariants
//!
//! - I1: no call sleeps except [`System::wait`] (`MSG_DONTWAIT` on every message).
//! - I2: a descriptor that the kernel installs in this process has an [`OwnedFd`]
//!   when [`System::receive`] returns, whatever the flags of the message say.
//! - I3: the control buffer is zero before each `recvmsg`, so a header of length
//!   zero ends the messages that the kernel wrote.
//! - I4: the control buffer holds the largest set of control messages that one
//!   `recvmsg` on a Unix socket yields, apart from a security label of more than
//!   about 3000 bytes.
//!
//! # Trust
//!
//! The peer decides the bytes, and the number and kind of the descriptors. The
//! layout of the control buffer is the kernel's: the peer's control messages are
//! parsed by the kernel and written anew. nix's own iterator is not used: on
//! `MSG_CTRUNC` it yields nothing, and the descriptors that did arrive would stay
//! open for ever; `SCM_PIDFD` it does not know, and the pidfd would leak as well.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessage, MsgFlags, cmsg_space, getsockopt, recvmsg, sendmsg, sockopt,
};

use crate::Deadline;
use crate::send::MAX_DESCRIPTORS;

pub use crate::receive::{receive_bytes_exact_on, receive_exact_on, receive_on, try_receive_on};
pub use crate::send::{send_all_on, try_send_on};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes, or the end of the stream.
    Readable,
    /// Space in the socket's buffer, or the end of the stream.
    Writable,
}

/// What one `recvmsg` brought.
#[derive(Debug)]
pub struct Arrival {
    /// Number of bytes; zero at the end of the stream.
    pub bytes: usize,
    /// Descriptors, all with close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// Whether the kernel dropped control data (`MSG_CTRUNC`).
    pub truncated: bool,
}

/// The system calls that the loops of this crate make.
pub trait System {
    /// Sends some of `bytes`, and all of `fds` with the first of them, at once.
    ///
    /// # Errors
    ///
    /// What the system call says; `WouldBlock` if the socket's buffer is full.
    fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<usize>;

    /// Receives bytes and descriptors, at once.
    ///
    /// # Errors
    ///
    /// What the system call says; `WouldBlock` if nothing is there.
    fn receive(&mut self, socket: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Arrival>;

    /// Receives bytes with no control buffer, at once.
    ///
    /// # Errors
    ///
    /// What the system call says; `WouldBlock` if nothing is there.
    fn receive_bytes(&mut self, socket: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Arrival>;

    /// Sleeps until the socket is ready; `false` if the deadline came first.
    ///
    /// # Errors
    ///
    /// What the system call says, `Interrupted` included.
    fn wait(
        &mut self,
        socket: BorrowedFd<'_>,
        interest: Interest,
        deadline: Deadline,
    ) -> io::Result<bool>;
}

/// The kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

/// Size of the control buffer (I4): descriptors (1032 bytes), credentials (32), a
/// pidfd (24) and a security label share a page. The last three come only if an
/// option of our own socket asks for them.
const CONTROL_LEN: usize = 4096;

const _: () = assert!(
    cmsg_space::<[RawFd; MAX_DESCRIPTORS]>()
        + cmsg_space::<libc::ucred>()
        + cmsg_space::<RawFd>()
        + 1024
        <= CONTROL_LEN
);

/// The kernel's `SCM_PIDFD`, which the libc crate does not name.
const SCM_PIDFD: libc::c_int = 4;

/// Aligned as nix's view of the first header requires.
#[repr(align(8))]
struct ControlBuffer([u8; CONTROL_LEN]);

impl System for Linux {
    fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<usize> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let bytes = [IoSlice::new(bytes)];
        // The numbers live no longer than this call, and `fds` outlives it.
        let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
        Ok(sendmsg::<()>(
            socket.as_raw_fd(),
            &bytes,
            control,
            flags,
            None,
        )?)
    }

    fn receive(&mut self, socket: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Arrival> {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        // Zeroed anew for every call (I3).
        let mut control = ControlBuffer([0; CONTROL_LEN]);
        let mut slices = [IoSliceMut::new(buf)];
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control.0), flags)?;
        let (bytes, flags) = (message.bytes, message.flags);
        // Ownership first, before the flags are looked at (I2).
        let fds = take_descriptors(&control.0);
        Ok(Arrival {
            bytes,
            fds,
            truncated: flags.contains(MsgFlags::MSG_CTRUNC),
        })
    }

    fn receive_bytes(&mut self, socket: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Arrival> {
        let mut slices = [IoSliceMut::new(buf)];
        let message = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut slices,
            None,
            // Nothing can be installed without a control buffer; the flag costs
            // nothing and leaves no call without it.
            MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT,
        )?;
        Ok(Arrival {
            bytes: message.bytes,
            fds: Vec::new(),
            truncated: message.flags.contains(MsgFlags::MSG_CTRUNC),
        })
    }

    fn wait(
        &mut self,
        socket: BorrowedFd<'_>,
        interest: Interest,
        deadline: Deadline,
    ) -> io::Result<bool> {
        let events = match interest {
            Interest::Readable => PollFlags::POLLIN,
            Interest::Writable => PollFlags::POLLOUT,
        };
        loop {
            // A hang-up or an error counts as ready: the next call reports it.
            if poll(&mut [PollFd::new(socket, events)], poll_timeout(deadline))? > 0 {
                return Ok(true);
            }
            // `poll` counts at most 24 days, a deadline more.
            if deadline.has_passed() {
                return Ok(false);
            }
        }
    }
}

/// Rounds up to milliseconds, so that the last fraction is slept and not spun.
fn poll_timeout(deadline: Deadline) -> PollTimeout {
    deadline.remaining().map_or(PollTimeout::NONE, |remaining| {
        let milliseconds = remaining.as_nanos().div_ceil(1_000_000);
        let milliseconds = i32::try_from(milliseconds).unwrap_or(i32::MAX);
        PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
    })
}

/// Takes ownership of every descriptor in the control messages of one `recvmsg`.
/// Those of `SCM_RIGHTS` are returned; a pidfd that an option of our own socket
/// asked for is closed.
#[allow(
    unsafe_code,
    reason = "a received descriptor is a number until an OwnedFd takes it"
)]
fn take_descriptors(control: &[u8]) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    for message in ControlMessages(control) {
        let rights = (message.level, message.kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        let pidfd = (message.level, message.kind) == (libc::SOL_SOCKET, SCM_PIDFD);
        if !rights && !pidfd {
            continue;
        }
        for number in message.data.chunks_exact(size_of::<RawFd>()) {
            let Ok(number) = number.try_into().map(RawFd::from_ne_bytes) else {
                continue;
            };
            // In place of a pidfd, older kernels write a negative errno.
            if number < 0 {
                continue;
            }
            // SAFETY: the kernel has just installed this descriptor in our table
            // for this message and told nobody else its number; the buffer holds
            // only what that one call wrote (I3), each number is visited once, and
            // the negative ones, which OwnedFd forbids, are excluded above.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            if rights {
                fds.push(fd);
            }
        }
    }
    fds
}

/// One control message.
#[derive(Debug, PartialEq, Eq)]
struct Message<'a> {
    level: libc::c_int,
    kind: libc::c_int,
    data: &'a [u8],
}

/// Walks a zeroed buffer in which the kernel wrote control messages:
///
/// | offset | size | field | written by |
/// |---|---|---|---|
/// | 0 | one word | length with the header, without the padding behind | kernel |
/// | one word | 4 | level | kernel |
/// | one word + 4 | 4 | kind | kernel |
/// | one word + 8 | length - one word - 8 | data | kernel |
/// | | up to a multiple of one word | padding | nobody |
struct ControlMessages<'a>(&'a [u8]);

const WORD: usize = size_of::<usize>();
const HEADER: usize = WORD + 8;

impl<'a> Iterator for ControlMessages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let (len, rest) = self.0.split_first_chunk::<WORD>()?;
        let (level, rest) = rest.split_first_chunk::<4>()?;
        let (kind, _) = rest.split_first_chunk::<4>()?;
        let len = usize::from_ne_bytes(*len);
        // Zero ends the messages (I3); `get` refuses every other impossible length.
        let data = self.0.get(HEADER..len)?;
        let next = len.checked_next_multiple_of(WORD)?;
        self.0 = self.0.get(next..).unwrap_or_default();
        Some(Message {
            level: libc::c_int::from_ne_bytes(*level),
            kind: libc::c_int::from_ne_bytes(*kind),
            data,
        })
    }
}

/// Waits, goes on after each `EINTR` with what is left of the deadline, and
/// returns `false` once it has passed.
///
/// The check before the wait bounds the loop of a caller whose socket is reported
/// as ready again and again while another thread takes what is there.
pub(crate) fn wait_until<S: System>(
    system: &mut S,
    socket: BorrowedFd<'_>,
    interest: Interest,
    deadline: Deadline,
) -> io::Result<bool> {
    loop {
        if deadline.has_passed() {
            return Ok(false);
        }
        match system.wait(socket, interest, deadline) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            ready => return ready,
        }
    }
}

/// Where a transfer stands after one system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All is transferred.
    Done,
    /// The next call can follow at once.
    Advanced,
    /// The socket must become ready first.
    Blocked,
}

/// Returns process, user and group id as the kernel writes them.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<(i32, u32, u32)> {
    let peer = getsockopt(&socket, sockopt::PeerCredentials)?;
    Ok((peer.pid(), peer.uid(), peer.gid()))
}

/// The kernel's `SO_PASSRIGHTS`, which the libc crate does not name. On sparc,
/// which numbers its options differently, 83 is no option.
const SO_PASSRIGHTS: libc::c_int = 83;

#[allow(clippy::cast_possible_truncation, reason = "four bytes fit")]
const SIZE_OF_INT: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;

/// Sets `SO_PASSRIGHTS` to 0; `false` if the kernel does not know it.
#[allow(unsafe_code, reason = "nix does not know this socket option")]
pub(crate) fn refuse_descriptors(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let off: libc::c_int = 0;
    // SAFETY: the pointer is to a c_int that outlives the call, and the length is
    // the size of a c_int; the kernel only reads it. The descriptor is open for as
    // long as `socket` is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const off).cast(),
            SIZE_OF_INT,
        )
    };
    match Errno::result(result) {
        Ok(_) => Ok(true),
        Err(Errno::ENOPROTOOPT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (HEADER + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(WORD), 0);
        bytes
    }

    #[test]
    fn several_control_messages_are_all_found() {
        let mut buffer = message(1, 2, &[7; 12]);
        buffer.extend(message(1, 1, &[8; 4]));
        buffer.extend(message(3, 4, &[]));
        buffer.extend([0; 64]);
        let found: Vec<_> = ControlMessages(&buffer)
            .map(|m| (m.level, m.kind, m.data.to_vec()))
            .collect();
        assert_eq!(
            found,
            [(1, 2, vec![7; 12]), (1, 1, vec![8; 4]), (3, 4, Vec::new())]
        );
    }

    #[test]
    fn impossible_lengths_end_the_messages() {
        for len in [0, 1, HEADER - 1, HEADER + 49, 4096, usize::MAX] {
            let mut buffer = message(1, 1, &[0; 48]);
            buffer[..WORD].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(ControlMessages(&buffer).next(), None, "length {len}");
        }
        for len in 0..HEADER {
            assert_eq!(ControlMessages(&vec![1; len]).next(), None);
        }
    }

    #[test]
    fn last_message_without_padding_is_found() {
        let mut buffer = message(1, 1, &[9; 4]);
        buffer.truncate(HEADER + 4);
        assert_eq!(ControlMessages(&buffer).count(), 1);
    }

    #[test]
    fn poll_timeout_rounds_up_and_saturates() {
        assert_eq!(poll_timeout(Deadline::never()), PollTimeout::NONE);
        assert_eq!(
            poll_timeout(Deadline::at(Instant::now())),
            PollTimeout::ZERO
        );
        assert_ne!(
            poll_timeout(Deadline::after(Duration::from_micros(900))),
            PollTimeout::NONE
        );
        let days = Duration::from_secs(40 * 24 * 3600);
        assert_eq!(poll_timeout(Deadline::after(days)), PollTimeout::MAX);
    }
}
