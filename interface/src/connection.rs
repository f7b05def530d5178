//! What both halves of an interface share: the socket, both regions, and what
//! the socket has said.
//!
//! After the handshake the socket carries control frames only (see
//! [`crate::control`]), and its end tells that the peer is gone.
//!
//! # Invariants
//!
//! - I1: both regions stay mapped while a half exists: each half holds an `Arc`
//!   of the connection, and its ring's pointers go into these regions.
//! - I2: `ended` is set once and never changes.
//! - I3: a half looks at its ring once more after it has seen `ended`: what the
//!   peer had committed before it went is delivered first.
//!
//! # Trust
//!
//! The peer controls every byte of the socket. It is received without room for
//! descriptors, so that the kernel drops any and says so; it is decoded by
//! [`Decoder`], which refuses what is not a frame; one look reads at most
//! [`LOOK_BUDGET`] bytes; and the inbox is bounded: while it is full the socket is
//! not read, which holds the peer's control messages back and nothing else. Once
//! the peer can send no more, the rest is read: as much as the socket's buffer holds.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use memenpsf_fdpass::{
    Credentials, Deadline, ReceiveError, SendError, try_receive_bytes, try_send,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use std::os::fd::{AsFd, BorrowedFd};

use crate::control::{Control, Decoder};
use crate::error::{ControlError, Departure, Ended, Violation};
use crate::fail_point;
use crate::frame::{Name, Role};
use crate::region::{OwnRegion, PeerRegion};
use crate::server::Place;
use crate::wait::{brief, wait_for};

/// Control messages that wait for the caller before the socket is left unread.
pub(crate) const INBOX_LIMIT: usize = 1024;
/// Bytes that one look reads at most: a peer that floods the socket costs a
/// bounded share of the caller's time.
const LOOK_BUDGET: usize = 16 * 1024;

/// The process at the other end.
///
/// ```
/// use memenpsf::Interface;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let other = std::thread::spawn(move || Interface::<u64>::new("worker", 8, theirs, 0));
/// let interface = Interface::<u64>::new("main", 8, ours, 1)?;
/// assert_eq!(interface.peer().name(), "worker");
/// assert_eq!(interface.peer().credentials().pid, Some(std::process::id()));
/// # drop(other.join());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Peer {
    pub(crate) name: Name,
    pub(crate) credentials: Credentials,
    pub(crate) capacity: usize,
}

impl Peer {
    /// Returns the name that the peer gave itself.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Returns process, user and group as the kernel noted them when the socket
    /// was connected. The process id is for logs only: it may have been reused.
    pub fn credentials(&self) -> Credentials {
        self.credentials
    }

    /// Returns the number of slots of the ring that the peer fills.
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// Everything of a connection but the two rings.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    pub(crate) name: Name,
    pub(crate) role: Role,
    pub(crate) peer: Peer,
    /// Held for their mappings (I1).
    _own: OwnRegion,
    _theirs: PeerRegion,
    socket: Mutex<Socket>,
    /// After the regions, so that a server counts them until they are gone.
    _place: Option<Place>,
    /// Told when a half that slept in `poll` has read the socket.
    read: Condvar,
}

/// What the socket has said.
#[derive(Debug, Default)]
struct Socket {
    decoder: Decoder,
    inbox: VecDeque<[u8; 2]>,
    ended: Option<Ended>,
    counts: SocketCounts,
    /// How often something was read, or the end was found.
    events: u64,
    /// Whether a half sleeps in `poll`, and so is the only one that reads.
    polled: bool,
}

/// Counters of the socket.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct SocketCounts {
    pub(crate) control_sent: u64,
    pub(crate) control_received: u64,
    pub(crate) wakes: u64,
    pub(crate) looks: u64,
}

impl Connection {
    pub(crate) fn new(
        stream: UnixStream,
        name: Name,
        role: Role,
        peer: Peer,
        own: OwnRegion,
        theirs: PeerRegion,
        place: Option<Place>,
    ) -> Self {
        Self {
            stream,
            name,
            role,
            peer,
            _own: own,
            _theirs: theirs,
            socket: Mutex::default(),
            _place: place,
            read: Condvar::new(),
        }
    }

    /// Reads what the socket has to say, and tells whether the connection has
    /// ended. While a half sleeps in `poll`, that half reads.
    pub(crate) fn look(&self) -> Option<Ended> {
        let mut socket = self.lock();
        if !socket.polled {
            self.read(&mut socket);
        }
        socket.ended
    }

