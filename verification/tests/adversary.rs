//! All rings, and the wake-up, under a peer that changes its words and bytes between
//! any two accesses of ours.
//!
//! `MEMENPSF_OPERATIONS=100000000 cargo test --release -p memenpsf-verification
//! --test adversary -- --nocapture` for the long run; `MEMENPSF_SEED=n` replays
//! the one episode that a failure has named.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::panic::catch_unwind;

use memenpsf_verification::adversary::{Defect, Target, episode, run};

/// Reads a number from the environment.
fn from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {value}")),
    )
}

/// Runs a quarter of the operations against one target.
fn withstands(target: Target) {
    if let Some(seed) = from_env("MEMENPSF_SEED") {
        println!("episode {seed}: {:?}", episode(target, seed, None));
        return;
    }
    let operations = from_env("MEMENPSF_OPERATIONS").unwrap_or(1_000_000) / 4;
    let report = run(target, 1, operations, None);
    println!("{target}: {report:?}");
    assert!(report.operations >= operations);
    // The attack reached both what it is for and ordinary work.
    assert!(report.fetches > report.operations / 10);
    assert!(report.elements > report.operations / 10);
    if target != Target::Wake {
        assert!(report.violations > report.rings / 4);
        assert!(report.violations < report.rings);
    }
    let (calls, fetches) = (report.operations, report.fetches);
    println!("evidence: {calls} hostile calls of the {target}, {fetches} fetches, each once");
}

#[test]
fn index_ring_withstands_a_peer_that_lies_at_every_access() {
    withstands(Target::Index);
}

#[test]
fn packed_ring_withstands_a_peer_that_lies_at_every_access() {
    withstands(Target::Packed);
}

#[test]
fn bytes_ring_withstands_a_peer_that_lies_at_every_access() {
    withstands(Target::Bytes);
}

#[test]
fn wake_up_withstands_a_peer_that_lies_at_every_access() {
    withstands(Target::Wake);
}

/// The control: code that misuses its memory is noticed.
#[test]
fn each_seeded_defect_is_noticed() {
    let mut noticed = 0;
    for target in Target::ALL {
        for &defect in Defect::of(target) {
            let run = catch_unwind(|| run(target, 1, 10_000, Some(defect)));
            let Err(message) = run else {
                panic!("{defect:?} of the {target} was not noticed");
            };
            let message = (message.downcast_ref::<String>().map(String::as_str))
                .or(message.downcast_ref::<&str>().copied());
            println!("{target}, {defect:?}: {}", message.unwrap_or_default());
            noticed += 1;
        }
    }
    println!("evidence: {noticed} of {noticed} seeded defects noticed by the adversary");
}

#[test]
fn episode_is_determined_by_its_seed() {
    for target in Target::ALL {
        for seed in 0..100 {
            assert_eq!(episode(target, seed, None), episode(target, seed, None));
        }
    }
}
