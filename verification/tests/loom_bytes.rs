//! loom models of the bytes ring, without a bound on preemptions, and its mutants:
//! every ordering weakened, and the terminator left out or stored late. Each mutant
//! must fail the models that the matrix below names, and no other.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p memenpsf-verification --test loom_bytes -- --nocapture`

#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use memenpsf_ring::ordering::{Orderings, Shipped};
use memenpsf_verification::bytes_models::{Defect, Payload, Setting};
use memenpsf_verification::model::{SHAPES, Shape};

const PAYLOADS: [Payload; 2] = [Payload::Words, Payload::Watched];

/// A ring that holds one message of 8 bytes, or three empty ones.
const SMALL: Setting = Setting {
    capacity: 32,
    start: 0,
    lengths: &[8],
    payload: Payload::Words,
    shape: Shape::ProducerSpawned,
    defect: Defect::None,
};

/// A ring of one cache line.
const LINE: Setting = Setting {
    capacity: 64,
    ..SMALL
};

/// Capacity, first position, lengths, and most attempts. Among them: messages that
/// lie in the overhang in part and wholly, a record that fills the ring, padding,
/// and positions that wrap.
const RUNS: [(usize, u64, &[usize], usize); 8] = [
    (32, 0, &[8], 3),
    (32, 24, &[8], 3),
    (32, u64::MAX - 15, &[8, 0], 3),
    (32, u64::MAX - 7, &[0], 4),
    (64, 0, &[8], 3),
    (64, 48, &[24], 3),
    (64, u64::MAX - 23, &[9, 0, 24], 3),
    (64, 56, &[3, 24], 3),
];

fn settings(setting: Setting) -> impl Iterator<Item = Setting> {
    PAYLOADS.into_iter().flat_map(move |payload| {
        SHAPES.into_iter().map(move |shape| Setting {
            payload,
            shape,
            ..setting
        })
    })
}

#[test]
fn attempts_reach_every_outcome_and_no_other() {
    let mut executions = 0;
    for (capacity, start, lengths, most) in RUNS {
        let setting = Setting {
            capacity,
            start,
            lengths,
            ..SMALL
        };
        for setting in settings(setting) {
            for attempts in 1..=most {
                let explored = setting.attempts::<Shipped>(attempts);
                executions += explored.executions;
                let expected = setting.expected(attempts);
                let found = explored.outcomes.intersection(&expected).count();
                println!("    {found} of {} outcomes", expected.len());
                assert_eq!(explored.outcomes, expected, "{setting:?}, n = {attempts}");

                let reached = |situation| explored.reached.contains(situation);
                assert!(reached("empty") && reached("none popped") && reached("all popped"));
                let full = expected
                    .iter()
                    .any(|outcome| outcome.pushed.contains(&false));
                assert_eq!(reached("full"), full);
                if attempts == most {
                    assert_eq!(reached("positions wrapped"), start > 64, "{setting:?}");
                    let again = lengths != [0] && capacity == 32 || lengths == [24];
                    assert!(reached("storage used again") || !again, "{setting:?}");
                }
            }
        }
    }
    println!("total: {executions} executions");
}

#[test]
fn batches_arrive_as_a_whole_and_aborts_leave_nothing() {
    let mut executions = 0;
    for (capacity, start, lengths) in [
        (32, 16, &[0, 0, 8][..]),
        (64, 48, &[8, 8, 3][..]),
        (64, u64::MAX - 7, &[8, 0, 24][..]),
    ] {
        let setting = Setting {
            capacity,
            start,
            lengths,
            ..SMALL
        };
        for setting in settings(setting) {
            let explored = setting.batches::<Shipped>();
            executions += explored.executions;
            let situations = BTreeSet::from([
                "none popped",
                "batch popped",
                "all popped",
                "no room for the reservation",
            ]);
            assert_eq!(explored.reached, situations, "{setting:?}");
        }
    }
    println!("total: {executions} executions");
}