    /// Reads the socket until it is empty, the inbox full, or the budget spent.
    /// `false` means that there may be more.
    fn read(&self, socket: &mut Socket) -> bool {
        socket.counts.looks += 1;
        let mut budget = LOOK_BUDGET;
        while socket.ended.is_none() {
            if budget == 0 || (socket.inbox.len() >= INBOX_LIMIT && !self.has_hung_up()) {
                return false;
            }
            let mut bytes = [0; 512];
            match try_receive_bytes(&self.stream, &mut bytes) {
                Ok(received) => {
                    budget = budget.saturating_sub(received);
                    socket.take(&bytes[..received]);
                }
                Err(ReceiveError::WouldBlock) => break,
                Err(ReceiveError::Truncated { .. }) => {
                    socket.ended = Some(Ended::Violation(Violation::Descriptors));
                }
                // However a death shows (end of stream, a reset, an error of
                // the socket), it means the same.
                Err(_) => socket.ended = Some(socket.end_of_stream()),
            }
            socket.events += 1;
            if matches!(socket.ended, Some(Ended::Violation(_))) {
                self.shut();
            }
        }
        true
    }

    /// Sleeps until the socket has something to say, another half has read it
    /// since [`events`](Self::events) was `seen`, or the deadline.
    ///
    /// The caller has announced its sleep to the peer and found nothing in its
    /// ring afterwards (W1 of [`crate::wait`]).
    pub(crate) fn sleep(&self, seen: u64, deadline: Deadline) {
        let mut socket = self.lock();
        if socket.events != seen || socket.ended.is_some() {
            return;
        }
        if socket.polled {
            // The other half reads, and tells.
            let _unlocked = match deadline.remaining() {
                None => self.read.wait(socket).map(drop).map_err(drop),
                Some(left) => self.read.wait_timeout(socket, left).map(drop).map_err(drop),
            };
            return;
        }
        // While the inbox is full, the wake-ups behind its messages cannot be
        // read: only the end is waited for, and the ring looked at again soon.
        let (events, deadline) = if socket.inbox.len() >= INBOX_LIMIT {
            (PollFlags::empty(), brief(deadline))
        } else {
            (PollFlags::POLLIN, deadline)
        };
        socket.polled = true;
        drop(socket);
        wait_for(&self.stream, events, deadline);
        let mut socket = self.lock();
        socket.polled = false;
        self.read(&mut socket);
        drop(socket);
        // The other half looks at its ring again, and sleeps in `poll` in its
        // turn if there is nothing.
        self.read.notify_all();
    }

    /// Wakes the peer, which has announced a sleep.
    #[cold]
    pub(crate) fn wake(&self) {
        self.lock().counts.wakes += 1;
        // A full socket means that the peer has not read it yet: it is awake, or
        // about to be. Any other failure is its end, which the next look finds.
        fail_point::reach("wake: due");
        let _ = try_send(&self.stream, &Control::Wake.encode(), &[]);
        fail_point::reach("wake: sent");
    }

    /// Returns how often something was read from the socket.
    pub(crate) fn events(&self) -> u64 {
        self.lock().events
    }

    /// Tells whether a control message waits that arrived after the first `told`
    /// ones, and counts it as told.
    pub(crate) fn has_news(&self, told: &mut u64) -> bool {
        let socket = self.lock();
        let before = std::mem::replace(told, socket.counts.control_received);
        before != *told && !socket.inbox.is_empty()
    }

    /// Drops the oldest half of a full inbox, so that the socket is read again.
    pub(crate) fn unclog(&self) {
        let mut socket = self.lock();
        if socket.inbox.len() >= INBOX_LIMIT {
            socket.inbox.drain(..INBOX_LIMIT / 2);
        }
    }

