//! The bytes ring: messages of variable length, each contiguous for its reader.
//!
//! A message lies in a *record*: one header word and the bytes. The header is
//! stored last and is what the consumer polls, so there is no tail word, and a
//! message of up to 56 bytes that begins a cache line travels in one transfer of
//! that line.
//!
//! ```text
//!              head                        tail        limit = head + capacity - 8
//!               │                           │                          │
//!  ─────────────┼───────────────────────────┼──────────────────────────┼──▶ positions
//!     vacant    │ h│ bytes │ h│ bytes │░│ h│..│ 0 │      vacant         │
//!                                             ▲
//!                        P5: Acquire load ────┘  the next header, 0 until
//!                        by the consumer         P5: Release store by the producer
//!
//!  storage:  0                                            capacity   + longest message
//!            ├──────────────────────────────────────────────┼──────────────────────┤
//!            │ ...cord │ 0            │ h│ the last record of a lap r│uns over ──▶  │
//!            ├──────────────────────────────────────────────┼──────────────────────┤
//!               ▲ the position behind it wraps as if it had not
//! ```
//!
//! Producer block ([`producer_block`] tells its size):
//!
//! | offset | size | field | written by |
//! |---|---|---|---|
//! | 0 | capacity | records, at `position & (capacity - 1)` | producer |
//! | capacity | longest message, rounded up to 8 | overhang of the last record of a lap | producer |
//!
//! Record, at a position that is a multiple of 8:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | header: the message's length plus 1, or 0: no record yet |
//! | 8 | length | the message |
//! | 8 + length | 0 to 7 | up to a multiple of 8 |
//! | then | 0 to 56 | padding (I6) |
//!
//! Consumer block ([`CONSUMER_BLOCK`](crate::memory::CONSUMER_BLOCK) bytes):
//!
//! | offset | size | field | written by |
//! |---|---|---|---|
//! | 0 | 8 | head: position of the next record to be popped | consumer |
//! | 8 | 120 | padding | nobody |
//!
//! # Capacity and the longest message
//!
//! The capacity is in bytes, a power of two of at least 16. A message of `n` bytes
//! takes `8 + n`, rounded up to 8, and padding; 8 bytes of the capacity always
//! stay free (I4). [`longest_message`] is what fits into an empty ring wherever it
//! begins: `capacity - 16`, and for capacities below 128 `capacity / 2 - 8`. The
//! caller names the longest message of its own, up to that, and the overhang is as
//! large as this. So an empty ring takes any message that it accepts at all, and
//! the smaller the longest message, the smaller the memory.
//!
//! # Invariants
//!
//! - I1: `head <= tail <= head + capacity - 8`, in wrapping arithmetic, and all
//!   are multiples of 8.
//! - I2: the bytes of the records at `head..tail` are published: the consumer reads
//!   them and the producer does not write them. All others are vacant: the producer
//!   writes them, and the consumer reads none but the header at `tail`.
//! - I3: a handle's own position is its field. The consumer's shared word is a copy
//!   that is written and never read back, and the producer has none.
//! - I4: before the header at a position is stored, the header word at the end of
//!   its record is: as 0, or in a batch as the next record's header. It is vacant
//!   then, because a record ends at `limit` or before.
//! - I5: a record begins at an offset below `capacity` and its message ends within
//!   the overhang. It never wraps, and no header lies in the overhang.
//! - I6: where a record ends is a function of its position and length alone
//!   (`end_of`): when header and message fit into a cache line of 64 bytes and what
//!   is left of the line that it ends in would not hold another of its size, the end
//!   moves to the next line. So in a stream of messages of one length of up to 56
//!   bytes, each lies in one line, and short ones share a line.
//! - I7: after a violation no record is accepted any more: `limit` equals the tail
//!   in the producer, `bound` is 0 in the consumer, and `fault` says why.
//!
//! # Why no stale byte is taken for a header
//!
//! Consumed memory is not cleared, and what old messages contained may have been
//! chosen by an enemy who talks through an honest producer. Nothing in a header
//! tells it from such bytes. But the consumer looks for a header at its head only,
//! and there it cannot read an old byte:
//!
//! 1. At the first position memory is zeroed. Every later head `h` is the end of a
//!    record whose header the consumer has loaded by Acquire from the producer's
//!    Release store (P5). Before that store, the producer had stored a word W at
//!    `h` (I4): so W happens before each load at `h`, and no load there returns what
//!    was in that word before W.
//! 2. After W the producer stores the header of the record at `h`, which is what
//!    the consumer looks for. The next store to that place belongs to the position
//!    `h + capacity` or a later one, or is the W of a record that ends there. The
//!    producer makes it only when it has loaded, by Acquire, a head beyond `h`,
//!    because its `limit` is the capacity less 8 ahead of a head (I1, I4). The
//!    consumer has stored that head by Release after its last load at `h` (P2). So
//!    no load there returns anything later either.
//!
//! This holds at the end of the storage, since positions are compared and never
//! offsets, and the overhang holds no header (I5); when the ring is nearly full,
//! since W is within `limit`; after a reservation was dropped, since it writes
//! behind the header at the tail, which stays 0; and after a crash of the producer
//! at any instruction, since the header at the tail is 0 until the record and the
//! word behind it are complete.
//!
//! # Vacating
//!
//! Every record is vacated as it is popped, by one store. To be lazy about it would
//! save stores and strand the producer: a consumer that pops once and then waits
//! for something else, perhaps for the producer, would keep room from it for ever.
//!
//! # Memory ordering
//!
//! P5 (headers) and P2 (head) of [`crate::ordering`]; P3 when a side leaves.
//!
//! # Trust
//!
//! The peer controls to the consumer: each header, loaded once a call and checked
//! against the longest message in `Consumer::header`. The consumer vacates at once,
//! so a record within that bound fits into the storage (I5) and ends at or before
//! `head + capacity - 8`: what a producer can commit at most. To the producer: the
//! head, loaded once and checked in `Producer::refresh` (I1, and that it does not
//! move backwards). Own positions, capacity and longest message are private. A
//! message itself is whatever the peer has put there; over regions it is copied out
//! before anyone looks at it.

