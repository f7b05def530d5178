//! The side of a packed ring that pushes. Invariants I1 to I7 are those of
//! [`crate::packed`].

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use super::chunk::WriteChunk;
use super::{HEAD, Lines, Place, count_of, header, truncate};
use crate::error::{ChunkError, LayoutError, PushError, Violation};
use crate::fail_point;
use crate::memory::{Heap, Memory};
use crate::ordering::{Orderings, Shipped};
use crate::position::head_is_legal;
use crate::primitive::Ordering;

/// The side that pushes.
///
/// It is `Send` and not `Sync`: one thread at a time owns it.
///
/// ```compile_fail
/// fn is_sync<T: Sync>() {}
/// is_sync::<memenpsf_ring::packed::Producer<u64>>();
/// ```
///
/// It is invariant in `T`: a producer of `&'static str` must not become one that
/// takes shorter-lived references, because its consumer still hands them out as
/// `&'static str`.
///
/// ```compile_fail
/// use memenpsf_ring::packed::Producer;
/// fn shorten<'a>(producer: Producer<&'static str>) -> Producer<&'a str> {
///     producer
/// }
/// ```
//
// The fields are chosen for `push` through a reference, where a Release store
// makes the compiler write back every field that was changed: it changes one,
// `header`, which is at once the count that finds the slot, the word that is
// published, and what `stop` is compared with. All others change once a line.
pub struct Producer<T, M: Memory<T> = Heap<T>, O: Orderings = Shipped> {
    memory: M,
    /// The header of the own line: what is published there, or, in a line that
    /// has just been entered, a count of 0 (I5).
    header: u64,
    /// The header at which a push must look for room: at the end of the line,
    /// or earlier where the room ends.
    stop: u64,
    /// Offset of the own line.
    line: usize,
    /// Position of the first slot of the own line.
    base: u64,
    /// First position that may not be written before a refresh (I6).
    limit: u64,
    /// Number of elements that fit.
    capacity: u64,
    /// Offset behind the last line.
    end: usize,
    /// What the peer did, once it did it (I7).
    fault: Option<Violation>,
    /// `Cell`: invariant in `T`, and not `Sync`.
    marker: PhantomData<(Cell<T>, O)>,
}

impl<T, M: Memory<T>, O: Orderings> Producer<T, M, O> {
    /// Makes the producer of the ring in `memory`, both positions at `start`.
    pub(super) fn with_memory(memory: M, capacity: usize, start: u64) -> Result<Self, LayoutError> {
        Lines::<T, M>::block(capacity)?;
        let lines = Lines::<T, M>::lines(capacity)?;
        let begin = Lines::<T, M>::start(lines, start);
        if start != 0 {
            for line in 0..lines {
                let header = match line {
                    _ if line < begin.line => header(begin.lap, Lines::<T, M>::COUNT),
                    _ if line == begin.line && begin.index > 0 => header(begin.lap, begin.index),
                    _ => begin.stale,
                };
                // Relaxed: no consumer runs before it is handed its memory.
                // SAFETY: a line begins with a word of the own block.
                unsafe { memory.store(line * Lines::<T, M>::SIZE, header, Ordering::Relaxed) };
            }
        }
        let capacity = capacity as u64;
        let header = header(begin.lap, begin.index);
        Ok(Self {
            memory,
            header,
            stop: header + capacity.min(Lines::<T, M>::COUNT - begin.index),
            line: begin.line * Lines::<T, M>::SIZE,
            base: start.wrapping_sub(begin.index),
            limit: start.wrapping_add(capacity),
            capacity,
            end: lines * Lines::<T, M>::SIZE,
            fault: None,
            marker: PhantomData,
        })
    }

