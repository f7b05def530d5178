//! What every loom model needs: exploration without hidden limits, the shapes
//! in which two sides run, and the two blocks of a split ring.
//!
//! # Trust in the checker
//!
//! loom passes in silence when it does not explore. Three things keep it honest:
//! [`explore`] counts executions and refuses one; every model runs in all
//! [`SHAPES`]; and the models assert which situations they reached, the
//! bounded ones even that they reached all that the
//! [`enumerator`](crate::enumerator) knows.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};
use std::sync::{Arc, Mutex};

use loom::model::Builder;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use memenpsf_ring::Plain;
use memenpsf_ring::memory::{CONSUMER_BLOCK, Split};

use crate::blocks::Block;

/// Explores every execution of `model` and returns how many there were.
///
/// # Panics
///
/// When there was only one: two threads that share words have more.
pub fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) -> usize {
    explore_bounded(name, None, model)
}

/// Explores the executions of `model` with at most so many preemptions: a
/// control, which shows what a bound would miss.
///
/// # Panics
///
/// As [`explore`].
pub fn explore_bounded(
    name: &str,
    preemptions: Option<usize>,
    model: impl Fn() + Send + Sync + 'static,
) -> usize {
    let mut builder = Builder::new();
    // `Builder::new` takes each of these from the environment, and the limits
    // end an exploration early and call it a success.
    builder.max_duration = None;
    builder.max_permutations = None;
    builder.checkpoint_file = None;
    builder.preemption_bound = preemptions;
    let executions = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&executions);
    builder.check(move || {
        counter.fetch_add(1, StdOrdering::Relaxed);
        model();
    });
    let executions = executions.load(StdOrdering::Relaxed);
    println!("{name}: {executions} executions");
    assert!(executions > 1, "{name}: the model checker did not explore");
    executions
}

/// Situations that executions of one model have reached.
///
/// The mutex is the standard library's, so that the checker does not see it and it
/// orders nothing in the model.
#[derive(Debug, Clone, Default)]
pub struct Witnesses(Arc<Mutex<BTreeSet<&'static str>>>);

impl Witnesses {
    /// Notes a situation, if it was reached.
    pub fn note(&self, situation: &'static str, reached: bool) {
        if reached {
            self.0.lock().unwrap().insert(situation);
        }
    }
}

/// What a model came to.
#[derive(Debug)]
pub struct Explored<T = ()> {
    /// Number of executions.
    pub executions: usize,
    /// What the executions came to.
    pub outcomes: BTreeSet<T>,
    /// The situations that were reached.
    pub reached: BTreeSet<&'static str>,
}

/// Explores the executions of `model`, all or with at most so many preemptions, and
/// gathers what they return and which situations they reach.
///
/// # Panics
///
/// As [`explore`].
pub fn gather<T: Ord + Send + 'static>(
    name: &str,
    preemptions: Option<usize>,
    model: impl Fn(&Witnesses) -> T + Send + Sync + 'static,
) -> Explored<T> {
    let witnesses = Witnesses::default();
    let outcomes = Arc::new(Mutex::new(BTreeSet::new()));
    let (reached, noted) = (witnesses.clone(), Arc::clone(&outcomes));
    let executions = explore_bounded(name, preemptions, move || {
        let outcome = model(&reached);
        noted.lock().unwrap().insert(outcome);
    });
    let outcomes = std::mem::take(&mut *outcomes.lock().unwrap());
    let reached = std::mem::take(&mut *witnesses.0.lock().unwrap());
    Explored {
        executions,
        outcomes,
        reached,
    }
}

/// Which of the two sides gets a thread of its own; the other runs on the
/// model's main thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The producer is spawned.
    ProducerSpawned,
    /// The consumer is spawned.
    ConsumerSpawned,
    /// Both are spawned.
    BothSpawned,
}

/// All shapes.
pub const SHAPES: [Shape; 3] = [
    Shape::ProducerSpawned,
    Shape::ConsumerSpawned,
    Shape::BothSpawned,
];

impl Shape {
    /// Runs both sides to their ends and returns what they return.
    pub fn run<P: 'static, C: 'static>(
        self,
        producer: impl FnOnce() -> P + 'static,
        consumer: impl FnOnce() -> C + 'static,
    ) -> (P, C) {
        match self {
            Self::ProducerSpawned => {
                let spawned = thread::spawn(producer);
                let consumed = consumer();
                (spawned.join().unwrap(), consumed)
            }
            Self::ConsumerSpawned => {
                let spawned = thread::spawn(consumer);
                let produced = producer();
                (produced, spawned.join().unwrap())
            }
            Self::BothSpawned => {
                let producing = thread::spawn(producer);
                let consuming = thread::spawn(consumer);
                (producing.join().unwrap(), consuming.join().unwrap())
            }
        }
    }
}

/// Makes a block with loom's atomics at the offsets `words`.
///
/// A loom atomic is a name for an object of the running model and happens to be
/// as large as the word it stands for, so offsets are those of a real region.
/// It needs no drop.
fn block(size: usize, words: impl Iterator<Item = usize>) -> Block {
    const { assert!(size_of::<AtomicU64>() == 8) };
    let block = Block::new(size);
    for word in words {
        assert!(word + 8 <= size && word % 8 == 0);
        // SAFETY: within the block by the assertion.
        let word = unsafe { block.start().add(word) };
        // SAFETY: within the block, aligned, and nobody else has it yet.
        unsafe { word.cast().write(AtomicU64::new(0)) };
    }
    block
}

/// The two blocks of one ring. They must outlive its handles.
#[derive(Debug)]
pub struct Blocks {
    producer: Block,
    consumer: Block,
}

impl Blocks {
    /// Makes the blocks of a ring whose producer block has `size` bytes, with words
    /// at these offsets.
    pub(crate) fn new(size: usize, words: impl Iterator<Item = usize>) -> Self {
        Self {
            producer: block(size, words),
            consumer: block(CONSUMER_BLOCK, std::iter::once(0)),
        }
    }

    /// Returns the producer's and the consumer's view.
    ///
    /// # Safety
    ///
    /// 1. The blocks outlive both, and are those of a ring of such elements.
    pub(crate) unsafe fn views<T: Plain>(&self) -> [Split<T>; 2] {
        let (ours, theirs) = (self.producer.start(), self.consumer.start());
        // SAFETY: aligned, as large as the layout says, and alive (obligation 1).
        let producing = unsafe { Split::new(ours, theirs) };
        // SAFETY: as above.
        let consuming = unsafe { Split::new(theirs, ours) };
        [producing, consuming]
    }
}
