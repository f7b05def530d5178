//! Messages over shared memory: [`Interface`] behind the trait of the others.
//!
//! An `Interface<T>` is typed, and the length of messages is known at run time
//! only. So there is one type for each power of two, `[u64; 1]` to `[u64; 8192]`,
//! and a message travels in the smallest that holds it.

mod bytes;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use memenpsf::{Interest, Interface, Message, Options, Role, XmitError};

use crate::exchange::{Endpoint, Side};
use crate::message::Format;
use crate::spin::{Backoff, PATIENT};
use crate::stream::poll_for;
use crate::transport::{Transport, TransportError, Waiting};

/// Bytes of slots of each ring, unless these are fewer than [`FEWEST`] slots: the
/// two rings of a connection stay in a core's second-level cache of 1 MiB.
pub const RING: usize = 256 * 1024;
/// Fewest slots of a ring, so that sender and receiver of long messages work at
/// the same time.
pub const FEWEST: usize = 8;

/// Longest message that a call takes and returns by value, in words. A longer
/// one goes through a slice and a vector, which saves copies of it.
const BY_VALUE: usize = 64;

pub use bytes::connect as connect_bytes;

/// How long a side sleeps at most, so that one that waits for a message that was
/// lost gives up at some time.
const SLEEP: Duration = Duration::from_millis(100);

/// One end of a connection over shared memory.
///
/// It sleeps only if its `Options` say [`Waiting::Adaptive`](memenpsf::Waiting),
/// and then spins a little first.
#[derive(Debug)]
pub struct SharedMemory<const N: usize> {
    interface: Interface<[u64; N]>,
    inbox: Vec<[u64; N]>,
    waiting: Waiting,
    backoff: Backoff,
    sleeps: u64,
}

impl<const N: usize> SharedMemory<N> {
    /// Makes a connection over `stream`, with `options` but for the capacity.
    ///
    /// # Errors
    ///
    /// [`TransportError::Connect`].
    pub fn new(
        stream: UnixStream,
        role: impl Into<Role>,
        options: &Options,
    ) -> Result<Self, TransportError> {
        let options = options.clone().capacity(capacity(N));
        let interface = Interface::establish(stream, role, &options)?;
        Ok(Self {
            interface,
            inbox: Vec::with_capacity(capacity(N)),
            waiting: Waiting::Spin,
            backoff: Backoff::new(PATIENT),
            sleeps: 0,
        })
    }

    /// Sets how this side spins.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }
}

impl<const N: usize> Transport for SharedMemory<N> {
    fn stride(&self) -> usize {
        N
    }

    fn send(&mut self, messages: &[u64]) -> Result<usize, TransportError> {
        let sent = match messages.as_chunks().0 {
            [message] if N <= BY_VALUE => match self.interface.xmit(*message) {
                Ok(()) => 1,
                Err(XmitError::Full(_)) => 0,
                Err(XmitError::Closed(..)) => return Err(TransportError::Closed),
                // The slice form says the same again, without the message.
                Err(_) => self.interface.xmit_vectored(&[*message])?,
            },
            messages => self.interface.xmit_vectored(messages)?,
        };
        if sent > 0 {
            self.backoff.reset();
        }
        Ok(sent)
    }

    fn receive(&mut self, max: usize) -> Result<usize, TransportError> {
        self.inbox.clear();
        match max {
            1 if N > BY_VALUE => {
                self.interface.recv_into(&mut self.inbox, 1)?;
            }
            1 if self.waiting == Waiting::Block => {
                self.inbox.extend(self.interface.recv_timeout(Some(SLEEP))?);
            }
            1 => self.inbox.extend(self.interface.recv()?),
            _ => {
                self.interface.recv_into(&mut self.inbox, max)?;
            }
        }
        if !self.inbox.is_empty() {
            self.backoff.reset();
        }
        Ok(self.inbox.len())
    }

    fn received(&self) -> &[u64] {
        self.inbox.as_flattened()
    }

    fn idle(&mut self, to_send: bool) -> Result<(), TransportError> {
        if self.waiting == Waiting::Spin || self.backoff.is_spinning() {
            self.backoff.wait();
            return Ok(());
        }
        sleep(&mut self.interface, to_send, &mut self.sleeps)
    }

    fn calls(&self) -> u64 {
        let stats = self.interface.stats();
        // Each sleep is a membarrier and a poll. A sleep in `recv_timeout` is seen
        // by the look that follows it only.
        stats.looks + stats.wakes + 2 * self.sleeps
    }

    fn set_waiting(&mut self, waiting: Waiting) -> Result<(), TransportError> {
        self.waiting = waiting;
        Ok(())
    }
}

/// Sleeps until there is a message or, if `to_send`, room for one, and counts it.
fn sleep<T: Message + ?Sized>(
    interface: &mut Interface<T>,
    to_send: bool,
    sleeps: &mut u64,
) -> Result<(), TransportError> {
    let interest = Interest {
        data: true,
        space: to_send,
    };
    // Nothing is ready: the peer will write to the socket when that changes.
    if interface.ready(interest).any() {
        return Ok(());
    }
    *sleeps += 1;
    poll_for(interface.as_fd(), None, SLEEP)
        .map_err(|error| TransportError::io("cannot poll", error))
}

/// Returns how many slots a ring of messages of `words` words has.
///
/// ```
/// use memenpsf_benches::shared::capacity;
///
/// assert_eq!(capacity(8), 4096);
/// assert_eq!(capacity(8192), 8);
/// ```
pub fn capacity(words: usize) -> usize {
    (RING / (words * size_of::<u64>()))
        .max(FEWEST)
        .next_power_of_two()
}

/// Returns how many bytes a slot for messages of this format has.
///
/// ```
/// use memenpsf_benches::{message::Format, shared::slot};
///
/// assert_eq!(slot(Format::new(100).unwrap()), 128);
/// ```
pub fn slot(format: Format) -> usize {
    format.words().next_power_of_two() * size_of::<u64>()
}

/// Makes a connection over `stream` for messages of `format`.
///
/// # Errors
///
/// [`TransportError::Connect`].
///
/// ```
/// use memenpsf::{Options, Role};
/// use memenpsf_benches::{message::Format, shared, spin};
/// use std::os::unix::net::UnixStream;
///
/// let format = Format::new(100).unwrap();
/// let (ours, theirs) = UnixStream::pair()?;
/// let connect = move |stream, role| {
///     let backoff = spin::Backoff::new(spin::HASTY);
///     shared::connect(stream, role, format, &Options::new(), backoff)
/// };
/// let theirs = std::thread::spawn(move || connect(theirs, Role::Server)?.stream(9, 9, 4));
/// let mut ours = connect(ours, Role::Client)?;
/// ours.stream(9, 9, 4)?;
/// assert!(ours.counts().is_flawless());
/// theirs.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn connect(
    stream: UnixStream,
    role: Role,
    format: Format,
    options: &Options,
    backoff: Backoff,
) -> Result<Box<dyn Endpoint>, TransportError> {
    macro_rules! class {
        ($($n:literal)*) => {
            match format.words().next_power_of_two() {
                $($n => {
                    let transport = SharedMemory::<$n>::new(stream, role, options)?;
                    Ok(Box::new(Side::new(transport.with_backoff(backoff), format)))
                })*
                // A format is no longer than `message::LONGEST`.
                _ => Err(TransportError::Closed),
            }
        };
    }
    class!(1 2 4 8 16 32 64 128 256 512 1024 2048 4096 8192)
}
