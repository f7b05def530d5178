//! The packed ring: small elements that travel together with their flag.
//!
//! It is for the lowest latency. An index ring hands over two cache lines for
//! one element: that of the tail, which the consumer watches, and that of the
//! slot. Here the flag lies in the line of the slot, so one transfer hands over
//! both, and the header of a line that was fetched for one element is at hand for
//! the next. The idea is that of Barrelfish's UMP and of the line-granular rings
//! of Maffione, Lettieri and Rizzo, "Cache-aware design of general-purpose
//! single-producer single-consumer queues" (2019).
//!
//! ```text
//!  producer block
//!        ┌───────── 64 bytes ─────────┐
//!  line 0│ lap 2, count 7 │ 7 8 9 ... │
//!  line 1│ lap 2, count 3 │ a b c . . │◀─ producer: writes d, then stores
//!  line 2│ lap 1, count 7 │ old items │   (P4, Release) lap 2, count 4
//!        └────────────────────────────┘
//!              ▲ P4: Acquire load, by the consumer, of the line that it is in
//!
//!  consumer block: head ◀── P2: Release store, by the consumer
//!                   └────── P2: Acquire load, by a producer out of room
//! ```
//!
//! Producer block ([`producer_block`] tells its size): `lines` lines of 64 bytes,
//! `lines = ceil((capacity - 1) / elements a line) + 1`. Each line:
//!
//! | offset | size | field | written by |
//! |---|---|---|---|
//! | 0 | 8 | header, one word: lap in its upper 32 bits, count in its lower 32 | producer |
//! | 8, or the alignment of `T` if larger | the rest | elements, one behind the other | producer |
//!
//! So a line has 7 elements of 8 bytes, 14 of 4, 3 of 16 that are aligned to 16,
//! or 1 of 29 to 56. Elements of size zero count as one byte.
//!
//! Consumer block ([`CONSUMER_BLOCK`](crate::memory::CONSUMER_BLOCK) bytes):
//!
//! | offset | size | field | written by |
//! |---|---|---|---|
//! | 0 | 8 | head: position of the next pop | consumer |
//! | 8 | 120 | padding | nobody |
//!
//! # Laps
//!
//! The producer passes through all lines, then through all of them again: these
//! are laps, numbered from 1. A header of the consumer's lap says how many
//! elements the line has; a header of the lap before says none. So slots and
//! headers are never cleared, and zeroed memory is an empty ring.
//!
//! A lap is 32 bits wide and wraps, through 0, after 2^32 laps: in a ring of one
//! line that is within the hour. Nothing is confused then, because a line never
//! has more than two candidates. When the producer stores the first header of a
//! lap into a line, the consumer's head has passed every element of the lap
//! before (I4), and to pass them it has read that the line was full. So at every
//! later look it finds that very header, or one of the lap that it waits for.
//! The two laps differ by 1, in wrapping arithmetic too. Zeroed memory is no third
//! candidate: it is only in lines that had no lap yet, and its count of 0
//! publishes nothing whatever the lap.
//!
//! # Any capacity, exactly
//!
//! Room is counted by positions and not by lines: the producer may write position
//! `p` when `p < head + capacity`. So exactly `capacity` elements fit, wherever in
//! a line the first of them lies. They touch at most
//! `ceil((capacity - 1) / elements a line) + 1` lines, which is how many there
//! are, so that no line ever holds elements of two laps (I4).
//!
//! # When room is given back
//!
//! `pop` stores the head at each element. Once a line would be fewer stores, and
//! would strand a producer: of a full ring the consumer pops one element and
//! waits for the producer to tell it something, by another way; the producer,
//! which first has to push one element, waits for the slot that the consumer
//! holds back. No rule that holds back vacated slots excludes this, because the
//! consumer does not know who waits for what. The store goes into a line that
//! only the consumer writes and that the producer loads only when it is out of
//! room, and batch forms store once a batch.
//!
//! # Invariants
//!
//! - I1: `head <= tail <= head + capacity`, in wrapping arithmetic.
//! - I2: the slots at positions `head..tail` are published, and only the
//!   consumer accesses them; all others are vacant, and only the producer does.
//! - I3: a line's header is `{lap, count}` of the last publication in it: the
//!   first `count` slots were filled in lap `lap`. Within a lap counts grow, up
//!   to the number of slots; the next lap of the line is this lap plus 1.
//! - I4: a producer enters a line only when the head that it has loaded is at or
//!   behind the end of that line's previous lap. (The position that it enters at
//!   is below `head + capacity`, so the line's previous lap ended at or below
//!   `head + capacity - 1 - (lines - 1) * elements a line`, which is at most
//!   `head`.)
//! - I5: a handle's own position is its fields. Shared words are copies that are
//!   written and never read back. The consumer's copy is behind its field while a
//!   read chunk lives, and after one was forgotten until the next store.
//! - I6: a handle asks for the peer's word again only where the producer's
//!   `limit` (previous head plus capacity) or the consumer's `known` (end of what
//!   headers have shown) is used up. Up to it, I2 holds whatever the peer does.
//! - I7: after a violation `limit` or `known` equals the own position and `fault`
//!   says why, so every later call ends in [`Violation`](crate::Violation) before
//!   it touches a slot.
//!
//! # Memory ordering
//!
//! P4 (headers) and P2 (head) of [`crate::ordering`]; P3 when a side leaves.
//!
//! # Trust
//!
//! The peer controls the head, seen by the producer in `Producer::refresh`, and
//! the headers, seen by the consumer in `Consumer::judge`. Each is loaded once and
//! checked there, or found equal to that of a full line of this lap. A header must be
//! the one that was there at the end of the lap before, or one of this lap whose count
//! is not below what was seen and neither above the number of slots nor beyond
//! `head + capacity`. Where the next line is never depends on a header.
//!
//! # Why elements end at 56 bytes
//!
//! Of a larger element the flag and the data cannot be in one line, and then a
//! packed ring has no advantage: header line and second line, or tail line and
//! slot line, are two transfers either way. Larger elements belong into
//! [`index`](crate::index) rings: [`ring`] of a larger one does not compile, and
//! [`producer_block`] and `attach` refuse it, so that generic code may ask [`fits`]
//! and choose.
//!
//! ```compile_fail
//! memenpsf_ring::packed::ring::<[u8; 57]>(4);
//! ```
//! ```
//! memenpsf_ring::packed::ring::<[u8; 56]>(4)?;
//! # Ok::<(), memenpsf_ring::LayoutError>(())
//! ```

