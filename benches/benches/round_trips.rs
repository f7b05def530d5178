//! Measures round trips between two threads.

#[cfg(not(loom))]
mod common;
#[cfg(not(loom))]
#[path = "measured/round_trips.rs"]
mod measured;

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    common::run(measured::round_trips)
}

#[cfg(loom)]
fn main() {}
