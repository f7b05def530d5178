//! Chunks: several slots of an index ring at once.
//!
//! A chunk borrows its handle mutably, so each side has at most one, and the
//! handle does nothing else while it lives. A [`WriteChunk`] publishes a prefix
//! by one store when it is committed, and nothing when it is dropped. A
//! [`ReadChunk`] vacates by one store what was taken from it.
//!
//! Safe code may forget a chunk, so no invariant depends on its destructor: a
//! forgotten write chunk leaks its elements, and a forgotten read chunk leaves
//! the slots of what was taken to the consumer's next store.
//!
//! # Invariants
//!
//! - C1: the `len` slots of a write chunk are vacant, those of a read chunk are
//!   published; the borrow keeps the handle from publishing or vacating them.
//! - C2: the first `written` slots of a write chunk hold elements. Dropping the
//!   chunk drops those that were not committed.
//! - C3: the consumer's own position is that of the first element of a read
//!   chunk that has not been moved out, at every moment; dropping the chunk
//!   vacates the slots before it.

use core::fmt;

use super::{Consumer, Producer};
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
/// through the slices. See [`Producer::reserve`].
#[must_use = "a chunk that is dropped publishes nothing"]
pub struct WriteChunk<'a, T, M: Memory<T>, O: Orderings> {
    producer: &'a mut Producer<T, M, O>,
    len: usize,
    /// How many slots from the front hold elements (C2).
    written: usize,
}

impl<'a, T, M: Memory<T>, O: Orderings> WriteChunk<'a, T, M, O> {
    /// Takes the next `len` slots of `producer`, which are vacant (C1).
    pub(super) fn new(producer: &'a mut Producer<T, M, O>, len: usize) -> Self {
        Self {
            producer,
            len,
            written: 0,
        }
    }

    /// Returns the number of slots.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::index::ring::<u8>(4)?;
    /// assert_eq!(producer.reserve(3)?.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells whether the chunk has no slots.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::index::ring::<u8>(4)?;
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
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(4)?;
    /// let mut chunk = producer.reserve(1)?;
    /// assert_eq!(chunk.push(1), Ok(()));
    /// assert_eq!(chunk.push(2), Err(2));
    /// chunk.commit_all();
    /// assert_eq!(consumer.pop()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.written == self.len {
            return Err(value);
        }
        let slot = self.producer.slot_ahead(self.written);
        // SAFETY: `written < len`, so the slot is vacant (C1).
        unsafe { self.producer.memory().write(slot, value) };
        self.written += 1;
        Ok(())
    }

    /// Writes elements from `values` until it ends or every slot is written, and
    /// returns how many it wrote. An element that does not fit is not taken.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(4)?;
    /// let mut chunk = producer.reserve(3)?;
    /// assert_eq!(chunk.fill(10..), 3);
    /// chunk.commit(2);
    /// assert_eq!(consumer.slots(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fill(&mut self, values: impl IntoIterator<Item = T>) -> usize {
        let before = self.written;
        for value in values.into_iter().take(self.len - before) {
            let slot = self.producer.slot_ahead(self.written);
            // SAFETY: `written < len`, so the slot is vacant (C1).
            unsafe { self.producer.memory().write(slot, value) };
            self.written += 1;
        }
        self.written - before
    }

    /// Publishes the first `count` elements by one store. Elements written
    /// behind them are dropped.
    ///
    /// # Panics
    ///
    /// When fewer than `count` elements have been written.
    pub fn commit(mut self, count: usize) {
        assert!(
            count <= self.written,
            "commit of {count} elements, of which {} were written",
            self.written
        );
        // What follows `count` is dropped before the tail moves past the rest.
        // If one of them panics, dropping `self` drops all others.
        self.discard_from(count);
        self.written = 0;
        if count > 0 {
            self.producer.publish(count);
        }
    }

    /// Publishes every element that was written.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(4)?;
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
            let slot = self.producer.slot_ahead(self.written);
            // SAFETY: the slot holds an element of ours (C2), which `written`
            // no longer counts.
            drop(unsafe { self.producer.memory().take_back(slot) });
        }
    }
}

