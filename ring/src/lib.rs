// Before the crate's docs: an attribute of a crate that is configured away stays
// where it is, and the docs with it.
#![cfg(not(all(doctest, loom_build)))]

//! Lock-free single-producer single-consumer (SPSC) rings, on the heap or over
//! memory that two processes share.
//!
//! One side pushes, the other pops, and neither ever waits for the other. A ring
//! is two blocks of memory, each written by one side only, so it also works
//! between two processes that each map the other's block read-only:
//!
//! ```text
//!  Producer ── writes ──▶ tail, slots ── reads ──▶ Consumer
//!  Producer ◀── reads ──── head ◀── writes ─────── Consumer
//! ```
//!
//! ```
//! use memenpsf_ring::index;
//!
//! let (mut producer, mut consumer) = index::ring(1024)?;
//! let pushing = std::thread::spawn(move || {
//!     for n in 0..10_000_u64 {
//!         while producer.push(n).is_err() {
//!             std::thread::yield_now();
//!         }
//!     }
//! });
//! for expected in 0..10_000 {
//!     let n = loop {
//!         match consumer.pop() {
//!             Ok(n) => break n,
//!             Err(_) => std::thread::yield_now(),
//!         }
//!     };
//!     assert_eq!(n, expected);
//! }
//! pushing.join().unwrap();
//! # Ok::<(), memenpsf_ring::LayoutError>(())
//! ```
//!
//! What it is not: it has no I/O, makes no system calls, never blocks, and knows
//! no processes. The crate `memenpsf` builds connections on it.
//!
//! # Modules
//!
//! - [`index`]: the index ring, the default for bulk.
//! - [`packed`]: the packed ring, of the lowest latency, for small elements.
//! - [`bytes`]: the bytes ring, for messages of variable length.
//! - [`memory`]: the door to shared words and slots, and the two memories that
//!   ship: [`memory::Heap`] and [`memory::Split`].
//! - [`wake`]: the words and barriers by which a side that sleeps is woken.
//! - [`ordering`]: the pairing table of all memory orderings.
//!
//! # What holds under a hostile peer
//!
//! A peer's position is loaded once, checked, and only then used. A false one
//! ends in [`Violation`], and never in a panic, an access out of bounds, or an
//! unbounded loop. What the peer's elements contain is the peer's business:
//! elements in a region are [`Plain`], so that every pattern is a value.

#![cfg_attr(not(loom), no_std)]

extern crate alloc;

pub mod bytes;
mod copy;
mod error;
#[cfg(not(all(feature = "fail-points", not(loom))))]
mod fail_point;
#[cfg(all(feature = "fail-points", not(loom)))]
#[doc(hidden)]
pub mod fail_point;
pub mod index;
pub mod memory;
pub mod ordering;
pub mod packed;
mod plain;
mod position;
mod primitive;
pub mod wake;

pub use error::{ChunkError, LayoutError, PopError, PushError, RecordError, Violation};
pub use index::{ReadChunk, WriteChunk};
pub use plain::Plain;
