//! The consumer of the index ring. Invariants, ordering and trust: see
//! [`crate::index`].

use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use super::chunk::ReadChunk;
use super::{HEAD, TAIL, block_layout, checked_capacity, count, index, offsets, slot};
use crate::error::{ChunkError, LayoutError, PopError, Violation};
use crate::fail_point;
use crate::memory::{Heap, Memory, Split, slots_offset};
use crate::ordering::{Orderings, Shipped};
use crate::plain::Plain;
use crate::position::tail_is_legal;
use crate::primitive::Ordering;

/// The side that pops.
///
/// It is `Send` and not `Sync`: one thread at a time owns it.
pub struct Consumer<T, M: Memory<T> = Heap<T>, O: Orderings = Shipped> {
    memory: M,
    /// Position of the next pop (I3).
    head: u64,
    /// First position that may not be read before a refresh (I4).
    limit: u64,
    /// Number of slots, a power of two.
    capacity: u64,
    /// What the peer did, once it did it (I5).
    fault: Option<Violation>,
    /// `Cell`: invariant in `T`, and not `Sync`.
    marker: PhantomData<(Cell<T>, O)>,
}

impl<T, M: Memory<T>, O: Orderings> Consumer<T, M, O> {
    /// Makes the consumer of the ring in `memory`, both positions at `start`.
    pub(super) fn with_memory(memory: M, capacity: u64, start: u64) -> Self {
        // Relaxed: as in the producer's constructor.
        // SAFETY: HEAD is a word of the consumer's own block.
        unsafe { memory.store(HEAD, start, Ordering::Relaxed) };
        Self {
            memory,
            head: start,
            limit: start,
            capacity,
            fault: None,
            marker: PhantomData,
        }
    }

    /// Makes the consumer of a ring of `capacity` elements in `memory`, with
    /// both positions at `start`, which is 0 for a ring in zeroed memory.
    ///
    /// With any other `start`, both sides must attach before either operates.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] as for [`producer_block`](super::producer_block).
    ///
    /// # Safety
    ///
    /// 1. `memory` reaches the blocks of a ring of `capacity` elements of `T`,
    ///    and this is its only consumer.
    pub unsafe fn attach(memory: M, capacity: usize, start: u64) -> Result<Self, LayoutError> {
        block_layout::<T>(capacity, M::STRIDE)?;
        Ok(Self::with_memory(
            memory,
            checked_capacity(capacity)?,
            start,
        ))
    }

    /// Returns the number of slots of the ring.
    ///
    /// ```
    /// let (_producer, consumer) = memenpsf_ring::index::ring::<u8>(8)?;
    /// assert_eq!(consumer.capacity(), 8);
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn capacity(&self) -> usize {
        count(self.capacity)
    }

