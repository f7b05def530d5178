//! Every ordering weakened, and every defect of a protocol, against every model of
//! what it belongs to. What ships must pass all of them in the same run.
//!
//! kills.md beside this crate's sources is the matrix that must come out: a defect
//! that survives where it was killed, and one that is killed where it survived, both
//! fail the test. `MEMENPSF_BLESS=1` writes the file instead. ThreadSanitizer's column
//! in it is not this test's.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p memenpsf-verification --test loom_mutants -- --nocapture`

#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

use std::fmt::Write;

use memenpsf_ring::ordering::{Orderings, Shipped};
use memenpsf_verification::bytes_models::{self, Setting};
use memenpsf_verification::cell::{self, Verdict};
use memenpsf_verification::element_models::{Payload, Program, Ring};
use memenpsf_verification::end_models::Parting;
use memenpsf_verification::enumerator::{Asking, Run, Strength};
use memenpsf_verification::index_models::IndexRing;
use memenpsf_verification::kills::{self, MATRIX, SANITIZER, SHIPPED};
use memenpsf_verification::model::{SHAPES, Shape};
use memenpsf_verification::packed_models::PackedRing;
use memenpsf_verification::rings::{Bytes, Index, Kind, Packed, Side};
use memenpsf_verification::sites::{MUTANTS, RINGS, Subject, With, mutants_of, with_mutant};
use memenpsf_verification::wake_models::{Defect, Talk};

/// The models of one subject, and what is done wrong there beside its orderings.
struct Table {
    subject: Subject,
    models: &'static [&'static str],
    defects: &'static [&'static str],
}

const RING_MODELS: &[&str] = &[
    "attempts, cells",
    "attempts, words",
    "batches",
    "teardown",
    "drain",
    "consumer leaves",
];

const TABLES: [Table; 4] = [
    Table {
        subject: Subject::Index,
        models: RING_MODELS,
        defects: &[],
    },
    Table {
        subject: Subject::Packed,
        models: RING_MODELS,
        defects: &[],
    },
    Table {
        subject: Subject::Bytes,
        models: &[
            "attempts, cells",
            "attempts, words",
            "batches, cells",
            "batches, words",
            "drain",
            "teardown",
        ],
        defects: &["NoTerminator", "LateTerminator"],
    },
    Table {
        subject: Subject::Wake,
        models: &[
            "sleep for data",
            "sleep for space",
            "producer stops",
            "consumer stops",
        ],
        defects: &[
            "NoSecondLook",
            "LateAnnouncement",
            "EarlyQuestion",
            "EndIgnored",
            "NotDrained",
        ],
    },
];

/// What survives every model of a subject, and why that is right.
const SURVIVORS: [(Subject, &str, &str); 1] = [(
    Subject::Bytes,
    "AbandonRelease",
    "the last side only frees memory, which loom does not watch: records are not \
     dropped. It is the same swap as in the other rings, whose models kill it, and \
     ThreadSanitizer, which watches, reports it here, too",
)];

/// One model of one subject, with a defect or with weaker orderings.
struct Model<'a> {
    subject: &'a str,
    model: &'a str,
    defect: &'a str,
}

impl With for Model<'_> {
    fn with<O: Orderings + 'static>(self) {
        for shape in SHAPES {
            match self.subject {
                "index ring" => index::<O>(self.model, shape),
                "packed ring" => packed::<O>(self.model, shape),
                "bytes ring" => bytes::<O>(self.model, self.defect, shape),
                "wake-up" => wake::<O>(self.model, self.defect, shape),
                unknown => panic!("no subject is called {unknown}"),
            }
        }
    }
}

fn index<O: Orderings + 'static>(model: &str, shape: Shape) {
    let ring = IndexRing {
        capacity: 2,
        start: 0,
        shape,
    };
    let wraps = IndexRing {
        start: u64::MAX,
        ..ring
    };
    elements::<O>(model, ring, wraps, wraps);
}

fn packed<O: Orderings + 'static>(model: &str, shape: Shape) {
    // One element a line, and seven.
    let wide = PackedRing::<7> {
        capacity: 2,
        start: 0,
        shape,
    };
    let narrow = PackedRing::<1> {
        capacity: 2,
        start: 0,
        shape,
    };
    elements::<O>(model, wide, wide, narrow);
}

