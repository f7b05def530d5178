//! Receives bytes with descriptors, or bytes only.
//!
//! ```text
//!   recvmsg ──▶ owned at once ──▶ truncated? ──▶ too many? ──▶ end of stream?
//!                    │                │              │              │
//!                    └── dropped, and so closed, on each of these errors
//! ```
//!
//! # Invariants
//!
//! - I1: every descriptor that arrived in a call is in that call's [`Receiving`]
//!   before any condition is evaluated, and leaves it only on success.
//! - I2: at most one message more than the expected number of descriptors is ever
//!   held: the first surplus one ends the call.
//! - I3: a call reads no byte beyond its buffer, so the bytes and descriptors of
//!   the next message stay in the socket.
//!
//! # Trust
//!
//! The peer decides every byte, how they are cut, how many descriptors come with
//! which byte, and of which kind they are. The count is checked here. The kind is
//! not: the caller checks it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::{self, Interest, Linux, Progress, System};
use crate::{Deadline, ReceiveError};

/// What one message brought.
///
/// # Examples
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::{Deadline, Received, receive, send_all};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// send_all(&ours, b"abc", &[], Deadline::never())?;
/// let mut buf = [0; 16];
/// let Received { bytes, fds, .. } = receive(&theirs, &mut buf, Deadline::never())?;
/// assert_eq!(&buf[..bytes], b"abc");
/// assert!(fds.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "descriptors that are not taken are closed"]
#[non_exhaustive]
pub struct Received {
    /// Number of bytes at the start of the buffer, at least one.
    pub bytes: usize,
    /// The descriptors, in the order in which they were sent, all with
    /// close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Waits for bytes and receives what is there, with any number of descriptors.
///
/// One message, at most: the kernel ends a receive behind the piece that carries
/// descriptors, so up to 253 arrive. The peer decides how many; use
/// [`receive_exact`] where the number is known.
///
/// # Errors
///
/// - [`ReceiveError::EmptyBuffer`]: `buf` has no byte.
/// - [`ReceiveError::Truncated`]: the kernel dropped a descriptor.
/// - [`ReceiveError::Timeout`], [`ReceiveError::Closed`] (the end of the stream
///   included), [`ReceiveError::Io`].
///
/// Every descriptor that arrived is closed.
///
/// # Examples
///
/// ```
/// use std::os::fd::AsFd;
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::{Deadline, ReceiveError, receive, send_all};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// send_all(&ours, b"abc", &[ours.as_fd()], Deadline::never())?;
/// drop(ours);
///
/// let mut buf = [0; 16];
/// let received = receive(&theirs, &mut buf, Deadline::never())?;
/// assert_eq!((received.bytes, received.fds.len()), (3, 1));
///
/// // What arrived was the last reference to the other end.
/// drop(received);
/// let error = receive(&theirs, &mut buf, Deadline::never()).unwrap_err();
/// assert!(matches!(error, ReceiveError::Closed { received: 0, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn receive(
    stream: impl AsFd,
    buf: &mut [u8],
    deadline: Deadline,
) -> Result<Received, ReceiveError> {
    receive_on(&mut Linux, stream.as_fd(), buf, deadline)
}

/// [`receive`] on a given system; public for tests.
///
/// # Errors
///
/// Those of [`receive`].
#[doc(hidden)]
pub fn receive_on<S: System>(
    system: &mut S,
    socket: BorrowedFd<'_>,
    buf: &mut [u8],
    deadline: Deadline,
) -> Result<Received, ReceiveError> {
    let mut receiving = Receiving::some(buf, Descriptors::Any)?;
    receiving.run(system, socket, deadline)?;
    Ok(receiving.into_received())
}

