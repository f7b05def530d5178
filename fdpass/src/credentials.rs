//! Who the peer is, and what it may send.

use std::io;
use std::os::fd::AsFd;

use crate::sys;

/// Names the process at the other end of a socket.
///
/// `uid` and `gid` are the kernel's word and fit for a decision. `pid` is for
/// logs only: the process may have ended and its number may be another's now, or
/// it may have handed the socket on.
///
/// # Examples
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::peer_credentials;
///
/// let (ours, _theirs) = UnixStream::pair()?;
/// // Both ends of a pair are made by this process.
/// let peer = peer_credentials(&ours)?;
/// assert_eq!(peer.pid, Some(std::process::id()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Credentials {
    /// Process id, `None` if the process is not visible in this pid namespace.
    pub pid: Option<u32>,
    /// Effective user id; the overflow id (65534) if this user namespace does
    /// not map it.
    pub uid: u32,
    /// Effective group id; the overflow id if this user namespace does not map it.
    pub gid: u32,
}

/// Returns the credentials of the peer (`SO_PEERCRED`).
///
/// They are those of the moment at which the connection was made: of the process
/// that called `connect` (seen by the server), `listen` (seen by the client) or
/// `socketpair` (seen by both). The peer cannot change them afterwards.
///
/// # Errors
///
/// [`NotConnected`](io::ErrorKind::NotConnected) for a socket without a peer, for
/// which the kernel answers with the user id -1; otherwise what the system call
/// says, such as `ENOTSOCK`.
///
/// # Examples
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::peer_credentials;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// assert_eq!(peer_credentials(&ours)?, peer_credentials(&theirs)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn peer_credentials(stream: impl AsFd) -> io::Result<Credentials> {
    let (pid, uid, gid) = sys::peer_credentials(stream.as_fd())?;
    // The kernel's "nobody is there"; no process can have this user id.
    if uid == u32::MAX {
        return Err(io::ErrorKind::NotConnected.into());
    }
    // The kernel writes 0 for a process outside this pid namespace.
    let pid = u32::try_from(pid).ok().filter(|pid| *pid != 0);
    Ok(Credentials { pid, uid, gid })
}

/// Asks the kernel to refuse descriptors for this socket (`SO_PASSRIGHTS` = 0).
///
/// From then on the peer's attempt to send one fails with `EPERM`, at the peer.
/// Descriptors that are already under way still arrive. An accepted socket
/// inherits the option from its listener, and a peer may send before `accept`
/// returns: a server that never wants descriptors sets it on the listener.
///
/// Returns whether the kernel knows the option (Linux 6.16 and later). Where it
/// does not, [`receive_bytes`](crate::receive_bytes) keeps descriptors out as well.
///
/// # Errors
///
/// What the system call says, such as `ENOTSOCK`, or `EOPNOTSUPP` for a socket
/// that is no Unix socket.
///
/// # Examples
///
/// ```
/// use std::os::fd::AsFd;
/// use std::os::unix::net::UnixStream;
/// use memenpsf_fdpass::{Deadline, refuse_descriptors, send_all};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let refused = refuse_descriptors(&ours)?;
/// let sent = send_all(&theirs, b"x", &[theirs.as_fd()], Deadline::never());
/// assert_eq!(sent.is_err(), refused);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn refuse_descriptors(stream: impl AsFd) -> io::Result<bool> {
    sys::refuse_descriptors(stream.as_fd())
}
