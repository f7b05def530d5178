//! Messages over what carries bytes: a pair of pipes, a Unix stream socket.
//!
//! Each [`send`](Transport::send) is one `write`, of one message or of a batch.
//! A `read` takes up to [`READ`] bytes, whatever is there: nobody would read a
//! stream message by message. [`receive`](Transport::receive) reads only when no
//! whole message is left of the last read.
//!
//! TCP over loopback is a stream too; a sequenced-packet socket is one whose packets
//! are whole batches; an event counter carries one message of eight bytes at a time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zerocopy::IntoBytes;

use crate::message::Format;
use crate::spin::{Backoff, PATIENT};
use crate::transport::{Transport, TransportError, Waiting};

/// Most bytes that a `read` asks for: the default size of a pipe.
pub const READ: usize = 65_536;

/// How long a `poll` sleeps at most, so that a side that waits for a message that
/// was lost gives up at some time.
const SLEEP: Duration = Duration::from_millis(100);

/// One end of two byte streams, one in each direction.
#[derive(Debug)]
pub struct Stream {
    reader: File,
    writer: File,
    /// Length of a message in bytes.
    message: usize,
    /// How much of the first message of the next `send` is on its way already.
    partial: usize,
    buffer: Vec<u64>,
    /// Which bytes of `buffer` are the messages that were handed out last.
    handed: Range<usize>,
    /// Number of bytes in `buffer`.
    filled: usize,
    waiting: Waiting,
    backoff: Backoff,
    calls: u64,
}

/// Makes a pair of pipes, and an end of it for each side.
///
/// # Errors
///
/// What the system says.
pub fn pipes(format: Format) -> io::Result<(Stream, Stream)> {
    let (to_first, from_second) = io::pipe()?;
    let (to_second, from_first) = io::pipe()?;
    Ok((
        Stream::new(to_first.into(), from_first.into(), format)?,
        Stream::new(to_second.into(), from_second.into(), format)?,
    ))
}

/// Makes a pair of connected Unix stream sockets, one for each side.
///
/// # Errors
///
/// What the system says.
pub fn unix_sockets(format: Format) -> io::Result<(Stream, Stream)> {
    let (first, second) = UnixStream::pair()?;
    Ok((
        Stream::from_socket(first, format)?,
        Stream::from_socket(second, format)?,
    ))
}

impl Stream {
    /// Reads from `reader` and writes to `writer`.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn new(reader: OwnedFd, writer: OwnedFd, format: Format) -> io::Result<Self> {
        let message = format.words() * size_of::<u64>();
        let stream = Self {
            reader: reader.into(),
            writer: writer.into(),
            message,
            partial: 0,
            // Room for a read behind a message of which only a part is there.
            buffer: vec![0; (READ + message) / size_of::<u64>()],
            handed: 0..0,
            filled: 0,
            waiting: Waiting::Spin,
            backoff: Backoff::new(PATIENT),
            calls: 0,
        };
        stream.set_blocking(false)?;
        Ok(stream)
    }

    /// Reads from and writes to `socket`.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn from_socket(socket: UnixStream, format: Format) -> io::Result<Self> {
        let reader = socket.try_clone()?;
        Self::new(reader.into(), socket.into(), format)
    }

    /// Sets how this side spins.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    fn set_blocking(&self, blocking: bool) -> io::Result<()> {
        for file in [self.reader.as_fd(), self.writer.as_fd()] {
            let mut flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
            flags.set(OFlag::O_NONBLOCK, !blocking);
            fcntl(file, FcntlArg::F_SETFL(flags))?;
        }
        Ok(())
    }
}

impl Transport for Stream {
    fn stride(&self) -> usize {
        self.message / size_of::<u64>()
    }

    fn send(&mut self, messages: &[u64]) -> Result<usize, TransportError> {
        self.calls += 1;
        match self.writer.write(&messages.as_bytes()[self.partial..]) {
            Ok(written) => {
                self.backoff.reset();
                let written = self.partial + written;
                self.partial = written % self.message;
                Ok(written / self.message)
            }
            Err(error) if is_not_now(&error) => Ok(0),
            Err(error) => Err(TransportError::io("cannot write", error)),
        }
    }

    fn receive(&mut self, max: usize) -> Result<usize, TransportError> {
        self.handed.start = self.handed.end;
        if self.filled - self.handed.end < self.message {
            let bytes = self.buffer.as_mut_bytes();
            bytes.copy_within(self.handed.end..self.filled, 0);
            self.filled -= self.handed.end;
            self.handed = 0..0;
            self.calls += 1;
            match self.reader.read(&mut bytes[self.filled..]) {
                Ok(0) => return Err(TransportError::Closed),
                Ok(read) => {
                    self.backoff.reset();
                    self.filled += read;
                }
                Err(error) if is_not_now(&error) => {}
                Err(error) => return Err(TransportError::io("cannot read", error)),
            }
        }
        let count = max.min((self.filled - self.handed.end) / self.message);
        self.handed.end += count * self.message;
        Ok(count)
    }

    fn received(&self) -> &[u64] {
        &self.buffer[self.handed.start / size_of::<u64>()..self.handed.end / size_of::<u64>()]
    }

    fn idle(&mut self, to_send: bool) -> Result<(), TransportError> {
        match self.waiting {
            Waiting::Spin => self.backoff.wait(),
            Waiting::Poll => {
                self.calls += 1;
                let writer = to_send.then_some(self.writer.as_fd());
                poll_for(self.reader.as_fd(), writer, SLEEP)
                    .map_err(|error| TransportError::io("cannot poll", error))?;
            }
            // The next call sleeps.
            Waiting::Block => {}
        }
        Ok(())
    }

    fn calls(&self) -> u64 {
        self.calls
    }

    fn set_waiting(&mut self, waiting: Waiting) -> Result<(), TransportError> {
        self.waiting = waiting;
        self.set_blocking(waiting == Waiting::Block)
            .map_err(|error| TransportError::io("cannot change to or from blocking", error))
    }
}

/// Sleeps until `reader` has something, `writer` takes something, or `limit` has
/// passed.
pub(crate) fn poll_for(
    reader: BorrowedFd<'_>,
    writer: Option<BorrowedFd<'_>>,
    limit: Duration,
) -> io::Result<()> {
    let reader = PollFd::new(reader, PollFlags::POLLIN);
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    let polled = match writer {
        Some(writer) => poll(
            &mut [reader, PollFd::new(writer, PollFlags::POLLOUT)],
            limit,
        ),
        None => poll(&mut [reader], limit),
    };
    match polled {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Tells whether an error only says that there is nothing to do yet.
fn is_not_now(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
