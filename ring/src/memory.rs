//! The door to shared words and slots.
//!
//! A ring is two blocks of memory, and each is written by one side only:
//!
//! ```text
//!  consumer block               producer block
//!  ┌──────────────────────┐     ┌──────────────────────────────────────┐
//!  │   0  head            │     │   0  tail                            │
//!  │   8  padding to 128  │     │   8  padding to 128                  │
//!  └──────────────────────┘     │ 128  slots, or lines, or records ... │
//!     written by the consumer   └──────────────────────────────────────┘
//!                                  written by the producer
//! ```
//!
//! A ring reaches both through one [`Memory`]: its *own* block, which it
//! writes, and the *peer's* block, which it only reads. So the same algorithm
//! runs on the heap ([`Heap`]), over two regions of two processes
//! ([`Split`]), under a model checker, and over a memory that lies.
//!
//! # Invariants
//!
//! - I1: a word is 8 bytes at an 8-aligned offset of a block, accessed only by
//!   `store` of the block's owner and `load` of its peer, always whole.
//! - I2: a slot is accessed only between two words that hand it over: by the
//!   producer while it is vacant, by the consumer while it is published.
//! - I3: zeroed blocks are an empty ring.
//! - I4 (heap only): the side whose swap of the `abandoned` word finds it set
//!   is the last one, and it alone frees the allocation, once.
//!
//! # Memory ordering
//!
//! The orderings come from [`crate::ordering`] and are passed in. A `load` from
//! a peer's region must not be an acquire load: the standard library permits
//! only relaxed loads from memory that is mapped read-only. [`Split`] does a
//! relaxed load and then an acquire fence, which orders at least as much.
//!
//! # Trust
//!
//! In [`Heap`] both sides are handles of this crate. In [`Split`] the peer's
//! block may change at any instant: `load` and `read` fetch each byte
//! once, into private memory, through relaxed atomic accesses, or [`copy_out`],
//! which no concurrent store of the peer makes undefined. What was fetched is
//! checked by the ring, not here. No reference into the peer's block is ever made,
//! except by the caller of an `unsafe` function that says so.

mod heap;
mod split;

#[cfg(loom)]
use core::mem::size_of;

pub use heap::Heap;
pub use split::Split;

pub use crate::copy::copy_out;
#[cfg(loom)]
use crate::primitive::AtomicU64;
use crate::primitive::Ordering;

/// Bytes between two words that different sides write, or that one side writes
/// and the other polls: two cache lines, because the adjacent-line prefetchers
/// of x86 fetch lines in pairs.
pub const LINE_PAIR: usize = 128;

/// Size of a consumer block in bytes: the head word and its padding.
pub const CONSUMER_BLOCK: usize = LINE_PAIR;

/// One side's view of the memory of one ring.
///
/// # Safety
///
/// 1. `write` makes the element available to the peer's `read` of the same
///    offset, once the two are ordered by a `store` and a `load`.
/// 2. For an element type that is not [`Plain`](crate::Plain), `read` returns exactly what the
///    peer wrote, and `load` returns only values that the peer stored.
/// 3. `abandon` returns `true` to at most one of the two sides, after the other
///    has called it.
pub unsafe trait Memory<T>: Sized {
    /// Bytes between two neighbouring elements.
    const STRIDE: usize;

    /// Stores `value` into the own word at `word`.
    ///
    /// # Safety
    ///
    /// 1. `word` is the offset of a word of the own block.
    unsafe fn store(&self, word: usize, value: u64, order: Ordering);

    /// Loads the peer's word at `word`, once.
    ///
    /// # Safety
    ///
    /// 1. `word` is the offset of a word of the peer's block.
    unsafe fn load(&self, word: usize, order: Ordering) -> u64;

    /// Writes `value` into the own slot at `slot`.
    ///
    /// # Safety
    ///
    /// 1. `slot` is the offset of a slot of the own block, and it is vacant.
    unsafe fn write(&self, slot: usize, value: T);

    /// Reads the element in the slot at `slot`; the caller owns what comes.
    ///
    /// # Safety
    ///
    /// 1. `slot` is the offset of a slot of the peer's block.
    /// 2. Unless `T` is [`Plain`](crate::Plain), it holds an element, and that element is not
    ///    read again.
    unsafe fn read(&self, slot: usize) -> T;

    /// Writes `values` into as many own slots, the first of them at `slot`.
    ///
    /// # Safety
    ///
    /// 1. As of [`write`](Self::write), for slots that follow one another by
    ///    [`STRIDE`](Self::STRIDE).
    #[inline(always)]
    unsafe fn write_run(&self, slot: usize, values: &[T])
    where
        T: Copy,
    {
        for (i, &value) in values.iter().enumerate() {
            // SAFETY: the caller's obligation.
            unsafe { self.write(slot + i * Self::STRIDE, value) };
        }
    }

    /// Reads the elements of `count` slots, the first of them at `slot`, to `to`; the
    /// caller owns what comes.
    ///
    /// # Safety
    ///
    /// 1. As of [`read`](Self::read), for slots that follow one another by
    ///    [`STRIDE`](Self::STRIDE).
    /// 2. `to` is valid for writes of `count` elements.
    #[inline(always)]
    unsafe fn read_run(&self, slot: usize, to: *mut T, count: usize) {
        for i in 0..count {
            // SAFETY: obligation 1.
            let value = unsafe { self.read(slot + i * Self::STRIDE) };
            // SAFETY: obligation 2.
            let to = unsafe { to.add(i) };
            // SAFETY: as above.
            unsafe { to.write(value) };
        }
    }

