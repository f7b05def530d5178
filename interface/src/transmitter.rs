//! The half that transmits: what is the same for every kind of message. The calls
//! that take messages are in [`typed`] and [`bytes`].
//!
//! # Invariants
//!
//! - T1: the end is looked for when `next_look` messages have been transmitted or
//!   the ring is full, as often as [`Pace`] says; once it was told, every later call
//!   looks again and finds the same ([`Connection`] I2).
//! - T2: every publication is followed by [`published`](Transmitter::published),
//!   which wakes a peer that sleeps for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use memenpsf_fdpass::Deadline;

use crate::connection::Connection;
use crate::error::{ControlError, Ended, Violation};
use crate::message::{Message, Outbound};
use crate::pace::Pace;
use crate::wait::{Bell, Waited, Waiter};

mod bytes;
mod typed;

pub use bytes::{ByteReservation, ByteTransmitter};
pub use typed::Reservation;

/// The transmitting half of an [`Interface`](crate::Interface), for one thread.
///
/// ```
/// use memenpsf::Interface;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let other = std::thread::spawn(move || Interface::<u64>::new("b", 8, theirs, 0));
/// let (mut transmitter, _receiver) = Interface::<u64>::new("a", 8, ours, 1)?.split();
/// let mut other = other.join().unwrap()?;
/// transmitter.xmit(5)?;
/// assert_eq!(other.recv()?, Some(5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Transmitter<T: Message + ?Sized> {
    // Before the connection, so that it is dropped before its mapping goes.
    producer: T::Producer,
    connection: Arc<Connection>,
    waiter: Waiter,
    bell: Bell,
    pace: Pace,
    /// Number of messages at which to ask the pace again, so that a transmitter
    /// whose ring never fills still learns of the peer's end.
    next_look: u64,
    full: u64,
}

impl<T: Message + ?Sized> Transmitter<T> {
    pub(crate) fn new(
        producer: T::Producer,
        connection: Arc<Connection>,
        waiter: Waiter,
        bell: Bell,
    ) -> Self {
        Self {
            next_look: producer.count(),
            producer,
            connection,
            waiter,
            bell,
            pace: Pace::default(),
            full: 0,
        }
    }

    /// Returns the number of slots of the outbound ring, of a
    /// [`ByteTransmitter`] its number of bytes.
    pub fn cap(&self) -> usize {
        self.producer.capacity()
    }

    /// Returns the position of the next message to transmit.
    pub fn position(&self) -> u64 {
        self.producer.count()
    }

    /// Sends two bytes out of band, on the socket.
    ///
    /// # Errors
    ///
    /// [`ControlError::Full`] when the peer does not receive them;
    /// [`ControlError::Closed`] and [`ControlError::Violation`] when the
    /// connection has ended; [`ControlError::Io`] otherwise.
    pub fn send_ctrl_msg(&self, message: [u8; 2]) -> Result<(), ControlError> {
        self.connection.send_control(message)
    }

    /// Tells whether there is room for a message; with none, reports an end that
    /// is already known.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_room(&mut self) -> Result<bool, Ended> {
        if self.producer.has_room() {
            return Ok(true);
        }
        if let Some(violation) = self.producer.violation() {
            return Err(self.violated(violation));
        }
        self.connection.ended().map_or(Ok(false), Err)
    }

    /// Announces a sleep for room, unless there is some. See
    /// [`Interface::ready`](crate::Interface::ready).
    pub(crate) fn arm(&mut self) -> bool {
        let certain = self.waiter.announce();
        let ready = self.producer.has_room() || self.producer.violation().is_some();
        if ready || !certain {
            self.waiter.awake();
        }
        ready || !certain
    }

    /// Returns how many calls found the ring full.
    pub(crate) fn full_count(&self) -> u64 {
        self.full
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Calls `attempt` until it returns something, each time after there was room;
    /// fails with how the connection has ended, or with nothing when the time is up.
    fn insist<R>(
        &mut self,
        timeout: Option<Duration>,
        mut attempt: impl FnMut(&mut Self) -> Option<R>,
    ) -> Result<R, Option<Ended>> {
        if let Some(result) = attempt(self) {
            return Ok(result);
        }
        let deadline = timeout.map_or(Deadline::never(), Deadline::after);
        loop {
            let waited = self.wait(deadline);
            if let Some(result) = attempt(self) {
                return Ok(result);
            }
            match waited {
                Waited::Ready | Waited::Control => {}
                Waited::Ended(ended) => return Err(Some(ended)),
                Waited::TimedOut => return Err(None),
            }
        }
    }

    /// Waits until there is room, or the connection has ended, or the deadline.
    fn wait(&mut self, deadline: Deadline) -> Waited {
        let producer = &mut self.producer;
        // A violation is found by the next transmission.
        let ready = || producer.has_room() || producer.violation().is_some();
        self.waiter.wait(&self.connection, deadline, ready)
    }

    /// Wakes a peer that sleeps for what was just published (T2).
    #[inline(always)]
    fn published(&mut self) {
        self.bell.ring(&self.connection);
    }

    /// Looks for the end before a transmission, if it is time to (T1).
    #[inline(always)]
    fn ended(&mut self) -> Option<Ended> {
        if self.is_due() { self.look() } else { None }
    }

    /// Counts a call that found the ring full, and looks for the end if it is time
    /// to: while the ring is full, `next_look` does not come.
    fn found_full(&mut self) -> Option<Ended> {
        self.full += 1;
        if !self.pace.ask().0 {
            return None;
        }
        let ended = self.connection.look();
        if ended.is_some() {
            self.stay_due();
        }
        ended
    }

    /// Ends the connection after a violation of the ring.
    #[cold]
    fn violated(&self, violation: memenpsf_ring::Violation) -> Ended {
        self.connection.end_by(Violation::Ring(violation))
    }

    /// Tells whether as many messages have been transmitted as the pace asked for.
    #[inline(always)]
    fn is_due(&self) -> bool {
        self.producer
            .count()
            .wrapping_sub(self.next_look)
            .cast_signed()
            >= 0
    }

    /// Looks at the socket if it is time to, and says after how many messages to
    /// do so again.
    #[cold]
    fn look(&mut self) -> Option<Ended> {
        let (due, interval) = self.pace.ask();
        let ended = if due { self.connection.look() } else { None };
        match ended {
            None => self.next_look = self.producer.count().wrapping_add(interval),
            Some(_) => self.stay_due(),
        }
        ended
    }

    /// Makes the next call look again: once it was told, an end is told for good.
    fn stay_due(&mut self) {
        self.pace = Pace::default();
        self.next_look = self.producer.count();
    }
}

impl<T: Message + ?Sized> fmt::Debug for Transmitter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transmitter")
            .field("producer", &self.producer)
            .field("name", &self.connection.name)
            .field("peer", &self.connection.peer)
            .finish_non_exhaustive()
    }
}
