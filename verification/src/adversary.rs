//! A peer that changes any of its words and bytes at any access of ours.
//!
//! The code that ships, each ring and the wake-up, runs over a memory in which every
//! access first lets the peer act: it may set any of its words, and any byte of its
//! slots and records, to any value, as a seed decides. The memory checks that each
//! access lies in bounds and notes it; after each call of the API an oracle, which
//! knows the layout from the documentation and shares no code with the ring, goes
//! through the notes:
//!
//! - every access lies on a word, slot or record of the right block (S1);
//! - a word of the peer's is fetched at most once for a decision, a slot or record
//!   at most once (A1);
//! - a false word ends in exactly the `Violation` that names it, and only a false one
//!   does; from then on every call returns it and accesses nothing (A2, A5);
//! - own positions, and what is published in own words, are those of a private model,
//!   which never reads shared memory (A3);
//! - what is returned is what was copied out (A4);
//! - every call ends (S2): the number of its accesses is bounded by what it moves.
//!
//! A panic fails the run as well. Every failure names the seed of its episode;
//! [`episode`] with that seed replays it.
//!
//! Whether an oracle can fail is checked in the same run: each [`Defect`] breaks the
//! memory as a wrong ring would use it, and must be noticed.

mod bytes;
mod calls;
mod index;
mod packed;
mod wake;
mod world;

pub(crate) use bytes::end_of;

use std::fmt;

use crate::random::Random;

/// The code under attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The index ring.
    Index,
    /// The packed ring.
    Packed,
    /// The bytes ring.
    Bytes,
    /// Sleeping and waking.
    Wake,
}

impl Target {
    /// All targets.
    pub const ALL: [Self; 4] = [Self::Index, Self::Packed, Self::Bytes, Self::Wake];
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Index => "index ring",
            Self::Packed => "packed ring",
            Self::Bytes => "bytes ring",
            Self::Wake => "wake-up",
        })
    }
}

/// A way to misuse the memory, as a ring with a bug would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// A word of the peer's is fetched twice: once to check, once to use.
    DoubleFetch,
    /// A false position is mended instead of refused.
    Clamp,
    /// Slots and records are taken one further on.
    NextSlot,
    /// The own word is stored one too high.
    StoreAhead,
    /// A slot or record is read twice.
    ReadTwice,
    /// An own word is not stored.
    LostStore,
}

impl Defect {
    /// The defects that there can be in a target.
    pub fn of(target: Target) -> &'static [Self] {
        match target {
            Target::Index => &[
                Self::DoubleFetch,
                Self::Clamp,
                Self::NextSlot,
                Self::StoreAhead,
                Self::ReadTwice,
            ],
            Target::Packed | Target::Bytes => &[
                Self::DoubleFetch,
                Self::NextSlot,
                Self::StoreAhead,
                Self::ReadTwice,
                Self::LostStore,
            ],
            Target::Wake => &[Self::DoubleFetch, Self::StoreAhead, Self::LostStore],
        }
    }
}

/// What a run came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Calls of the API.
    pub operations: u64,
    /// Rings, each with one attacked side.
    pub rings: u64,
    /// Fetches of words of the peer's.
    pub fetches: u64,
    /// Rings that ended in a violation.
    pub violations: u64,
    /// Elements or messages that moved, or wake-ups.
    pub elements: u64,
}

impl Report {
    fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.rings += other.rings;
        self.fetches += other.fetches;
        self.violations += other.violations;
        self.elements += other.elements;
    }
}

/// Runs episodes, seeded from `seed`, until there were `operations` calls.
///
/// # Panics
///
/// When the target breaks a rule, after naming the episode's seed.
pub fn run(target: Target, seed: u64, operations: u64, defect: Option<Defect>) -> Report {
    let mut seeds = Random::new(seed);
    let mut report = Report::default();
    while report.operations < operations {
        let seed = seeds.next();
        let named = NameSeed(target, seed);
        report.add(episode(target, seed, defect));
        drop(named);
    }
    report
}

/// Names the seed when the episode panics.
struct NameSeed(Target, u64);

impl Drop for NameSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the episode of the {} that failed replays with MEMENPSF_SEED={}",
                self.0, self.1
            );
        }
    }
}

/// Runs one ring, one side of it ours, until it has done enough or is poisoned.
///
/// # Panics
///
/// When the target breaks a rule.
pub fn episode(target: Target, seed: u64, defect: Option<Defect>) -> Report {
    let random = Random::new(seed);
    match target {
        Target::Index => index::episode(random, defect),
        Target::Packed => packed::episode(random, defect),
        Target::Bytes => bytes::episode(random, defect),
        Target::Wake => wake::episode(random, defect),
    }
}
