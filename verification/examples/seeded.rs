//! Defects that a sanitizer has to report, and the rings that it must not: the
//! controls of `cargo verify sanitizers`.
//!
//! `cargo run --example seeded -- NAME` does one thing and ends, with success
//! unless a sanitizer is built in and reports. Without one, most of what is below
//! is undefined behaviour that nobody notices. Only `weaker` needs one to succeed:
//! it runs the mutants of the table of sites and looks for the reports itself.

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
    use std::process::{Command, ExitCode};
    use std::sync::Arc;
    use std::thread;

    use memenpsf_ring::ordering::{Orderings, Shipped};
    use memenpsf_ring::{bytes, index, packed};
    use memenpsf_verification::kills;
    use memenpsf_verification::sites::{RINGS, Subject, With, mutants_of, with_mutant};

    /// Elements through each ring: thousands of laps, so that both sides meet.
    const COUNT: u64 = 20_000;
    /// Few slots: each is soon written again.
    const CAPACITY: usize = 4;
    /// Rings that both sides leave, one after the other.
    const TEARDOWNS: u64 = 200;

    /// What ThreadSanitizer says of two accesses that nothing orders.
    const RACE: &str = "WARNING: ThreadSanitizer: data race";

    pub(super) fn main() -> ExitCode {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match arguments[..] {
            ["shipped"] => RINGS.into_iter().for_each(run::<Shipped>),
            ["weaker"] => return weaker(),
            ["weaker", ring, orderings] => {
                let named = |subject: &Subject| subject.to_string() == ring;
                let ring = RINGS.into_iter().find(named).unwrap();
                if orderings == kills::SHIPPED {
                    run::<Shipped>(ring);
                } else {
                    with_mutant(orderings, Run(ring));
                }
            }
            ["race"] => race(),
            ["overflow"] => overflow(),
            ["use-after-free"] => use_after_free(),
            ["leak"] => leak(),
            ["uninitialised"] => uninitialised(),
            ref unknown => {
                eprintln!("no defect is called {unknown:?}");
                return ExitCode::FAILURE;
            }
        }
        ExitCode::SUCCESS
    }

    /// Runs every ring with every weaker ordering of a site that it uses, each in a
    /// process of its own, and compares what is reported with ThreadSanitizer's column
    /// of kills.md. `MEMENPSF_BLESS=1` writes the column.
    fn weaker() -> ExitCode {
        let committed = std::fs::read_to_string(kills::MATRIX).unwrap();
        let mut matrix = committed.clone();
        let (mut reported, mut all) = (0, 0);
        for ring in RINGS {
            assert!(!races(ring, kills::SHIPPED), "what ships does not race");
            for mutant in mutants_of(ring) {
                let raced = races(ring, mutant.name);
                kills::set_sanitizer(&mut matrix, ring, mutant.name, raced);
                let verdict = if raced { "reported" } else { "not reported" };
                println!("{ring}: {}: {verdict}", mutant.name);
                reported += u32::from(raced);
                all += 1;
            }
        }
        println!("evidence: {reported} of {all} weaker orderings reported by ThreadSanitizer");
        if std::env::var_os("MEMENPSF_BLESS").is_some() {
            std::fs::write(kills::MATRIX, &matrix).unwrap();
        } else if matrix != committed {
            eprintln!(
                "what is reported is not what {} says; MEMENPSF_BLESS=1 writes it",
                kills::MATRIX
            );
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }

    /// Tells whether ThreadSanitizer reports a race in a ring with these orderings.
    fn races(ring: Subject, orderings: &str) -> bool {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["weaker", &ring.to_string(), orderings])
            .output()
            .unwrap();
        let report = String::from_utf8_lossy(&output.stderr);
        let raced = report.contains(RACE);
        assert_ne!(output.status.success(), raced, "{report}");
        raced
    }

    /// What runs with some orderings.
    struct Run(Subject);

    impl With for Run {
        fn with<O: Orderings + Send + 'static>(self) {
            run::<O>(self.0);
        }
    }

    /// Runs a ring where each of its orderings is needed.
    fn run<O: Orderings + Send + 'static>(ring: Subject) {
        match ring {
            Subject::Index => index::<O>(),
            Subject::Packed => packed::<O>(),
            Subject::Bytes => bytes::<O>(),
            Subject::Wake => unreachable!("no ring"),
        }
    }

    fn index<O: Orderings + Send + 'static>() {
        let (mut producer, mut consumer) = index::ring_at::<u64, O>(CAPACITY, 0).unwrap();
        stream(|n| producer.push(n).is_ok(), || consumer.pop().ok());
        let ring = || index::ring_at::<Box<u64>, O>(CAPACITY, 0).unwrap();
        teardowns(ring, |producer, n| producer.push(Box::new(n)).unwrap());
        farewells(ring, index::Consumer::is_abandoned);
    }

    fn packed<O: Orderings + Send + 'static>() {
        let (mut producer, mut consumer) = packed::ring_at::<u64, O>(CAPACITY, 0).unwrap();
        stream(|n| producer.push(n).is_ok(), || consumer.pop().ok());
        let ring = || packed::ring_at::<Box<u64>, O>(CAPACITY, 0).unwrap();
        teardowns(ring, |producer, n| producer.push(Box::new(n)).unwrap());
        farewells(ring, packed::Consumer::is_abandoned);
    }

    fn bytes<O: Orderings + Send + 'static>() {
        let ring = || bytes::ring_at::<O>(128, 40, 0).unwrap();
        let (mut producer, mut consumer) = ring();
        stream(
            |n| producer.push(&n.to_ne_bytes()).is_ok(),
            || {
                let message = consumer.pop().ok()?;
                Some(u64::from_ne_bytes(message.try_into().unwrap()))
            },
        );
        teardowns(ring, |producer, n| producer.push(&n.to_ne_bytes()).unwrap());
        farewells(ring, bytes::Consumer::is_abandoned);
    }

    /// Lets one thread push what another pops.
    fn stream(mut push: impl FnMut(u64) -> bool + Send, mut pop: impl FnMut() -> Option<u64>) {
        thread::scope(|scope| {
            let other = scope.spawn(move || {
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
            // The end of the scope alone is a fence, which a standard library that is
            // not instrumented hides.
            other.join().unwrap();
        });
    }

    /// Both sides leave: whoever is the last frees what the other has written.
    fn teardowns<P: Send + 'static, C>(
        ring: impl Fn() -> (P, C),
        push: impl Fn(&mut P, u64) + Copy + Send + 'static,
    ) {
        for n in 0..TEARDOWNS {
            let (mut producer, consumer) = ring();
            let other = thread::spawn(move || push(&mut producer, n));
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
    fn farewells<P: Send + 'static, C>(
        ring: impl Fn() -> (P, C),
        is_abandoned: impl Fn(&C) -> bool,
    ) {
        for n in 0..TEARDOWNS {
            let (producer, consumer) = ring();
            let will = Arc::new(Bare::default());
            let left = Arc::clone(&will);
            let other = thread::spawn(move || {
                // SAFETY: the reader waits for the drop below.
                unsafe { *left.0.get() = n };
                drop(producer);
                // Its count is kept until the join: letting go would order, too.
                left
            });
            while !is_abandoned(&consumer) {
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
