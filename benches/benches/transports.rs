//! Measures one-way streams of messages over every transport.

#[cfg(not(loom))]
mod common;
#[cfg(not(loom))]
#[path = "measured/transports.rs"]
mod measured;

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    common::run(measured::transports)
}

#[cfg(loom)]
fn main() {}
