//! The index ring: two published positions and a power-of-two array of slots.
//!
//! It is the default for bulk: [`reserve`](Producer::reserve) hands out slots to
//! fill in place, and one store publishes a whole slice or chunk. [`push`] and
//! [`pop`] publish at once; batching is never hidden inside them.
//!
//! ```text
//!            producer's handle                     consumer's handle
//!         tail, limit = head + capacity          head, limit = tail
//!              │ P1: Release store                    │ P2: Release store
//!              ▼                                      ▼
//!  producer block: tail │ slot 0 │ slot 1 │ ...   consumer block: head
//!              │                                      │
//!              └── P1: Acquire load, by the consumer  └── P2: Acquire load,
//!                                                         by the producer
//! ```
//!
//! The names are those of crossbeam and `io_uring`: the producer's position is
//! the tail and the consumer's the head. (Linux's `circ_buf` has them the other
//! way round.)
//!
//! Producer block ([`producer_block`] tells its size):
//!
//! | offset | size | field | written by |
//! |---|---|---|---|
//! | 0 | 8 | tail: position of the next push | producer |
//! | 8 | 120 | padding | nobody |
//! | 128, or the alignment of `T` if larger | capacity x slot | slots, at `position & (capacity - 1)` | producer |
//!
//! Consumer block ([`CONSUMER_BLOCK`](crate::memory::CONSUMER_BLOCK) bytes):
//!
//! | offset | size | field | written by |
//! |---|---|---|---|
//! | 0 | 8 | head: position of the next pop | consumer |
//! | 8 | 120 | padding | nobody |
//!
//! # Invariants
//!
//! - I1: `head <= tail <= head + capacity`, in wrapping arithmetic.
//! - I2: the slots at positions `head..tail` are published, and only the
//!   consumer accesses them; all others are vacant, and only the producer does.
//! - I3: a handle's own position is its field, and the shared word is a copy
//!   that is written and never read back. The consumer's copy is behind its
//!   field while a read chunk lives, and after one was forgotten until the next
//!   store.
//! - I4: `limit` is the position at which a handle must ask for the peer's
//!   position again: `previous head + capacity` in the producer, `previous tail`
//!   in the consumer. Up to it, I2 holds whatever the peer does.
//! - I5: after a violation `limit` equals the own position and `fault` says why,
//!   so every later call ends in [`Violation`] before it touches a slot.
//!
//! # Memory ordering
//!
//! P1 (tail) and P2 (head) of [`crate::ordering`]; P3 when a side leaves.
//!
//! # Trust
//!
//! The peer controls one word: the head, seen by the producer in
//! `Producer::refresh`, and the tail, seen by the consumer in
//! `Consumer::refresh`. Each is loaded once and checked there (I1, and that it
//! does not move backwards). Own positions, capacity and mask are private.
//!
//! [`push`]: Producer::push
//! [`pop`]: Consumer::pop

use alloc::vec::Vec;
use core::alloc::Layout;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::chunk::{ReadChunk, WriteChunk};
use crate::error::{ChunkError, LayoutError, PopError, PushError, Violation};
use crate::memory::{Heap, Memory, Split, slots_offset};
use crate::ordering::{Orderings, Shipped};
use crate::plain::Plain;
use crate::position::{head_is_legal, tail_is_legal};
use crate::primitive::Ordering;

/// Offset of the tail in the producer block.
const TAIL: usize = 0;
/// Offset of the head in the consumer block.
const HEAD: usize = 0;

/// Checks a capacity and returns it as a position's distance.
fn checked_capacity(capacity: usize) -> Result<u64, LayoutError> {
    match u64::try_from(capacity) {
        Ok(wide) if capacity.is_power_of_two() => Ok(wide),
        _ => Err(LayoutError::Capacity { given: capacity }),
    }
}

/// Computes the layout of a producer block whose slots are `stride` bytes.
fn block_layout<T>(capacity: usize, stride: usize) -> Result<Layout, LayoutError> {
    checked_capacity(capacity)?;
    let too_large = LayoutError::TooLarge {
        capacity,
        slot: stride,
    };
    let slots = slots_offset::<T>();
    let size = capacity
        .checked_mul(stride)
        .and_then(|bytes| bytes.checked_add(slots))
        .ok_or(too_large)?;
    Layout::from_size_align(size, slots).map_err(|_| too_large)
}