mod consumer;
mod producer;

use core::alloc::Layout;

pub use consumer::Consumer;
#[cfg(not(loom))]
pub use consumer::Record;
pub use producer::{Producer, Reservation};

use crate::error::LayoutError;
use crate::memory::{Heap, LINE_PAIR};
use crate::ordering::Orderings;

/// Size of a header, and the unit of positions.
const HEADER: usize = 8;
/// Size of a cache line on every processor where one line is worth aiming for.
const LINE: u64 = 64;
/// Offset of the head in the consumer block.
const HEAD: usize = 0;

/// Returns a length rounded up to whole words.
#[inline(always)]
const fn padded(length: usize) -> usize {
    (length + (HEADER - 1)) & !(HEADER - 1)
}

/// Returns where the record of `length` bytes at `position` ends (I6).
#[inline(always)]
const fn end_of(position: u64, length: usize) -> u64 {
    let size = (HEADER + padded(length)) as u64;
    let end = position.wrapping_add(size);
    let left = end.wrapping_neg() & (LINE - 1);
    let padding = if size <= LINE && left < size { left } else { 0 };
    end.wrapping_add(padding)
}

/// Returns the offset of `position` in the storage.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the offset is below the capacity, which came from a usize"
)]
const fn offset(position: u64, capacity: u64) -> usize {
    (position & (capacity - 1)) as usize
}

/// Returns a distance of at most the capacity as a `usize`.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the distance is at most the capacity, which came from a usize"
)]
const fn count(distance: u64) -> usize {
    distance as usize
}

/// A checked shape of a ring.
#[derive(Debug, Clone, Copy)]
struct Shape {
    capacity: u64,
    longest: usize,
}

impl Shape {
    fn new(capacity: usize, max_message: usize) -> Result<Self, LayoutError> {
        let limit = longest_message(capacity)?;
        if max_message > limit {
            return Err(LayoutError::Message {
                given: max_message,
                limit,
            });
        }
        Ok(Self {
            capacity: capacity as u64,
            longest: max_message,
        })
    }

    fn starting_at(self, start: u64) -> Result<Self, LayoutError> {
        if start.is_multiple_of(HEADER as u64) {
            Ok(self)
        } else {
            Err(LayoutError::Start { given: start })
        }
    }
}

/// Returns the length of the longest message that a ring of `capacity` bytes can be
/// made for: `capacity - 16`, and below a capacity of 128 `capacity / 2 - 8`.
///
/// # Errors
///
/// [`LayoutError::Bytes`] unless `capacity` is a power of two of at least 16.
///
/// ```
/// use memenpsf_ring::bytes::longest_message;
///
/// assert_eq!(longest_message(4096)?, 4080);
/// assert_eq!(longest_message(64)?, 24);
/// assert!(longest_message(100).is_err());
/// # Ok::<(), memenpsf_ring::LayoutError>(())
/// ```
pub const fn longest_message(capacity: usize) -> Result<usize, LayoutError> {
    if capacity < 2 * HEADER || !capacity.is_power_of_two() {
        return Err(LayoutError::Bytes { given: capacity });
    }
    // Below two lines the padding to a line's end (I6) may take half of them. The
    // test `longest_message_fits_from_every_position_and_no_longer_one_does` shows
    // that both formulas are exact.
    Ok(if capacity < 128 {
        capacity / 2 - HEADER
    } else {
        capacity - 2 * HEADER
    })
}

