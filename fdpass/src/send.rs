//! Sends bytes with descriptors.
//!
//! ```text
//!   bytes  b0 | b1 | b2 b3 b4 .............. bn
//!   fds    253  253   the rest
//!          └─┬┘ └─┬┘ └──────────┬────────────┘
//!       one message  one message, sent in as many pieces as the
//!       each         kernel wants, descriptors with the first only
//! ```
//!
//! # Invariants
//!
//! - I1: a descriptor is given to the kernel with exactly one accepted byte, so a
//!   partial send never repeats it.
//! - I2: there are always at least as many bytes left as messages are needed for
//!   the descriptors that are left.
//! - I3: one step makes one system call and takes at least one byte, or reports
//!   that the socket is full.
//!
//! # Trust
//!
//! The peer decides when it reads, and whether: the deadline bounds the wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::{self, Interest, Linux, Progress, System};
use crate::{Deadline, SendError};

/// Most descriptors that the kernel carries in one message (`SCM_MAX_FD`).
///
/// # Examples
///
/// ```
/// assert_eq!(memenpsf_fdpass::MAX_DESCRIPTORS, 253);
/// ```
pub const MAX_DESCRIPTORS: usize = 253;

/// Sends all `bytes`, and all `fds` with the first of them.
///
/// The kernel keeps a reference of its own to each descriptor: the caller may
/// close its descriptors as soon as the call returns. More than
/// [`MAX_DESCRIPTORS`] go out with several messages: each but the last carries
/// 253 descriptors and one byte. [`receive_exact`](crate::receive_exact) puts them
/// together again.
///
/// The peer may read slowly or not at all; `deadline` bounds the wait for it.
///
/// # Errors
///
/// - [`SendError::NoBytes`]: descriptors but no byte.
/// - [`SendError::TooManyDescriptors`]: more than 253 for each byte.
/// - [`SendError::Timeout`], [`SendError::Closed`], [`SendError::Io`]: with the
///   number of bytes that the kernel took. If it is not zero, the first
///   descriptors went with them.
///
/// # Examples
///
/// ```
/// use std::os::fd::AsFd;
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::{Deadline, SendError, receive_exact, send_all};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let null = std::fs::File::open("/dev/null")?;
/// send_all(&ours, b"two", &[null.as_fd(), null.as_fd()], Deadline::never())?;
///
/// let mut buf = [0; 3];
/// let fds = receive_exact(&theirs, &mut buf, 2, Deadline::never())?;
/// assert_eq!((&buf, fds.len()), (b"two", 2));
///
/// // Descriptors travel with at least one byte.
/// let error = send_all(&ours, b"", &[null.as_fd()], Deadline::never()).unwrap_err();
/// assert!(matches!(error, SendError::NoBytes { descriptors: 1, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn send_all(
    stream: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    deadline: Deadline,
) -> Result<(), SendError> {
    send_all_on(&mut Linux, stream.as_fd(), bytes, fds, deadline)
}

/// [`send_all`] on a given system; public for tests.
///
/// # Errors
///
/// Those of [`send_all`].
#[doc(hidden)]
pub fn send_all_on<S: System>(
    system: &mut S,
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    deadline: Deadline,
) -> Result<(), SendError> {
    let mut sending = Sending::new(bytes, fds)?;
    loop {
        match sending.step(system, socket)? {
            Progress::Done => return Ok(()),
            Progress::Advanced => {}
            Progress::Blocked => {
                match sys::wait_until(system, socket, Interest::Writable, deadline) {
                    Ok(true) => {}
                    Ok(false) => return Err(sending.timeout()),
                    Err(source) => return Err(sending.io(source)),
                }
            }
        }
    }
}

/// Sends what the socket takes at once, and returns how many bytes that was.
///
/// It makes one message: at most [`MAX_DESCRIPTORS`], all of which go with the
/// first byte. If fewer bytes than given were taken, the rest follows without
/// descriptors. Works alike on blocking and non-blocking sockets.
///
/// # Errors
///
/// [`SendError::WouldBlock`] if the socket takes nothing now; otherwise those of
/// [`send_all`] except the timeout.
///
/// # Examples
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::{SendError, try_send};
///
/// let (ours, _theirs) = UnixStream::pair()?;
/// assert_eq!(try_send(&ours, b"wake", &[])?, 4);
///
/// // Nobody reads, so the socket is full at some point. It never blocks.
/// let error = loop {
///     if let Err(error) = try_send(&ours, &[0; 4096], &[]) {
///         break error;
///     }
/// };
/// assert!(matches!(error, SendError::WouldBlock));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn try_send(
    stream: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<usize, SendError> {
    try_send_on(&mut Linux, stream.as_fd(), bytes, fds)
}

