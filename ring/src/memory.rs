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

use core::alloc::Layout;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, align_of, size_of};
use core::ptr::{self, NonNull};

#[cfg(not(loom))]
use zerocopy::IntoBytes;

pub use crate::copy::copy_out;
#[cfg(not(loom))]
use crate::copy::copy_run;
use crate::error::LayoutError;
use crate::fail_point;
use crate::plain::Plain;
use crate::primitive::{
    self, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, Slot, alloc, dealloc,
};

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
/// 2. For an element type that is not [`Plain`], `read` returns exactly what the
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
    /// 2. Unless `T` is [`Plain`], it holds an element, and that element is not
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
/// [`Split`] is none: its slots are handed out as values ([`Plain`] data, zeros at
/// first), so nobody may un-initialise them.
pub trait UninitSlots {}

impl<T> UninitSlots for Heap<T> {}

/// Returns the offset of the first slot in a producer block.
pub(crate) const fn slots_offset<T>() -> usize {
    if align_of::<T>() > LINE_PAIR {
        align_of::<T>()
    } else {
        LINE_PAIR
    }
}

/// Memory on the heap, shared by two handles of one process.
pub struct Heap<T> {
    /// Start of the own block.
    own: NonNull<u8>,
    /// Start of the peer's block.
    peer: NonNull<u8>,
    /// Start of the allocation: the `abandoned` word, then the consumer block,
    /// then the producer block.
    base: NonNull<u8>,
    /// Start of the producer block.
    producer: NonNull<u8>,
    layout: Layout,
    marker: PhantomData<T>,
}

// SAFETY: a `Heap` is one side's view. Moving it to another thread moves the
// duty to write that side's block, and the elements that pass through it: sound
// when the elements may change threads.
unsafe impl<T: Send> Send for Heap<T> {}

impl<T> fmt::Debug for Heap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").finish_non_exhaustive()
    }
}

impl<T> Heap<T> {
    /// Allocates both blocks and returns the producer's and the consumer's view.
    ///
    /// `words` and `slots` are the offsets of the words and slots of the
    /// producer block, all of them within `block`.
    pub(crate) fn pair(
        block: Layout,
        words: impl Iterator<Item = usize>,
        slots: impl Iterator<Item = usize>,
    ) -> Result<(Self, Self), LayoutError> {
        let too_large = LayoutError::TooLarge {
            capacity: block.size(),
            slot: size_of::<Slot<T>>(),
        };
        let header = Layout::new::<AtomicU64>()
            .align_to(LINE_PAIR)
            .map_err(|_| too_large)?
            .pad_to_align();
        let (layout, consumer) = header.extend(header).map_err(|_| too_large)?;
        let (layout, producer) = layout.extend(block).map_err(|_| too_large)?;
        // SAFETY: the layout begins with a word, so its size is above zero.
        let base = unsafe { alloc(layout) };
        let base = NonNull::new(base).ok_or(LayoutError::NoMemory {
            bytes: layout.size(),
        })?;
        let place_word = |offset: usize| {
            // SAFETY: every offset below is within the allocation.
            let word = unsafe { base.add(offset) };
            // SAFETY: words are 8-aligned (I1) and the allocation is unshared.
            unsafe { word.cast().write(AtomicU64::new(0)) };
        };
        place_word(ABANDONED);
        place_word(consumer);
        words.for_each(|word| place_word(producer + word));
        for slot in slots {
            // SAFETY: the caller's offsets are within the producer block.
            let slot = unsafe { base.add(producer + slot) };
            // SAFETY: slots are aligned for `T` and the allocation is unshared.
            unsafe { slot.cast().write(Slot::<T>::new()) };
        }
        // SAFETY: `extend` placed both blocks within the allocation.
        let consumer = unsafe { base.add(consumer) };
        // SAFETY: as above.
        let producer = unsafe { base.add(producer) };
        let side = |own, peer| Self {
            own,
            peer,
            base,
            producer,
            layout,
            marker: PhantomData,
        };
        Ok((side(producer, consumer), side(consumer, producer)))
    }

    /// Returns the word at `offset` from `base`.
    ///
    /// # Safety
    ///
    /// 1. A word lies there.
    #[inline(always)]
    unsafe fn word(&self, base: NonNull<u8>, offset: usize) -> &AtomicU64 {
        // SAFETY: obligation 1.
        let word = unsafe { base.add(offset) };
        // SAFETY: `pair` placed an atomic there (I1), which lives as long as
        // the allocation, and that outlives this handle (I4).
        unsafe { word.cast().as_ref() }
    }

    /// Returns the slot at `offset` from `base`.
    ///
    /// # Safety
    ///
    /// 1. A slot lies there.
    #[inline(always)]
    unsafe fn slot(&self, base: NonNull<u8>, offset: usize) -> &Slot<T> {
        // SAFETY: obligation 1.
        let slot = unsafe { base.add(offset) };
        // SAFETY: `pair` placed a slot there, which lives as long as the
        // allocation, and that outlives this handle (I4).
        unsafe { slot.cast().as_ref() }
    }

    /// Tells whether the other side has left, with ordering `order`.
    pub(crate) fn is_abandoned(&self, order: Ordering) -> bool {
        // SAFETY: `pair` placed the word there.
        unsafe { self.word(self.base, ABANDONED) }.load(order) != 0
    }

