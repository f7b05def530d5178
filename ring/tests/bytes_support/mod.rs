//! What the tests of the bytes ring share: two heap blocks that stand for the
//! regions of two processes, a memory that leaves the terminator out, and numbers
//! that look random.

#![allow(
    dead_code,
    reason = "every test binary compiles this and none uses it all"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memenpsf_ring::bytes::{Consumer, Producer, producer_block};
use memenpsf_ring::memory::{ByteMemory, CONSUMER_BLOCK, Memory, Split};

/// A zeroed block of memory, as a region is when it is made.
struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the block is memory and nothing else; who may access it is the matter of
// the handles that are made over it.
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
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.layout.size());
        // SAFETY: within the block by the assertion.
        let word = unsafe { self.start.add(offset) };
        // SAFETY: aligned, and alive as long as `self`; tests call this while no
        // handle runs.
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
    pub(crate) fn new(capacity: usize, longest: usize) -> Self {
        let producer = producer_block(capacity, longest).expect("a legal shape");
        let consumer = Layout::from_size_align(CONSUMER_BLOCK, 128).expect("a small block");
        Self {
            producer: Arc::new(Block::new(producer)),
            consumer: Arc::new(Block::new(consumer)),
        }
    }

    /// Sets the word of the storage at `offset`, as a hostile producer does.
    pub(crate) fn set_word(&self, offset: usize, value: u64) {
        self.producer.word(offset).store(value, Ordering::Release);
    }

    /// Returns the word of the storage at `offset`.
    pub(crate) fn word(&self, offset: usize) -> u64 {
        self.producer.word(offset).load(Ordering::Acquire)
    }

    /// Sets the head, as a hostile consumer does.
    pub(crate) fn set_head(&self, head: u64) {
        self.consumer.word(0).store(head, Ordering::Release);
    }

    /// Returns the head that is published.
    pub(crate) fn head(&self) -> u64 {
        self.consumer.word(0).load(Ordering::Acquire)
    }

    /// The producer's view.
    pub(crate) fn producing(&self) -> Split<u64> {
        // SAFETY: the blocks are zeroed, aligned, as large as the layout says; those
        // who call this keep them alive.
        unsafe { Split::new(self.producer.start, self.consumer.start) }
    }

    /// The consumer's view.
    pub(crate) fn consuming(&self) -> Split<u64> {
        // SAFETY: as above.
        unsafe { Split::new(self.consumer.start, self.producer.start) }
    }
}

/// A producer over two blocks, which it keeps alive.
pub(crate) struct SplitProducer<M: ByteMemory = Split<u64>> {
    pub(crate) handle: Producer<M>,
    /// Dropped after the handle.
    pub(crate) blocks: Blocks,
}

/// A consumer over two blocks, which it keeps alive.
pub(crate) struct SplitConsumer {
    pub(crate) handle: Consumer<Split<u64>>,
    /// Dropped after the handle.
    pub(crate) blocks: Blocks,
}

/// Makes both handles of a ring over two blocks; `wrap` has its way with the
/// producer's memory.
pub(crate) fn split_ring_through<M: ByteMemory>(
    capacity: usize,
    longest: usize,
    start: u64,
    wrap: impl FnOnce(Split<u64>) -> M,
) -> (SplitProducer<M>, SplitConsumer) {
    let blocks = Blocks::new(capacity, longest);
    // SAFETY: it is the only producer.
    let producer = unsafe { Producer::attach(wrap(blocks.producing()), capacity, longest, start) };
    // SAFETY: it is the only consumer.
    let consumer = unsafe { Consumer::attach(blocks.consuming(), capacity, longest, start) };
    (
        SplitProducer {
            handle: producer.expect("a legal shape"),
            blocks: blocks.clone(),
        },
        SplitConsumer {
            handle: consumer.expect("a legal shape"),
            blocks,
        },
    )
}

/// Makes both handles of a ring over two blocks.
pub(crate) fn split_ring(
    capacity: usize,
    longest: usize,
    start: u64,
) -> (SplitProducer, SplitConsumer) {
    split_ring_through(capacity, longest, start, |memory| memory)
}

/// A producer's memory that leaves out each store of 0: the terminator.
pub(crate) struct Forgetful(pub(crate) Split<u64>);

// SAFETY: what is not left out is passed on; that a 0 is missing is what the test
// wants.
unsafe impl Memory<u64> for Forgetful {
    const STRIDE: usize = 8;

    unsafe fn store(&self, word: usize, value: u64, order: Ordering) {
        if value != 0 {
            // SAFETY: the caller's obligation.
            unsafe { self.0.store(word, value, order) };
        }
    }

    unsafe fn load(&self, word: usize, order: Ordering) -> u64 {
        // SAFETY: the caller's obligation.
        unsafe { self.0.load(word, order) }
    }

    unsafe fn write(&self, slot: usize, value: u64) {
        // SAFETY: the caller's obligation.
        unsafe { self.0.write(slot, value) };
    }

    unsafe fn read(&self, slot: usize) -> u64 {
        // SAFETY: the caller's obligation.
        unsafe { self.0.read(slot) }
    }

    unsafe fn take_back(&self, slot: usize) -> u64 {
        // SAFETY: the caller's obligation.
        unsafe { self.0.take_back(slot) }
    }

    unsafe fn own_slot(&self, slot: usize) -> *mut u64 {
        // SAFETY: the caller's obligation.
        unsafe { self.0.own_slot(slot) }
    }
}

// SAFETY: as above.
unsafe impl ByteMemory for Forgetful {
    unsafe fn copy_in(&self, to: usize, from: &[u8]) {
        // SAFETY: the caller's obligation.
        unsafe { self.0.copy_in(to, from) };
    }

    unsafe fn copy_out(&self, from: usize, to: *mut u8, len: usize) {
        // SAFETY: the caller's obligation.
        unsafe { self.0.copy_out(from, to, len) };
    }

    unsafe fn own_bytes(&self, at: usize) -> *mut u8 {
        // SAFETY: the caller's obligation.
        unsafe { self.0.own_bytes(at) }
    }

    unsafe fn peer_bytes(&self, at: usize) -> *const u8 {
        // SAFETY: the caller's obligation.
        unsafe { self.0.peer_bytes(at) }
    }
}

/// Numbers that look random, the same in every run (xorshift64*, Vigna 2016).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(((self.next() >> 32) * bound as u64) >> 32).expect("below a usize")
    }
}

/// The low byte of a number.
pub(crate) fn low_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

/// Message `number` of a stream, of up to `longest` bytes: its length and all its
/// bytes follow from the number.
pub(crate) fn message(number: u64, longest: usize) -> Vec<u8> {
    let mut random = Random::new(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let length = match random.below(4) {
        // Lengths around a cache line, empty ones, and any.
        0 => 50 + random.below(16),
        1 => random.below(17),
        _ => random.below(longest + 1),
    };
    let mut bytes = Vec::new();
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length.min(longest));
    bytes
}
