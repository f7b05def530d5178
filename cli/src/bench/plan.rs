//! What is measured, in which order, and which samples count.
//!
//! Rows take turns, in an order that rotates from round to round. A sample is as
//! long as the one before lets expect; one that came out too short only teaches how
//! long the next is to be. Between two samples lies a raw ping-pong on one cache
//! line: where the two around a sample differ by more than [`STEADY`], the distance
//! of the cores changed, and the sample is dropped.
//!
//! Like is compared with like. A round trip and a turn of the ping-pong are both
//! timed by the hundred, and the median of a sample's hundreds counts: reading the
//! clock in each would add half of what is measured. Two sides that sleep are
//! compared with the futex of the same round; if they share a core, the distance of
//! two cores says nothing about them, and no sample is dropped for it. Samples are
//! compared only if both had their sides asleep, but for a few messages: a futex that
//! finds its word changed already is 50 times as fast.

use memenpsf_benches::kind::Kind;
use memenpsf_benches::latency::Latency;
use memenpsf_benches::limits::{BUFFER, Blocks, Limit};
use memenpsf_benches::placement::Placement;
use memenpsf_benches::session::{Outcome, Ring, Subject, Task};
use memenpsf_benches::transport::Waiting;
use memenpsf_benches::usage::Usage;

use super::Failure;
use super::partner::Partner;
use super::report::{Group, Report, Row, Spread};

/// Turns of a ping-pong around a sample: some tenths of a millisecond.
const BRACKET: u64 = 2000;
/// Largest ratio of the two ping-pongs around a sample that counts.
const STEADY: f64 = 1.3;
/// Least part of the messages before which a side that is to sleep has slept.
const ASLEEP: f64 = 0.9;
/// Bytes of messages a call, where a call takes many.
const BATCH: usize = 16 * 1024;
/// Numbers a call, where numbers cross a ring.
const SLICES: [usize; 3] = [1, 64, 1024];
/// Messages or turns of the first sample.
const FIRST: u64 = 16;
/// A sample has at most so many times the messages of the one before.
const GROWTH: u64 = 64;

const SIZES: [usize; 7] = [8, 64, 256, 1024, 4096, 16_384, 65_536];
const QUICK_SIZES: [usize; 4] = [8, 64, 4096, 65_536];

/// How much is measured.
#[derive(Debug)]
struct Extent {
    sizes: &'static [usize],
    rounds: u64,
    /// Length of a sample in nanoseconds.
    sample: u64,
}

const FULL: Extent = Extent {
    sizes: &SIZES,
    rounds: 11,
    sample: 50_000_000,
};

const QUICK: Extent = Extent {
    sizes: &QUICK_SIZES,
    rounds: 5,
    sample: 20_000_000,
};

const SMOKE: Extent = Extent {
    sizes: &[8, 65_536],
    rounds: 1,
    sample: 100_000,
};

/// Rounds before the first that counts: they find out how long samples are.
const WARM_UP: u64 = 3;

/// What is done again and again.
#[derive(Debug, Clone, Copy)]
enum Work {
    Play(Limit),
    RoundTrips,
    Stream,
}

/// What a row measures, and its samples.
#[derive(Debug)]
struct Course {
    subject: Subject,
    group: Group,
    name: String,
    /// Bytes of a message; 0 where only time counts.
    size: usize,
    /// How many messages a call.
    batch: usize,
    /// Whether both processes are to share one core.
    shares_core: bool,
    work: Work,
    session: usize,
    count: u64,
    values: Vec<f64>,
    ratios: Vec<f64>,
    /// What each round found in which both sides slept, to compare those that sleep.
    rounds: Vec<Option<f64>>,
    dropped: u64,
    latency: Latency,
    usage: Usage,
    messages: u64,
}

/// All that is to be measured, and what has been.
#[derive(Debug)]
pub(super) struct Plan {
    quick: bool,
    extent: Extent,
    courses: Vec<Course>,
    /// The session of the ping-pong between samples.
    limits: usize,
    /// Nanoseconds of a round trip of the last one.
    bracket: f64,
    brackets: Vec<f64>,
    turn: u64,
}

