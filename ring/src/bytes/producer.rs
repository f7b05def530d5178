//! The side of the bytes ring that pushes. Invariants: see [`super`].

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use super::{HEAD, HEADER, Shape, count, end_of, offset};
use crate::error::{LayoutError, RecordError, Violation};
use crate::fail_point;
use crate::memory::{ByteMemory, Heap};
use crate::ordering::{Orderings, Shipped};
use crate::position::head_is_legal;
use crate::primitive::Ordering;

/// Longest message whose record fits into a cache line.
const LINE_MESSAGE: usize = 56;

/// The side that pushes messages.
///
/// It is `Send` and not `Sync`: one thread at a time owns it.
///
/// ```compile_fail
/// fn is_sync<T: Sync>() {}
/// is_sync::<memenpsf_ring::bytes::Producer>();
/// ```
pub struct Producer<M: ByteMemory = Heap<u64>, O: Orderings = Shipped> {
    memory: M,
    /// Position of the next record (I3).
    tail: u64,
    /// Position that no record may end behind before a refresh:
    /// `previous head + capacity - 8` (I4).
    limit: u64,
    /// Bytes of storage, a power of two.
    capacity: u64,
    /// Length of the longest message.
    longest: usize,
    /// What the peer did, once it did it (I7).
    fault: Option<Violation>,
    /// `Cell`: not `Sync`.
    marker: PhantomData<(Cell<u8>, O)>,
}

impl<M: ByteMemory, O: Orderings> Producer<M, O> {
    /// Makes the producer of the ring in `memory`, both positions at `start`.
    pub(super) fn with_memory(memory: M, shape: Shape, start: u64) -> Self {
        let producer = Self {
            memory,
            tail: start,
            limit: start.wrapping_add(shape.capacity - HEADER as u64),
            capacity: shape.capacity,
            longest: shape.longest,
            fault: None,
            marker: PhantomData,
        };
        // Relaxed: no consumer runs before it is handed its memory, which reads 0
        // already when it is zeroed.
        producer.store_header(start, 0, Ordering::Relaxed);
        producer
    }

