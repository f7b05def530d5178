//! The packed ring over two blocks, as two processes map them: what the suite has,
//! the layout, laps, and a producer that lies in its headers.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

#[path = "suite/split.rs"]
mod suite;
mod support;

use memenpsf_ring::packed;
use memenpsf_ring::{LayoutError, Plain, PopError, Violation};
use suite::{assert_consumer_refuses, assert_refused};
use support::blocks::Blocks;
use support::packed::{self as subject, split_ring};

/// Capacities that elements of every kind are sent through.
const CAPACITIES: [usize; 3] = [1, 2, 9];
/// The capacity for all that a peer may do wrong.
const CAPACITY: usize = 9;
const ILLEGAL_CAPACITIES: [usize; 3] = [0, usize::MAX, usize::MAX / 8];

/// Elements of a line of `u64`.
const SLOTS: u64 = 7;

fn header(lap: u32, count: u64) -> u64 {
    u64::from(lap) << 32 | count
}

/// Lets the producer lie to a consumer that has seen nothing yet, in a ring of 1 that
/// begins at 5.
fn lie(blocks: &Blocks) -> Violation {
    blocks.set_header(0, header(1, 7));
    Violation::Line {
        lap: 1,
        count: 7,
        expected: 1,
        previous: 5,
        most: 6,
    }
}

#[test]
fn blocks_are_laid_out_as_the_tables_say() {
    let (mut producer, mut consumer) = split_ring::<u64>(8, 0);
    let blocks = producer.blocks.clone();
    assert_eq!(blocks.lines(), 2);
    for n in 1..=8 {
        producer.handle.push(n * 0x0101).unwrap();
    }
    let mut expected = vec![header(1, 7)];
    expected.extend((1..=7).map(|n| n * 0x0101));
    expected.extend([header(1, 1), 8 * 0x0101, 0, 0, 0, 0, 0, 0]);
    assert_eq!(blocks.words(), expected);
    for n in 1..=8 {
        assert_eq!(blocks.head(), n - 1);
        consumer.handle.pop().unwrap();
    }
    assert_eq!(blocks.head(), 8);
    assert_eq!(blocks.words(), expected, "a consumer writes no line");
    // To the end of the second line and into lap 2.
    producer.handle.push_slice(&[9; 7]).unwrap();
    expected[8] = header(1, 7);
    expected[0] = header(2, 1);
    expected[10..].fill(9);
    expected[1] = 9;
    assert_eq!(blocks.words(), expected);
}

#[test]
fn u128_begins_at_its_alignment() {
    let (mut producer, _consumer) = split_ring::<u128>(4, 0);
    producer.handle.push_slice(&[1, 2, 3, 4]).unwrap();
    let words = producer.blocks.words();
    assert_eq!(words[..8], [header(1, 3), 0, 1, 0, 2, 0, 3, 0]);
    assert_eq!(words[8..12], [header(1, 1), 0, 4, 0]);
}

#[test]
fn laps_wrap_through_zero() {
    let capacity = 3;
    let lap = 2 * SLOTS;
    let (mut producer, mut consumer) = split_ring::<u64>(capacity, lap * u64::from(u32::MAX - 1));
    let blocks = producer.blocks.clone();
    for expected in [u32::MAX, 0, 1, 2] {
        for n in 0..lap {
            assert_eq!(consumer.handle.pop(), Err(PopError::Empty));
            producer.handle.push(n).unwrap();
            let line = usize::try_from(n / SLOTS).unwrap();
            assert_eq!(blocks.header(line), header(expected, n % SLOTS + 1));
            assert_eq!(consumer.handle.pop(), Ok(n));
        }
    }
    assert_eq!(consumer.handle.violation(), None);
}

#[test]
fn elements_that_do_not_fit_are_refused_on_attach() {
    fn refused<T: Plain>() -> LayoutError {
        assert!(!packed::fits::<T>());
        let (producer, _consumer) = split_ring::<u64>(1, 0);
        let block = producer.blocks.producer_start();
        let peer = producer.blocks.consumer_start();
        assert_refused::<T>(block, peer, 4)
    }

    let error = refused::<[u8; 57]>();
    assert_eq!(error, LayoutError::Element { size: 57, align: 1 });
    assert_eq!(
        error.to_string(),
        "an element of 57 bytes, aligned to 1, does not fit into a packed line"
    );
    refused::<[u64; 8]>();
    refused::<[u128; 4]>();
    refused::<[u8; 4096]>();
}

#[test]
fn attaching_to_zeroed_memory_writes_nothing_but_zeros() {
    let (producer, _consumer) = split_ring::<u64>(30, 0);
    assert!(producer.blocks.words().iter().all(|&word| word == 0));
    assert_eq!(producer.blocks.head(), 0);
}