/// Returns size and alignment of the producer block of a ring of `capacity` bytes
/// for messages of up to `max_message` bytes, in a region.
///
/// # Errors
///
/// [`LayoutError::Bytes`] unless `capacity` is a power of two of at least 16;
/// [`LayoutError::Message`] when `max_message` exceeds [`longest_message`];
/// [`LayoutError::TooLarge`] when the block would not fit into the address space.
///
/// ```
/// let block = memenpsf_ring::bytes::producer_block(65_536, 1500)?;
/// assert_eq!(block.size(), 65_536 + 1504);
/// assert_eq!(block.align(), 128);
/// # Ok::<(), memenpsf_ring::LayoutError>(())
/// ```
pub fn producer_block(capacity: usize, max_message: usize) -> Result<Layout, LayoutError> {
    let shape = Shape::new(capacity, max_message)?;
    let overhang = padded(shape.longest);
    let too_large = LayoutError::TooLarge {
        capacity,
        slot: overhang,
    };
    let size = capacity.checked_add(overhang).ok_or(too_large)?;
    Layout::from_size_align(size, LINE_PAIR).map_err(|_| too_large)
}

/// Both handles of a ring on the heap.
pub type HeapRing<O> = (Producer<Heap<u64>, O>, Consumer<Heap<u64>, O>);

/// Makes a ring of `capacity` bytes on the heap for messages of up to `max_message`
/// bytes. The memory is freed when both handles are gone, whichever side goes first.
///
/// # Errors
///
/// As [`producer_block`], and [`LayoutError::NoMemory`].
///
/// ```
/// use memenpsf_ring::{PopError, RecordError, bytes};
///
/// let (mut producer, mut consumer) = bytes::ring(4096, 1500)?;
/// producer.push(b"first")?;
/// producer.push(b"")?;
/// assert_eq!(consumer.pop()?, b"first");
/// assert_eq!(consumer.pop()?, b"");
/// assert_eq!(consumer.pop(), Err(PopError::Empty));
/// assert_eq!(
///     producer.push(&[0; 1501]),
///     Err(RecordError::TooLong { length: 1501, longest: 1500 }),
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn ring(capacity: usize, max_message: usize) -> Result<(Producer, Consumer), LayoutError> {
    ring_at(capacity, max_message, 0)
}

/// Makes a ring on the heap whose positions begin at `start`, with the orderings
/// `O`: for tests of wrap-around and for mutants.
///
/// # Errors
///
/// As [`ring`], and [`LayoutError::Start`].
#[doc(hidden)]
pub fn ring_at<O: Orderings>(
    capacity: usize,
    max_message: usize,
    start: u64,
) -> Result<HeapRing<O>, LayoutError> {
    let block = producer_block(capacity, max_message)?;
    let shape = Shape::new(capacity, max_message)?.starting_at(start)?;
    // Every word of the storage may become a header.
    let words = (0..block.size()).step_by(HEADER);
    let (producer, consumer) = Heap::pair(block, words, core::iter::empty())?;
    Ok((
        Producer::with_memory(producer, shape, start),
        Consumer::with_memory(consumer, shape, start),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest distance that a record of `length` bytes takes from anywhere.
    fn most(length: usize) -> u64 {
        (0..16)
            .map(|word| end_of(word * 8, length) - word * 8)
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn longest_message_fits_from_every_position_and_no_longer_one_does() {
        for log in 4..13 {
            let capacity = 1_usize << log;
            let longest = longest_message(capacity).unwrap();
            // The end, and the header word behind it, within the capacity.
            let fits = |length| most(length) + 8 <= capacity as u64;
            assert!((0..=longest).all(fits), "capacity {capacity}");
            assert!(!fits(longest + 1), "capacity {capacity}");
        }
    }

    #[test]
    fn record_of_a_line_or_less_lies_in_one_line_when_all_are_alike() {
        for length in 0..=56 {
            let mut position = 0_u64;
            for _ in 0..100 {
                let last = position + (HEADER + padded(length)) as u64 - 1;
                assert_eq!(position / LINE, last / LINE, "length {length}");
                position = end_of(position, length);
            }
        }
    }

    #[test]
    fn end_grows_with_the_length_up_to_a_line() {
        for word in 0..16 {
            for length in 1..=56 {
                assert!(end_of(word * 8, length - 1) <= end_of(word * 8, length));
            }
        }
    }

    #[test]
    fn end_holds_its_message_and_at_most_56_bytes_of_padding() {
        for position in [0, 8, 40, u64::MAX - 7, u64::MAX - 63] {
            for length in 0..300 {
                let distance = end_of(position, length).wrapping_sub(position);
                let size = (HEADER + length) as u64;
                assert!(distance >= size && distance < size + 8 + 56);
                assert_eq!(end_of(position, length) % 8, 0);
            }
        }
    }
}