    /// Returns a pointer to the peer's slot at `slot`, for reading in place.
    ///
    /// # Safety
    ///
    /// 1. `slot` is the offset of a slot of the peer's block.
    #[cfg(not(loom))]
    pub(crate) unsafe fn peer_slot(&self, slot: usize) -> *const T {
        // SAFETY: obligation 1.
        unsafe { self.slot(self.peer, slot) }.with(|slot| slot)
    }
}

/// Offset of the `abandoned` word in a heap allocation.
const ABANDONED: usize = 0;

// SAFETY:
// 1. `read` and `write` of one offset reach one slot.
// 2. Both blocks are private to the two handles of the ring, which write only
//    through this type.
// 3. `abandon` swaps: the first caller finds 0, the second 1 (I4).
unsafe impl<T> Memory<T> for Heap<T> {
    const STRIDE: usize = size_of::<Slot<T>>();

    #[inline(always)]
    unsafe fn store(&self, word: usize, value: u64, order: Ordering) {
        // SAFETY: the caller's obligation.
        unsafe { self.word(self.own, word) }.store(value, order);
    }

    #[inline(always)]
    unsafe fn load(&self, word: usize, order: Ordering) -> u64 {
        // SAFETY: the caller's obligation.
        unsafe { self.word(self.peer, word) }.load(order)
    }

    #[inline(always)]
    unsafe fn write(&self, slot: usize, value: T) {
        // SAFETY: the caller's obligation.
        let slot = unsafe { self.slot(self.own, slot) };
        slot.with_mut(|slot| {
            // SAFETY: the slot is vacant, so no other access is under way (I2).
            unsafe { slot.write(value) }
        });
    }

    #[inline(always)]
    unsafe fn read(&self, slot: usize) -> T {
        // SAFETY: the caller's obligation.
        let slot = unsafe { self.slot(self.peer, slot) };
        slot.with(|slot| {
            // SAFETY: the slot is published and holds an element (I2), which
            // the caller reads once.
            unsafe { slot.read() }
        })
    }

    unsafe fn take_back(&self, slot: usize) -> T {
        // SAFETY: the caller's obligation.
        let slot = unsafe { self.slot(self.own, slot) };
        slot.with(|slot| {
            // SAFETY: the slot is vacant, so only this side accesses it (I2),
            // and it holds an element, which the caller takes once.
            unsafe { slot.read() }
        })
    }

    #[cfg(not(loom))]
    unsafe fn own_slot(&self, slot: usize) -> *mut T {
        // SAFETY: the caller's obligation.
        unsafe { self.slot(self.own, slot) }.with_mut(|slot| slot)
    }

    fn abandon(&self, order: Ordering) -> bool {
        // SAFETY: `pair` placed the word there.
        unsafe { self.word(self.base, ABANDONED) }.swap(1, order) != 0
    }

    unsafe fn free(&mut self, remaining: impl Iterator<Item = usize>) {
        // Dropped last, so that memory is freed even when an element panics.
        let _allocation = Allocation {
            base: self.base,
            layout: self.layout,
        };
        let mut remains = Remains {
            heap: self,
            slots: remaining,
        };
        remains.drop_elements();
    }
}

// SAFETY:
// 1. One offset is one place, and both sides are handles of one process.
// 2. Both pointers come from the whole allocation, which is initialised: `pair`
//    placed a word at every offset that the bytes ring named.
unsafe impl ByteMemory for Heap<u64> {
    #[inline(always)]
    unsafe fn copy_in(&self, to: usize, from: &[u8]) {
        // SAFETY: the caller's obligation.
        let to = unsafe { self.own.add(to) };
        // SAFETY: the run is vacant, so no other access is under way (I2).
        unsafe { copy_in(to.as_ptr(), from) };
    }

    #[inline(always)]
    unsafe fn copy_out(&self, from: usize, to: *mut u8, len: usize) {
        // SAFETY: the caller's obligation.
        let from = unsafe { self.peer.add(from) };
        // The peer is honest: the run does not change until it is vacated.
        #[cfg(not(loom))]
        // SAFETY: published and so not written (I2); obligation 2.
        unsafe {
            to.copy_from_nonoverlapping(from.as_ptr(), len);
        }
        #[cfg(loom)]
        // SAFETY: as above.
        unsafe {
            copy_out(from.as_ptr(), to, len);
        }
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

/// Frees a heap ring's memory when it is dropped.
struct Allocation {
    base: NonNull<u8>,
    layout: Layout,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: `pair` made this allocation with this layout, and only the
        // last side makes an `Allocation` (I4).
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// Elements left in a ring that both sides have left. When the drop of one
/// panics, unwinding drops this, which goes on with the next.
struct Remains<'a, T, I: Iterator<Item = usize>> {
    heap: &'a Heap<T>,
    slots: I,
}

impl<T, I: Iterator<Item = usize>> Remains<'_, T, I> {
    fn drop_elements(&mut self) {
        for slot in &mut self.slots {
            // SAFETY: the offset is that of a slot of the producer block.
            let slot = unsafe { self.heap.slot(self.heap.producer, slot) };
            drop(slot.with(|slot| {
                // SAFETY: it holds an element, and each is named once.
                unsafe { slot.read() }
            }));
        }
    }
}

impl<T, I: Iterator<Item = usize>> Drop for Remains<'_, T, I> {
    fn drop(&mut self) {
        self.drop_elements();
    }
}

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
    ///    layout says (`producer_block` of the ring, or [`CONSUMER_BLOCK`]), and
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
/// the words in which an element is moved. Both sides derive it from the same
/// size, so they always use accesses of one size for one byte.
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
