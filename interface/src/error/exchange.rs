//! What can go wrong while messages are exchanged.

use std::fmt;
use std::io;

use memenpsf_fdpass::SendError;
use thiserror::Error;

/// How the peer left.
///
/// ```
/// use memenpsf::Departure;
///
/// assert_eq!(Departure::Closed.to_string(), "the peer closed the connection");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Departure {
    /// It said goodbye.
    Closed,
    /// It went without a word: it died, or its last descriptor was closed by
    /// something else than this library.
    Gone,
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the peer closed the connection",
            Self::Gone => "the peer is gone without a goodbye",
        })
    }
}

/// Which rule the peer broke. The connection ends; nothing else is affected.
///
/// ```
/// use memenpsf::Violation;
///
/// assert_eq!(
///     Violation::Descriptors.to_string(),
///     "the peer sent descriptors after the handshake"
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Violation {
    /// It published a position that the ring's rules do not allow.
    #[error(transparent)]
    Ring(#[from] memenpsf_ring::Violation),
    /// It sent something that is no control frame.
    #[error(transparent)]
    Control(#[from] ControlViolation),
    /// It sent descriptors where none are allowed.
    #[error("the peer sent descriptors after the handshake")]
    Descriptors,
}

/// The peer broke a rule of the control frames. The connection ends.
///
/// ```
/// use memenpsf::{ControlViolation, control::Decoder};
///
/// let error = Decoder::new().decode(&mut &b"GET / HT"[..]).unwrap_err();
/// assert_eq!(error, ControlViolation::Marker { found: b'G' });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum ControlViolation {
    /// The first byte of a frame is not the marker.
    #[error("a control frame begins with {found:#04x}")]
    Marker {
        /// The byte.
        found: u8,
    },
    /// A kind of frame that does not exist.
    #[error("there is no control frame of kind {found}")]
    Kind {
        /// The kind.
        found: u8,
    },
    /// A reserved byte is not zero.
    #[error("a reserved byte of a control frame of kind {kind} is {found:#04x}")]
    Reserved {
        /// The kind of frame.
        kind: u8,
        /// The byte.
        found: u8,
    },
    /// A byte came after the peer had said goodbye.
    #[error("a byte came after the goodbye")]
    AfterBye,
    /// The stream ended inside a frame.
    #[error("the stream ended {received} bytes into a control frame")]
    Truncated {
        /// How many bytes of the frame had come.
        received: usize,
    },
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Departed(Departure),
    Violation(Violation),
}

/// Why one message was not transmitted; gives it back.
///
/// ```
/// use memenpsf::XmitError;
///
/// let error = XmitError::Full(7);
/// assert_eq!(error.to_string(), "the ring is full");
/// assert_eq!(error.into_inner(), 7);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
// One place for the message in all variants, as in `memenpsf_ring::PushError`, whose
// reason is this one's.
#[repr(u8)]
pub enum XmitError<T> {
    /// No slot is vacant. The peer makes room by receiving.
    Full(T),
    /// The connection has ended.
    Closed(T, Departure),
    /// The peer broke a rule.
    Violation(T, Violation),
    /// The runtime cannot wait for the socket.
    Wait(T, io::ErrorKind),
}

impl<T> XmitError<T> {
    /// Returns the message that was not transmitted.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(message)
            | Self::Closed(message, _)
            | Self::Violation(message, _)
            | Self::Wait(message, _) => message,
        }
    }

    /// Puts the message to an error of waiting for room.
    #[cfg(feature = "tokio")]
    pub(crate) fn transmit(message: T, error: TransmitError) -> Self {
        match error {
            TransmitError::TooFew { .. } => Self::Full(message),
            TransmitError::Closed(departure) => Self::Closed(message, departure),
            TransmitError::Violation(violation) => Self::Violation(message, violation),
            TransmitError::Wait(kind) => Self::Wait(message, kind),
        }
    }

    /// Makes the error of an ended connection.
    pub(crate) fn ended(message: T, ended: Ended) -> Self {
        match ended {
            Ended::Departed(departure) => Self::Closed(message, departure),
            Ended::Violation(violation) => Self::Violation(message, violation),
        }
    }
}

impl<T> fmt::Display for XmitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the ring is full"),
            Self::Closed(_, departure) => departure.fmt(f),
            Self::Violation(_, violation) => violation.fmt(f),
            Self::Wait(_, kind) => write!(f, "the runtime cannot wait for the socket: {kind}"),
        }
    }
}

impl<T: fmt::Debug> std::error::Error for XmitError<T> {}

