//! Transmitting plain data.

use std::time::Duration;

use memenpsf_ring::{ChunkError, Plain, PushError};

use super::Transmitter;
use crate::connection::Connection;
use crate::error::{TransmitError, Violation, XmitError};
use crate::message::{Chunk, Outbound};
use crate::wait::Bell;

impl<T: Plain> Transmitter<T> {
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
        if let Some(ended) = self.ended() {
            return Err(XmitError::ended(message, ended));
        }
        match self.producer.push(message) {
            Ok(()) => {
                self.published();
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
        message: T,
        timeout: Option<Duration>,
    ) -> Result<(), XmitError<T>> {
        let attempt = |this: &mut Self| match this.xmit(message) {
            Err(XmitError::Full(_)) => None,
            result => Some(result),
        };
        match self.insist(timeout, attempt) {
            Ok(result) => result,
            Err(Some(ended)) => Err(XmitError::ended(message, ended)),
            Err(None) => Err(XmitError::Full(message)),
        }
    }

    /// Transmits as many messages from the front of `messages` as there is room
    /// for, and returns how many they were.
    ///
    /// An [index ring](crate::options::Ring::Index) publishes them by one store, a
    /// [packed ring](crate::options::Ring::Packed) by one for each cache line, in
    /// order: so the peer may see the first ones while the others are written. It is
    /// woken once.
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
        if let Some(ended) = self.ended() {
            return Err(ended.into());
        }
        match self.producer.push_slice(messages) {
            Ok(0) if !messages.is_empty() => {
                self.found_full().map_or(Ok(0), |ended| Err(ended.into()))
            }
            Ok(pushed) => {
                self.published();
                Ok(pushed)
            }
            Err(violation) => Err(self.violated(violation).into()),
        }
    }

    /// Reserves `wanted` slots, to be filled in place and transmitted by one call.
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
        if let Some(violation) = self.producer.violation() {
            return Err(self.violated(violation).into());
        }
        if available < wanted {
            return Err(match self.found_full() {
                Some(ended) => ended.into(),
                None => TransmitError::TooFew { wanted, available },
            });
        }
        if let Some(ended) = self.ended() {
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

    /// Returns how many messages there is room for now.
    pub fn slots(&mut self) -> usize {
        self.producer.slots()
    }

    /// Handles a push that failed.
    #[cold]
    fn not_pushed(&mut self, error: PushError<T>) -> Result<(), XmitError<T>> {
        match error {
            PushError::Full(message) => Err(match self.found_full() {
                Some(ended) => XmitError::ended(message, ended),
                None => XmitError::Full(message),
            }),
            PushError::Violation(message, violation) => {
                Err(XmitError::ended(message, self.violated(violation)))
            }
        }
    }
}

/// Slots to fill in place, from [`Transmitter::reserve`]. Dropped, it transmits
/// nothing.
#[derive(Debug)]
#[must_use = "a reservation that is dropped transmits nothing"]
pub struct Reservation<'a, T: Plain> {
    chunk: Chunk<'a, T>,
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
        self.len() == 0
    }

    /// Returns the slots in order, as slices. They hold zeros or old messages.
    ///
    /// In an [index ring](crate::options::Ring::Index) they are one or two, in a
    /// [packed ring](crate::options::Ring::Packed) one for each cache line.
    pub fn slices_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.chunk.slices_mut()
    }

    /// Writes messages from the front until `messages` ends or every slot is
    /// written, and returns how many it wrote.
    pub fn fill(&mut self, messages: impl IntoIterator<Item = T>) -> usize {
        self.chunk.fill(messages)
    }

    /// Transmits the first `count` messages, published as by
    /// [`Transmitter::xmit_vectored`].
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
