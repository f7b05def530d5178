//! The producer of the index ring. Invariants, ordering and trust: see
//! [`crate::index`].

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use super::chunk::WriteChunk;
use super::{HEAD, TAIL, block_layout, checked_capacity, count, index, offsets, slot};
use crate::error::{ChunkError, LayoutError, PushError, Violation};
use crate::fail_point;
use crate::memory::{Heap, Memory, slots_offset};
use crate::ordering::{Orderings, Shipped};
use crate::position::head_is_legal;
use crate::primitive::Ordering;

/// The side that pushes.
///
/// It is `Send` and not `Sync`: one thread at a time owns it.
///
/// ```compile_fail
/// fn is_sync<T: Sync>() {}
/// is_sync::<memenpsf_ring::index::Producer<u64>>();
/// ```
///
/// It is invariant in `T`: a producer of `&'static str` must not become one that
/// takes shorter-lived references, because its consumer still hands them out as
/// `&'static str`.
///
/// ```compile_fail
/// use memenpsf_ring::index::Producer;
/// fn shorten<'a>(producer: Producer<&'static str>) -> Producer<&'a str> {
///     producer
/// }
/// ```
pub struct Producer<T, M: Memory<T> = Heap<T>, O: Orderings = Shipped> {
    memory: M,
    /// Position of the next push (I3).
    tail: u64,
    /// First position that may not be written before a refresh (I4).
    limit: u64,
    /// Number of slots, a power of two.
    capacity: u64,
    /// What the peer did, once it did it (I5).
    fault: Option<Violation>,
    /// `Cell`: invariant in `T`, and not `Sync`.
    marker: PhantomData<(Cell<T>, O)>,
}

impl<T, M: Memory<T>, O: Orderings> Producer<T, M, O> {
    /// Makes the producer of the ring in `memory`, both positions at `start`.
    pub(super) fn with_memory(memory: M, capacity: u64, start: u64) -> Self {
        // Relaxed: no consumer runs before it is handed its memory, and with
        // `start` 0 the word already reads 0.
        // SAFETY: TAIL is a word of the producer's own block.
        unsafe { memory.store(TAIL, start, Ordering::Relaxed) };
        Self {
            memory,
            tail: start,
            limit: start.wrapping_add(capacity),
            capacity,
            fault: None,
            marker: PhantomData,
        }
    }

    /// Makes the producer of a ring of `capacity` elements in `memory`, with
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
    ///    and this is its only producer.
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
    /// let (producer, _consumer) = memenpsf_ring::index::ring::<u8>(8)?;
    /// assert_eq!(producer.capacity(), 8);
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn capacity(&self) -> usize {
        count(self.capacity)
    }

