//! What a server tells.

use std::fmt;

use memenpsf_fdpass::Credentials;

use crate::error::{ConnectError, RecvError};
use crate::interface::Readiness;

/// Names a client of one server. Never used again for another one.
///
/// ```
/// use memenpsf::{Event, Interface, Server};
///
/// let mut server = Server::<u64>::bind("@memenpsf-doc-id")?;
/// let client = std::thread::spawn(|| Interface::<u64>::connect("@memenpsf-doc-id"));
/// let Some(Event::Connected(id)) = server.poll(None)? else { unreachable!() };
/// assert_eq!(id.to_string(), "client 0");
/// assert!(server.client(id).is_some());
/// # drop(client.join());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub(super) u64);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}", self.0)
    }
}

/// What has happened at a server. See [`Server::poll`](super::Server::poll).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A client is connected. The first event of each.
    Connected(ClientId),
    /// Something can be done with a client without waiting.
    Ready(ClientId, Readiness),
    /// A client is gone or broke a rule, and all that it had committed has been
    /// received. The last event of each: it still can be looked at (its name, its
    /// statistics, control messages) until the next call of the server.
    Gone(ClientId, RecvError),
    /// A handshake has ended without a connection. The server goes on.
    Failed(Credentials, ConnectError),
}

/// What a server has counted, and what it has now.
///
/// ```
/// use memenpsf::{Server, ServerStats};
///
/// let server = Server::<u64>::bind("@memenpsf-doc-stats")?;
/// assert_eq!(server.stats(), ServerStats::default());
/// # Ok::<(), memenpsf::BindError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerStats {
    /// Handshakes that have led to a connection.
    pub connected: u64,
    /// Handshakes that have ended without one, for whatever reason.
    pub failed: u64,
    /// How often accepting has paused because the system lacked something, such
    /// as descriptors.
    pub pauses: u64,
    /// Handshakes that are on their way.
    pub half_open: usize,
    /// Clients that have a place, whoever holds their interfaces, and handshakes
    /// after the hello.
    pub clients: usize,
    /// Bytes of the regions of those clients.
    pub memory: u64,
}