/// Receives what is there now, with any number of descriptors, and never waits.
///
/// Works alike on blocking and non-blocking sockets.
///
/// # Errors
///
/// [`ReceiveError::WouldBlock`] if nothing is there; otherwise those of
/// [`receive`] except the timeout.
///
/// # Examples
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::{ReceiveError, try_receive, try_send};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let mut buf = [0; 16];
/// let error = try_receive(&theirs, &mut buf).unwrap_err();
/// assert!(matches!(error, ReceiveError::WouldBlock));
///
/// try_send(&ours, b"abc", &[])?;
/// assert_eq!(try_receive(&theirs, &mut buf)?.bytes, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn try_receive(stream: impl AsFd, buf: &mut [u8]) -> Result<Received, ReceiveError> {
    try_receive_on(&mut Linux, stream.as_fd(), buf)
}

/// [`try_receive`] on a given system; public for tests.
///
/// # Errors
///
/// Those of [`try_receive`].
#[doc(hidden)]
pub fn try_receive_on<S: System>(
    system: &mut S,
    socket: BorrowedFd<'_>,
    buf: &mut [u8],
) -> Result<Received, ReceiveError> {
    let mut receiving = Receiving::some(buf, Descriptors::Any)?;
    receiving.try_run(system, socket)?;
    Ok(receiving.into_received())
}

/// Fills `buf` and collects exactly `expected_fds` descriptors with it.
///
/// The bytes may come in any pieces and the descriptors with any of them; they
/// are returned in the order in which they were sent. Nothing beyond `buf` is
/// read. The first descriptor too many ends the call.
///
/// # Errors
///
/// - [`ReceiveError::EmptyBuffer`]: `buf` has no byte but descriptors are expected.
/// - [`ReceiveError::DescriptorCount`]: more, or when the bytes are complete fewer,
///   descriptors than expected.
/// - [`ReceiveError::Truncated`]: the kernel dropped a descriptor.
/// - [`ReceiveError::Timeout`], [`ReceiveError::Closed`], [`ReceiveError::Io`]: with
///   the number of bytes that arrived. If it is not zero, the stream stands in
///   the middle of a message.
///
/// Every descriptor that arrived is closed.
///
/// # Examples
///
/// ```
/// use std::os::fd::AsFd;
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::{Deadline, ReceiveError, receive_exact, send_all};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let null = std::fs::File::open("/dev/null")?;
///
/// send_all(&ours, b"he", &[], Deadline::never())?;
/// send_all(&ours, b"llo", &[null.as_fd()], Deadline::never())?;
/// let mut buf = [0; 5];
/// let fds = receive_exact(&theirs, &mut buf, 1, Deadline::never())?;
/// assert_eq!((&buf, fds.len()), (b"hello", 1));
///
/// // A surplus descriptor is an error, and closed.
/// send_all(&ours, b"hello", &[null.as_fd(), null.as_fd()], Deadline::never())?;
/// let error = receive_exact(&theirs, &mut buf, 1, Deadline::never()).unwrap_err();
/// assert!(matches!(
///     error,
///     ReceiveError::DescriptorCount { expected: 1, received: 2, .. }
/// ));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn receive_exact(
    stream: impl AsFd,
    buf: &mut [u8],
    expected_fds: usize,
    deadline: Deadline,
) -> Result<Vec<OwnedFd>, ReceiveError> {
    receive_exact_on(&mut Linux, stream.as_fd(), buf, expected_fds, deadline)
}

/// [`receive_exact`] on a given system; public for tests.
///
/// # Errors
///
/// Those of [`receive_exact`].
#[doc(hidden)]
pub fn receive_exact_on<S: System>(
    system: &mut S,
    socket: BorrowedFd<'_>,
    buf: &mut [u8],
    expected_fds: usize,
    deadline: Deadline,
) -> Result<Vec<OwnedFd>, ReceiveError> {
    let mut receiving = Receiving::all(buf, Descriptors::Exactly(expected_fds))?;
    receiving.run(system, socket, deadline)?;
    Ok(receiving.into_received().fds)
}

