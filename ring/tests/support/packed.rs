//! The packed ring as a subject of the suites, and where in its blocks a position
//! lies.

use memenpsf_ring::Plain;
use memenpsf_ring::memory::{LINE_PAIR, Split};
use memenpsf_ring::ordering::Shipped;
use memenpsf_ring::packed::{LINE, WriteChunk};

pub(crate) use memenpsf_ring::packed::{Consumer, HeapRing, Producer, producer_block, ring};

use super::blocks::{Blocks, Over, over};

pub(crate) type SplitProducer<T> = Over<Producer<T, Split<T>>>;
pub(crate) type SplitConsumer<T> = Over<Consumer<T, Split<T>>>;

/// Makes a ring on the heap.
pub(crate) fn ring_at<T>(capacity: usize, start: u64) -> HeapRing<T, Shipped> {
    memenpsf_ring::packed::ring_at(capacity, start).expect("a legal capacity")
}

/// Makes both handles of a ring over two blocks.
pub(crate) fn split_ring<T: Plain>(
    capacity: usize,
    start: u64,
) -> (SplitProducer<T>, SplitConsumer<T>) {
    let layout = producer_block::<T>(capacity).expect("a legal capacity");
    assert_eq!(layout.align(), LINE_PAIR);
    let blocks = Blocks::new(layout);
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

/// Returns the slots of a chunk in a region.
pub(crate) fn slots_mut<'a, T: Plain>(
    chunk: &'a mut WriteChunk<'_, T, Split<T>, Shipped>,
) -> impl Iterator<Item = &'a mut T> {
    chunk.slices_mut().flatten()
}

/// Elements of a line, for elements of `size` bytes that are aligned to 8 at
/// most.
pub(crate) fn slots(size: usize) -> usize {
    56 / size.max(1)
}

/// Start positions of a ring of `capacity` elements of `size` bytes: zero, within
/// the first line, within the first lap, where the positions wrap and where the
/// laps do.
pub(crate) fn starts(capacity: usize, size: usize) -> Vec<u64> {
    let lap = (slots(size) * ((capacity - 1).div_ceil(slots(size)) + 1)) as u64;
    let last_lap = lap * u64::from(u32::MAX);
    vec![
        0,
        1,
        lap - 1,
        lap,
        // The last lap is lap `u32::MAX`; the lap behind it is 0, then 1.
        last_lap - 1,
        last_lap + lap / 2,
        last_lap + lap,
        u64::MAX,
        u64::MAX - 3,
    ]
}

impl Blocks {
    /// Returns the number of lines.
    pub(crate) fn lines(&self) -> usize {
        self.producer_size() / LINE
    }

    /// Sets a header, as a hostile producer does.
    pub(crate) fn set_header(&self, line: usize, header: u64) {
        self.set_word(line * LINE, header);
    }

    /// Returns a header.
    pub(crate) fn header(&self, line: usize) -> u64 {
        self.word(line * LINE)
    }
}
