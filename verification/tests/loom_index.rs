//! loom models of the index ring, without a bound on preemptions.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p memenpsf-verification --test loom_index`

#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

use std::collections::BTreeSet;

use memenpsf_ring::ordering::Shipped;
use memenpsf_verification::enumerator::Asking;
use memenpsf_verification::index_models::{
    Attempted, Attempts, Explored, Payload, batches, consumer_leaves, drain, teardown,
};
use memenpsf_verification::model::{SHAPES, Shape, explore};

/// Start positions: zero, and so that the positions wrap at the first, the
/// second and the third element.
const STARTS: [u64; 4] = [0, u64::MAX, u64::MAX - 1, u64::MAX - 2];

/// All runs of up to `most` attempts.
fn runs(most: usize) -> impl Iterator<Item = Attempts> {
    (1..=most).flat_map(|attempts| {
        [1, 2].into_iter().flat_map(move |capacity| {
            SHAPES.into_iter().flat_map(move |shape| {
                // The start changes no interleaving: the longest runs begin
                // where they wrap in the middle, the others everywhere.
                let starts = if attempts < 4 {
                    &STARTS[..]
                } else {
                    &STARTS[2..3]
                };
                starts.iter().map(move |&start| Attempts {
                    capacity,
                    attempts,
                    start,
                    shape,
                    preemptions: None,
                })
            })
        })
    })
}

/// Runs the model at every bound, and compares the set of outcomes with the
/// enumerator's and the situations with those that the bound must reach.
fn assert_complete(asking: Asking, model: impl Fn(Attempts) -> Attempted) {
    let mut executions = 0;
    for run in runs(4) {
        let attempted = model(run);
        executions += attempted.executions;
        let expected = run.expected(asking);
        let found = attempted.outcomes.intersection(&expected).count();
        println!("    {found} of {} outcomes", expected.len());
        assert_eq!(attempted.outcomes, expected, "{run:?}");
        if run.capacity == 2 && asking == Asking::Always {
            assert_eq!(expected.len(), [2, 9, 47, 256][run.attempts - 1]);
        }

        let mut situations = BTreeSet::from(["empty", "all popped", "none popped"]);
        if run.attempts > run.capacity {
            situations.extend(["full", "slot used again"]);
        }
        if u64::MAX - run.start < run.attempts as u64 {
            situations.insert("positions wrapped");
        }
        assert_eq!(attempted.reached, situations, "{run:?}");
    }
    println!("total: {executions} executions");
}

#[test]
fn attempts_on_the_heap_reach_every_outcome_and_no_other() {
    assert_complete(Asking::Always, Attempts::on_heap::<Shipped>);
}

#[test]
fn attempts_over_regions_reach_every_outcome_and_no_other() {
    assert_complete(Asking::Always, Attempts::over_regions::<Shipped>);
}

#[test]
fn push_and_pop_over_regions_reach_every_outcome_and_no_other() {
    assert_complete(Asking::AtLimit, Attempts::over_regions_at_limit::<Shipped>);
}

/// The control of the tests above: a bound on preemptions is noticed.
#[test]
fn bounded_preemptions_miss_outcomes() {
    for preemptions in [2, 3] {
        let run = Attempts {
            capacity: 2,
            attempts: 4,
            start: 0,
            shape: Shape::ProducerSpawned,
            preemptions: Some(preemptions),
        };
        let attempted = run.on_heap::<Shipped>();
        let expected = run.expected(Asking::Always);
        println!(
            "{preemptions} preemptions: {} of {} outcomes",
            attempted.outcomes.len(),
            expected.len()
        );
        assert!(attempted.outcomes.is_subset(&expected));
        assert!(attempted.outcomes.len() < expected.len());
    }
}

/// The control of every model: one execution is no exploration.
#[test]
#[should_panic(expected = "did not explore")]
fn model_without_a_choice_is_refused() {
    explore("one thread", || ());
}

/// Adds up what the models of one test explored.
fn total(explored: impl Iterator<Item = (Explored, BTreeSet<&'static str>)>) {
    let mut executions = 0;
    for (explored, situations) in explored {
        executions += explored.executions;
        assert_eq!(explored.reached, situations);
    }
    println!("total: {executions} executions");
}

#[test]
fn batches_arrive_in_order_with_either_payload() {
    let situations = BTreeSet::from(["nothing popped", "slot used again", "all popped in time"]);
    total(
        [Payload::Heap, Payload::Split]
            .into_iter()
            .flat_map(|payload| {
                let situations = situations.clone();
                [1, 2].into_iter().flat_map(move |capacity| {
                    let situations = situations.clone();
                    SHAPES.into_iter().flat_map(move |shape| {
                        let situations = situations.clone();
                        [0, u64::MAX - 1].into_iter().map(move |start| {
                            let explored = batches::<Shipped>(payload, capacity, start, shape);
                            (explored, situations.clone())
                        })
                    })
                })
            }),
    );
}

#[test]
fn either_side_may_leave_first_and_nothing_leaks() {
    total([1, 2].into_iter().flat_map(|capacity| {
        SHAPES.into_iter().flat_map(move |shape| {
            [(0, 2, 1), (u64::MAX, 3, 2), (u64::MAX - 1, 2, 2)]
                .into_iter()
                .map(move |(start, pushes, pops)| {
                    let explored = teardown::<Shipped>(capacity, start, pushes, pops, shape);
                    let mut situations = BTreeSet::from(["producer last", "consumer last"]);
                    // As many elements as are rejected need no pop.
                    if pops >= pushes.min(capacity) {
                        situations.insert("nothing left");
                    }
                    if pushes <= capacity {
                        situations.insert("all left");
                    }
                    (explored, situations)
                })
        })
    }));
}

#[test]
fn consumer_that_sees_the_producer_leave_drains_every_element() {
    total([1, 2].into_iter().flat_map(|capacity| {
        SHAPES.into_iter().flat_map(move |shape| {
            [0, u64::MAX].into_iter().flat_map(move |start| {
                [1, 2, 3].into_iter().map(move |pushes| {
                    let explored = drain::<Shipped>(capacity, start, pushes, shape);
                    let mut situations = BTreeSet::from(["not drained"]);
                    // The consumer makes room at most once before it asks last.
                    if pushes <= capacity + 1 {
                        situations.insert("drained to the end");
                    }
                    (explored, situations)
                })
            })
        })
    }));
}

#[test]
fn producer_that_sees_the_consumer_leave_sees_what_it_did() {
    total([1, 2].into_iter().flat_map(|capacity| {
        SHAPES.into_iter().map(move |shape| {
            let explored = consumer_leaves::<Shipped>(capacity, u64::MAX, shape);
            let situations = BTreeSet::from(["seen to leave", "not seen to leave"]);
            (explored, situations)
        })
    }));
}