/// [`try_send`] on a given system; public for tests.
///
/// # Errors
///
/// Those of [`try_send`].
#[doc(hidden)]
pub fn try_send_on<S: System>(
    system: &mut S,
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<usize, SendError> {
    if fds.len() > MAX_DESCRIPTORS {
        return Err(SendError::TooManyDescriptors {
            given: fds.len(),
            maximum: MAX_DESCRIPTORS,
        });
    }
    let mut sending = Sending::new(bytes, fds)?;
    loop {
        match sending.step(system, socket)? {
            Progress::Blocked => return Err(SendError::WouldBlock),
            // Only EINTR advances without a byte.
            Progress::Advanced if sending.sent == 0 => {}
            Progress::Advanced | Progress::Done => return Ok(sending.sent),
        }
    }
}

/// Sends one descriptor with an id, for [`recv_fd`](crate::recv_fd).
///
/// | offset | size | field | written by |
/// |---|---|---|---|
/// | 0 | 8 | id, little endian; carries the descriptor | sender |
///
/// # Errors
///
/// Those of [`send_all`].
///
/// # Examples
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::{Deadline, recv_fd, send_fd};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let null = std::fs::File::open("/dev/null")?;
/// send_fd(&ours, 7, &null, Deadline::never())?;
/// assert!(recv_fd(&theirs, 7, Deadline::never()).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn send_fd(
    stream: impl AsFd,
    id: u64,
    fd: impl AsFd,
    deadline: Deadline,
) -> Result<(), SendError> {
    send_all(stream, &id.to_le_bytes(), &[fd.as_fd()], deadline)
}

/// A send that is under way: what is left of it.
#[derive(Debug)]
pub(crate) struct Sending<'a> {
    bytes: &'a [u8],
    fds: &'a [BorrowedFd<'a>],
    sent: usize,
    expected: usize,
}

impl<'a> Sending<'a> {
    pub(crate) fn new(bytes: &'a [u8], fds: &'a [BorrowedFd<'a>]) -> Result<Self, SendError> {
        if bytes.is_empty() && !fds.is_empty() {
            return Err(SendError::NoBytes {
                descriptors: fds.len(),
            });
        }
        // I2 holds from here on: one byte for each message.
        if fds.len().div_ceil(MAX_DESCRIPTORS) > bytes.len() {
            return Err(SendError::TooManyDescriptors {
                given: fds.len(),
                maximum: bytes.len().saturating_mul(MAX_DESCRIPTORS),
            });
        }
        Ok(Self {
            bytes,
            fds,
            sent: 0,
            expected: bytes.len(),
        })
    }

    /// Makes one system call (I3).
    pub(crate) fn step<S: System>(
        &mut self,
        system: &mut S,
        socket: BorrowedFd<'_>,
    ) -> Result<Progress, SendError> {
        if self.bytes.is_empty() {
            return Ok(Progress::Done);
        }
        let (fds, later_fds) = self
            .fds
            .split_at_checked(MAX_DESCRIPTORS)
            .unwrap_or((self.fds, &[]));
        // If descriptors remain for later messages, so must bytes (I2): this one
        // carries a single byte.
        let bytes = if later_fds.is_empty() {
            self.bytes
        } else {
            self.bytes.get(..1).unwrap_or_default()
        };
        match system.send(socket, bytes, fds) {
            // A stream socket does not do that; without an error the loop would spin.
            Ok(0) => Err(self.io(io::ErrorKind::WriteZero.into())),
            Ok(sent) => {
                // The kernel took a byte and with it the descriptors (I1).
                self.fds = later_fds;
                self.bytes = self.bytes.get(sent..).unwrap_or_default();
                self.sent = self.expected - self.bytes.len();
                Ok(if self.bytes.is_empty() {
                    Progress::Done
                } else {
                    Progress::Advanced
                })
            }
            Err(source) => match source.kind() {
                io::ErrorKind::Interrupted => Ok(Progress::Advanced),
                io::ErrorKind::WouldBlock => Ok(Progress::Blocked),
                // A peer that closed with our bytes unread shows as a reset once,
                // later as a broken pipe.
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                    Err(SendError::Closed {
                        sent: self.sent,
                        expected: self.expected,
                        source,
                    })
                }
                _ => Err(self.io(source)),
            },
        }
    }

    pub(crate) fn timeout(&self) -> SendError {
        SendError::Timeout {
            sent: self.sent,
            expected: self.expected,
        }
    }

    pub(crate) fn io(&self, source: io::Error) -> SendError {
        SendError::Io {
            sent: self.sent,
            source,
        }
    }
}