/// A model of a ring of elements; the attempts are those of `cells` and of `words`.
fn elements<O: Orderings + 'static>(
    model: &str,
    ring: impl Ring,
    cells: impl Ring,
    words: impl Ring,
) {
    match model {
        "attempts, cells" => drop(cells.explore::<O>(Payload::Heap, Program::Asking(3))),
        "attempts, words" => drop(words.explore::<O>(Payload::Split, Program::Asking(3))),
        "batches" => drop(ring.explore::<O>(Payload::Heap, Program::Batches)),
        "teardown" => drop(ring.teardown::<O>(2, 1)),
        "drain" => drop(ring.drain::<O>(2)),
        "consumer leaves" => drop(ring.consumer_leaves::<O>()),
        unknown => panic!("no model is called {unknown}"),
    }
}

fn bytes<O: Orderings + 'static>(model: &str, defect: &str, shape: Shape) {
    use bytes_models::{Defect, Payload};

    let defect = match defect {
        "NoTerminator" => Defect::NoTerminator,
        "LateTerminator" => Defect::LateTerminator,
        _ => Defect::None,
    };
    let (kind, payload) = match model.split_once(", ") {
        Some((kind, "cells")) => (kind, Payload::Watched),
        Some((kind, _)) => (kind, Payload::Words),
        None => (model, Payload::Words),
    };
    let setting = Setting {
        capacity: 32,
        start: 0,
        lengths: &[8],
        payload,
        shape,
        defect,
    };
    match kind {
        "attempts" => drop(setting.attempts::<O>(3)),
        "batches" => {
            Setting {
                capacity: 64,
                start: 48,
                lengths: &[8, 8, 3],
                ..setting
            }
            .batches::<O>();
        }
        "drain" => drop(setting.drain::<O>(2)),
        "teardown" => {
            setting.teardown::<O>();
        }
        unknown => panic!("no model is called {unknown}"),
    }
}

fn wake<O: Orderings + 'static>(model: &str, defect: &str, shape: Shape) {
    let defect = match defect {
        "NoSecondLook" => Defect::NoSecondLook,
        "LateAnnouncement" => Defect::LateAnnouncement,
        "EarlyQuestion" => Defect::EarlyQuestion,
        "EndIgnored" => Defect::EndIgnored,
        "NotDrained" => Defect::NotDrained,
        _ => Defect::None,
    };
    let sleeper = match model {
        "sleep for data" | "consumer stops" => Side::Consumer,
        "sleep for space" | "producer stops" => Side::Producer,
        unknown => panic!("no model is called {unknown}"),
    };
    // One message, in each ring: the protocol is the same, the second look is not.
    if model.starts_with("sleep") {
        talk::<O>(Index::<1>(1), sleeper, shape, defect);
        talk::<O>(Packed::<1>(1), sleeper, shape, defect);
        talk::<O>(Bytes::<1>(1), sleeper, shape, defect);
    } else {
        part::<O>(Index::<1>(1), sleeper, shape, defect);
        part::<O>(Packed::<1>(1), sleeper, shape, defect);
        part::<O>(Bytes::<1>(1), sleeper, shape, defect);
    }
}

/// One message, for which `sleeper` may have to wait.
fn talk<O: Orderings + 'static>(kind: impl Kind, sleeper: Side, shape: Shape, defect: Defect) {
    Talk {
        kind,
        before: u64::from(sleeper == Side::Producer),
        pushes: 1,
        pops: 1,
        shape,
        defect,
    }
    .explore::<O>();
}

/// One message, and a side that goes at once, on its way, or when it is done.
fn part<O: Orderings + 'static>(kind: impl Kind, leaver: Side, shape: Shape, defect: Defect) {
    for accesses in [Some(0), Some(3), None] {
        Parting {
            kind,
            before: u64::from(leaver == Side::Consumer),
            messages: 1,
            sleeps: true,
            leaver,
            accesses,
            shape,
            defect,
        }
        .explore::<O>();
    }
}

