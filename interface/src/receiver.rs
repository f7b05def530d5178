//! The half that receives: what is the same for every kind of message. The calls
//! that return messages are in [`typed`] and [`bytes`].
//!
//! # Invariants
//!
//! - R1: an empty call looks for the end as often as [`Pace`] says.
//! - R2: an end that the socket has told is reported only after one more look at the
//!   ring has found it empty ([`Connection`] I3), and then for good: nothing that the
//!   peer does later undoes it.
//! - R3: every reception is followed by the bell, which wakes a peer that sleeps for
//!   room.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use memenpsf_fdpass::Deadline;
use memenpsf_ring::PopError;

use crate::connection::Connection;
use crate::error::{ControlError, Ended, RecvError, Violation};
use crate::message::{Inbound, Message};
use crate::pace::Pace;
use crate::wait::{Bell, Waited, Waiter};

mod bytes;
mod typed;

pub use bytes::ByteReceiver;

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
pub struct Receiver<T: Message + ?Sized> {
    // Before the connection, so that it is dropped before its mapping goes.
    consumer: T::Consumer,
    connection: Arc<Connection>,
    waiter: Waiter,
    bell: Bell,
    pace: Pace,
    /// How many empty calls are left before the pace is asked again.
    patience: u64,
    empty: u64,
    /// The end, once it was told (R2).
    end: Option<RecvError>,
}

impl<T: Message + ?Sized> Receiver<T> {
    pub(crate) fn new(
        consumer: T::Consumer,
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

    /// Returns the number of slots of the inbound ring, of a [`ByteReceiver`] its
    /// number of bytes.
    pub fn cap(&self) -> usize {
        self.consumer.capacity()
    }

    /// Returns the position of the next message to receive.
    pub fn position(&self) -> u64 {
        self.consumer.count()
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
        let ready = self.consumer.has_message() || self.consumer.violation().is_some();
        if ready || !certain {
            self.waiter.awake();
        }
        ready || !certain
    }

    /// Tells whether nothing is left to receive.
    pub(crate) fn is_drained(&mut self) -> bool {
        !self.consumer.has_message()
    }

    /// Returns how many calls found the ring empty.
    pub(crate) fn empty_count(&self) -> u64 {
        self.empty
    }

    /// Receives what `pop` takes out of the ring, or nothing when it is empty.
    #[inline(always)]
    fn receive<R>(
        &mut self,
        mut pop: impl FnMut(&mut T::Consumer) -> Result<R, PopError>,
    ) -> Result<Option<R>, RecvError> {
        if let Some(end) = self.end {
            return Err(end);
        }
        match pop(&mut self.consumer) {
            Ok(received) => {
                self.bell.ring(&self.connection);
                Ok(Some(received))
            }
            Err(PopError::Empty) => self.found_empty(pop),
            Err(PopError::Violation(violation)) => Err(self.violated(violation)),
        }
    }

    /// As [`receive`](Self::receive), but waits for a message.
    fn receive_timeout<R>(
        &mut self,
        timeout: Option<Duration>,
        mut pop: impl FnMut(&mut T::Consumer) -> Result<R, PopError>,
    ) -> Result<Option<R>, RecvError> {
        if let Some(received) = self.receive(&mut pop)? {
            return Ok(Some(received));
        }
        let deadline = timeout.map_or(Deadline::never(), Deadline::after);
        match self.wait(deadline) {
            Waited::Ended(ended) => self.drained(ended, pop),
            _ => self.receive(pop),
        }
    }

    /// As [`receive`](Self::receive); with nothing left, reports an end that is
    /// already known.
    #[cfg(feature = "tokio")]
    fn receive_or_end<R>(
        &mut self,
        mut pop: impl FnMut(&mut T::Consumer) -> Result<R, PopError>,
    ) -> Result<Option<R>, RecvError> {
        match (self.receive(&mut pop)?, self.connection.ended()) {
            (None, Some(ended)) => self.drained(ended, pop),
            (received, _) => Ok(received),
        }
    }

    /// Waits until there is a message, or the connection has ended, or a control
    /// message has arrived, or the deadline.
    fn wait(&mut self, deadline: Deadline) -> Waited {
        let consumer = &mut self.consumer;
        // A violation is found by the next reception.
        let ready = || consumer.has_message() || consumer.violation().is_some();
        self.waiter.wait(&self.connection, deadline, ready)
    }

    /// Handles a call that found the ring empty: from time to time, looks whether
    /// the peer is gone (R1).
    fn found_empty<R>(
        &mut self,
        pop: impl FnMut(&mut T::Consumer) -> Result<R, PopError>,
    ) -> Result<Option<R>, RecvError> {
        self.empty += 1;
        self.patience -= 1;
        if self.patience > 0 {
            return Ok(None);
        }
        let (due, interval) = self.pace.ask();
        self.patience = interval;
        if due { self.look(pop) } else { Ok(None) }
    }

    /// Looks at the socket; after its end, drains the ring.
    #[cold]
    fn look<R>(
        &mut self,
        pop: impl FnMut(&mut T::Consumer) -> Result<R, PopError>,
    ) -> Result<Option<R>, RecvError> {
        let Some(ended) = self.connection.look() else {
            return Ok(None);
        };
        self.drained(ended, pop)
    }

    /// Takes what the peer had committed before the connection ended, and then
    /// reports its end (R2).
    #[cold]
    fn drained<R>(
        &mut self,
        ended: Ended,
        mut pop: impl FnMut(&mut T::Consumer) -> Result<R, PopError>,
    ) -> Result<Option<R>, RecvError> {
        // The next empty call looks again, and finds the same end.
        self.pace = Pace::default();
        self.patience = 1;
        if let Ended::Violation(violation) = ended {
            return Err(self.ends(RecvError::Violation(violation)));
        }
        // All that the peer committed came before its end: look once more.
        match pop(&mut self.consumer) {
            Ok(received) => Ok(Some(received)),
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

impl<T: Message + ?Sized> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("consumer", &self.consumer)
            .field("name", &self.connection.name)
            .field("peer", &self.connection.peer)
            .finish_non_exhaustive()
    }
}
