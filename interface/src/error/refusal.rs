//! How a handshake ends without a connection.

use std::fmt;

use thiserror::Error;

use super::mismatch::Field;
use super::{Mismatch, RegionError};
use crate::frame;

/// Why a side ends a handshake.
///
/// It travels in a refusal as a code and two numbers.
///
/// ```
/// use memenpsf::Reason;
///
/// assert_eq!(Reason::Busy { limit: 64 }.to_string(), "all 64 places for clients are taken");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Reason {
    /// A field is not what it has to be.
    #[error(transparent)]
    Mismatch(Mismatch),
    /// A frame came when it was not the peer's turn.
    #[error("a frame came out of turn")]
    OutOfTurn,
    /// The server has as many clients as it takes.
    #[error("all {limit} places for clients are taken")]
    Busy {
        /// How many it takes.
        limit: u64,
    },
    /// The server has as many unfinished handshakes as it takes.
    #[error("all {limit} places for unfinished handshakes are taken")]
    HalfOpen {
        /// How many it takes.
        limit: u64,
    },
    /// The server's policy refuses this peer.
    #[error("not permitted")]
    NotPermitted,
    /// The region is longer than the other side maps.
    #[error("the region needs {needed} bytes, the limit is {limit}")]
    Memory {
        /// How much is needed.
        needed: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// The handshake took too long.
    #[error("the handshake took too long")]
    Deadline,
    /// Another client has this name.
    #[error("the name is in use")]
    NameInUse,
    /// The server is about to end.
    #[error("shutting down")]
    ShuttingDown,
    /// The region behind the descriptor was not accepted, or could not be made;
    /// the words of the refusal say why.
    #[error("the region was not accepted")]
    Region,
    /// A reason that this version does not know, or one of the application's:
    /// those begin at [`Reason::APPLICATION`].
    #[error("reason {code} ({found}, {expected})")]
    Other {
        /// The code.
        code: u32,
        /// The first number.
        found: u64,
        /// The second number.
        expected: u64,
    },
}

impl Reason {
    /// The first code that the project itself never uses.
    pub const APPLICATION: u32 = 0x1_0000;

    /// Returns the code and the two numbers that stand for the reason.
    ///
    /// ```
    /// use memenpsf::Reason;
    ///
    /// let reason = Reason::Memory { needed: 8192, limit: 4096 };
    /// let (code, found, expected) = reason.to_parts();
    /// assert_eq!(Reason::from_parts(code, found, expected), reason);
    /// ```
    pub const fn to_parts(self) -> (u32, u64, u64) {
        match self {
            Self::Mismatch(Mismatch {
                field,
                found,
                expected,
            }) => (field as u32, found, expected),
            Self::OutOfTurn => (64, 0, 0),
            Self::Busy { limit } => (65, 0, limit),
            Self::HalfOpen { limit } => (66, 0, limit),
            Self::NotPermitted => (67, 0, 0),
            Self::Memory { needed, limit } => (68, needed, limit),
            Self::Deadline => (69, 0, 0),
            Self::NameInUse => (70, 0, 0),
            Self::ShuttingDown => (71, 0, 0),
            Self::Region => (72, 0, 0),
            Self::Other {
                code,
                found,
                expected,
            } => (code, found, expected),
        }
    }

    /// Returns the reason that a code and two numbers stand for: any code stands
    /// for one.
    pub fn from_parts(code: u32, found: u64, expected: u64) -> Self {
        match code {
            64 => Self::OutOfTurn,
            65 => Self::Busy { limit: expected },
            66 => Self::HalfOpen { limit: expected },
            67 => Self::NotPermitted,
            68 => Self::Memory {
                needed: found,
                limit: expected,
            },
            69 => Self::Deadline,
            70 => Self::NameInUse,
            71 => Self::ShuttingDown,
            72 => Self::Region,
            _ => match Field::from_code(code) {
                Some(field) => Self::Mismatch(Mismatch {
                    field,
                    found,
                    expected,
                }),
                None => Self::Other {
                    code,
                    found,
                    expected,
                },
            },
        }
    }
}

impl From<Mismatch> for Reason {
    fn from(mismatch: Mismatch) -> Self {
        Self::Mismatch(mismatch)
    }
}

/// A reason, and the words that go with it.
///
/// The words of a refusal that came from the peer are the peer's: they are
/// shown, never acted upon, and have no character that could deceive a
/// terminal.
///
/// ```
/// use memenpsf::{Reason, Refusal};
///
/// let plain = Refusal::from(Reason::ShuttingDown);
/// assert_eq!(plain.to_string(), "shutting down");
///
/// let told = Refusal::with_words(Reason::NotPermitted, "uid 1000 only\u{7}");
/// assert_eq!(told.to_string(), "not permitted: uid 1000 only\u{fffd}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    reason: Reason,
    words: String,
}

impl Refusal {
    /// Returns a refusal with words beyond those of the reason itself. Cut to
    /// what a frame has room for; characters that could mislead who reads them
    /// become U+FFFD.
    pub fn with_words(reason: Reason, words: &str) -> Self {
        Self {
            reason,
            words: frame::tame(words, frame::WORDS_LIMIT),
        }
    }

    /// Returns why.
    ///
    /// ```
    /// use memenpsf::{Reason, Refusal};
    ///
    /// assert_eq!(Refusal::from(Reason::Deadline).reason(), Reason::Deadline);
    /// ```
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns the words.
    ///
    /// ```
    /// use memenpsf::{Reason, Refusal};
    ///
    /// assert_eq!(Refusal::from(Reason::NameInUse).words(), "the name is in use");
    /// ```
    pub fn words(&self) -> &str {
        &self.words
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.to_string();
        f.write_str(&reason)?;
        if !self.words.is_empty() && self.words != reason {
            write!(f, ": {}", self.words)?;
        }
        Ok(())
    }
}

impl<R: Into<Reason>> From<R> for Refusal {
    fn from(reason: R) -> Self {
        let reason = reason.into();
        Self::with_words(reason, &reason.to_string())
    }
}

impl From<&RegionError> for Refusal {
    fn from(error: &RegionError) -> Self {
        match error {
            RegionError::TooLarge { needed, limit } => Reason::Memory {
                needed: *needed,
                limit: *limit,
            }
            .into(),
            // The peer needs the cause, which the error's own words leave to
            // `source`.
            RegionError::Header(mismatch) => {
                Self::with_words(Reason::Region, &format!("{error}: {mismatch}"))
            }
            _ => Self::with_words(Reason::Region, &error.to_string()),
        }
    }
}

/// Why a handshake did not succeed.
///
/// ```
/// use memenpsf::{HandshakeError, Reason};
///
/// let error = HandshakeError::Refused(Reason::NameInUse.into());
/// assert_eq!(error.to_string(), "the peer refused: the name is in use");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// This side refused the peer, and told it so where that was possible.
    #[error("the peer was refused: {0}")]
    Refusing(Refusal),
    /// The peer refused this side.
    #[error("the peer refused: {0}")]
    Refused(Refusal),
    /// The peer went away.
    #[error("the peer closed the connection during the handshake, {received} bytes into a frame")]
    Closed {
        /// How many bytes of an unfinished frame had come.
        received: usize,
    },
}
