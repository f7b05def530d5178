//! Transmitting messages of variable length.

use std::time::Duration;

use memenpsf_ring::RecordError;
use memenpsf_ring::bytes;
use memenpsf_ring::memory::Split;

use super::Transmitter;
use crate::connection::Connection;
use crate::error::{ByteXmitError, Ended};
use crate::message::Awaited;
use crate::wait::Bell;

/// The transmitting half of a [`ByteInterface`](crate::ByteInterface), for one
/// thread.
///
/// ```
/// use memenpsf::ByteInterface;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let other = std::thread::spawn(move || ByteInterface::new("b", 4096, theirs, 0));
/// let (mut transmitter, _receiver) = ByteInterface::new("a", 4096, ours, 1)?.split();
/// let mut other = other.join().unwrap()?;
/// transmitter.xmit(b"hello")?;
/// assert_eq!(other.recv()?, Some(b"hello".to_vec()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type ByteTransmitter = Transmitter<[u8]>;

impl Transmitter<[u8]> {
    /// Transmits one message, at once. It may be empty.
    ///
    /// It is committed when the call returns: it will be received even if this
    /// process dies then.
    ///
    /// # Errors
    ///
    /// [`ByteXmitError::Full`] when it does not fit until the peer has made room.
    /// [`ByteXmitError::TooLong`] when it never will. [`ByteXmitError::Closed`] when
    /// the connection has ended, which is noticed within a tick of the kernel's
    /// coarse clock (1 to 4 ms) or 64 calls, whichever is later.
    /// [`ByteXmitError::Violation`] when the peer broke a rule.
    #[inline]
    pub fn xmit(&mut self, message: &[u8]) -> Result<(), ByteXmitError> {
        if let Some(ended) = self.ended() {
            return Err(ended.into());
        }
        match self.producer.push(message) {
            Ok(()) => {
                self.published();
                Ok(())
            }
            Err(error) => Err(self.refused(Awaited::Message(message.len()), error)),
        }
    }

