//! The index ring as a subject of the suites.

use memenpsf_ring::memory::{LINE_PAIR, Split};
use memenpsf_ring::ordering::Shipped;
use memenpsf_ring::{Plain, WriteChunk};

pub(crate) use memenpsf_ring::index::{Consumer, HeapRing, Producer, producer_block, ring};

use super::STARTS;
use super::blocks::{Blocks, Over, over};

pub(crate) type SplitProducer<T> = Over<Producer<T, Split<T>>>;
pub(crate) type SplitConsumer<T> = Over<Consumer<T, Split<T>>>;

/// Makes a ring on the heap.
pub(crate) fn ring_at<T>(capacity: usize, start: u64) -> HeapRing<T, Shipped> {
    memenpsf_ring::index::ring_at(capacity, start).expect("a legal capacity")
}

/// Makes both handles of a ring over two blocks.
pub(crate) fn split_ring<T: Plain>(
    capacity: usize,
    start: u64,
) -> (SplitProducer<T>, SplitConsumer<T>) {
    let blocks = Blocks::new(producer_block::<T>(capacity).expect("a legal capacity"));
    // SAFETY: it is the only producer.
    let producer = unsafe { Producer::attach(blocks.producing(), capacity, start) };
    // SAFETY: it is the only consumer.
    let consumer = unsafe { Consumer::attach(blocks.consuming(), capacity, start) };
    over(
        blocks,
        producer.expect("a legal capacity"),
        consumer.expect("a legal capacity"),
    )
}

/// Start positions; the capacity and the size of the elements do not matter.
pub(crate) fn starts(_capacity: usize, _size: usize) -> Vec<u64> {
    STARTS.to_vec()
}

/// Returns the slots of a chunk in a region.
pub(crate) fn slots_mut<'a, T: Plain>(
    chunk: &'a mut WriteChunk<'_, T, Split<T>, Shipped>,
) -> impl Iterator<Item = &'a mut T> {
    let (first, second) = chunk.as_mut_slices();
    first.iter_mut().chain(second)
}

impl Blocks {
    /// Sets the tail, as a hostile producer does.
    pub(crate) fn set_tail(&self, tail: u64) {
        self.set_word(0, tail);
    }

    /// Returns the tail that is published.
    pub(crate) fn tail(&self) -> u64 {
        self.word(0)
    }

    /// Overwrites byte `offset` of the slots.
    pub(crate) fn set_slot_byte(&self, offset: usize, value: u8) {
        assert!(LINE_PAIR + offset < self.producer_size());
        // SAFETY: within the block by the assertion.
        let byte = unsafe { self.producer_start().add(LINE_PAIR + offset) };
        // SAFETY: tests call this while no handle runs.
        unsafe { byte.write(value) };
    }

    /// Returns a copy of all slots.
    pub(crate) fn slots(&self) -> Vec<u8> {
        (LINE_PAIR..self.producer_size())
            .map(|offset| {
                // SAFETY: within the block.
                let byte = unsafe { self.producer_start().add(offset) };
                // SAFETY: tests call this while no handle runs.
                unsafe { byte.read() }
            })
            .collect()
    }
}
