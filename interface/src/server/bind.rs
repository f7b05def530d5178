//! The listening socket, and its file.
//!
//! # Invariants
//!
//! - I1: nobody connects before the file has its mode: the kernel refuses a
//!   connection to a socket that is bound and does not listen yet, and `listen`
//!   comes last. The file is born with the mode as well (less the umask, which only
//!   takes bits away): Linux takes it from the socket.
//! - I2: a socket file is removed only if a connection to it is refused, under the
//!   exclusive `flock` of its directory. Who binds holds the same lock from `bind`
//!   to `listen`, so a file found dead under the lock is nobody's who is just being
//!   made. Without the lock (a directory that may not be read, or somebody who
//!   keeps it) nothing is removed.
//! - I3: on drop, the file is removed only if it is the one that was bound. Its
//!   inode number cannot be another file's: the socket holds the inode.
//!
//! Programs that bind sockets in the same directory without the lock are outside I2:
//! one of theirs that is bound and does not listen yet looks dead.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memenpsf_fdpass::Deadline;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open, openat};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
    socket, sockopt,
};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::address;
use crate::error::{BindError, ConnectError};

/// How long to try for the lock of the directory. It is held for a few system
/// calls; who keeps it longer is stopped, or means it.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// How long to pause before the lock is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(2);
/// How often an address is tried that is in use one moment and free the next.
const ATTEMPTS: usize = 8;

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    /// Before the socket, so that the file goes while it is certainly ours (I3).
    file: Option<SocketFile>,
    pub(super) socket: UnixListener,
    path: Option<PathBuf>,
}

/// A socket file that was bound here.
#[derive(Debug)]
struct SocketFile {
    directory: OwnedFd,
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Listener {
    /// Binds and listens at `path`. `mode` is for a socket file; a name in the
    /// abstract namespace has none.
    pub(super) fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        let address = address::parse(path).map_err(|error| match error {
            ConnectError::Address { path, source } => BindError::Address { path, source },
            other => BindError::Options(other),
        })?;
        let failed = failed_at(path);
        let socket = stream_socket().map_err(&failed)?;
        let file = if address.path().is_none() {
            match bind(socket.as_raw_fd(), &address) {
                Err(Errno::EADDRINUSE) => return Err(in_use(path)),
                other => other.map_err(&failed)?,
            }
            listen(&socket, Backlog::MAXCONN).map_err(&failed)?;
            None
        } else {
            let mode = Mode::from_bits_truncate(mode & 0o777);
            Some(bind_file(&socket, path, &address, mode)?)
        };
        Ok(Self {
            file,
            socket: socket.into(),
            path: Some(path.to_owned()),
        })
    }

