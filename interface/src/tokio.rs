//! Asynchronous calls on a tokio runtime (feature `tokio`): no helper thread, no
//! wake-up lost when a future is dropped.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use memenpsf::{Interface, Options};
//!
//! let (ours, theirs) = tokio::net::UnixStream::pair()?;
//! let options = Options::new().capacity(8);
//! let (client, server) = tokio::join!(
//!     Interface::<u64>::establish_async(ours, 0, &options),
//!     Interface::<u64>::establish_async(theirs, 1, &options),
//! );
//! let (mut client, mut server) = (client?, server?);
//! client.xmit_async(5).await?;
//! assert_eq!(server.recv_async().await?, 5);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Interface`] is a [`Stream`](futures_core::Stream) of received messages and a
//! [`Sink`](futures_sink::Sink) of messages to transmit as well, and
//! [`ByteInterface`](crate::ByteInterface) a stream. Both may be used from two tasks
//! (`StreamExt::split`).
//!
//! # How it waits
//!
//! As [`Interface::ready`] says: nothing to do, so announce the sleep, look again,
//! and wait for the socket to be readable. The socket is registered with the
//! runtime at the first call that waits, and stays with that runtime. A future that
//! is dropped leaves an announcement behind, which costs the peer one wake-up and
//! nothing else; so every call here is cancel safe.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use crate::connection::Connection;
use crate::error::{ByteXmitError, ConnectError, Departure, Ended, RecvError, TransmitError};
use crate::establish::{Establishing, Progress};
use crate::frame::Role;
use crate::interface::{Interest, Interface};
use crate::message::Message;
use crate::options::Options;
use crate::receiver::Receiver;

mod bytes;
mod typed;

/// What a socket is watched for: everything that ends a wait makes it readable.
const READABLE: tokio::io::Interest = tokio::io::Interest::READABLE;

/// The socket, as the runtime knows it.
#[derive(Debug)]
struct Socket(Arc<Connection>);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.socket().as_raw_fd()
    }
}

/// Whom to wake when the socket is readable. The runtime keeps one waker for each
/// descriptor, and a reader and a writer may live in two tasks.
#[derive(Debug, Default)]
struct Wakers {
    data: Mutex<Option<Waker>>,
    space: Mutex<Option<Waker>>,
}

