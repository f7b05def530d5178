//! Chunks of a packed ring: several slots at once.
//!
//! A chunk borrows its handle mutably, so each side has at most one, and the
//! handle does nothing else while it lives. A [`WriteChunk`] publishes a prefix
//! when it is committed, by one store for each line, and nothing when it is
//! dropped. A [`ReadChunk`] vacates by one store what was taken from it.
//!
//! Safe code may forget a chunk, so no invariant depends on its destructor: a
//! forgotten write chunk leaks its elements, and a forgotten read chunk leaves
//! the slots of what was taken to the consumer's next store.
//!
//! # Invariants
//!
//! - C1: the `len` slots of a write chunk are vacant, those of a read chunk are
//!   published; the borrow keeps the handle from publishing or vacating them.
//! - C2: the first `written` slots of a write chunk hold elements, and `next` is
//!   the place behind them. Dropping the chunk drops those that were not
//!   committed.
//! - C3: the consumer's own position is that of the first element of a read
//!   chunk that has not been moved out, at every moment; dropping the chunk
//!   vacates the slots before it.

use core::fmt;

use super::{Consumer, Place, Producer};
use crate::memory::Memory;
use crate::ordering::Orderings;

#[cfg(not(loom))]
use {
    crate::memory::{Heap, Split, UninitSlots},
    crate::plain::Plain,
    core::mem::MaybeUninit,
    core::slice,
};

/// Vacant slots of a producer, to be filled in place and then committed.
///
/// Fill it from the front by [`push`](Self::push) or [`fill`](Self::fill), or
/// through the slices, one for each line. See [`Producer::reserve`].
#[must_use = "a chunk that is dropped publishes nothing"]
pub struct WriteChunk<'a, T, M: Memory<T>, O: Orderings> {
    producer: &'a mut Producer<T, M, O>,
    len: usize,
    /// How many slots from the front hold elements (C2).
    written: usize,
    /// The slot behind them.
    next: Place,
}

impl<'a, T, M: Memory<T>, O: Orderings> WriteChunk<'a, T, M, O> {
    /// Takes the next `len` slots of `producer`, which are vacant (C1).
    pub(super) fn new(producer: &'a mut Producer<T, M, O>, len: usize) -> Self {
        let next = producer.place_ahead(0);
        Self {
            producer,
            len,
            written: 0,
            next,
        }
    }

    /// Returns the number of slots.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::packed::ring::<u8>(4)?;
    /// assert_eq!(producer.reserve(3)?.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells whether the chunk has no slots.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::packed::ring::<u8>(4)?;
    /// assert!(producer.reserve(0)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes the next element; gives it back when every slot is written.
    ///
    /// # Errors
    ///
    /// The element, when the chunk has no slot left.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(4)?;
    /// let mut chunk = producer.reserve(1)?;
    /// assert_eq!(chunk.push(1), Ok(()));
    /// assert_eq!(chunk.push(2), Err(2));
    /// chunk.commit_all();
    /// assert_eq!(consumer.pop()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.written == self.len {
            return Err(value);
        }
        self.write(value);
        Ok(())
    }

    /// Writes elements from `values` until it ends or every slot is written, and
    /// returns how many it wrote. An element that does not fit is not taken.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(4)?;
    /// let mut chunk = producer.reserve(3)?;
    /// assert_eq!(chunk.fill(10..), 3);
    /// chunk.commit(2);
    /// assert_eq!(consumer.slots(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fill(&mut self, values: impl IntoIterator<Item = T>) -> usize {
        let before = self.written;
        for value in values.into_iter().take(self.len - before) {
            self.write(value);
        }
        self.written - before
    }

    /// Writes the next element; the caller has checked that a slot is left.
    #[inline(always)]
    fn write(&mut self, value: T) {
        let slot = self.next.take::<T, M>();
        // SAFETY: `written < len`, so the slot is vacant (C1).
        unsafe { self.producer.memory().write(slot, value) };
        self.written += 1;
    }

    /// Publishes the first `count` elements, by one store for each line that they
    /// touch and in order, so that the consumer sees a prefix at every moment.
    /// Elements written behind them are dropped.
    ///
    /// # Panics
    ///
    /// When fewer than `count` elements have been written.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(4)?;
    /// let mut chunk = producer.reserve(3)?;
    /// chunk.fill([1, 2, 3]);
    /// chunk.commit(2);
    /// assert_eq!(consumer.slots(), 2);
    /// assert_eq!(producer.slots(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn commit(mut self, count: usize) {
        assert!(
            count <= self.written,
            "commit of {count} elements, of which {} were written",
            self.written
        );
        // What follows `count` is dropped before the rest is published. If one
        // of them panics, dropping `self` drops all others.
        self.discard_from(count);
        self.written = 0;
        // SAFETY: the first `count` slots hold elements (C2) and are vacant (C1).
        unsafe { self.producer.publish(count) };
    }

    /// Publishes every element that was written.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(4)?;
    /// let mut chunk = producer.reserve(4)?;
    /// chunk.fill([1, 2]);
    /// chunk.commit_all();
    /// assert_eq!(consumer.slots(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn commit_all(self) {
        let written = self.written;
        self.commit(written);
    }

    /// Drops the written elements from `first` on, the last one first.
    fn discard_from(&mut self, first: usize) {
        if !core::mem::needs_drop::<T>() {
            self.written = self.written.min(first);
        }
        while self.written > first {
            // Forgotten before it is dropped, so that one that panics is not
            // dropped again (C2).
            self.written -= 1;
            let slot = self.producer.place_ahead(self.written).take::<T, M>();
            // SAFETY: the slot holds an element of ours (C2), which `written`
            // no longer counts.
            drop(unsafe { self.producer.memory().take_back(slot) });
        }
        self.next = self.producer.place_ahead(self.written);
    }
}

