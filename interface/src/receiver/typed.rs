//! Receiving plain data.

use std::time::Duration;

use memenpsf_ring::{Plain, PopError};

use super::Receiver;
use crate::error::RecvError;
use crate::message::Consumer;

impl<T: Plain> Receiver<T> {
    /// Receives one message, or `None` when there is none now.
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] when the connection has ended and all that the peer
    /// had committed has been received; an empty call notices it within a tick of
    /// the kernel's coarse clock (1 to 4 ms) or 64 calls, whichever is later.
    /// [`RecvError::Violation`] when the peer broke a rule.
    #[inline]
    pub fn recv(&mut self) -> Result<Option<T>, RecvError> {
        self.receive(Consumer::pop)
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
    ///
    /// ```
    /// use memenpsf::Interface;
    /// use std::os::unix::net::UnixStream;
    /// use std::time::Duration;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let other = std::thread::spawn(move || Interface::<u64>::new("b", 8, theirs, 0));
    /// let mut interface = Interface::<u64>::new("a", 8, ours, 1)?;
    /// let mut other = other.join().unwrap()?;
    /// assert_eq!(interface.recv_timeout(Some(Duration::from_millis(1)))?, None);
    /// let other = std::thread::spawn(move || {
    ///     other.xmit(5).unwrap();
    ///     other
    /// });
    /// assert_eq!(interface.recv_timeout(None)?, Some(5));
    /// # drop(other.join());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_timeout(&mut self, timeout: Option<Duration>) -> Result<Option<T>, RecvError> {
        self.receive_timeout(timeout, Consumer::pop)
    }

    /// Receives all messages that are there now: none is an empty vector.
    ///
    /// A peer that never stops does not keep it: it takes at most one ring of them.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_vectored(&mut self) -> Result<Vec<T>, RecvError> {
        let mut messages = Vec::new();
        self.recv_into(&mut messages, usize::MAX)?;
        Ok(messages)
    }

    /// Receives the messages that are there now, at most `max` and at most one ring
    /// of them, appends them to `messages`, and returns how many they were.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// ```
    /// use memenpsf::Interface;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let other = std::thread::spawn(move || Interface::<u64>::new("b", 8, theirs, 0));
    /// let mut interface = Interface::<u64>::new("a", 8, ours, 1)?;
    /// let mut other = other.join().unwrap()?;
    /// other.xmit_vectored(&[1, 2, 3])?;
    /// let mut messages = vec![0];
    /// assert_eq!(interface.recv_into(&mut messages, 2)?, 2);
    /// assert_eq!(messages, [0, 1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_into(&mut self, messages: &mut Vec<T>, max: usize) -> Result<usize, RecvError> {
        let received = self.receive(|consumer| match consumer.pop_into(messages, max) {
            // To ask for none finds as many as it asks for.
            Ok(0) if max > 0 => Err(PopError::Empty),
            Ok(count) => Ok(count),
            Err(violation) => Err(PopError::Violation(violation)),
        })?;
        Ok(received.unwrap_or(0))
    }

    /// Receives one message; with none left, reports an end that is already known.
    #[cfg(feature = "tokio")]
    pub(crate) fn recv_or_end(&mut self) -> Result<Option<T>, RecvError> {
        self.receive_or_end(Consumer::pop)
    }

    /// Returns how many messages can be received now.
    pub fn slots(&mut self) -> usize {
        self.consumer.slots()
    }
}
