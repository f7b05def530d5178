//! Memory on the heap: both sides are handles of this crate, in one process.
//!
//! The invariants are those of [`super`], I4 among them.

use core::alloc::Layout;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

#[cfg(loom)]
use super::copy_out;
use super::{ByteMemory, LINE_PAIR, Memory, UninitSlots, copy_in};
use crate::error::LayoutError;
use crate::primitive::{AtomicU64, Ordering, Slot, alloc, dealloc};

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

impl<T> UninitSlots for Heap<T> {}

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