/// Why several messages were not transmitted, or why slots were not reserved.
///
/// ```
/// use memenpsf::TransmitError;
///
/// let error = TransmitError::TooFew { wanted: 8, available: 3 };
/// assert_eq!(error.to_string(), "8 slots were asked for and 3 are vacant");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum TransmitError {
    /// Fewer slots than wanted are vacant now. Only a reservation returns it.
    #[error("{wanted} slots were asked for and {available} are vacant")]
    TooFew {
        /// How many were asked for.
        wanted: usize,
        /// How many there are.
        available: usize,
    },
    /// The connection has ended.
    #[error("{0}")]
    Closed(Departure),
    /// The peer broke a rule.
    #[error(transparent)]
    Violation(Violation),
    /// The runtime cannot wait for the socket.
    #[error("the runtime cannot wait for the socket: {0}")]
    Wait(io::ErrorKind),
}

impl<T> From<XmitError<T>> for TransmitError {
    /// Drops the message.
    fn from(error: XmitError<T>) -> Self {
        match error {
            XmitError::Full(_) => Self::TooFew {
                wanted: 1,
                available: 0,
            },
            XmitError::Closed(_, departure) => Self::Closed(departure),
            XmitError::Violation(_, violation) => Self::Violation(violation),
            XmitError::Wait(_, kind) => Self::Wait(kind),
        }
    }
}

impl From<Ended> for TransmitError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Departed(departure) => Self::Closed(departure),
            Ended::Violation(violation) => Self::Violation(violation),
        }
    }
}

/// Why bytes were not transmitted, or room for them not reserved.
///
/// ```
/// use memenpsf::ByteXmitError;
///
/// let error = ByteXmitError::TooLong { length: 2000, longest: 1500 };
/// assert_eq!(
///     error.to_string(),
///     "the message has 2000 bytes, the longest that both sides agreed upon has 1500"
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum ByteXmitError {
    /// The message does not fit now. The peer makes room by receiving.
    #[error("the ring is full")]
    Full,
    /// The message is longer than the longest that this side transmits or the peer
    /// accepts.
    #[error(
        "the message has {length} bytes, the longest that both sides agreed upon has {longest}"
    )]
    TooLong {
        /// Length of the message.
        length: usize,
        /// Length of the longest message.
        longest: usize,
    },
    /// The connection has ended.
    #[error("{0}")]
    Closed(Departure),
    /// The peer broke a rule.
    #[error(transparent)]
    Violation(Violation),
    /// The runtime cannot wait for the socket.
    #[error("the runtime cannot wait for the socket: {0}")]
    Wait(io::ErrorKind),
}

impl From<Ended> for ByteXmitError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Departed(departure) => Self::Closed(departure),
            Ended::Violation(violation) => Self::Violation(violation),
        }
    }
}

/// Why nothing can be received any more.
///
/// ```
/// use memenpsf::{Departure, RecvError};
///
/// let error = RecvError::Closed(Departure::Gone);
/// assert_eq!(error.to_string(), "the peer is gone without a goodbye");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The connection has ended, and all that the peer had committed before has
    /// been received.
    #[error("{0}")]
    Closed(Departure),
    /// The peer broke a rule.
    #[error(transparent)]
    Violation(Violation),
    /// The runtime cannot wait for the socket.
    #[error("the runtime cannot wait for the socket: {0}")]
    Wait(io::ErrorKind),
}

impl From<Ended> for RecvError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Departed(departure) => Self::Closed(departure),
            Ended::Violation(violation) => Self::Violation(violation),
        }
    }
}

/// Why a control message could not be sent or received.
///
/// ```
/// use memenpsf::ControlError;
///
/// assert_eq!(ControlError::Full.to_string(), "the socket's buffer is full");
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The socket takes nothing now. The peer makes room by receiving.
    #[error("the socket's buffer is full")]
    Full,
    /// The connection has ended.
    #[error("{0}")]
    Closed(Departure),
    /// The peer broke a rule.
    #[error(transparent)]
    Violation(Violation),
    /// The system refused to send.
    #[error("a control message could not be sent")]
    Io(#[source] SendError),
}

impl From<Ended> for ControlError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Departed(departure) => Self::Closed(departure),
            Ended::Violation(violation) => Self::Violation(violation),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn a_message_lies_at_one_place_in_every_transmit_error() {
        fn check<T: Copy>(message: T) {
            let violation = Violation::Ring(memenpsf_ring::Violation::Head {
                head: 1,
                previous: 0,
                tail: 0,
            });
            let errors = [
                XmitError::Full(message),
                XmitError::Closed(message, Departure::Gone),
                XmitError::Violation(message, violation),
                XmitError::Wait(message, io::ErrorKind::Other),
            ];
            let offsets = errors.each_ref().map(|error| {
                let (XmitError::Full(message)
                | XmitError::Closed(message, _)
                | XmitError::Violation(message, _)
                | XmitError::Wait(message, _)) = error;
                ptr::from_ref(message).addr() - ptr::from_ref(error).addr()
            });
            assert!(
                offsets.iter().all(|&offset| offset == offsets[0]),
                "{offsets:?}"
            );
        }
        check(0_u8);
        check([0_u8; 57]);
        check(0_u32);
        check([0_u64; 9]);
        check(0_u128);
    }
}
