//! Random operation sequences, compared step by step with a queue.

use std::collections::VecDeque;
use std::fmt::Debug;

use memenpsf_ring::memory::{Heap, Memory, Split};
use memenpsf_ring::{ChunkError, PopError, PushError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult};

use crate::subject::{Consumer, Producer, ring_at, split_ring};
use crate::support::{Counted, Ledger};
use crate::{MOST, capacities, starts};

/// One call of the API. Numbers beyond what fits are part of the test.
#[derive(Debug, Clone)]
enum Operation {
    Push,
    PushSlice(usize),
    /// Reserve, fill so many, commit so many of them.
    Commit(usize, usize, usize),
    /// Reserve, fill so many, abort.
    Abort(usize, usize),
    Vacant,
    IsFull,
    Pop,
    PopSlice(usize),
    PopInto(usize),
    Peek,
    /// Read chunk, take so many, commit so many of what is left.
    Take(usize, usize, usize),
    Published,
    IsEmpty,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let n = || 0..MOST;
    let operation = prop_oneof![
        4 => Just(Operation::Push),
        2 => n().prop_map(Operation::PushSlice),
        2 => (n(), n(), n()).prop_map(|(a, b, c)| Operation::Commit(a, b, c)),
        1 => (n(), n()).prop_map(|(a, b)| Operation::Abort(a, b)),
        1 => Just(Operation::Vacant),
        1 => Just(Operation::IsFull),
        4 => Just(Operation::Pop),
        2 => n().prop_map(Operation::PopSlice),
        1 => n().prop_map(Operation::PopInto),
        1 => Just(Operation::Peek),
        2 => (n(), n(), n()).prop_map(|(a, b, c)| Operation::Take(a, b, c)),
        1 => Just(Operation::Published),
        1 => Just(Operation::IsEmpty),
    ];
    vec(operation, 0..60)
}

/// What differs between the rings under test.
trait Case {
    type Element;
    type Memory: Memory<Self::Element>;
    /// Makes element `id`.
    fn make(&self, id: u64) -> Self::Element;
    /// Tells which element it is.
    fn id(element: &Self::Element) -> u64;
    fn push_slice(
        &self,
        producer: &mut Producer<Self::Element, Self::Memory>,
        ids: &[u64],
    ) -> usize;
    fn pop_slice(
        &self,
        consumer: &mut Consumer<Self::Element, Self::Memory>,
        max: usize,
    ) -> Vec<u64>;
    fn peek(consumer: &mut Consumer<Self::Element, Self::Memory>) -> Result<u64, PopError>;
}

/// Elements on the heap that own memory and count their drops.
struct Droppable(Ledger);

impl Case for Droppable {
    type Element = (String, Counted);
    type Memory = Heap<Self::Element>;

    fn make(&self, id: u64) -> Self::Element {
        (
            id.to_string(),
            self.0.element(usize::try_from(id).expect("small")),
        )
    }

    fn id((name, counted): &Self::Element) -> u64 {
        assert_eq!(*name, counted.id.to_string());
        counted.id as u64
    }

    /// Slices are for `Copy`; the same by chunks.
    fn push_slice(
        &self,
        producer: &mut Producer<Self::Element, Heap<Self::Element>>,
        ids: &[u64],
    ) -> usize {
        let fits = producer.slots().min(ids.len());
        let mut chunk = producer.reserve(fits).expect("slots were vacant");
        let filled = chunk.fill(ids.iter().map(|&id| self.make(id)));
        chunk.commit_all();
        filled
    }

    fn pop_slice(
        &self,
        consumer: &mut Consumer<Self::Element, Heap<Self::Element>>,
        max: usize,
    ) -> Vec<u64> {
        let there = consumer.slots().min(max);
        let chunk = consumer.read_chunk(there).expect("elements were there");
        chunk.map(|element| Self::id(&element)).collect()
    }

    fn peek(consumer: &mut Consumer<Self::Element, Heap<Self::Element>>) -> Result<u64, PopError> {
        consumer.peek().map(Self::id)
    }
}

/// Plain numbers over two blocks.
struct Numbers;

impl Case for Numbers {
    type Element = u64;
    type Memory = Split<u64>;

    fn make(&self, id: u64) -> u64 {
        id
    }

    fn id(element: &u64) -> u64 {
        *element
    }

    fn push_slice(&self, producer: &mut Producer<u64, Split<u64>>, ids: &[u64]) -> usize {
        producer.push_slice(ids).expect("an honest peer")
    }

    fn pop_slice(&self, consumer: &mut Consumer<u64, Split<u64>>, max: usize) -> Vec<u64> {
        let mut ids = vec![u64::MAX; max];
        let popped = consumer.pop_slice(&mut ids).expect("an honest peer");
        assert!(ids[popped..].iter().all(|&id| id == u64::MAX));
        ids.truncate(popped);
        ids
    }

    fn peek(consumer: &mut Consumer<u64, Split<u64>>) -> Result<u64, PopError> {
        consumer.peek()
    }
}

