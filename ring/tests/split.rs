//! The index ring over two blocks, as two processes map them: layout, elements
//! of every size, and a peer that breaks the rules.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

mod support;

use memenpsf_ring::index::{self, Consumer, Producer};
use memenpsf_ring::memory::Split;
use memenpsf_ring::{ChunkError, Plain, PopError, PushError, Violation};
use support::{STARTS, split_ring};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Sends elements that `value` makes of a number, through full and empty rings.
fn round_trip<T: Plain + PartialEq + std::fmt::Debug>(value: impl Fn(u64) -> T) {
    for capacity in [1, 2, 8] {
        let (mut producer, mut consumer) = split_ring::<T>(capacity, u64::MAX - 3);
        let (producer, consumer) = (&mut producer.handle, &mut consumer.handle);
        for round in 0..20 {
            let values: Vec<T> = (0..capacity as u64)
                .map(|n| value(round * 31 + n))
                .collect();
            for &value in &values {
                assert_eq!(producer.push(value), Ok(()));
            }
            assert_eq!(producer.push(values[0]), Err(PushError::Full(values[0])));
            assert_eq!(consumer.peek(), Ok(values[0]));
            for &value in &values {
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
        }
    }
}

fn bytes<const N: usize>(n: u64) -> [u8; N] {
    // No two neighbouring bytes are equal, nor the same byte of two elements.
    let mut byte = n.to_le_bytes()[0].wrapping_mul(29);
    [(); N].map(|()| {
        byte = byte.wrapping_add(101);
        byte
    })
}

#[test]
fn elements_of_every_size_from_0_to_64_bytes_arrive() {
    macro_rules! sizes {
        ($($size:literal)*) => { $(round_trip(bytes::<$size>);)* };
    }
    round_trip(|_| ());
    sizes!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
    sizes!(33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61);
    sizes!(62 63 64);
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
    #[derive(Clone, Copy, PartialEq, Debug, FromBytes, IntoBytes, Immutable)]
    #[repr(C, align(128))]
    struct Wide([u8; 128]);

    round_trip(|n| n);
    round_trip(|n| u128::from(n) << 61 | 5);
    round_trip(|n| (n % 1000) as u16);
    round_trip(|n| n as f64);
    round_trip(|n| Order {
        id: n << 40,
        price: 7,
        volume: 3,
        venue: bytes(n),
    });
    round_trip(|n| Wide(bytes(n)));
}

#[test]
fn both_blocks_are_laid_out_as_the_table_says() {
    let (mut producer, mut consumer) = split_ring::<u32>(4, 0);
    let blocks = producer.blocks.clone();
    producer
        .handle
        .push_slice(&[0x0101, 0x0202, 0x0303])
        .unwrap();
    assert_eq!(blocks.tail(), 3);
    assert_eq!(blocks.head(), 0);
    let slots: Vec<u8> = [0x0101_u32, 0x0202, 0x0303, 0]
        .iter()
        .flat_map(|n| n.to_ne_bytes())
        .collect();
    assert_eq!(blocks.slots(), slots);
    consumer.handle.pop().unwrap();
    assert_eq!(blocks.tail(), 3);
    assert_eq!(blocks.head(), 1);
    assert_eq!(blocks.slots(), slots, "a consumer writes no slot");
}

#[test]
fn wrong_capacities_are_refused_on_attach() {
    let (producer, _consumer) = split_ring::<u64>(1, 0);
    for capacity in [0, 3, usize::MAX, 1 << (usize::BITS - 1)] {
        let block = producer.blocks.producer_start();
        let peer = producer.blocks.consumer_start();
        // SAFETY: the blocks are those of a ring of 1, and nothing is accessed.
        let memory = unsafe { Split::new(block, peer) };
        // SAFETY: a wrong capacity is refused before anything is accessed.
        let refused = unsafe { Producer::<u64, _>::attach(memory, capacity, 0) };
        assert_eq!(refused.err(), index::producer_block::<u64>(capacity).err());
        // SAFETY: as above.
        let memory = unsafe { Split::new(peer, block) };
        // SAFETY: as above.
        let refused = unsafe { Consumer::<u64, _>::attach(memory, capacity, 0) };
        assert_eq!(refused.err(), index::producer_block::<u64>(capacity).err());
    }
}

#[test]
fn peek_of_a_region_copies_what_is_there_at_that_moment() {
    let (mut producer, mut consumer) = split_ring::<u8>(2, 0);
    assert_eq!(consumer.handle.peek(), Err(PopError::Empty));
    producer.handle.push(1).unwrap();
    assert_eq!(consumer.handle.peek(), Ok(1));
    producer.blocks.set_slot_byte(0, 9);
    assert_eq!(consumer.handle.peek(), Ok(9));
    assert_eq!(consumer.handle.pop(), Ok(9));
}

#[test]
fn aborted_chunk_of_a_region_publishes_nothing() {
    let (mut producer, mut consumer) = split_ring::<u64>(4, u64::MAX - 1);
    let mut chunk = producer.handle.reserve(4).unwrap();
    chunk.fill(0..4);
    drop(chunk);
    assert_eq!(consumer.handle.pop(), Err(PopError::Empty));
    assert_eq!(producer.handle.slots(), 4);
    assert_eq!(producer.blocks.tail(), u64::MAX - 1);
}

/// Every operation of a producer ends in `violation`, and none changes a byte.
fn assert_producer_refuses(producer: &mut support::SplitProducer<u64>, violation: Violation) {
    let (tail, slots) = (producer.blocks.tail(), producer.blocks.slots());
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
    assert_eq!(producer.blocks.tail(), tail);
    assert_eq!(producer.blocks.slots(), slots);
}

/// Every operation of a consumer ends in `violation`, and none moves the head.
fn assert_consumer_refuses(consumer: &mut support::SplitConsumer<u64>, violation: Violation) {
    let (head, slots) = (consumer.blocks.head(), consumer.blocks.slots());
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
    assert_eq!(consumer.blocks.slots(), slots);
}

/// Distances of a word from its last legal value that no legal value has, in a
/// ring of 4 of which `length` elements can be believed in addition: one too
/// many, far too many, behind by one, and every single bit from 3 up.
fn illegal_distances(length: u64) -> impl Iterator<Item = u64> {
    let bits = (3..64).map(|bit| 1 << bit);
    [
        length + 1,
        length + 2,
        u64::MAX,
        u64::MAX - 1,
        u64::MAX / 2,
        i64::MAX as u64 + 1,
    ]
    .into_iter()
    .chain(bits)
}

#[test]
fn head_ahead_of_the_tail_or_behind_the_last_is_a_sticky_violation() {
    for start in STARTS {
        for pushed in 0..=4_u64 {
            for popped in 0..=pushed {
                for distance in illegal_distances(pushed - popped) {
                    let (mut producer, mut consumer) = split_ring::<u64>(4, start);
                    for n in 0..pushed {
                        producer.handle.push(n).unwrap();
                    }
                    for _ in 0..popped {
                        consumer.handle.pop().unwrap();
                    }
                    // The producer learns the last legal head here.
                    assert_eq!(producer.handle.slots() as u64, 4 - pushed + popped);
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
fn tail_beyond_the_capacity_or_behind_the_last_is_a_sticky_violation() {
    for start in STARTS {
        for pushed in 0..=4_u64 {
            for popped in 0..=pushed {
                for distance in illegal_distances(4 - pushed + popped) {
                    let (mut producer, mut consumer) = split_ring::<u64>(4, start);
                    for n in 0..pushed {
                        producer.handle.push(n).unwrap();
                    }
                    for _ in 0..popped {
                        consumer.handle.pop().unwrap();
                    }
                    assert_eq!(consumer.handle.slots() as u64, pushed - popped);
                    let previous = start.wrapping_add(pushed);
                    let tail = previous.wrapping_add(distance);
                    consumer.blocks.set_tail(tail);
                    let violation = Violation::Tail {
                        tail,
                        previous,
                        head: start.wrapping_add(popped),
                        capacity: 4,
                    };
                    assert_eq!(consumer.handle.slots(), 0);
                    assert_consumer_refuses(&mut consumer, violation);
                    consumer.blocks.set_tail(previous);
                    assert_consumer_refuses(&mut consumer, violation);
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
        consumer.blocks.set_tail(4);
        let violation = Violation::Tail {
            tail: 4,
            previous: 5,
            head: 5,
            capacity: 1,
        };
        assert_eq!(operation(&mut consumer.handle), Some(violation));
        assert_consumer_refuses(&mut consumer, violation);
    }
}

#[test]
fn what_was_published_before_a_violation_is_still_there() {
    let (mut producer, mut consumer) = split_ring::<u64>(4, 0);
    producer.handle.push_slice(&[1, 2]).unwrap();
    assert_eq!(consumer.handle.slots(), 2);
    consumer.blocks.set_tail(77);
    // Both elements were legally published and need no look at the tail.
    assert_eq!(consumer.handle.pop(), Ok(1));
    assert_eq!(consumer.handle.pop(), Ok(2));
    let violation = Violation::Tail {
        tail: 77,
        previous: 2,
        head: 2,
        capacity: 4,
    };
    assert_eq!(consumer.handle.pop(), Err(PopError::Violation(violation)));
    assert_eq!(
        violation.to_string(),
        "the peer published tail 77, allowed are 2 to 6"
    );
}
