//! What the tests of the packed ring share: two heap blocks that stand for the
//! regions of two processes, and where in them a position lies.

#![allow(
    dead_code,
    reason = "every test binary compiles this and none uses it all"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memenpsf_ring::Plain;
use memenpsf_ring::memory::{CONSUMER_BLOCK, LINE_PAIR, Split};
use memenpsf_ring::ordering::Shipped;
use memenpsf_ring::packed::{self, Consumer, HeapRing, LINE, Producer};

/// A zeroed block of memory, as a region is when it is made.
struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the block is memory and nothing else; who may access it is the matter
// of the handles that are made over it.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    fn new(size: usize) -> Self {
        let layout = Layout::from_size_align(size, LINE_PAIR).expect("a small block");
        assert!(size > 0);
        // SAFETY: the size is above zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout);
        };
        Self { start, layout }
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= self.layout.size() && offset.is_multiple_of(8));
        // SAFETY: within the block by the assertion.
        let word = unsafe { self.start.add(offset) };
        // SAFETY: aligned, and accessed atomically by everyone.
        unsafe { word.cast().as_ref() }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `new` made it with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// The two blocks of one ring.
#[derive(Clone)]
pub(crate) struct Blocks {
    producer: Arc<Block>,
    consumer: Arc<Block>,
}

impl Blocks {
    pub(crate) fn new<T: Plain>(capacity: usize) -> Self {
        let producer = packed::producer_block::<T>(capacity).expect("a legal capacity");
        assert_eq!(producer.align(), LINE_PAIR);
        Self {
            producer: Arc::new(Block::new(producer.size())),
            consumer: Arc::new(Block::new(CONSUMER_BLOCK)),
        }
    }

    pub(crate) fn producer_start(&self) -> NonNull<u8> {
        self.producer.start
    }

    pub(crate) fn consumer_start(&self) -> NonNull<u8> {
        self.consumer.start
    }

    pub(crate) fn lines(&self) -> usize {
        self.producer.layout.size() / LINE
    }

    /// Sets a header, as a hostile producer does.
    pub(crate) fn set_header(&self, line: usize, header: u64) {
        self.producer
            .word(line * LINE)
            .store(header, Ordering::Release);
    }

    /// Returns a header.
    pub(crate) fn header(&self, line: usize) -> u64 {
        self.producer.word(line * LINE).load(Ordering::Acquire)
    }

    /// Sets the head, as a hostile consumer does.
    pub(crate) fn set_head(&self, head: u64) {
        self.consumer.word(0).store(head, Ordering::Release);
    }

    /// Returns the head that is published.
    pub(crate) fn head(&self) -> u64 {
        self.consumer.word(0).load(Ordering::Acquire)
    }

    /// Returns a copy of the producer block.
    pub(crate) fn bytes(&self) -> Vec<u64> {
        (0..self.producer.layout.size() / 8)
            .map(|word| self.producer.word(word * 8).load(Ordering::Acquire))
            .collect()
    }
}

/// A handle and the blocks that it keeps alive.
pub(crate) struct Over<H> {
    pub(crate) handle: H,
    /// Dropped after the handle.
    pub(crate) blocks: Blocks,
}

pub(crate) type SplitProducer<T> = Over<Producer<T, Split<T>>>;
pub(crate) type SplitConsumer<T> = Over<Consumer<T, Split<T>>>;

/// Makes both handles of a ring over two blocks.
pub(crate) fn split_ring<T: Plain>(
    capacity: usize,
    start: u64,
) -> (SplitProducer<T>, SplitConsumer<T>) {
    let blocks = Blocks::new::<T>(capacity);
    let (ours, theirs) = (blocks.producer_start(), blocks.consumer_start());
    // SAFETY: the blocks are zeroed, aligned, as large as the layout says and
    // outlive the handle.
    let memory = unsafe { Split::new(ours, theirs) };
    // SAFETY: it is the only producer.
    let producer = unsafe { Producer::attach(memory, capacity, start) };
    // SAFETY: as above.
    let memory = unsafe { Split::new(theirs, ours) };
    // SAFETY: it is the only consumer.
    let consumer = unsafe { Consumer::attach(memory, capacity, start) };
    let producer = Over {
        handle: producer.expect("a legal capacity"),
        blocks: blocks.clone(),
    };
    let consumer = Over {
        handle: consumer.expect("a legal capacity"),
        blocks,
    };
    (producer, consumer)
}

/// Makes a ring on the heap.
pub(crate) fn ring_at<T>(capacity: usize, start: u64) -> HeapRing<T, Shipped> {
    packed::ring_at(capacity, start).expect("a legal capacity")
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
