//! An enumerator of everything that a ring of two positions may do under
//! release/acquire: the oracle for the completeness of a model checker.
//!
//! Two sides make a bounded number of attempts each. An attempt asks for the
//! peer's position, and then moves the own position by one if it may:
//!
//! ```text
//!  producer: head := load(H); if tail - head < capacity { write slot; store(T, ++tail) }
//!  consumer: tail := load(T); if tail != head           { read slot;  store(H, ++head) }
//! ```
//!
//! The machine is the operational release/acquire semantics with views, as in
//! Kang, Hur, Lahav, Vafeiadis and Dreyer, "A Promising Semantics for Relaxed-
//! Memory Concurrency" (POPL 2017), without promises. That is RC11 for
//! programs without load buffering. A word is the list of its stores, of which
//! each side may read any that is not older than the last one it knows of. Each
//! word has one writer who adds one at a time, so the n-th store of a word has
//! the value n, and stores are named by their values.
//!
//! Besides the outcomes it tells whether two accesses of one slot can race: the
//! machine keeps what a side has *read* (coherence) apart from what *happened
//! before* it (release and acquire), and a slot may be touched only when the
//! peer's access of it happened before.
//!
//! # What it cannot tell
//!
//! Load buffering: a store is never visible before what its thread did earlier.
//! An outcome that only promises allow is not in the set, neither here nor in
//! loom; the litmus tests are for that.

use std::collections::{BTreeSet, HashSet};

/// Which of the four orderings are as strong as they ship; one that is not is
/// relaxed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strength {
    /// The producer's store of its tail is a Release.
    pub publish_tail: bool,
    /// The consumer's load of the tail is an Acquire.
    pub refresh_tail: bool,
    /// The consumer's store of its head is a Release.
    pub vacate_head: bool,
    /// The producer's load of the head is an Acquire.
    pub refresh_head: bool,
}

impl Strength {
    /// All four as they ship.
    pub const SHIPPED: Self = Self {
        publish_tail: true,
        refresh_tail: true,
        vacate_head: true,
        refresh_head: true,
    };
}

/// When an attempt asks for the peer's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// At every attempt, as `slots` does.
    Always,
    /// When the last answer does not allow the attempt, as `push` and `pop` do.
    AtLimit,
}

/// The shape of the run to enumerate.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Number of slots.
    pub capacity: u64,
    /// Number of attempts of each side.
    pub attempts: usize,
    /// When an attempt asks.
    pub asking: Asking,
    /// The four orderings.
    pub strength: Strength,
}

/// What each attempt of the two sides read from the other, `None` where it did
/// not ask. Positions begin at 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outcome {
    /// The heads that the producer read.
    pub heads: Vec<Option<u64>>,
    /// The tails that the consumer read.
    pub tails: Vec<Option<u64>>,
}

/// All that a run may do.
#[derive(Debug)]
pub struct Explored {
    /// Every outcome.
    pub outcomes: BTreeSet<Outcome>,
    /// Whether in some execution two accesses of one slot race.
    pub races: bool,
    /// How many states of the machine were visited.
    pub states: usize,
}

/// What happened before a point: all stores of the tail and of the head up to
/// these values, and every slot access before them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct View {
    tail: u64,
    head: u64,
}

impl View {
    fn join(self, other: Self) -> Self {
        Self {
            tail: self.tail.max(other.tail),
            head: self.head.max(other.head),
        }
    }
}

/// One side between two attempts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Side {
    /// Own position.
    position: u64,
    /// The peer's position as it was last answered.
    believed: u64,
    /// The newest store of the peer's word that this side may not go behind.
    coherent: u64,
    /// What happened before this point.
    ordered: View,
    /// What each attempt so far read.
    reads: Vec<Option<u64>>,
}

/// Both sides, and for each store of a word the view that it carries to whoever
/// acquires it; the index is the store's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    producer: Side,
    consumer: Side,
    tails: Vec<View>,
    heads: Vec<View>,
}

impl Run {
    /// Visits every state of the machine.
    #[must_use]
    pub fn explore(&self) -> Explored {
        let mut explored = Explored {
            outcomes: BTreeSet::new(),
            races: false,
            states: 0,
        };
        let initial = State {
            producer: Side::default(),
            consumer: Side::default(),
            tails: vec![View::default()],
            heads: vec![View::default()],
        };
        let mut visited = HashSet::from([initial.clone()]);
        let mut pending = vec![initial];
        while let Some(state) = pending.pop() {
            explored.states += 1;
            let before = pending.len();
            self.step_producer(&state, &mut explored, &mut pending);
            self.step_consumer(&state, &mut explored, &mut pending);
            if pending.len() == before {
                explored.outcomes.insert(Outcome {
                    heads: state.producer.reads,
                    tails: state.consumer.reads,
                });
                continue;
            }
            // Only states that are new stay pending.
            let steps = pending.split_off(before);
            pending.extend(
                steps
                    .into_iter()
                    .filter(|step| visited.insert(step.clone())),
            );
        }
        explored
    }

    /// Adds the state after each way in which the producer's next attempt may go.
    fn step_producer(&self, state: &State, explored: &mut Explored, pending: &mut Vec<State>) {
        if state.producer.reads.len() == self.attempts {
            return;
        }
        let full = state.producer.position - state.producer.believed == self.capacity;
        for side in self.ask(
            &state.producer,
            full,
            &state.heads,
            self.strength.refresh_head,
        ) {
            let mut next = state.clone();
            next.producer = side;
            let side = &mut next.producer;
            if side.position - side.believed < self.capacity {
                // The slot held the element `capacity` before this one: its read
                // came before the store of the head that moved past it.
                let reader_passed = (side.position + 1).saturating_sub(self.capacity);
                explored.races |= side.ordered.head < reader_passed;
                side.position += 1;
                side.ordered.tail = side.position;
                next.tails.push(if self.strength.publish_tail {
                    side.ordered
                } else {
                    View::default()
                });
            }
            pending.push(next);
        }
    }

    /// Adds the state after each way in which the consumer's next attempt may go.
    fn step_consumer(&self, state: &State, explored: &mut Explored, pending: &mut Vec<State>) {
        if state.consumer.reads.len() == self.attempts {
            return;
        }
        let empty = state.consumer.position == state.consumer.believed;
        for side in self.ask(
            &state.consumer,
            empty,
            &state.tails,
            self.strength.refresh_tail,
        ) {
            let mut next = state.clone();
            next.consumer = side;
            let side = &mut next.consumer;
            if side.position != side.believed {
                // The slot was written before the store of the tail past it.
                let writer_passed = side.position + 1;
                explored.races |= side.ordered.tail < writer_passed;
                side.position += 1;
                side.ordered.head = side.position;
                next.heads.push(if self.strength.vacate_head {
                    side.ordered
                } else {
                    View::default()
                });
            }
            pending.push(next);
        }
    }

    /// Returns `side` after each answer that it may get to its next question,
    /// or after none if it does not ask.
    fn ask(&self, side: &Side, at_limit: bool, stores: &[View], acquire: bool) -> Vec<Side> {
        if self.asking == Asking::AtLimit && !at_limit {
            let mut side = side.clone();
            side.reads.push(None);
            return vec![side];
        }
        (side.coherent..)
            .zip(&stores[usize::try_from(side.coherent).expect("few stores")..])
            .map(|(value, view)| {
                let mut side = side.clone();
                side.reads.push(Some(value));
                side.believed = value;
                side.coherent = value;
                if acquire {
                    side.ordered = side.ordered.join(*view);
                }
                side
            })
            .collect()
    }
}
