//! The pump: moves messages between an interface and two crossbeam channels.
//!
//! ```text
//!   from ──▶ transmitter ══ ring ══▶ peer
//!   to   ◀── receiver    ◀═ ring ═══ peer
//! ```
//!
//! Each direction has a thread, so that one that waits for room, in a ring or in a
//! channel, does not hold up the other. Both sleep while there is nothing to do.
//!
//! # Invariants
//!
//! - R1: a message leaves its source only to be given to its target; one that the
//!   target no longer takes is part of the result.
//! - R2: whichever direction ends, the other one ends too: the channel is given up,
//!   and the connection interrupted, which wakes who waits for it.
//! - R3: the inbound direction delivers what the peer had committed before it ends.

use std::convert::Infallible;
use std::fmt;
use std::os::unix::net::UnixStream;

use crossbeam_channel::{Receiver, SendError, Sender, bounded, select};
use memenpsf_ring::Plain;

use crate::error::{ConnectError, Departure, RecvError, Violation, XmitError};
use crate::frame::Role;
use crate::interface::Interface;
use crate::receiver;
use crate::stats::Indices;
use crate::transmitter::Transmitter;

/// Why the pump ended.
///
/// ```
/// assert_eq!(memenpsf::RunEnd::NothingMore.to_string(), "nothing more to transmit");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunEnd {
    /// The channel of messages to transmit is closed and drained.
    NothingMore,
    /// Nobody takes received messages any more.
    NobodyReceives,
    /// The peer ended the connection, or died.
    Departed(Departure),
    /// The peer broke a rule.
    Violation(Violation),
}

impl fmt::Display for RunEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingMore => f.write_str("nothing more to transmit"),
            Self::NobodyReceives => f.write_str("nobody takes received messages"),
            Self::Departed(departure) => departure.fmt(f),
            Self::Violation(violation) => violation.fmt(f),
        }
    }
}

/// What the pump did, why it ended, and what it still held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finished<T> {
    /// Why it ended: the first cause.
    pub end: RunEnd,
    /// A message that was taken from the channel and could not be transmitted.
    pub untransmitted: Option<T>,
    /// A message that was received and that nobody took.
    pub undelivered: Option<T>,
    /// How many messages were transmitted and received.
    pub indices: Indices,
}

/// How one direction ended, and the message that it held.
type Ending<T> = (RunEnd, Option<T>);

impl<T: Plain> Interface<T> {
    /// Makes a connection over `stream` and pumps: transmits what comes from
    /// `recvr`, gives what is received to `sender`, until either end closes.
    ///
    /// See [`pump`](Self::pump); `name`, `cap`, `stream` and `role` are those of
    /// [`new`](Self::new).
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when there is no connection.
    ///
    /// ```
    /// use memenpsf::{Interface, RunEnd};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let (questions, asked) = crossbeam_channel::bounded(4);
    /// let (answer, answers) = crossbeam_channel::bounded(4);
    /// let client = std::thread::spawn(move || {
    ///     Interface::<u64>::run("client", 8, 0, theirs, asked, answer)
    /// });
    /// let mut server = Interface::<u64>::new("server", 8, ours, 1)?;
    ///
    /// questions.send(7)?;
    /// let question = server.recv_timeout(None)?.unwrap();
    /// server.xmit(question + 1)?;
    /// assert_eq!(answers.recv()?, 8);
    /// drop(questions);
    /// assert_eq!(client.join().unwrap()?.end, RunEnd::NothingMore);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run(
        name: &str,
        cap: usize,
        role: impl Into<Role>,
        stream: UnixStream,
        recvr: Receiver<T>,
        sender: Sender<T>,
    ) -> Result<Finished<T>, ConnectError> {
        Ok(Self::new(name, cap, stream, role)?.pump(recvr, sender))
    }

    /// Transmits what comes from `from` and gives what is received to `to`, until
    /// the peer ends the connection, every sender of `from` is gone and it is
    /// drained, or every receiver of `to` is gone.
    ///
    /// Sleeps while idle. A full ring and a full channel hold their source back,
    /// and nothing is lost: a message that could not be passed on is part of the
    /// result, those behind it stay in `from` (keep a clone to get at them). What
    /// the peer had committed before the end is delivered first. The connection
    /// is closed when the call returns.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the other ends of the channels see the pump's end"
    )]
    pub fn pump(self, from: Receiver<T>, to: Sender<T>) -> Finished<T> {
        let (mut transmitter, mut receiver) = self.split();
        // Nothing is ever sent: its end is the signal.
        let (go_on, stop) = bounded::<Infallible>(0);
        let (outbound, inbound) = std::thread::scope(|scope| {
            let outbound = scope.spawn(|| {
                let ending = transmit_all(&mut transmitter, &from, &stop);
                transmitter.connection().interrupt();
                ending
            });
            let inbound = receive_all(&mut receiver, &to);
            receiver.connection().interrupt();
            drop(go_on);
            // The thread has no code of the caller's to panic in.
            (outbound.join().ok().flatten(), inbound)
        });
        let indices = Indices {
            write: transmitter.position(),
            read: receiver.position(),
        };
        // An outbound end is a cause of its own; without one, the inbound end
        // came first and stopped the outbound direction.
        let (inbound_end, undelivered) = inbound;
        let (end, untransmitted) = outbound.unwrap_or((inbound_end, None));
        let end = match (end, inbound_end) {
            // Interrupted by the inbound direction: that knows why.
            (RunEnd::Departed(_), inbound) => inbound,
            (end, _) => end,
        };
        Finished {
            end,
            untransmitted,
            undelivered,
            indices,
        }
    }
}

/// Transmits until the channel or the connection ends; `None` when stopped.
fn transmit_all<T: Plain>(
    transmitter: &mut Transmitter<T>,
    from: &Receiver<T>,
    stop: &Receiver<Infallible>,
) -> Option<Ending<T>> {
    loop {
        let message = select! {
            recv(from) -> message => message,
            recv(stop) -> _ => return None,
        };
        let Ok(message) = message else {
            return Some((RunEnd::NothingMore, None));
        };
        match transmitter.xmit_timeout(message, None) {
            Ok(()) => {}
            Err(XmitError::Violation(message, violation)) => {
                return Some((RunEnd::Violation(violation), Some(message)));
            }
            Err(XmitError::Closed(message, departure)) => {
                return Some((RunEnd::Departed(departure), Some(message)));
            }
            Err(error) => {
                return Some((RunEnd::Departed(Departure::Gone), Some(error.into_inner())));
            }
        }
    }
}

/// Receives until the connection or the channel ends.
fn receive_all<T: Plain>(receiver: &mut receiver::Receiver<T>, to: &Sender<T>) -> Ending<T> {
    loop {
        match receiver.recv_timeout(None) {
            Ok(None) => {}
            Ok(Some(message)) => {
                if let Err(SendError(message)) = to.send(message) {
                    return (RunEnd::NobodyReceives, Some(message));
                }
            }
            Err(RecvError::Closed(departure)) => return (RunEnd::Departed(departure), None),
            Err(RecvError::Violation(violation)) => return (RunEnd::Violation(violation), None),
            Err(RecvError::Wait(_)) => return (RunEnd::Departed(Departure::Gone), None),
        }
    }
}
