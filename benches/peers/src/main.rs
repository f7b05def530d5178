//! memenpsf beside other rings: `u64` one at a time, throughput and round trip, in
//! one interleaved run, between two threads and between two processes.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml [ITEMS] [ROUNDS]`
//!
//! Each side is pinned and owns its handle. The consumer checks every number; the
//! clock runs from the first number to the last. Medians over the rounds, with the
//! smallest and the largest; the rows take turns within a round.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use memenpsf_benches::mapped::{self, Mapped};
use memenpsf_benches::placement::{choose, pin};
use memenpsf_ring::memory::Split;
use memenpsf_ring::{index, packed};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

type Failure = Box<dyn std::error::Error>;

/// A side that pushes.
trait Push: Send + 'static {
    fn push(&mut self, value: u64) -> bool;
}

/// A side that pops.
trait Pop: Send + 'static {
    fn pop(&mut self) -> Option<u64>;
}

macro_rules! sides {
    ($($producer:ty, $consumer:ty;)*) => {$(
        impl Push for $producer {
            #[inline]
            fn push(&mut self, value: u64) -> bool {
                <$producer>::push(self, value).is_ok()
            }
        }

        impl Pop for $consumer {
            #[inline]
            fn pop(&mut self) -> Option<u64> {
                <$consumer>::pop(self).ok()
            }
        }
    )*};
}

sides! {
    rtrb::Producer<u64>, rtrb::Consumer<u64>;
    index::Producer<u64>, index::Consumer<u64>;
    packed::Producer<u64>, packed::Consumer<u64>;
}

impl Push for Mapped<index::Producer<u64, Split<u64>>> {
    #[inline]
    fn push(&mut self, value: u64) -> bool {
        self.get().push(value).is_ok()
    }
}

impl Pop for Mapped<index::Consumer<u64, Split<u64>>> {
    #[inline]
    fn pop(&mut self) -> Option<u64> {
        self.get().pop().ok()
    }
}

/// Where the second side runs.
#[derive(Clone, Copy)]
enum Second {
    Thread,
    Process,
}

impl Second {
    /// Runs `first` here, on one core, and `second` elsewhere, on the other.
    fn run<R>(
        self,
        cores: [usize; 2],
        first: impl FnOnce() -> R,
        second: impl FnOnce() + Send + 'static,
    ) -> Result<R, Failure> {
        pin(cores[0])?;
        match self {
            Self::Thread => {
                let thread = std::thread::spawn(move || pin(cores[1]).map(|()| second()));
                let result = first();
                thread.join().map_err(|_| "the other side panicked")??;
                Ok(result)
            }
            // SAFETY: the process has one thread: those of earlier rows are joined.
            Self::Process => match unsafe { fork() }? {
                ForkResult::Child => {
                    if pin(cores[1]).is_ok() {
                        second();
                    }
                    // Without the parent's destructors and buffers.
                    // SAFETY: it ends the child at once.
                    unsafe { nix::libc::_exit(0) };
                }
                ForkResult::Parent { child } => {
                    let result = first();
                    waitpid(child, None)?;
                    Ok(result)
                }
            },
        }
    }
}

fn push(producer: &mut impl Push, value: u64) {
    while !producer.push(value) {
        spin_loop();
    }
}

fn pop(consumer: &mut impl Pop) -> u64 {
    loop {
        if let Some(value) = consumer.pop() {
            return value;
        }
        spin_loop();
    }
}

/// Which side has work to do between two numbers, so that it is the slower one
/// and the ring is near-full or near-empty whatever the ring's own speed.
#[derive(Clone, Copy)]
enum Regime {
    Free,
    NearFull,
    NearEmpty,
}

impl Regime {
    const ALL: [Self; 3] = [Self::Free, Self::NearFull, Self::NearEmpty];

    fn name(self) -> &'static str {
        match self {
            Self::Free => "neither side works",
            Self::NearFull => "the consumer works",
            Self::NearEmpty => "the producer works",
        }
    }

    /// Dependent multiplications before each push and after each pop: ten take
    /// 30 cycles.
    fn work(self) -> [u32; 2] {
        match self {
            Self::Free => [0, 0],
            Self::NearFull => [0, 10],
            Self::NearEmpty => [10, 0],
        }
    }
}

/// Computes something that takes a while.
#[inline(always)]
fn work(amount: u32, value: u64) -> u64 {
    (0..amount).fold(value, |value, _| {
        std::hint::black_box(value.wrapping_mul(5))
    })
}

