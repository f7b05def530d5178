//! Both ends of every transport, in one process.

use std::os::unix::net::UnixStream;
use std::thread;

use memenpsf::{Options, Role, Waiting as MemoryWaiting};
use memenpsf_benches::exchange::{Endpoint, Side};
use memenpsf_benches::message::Format;
use memenpsf_benches::shared;
use memenpsf_benches::spin::{Backoff, PATIENT};
use memenpsf_benches::stream;
use memenpsf_benches::transport::{TransportError, Waiting};

/// Two connected sides.
pub(crate) type Pair = [Box<dyn Endpoint>; 2];

/// What carries messages.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Memory,
    Pipe,
    UnixSocket,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Pipe, Self::UnixSocket];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "shared memory",
            Self::Pipe => "pipe",
            Self::UnixSocket => "unix socket",
        }
    }

    /// Connects two sides that are going to wait in such a way.
    pub(crate) fn pair(self, format: Format, waiting: Waiting) -> Result<Pair, TransportError> {
        let streams = match self {
            Self::Memory => return memory(format, waiting),
            Self::Pipe => stream::pipes(format),
            Self::UnixSocket => stream::unix_sockets(format),
        };
        let (first, second) = streams.map_err(system)?;
        let mut pair: Pair = [
            Box::new(Side::new(first, format)),
            Box::new(Side::new(second, format)),
        ];
        for side in &mut pair {
            side.set_waiting(waiting)?;
        }
        Ok(pair)
    }
}

fn memory(format: Format, waiting: Waiting) -> Result<Pair, TransportError> {
    let options = Options::new().waiting(match waiting {
        Waiting::Spin => MemoryWaiting::Spin,
        _ => MemoryWaiting::Adaptive,
    });
    let (ours, theirs) = UnixStream::pair().map_err(system)?;
    let connect = |stream, role| {
        let mut side = shared::connect(stream, role, format, &options, Backoff::new(PATIENT))?;
        side.set_waiting(waiting)?;
        Ok::<_, TransportError>(side)
    };
    thread::scope(|scope| {
        let theirs = scope.spawn(|| connect(theirs, Role::Server));
        let ours = connect(ours, Role::Client)?;
        match theirs.join() {
            Ok(theirs) => Ok([ours, theirs?]),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn system(source: std::io::Error) -> TransportError {
    TransportError::Io {
        doing: "cannot make a pipe or a socket",
        source,
    }
}
