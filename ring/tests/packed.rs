//! The packed ring on the heap: elements, slices, capacities, positions, laps.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

mod support;

use std::collections::VecDeque;
use std::fmt::Debug;

use memenpsf_ring::packed::ring;
use memenpsf_ring::{ChunkError, LayoutError, PopError, PushError};
use support::packed::{ring_at, starts};

/// Fills and empties a ring of one capacity, so that it begins at every slot of
/// its lines.
fn fills_exactly<T: Copy + PartialEq + Debug>(capacity: usize, value: impl Fn(u64) -> T) {
    for start in starts(capacity, size_of::<T>()) {
        let (mut producer, mut consumer) = ring_at::<T>(capacity, start);
        let mut next = 0;
        for round in 0..12_u64 {
            for n in next..next + capacity as u64 {
                assert_eq!(producer.push(value(n)), Ok(()));
            }
            assert!(producer.is_full());
            assert_eq!(producer.slots(), 0);
            let surplus = value(99);
            assert_eq!(producer.push(surplus), Err(PushError::Full(surplus)));
            assert_eq!(consumer.slots(), capacity);
            // One popped makes room for exactly one.
            assert_eq!(consumer.pop(), Ok(value(next)));
            assert_eq!(producer.push(value(next + capacity as u64)), Ok(()));
            assert_eq!(producer.push(surplus), Err(PushError::Full(surplus)));
            for n in next + 1..=next + capacity as u64 {
                assert_eq!(consumer.peek().copied(), Ok(value(n)));
                assert_eq!(consumer.pop(), Ok(value(n)));
            }
            assert_eq!(consumer.pop(), Err(PopError::Empty));
            assert!(consumer.is_empty());
            next += capacity as u64 + 1;
            let expected = start.wrapping_add((round + 1) * (capacity as u64 + 1));
            assert_eq!(producer.position(), expected);
            assert_eq!(consumer.position(), expected);
        }
    }
}

fn bytes<const N: usize>(n: u64) -> [u8; N] {
    let mut byte = n.to_le_bytes()[0].wrapping_mul(29);
    [(); N].map(|()| {
        byte = byte.wrapping_add(101);
        byte
    })
}

#[test]
fn every_capacity_to_64_holds_exactly_so_many() {
    for capacity in 1..=64 {
        fills_exactly(capacity, |n| n);
        fills_exactly(capacity, |n| [n, !n, n ^ 5]);
    }
}

#[test]
fn every_size_from_1_to_56_bytes_fits_exactly() {
    macro_rules! sizes {
        ($($size:literal)*) => {
            $(for capacity in [1, 2, 3, 7, 8, 56, 64] {
                fills_exactly(capacity, bytes::<$size>);
            })*
        };
    }
    sizes!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
    sizes!(33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56);
}

#[test]
fn aligned_elements_lie_aligned() {
    #[derive(Clone, Copy, PartialEq, Debug)]
    #[repr(align(32))]
    struct Wide(u64);

    fills_exactly(5, |n| u128::from(n) << 70 | 3);
    let (mut producer, mut consumer) = ring_at(5, u64::MAX - 2);
    for n in 0..50 {
        producer.push(Wide(n)).unwrap();
        let place: *const Wide = consumer.peek().unwrap();
        assert_eq!(place.addr() % 32, 0);
        assert_eq!(consumer.pop(), Ok(Wide(n)));
    }
}

#[test]
fn elements_of_size_zero_are_counted() {
    for start in starts(100, 0) {
        let (mut producer, mut consumer) = ring_at(100, start);
        for _ in 0..9 {
            assert_eq!(producer.push_slice(&[(); 101]), Ok(100));
            assert_eq!(producer.push(()), Err(PushError::Full(())));
            assert_eq!(consumer.pop(), Ok(()));
            let mut chunk = producer.reserve(1).unwrap();
            chunk.push(()).unwrap();
            chunk.commit_all();
            assert_eq!(consumer.read_chunk(100).unwrap().count(), 100);
            assert_eq!(consumer.pop(), Err(PopError::Empty));
        }
    }
}

#[test]
fn capacities_that_cannot_be_are_refused() {
    assert_eq!(ring::<u8>(0).unwrap_err(), LayoutError::Zero);
    assert_eq!(
        ring::<u64>(usize::MAX).unwrap_err(),
        LayoutError::TooLarge {
            capacity: usize::MAX,
            slot: 8
        }
    );
    assert_eq!(
        ring::<[u8; 56]>(usize::MAX).unwrap_err(),
        LayoutError::TooLarge {
            capacity: usize::MAX,
            slot: 56
        }
    );
    let too_much = ring::<u64>(isize::MAX as usize / 16).unwrap_err();
    assert!(matches!(too_much, LayoutError::NoMemory { .. }));
    assert_eq!(LayoutError::Zero.to_string(), "capacity 0 holds nothing");
}

