//! Shared-memory IPC for two processes on one Linux host.
#![cfg(not(any(loom, loom_build)))]
#![deny(unsafe_code)]

mod address;
mod connection;
pub mod control;
pub mod error;
mod establish;
pub mod frame;
pub mod handshake;
mod interface;
pub mod layout;
pub mod options;
mod pace;
mod receiver;
#[allow(
    unsafe_code,
    reason = "the only place that turns a descriptor into a pointer"
)]
pub mod region;
mod stats;
mod transmitter;
mod wait;

pub use connection::Peer;
pub use error::{
    ConnectError, ControlError, ControlViolation, Departure, HandshakeError, Mismatch, Reason,
    RecvError, Refusal, RegionError, TransmitError, Violation, XmitError,
};
pub use frame::{Name, Role};
pub use interface::{Interest, Interface, Readiness};
pub use memenpsf_fdpass::Credentials;
pub use memenpsf_ring::Plain;
pub use options::Options;
pub use receiver::Receiver;
pub use stats::{Indices, Stats};
pub use transmitter::{Reservation, Transmitter};
pub use wait::Waiting;
