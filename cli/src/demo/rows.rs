//! What is measured, in which order and for how long.
//!
//! Each row of the table is measured in short runs, in turn with all the other
//! rows, because the speed of a shared machine changes from second to second. A
//! run is as long as the one before lets expect.

use std::time::Duration;

use memenpsf_benches::exchange::Span;
use memenpsf_benches::latency::{Latency, Percentiles};
use memenpsf_benches::message::{Counts, Format};
use memenpsf_benches::shared;
use memenpsf_benches::stream;
use memenpsf_benches::transport::Waiting;

use super::orders::{Carrier, Done, Kind, Task};

/// How long a row's messages may take in all, and its round trips. Six rows of
/// both make about five seconds.
const STREAM: Duration = Duration::from_millis(400);
const ROUND_TRIPS: Duration = Duration::from_millis(300);
/// How long one run is to take.
const RUN: Duration = Duration::from_millis(100);
/// A shorter run only warms up, and is not part of the figures unless there is no
/// longer one: it takes the children some 0.1 ms to begin.
const SHORTEST: Duration = Duration::from_millis(20);
/// Messages of the first run.
const FIRST: u64 = 64;
/// A run has at most this many times the messages of the one before, which may
/// have been too short to foretell much.
const GROWTH: u64 = 16;

/// Bytes of messages that a call over shared memory takes at most: a sixteenth of
/// the ring, so that both sides work at the same time.
const BATCH: usize = shared::RING / 16;

/// How a transport is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Many messages a call, and a side that waits never sleeps.
    Batched,
    /// One message a call, and a side that waits sleeps.
    Single,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) carrier: Carrier,
    pub(super) manner: Manner,
    /// Most messages a call.
    pub(super) batch: usize,
    stream: Progress,
    round_trips: Progress,
    latency: Latency,
    warm_up: Latency,
}

impl Row {
    fn new(carrier: Carrier, manner: Manner, format: Format, target: Option<u64>) -> Self {
        let is_memory = matches!(carrier, Carrier::AwakeMemory | Carrier::Memory);
        let batch = match manner {
            Manner::Single => 1,
            Manner::Batched if is_memory => BATCH / shared::slot(format),
            Manner::Batched => stream::READ / (format.words() * size_of::<u64>()),
        };
        // Only shared memory has to carry as many messages as were asked for.
        let must = is_memory && target.is_some();
        Self {
            carrier,
            manner,
            batch: batch.max(1),
            stream: Progress::new(target, (!must).then_some(STREAM)),
            round_trips: Progress::new(target, Some(ROUND_TRIPS)),
            latency: Latency::new(),
            warm_up: Latency::new(),
        }
    }

    fn progress(&self, kind: Kind) -> &Progress {
        match kind {
            Kind::Stream => &self.stream,
            Kind::RoundTrips => &self.round_trips,
        }
    }

    /// Returns messages each second, both ways and of all `clients` together.
    pub(super) fn messages_per_second(&self, clients: usize) -> f64 {
        self.stream.per_second() * 2.0 * clients as f64
    }

    /// Returns how many messages each side of a client has sent, but for the round
    /// trips.
    pub(super) fn messages(&self) -> u64 {
        self.stream.count
    }

    /// Returns how many round trips each client has made.
    pub(super) fn round_trips(&self) -> u64 {
        self.round_trips.count
    }

    /// Returns how long round trips took.
    pub(super) fn percentiles(&self) -> Percentiles {
        if self.latency.count() > 0 {
            self.latency.percentiles()
        } else {
            self.warm_up.percentiles()
        }
    }
}

/// How far a row's messages or round trips are.
#[derive(Debug)]
struct Progress {
    /// How many are asked for, if not as many as the time allows.
    target: Option<u64>,
    /// After which time to stop, if not only at the target.
    budget: Option<Duration>,
    /// How many there have been.
    count: u64,
    /// The last run.
    last: Option<Run>,
    /// All runs that were long enough.
    measured: Run,
    /// All runs that were not.
    warm_up: Run,
}

/// How many messages took how long.
#[derive(Debug, Default, Clone, Copy)]
struct Run {
    count: u64,
    nanoseconds: u64,
}

impl Progress {
    fn new(target: Option<u64>, budget: Option<Duration>) -> Self {
        Self {
            target,
            budget,
            count: 0,
            last: None,
            measured: Run::default(),
            warm_up: Run::default(),
        }
    }

