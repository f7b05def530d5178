//! Two threads and up to a million elements.

use memenpsf_ring::memory::Memory;
use memenpsf_ring::{Plain, PopError, PushError};

use crate::STREAMS;
use crate::subject::{Consumer, Producer, ring_at, split_ring};
use crate::support::{Patience, side_by_side};

/// Pushes `0..count` as `T`s, by elements, slices and chunks in turn.
fn produce<T: Copy, M: Memory<T>>(
    producer: &mut Producer<T, M>,
    count: u64,
    mut patience: Patience<'_>,
    value: impl Fn(u64) -> T,
) {
    let mut next = 0;
    while next < count {
        let pushed = match next % 3 {
            0 => match producer.push(value(next)) {
                Ok(()) => 1,
                Err(PushError::Full(_)) => 0,
                Err(error) => panic!("{:?}", error.to_string()),
            },
            1 => {
                let values: Vec<T> = (next..count).take(7).map(&value).collect();
                producer.push_slice(&values).expect("an honest peer")
            }
            _ => {
                let wanted = producer.slots().min(5);
                let mut chunk = producer.reserve(wanted).expect("slots were vacant");
                let filled = chunk.fill((next..count).map(&value));
                chunk.commit(filled);
                filled
            }
        };
        if pushed == 0 {
            patience.wait();
        } else {
            patience.renew();
        }
        next += pushed as u64;
    }
}

/// Pops `0..count` by elements, slices and chunks in turn.
fn consume<T: Copy + PartialEq + std::fmt::Debug, M: Memory<T>>(
    consumer: &mut Consumer<T, M>,
    count: u64,
    mut patience: Patience<'_>,
    value: impl Fn(u64) -> T,
) {
    let mut next = 0;
    while next < count {
        let popped = match next % 4 {
            0 => match consumer.pop() {
                Ok(got) => vec![got],
                Err(PopError::Empty) => vec![],
                Err(error) => panic!("{error}"),
            },
            1 => {
                let mut values = vec![value(0); 6];
                let popped = consumer.pop_slice(&mut values).expect("an honest peer");
                values.truncate(popped);
                values
            }
            2 => {
                let mut values = vec![];
                consumer.pop_into(&mut values, 3).expect("an honest peer");
                values
            }
            _ => {
                let wanted = consumer.slots().min(5);
                consumer
                    .read_chunk(wanted)
                    .expect("elements were there")
                    .collect()
            }
        };
        if popped.is_empty() {
            patience.wait();
        } else {
            patience.renew();
        }
        for got in popped {
            assert_eq!(got, value(next));
            next += 1;
        }
    }
    assert!(consumer.is_empty());
}

fn stream_on_the_heap<T: Copy + PartialEq + Send + std::fmt::Debug>(value: fn(u64) -> T) {
    for (capacity, count) in STREAMS {
        let (mut producer, mut consumer) = ring_at::<T>(capacity, u64::MAX - count / 2);
        side_by_side(
            move |patience| produce(&mut producer, count, patience, value),
            |patience| consume(&mut consumer, count, patience, value),
        );
    }
}

fn stream_over_regions<T: Plain + PartialEq + std::fmt::Debug>(value: fn(u64) -> T) {
    for (capacity, count) in STREAMS {
        let (mut producer, mut consumer) = split_ring::<T>(capacity, u64::MAX - count / 2);
        side_by_side(
            move |patience| produce(&mut producer.handle, count, patience, value),
            |patience| consume(&mut consumer.handle, count, patience, value),
        );
    }
}

#[test]
fn elements_arrive_in_order_on_the_heap() {
    stream_on_the_heap(|n| n);
}

#[test]
fn wide_elements_arrive_untorn_on_the_heap() {
    stream_on_the_heap(|n| [n, !n, n ^ 5]);
}

#[test]
fn elements_arrive_in_order_over_regions() {
    stream_over_regions(|n| n);
}

#[test]
fn wide_elements_arrive_untorn_over_regions() {
    stream_over_regions(|n| [n, !n, n ^ 5]);
}
