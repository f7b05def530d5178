//! A ring over two blocks, as two processes map them: elements of every size, and a
//! peer that breaks the rules.

use std::fmt::Debug;
use std::ptr::NonNull;

use memenpsf_ring::memory::Split;
use memenpsf_ring::{ChunkError, LayoutError, Plain, PopError, PushError, Violation};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::subject::{
    Consumer, Producer, SplitConsumer, SplitProducer, producer_block, slots_mut, split_ring, starts,
};
use crate::{CAPACITIES, CAPACITY, ILLEGAL_CAPACITIES, lie};

/// Sends elements that `value` makes of a number, through full and empty rings.
pub(crate) fn round_trip<T: Plain + PartialEq + Debug>(value: impl Fn(u64) -> T) {
    for capacity in CAPACITIES {
        for start in starts(capacity, size_of::<T>()) {
            let (mut producer, mut consumer) = split_ring::<T>(capacity, start);
            let (producer, consumer) = (&mut producer.handle, &mut consumer.handle);
            for round in 0..20 {
                let values: Vec<T> = (0..capacity as u64)
                    .map(|n| value(round * 31 + n))
                    .collect();
                for &value in &values {
                    assert_eq!(producer.push(value), Ok(()));
                }
                assert_eq!(producer.push(values[0]), Err(PushError::Full(values[0])));
                for &value in &values {
                    assert_eq!(consumer.peek(), Ok(value));
                    assert_eq!(consumer.pop(), Ok(value));
                }
                assert_eq!(consumer.pop(), Err(PopError::Empty));

                assert_eq!(producer.push_slice(&values), Ok(capacity));
                let mut got = vec![value(0); capacity];
                assert_eq!(consumer.pop_slice(&mut got), Ok(capacity));
                assert_eq!(got, values);

                let mut chunk = producer.reserve(capacity).unwrap();
                chunk.fill(values.iter().copied());
                chunk.commit_all();
                let got: Vec<T> = consumer.read_chunk(capacity).unwrap().collect();
                assert_eq!(got, values);

                let mut chunk = producer.reserve(capacity).unwrap();
                for (slot, &value) in slots_mut(&mut chunk).zip(&values) {
                    *slot = value;
                }
                chunk.commit_all();
                let got: Vec<T> = consumer.read_chunk(capacity).unwrap().collect();
                assert_eq!(got, values);
            }
        }
    }
}

/// Makes an element of `N` bytes of a number.
pub(crate) fn bytes<const N: usize>(n: u64) -> [u8; N] {
    // No two neighbouring bytes are equal, nor the same byte of two elements.
    let mut byte = n.to_le_bytes()[0].wrapping_mul(29);
    [(); N].map(|()| {
        byte = byte.wrapping_add(101);
        byte
    })
}

#[test]
fn elements_of_every_size_from_0_to_56_bytes_arrive() {
    macro_rules! sizes {
        ($($size:literal)*) => { $(round_trip(bytes::<$size>);)* };
    }
    round_trip(|_| ());
    sizes!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
    sizes!(33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56);
}

#[test]
fn elements_of_every_alignment_arrive() {
    #[derive(Clone, Copy, PartialEq, Debug, FromBytes, IntoBytes, Immutable)]
    #[repr(C)]
    struct Order {
        id: u64,
        price: u32,
        volume: u16,
        venue: [u8; 2],
    }

    round_trip(|n| n);
    round_trip(|n| (n % 1000) as u16);
    round_trip(|n| u32::from_le_bytes(bytes(n)));
    round_trip(|n| u128::from(n) << 61 | 5);
    round_trip(|n| n as f64);
    round_trip(|n| Order {
        id: n << 40,
        price: 7,
        volume: 3,
        venue: bytes(n),
    });
}

/// Both sides refuse to attach for the reason for which there is no layout.
pub(crate) fn assert_refused<T: Plain>(
    block: NonNull<u8>,
    peer: NonNull<u8>,
    capacity: usize,
) -> LayoutError {
    let refusal = producer_block::<T>(capacity).unwrap_err();
    // SAFETY: nothing is accessed through it before the refusal.
    let memory = unsafe { Split::<T>::new(block, peer) };
    // SAFETY: as above.
    let producer = unsafe { Producer::<T, _>::attach(memory, capacity, 0) };
    assert_eq!(producer.err(), Some(refusal));
    // SAFETY: as above.
    let memory = unsafe { Split::<T>::new(peer, block) };
    // SAFETY: as above.
    let consumer = unsafe { Consumer::<T, _>::attach(memory, capacity, 0) };
    assert_eq!(consumer.err(), Some(refusal));
    refusal
}

#[test]
fn wrong_capacities_are_refused_on_attach() {
    let (producer, _consumer) = split_ring::<u64>(1, 0);
    for capacity in ILLEGAL_CAPACITIES {
        let block = producer.blocks.producer_start();
        let peer = producer.blocks.consumer_start();
        assert_refused::<u64>(block, peer, capacity);
    }
}

/// Every operation of a producer ends in `violation`, and none changes a byte.
pub(crate) fn assert_producer_refuses(producer: &mut SplitProducer<u64>, violation: Violation) {
    let words = producer.blocks.words();
    let position = producer.handle.position();
    for _ in 0..3 {
        let handle = &mut producer.handle;
        assert_eq!(handle.push(7), Err(PushError::Violation(7, violation)));
        assert_eq!(handle.push_slice(&[7; 9]), Err(violation));
        assert_eq!(handle.push_slice(&[7]), Err(violation));
        assert_eq!(handle.push_slice(&[]), Err(violation));
        for wanted in [0, 1, 4] {
            let refused = handle.reserve(wanted).err();
            assert_eq!(refused, Some(ChunkError::Violation(violation)));
        }
        assert_eq!(handle.slots(), 0);
        assert!(handle.is_full());
        assert_eq!(handle.violation(), Some(violation));
        assert_eq!(handle.position(), position);
    }
    assert_eq!(producer.blocks.words(), words);
}

