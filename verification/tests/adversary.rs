//! The index ring under a peer that changes its words and slots between any two
//! accesses of ours.
//!
//! `MEMENPSF_OPERATIONS=100000000 cargo test --release -p memenpsf-verification
//! --test adversary -- --nocapture` for the long run; `MEMENPSF_SEED=n` replays
//! the one episode that a failure has named.

#![cfg(not(loom))]

use std::panic::catch_unwind;

use memenpsf_verification::adversary::{Defect, episode, run};

/// Reads a number from the environment.
fn from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {value}")),
    )
}

#[test]
fn ring_withstands_a_peer_that_lies_at_every_access() {
    if let Some(seed) = from_env("MEMENPSF_SEED") {
        println!("episode {seed}: {:?}", episode(seed, None));
        return;
    }
    let operations = from_env("MEMENPSF_OPERATIONS").unwrap_or(1_000_000);
    let report = run(1, operations, None);
    println!("{report:?}");
    assert!(report.operations >= operations);
    // The attack reached both what it is for and ordinary work.
    assert!(report.violations > report.rings / 2);
    assert!(report.violations < report.rings);
    assert!(report.fetches > report.operations / 10);
    assert!(report.elements > report.operations / 2);
}

/// The control: a ring that misuses its memory is noticed.
#[test]
fn each_seeded_defect_is_noticed() {
    for defect in Defect::ALL {
        let noticed = catch_unwind(|| run(1, 10_000, Some(defect)));
        let message = noticed.expect_err("a defect was not noticed");
        let message = (message.downcast_ref::<String>().map(String::as_str))
            .or(message.downcast_ref::<&str>().copied());
        println!("{defect:?}: {}", message.unwrap_or_default());
    }
}

#[test]
fn episode_is_determined_by_its_seed() {
    for seed in 0..100 {
        assert_eq!(episode(seed, None), episode(seed, None));
    }
}
