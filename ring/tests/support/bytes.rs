//! What the tests of the bytes ring share: a ring over two blocks, a memory that
//! leaves the terminator out, and numbers that look random.

use std::sync::atomic::Ordering;

use memenpsf_ring::bytes::{Consumer, Producer, producer_block};
use memenpsf_ring::memory::{ByteMemory, Memory, Split};

use super::blocks::{Blocks, Over, over};

pub(crate) type SplitProducer<M = Split<u64>> = Over<Producer<M>>;
pub(crate) type SplitConsumer = Over<Consumer<Split<u64>>>;

/// Makes both handles of a ring over two blocks; `wrap` has its way with the
/// producer's memory.
pub(crate) fn split_ring_through<M: ByteMemory>(
    capacity: usize,
    longest: usize,
    start: u64,
    wrap: impl FnOnce(Split<u64>) -> M,
) -> (SplitProducer<M>, SplitConsumer) {
    let blocks = Blocks::new(producer_block(capacity, longest).expect("a legal shape"));
    // SAFETY: it is the only producer.
    let producer = unsafe { Producer::attach(wrap(blocks.producing()), capacity, longest, start) };
    // SAFETY: it is the only consumer.
    let consumer = unsafe { Consumer::attach(blocks.consuming(), capacity, longest, start) };
    over(
        blocks,
        producer.expect("a legal shape"),
        consumer.expect("a legal shape"),
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
