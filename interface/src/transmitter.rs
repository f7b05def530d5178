//! The half that transmits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use memenpsf_fdpass::Deadline;
use memenpsf_ring::index::Producer;
use memenpsf_ring::memory::Split;
use memenpsf_ring::ordering::Shipped;
use memenpsf_ring::{ChunkError, Plain, PushError, WriteChunk};

use crate::connection::Connection;
use crate::error::{ControlError, Ended, TransmitError, Violation, XmitError};
use crate::pace::Pace;
use crate::wait::{Bell, Waited, Waiter};

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
pub struct Transmitter<T: Plain> {
    // Before the connection, so that it is dropped before its mapping goes.
    producer: Producer<T, Split<T>>,
    connection: Arc<Connection>,
    waiter: Waiter,
    bell: Bell,
    pace: Pace,
    /// Position at which to ask the pace again, so that a transmitter whose ring
    /// never fills still learns of the peer's end.
    next_look: u64,
    full: u64,
}

impl<T: Plain> Transmitter<T> {
    pub(crate) fn new(
        producer: Producer<T, Split<T>>,
        connection: Arc<Connection>,
        waiter: Waiter,
        bell: Bell,
    ) -> Self {
        Self {
            next_look: producer.position(),
            producer,
            connection,
            waiter,
            bell,
            pace: Pace::default(),
            full: 0,
        }
    }

    /// Transmits one message, at once.
    ///
    /// It is committed when the call returns: it will be received even if this
    /// process dies then.
    ///
    /// # Errors
    ///
    /// Each gives the message back. [`XmitError::Full`] when the peer has not
    /// made room. [`XmitError::Closed`] when the connection has ended, which is
    /// noticed within a tick of the kernel's coarse clock (1 to 4 ms) or 64
    /// calls, whichever is later. [`XmitError::Violation`] when the peer broke a
    /// rule.
    #[inline]
    pub fn xmit(&mut self, message: T) -> Result<(), XmitError<T>> {
        if self.is_due()
            && let Some(ended) = self.look()
        {
            return Err(XmitError::ended(message, ended));
        }
        match self.producer.push(message) {
            Ok(()) => {
                self.bell.ring(&self.connection);
                Ok(())
            }
            Err(error) => self.not_pushed(error),
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
    /// As [`xmit`](Self::xmit); [`XmitError::Full`] when the time is up.
    ///
    /// ```
    /// use memenpsf::{Interface, XmitError};
    /// use std::os::unix::net::UnixStream;
    /// use std::time::Duration;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let other = std::thread::spawn(move || Interface::<u64>::new("b", 1, theirs, 0));
    /// let mut interface = Interface::<u64>::new("a", 1, ours, 1)?;
    /// let _other = other.join().unwrap()?;
    /// interface.xmit_timeout(1, None)?;
    /// let full = interface.xmit_timeout(2, Some(Duration::from_millis(1)));
    /// assert_eq!(full, Err(XmitError::Full(2)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn xmit_timeout(
        &mut self,
        mut message: T,
        timeout: Option<Duration>,
    ) -> Result<(), XmitError<T>> {
        message = match self.xmit(message) {
            Err(XmitError::Full(message)) => message,
            result => return result,
        };
        let deadline = timeout.map_or(Deadline::never(), Deadline::after);
        loop {
            let waited = self.wait(deadline);
            message = match (self.xmit(message), waited) {
                (Err(XmitError::Full(message)), Waited::Ended(ended)) => {
                    return Err(XmitError::ended(message, ended));
                }
                (Err(XmitError::Full(message)), Waited::Ready | Waited::Control) => message,
                (result, _) => return result,
            };
        }
    }

    /// Waits until there is room, or the connection has ended, or the deadline.
    pub(crate) fn wait(&mut self, deadline: Deadline) -> Waited {
        let producer = &mut self.producer;
        // A violation is found by the next transmission.
        let ready = || !producer.is_full() || producer.violation().is_some();
        self.waiter.wait(&self.connection, deadline, ready)
    }

    /// Transmits as many messages from the front of `messages` as there is room
    /// for, publishes them together, and returns how many they were.
    ///
    /// # Errors
    ///
    /// [`TransmitError::Closed`] and [`TransmitError::Violation`] as in
    /// [`xmit`](Self::xmit). A full ring is no error but 0 messages.
    ///
    /// ```
    /// use memenpsf::Interface;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let other = std::thread::spawn(move || Interface::<u64>::new("b", 4, theirs, 0));
    /// let mut interface = Interface::<u64>::new("a", 4, ours, 1)?;
    /// let mut other = other.join().unwrap()?;
    /// assert_eq!(interface.xmit_vectored(&[1, 2, 3, 4, 5])?, 4);
    /// assert_eq!(other.recv_vectored()?, [1, 2, 3, 4]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn xmit_vectored(&mut self, messages: &[T]) -> Result<usize, TransmitError> {
        if self.is_due()
            && let Some(ended) = self.look()
        {
            return Err(ended.into());
        }
        match self.producer.push_slice(messages) {
            Ok(0) if !messages.is_empty() => {
                self.full += 1;
                self.look_if_due().map_or(Ok(0), |ended| Err(ended.into()))
            }
            Ok(pushed) => {
                self.bell.ring(&self.connection);
                Ok(pushed)
            }
            Err(violation) => Err(self.violated(violation).into()),
        }
    }

