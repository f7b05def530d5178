//! The rings of plain data: [`index`] and [`packed`].
//!
//! Both ends of a connection have the same kind, in both directions. [`rule`] says
//! which, from the element's size and alignment alone, so that two ends of one type
//! agree without a word; [`Options::ring`] says otherwise. The kind stands in hello
//! and header, and ends that disagree refuse each other.
//!
//! A half holds either in an enum. Its discriminant never changes, so the branch on
//! it is predicted.

use std::alloc::Layout;
use std::fmt;
use std::ptr::NonNull;

use memenpsf_ring::memory::Split;
use memenpsf_ring::ordering::Shipped;
use memenpsf_ring::{
    ChunkError, LayoutError, Plain, PopError, PushError, Violation, WriteChunk, index, packed,
};

use super::{Blocks, Inbound, Outbound, Rings, Terms, capacity};
use crate::layout::{RingKind, Shape};
use crate::options::{DEFAULT_CAPACITY, Options, Ring};

/// Largest element in bytes that goes into a packed ring by [`rule`]: all that fit
/// into a line.
///
/// Measured for elements of 8 to 56 bytes, one at a time (benches/README.md): a round
/// trip takes 0.6x to 0.8x as long as over an index ring, because an element and its
/// flag travel in one cache line. Rates are won by one or the other without a trend in
/// the size. Slices are faster over an index ring, which [`Options::ring`] chooses.
/// Beyond 56 bytes element and flag cannot travel in one line.
const PACKED_UP_TO: usize = packed::LARGEST;

/// Returns the kind of ring for elements of `T`: packed for those of up to
/// [`PACKED_UP_TO`] bytes that fit into its lines, index for all others.
const fn rule<T>() -> RingKind {
    if size_of::<T>() <= PACKED_UP_TO && packed::fits::<T>() {
        RingKind::Packed
    } else {
        RingKind::Index
    }
}

impl<T: Plain> Rings for T {
    type Producer = Producer<T>;
    type Consumer = Consumer<T>;

    fn describe(options: &Options) -> Result<(Shape, Layout), LayoutError> {
        let slots = options.capacity.unwrap_or(DEFAULT_CAPACITY);
        let kind = match options.ring {
            Ring::Fitting => {
                // What can be a capacity must not depend on the rule.
                index::producer_block::<T>(slots)?;
                rule::<T>()
            }
            Ring::Index => RingKind::Index,
            Ring::Packed => RingKind::Packed,
        };
        let shape = Shape::of::<T>(kind, slots as u64, &options.schema);
        Ok((shape, block::<T>(&shape)?))
    }

    fn producer_len(shape: &Shape) -> Option<u64> {
        Some(block::<T>(shape).ok()?.size() as u64)
    }

    unsafe fn begin(
        producer: NonNull<u8>,
        consumer: NonNull<u8>,
        shape: &Shape,
        start: u64,
    ) -> Result<(), LayoutError> {
        if is_packed(shape) {
            // Attaching writes the headers of all lines, which the peer may look at
            // before this side attaches for good.
            // SAFETY: both blocks are as large and aligned as the ring's layout says,
            // and nothing else accesses them (obligation 1).
            let memory = unsafe { Split::<T>::new(producer, consumer) };
            type Once<T> = packed::Producer<T, Split<T>>;
            // SAFETY: the only producer until the end of this statement.
            drop(unsafe { Once::<T>::attach(memory, capacity(shape), start) }?);
        } else {
            // SAFETY: a producer block that nobody else has (obligation 1).
            unsafe { index::begin_at(producer, start) };
        }
        // SAFETY: a consumer block that nobody else has (obligation 1); its head is
        // its first word, in every ring.
        unsafe { index::begin_at(consumer, start) };
        Ok(())
    }

    unsafe fn attach(
        blocks: Blocks,
        terms: &Terms,
    ) -> Result<(Producer<T>, Consumer<T>), LayoutError> {
        // SAFETY: the blocks are as large and aligned as the ring's layout says, and
        // nothing else accesses them here (obligations 1 and 2).
        let outbound = unsafe { Split::new(blocks.producer, blocks.peer_consumer) };
        // SAFETY: as above, with the roles exchanged.
        let inbound = unsafe { Split::new(blocks.consumer, blocks.peer_producer) };
        let (out, inn) = (capacity(&terms.outbound), capacity(&terms.inbound));
        let start = terms.start;
        let producer = if is_packed(&terms.outbound) {
            // SAFETY: the only producer (obligation 2).
            Producer::Packed(unsafe { packed::Producer::attach(outbound, out, start) }?)
        } else {
            // SAFETY: as above.
            Producer::Index(unsafe { index::Producer::attach(outbound, out, start) }?)
        };
        let consumer = if is_packed(&terms.inbound) {
            // SAFETY: the only consumer (obligation 2).
            Consumer::Packed(unsafe { packed::Consumer::attach(inbound, inn, start) }?)
        } else {
            // SAFETY: as above.
            Consumer::Index(unsafe { index::Consumer::attach(inbound, inn, start) }?)
        };
        Ok((producer, consumer))
    }
}

fn is_packed(shape: &Shape) -> bool {
    shape.kind == RingKind::Packed
}

/// Returns size and alignment of a producer block.
fn block<T: Plain>(shape: &Shape) -> Result<Layout, LayoutError> {
    if is_packed(shape) {
        packed::producer_block::<T>(capacity(shape))
    } else {
        index::producer_block::<T>(capacity(shape))
    }
}