    /// Makes the producer of a ring of `capacity` bytes for messages of up to
    /// `max_message` in `memory`, with both positions at `start`, which is 0 for a
    /// ring in zeroed memory.
    ///
    /// With any other `start`, both sides must attach before either operates.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] as for [`producer_block`](super::producer_block), and
    /// [`LayoutError::Start`] unless `start` is a multiple of 8.
    ///
    /// # Safety
    ///
    /// 1. `memory` reaches the blocks of a ring of `capacity` bytes for messages of
    ///    up to `max_message`, and this is its only producer.
    ///
    /// ```
    /// use memenpsf_ring::bytes::{self, Consumer, Producer};
    /// use memenpsf_ring::memory::Split;
    /// use std::ptr::NonNull;
    ///
    /// // Two processes would map these; zeroed memory is an empty ring.
    /// #[repr(align(128))]
    /// struct Block([u8; 2048]);
    /// assert!(bytes::producer_block(1024, 1000)?.size() <= 2048);
    /// let ours = NonNull::from(Box::leak(Box::new(Block([0; 2048])))).cast();
    /// let theirs = NonNull::from(Box::leak(Box::new(Block([0; 2048])))).cast();
    ///
    /// // SAFETY: both blocks live for ever, are large enough and aligned, and each
    /// // is written by one side only.
    /// let (mut producer, mut consumer) = unsafe {
    ///     (
    ///         Producer::<Split<u64>>::attach(Split::new(ours, theirs), 1024, 1000, 0)?,
    ///         Consumer::<Split<u64>>::attach(Split::new(theirs, ours), 1024, 1000, 0)?,
    ///     )
    /// };
    /// producer.push(b"hello")?;
    /// assert_eq!(consumer.pop()?, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn attach(
        memory: M,
        capacity: usize,
        max_message: usize,
        start: u64,
    ) -> Result<Self, LayoutError> {
        let shape = Shape::new(capacity, max_message)?.starting_at(start)?;
        Ok(Self::with_memory(memory, shape, start))
    }

    /// Returns the number of bytes of the ring's storage, without overhang.
    ///
    /// ```
    /// let (producer, _consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// assert_eq!(producer.capacity(), 1024);
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn capacity(&self) -> usize {
        count(self.capacity)
    }

    /// Returns the length of the longest message that the ring takes.
    ///
    /// ```
    /// let (producer, _consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// assert_eq!(producer.max_message(), 100);
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn max_message(&self) -> usize {
        self.longest
    }

    /// Returns the position of the next record: the bytes that all records so far
    /// took, in a ring that began at 0.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// producer.push(b"12345678")?;
    /// assert_eq!(producer.position(), 16);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn position(&self) -> u64 {
        self.tail
    }

    /// Returns what the peer did to make this handle refuse all further work.
    ///
    /// ```
    /// let (producer, _consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// assert_eq!(producer.violation(), None);
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn violation(&self) -> Option<Violation> {
        self.fault
    }

    /// Returns how many bytes of records fit, headers and padding included; 0 after
    /// a violation.
    ///
    /// The consumer may vacate more at any moment; only this handle fills them.
    /// Whether a message fits is what [`fits`](Self::fits) tells.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// assert_eq!(producer.free_bytes(), 1016);
    /// producer.push(b"12345678")?;
    /// assert_eq!(producer.free_bytes(), 1000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn free_bytes(&mut self) -> usize {
        // A violation shows as 0 bytes here and as itself in the next call.
        let _ = self.refresh();
        self.vacant()
    }

    /// Tells whether a message of `length` bytes can be pushed now. If it can, it
    /// can until this handle pushes.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::bytes::ring(128, 100)?;
    /// assert!(producer.fits(100) && !producer.fits(101));
    /// producer.push(&[0; 100])?;
    /// assert!(!producer.fits(100));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fits(&mut self, length: usize) -> bool {
        self.room(self.tail, length).is_ok()
    }

    /// Pushes one message and publishes it at once.
    ///
    /// # Errors
    ///
    /// [`RecordError::Full`] when it does not fit now; [`RecordError::TooLong`] when
    /// it never will; [`RecordError::Violation`], which then comes from every later
    /// call.
    ///
    /// # Ordering
    ///
    /// What this thread did before is visible to the consumer that pops the message
    /// (P5).
    ///
    /// ```
    /// use memenpsf_ring::RecordError;
    ///
    /// let (mut producer, mut consumer) = memenpsf_ring::bytes::ring(128, 100)?;
    /// producer.push(&[7; 100])?;
    /// let full = producer.push(&[8; 9]);
    /// assert_eq!(full, Err(RecordError::Full { needed: 24, vacant: 8 }));
    /// assert_eq!(consumer.pop()?, [7; 100]);
    /// producer.push(&[8; 9])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn push(&mut self, message: &[u8]) -> Result<(), RecordError> {
        fail_point::reach("push: begin");
        let end = self.room(self.tail, message.len())?;
        self.write(self.tail, message);
        fail_point::reach("push: written");
        self.publish(message.len(), end);
        Ok(())
    }

    /// Pushes as many messages from the front of `messages` as fit, publishes them
    /// together, and returns how many they were.
    ///
    /// The first one's header is stored last and is the only Release store, so the
    /// consumer sees all of them or none, and polls no line that is still being
    /// written. For large messages, of which the consumer had better read the first
    /// while the second is written, [`push`](Self::push) them one by one.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push) for the first message. A later one that is too long
    /// ends the batch before it.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::bytes::ring(64, 24)?;
    /// let messages = ["one", "two", "three", "four", "five"];
    /// assert_eq!(producer.push_vectored(&messages)?, 3);
    /// assert_eq!(consumer.pop()?, b"one");
    /// assert_eq!(producer.push_vectored(&messages[3..])?, 1);
    /// assert_eq!(producer.push_vectored::<&[u8]>(&[])?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn push_vectored<B: AsRef<[u8]>>(&mut self, messages: &[B]) -> Result<usize, RecordError> {
        if let Some(violation) = self.fault {
            return Err(violation.into());
        }
        // Length of the first message, and where the records so far end.
        let mut batch = None;
        let mut pushed = 0;
        for message in messages {
            let message = message.as_ref();
            let position = batch.map_or(self.tail, |(_, end)| end);
            let end = match self.room(position, message.len()) {
                Ok(end) => end,
                Err(error @ RecordError::Violation(_)) => return Err(error),
                Err(error) if batch.is_none() => return Err(error),
                Err(_) => break,
            };
            self.write(position, message);
            batch = match batch {
                None => Some((message.len(), end)),
                Some((first, _)) => {
                    // Relaxed: the first record's Release store comes after it.
                    self.store_header(position, header(message.len()), Ordering::Relaxed);
                    Some((first, end))
                }
            };
            pushed += 1;
        }
        if let Some((first, end)) = batch {
            self.publish(first, end);
        }
        Ok(pushed)
    }

    /// Reserves room for a message of up to `length` bytes, to be filled in place
    /// and committed.
    ///
    /// A reservation that is dropped publishes nothing, and its room is used again.
    /// It asks for up to 56 bytes more than a [`push`](Self::push) of `length` bytes
    /// would, where a shorter message would be padded to the end of a line.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// let mut reservation = producer.reserve(100)?;
    /// reservation.as_mut_slice()[..5].copy_from_slice(b"hello");
    /// reservation.commit(5);
    /// drop(producer.reserve(100)?);
    /// assert_eq!(consumer.pop()?, b"hello");
    /// assert!(consumer.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&mut self, length: usize) -> Result<Reservation<'_, M, O>, RecordError> {
        self.room(self.tail, length)?;
        // Of the shorter messages, only one that fits into a line may end behind
        // this one, and of those the longest ends last (I6).
        self.room(self.tail, length.min(LINE_MESSAGE))?;
        Ok(Reservation {
            producer: self,
            length,
        })
    }

    /// Returns the number of bytes up to `limit`.
    #[inline(always)]
    fn vacant(&self) -> usize {
        count(self.limit.wrapping_sub(self.tail))
    }

    /// Makes sure that the record of `length` bytes at `position`, which is between
    /// tail and limit, can be written, and returns where it ends: a vacant header
    /// word (I4).
    #[inline(always)]
    fn room(&mut self, position: u64, length: usize) -> Result<u64, RecordError> {
        if length > self.longest {
            return Err(self.too_long(length));
        }
        let end = end_of(position, length);
        if end.wrapping_sub(position) > self.limit.wrapping_sub(position) {
            self.refresh()?;
            if end.wrapping_sub(position) > self.limit.wrapping_sub(position) {
                return Err(RecordError::Full {
                    needed: count(end.wrapping_sub(position)),
                    vacant: count(self.limit.wrapping_sub(position)),
                });
            }
        }
        Ok(end)
    }

    #[cold]
    fn too_long(&self, length: usize) -> RecordError {
        match self.fault {
            Some(violation) => RecordError::Violation(violation),
            None => RecordError::TooLong {
                length,
                longest: self.longest,
            },
        }
    }

    /// Loads the consumer's head, checks it and moves `limit`.
    #[inline]
    fn refresh(&mut self) -> Result<(), Violation> {
        if let Some(violation) = self.fault {
            return Err(violation);
        }
        // PEER: loaded once, checked against I1 and for moving backwards. Acquire
        // (P2): the consumer is done with the records that its head has passed.
        // SAFETY: HEAD is a word of the consumer block.
        let head = unsafe { self.memory.load(HEAD, O::REFRESH_HEAD) };
        let reach = self.capacity - HEADER as u64;
        let previous = self.limit.wrapping_sub(reach);
        if !head.is_multiple_of(HEADER as u64) {
            Err(self.poison(Violation::Unaligned { head }))
        } else if head_is_legal(head, previous, self.tail) {
            self.limit = head.wrapping_add(reach);
            Ok(())
        } else {
            Err(self.poison(Violation::Head {
                head,
                previous,
                tail: self.tail,
            }))
        }
    }

    /// Refuses all further work (I7).
    #[cold]
    fn poison(&mut self, violation: Violation) -> Violation {
        self.limit = self.tail;
        self.fault = Some(violation);
        violation
    }

    /// Writes the message of the record at `position`, which
    /// [`room`](Self::room) has found to be vacant.
    #[inline(always)]
    fn write(&self, position: u64, message: &[u8]) {
        let at = offset(position, self.capacity) + HEADER;
        // SAFETY: the record ends at `limit` or before, so its bytes are vacant
        // (I2), and it is no longer than the longest, so it is in the block (I5).
        unsafe { self.memory.copy_in(at, message) };
    }

    /// Publishes what was written from the tail up to `end`; the first message has
    /// `length` bytes.
    #[inline(always)]
    fn publish(&mut self, length: usize, end: u64) {
        // Relaxed: the Release store below comes after it (I4).
        self.store_header(end, 0, Ordering::Relaxed);
        fail_point::reach("tail: before");
        // Release (P5): the message, the headers behind it and the 0 at the end
        // happen before the consumer's Acquire load of this header.
        self.store_header(self.tail, header(length), O::PUBLISH_RECORD);
        fail_point::reach("tail: after");
        self.tail = end;
    }

    /// Stores the header word at `position`, which lies between tail and `limit`.
    #[inline(always)]
    fn store_header(&self, position: u64, header: u64, order: Ordering) {
        let word = offset(position, self.capacity);
        // SAFETY: a header word lies at every multiple of 8 below the capacity (I1).
        unsafe { self.memory.store(word, header, order) };
    }
}

