//! No wake-up is lost, whoever sleeps for what; whoever ends at any point leaves
//! the other side a clean prefix; either side may attach while the other works.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p memenpsf-verification --test loom_wake -- --nocapture`

#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

use std::collections::BTreeSet;

use memenpsf_ring::ordering::Shipped;
use memenpsf_verification::end_models::{Arrival, Parting, arrivals};
use memenpsf_verification::model::SHAPES;
use memenpsf_verification::rings::{Bytes, Index, Kind, Packed, Side};
use memenpsf_verification::wake_models::{Defect, Talk, situations};

/// Explores a talk in all shapes, and returns the number of executions. `sleeper`
/// must sleep and wake in some of them.
fn talk(kind: impl Kind, sleeper: Side, messages: u64) -> usize {
    let before = match sleeper {
        Side::Producer => messages,
        Side::Consumer => 0,
    };
    let explored = SHAPES.map(|shape| {
        let (pushes, pops, defect) = (messages, messages, Defect::None);
        Talk {
            kind,
            before,
            pushes,
            pops,
            shape,
            defect,
        }
        .explore::<Shipped>()
    });
    for explored in &explored {
        let missing = &situations(sleeper) - &explored.reached;
        assert_eq!(missing, BTreeSet::new());
    }
    explored.iter().map(|explored| explored.executions).sum()
}

#[test]
fn no_wake_up_for_data_or_space_is_lost() {
    for (of, sleeper) in [("data", Side::Consumer), ("space", Side::Producer)] {
        let one = [
            talk(Index::<1>(1), sleeper, 1),
            talk(Packed::<1>(1), sleeper, 1),
            talk(Bytes::<1>(1), sleeper, 1),
        ];
        let two = [
            talk(Index::<1>(2), sleeper, 2),
            talk(Packed::<1>(2), sleeper, 2),
        ];
        let executions: usize = one.iter().chain(&two).sum();
        println!("evidence: {executions} executions, sleeping for {of}, capacity 1 and 2");
    }
}

/// Both sides sleep for each other in turn: millions of executions a shape.
#[test]
#[ignore = "takes minutes: cargo verify --deep loom"]
fn no_wake_up_is_lost_when_both_sides_sleep() {
    let mut executions = 0;
    for shape in SHAPES {
        let explored = Talk {
            kind: Index::<1>(1),
            before: 0,
            pushes: 2,
            pops: 2,
            shape,
            defect: Defect::None,
        }
        .explore::<Shipped>();
        let both = &situations(Side::Producer) | &situations(Side::Consumer);
        assert_eq!(&both - &explored.reached, BTreeSet::new());
        executions += explored.executions;
    }
    println!("evidence: {executions} executions, both sides sleeping, capacity 1");
}

/// Lets a side go after each number of accesses, and returns the numbers of places
/// and of executions, and all situations.
fn every_place<K: Kind>(parting: Parting<K>) -> ([usize; 2], BTreeSet<&'static str>) {
    let mut situations = BTreeSet::new();
    let (mut places, mut executions) = (0, 0);
    for accesses in (0..).map(Some) {
        let mut stopped = false;
        for shape in SHAPES {
            let explored = Parting {
                accesses,
                shape,
                ..parting
            }
            .explore::<Shipped>();
            stopped |= explored.reached.contains("stopped");
            executions += explored.executions;
            situations.extend(explored.reached);
        }
        // The last one got to its end in every execution.
        if !stopped {
            break;
        }
        places += 1;
    }
    ([places, executions], situations)
}

fn parting<K: Kind>(
    kind: K,
    leaver: Side,
    [before, messages]: [u64; 2],
    sleeps: bool,
) -> Parting<K> {
    Parting {
        kind,
        before,
        messages,
        sleeps,
        leaver,
        accesses: None,
        shape: SHAPES[0],
        defect: Defect::None,
    }
}

#[test]
fn what_a_producer_leaves_behind_at_any_access_is_a_clean_prefix() {
    let mut total = [0; 2];
    let mut add = |([places, executions], situations): ([usize; 2], BTreeSet<_>)| {
        let expected = BTreeSet::from(["all arrived", "one that was not told", "stopped"]);
        assert_eq!(situations, expected);
        total[0] += places;
        total[1] += executions;
    };
    // A consumer that sleeps for one message, and one that drains two.
    for (numbers, sleeps) in [([0, 1], true), ([0, 2], false)] {
        add(every_place(parting(
            Index::<2>(2),
            Side::Producer,
            numbers,
            sleeps,
        )));
        add(every_place(parting(
            Packed::<2>(2),
            Side::Producer,
            numbers,
            sleeps,
        )));
        add(every_place(parting(
            Bytes::<2>(2),
            Side::Producer,
            numbers,
            sleeps,
        )));
    }
    let [places, executions] = total;
    println!("evidence: {executions} executions, {places} places where a producer stops");
}

#[test]
fn producer_outlives_a_consumer_that_stops_at_any_access() {
    let mut total = [0; 2];
    let mut add = |([places, executions], situations): ([usize; 2], BTreeSet<_>)| {
        let expected = BTreeSet::from(["producer stopped early", "stopped"]);
        assert_eq!(situations, expected);
        total[0] += places;
        total[1] += executions;
    };
    add(every_place(parting(
        Index::<1>(1),
        Side::Consumer,
        [1, 1],
        true,
    )));
    add(every_place(parting(
        Packed::<1>(1),
        Side::Consumer,
        [1, 1],
        true,
    )));
    add(every_place(parting(
        Bytes::<1>(1),
        Side::Consumer,
        [1, 1],
        true,
    )));
    let [places, executions] = total;
    println!("evidence: {executions} executions, {places} places where a consumer stops");
}

/// Explores an arrival at each first position, in all shapes.
fn arrival(kind: impl Kind, attempts: u64) -> usize {
    let mut executions = 0;
    for start in kind.starts() {
        for shape in SHAPES {
            let explored = Arrival {
                kind,
                attempts,
                start,
                prepared: start,
                shape,
            }
            .explore::<Shipped>();
            assert_eq!(explored.reached, arrivals());
            executions += explored.executions;
        }
    }
    executions
}

#[test]
fn either_side_may_attach_while_the_other_works() {
    let executions =
        arrival(Index::<2>(2), 2) + arrival(Packed::<2>(2), 2) + arrival(Bytes::<2>(2), 2);
    println!("evidence: {executions} executions, sides that attach late");
}

/// The control of the test above: a side that comes late is looked at before.
#[test]
#[should_panic(expected = "the peer published")]
fn side_that_attaches_to_blocks_of_another_start_is_noticed() {
    Arrival {
        kind: Index::<2>(2),
        attempts: 2,
        start: 2,
        prepared: 0,
        shape: SHAPES[0],
    }
    .explore::<Shipped>();
}
