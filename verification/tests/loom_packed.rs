//! loom models of the packed ring, without a bound on preemptions.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p memenpsf-verification --test loom_packed -- --nocapture`

#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

use std::collections::BTreeSet;

use memenpsf_ring::ordering::Shipped;
use memenpsf_verification::element_models::{Payload, Program, Ring};
use memenpsf_verification::enumerator::{Asking, Outcome};
use memenpsf_verification::model::{Explored, SHAPES, Shape};
use memenpsf_verification::packed_models::PackedRing;

/// Laps before the 32 bits of a lap wrap: in a ring of so many slots in all lines,
/// `slots * WRAP - n` is `n` elements before lap 0.
const WRAP: u64 = u32::MAX as u64;

/// Rings of elements of `W` words: every capacity of the list at every start.
fn rings<const W: usize>(
    capacities: &'static [usize],
    starts: &'static [u64],
) -> impl Iterator<Item = PackedRing<W>> {
    capacities.iter().flat_map(move |&capacity| {
        SHAPES.into_iter().flat_map(move |shape| {
            starts.iter().map(move |&start| PackedRing {
                capacity,
                start,
                shape,
            })
        })
    })
}

/// Runs attempts and compares the outcomes with the enumerator's, and the
/// situations with those that the bound must reach.
fn assert_complete<const W: usize>(
    payload: Payload,
    attempts: usize,
    ring: PackedRing<W>,
) -> usize {
    let explored = ring.explore::<Shipped>(payload, Program::Asking(attempts));
    let expected = ring.expected(attempts, Asking::Always);
    let found = explored.outcomes.intersection(&expected).count();
    println!("    {found} of {} outcomes", expected.len());
    assert_eq!(explored.outcomes, expected, "{ring:?}");
    assert_situations(&explored, ring, attempts);
    explored.executions
}

fn assert_situations<const W: usize>(
    explored: &Explored<Outcome>,
    ring: PackedRing<W>,
    attempts: usize,
) {
    let most = attempts as u64;
    let mut situations = BTreeSet::from([
        "empty",
        "every attempt popped",
        "all popped in time",
        "none popped in time",
    ]);
    if attempts > ring.capacity {
        situations.insert("full");
    }
    if ring.crosses_a_line(most) {
        situations.insert("line crossed");
    }
    if ring.crosses_a_lap(most) {
        situations.insert("lap crossed");
    }
    if ring.uses_a_slot_again(most) {
        situations.insert("slot used again");
    }
    assert_eq!(explored.reached, situations, "{ring:?}");
}

#[test]
fn attempts_on_the_heap_reach_every_outcome_and_no_other() {
    let mut executions = 0;
    for attempts in 1..=3 {
        // One element a line: every push enters a line, every capacity'th a lap.
        for ring in rings::<7>(&[1, 2], &[0, 2 * WRAP - 1, u64::MAX - 1]) {
            executions += assert_complete(Payload::Heap, attempts, ring);
        }
        // Two elements a line, lines and laps crossed in the middle.
        for ring in rings::<3>(&[1, 2, 3], &[1, 4 * WRAP - 1]) {
            executions += assert_complete(Payload::Heap, attempts, ring);
        }
        // Seven.
        for ring in rings::<1>(&[1, 2], &[5, 7 * WRAP - 1]) {
            executions += assert_complete(Payload::Heap, attempts, ring);
        }
    }
    // The longest runs, of 256 outcomes, in one shape each.
    let one_a_line = PackedRing::<7> {
        capacity: 2,
        start: 0,
        shape: Shape::ProducerSpawned,
    };
    executions += assert_complete(Payload::Heap, 4, one_a_line);
    let two_a_line = PackedRing::<3> {
        capacity: 2,
        start: 4 * WRAP - 1,
        shape: Shape::ConsumerSpawned,
    };
    executions += assert_complete(Payload::Heap, 4, two_a_line);
    println!("total: {executions} executions");
}

