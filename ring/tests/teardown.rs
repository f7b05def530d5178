//! The end of an index ring on the heap: see the suite.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

#[path = "suite/teardown.rs"]
mod suite;
mod support;

use support::index as subject;
