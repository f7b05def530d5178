//! Why a server could not be made, or cannot go on.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::ConnectError;

/// Why a server was not made.
///
/// ```
/// use memenpsf::{BindError, Server};
///
/// let _first = Server::<u64>::bind("@memenpsf-doc-in-use")?;
/// let error = Server::<u64>::bind("@memenpsf-doc-in-use").unwrap_err();
/// assert!(matches!(error, BindError::AddressInUse { .. }));
/// assert_eq!(error.to_string(), "another server is at `@memenpsf-doc-in-use`");
/// # Ok::<(), BindError>(())
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// No connection could be made with the options: the name, the capacity, or
    /// the region that follows from it.
    #[error(transparent)]
    Options(ConnectError),
    /// The address cannot be one: empty, longer than 107 bytes, or with a zero
    /// byte in a path.
    #[error("`{}` is no address of a socket: use a path of 1 to 107 bytes, or @ and a name", path.display())]
    Address {
        /// The address.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Somebody listens there, or may: a socket that this user may not connect to
    /// counts as one.
    #[error("another server is at `{}`", path.display())]
    AddressInUse {
        /// The address.
        path: PathBuf,
    },
    /// Something else than a socket is there. It stays.
    #[error("`{}` is there and is no socket", path.display())]
    NotASocket {
        /// The address.
        path: PathBuf,
    },
    /// The socket file of a dead server is there, and another process holds the
    /// lock of its directory, or nobody may have it: removing the file could remove
    /// that of a server that is just being made.
    #[error("the socket file of a dead server at `{}` cannot be removed while its directory is locked", path.display())]
    Locked {
        /// The address.
        path: PathBuf,
    },
    /// The kernel refused a step: the directory is missing or not writable, for
    /// example.
    #[error("no server at `{}`: {source}", path.display())]
    Socket {
        /// The address.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What was given is no listening socket.
    #[error("the socket does not listen")]
    NotListening,
    /// The system refused what a server needs beside its socket: an epoll set and
    /// a timer.
    #[error("the server's event set could not be made: {0}")]
    System(#[source] io::Error),
}

/// Why a server cannot go on.
///
/// What a single client does never is a reason, nor is a shortage that may pass,
/// such as one of descriptors.
///
/// ```
/// use memenpsf::AcceptError;
///
/// let error = AcceptError::Listener(std::io::ErrorKind::InvalidInput.into());
/// assert_eq!(error.to_string(), "the listener takes no connections: invalid input parameter");
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The listener takes no connections, as after a `shutdown` of its socket.
    #[error("the listener takes no connections: {0}")]
    Listener(#[source] io::Error),
    /// The system cannot wait.
    #[error("the server's event set could not be used: {0}")]
    Wait(#[source] io::Error),
}
