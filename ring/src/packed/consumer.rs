//! The side of a packed ring that pops. Invariants I1 to I7 are those of
//! [`crate::packed`].

use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use super::chunk::ReadChunk;
use super::{HEAD, Lines, Place, count_of, header, lap_of, truncate};
use crate::error::{ChunkError, LayoutError, PopError, Violation};
use crate::fail_point;
use crate::memory::{Heap, Memory, Split};
use crate::ordering::{Orderings, Shipped};
use crate::plain::Plain;
use crate::primitive::Ordering;

/// The side that pops.
///
/// It is `Send` and not `Sync`: one thread at a time owns it.
//
// The fields are chosen for `pop` through a reference, as in the producer: it
// changes one, `head`, which is compared with `limit`, finds the slot (at
// `origin + head * stride`) and is published. All others change once a line.
pub struct Consumer<T, M: Memory<T> = Heap<T>, O: Orderings = Shipped> {
    memory: M,
    /// Position of the next pop (I5).
    head: u64,
    /// First position at which a pop must look further: the end of the own line
    /// or of what is known to be published, whichever comes first.
    limit: u64,
    /// Offset that the slot of position 0 would have if the own line went on in
    /// both directions, in wrapping arithmetic.
    origin: usize,
    /// First position that is not known to be published (I6).
    known: u64,
    /// The own line.
    line: Line,
    /// Position of the first slot of the own line.
    base: u64,
    /// Number of elements that fit.
    capacity: u64,
    /// Offset behind the last line.
    end: usize,
    /// What the peer did, once it did it (I7).
    fault: Option<Violation>,
    /// `Cell`: invariant in `T`, and not `Sync`.
    marker: PhantomData<(Cell<T>, O)>,
}

/// A line in a lap.
#[derive(Clone, Copy)]
struct Line {
    /// Offset of the line.
    offset: usize,
    /// The lap.
    lap: u32,
    /// The header that the line has until the producer reaches it in this lap.
    stale: u64,
}

impl Line {
    /// Moves to the next line; `end` is the offset behind the last one.
    #[inline(always)]
    fn next<T, M: Memory<T>>(&mut self, end: usize) {
        self.offset += Lines::<T, M>::SIZE;
        if self.offset == end {
            self.offset = 0;
            self.next_lap::<T, M>();
        }
    }

    /// Moves to the same place in the next lap.
    #[inline(always)]
    fn next_lap<T, M: Memory<T>>(&mut self) {
        self.stale = header(self.lap, Lines::<T, M>::COUNT);
        self.lap = self.lap.wrapping_add(1);
    }
}

impl<T, M: Memory<T>, O: Orderings> Consumer<T, M, O> {
    /// Makes the consumer of the ring in `memory`, both positions at `start`.
    pub(super) fn with_memory(memory: M, capacity: usize, start: u64) -> Result<Self, LayoutError> {
        Lines::<T, M>::block(capacity)?;
        let lines = Lines::<T, M>::lines(capacity)?;
        let begin = Lines::<T, M>::start(lines, start);
        // Relaxed: no producer runs before it is handed its memory, and with
        // `start` 0 the word already reads 0.
        // SAFETY: HEAD is a word of the consumer's own block.
        unsafe { memory.store(HEAD, start, Ordering::Relaxed) };
        let mut consumer = Self {
            memory,
            head: start,
            limit: start,
            origin: 0,
            known: start,
            line: Line {
                offset: begin.line * Lines::<T, M>::SIZE,
                lap: begin.lap,
                stale: begin.stale,
            },
            base: start.wrapping_sub(begin.index),
            capacity: capacity as u64,
            end: lines * Lines::<T, M>::SIZE,
            fault: None,
            marker: PhantomData,
        };
        consumer.find_origin();
        Ok(consumer)
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
    /// 1. `memory` reaches the blocks of a packed ring of `capacity` elements of
    ///    `T`, and this is its only consumer.
    pub unsafe fn attach(memory: M, capacity: usize, start: u64) -> Result<Self, LayoutError> {
        Self::with_memory(memory, capacity, start)
    }

    /// Returns how many elements fit.
    ///
    /// ```
    /// let (_producer, consumer) = memenpsf_ring::packed::ring::<u8>(5)?;
    /// assert_eq!(consumer.capacity(), 5);
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn capacity(&self) -> usize {
        truncate(self.capacity)
    }

    /// Returns the position of the next pop: the number of elements popped so
    /// far in a ring that began at 0.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(8)?;
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
    /// let (_producer, consumer) = memenpsf_ring::packed::ring::<u8>(8)?;
    /// assert_eq!(consumer.violation(), None);
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn violation(&self) -> Option<Violation> {
        self.fault
    }

    /// Returns the number of elements that can be popped, 0 after a violation.
    ///
    /// It looks at the header of each line that is published and was not looked
    /// at yet. The producer may add more at any moment; only this handle takes
    /// them.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(8)?;
    /// producer.push_slice(&[1, 2, 3])?;
    /// assert_eq!(consumer.slots(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn slots(&mut self) -> usize {
        // A violation shows as 0 slots here and as itself in the next call.
        let _ = self.scan(usize::MAX, O::REFRESH_LINE);
        self.published()
    }