impl Course {
    fn new(group: Group, subject: Subject, name: impl Into<String>, work: Work) -> Self {
        Self {
            subject,
            group,
            name: name.into(),
            size: 0,
            batch: 1,
            shares_core: false,
            work,
            session: 0,
            count: FIRST,
            values: Vec::new(),
            ratios: Vec::new(),
            rounds: Vec::new(),
            dropped: 0,
            latency: Latency::new(),
            usage: Usage::default(),
            messages: 0,
        }
    }

    /// Returns the next sample.
    fn task(&self) -> Task {
        let (count, batch) = (self.count, self.batch);
        match self.work {
            Work::Play(limit) => Task::Play(limit, count),
            Work::RoundTrips => Task::RoundTrips(count),
            Work::Stream => Task::Stream { count, batch },
        }
    }
}

impl Plan {
    /// Plans all rows.
    pub(super) fn new(quick: bool, smoke: bool) -> Self {
        let extent = match (smoke, quick) {
            (true, _) => SMOKE,
            (false, true) => QUICK,
            (false, false) => FULL,
        };
        let mut courses = limits();
        for &size in extent.sizes {
            for waiting in [Waiting::Spin, Waiting::Poll] {
                courses.extend(Kind::STREAMS.map(|kind| messages(kind, size, waiting)));
            }
        }
        for &size in extent.sizes {
            for kind in Kind::STREAMS {
                courses.push(trips(Group::RoundTrips, kind, size, Waiting::Spin));
            }
        }
        for shares_core in [false, true] {
            courses.extend(asleep(shares_core));
        }
        courses.extend(rings());
        Self {
            quick: quick || smoke,
            extent,
            courses,
            limits: 0,
            bracket: 0.0,
            brackets: Vec::new(),
            turn: 0,
        }
    }

    /// Opens all sessions.
    pub(super) fn open(&mut self, partner: &mut Partner) -> Result<(), Failure> {
        self.limits = partner.open(Subject::Limits)?;
        let mut opened: Vec<(Subject, usize)> = vec![(Subject::Limits, self.limits)];
        for course in &mut self.courses {
            let known = opened
                .iter()
                .find(|(subject, _)| *subject == course.subject);
            course.session = match known {
                Some(&(_, session)) => session,
                None => partner.open(course.subject)?,
            };
            opened.push((course.subject, course.session));
        }
        self.bracket = self.ping_pong(partner)?;
        Ok(())
    }

    /// Measures one sample, and returns what comes next; `None` at the end.
    pub(super) fn step(&mut self, partner: &mut Partner) -> Result<Option<String>, Failure> {
        let courses = self.courses.len() as u64;
        let (round, place) = (self.turn / courses, self.turn % courses);
        if round == WARM_UP + self.extent.rounds {
            return Ok(None);
        }
        self.turn += 1;
        // It rotates, so that no row always follows the same one.
        let index = usize::try_from((place + round) % courses).unwrap_or(0);
        let course = &self.courses[index];
        let task = course.task();
        let (session, shared) = (course.session, course.shares_core);
        if shared {
            partner.share_core(true)?;
        }
        let done = partner.run(session, task);
        if shared {
            partner.share_core(false)?;
        }
        let done = done?;
        let flaws = done[0].flaws + done[1].flaws;
        if flaws > 0 {
            return Err(Failure::Flaws(flaws));
        }
        let before = self.bracket;
        self.bracket = self.ping_pong(partner)?;
        let brackets = [before, self.bracket];
        let counts = round >= WARM_UP;
        if counts {
            self.brackets.push(self.bracket);
        }
        self.courses[index].take(done, brackets, counts, self.extent.sample);
        Ok(Some(self.courses[index].name.clone()))
    }

    /// Returns how much is done, in thousandths.
    pub(super) fn permille(&self) -> u64 {
        let all = self.courses.len() as u64 * (WARM_UP + self.extent.rounds);
        self.turn * 1000 / all.max(1)
    }

    fn ping_pong(&self, partner: &mut Partner) -> Result<f64, Failure> {
        let [done, _] = partner.run(self.limits, Task::Play(Limit::OneLine, BRACKET))?;
        let whole = done.nanoseconds as f64 / BRACKET as f64;
        Ok(done.turn.unwrap_or(whole))
    }

