//! memenpsf beside other rings: `u64` one at a time, throughput and round trip, in
//! one interleaved run, between two threads and between two processes.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml [ITEMS] [ROUNDS] [NAME...]`
//!
//! With names, only the rows that have one of them in theirs.
//!
//! Each side is pinned and owns its handle. The consumer checks every number; the
//! clock runs from the end of the second lap, when every page of the ring has been
//! touched, to the last number. Medians over the rounds, with the
//! smallest and the largest; the rows take turns within a round.
//!
//! How often the waiting side asks decides as much as the ring does: each failed poll
//! takes the line that the other side is about to write. So a failed poll is followed
//! by 1, 4 or 16 pauses, the same for every ring, and there is a table for each.

mod rings;

use std::hint::spin_loop;
use std::ops::Range;
use std::time::{Duration, Instant};

use memenpsf_benches::mapped;
use memenpsf_benches::placement::{choose, pin};
use memenpsf_ring::{index, packed};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use rings::{Pop, Push};

type Failure = Box<dyn std::error::Error>;

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
        // The second side inherits its core. If it had to leave the first one's, it
        // might wait for it for ever: that one spins, and under a real-time priority
        // nobody takes its core away.
        pin(cores[1])?;
        match self {
            Self::Thread => {
                let thread = std::thread::spawn(second);
                pin(cores[0])?;
                let result = first();
                thread.join().map_err(|_| "the other side panicked")?;
                Ok(result)
            }
            // SAFETY: the process has one thread: those of earlier rows are joined.
            Self::Process => match unsafe { fork() }? {
                ForkResult::Child => {
                    second();
                    // Without the parent's destructors and buffers.
                    // SAFETY: it ends the child at once.
                    unsafe { nix::libc::_exit(0) };
                }
                ForkResult::Parent { child } => {
                    pin(cores[0])?;
                    let result = first();
                    waitpid(child, None)?;
                    Ok(result)
                }
            },
        }
    }
}

/// How both sides wait: so many pauses after each poll that failed.
#[derive(Clone, Copy)]
struct Pauses(u32);

impl Pauses {
    const ALL: [Self; 3] = [Self(1), Self(4), Self(16)];

    #[inline]
    fn wait(self) {
        for _ in 0..self.0 {
            spin_loop();
        }
    }

    #[inline]
    fn push(self, producer: &mut impl Push, value: u64) {
        while !producer.push(value) {
            self.wait();
        }
    }

