//! The bytes ring between two threads: a million messages of random lengths, and
//! the same through two mappings of a memfd, the peer's read-only.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

mod support;

use memenpsf_ring::bytes::{self, Consumer, Producer, producer_block};
use memenpsf_ring::memory::{ByteMemory, CONSUMER_BLOCK, Heap, Split};
use memenpsf_ring::{PopError, RecordError};
use support::bytes::{message, split_ring};
use support::region::Region;
use support::{Patience, side_by_side};

/// Capacities, longest messages, and how many messages pass through each. Small
/// rings hand over at nearly every message, which costs a context switch where
/// cores are few.
const STREAMS: [(usize, usize, u64); 4] = [
    (64, 24, 20_000),
    (256, 200, 50_000),
    (65_536, 200, 1_000_000),
    (65_536, 20_000, 20_000),
];

/// Pushes messages `0..count` one by one, in place, and in batches, and aborts some.
fn produce<M: ByteMemory>(producer: &mut Producer<M>, count: u64, mut patience: Patience<'_>) {
    let longest = producer.max_message();
    let mut next = 0;
    while next < count {
        let bytes = message(next, longest);
        let pushed = match next % 4 {
            0 | 1 => producer.push(&bytes).map(|()| 1),
            2 => {
                let most = (bytes.len() + 5).min(longest);
                producer.reserve(most).map(|mut reservation| {
                    reservation.as_mut_slice().fill(1);
                    reservation.as_mut_slice()[..bytes.len()].copy_from_slice(&bytes);
                    if next % 8 == 2 {
                        reservation.commit(bytes.len());
                        return 1;
                    }
                    drop(reservation);
                    0
                })
            }
            _ => {
                let batch: Vec<_> = (next..count.min(next + 5))
                    .map(|number| message(number, longest))
                    .collect();
                producer.push_vectored(&batch).map(|pushed| pushed as u64)
            }
        };
        match pushed {
            // After an abort, the same again in one piece.
            Ok(0) => {
                while producer.push(&bytes).is_err() {
                    patience.wait();
                }
                next += 1;
                patience.renew();
            }
            Ok(pushed) => {
                next += pushed;
                patience.renew();
            }
            Err(RecordError::Full { .. }) => patience.wait(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Pops messages `0..count`, each third one by `borrow`.
fn consume<M: ByteMemory>(
    consumer: &mut Consumer<M>,
    count: u64,
    mut patience: Patience<'_>,
    borrow: impl Fn(&mut Consumer<M>, &mut Vec<u8>) -> Result<(), PopError>,
) {
    let longest = consumer.max_message();
    let mut next = 0;
    let mut bytes = Vec::new();
    while next < count {
        bytes.clear();
        let popped = if next % 3 == 0 {
            borrow(consumer, &mut bytes)
        } else {
            let announced = consumer.peek_len();
            consumer.pop_into(&mut bytes).map(|length| {
                assert!(announced == Ok(length) || announced == Err(PopError::Empty));
            })
        };
        match popped {
            Ok(()) => {
                assert_eq!(bytes, message(next, longest));
                next += 1;
                patience.renew();
            }
            Err(PopError::Empty) => patience.wait(),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(consumer.is_empty());
}

fn borrow_heap(consumer: &mut Consumer<Heap<u64>>, into: &mut Vec<u8>) -> Result<(), PopError> {
    into.extend_from_slice(&consumer.read()?);
    Ok(())
}

fn borrow_split(consumer: &mut Consumer<Split<u64>>, into: &mut Vec<u8>) -> Result<(), PopError> {
    // SAFETY: the peer is this test's own producer.
    into.extend_from_slice(&unsafe { consumer.read_in_place() }?);
    Ok(())
}

#[test]
fn messages_stream_through_the_heap() {
    for (capacity, longest, count) in STREAMS {
        let (mut producer, mut consumer) = bytes::ring(capacity, longest).unwrap();
        side_by_side(
            // Each side owns its half.
            move |patience| produce(&mut producer, count, patience),
            |patience| consume(&mut consumer, count, patience, borrow_heap),
        );
    }
}

#[test]
fn messages_stream_through_regions() {
    for (capacity, longest, count) in STREAMS {
        let (producer, mut consumer) = split_ring(capacity, longest, u64::MAX - 4095);
        side_by_side(
            move |patience| {
                let mut producer = producer;
                produce(&mut producer.handle, count, patience);
            },
            |patience| consume(&mut consumer.handle, count, patience, borrow_split),
        );
    }
}

/// A store to the peer's mapping would end this process.
#[test]
fn messages_stream_through_mappings_that_are_read_only_for_the_peer() {
    for (capacity, longest, count) in [(256, 200, 20_000), (1 << 19, 1 << 18, 200)] {
        let producing = Region::new(producer_block(capacity, longest).unwrap().size());
        let consuming = Region::new(CONSUMER_BLOCK);
        // SAFETY: the mappings are page-aligned, zeroed, as large as the layout says
        // and outlive the handles, and each side writes only to its own.
        let memory = unsafe { Split::new(producing.own(), consuming.peer()) };
        // SAFETY: it is the only producer.
        let producer = unsafe { Producer::<_>::attach(memory, capacity, longest, 0) };
        // SAFETY: as above.
        let memory = unsafe { Split::new(consuming.own(), producing.peer()) };
        // SAFETY: it is the only consumer.
        let consumer = unsafe { Consumer::<_>::attach(memory, capacity, longest, 0) };
        let (mut producer, mut consumer) = (producer.unwrap(), consumer.unwrap());
        side_by_side(
            // Each side owns its half.
            move |patience| produce(&mut producer, count, patience),
            |patience| consume(&mut consumer, count, patience, borrow_split),
        );
    }
}

/// Elements of an index ring that are larger than a line are copied by `copy_out`.
#[test]
fn large_elements_of_an_index_ring_arrive() {
    use memenpsf_ring::index;
    type Element = [u32; 45];
    let producing = Region::new(index::producer_block::<Element>(4).unwrap().size());
    let consuming = Region::new(CONSUMER_BLOCK);
    // SAFETY: as above.
    let memory = unsafe { Split::new(producing.own(), consuming.peer()) };
    // SAFETY: as above.
    let producer = unsafe { index::Producer::<Element, _>::attach(memory, 4, 0) };
    // SAFETY: as above.
    let memory = unsafe { Split::new(consuming.own(), producing.peer()) };
    // SAFETY: as above.
    let consumer = unsafe { index::Consumer::<Element, _>::attach(memory, 4, 0) };
    let (mut producer, mut consumer) = (producer.unwrap(), consumer.unwrap());
    for round in 0..100_u32 {
        let mut element = [0; 45];
        element.fill_with({
            let mut next = round * 100;
            move || {
                next += 1;
                next
            }
        });
        producer.push(element).unwrap();
        assert_eq!(consumer.pop(), Ok(element));
    }
}
