//! Two heap blocks that stand for the regions of two processes.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memenpsf_ring::Plain;
use memenpsf_ring::memory::{CONSUMER_BLOCK, LINE_PAIR, Split};

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
    fn new(layout: Layout) -> Self {
        assert!(layout.size() > 0);
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
        // SAFETY: aligned, alive as long as `self`, and accessed atomically by
        // everyone while handles run.
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
    /// Makes the blocks of a ring with this producer block.
    pub(crate) fn new(producer: Layout) -> Self {
        let consumer = Layout::from_size_align(CONSUMER_BLOCK, LINE_PAIR).expect("a small block");
        Self {
            producer: Arc::new(Block::new(producer)),
            consumer: Arc::new(Block::new(consumer)),
        }
    }

    /// Returns the start of the producer block.
    pub(crate) fn producer_start(&self) -> NonNull<u8> {
        self.producer.start
    }

    /// Returns the start of the consumer block.
    pub(crate) fn consumer_start(&self) -> NonNull<u8> {
        self.consumer.start
    }

    /// Returns the producer's view.
    pub(crate) fn producing<T: Plain>(&self) -> Split<T> {
        // SAFETY: the blocks are zeroed, aligned and as large as the layout says; those
        // who call this keep them alive.
        unsafe { Split::new(self.producer.start, self.consumer.start) }
    }

    /// Returns the consumer's view.
    pub(crate) fn consuming<T: Plain>(&self) -> Split<T> {
        // SAFETY: as above.
        unsafe { Split::new(self.consumer.start, self.producer.start) }
    }

    /// Returns the size of the producer block.
    pub(crate) fn producer_size(&self) -> usize {
        self.producer.layout.size()
    }

    /// Sets the word of the producer block at `offset`, as a hostile producer does.
    pub(crate) fn set_word(&self, offset: usize, value: u64) {
        self.producer.word(offset).store(value, Ordering::Release);
    }

    /// Returns the word of the producer block at `offset`.
    pub(crate) fn word(&self, offset: usize) -> u64 {
        self.producer.word(offset).load(Ordering::Acquire)
    }

    /// Returns a copy of the producer block.
    pub(crate) fn words(&self) -> Vec<u64> {
        (0..self.producer_size() / 8)
            .map(|word| self.word(word * 8))
            .collect()
    }

    /// Sets the head, as a hostile consumer does.
    pub(crate) fn set_head(&self, head: u64) {
        self.consumer.word(0).store(head, Ordering::Release);
    }

    /// Returns the head that is published.
    pub(crate) fn head(&self) -> u64 {
        self.consumer.word(0).load(Ordering::Acquire)
    }
}

/// A handle over two blocks, which it keeps alive.
pub(crate) struct Over<H> {
    pub(crate) handle: H,
    /// Dropped after the handle.
    pub(crate) blocks: Blocks,
}

/// Lets both handles keep their blocks alive.
pub(crate) fn over<P, C>(blocks: Blocks, producer: P, consumer: C) -> (Over<P>, Over<C>) {
    let producer = Over {
        handle: producer,
        blocks: blocks.clone(),
    };
    let consumer = Over {
        handle: consumer,
        blocks,
    };
    (producer, consumer)
}