#[test]
fn slices_move_as_many_as_fit_and_as_are_there() {
    for start in starts(10, 8) {
        let (mut producer, mut consumer) = ring_at::<u64>(10, start);
        assert_eq!(producer.push_slice(&[]), Ok(0));
        assert_eq!(consumer.pop_slice(&mut []), Ok(0));
        assert_eq!(producer.push_slice(&[1, 2, 3]), Ok(3));
        assert_eq!(producer.push_slice(&[4, 5, 6, 7, 8, 9, 10, 11]), Ok(7));
        assert_eq!(producer.push_slice(&[11]), Ok(0));
        let mut two = [0; 2];
        assert_eq!(consumer.pop_slice(&mut two), Ok(2));
        assert_eq!(two, [1, 2]);
        assert_eq!(producer.push_slice(&[11, 12, 13]), Ok(2));
        let mut many = [0; 13];
        assert_eq!(consumer.pop_slice(&mut many), Ok(10));
        assert_eq!(many, [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 0]);
        assert_eq!(consumer.pop_slice(&mut many), Ok(0));
    }
}

#[test]
fn chunks_publish_a_prefix_and_vacate_what_was_taken() {
    for start in starts(10, 8) {
        let (mut producer, mut consumer) = ring_at::<u64>(10, start);
        let mut next = 0;
        for wanted in (0..=10).cycle().take(44) {
            let mut chunk = producer.reserve(wanted).unwrap();
            assert_eq!(chunk.len(), wanted);
            assert_eq!(chunk.fill(next..), wanted);
            assert_eq!(chunk.push(0), Err(0));
            let committed = wanted - wanted / 3;
            chunk.commit(committed);
            assert_eq!(consumer.slots(), committed);
            let mut chunk = consumer.read_chunk(committed).unwrap();
            let taken = committed / 2;
            assert!(chunk.by_ref().take(taken).eq(next..next + taken as u64));
            let left: Vec<u64> = chunk.slices().flatten().copied().collect();
            assert!(
                left.into_iter()
                    .eq(next + taken as u64..next + committed as u64)
            );
            chunk.commit(committed - taken);
            assert_eq!(producer.slots(), 10);
            next += committed as u64;
        }
        assert_eq!(
            producer.reserve(11).err(),
            Some(ChunkError::TooFew {
                wanted: 11,
                available: 10
            })
        );
        assert_eq!(
            consumer.read_chunk(1).err(),
            Some(ChunkError::TooFew {
                wanted: 1,
                available: 0
            })
        );
    }
}

#[test]
fn dropped_chunk_publishes_nothing_and_loses_no_room() {
    for start in starts(10, 8) {
        let (mut producer, mut consumer) = ring_at::<u64>(10, start);
        producer.push(1).unwrap();
        for _ in 0..30 {
            let mut chunk = producer.reserve(9).unwrap();
            chunk.fill(100..);
            drop(chunk);
        }
        assert_eq!(consumer.slots(), 1);
        assert_eq!(producer.slots(), 9);
        assert_eq!(producer.push_slice(&[2; 9]), Ok(9));
        assert_eq!(consumer.read_chunk(10).unwrap().sum::<u64>(), 19);
    }
}

#[test]
#[should_panic(expected = "commit of 3 elements, of which 2 were written")]
fn commit_of_more_than_was_written_panics() {
    let (mut producer, _consumer) = ring::<u64>(4).unwrap();
    let mut chunk = producer.reserve(4).unwrap();
    chunk.fill([1, 2]);
    chunk.commit(3);
}

#[test]
#[should_panic(expected = "commit of 3 elements, of which 2 are left")]
fn commit_of_more_than_is_left_panics() {
    let (mut producer, mut consumer) = ring::<u64>(4).unwrap();
    producer.push_slice(&[1, 2]).unwrap();
    consumer.read_chunk(2).unwrap().commit(3);
}

#[test]
fn element_known_to_be_there_stays_there() {
    let (mut producer, mut consumer) = ring::<u64>(30).unwrap();
    producer.push_slice(&[7; 30]).unwrap();
    for left in (0..30).rev() {
        assert!(!consumer.is_empty());
        assert!(consumer.slots() == left + 1);
        assert_eq!(consumer.pop(), Ok(7));
    }
    assert!(consumer.is_empty());
}

#[test]
fn long_mixed_run_equals_a_queue() {
    for capacity in [1, 2, 6, 7, 8, 13, 15, 40] {
        for start in starts(capacity, 8) {
            let (mut producer, mut consumer) = ring_at(capacity, start);
            let mut model = VecDeque::new();
            let mut next = 0_u64;
            for round in 0..1000_usize {
                let values: Vec<u64> = (next..).take(round % 17).collect();
                let pushed = producer.push_slice(&values).unwrap();
                assert_eq!(pushed, values.len().min(capacity - model.len()));
                model.extend(&values[..pushed]);
                next += pushed as u64;
                let mut got = vec![0; round % 13];
                let popped = consumer.pop_slice(&mut got).unwrap();
                let expected: Vec<u64> = model.drain(..got.len().min(model.len())).collect();
                assert_eq!(got[..popped], expected);
            }
        }
    }
}

#[test]
fn handles_say_what_they_are() {
    let (producer, consumer) = ring_at::<u64>(3, 8);
    assert_eq!(
        format!("{producer:?}"),
        "Producer { tail: 8, capacity: 3, fault: None, .. }"
    );
    assert_eq!(
        format!("{consumer:?}"),
        "Consumer { head: 8, capacity: 3, fault: None, .. }"
    );
    assert_eq!(producer.capacity(), 3);
    assert_eq!(consumer.capacity(), 3);
}
