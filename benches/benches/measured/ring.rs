//! The index ring between two threads: numbers one at a time and in slices, on
//! the heap and over two memfds that each side maps as two processes would.

use std::error::Error;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use memenpsf_benches::mapped;
use memenpsf_benches::placement::Placement;
use memenpsf_benches::spin::{Backoff, PATIENT};
use memenpsf_ring::index::{self, Consumer, Producer};
use memenpsf_ring::memory::Memory;

use crate::common::{place, race};

const CAPACITIES: [usize; 4] = [2, 64, 1024, 65_536];
/// Length of a slice: eight cache lines.
const SLICE: usize = 64;

/// How numbers cross the ring.
#[derive(Clone, Copy)]
enum Manner {
    One,
    Slices,
}

impl Manner {
    fn push<M: Memory<u64>>(self, producer: &mut Producer<u64, M>, count: u64) {
        match self {
            Self::One => push_one_at_a_time(producer, count),
            Self::Slices => push_slices(producer, count),
        }
    }

    fn pop<M: Memory<u64>>(self, consumer: &mut Consumer<u64, M>, count: u64) {
        match self {
            Self::One => pop_one_at_a_time(consumer, count),
            Self::Slices => pop_slices(consumer, count),
        }
    }
}

fn push_one_at_a_time<M: Memory<u64>>(producer: &mut Producer<u64, M>, count: u64) {
    let mut backoff = Backoff::new(PATIENT);
    let first = producer.position();
    for number in first..first + count {
        while producer.push(number).is_err() {
            backoff.wait();
        }
        backoff.reset();
    }
}

fn pop_one_at_a_time<M: Memory<u64>>(consumer: &mut Consumer<u64, M>, count: u64) {
    let mut backoff = Backoff::new(PATIENT);
    let first = consumer.position();
    for expected in first..first + count {
        let number = loop {
            match consumer.pop() {
                Ok(number) => break number,
                Err(_) => backoff.wait(),
            }
        };
        backoff.reset();
        assert_eq!(number, expected);
    }
}

fn push_slices<M: Memory<u64>>(producer: &mut Producer<u64, M>, count: u64) {
    let mut backoff = Backoff::new(PATIENT);
    let end = producer.position() + count;
    while producer.position() < end {
        let first = producer.position();
        let mut slice = [0; SLICE];
        for (number, slot) in (first..end).zip(&mut slice) {
            *slot = number;
        }
        let length = usize::try_from(end - first).map_or(SLICE, |left| left.min(SLICE));
        if let Ok(1..) = producer.push_slice(&slice[..length]) {
            backoff.reset();
        } else {
            backoff.wait();
        }
    }
}

fn pop_slices<M: Memory<u64>>(consumer: &mut Consumer<u64, M>, count: u64) {
    let mut backoff = Backoff::new(PATIENT);
    let end = consumer.position() + count;
    while consumer.position() < end {
        let first = consumer.position();
        let mut slice = [0; SLICE];
        let Ok(popped @ 1..) = consumer.pop_slice(&mut slice) else {
            backoff.wait();
            continue;
        };
        backoff.reset();
        for (expected, &number) in (first..).zip(&slice[..popped]) {
            assert_eq!(number, expected);
        }
    }
}

/// Measures one ring, whose sides are `sides`.
fn measure<P: Send, C>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    placement: Option<Placement>,
    sides: (P, C),
    push: impl Fn(&mut P, u64) + Copy + Send,
    pop: impl Fn(&mut C, u64),
) {
    let mut sides = Some(sides);
    group.bench_function(id, |bench| {
        bench.iter_custom(|count| {
            // They are always there: every call puts them back.
            let Some((mut producer, mut consumer)) = sides.take() else {
                return Duration::ZERO;
            };
            let theirs = move || {
                push(&mut producer, count);
                producer
            };
            let (elapsed, (), producer) = race(placement, theirs, || pop(&mut consumer, count));
            sides = Some((producer, consumer));
            elapsed
        });
    });
}

/// Measures every kind of ring.
pub(crate) fn ring(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let placement = place();
    for (name, manner) in [
        ("one at a time", Manner::One),
        ("slices of 64", Manner::Slices),
    ] {
        let mut group = criterion.benchmark_group(format!("ring of u64, {name}"));
        group.throughput(Throughput::Elements(1));
        for capacity in CAPACITIES {
            measure(
                &mut group,
                BenchmarkId::new("heap", capacity),
                placement,
                index::ring::<u64>(capacity)?,
                move |producer, count| manner.push(producer, count),
                |consumer, count| manner.pop(consumer, count),
            );
            measure(
                &mut group,
                BenchmarkId::new("memfds", capacity),
                placement,
                mapped::ring(capacity)?,
                move |producer, count| manner.push(producer.get(), count),
                |consumer, count| manner.pop(consumer.get(), count),
            );
        }
        group.finish();
    }
    Ok(())
}
