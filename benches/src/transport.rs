//! What carries messages, behind one small trait.

use std::io;

use memenpsf::{ByteXmitError, ConnectError, RecvError, TransmitError};
use serde::{Deserialize, Serialize};

/// One end of a two-way transport for messages of one length.
///
/// Messages lie in buffers of words, [`stride`](Self::stride) words from the
/// start of one to the start of the next. No call waits, unless
/// [`Waiting::Block`] was chosen.
pub trait Transport: Send {
    /// Returns how many words apart messages lie in buffers.
    fn stride(&self) -> usize;

    /// Sends as many messages from the front of `messages` as are taken now, and
    /// returns how many they were. The next call is to begin with the first one
    /// that was not taken: a part of it may be on its way already.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    fn send(&mut self, messages: &[u64]) -> Result<usize, TransportError>;

    /// Receives the messages that are there now, at most `max`, and returns how
    /// many they were.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    fn receive(&mut self, max: usize) -> Result<usize, TransportError>;

    /// Returns the messages of the last [`receive`](Self::receive).
    fn received(&self) -> &[u64];

    /// Waits a moment, until something may have arrived or, if `to_send`, until
    /// something may be taken.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    fn idle(&mut self, to_send: bool) -> Result<(), TransportError>;

    /// Returns how many system calls it has made to send, receive and wait, as far
    /// as it can count them.
    fn calls(&self) -> u64;

    /// Chooses how to wait. A transport without the choice keeps its own way.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    fn set_waiting(&mut self, waiting: Waiting) -> Result<(), TransportError>;
}

/// How a side waits for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Waiting {
    /// It asks again and again, with [`Backoff`](crate::spin::Backoff).
    Spin,
    /// It sleeps in `poll` until there is something to read or room to write.
    Poll,
    /// It sleeps in `read` or `write`: only where one side at a time has something
    /// to say.
    Block,
}

/// What can go wrong with a transport.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The other side has closed its end, or died.
    #[error("the peer is gone")]
    Closed,
    /// The system said no.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A connection over shared memory could not be made.
    #[error("no connection over shared memory: {0}")]
    Connect(#[from] ConnectError),
    /// Sending over shared memory failed.
    #[error("sending over shared memory: {0}")]
    Transmit(TransmitError),
    /// Sending a message of any length over shared memory failed.
    #[error("sending over shared memory: {0}")]
    TransmitBytes(ByteXmitError),
    /// Receiving over shared memory failed.
    #[error("receiving over shared memory: {0}")]
    Receive(RecvError),
}

impl TransportError {
    /// Tells whether it only says that the other side is gone.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// Wraps what the system said; a peer that is gone has many names there.
    pub(crate) fn io(doing: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io { doing, source },
        }
    }
}

impl From<TransmitError> for TransportError {
    fn from(error: TransmitError) -> Self {
        match error {
            TransmitError::Closed(_) => Self::Closed,
            error => Self::Transmit(error),
        }
    }
}

impl From<RecvError> for TransportError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Closed(_) => Self::Closed,
            error => Self::Receive(error),
        }
    }
}