    /// Tells whether there is nothing to pop.
    ///
    /// Empty may end at any moment; not empty cannot, except by this handle.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(8)?;
    /// assert!(consumer.is_empty());
    /// producer.push(1)?;
    /// assert!(!consumer.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&mut self) -> bool {
        self.has_element().is_err()
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
    /// What the producer did before it pushed the element is visible (P4).
    ///
    /// ```
    /// use memenpsf_ring::PopError;
    ///
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(1)?;
    /// producer.push('a')?;
    /// assert_eq!(consumer.pop(), Ok('a'));
    /// assert_eq!(consumer.pop(), Err(PopError::Empty));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn pop(&mut self) -> Result<T, PopError> {
        self.has_element()?;
        // SAFETY: the head is below `limit`, so its slot is published (I6), and
        // the head moves past it.
        let value = unsafe { self.memory.read(self.slot()) };
        self.head = self.head.wrapping_add(1);
        self.vacate();
        Ok(value)
    }

    /// Pops as many elements as there are, at most `values.len()`, into the
    /// front of `values`, vacates their slots by one store, and returns how many
    /// they were.
    ///
    /// # Errors
    ///
    /// [`Violation`], which then comes from every later call. One that is found
    /// behind elements that were popped comes from the next call.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(4)?;
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
        self.pop_runs(values.len(), |memory, taken, slot, run| {
            let to = values[taken..taken + run].as_mut_ptr();
            // SAFETY: `pop_runs` names slots that are published, once.
            unsafe { memory.read_run(slot, to, run) };
        })
    }

    /// Pops as many elements as there are, at most `max`, appends them to
    /// `values`, vacates their slots by one store, and returns how many they
    /// were.
    ///
    /// # Errors
    ///
    /// As [`pop_slice`](Self::pop_slice).
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(4)?;
    /// producer.push_slice(&[1, 2, 3])?;
    /// let mut values = vec![0];
    /// assert_eq!(consumer.pop_into(&mut values, 2)?, 2);
    /// assert_eq!(values, [0, 1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pop_into(&mut self, values: &mut Vec<T>, max: usize) -> Result<usize, Violation> {
        self.pop_runs(max, |memory, _, slot, run| {
            values.reserve(run);
            let to = values.spare_capacity_mut().as_mut_ptr().cast();
            // SAFETY: `pop_runs` names slots that are published, once, and the vector
            // has room for as many.
            unsafe { memory.read_run(slot, to, run) };
            let len = values.len() + run;
            // SAFETY: `run` elements behind the end have just been written.
            unsafe { values.set_len(len) };
        })
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
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(4)?;
    /// producer.push_slice(&[1, 2, 3])?;
    /// let mut chunk = consumer.read_chunk(3)?;
    /// assert_eq!(chunk.next(), Some(1));
    /// assert_eq!(chunk.next(), Some(2));
    /// drop(chunk); // what was taken is vacated, the rest stays
    /// assert_eq!(consumer.pop()?, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_chunk(&mut self, wanted: usize) -> Result<ReadChunk<'_, T, M, O>, ChunkError> {
        self.scan(wanted, O::REFRESH_LINE)?;
        let available = self.published();
        if available < wanted {
            return Err(ChunkError::TooFew { wanted, available });
        }
        Ok(ReadChunk::new(self, wanted))
    }

    /// Takes up to `max` elements, which `take` reads run by run: it is given
    /// how many it has read before, the offset of the first slot of the run, and
    /// the length of the run. Then vacates all of them.
    ///
    /// They are at most as many as the capacity: an honest producer has room for no
    /// more until the head is stored, and one that never stops does not keep the
    /// caller here.
    #[inline(always)]
    fn pop_runs(
        &mut self,
        max: usize,
        mut take: impl FnMut(&M, usize, usize, usize),
    ) -> Result<usize, Violation> {
        if let Some(violation) = self.fault {
            return Err(violation);
        }
        let max = max.min(truncate(self.capacity));
        let mut taken = 0;
        while taken < max {
            match self.has_element() {
                Ok(()) => (),
                Err(PopError::Violation(violation)) if taken == 0 => return Err(violation),
                Err(_) => break,
            }
            let run = truncate(self.limit.wrapping_sub(self.head)).min(max - taken);
            // A whole line has a length that the compiler knows.
            if run == Lines::<T, M>::SLOTS {
                take(&self.memory, taken, self.slot(), Lines::<T, M>::SLOTS);
            } else {
                take(&self.memory, taken, self.slot(), run);
            }
            self.head = self.head.wrapping_add(run as u64);
            taken += run;
            let (more, empty) = self.pop_full_lines(max - taken, |memory, more, slot| {
                take(memory, taken + more, slot, Lines::<T, M>::SLOTS);
            });
            taken += more;
            if empty {
                break;
            }
        }
        if taken > 0 {
            self.vacate();
        }
        Ok(taken)
    }

    /// Pops line after line by `take`, at most `max` elements, as long as the next
    /// line is full and was not looked at yet. Returns how many elements they were, and
    /// whether nothing more was found.
    //
    // It is the loop of `pop_runs` for lines that the producer has left, without what
    // only a line needs that is partly filled or known: half the time (benches/README.md).
    #[inline(always)]
    fn pop_full_lines(
        &mut self,
        max: usize,
        mut take: impl FnMut(&M, usize, usize),
    ) -> (usize, bool) {
        let used_up = self.head == self.base.wrapping_add(Lines::<T, M>::COUNT);
        let unseen = self.known == self.head;
        if !(used_up && unseen) {
            return (0, false);
        }
        let (mut taken, mut other) = (0, None);
        while other.is_none() && max - taken >= Lines::<T, M>::SLOTS {
            let mut line = self.line;
            line.next::<T, M>(self.end);
            let word = self.load(line, O::REFRESH_LINE);
            // The header of a full line of this lap is legal: `max` is at most the
            // capacity. Any other is for `judge`.
            if word == header(line.lap, Lines::<T, M>::COUNT) {
                take(&self.memory, taken, Lines::<T, M>::slot(line.offset, 0));
                taken += Lines::<T, M>::SLOTS;
                self.line = line;
            } else {
                other = Some(word);
            }
        }
        self.head = self.head.wrapping_add(taken as u64);
        self.base = self.base.wrapping_add(taken as u64);
        self.known = self.head;
        self.limit = self.head;
        let Some(word) = other else {
            // As at the end of a line: `origin` is found with the next one.
            return (taken, false);
        };
        self.leave_line();
        let found = self.judge(word, self.line, 0);
        self.limit = self.known;
        (taken, !matches!(found, Ok(1..)))
    }

    /// Makes sure that one element is there, in the own line.
    #[inline(always)]
    fn has_element(&mut self) -> Result<(), PopError> {
        if self.head == self.limit && !self.find_element() {
            return Err(self.fault.map_or(PopError::Empty, PopError::Violation));
        }
        Ok(())
    }

    /// Looks for an element behind `limit`: in the next line, if this one is used
    /// up, and in the line's header, unless it is known what that line has. Tells
    /// whether there is one; if not, `fault` says why (I7).
    //
    // Once a line, so a call is cheap, and without it `pop` is small enough to be
    // inlined everywhere, which saves more (benches/README.md).
    #[inline(never)]
    fn find_element(&mut self) -> bool {
        if self.fault.is_some() {
            return false;
        }
        self.leave_line();
        if self.head == self.known {
            let seen = self.known.wrapping_sub(self.base);
            if !matches!(self.look(self.line, seen, O::REFRESH_LINE), Ok(1..)) {
                return false;
            }
        }
        self.find_limit();
        true
    }

    /// Leaves the own line if it is used up, and sets `limit`.
    #[inline(always)]
    fn go_on(&mut self) {
        self.leave_line();
        self.find_limit();
    }

    /// Leaves the own line if it is used up.
    #[inline(always)]
    fn leave_line(&mut self) {
        if self.head == self.base.wrapping_add(Lines::<T, M>::COUNT) {
            self.base = self.head;
            self.line.next::<T, M>(self.end);
            self.find_origin();
        }
    }

    /// Sets `limit` to where the own line or what is known ends.
    #[inline(always)]
    fn find_limit(&mut self) {
        let in_line = Lines::<T, M>::COUNT - self.head.wrapping_sub(self.base);
        let known = self.known.wrapping_sub(self.head);
        self.limit = self.head.wrapping_add(in_line.min(known));
    }

    /// Computes `origin` from the own line and its base.
    #[inline(always)]
    fn find_origin(&mut self) {
        self.origin = Lines::<T, M>::slot(self.line.offset, 0)
            .wrapping_sub(truncate(self.base).wrapping_mul(M::STRIDE));
    }

    /// Loads the header of `line`, and does with it what [`judge`](Self::judge) does.
    #[inline(always)]
    fn look(&mut self, line: Line, seen: u64, order: Ordering) -> Result<u64, Violation> {
        let word = self.load(line, order);
        self.judge(word, line, seen)
    }

    /// Loads the header of `line`.
    #[inline(always)]
    fn load(&self, line: Line, order: Ordering) -> u64 {
        // PEER: loaded once. Acquire (P4): the slots that the header counts hold
        // what the producer wrote.
        // SAFETY: a line begins with a word of the producer block.
        unsafe { self.memory.load(line.offset, order) }
    }

    /// Checks `word`, the header of `line` as it was loaded, of which `seen` slots are
    /// known to be published, and moves `known`; returns by how much.
    #[inline(always)]
    fn judge(&mut self, word: u64, line: Line, seen: u64) -> Result<u64, Violation> {
        // What this lap may have added: to the end of the line (I3), and to the
        // end of the ring (I1).
        let in_line = Lines::<T, M>::COUNT - seen;
        let in_ring = self.capacity - self.known.wrapping_sub(self.head);
        let most = in_line.min(in_ring);
        let found = word.wrapping_sub(header(line.lap, seen));
        if found <= most {
            self.known = self.known.wrapping_add(found);
            return Ok(found);
        }
        // I3: of a line that this lap has not reached, the header of the lap
        // before; of any other, that would be a step backwards.
        if seen == 0 && word == line.stale {
            return Ok(0);
        }
        let violation = Violation::Line {
            lap: lap_of(word),
            count: count_of(word),
            expected: line.lap,
            previous: seen,
            most: seen + most,
        };
        // I7.
        self.limit = self.head;
        self.known = self.head;
        self.fault = Some(violation);
        Err(violation)
    }

    /// Looks at headers until `wanted` elements are known to be published, or
    /// no more are, with loads of ordering `order`.
    pub(super) fn scan(&mut self, wanted: usize, order: Ordering) -> Result<(), Violation> {
        if let Some(violation) = self.fault {
            return Err(violation);
        }
        self.go_on();
        let wanted = (wanted as u64).min(self.capacity);
        // The place of `known`.
        let ahead = self.known.wrapping_sub(self.base);
        let place = Place {
            line: self.line.offset,
            index: 0,
            end: self.end,
        }
        .ahead::<T, M>(truncate(ahead));
        let mut line = self.line;
        line.offset = place.line;
        // Behind the own line only by a wrap: `known` is less than a lap ahead,
        // or at the end of the capacity, and then nothing is looked at.
        if place.line < self.line.offset {
            line.next_lap::<T, M>();
        }
        let mut seen = place.index as u64;
        while (self.published() as u64) < wanted {
            let found = self.look(line, seen, order)?;
            if seen + found < Lines::<T, M>::COUNT {
                break;
            }
            seen = 0;
            line.next::<T, M>(self.end);
        }
        self.go_on();
        Ok(())
    }

    /// Returns the number of elements up to `known`.
    #[inline(always)]
    fn published(&self) -> usize {
        truncate(self.known.wrapping_sub(self.head))
    }

    /// Returns the offset of the slot at the head, which is in the own line.
    #[inline(always)]
    fn slot(&self) -> usize {
        let bytes = truncate(self.head).wrapping_mul(M::STRIDE);
        self.origin.wrapping_add(bytes)
    }

    /// Moves past the next element and returns the offset of its slot. The next
    /// [`vacate`](Self::vacate) vacates it.
    ///
    /// The caller has made sure that there is a known element.
    #[inline(always)]
    pub(super) fn pass(&mut self) -> usize {
        if self.head == self.limit {
            self.go_on();
        }
        let slot = self.slot();
        self.head = self.head.wrapping_add(1);
        slot
    }

    /// Moves past the next `count` elements, which are known.
    pub(super) fn pass_all(&mut self, count: usize) {
        let mut left = count as u64;
        while left > 0 {
            self.go_on();
            let run = left.min(self.limit.wrapping_sub(self.head));
            self.head = self.head.wrapping_add(run);
            left -= run;
        }
    }

    /// Vacates the slots that this handle has moved past.
    #[inline(always)]
    pub(super) fn vacate(&mut self) {
        fail_point::reach("head: before");
        // Release (P2): the slot reads happen before the producer's Acquire
        // load of the head in its refresh, and so before it overwrites them.
        // SAFETY: HEAD is a word of the own block.
        unsafe { self.memory.store(HEAD, self.head, O::VACATE_HEAD) };
        fail_point::reach("head: after");
    }

    /// Returns the own memory.
    #[inline(always)]
    pub(super) fn memory(&self) -> &M {
        &self.memory
    }

    /// Returns the place of the head.
    pub(super) fn place(&self) -> Place {
        Place {
            line: self.line.offset,
            index: truncate(self.head.wrapping_sub(self.base)),
            end: self.end,
        }
    }
}

