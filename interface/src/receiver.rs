//! The half that receives.

use std::fmt;
use std::sync::Arc;

use memenpsf_ring::index::Consumer;
use memenpsf_ring::memory::Split;
use memenpsf_ring::{Plain, PopError};

use crate::connection::Connection;
use crate::error::{ControlError, Ended, RecvError, Violation};
use crate::pace::Pace;

/// The receiving half of an [`Interface`](crate::Interface), for one thread.
///
/// ```
/// use memenpsf::Interface;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let other = std::thread::spawn(move || Interface::<u64>::new("b", 8, theirs, 0));
/// let (_transmitter, mut receiver) = Interface::<u64>::new("a", 8, ours, 1)?.split();
/// let mut other = other.join().unwrap()?;
/// assert_eq!(receiver.recv()?, None);
/// other.xmit(5)?;
/// assert_eq!(receiver.recv()?, Some(5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Receiver<T: Plain> {
    // Before the connection, so that it is dropped before its mapping goes.
    consumer: Consumer<T, Split<T>>,
    connection: Arc<Connection>,
    pace: Pace,
    /// How many empty calls are left before the pace is asked again.
    patience: u64,
    empty: u64,
}

impl<T: Plain> Receiver<T> {
    pub(crate) fn new(consumer: Consumer<T, Split<T>>, connection: Arc<Connection>) -> Self {
        Self {
            consumer,
            connection,
            pace: Pace::default(),
            patience: 1,
            empty: 0,
        }
    }

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
        match self.consumer.pop() {
            Ok(message) => Ok(Some(message)),
            Err(PopError::Empty) => self.found_empty(),
            Err(PopError::Violation(violation)) => Err(self.violated(violation)),
        }
    }

    /// Receives all messages that are there now: none is an empty vector.
    ///
    /// What the peer transmits while the call runs is left for the next call, so
    /// a peer that never stops does not keep it.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_vectored(&mut self) -> Result<Vec<T>, RecvError> {
        let mut messages = Vec::new();
        self.recv_into(&mut messages, usize::MAX)?;
        Ok(messages)
    }

    /// Receives the messages that are there now, at most `max`, appends them to
    /// `messages`, and returns how many they were.
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
        match self.consumer.pop_into(messages, max) {
            Ok(0) if max > 0 => Ok(self.found_empty()?.map_or(0, |message| {
                messages.push(message);
                1
            })),
            Ok(count) => Ok(count),
            Err(violation) => Err(self.violated(violation)),
        }
    }

    /// Returns the number of slots of the inbound ring.
    pub fn cap(&self) -> usize {
        self.consumer.capacity()
    }

    /// Returns the position of the next message to receive.
    pub fn position(&self) -> u64 {
        self.consumer.position()
    }

    /// Returns how many messages can be received now.
    pub fn slots(&mut self) -> usize {
        self.consumer.slots()
    }

    /// Receives the next two bytes that the peer sent out of band, or `None`
    /// when there are none now.
    ///
    /// # Errors
    ///
    /// [`ControlError::Closed`] when the connection has ended and every control
    /// message has been received; [`ControlError::Violation`] when the peer broke
    /// a rule.
    pub fn recv_ctrl_msg(&self) -> Result<Option<[u8; 2]>, ControlError> {
        self.connection.receive_control()
    }

    /// Returns how many calls found the ring empty.
    pub(crate) fn empty_count(&self) -> u64 {
        self.empty
    }

    /// Handles a call that found the ring empty: from time to time, looks whether
    /// the peer is gone.
    fn found_empty(&mut self) -> Result<Option<T>, RecvError> {
        self.empty += 1;
        self.patience -= 1;
        if self.patience > 0 {
            return Ok(None);
        }
        let (due, interval) = self.pace.ask();
        self.patience = interval;
        if due { self.look() } else { Ok(None) }
    }

    /// Looks at the socket; after its end, drains the ring.
    #[cold]
    fn look(&mut self) -> Result<Option<T>, RecvError> {
        let Some(ended) = self.connection.look() else {
            return Ok(None);
        };
        // The next empty call looks again, and finds the same end.
        self.pace = Pace::default();
        self.patience = 1;
        if let Ended::Violation(violation) = ended {
            return Err(RecvError::Violation(violation));
        }
        // All that the peer committed came before its end: look once more.
        match self.consumer.pop() {
            Ok(message) => Ok(Some(message)),
            Err(PopError::Empty) => Err(ended.into()),
            Err(PopError::Violation(violation)) => Err(self.violated(violation)),
        }
    }

    /// Ends the connection after a violation of the ring.
    #[cold]
    fn violated(&self, violation: memenpsf_ring::Violation) -> RecvError {
        let violation = Violation::Ring(violation);
        self.connection.end_by(violation);
        RecvError::Violation(violation)
    }
}

impl<T: Plain> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("consumer", &self.consumer)
            .field("name", &self.connection.name)
            .field("peer", &self.connection.peer)
            .finish_non_exhaustive()
    }
}
