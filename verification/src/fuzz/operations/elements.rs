//! A ring of elements, index or packed as the module around this file says, and a
//! queue.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::rc::Rc;

use memenpsf_ring::memory::{CONSUMER_BLOCK, Heap, Memory, Split};
use memenpsf_ring::ordering::Shipped;
use memenpsf_ring::{ChunkError, PopError, PushError};

use super::super::{Input, Operation, Start};
use super::ring::{Consumer, Producer, producer_block, ring_at};
use super::{lying, slots, uninit};
use crate::blocks::Block;
use crate::fuzz::Subject;

/// Runs the sequence on the heap and over two blocks.
pub(in crate::fuzz::operations) fn run(input: &Input, subject: Subject) {
    let capacity = 1 << (input.capacity_log % 5);
    let start = match input.start {
        Start::Zero => 0,
        Start::BeforeTheWrap(elements) => 0_u64.wrapping_sub(u64::from(elements)),
        Start::Any(start) => start,
    };

    let owners = Owners::default();
    let (producer, consumer) = ring_at::<_, Shipped>(capacity, start).unwrap();
    let ring = Ring::new(&owners, producer, consumer, subject);
    ring.run(input);
    assert_eq!(owners.alive.get(), 0, "every element is dropped once");

    let producing = Block::new(producer_block::<u64>(capacity).unwrap().size());
    let consuming = Block::new(CONSUMER_BLOCK);
    // SAFETY: both blocks are zeroed, aligned, as large as the layout says and
    // outlive the ring below.
    let memory = unsafe { Split::new(producing.start(), consuming.start()) };
    // SAFETY: it is the only producer.
    let producer = unsafe { Producer::attach(memory, capacity, start) }.unwrap();
    // SAFETY: as above.
    let memory = unsafe { Split::new(consuming.start(), producing.start()) };
    // SAFETY: it is the only consumer.
    let consumer = unsafe { Consumer::attach(memory, capacity, start) }.unwrap();
    Ring::new(&Numbers, producer, consumer, subject).run(input);
}

/// What differs between the two rings.
trait Elements {
    type Element: Debug;
    type Memory: Memory<Self::Element>;

    fn make(&self, id: u64) -> Self::Element;
    fn id(element: &Self::Element) -> u64;
    fn push_slice(
        &self,
        producer: &mut Producer<Self::Element, Self::Memory>,
        ids: &[u64],
    ) -> usize;
    fn in_place(&self, producer: &mut Producer<Self::Element, Self::Memory>, ids: &[u64]);
    fn pop_slice(
        &self,
        consumer: &mut Consumer<Self::Element, Self::Memory>,
        most: usize,
    ) -> Vec<u64>;
    fn peek(consumer: &mut Consumer<Self::Element, Self::Memory>) -> Result<u64, PopError>;
}

/// Elements that own memory, and how many of them are alive.
#[derive(Default)]
struct Owners {
    alive: Rc<Cell<isize>>,
}

#[derive(Debug)]
struct Owner {
    id: Box<u64>,
    alive: Rc<Cell<isize>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

impl Elements for Owners {
    type Element = Owner;
    type Memory = Heap<Owner>;

    fn make(&self, id: u64) -> Owner {
        self.alive.set(self.alive.get() + 1);
        Owner {
            id: Box::new(id),
            alive: Rc::clone(&self.alive),
        }
    }

    fn id(element: &Owner) -> u64 {
        *element.id
    }

    /// Slices are for `Copy`; the same by a chunk.
    fn push_slice(&self, producer: &mut Producer<Owner, Heap<Owner>>, ids: &[u64]) -> usize {
        let fits = producer.slots().min(ids.len());
        let mut chunk = producer.reserve(fits).unwrap();
        let filled = chunk.fill(ids.iter().map(|&id| self.make(id)));
        chunk.commit_all();
        filled
    }

    fn in_place(&self, producer: &mut Producer<Owner, Heap<Owner>>, ids: &[u64]) {
        let mut chunk = producer.reserve(ids.len()).unwrap();
        let filling = uninit(&mut chunk).zip(ids);
        let written = filling.map(|(slot, &id)| slot.write(self.make(id))).count();
        // SAFETY: so many slots were written, from the first on.
        unsafe { chunk.assume_written(written) };
        chunk.commit(ids.len());
    }

