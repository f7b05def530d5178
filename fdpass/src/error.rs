//! Why a send or a receive failed.
//!
//! The values inside say how far the call came. After an error with a number of
//! bytes between zero and all, the stream stands in the middle of something and
//! is of no further use.

use std::io;

/// Says why bytes and descriptors could not be sent.
///
/// # Examples
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::{Deadline, SendError, send_all};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// drop(theirs);
/// let error = send_all(&ours, b"hello", &[], Deadline::never()).unwrap_err();
/// assert!(matches!(error, SendError::Closed { sent: 0, expected: 5, .. }));
/// assert_eq!(error.to_string(), "the peer is gone after 0 of 5 bytes were sent");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// More descriptors than the bytes can carry. Nothing was sent.
    #[error("{given} descriptors given, these bytes carry at most {maximum}")]
    #[non_exhaustive]
    TooManyDescriptors {
        /// Number of descriptors of the caller.
        given: usize,
        /// Number of descriptors that would have been possible.
        maximum: usize,
    },

    /// Descriptors without a byte: a stream socket drops them. Nothing was sent.
    #[error("{descriptors} descriptors given without a byte to carry them")]
    #[non_exhaustive]
    NoBytes {
        /// Number of descriptors of the caller.
        descriptors: usize,
    },

    /// The socket takes nothing now. Nothing was sent. Only the `try_` calls
    /// return it.
    #[error("the socket's buffer is full")]
    WouldBlock,

    /// The deadline passed while the peer did not read.
    #[error("the deadline passed after {sent} of {expected} bytes were sent")]
    #[non_exhaustive]
    Timeout {
        /// Bytes that the kernel took, with all their descriptors.
        sent: usize,
        /// Bytes of the caller.
        expected: usize,
    },

    /// The peer closed its end or died (`EPIPE` or `ECONNRESET`).
    #[error("the peer is gone after {sent} of {expected} bytes were sent")]
    #[non_exhaustive]
    Closed {
        /// Bytes that the kernel took; nobody may ever read them.
        sent: usize,
        /// Bytes of the caller.
        expected: usize,
        /// What the kernel said.
        source: io::Error,
    },

    /// Another failure of the system call.
    ///
    /// `ETOOMANYREFS`: too many descriptors are under way and not yet received.
    /// `EPERM` on a send with descriptors: the peer refuses them, see
    /// [`refuse_descriptors`](crate::refuse_descriptors).
    #[error("sending failed after {sent} bytes")]
    #[non_exhaustive]
    Io {
        /// Bytes that the kernel took, with all their descriptors.
        sent: usize,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Says why bytes and descriptors could not be received.
///
/// Every descriptor that arrived during the call is closed.
///
/// # Examples
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::{Deadline, ReceiveError, receive_exact, send_all};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// send_all(&ours, b"hello", &[], Deadline::never())?;
/// let mut buf = [0; 5];
/// let error = receive_exact(&theirs, &mut buf, 1, Deadline::never()).unwrap_err();
/// assert!(matches!(
///     error,
///     ReceiveError::DescriptorCount { expected: 1, received: 0, .. }
/// ));
/// assert_eq!(error.to_string(), "1 descriptors expected, 0 received");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// A buffer of no bytes: descriptors travel with at least one byte, and the
    /// end of the stream could not be told from success. Nothing was received.
    #[error("a buffer of no bytes receives nothing")]
    EmptyBuffer,

    /// The kernel dropped a descriptor, or other control data (`MSG_CTRUNC`).
    ///
    /// With a control buffer: this process has no free descriptor number, or a
    /// security module forbids the descriptor. Without one
    /// ([`receive_bytes`](crate::receive_bytes)): the peer sent a descriptor
    /// where none is allowed. The bytes of that message are lost.
    #[error("the kernel dropped control data, {received} descriptors had arrived")]
    #[non_exhaustive]
    Truncated {
        /// Descriptors that arrived in this call; they are closed.
        received: usize,
    },

    /// The peer sent more or fewer descriptors than expected.
    #[error("{expected} descriptors expected, {received} received")]
    #[non_exhaustive]
    DescriptorCount {
        /// What the caller asked for.
        expected: usize,
        /// What had arrived when it was too many, or when the bytes were
        /// complete; they are closed.
        received: usize,
    },

    /// The descriptor came with another id than expected.
    #[error("a descriptor with id {expected} expected, id {received} received")]
    #[non_exhaustive]
    WrongId {
        /// What the caller asked for.
        expected: u64,
        /// What the peer sent.
        received: u64,
    },

    /// Nothing has arrived yet. Only the `try_` calls return it.
    #[error("nothing to receive yet")]
    WouldBlock,

    /// The deadline passed before all bytes arrived.
    #[error("the deadline passed after {received} of {expected} bytes were received")]
    #[non_exhaustive]
    Timeout {
        /// Bytes that arrived.
        received: usize,
        /// Bytes that the call needs: the whole buffer, or one.
        expected: usize,
    },

    /// The peer closed its end or died: the end of the stream, or `ECONNRESET`.
    #[error("the peer is gone after {received} of {expected} bytes were received")]
    #[non_exhaustive]
    Closed {
        /// Bytes that arrived.
        received: usize,
        /// Bytes that the call needs: the whole buffer, or one.
        expected: usize,
        /// What the kernel said; `None` at a plain end of the stream.
        source: Option<io::Error>,
    },

    /// Another failure of the system call.
    #[error("receiving failed after {received} bytes")]
    #[non_exhaustive]
    Io {
        /// Bytes that arrived.
        received: usize,
        /// What the kernel said.
        source: io::Error,
    },
}
