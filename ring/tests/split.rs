//! The index ring over two blocks, as two processes map them: what the suite has,
//! the layout, larger elements, and a producer that lies about its tail.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

#[path = "suite/split.rs"]
mod suite;
mod support;

use memenpsf_ring::{PopError, Violation};
use suite::{assert_consumer_refuses, bytes, illegal_distances, round_trip};
use support::STARTS;
use support::blocks::Blocks;
use support::index::{self as subject, split_ring};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Capacities that elements of every kind are sent through.
const CAPACITIES: [usize; 3] = [1, 2, 8];
/// The capacity for all that a peer may do wrong.
const CAPACITY: usize = 4;
const ILLEGAL_CAPACITIES: [usize; 4] = [0, 3, usize::MAX, 1 << (usize::BITS - 1)];

/// Lets the producer lie to a consumer that has seen nothing yet, in a ring of 1 that
/// begins at 5.
fn lie(blocks: &Blocks) -> Violation {
    blocks.set_tail(4);
    Violation::Tail {
        tail: 4,
        previous: 5,
        head: 5,
        capacity: 1,
    }
}

#[test]
fn elements_larger_than_a_line_arrive() {
    #[derive(Clone, Copy, PartialEq, Debug, FromBytes, IntoBytes, Immutable)]
    #[repr(C, align(128))]
    struct Wide([u8; 128]);

    macro_rules! sizes {
        ($($size:literal)*) => { $(round_trip(bytes::<$size>);)* };
    }
    sizes!(57 58 59 60 61 62 63 64);
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