/// Does the same with either ring.
macro_rules! either {
    ($ring:expr, $name:ident => $do:expr) => {
        match $ring {
            Self::Index($name) => $do,
            Self::Packed($name) => $do,
        }
    };
}

/// The producer of either ring.
pub enum Producer<T: Plain> {
    /// Of an index ring.
    Index(index::Producer<T, Split<T>>),
    /// Of a packed ring.
    Packed(packed::Producer<T, Split<T>>),
}

impl<T: Plain> Producer<T> {
    /// Pushes one element and publishes it at once.
    #[inline(always)]
    pub(crate) fn push(&mut self, value: T) -> Result<(), PushError<T>> {
        either!(self, ring => ring.push(value))
    }

    /// Pushes as many elements as have room, and returns how many they were.
    #[inline(always)]
    pub(crate) fn push_slice(&mut self, values: &[T]) -> Result<usize, Violation> {
        either!(self, ring => ring.push_slice(values))
    }

    /// Reserves room for `wanted` elements, to be filled in place.
    pub(crate) fn reserve(&mut self, wanted: usize) -> Result<Chunk<'_, T>, ChunkError> {
        match self {
            Self::Index(ring) => ring.reserve(wanted).map(Chunk::Index),
            Self::Packed(ring) => ring.reserve(wanted).map(Chunk::Packed),
        }
    }

    /// Returns how many elements have room.
    pub(crate) fn slots(&mut self) -> usize {
        either!(self, ring => ring.slots())
    }
}

impl<T: Plain> Outbound for Producer<T> {
    fn capacity(&self) -> usize {
        either!(self, ring => ring.capacity())
    }

    #[inline(always)]
    fn count(&self) -> u64 {
        either!(self, ring => ring.position())
    }

    #[inline]
    fn has_room(&mut self) -> bool {
        either!(self, ring => !ring.is_full())
    }

    fn violation(&self) -> Option<Violation> {
        either!(self, ring => ring.violation())
    }
}

// Not derived: that would ask for elements that can be shown.
impl<T: Plain> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        either!(self, ring => ring.fmt(f))
    }
}

/// The consumer of either ring.
pub enum Consumer<T: Plain> {
    /// Of an index ring.
    Index(index::Consumer<T, Split<T>>),
    /// Of a packed ring.
    Packed(packed::Consumer<T, Split<T>>),
}

impl<T: Plain> Consumer<T> {
    /// Pops one element.
    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Result<T, PopError> {
        either!(self, ring => ring.pop())
    }

    /// Pops as many elements as there are, at most `max`, appends them to `values`,
    /// and returns how many they were: at most one ring of them.
    pub(crate) fn pop_into(&mut self, values: &mut Vec<T>, max: usize) -> Result<usize, Violation> {
        either!(self, ring => ring.pop_into(values, max))
    }

    /// Returns how many elements can be popped.
    pub(crate) fn slots(&mut self) -> usize {
        either!(self, ring => ring.slots())
    }
}

impl<T: Plain> Inbound for Consumer<T> {
    fn capacity(&self) -> usize {
        either!(self, ring => ring.capacity())
    }

    fn count(&self) -> u64 {
        either!(self, ring => ring.position())
    }

    #[inline]
    fn has_message(&mut self) -> bool {
        either!(self, ring => !ring.is_empty())
    }

    fn violation(&self) -> Option<Violation> {
        either!(self, ring => ring.violation())
    }
}

impl<T: Plain> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        either!(self, ring => ring.fmt(f))
    }
}

/// Slots to fill in place, of either ring.
#[derive(Debug)]
pub(crate) enum Chunk<'a, T: Plain> {
    Index(WriteChunk<'a, T, Split<T>, Shipped>),
    Packed(packed::WriteChunk<'a, T, Split<T>, Shipped>),
}

impl<T: Plain> Chunk<'_, T> {
    pub(crate) fn len(&self) -> usize {
        either!(self, chunk => chunk.len())
    }

    pub(crate) fn slices_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        let (runs, lines) = match self {
            Self::Index(chunk) => {
                let (first, second) = chunk.as_mut_slices();
                (Some([first, second]), None)
            }
            Self::Packed(chunk) => (None, Some(chunk.slices_mut())),
        };
        let runs = runs.into_iter().flatten().filter(|run| !run.is_empty());
        runs.chain(lines.into_iter().flatten())
    }

    pub(crate) fn fill(&mut self, values: impl IntoIterator<Item = T>) -> usize {
        either!(self, chunk => chunk.fill(values))
    }

    pub(crate) fn commit(self, count: usize) {
        either!(self, chunk => chunk.commit(count));
    }

    pub(crate) fn commit_all(self) {
        either!(self, chunk => chunk.commit_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_that_fit_into_a_line_are_packed() {
        assert_eq!(rule::<u8>(), RingKind::Packed);
        assert_eq!(rule::<u64>(), RingKind::Packed);
        assert_eq!(rule::<[u8; 56]>(), RingKind::Packed);
        assert_eq!(rule::<[u8; 57]>(), RingKind::Index);
        // The alignment takes room from the line as well.
        assert_eq!(rule::<[u128; 3]>(), RingKind::Packed);
        assert_eq!(rule::<[u128; 4]>(), RingKind::Index);
    }
}
