//! Two threads and a packed ring: see the suite.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

#[path = "suite/streams.rs"]
mod suite;
mod support;

use support::packed as subject;

/// Capacities, and how many elements pass through each. Small rings hand over
/// at nearly every element, which costs a context switch where cores are few.
const STREAMS: [(usize, u64); 3] = [(1, 50_000), (3, 100_000), (1000, 1_000_000)];