/// Waits for bytes and receives what is there, and lets no descriptor in.
///
/// For the time after a handshake. The kernel gets no buffer for control data, so
/// it installs nothing in this process: it drops the descriptors of a message and
/// says so (`MSG_CTRUNC`). A peer that sends one breaks the protocol, and the
/// result is an error although bytes came with it.
///
/// The kernel reports any control data in this way: an own socket with
/// `SO_PASSCRED`, `SO_PASSPIDFD` or `SO_PASSSEC` cannot be used with this call.
///
/// # Errors
///
/// - [`ReceiveError::EmptyBuffer`]: `buf` has no byte.
/// - [`ReceiveError::Truncated`]: the peer sent a descriptor. The bytes of the
///   message are lost.
/// - [`ReceiveError::Timeout`], [`ReceiveError::Closed`] (the end of the stream
///   included), [`ReceiveError::Io`].
///
/// # Examples
///
/// ```
/// use std::os::fd::AsFd;
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::{Deadline, ReceiveError, receive_bytes, send_all};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let mut buf = [0; 16];
/// send_all(&ours, b"wake", &[], Deadline::never())?;
/// assert_eq!(receive_bytes(&theirs, &mut buf, Deadline::never())?, 4);
///
/// send_all(&ours, b"wake", &[ours.as_fd()], Deadline::never())?;
/// let error = receive_bytes(&theirs, &mut buf, Deadline::never()).unwrap_err();
/// assert!(matches!(error, ReceiveError::Truncated { received: 0, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn receive_bytes(
    stream: impl AsFd,
    buf: &mut [u8],
    deadline: Deadline,
) -> Result<usize, ReceiveError> {
    let mut receiving = Receiving::some(buf, Descriptors::Refused)?;
    receiving.run(&mut Linux, stream.as_fd(), deadline)?;
    Ok(receiving.received)
}

/// Receives the bytes that are there now, lets no descriptor in, and never waits.
///
/// Works alike on blocking and non-blocking sockets.
///
/// # Errors
///
/// [`ReceiveError::WouldBlock`] if nothing is there; otherwise those of
/// [`receive_bytes`] except the timeout.
///
/// # Examples
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::{ReceiveError, try_receive_bytes, try_send};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let mut buf = [0; 16];
/// let error = try_receive_bytes(&theirs, &mut buf).unwrap_err();
/// assert!(matches!(error, ReceiveError::WouldBlock));
///
/// try_send(&ours, b"wake", &[])?;
/// assert_eq!(try_receive_bytes(&theirs, &mut buf)?, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn try_receive_bytes(stream: impl AsFd, buf: &mut [u8]) -> Result<usize, ReceiveError> {
    let mut receiving = Receiving::some(buf, Descriptors::Refused)?;
    receiving.try_run(&mut Linux, stream.as_fd())?;
    Ok(receiving.received)
}

/// Fills `buf` and lets no descriptor in, as [`receive_bytes`] does.
///
/// # Errors
///
/// - [`ReceiveError::Truncated`]: the peer sent a descriptor.
/// - [`ReceiveError::Timeout`], [`ReceiveError::Closed`], [`ReceiveError::Io`]: with
///   the number of bytes that arrived.
///
/// # Examples
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::{Deadline, ReceiveError, receive_bytes_exact, send_all};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// send_all(&ours, b"hello, w", &[], Deadline::never())?;
/// drop(ours);
///
/// let mut buf = [0; 5];
/// receive_bytes_exact(&theirs, &mut buf, Deadline::never())?;
/// assert_eq!(&buf, b"hello");
///
/// let error = receive_bytes_exact(&theirs, &mut buf, Deadline::never()).unwrap_err();
/// assert!(matches!(error, ReceiveError::Closed { received: 3, expected: 5, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn receive_bytes_exact(
    stream: impl AsFd,
    buf: &mut [u8],
    deadline: Deadline,
) -> Result<(), ReceiveError> {
    receive_bytes_exact_on(&mut Linux, stream.as_fd(), buf, deadline)
}