/// Returns the header of a message of `length` bytes.
#[inline(always)]
const fn header(length: usize) -> u64 {
    length as u64 + 1
}

impl<O: Orderings> Producer<Heap<u64>, O> {
    /// Tells whether the consumer is gone, so that nothing will be popped.
    ///
    /// ```
    /// let (producer, consumer) = memenpsf_ring::bytes::ring(64, 8)?;
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

impl<M: ByteMemory, O: Orderings> Drop for Producer<M, O> {
    fn drop(&mut self) {
        // AcqRel (P3): our writes happen before the consumer's swap, if that comes
        // second; its reads happen before ours, if ours does.
        if self.memory.abandon(O::ABANDON) {
            // SAFETY: `abandon` returned true, and bytes need no drop.
            unsafe { self.memory.free(core::iter::empty()) };
        }
    }
}

impl<M: ByteMemory, O: Orderings> fmt::Debug for Producer<M, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("tail", &self.tail)
            .field("capacity", &self.capacity)
            .field("longest", &self.longest)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// Room for one message, to be filled in place. See [`Producer::reserve`].
///
/// Nothing depends on its destructor: one that is dropped or forgotten has
/// published nothing.
#[must_use = "a reservation that is dropped publishes nothing"]
pub struct Reservation<'a, M: ByteMemory = Heap<u64>, O: Orderings = Shipped> {
    producer: &'a mut Producer<M, O>,
    length: usize,
}

