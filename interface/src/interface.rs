//! One endpoint of a two-way connection.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use memenpsf_ring::Plain;

use crate::address;
use crate::connection::Peer;
use crate::error::{ConnectError, ControlError, RecvError, TransmitError, XmitError};
use crate::establish::Establishing;
use crate::frame::Role;
use crate::options::Options;
use crate::receiver::Receiver;
use crate::stats::{Indices, Stats};
use crate::transmitter::{Reservation, Transmitter};

/// One endpoint of a two-way connection that carries messages of type `T`.
///
/// Messages travel through shared memory, each direction through a ring of its
/// own; the Unix socket that the connection was made over carries small control
/// messages and tells when the peer is gone. Every call returns at once.
///
/// Dropping it says goodbye: the peer receives what was committed, and then
/// [`Departure::Closed`](crate::Departure::Closed).
///
/// ```
/// use memenpsf::{Departure, Interface, RecvError};
/// use std::os::unix::net::UnixStream;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let server = std::thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
///     let mut server = Interface::<[u32; 2]>::new("server", 64, theirs, 1)?;
///     loop {
///         match server.recv() {
///             Ok(Some([n, _])) => server.xmit([n, n * n])?,
///             Ok(None) => std::thread::yield_now(),
///             Err(RecvError::Closed(Departure::Closed)) => return Ok(()),
///             Err(error) => return Err(error.into()),
///         }
///     }
/// });
///
/// let mut client = Interface::<[u32; 2]>::new("client", 64, ours, 0)?;
/// client.xmit([7, 0])?;
/// let answer = loop {
///     if let Some(message) = client.recv()? {
///         break message;
///     }
///     std::thread::yield_now();
/// };
/// assert_eq!(answer, [7, 49]);
/// client.close();
/// server.join().unwrap().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Messages are [`Plain`] data. References do not compile, nor do types with
/// padding, `bool`, `char`, or enums, because another process decides about their
/// bytes; the compiler's message says what to do instead:
///
/// ```compile_fail,E0277
/// type Wrong = memenpsf::Interface<&'static [u8]>;
/// fn use_it(wrong: Wrong) {}
/// ```
/// ```compile_fail,E0277
/// type Wrong = memenpsf::Interface<bool>;
/// fn use_it(wrong: Wrong) {}
/// ```
/// ```compile_fail,E0277
/// type Wrong = memenpsf::Interface<char>;
/// fn use_it(wrong: Wrong) {}
/// ```
/// ```compile_fail,E0277
/// #[derive(Clone, Copy)]
/// #[repr(C)]
/// struct Padded {
///     tag: u8,
///     value: u32,
/// }
/// type Wrong = memenpsf::Interface<Padded>;
/// fn use_it(wrong: Wrong) {}
/// ```
/// ```compile_fail,E0277
/// #[derive(Clone, Copy)]
/// #[repr(u8)]
/// enum Command {
///     Start,
///     Stop,
/// }
/// type Wrong = memenpsf::Interface<Command>;
/// fn use_it(wrong: Wrong) {}
/// ```
#[derive(Debug)]
pub struct Interface<T: Plain> {
    transmitter: Transmitter<T>,
    receiver: Receiver<T>,
    /// Registration with a runtime, from the first call that waits there.
    #[cfg(feature = "tokio")]
    pub(crate) reactor: Option<crate::tokio::Reactor>,
    /// Whether the stream has yielded its end.
    #[cfg(feature = "tokio")]
    pub(crate) stream_ended: bool,
}

impl<T: Plain> Interface<T> {
    /// Makes a connection over `stream`, whose other end does the same with the
    /// other role.
    ///
    /// `name` is what the peer sees, `cap` the number of slots of the outbound
    /// ring, a power of two. A `u8` is a role too: 0 is the client, anything else
    /// the server. The handshake may take
    /// [`DEFAULT_HANDSHAKE`](crate::options::DEFAULT_HANDSHAKE).
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says what was wrong, and at which side.
    pub fn new(
        name: &str,
        cap: usize,
        stream: UnixStream,
        role: impl Into<Role>,
    ) -> Result<Self, ConnectError> {
        Self::establish(stream, role, &Options::new().name(name).capacity(cap))
    }

    /// Makes a connection over `stream`, with `options`.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says what was wrong, and at which side.
    pub fn establish(
        stream: UnixStream,
        role: impl Into<Role>,
        options: &Options,
    ) -> Result<Self, ConnectError> {
        Establishing::begin::<T>(stream, role.into(), options)?
            .finish(options.handshake_deadline())?
            .into_interface()
    }

