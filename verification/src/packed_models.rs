//! Models of the packed ring: those of [`element_models`](crate::element_models).
//!
//! An element is an array of `W` equal words, and `W` says how many elements a
//! line has: 7 of one word, 2 of three words, 1 of seven. So rings of very few
//! elements cross lines and laps, and a torn element shows.

use memenpsf_ring::memory::Split;
use memenpsf_ring::ordering::Orderings;
use memenpsf_ring::packed::{Consumer, HeapRing, Producer, producer_block, ring_at};

use crate::element_models::{Leave, Pop, Push, Ring};
use crate::model::{Blocks, Shape, Witnesses};

/// A packed ring of elements of `W` words.
#[derive(Debug, Clone, Copy)]
pub struct PackedRing<const W: usize> {
    /// Number of elements that fit.
    pub capacity: usize,
    /// First position.
    pub start: u64,
    /// Which sides are spawned.
    pub shape: Shape,
}

impl<const W: usize> PackedRing<W> {
    /// How many elements a line has.
    fn slots(self) -> u64 {
        7 / W as u64
    }

    /// How many elements all lines have.
    fn lap(self) -> u64 {
        self.slots() * ((self.capacity as u64 - 1).div_ceil(self.slots()) + 1)
    }

    /// Tells whether the pushes of `count` elements put two neighbours into two
    /// lines.
    pub fn crosses_a_line(self, count: u64) -> bool {
        self.start % self.slots() + count > self.slots()
    }

    /// Tells whether they put two neighbours into two laps.
    pub fn crosses_a_lap(self, count: u64) -> bool {
        self.start % self.lap() + count > self.lap()
    }

    /// Tells whether they use a slot a second time.
    pub fn uses_a_slot_again(self, count: u64) -> bool {
        count > self.lap()
    }
}

impl<const W: usize> Ring for PackedRing<W> {
    type Element = [u64; W];

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
        let size = producer_block::<[u64; W]>(self.capacity).unwrap().size();
        Blocks::new(size, (0..size).step_by(8))
    }

    unsafe fn attach<O: Orderings + 'static>(
        self,
        [producing, consuming]: [Split<[u64; W]>; 2],
    ) -> (impl Push<[u64; W]>, impl Pop<[u64; W]>) {
        // SAFETY: it is the only producer (obligations 1 and 2).
        let producer = unsafe { Producer::<_, _, O>::attach(producing, self.capacity, self.start) };
        // SAFETY: it is the only consumer (obligations 1 and 2).
        let consumer = unsafe { Consumer::<_, _, O>::attach(consuming, self.capacity, self.start) };
        (producer.unwrap(), consumer.unwrap())
    }

    fn note(self, witnesses: &Witnesses, pushed: u64, _popped: u64) {
        witnesses.note("line crossed", self.crosses_a_line(pushed));
        witnesses.note("lap crossed", self.crosses_a_lap(pushed));
        witnesses.note("slot used again", self.uses_a_slot_again(pushed));
    }
}
