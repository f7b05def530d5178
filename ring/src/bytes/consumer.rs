//! The side of the bytes ring that pops. Invariants: see [`super`].

use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use super::{HEAD, HEADER, Shape, count, end_of, offset};
use crate::error::{LayoutError, PopError, Violation};
use crate::fail_point;
use crate::memory::{ByteMemory, Heap};
use crate::ordering::{Orderings, Shipped};
use crate::primitive::Ordering;

#[cfg(not(loom))]
use {crate::memory::Split, core::ops::Deref};

/// The side that pops messages.
///
/// It is `Send` and not `Sync`: one thread at a time owns it.
pub struct Consumer<M: ByteMemory = Heap<u64>, O: Orderings = Shipped> {
    memory: M,
    /// Position of the next record (I3).
    head: u64,
    /// First length that is refused: the longest message plus 1, and 0 after a
    /// violation (I7).
    bound: u64,
    /// Bytes of storage, a power of two.
    capacity: u64,
    /// Length of the longest message.
    longest: usize,
    /// What the peer did, once it did it (I7).
    fault: Option<Violation>,
    /// `Cell`: not `Sync`.
    marker: PhantomData<(Cell<u8>, O)>,
}

impl<M: ByteMemory, O: Orderings> Consumer<M, O> {
    /// Makes the consumer of the ring in `memory`, both positions at `start`.
    pub(super) fn with_memory(memory: M, shape: Shape, start: u64) -> Self {
        // Relaxed: no producer runs before it is handed its memory, and with
        // `start` 0 the word already reads 0.
        // SAFETY: HEAD is a word of the consumer's own block.
        unsafe { memory.store(HEAD, start, Ordering::Relaxed) };
        Self {
            memory,
            head: start,
            bound: shape.longest as u64 + 1,
            capacity: shape.capacity,
            longest: shape.longest,
            fault: None,
            marker: PhantomData,
        }
    }

    /// Makes the consumer of a ring of `capacity` bytes for messages of up to
    /// `max_message` in `memory`, with both positions at `start`, which is 0 for a
    /// ring in zeroed memory.
    ///
    /// With any other `start`, both sides must attach before either operates. For
    /// an example see [`Producer::attach`](super::Producer::attach).
    ///
    /// # Errors
    ///
    /// [`LayoutError`] as for [`producer_block`](super::producer_block), and
    /// [`LayoutError::Start`] unless `start` is a multiple of 8.
    ///
    /// # Safety
    ///
    /// 1. `memory` reaches the blocks of a ring of `capacity` bytes for messages of
    ///    up to `max_message`, and this is its only consumer.
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
    /// let (_producer, consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// assert_eq!(consumer.capacity(), 1024);
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn capacity(&self) -> usize {
        count(self.capacity)
    }

    /// Returns the length of the longest message that can arrive.
    ///
    /// ```
    /// let (_producer, consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// assert_eq!(consumer.max_message(), 100);
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn max_message(&self) -> usize {
        self.longest
    }

