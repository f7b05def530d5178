//! Measures the rings between two threads.

#[cfg(not(loom))]
mod common;
#[cfg(not(loom))]
#[path = "measured/ring.rs"]
mod measured;

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    common::run(measured::ring)
}

#[cfg(loom)]
fn main() {}
