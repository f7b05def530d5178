//! Memory of two regions: the peer's may be mapped read-only, and may change at any
//! instant.
//!
//! Invariants, orderings and trust: see [`super`].

use core::fmt;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, align_of, size_of};
use core::ptr::{self, NonNull};

#[cfg(not(loom))]
use zerocopy::IntoBytes;

use super::{ByteMemory, LINE_PAIR, Memory, copy_in, copy_out};
#[cfg(not(loom))]
use crate::copy::copy_run;
use crate::fail_point;
use crate::plain::Plain;
use crate::primitive::{self, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Memory of two regions: one that this side writes, one that only the peer
/// writes, possibly mapped read-only and possibly hostile.
///
/// ```
/// use memenpsf_ring::index::{self, Consumer, Producer};
/// use memenpsf_ring::memory::Split;
/// use std::ptr::NonNull;
///
/// // Two processes would map these; zeroed memory is an empty ring.
/// #[repr(align(128))]
/// struct Block([u8; 1024]);
/// let size = index::producer_block::<u32>(16)?.size();
/// assert!(size <= 1024);
/// let ours = NonNull::from(Box::leak(Box::new(Block([0; 1024])))).cast();
/// let theirs = NonNull::from(Box::leak(Box::new(Block([0; 1024])))).cast();
///
/// // SAFETY: both blocks live for ever, are large enough and aligned, and each
/// // is written by one side only.
/// let (mut producer, mut consumer) = unsafe {
///     (
///         Producer::<u32, _>::attach(Split::new(ours, theirs), 16, 0)?,
///         Consumer::<u32, _>::attach(Split::new(theirs, ours), 16, 0)?,
///     )
/// };
/// producer.push(7)?;
/// assert_eq!(consumer.pop()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Split<T> {
    own: NonNull<u8>,
    peer: NonNull<u8>,
    marker: PhantomData<T>,
}

// SAFETY: a `Split` is one side's view, and its elements are plain data.
// Moving it moves the duty to write the own block.
unsafe impl<T: Plain> Send for Split<T> {}

impl<T> fmt::Debug for Split<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Split").finish_non_exhaustive()
    }
}

impl<T: Plain> Split<T> {
    /// Names the two blocks of one ring, from one side's point of view.
    ///
    /// # Safety
    ///
    /// While the handle that gets the result lives:
    /// 1. `own` is initialised and valid for reads and writes of a block as large as the ring's
    ///    layout says (`producer_block` of the ring, or [`CONSUMER_BLOCK`](super::CONSUMER_BLOCK)), and
    ///    `peer` is valid for reads of the other block;
    /// 2. both are aligned to [`LINE_PAIR`] bytes;
    /// 3. nothing but that handle accesses the own block in this process, except
    ///    by relaxed atomic loads;
    /// 4. no reference into the peer's block exists in this process, and only
    ///    the peer's handle writes to it here, if the peer is in this process.
    pub const unsafe fn new(own: NonNull<u8>, peer: NonNull<u8>) -> Self {
        const {
            assert!(
                align_of::<T>() <= LINE_PAIR,
                "an element in a region is aligned to at most 128 bytes"
            );
        }
        Self {
            own,
            peer,
            marker: PhantomData,
        }
    }
}

// SAFETY:
// 1. What `read` and `write` do with one offset reaches the same bytes.
// 2. `T` is plain.
// 3. `abandon` is never true: the owner of the regions unmaps them.
unsafe impl<T: Plain> Memory<T> for Split<T> {
    const STRIDE: usize = size_of::<T>();

    #[inline(always)]
    unsafe fn store(&self, word: usize, value: u64, order: Ordering) {
        // SAFETY: the caller's obligation.
        let word = unsafe { self.own.add(word) };
        // SAFETY: the block is valid (obligation 1 of `new`), the word 8-aligned
        // (I1), and this process accesses it only atomically.
        unsafe { word.cast::<AtomicU64>().as_ref() }.store(value, order);
    }

