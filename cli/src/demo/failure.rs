//! Why a demo ended before its report.

use std::io;
use std::process::ExitCode;

use nix::sys::signal::Signal;

/// Why a demo ended before its report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Somebody asked for the end.
    #[error("interrupted by {}", .0.as_str())]
    Interrupted(Signal),
    /// A child was killed.
    #[error("{who} was killed by {signal}")]
    Killed {
        /// Name and process number of the child.
        who: String,
        /// What killed it.
        signal: String,
    },
    /// A child ended by itself.
    #[error("{who} ended unexpectedly with {status}")]
    Ended {
        /// Name and process number of the child.
        who: String,
        /// How it ended.
        status: String,
    },
    /// A child says that it failed.
    #[error("{who}: {what}")]
    Reported {
        /// Name and process number of the child.
        who: String,
        /// What it says.
        what: String,
    },
    /// A child does not answer.
    #[error("{who} has not answered for {seconds} s")]
    Silent {
        /// Name and process number of the child.
        who: String,
        /// For how long.
        seconds: u64,
    },
    /// The cores cannot be asked for.
    #[error("cannot find out which cores may be used: {0}")]
    Cores(#[source] io::Error),
    /// A child could not be started.
    #[error("cannot start a process: {0}")]
    Start(#[source] io::Error),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
    /// The report cannot be written.
    #[error("cannot write to the standard output: {0}")]
    Output(#[source] io::Error),
    /// The demo and its children do not understand each other.
    #[error("a child of the demo said something else than it was asked for")]
    Protocol,
}

impl Failure {
    /// Returns the exit code that tells the failure.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            // As shells report a process that died of the signal.
            Self::Interrupted(signal) => u8::try_from(128 + *signal as i32).unwrap_or(1).into(),
            _ => ExitCode::FAILURE,
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(_: serde_json::Error) -> Self {
        Self::Protocol
    }
}