    /// Takes over a socket that listens already. Its file, if any, is not ours.
    pub(super) fn adopt(socket: UnixListener) -> Result<Self, BindError> {
        let listens = getsockopt(&socket, sockopt::AcceptConn);
        if !listens.map_err(|errno| BindError::System(errno.into()))? {
            return Err(BindError::NotListening);
        }
        // A connection may be gone between the event and the call.
        socket.set_nonblocking(true).map_err(BindError::System)?;
        Ok(Self {
            file: None,
            path: None,
            socket,
        })
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Removes the socket file, if it is ours.
    pub(super) fn remove_file(&mut self) {
        self.file = None;
    }
}

fn in_use(path: &Path) -> BindError {
    BindError::AddressInUse {
        path: path.to_owned(),
    }
}

fn failed_at(path: &Path) -> impl Fn(Errno) -> BindError {
    |errno| BindError::Socket {
        path: path.to_owned(),
        source: errno.into(),
    }
}

fn stream_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// Splits a path into directory and file name; a path that ends in neither is
/// its own file name, which `bind` refuses.
fn split(path: &Path) -> (&Path, &OsStr) {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    (directory, path.file_name().unwrap_or(path.as_os_str()))
}

fn bind_file(
    socket: &OwnedFd,
    path: &Path,
    address: &UnixAddr,
    mode: Mode,
) -> Result<SocketFile, BindError> {
    let failed = failed_at(path);
    let (directory, name) = split(path);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = open(directory, flags, Mode::empty()).map_err(&failed)?;
    // Until the socket listens (I2).
    let lock = lock(&directory);
    // The mode that the file is born with (I1).
    fchmod(socket, mode).map_err(&failed)?;
    bind_or_replace(socket, path, address, &directory, lock.is_some())?;

    let stat = fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(&failed)?;
    if !is_socket(&stat) {
        // Somebody has replaced it already, and may do so again.
        return Err(in_use(path));
    }
    let file = SocketFile {
        directory,
        path: path.to_owned(),
        identity: identity(&stat),
    };
    // The umask has taken bits away.
    if stat.st_mode & 0o777 != mode.bits() {
        let flag = FchmodatFlags::NoFollowSymlink;
        fchmodat(&file.directory, name, mode, flag).map_err(&failed)?;
    }
    listen(socket, Backlog::MAXCONN).map_err(&failed)?;
    Ok(file)
}

/// Binds, in the place of a dead server's file if there is one.
fn bind_or_replace(
    socket: &OwnedFd,
    path: &Path,
    address: &UnixAddr,
    directory: &OwnedFd,
    locked: bool,
) -> Result<(), BindError> {
    let failed = failed_at(path);
    for _ in 0..ATTEMPTS {
        match bind(socket.as_raw_fd(), address) {
            Ok(()) => return Ok(()),
            Err(Errno::EADDRINUSE) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let (_, name) = split(path);
        match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(failed(errno)),
            Ok(stat) if !is_socket(&stat) => {
                return Err(BindError::NotASocket {
                    path: path.to_owned(),
                });
            }
            Ok(_) => {}
        }
        // Dead or alive? A server that is alive sees a client that goes at once.
        match connect(stream_socket().map_err(&failed)?.as_raw_fd(), address) {
            Err(Errno::ECONNREFUSED) if !locked => {
                return Err(BindError::Locked {
                    path: path.to_owned(),
                });
            }
            Err(Errno::ECONNREFUSED) => {
                match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(failed(errno)),
                }
            }
            Err(Errno::ENOENT | Errno::EINTR) => {}
            // Its backlog is full, it is of another type, it is not for us: it is
            // there, at any rate.
            Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE | Errno::EACCES | Errno::EPERM) => {
                return Err(in_use(path));
            }
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(in_use(path))
}

/// Takes the lock of the directory, if that is possible. It ends with the value.
fn lock(directory: &OwnedFd) -> Option<Flock<File>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = openat(directory, ".", flags, Mode::empty()).ok()?;
    let mut directory = File::from(directory);
    let deadline = Deadline::after(LOCK_PATIENCE);
    loop {
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) if !deadline.has_passed() => {
                directory = back;
            }
            Err(_) => return None,
        }
        std::thread::sleep(LOCK_RETRY);
    }
}

fn is_socket(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK
}

fn identity(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let (_, name) = split(&self.path);
        let directory = self.directory.as_fd();
        let ours = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| identity(&stat) == self.identity);
        if ours {
            // If it cannot be removed, the next server finds it dead and does.
            let _ = unlinkat(directory, name, UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// What to do after `accept` has failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AcceptFailure {
    /// No connection waits.
    Empty,
    /// That connection was not to be; the next may be.
    Next,
    /// The system lacks something; it may have it later.
    Shortage,
    /// The listener is of no use any more.
    Fatal,
}

impl AcceptFailure {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EAGAIN) => Self::Empty,
            Some(Errno::EINTR | Errno::ECONNABORTED | Errno::EPERM | Errno::EPROTO) => Self::Next,
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => Self::Shortage,
            _ => Self::Fatal,
        }
    }
}