    /// Connects to the server at `path`; `@name` is a name in the abstract
    /// namespace.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Address`] for an address that cannot be one,
    /// [`ConnectError::Socket`] when nobody answers there, otherwise as in
    /// [`establish`](Self::establish).
    ///
    /// ```
    /// use memenpsf::{ConnectError, Interface};
    ///
    /// let error = Interface::<u64>::connect("/nonexistent/socket").unwrap_err();
    /// assert!(matches!(error, ConnectError::Socket { .. }));
    /// ```
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        Self::connect_with(path, &Options::new())
    }

    /// Connects to the server at `path`, with `options`.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_with(path: impl AsRef<Path>, options: &Options) -> Result<Self, ConnectError> {
        let (appear, deadline) = options.dial_deadlines();
        let stream = address::dial(path.as_ref(), appear, deadline)?;
        Self::establish(stream, Role::Client, options)
    }

    /// Serves one accepted stream: [`establish`](Self::establish) as a server
    /// with the default options.
    ///
    /// # Errors
    ///
    /// As [`establish`](Self::establish).
    pub fn accept(stream: UnixStream) -> Result<Self, ConnectError> {
        Self::accept_with(stream, &Options::new())
    }

    /// Serves one accepted stream, with `options`.
    ///
    /// # Errors
    ///
    /// As [`establish`](Self::establish).
    pub fn accept_with(stream: UnixStream, options: &Options) -> Result<Self, ConnectError> {
        Self::establish(stream, Role::Server, options)
    }

    pub(crate) fn from_halves(transmitter: Transmitter<T>, receiver: Receiver<T>) -> Self {
        Self {
            transmitter,
            receiver,
            #[cfg(feature = "tokio")]
            reactor: None,
            #[cfg(feature = "tokio")]
            stream_ended: false,
        }
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn connection(&self) -> &std::sync::Arc<crate::connection::Connection> {
        self.transmitter.connection()
    }

    /// Receives one message; with none left, reports an end that is already known.
    #[cfg(feature = "tokio")]
    pub(crate) fn recv_or_end(&mut self) -> Result<Option<T>, RecvError> {
        self.receiver.recv_or_end()
    }

    /// Tells whether there is room for a message; with none, reports an end that
    /// is already known.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_room(&mut self) -> Result<bool, TransmitError> {
        self.transmitter.has_room()
    }

    /// Transmits one message, at once. See [`Transmitter::xmit`].
    ///
    /// # Errors
    ///
    /// Each gives the message back: [`XmitError::Full`], [`XmitError::Closed`],
    /// [`XmitError::Violation`].
    #[inline]
    pub fn xmit(&mut self, message: T) -> Result<(), XmitError<T>> {
        self.transmitter.xmit(message)
    }

    /// Transmits as many messages as there is room for, by one publication, and
    /// returns how many they were. See [`Transmitter::xmit_vectored`].
    ///
    /// # Errors
    ///
    /// [`TransmitError::Closed`] and [`TransmitError::Violation`].
    #[inline]
    pub fn xmit_vectored(&mut self, messages: &[T]) -> Result<usize, TransmitError> {
        self.transmitter.xmit_vectored(messages)
    }

    /// Reserves `wanted` slots to fill in place. See [`Transmitter::reserve`].
    ///
    /// # Errors
    ///
    /// [`TransmitError::TooFew`], [`TransmitError::Closed`] and
    /// [`TransmitError::Violation`].
    pub fn reserve(&mut self, wanted: usize) -> Result<Reservation<'_, T>, TransmitError> {
        self.transmitter.reserve(wanted)
    }

    /// Receives one message, or `None` when there is none now. See
    /// [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] after everything that the peer had committed, and
    /// [`RecvError::Violation`].
    #[inline]
    pub fn recv(&mut self) -> Result<Option<T>, RecvError> {
        self.receiver.recv()
    }

    /// Receives all messages that are there now. See [`Receiver::recv_vectored`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_vectored(&mut self) -> Result<Vec<T>, RecvError> {
        self.receiver.recv_vectored()
    }

    /// Receives the messages that are there now, at most `max`, appends them to
    /// `messages`, and returns how many they were. See [`Receiver::recv_into`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    #[inline]
    pub fn recv_into(&mut self, messages: &mut Vec<T>, max: usize) -> Result<usize, RecvError> {
        self.receiver.recv_into(messages, max)
    }

    /// Transmits one message, waiting for room for at most `timeout`. See
    /// [`Transmitter::xmit_timeout`].
    ///
    /// # Errors
    ///
    /// As [`xmit`](Self::xmit); [`XmitError::Full`] when the time is up.
    pub fn xmit_timeout(
        &mut self,
        message: T,
        timeout: Option<Duration>,
    ) -> Result<(), XmitError<T>> {
        self.transmitter.xmit_timeout(message, timeout)
    }

    /// Receives one message, waiting for at most `timeout`. See
    /// [`Receiver::recv_timeout`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Option<Duration>) -> Result<Option<T>, RecvError> {
        self.receiver.recv_timeout(timeout)
    }

    /// Prepares to wait for this interface's descriptor in an event loop of the
    /// caller's, and tells what can be done without waiting.
    ///
    /// The descriptor ([`AsFd`]) becomes readable when something happens that was
    /// asked for here. The protocol, which works with level- and edge-triggered
    /// epoll alike:
    ///
    /// 1. Call `ready`. If anything in the result is true, do it (receive until
    ///    `None`, transmit until full), and call `ready` again.
    /// 2. Nothing is true: the interface is armed. Wait for the descriptor to be
    ///    readable, and go to 1.
    ///
    /// Readiness may be spurious: a reception may still return `None`. A waiting
    /// of [`Waiting::Spin`](crate::Waiting::Spin) cannot be armed: the peer sends no wake-ups to it, and
    /// `ready` says that everything is ready.
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
        let (control, ended, drained) = self.transmitter.connection().drain();
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

    /// Tells whether a control message waits that arrived after the first `told`
    /// ones, and counts it as told.
    pub(crate) fn has_news(&self, told: &mut u64) -> bool {
        self.transmitter.connection().has_news(told)
    }

    /// Tells whether the socket is left unread because nobody takes the control
    /// messages that have come.
    pub(crate) fn is_clogged(&self) -> bool {
        self.transmitter.connection().is_clogged()
    }

    /// Tells how the connection has ended, once everything that the peer had
    /// committed has been received.
    pub(crate) fn outcome(&mut self) -> Option<RecvError> {
        let ended = self.transmitter.connection().ended()?;
        // After the end is known, nothing is committed any more.
        (self.receiver.slots() == 0).then(|| ended.into())
    }

    /// Sends two bytes out of band, on the socket. See
    /// [`Transmitter::send_ctrl_msg`].
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    ///
    /// ```
    /// use memenpsf::Interface;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let other = std::thread::spawn(move || Interface::<u64>::new("b", 8, theirs, 0));
    /// let mut interface = Interface::<u64>::new("a", 8, ours, 1)?;
    /// let mut other = other.join().unwrap()?;
    /// interface.send_ctrl_msg([1, 2])?;
    /// assert_eq!(other.recv_ctrl_msg()?, Some([1, 2]));
    /// assert_eq!(other.recv_ctrl_msg()?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_ctrl_msg(&mut self, message: [u8; 2]) -> Result<(), ControlError> {
        self.transmitter.send_ctrl_msg(message)
    }

    /// Receives the next two bytes that the peer sent out of band, or `None`. See
    /// [`Receiver::recv_ctrl_msg`].
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub fn recv_ctrl_msg(&mut self) -> Result<Option<[u8; 2]>, ControlError> {
        self.receiver.recv_ctrl_msg()
    }

    /// Returns how far this side has written and read.
    ///
    /// ```
    /// use memenpsf::Interface;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let other = std::thread::spawn(move || Interface::<u64>::new("b", 8, theirs, 0));
    /// let mut interface = Interface::<u64>::new("a", 8, ours, 1)?;
    /// let _other = other.join().unwrap()?;
    /// interface.xmit(1)?;
    /// assert_eq!((interface.indices().write, interface.indices().read), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn indices(&self) -> Indices {
        Indices {
            write: self.transmitter.position(),
            read: self.receiver.position(),
        }
    }

    /// Returns the number of slots of the outbound ring; that of the inbound ring
    /// is [`Peer::capacity`].
    pub fn cap(&self) -> usize {
        self.transmitter.cap()
    }

    /// Returns this side's name.
    pub fn name(&self) -> &str {
        self.transmitter.connection().name.as_str()
    }

    /// Returns this side's role.
    pub fn role(&self) -> Role {
        self.transmitter.connection().role
    }

    /// Returns who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.transmitter.connection().peer
    }

    /// Returns what this side has counted.
    pub fn stats(&self) -> Stats {
        let socket = self.transmitter.connection().counts();
        Stats {
            transmitted: self.transmitter.position(),
            received: self.receiver.position(),
            full: self.transmitter.full_count(),
            empty: self.receiver.empty_count(),
            control_sent: socket.control_sent,
            control_received: socket.control_received,
            wakes: socket.wakes,
            looks: socket.looks,
        }
    }

    /// Splits the endpoint into its halves, one for each of two threads. The
    /// connection ends when both are dropped.
    pub fn split(self) -> (Transmitter<T>, Receiver<T>) {
        (self.transmitter, self.receiver)
    }

    /// Says goodbye and ends the connection, as dropping does.
    pub fn close(self) {
        drop(self);
    }
}

/// The socket, for waiting in an event loop only: see [`Interface::ready`].
/// Whoever reads or writes it breaks the connection.
impl<T: Plain> AsFd for Interface<T> {
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
    /// A control message is there.
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