    #[inline(always)]
    unsafe fn load(&self, word: usize, order: Ordering) -> u64 {
        // SAFETY: the caller's obligation.
        let word = unsafe { self.peer.add(word) };
        // PEER: loaded once, into a local. The ring checks it.
        // SAFETY: the block is valid for reads (obligation 1 of `new`), the
        // word 8-aligned (I1), and this process accesses it only atomically.
        let value = unsafe { word.cast::<AtomicU64>().as_ref() }.load(Ordering::Relaxed);
        // Relaxed load and fence instead of an acquire load: the page may be
        // mapped read-only.
        primitive::barrier(order);
        value
    }

    #[inline(always)]
    unsafe fn write(&self, slot: usize, value: T) {
        // SAFETY: the caller's obligation.
        let slot = unsafe { self.own.add(slot) };
        let from = (&raw const value).cast();
        if size_of::<T>() <= WORDS_UP_TO || cfg!(loom) {
            // SAFETY: `value` is as long as the slot, the slot is within the own
            // block, and its alignment divides that of `T`'s size.
            unsafe { store_words::<T>(slot.as_ptr(), from) };
        } else {
            // SAFETY: as above; written by this handle only (obligation 3 of `new`),
            // and nobody in this process reads a vacant slot (I2).
            unsafe { slot.as_ptr().copy_from_nonoverlapping(from, size_of::<T>()) };
        }
    }

    #[inline(always)]
    unsafe fn read(&self, slot: usize) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the caller's obligation.
        let slot = unsafe { self.peer.add(slot) };
        // PEER: each byte is loaded once, into a local.
        if size_of::<T>() <= WORDS_UP_TO || cfg!(loom) {
            // SAFETY: `value` is as long as the slot, and the slot is within the
            // peer's block.
            unsafe { load_words::<T>(value.as_mut_ptr().cast(), slot.as_ptr()) };
        } else {
            // SAFETY: as above.
            unsafe { copy_out(slot.as_ptr(), value.as_mut_ptr().cast(), size_of::<T>()) };
        }
        // SAFETY: every byte was written, and `T: Plain` permits every pattern.
        unsafe { value.assume_init() }
    }

    // In the model a word of memory is the name of an object, so there elements go
    // one by one.
    #[cfg(not(loom))]
    #[inline(always)]
    unsafe fn write_run(&self, slot: usize, values: &[T]) {
        // SAFETY: the caller's obligation.
        let slot = unsafe { self.own.add(slot) };
        // SAFETY: the slots follow one another without a gap and are vacant: written by
        // this handle only (obligation 3 of `new`), and nobody in this process reads
        // them (I2).
        unsafe { copy_in(slot.as_ptr(), values.as_bytes()) };
    }

    #[cfg(not(loom))]
    #[inline(always)]
    unsafe fn read_run(&self, slot: usize, to: *mut T, count: usize) {
        // SAFETY: the caller's obligation.
        let slot = unsafe { self.peer.add(slot) };
        // PEER: each byte is loaded once, into the caller's memory.
        // SAFETY: the slots follow one another without a gap, and `to` is as long;
        // `T: Plain` permits every pattern.
        unsafe { copy_run(slot.as_ptr(), to.cast(), count * size_of::<T>()) };
    }

    unsafe fn take_back(&self, slot: usize) -> T {
        // SAFETY: the caller's obligation.
        let slot = unsafe { self.own.add(slot) };
        // SAFETY: the slot lies in the own block and holds an element of ours.
        unsafe { ptr::read(slot.as_ptr().cast()) }
    }

    #[cfg(not(loom))]
    unsafe fn own_slot(&self, slot: usize) -> *mut T {
        // SAFETY: the caller's obligation.
        unsafe { self.own.add(slot) }.as_ptr().cast()
    }
}

// SAFETY:
// 1. One offset is one place; the peer reads each byte once, by relaxed words or by
//    `copy_out`.
// 2. Both pointers come from the blocks that `new` was given, which a region has
//    initialised.
unsafe impl ByteMemory for Split<u64> {
    #[inline(always)]
    unsafe fn copy_in(&self, to: usize, from: &[u8]) {
        // SAFETY: the caller's obligation.
        let to = unsafe { self.own.add(to) };
        // SAFETY: the own block is written by this handle only (obligation 3 of
        // `new`), and nobody in this process reads the run, which is vacant (I2).
        unsafe { copy_in(to.as_ptr(), from) };
    }

