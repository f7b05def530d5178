//! Socket addresses: paths, and names in the abstract namespace.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use memenpsf_fdpass::Deadline;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::error::ConnectError;

/// How long to pause before an address is tried again. Nothing tells when a
/// server appears or its backlog has room; ten milliseconds are not felt and cost
/// next to nothing.
pub(crate) const RETRY: Duration = Duration::from_millis(10);

/// Reads an address: `@name` is a name in the abstract namespace, anything else
/// a path.
pub(crate) fn parse(path: &Path) -> Result<UnixAddr, ConnectError> {
    let bytes = path.as_os_str().as_bytes();
    let parsed = match bytes.strip_prefix(b"@") {
        Some([]) => Err(Errno::EINVAL),
        Some(name) => UnixAddr::new_abstract(name),
        None if bytes.is_empty() => Err(Errno::EINVAL),
        None => UnixAddr::new(path),
    };
    parsed.map_err(|errno| ConnectError::Address {
        path: path.to_owned(),
        source: errno.into(),
    })
}

/// Connects to a server at `path`. A server that is not there yet is waited for
/// until `appear`; one whose backlog is full, until `deadline`.
pub(crate) fn dial(
    path: &Path,
    appear: Deadline,
    deadline: Deadline,
) -> Result<UnixStream, ConnectError> {
    loop {
        if let Some(stream) = try_dial(path, appear, deadline)? {
            return Ok(stream);
        }
        std::thread::sleep(RETRY);
    }
}

/// Tries once to connect; `None` means: try again after [`RETRY`].
pub(crate) fn try_dial(
    path: &Path,
    appear: Deadline,
    deadline: Deadline,
) -> Result<Option<UnixStream>, ConnectError> {
    let address = parse(path)?;
    let failed = |errno: Errno| ConnectError::Socket {
        path: path.to_owned(),
        source: errno.into(),
    };
    // Non-blocking, because a blocking connect waits without a limit for room in
    // the backlog of a server that has stopped accepting.
    let socket: OwnedFd = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
    .map_err(failed)?;
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) => Ok(Some(socket.into())),
        Err(Errno::EINTR) => Ok(None),
        Err(Errno::ENOENT | Errno::ECONNREFUSED) if !appear.has_passed() => Ok(None),
        Err(Errno::EAGAIN) if !(deadline.has_passed() && appear.has_passed()) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}
