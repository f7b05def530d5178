//! Every ordering of the index ring, weakened, must fail a model; the shipped
//! ones must pass in the same run.
//!
//! The kill matrix below is part of the evidence: a mutant that survives where
//! it was killed, and one that is killed where it survived, both fail this test.
//! Each cell runs in a process of its own, because a panic inside a model may
//! abort it.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p memenpsf-verification --test loom_mutants -- --nocapture`

#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use memenpsf_ring::ordering::{Orderings, Shipped};
use memenpsf_verification::enumerator::{Asking, Run, Strength};
use memenpsf_verification::index_models::{
    Attempts, Payload, batches, consumer_leaves, drain, teardown,
};
use memenpsf_verification::model::SHAPES;

/// Names the cell that a child process is to run.
const CELL: &str = "MEMENPSF_MUTANT_CELL";
/// What a child prints when its model has passed.
const PASSED: &str = "the model passed";
/// A model takes about a second. One that takes this long hangs.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Declares the mutants, and runs the model of one by name.
macro_rules! mutants {
    ($($mutant:ident: $site:ident = $ordering:ident;)*) => {
        $(
            struct $mutant;
            // SAFETY: it runs under the model checker only.
            unsafe impl Orderings for $mutant {
                const $site: Ordering = Ordering::$ordering;
            }
        )*

        fn run_mutant(mutant: &str, model: &str) {
            match mutant {
                "Shipped" => run_model::<Shipped>(model),
                $(stringify!($mutant) => run_model::<$mutant>(model),)*
                unknown => panic!("no mutant {unknown}"),
            }
        }

        const MUTANTS: &[&str] = &[$(stringify!($mutant)),*];
    };
}

use std::sync::atomic::Ordering;

mutants! {
    PublishTailRelaxed: PUBLISH_TAIL = Relaxed;
    RefreshTailRelaxed: REFRESH_TAIL = Relaxed;
    VacateHeadRelaxed: VACATE_HEAD = Relaxed;
    RefreshHeadRelaxed: REFRESH_HEAD = Relaxed;
    AbandonAcquire: ABANDON = Acquire;
    AbandonRelease: ABANDON = Release;
    AbandonRelaxed: ABANDON = Relaxed;
    ObserveAbandonedRelaxed: OBSERVE_ABANDONED = Relaxed;
}

const MODELS: [&str; 6] = [
    "attempts heap",
    "attempts split",
    "batches",
    "teardown",
    "drain",
    "consumer leaves",
];

fn run_model<O: Orderings + 'static>(model: &str) {
    for shape in SHAPES {
        let attempts = Attempts {
            capacity: 2,
            attempts: 3,
            start: u64::MAX,
            shape,
            preemptions: None,
        };
        match model {
            "attempts heap" => {
                attempts.on_heap::<O>();
            }
            "attempts split" => {
                attempts.over_regions::<O>();
            }
            "batches" => {
                batches::<O>(Payload::Heap, 2, 0, shape);
            }
            "teardown" => {
                teardown::<O>(2, 0, 2, 1, shape);
            }
            "drain" => {
                drain::<O>(2, 0, 2, shape);
            }
            "consumer leaves" => {
                consumer_leaves::<O>(2, 0, shape);
            }
            unknown => panic!("no model {unknown}"),
        }
    }
}

/// Which models kill a mutant, in the order of [`MODELS`].
///
/// The head's two orderings survive "attempts split": with relaxed words for
/// slots only load buffering shows that they are missing, which loom does not
/// have. Plain cells show it, and so do the litmus tests.
fn kills(mutant: &str) -> [bool; 6] {
    match mutant {
        "Shipped" => [false, false, false, false, false, false],
        "PublishTailRelaxed" | "RefreshTailRelaxed" => [true, true, true, true, true, true],
        "VacateHeadRelaxed" | "RefreshHeadRelaxed" => [true, false, true, false, false, false],
        "AbandonAcquire" => [false, false, false, true, true, true],
        "AbandonRelease" => [false, false, false, true, false, false],
        "AbandonRelaxed" => [false, false, false, true, true, true],
        "ObserveAbandonedRelaxed" => [false, false, false, false, true, true],
        unknown => panic!("no mutant {unknown}"),
    }
}