    /// Makes the producer of a ring of `capacity` elements in `memory`, with
    /// both positions at `start`, which is 0 for a ring in zeroed memory.
    ///
    /// With any other `start` it writes every header, and both sides must attach
    /// before either operates.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] as for [`producer_block`](super::producer_block).
    ///
    /// # Safety
    ///
    /// 1. `memory` reaches the blocks of a packed ring of `capacity` elements of
    ///    `T`, and this is its only producer.
    ///
    /// ```
    /// use memenpsf_ring::memory::Split;
    /// use memenpsf_ring::packed::{self, Consumer, Producer};
    /// use std::ptr::NonNull;
    ///
    /// // Two processes would map these; zeroed memory is an empty ring.
    /// #[repr(align(128))]
    /// struct Block([u8; 512]);
    /// assert!(packed::producer_block::<u64>(20)?.size() <= 512);
    /// let ours = NonNull::from(Box::leak(Box::new(Block([0; 512])))).cast();
    /// let theirs = NonNull::from(Box::leak(Box::new(Block([0; 512])))).cast();
    ///
    /// // SAFETY: both blocks live for ever, are large enough and aligned, and
    /// // each is written by one side only.
    /// let (mut producer, mut consumer) = unsafe {
    ///     (
    ///         Producer::<u64, _>::attach(Split::new(ours, theirs), 20, 0)?,
    ///         Consumer::<u64, _>::attach(Split::new(theirs, ours), 20, 0)?,
    ///     )
    /// };
    /// producer.push(7)?;
    /// assert_eq!(consumer.pop()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn attach(memory: M, capacity: usize, start: u64) -> Result<Self, LayoutError> {
        Self::with_memory(memory, capacity, start)
    }

    /// Returns how many elements fit.
    ///
    /// ```
    /// let (producer, _consumer) = memenpsf_ring::packed::ring::<u8>(5)?;
    /// assert_eq!(producer.capacity(), 5);
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn capacity(&self) -> usize {
        truncate(self.capacity)
    }

    /// Returns the position of the next push: the number of elements pushed so
    /// far in a ring that began at 0.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::packed::ring(8)?;
    /// producer.push(1)?;
    /// assert_eq!(producer.position(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn position(&self) -> u64 {
        self.base.wrapping_add(count_of(self.header))
    }

    /// Returns what the peer did to make this handle refuse all further work.
    ///
    /// ```
    /// let (producer, _consumer) = memenpsf_ring::packed::ring::<u8>(8)?;
    /// assert_eq!(producer.violation(), None);
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn violation(&self) -> Option<Violation> {
        self.fault
    }

    /// Returns how many elements have room, 0 after a violation.
    ///
    /// The consumer may make more room at any moment; only this handle uses it.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::packed::ring(8)?;
    /// producer.push(1)?;
    /// assert_eq!(producer.slots(), 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn slots(&mut self) -> usize {
        // A violation shows as 0 slots here and as itself in the next call.
        let _ = self.refresh();
        self.vacant()
    }

    /// Tells whether there is no room. The consumer may end that at any moment.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::packed::ring(1)?;
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
    /// element (P4).
    ///
    /// ```
    /// use memenpsf_ring::PushError;
    ///
    /// let (mut producer, _consumer) = memenpsf_ring::packed::ring(1)?;
    /// producer.push('a')?;
    /// assert_eq!(producer.push('b'), Err(PushError::Full('b')));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), PushError<T>> {
        fail_point::reach("push: begin");
        if self.header == self.stop && !self.make_room() {
            return Err(match self.fault {
                Some(violation) => PushError::Violation(value, violation),
                None => PushError::Full(value),
            });
        }
        let slot = Lines::<T, M>::slot(self.line, truncate(count_of(self.header)));
        // SAFETY: the header is below `stop`, so the slot is vacant (I6).
        unsafe { self.memory.write(slot, value) };
        fail_point::reach("push: written");
        self.header += 1;
        // SAFETY: the slot was filled.
        unsafe { self.publish_line(self.line, self.header) };
        Ok(())
    }

    /// Pushes as many elements from the front of `values` as have room, publishes
    /// them line by line, and returns how many they were.
    ///
    /// # Errors
    ///
    /// [`Violation`], which then comes from every later call.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(4)?;
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
        // refresh says why (I7).
        if self.vacant() < values.len().max(1) {
            self.refresh()?;
        }
        let fits = self.vacant().min(values.len());
        let mut rest = &values[..fits];
        let (mut line, mut base, mut header) = (self.line, self.base, self.header);
        while !rest.is_empty() {
            if count_of(header) == Lines::<T, M>::COUNT {
                (line, base, header) = self.next_line(line, base, header);
            }
            let index = truncate(count_of(header));
            let (run, later) = rest.split_at(rest.len().min(Lines::<T, M>::SLOTS - index));
            let slot = Lines::<T, M>::slot(line, index);
            if run.len() == Lines::<T, M>::SLOTS {
                // The same as below, with a length that the compiler knows.
                let line = &run[..Lines::<T, M>::SLOTS];
                // SAFETY: `fits` slots from the tail on are vacant (I6).
                unsafe { self.memory.write_run(slot, line) };
            } else {
                // SAFETY: as above.
                unsafe { self.memory.write_run(slot, run) };
            }
            header += run.len() as u64;
            // SAFETY: the slots of this line up to the header's count were filled.
            unsafe { self.publish_line(line, header) };
            rest = later;
        }
        self.go_to(line, base, header);
        Ok(fits)
    }

    /// Reserves room for `wanted` elements, to be filled in place and published
    /// by one store for each line that they touch.
    ///
    /// # Errors
    ///
    /// [`ChunkError::TooFew`] when fewer have room, with their number;
    /// [`ChunkError::Violation`], which then comes from every later call.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(4)?;
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

    /// Returns the number of vacant positions up to `limit`.
    #[inline(always)]
    fn vacant(&self) -> usize {
        truncate(self.limit.wrapping_sub(self.position()))
    }

    /// Makes room for one element at least: in this line or the next, and after
    /// asking for the head if it must. Tells whether there is room; if not, `fault`
    /// says why (I7).
    //
    // Never inlined for the reason of the consumer's `find_element`.
    #[inline(never)]
    fn make_room(&mut self) -> bool {
        if self.fault.is_some() || self.vacant() == 0 && self.refresh().is_err() {
            return false;
        }
        let (line, base, header) = if count_of(self.header) == Lines::<T, M>::COUNT {
            self.next_line(self.line, self.base, self.header)
        } else {
            (self.line, self.base, self.header)
        };
        self.go_to(line, base, header);
        self.header != self.stop
    }

    /// Returns the line behind `line`, the position of its first slot, and its
    /// header in this lap with a count of 0.
    #[inline(always)]
    fn next_line(&self, line: usize, base: u64, header: u64) -> (usize, u64, u64) {
        let base = base.wrapping_add(Lines::<T, M>::COUNT);
        let header = header - Lines::<T, M>::COUNT;
        let line = line + Lines::<T, M>::SIZE;
        if line == self.end {
            // The next lap, wrapping at 32 bits: `header`'s lower half is 0.
            (0, base, header.wrapping_add(1 << 32))
        } else {
            (line, base, header)
        }
    }

    /// Goes to a place in a line and finds how far pushes may go there.
    #[inline(always)]
    fn go_to(&mut self, line: usize, base: u64, header: u64) {
        self.line = line;
        self.base = base;
        self.header = header;
        let in_line = Lines::<T, M>::COUNT - count_of(header);
        self.stop = header + in_line.min(self.limit.wrapping_sub(self.position()));
    }

    /// Loads the consumer's head, checks it and moves `limit`.
    #[inline]
    fn refresh(&mut self) -> Result<(), Violation> {
        if let Some(violation) = self.fault {
            return Err(violation);
        }
        // PEER: loaded once. Acquire (P2): the consumer is done with the slots
        // that its head has passed, and with the headers of their lines.
        // SAFETY: HEAD is a word of the consumer block.
        let head = unsafe { self.memory.load(HEAD, O::REFRESH_HEAD) };
        let previous = self.limit.wrapping_sub(self.capacity);
        let tail = self.position();
        if head_is_legal(head, previous, tail) {
            self.limit = head.wrapping_add(self.capacity);
            Ok(())
        } else {
            let violation = Violation::Head {
                head,
                previous,
                tail,
            };
            // I7.
            self.limit = tail;
            self.stop = self.header;
            self.fault = Some(violation);
            Err(violation)
        }
    }

    /// Publishes the slots of `line` up to the count of `header`.
    ///
    /// # Safety
    ///
    /// 1. `line` is the offset of a line, and these slots have been filled.
    #[inline(always)]
    unsafe fn publish_line(&self, line: usize, header: u64) {
        fail_point::reach("tail: before");
        // Release (P4): the slot writes happen before the consumer's Acquire
        // load of this header in its look.
        // SAFETY: a line begins with a word of the own block.
        unsafe { self.memory.store(line, header, O::PUBLISH_LINE) };
        fail_point::reach("tail: after");
    }

    /// Publishes the next `filled` slots, one store a line.
    ///
    /// # Safety
    ///
    /// 1. So many slots are vacant and have been filled.
    pub(super) unsafe fn publish(&mut self, filled: usize) {
        let (mut line, mut base, mut header) = (self.line, self.base, self.header);
        let mut left = filled as u64;
        while left > 0 {
            if count_of(header) == Lines::<T, M>::COUNT {
                (line, base, header) = self.next_line(line, base, header);
            }
            let run = left.min(Lines::<T, M>::COUNT - count_of(header));
            header += run;
            left -= run;
            // SAFETY: these slots have been filled (obligation 1).
            unsafe { self.publish_line(line, header) };
        }
        self.go_to(line, base, header);
    }

    /// Returns the own memory.
    #[inline(always)]
    pub(super) fn memory(&self) -> &M {
        &self.memory
    }

    /// Returns the place `ahead` of the tail.
    pub(super) fn place_ahead(&self, ahead: usize) -> Place {
        let place = Place {
            line: self.line,
            index: truncate(count_of(self.header)),
            end: self.end,
        };
        place.ahead::<T, M>(ahead)
    }
}

impl<T, O: Orderings> Producer<T, Heap<T>, O> {
    /// Tells whether the consumer is gone, so that nothing will be popped.
    ///
    /// ```
    /// let (producer, consumer) = memenpsf_ring::packed::ring::<u8>(1)?;
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
            let count = truncate(self.position().wrapping_sub(head));
            let first = Place {
                line: self.line,
                index: truncate(count_of(self.header)),
                end: self.end,
            }
            .behind::<T, M>(count);
            let remaining = first.offsets::<T, M>(count);
            // SAFETY: `abandon` returned true, and these slots are published (I2).
            unsafe { self.memory.free(remaining) };
        }
    }
}

impl<T, M: Memory<T>, O: Orderings> fmt::Debug for Producer<T, M, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("tail", &self.position())
            .field("capacity", &self.capacity)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}