/// [`receive_bytes_exact`] on a given system; public for tests.
///
/// # Errors
///
/// Those of [`receive_bytes_exact`].
#[doc(hidden)]
pub fn receive_bytes_exact_on<S: System>(
    system: &mut S,
    socket: BorrowedFd<'_>,
    buf: &mut [u8],
    deadline: Deadline,
) -> Result<(), ReceiveError> {
    Receiving::all(buf, Descriptors::Refused)?.run(system, socket, deadline)
}

/// Receives the one descriptor that [`send_fd`](crate::send_fd) sent with
/// `expected_id`.
///
/// # Errors
///
/// [`ReceiveError::WrongId`] if it came with another id; otherwise those of
/// [`receive_exact`]. The descriptor is closed.
///
/// # Examples
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::{Deadline, ReceiveError, recv_fd, send_fd};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let null = std::fs::File::open("/dev/null")?;
/// send_fd(&ours, 7, &null, Deadline::never())?;
/// let error = recv_fd(&theirs, 8, Deadline::never()).unwrap_err();
/// assert!(matches!(error, ReceiveError::WrongId { expected: 8, received: 7, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn recv_fd(
    stream: impl AsFd,
    expected_id: u64,
    deadline: Deadline,
) -> Result<OwnedFd, ReceiveError> {
    let mut id = [0; 8];
    let fds = receive_exact(stream, &mut id, 1, deadline)?;
    check_id(id, expected_id, fds)
}

/// Returns the only descriptor if `id` is the expected one.
pub(crate) fn check_id(
    id: [u8; 8],
    expected: u64,
    mut fds: Vec<OwnedFd>,
) -> Result<OwnedFd, ReceiveError> {
    // PEER: any id; only equality is asked.
    let received = u64::from_le_bytes(id);
    if received != expected {
        return Err(ReceiveError::WrongId { expected, received });
    }
    // `receive_exact` has counted them already; this is the error it would give.
    fds.pop().ok_or(ReceiveError::DescriptorCount {
        expected: 1,
        received: 0,
    })
}

/// Which descriptors a receive admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Descriptors {
    /// As many as come.
    Any,
    /// This number when the bytes are complete, and never more.
    Exactly(usize),
    /// None: the kernel gets no control buffer.
    Refused,
}

/// A receive that is under way: what it has so far.
#[derive(Debug)]
pub(crate) struct Receiving<'a> {
    buf: &'a mut [u8],
    received: usize,
    /// Bytes that end the call: the whole buffer, or one.
    needed: usize,
    fds: Vec<OwnedFd>,
    descriptors: Descriptors,
}

impl<'a> Receiving<'a> {
    /// Ends with the first bytes.
    pub(crate) fn some(buf: &'a mut [u8], descriptors: Descriptors) -> Result<Self, ReceiveError> {
        if buf.is_empty() {
            return Err(ReceiveError::EmptyBuffer);
        }
        Ok(Self::new(buf, 1, descriptors))
    }

    /// Ends with a full buffer.
    pub(crate) fn all(buf: &'a mut [u8], descriptors: Descriptors) -> Result<Self, ReceiveError> {
        if buf.is_empty() && matches!(descriptors, Descriptors::Exactly(1..)) {
            return Err(ReceiveError::EmptyBuffer);
        }
        let needed = buf.len();
        Ok(Self::new(buf, needed, descriptors))
    }

    fn new(buf: &'a mut [u8], needed: usize, descriptors: Descriptors) -> Self {
        Self {
            buf,
            received: 0,
            needed,
            fds: Vec::new(),
            descriptors,
        }
    }

    /// Tells whether all bytes are there.
    pub(crate) fn is_done(&self) -> bool {
        self.received >= self.needed
    }