#[test]
fn slices_of_a_chunk_are_those_of_its_lines() {
    let (mut producer, mut consumer) = split_ring::<u64>(20, 5);
    let mut chunk = producer.handle.reserve(18).unwrap();
    let lengths: Vec<usize> = chunk.slices_mut().map(|slice| slice.len()).collect();
    assert_eq!(lengths, [2, 7, 7, 2]);
    for (n, slot) in chunk.slices_mut().flatten().enumerate() {
        *slot = n as u64;
    }
    chunk.commit(17);
    assert!(consumer.handle.read_chunk(17).unwrap().eq(0..17));
    assert!(consumer.handle.is_empty());
}

/// Laps and counts around all legal ones, far away, and every single bit.
fn offers(lap: u32) -> impl Iterator<Item = (u32, u64)> {
    let near = [2, 1, 0, u32::MAX, u32::MAX - 1].map(|back| lap.wrapping_sub(back));
    let far = [0, 1, u32::MAX, 1 << 31];
    let counts = (0..=SLOTS + 2).chain((4..32).map(|bit| 1 << bit));
    let counts = counts.chain([u64::from(u32::MAX)]);
    near.into_iter()
        .chain(far)
        .flat_map(move |lap| counts.clone().map(move |count| (lap, count)))
}

/// For every state of rings of several capacities and every header that the
/// peer may put where the consumer looks next: it believes exactly the legal
/// ones.
#[test]
fn headers_are_believed_exactly_when_legal_and_violations_are_sticky() {
    let (mut believed, mut refused) = (0_u32, 0_u32);
    for capacity in [1_u64, 4, 7, 8, 15] {
        let lines = (capacity - 1).div_ceil(SLOTS) + 1;
        for popped in 0..=lines * SLOTS + 1 {
            for there in 0..capacity {
                let pushed = popped + there;
                let (line, seen) = (pushed / SLOTS, pushed % SLOTS);
                let laps = u32::try_from(line / lines).unwrap();
                let at = usize::try_from(line % lines).unwrap();
                let most = seen + (SLOTS - seen).min(capacity - there);
                let stale = match laps {
                    0 => 0,
                    _ => header(laps, SLOTS),
                };
                for (lap, count) in offers(laps + 1) {
                    let (mut producer, mut consumer) =
                        split_ring::<u64>(usize::try_from(capacity).unwrap(), 0);
                    for n in 0..popped {
                        producer.handle.push(n).unwrap();
                        consumer.handle.pop().unwrap();
                    }
                    for n in popped..pushed {
                        producer.handle.push(n).unwrap();
                    }
                    assert_eq!(consumer.handle.slots() as u64, there);
                    consumer.blocks.set_header(at, header(lap, count));
                    let of_this_lap = lap == laps + 1 && (seen..=most).contains(&count);
                    let of_the_last = seen == 0 && header(lap, count) == stale;
                    if of_this_lap {
                        // More may follow in lines that hold nothing: none.
                        assert_eq!(consumer.handle.slots() as u64, there + count - seen);
                        believed += 1;
                    } else if of_the_last {
                        assert_eq!(consumer.handle.slots() as u64, there);
                        believed += 1;
                    } else {
                        assert_eq!(consumer.handle.slots(), 0);
                        let violation = Violation::Line {
                            lap,
                            count,
                            expected: laps + 1,
                            previous: seen,
                            most,
                        };
                        assert_consumer_refuses(&mut consumer, violation);
                        consumer.blocks.set_header(at, stale);
                        assert_consumer_refuses(&mut consumer, violation);
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(believed > 1000 && refused > 10_000, "{believed} {refused}");
}

#[test]
fn what_was_published_before_a_violation_is_still_there() {
    let (mut producer, mut consumer) = split_ring::<u64>(20, 0);
    producer.handle.push_slice(&[1; 9]).unwrap();
    assert_eq!(consumer.handle.slots(), 9);
    consumer.blocks.set_header(0, header(9, 9));
    consumer.blocks.set_header(1, header(1, 1));
    // All nine were legally published and need no further look.
    for _ in 0..8 {
        assert_eq!(consumer.handle.pop(), Ok(1));
    }
    let mut values = [0; 20];
    assert_eq!(consumer.handle.pop_slice(&mut values), Ok(1));
    let violation = Violation::Line {
        lap: 1,
        count: 1,
        expected: 1,
        previous: 2,
        most: 7,
    };
    assert_eq!(consumer.handle.pop_slice(&mut values), Err(violation));
    assert_consumer_refuses(&mut consumer, violation);
    assert_eq!(
        violation.to_string(),
        "the peer published 1 elements of lap 1 in a line, allowed are 2 to 7 of lap 1"
    );
}

#[test]
fn lines_beyond_the_capacity_are_not_believed() {
    // All lines of a ring of 8 claim to be full: 14 elements.
    let (_producer, mut consumer) = split_ring::<u64>(8, 0);
    consumer.blocks.set_header(0, header(1, SLOTS));
    consumer.blocks.set_header(1, header(1, SLOTS));
    assert_eq!(consumer.handle.slots(), 0);
    let violation = Violation::Line {
        lap: 1,
        count: SLOTS,
        expected: 1,
        previous: 0,
        most: 1,
    };
    assert_consumer_refuses(&mut consumer, violation);
}