mod chunk;
mod consumer;
mod producer;

use core::alloc::Layout;
use core::marker::PhantomData;

use crate::error::LayoutError;
use crate::memory::{Heap, LINE_PAIR, Memory, Split};
use crate::ordering::Orderings;
use crate::plain::Plain;

pub use chunk::{ReadChunk, WriteChunk};
pub use consumer::Consumer;
pub use producer::Producer;

/// Size of a line in bytes: what one core hands to another at a time.
pub const LINE: usize = 64;

/// Largest element in bytes: what the header leaves of a line.
pub const LARGEST: usize = LINE - HEADER;

/// Size of a header in bytes.
const HEADER: usize = size_of::<u64>();

/// Offset of the head in the consumer block.
const HEAD: usize = 0;

/// Tells whether an element of `T` fits into a line beside the header: at most 56
/// bytes, 48 when it is aligned to 16, 32 when it is aligned to 32.
///
/// ```
/// use memenpsf_ring::packed::fits;
///
/// assert!(fits::<u8>() && fits::<[u64; 7]>() && fits::<[u128; 3]>());
/// assert!(!fits::<[u8; 57]>() && !fits::<[u128; 4]>());
/// ```
pub const fn fits<T>() -> bool {
    align_of::<T>() <= LINE / 2 && size_of::<T>() <= LINE - first_slot::<T>()
}