    /// Makes one system call.
    pub(crate) fn step<S: System>(
        &mut self,
        system: &mut S,
        socket: BorrowedFd<'_>,
    ) -> Result<Progress, ReceiveError> {
        if self.is_done() {
            return Ok(Progress::Done);
        }
        let rest = self.buf.get_mut(self.received..).unwrap_or_default();
        let arrival = match self.descriptors {
            Descriptors::Refused => system.receive_bytes(socket, rest),
            Descriptors::Any | Descriptors::Exactly(_) => system.receive(socket, rest),
        };
        let mut arrival = match arrival {
            Ok(arrival) => arrival,
            Err(source) => return self.failed(source),
        };
        // Before any branch on what else came (I1).
        self.fds.append(&mut arrival.fds);
        if arrival.truncated {
            return Err(ReceiveError::Truncated {
                received: self.fds.len(),
            });
        }
        // PEER: any number with any byte; a surplus is refused at once (I2).
        if let Descriptors::Exactly(expected) = self.descriptors
            && self.fds.len() > expected
        {
            return Err(self.descriptor_count(expected));
        }
        if arrival.bytes == 0 {
            return Err(self.closed(None));
        }
        self.received += arrival.bytes;
        if self.received < self.needed {
            return Ok(Progress::Advanced);
        }
        match self.descriptors {
            Descriptors::Exactly(expected) if self.fds.len() != expected => {
                Err(self.descriptor_count(expected))
            }
            _ => Ok(Progress::Done),
        }
    }

    /// Steps until the call is complete or the deadline has passed.
    fn run<S: System>(
        &mut self,
        system: &mut S,
        socket: BorrowedFd<'_>,
        deadline: Deadline,
    ) -> Result<(), ReceiveError> {
        loop {
            match self.step(system, socket)? {
                Progress::Done => return Ok(()),
                Progress::Advanced => {}
                Progress::Blocked => {
                    match sys::wait_until(system, socket, Interest::Readable, deadline) {
                        Ok(true) => {}
                        Ok(false) => return Err(self.timeout()),
                        Err(source) => return Err(self.io(source)),
                    }
                }
            }
        }
    }

    /// Steps without waiting. `Advanced` means EINTR here: one byte is enough.
    fn try_run<S: System>(
        &mut self,
        system: &mut S,
        socket: BorrowedFd<'_>,
    ) -> Result<(), ReceiveError> {
        loop {
            match self.step(system, socket)? {
                Progress::Done => return Ok(()),
                Progress::Advanced => {}
                Progress::Blocked => return Err(ReceiveError::WouldBlock),
            }
        }
    }

    /// Hands out the descriptors; called after success only (I1).
    pub(crate) fn into_received(self) -> Received {
        Received {
            bytes: self.received,
            fds: self.fds,
        }
    }

    fn failed(&self, source: io::Error) -> Result<Progress, ReceiveError> {
        match source.kind() {
            io::ErrorKind::Interrupted => Ok(Progress::Advanced),
            io::ErrorKind::WouldBlock => Ok(Progress::Blocked),
            // A peer that closed with our bytes unread shows as a reset once,
            // later as the end of the stream.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Err(self.closed(Some(source)))
            }
            _ => Err(self.io(source)),
        }
    }

    fn descriptor_count(&self, expected: usize) -> ReceiveError {
        ReceiveError::DescriptorCount {
            expected,
            received: self.fds.len(),
        }
    }

    fn closed(&self, source: Option<io::Error>) -> ReceiveError {
        ReceiveError::Closed {
            received: self.received,
            expected: self.needed,
            source,
        }
    }

    fn timeout(&self) -> ReceiveError {
        ReceiveError::Timeout {
            received: self.received,
            expected: self.needed,
        }
    }

    pub(crate) fn io(&self, source: io::Error) -> ReceiveError {
        ReceiveError::Io {
            received: self.received,
            source,
        }
    }
}