    /// Returns the position of the next record: the bytes that all popped records
    /// took, in a ring that began at 0.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// producer.push(b"12345678")?;
    /// consumer.pop()?;
    /// assert_eq!(consumer.position(), 16);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn position(&self) -> u64 {
        self.head
    }

    /// Returns what the peer did to make this handle refuse all further work.
    ///
    /// ```
    /// let (_producer, consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// assert_eq!(consumer.violation(), None);
    /// # Ok::<(), memenpsf_ring::LayoutError>(())
    /// ```
    pub fn violation(&self) -> Option<Violation> {
        self.fault
    }

    /// Tells whether there is nothing to pop, as there is after a violation.
    ///
    /// Empty may end at any moment; not empty cannot, except by this handle.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// assert!(consumer.is_empty());
    /// producer.push(b"")?;
    /// assert!(!consumer.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&mut self) -> bool {
        self.header().is_err()
    }

    /// Returns the length of the next message and leaves it in the ring.
    ///
    /// Between two processes, a hostile peer may change the length while the message
    /// is in the ring; what pops it checks the length anew and returns it.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop).
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// producer.push(b"hello")?;
    /// assert_eq!(consumer.peek_len()?, 5);
    /// assert_eq!(consumer.pop()?.len(), 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn peek_len(&mut self) -> Result<usize, PopError> {
        self.header()
    }

    /// Pops one message into a vector of its own. See [`pop_into`](Self::pop_into)
    /// for one that is used again.
    ///
    /// # Errors
    ///
    /// [`PopError::Empty`] when there is none; [`PopError::Violation`], which then
    /// comes from every later call.
    ///
    /// # Ordering
    ///
    /// What the producer did before it pushed the message is visible (P5).
    ///
    /// ```
    /// use memenpsf_ring::PopError;
    ///
    /// let (mut producer, mut consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// producer.push(b"hello")?;
    /// assert_eq!(consumer.pop()?, b"hello");
    /// assert_eq!(consumer.pop(), Err(PopError::Empty));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pop(&mut self) -> Result<Vec<u8>, PopError> {
        let mut bytes = Vec::new();
        self.pop_into(&mut bytes)?;
        Ok(bytes)
    }

    /// Pops one message, appends it to `bytes`, and returns its length.
    ///
    /// It allocates only when `bytes` has too little room, and never for more than
    /// the ring's longest message.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop); `bytes` is then as it was.
    ///
    /// # Ordering
    ///
    /// As [`pop`](Self::pop).
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// producer.push(b"hello, ")?;
    /// producer.push(b"world")?;
    /// let mut bytes = Vec::new();
    /// assert_eq!(consumer.pop_into(&mut bytes)?, 7);
    /// assert_eq!(consumer.pop_into(&mut bytes)?, 5);
    /// assert_eq!(bytes, b"hello, world");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn pop_into(&mut self, bytes: &mut Vec<u8>) -> Result<usize, PopError> {
        let length = self.header()?;
        bytes.reserve(length);
        let to = bytes.spare_capacity_mut().as_mut_ptr().cast();
        let from = offset(self.head, self.capacity) + HEADER;
        // SAFETY: the record is published and no longer than the longest, so its
        // message is in the block (I5); the vector has room for `length` bytes.
        unsafe { self.memory.copy_out(from, to, length) };
        let len = bytes.len() + length;
        // SAFETY: `length` bytes behind the end have just been written.
        unsafe { bytes.set_len(len) };
        self.vacate(length);
        Ok(length)
    }

    /// Returns the length of the next message, if there is one.
    #[inline(always)]
    fn header(&mut self) -> Result<usize, PopError> {
        let word = offset(self.head, self.capacity);
        // PEER: loaded once, checked below. Acquire (P5): the message, and the next
        // header word, hold what the producer stored before.
        // SAFETY: a header word lies at every multiple of 8 below the capacity (I1).
        let header = unsafe { self.memory.load(word, O::REFRESH_RECORD) };
        // No record, a header of 0, becomes the largest length and is refused, too.
        let length = header.wrapping_sub(1);
        if length < self.bound {
            Ok(count(length))
        } else {
            Err(self.refuse(header))
        }
    }

    /// Tells why there is no message behind `header`.
    #[inline]
    fn refuse(&mut self, header: u64) -> PopError {
        if let Some(violation) = self.fault {
            return violation.into();
        }
        if header == 0 {
            return PopError::Empty;
        }
        self.poison(Violation::Length {
            length: header - 1,
            longest: self.longest as u64,
            head: self.head,
        })
    }

    /// Refuses all further work (I7).
    #[cold]
    fn poison(&mut self, violation: Violation) -> PopError {
        self.bound = 0;
        self.fault = Some(violation);
        violation.into()
    }

    /// Moves past the next record, whose message has `length` bytes, and vacates it.
    #[inline(always)]
    fn vacate(&mut self, length: usize) {
        self.head = end_of(self.head, length);
        fail_point::reach("head: before");
        // Release (P2): the reads of header and message happen before the
        // producer's Acquire load of the head in its refresh, and so before it
        // overwrites them.
        // SAFETY: HEAD is a word of the own block.
        unsafe { self.memory.store(HEAD, self.head, O::VACATE_HEAD) };
        fail_point::reach("head: after");
    }

    /// Takes hold of the next record.
    #[cfg(not(loom))]
    #[inline(always)]
    fn record(&mut self) -> Result<Record<'_, M, O>, PopError> {
        let length = self.header()?;
        Ok(Record {
            consumer: self,
            length,
        })
    }
}

impl<O: Orderings> Consumer<Heap<u64>, O> {
    /// Tells whether the producer is gone, so that nothing will be pushed. Once it
    /// is true, [`pop`](Self::pop) until empty has drained the ring.
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::bytes::ring(64, 8)?;
    /// producer.push(b"last")?;
    /// drop(producer);
    /// assert!(consumer.is_abandoned());
    /// assert_eq!(consumer.pop()?, b"last");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_abandoned(&self) -> bool {
        // Acquire (P3): the producer's last header is visible.
        self.memory.is_abandoned(O::OBSERVE_ABANDONED)
    }

    /// Borrows the next message where it lies; its record is vacated when the
    /// result is dropped.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop).
    ///
    /// # Ordering
    ///
    /// As [`pop`](Self::pop).
    ///
    /// ```
    /// let (mut producer, mut consumer) = memenpsf_ring::bytes::ring(1024, 100)?;
    /// producer.push(b"hello")?;
    /// let message = consumer.read()?;
    /// assert_eq!(*message, *b"hello");
    /// drop(message);
    /// assert!(consumer.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// While it lives, nothing else is popped:
    ///
    /// ```compile_fail
    /// let (mut producer, mut consumer) = memenpsf_ring::bytes::ring(1024, 100).unwrap();
    /// producer.push(b"hello").unwrap();
    /// let message = consumer.read().unwrap();
    /// consumer.pop().unwrap();
    /// assert_eq!(*message, *b"hello");
    /// ```
    #[cfg(not(loom))]
    #[inline]
    pub fn read(&mut self) -> Result<Record<'_, Heap<u64>, O>, PopError> {
        self.record()
    }
}

