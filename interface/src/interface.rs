//! One endpoint of a two-way connection: what is the same for every kind of message.
//! The calls that move messages are in [`typed`] and [`bytes`].

use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::address;
use crate::connection::Peer;
use crate::error::{ConnectError, ControlError, RecvError};
use crate::establish::Establishing;
use crate::frame::Role;
use crate::message::Message;
use crate::options::Options;
use crate::receiver::Receiver;
use crate::stats::{Indices, Stats};
use crate::transmitter::Transmitter;

mod bytes;
mod ready;
mod typed;

pub use bytes::ByteInterface;
pub use ready::{Interest, Readiness};

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
/// Messages are [`Plain`](crate::Plain) data, or bytes: that is
/// [`ByteInterface`]. References do not compile, nor do types with
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
pub struct Interface<T: Message + ?Sized> {
    transmitter: Transmitter<T>,
    receiver: Receiver<T>,
    /// How many control messages [`ready`](Self::ready) has told of.
    told: u64,
    /// Registration with a runtime, from the first call that waits there.
    #[cfg(feature = "tokio")]
    pub(crate) reactor: Option<crate::tokio::Reactor>,
    /// Whether the stream has yielded its end.
    #[cfg(feature = "tokio")]
    pub(crate) stream_ended: bool,
}

impl<T: Message + ?Sized> Interface<T> {
    /// Makes a connection over `stream`, whose other end does the same with the
    /// other role.
    ///
    /// `name` is what the peer sees, `cap` the number of slots of the outbound
    /// ring (of a [`ByteInterface`] its bytes), a power of two. A `u8` is a role too: 0 is the client, anything else
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
            told: 0,
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

    #[cfg(feature = "tokio")]
    pub(crate) fn transmitter(&mut self) -> &mut Transmitter<T> {
        &mut self.transmitter
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn receiver(&mut self) -> &mut Receiver<T> {
        &mut self.receiver
    }

    /// Tells how the connection has ended, once everything that the peer had
    /// committed has been received.
    pub(crate) fn outcome(&mut self) -> Option<RecvError> {
        let ended = self.transmitter.connection().ended()?;
        // After the end is known, nothing is committed any more.
        self.receiver.is_drained().then(|| ended.into())
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

    /// Returns the number of slots of the outbound ring, of a [`ByteInterface`] its
    /// number of bytes; that of the inbound ring is [`Peer::capacity`].
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

// Not derived: that would ask for messages that can be shown.
impl<T: Message + ?Sized> fmt::Debug for Interface<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interface")
            .field("transmitter", &self.transmitter)
            .field("receiver", &self.receiver)
            .finish_non_exhaustive()
    }
}
