//! One listener, many clients.
//!
//! ```text
//!                     ┌─────────────── epoll set (`AsFd`) ───────────────┐
//!   connect ────────▶ │ listener │ timer │ handshakes ... │ clients ...  │
//!                     └────┬─────────┬──────────┬──────────────┬─────────┘
//!                          ▼         ▼          ▼              ▼
//!                       accept    deadlines   advance       ready()
//!                          └────── never wait ──┴──────────────┘
//! ```
//!
//! # Invariants
//!
//! - I1: the only wait is the one in the epoll set ([`Server::round`]), and nothing
//!   is in the set that a client could keep ready: a handshake waits for what it
//!   lacks, a client is registered edge-triggered and its `ready` drains
//!   its socket. So a client that is silent, stopped or dead delays nobody.
//! - I2: one round does a bounded amount for each client and accepts at most
//!   [`BATCH`] connections, and every client that is ready is asked once a round. So
//!   a client that never stops delays nobody for longer than a round.
//! - I3: a registration ends when its socket leaves the server: the set never
//!   reports a client that is not ours.
//! - I4: `half_open` is ordered by age, and all handshakes have the same time: the
//!   first one is the first to run out of it.
//! - I5: the timer is set for the first deadline or earlier, so that the set's
//!   descriptor alone is enough to wait for.
//! - I6: before the server sleeps, it asks every client that anybody has had access
//!   to since it was asked last: each call on an interface may read its socket, and
//!   with it the wake-up that it is armed for.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use memenpsf_fdpass::{Credentials, Deadline};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::error::{BindError, ConnectError, Reason, Refusal};
use crate::establish::Establishing;
use crate::message::Message;
use crate::options::Options;

mod accept;
mod alarm;
mod bind;
mod clients;
mod event;
mod ledger;
mod options;
mod round;

pub use accept::Incoming;
pub use event::{ClientId, Event, ServerStats};
pub(crate) use ledger::Place;
pub use options::{PeerInfo, ServerOptions};

use alarm::Alarm;
use bind::Listener;
use clients::Client;
use ledger::Ledger;

/// Connections that one round accepts, and events that it takes, at most.
const BATCH: usize = 64;

/// What the epoll set says of the listener and of the timer; everything else is
/// the number of a client.
const LISTENER: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

type AdmitUser = Box<dyn FnMut(Credentials) -> Result<(), Refusal> + Send>;
type AdmitClient = Box<dyn FnMut(&PeerInfo<'_>) -> Result<(), Refusal> + Send>;

/// Takes many clients on one address.
///
/// There are two ways to use it, which may be mixed. [`accept`](Self::accept) and
/// its relatives hand each client over as an [interface](crate::Interface) of its own,
/// for a thread each or whatever the caller likes. [`poll`](Self::poll) keeps the
/// clients and tells what happens at any of them, for one thread that serves all.
/// `Server<[u8]>` serves clients of messages of variable length
/// ([`ByteInterface`](crate::ByteInterface)).
///
/// Either way handshakes run side by side without a thread of their own, while a
/// call of the server runs; none waits for another, each has a deadline
/// ([`Options::handshake_timeout`]), and what a client does wrong ends that client
/// only. Limits on clients, handshakes and memory are in [`ServerOptions`]; the
/// error of a client that is refused says why.
///
/// ```
/// use memenpsf::{Event, Interface, Server};
///
/// let mut server = Server::<u64>::bind("@memenpsf-doc-server")?;
/// let clients: Vec<_> = (0..3)
///     .map(|n| std::thread::spawn(move || {
///         let mut client = Interface::<u64>::connect("@memenpsf-doc-server").unwrap();
///         client.xmit(n).unwrap();
///         client.recv_timeout(None).unwrap()
///     }))
///     .collect();
///
/// let mut gone = 0;
/// while gone < 3 {
///     match server.poll(None)? {
///         Some(Event::Ready(id, _)) => {
///             let Some(client) = server.client(id) else { continue };
///             while let Ok(Some(n)) = client.recv() {
///                 client.xmit(n * n)?;
///             }
///         }
///         Some(Event::Gone(..)) => gone += 1,
///         _ => {}
///     }
/// }
/// for (n, client) in (0..).zip(clients) {
///     assert_eq!(client.join().unwrap(), Some(n * n));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping it removes the socket file, refuses the clients that are not served
/// yet, and says goodbye to those that it keeps; interfaces that were handed over
/// live on.
///
/// A socket file left behind by a server that was killed is replaced; one of a
/// server that is alive is not, nor is a file of another kind:
///
/// ```
/// use memenpsf::{BindError, Server};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("socket");
/// let server = Server::<u64>::bind(&path)?;
/// let error = Server::<u64>::bind(&path).unwrap_err();
/// assert!(matches!(error, BindError::AddressInUse { .. }));
/// drop(server);
/// assert!(!path.exists());
///
/// // What a killed server leaves.
/// drop(std::os::unix::net::UnixListener::bind(&path)?);
/// assert!(path.exists());
/// let server = Server::<u64>::bind(&path)?;
/// assert_eq!(server.path(), Some(&*path));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server<T: Message + ?Sized> {
    listener: Listener,
    epoll: Epoll,
    alarm: Alarm,
    connection: Options,
    ledger: Arc<Ledger>,
    admit_user: Option<AdmitUser>,
    admit_client: Option<AdmitClient>,

    next_id: u64,
    /// Handshakes on their way, by age (I4).
    half_open: BTreeMap<u64, HalfOpen>,
    max_half_open: usize,
    /// Set while accepting pauses.
    paused: Option<Deadline>,

    clients: HashMap<u64, Client<T>>,
    /// Clients that are connected and not told of yet.
    connected: VecDeque<u64>,
    /// Handshakes that have failed and are not told of yet.
    failed: VecDeque<(Credentials, ConnectError)>,
    /// Clients to ask in this round, each once.
    to_ask: VecDeque<u64>,
    /// Clients to ask in the next round: they were ready in this one.
    to_ask_next: Vec<u64>,
    /// A client that was told to be gone.
    departed: Option<u64>,

    stats: ServerStats,
}