/// Returns size and alignment of the producer block of a ring of `capacity`
/// elements of `T` in a region.
///
/// # Errors
///
/// [`LayoutError::Capacity`] unless `capacity` is a power of two of at least 1;
/// [`LayoutError::TooLarge`] when the block would not fit into the address space.
///
/// ```
/// let block = memenpsf_ring::index::producer_block::<u64>(1024)?;
/// assert_eq!(block.size(), 128 + 1024 * 8);
/// # Ok::<(), memenpsf_ring::LayoutError>(())
/// ```
pub fn producer_block<T: Plain>(capacity: usize) -> Result<Layout, LayoutError> {
    block_layout::<T>(capacity, <Split<T> as Memory<T>>::STRIDE)
}

/// Makes a ring of `capacity` elements on the heap.
///
/// All `capacity` slots are usable. When both handles are gone, the elements
/// that were not popped are dropped and the memory is freed, whichever side goes
/// first.
///
/// # Errors
///
/// [`LayoutError::Capacity`] unless `capacity` is a power of two of at least 1;
/// [`LayoutError::TooLarge`] and [`LayoutError::NoMemory`] when it is too large.
///
/// ```
/// let (mut producer, mut consumer) = memenpsf_ring::index::ring(2)?;
/// producer.push("first".to_string())?;
/// producer.push("second".to_string())?;
/// assert!(producer.push("third".to_string()).is_err());
/// assert_eq!(consumer.pop()?, "first");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn ring<T>(capacity: usize) -> Result<(Producer<T>, Consumer<T>), LayoutError> {
    ring_at(capacity, 0)
}

/// Makes a ring on the heap whose positions begin at `start`, with the orderings
/// `O`: for tests of wrap-around and for mutants.
///
/// # Errors
///
/// As [`ring`].
#[doc(hidden)]
pub fn ring_at<T, O: Orderings>(
    capacity: usize,
    start: u64,
) -> Result<HeapRing<T, O>, LayoutError> {
    let stride = <Heap<T> as Memory<T>>::STRIDE;
    let block = block_layout::<T>(capacity, stride)?;
    let slots = slots_offset::<T>();
    let (producer, consumer) = Heap::pair(
        block,
        core::iter::once(TAIL),
        (0..capacity).map(|index| slots + index * stride),
    )?;
    let producer = Producer::with_memory(producer, checked_capacity(capacity)?, start);
    let consumer = Consumer::with_memory(consumer, checked_capacity(capacity)?, start);
    Ok((producer, consumer))
}

/// Writes the position word of a fresh block in a region, so that its ring may
/// begin elsewhere than at 0: for tests of wrap-around between processes.
///
/// # Safety
///
/// 1. `block` is a producer or a consumer block, valid for writes, that no handle
///    has been attached to yet.
#[doc(hidden)]
pub unsafe fn begin_at(block: NonNull<u8>, start: u64) {
    const { assert!(TAIL == HEAD) };
    // SAFETY: the position is the first word of either block, and the peer's
    // block is not accessed through this view.
    let memory = unsafe { Split::<u64>::new(block, block) };
    // Relaxed: the peer learns of the block only later, through a socket.
    // SAFETY: as above.
    unsafe { memory.store(TAIL, start, Ordering::Relaxed) };
}

/// Both handles of a ring on the heap.
pub type HeapRing<T, O> = (Producer<T, Heap<T>, O>, Consumer<T, Heap<T>, O>);

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

/// Returns the offset of the slot at `position`.
#[inline(always)]
fn slot<T, M: Memory<T>>(position: u64, capacity: u64) -> usize {
    slots_offset::<T>() + index(position, capacity) * M::STRIDE
}

/// Returns the offsets of the slots at the positions `head..tail`.
fn offsets<T, M: Memory<T>>(head: u64, tail: u64, capacity: u64) -> impl Iterator<Item = usize> {
    (0..tail.wrapping_sub(head)).map(move |i| slot::<T, M>(head.wrapping_add(i), capacity))
}