    /// Reserves `wanted` slots, to be filled in place and transmitted together.
    ///
    /// The slots lie in memory that only this process writes, so nothing is
    /// copied.
    ///
    /// # Errors
    ///
    /// [`TransmitError::TooFew`] when fewer slots are vacant; otherwise as in
    /// [`xmit_vectored`](Self::xmit_vectored).
    ///
    /// ```
    /// use memenpsf::Interface;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let other = std::thread::spawn(move || Interface::<u64>::new("b", 4, theirs, 0));
    /// let mut interface = Interface::<u64>::new("a", 4, ours, 1)?;
    /// let mut other = other.join().unwrap()?;
    /// let mut slots = interface.reserve(3)?;
    /// for slice in slots.slices_mut() {
    ///     slice.fill(9);
    /// }
    /// slots.commit(2);
    /// assert_eq!(other.recv_vectored()?, [9, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&mut self, wanted: usize) -> Result<Reservation<'_, T>, TransmitError> {
        let available = self.producer.slots();
        if available < wanted || self.producer.violation().is_some() {
            if let Some(violation) = self.producer.violation() {
                return Err(self.violated(violation).into());
            }
            self.full += 1;
            return Err(match self.look_if_due() {
                Some(ended) => ended.into(),
                None => TransmitError::TooFew { wanted, available },
            });
        }
        if self.is_due()
            && let Some(ended) = self.look()
        {
            return Err(ended.into());
        }
        match self.producer.reserve(wanted) {
            Ok(chunk) => Ok(Reservation {
                chunk,
                bell: &mut self.bell,
                connection: &self.connection,
            }),
            Err(ChunkError::TooFew { wanted, available }) => {
                Err(TransmitError::TooFew { wanted, available })
            }
            Err(ChunkError::Violation(violation)) => {
                Err(TransmitError::Violation(Violation::Ring(violation)))
            }
        }
    }

    /// Tells whether there is room for a message; with none, reports an end that
    /// is already known.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_room(&mut self) -> Result<bool, TransmitError> {
        if !self.producer.is_full() {
            return Ok(true);
        }
        if let Some(violation) = self.producer.violation() {
            return Err(self.violated(violation).into());
        }
        self.connection
            .ended()
            .map_or(Ok(false), |ended| Err(ended.into()))
    }

    /// Announces a sleep for room, unless there is some. See
    /// [`Interface::ready`](crate::Interface::ready).
    pub(crate) fn arm(&mut self) -> bool {
        let certain = self.waiter.announce();
        let ready = !self.producer.is_full() || self.producer.violation().is_some();
        if ready || !certain {
            self.waiter.awake();
        }
        ready || !certain
    }

    /// Returns the number of slots of the outbound ring.
    pub fn cap(&self) -> usize {
        self.producer.capacity()
    }

    /// Returns the position of the next message to transmit.
    pub fn position(&self) -> u64 {
        self.producer.position()
    }

    /// Returns how many messages there is room for now.
    pub fn slots(&mut self) -> usize {
        self.producer.slots()
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

    /// Returns how many calls found the ring full.
    pub(crate) fn full_count(&self) -> u64 {
        self.full
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Handles a push that failed.
    #[cold]
    fn not_pushed(&mut self, error: PushError<T>) -> Result<(), XmitError<T>> {
        match error {
            PushError::Full(message) => {
                self.full += 1;
                Err(match self.look_if_due() {
                    Some(ended) => XmitError::ended(message, ended),
                    None => XmitError::Full(message),
                })
            }
            PushError::Violation(message, violation) => {
                Err(XmitError::ended(message, self.violated(violation)))
            }
        }
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
            .position()
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
            None => self.next_look = self.producer.position().wrapping_add(interval),
            Some(_) => self.stay_due(),
        }
        ended
    }

    /// Looks at the socket if it is time to.
    fn look_if_due(&mut self) -> Option<Ended> {
        if !self.pace.ask().0 {
            return None;
        }
        let ended = self.connection.look();
        if ended.is_some() {
            self.stay_due();
        }
        ended
    }

    /// Makes the next call look again: once it was told, an end is told for good.
    fn stay_due(&mut self) {
        self.pace = Pace::default();
        self.next_look = self.producer.position();
    }
}

impl<T: Plain> fmt::Debug for Transmitter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transmitter")
            .field("producer", &self.producer)
            .field("name", &self.connection.name)
            .field("peer", &self.connection.peer)
            .finish_non_exhaustive()
    }
}

/// Slots to fill in place, from [`Transmitter::reserve`]. Dropped, it transmits
/// nothing.
#[derive(Debug)]
#[must_use = "a reservation that is dropped transmits nothing"]
pub struct Reservation<'a, T: Plain> {
    chunk: WriteChunk<'a, T, Split<T>, Shipped>,
    bell: &'a mut Bell,
    connection: &'a Connection,
}

impl<T: Plain> Reservation<'_, T> {
    /// Returns the number of slots.
    pub fn len(&self) -> usize {
        self.chunk.len()
    }

    /// Tells whether no slot was reserved.
    pub fn is_empty(&self) -> bool {
        self.chunk.is_empty()
    }

    /// Returns the slots in order, as slices. They hold zeros or old messages.
    pub fn slices_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        let (first, second) = self.chunk.as_mut_slices();
        [first, second].into_iter().filter(|run| !run.is_empty())
    }

    /// Writes messages from the front until `messages` ends or every slot is
    /// written, and returns how many it wrote.
    pub fn fill(&mut self, messages: impl IntoIterator<Item = T>) -> usize {
        self.chunk.fill(messages)
    }

    /// Transmits the first `count` messages, by one publication.
    ///
    /// # Panics
    ///
    /// When `count` is larger than the number of slots that were written:
    /// [`slices_mut`](Self::slices_mut) counts as writing all of them.
    pub fn commit(self, count: usize) {
        self.chunk.commit(count);
        self.bell.ring(self.connection);
    }

    /// Transmits every message that was written.
    pub fn commit_all(self) {
        self.chunk.commit_all();
        self.bell.ring(self.connection);
    }
}
