//! `cargo verify`: runs the evidence for memenpsf layer by layer, and ends with a
//! table of what was checked, how often and with which verdict.
//!
//! - `layers`: the table of layers, which is all that a new check has to join.
//! - `step`: what an entry of the table can say, and the command that it means.
//! - `world`: the builds that must not share a target directory.
//! - `run`: runs a step and judges it; `evidence`: what its output claims.
//! - `report`: the table at the end, as text and as JSON.

#![deny(unsafe_code)]

#[cfg(not(loom))]
mod command_line;
#[cfg(not(loom))]
mod evidence;
#[cfg(not(loom))]
mod layers;
#[cfg(not(loom))]
mod progress;
#[cfg(not(loom))]
mod report;
#[cfg(not(loom))]
mod run;
#[cfg(not(loom))]
mod step;
#[cfg(not(loom))]
mod world;

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    command_line::run()
}

#[cfg(loom)]
fn main() {}