    fn pop_slice(&self, consumer: &mut Consumer<Owner, Heap<Owner>>, most: usize) -> Vec<u64> {
        let there = consumer.slots().min(most);
        let chunk = consumer.read_chunk(there).unwrap();
        let ids = lying(&chunk).map(Self::id).collect();
        chunk.commit_all();
        ids
    }

    fn peek(consumer: &mut Consumer<Owner, Heap<Owner>>) -> Result<u64, PopError> {
        consumer.peek().map(Self::id)
    }
}

/// Plain numbers.
struct Numbers;

impl Elements for Numbers {
    type Element = u64;
    type Memory = Split<u64>;

    fn make(&self, id: u64) -> u64 {
        id
    }

    fn id(element: &u64) -> u64 {
        *element
    }

    fn push_slice(&self, producer: &mut Producer<u64, Split<u64>>, ids: &[u64]) -> usize {
        producer.push_slice(ids).unwrap()
    }

    fn in_place(&self, producer: &mut Producer<u64, Split<u64>>, ids: &[u64]) {
        let mut chunk = producer.reserve(ids.len()).unwrap();
        for (slot, &id) in slots(&mut chunk).zip(ids) {
            *slot = id;
        }
        chunk.commit_all();
    }

    fn pop_slice(&self, consumer: &mut Consumer<u64, Split<u64>>, most: usize) -> Vec<u64> {
        let mut ids = vec![0; most];
        let popped = consumer.pop_slice(&mut ids).unwrap();
        ids.truncate(popped);
        ids
    }

    fn peek(consumer: &mut Consumer<u64, Split<u64>>) -> Result<u64, PopError> {
        consumer.peek()
    }
}

/// A ring and the queue that it must equal.
struct Ring<'a, E: Elements> {
    subject: Subject,
    elements: &'a E,
    producer: Producer<E::Element, E::Memory>,
    consumer: Consumer<E::Element, E::Memory>,
    queue: VecDeque<u64>,
    next: u64,
}

impl<'a, E: Elements> Ring<'a, E> {
    fn new(
        elements: &'a E,
        producer: Producer<E::Element, E::Memory>,
        consumer: Consumer<E::Element, E::Memory>,
        subject: Subject,
    ) -> Self {
        Self {
            subject,
            elements,
            producer,
            consumer,
            queue: VecDeque::new(),
            next: 0,
        }
    }

    fn run(mut self, input: &Input) {
        for operation in &input.operations {
            self.step(operation);
            let length = (self.producer.position()).wrapping_sub(self.consumer.position());
            assert_eq!(length, self.queue.len() as u64);
        }
        if input.producer_first {
            drop(self.producer);
            drop(self.consumer);
        } else {
            drop(self.consumer);
            drop(self.producer);
        }
    }

    /// Returns `count` numbers that no element has had.
    fn ids(&mut self, count: usize) -> Vec<u64> {
        let ids = (self.next..).take(count).collect();
        self.next += count as u64;
        ids
    }

    fn step(&mut self, operation: &Operation) {
        match *operation {
            Operation::Push
            | Operation::PushSlice(_)
            | Operation::Commit(..)
            | Operation::InPlace(_)
            | Operation::Abort(..)
            | Operation::Vacant
            | Operation::IsFull => self.step_producer(operation),
            _ => self.step_consumer(operation),
        }
    }

