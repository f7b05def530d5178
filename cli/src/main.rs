//! The `memenpsf` program.

#![deny(unsafe_code)]

#[cfg(not(loom))]
mod bench;
#[cfg(not(loom))]
mod command;
#[cfg(not(loom))]
mod demo;
#[cfg(not(loom))]
mod echo;
#[cfg(not(loom))]
mod failure;
#[cfg(not(loom))]
mod manual;
#[cfg(not(loom))]
mod output;
#[cfg(not(loom))]
mod signals;
#[cfg(not(loom))]
mod stream;

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    command::run()
}

#[cfg(loom)]
fn main() {}
