//! Random operation sequences on the packed ring: see the suite.

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
use support::packed as subject;

/// Numbers in operations are below it: some are beyond every capacity.
const MOST: usize = 19;

fn capacities() -> impl Strategy<Value = usize> {
    prop_oneof![1..=3_usize, 6..=9_usize, 13..=16_usize]
}

fn starts() -> impl Strategy<Value = u64> {
    // Where positions wrap, and where the laps of a ring of one and of two lines
    // of 1 or of 7 slots do.
    let laps = u64::from(u32::MAX);
    let before = |end: u64| end - 40..=end;
    prop_oneof![
        Just(0),
        0..40_u64,
        before(u64::MAX),
        before(laps),
        before(7 * laps),
        before(14 * laps),
        before(21 * laps),
        any::<u64>()
    ]
}