/// Every operation of a consumer ends in `violation`, and none moves the head.
pub(crate) fn assert_consumer_refuses(consumer: &mut SplitConsumer<u64>, violation: Violation) {
    let (head, words) = (consumer.blocks.head(), consumer.blocks.words());
    let position = consumer.handle.position();
    for _ in 0..3 {
        let handle = &mut consumer.handle;
        let refused = PopError::Violation(violation);
        assert_eq!(handle.pop(), Err(refused));
        assert_eq!(handle.peek(), Err(refused));
        let mut values = [7; 9];
        assert_eq!(handle.pop_slice(&mut values), Err(violation));
        assert_eq!(handle.pop_slice(&mut values[..1]), Err(violation));
        assert_eq!(handle.pop_slice(&mut []), Err(violation));
        assert_eq!(values, [7; 9]);
        for max in [0, 1, 9] {
            let mut values = vec![];
            assert_eq!(handle.pop_into(&mut values, max), Err(violation));
            assert!(values.is_empty());
        }
        for wanted in [0, 1, 4] {
            let refused = handle.read_chunk(wanted).err();
            assert_eq!(refused, Some(ChunkError::Violation(violation)));
        }
        assert_eq!(handle.slots(), 0);
        assert!(handle.is_empty());
        assert_eq!(handle.violation(), Some(violation));
        assert_eq!(handle.position(), position);
    }
    assert_eq!(consumer.blocks.head(), head);
    assert_eq!(consumer.blocks.words(), words);
}

/// Distances of a position from its last legal value that no legal value has, when
/// it may move on by `length`: one too many, far too many, behind by one, and every
/// single bit that is too large.
pub(crate) fn illegal_distances(length: u64) -> impl Iterator<Item = u64> {
    let bits = (0..64).map(|bit| 1 << bit);
    [length + 1, length + 2, u64::MAX, u64::MAX - 1, u64::MAX / 2]
        .into_iter()
        .chain(bits.filter(move |&bit| bit > length))
}

#[test]
fn head_ahead_of_the_tail_or_behind_the_last_is_a_sticky_violation() {
    for start in starts(CAPACITY, size_of::<u64>()) {
        for pushed in 0..=CAPACITY as u64 {
            for popped in 0..=pushed {
                for distance in illegal_distances(pushed - popped) {
                    let (mut producer, mut consumer) = split_ring::<u64>(CAPACITY, start);
                    for n in 0..pushed {
                        producer.handle.push(n).unwrap();
                    }
                    for _ in 0..popped {
                        consumer.handle.pop().unwrap();
                    }
                    // The producer learns the last legal head here.
                    assert_eq!(
                        producer.handle.slots() as u64 + pushed,
                        CAPACITY as u64 + popped
                    );
                    let previous = start.wrapping_add(popped);
                    let head = previous.wrapping_add(distance);
                    producer.blocks.set_head(head);
                    let violation = Violation::Head {
                        head,
                        previous,
                        tail: start.wrapping_add(pushed),
                    };
                    assert_eq!(producer.handle.slots(), 0);
                    assert_producer_refuses(&mut producer, violation);
                    // Sticky even when the word is mended.
                    producer.blocks.set_head(previous);
                    assert_producer_refuses(&mut producer, violation);
                }
            }
        }
    }
}

#[test]
fn every_operation_reports_a_violation_that_it_is_the_first_to_see() {
    type Produce = fn(&mut Producer<u64, Split<u64>>) -> Option<Violation>;
    let produce: [Produce; 3] = [
        |producer| match producer.push(7) {
            Err(PushError::Violation(7, violation)) => Some(violation),
            _ => None,
        },
        |producer| producer.push_slice(&[7]).err(),
        |producer| match producer.reserve(1) {
            Err(ChunkError::Violation(violation)) => Some(violation),
            _ => None,
        },
    ];
    for operation in produce {
        let (mut producer, _consumer) = split_ring::<u64>(1, 5);
        producer.handle.push(1).unwrap();
        producer.blocks.set_head(7);
        let violation = Violation::Head {
            head: 7,
            previous: 5,
            tail: 6,
        };
        assert_eq!(operation(&mut producer.handle), Some(violation));
        assert_producer_refuses(&mut producer, violation);
    }
    type Consume = fn(&mut Consumer<u64, Split<u64>>) -> Option<Violation>;
    let consume: [Consume; 5] = [
        |consumer| match consumer.pop() {
            Err(PopError::Violation(violation)) => Some(violation),
            _ => None,
        },
        |consumer| match consumer.peek() {
            Err(PopError::Violation(violation)) => Some(violation),
            _ => None,
        },
        |consumer| consumer.pop_slice(&mut [0]).err(),
        |consumer| consumer.pop_into(&mut vec![], 1).err(),
        |consumer| match consumer.read_chunk(1) {
            Err(ChunkError::Violation(violation)) => Some(violation),
            _ => None,
        },
    ];
    for operation in consume {
        let (_producer, mut consumer) = split_ring::<u64>(1, 5);
        let violation = lie(&consumer.blocks);
        assert_eq!(operation(&mut consumer.handle), Some(violation));
        assert_consumer_refuses(&mut consumer, violation);
    }
}
