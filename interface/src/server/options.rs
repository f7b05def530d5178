//! What a server is made with.

use memenpsf_fdpass::Credentials;

use super::ledger::Quota;
use crate::options::Options;

/// Mode of the socket file unless one is chosen: whoever may write to it may
/// connect, and that is the server's own user until somebody says otherwise.
pub(super) const DEFAULT_MODE: u32 = 0o600;

/// Number of clients that a server takes unless a limit is chosen: what the
/// usual limit of descriptors allows, at one descriptor a client.
pub(super) const DEFAULT_CLIENTS: usize = 1000;

/// Number of unfinished handshakes at a time unless a limit is chosen. One takes
/// less than a millisecond if the client is awake, so this many are silent.
pub(super) const DEFAULT_HALF_OPEN: usize = 128;

/// Bytes of the regions of all clients together unless a limit is chosen: 4 GiB,
/// which is four of the largest connections and tens of thousands of the usual.
pub(super) const DEFAULT_MEMORY: u64 = 4 << 30;

/// What a server is made with; every option has a default.
///
/// ```
/// use memenpsf::{Interface, Options, Reason, Server, ServerOptions};
/// use memenpsf::{ConnectError, HandshakeError};
///
/// let options = ServerOptions::new()
///     .connection(Options::new().name("exchange").capacity(64))
///     .max_clients(1);
/// let mut server = Server::<u64>::bind_with("@memenpsf-doc-options", &options)?;
///
/// let clients = std::thread::spawn(|| {
///     let first = Interface::<u64>::connect("@memenpsf-doc-options")?;
///     let second = Interface::<u64>::connect("@memenpsf-doc-options");
///     Ok::<_, ConnectError>((first, second))
/// });
/// let one = server.accept()?;
/// // The second is refused while the server waits for others.
/// while !clients.is_finished() {
///     assert!(server.try_accept()?.is_none());
/// }
/// let (_first, second) = clients.join().unwrap()?;
/// let error = second.unwrap_err();
/// assert_eq!(error.to_string(), "the peer refused: all 1 places for clients are taken");
/// # drop(one);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    pub(super) connection: Options,
    pub(super) mode: u32,
    pub(super) quota: Quota,
    pub(super) half_open: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl ServerOptions {
    /// Returns the defaults: the connections' own, a socket file for the server's
    /// user only, 1000 clients, 128 unfinished handshakes, 4 GiB of regions, no
    /// limit for a user beyond these, and names as the clients please.
    pub fn new() -> Self {
        Self {
            connection: Options::new(),
            mode: DEFAULT_MODE,
            quota: Quota {
                clients: DEFAULT_CLIENTS,
                clients_per_user: usize::MAX,
                memory: DEFAULT_MEMORY,
                unique_names: false,
            },
            half_open: DEFAULT_HALF_OPEN,
        }
    }

    /// Sets what each connection is made with: name, capacity, schema, the
    /// deadline of a handshake, the longest region of one side.
    ///
    /// A client can make the server map, and fault in, one region of
    /// [`Options::region_limit`]; the others wait for that long. It is 1 GiB unless
    /// chosen: a server for strangers chooses what its clients need.
    #[must_use]
    pub fn connection(mut self, options: Options) -> Self {
        self.connection = options;
        self
    }

    /// Sets the mode of the socket file, `0o600` by default: who may write to it
    /// may connect. The umask does not matter. A name in the abstract namespace has
    /// no mode: every user of the network namespace may connect, and
    /// [`Server::admit_users`](super::Server::admit_users) decides.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets how many clients there may be at a time. One counts from its hello
    /// until its [`Interface`](crate::Interface) is dropped, wherever that is.
    #[must_use]
    pub fn max_clients(mut self, clients: usize) -> Self {
        self.quota.clients = clients;
        self
    }

    /// Sets how many clients of one user there may be at a time.
    #[must_use]
    pub fn max_clients_per_user(mut self, clients: usize) -> Self {
        self.quota.clients_per_user = clients;
        self
    }

    /// Sets how many unfinished handshakes there may be at a time.
    ///
    /// One more makes the oldest give way, of the user who has most of them: a
    /// client that is awake finishes before its turn comes, whatever number of
    /// silent ones there is, and a user who floods the server drives out nobody
    /// else. (Refusing the newest instead would let so many silent clients lock
    /// everybody out.)
    #[must_use]
    pub fn max_half_open(mut self, handshakes: usize) -> Self {
        self.half_open = handshakes;
        self
    }

    /// Sets how many bytes the regions of all clients may have together, the
    /// clients' own and the server's for them.
    #[must_use]
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.quota.memory = bytes;
        self
    }

    /// Sets whether a client is refused whose name another one has. Clients
    /// without a name are not affected.
    #[must_use]
    pub fn unique_names(mut self, unique: bool) -> Self {
        self.quota.unique_names = unique;
        self
    }
}

/// What is known of a client that asks to be admitted. See
/// [`Server::admit_clients`](super::Server::admit_clients).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo<'a> {
    /// Process, user and group, from the kernel. Decide by user and group: the
    /// process id may have been reused.
    pub credentials: Credentials,
    /// The name that the client gives itself.
    pub name: &'a str,
    /// The number of slots of the ring that the client fills.
    pub capacity: usize,
    /// The bytes of both regions of the connection.
    pub memory: u64,
}