/// Runs the operations on the ring and on a queue; returns how many elements
/// were made.
fn run<C: Case>(
    case: &C,
    producer: &mut Producer<C::Element, C::Memory>,
    consumer: &mut Consumer<C::Element, C::Memory>,
    start: u64,
    operations: &[Operation],
) -> Result<u64, TestCaseError>
where
    C::Element: Debug,
{
    let capacity = producer.capacity();
    let mut queue = VecDeque::new();
    let (mut made, mut pushed, mut popped) = (0, 0, 0);
    let mut new_ids = |count: usize| {
        let ids: Vec<u64> = (made..).take(count).collect();
        made += count as u64;
        ids
    };
    for operation in operations {
        let vacant = capacity - queue.len();
        match *operation {
            Operation::Push => {
                let id = new_ids(1)[0];
                match producer.push(case.make(id)) {
                    Ok(()) => {
                        prop_assert!(vacant > 0);
                        queue.push_back(id);
                    }
                    Err(PushError::Full(element)) => {
                        prop_assert_eq!(vacant, 0);
                        prop_assert_eq!(C::id(&element), id);
                    }
                    Err(PushError::Violation(_, violation)) => panic!("{violation}"),
                }
            }
            Operation::PushSlice(count) => {
                // Elements are made as they fit, so only those get numbers.
                let ids = new_ids(count.min(vacant));
                let surplus = count - ids.len();
                let offered: Vec<u64> = ids.iter().copied().chain(vec![0; surplus]).collect();
                prop_assert_eq!(case.push_slice(producer, &offered), ids.len());
                queue.extend(ids);
            }
            Operation::Commit(wanted, filled, committed) => match producer.reserve(wanted) {
                Ok(mut chunk) => {
                    prop_assert!(wanted <= vacant);
                    let ids = new_ids(filled.min(wanted));
                    let written = chunk.fill(ids.iter().map(|&id| case.make(id)));
                    prop_assert_eq!(written, ids.len());
                    let committed = committed.min(written);
                    chunk.commit(committed);
                    queue.extend(&ids[..committed]);
                }
                Err(error) => {
                    let available = vacant;
                    prop_assert!(wanted > vacant);
                    prop_assert_eq!(error, ChunkError::TooFew { wanted, available });
                }
            },
            Operation::Abort(wanted, filled) => {
                if let Ok(mut chunk) = producer.reserve(wanted) {
                    for id in new_ids(filled.min(wanted)) {
                        prop_assert!(chunk.push(case.make(id)).is_ok());
                    }
                }
            }
            Operation::Vacant => prop_assert_eq!(producer.slots(), vacant),
            Operation::IsFull => prop_assert_eq!(producer.is_full(), vacant == 0),
            Operation::Pop => {
                let got = consumer.pop().map(|element| C::id(&element));
                prop_assert_eq!(got, queue.pop_front().ok_or(PopError::Empty));
            }
            Operation::PopSlice(max) => {
                let expected: Vec<u64> = queue.drain(..max.min(queue.len())).collect();
                prop_assert_eq!(case.pop_slice(consumer, max), expected);
            }
            Operation::PopInto(max) => {
                let expected: Vec<u64> = queue.drain(..max.min(queue.len())).collect();
                let mut got = Vec::new();
                prop_assert_eq!(consumer.pop_into(&mut got, max), Ok(expected.len()));
                prop_assert_eq!(got.iter().map(C::id).collect::<Vec<_>>(), expected);
            }
            Operation::Peek => {
                let expected = queue.front().copied().ok_or(PopError::Empty);
                prop_assert_eq!(C::peek(consumer), expected);
            }
            Operation::Take(wanted, taken, committed) => match consumer.read_chunk(wanted) {
                Ok(mut chunk) => {
                    prop_assert!(wanted <= queue.len());
                    let taken = taken.min(wanted);
                    let got: Vec<u64> = chunk.by_ref().take(taken).map(|e| C::id(&e)).collect();
                    prop_assert_eq!(got, queue.drain(..taken).collect::<Vec<_>>());
                    prop_assert_eq!(chunk.len(), wanted - taken);
                    let committed = committed.min(wanted - taken);
                    chunk.commit(committed);
                    queue.drain(..committed);
                }
                Err(error) => {
                    let available = queue.len();
                    prop_assert!(wanted > available);
                    prop_assert_eq!(error, ChunkError::TooFew { wanted, available });
                }
            },
            Operation::Published => prop_assert_eq!(consumer.slots(), queue.len()),
            Operation::IsEmpty => prop_assert_eq!(consumer.is_empty(), queue.is_empty()),
        }
        // The positions move by exactly what went in and what came out.
        let length = producer.position().wrapping_sub(consumer.position());
        prop_assert_eq!(length, queue.len() as u64);
        let tail = producer.position().wrapping_sub(start);
        let head = consumer.position().wrapping_sub(start);
        prop_assert!(tail >= pushed && head >= popped);
        (pushed, popped) = (tail, head);
    }
    Ok(made)
}

fn heap_equals_queue(
    capacity: usize,
    start: u64,
    producer_first: bool,
    operations: &[Operation],
) -> TestCaseResult {
    let ledger = Ledger::new(60 * MOST);
    let (mut producer, mut consumer) = ring_at(capacity, start);
    let case = Droppable(ledger.clone());
    let made = run(&case, &mut producer, &mut consumer, start, operations)?;
    if producer_first {
        drop(producer);
        drop(consumer);
    } else {
        drop(consumer);
        drop(producer);
    }
    let made = usize::try_from(made).expect("small");
    let drops = ledger.drops();
    prop_assert!(drops[..made].iter().all(|&drops| drops == 1));
    prop_assert!(drops[made..].iter().all(|&drops| drops == 0));
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 10_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn ring_on_the_heap_equals_a_queue(
        capacity in capacities(),
        start in starts(),
        producer_first in any::<bool>(),
        operations in operations(),
    ) {
        heap_equals_queue(capacity, start, producer_first, &operations)?;
    }

    #[test]
    fn ring_over_regions_equals_a_queue(
        capacity in capacities(),
        start in starts(),
        operations in operations(),
    ) {
        let (mut producer, mut consumer) = split_ring(capacity, start);
        run(&Numbers, &mut producer.handle, &mut consumer.handle, start, &operations)?;
    }
}