    fn step_producer(&mut self, operation: &Operation) {
        // What the consumer has taken from a chunk that it forgot is vacated
        // only by its next store, so the producer may see fewer slots.
        let vacant = self.producer.capacity() - self.queue.len();
        let seen = self.producer.slots();
        assert!(seen <= vacant);
        match *operation {
            Operation::Push => {
                let id = self.ids(1)[0];
                match self.producer.push(self.elements.make(id)) {
                    Ok(()) => {
                        assert!(seen > 0);
                        if self.subject == Subject::Shipped {
                            self.queue.push_back(id);
                        }
                    }
                    Err(PushError::Full(element)) => {
                        assert_eq!(seen, 0);
                        assert_eq!(E::id(&element), id);
                    }
                    Err(PushError::Violation(_, violation)) => panic!("{violation}"),
                }
            }
            Operation::PushSlice(count) => {
                let ids = self.ids(usize::from(count));
                let pushed = self.elements.push_slice(&mut self.producer, &ids);
                assert_eq!(pushed, ids.len().min(seen));
                self.queue.extend(&ids[..pushed]);
            }
            Operation::Commit(wanted, filled, committed) => {
                let wanted = usize::from(wanted);
                let ids = self.ids(usize::from(filled).min(wanted));
                let elements = self.elements;
                match self.producer.reserve(wanted) {
                    Ok(mut chunk) => {
                        assert!(wanted <= seen);
                        assert_eq!(
                            chunk.fill(ids.iter().map(|&id| elements.make(id))),
                            ids.len()
                        );
                        let committed = usize::from(committed).min(ids.len());
                        chunk.commit(committed);
                        self.queue.extend(&ids[..committed]);
                    }
                    Err(error) => {
                        assert!(wanted > seen);
                        let available = seen;
                        assert_eq!(error, ChunkError::TooFew { wanted, available });
                    }
                }
            }
            Operation::InPlace(wanted) => {
                let ids = self.ids(usize::from(wanted).min(seen));
                self.elements.in_place(&mut self.producer, &ids);
                self.queue.extend(ids);
            }
            Operation::Abort(wanted, filled) => {
                let wanted = usize::from(wanted).min(seen);
                let ids = self.ids(usize::from(filled).min(wanted));
                let mut chunk = self.producer.reserve(wanted).unwrap();
                for id in ids {
                    assert!(chunk.push(self.elements.make(id)).is_ok());
                }
            }
            Operation::IsFull => assert_eq!(self.producer.is_full(), seen == 0),
            _ => (),
        }
    }

    fn step_consumer(&mut self, operation: &Operation) {
        let there = self.queue.len();
        match *operation {
            Operation::Pop => {
                let got = self.consumer.pop().map(|element| E::id(&element));
                assert_eq!(got, self.queue.pop_front().ok_or(PopError::Empty));
            }
            Operation::PopSlice(most) => {
                let most = usize::from(most);
                let expected: Vec<u64> = self.queue.drain(..most.min(there)).collect();
                let got = self.elements.pop_slice(&mut self.consumer, most);
                assert_eq!(got, expected);
            }
            Operation::PopInto(most) => {
                let most = usize::from(most);
                let expected: Vec<u64> = self.queue.drain(..most.min(there)).collect();
                let mut got = Vec::new();
                assert_eq!(self.consumer.pop_into(&mut got, most), Ok(expected.len()));
                assert_eq!(got.iter().map(E::id).collect::<Vec<_>>(), expected);
            }
            Operation::Peek => {
                let expected = self.queue.front().copied().ok_or(PopError::Empty);
                assert_eq!(E::peek(&mut self.consumer), expected);
            }
            Operation::Take(wanted, taken, committed) => {
                let wanted = usize::from(wanted);
                match self.consumer.read_chunk(wanted) {
                    Ok(mut chunk) => {
                        let taken = usize::from(taken).min(wanted);
                        let got: Vec<u64> = chunk
                            .by_ref()
                            .take(taken)
                            .map(|element| E::id(&element))
                            .collect();
                        assert_eq!(got, self.queue.drain(..taken).collect::<Vec<_>>());
                        let committed = usize::from(committed).min(chunk.len());
                        chunk.commit(committed);
                        self.queue.drain(..committed);
                    }
                    Err(error) => {
                        let available = there;
                        assert!(wanted > available);
                        assert_eq!(error, ChunkError::TooFew { wanted, available });
                    }
                }
            }
            Operation::Forget(wanted, taken) => {
                let wanted = usize::from(wanted).min(there);
                let mut chunk = self.consumer.read_chunk(wanted).unwrap();
                for _ in 0..usize::from(taken).min(wanted) {
                    let got = chunk.next().map(|element| E::id(&element));
                    assert_eq!(got, self.queue.pop_front());
                }
                std::mem::forget(chunk);
            }
            Operation::Published => assert_eq!(self.consumer.slots(), there),
            Operation::IsEmpty => assert_eq!(self.consumer.is_empty(), there == 0),
            _ => (),
        }
    }
}