impl Wakers {
    fn of(&self, interest: Interest) -> MutexGuard<'_, Option<Waker>> {
        let waker = if interest.data {
            &self.data
        } else {
            &self.space
        };
        waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        for interest in [Interest::DATA, Interest::SPACE] {
            let waker = self.of(interest).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// An interface's registration with a runtime.
#[derive(Debug)]
pub(crate) struct Reactor {
    socket: AsyncFd<Socket>,
    wakers: Arc<Wakers>,
    /// How often something had been read from the socket when a task was last
    /// told.
    told: u64,
}

impl Reactor {
    #[expect(unsafe_code, reason = "registers a descriptor with the runtime")]
    fn new(connection: &Arc<Connection>) -> io::Result<Self> {
        let socket = Socket(Arc::clone(connection));
        Ok(Self {
            // SAFETY: a connection's socket stays open, and the same, as long as
            // the connection, which `Socket` keeps.
            socket: unsafe { AsyncFd::register_with_interest(socket, READABLE) }?,
            wakers: Arc::default(),
            told: connection.events(),
        })
    }

    /// Wakes the other direction's task if the socket was read since: what was
    /// read may have been its wake-up, and the runtime no longer finds the socket
    /// readable (W2 of [`crate::wait`], among tasks).
    fn tell(&mut self, other: Interest) {
        let events = self.socket.get_ref().0.events();
        if std::mem::replace(&mut self.told, events) != events {
            let waker = self.wakers.of(other).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Waits for the socket, and empties it. `Ready` means: look again.
    fn poll(&self, interest: Interest, context: &Context<'_>) -> Poll<io::Result<()>> {
        *self.wakers.of(interest) = Some(context.waker().clone());
        let both = Waker::from(Arc::clone(&self.wakers));
        let mut readable = ready!(self.socket.poll_read_ready(&mut Context::from_waker(&both)))?;
        // Emptied before the readiness is cleared: what comes in between makes
        // the socket readable anew.
        self.socket.get_ref().0.drain();
        readable.clear_ready();
        Poll::Ready(Ok(()))
    }
}

impl<T: Message + ?Sized> Interface<T> {
    /// Polls for what `receive` receives; it also reports an end.
    fn poll_message<R>(
        &mut self,
        context: &Context<'_>,
        receive: impl FnMut(&mut Receiver<T>) -> Result<Option<R>, RecvError>,
    ) -> Poll<Result<R, RecvError>> {
        let polled = self.poll_ring(context, receive);
        self.tell(Interest::SPACE);
        polled
    }

    fn poll_ring<R>(
        &mut self,
        context: &Context<'_>,
        mut receive: impl FnMut(&mut Receiver<T>) -> Result<Option<R>, RecvError>,
    ) -> Poll<Result<R, RecvError>> {
        loop {
            if let Some(received) = receive(self.receiver())? {
                return Poll::Ready(Ok(received));
            }
            let readiness = self.ready(Interest::DATA);
            if readiness.ended {
                continue;
            }
            if readiness.readable {
                if let Some(received) = receive(self.receiver())? {
                    return Poll::Ready(Ok(received));
                }
                // This side cannot sleep: the next turn looks again.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            ready!(self.poll_socket(Interest::DATA, context))
                .map_err(|error| RecvError::Wait(error.kind()))?;
        }
    }

    /// Polls for room for a message, or the end of the connection.
    fn poll_space(&mut self, context: &Context<'_>) -> Poll<Result<(), NoRoom>> {
        let polled = self.poll_room(context);
        self.tell(Interest::DATA);
        polled
    }

    fn poll_room(&mut self, context: &Context<'_>) -> Poll<Result<(), NoRoom>> {
        loop {
            if self.transmitter().has_room()? {
                return Poll::Ready(Ok(()));
            }
            let readiness = self.ready(Interest::SPACE);
            if readiness.ended {
                continue;
            }
            if readiness.writable {
                if self.transmitter().has_room()? {
                    return Poll::Ready(Ok(()));
                }
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            ready!(self.poll_socket(Interest::SPACE, context))
                .map_err(|error| NoRoom::Wait(error.kind()))?;
        }
    }

    /// Tells the task of the other direction what was read from the socket.
    fn tell(&mut self, other: Interest) {
        if let Some(reactor) = &mut self.reactor {
            reactor.tell(other);
        }
    }

    fn poll_socket(&mut self, interest: Interest, context: &Context<'_>) -> Poll<io::Result<()>> {
        let reactor = match self.reactor.take() {
            Some(reactor) => reactor,
            None => Reactor::new(self.connection())?,
        };
        self.reactor.insert(reactor).poll(interest, context)
    }

    /// Makes a connection over `stream`, as [`establish`](Self::establish) does.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    #[expect(unsafe_code, reason = "registers a descriptor with the runtime")]
    pub async fn establish_async(
        stream: UnixStream,
        role: impl Into<Role>,
        options: &Options,
    ) -> Result<Self, ConnectError> {
        let stream = stream.into_std().map_err(ConnectError::Wait)?;
        // A descriptor of its own for the runtime, so that the handshake owns
        // the stream.
        let watched = stream.as_fd().try_clone_to_owned();
        let watched = watched.map_err(ConnectError::Wait)?;
        // SAFETY: an `OwnedFd` is open and stays the same.
        let watched = unsafe { AsyncFd::register(watched) };
        let watched = watched.map_err(|error| ConnectError::Wait(error.into()))?;
        let establishing = Establishing::begin::<T>(stream, role.into(), options)?;
        let finish = finish(establishing, &watched);
        match options.handshake_timeout_value() {
            None => finish.await,
            Some(timeout) => tokio::time::timeout(timeout, finish)
                .await
                .unwrap_or(Err(ConnectError::Timeout)),
        }?
        .into_interface()
    }

    /// Serves one stream that a tokio listener has accepted.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub async fn accept_async(stream: UnixStream, options: &Options) -> Result<Self, ConnectError> {
        Self::establish_async(stream, Role::Server, options).await
    }

    /// Connects to the server at `path`, as [`connect_with`](Self::connect_with)
    /// does, and waits for it without keeping the thread.
    ///
    /// # Errors
    ///
    /// As [`connect_with`](Self::connect_with).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub async fn connect_async(
        path: impl AsRef<Path>,
        options: &Options,
    ) -> Result<Self, ConnectError> {
        let (appear, deadline) = options.dial_deadlines();
        let stream = loop {
            let dialled = crate::address::try_dial(path.as_ref(), appear, deadline)?;
            match dialled {
                Some(stream) => break UnixStream::from_std(stream),
                None => tokio::time::sleep(crate::address::RETRY).await,
            }
        };
        Self::establish_async(stream.map_err(ConnectError::Wait)?, Role::Client, options).await
    }
}

/// Drives a handshake to its end.
async fn finish(
    mut establishing: Establishing,
    watched: &AsyncFd<OwnedFd>,
) -> Result<Establishing, ConnectError> {
    loop {
        // Cleared before the next attempt: what arrives later makes it ready anew.
        match establishing.advance()? {
            Progress::Done => return Ok(establishing),
            Progress::Readable => watched
                .readable()
                .await
                .map(|mut ready| ready.clear_ready()),
            Progress::Writable => watched
                .writable()
                .await
                .map(|mut ready| ready.clear_ready()),
        }
        .map_err(ConnectError::Wait)?;
    }
}

/// Messages are moved in and out; nothing is ever pinned in place.
impl<T: Message + ?Sized> Unpin for Interface<T> {}

/// Why there will be no room.
#[derive(Debug)]
enum NoRoom {
    Ended(Ended),
    /// The runtime cannot wait for the socket.
    Wait(io::ErrorKind),
}

impl From<Ended> for NoRoom {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

impl From<NoRoom> for TransmitError {
    fn from(cause: NoRoom) -> Self {
        match cause {
            NoRoom::Ended(ended) => ended.into(),
            NoRoom::Wait(kind) => Self::Wait(kind),
        }
    }
}

impl From<NoRoom> for ByteXmitError {
    fn from(cause: NoRoom) -> Self {
        match cause {
            NoRoom::Ended(ended) => ended.into(),
            NoRoom::Wait(kind) => Self::Wait(kind),
        }
    }
}

/// Returns what a stream yields for what was received: the peer's goodbye is its
/// end.
fn stream_item<R>(received: Result<R, RecvError>) -> Option<Result<R, RecvError>> {
    match received {
        Err(RecvError::Closed(Departure::Closed)) => None,
        item => Some(item),
    }
}
