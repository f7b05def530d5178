//! Random operation sequences on the bytes ring, compared step by step with a
//! queue.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

mod support;

use std::collections::VecDeque;

use memenpsf_ring::bytes::{self, Consumer, Producer, longest_message};
use memenpsf_ring::memory::ByteMemory;
use memenpsf_ring::ordering::Shipped;
use memenpsf_ring::{PopError, RecordError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;
use support::bytes::{low_byte, split_ring};

/// One call of the API. Lengths beyond what fits are part of the test.
#[derive(Debug, Clone)]
enum Operation {
    Push(usize),
    PushVectored(Vec<usize>),
    /// Reserve, commit so many.
    Commit(usize, usize),
    Abort(usize),
    FreeBytes,
    Fits(usize),
    Pop,
    PopInto,
    PeekLen,
    IsEmpty,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let n = || prop_oneof![0..12_usize, 0..70_usize, 0..130_usize];
    let operation = prop_oneof![
        6 => n().prop_map(Operation::Push),
        2 => vec(n(), 0..5).prop_map(Operation::PushVectored),
        3 => (n(), n()).prop_map(|(a, b)| Operation::Commit(a, b)),
        1 => n().prop_map(Operation::Abort),
        1 => Just(Operation::FreeBytes),
        1 => n().prop_map(Operation::Fits),
        5 => Just(Operation::Pop),
        2 => Just(Operation::PopInto),
        1 => Just(Operation::PeekLen),
        1 => Just(Operation::IsEmpty),
    ];
    vec(operation, 0..80)
}

fn shapes() -> impl Strategy<Value = (usize, usize)> {
    (4..10_u32, any::<prop::sample::Index>()).prop_map(|(log, index)| {
        let capacity = 1 << log;
        let longest = longest_message(capacity).expect("a legal capacity");
        (capacity, index.index(longest + 1))
    })
}

fn starts() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        (0..64_u64).prop_map(|words| words * 8),
        (1..40_u64).prop_map(|words| 0_u64.wrapping_sub(words * 8)),
    ]
}

/// A position of the model, which never wraps, as one of the ring.
fn low_bits(position: u128) -> u64 {
    u64::try_from(position & u128::from(u64::MAX)).expect("64 bits")
}

/// Where a record ends, by the documented rule and not by the ring's arithmetic.
fn end(position: u128, length: usize) -> u128 {
    let size = (8 + length.div_ceil(8) * 8) as u128;
    let end = position + size;
    let line_end = end.div_ceil(64) * 64;
    if size <= 64 && line_end - end < size {
        line_end
    } else {
        end
    }
}

/// The ring as a queue of messages with the positions behind them.
struct Model {
    queue: VecDeque<(Vec<u8>, u128)>,
    capacity: u128,
    longest: usize,
    head: u128,
    tail: u128,
}

impl Model {
    /// What pushing `length` bytes would come to.
    fn room(&self, length: usize) -> Result<u128, RecordError> {
        let vacant = self.head + self.capacity - 8 - self.tail;
        let end = end(self.tail, length);
        let needed = end - self.tail;
        if length > self.longest {
            let longest = self.longest;
            Err(RecordError::TooLong { length, longest })
        } else if needed > vacant {
            Err(RecordError::Full {
                needed: usize::try_from(needed).expect("small"),
                vacant: usize::try_from(vacant).expect("small"),
            })
        } else {
            Ok(end)
        }
    }

    fn push(&mut self, bytes: Vec<u8>) -> Result<(), RecordError> {
        self.tail = self.room(bytes.len())?;
        self.queue.push_back((bytes, self.tail));
        Ok(())
    }

    fn pop(&mut self) -> Result<Vec<u8>, PopError> {
        let (bytes, end) = self.queue.pop_front().ok_or(PopError::Empty)?;
        self.head = end;
        Ok(bytes)
    }
}