    /// Returns the position of the next pop: the number of elements popped so
    /// far in a ring that began at 0.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(8)?;
    /// producer.push(1)?;
    /// assert_eq!(consumer.position(), 0);
    /// consumer.pop()?;
    /// assert_eq!(consumer.position(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn position(&self) -> u64 {
        self.head
    }

    /// Returns what the peer did to make this handle refuse all further work.
    ///
    /// ```
    /// let (_producer, consumer) = memenpsf_ring::index::ring::<u8>(8)?;
    /// assert_eq!(consumer.violation(), None);
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn violation(&self) -> Option<Violation> {
        self.fault
    }

    /// Returns the number of elements that can be popped, 0 after a violation.
    ///
    /// The producer may add more at any moment; only this handle takes them.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(8)?;
    /// producer.push_slice(&[1, 2, 3])?;
    /// assert_eq!(consumer.slots(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn slots(&mut self) -> usize {
        // A violation shows as 0 slots here and as itself in the next call.
        let _ = self.refresh();
        self.published()
    }

    /// Tells whether there is nothing to pop.
    ///
    /// Empty may end at any moment; not empty cannot, except by this handle.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(8)?;
    /// assert!(consumer.is_empty());
    /// producer.push(1)?;
    /// assert!(!consumer.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&mut self) -> bool {
        self.published() == 0 && self.slots() == 0
    }

    /// Pops one element and vacates its slot at once.
    ///
    /// # Errors
    ///
    /// [`PopError::Empty`] when there is none; [`PopError::Violation`], which
    /// then comes from every later call.
    ///
    /// # Ordering
    ///
    /// What the producer did before it pushed the element is visible (P1).
    ///
    /// ```
    /// use memenpsf_ring::PopError;
    ///
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(1)?;
    /// producer.push('a')?;
    /// assert_eq!(consumer.pop(), Ok('a'));
    /// assert_eq!(consumer.pop(), Err(PopError::Empty));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn pop(&mut self) -> Result<T, PopError> {
        self.has_element()?;
        // SAFETY: the position is below `limit`, so its slot is published (I4),
        // and the head moves past it.
        let value = unsafe { self.memory.read(slot::<T, M>(self.head, self.capacity)) };
        let head = self.head.wrapping_add(1);
        fail_point::reach("head: before");
        // Release (P2): the slot's read happens before the producer's Acquire
        // load of the head in its refresh, and so before it overwrites the slot.
        // SAFETY: HEAD is a word of the own block.
        unsafe { self.memory.store(HEAD, head, O::VACATE_HEAD) };
        fail_point::reach("head: after");
        // After the shared store, as the producer's.
        self.head = head;
        Ok(value)
    }

    /// Pops as many elements as there are, at most `values.len()`, into the
    /// front of `values`, vacates their slots by one store, and returns how many
    /// they were.
    ///
    /// # Errors
    ///
    /// [`Violation`], which then comes from every later call.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(4)?;
    /// producer.push_slice(&[1, 2, 3])?;
    /// let mut values = [0; 8];
    /// assert_eq!(consumer.pop_slice(&mut values)?, 3);
    /// assert_eq!(values[..3], [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn pop_slice(&mut self, values: &mut [T]) -> Result<usize, Violation>
    where
        T: Copy,
    {
        // An empty slice asks as well: after a violation nothing is published,
        // and refresh says why (I5).
        if self.published() < values.len().max(1) {
            self.refresh()?;
        }
        let taken = self.published().min(values.len());
        let index = index(self.head, self.capacity);
        let (first, second) = values[..taken].split_at_mut(taken.min(self.capacity() - index));
        for (from, run) in [(index, first), (0, second)] {
            let slot = slots_offset::<T>() + from * M::STRIDE;
            // SAFETY: `taken` slots from the head on are published (I4), and `pass`
            // moves past them.
            unsafe { self.memory.read_run(slot, run.as_mut_ptr(), run.len()) };
        }
        if taken > 0 {
            self.pass(taken);
            self.vacate();
        }
        Ok(taken)
    }

    /// Pops as many elements as there are, at most `max`, appends them to
    /// `values`, vacates their slots by one store, and returns how many they
    /// were.
    ///
    /// # Errors
    ///
    /// [`Violation`], which then comes from every later call.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(4)?;
    /// producer.push_slice(&[1, 2, 3])?;
    /// let mut values = vec![0];
    /// assert_eq!(consumer.pop_into(&mut values, 2)?, 2);
    /// assert_eq!(values, [0, 1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pop_into(&mut self, values: &mut Vec<T>, max: usize) -> Result<usize, Violation> {
        // Max 0 asks as well, as in `pop_slice`.
        if self.published() < max.max(1) {
            self.refresh()?;
        }
        let taken = self.published().min(max);
        values.reserve(taken);
        let index = index(self.head, self.capacity);
        let first = taken.min(self.capacity() - index);
        for (from, run) in [(index, first), (0, taken - first)] {
            let to = values.spare_capacity_mut().as_mut_ptr().cast();
            let slot = slots_offset::<T>() + from * M::STRIDE;
            // SAFETY: `taken` slots from the head on are published (I4), and `pass`
            // moves past them; the vector has room for as many.
            unsafe { self.memory.read_run(slot, to, run) };
            let len = values.len() + run;
            // SAFETY: `run` elements behind the end have just been written.
            unsafe { values.set_len(len) };
        }
        if taken > 0 {
            self.pass(taken);
            self.vacate();
        }
        Ok(taken)
    }

    /// Takes hold of `wanted` published elements, to be read and then vacated by
    /// one store.
    ///
    /// # Errors
    ///
    /// [`ChunkError::TooFew`] when fewer elements are there, with their number;
    /// [`ChunkError::Violation`], which then comes from every later call.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(4)?;
    /// producer.push_slice(&[1, 2, 3])?;
    /// let mut chunk = consumer.read_chunk(3)?;
    /// assert_eq!(chunk.next(), Some(1));
    /// assert_eq!(chunk.next(), Some(2));
    /// drop(chunk); // what was taken is vacated, the rest stays
    /// assert_eq!(consumer.pop()?, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_chunk(&mut self, wanted: usize) -> Result<ReadChunk<'_, T, M, O>, ChunkError> {
        if self.published() < wanted || self.fault.is_some() {
            self.refresh()?;
            let available = self.published();
            if available < wanted {
                return Err(ChunkError::TooFew { wanted, available });
            }
        }
        Ok(ReadChunk::new(self, wanted))
    }

    /// Makes sure that one element is there.
    #[inline(always)]
    fn has_element(&mut self) -> Result<(), PopError> {
        if self.head == self.limit {
            self.refresh()?;
            if self.head == self.limit {
                return Err(PopError::Empty);
            }
        }
        Ok(())
    }

    /// Returns the number of elements up to `limit`.
    #[inline(always)]
    fn published(&self) -> usize {
        count(self.limit.wrapping_sub(self.head))
    }

    /// Loads the producer's tail, checks it and moves `limit`.
    #[inline]
    fn refresh(&mut self) -> Result<(), Violation> {
        if let Some(violation) = self.fault {
            return Err(violation);
        }
        // PEER: loaded once. Acquire (P1): the slots that the tail has passed
        // hold what the producer wrote.
        // SAFETY: TAIL is a word of the producer block.
        let tail = unsafe { self.memory.load(TAIL, O::REFRESH_TAIL) };
        if tail_is_legal(tail, self.limit, self.head, self.capacity) {
            self.limit = tail;
            Ok(())
        } else {
            Err(self.poison(Violation::Tail {
                tail,
                previous: self.limit,
                head: self.head,
                capacity: self.capacity,
            }))
        }
    }

    /// Refuses all further work (I5).
    #[cold]
    fn poison(&mut self, violation: Violation) -> Violation {
        self.limit = self.head;
        self.fault = Some(violation);
        violation
    }

    /// Moves past the next `taken` slots, whose elements the caller has taken.
    /// The next [`vacate`](Self::vacate) vacates them.
    #[inline(always)]
    pub(super) fn pass(&mut self, taken: usize) {
        self.head = self.head.wrapping_add(taken as u64);
    }

    /// Vacates the slots that this handle has moved past.
    #[inline(always)]
    pub(super) fn vacate(&mut self) {
        // Release (P2): the slot reads happen before the producer's Acquire
        // load of the head in its refresh, and so before it overwrites them.
        // SAFETY: HEAD is a word of the own block.
        unsafe { self.memory.store(HEAD, self.head, O::VACATE_HEAD) };
    }

    /// Returns the own memory.
    #[inline(always)]
    pub(super) fn memory(&self) -> &M {
        &self.memory
    }

    /// Returns the offset of the slot `ahead` of the head.
    #[inline(always)]
    pub(super) fn slot_ahead(&self, ahead: usize) -> usize {
        slot::<T, M>(self.head.wrapping_add(ahead as u64), self.capacity)
    }

    /// Returns how many slots lie between the head and the end of the array.
    #[cfg(not(loom))]
    pub(super) fn slots_to_end(&self) -> usize {
        self.capacity() - index(self.head, self.capacity)
    }
}