    #[inline(always)]
    unsafe fn copy_out(&self, from: usize, to: *mut u8, len: usize) {
        // SAFETY: the caller's obligation.
        let from = unsafe { self.peer.add(from) };
        // PEER: each byte is fetched once.
        // SAFETY: valid for reads (obligation 1 of `new`), and a peer in this
        // process does not write what is published (I2).
        unsafe { copy_out(from.as_ptr(), to, len) };
    }

    #[cfg(not(loom))]
    #[inline(always)]
    unsafe fn own_bytes(&self, at: usize) -> *mut u8 {
        // SAFETY: the caller's obligation.
        unsafe { self.own.add(at) }.as_ptr()
    }

    #[cfg(not(loom))]
    #[inline(always)]
    unsafe fn peer_bytes(&self, at: usize) -> *const u8 {
        // SAFETY: the caller's obligation.
        unsafe { self.peer.add(at) }.as_ptr()
    }
}

/// Largest element that is moved by relaxed words when it is alone, in bytes:
/// measured, `copy_out` is level with them there and ahead by 1.4x to 3x beyond.
const WORDS_UP_TO: usize = 64;

/// Largest power of two that divides the size of `T`, 8 at most: the size of
/// the words in which an element is moved.
const fn word_size<T>() -> usize {
    match size_of::<T>() % 8 {
        0 => 8,
        4 => 4,
        2 | 6 => 2,
        _ => 1,
    }
}

/// Moves one element into shared memory by relaxed stores.
///
/// # Safety
///
/// 1. `to` is valid for atomic writes of a `T` and aligned to `word_size`.
/// 2. `from` is valid for reads of a `T`, which has no padding.
#[inline(always)]
unsafe fn store_words<T>(to: *mut u8, from: *const u8) {
    macro_rules! by {
        ($atomic:ty, $word:ty) => {
            for i in 0..size_of::<T>() / size_of::<$word>() {
                // SAFETY: `i` words are within `T` (obligation 2); the source
                // may be aligned less than a word.
                let word = unsafe { from.cast::<$word>().add(i).read_unaligned() };
                // SAFETY: `i` words are within `T` (obligation 1).
                let to = unsafe { to.cast::<$atomic>().add(i) };
                // Relaxed: the tail's Release store (P1) publishes the words.
                // SAFETY: valid and aligned by obligation 1.
                unsafe { &*to }.store(word, Ordering::Relaxed);
                fail_point::word_written(i, size_of::<T>() / size_of::<$word>());
            }
        };
    }
    match word_size::<T>() {
        8 => by!(AtomicU64, u64),
        4 => by!(AtomicU32, u32),
        2 => by!(AtomicU16, u16),
        _ => by!(AtomicU8, u8),
    }
}

/// Moves one element out of shared memory by relaxed loads, each byte once.
///
/// # Safety
///
/// 1. `from` is valid for atomic reads of a `T` and aligned to `word_size`.
/// 2. `to` is valid for writes of a `T`.
#[inline(always)]
unsafe fn load_words<T>(to: *mut u8, from: *const u8) {
    macro_rules! by {
        ($atomic:ty, $word:ty) => {
            for i in 0..size_of::<T>() / size_of::<$word>() {
                // SAFETY: `i` words are within `T` (obligation 1).
                let from = unsafe { from.cast::<$atomic>().add(i) };
                // Relaxed: the tail's Acquire load (P1) came before.
                // SAFETY: valid and aligned by obligation 1.
                let word = unsafe { &*from }.load(Ordering::Relaxed);
                // SAFETY: `i` words are within `T` (obligation 2); the target
                // may be aligned less than a word.
                let to = unsafe { to.cast::<$word>().add(i) };
                // SAFETY: as above.
                unsafe { ptr::write_unaligned(to, word) };
            }
        };
    }
    match word_size::<T>() {
        8 => by!(AtomicU64, u64),
        4 => by!(AtomicU32, u32),
        2 => by!(AtomicU16, u16),
        _ => by!(AtomicU8, u8),
    }
}