#[cfg(not(loom))]
impl<T, M: Memory<T>, O: Orderings> WriteChunk<'_, T, M, O> {
    /// Returns the slots as two slices, as if uninitialised.
    fn vacant_slices(&mut self) -> (&mut [MaybeUninit<T>], &mut [MaybeUninit<T>]) {
        let first = self.len.min(self.producer.slots_to_end());
        let run = |ahead: usize, len: usize| {
            if len == 0 {
                return <&mut [MaybeUninit<T>]>::default();
            }
            let slot = self.producer.slot_ahead(ahead);
            // SAFETY: the offset is that of a slot of the own block.
            let start = unsafe { self.producer.memory().own_slot(slot) };
            // SAFETY: `len` slots follow without a wrap, they are vacant (C1),
            // aligned, and as long as `self` is borrowed nobody else touches
            // them; the two runs do not overlap.
            unsafe { slice::from_raw_parts_mut(start.cast(), len) }
        };
        (run(0, first), run(first, self.len - first))
    }
}

#[cfg(not(loom))]
impl<T, M: Memory<T> + UninitSlots, O: Orderings> WriteChunk<'_, T, M, O> {
    /// Returns the slots as two slices, the second of which is empty unless the
    /// chunk wraps. Elements that were already written lie at the front.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(4)?;
    /// let mut chunk = producer.reserve(2)?;
    /// let (first, _second) = chunk.as_uninit_slices();
    /// first[0].write(5);
    /// first[1].write(6);
    /// // SAFETY: both slots were written.
    /// unsafe { chunk.assume_written(2) };
    /// chunk.commit_all();
    /// assert_eq!(consumer.pop()?, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_uninit_slices(&mut self) -> (&mut [MaybeUninit<T>], &mut [MaybeUninit<T>]) {
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
    }
}

#[cfg(not(loom))]
impl<T: Plain, O: Orderings> WriteChunk<'_, T, Split<T>, O> {
    /// Returns the slots as two slices to fill in place, the second of which is
    /// empty unless the chunk wraps, and counts all of them as written: slots in
    /// a region always hold some value, zeros or an old element.
    ///
    /// The region is written by this process only, so plain writes through the
    /// slices are sound, and the peer is to look at them only after the commit.
    pub fn as_mut_slices(&mut self) -> (&mut [T], &mut [T]) {
        self.written = self.len;
        let (first, second) = self.vacant_slices();
        let initialised = |slots: &'_ mut [MaybeUninit<T>]| {
            let slots: *mut [MaybeUninit<T>] = slots;
            slots as *mut [T]
        };
        // SAFETY: regions are zeroed when they are made and plain data has no
        // invalid pattern, so every slot holds a value.
        let first = unsafe { &mut *initialised(first) };
        // SAFETY: as above.
        let second = unsafe { &mut *initialised(second) };
        (first, second)
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

    /// Moves past the next `count` elements, of which that many are left (C3).
    fn pass(&mut self, count: usize) {
        self.consumer.pass(count);
        self.left -= count;
        self.taken |= count > 0;
    }

    /// Drops the next `count` elements in addition to those that were taken,
    /// and vacates all of them.
    ///
    /// # Panics
    ///
    /// When fewer than `count` elements are left in the chunk.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(4)?;
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
            self.pass(count);
        }
    }

    /// Drops all elements that are left and vacates the whole chunk.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(4)?;
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
    /// Returns the elements that are left as two slices, the second of which is
    /// empty unless the chunk wraps.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(4)?;
    /// producer.push_slice(&[1, 2, 3])?;
    /// let chunk = consumer.read_chunk(2)?;
    /// assert_eq!(chunk.as_slices(), (&[1, 2][..], &[][..]));
    /// chunk.commit_all();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_slices(&self) -> (&[T], &[T]) {
        let first = self.left.min(self.consumer.slots_to_end());
        let run = |ahead: usize, len: usize| {
            if len == 0 {
                return <&[T]>::default();
            }
            let slot = self.consumer.slot_ahead(ahead);
            // SAFETY: the offset is that of a slot of the peer's block.
            let start = unsafe { self.consumer.memory().peer_slot(slot) };
            // SAFETY: `len` slots follow without a wrap, they are published and
            // hold elements (C1), and stay so while `self` is borrowed.
            unsafe { slice::from_raw_parts(start, len) }
        };
        (run(0, first), run(first, self.left - first))
    }
}

impl<T, M: Memory<T>, O: Orderings> Iterator for ReadChunk<'_, T, M, O> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.left == 0 {
            return None;
        }
        let slot = self.consumer.slot_ahead(0);
        self.pass(1);
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