impl<T, O: Orderings> Consumer<T, Heap<T>, O> {
    /// Tells whether the producer is gone, so that nothing will be pushed. Once
    /// it is true, [`pop`](Self::pop) until empty has drained the ring.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(1)?;
    /// producer.push(1)?;
    /// drop(producer);
    /// assert!(consumer.is_abandoned());
    /// assert_eq!(consumer.pop()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_abandoned(&self) -> bool {
        // Acquire (P3): the producer's last tail is visible.
        self.memory.is_abandoned(O::OBSERVE_ABANDONED)
    }

    /// Returns a reference to the next element and leaves it in the ring.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop).
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(1)?;
    /// producer.push("hello".to_string())?;
    /// assert_eq!(consumer.peek()?, "hello");
    /// assert_eq!(consumer.pop()?, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The reference keeps the element where it is:
    ///
    /// ```compile_fail
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(1).unwrap();
    /// producer.push(1).unwrap();
    /// let first = consumer.peek().unwrap();
    /// consumer.pop().unwrap();
    /// assert_eq!(*first, 1);
    /// ```
    #[cfg(not(loom))]
    pub fn peek(&mut self) -> Result<&T, PopError> {
        self.has_element()?;
        // SAFETY: the offset is that of a slot.
        let slot = unsafe { self.memory.peer_slot(self.slot_ahead(0)) };
        // SAFETY: the slot is published (I4) and stays so while the borrow of
        // `self` keeps `pass` and `vacate` from being called.
        Ok(unsafe { &*slot })
    }
}

impl<T: Plain, O: Orderings> Consumer<T, Split<T>, O> {
    /// Copies the next element and leaves it in the ring.
    ///
    /// A hostile peer may change the element while it is in the ring, so a later
    /// [`pop`](Self::pop) may return another value.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop).
    pub fn peek(&mut self) -> Result<T, PopError> {
        self.has_element()?;
        // SAFETY: the position is below `limit`, so its slot is published (I4);
        // `T` is plain, so it may be read again.
        Ok(unsafe { self.memory.read(self.slot_ahead(0)) })
    }
}

impl<T, M: Memory<T>, O: Orderings> Drop for Consumer<T, M, O> {
    fn drop(&mut self) {
        // A read chunk that was forgotten has moved elements out and not
        // vacated their slots: the producer, if it goes last, must not drop
        // them again.
        if core::mem::needs_drop::<T>() {
            self.vacate();
        }
        // AcqRel (P3): our pops happen before the producer's swap, if that
        // comes second; its pushes happen before ours, if ours does.
        if self.memory.abandon(O::ABANDON) {
            // Relaxed: the producer's last store of its tail happens before its
            // swap, which ours has synchronised with (P3).
            // SAFETY: TAIL is a word of the producer block.
            let tail = unsafe { self.memory.load(TAIL, Ordering::Relaxed) };
            let remaining = offsets::<T, M>(self.head, tail, self.capacity);
            // SAFETY: `abandon` returned true, and these slots are published (I2).
            unsafe { self.memory.free(remaining) };
        }
    }
}

impl<T, M: Memory<T>, O: Orderings> fmt::Debug for Consumer<T, M, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("head", &self.head)
            .field("capacity", &self.capacity)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}
