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

use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};
use std::sync::{Arc, Mutex};

use loom::model::Builder;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use memenpsf_ring::index::{Consumer, Producer, producer_block};
use memenpsf_ring::memory::{CONSUMER_BLOCK, LINE_PAIR, Memory, Split};
use memenpsf_ring::ordering::Orderings;

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

/// The two blocks of one index ring of `u64`. They must outlive its handles.
#[derive(Debug)]
pub struct Blocks {
    producer: Block,
    consumer: Block,
    capacity: usize,
}

impl Blocks {
    /// Makes the blocks of a ring of `capacity` elements.
    pub fn new(capacity: usize) -> Self {
        let size = producer_block::<u64>(capacity).unwrap().size();
        let words = std::iter::once(0).chain((0..capacity).map(|slot| LINE_PAIR + 8 * slot));
        Self {
            producer: block(size, words),
            consumer: block(CONSUMER_BLOCK, std::iter::once(0)),
            capacity,
        }
    }

    /// Makes both handles of a ring that begins at `start`.
    ///
    /// # Safety
    ///
    /// 1. The blocks outlive both handles.
    /// 2. It is called once.
    pub unsafe fn attach<O: Orderings>(&self, start: u64) -> RecordedRing<O> {
        let (ours, theirs) = (self.producer.start(), self.consumer.start());
        // SAFETY: both blocks are aligned, as large as the layout says, and live
        // long enough (obligation 1).
        let memory = unsafe { Split::new(ours, theirs) };
        let (memory, heads) = Recorded::new(memory);
        // SAFETY: it is the only producer (obligation 2).
        let producer = unsafe { Producer::attach(memory, self.capacity, start) };
        // SAFETY: as above.
        let memory = unsafe { Split::new(theirs, ours) };
        let (memory, tails) = Recorded::new(memory);
        // SAFETY: it is the only consumer (obligation 2).
        let consumer = unsafe { Consumer::attach(memory, self.capacity, start) };
        RecordedRing {
            producer: producer.unwrap(),
            consumer: consumer.unwrap(),
            heads,
            tails,
        }
    }
}

/// A split ring whose loads of the peer's positions are recorded.
#[derive(Debug)]
pub struct RecordedRing<O: Orderings> {
    /// The side that pushes.
    pub producer: Producer<u64, Recorded<Split<u64>>, O>,
    /// The side that pops.
    pub consumer: Consumer<u64, Recorded<Split<u64>>, O>,
    /// The heads that the producer has loaded.
    pub heads: Loads,
    /// The tails that the consumer has loaded.
    pub tails: Loads,
}

/// The values that one side has loaded from the peer's position.
///
/// The mutex is the standard library's, so that the checker does not see it and
/// it orders nothing in the model.
#[derive(Debug, Clone, Default)]
pub struct Loads(Arc<Mutex<Vec<u64>>>);

impl Loads {
    /// Takes out the loads since the last call.
    pub fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A memory that notes what is loaded from the peer's words.
#[derive(Debug)]
pub struct Recorded<M> {
    memory: M,
    loads: Loads,
}

impl<M> Recorded<M> {
    /// Wraps `memory`.
    pub fn new(memory: M) -> (Self, Loads) {
        let loads = Loads::default();
        let recorded = Self {
            memory,
            loads: loads.clone(),
        };
        (recorded, loads)
    }
}

// SAFETY: all is passed on to a memory that keeps the contract.
unsafe impl<T, M: Memory<T>> Memory<T> for Recorded<M> {
    const STRIDE: usize = M::STRIDE;

    unsafe fn store(&self, word: usize, value: u64, order: Ordering) {
        // SAFETY: the caller's obligation.
        unsafe { self.memory.store(word, value, order) };
    }

    unsafe fn load(&self, word: usize, order: Ordering) -> u64 {
        // SAFETY: the caller's obligation.
        let value = unsafe { self.memory.load(word, order) };
        self.loads.0.lock().unwrap().push(value);
        value
    }

    unsafe fn write(&self, slot: usize, value: T) {
        // SAFETY: the caller's obligation.
        unsafe { self.memory.write(slot, value) };
    }

    unsafe fn read(&self, slot: usize) -> T {
        // SAFETY: the caller's obligation.
        unsafe { self.memory.read(slot) }
    }

    unsafe fn take_back(&self, slot: usize) -> T {
        // SAFETY: the caller's obligation.
        unsafe { self.memory.take_back(slot) }
    }

    fn abandon(&self, order: Ordering) -> bool {
        self.memory.abandon(order)
    }

    unsafe fn free(&mut self, remaining: impl Iterator<Item = usize>) {
        // SAFETY: the caller's obligation.
        unsafe { self.memory.free(remaining) };
    }
}