    /// Returns how the connection has ended, as far as it is known.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.lock().ended
    }

    /// Reads the socket until there is nothing left in it, so that its descriptor
    /// becomes readable again only with something new. Tells how the connection
    /// has ended, if it has, and whether the socket is empty.
    pub(crate) fn drain(&self) -> (Option<Ended>, bool) {
        let mut socket = self.lock();
        let empty = socket.polled || self.read(&mut socket);
        (socket.ended, empty)
    }

    /// Returns the socket, for waiting only.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Tells whether the peer will never send more than the socket holds now.
    fn has_hung_up(&self) -> bool {
        // A full hang-up and an error are reported without being asked for; nix has
        // no name for a half one.
        let half = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
        let mut fds = [PollFd::new(self.stream.as_fd(), half)];
        // A failure to ask is no death; the next look asks again.
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Ends the connection because the peer broke a rule, lets the peer see the
    /// end, and returns how the connection ended: by this, unless it had before (I2).
    pub(crate) fn end_by(&self, violation: Violation) -> Ended {
        let mut socket = self.lock();
        let ended = *socket.ended.get_or_insert(Ended::Violation(violation));
        socket.events += 1;
        self.shut();
        ended
    }

    /// Lets a peer that broke a rule see the end of the stream. If even that fails,
    /// the descriptor's close will do it.
    fn shut(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Ends the connection from this side: whoever waits for it finds its end.
    pub(crate) fn interrupt(&self) {
        // The goodbye can still be written. If it fails the connection has ended.
        let _ = self.stream.shutdown(std::net::Shutdown::Read);
    }

    /// Sends one control message.
    pub(crate) fn send_control(&self, message: [u8; 2]) -> Result<(), ControlError> {
        let mut socket = self.lock();
        if let Some(ended) = socket.ended {
            return Err(ended.into());
        }
        match try_send(&self.stream, &Control::Message(message).encode(), &[]) {
            // A Unix stream socket takes eight bytes whole or not at all: they
            // travel in one buffer of the kernel's.
            Ok(_) => {
                socket.counts.control_sent += 1;
                Ok(())
            }
            Err(SendError::WouldBlock) => Err(ControlError::Full),
            Err(SendError::Closed { .. }) => {
                // What the peer said before it went is still to be read: its
                // goodbye, if it said one.
                drop(socket);
                let gone = Ended::Departed(Departure::Gone);
                Err(self.look().unwrap_or(gone).into())
            }
            Err(error) => Err(ControlError::Io(error)),
        }
    }

    /// Receives the next control message, if there is one.
    pub(crate) fn receive_control(&self) -> Result<Option<[u8; 2]>, ControlError> {
        if let Some(message) = self.lock().inbox.pop_front() {
            return Ok(Some(message));
        }
        let ended = self.look();
        match (self.lock().inbox.pop_front(), ended) {
            (Some(message), _) => Ok(Some(message)),
            (None, None) => Ok(None),
            (None, Some(ended)) => Err(ended.into()),
        }
    }

    pub(crate) fn counts(&self) -> SocketCounts {
        self.lock().counts
    }

    /// Locks the socket's state. A panic of another thread while it held the
    /// lock leaves the state whole: every step above is complete in itself.
    fn lock(&self) -> MutexGuard<'_, Socket> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Socket {
    /// Tells what the end of the stream means: half a frame before it is a broken
    /// rule, because whole frames are written at once.
    fn end_of_stream(&self) -> Ended {
        match self.decoder.finish() {
            Ok(()) => Ended::Departed(Departure::Gone),
            Err(violation) => Ended::Violation(Violation::Control(violation)),
        }
    }

    /// Decodes `bytes` and keeps what they say.
    fn take(&mut self, mut bytes: &[u8]) {
        loop {
            // PEER: any bytes in any pieces; the decoder refuses what is no frame.
            match self.decoder.decode(&mut bytes) {
                Ok(Some(Control::Message(message))) => {
                    self.counts.control_received += 1;
                    self.inbox.push_back(message);
                }
                Ok(Some(Control::Wake)) => {}
                Ok(Some(Control::Bye(_))) => {
                    self.ended = Some(Ended::Departed(Departure::Closed));
                    return;
                }
                Ok(None) => return,
                Err(violation) => {
                    self.ended = Some(Ended::Violation(Violation::Control(violation)));
                    return;
                }
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let bye = Control::Bye(0).encode();
        if let Err(SendError::WouldBlock) = try_send(&self.stream, &bye, &[]) {
            // The socket is full of what the peer has not read. A larger buffer (the
            // kernel doubles what it is told) takes the goodbye without a wait.
            let doubled = getsockopt(&self.stream, sockopt::SndBuf)
                .and_then(|size| setsockopt(&self.stream, sockopt::SndBuf, &size));
            // Best effort: where net.core.wmem_max forbids that, the peer sees the
            // end of the stream and takes us for dead instead of closed.
            if doubled.is_ok() {
                let _ = try_send(&self.stream, &bye, &[]);
            }
        }
    }
}
