//! The rings between two threads: numbers one at a time and in slices, on the heap
//! and over two memfds that each side maps as two processes would; and elements of
//! several sizes.

use std::error::Error;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use memenpsf_benches::mapped::{self, Mapped};
use memenpsf_benches::placement::Placement;
use memenpsf_benches::spin::{Backoff, PATIENT};
use memenpsf_ring::memory::{Memory, Split};
use memenpsf_ring::{bytes, index, packed};
use zerocopy::{FromBytes, IntoBytes};

use crate::common::{place, race};

const CAPACITIES: [usize; 4] = [2, 64, 1024, 65_536];
/// Length of a slice: eight cache lines of numbers.
const SLICE: usize = 64;
/// Capacity of the rings of elements of several sizes.
const ELEMENTS: usize = 1024;

/// An element of `N` words: its number in each of them.
type Element<const N: usize> = [u64; N];

/// A side that pushes.
trait Push<T>: Send {
    fn one(&mut self, element: T) -> bool;
    fn slice(&mut self, elements: &[T]) -> usize;
}

/// A side that pops.
trait Pop<T> {
    fn one(&mut self) -> Option<T>;
    fn slice(&mut self, elements: &mut [T]) -> usize;
}

macro_rules! handles {
    ($($ring:ident)*) => {$(
        impl<T: Copy, M: Memory<T> + Send> Push<T> for $ring::Producer<T, M>
        where
            Self: Send,
        {
            #[inline]
            fn one(&mut self, element: T) -> bool {
                self.push(element).is_ok()
            }

            #[inline]
            fn slice(&mut self, elements: &[T]) -> usize {
                self.push_slice(elements).unwrap_or(0)
            }
        }

        impl<T: Copy, M: Memory<T>> Pop<T> for $ring::Consumer<T, M> {
            #[inline]
            fn one(&mut self) -> Option<T> {
                self.pop().ok()
            }

            #[inline]
            fn slice(&mut self, elements: &mut [T]) -> usize {
                self.pop_slice(elements).unwrap_or(0)
            }
        }
    )*};
}

handles! { index packed }

/// Elements as messages of a bytes ring.
impl<const N: usize> Push<Element<N>> for bytes::Producer<Split<u64>> {
    #[inline]
    fn one(&mut self, element: Element<N>) -> bool {
        self.push(element.as_bytes()).is_ok()
    }

    fn slice(&mut self, elements: &[Element<N>]) -> usize {
        let messages: Vec<&[u8]> = elements.iter().map(IntoBytes::as_bytes).collect();
        self.push_vectored(&messages).unwrap_or(0)
    }
}

impl<const N: usize> Pop<Element<N>> for bytes::Consumer<Split<u64>> {
    #[inline]
    fn one(&mut self) -> Option<Element<N>> {
        let mut message = Vec::with_capacity(size_of::<Element<N>>());
        self.pop_into(&mut message).ok()?;
        Element::read_from_bytes(&message).ok()
    }

    fn slice(&mut self, elements: &mut [Element<N>]) -> usize {
        let mut popped = 0;
        while let Some(place) = elements.get_mut(popped)
            && let Some(element) = Pop::one(self)
        {
            *place = element;
            popped += 1;
        }
        popped
    }
}

impl<T, H: Push<T>> Push<T> for Mapped<H>
where
    Self: Send,
{
    #[inline]
    fn one(&mut self, element: T) -> bool {
        self.get().one(element)
    }

    #[inline]
    fn slice(&mut self, elements: &[T]) -> usize {
        self.get().slice(elements)
    }
}

impl<T, H: Pop<T>> Pop<T> for Mapped<H> {
    #[inline]
    fn one(&mut self) -> Option<T> {
        self.get().one()
    }

    #[inline]
    fn slice(&mut self, elements: &mut [T]) -> usize {
        self.get().slice(elements)
    }
}

/// How elements cross the ring.
#[derive(Clone, Copy)]
enum Manner {
    One,
    Slices,
}

impl Manner {
    /// Pushes `count` elements, numbered from `first`.
    fn push<const N: usize>(self, producer: &mut impl Push<Element<N>>, first: u64, count: u64) {
        let mut backoff = Backoff::new(PATIENT);
        match self {
            Self::One => {
                for number in first..first + count {
                    while !producer.one([number; N]) {
                        backoff.wait();
                    }
                    backoff.reset();
                }
            }
            Self::Slices => {
                let mut next = first;
                let end = first + count;
                while next < end {
                    let mut slice = [[0; N]; SLICE];
                    for (number, element) in (next..end).zip(&mut slice) {
                        *element = [number; N];
                    }
                    let length = usize::try_from(end - next).map_or(SLICE, |left| left.min(SLICE));
                    let mut rest = &slice[..length];
                    next += length as u64;
                    while !rest.is_empty() {
                        match producer.slice(rest) {
                            0 => backoff.wait(),
                            pushed => {
                                backoff.reset();
                                rest = &rest[pushed..];
                            }
                        }
                    }
                }
            }
        }
    }