    #[inline]
    fn pop(self, consumer: &mut impl Pop) -> u64 {
        loop {
            if let Some(value) = consumer.pop() {
                return value;
            }
            self.wait();
        }
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

// The loops below are functions of their own and reach their ring by a reference, as a
// program does that keeps it in a struct. Inlined, they would keep the fields of some
// rings in registers and of others not, by how often the compiler finds them used.

/// Pushes `numbers`.
#[inline(never)]
fn send(producer: &mut impl Push, numbers: Range<u64>, amount: u32, pauses: Pauses) {
    for n in numbers {
        work(amount, n);
        pauses.push(producer, n);
    }
}

/// Pops `numbers`, and tells whether it was these.
#[inline(never)]
fn receive(consumer: &mut impl Pop, numbers: Range<u64>, amount: u32, pauses: Pauses) -> bool {
    numbers.fold(true, |sound, expected| {
        let value = pauses.pop(consumer);
        work(amount, value);
        sound & (value == expected)
    })
}

/// Pushes each of `numbers`, and waits until it comes back.
#[inline(never)]
fn ask(there: &mut impl Push, returns: &mut impl Pop, numbers: Range<u64>, pauses: Pauses) -> bool {
    numbers.fold(true, |sound, n| {
        pauses.push(there, n);
        sound & (pauses.pop(returns) == n)
    })
}

/// Pushes `count` numbers back, as they come.
#[inline(never)]
fn answer(arrives: &mut impl Pop, back: &mut impl Push, count: u64, pauses: Pauses) {
    for _ in 0..count {
        let value = pauses.pop(arrives);
        pauses.push(back, value);
    }
}

/// Streams `items` numbers after `warm_up` more, and returns millions a second.
fn stream(
    second: Second,
    cores: [usize; 2],
    [warm_up, items]: [u64; 2],
    regime: Regime,
    pauses: Pauses,
    (mut producer, mut consumer): (impl Push, impl Pop),
) -> Result<f64, Failure> {
    let [producing, consuming] = regime.work();
    let all = warm_up + items;
    let consume = || {
        let sound = receive(&mut consumer, 0..warm_up, consuming, pauses);
        let began = Instant::now();
        let sound = sound & receive(&mut consumer, warm_up..all, consuming, pauses);
        (sound, began.elapsed())
    };
    let (sound, taken) = second.run(cores, consume, move || {
        producer.settle();
        send(&mut producer, 0..all, producing, pauses);
    })?;
    check(sound)?;
    Ok(items as f64 / taken.as_secs_f64() / 1e6)
}

/// Returns the nanoseconds of one round trip, as a mean over `trips`.
fn round_trip(
    second: Second,
    cores: [usize; 2],
    trips: u64,
    pauses: Pauses,
    (mut there, mut arrives): (impl Push, impl Pop),
    (mut back, mut returns): (impl Push, impl Pop),
) -> Result<f64, Failure> {
    let first = || {
        // The first trip finds the other side there.
        let sound = ask(&mut there, &mut returns, 0..1, pauses);
        let began = Instant::now();
        let sound = sound & ask(&mut there, &mut returns, 1..trips + 1, pauses);
        (sound, began.elapsed())
    };
    let (sound, taken): (bool, Duration) = second.run(cores, first, move || {
        arrives.settle();
        back.settle();
        answer(&mut arrives, &mut back, trips + 1, pauses);
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

impl Row {
    /// The samples of each column, round by round.
    fn columns(&self) -> impl Iterator<Item = &Vec<f64>> {
        self.rates.iter().chain([&self.trips])
    }
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
    let rounds: u64 = arguments.next().map_or(Ok(11), |n| n.parse())?;
    if items < 2 || rounds == 0 {
        return Err("at least 2 items and 1 round are needed".into());
    }
    let names: Vec<String> = arguments.collect();
    let chosen =
        ROWS.map(|row| names.is_empty() || names.iter().any(|name| row.contains(name.as_str())));
    if !chosen.contains(&true) {
        return Err(format!("no row has one of these in its name: {names:?}").into());
    }
    let placement = choose()?.ok_or("two cores are needed")?;
    let cores = placement.cores;
    println!("{placement}; {items} items, medians of {rounds} rounds (smallest, largest)");

    for capacity in [1024, 65536] {
        for pauses in Pauses::ALL {
            table(cores, capacity, pauses, [items, rounds], chosen)?;
        }
    }
    Ok(())
}

/// Every row, and what a table calls it.
const ROWS: [&str; 15] = [
    "rtrb, threads",
    "ringbuf, threads",
    "yring, threads",
    "crossbeam ArrayQueue, threads",
    "index, threads",
    "packed, threads",
    "index over memfds, threads",
    "index over memfds, processes",
    "packed over memfds, threads",
    "packed over memfds, processes",
    "ringfire over a file, threads",
    "shmem-ipc, threads",
    "shaq, threads",
    "iceoryx2, threads",
    "ipc-channel, threads",
];
/// The rows of the same ring between two threads and between two processes.
const PAIRS: [(&str, [usize; 2]); 2] = [("index", [6, 7]), ("packed", [8, 9])];

/// Measures every row, and prints a table.
fn table(
    cores: [usize; 2],
    capacity: usize,
    pauses: Pauses,
    [items, rounds]: [u64; 2],
    chosen: [bool; ROWS.len()],
) -> Result<(), Failure> {
    let mut rows: [Row; ROWS.len()] = Default::default();
    let warm_up = 2 * capacity as u64;
    for round in 0..rounds {
        for turn in 0..rows.len() {
            let which = (turn + round as usize) % rows.len();
            if !chosen[which] {
                continue;
            }
            let row = &mut rows[which];
            macro_rules! sample {
                ($second:ident, $ring:expr) => {
                    sample!($second, $ring, items)
                };
                ($second:ident, $ring:expr, $items:expr) => {{
                    let (second, items) = (Second::$second, $items);
                    let counts = [warm_up.min(items), items];
                    for (rates, regime) in row.rates.iter_mut().zip(Regime::ALL) {
                        rates.push(stream(second, cores, counts, regime, pauses, $ring)?);
                    }
                    let trips = items / 50 + 2;
                    row.trips
                        .push(round_trip(second, cores, trips, pauses, $ring, $ring)?);
                }};
            }
            match which {
                0 => sample!(Thread, rtrb::RingBuffer::new(capacity)),
                1 => sample!(Thread, rings::ringbuf(capacity)),
                2 => sample!(Thread, yring::spsc(capacity)),
                3 => sample!(Thread, rings::array_queue(capacity)),
                4 => sample!(Thread, index::ring(capacity)?),
                5 => sample!(Thread, packed::ring(capacity)?),
                6 => sample!(Thread, mapped::index_ring(capacity)?),
                7 => sample!(Process, mapped::index_ring(capacity)?),
                8 => sample!(Thread, mapped::packed_ring(capacity)?),
                9 => sample!(Process, mapped::packed_ring(capacity)?),
                10 => sample!(Thread, rings::ringfire(capacity)?),
                11 => sample!(Thread, rings::shmem_ipc(capacity)?),
                12 => sample!(Thread, rings::shaq(capacity)?),
                // A sample is a chunk of memory of its own: ten times slower.
                13 => sample!(Thread, rings::iceoryx(capacity)?, items / 10 + 2),
                // System calls for each: a hundred times slower.
                _ => sample!(Thread, ipc_channel::ipc::channel()?, items / 100 + 2),
            }
        }
    }
    let after = match pauses.0 {
        1 => "1 pause".to_owned(),
        many => format!("{many} pauses"),
    };
    println!("\ncapacity {capacity}, {after} after a failed poll: M items/s while");
    let [free, full, empty] = Regime::ALL.map(Regime::name);
    println!(
        "{:<32}{free:>21}{full:>21}{empty:>21}{:>20}",
        "", "round trip, ns"
    );
    let pairs = PAIRS
        .into_iter()
        .filter(|(_, pair)| pair.iter().all(|&row| chosen[row]));
    let ratios = pairs.map(|(name, [threads, processes])| {
        let columns = rows[processes].columns().zip(rows[threads].columns());
        let ratios = columns.map(|(ours, theirs)| {
            let each = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
            spread(&mut each.collect::<Vec<_>>())
        });
        (name, ratios.collect::<Vec<_>>())
    });
    let ratios: Vec<_> = ratios.collect();
    for ((name, row), _) in ROWS
        .iter()
        .zip(&mut rows)
        .zip(chosen)
        .filter(|(_, chosen)| *chosen)
    {
        print!("  {name:<30}");
        for samples in row.rates.iter_mut().chain([&mut row.trips]) {
            let [low, middle, high] = spread(samples);
            print!("  {middle:>5.0} ({low:>4.0}, {high:>4.0})");
        }
        println!();
    }
    for (name, ratios) in ratios {
        print!("  {:<30}", format!("{name}: processes by threads"));
        for [low, middle, high] in ratios {
            print!("  {middle:>5.2} ({low:>4.2}, {high:>4.2})");
        }
        println!();
    }
    Ok(())
}
