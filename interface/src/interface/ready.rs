//! Waiting for an interface in an event loop of the caller's.

use std::os::fd::{AsFd, BorrowedFd};

use super::Interface;
use crate::message::Message;

impl<T: Message + ?Sized> Interface<T> {
    /// Prepares to wait for this interface's descriptor in an event loop of the
    /// caller's, and tells what can be done without waiting.
    ///
    /// The descriptor ([`AsFd`]) becomes readable when something happens that was
    /// asked for here. The protocol, which works with level- and edge-triggered
    /// epoll alike:
    ///
    /// 1. Call `ready`. If anything in the result is true, do it (receive until
    ///    `None`, transmit until full, read control messages until `None`), and call
    ///    `ready` again.
    /// 2. Nothing is true: the interface is armed. Wait for the descriptor to be
    ///    readable, and go to 1.
    ///
    /// Control messages are told of when they come, and once: whoever has no use for
    /// them need not read them. A thousand may wait; when there are more and none was
    /// read since, the oldest are dropped.
    ///
    /// Readiness may be spurious: a reception may still return `None`. A waiting
    /// of [`Waiting::Spin`](crate::Waiting::Spin) cannot be armed: the peer sends no
    /// wake-ups to it, and `ready` says that everything is ready. In a
    /// [`ByteInterface`](super::ByteInterface) there is room when the message, or
    /// the reservation, fits that last found none.
    ///
    /// ```
    /// use memenpsf::{Interest, Interface};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let other = std::thread::spawn(move || Interface::<u64>::new("b", 8, theirs, 0));
    /// let mut interface = Interface::<u64>::new("a", 8, ours, 1)?;
    /// let mut other = other.join().unwrap()?;
    ///
    /// assert!(!interface.ready(Interest::DATA).any());
    /// // Here an event loop would wait for the descriptor.
    /// other.xmit(5)?;
    /// assert!(interface.ready(Interest::DATA).readable);
    /// assert_eq!(interface.recv()?, Some(5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ready(&mut self, interest: Interest) -> Readiness {
        let connection = self.transmitter.connection();
        let (ended, mut drained) = connection.drain();
        let control = connection.has_news(&mut self.told);
        if !drained && !control {
            // Nobody takes the control messages, of which all were told, and wake-ups
            // are stuck behind them.
            connection.unclog();
            drained = connection.drain().1;
        }
        let mut readiness = Readiness {
            readable: false,
            writable: false,
            control,
            ended: ended.is_some(),
        };
        // Whoever cannot sleep, or has not read all of the socket, goes on.
        let busy = ended.is_some() || !drained || !self.receiver.sleeps();
        if interest.data {
            readiness.readable = busy || self.receiver.arm();
        }
        if interest.space {
            readiness.writable = busy || self.transmitter.arm();
        }
        readiness
    }
}

/// The socket, for waiting in an event loop only: see [`Interface::ready`].
/// Whoever reads or writes it breaks the connection.
impl<T: Message + ?Sized> AsFd for Interface<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transmitter.connection().socket()
    }
}

/// What an event loop waits for. See [`Interface::ready`].
///
/// ```
/// use memenpsf::Interest;
///
/// assert_eq!(Interest::BOTH, Interest { data: true, space: true });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interest {
    /// A message to receive.
    pub data: bool,
    /// Room for a message to transmit.
    pub space: bool,
}

impl Interest {
    /// A message to receive.
    pub const DATA: Self = Self {
        data: true,
        space: false,
    };
    /// Room for a message to transmit.
    pub const SPACE: Self = Self {
        data: false,
        space: true,
    };
    /// Either.
    pub const BOTH: Self = Self {
        data: true,
        space: true,
    };
}

/// What can be done without waiting. See [`Interface::ready`].
///
/// ```
/// assert!(!memenpsf::Readiness::default().any());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Readiness {
    /// A message may be there.
    pub readable: bool,
    /// There may be room for a message.
    pub writable: bool,
    /// Control messages have come that were not told of before.
    pub control: bool,
    /// The connection has ended: receive what is left, and then the end.
    pub ended: bool,
}

impl Readiness {
    /// Tells whether anything can be done; if not, the interface is armed.
    pub const fn any(self) -> bool {
        self.readable || self.writable || self.control || self.ended
    }
}