    /// Pops `count` elements and checks that they are numbered from `first`.
    fn pop<const N: usize>(self, consumer: &mut impl Pop<Element<N>>, first: u64, count: u64) {
        let mut backoff = Backoff::new(PATIENT);
        match self {
            Self::One => {
                for number in first..first + count {
                    let element = loop {
                        match consumer.one() {
                            Some(element) => break element,
                            None => backoff.wait(),
                        }
                    };
                    backoff.reset();
                    assert_eq!(element, [number; N]);
                }
            }
            Self::Slices => {
                let mut next = first;
                let mut slice = [[0; N]; SLICE];
                while next < first + count {
                    let popped = consumer.slice(&mut slice);
                    if popped == 0 {
                        backoff.wait();
                        continue;
                    }
                    backoff.reset();
                    for (number, element) in (next..).zip(&slice[..popped]) {
                        assert_eq!(*element, [number; N]);
                    }
                    next += popped as u64;
                }
            }
        }
    }
}

/// Measures one ring, whose sides are `sides`.
fn measure<const N: usize, P: Push<Element<N>>, C: Pop<Element<N>>>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    placement: Option<Placement>,
    manner: Manner,
    sides: (P, C),
) {
    let mut sides = Some(sides);
    let mut first = 0;
    group.bench_function(id, |bench| {
        bench.iter_custom(|count| {
            // They are always there: every call puts them back.
            let Some((mut producer, mut consumer)) = sides.take() else {
                return Duration::ZERO;
            };
            let theirs = move || {
                manner.push(&mut producer, first, count);
                producer
            };
            let ours = || manner.pop(&mut consumer, first, count);
            let (elapsed, (), producer) = race(placement, theirs, ours);
            sides = Some((producer, consumer));
            first += count;
            elapsed
        });
    });
}

/// Measures rings of elements of `N` words, one at a time.
fn elements<const N: usize>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    placement: Option<Placement>,
) -> Result<(), Box<dyn Error>> {
    let size = size_of::<Element<N>>();
    group.throughput(Throughput::Bytes(size as u64));
    let id = |ring| BenchmarkId::new(ring, size);
    let index = mapped::index_ring::<Element<N>>(ELEMENTS)?;
    measure(group, id("index"), placement, Manner::One, index);
    if packed::fits::<Element<N>>() {
        let packed = mapped::packed_ring::<Element<N>>(ELEMENTS)?;
        measure(group, id("packed"), placement, Manner::One, packed);
    }
    let capacity = (ELEMENTS * (size + 8)).next_power_of_two();
    let bytes = mapped::bytes_ring(capacity, size)?;
    measure::<N, _, _>(group, id("bytes"), placement, Manner::One, bytes);
    Ok(())
}

/// Measures every kind of ring.
pub(crate) fn ring(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    type Number = Element<1>;
    let placement = place();
    for (name, manner) in [
        ("one at a time", Manner::One),
        ("slices of 64", Manner::Slices),
    ] {
        let mut group = criterion.benchmark_group(format!("ring of u64, {name}"));
        group.throughput(Throughput::Elements(1));
        for capacity in CAPACITIES {
            let id = |ring| BenchmarkId::new(ring, capacity);
            let index = index::ring::<Number>(capacity)?;
            measure(&mut group, id("index, heap"), placement, manner, index);
            let index = mapped::index_ring::<Number>(capacity)?;
            measure(&mut group, id("index, memfds"), placement, manner, index);
            let packed = packed::ring::<Number>(capacity)?;
            measure(&mut group, id("packed, heap"), placement, manner, packed);
            let packed = mapped::packed_ring::<Number>(capacity)?;
            measure(&mut group, id("packed, memfds"), placement, manner, packed);
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group(format!("elements over memfds, capacity {ELEMENTS}"));
    elements::<1>(&mut group, placement)?;
    elements::<2>(&mut group, placement)?;
    elements::<3>(&mut group, placement)?;
    elements::<4>(&mut group, placement)?;
    elements::<5>(&mut group, placement)?;
    elements::<6>(&mut group, placement)?;
    elements::<7>(&mut group, placement)?;
    elements::<8>(&mut group, placement)?;
    elements::<32>(&mut group, placement)?;
    elements::<128>(&mut group, placement)?;
    group.finish();
    Ok(())
}
