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
//!   so every later call ends in [`Violation`](crate::Violation) before it touches a slot.
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

use core::alloc::Layout;
use core::ptr::NonNull;

use crate::error::LayoutError;
use crate::memory::{Heap, Memory, Split, slots_offset};
use crate::ordering::Orderings;
use crate::plain::Plain;
use crate::primitive::Ordering;

mod chunk;
mod consumer;
mod producer;

pub use chunk::{ReadChunk, WriteChunk};
pub use consumer::Consumer;
pub use producer::Producer;

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