/// Returns the index of the slot at `position`.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the index is below the capacity, which came from a usize"
)]
fn index(position: u64, capacity: u64) -> usize {
    (position & (capacity - 1)) as usize
}

/// Returns a distance of at most the capacity as a `usize`.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the distance is at most the capacity, which came from a usize"
)]
fn count(distance: u64) -> usize {
    distance as usize
}

impl<T, M: Memory<T>, O: Orderings> Producer<T, M, O> {
    /// Makes the producer of the ring in `memory`, both positions at `start`.
    fn with_memory(memory: M, capacity: u64, start: u64) -> Self {
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
    /// [`LayoutError`] as for [`producer_block`].
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
            for (i, &value) in run.iter().enumerate() {
                let slot = slots_offset::<T>() + (from + i) * M::STRIDE;
                // SAFETY: `fits` slots from the tail on are vacant (I4).
                unsafe { self.memory.write(slot, value) };
            }
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
    pub(crate) fn publish(&mut self, filled: usize) {
        self.tail = self.tail.wrapping_add(filled as u64);
        // Release (P1): the slot writes happen before the consumer's Acquire
        // load of the tail in its refresh.
        // SAFETY: TAIL is a word of the own block.
        unsafe { self.memory.store(TAIL, self.tail, O::PUBLISH_TAIL) };
    }

    /// Returns the own memory.
    #[inline(always)]
    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    /// Returns the offset of the slot `ahead` of the tail.
    #[inline(always)]
    pub(crate) fn slot_ahead(&self, ahead: usize) -> usize {
        slot::<T, M>(self.tail.wrapping_add(ahead as u64), self.capacity)
    }

    /// Returns how many slots lie between the tail and the end of the array.
    #[cfg(not(loom))]
    pub(crate) fn slots_to_end(&self) -> usize {
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

impl<T, M: Memory<T>, O: Orderings> Consumer<T, M, O> {
    /// Makes the consumer of the ring in `memory`, both positions at `start`.
    fn with_memory(memory: M, capacity: u64, start: u64) -> Self {
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
    /// [`LayoutError`] as for [`producer_block`].
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
        // and `pass` moves past it.
        let value = unsafe { self.memory.read(slot::<T, M>(self.head, self.capacity)) };
        self.pass(1);
        self.vacate();
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
            for (i, value) in run.iter_mut().enumerate() {
                let slot = slots_offset::<T>() + (from + i) * M::STRIDE;
                // SAFETY: `taken` slots from the head on are published (I4),
                // and `pass` moves past them.
                *value = unsafe { self.memory.read(slot) };
            }
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
            for (i, value) in values.spare_capacity_mut()[..run].iter_mut().enumerate() {
                let slot = slots_offset::<T>() + (from + i) * M::STRIDE;
                // SAFETY: `taken` slots from the head on are published (I4),
                // and `pass` moves past them.
                value.write(unsafe { self.memory.read(slot) });
            }
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
    pub(crate) fn pass(&mut self, taken: usize) {
        self.head = self.head.wrapping_add(taken as u64);
    }

    /// Vacates the slots that this handle has moved past.
    #[inline(always)]
    pub(crate) fn vacate(&mut self) {
        // Release (P2): the slot reads happen before the producer's Acquire
        // load of the head in its refresh, and so before it overwrites them.
        // SAFETY: HEAD is a word of the own block.
        unsafe { self.memory.store(HEAD, self.head, O::VACATE_HEAD) };
    }

    /// Returns the own memory.
    #[inline(always)]
    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    /// Returns the offset of the slot `ahead` of the head.
    #[inline(always)]
    pub(crate) fn slot_ahead(&self, ahead: usize) -> usize {
        slot::<T, M>(self.head.wrapping_add(ahead as u64), self.capacity)
    }

    /// Returns how many slots lie between the head and the end of the array.
    #[cfg(not(loom))]
    pub(crate) fn slots_to_end(&self) -> usize {
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
