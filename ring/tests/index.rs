//! The index ring on the heap: elements, slices, capacities, positions.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

mod support;

use std::collections::VecDeque;

use memenpsf_ring::index::{self, ring};
use memenpsf_ring::{LayoutError, PopError, PushError};
use support::STARTS;
use support::index::ring_at;

#[test]
fn full_ring_rejects_push_and_gives_the_element_back() {
    for capacity in [1, 2, 1024] {
        for start in STARTS {
            let (mut producer, mut consumer) = ring_at(capacity, start);
            for n in 0..capacity {
                assert_eq!(producer.push(n.to_string()), Ok(()));
            }
            let rejected = producer.push("surplus".to_string());
            assert_eq!(rejected, Err(PushError::Full("surplus".to_string())));
            assert!(producer.is_full());
            assert_eq!(producer.slots(), 0);
            for n in 0..capacity {
                assert_eq!(consumer.pop(), Ok(n.to_string()));
            }
            assert_eq!(consumer.pop(), Err(PopError::Empty));
        }
    }
}

#[test]
fn every_slot_is_usable_and_no_more() {
    for log in 0..11 {
        let capacity = 1 << log;
        let (mut producer, mut consumer) = ring(capacity).unwrap();
        assert_eq!(producer.capacity(), capacity);
        assert_eq!(consumer.capacity(), capacity);
        assert_eq!(producer.slots(), capacity);
        let pushed = (0..).take_while(|&n| producer.push(n).is_ok()).count();
        assert_eq!(pushed, capacity);
        assert_eq!(consumer.slots(), capacity);
    }
}

#[test]
fn one_pop_makes_room_for_one_push() {
    for start in STARTS {
        let (mut producer, mut consumer) = ring_at(4, start);
        assert_eq!(producer.push_slice(&[0, 1, 2, 3]), Ok(4));
        for n in 4..40 {
            assert_eq!(producer.push(n), Err(PushError::Full(n)));
            assert_eq!(consumer.pop(), Ok(n - 4));
            assert_eq!(producer.push(n), Ok(()));
        }
    }
}

#[test]
fn wrong_capacities_are_refused() {
    for given in [0, 3, 5, 6, 7, 9, 1023, 1025, usize::MAX, usize::MAX - 1] {
        let refused = LayoutError::Capacity { given };
        assert_eq!(ring::<u64>(given).err(), Some(refused));
        assert_eq!(index::producer_block::<u64>(given).err(), Some(refused));
    }
}

#[test]
fn capacities_beyond_the_address_space_are_refused() {
    let largest = 1_usize << (usize::BITS - 1);
    for capacity in [largest, largest / 2, largest / 4, largest / 8] {
        let refused = LayoutError::TooLarge { capacity, slot: 8 };
        assert_eq!(ring::<u64>(capacity).err(), Some(refused));
        assert_eq!(index::producer_block::<u64>(capacity).err(), Some(refused));
    }
    let sixteenth = largest / 16;
    assert!(matches!(
        ring::<u64>(sixteenth),
        Err(LayoutError::NoMemory { bytes }) if bytes > sixteenth * 8
    ));
}

#[test]
fn a_producer_block_is_as_large_as_its_table_says() {
    for (capacity, slot) in [(1, 8), (2, 8), (1024, 8)] {
        let block = index::producer_block::<u64>(capacity).unwrap();
        assert_eq!((block.size(), block.align()), (128 + capacity * slot, 128));
    }
    assert_eq!(
        index::producer_block::<[u8; 3]>(8).unwrap().size(),
        128 + 24
    );
    assert_eq!(index::producer_block::<()>(8).unwrap().size(), 128);
}

#[test]
fn empty_and_full_are_told_apart_after_every_step() {
    for capacity in [1, 2, 4] {
        for start in STARTS {
            let (mut producer, mut consumer) = ring_at(capacity, start);
            let mut length = 0;
            for step in 0..40 {
                // Up to full and down to empty, one element a step.
                if (step / capacity) % 2 == 0 {
                    producer.push(step).unwrap();
                    length += 1;
                } else {
                    consumer.pop().unwrap();
                    length -= 1;
                }
                assert_eq!(producer.is_full(), length == capacity);
                assert_eq!(consumer.is_empty(), length == 0);
                assert_eq!(producer.slots(), capacity - length);
                assert_eq!(consumer.slots(), length);
            }
        }
    }
}

#[test]
fn slices_keep_their_order_across_the_end_of_the_slots() {
    for start in STARTS {
        for offset in 0..8 {
            let (mut producer, mut consumer) = ring_at(8, start);
            for n in 0..offset {
                producer.push(n).unwrap();
                consumer.pop().unwrap();
            }
            let values: Vec<u64> = (100..106).collect();
            assert_eq!(producer.push_slice(&values), Ok(6));
            let mut got = [0; 8];
            assert_eq!(consumer.pop_slice(&mut got), Ok(6));
            assert_eq!(got, [100, 101, 102, 103, 104, 105, 0, 0]);
        }
    }
}

