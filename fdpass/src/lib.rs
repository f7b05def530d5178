// Under loom, `cargo test` builds the whole workspace; nothing here is modelled.
#![cfg_attr(loom, doc = "Empty in the model checker's world.")]
#![cfg(not(any(loom, loom_build)))]

//! Bytes and file descriptors over Unix stream sockets, with owned descriptors
//! and strict truncation checks.
//!
//! What it is: a small layer over `sendmsg` and `recvmsg` with `SCM_RIGHTS`, for
//! the beginning of a connection between two processes on one Linux host, when a
//! few bytes and a few descriptors change hands and the peer may be hostile.
//!
//! ```text
//!   process A                                            process B
//!   send_all(bytes, [memfd])  ── Unix stream socket ──▶  receive_exact(buf, 1)
//!                                bytes + SCM_RIGHTS       buf filled, 1 OwnedFd,
//!                                                         CLOEXEC, or an error
//!                                                         and nothing left open
//! ```
//!
//! What it is not: a protocol (the bytes mean nothing to it), a framing (a stream
//! has no message boundaries; the two sides agree on lengths), or a transport for
//! datagram sockets.
//!
//! # Guarantees
//!
//! - Descriptors are [`OwnedFd`](std::os::fd::OwnedFd) and
//!   [`BorrowedFd`](std::os::fd::BorrowedFd) in every signature.
//! - A received descriptor has close-on-exec from its first instant
//!   (`MSG_CMSG_CLOEXEC`) and an owner before anything else is looked at. Each
//!   error closes every descriptor that came with it.
//! - The control buffer always takes the 253 descriptors that one message can
//!   carry. If the kernel still drops one (no free descriptor number), the result
//!   is [`ReceiveError::Truncated`], never a shorter list.
//! - More or fewer descriptors than the caller expects are
//!   [`ReceiveError::DescriptorCount`].
//! - A partial send never repeats a descriptor.
//! - A waiting call takes a [`Deadline`]. Each system call is made with
//!   `MSG_DONTWAIT`, so the deadline holds on a blocking socket and on a
//!   non-blocking one, and `EINTR` neither ends nor lengthens the wait.
//! - No call raises `SIGPIPE` and none panics.
//!
//! # Non-guarantees
//!
//! A descriptor that a peer sends may be of any kind. To close it may take time
//! that the peer decides (a socket with `SO_LINGER`, a file of a FUSE mount), and
//! no deadline bounds that. Where descriptors are not wanted, do not let them in:
//! [`receive_bytes`] and [`refuse_descriptors`].
//!
//! # Examples
//!
//! ```
//! use std::io::{Read, Write};
//! use std::os::fd::AsFd;
//! use std::os::unix::net::UnixStream;
//! use std::time::Duration;
//! use memenpsf_fdpass::{Deadline, receive_exact, send_all};
//!
//! let (ours, theirs) = UnixStream::pair()?;
//! let (reader, mut writer) = std::io::pipe()?;
//! let deadline = Deadline::after(Duration::from_secs(5));
//!
//! send_all(&ours, b"hello", &[reader.as_fd()], deadline)?;
//!
//! let mut hello = [0; 5];
//! let mut fds = receive_exact(&theirs, &mut hello, 1, deadline)?;
//! assert_eq!(&hello, b"hello");
//! assert_eq!(fds.len(), 1);
//!
//! // The descriptor that arrived is the read end of the same pipe.
//! writer.write_all(b"x")?;
//! let mut x = [0; 1];
//! std::fs::File::from(fds.remove(0)).read_exact(&mut x)?;
//! assert_eq!(&x, b"x");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod credentials;
mod deadline;
mod error;
mod receive;
mod send;
#[doc(hidden)]
pub mod sys;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use credentials::{Credentials, peer_credentials, refuse_descriptors};
pub use deadline::Deadline;
pub use error::{ReceiveError, SendError};
pub use receive::{
    Received, receive, receive_bytes, receive_bytes_exact, receive_exact, recv_fd, try_receive,
    try_receive_bytes,
};
pub use send::{MAX_DESCRIPTORS, send_all, send_fd, try_send};
