//! The exchange itself: the same code for every transport.
//!
//! Throughput and round trips are measured apart. Composing and checking a
//! message belong to a stream of messages, and are the same work for every
//! transport; they are kept out of a round trip.

use std::fmt;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::latency::{Laps, Latency};
use crate::message::{Checker, Composer, Counts, Format};
use crate::spin::GIVE_UP;
use crate::transport::{Transport, TransportError, Waiting};

/// How often a side that waits looks at the clock, in waits.
const LOOK: u32 = 256;

/// From when to when something ran, in nanoseconds of the system's monotonic
/// clock, which all processes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// When it began.
    pub start: u64,
    /// When the last message was there.
    pub end: u64,
}

impl Span {
    /// Returns the span from the first start to the last end.
    ///
    /// ```
    /// use memenpsf_benches::exchange::Span;
    ///
    /// let both = Span { start: 2, end: 9 }.union(Span { start: 1, end: 8 });
    /// assert_eq!((both.start, both.end, both.nanoseconds()), (1, 9, 8));
    /// ```
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// Returns its length.
    pub fn nanoseconds(self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// Reads the monotonic clock, in nanoseconds.
fn now() -> u64 {
    // It fails only for a clock that does not exist.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let time = Duration::from(time);
        time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
    })
}

/// One side of an exchange, whatever the transport.
pub trait Endpoint: Send + fmt::Debug {
    /// Sends `send` messages and receives `expect` at the same time, `batch`
    /// messages a call.
    ///
    /// Messages that do not come are counted as lost after [`GIVE_UP`], which
    /// takes longer while a side sleeps.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    fn stream(&mut self, send: u64, expect: u64, batch: usize) -> Result<Span, TransportError>;

    /// Sends `count` messages, each after the answer to the one before, and
    /// records how long each answer took.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    fn ping(&mut self, count: u64, latency: &mut Latency) -> Result<Span, TransportError>;

    /// The same, with the clock read once in many round trips only.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    fn pace(&mut self, count: u64, laps: &mut Laps) -> Result<Span, TransportError>;

    /// Answers `count` messages, each at once.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    fn echo(&mut self, count: u64) -> Result<Span, TransportError>;

    /// Checks whatever else has arrived, although nothing should have. It does not
    /// wait, and leaves [`Waiting::Spin`] behind.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    fn drain(&mut self) -> Result<(), TransportError>;

    /// Chooses how to wait.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    fn set_waiting(&mut self, waiting: Waiting) -> Result<(), TransportError>;

    /// Returns what has been found out about the messages that arrived.
    fn counts(&self) -> Counts;

    /// Returns how many system calls were made; see [`Transport::calls`].
    fn calls(&self) -> u64;
}

/// One side of an exchange over the transport `T`.
pub struct Side<T> {
    transport: T,
    composer: Composer,
    checker: Checker,
    outbox: Vec<u64>,
}

impl<T: Transport> Side<T> {
    /// Makes a side that sends and receives messages of `format`.
    pub fn new(transport: T, format: Format) -> Self {
        Self {
            transport,
            composer: Composer::new(format),
            checker: Checker::new(format),
            outbox: Vec::new(),
        }
    }

    /// Composes `count` messages into the outbox.
    #[inline]
    fn compose(&mut self, count: usize) {
        let stride = self.transport.stride();
        self.outbox.resize(count * stride, 0);
        for message in self.outbox.chunks_exact_mut(stride) {
            self.composer.compose(message);
        }
    }

    /// Checks what was just received.
    #[inline]
    fn check(&mut self) {
        for message in self
            .transport
            .received()
            .chunks_exact(self.transport.stride())
        {
            self.checker.check(message);
        }
    }

