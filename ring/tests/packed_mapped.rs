//! The packed ring over mappings that are read-only for the peer: see the suite
//! (`mapped.rs` has the control).

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

#[path = "suite/mapped.rs"]
mod suite;
mod support;

use support::packed as subject;
