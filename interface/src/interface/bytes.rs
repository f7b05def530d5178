//! The calls of an interface that carries messages of variable length.

use std::time::Duration;

use super::Interface;
use crate::error::{ByteXmitError, RecvError};
use crate::transmitter::ByteReservation;
#[cfg(doc)]
use crate::{ByteReceiver, ByteTransmitter};

/// One endpoint of a two-way connection that carries messages of any length up to a
/// maximum, empty ones too.
///
/// It is an [`Interface`] in everything but the calls that move messages. The
/// capacity of its rings is in bytes ([`DEFAULT_BYTES`](crate::options::DEFAULT_BYTES)
/// unless chosen), and both ends say in the handshake how long a message they
/// [transmit](crate::Options::max_message) and [accept](crate::Options::accept_message).
/// [`Server<[u8]>`](crate::Server) serves it.
///
/// ```
/// use memenpsf::{ByteInterface, Departure, RecvError, Server};
///
/// let mut server = Server::<[u8]>::bind("@memenpsf-doc-byte-interface")?;
/// let client = std::thread::spawn(|| -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
///     let mut client = ByteInterface::connect("@memenpsf-doc-byte-interface")?;
///     client.xmit(b"a question of any length")?;
///     Ok(client.recv_timeout(None)?)
/// });
///
/// let mut peer = server.accept()?;
/// let question = peer.recv_timeout(None)?.unwrap();
/// peer.xmit(&question[..10])?;
/// assert_eq!(client.join().unwrap().unwrap().unwrap(), b"a question");
/// assert_eq!(peer.recv_timeout(None), Err(RecvError::Closed(Departure::Closed)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A [`Reservation`](ByteReservation) is a message that is written where it lies:
///
/// ```
/// use memenpsf::ByteInterface;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let other = std::thread::spawn(move || ByteInterface::new("b", 4096, theirs, 0));
/// let mut interface = ByteInterface::new("a", 4096, ours, 1)?;
/// let mut other = other.join().unwrap()?;
/// let mut room = interface.reserve(100)?;
/// room.as_mut_slice()[..5].copy_from_slice(b"hello");
/// room.commit(5);
/// assert_eq!(other.recv()?.unwrap(), b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// While one lives, nothing else is transmitted:
///
/// ```compile_fail,E0499
/// fn twice(interface: &mut memenpsf::ByteInterface) {
///     let room = interface.reserve(100).unwrap();
///     interface.xmit(b"hello").unwrap();
///     room.commit(5);
/// }
/// ```
pub type ByteInterface = Interface<[u8]>;

impl Interface<[u8]> {
    /// Transmits one message, at once. See [`ByteTransmitter::xmit`].
    ///
    /// # Errors
    ///
    /// [`ByteXmitError`].
    #[inline]
    pub fn xmit(&mut self, message: &[u8]) -> Result<(), ByteXmitError> {
        self.transmitter.xmit(message)
    }

    /// Transmits as many messages as there is room for, by one publication, and
    /// returns how many they were. See [`ByteTransmitter::xmit_vectored`].
    ///
    /// # Errors
    ///
    /// [`ByteXmitError`], but for a full ring, which is 0 messages.
    pub fn xmit_vectored<B: AsRef<[u8]>>(
        &mut self,
        messages: &[B],
    ) -> Result<usize, ByteXmitError> {
        self.transmitter.xmit_vectored(messages)
    }

    /// Transmits one message, waiting for room for at most `timeout`. See
    /// [`ByteTransmitter::xmit_timeout`].
    ///
    /// # Errors
    ///
    /// [`ByteXmitError`]; [`ByteXmitError::Full`] when the time is up.
    pub fn xmit_timeout(
        &mut self,
        message: &[u8],
        timeout: Option<Duration>,
    ) -> Result<(), ByteXmitError> {
        self.transmitter.xmit_timeout(message, timeout)
    }

    /// Reserves room for a message of up to `length` bytes, to be filled in place.
    /// See [`ByteTransmitter::reserve`].
    ///
    /// # Errors
    ///
    /// [`ByteXmitError`].
    pub fn reserve(&mut self, length: usize) -> Result<ByteReservation<'_>, ByteXmitError> {
        self.transmitter.reserve(length)
    }

    /// Returns the length of the longest message that can be transmitted. See
    /// [`ByteTransmitter::max_message`]; [`ByteReceiver::max_message`] is that of the
    /// other direction.
    pub fn max_message(&self) -> usize {
        self.transmitter.max_message()
    }

    /// Receives one message in a vector of its own, or `None` when there is none
    /// now. See [`ByteReceiver::recv`].
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] after everything that the peer had committed, and
    /// [`RecvError::Violation`].
    pub fn recv(&mut self) -> Result<Option<Vec<u8>>, RecvError> {
        self.receiver.recv()
    }

    /// Empties `message`, receives the next message into it, and returns its length.
    /// See [`ByteReceiver::recv_into`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    #[inline]
    pub fn recv_into(&mut self, message: &mut Vec<u8>) -> Result<Option<usize>, RecvError> {
        self.receiver.recv_into(message)
    }

    /// Receives all messages that are there now. See [`ByteReceiver::recv_vectored`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_vectored(&mut self) -> Result<Vec<Vec<u8>>, RecvError> {
        self.receiver.recv_vectored()
    }

    /// Receives one message, waiting for at most `timeout`. See
    /// [`ByteReceiver::recv_timeout`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Option<Vec<u8>>, RecvError> {
        self.receiver.recv_timeout(timeout)
    }

    /// Empties `message`, receives the next message into it, and returns its length,
    /// waiting for at most `timeout`. See [`ByteReceiver::recv_into_timeout`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_into_timeout(
        &mut self,
        message: &mut Vec<u8>,
        timeout: Option<Duration>,
    ) -> Result<Option<usize>, RecvError> {
        self.receiver.recv_into_timeout(message, timeout)
    }
}
