//! A ring over two memfds, each mapped twice: writable for its owner, read-only for
//! the peer. A store, or an atomic access that the processor carries out as one,
//! would be a fault.

use memenpsf_ring::memory::{CONSUMER_BLOCK, Split};
use memenpsf_ring::{Plain, PopError, PushError};

use crate::subject::{Consumer, Producer, producer_block, slots_mut};
use crate::support::region::Region;
use crate::support::side_by_side;

/// Runs `test` with both handles of a ring over two regions.
pub(crate) fn with_ring<T: Plain>(
    capacity: usize,
    test: impl FnOnce(Producer<T, Split<T>>, Consumer<T, Split<T>>),
) {
    let block = producer_block::<T>(capacity).expect("a legal capacity");
    let producing = Region::new(block.size());
    let consuming = Region::new(CONSUMER_BLOCK);
    // SAFETY: the mappings are page-aligned, zeroed, as large as the layout says
    // and outlive the handles, and each side writes only to its own.
    let memory = unsafe { Split::new(producing.own(), consuming.peer()) };
    // SAFETY: it is the only producer.
    let producer = unsafe { Producer::attach(memory, capacity, 0) };
    // SAFETY: as above.
    let memory = unsafe { Split::new(consuming.own(), producing.peer()) };
    // SAFETY: it is the only consumer.
    let consumer = unsafe { Consumer::attach(memory, capacity, 0) };
    test(producer.expect("legal"), consumer.expect("legal"));
}

#[test]
fn no_operation_writes_to_the_peers_region() {
    fn every_operation<T: Plain + PartialEq + std::fmt::Debug>(value: T) {
        with_ring::<T>(4, |mut producer, mut consumer| {
            for _ in 0..9 {
                assert_eq!(consumer.pop(), Err(PopError::Empty));
                assert_eq!(consumer.peek(), Err(PopError::Empty));
                assert!(consumer.is_empty());
                assert_eq!(consumer.slots(), 0);
                producer.push(value).unwrap();
                assert_eq!(producer.push_slice(&[value]), Ok(1));
                let mut chunk = producer.reserve(1).unwrap();
                chunk.push(value).unwrap();
                chunk.commit_all();
                let mut chunk = producer.reserve(1).unwrap();
                slots_mut(&mut chunk).for_each(|slot| *slot = value);
                chunk.commit_all();
                assert_eq!(producer.push(value), Err(PushError::Full(value)));
                assert!(producer.is_full());
                assert_eq!(producer.slots(), 0);
                assert_eq!(consumer.slots(), 4);
                assert_eq!(consumer.peek(), Ok(value));
                assert_eq!(consumer.pop(), Ok(value));
                let mut values = [value];
                assert_eq!(consumer.pop_slice(&mut values), Ok(1));
                let mut values = vec![];
                assert_eq!(consumer.pop_into(&mut values, 1), Ok(1));
                assert!(consumer.read_chunk(1).unwrap().all(|got| got == value));
                assert!(producer.reserve(4).is_ok());
            }
        });
    }
    every_operation(7_u8);
    every_operation(7_u16);
    every_operation(7_u32);
    every_operation(7_u64);
    every_operation([7_u8; 40]);
}

#[test]
fn elements_arrive_through_two_mappings() {
    with_ring::<[u64; 3]>(8, |mut producer, mut consumer| {
        side_by_side(
            move |mut patience| {
                for n in 0..100_000 {
                    while producer.push([n, !n, n]).is_err() {
                        patience.wait();
                    }
                    patience.renew();
                }
            },
            |mut patience| {
                for n in 0..100_000 {
                    let got = loop {
                        match consumer.pop() {
                            Ok(got) => break got,
                            Err(PopError::Empty) => patience.wait(),
                            Err(error) => panic!("{error}"),
                        }
                    };
                    patience.renew();
                    assert_eq!(got, [n, !n, n]);
                }
            },
        );
    });
}