    /// Transmits one message, waiting for room for at most `timeout`; `None` waits
    /// for as long as it takes.
    ///
    /// It waits as [`Options::waiting`](crate::Options::waiting) says: spinning a
    /// little and then sleeping, unless told otherwise. The end of the connection
    /// ends the wait at once.
    ///
    /// # Errors
    ///
    /// As [`xmit`](Self::xmit); [`ByteXmitError::Full`] when the time is up.
    ///
    /// ```
    /// use memenpsf::{ByteInterface, ByteXmitError};
    /// use std::os::unix::net::UnixStream;
    /// use std::time::Duration;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let other = std::thread::spawn(move || ByteInterface::new("b", 64, theirs, 0));
    /// let mut interface = ByteInterface::new("a", 64, ours, 1)?;
    /// let _other = other.join().unwrap()?;
    /// let brief = Some(Duration::from_millis(1));
    /// interface.xmit_timeout(&[0; 16], None)?;
    /// let full = interface.xmit_timeout(&[0; 16], brief);
    /// assert_eq!(full, Err(ByteXmitError::Full));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn xmit_timeout(
        &mut self,
        message: &[u8],
        timeout: Option<Duration>,
    ) -> Result<(), ByteXmitError> {
        let attempt = |this: &mut Self| match this.xmit(message) {
            Err(ByteXmitError::Full) => None,
            result => Some(result),
        };
        self.insist(timeout, attempt).unwrap_or_else(not_in_time)
    }

    /// Transmits as many messages from the front of `messages` as there is room for,
    /// publishes them together, and returns how many they were.
    ///
    /// The peer sees all of them or none. Of large messages it had better read the
    /// first while the second is written: [`xmit`](Self::xmit) them one by one.
    ///
    /// # Errors
    ///
    /// As [`xmit`](Self::xmit) for the first message, but for a full ring, which is
    /// no error but 0 messages. A later one that is too long ends the batch before
    /// it.
    ///
    /// ```
    /// use memenpsf::ByteInterface;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let other = std::thread::spawn(move || ByteInterface::new("b", 64, theirs, 0));
    /// let mut interface = ByteInterface::new("a", 64, ours, 1)?;
    /// let mut other = other.join().unwrap()?;
    /// assert_eq!(interface.xmit_vectored(&["one", "two", "three", "four"])?, 3);
    /// assert_eq!(interface.xmit_vectored(&["four"])?, 0);
    /// assert_eq!(other.recv_vectored()?, [&b"one"[..], b"two", b"three"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn xmit_vectored<B: AsRef<[u8]>>(
        &mut self,
        messages: &[B],
    ) -> Result<usize, ByteXmitError> {
        if let Some(ended) = self.ended() {
            return Err(ended.into());
        }
        match self.producer.push_vectored(messages) {
            Ok(pushed) => {
                self.published();
                Ok(pushed)
            }
            Err(error) => {
                let first = messages.first().map_or(0, |first| first.as_ref().len());
                match self.refused(Awaited::Message(first), error) {
                    ByteXmitError::Full => Ok(0),
                    error => Err(error),
                }
            }
        }
    }

    /// Reserves room for a message of up to `length` bytes, to be filled in place.
    ///
    /// The bytes lie in memory that only this process writes, so nothing is copied.
    /// The message may turn out shorter. A reservation asks for up to 56 bytes more
    /// than [`xmit`](Self::xmit) of `length` bytes.
    ///
    /// # Errors
    ///
    /// As [`xmit`](Self::xmit).
    ///
    /// ```
    /// use memenpsf::ByteInterface;
    /// use std::io::Read;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let other = std::thread::spawn(move || ByteInterface::new("b", 4096, theirs, 0));
    /// let mut interface = ByteInterface::new("a", 4096, ours, 1)?;
    /// let mut other = other.join().unwrap()?;
    ///
    /// let mut source = &b"from a file, say"[..];
    /// let mut room = interface.reserve(1000)?;
    /// let length = source.read(room.as_mut_slice())?;
    /// room.commit(length);
    /// assert_eq!(other.recv()?, Some(b"from a file, say".to_vec()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&mut self, length: usize) -> Result<ByteReservation<'_>, ByteXmitError> {
        if let Some(ended) = self.ended() {
            return Err(ended.into());
        }
        // Asked before it is reserved: a refusal needs all of `self`.
        if let Err(error) = self.producer.reserve(length) {
            return Err(self.refused(Awaited::Reservation(length), error));
        }
        match self.producer.reserve(length) {
            Ok((room, count)) => Ok(ByteReservation {
                room,
                count,
                bell: &mut self.bell,
                connection: &self.connection,
            }),
            Err(_) => Err(ByteXmitError::Full),
        }
    }

    /// Returns the length of the longest message that can be transmitted: what
    /// [`Options::max_message`](crate::Options::max_message) says, or what the peer
    /// accepts, if that is less.
    pub fn max_message(&self) -> usize {
        self.producer.max_message()
    }

    /// Returns how many bytes of the ring are vacant: of an empty one, all but 8. A
    /// message takes 8 more than its length, rounded up to 8, and up to 56 of padding.
    pub fn free_bytes(&mut self) -> usize {
        self.producer.free_bytes()
    }

    /// Handles what the ring has refused.
    #[cold]
    fn refused(&mut self, awaited: Awaited, error: RecordError) -> ByteXmitError {
        match error {
            RecordError::Full { .. } => {
                self.producer.await_room(awaited);
                self.found_full()
                    .map_or(ByteXmitError::Full, ByteXmitError::from)
            }
            RecordError::TooLong { length, longest } => ByteXmitError::TooLong { length, longest },
            RecordError::Violation(violation) => self.violated(violation).into(),
        }
    }
}

/// Returns the error of a wait that has ended without room.
fn not_in_time(ended: Option<Ended>) -> Result<(), ByteXmitError> {
    Err(ended.map_or(ByteXmitError::Full, ByteXmitError::from))
}

/// Room for one message, to be filled in place; from [`ByteTransmitter::reserve`].
/// Dropped, it transmits nothing.
#[derive(Debug)]
#[must_use = "a reservation that is dropped transmits nothing"]
pub struct ByteReservation<'a> {
    room: bytes::Reservation<'a, Split<u64>>,
    count: &'a mut u64,
    bell: &'a mut Bell,
    connection: &'a Connection,
}

impl ByteReservation<'_> {
    /// Returns the number of bytes that are reserved.
    pub fn len(&self) -> usize {
        self.room.len()
    }

    /// Tells whether no bytes are reserved, for an empty message.
    pub fn is_empty(&self) -> bool {
        self.room.is_empty()
    }

    /// Returns the bytes, for writing in place. They hold zeros or what older
    /// messages have left.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.room.as_mut_slice()
    }

    /// Copies `bytes` to the front.
    ///
    /// # Panics
    ///
    /// When `bytes` is longer than the reservation.
    pub fn fill(&mut self, bytes: &[u8]) {
        self.room.fill(bytes);
    }

    /// Transmits the first `actual` bytes as one message.
    ///
    /// # Panics
    ///
    /// When `actual` exceeds what was reserved.
    pub fn commit(self, actual: usize) {
        self.room.commit(actual);
        *self.count = self.count.wrapping_add(1);
        self.bell.ring(self.connection);
    }
}