#[cfg(not(loom))]
impl<T, M: Memory<T>, O: Orderings> WriteChunk<'_, T, M, O> {
    /// Returns the slots as slices, one for each line, as if uninitialised.
    fn vacant_slices(&mut self) -> impl Iterator<Item = &mut [MaybeUninit<T>]> {
        let place = self.producer.place_ahead(0);
        let memory = self.producer.memory();
        place.runs::<T, M>(self.len).map(|(slot, run)| {
            // SAFETY: the offset is that of a slot of the own block.
            let start = unsafe { memory.own_slot(slot) };
            // SAFETY: `run` slots follow in the line, they are vacant (C1),
            // aligned, and as long as `self` is borrowed nobody else touches
            // them; the runs do not overlap.
            unsafe { slice::from_raw_parts_mut(start.cast(), run) }
        })
    }
}

#[cfg(not(loom))]
impl<T, M: Memory<T> + UninitSlots, O: Orderings> WriteChunk<'_, T, M, O> {
    /// Returns the slots as slices, one for each line that the chunk touches.
    /// Elements that were already written lie at the front.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(20)?;
    /// let mut chunk = producer.reserve(10)?;
    /// for (slot, n) in chunk.uninit_slices_mut().flatten().zip(0_u64..) {
    ///     slot.write(n);
    /// }
    /// // SAFETY: all ten slots were written.
    /// unsafe { chunk.assume_written(10) };
    /// chunk.commit_all();
    /// assert!(consumer.read_chunk(10)?.eq(0..10));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn uninit_slices_mut(&mut self) -> impl Iterator<Item = &mut [MaybeUninit<T>]> {
        self.vacant_slices()
    }

    /// States that the first `count` slots hold elements.
    ///
    /// # Safety
    ///
    /// 1. The first `count` slots have been initialised.
    ///
    /// # Panics
    ///
    /// When `count` is larger than the chunk.
    pub unsafe fn assume_written(&mut self, count: usize) {
        assert!(
            count <= self.len,
            "{count} elements in a chunk of {}",
            self.len
        );
        self.written = self.written.max(count);
        self.next = self.producer.place_ahead(self.written);
    }
}

#[cfg(not(loom))]
impl<T: Plain, O: Orderings> WriteChunk<'_, T, Split<T>, O> {
    /// Returns the slots as slices to fill in place, one for each line that the
    /// chunk touches, and counts all of them as written: slots in a region always
    /// hold some value, zeros or an old element.
    ///
    /// The region is written by this process only, so plain writes through the
    /// slices are sound, and the peer is to look at them only after the commit.
    ///
    /// ```
    /// use memenpsf_ring::memory::Split;
    /// use memenpsf_ring::packed::Producer;
    ///
    /// fn send_squares(producer: &mut Producer<u32, Split<u32>>) {
    ///     let wanted = producer.slots();
    ///     let mut chunk = producer.reserve(wanted).expect("so many have room");
    ///     let mut n = 0;
    ///     for line in chunk.slices_mut() {
    ///         for slot in line {
    ///             *slot = n * n;
    ///             n += 1;
    ///         }
    ///     }
    ///     chunk.commit_all();
    /// }
    /// # use memenpsf_ring::packed::{self, Consumer};
    /// # #[repr(align(128))]
    /// # struct Block([u8; 256]);
    /// # assert!(packed::producer_block::<u32>(20)?.size() <= 256);
    /// # let ours = std::ptr::NonNull::from(Box::leak(Box::new(Block([0; 256])))).cast();
    /// # let theirs = std::ptr::NonNull::from(Box::leak(Box::new(Block([0; 256])))).cast();
    /// # // SAFETY: as in the example of `Producer::attach`.
    /// # let mut producer = unsafe { Producer::attach(Split::new(ours, theirs), 20, 0)? };
    /// # // SAFETY: as above.
    /// # let mut consumer: Consumer<u32, _> =
    /// #     unsafe { Consumer::attach(Split::new(theirs, ours), 20, 0)? };
    /// # send_squares(&mut producer);
    /// assert!(consumer.read_chunk(20)?.eq((0..20).map(|n| n * n)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn slices_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.written = self.len;
        self.next = self.producer.place_ahead(self.len);
        self.vacant_slices().map(|slots| {
            let slots: *mut [MaybeUninit<T>] = slots;
            // SAFETY: regions are zeroed when they are made and plain data has
            // no invalid pattern, so every slot holds a value.
            unsafe { &mut *(slots as *mut [T]) }
        })
    }
}

