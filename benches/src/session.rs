//! One thing that is measured between two sides, whatever it is: a limit, a
//! transport or a ring. Each side opens its half from descriptors and then runs
//! the same tasks at the same time.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use memenpsf::Role;
use memenpsf_ring::memory::Split;
use memenpsf_ring::{index, packed};
use serde::{Deserialize, Serialize};

use crate::exchange::Endpoint;
use crate::kind::Kind;
use crate::latency::{Laps, Latency};
use crate::limits::{Ground, Limit, Player};
use crate::mapped::{self, Blocks, Mapped};
use crate::message::Format;
use crate::spin::insist;
use crate::transport::{TransportError, Waiting};
use crate::usage::Usage;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// Any of the limits.
    Limits,
    /// Messages of so many bytes.
    Transport {
        /// What carries them.
        kind: Kind,
        /// Their length.
        length: usize,
        /// How a side waits.
        waiting: Waiting,
    },
    /// Two rings of numbers, one each way.
    Ring {
        /// Which of our rings.
        ring: Ring,
        /// Capacity of each.
        capacity: usize,
    },
}

/// A ring between two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ring {
    /// [`index`].
    Index,
    /// [`packed`].
    Packed,
}

/// What both sides do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// So many turns of a limit.
    Play(Limit, u64),
    /// So many messages from the second side to the first, `batch` a call.
    Stream {
        /// How many.
        count: u64,
        /// How many a call.
        batch: usize,
    },
    /// So many round trips: each timed by itself in the first half, and by the
    /// hundred in the second.
    RoundTrips(u64),
}

/// What came of a task at one side.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// How long it took, in nanoseconds.
    pub nanoseconds: u64,
    /// What it cost.
    pub usage: Usage,
    /// Nanoseconds of a turn or a round trip without a clock in it, as the median of
    /// [`Laps`]; only at the first side, and of as many as fill one.
    pub turn: Option<f64>,
    /// Round trips in nanoseconds, and how often each occurred; only at the first
    /// side, and not for limits.
    pub latency: Vec<(u64, u64)>,
    /// Messages that were lost, doubled, out of order or corrupt so far.
    pub flaws: u64,
}

/// One side of what is measured.
#[derive(Debug)]
pub struct Session {
    player: Player,
    half: Half,
}

#[derive(Debug)]
enum Half {
    Limits(Box<Ground>),
    Transport(Box<dyn Endpoint>),
    Index(
        Mapped<index::Producer<u64, Split<u64>>>,
        Mapped<index::Consumer<u64, Split<u64>>>,
    ),
    Packed(
        Mapped<packed::Producer<u64, Split<u64>>>,
        Mapped<packed::Consumer<u64, Split<u64>>>,
    ),
}

impl Subject {
    /// Makes the descriptors of both sides, the first side's first.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn ends(self) -> io::Result<[Vec<OwnedFd>; 2]> {
        let both = |fds: &[OwnedFd]| {
            let copy = |fd: &OwnedFd| fd.try_clone();
            Ok([
                fds.iter().map(copy).collect::<io::Result<_>>()?,
                fds.iter().map(copy).collect::<io::Result<_>>()?,
            ])
        };
        match self {
            Self::Limits => both(&[Ground::new()?.as_fd().try_clone_to_owned()?]),
            Self::Transport { kind, .. } => Ok(kind.ends()?.map(Vec::from)),
            Self::Ring { ring, capacity } => {
                let blocks = || match ring {
                    Ring::Index => mapped::index_blocks::<u64>(capacity),
                    Ring::Packed => mapped::packed_blocks::<u64>(capacity),
                };
                let [there, back] = [blocks()?, blocks()?];
                let fds = [there.fds(), back.fds()].into_iter().flatten();
                both(
                    &fds.map(OwnedFd::try_clone)
                        .collect::<io::Result<Vec<_>>>()?,
                )
            }
        }
    }

    /// Returns how many descriptors a side gets.
    pub fn descriptors(self) -> usize {
        match self {
            Self::Limits => 1,
            Self::Transport { .. } => 2,
            Self::Ring { .. } => 4,
        }
    }
}

