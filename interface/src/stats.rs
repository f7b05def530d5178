//! Counters of a connection.

/// How far this side has written and read.
///
/// Positions count messages since the connection was made.
///
/// ```
/// # use memenpsf::Indices;
/// let indices = Indices { write: 3, read: 1 };
/// assert_eq!(indices.write - indices.read, 2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Indices {
    /// Position of the next message to transmit.
    pub write: u64,
    /// Position of the next message to receive.
    pub read: u64,
}

/// What this side of a connection has counted since it was made.
///
/// ```
/// use memenpsf::Interface;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let other = std::thread::spawn(move || Interface::<u64>::new("b", 2, theirs, 0));
/// let mut interface = Interface::<u64>::new("a", 2, ours, 1)?;
/// let _other = other.join().unwrap()?;
/// while interface.xmit(1).is_ok() {}
/// let stats = interface.stats();
/// assert_eq!((stats.transmitted, stats.full, stats.received), (2, 1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Messages transmitted.
    pub transmitted: u64,
    /// Messages received.
    pub received: u64,
    /// Calls that found the outbound ring full: back-pressure by the peer.
    pub full: u64,
    /// Calls that found the inbound ring empty.
    pub empty: u64,
    /// Control messages sent.
    pub control_sent: u64,
    /// Control messages that have arrived, whether or not they were received.
    pub control_received: u64,
    /// Wake-ups sent to the peer: one for each of its sleeps that this side ended.
    pub wakes: u64,
    /// How often the socket was read, by one system call or more: from time to time
    /// for the peer's end (at most once a tick of the kernel's coarse clock, 1 to
    /// 4 ms, for each direction), after each sleep, for readiness, and for control
    /// messages.
    pub looks: u64,
}