impl<M: ByteMemory, O: Orderings> Reservation<'_, M, O> {
    /// Returns the number of bytes that are reserved.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::bytes::ring(64, 8)?;
    /// assert_eq!(producer.reserve(5)?.len(), 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn len(&self) -> usize {
        self.length
    }

    /// Tells whether no bytes are reserved, for an empty message.
    ///
    /// ```
    /// let (mut producer, _consumer) = memenpsf_ring::bytes::ring(64, 8)?;
    /// assert!(producer.reserve(0)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns the bytes, for writing in place. They begin at a multiple of 8.
    ///
    /// They are initialised and hold what this ring carried there before, or 0.
    /// Only this side can write them.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::bytes::ring(64, 8)?;
    /// let mut reservation = producer.reserve(3)?;
    /// reservation.as_mut_slice().copy_from_slice(b"abc");
    /// reservation.commit(3);
    /// assert_eq!(consumer.pop()?, b"abc");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(not(loom))]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let at = offset(self.producer.tail, self.producer.capacity) + HEADER;
        // SAFETY: the record begins below the capacity, so its message is within
        // the block (I5).
        let start = unsafe { self.producer.memory.own_bytes(at) };
        // SAFETY: `length` bytes are within the block (I5), initialised by contract
        // of `own_bytes`, vacant (I2), and reached only through `self` meanwhile.
        unsafe { core::slice::from_raw_parts_mut(start, self.length) }
    }

    /// Copies `bytes` to the front.
    ///
    /// # Panics
    ///
    /// When `bytes` is longer than the reservation.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::bytes::ring(64, 8)?;
    /// let mut reservation = producer.reserve(8)?;
    /// reservation.fill(b"abc");
    /// reservation.commit(3);
    /// assert_eq!(consumer.pop()?, b"abc");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fill(&mut self, bytes: &[u8]) {
        assert!(
            bytes.len() <= self.length,
            "{} bytes for a reservation of {}",
            bytes.len(),
            self.length
        );
        self.producer.write(self.producer.tail, bytes);
    }

    /// Publishes the first `actual` bytes as one message.
    ///
    /// # Panics
    ///
    /// When `actual` exceeds what was reserved.
    pub fn commit(self, actual: usize) {
        assert!(
            actual <= self.length,
            "commit of {actual} bytes, of which {} were reserved",
            self.length
        );
        let end = end_of(self.producer.tail, actual);
        self.producer.publish(actual, end);
    }
}

impl<M: ByteMemory, O: Orderings> fmt::Debug for Reservation<'_, M, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
