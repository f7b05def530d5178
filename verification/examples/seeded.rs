//! Defects that a sanitizer has to report, and the rings that it must not: the
//! controls of `cargo verify sanitizers`.
//!
//! `cargo run --example seeded -- NAME` does one thing and ends, with success
//! unless a sanitizer is built in and reports. Without one, most of what is below
//! is undefined behaviour that nobody notices.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "verification: an expectation that does not hold is a failed control"
)]

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    seeded::main()
}

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
mod seeded {
    use std::cell::UnsafeCell;
    use std::hint::black_box;
    use std::process::ExitCode;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::thread;

    use memenpsf_ring::ordering::{Orderings, Shipped};
    use memenpsf_ring::{bytes, index, packed};

    /// Elements through each ring: thousands of laps, so that both sides meet.
    const COUNT: u64 = 20_000;
    /// Few slots: each is soon written again.
    const CAPACITY: usize = 4;
    /// Rings that both sides leave, one after the other.
    const TEARDOWNS: u64 = 200;

    /// Declares weaker orderings, each of which at least one ring must betray.
    macro_rules! mutants {
        ($($mutant:ident: $site:ident = $ordering:ident, $rings:ident;)*) => {
            $(
                struct $mutant;
                // SAFETY: it runs here only, to be reported.
                unsafe impl Orderings for $mutant {
                    const $site: Ordering = Ordering::$ordering;
                }
            )*

            fn run_mutant(name: &str) -> bool {
                match name {
                    $(stringify!($mutant) => $rings::<$mutant>(),)*
                    _ => return false,
                }
                true
            }
        };
    }

    mutants! {
        PublishTailRelaxed: PUBLISH_TAIL = Relaxed, index_stream;
        RefreshTailRelaxed: REFRESH_TAIL = Relaxed, index_stream;
        VacateHeadRelaxed: VACATE_HEAD = Relaxed, index_stream;
        RefreshHeadRelaxed: REFRESH_HEAD = Relaxed, index_stream;
        PublishLineRelaxed: PUBLISH_LINE = Relaxed, packed_stream;
        RefreshLineRelaxed: REFRESH_LINE = Relaxed, packed_stream;
        PackedVacateHeadRelaxed: VACATE_HEAD = Relaxed, packed_stream;
        PackedRefreshHeadRelaxed: REFRESH_HEAD = Relaxed, packed_stream;
        PublishRecordRelaxed: PUBLISH_RECORD = Relaxed, bytes_stream;
        RefreshRecordRelaxed: REFRESH_RECORD = Relaxed, bytes_stream;
        BytesVacateHeadRelaxed: VACATE_HEAD = Relaxed, bytes_stream;
        BytesRefreshHeadRelaxed: REFRESH_HEAD = Relaxed, bytes_stream;
        AbandonAcquire: ABANDON = Acquire, teardowns;
        AbandonRelease: ABANDON = Release, teardowns;
        AbandonRelaxed: ABANDON = Relaxed, teardowns;
        ObserveAbandonedRelaxed: OBSERVE_ABANDONED = Relaxed, farewells;
    }

    pub(super) fn main() -> ExitCode {
        let name = std::env::args().nth(1).unwrap_or_default();
        match name.as_str() {
            "shipped" => shipped(),
            "race" => race(),
            "overflow" => overflow(),
            "use-after-free" => use_after_free(),
            "leak" => leak(),
            "uninitialised" => uninitialised(),
            name if run_mutant(name) => {}
            unknown => {
                eprintln!("no defect is called {unknown:?}");
                return ExitCode::FAILURE;
            }
        }
        ExitCode::SUCCESS
    }

    /// All that the mutants run, with the orderings that ship.
    fn shipped() {
        index_stream::<Shipped>();
        packed_stream::<Shipped>();
        bytes_stream::<Shipped>();
        teardowns::<Shipped>();
        farewells::<Shipped>();
    }