/// A child process that does not outlive its parent's interest.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the watchdog ran out.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs one cell in a child process. `Err` is what killed the mutant.
fn run_cell(mutant: &str, model: &str) -> Result<(), String> {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "each_ordering_has_a_model_that_needs_it",
            "--nocapture",
        ])
        .env(CELL, format!("{mutant}/{model}"))
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Running(child);
    let (mut stdout, mut stderr) = (
        child.0.stdout.take().unwrap(),
        child.0.stderr.take().unwrap(),
    );
    let (said, hears) = mpsc::channel();
    let errors = thread::spawn(move || {
        let mut errors = String::new();
        stderr.read_to_string(&mut errors).map(|_| errors)
    });
    thread::spawn(move || {
        let mut output = String::new();
        let end = stdout.read_to_string(&mut output).map(|_| output);
        // The other end is gone when the watchdog ran out.
        let _ = said.send(end);
    });
    let output = hears
        .recv_timeout(WATCHDOG)
        .unwrap_or_else(|_| panic!("{mutant} in {model} hangs"))
        .unwrap();
    let status = child.0.wait().unwrap();
    let errors = errors.join().unwrap().unwrap();
    let passed = output.contains(PASSED);
    assert_eq!(passed, status.success(), "{output}{errors}");
    if passed {
        return Ok(());
    }
    // The message follows the line that says where.
    let mut lines = errors
        .lines()
        .skip_while(|line| !line.contains("panicked at"));
    let message = lines.nth(1).unwrap_or_default().trim().to_string();
    let place = errors.lines().find(|line| line.contains("panicked at"));
    assert!(
        place.is_some(),
        "{mutant} in {model}: {status}\n{output}{errors}"
    );
    Err(message)
}

#[test]
fn each_ordering_has_a_model_that_needs_it() {
    if let Ok(cell) = std::env::var(CELL) {
        let (mutant, model) = cell.split_once('/').unwrap();
        run_mutant(mutant, model);
        println!("{PASSED}");
        return;
    }
    let mut wrong = Vec::new();
    let mut killed = 0;
    for mutant in ["Shipped"].iter().chain(MUTANTS) {
        let expected = kills(mutant);
        let mut by = 0;
        for (model, expected) in MODELS.into_iter().zip(expected) {
            let verdict = run_cell(mutant, model);
            by += usize::from(verdict.is_err());
            if verdict.is_err() != expected {
                wrong.push(format!("{mutant} in {model}"));
            }
            match verdict {
                Ok(()) => println!("{mutant:<24} {model:<16} passes"),
                Err(message) => println!("{mutant:<24} {model:<16} KILLED: {message}"),
            }
        }
        killed += usize::from(by > 0);
    }
    println!(
        "{killed} of {} mutants killed, shipped passes",
        MUTANTS.len()
    );
    assert_eq!(
        wrong,
        Vec::<String>::new(),
        "verdicts that differ from the matrix"
    );
    assert_eq!(killed, MUTANTS.len());
}

/// The enumerator knows races, too: it predicts the verdicts of the models with
/// plain cells without running the ring.
#[test]
fn enumerator_predicts_which_weaker_orderings_race() {
    let shipped = Strength::SHIPPED;
    let weakenings = [
        ("Shipped", shipped),
        (
            "PublishTailRelaxed",
            Strength {
                publish_tail: false,
                ..shipped
            },
        ),
        (
            "RefreshTailRelaxed",
            Strength {
                refresh_tail: false,
                ..shipped
            },
        ),
        (
            "VacateHeadRelaxed",
            Strength {
                vacate_head: false,
                ..shipped
            },
        ),
        (
            "RefreshHeadRelaxed",
            Strength {
                refresh_head: false,
                ..shipped
            },
        ),
    ];
    for (mutant, strength) in weakenings {
        let run = Run {
            capacity: 2,
            attempts: 3,
            asking: Asking::Always,
            strength,
        };
        assert_eq!(run.explore().races, kills(mutant)[0], "{mutant}");
    }
}