    /// Compares those that sleep with the futex, round by round.
    fn compare_sleepers(&mut self) {
        for shares_core in [false, true] {
            let sleepers = |course: &Course| {
                course.group == Group::Asleep && course.shares_core == shares_core
            };
            let futex = self
                .courses
                .iter()
                .find(|course| sleepers(course) && course.subject == Subject::Limits);
            let futex = futex.map_or_else(Vec::new, |course| course.rounds.clone());
            for course in self.courses.iter_mut().filter(|course| sleepers(course)) {
                let both = course.rounds.iter().zip(&futex);
                course.ratios = both
                    .filter_map(|(own, futex)| Some((*own)? / (*futex)?))
                    .collect();
            }
        }
    }

    /// Returns what was found out.
    pub(super) fn report(mut self, placement: Placement) -> Report {
        self.compare_sleepers();
        let rows = self.courses.into_iter().map(Course::finish);
        Report::new(
            self.quick,
            placement,
            Spread::of(self.brackets),
            rows.collect(),
        )
    }
}

impl Course {
    /// Takes up a sample.
    fn take(&mut self, done: [Outcome; 2], brackets: [f64; 2], counts: bool, sample: u64) {
        let [ours, theirs] = done;
        let (count, nanoseconds) = (self.count, ours.nanoseconds.max(1));
        let scaled = u128::from(count) * u128::from(sample) / u128::from(nanoseconds);
        self.count = u64::try_from(scaled)
            .unwrap_or(u64::MAX)
            .clamp(1, count.saturating_mul(GROWTH));
        if !counts {
            return;
        }
        let [low, high] = [brackets[0].min(brackets[1]), brackets[0].max(brackets[1])];
        if high > low * STEADY && !self.shares_core {
            self.dropped += 1;
            self.rounds.push(None);
            return;
        }
        let each = nanoseconds as f64 / count as f64;
        let each = ours.turn.unwrap_or(each);
        let usage = ours.usage + theirs.usage;
        // A turn is two messages.
        let slept = usage.sleeps as f64 >= ASLEEP * 2.0 * count as f64;
        self.rounds.push(slept.then_some(each));
        if self.group.is_time() {
            self.values.push(each);
            self.ratios.push(each / ((low + high) / 2.0));
        } else {
            self.values.push(1e9 / each);
        }
        self.latency.merge(&ours.latency.into_iter().collect());
        self.usage = self.usage + usage;
        self.messages += count;
    }

    fn finish(self) -> Row {
        let each = |sum: u64| {
            // A round trip is two messages, and so is a turn of a ping-pong.
            let messages = match self.group.is_time() {
                true => 2 * self.messages,
                false => self.messages,
            };
            (messages > 0).then(|| sum as f64 / messages as f64)
        };
        let is_transport = matches!(self.subject, Subject::Transport { .. });
        Row {
            group: self.group,
            waits: match self.subject {
                Subject::Transport { waiting, .. } if waiting != Waiting::Spin => "asleep",
                Subject::Limits if self.group == Group::Asleep => "asleep",
                _ => "awake",
            }
            .to_owned(),
            size: self.size,
            batch: self.batch,
            one_core: self.shares_core,
            samples: self.values.len() as u64,
            dropped: self.dropped,
            latency: (self.latency.count() > 0).then(|| self.latency.percentiles()),
            cpu_us: each(self.usage.cpu_us),
            sleeps: each(self.usage.sleeps),
            calls: each(self.usage.calls).filter(|_| is_transport),
            of_limit: Spread::of(self.ratios).map(|ratios| ratios.median),
            value: Spread::of(self.values),
            name: self.name,
        }
    }
}