    /// Sends the one message in the outbox. `false` if that took too long.
    #[inline]
    fn send_one(&mut self) -> Result<bool, TransportError> {
        let mut patience = Patience::new();
        while self.transport.send(&self.outbox)? == 0 {
            self.transport.idle(true)?;
            if patience.is_over() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Receives one message. `false` if that took too long.
    #[inline]
    fn receive_one(&mut self) -> Result<bool, TransportError> {
        let mut patience = Patience::new();
        while self.transport.receive(1)? == 0 {
            self.transport.idle(false)?;
            if patience.is_over() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl<T: Transport> Side<T> {
    /// Makes `count` round trips, each by way of `timed`, which is told whether it
    /// was answered.
    #[inline]
    fn trips(
        &mut self,
        count: u64,
        mut timed: impl FnMut(
            &mut dyn FnMut() -> Result<bool, TransportError>,
        ) -> Result<bool, TransportError>,
    ) -> Result<Span, TransportError> {
        let start = now();
        let end = self.checker.next() + count;
        for _ in 0..count {
            self.compose(1);
            if !timed(&mut || Ok(self.send_one()? && self.receive_one()?))? {
                break;
            }
            self.check();
        }
        self.checker.settle(end);
        Ok(Span { start, end: now() })
    }
}

impl<T: Transport> Endpoint for Side<T> {
    fn stream(&mut self, send: u64, expect: u64, batch: usize) -> Result<Span, TransportError> {
        let start = now();
        let stride = self.transport.stride();
        let end = self.checker.next() + expect;
        let mut unsent = send;
        self.outbox.clear();
        let mut taken = 0;
        let mut patience = Patience::new();
        loop {
            let mut stuck = true;
            if unsent > 0 {
                if taken == self.outbox.len() {
                    self.compose(at_most(batch, unsent));
                    taken = 0;
                }
                let sent = self.transport.send(&self.outbox[taken..])?;
                taken += sent * stride;
                unsent -= sent as u64;
                stuck &= sent == 0;
            }
            // No more than is awaited: what follows belongs to the next run.
            let awaited = end.saturating_sub(self.checker.next());
            if awaited > 0 && self.transport.receive(at_most(batch, awaited))? > 0 {
                self.check();
                stuck = false;
            }
            let complete = self.checker.next() >= end;
            if unsent == 0 && complete {
                break;
            }
            if !stuck {
                patience = Patience::new();
            } else if patience.is_over() {
                break;
            } else {
                self.transport.idle(unsent > 0)?;
            }
        }
        let span = Span { start, end: now() };
        self.checker.settle(end);
        Ok(span)
    }

    fn ping(&mut self, count: u64, latency: &mut Latency) -> Result<Span, TransportError> {
        self.trips(count, |trip| {
            let sent = Instant::now();
            let answered = trip()?;
            let elapsed = sent.elapsed();
            if answered {
                latency.record(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
            }
            Ok(answered)
        })
    }

    fn pace(&mut self, count: u64, laps: &mut Laps) -> Result<Span, TransportError> {
        laps.begin();
        self.trips(count, |trip| {
            let answered = trip()?;
            laps.turn();
            Ok(answered)
        })
    }

    fn echo(&mut self, count: u64) -> Result<Span, TransportError> {
        let start = now();
        let end = self.checker.next() + count;
        for _ in 0..count {
            self.compose(1);
            let answered = self.receive_one()? && self.send_one()?;
            if !answered {
                break;
            }
            self.check();
        }
        self.checker.settle(end);
        Ok(Span { start, end: now() })
    }

    fn drain(&mut self) -> Result<(), TransportError> {
        // Nothing is awaited, so nothing may be waited for.
        self.transport.set_waiting(Waiting::Spin)?;
        while self.transport.receive(usize::MAX)? > 0 {
            self.check();
        }
        Ok(())
    }

    fn set_waiting(&mut self, waiting: Waiting) -> Result<(), TransportError> {
        self.transport.set_waiting(waiting)
    }

    fn counts(&self) -> Counts {
        self.checker.counts()
    }

    fn calls(&self) -> u64 {
        self.transport.calls()
    }
}

impl<T> fmt::Debug for Side<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side")
            .field("composer", &self.composer)
            .field("checker", &self.checker)
            .finish_non_exhaustive()
    }
}

/// Returns the size of the next batch when `left` messages are left.
#[inline]
fn at_most(batch: usize, left: u64) -> usize {
    usize::try_from(left).map_or(batch, |left| left.min(batch))
}

/// Tells when to stop waiting. It looks at the clock rarely.
struct Patience {
    waits: u32,
    since: Option<Instant>,
}

impl Patience {
    #[inline]
    fn new() -> Self {
        Self {
            waits: 0,
            since: None,
        }
    }

    #[inline]
    fn is_over(&mut self) -> bool {
        self.waits += 1;
        self.waits.is_multiple_of(LOOK) && self.look()
    }

    #[cold]
    fn look(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now).elapsed() > GIVE_UP
    }
}
