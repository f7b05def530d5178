//! Receiving messages of variable length.

use std::time::Duration;

use super::Receiver;
use crate::error::RecvError;

/// The receiving half of a [`ByteInterface`](crate::ByteInterface), for one thread.
///
/// ```
/// use memenpsf::ByteInterface;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let other = std::thread::spawn(move || ByteInterface::new("b", 4096, theirs, 0));
/// let (_transmitter, mut receiver) = ByteInterface::new("a", 4096, ours, 1)?.split();
/// let mut other = other.join().unwrap()?;
/// other.xmit(b"hello")?;
/// assert_eq!(receiver.recv()?, Some(b"hello".to_vec()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type ByteReceiver = Receiver<[u8]>;

impl Receiver<[u8]> {
    /// Receives one message in a vector of its own, or `None` when there is none
    /// now. [`recv_into`](Self::recv_into) uses one vector for many messages.
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] when the connection has ended and all that the peer
    /// had committed has been received; an empty call notices it within a tick of
    /// the kernel's coarse clock (1 to 4 ms) or 64 calls, whichever is later.
    /// [`RecvError::Violation`] when the peer broke a rule; a message that is longer
    /// than [`max_message`](Self::max_message) is one.
    pub fn recv(&mut self) -> Result<Option<Vec<u8>>, RecvError> {
        let mut message = Vec::new();
        Ok(self.recv_into(&mut message)?.map(|_| message))
    }

    /// Empties `message`, receives the next message into it, and returns its length;
    /// `None` when there is none now.
    ///
    /// The memory of `message` is used again. It grows to the longest message that
    /// came, and never beyond [`max_message`](Self::max_message).
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// ```
    /// use memenpsf::ByteInterface;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let other = std::thread::spawn(move || ByteInterface::new("b", 4096, theirs, 0));
    /// let mut interface = ByteInterface::new("a", 4096, ours, 1)?;
    /// let mut other = other.join().unwrap()?;
    /// other.xmit(b"first")?;
    /// other.xmit(b"")?;
    /// let mut message = Vec::new();
    /// assert_eq!(interface.recv_into(&mut message)?, Some(5));
    /// assert_eq!(message, b"first");
    /// assert_eq!(interface.recv_into(&mut message)?, Some(0));
    /// assert_eq!(message, b"");
    /// assert_eq!(interface.recv_into(&mut message)?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn recv_into(&mut self, message: &mut Vec<u8>) -> Result<Option<usize>, RecvError> {
        message.clear();
        self.receive(|consumer| consumer.pop_into(message))
    }

    /// Receives one message, waiting for at most `timeout`; `None` waits for as
    /// long as it takes.
    ///
    /// It waits as [`Options::waiting`](crate::Options::waiting) says: spinning a
    /// little and then sleeping, unless told otherwise. Returns `None` when the
    /// time is up, and also when a control message arrives meanwhile, so that it
    /// can be received. The end of the connection ends the wait at once.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Option<Vec<u8>>, RecvError> {
        let mut message = Vec::new();
        let received = self.recv_into_timeout(&mut message, timeout)?;
        Ok(received.map(|_| message))
    }

    /// Empties `message`, receives the next message into it and returns its length,
    /// waiting as [`recv_timeout`](Self::recv_timeout) does.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// ```
    /// use memenpsf::ByteInterface;
    /// use std::os::unix::net::UnixStream;
    /// use std::time::Duration;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let other = std::thread::spawn(move || ByteInterface::new("b", 4096, theirs, 0));
    /// let mut interface = ByteInterface::new("a", 4096, ours, 1)?;
    /// let mut other = other.join().unwrap()?;
    /// let mut message = Vec::new();
    /// let brief = Some(Duration::from_millis(1));
    /// assert_eq!(interface.recv_into_timeout(&mut message, brief)?, None);
    /// let other = std::thread::spawn(move || {
    ///     other.xmit(b"hello").unwrap();
    ///     other
    /// });
    /// assert_eq!(interface.recv_into_timeout(&mut message, None)?, Some(5));
    /// assert_eq!(message, b"hello");
    /// # drop(other.join());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_into_timeout(
        &mut self,
        message: &mut Vec<u8>,
        timeout: Option<Duration>,
    ) -> Result<Option<usize>, RecvError> {
        message.clear();
        self.receive_timeout(timeout, |consumer| consumer.pop_into(message))
    }

    /// Receives all messages that are there now: none is an empty vector.
    ///
    /// A peer that never stops does not keep it: it takes at most one ring of them.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// ```
    /// use memenpsf::ByteInterface;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let other = std::thread::spawn(move || ByteInterface::new("b", 4096, theirs, 0));
    /// let mut interface = ByteInterface::new("a", 4096, ours, 1)?;
    /// let mut other = other.join().unwrap()?;
    /// other.xmit_vectored(&["one", "three"])?;
    /// assert_eq!(interface.recv_vectored()?, [&b"one"[..], b"three"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_vectored(&mut self) -> Result<Vec<Vec<u8>>, RecvError> {
        let mut messages = Vec::new();
        self.receive(|consumer| consumer.pop_all(&mut messages))?;
        Ok(messages)
    }

    /// Receives one message; with none left, reports an end that is already known.
    #[cfg(feature = "tokio")]
    pub(crate) fn recv_or_end(&mut self) -> Result<Option<Vec<u8>>, RecvError> {
        let mut message = Vec::new();
        let received = self.receive_or_end(|consumer| consumer.pop_into(&mut message))?;
        Ok(received.map(|_| message))
    }

    /// Returns the length of the longest message that can arrive: what the peer said
    /// it transmits, or [what this side accepts](crate::Options::accept_message), if
    /// that is less.
    pub fn max_message(&self) -> usize {
        self.consumer.max_message()
    }
}