    /// Takes back an element from the own slot at `slot`, before it was
    /// published.
    ///
    /// # Safety
    ///
    /// 1. `slot` is the offset of a slot of the own block, and it is vacant.
    /// 2. `write` put an element there, which is not taken twice.
    unsafe fn take_back(&self, slot: usize) -> T;

    /// Returns a pointer to the own slot at `slot`, for writing in place.
    ///
    /// # Safety
    ///
    /// 1. `slot` is the offset of a slot of the own block.
    #[cfg(not(loom))]
    unsafe fn own_slot(&self, slot: usize) -> *mut T;

    /// Leaves the ring. `true` means that the other side has left before and
    /// that the caller is to drop what is left and call [`free`](Self::free).
    fn abandon(&self, order: Ordering) -> bool {
        let _ = order;
        false
    }

    /// Drops the elements at the given offsets of the producer block, then
    /// frees the memory.
    ///
    /// # Safety
    ///
    /// 1. [`abandon`](Self::abandon) has returned `true` to the caller.
    /// 2. The slots at `remaining` hold elements, each named once.
    /// 3. Nothing is accessed afterwards.
    unsafe fn free(&mut self, remaining: impl Iterator<Item = usize>) {
        drop(remaining);
    }
}

/// One side's view of the memory of a ring of bytes: words in which whole runs of
/// bytes lie, too.
///
/// A run begins at the offset of a word. It is written by the owner of its block
/// while it is vacant, and read by the peer while it is published (I2 of this
/// module, for runs instead of slots).
///
/// # Safety
///
/// 1. `copy_in` makes the bytes available to the peer's `copy_out` and `load` of
///    the same offsets, once the two are ordered by a `store` and a `load`.
/// 2. `own_bytes` and `peer_bytes` point to the same bytes, good for plain
///    accesses to the whole block as far as I2 permits them.
pub unsafe trait ByteMemory: Memory<u64> {
    /// Copies `from` into the own block at `to`.
    ///
    /// # Safety
    ///
    /// 1. `to` is the offset of a word of the own block, and the run of words that
    ///    `from` fills, the last perhaps in part, is within it and vacant.
    unsafe fn copy_in(&self, to: usize, from: &[u8]);

    /// Copies `len` bytes at `from` out of the peer's block, each fetched once.
    ///
    /// # Safety
    ///
    /// 1. `from` is the offset of a word of the peer's block, and the run of words
    ///    that `len` bytes fill is within it and published.
    /// 2. `to` is valid for writes of `len` bytes, which nobody else accesses.
    unsafe fn copy_out(&self, from: usize, to: *mut u8, len: usize);

    /// Returns a pointer to the own bytes at `at`, for writing in place.
    ///
    /// # Safety
    ///
    /// 1. `at` is an offset within the own block.
    #[cfg(not(loom))]
    unsafe fn own_bytes(&self, at: usize) -> *mut u8;

    /// Returns a pointer to the peer's bytes at `at`, for reading in place.
    ///
    /// # Safety
    ///
    /// 1. `at` is an offset within the peer's block.
    #[cfg(not(loom))]
    unsafe fn peer_bytes(&self, at: usize) -> *const u8;
}

/// Copies a run of bytes into the own block.
///
/// # Safety
///
/// 1. `to` is valid for writes of so many bytes and no other access to them is
///    under way.
#[cfg(not(loom))]
#[inline(always)]
unsafe fn copy_in(to: *mut u8, from: &[u8]) {
    // SAFETY: the caller's obligation; `from` is elsewhere, since nobody else has
    // a reference into the block.
    unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
}

/// Copies a run of bytes into words of the model.
///
/// # Safety
///
/// 1. `to` points to so many whole words of the model as `from` fills.
#[cfg(loom)]
unsafe fn copy_in(to: *mut u8, from: &[u8]) {
    for (index, bytes) in from.chunks(size_of::<u64>()).enumerate() {
        let mut word = [0; size_of::<u64>()];
        word[..bytes.len()].copy_from_slice(bytes);
        // SAFETY: the caller's obligation.
        let to = unsafe { to.cast::<AtomicU64>().add(index) };
        // Relaxed: the record's header (P5) publishes the words.
        // SAFETY: a word of the model lies there.
        unsafe { &*to }.store(u64::from_ne_bytes(word), Ordering::Relaxed);
    }
}

/// A memory whose vacant slots count as uninitialised, so that safe code may leave
/// anything in them.
///
/// [`Split`] is none: its slots are handed out as values ([`Plain`](crate::Plain) data, zeros at
/// first), so nobody may un-initialise them.
pub trait UninitSlots {}

/// Returns the offset of the first slot in a producer block.
pub(crate) const fn slots_offset<T>() -> usize {
    if align_of::<T>() > LINE_PAIR {
        align_of::<T>()
    } else {
        LINE_PAIR
    }
}