fn run<M: ByteMemory, N: ByteMemory>(
    producer: &mut Producer<M>,
    consumer: &mut Consumer<N>,
    start: u64,
    operations: &[Operation],
) -> Result<(), TestCaseError> {
    let mut model = Model {
        queue: VecDeque::new(),
        capacity: producer.capacity() as u128,
        longest: producer.max_message(),
        head: u128::from(start),
        tail: u128::from(start),
    };
    let mut number = 0;
    let mut bytes_of = |length: usize| {
        number += 1;
        let byte = |i: usize| low_byte(i as u64 * 13 + number);
        (0..length).map(byte).collect::<Vec<u8>>()
    };
    let mut into = Vec::new();
    for operation in operations {
        match operation {
            Operation::Push(length) => {
                let bytes = bytes_of(*length);
                prop_assert_eq!(producer.push(&bytes), model.push(bytes));
            }
            Operation::PushVectored(lengths) => {
                let batch: Vec<_> = lengths.iter().map(|&length| bytes_of(length)).collect();
                let got = producer.push_vectored(&batch);
                let mut expected = Ok(0);
                for (count, bytes) in batch.into_iter().enumerate() {
                    match model.push(bytes) {
                        Ok(()) => expected = Ok(count + 1),
                        Err(error) if count == 0 => expected = Err(error),
                        Err(_) => (),
                    }
                    if expected != Ok(count + 1) {
                        break;
                    }
                }
                prop_assert_eq!(got, expected);
            }
            Operation::Commit(length, actual) => {
                let bytes = bytes_of(*length);
                match producer.reserve(*length) {
                    Ok(mut reservation) => {
                        let actual = *actual.min(length);
                        reservation.as_mut_slice().copy_from_slice(&bytes);
                        reservation.commit(actual);
                        prop_assert_eq!(model.push(bytes[..actual].to_vec()), Ok(()));
                    }
                    Err(error) => {
                        // It may ask for more than the message takes, to be safe
                        // for a shorter one.
                        let short = model.room((*length).min(56).min(model.longest));
                        let long = model.room(*length);
                        prop_assert_eq!(error, long.and(short).unwrap_err());
                    }
                }
            }
            Operation::Abort(length) => {
                if let Ok(mut reservation) = producer.reserve(*length) {
                    reservation.as_mut_slice().fill(9);
                }
            }
            Operation::FreeBytes => {
                let free = model.head + model.capacity - 8 - model.tail;
                prop_assert_eq!(producer.free_bytes() as u128, free);
            }
            Operation::Fits(length) => {
                prop_assert_eq!(producer.fits(*length), model.room(*length).is_ok());
            }
            Operation::Pop => prop_assert_eq!(consumer.pop(), model.pop()),
            Operation::PopInto => {
                into.truncate(3);
                let before = into.clone();
                let expected = model.pop();
                let got = consumer.pop_into(&mut into);
                prop_assert_eq!(got, expected.as_ref().map(Vec::len).map_err(|&error| error));
                prop_assert_eq!(&into[..before.len()], &before[..]);
                prop_assert_eq!(&into[before.len()..], &expected.unwrap_or_default()[..]);
            }
            Operation::PeekLen => {
                let expected = model.queue.front().map(|(bytes, _)| bytes.len());
                prop_assert_eq!(consumer.peek_len(), expected.ok_or(PopError::Empty));
            }
            Operation::IsEmpty => prop_assert_eq!(consumer.is_empty(), model.queue.is_empty()),
        }
        prop_assert_eq!(producer.position(), low_bits(model.tail));
        prop_assert_eq!(consumer.position(), low_bits(model.head));
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 10_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn ring_on_the_heap_equals_a_queue(
        (capacity, longest) in shapes(),
        start in starts(),
        operations in operations(),
    ) {
        let (mut producer, mut consumer) =
            bytes::ring_at::<Shipped>(capacity, longest, start).expect("a legal shape");
        run(&mut producer, &mut consumer, start, &operations)?;
    }

    #[test]
    fn ring_over_regions_equals_a_queue(
        (capacity, longest) in shapes(),
        start in starts(),
        operations in operations(),
    ) {
        let (mut producer, mut consumer) = split_ring(capacity, longest, start);
        run(&mut producer.handle, &mut consumer.handle, start, &operations)?;
    }
}