    /// Returns the position of the next push: the number of elements pushed so
    /// far in a ring that began at 0.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::index::ring(8)?;
    /// producer.push(1)?;
    /// assert_eq!(producer.position(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn position(&self) -> u64 {
        self.tail
    }

    /// Returns what the peer did to make this handle refuse all further work.
    ///
    /// ```
    /// let (producer, _consumer) = memenpsf_ring::index::ring::<u8>(8)?;
    /// assert_eq!(producer.violation(), None);
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn violation(&self) -> Option<Violation> {
        self.fault
    }

    /// Returns the number of vacant slots, 0 after a violation.
    ///
    /// The consumer may vacate more at any moment; only this handle fills them.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::index::ring(8)?;
    /// producer.push(1)?;
    /// assert_eq!(producer.slots(), 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn slots(&mut self) -> usize {
        // A violation shows as 0 slots here and as itself in the next call.
        let _ = self.refresh();
        self.vacant()
    }

    /// Tells whether no slot is vacant. The consumer may end that at any moment.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::index::ring(1)?;
    /// assert!(!producer.is_full());
    /// producer.push(1)?;
    /// assert!(producer.is_full());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_full(&mut self) -> bool {
        self.vacant() == 0 && self.slots() == 0
    }

    /// Pushes one element and publishes it at once.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] gives the element back; so does
    /// [`PushError::Violation`], which then comes from every later call.
    ///
    /// # Ordering
    ///
    /// What this thread did before is visible to the consumer that pops the
    /// element (P1).
    ///
    /// ```
    /// use memenpsf_ring::PushError;
    ///
    /// let (mut producer, _consumer) = memenpsf_ring::index::ring(1)?;
    /// producer.push('a')?;
    /// assert_eq!(producer.push('b'), Err(PushError::Full('b')));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), PushError<T>> {
        fail_point::reach("push: begin");
        if self.tail == self.limit {
            if let Err(violation) = self.refresh() {
                return Err(PushError::Violation(value, violation));
            }
            if self.tail == self.limit {
                return Err(PushError::Full(value));
            }
        }
        let slot = slot::<T, M>(self.tail, self.capacity);
        // SAFETY: the position is below `limit`, so its slot is vacant (I4).
        unsafe { self.memory.write(slot, value) };
        fail_point::reach("push: written");
        self.publish(1);
        Ok(())
    }

    /// Pushes as many elements from the front of `values` as fit, publishes
    /// them by one store, and returns how many they were.
    ///
    /// # Errors
    ///
    /// [`Violation`], which then comes from every later call.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(4)?;
    /// assert_eq!(producer.push_slice(&[1, 2, 3, 4, 5])?, 4);
    /// assert_eq!(consumer.pop()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn push_slice(&mut self, values: &[T]) -> Result<usize, Violation>
    where
        T: Copy,
    {
        // An empty slice asks as well: after a violation nothing is vacant, and
        // refresh says why (I5).
        if self.vacant() < values.len().max(1) {
            self.refresh()?;
        }
        let fits = self.vacant().min(values.len());
        let index = index(self.tail, self.capacity);
        // Two runs without a mask inside: to the end of the slots, then from
        // their beginning.
        let (first, second) = values[..fits].split_at(fits.min(self.capacity() - index));
        for (from, run) in [(index, first), (0, second)] {
            let slot = slots_offset::<T>() + from * M::STRIDE;
            // SAFETY: `fits` slots from the tail on are vacant (I4).
            unsafe { self.memory.write_run(slot, run) };
        }
        if fits > 0 {
            self.publish(fits);
        }
        Ok(fits)
    }

    /// Reserves `wanted` vacant slots, to be filled in place and published by
    /// one store.
    ///
    /// # Errors
    ///
    /// [`ChunkError::TooFew`] when fewer slots are vacant, with their number;
    /// [`ChunkError::Violation`], which then comes from every later call.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::index::ring(4)?;
    /// let mut chunk = producer.reserve(3)?;
    /// chunk.push("one").ok();
    /// chunk.push("two").ok();
    /// chunk.commit_all();
    /// assert_eq!(consumer.pop()?, "one");
    /// assert_eq!(consumer.pop()?, "two");
    /// assert!(consumer.pop().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&mut self, wanted: usize) -> Result<WriteChunk<'_, T, M, O>, ChunkError> {
        if self.vacant() < wanted || self.fault.is_some() {
            self.refresh()?;
            let available = self.vacant();
            if available < wanted {
                return Err(ChunkError::TooFew { wanted, available });
            }
        }
        Ok(WriteChunk::new(self, wanted))
    }

    /// Returns the number of slots up to `limit`.
    #[inline(always)]
    fn vacant(&self) -> usize {
        count(self.limit.wrapping_sub(self.tail))
    }

    /// Loads the consumer's head, checks it and moves `limit`.
    #[inline]
    fn refresh(&mut self) -> Result<(), Violation> {
        if let Some(violation) = self.fault {
            return Err(violation);
        }
        // PEER: loaded once. Acquire (P2): the consumer is done with the slots
        // that its head has passed.
        // SAFETY: HEAD is a word of the consumer block.
        let head = unsafe { self.memory.load(HEAD, O::REFRESH_HEAD) };
        let previous = self.limit.wrapping_sub(self.capacity);
        if head_is_legal(head, previous, self.tail) {
            self.limit = head.wrapping_add(self.capacity);
            Ok(())
        } else {
            Err(self.poison(Violation::Head {
                head,
                previous,
                tail: self.tail,
            }))
        }
    }

    /// Refuses all further work (I5).
    #[cold]
    fn poison(&mut self, violation: Violation) -> Violation {
        self.limit = self.tail;
        self.fault = Some(violation);
        violation
    }

    /// Publishes the next `filled` slots, which the caller has filled.
    #[inline(always)]
    pub(super) fn publish(&mut self, filled: usize) {
        let tail = self.tail.wrapping_add(filled as u64);
        fail_point::reach("tail: before");
        // Release (P1): the slot writes happen before the consumer's Acquire
        // load of the tail in its refresh.
        // SAFETY: TAIL is a word of the own block.
        unsafe { self.memory.store(TAIL, tail, O::PUBLISH_TAIL) };
        fail_point::reach("tail: after");
        // After the shared store: the other way round, one push at a time is up
        // to a fifth slower (benches/README.md).
        self.tail = tail;
    }

    /// Returns the own memory.
    #[inline(always)]
    pub(super) fn memory(&self) -> &M {
        &self.memory
    }

    /// Returns the offset of the slot `ahead` of the tail.
    #[inline(always)]
    pub(super) fn slot_ahead(&self, ahead: usize) -> usize {
        slot::<T, M>(self.tail.wrapping_add(ahead as u64), self.capacity)
    }

    /// Returns how many slots lie between the tail and the end of the array.
    #[cfg(not(loom))]
    pub(super) fn slots_to_end(&self) -> usize {
        self.capacity() - index(self.tail, self.capacity)
    }
}

impl<T, O: Orderings> Producer<T, Heap<T>, O> {
    /// Tells whether the consumer is gone, so that nothing will be popped.
    ///
    /// ```
    /// let (producer, consumer) = memenpsf_ring::index::ring::<u8>(1)?;
    /// assert!(!producer.is_abandoned());
    /// drop(consumer);
    /// assert!(producer.is_abandoned());
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn is_abandoned(&self) -> bool {
        // Acquire (P3): what the consumer did before it left is visible.
        self.memory.is_abandoned(O::OBSERVE_ABANDONED)
    }
}

impl<T, M: Memory<T>, O: Orderings> Drop for Producer<T, M, O> {
    fn drop(&mut self) {
        // AcqRel (P3): our pushes happen before the consumer's swap, if that
        // comes second; its pops happen before ours, if ours does.
        if self.memory.abandon(O::ABANDON) {
            // Relaxed: the consumer's last store of its head happens before its
            // swap, which ours has synchronised with (P3).
            // SAFETY: HEAD is a word of the consumer block.
            let head = unsafe { self.memory.load(HEAD, Ordering::Relaxed) };
            let remaining = offsets::<T, M>(head, self.tail, self.capacity);
            // SAFETY: `abandon` returned true, and these slots are published (I2).
            unsafe { self.memory.free(remaining) };
        }
    }
}

impl<T, M: Memory<T>, O: Orderings> fmt::Debug for Producer<T, M, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("tail", &self.tail)
            .field("capacity", &self.capacity)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}