/// Returns the offset of the first slot in a line.
const fn first_slot<T>() -> usize {
    if align_of::<T>() > HEADER {
        align_of::<T>()
    } else {
        HEADER
    }
}

/// How elements of `T` lie in lines.
struct Lines<T, M>(PhantomData<(T, M)>);

impl<T, M: Memory<T>> Lines<T, M> {
    /// Offset of the first slot in a line.
    const FIRST: usize = first_slot::<T>();

    /// Number of slots of a line; a number that is never used where `T` does not
    /// fit, so that generic code compiles.
    const SLOTS: usize = if !fits::<T>() {
        1
    } else if size_of::<T>() == 0 {
        LINE - Self::FIRST
    } else {
        (LINE - Self::FIRST) / size_of::<T>()
    };

    /// [`SLOTS`](Self::SLOTS) as a distance of positions.
    const COUNT: u64 = Self::SLOTS as u64;

    /// Bytes from line to line: [`LINE`], except under a model checker whose
    /// slots are larger than their elements.
    const SIZE: usize = (Self::FIRST + Self::SLOTS * M::STRIDE).next_multiple_of(LINE);

    /// Returns the offset of slot `index` of the line at `line`.
    #[inline(always)]
    fn slot(line: usize, index: usize) -> usize {
        line + Self::FIRST + index * M::STRIDE
    }

    /// Returns how many lines a ring of `capacity` has.
    fn lines(capacity: usize) -> Result<usize, LayoutError> {
        if !fits::<T>() {
            return Err(LayoutError::Element {
                size: size_of::<T>(),
                align: align_of::<T>(),
            });
        }
        let most_after_the_first = capacity.checked_sub(1).ok_or(LayoutError::Zero)?;
        // At most `usize::MAX - 1 + 1`.
        Ok(most_after_the_first.div_ceil(Self::SLOTS) + 1)
    }

    /// Computes the layout of a producer block.
    fn block(capacity: usize) -> Result<Layout, LayoutError> {
        let too_large = LayoutError::TooLarge {
            capacity,
            slot: M::STRIDE,
        };
        let size = Self::lines(capacity)?
            .checked_mul(Self::SIZE)
            .ok_or(too_large)?;
        Layout::from_size_align(size, LINE_PAIR).map_err(|_| too_large)
    }

    /// Returns where position `start` lies in a ring of so many lines that began
    /// at position 0.
    fn start(lines: usize, start: u64) -> Start {
        let whole = start / Self::COUNT;
        let laps = whole / lines as u64;
        let line = truncate(whole % lines as u64);
        // Truncated: a lap wraps at 32 bits.
        #[expect(clippy::cast_possible_truncation, reason = "a lap wraps at 32 bits")]
        let lap = (laps as u32).wrapping_add(1);
        Start {
            line,
            index: start % Self::COUNT,
            lap,
            // In the first lap of all, nothing was there before.
            stale: match laps {
                0 => 0,
                _ => header(lap.wrapping_sub(1), Self::COUNT),
            },
        }
    }
}

/// Where a ring begins.
struct Start {
    /// Index of the line.
    line: usize,
    /// Index of the slot in it.
    index: u64,
    /// The lap that this line is in.
    lap: u32,
    /// The header of a line that this lap has not reached.
    stale: u64,
}

/// Returns the header of `lap` and `count`.
#[inline(always)]
fn header(lap: u32, count: u64) -> u64 {
    u64::from(lap) << 32 | count
}

/// Returns the count of a header.
#[inline(always)]
fn count_of(header: u64) -> u64 {
    header & u64::from(u32::MAX)
}

/// Returns the lap of a header.
#[inline(always)]
fn lap_of(header: u64) -> u32 {
    (header >> 32) as u32
}