impl<T, M: Memory<T>, O: Orderings> Drop for WriteChunk<'_, T, M, O> {
    fn drop(&mut self) {
        /// Goes on with the next element when the drop of one panics.
        struct Rest<'b, 'a, T, M: Memory<T>, O: Orderings>(&'b mut WriteChunk<'a, T, M, O>);

        impl<T, M: Memory<T>, O: Orderings> Drop for Rest<'_, '_, T, M, O> {
            fn drop(&mut self) {
                self.0.discard_from(0);
            }
        }

        Rest(self).0.discard_from(0);
    }
}

impl<T, M: Memory<T>, O: Orderings> fmt::Debug for WriteChunk<'_, T, M, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteChunk")
            .field("len", &self.len)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

/// Published elements of a consumer, to be taken and then vacated together.
///
/// It is an iterator over the elements. See [`Consumer::read_chunk`].
#[must_use = "a chunk that is dropped vacates only what was taken from it"]
pub struct ReadChunk<'a, T, M: Memory<T>, O: Orderings> {
    consumer: &'a mut Consumer<T, M, O>,
    /// How many elements are left.
    left: usize,
    /// Whether any has been moved out, so that there is a slot to vacate.
    taken: bool,
}

impl<'a, T, M: Memory<T>, O: Orderings> ReadChunk<'a, T, M, O> {
    /// Takes the next `len` slots of `consumer`, which are published (C1).
    pub(super) fn new(consumer: &'a mut Consumer<T, M, O>, len: usize) -> Self {
        Self {
            consumer,
            left: len,
            taken: false,
        }
    }

    /// Drops the next `count` elements in addition to those that were taken,
    /// and vacates all of them.
    ///
    /// # Panics
    ///
    /// When fewer than `count` elements are left in the chunk.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(4)?;
    /// producer.push_slice(&[1, 2, 3])?;
    /// consumer.read_chunk(3)?.commit(2);
    /// assert_eq!(consumer.pop()?, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn commit(mut self, count: usize) {
        assert!(
            count <= self.left,
            "commit of {count} elements, of which {} are left",
            self.left
        );
        if core::mem::needs_drop::<T>() {
            for _ in 0..count {
                drop(self.next());
            }
        } else {
            self.consumer.pass_all(count);
            self.left -= count;
            self.taken |= count > 0;
        }
    }

    /// Drops all elements that are left and vacates the whole chunk.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(4)?;
    /// producer.push_slice(&[1, 2, 3])?;
    /// consumer.read_chunk(3)?.commit_all();
    /// assert!(consumer.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn commit_all(self) {
        let left = self.left;
        self.commit(left);
    }
}

#[cfg(not(loom))]
impl<T, O: Orderings> ReadChunk<'_, T, Heap<T>, O> {
    /// Returns the elements that are left as slices, one for each line that they
    /// touch.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(20)?;
    /// producer.push_slice(&[1_u64, 2, 3, 4, 5, 6, 7, 8, 9])?;
    /// let chunk = consumer.read_chunk(8)?;
    /// let slices: Vec<&[u64]> = chunk.slices().collect();
    /// assert_eq!(slices, [&[1, 2, 3, 4, 5, 6, 7][..], &[8]]);
    /// chunk.commit_all();
    /// assert_eq!(consumer.pop()?, 9);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn slices(&self) -> impl Iterator<Item = &[T]> {
        let memory = self.consumer.memory();
        let place = self.consumer.place();
        place.runs::<T, Heap<T>>(self.left).map(|(slot, run)| {
            // SAFETY: the offset is that of a slot of the peer's block.
            let start = unsafe { memory.peer_slot(slot) };
            // SAFETY: `run` slots follow in the line, they are published and
            // hold elements (C1), and stay so while `self` is borrowed.
            unsafe { slice::from_raw_parts(start, run) }
        })
    }
}

impl<T, M: Memory<T>, O: Orderings> Iterator for ReadChunk<'_, T, M, O> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.left == 0 {
            return None;
        }
        let slot = self.consumer.pass();
        self.left -= 1;
        self.taken = true;
        // SAFETY: the slot is published (C1), and the consumer has moved past
        // it, so that it is not read again (C3).
        Some(unsafe { self.consumer.memory().read(slot) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T, M: Memory<T>, O: Orderings> ExactSizeIterator for ReadChunk<'_, T, M, O> {}

impl<T, M: Memory<T>, O: Orderings> Drop for ReadChunk<'_, T, M, O> {
    fn drop(&mut self) {
        if self.taken {
            self.consumer.vacate();
        }
    }
}

impl<T, M: Memory<T>, O: Orderings> fmt::Debug for ReadChunk<'_, T, M, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadChunk")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