#[test]
fn slices_take_what_fits_and_leave_the_rest() {
    let (mut producer, mut consumer) = ring(4).unwrap();
    assert_eq!(producer.push_slice(&[0_u8; 0]), Ok(0));
    assert_eq!(consumer.pop_slice(&mut []), Ok(0));
    assert_eq!(producer.push_slice(&[1, 2, 3]), Ok(3));
    assert_eq!(producer.push_slice(&[4, 5]), Ok(1));
    assert_eq!(producer.push_slice(&[5]), Ok(0));
    let mut two = [0; 2];
    assert_eq!(consumer.pop_slice(&mut two), Ok(2));
    assert_eq!(two, [1, 2]);
    assert_eq!(producer.push_slice(&[5, 6, 7]), Ok(2));
    let mut many = [0; 9];
    assert_eq!(consumer.pop_slice(&mut many), Ok(4));
    assert_eq!(many, [3, 4, 5, 6, 0, 0, 0, 0, 0]);
    assert_eq!(consumer.pop_slice(&mut many), Ok(0));
}

#[test]
fn peek_shows_the_element_that_pop_returns() {
    let (mut producer, mut consumer) = ring(2).unwrap();
    assert_eq!(consumer.peek(), Err(PopError::Empty));
    producer.push("first".to_string()).unwrap();
    producer.push("second".to_string()).unwrap();
    assert_eq!(consumer.peek().unwrap(), "first");
    assert_eq!(consumer.peek().unwrap(), "first");
    assert_eq!(consumer.pop().unwrap(), "first");
    assert_eq!(consumer.peek().unwrap(), "second");
}

#[test]
fn positions_count_elements_and_wrap_at_their_width() {
    let (mut producer, mut consumer) = ring_at(2, u64::MAX);
    producer.push('a').unwrap();
    producer.push('b').unwrap();
    assert_eq!(producer.position(), 1);
    assert_eq!(consumer.position(), u64::MAX);
    consumer.pop().unwrap();
    assert_eq!(consumer.position(), 0);
    assert_eq!(producer.violation(), None);
    assert_eq!(consumer.violation(), None);
}

#[test]
fn elements_of_size_zero_are_counted() {
    for start in STARTS {
        let (mut producer, mut consumer) = ring_at(4, start);
        assert_eq!(producer.push_slice(&[(); 9]), Ok(4));
        assert_eq!(producer.push(()), Err(PushError::Full(())));
        assert_eq!(consumer.pop(), Ok(()));
        let mut chunk = producer.reserve(1).unwrap();
        chunk.push(()).unwrap();
        chunk.commit_all();
        assert_eq!(consumer.read_chunk(4).unwrap().count(), 4);
        assert_eq!(consumer.pop(), Err(PopError::Empty));
    }
}

#[test]
fn over_aligned_elements_lie_aligned() {
    #[derive(Clone, Copy, PartialEq, Debug)]
    #[repr(align(256))]
    struct Wide(u8);

    for capacity in [1, 2, 8] {
        let (mut producer, mut consumer) = ring_at(capacity, u64::MAX - 2);
        for round in 0..20 {
            let value = Wide(round);
            producer.push(value).unwrap();
            let place: *const Wide = consumer.peek().unwrap();
            assert_eq!(place.addr() % 256, 0);
            assert_eq!(consumer.pop(), Ok(value));
            let mut chunk = producer.reserve(capacity).unwrap();
            let (first, second) = chunk.as_uninit_slices();
            assert_eq!(first.len() + second.len(), capacity);
            assert_eq!(first.as_ptr().addr() % 256, 0);
        }
    }
}

#[test]
fn long_mixed_run_equals_a_queue() {
    for start in STARTS {
        let (mut producer, mut consumer) = ring_at(8, start);
        let mut model = VecDeque::new();
        let mut next = 0_u64;
        // Step sizes that are coprime to the capacity reach every offset.
        for round in 0..1000_usize {
            let values: Vec<u64> = (next..).take(round % 11).collect();
            let pushed = producer.push_slice(&values).unwrap();
            assert_eq!(pushed, values.len().min(8 - model.len()));
            model.extend(&values[..pushed]);
            next += pushed as u64;
            let mut got = vec![0; round % 7];
            let popped = consumer.pop_slice(&mut got).unwrap();
            let expected: Vec<u64> = model.drain(..got.len().min(model.len())).collect();
            assert_eq!(got[..popped], expected);
        }
    }
}

#[test]
fn errors_speak_of_their_cause() {
    let (mut producer, mut consumer) = ring(1).unwrap();
    assert_eq!(consumer.pop().unwrap_err().to_string(), "the ring is empty");
    producer.push(1).unwrap();
    let full = producer.push(2).unwrap_err();
    assert_eq!(full.to_string(), "the ring is full");
    assert_eq!(full.into_inner(), 2);
    assert_eq!(
        producer.reserve(3).unwrap_err().to_string(),
        "3 slots were asked for and 0 are available"
    );
    assert_eq!(
        ring::<u8>(3).unwrap_err().to_string(),
        "capacity 3 is not a power of two of at least 1"
    );
}
