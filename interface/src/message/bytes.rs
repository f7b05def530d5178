//! The rings of messages of variable length.
//!
//! # The longest message
//!
//! A ring is laid out for messages of up to a length of its owner's choice, which
//! stands in hello and header. The peer's hello says how long a message it accepts,
//! and the smaller of the two is what both sides attach the ring with: the producer
//! refuses what is longer, and to the consumer it is a violation.

use std::alloc::Layout;
use std::ptr::NonNull;

use memenpsf_ring::bytes::{self, Consumer, Producer, Reservation, longest_message};
use memenpsf_ring::memory::Split;
use memenpsf_ring::{LayoutError, PopError, RecordError, Violation, index};

use super::{Blocks, Inbound, Outbound, Rings, Terms, capacity};
use crate::layout::Shape;
use crate::options::{DEFAULT_BYTES, Options};

impl Rings for [u8] {
    type Producer = ByteProducer;
    type Consumer = ByteConsumer;

    fn describe(options: &Options) -> Result<(Shape, Layout), LayoutError> {
        let bytes = options.capacity.unwrap_or(DEFAULT_BYTES);
        let fits = longest_message(bytes)?;
        let longest = options.max_message.unwrap_or(fits.min(bytes / 4));
        let block = bytes::producer_block(bytes, longest)?;
        let shape = Shape::of_bytes(bytes as u64, longest as u64, &options.schema);
        Ok((shape, block))
    }

    fn producer_len(shape: &Shape) -> Option<u64> {
        let block = bytes::producer_block(capacity(shape), longest(shape)).ok()?;
        Some(block.size() as u64)
    }

    unsafe fn begin(
        _producer: NonNull<u8>,
        consumer: NonNull<u8>,
        _shape: &Shape,
        start: u64,
    ) -> Result<(), LayoutError> {
        // The zeros of the producer block are a header that says: no record yet.
        // SAFETY: a consumer block that nobody else has (obligation 1); its head is
        // its first word, in every ring.
        unsafe { index::begin_at(consumer, start) };
        Ok(())
    }

    unsafe fn attach(
        blocks: Blocks,
        terms: &Terms,
    ) -> Result<(Self::Producer, Self::Consumer), LayoutError> {
        // SAFETY: the blocks are as large and aligned as the ring's layout says, and
        // nothing else accesses them here (obligations 1 and 2).
        let outbound = unsafe { Split::new(blocks.producer, blocks.peer_consumer) };
        // SAFETY: as above, with the roles exchanged.
        let inbound = unsafe { Split::new(blocks.consumer, blocks.peer_producer) };
        let (out, inn, start) = (&terms.outbound, &terms.inbound, terms.start);
        // SAFETY: the only producer (obligation 2).
        let producer = unsafe { Producer::attach(outbound, capacity(out), longest(out), start) };
        // SAFETY: the only consumer (obligation 2).
        let consumer = unsafe { Consumer::attach(inbound, capacity(inn), longest(inn), start) };
        Ok((
            ByteProducer {
                ring: producer?,
                count: 0,
                awaited: Awaited::Message(0),
            },
            ByteConsumer {
                ring: consumer?,
                count: 0,
            },
        ))
    }
}

/// Returns the length of the longest message as the rings take it.
fn longest(shape: &Shape) -> usize {
    // One that is no usize is longer than any ring takes, as is the largest usize.
    usize::try_from(shape.longest).unwrap_or(usize::MAX)
}

/// A producer that counts messages: the ring's position counts bytes.
#[derive(Debug)]
pub struct ByteProducer {
    ring: Producer<Split<u64>>,
    count: u64,
    /// What last found no room: room is what it fits into.
    awaited: Awaited,
}

/// What waits for room, with its length. A reservation needs more of it: a message
/// that fits must not wait for that, and a reservation that does not fit must not
/// find room again and again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Awaited {
    Message(usize),
    Reservation(usize),
}

impl ByteProducer {
    /// Pushes one message and publishes it at once.
    #[inline]
    pub(crate) fn push(&mut self, message: &[u8]) -> Result<(), RecordError> {
        self.ring.push(message)?;
        self.count = self.count.wrapping_add(1);
        Ok(())
    }

    /// Pushes as many messages as fit, and publishes them together.
    pub(crate) fn push_vectored<B: AsRef<[u8]>>(
        &mut self,
        messages: &[B],
    ) -> Result<usize, RecordError> {
        let pushed = self.ring.push_vectored(messages)?;
        self.count = self.count.wrapping_add(pushed as u64);
        Ok(pushed)
    }

    /// Reserves room for one message, which is to be counted when it is committed.
    pub(crate) fn reserve(
        &mut self,
        length: usize,
    ) -> Result<(Reservation<'_, Split<u64>>, &mut u64), RecordError> {
        Ok((self.ring.reserve(length)?, &mut self.count))
    }

    /// Says what room is waited for.
    pub(crate) fn await_room(&mut self, awaited: Awaited) {
        self.awaited = awaited;
    }

    /// Returns the length of the longest message.
    pub(crate) fn max_message(&self) -> usize {
        self.ring.max_message()
    }

    /// Returns how many bytes of records fit.
    pub(crate) fn free_bytes(&mut self) -> usize {
        self.ring.free_bytes()
    }
}

impl Outbound for ByteProducer {
    fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    #[inline(always)]
    fn count(&self) -> u64 {
        self.count
    }

    fn has_room(&mut self) -> bool {
        match self.awaited {
            Awaited::Message(length) => self.ring.fits(length),
            Awaited::Reservation(length) => self.ring.reserve(length).is_ok(),
        }
    }

    fn violation(&self) -> Option<Violation> {
        self.ring.violation()
    }
}

/// A consumer that counts messages.
#[derive(Debug)]
pub struct ByteConsumer {
    ring: Consumer<Split<u64>>,
    count: u64,
}

impl ByteConsumer {
    /// Pops one message and appends it to `bytes`.
    #[inline]
    pub(crate) fn pop_into(&mut self, bytes: &mut Vec<u8>) -> Result<usize, PopError> {
        let length = self.ring.pop_into(bytes)?;
        self.count = self.count.wrapping_add(1);
        Ok(length)
    }

    /// Pops the messages that are there, at most one ring of them: more can only
    /// have come meanwhile.
    pub(crate) fn pop_all(&mut self, messages: &mut Vec<Vec<u8>>) -> Result<(), PopError> {
        let from = self.ring.position();
        loop {
            let mut message = Vec::new();
            match self.pop_into(&mut message) {
                Ok(_) => messages.push(message),
                // A violation behind messages that were popped comes from the next
                // call.
                Err(_) if !messages.is_empty() => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.ring.position().wrapping_sub(from) >= self.ring.capacity() as u64 {
                return Ok(());
            }
        }
    }

    /// Returns the length of the longest message that can arrive.
    pub(crate) fn max_message(&self) -> usize {
        self.ring.max_message()
    }
}

impl Inbound for ByteConsumer {
    fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn has_message(&mut self) -> bool {
        !self.ring.is_empty()
    }

    fn violation(&self) -> Option<Violation> {
        self.ring.violation()
    }
}
