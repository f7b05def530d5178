//! Every transport, made from descriptors: two ends are made in one process, and
//! one of them may go to another before it becomes a side of an exchange.
//!
//! Each end is two descriptors, to read from and to write to; for a socket they
//! are two of the same.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use memenpsf::{Options, Role, Waiting as MemoryWaiting};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::{Deserialize, Serialize};

use crate::exchange::{Endpoint, Side};
use crate::message::{Format, SHORTEST};
use crate::shared;
use crate::spin::{Backoff, PATIENT};
use crate::stream::Stream;
use crate::transport::{TransportError, Waiting};

/// One end: what to read from and what to write to.
pub type End = [OwnedFd; 2];

/// Two connected sides.
pub type Pair = [Box<dyn Endpoint>; 2];

/// How long a connection over shared memory may take to come about.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// What carries messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// [`Interface`](memenpsf::Interface).
    Memory,
    /// The same without `membarrier`: each publication for a side that may sleep
    /// costs a full barrier.
    MemoryFenced,
    /// [`ByteInterface`](memenpsf::ByteInterface): messages of any length.
    Bytes,
    /// Two pipes.
    Pipe,
    /// A Unix stream socket.
    UnixStream,
    /// A Unix socket of sequenced packets.
    UnixSeqpacket,
    /// TCP over the loopback device, without Nagle's delay.
    Tcp,
    /// Two event counters: eight bytes, one message at a time, so only for round
    /// trips.
    EventFd,
}

impl Kind {
    /// The kinds that carry messages of any length, and many at a time.
    pub const STREAMS: [Self; 6] = [
        Self::Memory,
        Self::Bytes,
        Self::Pipe,
        Self::UnixStream,
        Self::UnixSeqpacket,
        Self::Tcp,
    ];

    /// Returns what reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "shared memory",
            Self::MemoryFenced => "shared memory, fences",
            Self::Bytes => "shared memory, bytes",
            Self::Pipe => "pipe",
            Self::UnixStream => "unix stream",
            Self::UnixSeqpacket => "unix seqpacket",
            Self::Tcp => "tcp loopback",
            Self::EventFd => "eventfd",
        }
    }

    /// Tells whether messages of this format can be carried.
    pub fn carries(self, format: Format) -> bool {
        self != Self::EventFd || format.length() == SHORTEST
    }

    /// Makes two connected ends.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn ends(self) -> io::Result<[End; 2]> {
        let twice = |socket: OwnedFd| Ok::<_, io::Error>([socket.try_clone()?, socket]);
        let (first, second): (OwnedFd, OwnedFd) = match self {
            Self::Pipe => {
                let (to_first, from_second) = io::pipe()?;
                let (to_second, from_first) = io::pipe()?;
                return Ok([
                    [to_first.into(), from_first.into()],
                    [to_second.into(), from_second.into()],
                ]);
            }
            Self::EventFd => {
                let counter = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC).map(OwnedFd::from);
                let (there, back) = (counter()?, counter()?);
                return Ok([[back.try_clone()?, there.try_clone()?], [there, back]]);
            }
            Self::Memory | Self::MemoryFenced | Self::Bytes | Self::UnixStream => {
                let (first, second) = UnixStream::pair()?;
                (first.into(), second.into())
            }
            Self::UnixSeqpacket => socketpair(
                AddressFamily::Unix,
                SockType::SeqPacket,
                None,
                SockFlag::SOCK_CLOEXEC,
            )?,
            Self::Tcp => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                let first = TcpStream::connect(listener.local_addr()?)?;
                let (second, from) = listener.accept()?;
                if from != first.local_addr()? {
                    return Err(io::Error::other("a stranger has connected"));
                }
                first.set_nodelay(true)?;
                second.set_nodelay(true)?;
                (first.into(), second.into())
            }
        };
        Ok([twice(first)?, twice(second)?])
    }

    /// Makes a side of an exchange of an end. Over shared memory it waits for the
    /// other side to do so too.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    pub fn side(
        self,
        end: End,
        role: Role,
        format: Format,
        waiting: Waiting,
    ) -> Result<Box<dyn Endpoint>, TransportError> {
        let [reader, writer] = end;
        // Whoever is to sleep does so at once: how well a spin pays depends on the
        // partner, and is measured by those that spin.
        let backoff = Backoff::new(match waiting {
            Waiting::Spin => PATIENT,
            _ => 0,
        });
        let mut side = match self {
            Self::Memory | Self::MemoryFenced | Self::Bytes => {
                drop(reader);
                let options = Options::new()
                    .name("memenpsf bench")
                    .handshake_timeout(Some(HANDSHAKE))
                    .longest_spin(Duration::ZERO)
                    .asymmetric_barrier(self != Self::MemoryFenced)
                    .waiting(match waiting {
                        Waiting::Spin => MemoryWaiting::Spin,
                        _ => MemoryWaiting::Adaptive,
                    });
                let connect = match self {
                    Self::Bytes => shared::connect_bytes,
                    _ => shared::connect,
                };
                connect(writer.into(), role, format, &options, backoff)?
            }
            _ => {
                let stream = Stream::new(reader, writer, format)
                    .map_err(|error| TransportError::io("cannot use a descriptor", error))?;
                Box::new(Side::new(stream.with_backoff(backoff), format))
            }
        };
        side.set_waiting(waiting)?;
        Ok(side)
    }

    /// Makes two connected sides in this process.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    ///
    /// ```
    /// use memenpsf_benches::kind::Kind;
    /// use memenpsf_benches::message::Format;
    /// use memenpsf_benches::transport::Waiting;
    ///
    /// let [mut here, mut there] = Kind::Tcp.pair(Format::new(64).unwrap(), Waiting::Poll)?;
    /// let there = std::thread::spawn(move || there.stream(100, 100, 1));
    /// here.stream(100, 100, 1)?;
    /// assert!(here.counts().is_flawless());
    /// there.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pair(self, format: Format, waiting: Waiting) -> Result<Pair, TransportError> {
        let [ours, theirs] = self
            .ends()
            .map_err(|error| TransportError::io("cannot make a pipe or a socket", error))?;
        std::thread::scope(|scope| {
            let theirs = scope.spawn(|| self.side(theirs, Role::Server, format, waiting));
            let ours = self.side(ours, Role::Client, format, waiting)?;
            match theirs.join() {
                Ok(theirs) => Ok([ours, theirs?]),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
