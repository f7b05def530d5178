//! loom models of the bytes ring, without a bound on preemptions.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p memenpsf-verification --test loom_bytes -- --nocapture`

#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

use std::collections::BTreeSet;

use memenpsf_ring::ordering::Shipped;
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