impl<T, O: Orderings> Consumer<T, Heap<T>, O> {
    /// Tells whether the producer is gone, so that nothing will be pushed. Once
    /// it is true, [`pop`](Self::pop) until empty has drained the ring.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(1)?;
    /// producer.push(1)?;
    /// drop(producer);
    /// assert!(consumer.is_abandoned());
    /// assert_eq!(consumer.pop()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_abandoned(&self) -> bool {
        // Acquire (P3): the producer's last headers are visible.
        self.memory.is_abandoned(O::OBSERVE_ABANDONED)
    }

    /// Returns a reference to the next element and leaves it in the ring.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop).
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(1)?;
    /// producer.push("hello".to_string())?;
    /// assert_eq!(consumer.peek()?, "hello");
    /// assert_eq!(consumer.pop()?, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The reference keeps the element where it is:
    ///
    /// ```compile_fail
    /// let (mut producer, mut consumer) = memenpsf_ring::packed::ring(1).unwrap();
    /// producer.push(1).unwrap();
    /// let first = consumer.peek().unwrap();
    /// consumer.pop().unwrap();
    /// assert_eq!(*first, 1);
    /// ```
    #[cfg(not(loom))]
    pub fn peek(&mut self) -> Result<&T, PopError> {
        self.has_element()?;
        // SAFETY: the offset is that of a slot.
        let slot = unsafe { self.memory.peer_slot(self.slot()) };
        // SAFETY: the slot is published (I6) and stays so while the borrow of
        // `self` keeps the head from moving.
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
        // SAFETY: the head is below `limit`, so its slot is published (I6); `T`
        // is plain, so it may be read again.
        Ok(unsafe { self.memory.read(self.slot()) })
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
            // Relaxed: the producer's last headers happen before its swap, which
            // ours has synchronised with (P3). Honest ones, so the violation
            // that is ignored here does not occur.
            let _ = self.scan(usize::MAX, Ordering::Relaxed);
            let remaining = self.place().offsets::<T, M>(self.published());
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
