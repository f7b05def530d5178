//! The half that receives.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use memenpsf_fdpass::Deadline;
use memenpsf_ring::index::Consumer;
use memenpsf_ring::memory::Split;
use memenpsf_ring::{Plain, PopError};

use crate::connection::Connection;
use crate::error::{ControlError, Ended, RecvError, Violation};
use crate::pace::Pace;
use crate::wait::{Bell, Waited, Waiter};

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
    waiter: Waiter,
    bell: Bell,
    pace: Pace,
    /// How many empty calls are left before the pace is asked again.
    patience: u64,
    empty: u64,
    /// The end, once it was told: nothing that the peer does later undoes it.
    end: Option<RecvError>,
}

impl<T: Plain> Receiver<T> {
    pub(crate) fn new(
        consumer: Consumer<T, Split<T>>,
        connection: Arc<Connection>,
        waiter: Waiter,
        bell: Bell,
    ) -> Self {
        Self {
            consumer,
            connection,
            waiter,
            bell,
            pace: Pace::default(),
            patience: 1,
            empty: 0,
            end: None,
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
        if let Some(end) = self.end {
            return Err(end);
        }
        match self.consumer.pop() {
            Ok(message) => {
                self.bell.ring(&self.connection);
                Ok(Some(message))
            }
            Err(PopError::Empty) => self.found_empty(),
            Err(PopError::Violation(violation)) => Err(self.violated(violation)),
        }
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
        if let Some(message) = self.recv()? {
            return Ok(Some(message));
        }
        let deadline = timeout.map_or(Deadline::never(), Deadline::after);
        match self.wait(deadline) {
            Waited::Ended(ended) => self.drained(ended),
            _ => self.recv(),
        }
    }

    /// Waits until there is a message, or the connection has ended, or a control
    /// message has arrived, or the deadline.
    pub(crate) fn wait(&mut self, deadline: Deadline) -> Waited {
        let consumer = &mut self.consumer;
        // A violation is found by the next reception.
        let ready = || !consumer.is_empty() || consumer.violation().is_some();
        self.waiter.wait(&self.connection, deadline, ready)
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
        if let Some(end) = self.end {
            return Err(end);
        }
        match self.consumer.pop_into(messages, max) {
            Ok(0) if max > 0 => Ok(self.found_empty()?.map_or(0, |message| {
                messages.push(message);
                1
            })),
            Ok(count) => {
                self.bell.ring(&self.connection);
                Ok(count)
            }
            Err(violation) => Err(self.violated(violation)),
        }
    }

    /// Receives one message; with none left, reports an end that is already known.
    #[cfg(feature = "tokio")]
    pub(crate) fn recv_or_end(&mut self) -> Result<Option<T>, RecvError> {
        match (self.recv()?, self.connection.ended()) {
            (None, Some(ended)) => self.drained(ended),
            (received, _) => Ok(received),
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Tells whether this side sleeps at all.
    pub(crate) fn sleeps(&self) -> bool {
        self.waiter.sleeps()
    }

    /// Announces a sleep for data, unless there is some. See
    /// [`Interface::ready`](crate::Interface::ready).
    pub(crate) fn arm(&mut self) -> bool {
        let certain = self.waiter.announce();
        let ready = !self.consumer.is_empty() || self.consumer.violation().is_some();
        if ready || !certain {
            self.waiter.awake();
        }
        ready || !certain
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
        self.drained(ended)
    }

    /// Takes what the peer had committed before the connection ended, and then
    /// reports its end.
    #[cold]
    fn drained(&mut self, ended: Ended) -> Result<Option<T>, RecvError> {
        // The next empty call looks again, and finds the same end.
        self.pace = Pace::default();
        self.patience = 1;
        if let Ended::Violation(violation) = ended {
            return Err(self.ends(RecvError::Violation(violation)));
        }
        // All that the peer committed came before its end: look once more.
        match self.consumer.pop() {
            Ok(message) => Ok(Some(message)),
            Err(PopError::Empty) => Err(self.ends(ended.into())),
            Err(PopError::Violation(violation)) => Err(self.violated(violation)),
        }
    }

    /// Ends the connection after a violation of the ring.
    #[cold]
    fn violated(&mut self, violation: memenpsf_ring::Violation) -> RecvError {
        let violation = Violation::Ring(violation);
        self.connection.end_by(violation);
        self.ends(RecvError::Violation(violation))
    }

    /// Remembers the end.
    fn ends(&mut self, end: RecvError) -> RecvError {
        *self.end.insert(end)
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
