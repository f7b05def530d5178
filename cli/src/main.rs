//! The `memenpsf` program.

#![deny(unsafe_code)]

#[cfg(not(loom))]
mod command;
#[cfg(not(loom))]
mod demo;
#[cfg(not(loom))]
mod output;

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    command::run()
}

#[cfg(loom)]
fn main() {}