/// Returns a distance or an index as a `usize`: all of them are at most the
/// capacity or the number of lines, which came from a `usize`. Of a position it
/// keeps the lower bits, for arithmetic that wraps.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "see above")]
fn truncate(distance: u64) -> usize {
    distance as usize
}

/// A slot, by its line and its index in it; `end` is the offset behind the
/// last line.
#[derive(Debug, Clone, Copy)]
struct Place {
    line: usize,
    index: usize,
    end: usize,
}

impl Place {
    /// Returns the place `ahead` slots on, less than one lap.
    fn ahead<T, M: Memory<T>>(self, ahead: usize) -> Self {
        let index = self.index + ahead;
        let mut line = self.line + index / Lines::<T, M>::SLOTS * Lines::<T, M>::SIZE;
        if line >= self.end {
            line -= self.end;
        }
        Self {
            line,
            index: index % Lines::<T, M>::SLOTS,
            end: self.end,
        }
    }

    /// Returns the place `behind` slots back, less than one lap.
    fn behind<T, M: Memory<T>>(self, behind: usize) -> Self {
        if behind <= self.index {
            return Self {
                index: self.index - behind,
                ..self
            };
        }
        let lines = (behind - self.index).div_ceil(Lines::<T, M>::SLOTS);
        let bytes = lines * Lines::<T, M>::SIZE;
        let line = if bytes <= self.line {
            self.line - bytes
        } else {
            self.line + self.end - bytes
        };
        Self {
            line,
            index: lines * Lines::<T, M>::SLOTS + self.index - behind,
            end: self.end,
        }
    }

    /// Moves to the beginning of the next line.
    #[inline(always)]
    fn next_line<T, M: Memory<T>>(&mut self) {
        self.index = 0;
        self.line += Lines::<T, M>::SIZE;
        if self.line == self.end {
            self.line = 0;
        }
    }

    /// Returns the offset of this slot and moves to the next one.
    #[inline(always)]
    fn take<T, M: Memory<T>>(&mut self) -> usize {
        if self.index == Lines::<T, M>::SLOTS {
            self.next_line::<T, M>();
        }
        let slot = Lines::<T, M>::slot(self.line, self.index);
        self.index += 1;
        slot
    }

    /// Returns the offsets of this and the following slots, `count` in all.
    fn offsets<T, M: Memory<T>>(mut self, count: usize) -> impl Iterator<Item = usize> {
        (0..count).map(move |_| self.take::<T, M>())
    }

    /// Returns the next `count` slots as runs that each lie in one line: the
    /// offset of the first and how many they are.
    #[cfg(not(loom))]
    fn runs<T, M: Memory<T>>(mut self, mut count: usize) -> impl Iterator<Item = (usize, usize)> {
        core::iter::from_fn(move || {
            if count == 0 {
                return None;
            }
            if self.index == Lines::<T, M>::SLOTS {
                self.next_line::<T, M>();
            }
            let run = count.min(Lines::<T, M>::SLOTS - self.index);
            let slot = Lines::<T, M>::slot(self.line, self.index);
            self.index += run;
            count -= run;
            Some((slot, run))
        })
    }
}

/// Returns size and alignment of the producer block of a ring of `capacity`
/// elements of `T` in a region.
///
/// # Errors
///
/// [`LayoutError::Element`] when `T` does not [fit](fits) into a line, so that
/// generic code may choose another ring; [`LayoutError::Zero`] when `capacity` is
/// 0; [`LayoutError::TooLarge`] when the block would not fit into the address
/// space.
///
/// ```
/// use memenpsf_ring::packed;
///
/// // 7 to a line, and one line more for those that begin within a line.
/// assert_eq!(packed::producer_block::<u64>(1)?.size(), 64);
/// assert_eq!(packed::producer_block::<u64>(7)?.size(), 2 * 64);
/// assert_eq!(packed::producer_block::<u64>(1000)?.size(), 144 * 64);
/// # Ok::<(), memenpsf_ring::LayoutError>(())
/// ```
pub fn producer_block<T: Plain>(capacity: usize) -> Result<Layout, LayoutError> {
    Lines::<T, Split<T>>::block(capacity)
}