impl Session {
    /// Opens a side. The other one is to do so at the same time.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    pub fn open(
        subject: Subject,
        player: Player,
        fds: Vec<OwnedFd>,
    ) -> Result<Self, TransportError> {
        let open = |error| TransportError::io("cannot open what is measured", error);
        let wrong = || open(io::ErrorKind::InvalidInput.into());
        let half = match subject {
            Subject::Limits => {
                let [fd] = <[_; 1]>::try_from(fds).map_err(|_| wrong())?;
                Half::Limits(Box::new(Ground::from_fd(fd).map_err(open)?))
            }
            Subject::Transport {
                kind,
                length,
                waiting,
            } => {
                let end = <[_; 2]>::try_from(fds).map_err(|_| wrong())?;
                let format = Format::new(length).ok_or_else(wrong)?;
                let role = match player {
                    Player::First => Role::Client,
                    Player::Second => Role::Server,
                };
                Half::Transport(kind.side(end, role, format, waiting)?)
            }
            Subject::Ring { ring, capacity } => {
                let [a, b, c, d] = <[_; 4]>::try_from(fds).map_err(|_| wrong())?;
                let [there, back] = [[a, b], [c, d]].map(Blocks::from_fds);
                let [out, into] = match player {
                    Player::First => [&there, &back],
                    Player::Second => [&back, &there],
                };
                match ring {
                    Ring::Index => Half::Index(
                        mapped::index_producer(out, capacity).map_err(open)?,
                        mapped::index_consumer(into, capacity).map_err(open)?,
                    ),
                    Ring::Packed => Half::Packed(
                        mapped::packed_producer(out, capacity).map_err(open)?,
                        mapped::packed_consumer(into, capacity).map_err(open)?,
                    ),
                }
            }
        };
        Ok(Self { player, half })
    }

    /// Does a task together with the other side.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    pub fn run(&mut self, task: Task) -> Result<Outcome, TransportError> {
        let measure = |error| TransportError::io("cannot measure", error);
        let before = Usage::of_this_thread().map_err(measure)?;
        let began = Instant::now();
        let mut outcome = match &mut self.half {
            Half::Limits(ground) => match task {
                Task::Play(limit, count) => {
                    let mut laps = Laps::new();
                    let elapsed = ground.play(limit, self.player, count, &mut laps);
                    Outcome {
                        nanoseconds: nanoseconds(elapsed.map_err(measure)?),
                        turn: laps.median(),
                        ..Outcome::default()
                    }
                }
                _ => return Err(measure(io::ErrorKind::InvalidInput.into())),
            },
            Half::Transport(side) => exchange(side.as_mut(), self.player, task)?,
            Half::Index(producer, consumer) => {
                let (producer, consumer) = (producer.get(), consumer.get());
                cross(self.player, task, producer, consumer).map_err(measure)?
            }
            Half::Packed(producer, consumer) => {
                let (producer, consumer) = (producer.get(), consumer.get());
                cross(self.player, task, producer, consumer).map_err(measure)?
            }
        };
        if outcome.nanoseconds == 0 {
            outcome.nanoseconds = nanoseconds(began.elapsed());
        }
        let calls = outcome.usage.calls;
        outcome.usage = Usage::of_this_thread().map_err(measure)? - before;
        outcome.usage.calls = calls;
        Ok(outcome)
    }
}

fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Does a task over a transport.
fn exchange(
    side: &mut dyn Endpoint,
    player: Player,
    task: Task,
) -> Result<Outcome, TransportError> {
    let mut outcome = Outcome::default();
    let calls = side.calls();
    let (mut latency, mut laps) = (Latency::new(), Laps::new());
    let span = match (task, player) {
        (Task::Stream { count, batch }, Player::First) => side.stream(0, count, batch)?,
        (Task::Stream { count, batch }, Player::Second) => side.stream(count, 0, batch)?,
        (Task::RoundTrips(count), Player::First) => {
            let paced = count / 2;
            let first = side.ping(count - paced, &mut latency)?;
            first.union(side.pace(paced, &mut laps)?)
        }
        (Task::RoundTrips(count), Player::Second) => side.echo(count)?,
        (Task::Play(..), _) => {
            let error = io::ErrorKind::InvalidInput.into();
            return Err(TransportError::io("cannot measure", error));
        }
    };
    outcome.nanoseconds = span.nanoseconds();
    outcome.turn = laps.median();
    outcome.latency = latency.entries().collect();
    outcome.usage.calls = side.calls() - calls;
    let counts = side.counts();
    outcome.flaws = counts.lost + counts.duplicated + counts.out_of_order + counts.corrupt;
    Ok(outcome)
}

