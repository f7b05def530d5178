// Before the crate's docs: an attribute of a crate that is configured away stays
// where it is, and the docs with it.
#![cfg_attr(loom, doc = "Empty in the model checker's world.")]
#![cfg(not(any(loom, loom_build)))]

//! Shared-memory IPC for two processes on one Linux host.
//!
//! An [`Interface`] is one endpoint of a two-way connection. Messages are plain data
//! of one type, or bytes of any length up to a maximum ([`ByteInterface`]); each
//! direction is a lock-free ring in memory that its sender alone can write; a Unix
//! socket carries the handshake, wake-ups, small control messages and the news that
//! the peer is gone.
//!
//! ```
//! use memenpsf::{Departure, Interface, Options, RecvError, Server};
//!
//! let folder = std::env::temp_dir().join(format!("memenpsf-doc-{}", std::process::id()));
//! std::fs::create_dir(&folder)?;
//! let path = folder.join("socket");
//!
//! let mut server = Server::<u64>::bind(&path)?;
//! let client = std::thread::spawn(move || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
//!     let mut client = Interface::<u64>::connect_with(path, &Options::new().name("client"))?;
//!     client.xmit(20)?;
//!     Ok(client.recv_timeout(None)?)
//! });
//!
//! let mut peer = server.accept()?;
//! assert_eq!(peer.peer().name(), "client");
//! let question = peer.recv_timeout(None)?.unwrap();
//! peer.xmit(question + 1)?;
//! assert_eq!(client.join().unwrap().unwrap(), Some(21));
//! assert_eq!(peer.recv_timeout(None), Err(RecvError::Closed(Departure::Closed)));
//! # drop(server);
//! # std::fs::remove_dir(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The calls
//!
//! | to | at once | waiting | asynchronous (feature `tokio`) | in an event loop |
//! |---|---|---|---|---|
//! | transmit | [`xmit`], [`xmit_vectored`], [`reserve`] | [`xmit_timeout`] | `xmit_async`, `Sink` | [`ready`], `AsFd` |
//! | receive | [`recv`], [`recv_vectored`], [`recv_into`] | [`recv_timeout`] | `recv_async`, `Stream` | [`ready`], `AsFd` |
//! | connect | | [`Interface::connect`] | `connect_async` | |
//! | serve | [`Server::try_accept`] | [`Server::accept`] | `accept_async` | [`Server::poll`], `AsFd` |
//! | pump channels | | [`Interface::run`] | | |
//!
//! A [`ByteInterface`] has the same calls with `&[u8]` and `Vec<u8>`, but for `Sink`
//! and the pump.
//!
//! # Threads
//!
//! An [`Interface`] may move between threads; [`Interface::split`] gives one half
//! each to two of them. No call starts a thread, but for [`Interface::run`], which
//! has one for each direction.
//!
//! # Trust
//!
//! The peer may be hostile. It can send garbage, stop, die, and write anything into
//! its own region at any time: this ends its connection with an error, and has no
//! other effect. It cannot write to this process's region. What the payload means
//! is for the receiver to check.
//!
//! [`xmit`]: Interface::xmit
//! [`xmit_vectored`]: Interface::xmit_vectored
//! [`xmit_timeout`]: Interface::xmit_timeout
//! [`reserve`]: Interface::reserve
//! [`recv`]: Interface::recv
//! [`recv_vectored`]: Interface::recv_vectored
//! [`recv_into`]: Interface::recv_into
//! [`recv_timeout`]: Interface::recv_timeout
//! [`ready`]: Interface::ready
#![deny(unsafe_code)]

mod address;
mod connection;
pub mod control;
pub mod error;
mod establish;
#[cfg(feature = "fail-points")]
#[doc(hidden)]
pub mod fail_point;
#[cfg(not(feature = "fail-points"))]
mod fail_point;
pub mod frame;
pub mod handshake;
mod interface;
pub mod layout;
#[allow(
    unsafe_code,
    reason = "attaches rings to memory that was mapped as their layout says"
)]
mod message;
pub mod options;
mod pace;
mod receiver;
#[allow(
    unsafe_code,
    reason = "the only place that turns a descriptor into a pointer"
)]
pub mod region;
mod run;
mod server;
mod stats;
#[cfg(feature = "tokio")]
pub mod tokio;
mod transmitter;
mod wait;

pub use connection::Peer;
pub use error::{
    AcceptError, BindError, ByteXmitError, ConnectError, ControlError, ControlViolation, Departure,
    HandshakeError, Mismatch, Reason, RecvError, Refusal, RegionError, TransmitError, Violation,
    XmitError,
};
pub use frame::{Name, Role};
pub use interface::{ByteInterface, Interest, Interface, Readiness};
pub use memenpsf_fdpass::Credentials;
pub use memenpsf_ring::Plain;
pub use message::Message;
pub use options::Options;
pub use receiver::{ByteReceiver, Receiver};
pub use run::{Finished, RunEnd};
pub use server::{ClientId, Event, Incoming, PeerInfo, Server, ServerOptions, ServerStats};
pub use stats::{Indices, Stats};
pub use transmitter::{ByteReservation, ByteTransmitter, Reservation, Transmitter};
pub use wait::Waiting;
