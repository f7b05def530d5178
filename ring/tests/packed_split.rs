//! The packed ring over two blocks, as two processes map them: layout, elements
//! of every size, and a peer that breaks the rules.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

mod packed_support;

use std::fmt::Debug;
use std::ptr::NonNull;

use memenpsf_ring::memory::Split;
use memenpsf_ring::packed::{self, Consumer, Producer};
use memenpsf_ring::{ChunkError, LayoutError, Plain, PopError, PushError, Violation};
use packed_support::{SplitConsumer, SplitProducer, split_ring, starts};

/// Elements of a line of `u64`.
const SLOTS: u64 = 7;

fn header(lap: u32, count: u64) -> u64 {
    u64::from(lap) << 32 | count
}

/// Sends elements that `value` makes of a number, through full and empty rings.
fn round_trip<T: Plain + PartialEq + Debug>(value: impl Fn(u64) -> T) {
    for capacity in [1, 2, 9] {
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
                for (slot, &value) in chunk.slices_mut().flatten().zip(&values) {
                    *slot = value;
                }
                chunk.commit_all();
                let got: Vec<T> = consumer.read_chunk(capacity).unwrap().collect();
                assert_eq!(got, values);
            }
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
fn elements_of_every_size_from_0_to_56_bytes_arrive() {
    macro_rules! sizes {
        ($($size:literal)*) => { $(round_trip(bytes::<$size>);)* };
    }
    round_trip(|_| ());
    sizes!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
    sizes!(33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56);
    round_trip(|n| n);
    round_trip(|n| u32::from_le_bytes(bytes(n)));
    round_trip(|n| u128::from(n) << 61 | 5);
    round_trip(|n| n as f64);
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
    assert_eq!(blocks.bytes(), expected);
    for n in 1..=8 {
        assert_eq!(blocks.head(), n - 1);
        consumer.handle.pop().unwrap();
    }
    assert_eq!(blocks.head(), 8);
    assert_eq!(blocks.bytes(), expected, "a consumer writes no line");
    // To the end of the second line and into lap 2.
    producer.handle.push_slice(&[9; 7]).unwrap();
    expected[8] = header(1, 7);
    expected[0] = header(2, 1);
    expected[10..].fill(9);
    expected[1] = 9;
    assert_eq!(blocks.bytes(), expected);
}

#[test]
fn u128_begins_at_its_alignment() {
    let (mut producer, _consumer) = split_ring::<u128>(4, 0);
    producer.handle.push_slice(&[1, 2, 3, 4]).unwrap();
    let words = producer.blocks.bytes();
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

/// Both sides refuse to attach for the reason for which there is no layout.
fn assert_refused<T: Plain>(block: NonNull<u8>, peer: NonNull<u8>, capacity: usize) -> LayoutError {
    let refusal = packed::producer_block::<T>(capacity).unwrap_err();
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
    for capacity in [0, usize::MAX, usize::MAX / 8] {
        let block = producer.blocks.producer_start();
        let peer = producer.blocks.consumer_start();
        assert_refused::<u64>(block, peer, capacity);
    }
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
    assert!(producer.blocks.bytes().iter().all(|&word| word == 0));
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

/// Every operation of a producer ends in `violation`, and none changes a byte.
fn assert_producer_refuses(producer: &mut SplitProducer<u64>, violation: Violation) {
    let before = producer.blocks.bytes();
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
    assert_eq!(producer.blocks.bytes(), before);
}

/// Every operation of a consumer ends in `violation`, and none moves the head.
fn assert_consumer_refuses(consumer: &mut SplitConsumer<u64>, violation: Violation) {
    let head = consumer.blocks.head();
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
}

/// Distances of a head from its last legal value that no legal value has, when
/// `length` elements are in the ring.
fn illegal_distances(length: u64) -> impl Iterator<Item = u64> {
    let bits = (5..64).map(|bit| 1 << bit);
    [length + 1, length + 2, u64::MAX, u64::MAX - 1, 1 << 63]
        .into_iter()
        .chain(bits)
}

#[test]
fn head_ahead_of_the_tail_or_behind_the_last_is_a_sticky_violation() {
    for start in starts(9, 8) {
        for pushed in 0..=9_u64 {
            for popped in 0..=pushed {
                for distance in illegal_distances(pushed - popped) {
                    let (mut producer, mut consumer) = split_ring::<u64>(9, start);
                    for n in 0..pushed {
                        producer.handle.push(n).unwrap();
                    }
                    for _ in 0..popped {
                        consumer.handle.pop().unwrap();
                    }
                    // The producer learns the last legal head here.
                    assert_eq!(producer.handle.slots() as u64, 9 - pushed + popped);
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
        consumer.blocks.set_header(0, header(1, 7));
        let violation = Violation::Line {
            lap: 1,
            count: 7,
            expected: 1,
            previous: 5,
            most: 6,
        };
        assert_eq!(operation(&mut consumer.handle), Some(violation));
        assert_consumer_refuses(&mut consumer, violation);
    }
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