#[test]
fn attempts_over_regions_reach_every_outcome_and_no_other() {
    let mut executions = 0;
    for attempts in 1..=3 {
        for ring in rings::<1>(&[1, 2], &[5, 6, 7 * WRAP - 1, 14 * WRAP - 1]) {
            executions += assert_complete(Payload::Split, attempts, ring);
        }
    }
    for attempts in 1..=2 {
        for ring in rings::<3>(&[1, 2], &[1, 2 * WRAP - 1]) {
            executions += assert_complete(Payload::Split, attempts, ring);
        }
    }
    for ring in rings::<7>(&[1, 2], &[1]) {
        executions += assert_complete(Payload::Split, 1, ring);
    }
    println!("total: {executions} executions");
}

#[test]
fn push_and_pop_deliver_in_order_with_either_payload() {
    let mut executions = 0;
    let mut run = |explored: Explored<Outcome>| executions += explored.executions;
    for ring in rings::<7>(&[1, 2], &[2 * WRAP - 1]) {
        let explored = ring.explore::<Shipped>(Payload::Heap, Program::OneByOne(4));
        assert_situations(&explored, ring, 4);
        run(explored);
    }
    for ring in rings::<3>(&[1, 2, 3], &[1, 4 * WRAP - 1]) {
        let explored = ring.explore::<Shipped>(Payload::Heap, Program::OneByOne(3));
        assert_situations(&explored, ring, 3);
        run(explored);
    }
    for ring in rings::<1>(&[1, 2], &[5, 7 * WRAP - 1]) {
        let explored = ring.explore::<Shipped>(Payload::Split, Program::OneByOne(3));
        assert_situations(&explored, ring, 3);
        run(explored);
    }
    for ring in rings::<3>(&[1, 2], &[1]) {
        let explored = ring.explore::<Shipped>(Payload::Split, Program::OneByOne(2));
        assert_situations(&explored, ring, 2);
        run(explored);
    }
    println!("total: {executions} executions");
}

#[test]
fn batches_arrive_in_order_with_either_payload() {
    let mut executions = 0;
    let mut run = |explored: Explored<Outcome>| {
        executions += explored.executions;
        for situation in ["none popped in time", "all popped in time", "line crossed"] {
            assert!(explored.reached.contains(situation), "{explored:?}");
        }
    };
    for ring in rings::<7>(&[2], &[0, 2 * WRAP - 1]) {
        run(ring.explore::<Shipped>(Payload::Heap, Program::Batches));
    }
    for ring in rings::<3>(&[2, 3], &[4 * WRAP - 1]) {
        run(ring.explore::<Shipped>(Payload::Heap, Program::Batches));
    }
    for ring in rings::<1>(&[1, 2], &[6]) {
        run(ring.explore::<Shipped>(Payload::Split, Program::Batches));
    }
    println!("total: {executions} executions");
}

#[test]
fn either_side_may_leave_first_and_nothing_leaks() {
    let mut executions = 0;
    for (start, pushes, pops) in [(0, 2, 1), (u64::MAX, 3, 2), (WRAP - 1, 2, 2)] {
        for ring in rings::<7>(&[1, 2], &[0]) {
            let ring = PackedRing { start, ..ring };
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
    for pushes in 1..=3 {
        for ring in rings::<7>(&[1, 2], &[0, WRAP - 1]) {
            let explored = ring.drain::<Shipped>(pushes);
            executions += explored.executions;
            assert!(explored.reached.contains("not drained"));
            // The consumer makes room at most once before it asks last.
            let drains = pushes <= ring.capacity + 1;
            assert_eq!(explored.reached.contains("drained to the end"), drains);
        }
    }
    println!("total: {executions} executions");
}

#[test]
fn producer_that_sees_the_consumer_leave_sees_what_it_did() {
    for ring in rings::<7>(&[1, 2], &[u64::MAX]) {
        let reached = ring.consumer_leaves::<Shipped>().reached;
        let situations = BTreeSet::from(["seen to leave", "not seen to leave"]);
        assert_eq!(reached, situations);
    }
}
