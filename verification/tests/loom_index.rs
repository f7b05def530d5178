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
use memenpsf_verification::element_models::{PAYLOADS, Payload, Program, Ring};
use memenpsf_verification::enumerator::{Asking, Outcome};
use memenpsf_verification::index_models::IndexRing;
use memenpsf_verification::model::{Explored, SHAPES, Shape, explore};

/// Start positions: zero, and so that the positions wrap at the first, the
/// second and the third element.
const STARTS: [u64; 4] = [0, u64::MAX, u64::MAX - 1, u64::MAX - 2];

/// Rings of both capacities in all shapes, at these starts.
fn rings(starts: &'static [u64]) -> impl Iterator<Item = IndexRing> {
    [1, 2].into_iter().flat_map(move |capacity| {
        SHAPES.into_iter().flat_map(move |shape| {
            starts.iter().map(move |&start| IndexRing {
                capacity,
                start,
                shape,
            })
        })
    })
}

/// Runs the model at every bound, and compares the set of outcomes with the
/// enumerator's and the situations with those that the bound must reach.
fn assert_complete(asking: Asking, model: impl Fn(IndexRing, usize) -> Explored<Outcome>) {
    let mut executions = 0;
    for attempts in 1..=4 {
        // The start changes no interleaving: the longest runs begin where they wrap
        // in the middle, the others everywhere.
        let starts = if attempts < 4 {
            &STARTS[..]
        } else {
            &STARTS[2..3]
        };
        for ring in rings(starts) {
            let explored = model(ring, attempts);
            executions += explored.executions;
            let expected = ring.expected(attempts, asking);
            let found = explored.outcomes.intersection(&expected).count();
            println!("    {found} of {} outcomes", expected.len());
            assert_eq!(explored.outcomes, expected, "{ring:?}");
            if ring.capacity == 2 && asking == Asking::Always {
                assert_eq!(expected.len(), [2, 9, 47, 256][attempts - 1]);
            }

            let mut situations = BTreeSet::from([
                "empty",
                "every attempt popped",
                "all popped in time",
                "none popped in time",
            ]);
            if attempts > ring.capacity {
                situations.extend(["full", "slot used again"]);
            }
            if u64::MAX - ring.start < attempts as u64 {
                situations.insert("positions wrapped");
            }
            assert_eq!(explored.reached, situations, "{ring:?}");
        }
    }
    println!("total: {executions} executions");
}

#[test]
fn attempts_on_the_heap_reach_every_outcome_and_no_other() {
    assert_complete(Asking::Always, |ring, attempts| {
        ring.explore::<Shipped>(Payload::Heap, Program::Asking(attempts))
    });
}

#[test]
fn attempts_over_regions_reach_every_outcome_and_no_other() {
    assert_complete(Asking::Always, |ring, attempts| {
        ring.explore::<Shipped>(Payload::Split, Program::Asking(attempts))
    });
}

#[test]
fn push_and_pop_over_regions_reach_every_outcome_and_no_other() {
    assert_complete(Asking::AtLimit, IndexRing::loads::<Shipped>);
}

/// The control of the tests above: a bound on preemptions is noticed.
#[test]
fn bounded_preemptions_miss_outcomes() {
    for preemptions in [2, 3] {
        let ring = IndexRing {
            capacity: 2,
            start: 0,
            shape: Shape::ProducerSpawned,
        };
        let program = Program::Asking(4);
        let explored = ring.explore_bounded::<Shipped>(Payload::Heap, program, Some(preemptions));
        let expected = ring.expected(4, Asking::Always);
        println!(
            "{preemptions} preemptions: {} of {} outcomes",
            explored.outcomes.len(),
            expected.len()
        );
        assert!(explored.outcomes.is_subset(&expected));
        assert!(explored.outcomes.len() < expected.len());
    }
}

/// The control of every model: one execution is no exploration.
#[test]
#[should_panic(expected = "did not explore")]
fn model_without_a_choice_is_refused() {
    explore("one thread", || ());
}

#[test]
fn batches_arrive_in_order_with_either_payload() {
    let mut executions = 0;
    for payload in PAYLOADS {
        for ring in rings(&[0, u64::MAX - 1]) {
            let explored = ring.explore::<Shipped>(payload, Program::Batches);
            executions += explored.executions;
            let mut situations = BTreeSet::from([
                "none popped in time",
                "slot used again",
                "all popped in time",
            ]);
            if ring.start > 0 {
                situations.insert("positions wrapped");
            }
            assert_eq!(explored.reached, situations, "{ring:?}");
        }
    }
    println!("total: {executions} executions");
}

#[test]
fn either_side_may_leave_first_and_nothing_leaks() {
    let mut executions = 0;
    for (start, pushes, pops) in [(0, 2, 1), (u64::MAX, 3, 2), (u64::MAX - 1, 2, 2)] {
        for ring in rings(&[0]) {
            let ring = IndexRing { start, ..ring };
            let explored = ring.teardown::<Shipped>(pushes, pops);
            executions += explored.executions;
            let mut situations = BTreeSet::from(["producer last", "consumer last"]);
            // As many elements as are rejected need no pop.
            if pops >= pushes.min(ring.capacity) {
                situations.insert("nothing left");
            }
            if pushes <= ring.capacity {
                situations.insert("all left");
            }
            assert_eq!(explored.reached, situations, "{ring:?}");
        }
    }
    println!("total: {executions} executions");
}

#[test]
fn consumer_that_sees_the_producer_leave_drains_every_element() {
    let mut executions = 0;
    for ring in rings(&[0, u64::MAX]) {
        for pushes in [1, 2, 3] {
            let explored = ring.drain::<Shipped>(pushes);
            executions += explored.executions;
            let mut situations = BTreeSet::from(["not drained"]);
            // The consumer makes room at most once before it asks last.
            if pushes <= ring.capacity + 1 {
                situations.insert("drained to the end");
            }
            assert_eq!(explored.reached, situations, "{ring:?}");
        }
    }
    println!("total: {executions} executions");
}

#[test]
fn producer_that_sees_the_consumer_leave_sees_what_it_did() {
    let mut executions = 0;
    for ring in rings(&[u64::MAX]) {
        let explored = ring.consumer_leaves::<Shipped>();
        executions += explored.executions;
        let situations = BTreeSet::from(["seen to leave", "not seen to leave"]);
        assert_eq!(explored.reached, situations, "{ring:?}");
    }
    println!("total: {executions} executions");
}