    /// Lets one thread push what another pops.
    fn stream(mut push: impl FnMut(u64) -> bool + Send, mut pop: impl FnMut() -> Option<u64>) {
        thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..COUNT {
                    while !push(n) {
                        thread::yield_now();
                    }
                }
            });
            for n in 0..COUNT {
                let got = loop {
                    match pop() {
                        Some(got) => break got,
                        None => thread::yield_now(),
                    }
                };
                assert_eq!(got, n);
            }
        });
    }

    fn index_stream<O: Orderings + Send>() {
        let (mut producer, mut consumer) = index::ring_at::<u64, O>(CAPACITY, 0).unwrap();
        stream(|n| producer.push(n).is_ok(), || consumer.pop().ok());
    }

    fn packed_stream<O: Orderings + Send>() {
        let (mut producer, mut consumer) = packed::ring_at::<u64, O>(CAPACITY, 0).unwrap();
        stream(|n| producer.push(n).is_ok(), || consumer.pop().ok());
    }

    fn bytes_stream<O: Orderings + Send>() {
        let (mut producer, mut consumer) = bytes::ring_at::<O>(128, 40, 0).unwrap();
        stream(
            |n| producer.push(&n.to_ne_bytes()).is_ok(),
            || {
                let message = consumer.pop().ok()?;
                Some(u64::from_ne_bytes(message.try_into().unwrap()))
            },
        );
    }

    /// Both sides leave: whoever is the last frees what the other has written.
    fn teardowns<O: Orderings + Send + 'static>() {
        for n in 0..TEARDOWNS {
            let (mut producer, consumer) = index::ring_at::<Box<u64>, O>(CAPACITY, 0).unwrap();
            let other = thread::spawn(move || {
                producer.push(Box::new(n)).unwrap();
            });
            wait_without_order(&other);
            // It pops nothing, which would order the two as well.
            drop(consumer);
            other.join().unwrap();
        }
    }

    /// Waits until a thread is done, by what orders nothing.
    fn wait_without_order<T>(thread: &thread::JoinHandle<T>) {
        while !thread.is_finished() {
            thread::yield_now();
        }
    }

    /// A word without an ordering of its own.
    #[derive(Default)]
    struct Bare(UnsafeCell<u64>);

    // SAFETY: not at all, unless the ring orders the accesses; that is asked here.
    unsafe impl Sync for Bare {}

    /// What a side did before it left is visible to the side that sees it gone.
    fn farewells<O: Orderings + Send + 'static>() {
        for n in 0..TEARDOWNS {
            let (producer, consumer) = index::ring_at::<u64, O>(CAPACITY, 0).unwrap();
            let will = Arc::new(Bare::default());
            let left = Arc::clone(&will);
            let other = thread::spawn(move || {
                // SAFETY: the reader waits for the drop below.
                unsafe { *left.0.get() = n };
                drop(producer);
                // Its count is kept until the join: letting go would order, too.
                left
            });
            while !consumer.is_abandoned() {
                thread::yield_now();
            }
            // SAFETY: the writer has left, and it wrote before.
            assert_eq!(unsafe { *will.0.get() }, n);
            drop(other.join().unwrap());
        }
    }

    /// Two threads write one word.
    fn race() {
        let word = Arc::new(Bare::default());
        let shared = Arc::clone(&word);
        let other = thread::spawn(move || {
            for n in 0..COUNT {
                // SAFETY: not at all: this is the defect.
                unsafe { shared.0.get().write_volatile(n) };
            }
        });
        for n in 0..COUNT {
            // SAFETY: not at all: this is the defect.
            unsafe { word.0.get().write_volatile(n) };
        }
        other.join().unwrap();
    }

    /// Reads the byte behind an allocation.
    fn overflow() {
        let bytes = black_box(vec![1_u8; 64]);
        // The end, which may be named and not read.
        let end = bytes.as_ptr_range().end;
        // SAFETY: not at all: this is the defect.
        let byte = unsafe { end.read_volatile() };
        println!("{byte}");
    }

    /// Reads what has been freed.
    fn use_after_free() {
        let number = black_box(Box::new(7_u64));
        let pointer = &raw const *number;
        drop(number);
        // SAFETY: not at all: this is the defect.
        let number = unsafe { pointer.read_volatile() };
        println!("{number}");
    }

    /// Loses an allocation, on a stack that is gone afterwards.
    fn leak() {
        thread::spawn(|| std::mem::forget(black_box(vec![1_u8; 4096])))
            .join()
            .unwrap();
    }

    /// Lets what nobody wrote decide.
    fn uninitialised() {
        let number = black_box(Box::<u64>::new_uninit());
        // SAFETY: not at all: this is the defect.
        if unsafe { number.as_ptr().read_volatile() } == 7 {
            println!("seven");
        }
    }
}
