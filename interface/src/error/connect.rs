//! Why no connection was made.

use std::io;
use std::path::PathBuf;

use memenpsf_fdpass::{ReceiveError, SendError};
use memenpsf_ring::LayoutError;
use thiserror::Error;

use super::{HandshakeError, RegionError};

/// Why no connection was made.
///
/// ```
/// use memenpsf::{ConnectError, Interface};
/// use std::os::unix::net::UnixStream;
///
/// let (ours, _theirs) = UnixStream::pair()?;
/// let error = Interface::<u64>::new("odd", 1000, ours, 0).unwrap_err();
/// assert_eq!(error.to_string(), "capacity 1000 is not a power of two of at least 1");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The capacity cannot be one.
    #[error(transparent)]
    Capacity(#[from] LayoutError),
    /// Our own region could not be made.
    #[error("the region could not be made: {0}")]
    Region(#[from] RegionError),
    /// The address cannot be one: empty, longer than 107 bytes, or with a zero
    /// byte in a path.
    #[error("`{}` is no address of a socket: use a path of 1 to 107 bytes, or @ and a name", path.display())]
    Address {
        /// The address.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// No connection to a socket at the address.
    #[error("no connection to `{}`: {source}", path.display())]
    Socket {
        /// The address.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// One of the two sides refused the other, or the peer went away.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The peer did not finish the handshake in time.
    #[error("the peer did not finish the handshake in time")]
    Timeout,
    /// The handshake has not come to its end. No public call returns it.
    #[error("the handshake is not finished")]
    Unfinished,
    /// A frame of the handshake could not be sent.
    #[error("the handshake could not be sent")]
    Send(#[source] SendError),
    /// A frame of the handshake could not be received.
    #[error("the handshake could not be received")]
    Receive(#[source] ReceiveError),
    /// The system could not wait for the socket, or could not say who is at its
    /// other end.
    #[error("the socket could not be used")]
    Wait(#[source] io::Error),
}

/// Why text is no name of an endpoint.
///
/// ```
/// use memenpsf::{Name, error::NameError};
///
/// assert_eq!(Name::new("a\nb"), Err(NameError::Forbidden { offset: 1 }));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum NameError {
    /// More bytes than a hello has room for.
    #[error("the name has {len} bytes, at most {limit} fit")]
    TooLong {
        /// How many bytes the text has.
        len: usize,
        /// How many a name may have.
        limit: usize,
    },
    /// A character that could mislead who reads it on a terminal or in a log.
    #[error("the name has a forbidden character at offset {offset}")]
    Forbidden {
        /// Its offset in bytes.
        offset: usize,
    },
}
