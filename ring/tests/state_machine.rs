//! Random operation sequences on the index ring: see the suite.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

#[path = "suite/state_machine.rs"]
mod suite;
mod support;

use proptest::prelude::*;
use support::index as subject;

/// Numbers in operations are below it: some are beyond every capacity.
const MOST: usize = 11;

fn capacities() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1), Just(2), Just(4), Just(8)]
}

fn starts() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), u64::MAX - 40..=u64::MAX, any::<u64>()]
}
