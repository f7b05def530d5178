//! Why a command that uses a connection ended before its work was done.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed: one line on the standard error says why |
//! | 2 | wrong arguments |
//! | 128 + n | ended by signal n |

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use memenpsf::{AcceptError, BindError, ByteXmitError, ConnectError, RecvError};
use nix::sys::signal::Signal;

/// Why a command ended before its work was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Somebody asked for the end.
    #[error("interrupted by {}", .0.as_str())]
    Interrupted(Signal),
    /// The socket could not be listened at.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No client can be accepted any more.
    #[error(transparent)]
    Accept(#[from] AcceptError),
    /// No connection was made.
    #[error("{}", with_causes(.0))]
    Connect(#[from] ConnectError),
    /// Nobody came.
    #[error("nobody has connected to {} within {} s", path.display(), patience.as_secs())]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// How long they were waited for.
        patience: Duration,
    },
    /// The peer went away in the middle.
    #[error("{what}: {why}")]
    Peer {
        /// What is not done therefore.
        what: &'static str,
        /// What the connection says.
        why: RecvError,
    },
    /// The peer does not keep to what the two programs have agreed upon.
    #[error("the peer is no `memenpsf {0}`: it sent something that was not asked for")]
    Stranger(&'static str),
    /// Messages came back lost, changed, or out of order.
    #[error("{0}")]
    Flawed(String),
    /// A descriptor cannot be used.
    #[error("{what}: {source}")]
    Io {
        /// Which one, and what for.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl Failure {
    /// Says what failed.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// Says what is not done because the peer went away.
    pub(crate) fn peer(what: &'static str) -> impl FnOnce(RecvError) -> Self {
        move |why| Self::Peer { what, why }
    }

    /// The same for a transmission that is neither too long nor in want of room.
    pub(crate) fn transmission(what: &'static str, error: ByteXmitError) -> Self {
        let why = match error {
            ByteXmitError::Closed(departure) => RecvError::Closed(departure),
            ByteXmitError::Violation(violation) => RecvError::Violation(violation),
            other => {
                return Self::Io {
                    what,
                    source: io::Error::other(other),
                };
            }
        };
        Self::Peer { what, why }
    }

    /// Returns the exit code that tells the failure.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            // As shells report a process that died of the signal.
            Self::Interrupted(signal) => u8::try_from(128 + *signal as i32).unwrap_or(1).into(),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Says an error and its causes.
fn with_causes(error: &ConnectError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        // Some say their cause themselves.
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}