/// The ping-pongs, and bytes that cross in blocks: as much in flight as in a ring
/// of 1024 numbers, as fits into a first-level cache, and as fits into a second.
fn limits() -> Vec<Course> {
    let mut courses = Vec::new();
    for limit in [Limit::OneLine, Limit::TwoLines] {
        courses.push(played(limit, Group::Limits));
    }
    for bytes in [512, 4 << 10, 64 << 10] {
        let blocks = Blocks {
            bytes,
            in_flight: 16,
        };
        courses.push(played(Limit::FillSum(blocks), Group::LimitRates));
    }
    for (bytes, in_flight) in [(BUFFER, 1), (64 << 10, 16), (4 << 10, 16), (4 << 10, 256)] {
        let blocks = Blocks { bytes, in_flight };
        courses.push(played(Limit::Copy(blocks), Group::LimitRates));
    }
    for (bytes, in_flight) in [(64 << 10, 4), (64 << 10, 16)] {
        let blocks = Blocks { bytes, in_flight };
        courses.push(played(Limit::Messages(blocks), Group::LimitRates));
    }
    courses
}

fn played(limit: Limit, group: Group) -> Course {
    let mut course = Course::new(group, Subject::Limits, limit.name(), Work::Play(limit));
    course.size = limit.bytes().unwrap_or(0);
    course
}

/// Messages of one size in one direction: many a call where nobody sleeps, else one.
fn messages(kind: Kind, length: usize, waiting: Waiting) -> Course {
    let subject = Subject::Transport {
        kind,
        length,
        waiting,
    };
    let mut course = Course::new(Group::Messages, subject, kind.name(), Work::Stream);
    course.size = length;
    if waiting == Waiting::Spin {
        course.batch = (BATCH / length).max(1);
    }
    course
}

fn trips(group: Group, kind: Kind, length: usize, waiting: Waiting) -> Course {
    let subject = Subject::Transport {
        kind,
        length,
        waiting,
    };
    let mut course = Course::new(group, subject, kind.name(), Work::RoundTrips);
    course.size = length;
    course
}

/// Round trips of eight bytes between two sides that sleep at once.
fn asleep(shares_core: bool) -> impl Iterator<Item = Course> {
    let kinds = [
        Kind::Memory,
        Kind::MemoryFenced,
        Kind::Bytes,
        Kind::EventFd,
        Kind::Pipe,
        Kind::UnixStream,
        Kind::UnixSeqpacket,
        Kind::Tcp,
    ];
    let kinds = kinds.map(|kind| {
        // A read or write that sleeps by itself, but where there is none.
        let waiting = match kind {
            Kind::Memory | Kind::MemoryFenced | Kind::Bytes => Waiting::Poll,
            _ => Waiting::Block,
        };
        trips(Group::Asleep, kind, 8, waiting)
    });
    let futex = played(Limit::Futex, Group::Asleep);
    [futex].into_iter().chain(kinds).map(move |mut course| {
        course.shares_core = shares_core;
        course
    })
}

/// Numbers over our rings.
fn rings() -> Vec<Course> {
    let mut courses = Vec::new();
    for (ring, name) in [(Ring::Index, "index ring"), (Ring::Packed, "packed ring")] {
        for capacity in [1024, 65_536] {
            let subject = Subject::Ring { ring, capacity };
            for batch in SLICES {
                let name = format!("{name}, capacity {capacity}");
                let mut course = Course::new(Group::Rings, subject, name, Work::Stream);
                (course.size, course.batch) = (8, batch);
                courses.push(course);
            }
            let name = format!("{name}, capacity {capacity}");
            let mut course = Course::new(Group::RingTrips, subject, name, Work::RoundTrips);
            course.size = 8;
            courses.push(course);
        }
    }
    courses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_that_met_awake_are_shown_and_not_compared() {
        let mut course = played(Limit::Futex, Group::Asleep);
        let outcome = |sleeps| Outcome {
            nanoseconds: 1000,
            usage: Usage {
                sleeps,
                ..Usage::default()
            },
            ..Outcome::default()
        };
        for (sleeps, compared) in [(100, Some(10.0)), (90, Some(10.0)), (89, None), (0, None)] {
            let both = [outcome(sleeps), outcome(sleeps)];
            // Take chooses the next count.
            course.count = 100;
            course.take(both, [50.0, 50.0], true, 1000);
            assert_eq!(course.rounds.last(), Some(&compared));
        }
        assert_eq!(course.values, [10.0; 4]);
        assert_eq!(course.dropped, 0);
    }
}