#[cfg(not(loom))]
impl<O: Orderings> Consumer<Split<u64>, O> {
    /// Borrows the next message where it lies in the peer's region; its record is
    /// vacated when the result is dropped.
    ///
    /// For peers that trust each other. The length has been checked, so the slice
    /// is within the region whatever the peer does.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop).
    ///
    /// # Safety
    ///
    /// 1. Until the result is dropped, nothing writes the message: the peer keeps to
    ///    the protocol, which forbids it, and so does everyone else who can write
    ///    the peer's region. A peer that is hostile, or has a bug, makes this
    ///    undefined behaviour; [`pop_into`](Self::pop_into) does not.
    ///
    /// ```
    /// # use memenpsf_ring::bytes::{Consumer, Producer};
    /// # use memenpsf_ring::memory::Split;
    /// # use std::ptr::NonNull;
    /// # #[repr(align(128))]
    /// # struct Block([u8; 256]);
    /// # let ours = NonNull::from(Box::leak(Box::new(Block([0; 256])))).cast();
    /// # let theirs = NonNull::from(Box::leak(Box::new(Block([0; 256])))).cast();
    /// # // SAFETY: both blocks live for ever, are large enough and aligned, and each
    /// # // is written by one side only.
    /// # let (mut producer, mut consumer) = unsafe {
    /// #     (
    /// #         Producer::<Split<u64>>::attach(Split::new(ours, theirs), 128, 100, 0)?,
    /// #         Consumer::<Split<u64>>::attach(Split::new(theirs, ours), 128, 100, 0)?,
    /// #     )
    /// # };
    /// producer.push(b"hello")?;
    /// // SAFETY: the producer is the one above, which does not write it.
    /// let message = unsafe { consumer.read_in_place() }?;
    /// assert_eq!(*message, *b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub unsafe fn read_in_place(&mut self) -> Result<Record<'_, Split<u64>, O>, PopError> {
        self.record()
    }
}

impl<M: ByteMemory, O: Orderings> Drop for Consumer<M, O> {
    fn drop(&mut self) {
        // AcqRel (P3): our reads happen before the producer's swap, if that comes
        // second; its writes happen before ours, if ours does.
        if self.memory.abandon(O::ABANDON) {
            // SAFETY: `abandon` returned true, and bytes need no drop.
            unsafe { self.memory.free(core::iter::empty()) };
        }
    }
}

impl<M: ByteMemory, O: Orderings> fmt::Debug for Consumer<M, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("head", &self.head)
            .field("capacity", &self.capacity)
            .field("longest", &self.longest)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// One message where it lies; dropping it vacates its record.
///
/// A record that is forgotten stays in the ring and is the next one again. See
/// [`Consumer::read`].
#[cfg(not(loom))]
#[must_use = "a record that is dropped is gone from the ring"]
pub struct Record<'a, M: ByteMemory = Heap<u64>, O: Orderings = Shipped> {
    consumer: &'a mut Consumer<M, O>,
    length: usize,
}

#[cfg(not(loom))]
impl<M: ByteMemory, O: Orderings> Deref for Record<'_, M, O> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let at = offset(self.consumer.head, self.consumer.capacity) + HEADER;
        // SAFETY: the message is within the block (I5).
        let start = unsafe { self.consumer.memory.peer_bytes(at) };
        // SAFETY: `length` bytes are within the block (I5) and initialised by
        // contract of `peer_bytes`; they are published, so an honest producer does
        // not write them while the consumer is borrowed (I2), and that it is honest
        // is known on the heap and promised by the caller of `read_in_place`.
        unsafe { core::slice::from_raw_parts(start, self.length) }
    }
}

#[cfg(not(loom))]
impl<M: ByteMemory, O: Orderings> Drop for Record<'_, M, O> {
    fn drop(&mut self) {
        self.consumer.vacate(self.length);
    }
}

#[cfg(not(loom))]
impl<M: ByteMemory, O: Orderings> fmt::Debug for Record<'_, M, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