/// A handshake on its way.
#[derive(Debug)]
struct HalfOpen {
    establishing: Establishing,
    credentials: Credentials,
    deadline: Deadline,
    /// Whether it waits to write; otherwise to read.
    writes: bool,
}

impl<T: Message + ?Sized> Server<T> {
    /// Makes a server at `path`, with the default options; `@name` is a name in
    /// the abstract namespace.
    ///
    /// # Errors
    ///
    /// [`BindError`].
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, BindError> {
        Self::bind_with(path, &ServerOptions::new())
    }

    /// Makes a server at `path`.
    ///
    /// The socket file has its mode before anybody can connect. A file left by a
    /// dead server is replaced under the lock (`flock`) of its directory, so that of
    /// several servers made at once one succeeds and the others see
    /// [`BindError::AddressInUse`]; where the directory may be written but not read
    /// there is no lock, and such a file has to be removed by hand.
    ///
    /// # Errors
    ///
    /// [`BindError`].
    ///
    /// ```
    /// use memenpsf::{Server, ServerOptions};
    /// use std::os::unix::fs::PermissionsExt;
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("socket");
    /// let server = Server::<u64>::bind_with(&path, &ServerOptions::new().mode(0o660))?;
    /// assert_eq!(path.metadata()?.permissions().mode() & 0o777, 0o660);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind_with(path: impl AsRef<Path>, options: &ServerOptions) -> Result<Self, BindError> {
        // Before there is a file, so that none has to be removed again.
        Establishing::check::<T>(&options.connection).map_err(BindError::Options)?;
        Self::over(Listener::bind(path.as_ref(), options.mode)?, options)
    }

    /// Makes a server of a socket that listens already, such as one that a service
    /// manager hands over. Its file, if any, is left to whoever made it.
    ///
    /// The listener becomes non-blocking, which its other holders notice.
    ///
    /// # Errors
    ///
    /// [`BindError::NotListening`], [`BindError::Options`], [`BindError::System`].
    ///
    /// ```
    /// use memenpsf::{Interface, Server, ServerOptions};
    /// use std::os::unix::net::UnixListener;
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("socket");
    /// let listener = UnixListener::bind(&path)?;
    /// let mut server = Server::<u64>::from_listener(listener, &ServerOptions::new())?;
    /// let client = std::thread::spawn(move || Interface::<u64>::connect(path));
    /// server.accept()?.xmit(7)?;
    /// assert_eq!(client.join().unwrap()?.recv()?, Some(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_listener(
        listener: UnixListener,
        options: &ServerOptions,
    ) -> Result<Self, BindError> {
        Establishing::check::<T>(&options.connection).map_err(BindError::Options)?;
        Self::over(Listener::adopt(listener)?, options)
    }

    fn over(listener: Listener, options: &ServerOptions) -> Result<Self, BindError> {
        let system = |errno: nix::Error| BindError::System(errno.into());
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(system)?;
        let alarm = Alarm::new().map_err(system)?;
        let readable = |id| EpollEvent::new(EpollFlags::EPOLLIN, id);
        epoll.add(&alarm, readable(TIMER)).map_err(system)?;
        epoll
            .add(&listener.socket, readable(LISTENER))
            .map_err(system)?;
        Ok(Self {
            listener,
            epoll,
            alarm,
            connection: options.connection.clone(),
            ledger: Ledger::new(options.quota),
            admit_user: None,
            admit_client: None,
            next_id: 0,
            half_open: BTreeMap::new(),
            max_half_open: options.half_open,
            paused: None,
            clients: HashMap::new(),
            connected: VecDeque::new(),
            failed: VecDeque::new(),
            to_ask: VecDeque::new(),
            to_ask_next: Vec::new(),
            departed: None,
            stats: ServerStats::default(),
        })
    }

    /// Sets who may connect, by user and group, which are known as soon as a
    /// client has connected and before anything is spent on it. The client's error
    /// shows the refusal.
    ///
    /// The kernel notes them when the client calls `connect`: a process that gives
    /// its socket to another vouches for it.
    ///
    /// ```
    /// use memenpsf::{Interface, Reason, Refusal, Server};
    ///
    /// let mut server = Server::<u64>::bind("@memenpsf-doc-users")?;
    /// server.admit_users(|who| match who.uid {
    ///     u32::MAX => Ok(()),
    ///     _ => Err(Refusal::with_words(Reason::NotPermitted, "members only")),
    /// });
    /// let client = std::thread::spawn(|| Interface::<u64>::connect("@memenpsf-doc-users"));
    /// while !client.is_finished() {
    ///     assert!(server.try_accept()?.is_none());
    /// }
    /// let error = client.join().unwrap().unwrap_err();
    /// assert_eq!(error.to_string(), "the peer refused: not permitted: members only");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn admit_users(
        &mut self,
        policy: impl FnMut(Credentials) -> Result<(), Refusal> + Send + 'static,
    ) {
        self.admit_user = Some(Box::new(policy));
    }

    /// Sets who may connect, by all that is known after the client's hello, before
    /// its region is mapped and one is made for it. The client's error shows the
    /// refusal.
    ///
    /// Only clients that pass [`admit_users`](Self::admit_users) and whose hello fits
    /// (type, schema, longest region) are asked about.
    ///
    /// ```
    /// use memenpsf::{Interface, Options, Reason, Server};
    ///
    /// let mut server = Server::<u64>::bind("@memenpsf-doc-clients")?;
    /// server.admit_clients(|client| match client.name {
    ///     "" => Err(Reason::NotPermitted.into()),
    ///     _ => Ok(()),
    /// });
    /// let client = std::thread::spawn(|| {
    ///     let nobody = Interface::<u64>::connect("@memenpsf-doc-clients").unwrap_err();
    ///     assert_eq!(nobody.to_string(), "the peer refused: not permitted");
    ///     let options = Options::new().name("alice");
    ///     Interface::<u64>::connect_with("@memenpsf-doc-clients", &options)
    /// });
    /// assert_eq!(server.accept()?.peer().name(), "alice");
    /// # drop(client.join());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn admit_clients(
        &mut self,
        policy: impl FnMut(&PeerInfo<'_>) -> Result<(), Refusal> + Send + 'static,
    ) {
        self.admit_client = Some(Box::new(policy));
    }

    /// Returns the address, if the server was made at one.
    pub fn path(&self) -> Option<&Path> {
        self.listener.path()
    }

    /// Returns what the server has counted.
    pub fn stats(&self) -> ServerStats {
        let (clients, memory) = self.ledger.totals();
        ServerStats {
            half_open: self.half_open.len(),
            clients,
            memory,
            ..self.stats
        }
    }

    /// Ends the server, as dropping does.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl<T: Message + ?Sized> Drop for Server<T> {
    fn drop(&mut self) {
        // First, so that nobody new finds the way here.
        self.listener.remove_file();
        self.refuse_waiting(Reason::ShuttingDown);
        for half_open in self.half_open.values_mut() {
            half_open.establishing.refuse(Reason::ShuttingDown);
        }
    }
}

impl<T: Message + ?Sized> fmt::Debug for Server<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("path", &self.path())
            .field("connection", &self.connection)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The epoll set, for another event loop: after [`poll`](Server::poll) or
/// [`try_accept`](Server::try_accept) has returned `None`, it becomes readable when
/// there is something to do, the deadline of a handshake included. Whoever does
/// anything with a client of the server afterwards calls `poll` once more first.
///
/// Reading from it, or registering anything in it, breaks the server.
impl<T: Message + ?Sized> AsFd for Server<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}