    /// Returns how many messages the next run has; 0 at the end.
    fn next(&self) -> u64 {
        if self.permille() >= 1000 {
            return 0;
        }
        let count = self.last.map_or(FIRST, |last| {
            let scaled =
                u128::from(last.count) * RUN.as_nanos() / u128::from(last.nanoseconds.max(1));
            u64::try_from(scaled)
                .unwrap_or(u64::MAX)
                .clamp(1, last.count.saturating_mul(GROWTH))
        });
        let left = self.target.map_or(u64::MAX, |target| target - self.count);
        count.min(left)
    }

    /// Adds a run; `true` if it was long enough for the figures.
    fn record(&mut self, run: Run) -> bool {
        self.count += run.count;
        self.last = Some(run);
        let is_long = u128::from(run.nanoseconds) >= SHORTEST.as_nanos();
        let sum = if is_long {
            &mut self.measured
        } else {
            &mut self.warm_up
        };
        sum.count += run.count;
        sum.nanoseconds += run.nanoseconds;
        is_long
    }

    /// Returns how much is done, in thousandths.
    fn permille(&self) -> u64 {
        let by_count = self.target.map_or(0, |target| {
            u128::from(self.count) * 1000 / u128::from(target.max(1))
        });
        let by_time = self.budget.map_or(0, |budget| {
            u128::from(self.measured.nanoseconds) * 1000 / budget.as_nanos().max(1)
        });
        u64::try_from(by_count.max(by_time))
            .unwrap_or(1000)
            .min(1000)
    }

    fn per_second(&self) -> f64 {
        let run = if self.measured.count > 0 {
            self.measured
        } else {
            self.warm_up
        };
        run.count as f64 * 1e9 / run.nanoseconds.max(1) as f64
    }
}

/// All that is to be measured, and what has been.
#[derive(Debug)]
pub(super) struct Plan {
    rows: Vec<Row>,
    /// Where to look for the next run.
    turn: usize,
    /// What all processes have found out about their messages.
    counts: Counts,
}

impl Plan {
    /// Plans all rows; `target` is the number of messages that were asked for.
    pub(super) fn new(format: Format, target: Option<u64>) -> Self {
        let rows = [
            (Carrier::AwakeMemory, Manner::Batched),
            (Carrier::Pipe, Manner::Batched),
            (Carrier::UnixSocket, Manner::Batched),
            (Carrier::Memory, Manner::Single),
            (Carrier::Pipe, Manner::Single),
            (Carrier::UnixSocket, Manner::Single),
        ];
        let row = |(carrier, manner)| Row::new(carrier, manner, format, target);
        Self {
            rows: rows.into_iter().map(row).collect(),
            turn: 0,
            counts: Counts::default(),
        }
    }

    /// Returns the next run; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Task> {
        let turns = self.rows.len() * 2;
        for _ in 0..turns {
            let turn = self.turn % turns;
            self.turn += 1;
            let row = turn / 2;
            let kind = [Kind::Stream, Kind::RoundTrips][turn % 2];
            let Row {
                carrier,
                manner,
                batch,
                ..
            } = self.rows[row];
            let count = self.rows[row].progress(kind).next();
            if count > 0 {
                return Some(Task {
                    row,
                    carrier,
                    kind,
                    count,
                    batch,
                    waiting: match (manner, kind) {
                        (Manner::Batched, _) => Waiting::Spin,
                        (Manner::Single, Kind::Stream) => Waiting::Poll,
                        (Manner::Single, Kind::RoundTrips) => Waiting::Block,
                    },
                });
            }
        }
        None
    }

    /// Takes up what every process says of a run.
    pub(super) fn record(&mut self, task: &Task, done: &[Done]) {
        self.record_counts(done);
        let spans = done.iter().filter_map(|done| done.span);
        let span = spans.reduce(Span::union);
        let run = Run {
            count: task.count,
            nanoseconds: span.map_or(0, Span::nanoseconds),
        };
        let row = &mut self.rows[task.row];
        match task.kind {
            Kind::Stream => {
                row.stream.record(run);
            }
            Kind::RoundTrips => {
                let is_long = row.round_trips.record(run);
                let latency = if is_long {
                    &mut row.latency
                } else {
                    &mut row.warm_up
                };
                for done in done {
                    latency.merge(&done.latency.iter().copied().collect());
                }
            }
        }
    }

    /// Takes up what every process has found out about all its messages so far.
    pub(super) fn record_counts(&mut self, done: &[Done]) {
        self.counts = Counts::default();
        for done in done {
            self.counts += done.counts;
        }
    }

    /// Returns what has been found out about all messages.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns how much is done, in thousandths.
    pub(super) fn permille(&self) -> u64 {
        let parts = self.rows.iter();
        let parts = parts.flat_map(|row| [row.stream.permille(), row.round_trips.permille()]);
        parts.sum::<u64>() / (self.rows.len() as u64 * 2)
    }

    /// Returns the rows in the order of the table.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }
}