/// A producer of numbers.
trait Push {
    fn one(&mut self, number: u64) -> bool;
    fn slice(&mut self, numbers: &[u64]) -> usize;
}

/// A consumer of numbers.
trait Pop {
    fn one(&mut self) -> Option<u64>;
    fn slice(&mut self, numbers: &mut [u64]) -> usize;
}

macro_rules! handles {
    ($($ring:ident)*) => {$(
        impl Push for $ring::Producer<u64, Split<u64>> {
            #[inline]
            fn one(&mut self, number: u64) -> bool {
                self.push(number).is_ok()
            }

            #[inline]
            fn slice(&mut self, numbers: &[u64]) -> usize {
                self.push_slice(numbers).unwrap_or(0)
            }
        }

        impl Pop for $ring::Consumer<u64, Split<u64>> {
            #[inline]
            fn one(&mut self) -> Option<u64> {
                self.pop().ok()
            }

            #[inline]
            fn slice(&mut self, numbers: &mut [u64]) -> usize {
                self.pop_slice(numbers).unwrap_or(0)
            }
        }
    )*};
}

handles! { index packed }

/// Does a task over a pair of rings.
fn cross(
    player: Player,
    task: Task,
    producer: &mut impl Push,
    consumer: &mut impl Pop,
) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let (mut latency, mut laps) = (Latency::new(), Laps::new());
    match (task, player) {
        (Task::Stream { count, batch: 1 }, Player::First) => {
            for expected in 0..count {
                let number = insist(|| consumer.one())?;
                outcome.flaws += u64::from(number != expected);
            }
        }
        (Task::Stream { count, batch: 1 }, Player::Second) => {
            for number in 0..count {
                insist(|| producer.one(number).then_some(()))?;
            }
        }
        (Task::Stream { count, batch }, Player::First) => {
            let mut slice = vec![0; batch];
            let mut expected = 0;
            while expected < count {
                let popped = insist(|| Some(consumer.slice(&mut slice)).filter(|&n| n > 0))?;
                for &number in &slice[..popped] {
                    outcome.flaws += u64::from(number != expected);
                    expected += 1;
                }
            }
        }
        (Task::Stream { count, batch }, Player::Second) => {
            let mut slice = vec![0; batch];
            let mut next = 0;
            while next < count {
                for (number, slot) in (next..).zip(&mut slice) {
                    *slot = number;
                }
                let length = usize::try_from(count - next).map_or(batch, |left| left.min(batch));
                let mut rest = &slice[..length];
                next += length as u64;
                while !rest.is_empty() {
                    let pushed = insist(|| Some(producer.slice(rest)).filter(|&n| n > 0))?;
                    rest = &rest[pushed..];
                }
            }
        }
        (Task::RoundTrips(count), Player::First) => {
            let mut trip = |number| {
                insist(|| producer.one(number).then_some(()))?;
                let answer = insist(|| consumer.one())?;
                outcome.flaws += u64::from(answer != number);
                Ok::<_, io::Error>(())
            };
            let timed = count - count / 2;
            for number in 0..timed {
                let sent = Instant::now();
                trip(number)?;
                latency.record(nanoseconds(sent.elapsed()));
            }
            laps.begin();
            for number in timed..count {
                trip(number)?;
                laps.turn();
            }
            outcome.turn = laps.median();
        }
        (Task::RoundTrips(count), Player::Second) => {
            for _ in 0..count {
                let number = insist(|| consumer.one())?;
                insist(|| producer.one(number).then_some(()))?;
            }
        }
        (Task::Play(..), _) => return Err(io::ErrorKind::InvalidInput.into()),
    }
    outcome.latency = latency.entries().collect();
    Ok(outcome)
}