#[test]
fn each_ordering_and_each_step_has_a_model_that_needs_it() {
    let run = |defect: &str, model: &str| {
        let (subject, model) = model.split_once(": ").unwrap();
        let model = Model {
            subject,
            model,
            defect,
        };
        if MUTANTS.iter().any(|mutant| mutant.name == defect) {
            with_mutant(defect, model);
        } else {
            model.with::<Shipped>();
        }
    };
    if cell::is_child(run) {
        return;
    }
    let committed = std::fs::read_to_string(MATRIX).unwrap_or_default();
    let mut matrix = String::from(HEADING);
    let (mut survivors, mut killed) = (String::new(), 0);
    for table in &TABLES {
        let subject = table.subject;
        let rows = mutants_of(subject)
            .map(|mutant| mutant.name)
            .chain(table.defects.iter().copied());
        writeln!(matrix, "\n## {subject}\n").unwrap();
        // ThreadSanitizer's column is kept as it is.
        let sanitized = RINGS.contains(&subject);
        let titles = table.models.iter().copied();
        let titles: Vec<_> = titles.chain(sanitized.then_some(SANITIZER)).collect();
        writeln!(matrix, "| | {} |", titles.join(" | ")).unwrap();
        writeln!(matrix, "|---|{}", "---|".repeat(titles.len())).unwrap();
        for row in [SHIPPED].into_iter().chain(rows) {
            let verdicts: Vec<bool> = table
                .models
                .iter()
                .map(|model| {
                    let verdict = cell::run(
                        "each_ordering_and_each_step_has_a_model_that_needs_it",
                        row,
                        &format!("{subject}: {model}"),
                    );
                    if let Verdict::Killed(message) = &verdict {
                        println!("{subject}: {row} in {model}: KILLED: {message}");
                    }
                    verdict != Verdict::Passed
                })
                .collect();
            let kept = sanitized.then(|| kills::sanitizer(&committed, subject, row));
            let cells = verdicts.iter().map(|&dead| kills::cell(dead)).chain(kept);
            writeln!(
                matrix,
                "| {row} | {} |",
                cells.collect::<Vec<_>>().join(" | ")
            )
            .unwrap();
            let dead = verdicts.contains(&true);
            if row == SHIPPED {
                assert!(!dead, "what ships must pass every model of the {subject}");
                continue;
            }
            let survivor = SURVIVORS
                .iter()
                .find(|(of, name, _)| (*of, *name) == (subject, row));
            assert_ne!(dead, survivor.is_some(), "{row} of the {subject}");
            if let Some((_, _, why)) = survivor {
                write!(survivors, "\n*{row}* survives in the {subject}: {why}.\n").unwrap();
            } else {
                killed += 1;
            }
        }
    }
    matrix.push_str(&survivors);
    let survived = SURVIVORS.len();
    println!("evidence: {killed} of {killed} weaker orderings and defects killed by loom");
    println!("evidence: {survived} of {survived} survivors as expected, with their reasons");
    if std::env::var_os("MEMENPSF_BLESS").is_some() {
        std::fs::write(MATRIX, &matrix).unwrap();
        return;
    }
    assert_eq!(matrix, committed, "the matrix has changed: see {MATRIX}");
}

const HEADING: &str = "\
# Which model kills which defect

Written and compared by `cargo verify mutants`: a defect that survives where it was
killed and one that is killed where it survived both fail it. Every row but
*Shipped* is a weaker ordering (the site's name and what it was weakened to) or a step
of a protocol left out or out of order.

*Cells* are plain memory, in which loom sees every race; *words* are relaxed atomics,
as in a region. With words, the two orderings of the head survive: only load buffering
shows that they are needed, which loom does not have, and which the litmus tests do.

The column of ThreadSanitizer is written and compared by `cargo verify sanitizers`: a
ring on the heap with that ordering, of streams and of sides that leave. It runs no
steps left out.
";

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
    let matrix = std::fs::read_to_string(MATRIX).unwrap();
    for (mutant, strength) in weakenings {
        let run = Run {
            capacity: 2,
            attempts: 3,
            asking: Asking::Always,
            strength,
        };
        let row = matrix
            .lines()
            .find(|line| line.starts_with(&format!("| {mutant} |")));
        let cells = row.unwrap().split('|').nth(2).unwrap();
        assert_eq!(run.explore().races, cells.trim() == "killed", "{mutant}");
    }
}
