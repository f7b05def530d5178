//! Models of the index ring: those of [`element_models`](crate::element_models), and
//! `push` and `pop` that ask for the peer's position only when they must.

use std::sync::{Arc, Mutex};

use loom::sync::atomic::Ordering;
use memenpsf_ring::index::{Consumer, HeapRing, Producer, producer_block, ring_at};
use memenpsf_ring::memory::{LINE_PAIR, Memory, Split};
use memenpsf_ring::ordering::Orderings;

use crate::element_models::{Done, Leave, Pop, Push, Ring, judge};
use crate::enumerator::Outcome;
use crate::model::{Blocks, Explored, Shape, Witnesses, gather};

/// An index ring.
#[derive(Debug, Clone, Copy)]
pub struct IndexRing {
    /// Number of slots.
    pub capacity: usize,
    /// First position.
    pub start: u64,
    /// Which sides are spawned.
    pub shape: Shape,
}

impl Ring for IndexRing {
    type Element = u64;

    fn capacity(self) -> usize {
        self.capacity
    }

    fn start(self) -> u64 {
        self.start
    }

    fn shape(self) -> Shape {
        self.shape
    }

    fn heap<T: 'static, O: Orderings + 'static>(
        self,
    ) -> (impl Push<T> + Leave, impl Pop<T> + Leave) {
        let ring: HeapRing<T, O> = ring_at(self.capacity, self.start).unwrap();
        ring
    }

    fn blocks(self) -> Blocks {
        let size = producer_block::<u64>(self.capacity).unwrap().size();
        let slots = (0..self.capacity).map(|slot| LINE_PAIR + 8 * slot);
        Blocks::new(size, std::iter::once(0).chain(slots))
    }

    unsafe fn attach<O: Orderings + 'static>(
        self,
        views: [Split<u64>; 2],
    ) -> (impl Push<u64>, impl Pop<u64>) {
        // SAFETY: the caller's obligations.
        unsafe { self.attach_to::<_, O>(views) }
    }

    fn note(self, witnesses: &Witnesses, pushed: u64, popped: u64) {
        witnesses.note("slot used again", pushed > self.capacity as u64);
        let wrapped = self.start.wrapping_add(popped) < self.start;
        witnesses.note("positions wrapped", wrapped);
    }
}

impl IndexRing {
    /// Attaches both sides to memories that lead to the same blocks.
    ///
    /// # Safety
    ///
    /// 1. As for [`Ring::attach`].
    unsafe fn attach_to<M: Memory<u64>, O: Orderings>(
        self,
        [producing, consuming]: [M; 2],
    ) -> (Producer<u64, M, O>, Consumer<u64, M, O>) {
        // SAFETY: it is the only producer (obligation 1).
        let producer = unsafe { Producer::attach(producing, self.capacity, self.start) };
        // SAFETY: it is the only consumer (obligation 1).
        let consumer = unsafe { Consumer::attach(consuming, self.capacity, self.start) };
        (producer.unwrap(), consumer.unwrap())
    }

    /// So many attempts a side over two blocks; `push` and `pop` ask when they must,
    /// and what they load is recorded.
    pub fn loads<O: Orderings + 'static>(self, attempts: usize) -> Explored<Outcome> {
        let name = format!("loads of push and pop, n = {attempts}, {self:?}");
        gather(&name, None, move |witnesses| {
            let blocks = self.blocks();
            // SAFETY: the handles are gone when `judge` returns.
            let views = unsafe { blocks.views() }.map(Recorded::new);
            let [(producing, heads), (consuming, tails)] = views;
            // SAFETY: as above, and the blocks are new.
            let (mut producer, mut consumer) =
                unsafe { self.attach_to::<_, O>([producing, consuming]) };
            let relative = move |loads: Vec<u64>| {
                assert!(loads.len() <= 1, "one load an attempt");
                loads.first().map(|load| load.wrapping_sub(self.start))
            };
            let (produced, consumed) = self.shape.run(
                move || {
                    let mut done = Done::default();
                    for _ in 0..attempts {
                        done.push(&mut producer);
                        done.reads.push(relative(heads.take()));
                    }
                    (done, producer)
                },
                move || {
                    let mut done = Done::default();
                    for _ in 0..attempts {
                        done.pop(&mut consumer);
                        done.reads.push(relative(tails.take()));
                    }
                    (done, consumer)
                },
            );
            judge(self, witnesses, produced, consumed)
        })
    }
}

/// The values that one side has loaded from the peer's position.
///
/// The mutex is the standard library's, so that the checker does not see it and
/// it orders nothing in the model.
#[derive(Debug, Clone, Default)]
struct Loads(Arc<Mutex<Vec<u64>>>);

impl Loads {
    /// Takes out the loads since the last call.
    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A memory that notes what is loaded from the peer's words.
#[derive(Debug)]
struct Recorded<M> {
    memory: M,
    loads: Loads,
}

impl<M> Recorded<M> {
    /// Wraps `memory`.
    fn new(memory: M) -> (Self, Loads) {
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
