//! The rings of plain data.

use std::alloc::Layout;
use std::ptr::NonNull;

use memenpsf_ring::index::{self, Consumer, Producer};
use memenpsf_ring::memory::Split;
use memenpsf_ring::{LayoutError, Plain, Violation};

use super::{Blocks, Inbound, Outbound, Rings, Terms, capacity};
use crate::layout::{RingKind, Shape};
use crate::options::{DEFAULT_CAPACITY, Options};

impl<T: Plain> Rings for T {
    type Producer = Producer<T, Split<T>>;
    type Consumer = Consumer<T, Split<T>>;

    fn describe(options: &Options) -> Result<(Shape, Layout), LayoutError> {
        let slots = options.capacity.unwrap_or(DEFAULT_CAPACITY);
        let block = index::producer_block::<T>(slots)?;
        let shape = Shape::of::<T>(RingKind::Index, slots as u64, &options.schema);
        Ok((shape, block))
    }

    fn producer_len(shape: &Shape) -> Option<u64> {
        let block = index::producer_block::<T>(capacity(shape)).ok()?;
        Some(block.size() as u64)
    }

    unsafe fn begin(
        producer: NonNull<u8>,
        consumer: NonNull<u8>,
        _shape: &Shape,
        start: u64,
    ) -> Result<(), LayoutError> {
        for block in [producer, consumer] {
            // SAFETY: both are blocks that nobody else has (obligation 1).
            unsafe { index::begin_at(block, start) };
        }
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
        // SAFETY: the only producer (obligation 2).
        let producer =
            unsafe { Producer::attach(outbound, capacity(&terms.outbound), terms.start) };
        // SAFETY: the only consumer (obligation 2).
        let consumer = unsafe { Consumer::attach(inbound, capacity(&terms.inbound), terms.start) };
        Ok((producer?, consumer?))
    }
}

impl<T: Plain> Outbound for Producer<T, Split<T>> {
    fn capacity(&self) -> usize {
        self.capacity()
    }

    #[inline(always)]
    fn count(&self) -> u64 {
        self.position()
    }

    #[inline]
    fn has_room(&mut self) -> bool {
        !self.is_full()
    }

    fn violation(&self) -> Option<Violation> {
        self.violation()
    }
}

impl<T: Plain> Inbound for Consumer<T, Split<T>> {
    fn capacity(&self) -> usize {
        self.capacity()
    }

    fn count(&self) -> u64 {
        self.position()
    }

    #[inline]
    fn has_message(&mut self) -> bool {
        !self.is_empty()
    }

    fn violation(&self) -> Option<Violation> {
        self.violation()
    }
}
