#![cfg_attr(loom, doc = "Empty in the model checker's world.")]
#![cfg(not(any(loom, loom_build)))]

//! The measuring harness: memenpsf beside pipes, sockets and the limits of the
//! machine.
//!
//! Two sides exchange messages that are numbered and checksummed, through one
//! [`Transport`](transport::Transport) or another, by the same code, and every
//! message is checked where it arrives:
//!
//! ```text
//!  Side: Composer ──▶ Transport ═══════════════▶ Transport ──▶ Checker
//!        Checker  ◀── Transport ◀═══════════════ Transport ◀── Composer
//!                        pipe pair, Unix socket, shared memory
//! ```
//!
//! ```
//! use memenpsf_benches::exchange::{Endpoint, Side};
//! use memenpsf_benches::message::Format;
//! use memenpsf_benches::stream;
//!
//! let format = Format::new(64).unwrap();
//! let (here, there) = stream::pipes(format)?;
//! let there = std::thread::spawn(move || Side::new(there, format).stream(1000, 1000, 1));
//! let mut here = Side::new(here, format);
//! here.stream(1000, 1000, 1)?;
//! assert!(here.counts().is_flawless());
//! assert_eq!(here.counts().received, 1000);
//! there.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The program `memenpsf demo` and the benchmarks in `benches/` are built on it.
//! What it measures it reports, and it never judges a time.

#![deny(unsafe_code)]

pub mod checksum;
pub mod exchange;
pub mod kind;
pub mod latency;
#[allow(
    unsafe_code,
    reason = "two sides work on the same mapped memory, and sleep on a futex in it"
)]
pub mod limits;
#[allow(
    unsafe_code,
    reason = "attaches both sides of a ring to two mappings of the same memory"
)]
pub mod mapped;
pub mod message;
pub mod placement;
pub mod raw;
pub mod session;
pub mod shared;
pub mod spin;
pub mod stream;
pub mod transport;
pub mod usage;