/// Makes a ring of exactly `capacity` elements on the heap.
///
/// An element that does not [fit](fits) into a line does not compile. Any capacity
/// from 1 up will do; it need not be a power of two. When both
/// handles are gone, the elements that were not popped are dropped and the memory
/// is freed, whichever side goes first.
///
/// # Errors
///
/// [`LayoutError::Zero`] when `capacity` is 0; [`LayoutError::TooLarge`] and
/// [`LayoutError::NoMemory`] when it is too large.
///
/// ```
/// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(3)?;
/// for n in [1, 2, 3] {
///     producer.push(n)?;
/// }
/// assert!(producer.push(4).is_err());
/// assert_eq!(consumer.pop()?, 1);
/// producer.push(4)?;
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
    type Shape<T> = Lines<T, Heap<T>>;
    const {
        assert!(
            fits::<T>(),
            "an element of a packed ring has at most 56 bytes, 48 if aligned to 16 bytes, \
             32 if aligned to 32: use an index ring"
        );
    }
    let block = Shape::<T>::block(capacity)?;
    let count = Shape::<T>::lines(capacity)?;
    let lines = || (0..count).map(|line| line * Shape::<T>::SIZE);
    let (producer, consumer) = Heap::pair(
        block,
        lines(),
        lines().flat_map(|line| {
            (0..Shape::<T>::SLOTS).map(move |index| Shape::<T>::slot(line, index))
        }),
    )?;
    let producer = Producer::with_memory(producer, capacity, start)?;
    let consumer = Consumer::with_memory(consumer, capacity, start)?;
    Ok((producer, consumer))
}

/// Both handles of a ring on the heap.
pub type HeapRing<T, O> = (Producer<T, Heap<T>, O>, Consumer<T, Heap<T>, O>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(loom))]
    fn lines_have_as_many_slots_as_fit() {
        fn check<T: Plain>(slots: usize, first: usize) {
            assert_eq!(Lines::<T, Split<T>>::SLOTS, slots);
            assert_eq!(Lines::<T, Split<T>>::FIRST, first);
            assert_eq!(Lines::<T, Split<T>>::SIZE, LINE);
            assert_eq!(Lines::<T, Heap<T>>::SIZE, LINE);
        }
        check::<()>(56, 8);
        check::<u8>(56, 8);
        check::<u16>(28, 8);
        check::<[u8; 3]>(18, 8);
        check::<u32>(14, 8);
        check::<u64>(7, 8);
        check::<u128>(3, 16);
        check::<[u8; 28]>(2, 8);
        check::<[u8; 29]>(1, 8);
        check::<[u8; LARGEST]>(1, 8);
    }

    #[test]
    fn places_ahead_and_behind_agree_with_counting() {
        type M = Heap<[u64; 3]>;
        type T = [u64; 3];
        let slots = Lines::<T, M>::SLOTS;
        let size = Lines::<T, M>::SIZE;
        for lines in 1..5 {
            let all = lines * slots;
            let at = |n: usize| (n % all / slots * size, n % slots);
            for from in 0..all {
                let (line, index) = at(from);
                let end = lines * size;
                let place = Place { line, index, end };
                for distance in 0..all {
                    let ahead = place.ahead::<T, M>(distance);
                    assert_eq!((ahead.line, ahead.index), at(from + distance));
                    let behind = ahead.behind::<T, M>(distance);
                    assert_eq!((behind.line, behind.index), (line, index));
                }
                let expected = (from..from + all).map(|n| {
                    let (line, index) = at(n);
                    Lines::<T, M>::slot(line, index)
                });
                assert!(place.offsets::<T, M>(all).eq(expected));
            }
        }
    }
}