#[test]
fn consumer_that_sees_the_producer_leave_drains_every_message() {
    let mut executions = 0;
    for shape in SHAPES {
        for (setting, pushes) in [(SMALL, 1), (SMALL, 2), (LINE, 2)] {
            let setting = Setting {
                shape,
                start: u64::MAX - 7,
                ..setting
            };
            let explored = setting.drain::<Shipped>(pushes);
            executions += explored.executions;
            let situations = BTreeSet::from(["drained to the end", "not drained"]);
            assert_eq!(explored.reached, situations, "{setting:?}");
            executions += setting.teardown::<Shipped>();
        }
    }
    println!("total: {executions} executions");
}

/// Names the cell that a child process is to run.
const CELL: &str = "MEMENPSF_BYTES_CELL";
/// What a child prints when its model has passed.
const PASSED: &str = "the model passed";
/// A model takes about a second. One that takes this long hangs.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Declares the mutants of orderings, and runs the model of one by name.
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
                "Shipped" => run_model::<Shipped>(model, Defect::None),
                "NoTerminator" => run_model::<Shipped>(model, Defect::NoTerminator),
                "LateTerminator" => run_model::<Shipped>(model, Defect::LateTerminator),
                $(stringify!($mutant) => run_model::<$mutant>(model, Defect::None),)*
                unknown => panic!("no mutant {unknown}"),
            }
        }

        const MUTANTS: &[&str] = &["NoTerminator", "LateTerminator", $(stringify!($mutant)),*];
    };
}

mutants! {
    PublishRecordRelaxed: PUBLISH_RECORD = Relaxed;
    RefreshRecordRelaxed: REFRESH_RECORD = Relaxed;
    VacateHeadRelaxed: VACATE_HEAD = Relaxed;
    RefreshHeadRelaxed: REFRESH_HEAD = Relaxed;
    AbandonAcquire: ABANDON = Acquire;
    ObserveAbandonedRelaxed: OBSERVE_ABANDONED = Relaxed;
}

const MODELS: [&str; 5] = [
    "attempts words",
    "attempts watched",
    "batches words",
    "batches watched",
    "drain",
];

fn run_model<O: Orderings + 'static>(model: &str, defect: Defect) {
    for shape in SHAPES {
        let setting = Setting {
            shape,
            defect,
            ..SMALL
        };
        let batches = Setting {
            capacity: 64,
            start: 48,
            lengths: &[8, 8, 3],
            ..setting
        };
        let watched = Payload::Watched;
        match model {
            "attempts words" => {
                setting.attempts::<O>(3);
            }
            "attempts watched" => {
                let payload = watched;
                Setting { payload, ..setting }.attempts::<O>(3);
            }
            "batches words" => {
                batches.batches::<O>();
            }
            "batches watched" => {
                let payload = watched;
                Setting { payload, ..batches }.batches::<O>();
            }
            "drain" => {
                setting.drain::<O>(2);
            }
            unknown => panic!("no model {unknown}"),
        }
    }
}

/// Which models kill a mutant, in the order of [`MODELS`].
///
/// The head's two orderings survive with relaxed words for the message: only load
/// buffering shows that they are missing, which loom does not have. Watched words
/// show it, where a message is laid over one that was popped, which the batches do
/// not come to. On the heap there is no defect of the terminator to be had. The other
/// weaker swaps of `ABANDON` are the same code as in the index ring, whose models
/// kill them: see `loom_mutants.rs`.
fn kills(mutant: &str) -> [bool; 5] {
    match mutant {
        "Shipped" => [false, false, false, false, false],
        "NoTerminator" | "LateTerminator" => [true, true, true, true, false],
        "PublishRecordRelaxed" | "RefreshRecordRelaxed" => [true, true, true, true, true],
        "VacateHeadRelaxed" | "RefreshHeadRelaxed" => [false, true, false, false, false],
        "AbandonAcquire" | "ObserveAbandonedRelaxed" => [false, false, false, false, true],
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
            "each_ordering_and_the_terminator_have_a_model_that_needs_them",
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
    assert!(
        errors.contains("panicked at"),
        "{mutant} in {model}: {status}\n{output}{errors}"
    );
    Err(message)
}

#[test]
fn each_ordering_and_the_terminator_have_a_model_that_needs_them() {
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
