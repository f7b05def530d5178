//! Evidence for memenpsf: models, state machines, adversaries and process tests.
//!
//! README.md beside this crate is the claims table: for each property the tool
//! that checks it, what that shows, what it cannot show, the bounds and the
//! command. This library holds what several tests, the fuzzer and the commands
//! share; nothing in it ships.
//!
//! - [`enumerator`]: which outcomes a ring may have under release/acquire,
//!   computed independently of any model checker.
//! - `model`, `element_models`, `index_models`, `packed_models` and `bytes_models`
//!   (model checker's world): the loom models.
//! - `rings`, `wake_models` and `end_models` (the same world): models of what goes on
//!   around any ring.
//! - [`sites`]: the table of orderings, and the mutants that weaken them.
//! - [`litmus`]: small programs around each site, for models with load buffering.
//! - [`cell`]: one defect against one model, in a process of its own; [`kills`]: the
//!   matrix of all.
//! - `adversary`: a memory whose peer changes any word at any access.
//! - `fuzz`: the bodies of the fuzz targets, and for each a fault that it has to find.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "verification: an expectation that does not hold is a failed test"
)]

mod blocks;
pub mod cell;
pub mod enumerator;
pub mod kills;
pub mod litmus;
pub mod sites;

#[cfg(loom)]
pub mod bytes_models;
#[cfg(loom)]
pub mod element_models;
#[cfg(loom)]
pub mod end_models;
#[cfg(loom)]
pub mod index_models;
#[cfg(loom)]
pub mod model;
#[cfg(loom)]
pub mod packed_models;
#[cfg(loom)]
pub mod rings;
#[cfg(loom)]
pub mod wake_models;

#[cfg(not(loom))]
pub mod adversary;
#[cfg(not(loom))]
pub mod fuzz;
#[cfg(not(loom))]
mod random;