/// Streams `items` numbers and returns millions a second.
fn stream(
    second: Second,
    cores: [usize; 2],
    items: u64,
    regime: Regime,
    (mut producer, mut consumer): (impl Push, impl Pop),
) -> Result<f64, Failure> {
    let [producing, consuming] = regime.work();
    let consume = || {
        let mut sound = pop(&mut consumer) == 0;
        let began = Instant::now();
        for expected in 1..items {
            sound &= pop(&mut consumer) == expected;
            work(consuming, expected);
        }
        (sound, began.elapsed())
    };
    let (sound, taken) = second.run(cores, consume, move || {
        for n in 0..items {
            work(producing, n);
            push(&mut producer, n);
        }
    })?;
    check(sound)?;
    Ok((items - 1) as f64 / taken.as_secs_f64() / 1e6)
}

/// Returns the nanoseconds of one round trip, as a mean over `trips`.
fn round_trip(
    second: Second,
    cores: [usize; 2],
    trips: u64,
    (mut there, mut arrives): (impl Push, impl Pop),
    (mut back, mut returns): (impl Push, impl Pop),
) -> Result<f64, Failure> {
    let ask = || {
        let mut sound = true;
        let began = Instant::now();
        for n in 0..trips {
            push(&mut there, n);
            sound &= pop(&mut returns) == n;
        }
        (sound, began.elapsed())
    };
    let (sound, taken): (bool, Duration) = second.run(cores, ask, move || {
        for _ in 0..trips {
            let value = pop(&mut arrives);
            push(&mut back, value);
        }
    })?;
    check(sound)?;
    Ok(taken.as_nanos() as f64 / trips as f64)
}

fn check(sound: bool) -> Result<(), Failure> {
    if sound {
        Ok(())
    } else {
        Err("a number was lost, doubled or out of order".into())
    }
}

/// Samples of one row.
#[derive(Default)]
struct Row {
    rates: [Vec<f64>; 3],
    trips: Vec<f64>,
}

/// Smallest, median and largest.
fn spread(samples: &mut [f64]) -> [f64; 3] {
    samples.sort_by(f64::total_cmp);
    [
        samples[0],
        samples[samples.len() / 2],
        samples[samples.len() - 1],
    ]
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let items: u64 = arguments.next().map_or(Ok(10_000_000), |n| n.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(11), |n| n.parse())?;
    if items < 2 || rounds == 0 {
        return Err("at least 2 items and 1 round are needed".into());
    }
    let placement = choose()?.ok_or("two cores are needed")?;
    let cores = placement.cores;
    println!("{placement}; {items} items, medians of {rounds} rounds (smallest, largest)");

    for capacity in [1024, 65536] {
        let names = [
            "rtrb, threads",
            "index, threads",
            "packed, threads",
            "index over memfds, threads",
            "index over memfds, processes",
        ];
        let mut rows: [Row; 5] = Default::default();
        for round in 0..rounds {
            for turn in 0..rows.len() {
                let which = (turn + round) % rows.len();
                let row = &mut rows[which];
                macro_rules! sample {
                    ($second:expr, $ring:expr) => {{
                        for (rates, regime) in row.rates.iter_mut().zip(Regime::ALL) {
                            rates.push(stream($second, cores, items, regime, $ring)?);
                        }
                        let trips = items / 50 + 1;
                        row.trips
                            .push(round_trip($second, cores, trips, $ring, $ring)?);
                    }};
                }
                match which {
                    0 => sample!(Second::Thread, rtrb::RingBuffer::new(capacity)),
                    1 => sample!(Second::Thread, index::ring(capacity)?),
                    2 => sample!(Second::Thread, packed::ring(capacity)?),
                    3 => sample!(Second::Thread, mapped::ring(capacity)?),
                    _ => sample!(Second::Process, mapped::ring(capacity)?),
                }
            }
        }
        println!("\ncapacity {capacity}: M items/s while");
        let [free, full, empty] = Regime::ALL.map(Regime::name);
        println!(
            "{:<29}{free:>21}{full:>21}{empty:>21}{:>20}",
            "", "round trip, ns"
        );
        for (name, row) in names.iter().zip(&mut rows) {
            print!("  {name:<27}");
            for samples in row.rates.iter_mut().chain([&mut row.trips]) {
                let [low, middle, high] = spread(samples);
                print!("  {middle:>5.0} ({low:>4.0}, {high:>4.0})");
            }
            println!();
        }
    }
    Ok(())
}
