//! The handshake as a pure state machine: bytes in, bytes out, no I/O and no
//! descriptors. A blocking driver, an epoll loop with many of them side by side
//! and a fuzzer all use the same one.
//!
//! ```text
//!   client                                        server
//!     │  hello + descriptor                         │
//!     ├────────────────────────────────────────────▶│ checks it, maps the client's region,
//!     │                                             │ only then creates its own
//!     │                        hello + descriptor   │
//!     │◀────────────────────────────────────────────┤
//!     │  checks it, maps the server's region        │
//!     │  accept                                     │
//!     ├────────────────────────────────────────────▶│ done
//!  done                                             │
//! ```
//!
//! In place of any frame of its own a side may send a refusal, which ends the
//! handshake. A half-open handshake costs the server one [`Handshake`] until a
//! valid hello has come, and no region before the client's has been mapped.
//!
//! A driver repeats: ask [`Handshake::poll`], do what it wants.
//!
//! | wanted | the driver |
//! |---|---|
//! | [`Wants::Read`] | reads at most so many bytes and descriptors, keeps the descriptors, gives the bytes to [`Handshake::receive`]; at the end of the stream calls [`Handshake::closed`] |
//! | [`Wants::Write`] | writes [`Handshake::transmit`], tells [`Handshake::sent`]; if the peer takes nothing any more, [`Handshake::unsendable`] |
//! | [`Wants::Verdict`] | opens the peer's region (and a server creates its own), then [`Handshake::accept`], or [`Handshake::refuse`] with the reason |
//! | [`Wants::Done`] | goes on to the control frames |
//! | [`Wants::Failed`] | closes the connection |
//!
//! # Invariants
//!
//! - I1. `Verdict` and `Done` are reached only after every field of the peer's
//!   hello was compared and exactly one descriptor was counted.
//! - I2. A descriptor is asked for with the first piece of a hello, and never again
//!   (D3).
//! - I3. The outcome depends on the bytes and the calls, not on how the bytes are cut
//!   into pieces.
//! - I4. No bytes from the peer cause a panic, an allocation beyond one name or
//!   216 bytes of words, or an answer longer than one frame.
//! - I5. The first cause of failure stays; later ones do not replace it.

use std::hash::{BuildHasher, RandomState};

use crate::error::{Field, HandshakeError, Mismatch, Reason, Refusal};
use crate::frame::{
    self, FRAME_LEN, Hello, Limits, Name, Role, check_accept, check_magic, check_prefix,
    decode_refusal, encode_accept, encode_refusal, is_refusal, refusal_of,
};
use crate::layout::Header;

/// Returns a number for a hello that no other hello is likely to have. It ties
/// things together and keeps nobody out.
///
/// ```
/// use memenpsf::handshake::fresh_nonce;
///
/// assert_ne!(fresh_nonce(), fresh_nonce());
/// ```
pub fn fresh_nonce() -> u64 {
    // Keys from the system's random numbers, different at each call.
    RandomState::new().hash_one(std::process::id())
}

/// What the driver of a [`Handshake`] has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Wants<'a> {
    /// Read from the socket.
    Read {
        /// At most so many bytes: what follows this frame may not be part of the
        /// handshake.
        bytes: usize,
        /// At most so many descriptors; zero: read with no buffer for any.
        descriptors: usize,
    },
    /// Write what [`Handshake::transmit`] returns.
    Write,
    /// Open the peer's region, then accept or refuse.
    Verdict {
        /// What the peer said, checked; its header is what to open the region
        /// with.
        peer: &'a Hello,
    },
    /// The connection stands.
    Done {
        /// What the peer said, checked.
        peer: &'a Hello,
    },
    /// The handshake has ended without a connection.
    Failed {
        /// Why.
        error: &'a HandshakeError,
    },
}

/// Bytes to write.
#[derive(Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// The bytes, never empty. Fewer may be written: say so to
    /// [`Handshake::sent`].
    pub bytes: &'a [u8],
    /// Whether the descriptor of the own region has to go with the first of them.
    pub with_descriptor: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SendHello,
    AwaitHello,
    Verdict,
    SendAccept,
    AwaitAccept,
    SendRefusal,
    Done,
    Failed,
}

/// One side of one handshake.
///
/// ```
/// use memenpsf::frame::Limits;
/// use memenpsf::handshake::{Handshake, Wants};
/// use memenpsf::layout::{Header, RegionLayout, RingKind, Shape};
/// use memenpsf::Name;
///
/// let shape = Shape::of::<u64>(RingKind::Index, 16, "");
/// let header = Header { shape, layout: RegionLayout::new(128 + 16 * 8, 4096)?, nonce: 1 };
/// let limits = Limits {
///     region: 4096,
///     producer_len: |shape| shape.capacity.checked_mul(8)?.checked_add(128),
/// };
/// let mut client = Handshake::client(header, Name::new("client")?, limits);
/// let mut server = Handshake::server(header, Name::new("server")?, limits);
///
/// // The client's hello, with a descriptor.
/// let out = client.transmit().unwrap();
/// assert!(out.with_descriptor);
/// assert_eq!(server.receive(out.bytes, 1), 256);
/// client.sent(256);
/// assert!(matches!(server.poll(), Wants::Verdict { peer } if peer.name.as_str() == "client"));
///
/// // The server's, after it has opened the client's region.
/// assert!(server.accept());
/// assert_eq!(client.receive(server.transmit().unwrap().bytes, 1), 256);
/// server.sent(256);
/// assert!(client.accept());
/// assert_eq!(server.receive(client.transmit().unwrap().bytes, 0), 256);
/// client.sent(256);
/// assert!(matches!(server.poll(), Wants::Done { .. }));
/// assert!(matches!(client.poll(), Wants::Done { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Handshake {
    own: Hello,
    limits: Limits,
    state: State,
    /// The frame that comes in, `filled` bytes of it so far.
    inbox: [u8; FRAME_LEN],
    filled: usize,
    /// Descriptors that came with it so far.
    descriptors: usize,
    /// The frame that goes out, `sent` bytes of it so far.
    outbox: [u8; FRAME_LEN],
    sent: usize,
    /// The peer takes no bytes any more; its last frame may still be read.
    mute: bool,
    /// Set before `Verdict`.
    peer: Option<Hello>,
    /// Set before `SendRefusal` and `Failed`.
    error: Option<HandshakeError>,
}

impl Handshake {
    /// Begins a client's handshake: it speaks first.
    pub fn client(header: Header, name: Name, limits: Limits) -> Self {
        Self::begin(Hello::new(Role::Client, header, name), limits)
    }

    /// Begins a server's handshake: it listens first. `header` describes the region
    /// that the server will create once it has to send it.
    pub fn server(header: Header, name: Name, limits: Limits) -> Self {
        Self::begin(Hello::new(Role::Server, header, name), limits)
    }

    /// Begins the handshake of the end that says `own` of itself.
    pub fn begin(own: Hello, limits: Limits) -> Self {
        let role = own.role;
        let mut this = Self {
            limits,
            state: State::AwaitHello,
            inbox: [0; FRAME_LEN],
            filled: 0,
            descriptors: 0,
            outbox: [0; FRAME_LEN],
            sent: 0,
            mute: false,
            peer: None,
            error: None,
            own,
        };
        if role == Role::Client {
            this.send(State::SendHello, this.own.encode());
        }
        this
    }

    /// Returns what the driver has to do next.
    pub fn poll(&self) -> Wants<'_> {
        match (self.state, &self.peer, &self.error) {
            (State::SendHello | State::SendAccept, ..) if !self.mute => Wants::Write,
            (State::SendRefusal, ..) => Wants::Write,
            (State::Verdict, Some(peer), _) => Wants::Verdict { peer },
            (State::Done, Some(peer), _) => Wants::Done { peer },
            (State::Failed, _, Some(error)) => Wants::Failed { error },
            (state, ..) => Wants::Read {
                bytes: FRAME_LEN - self.filled,
                descriptors: match state {
                    State::AwaitHello => 1_usize.saturating_sub(self.descriptors),
                    _ => 0,
                },
            },
        }
    }

    /// Takes bytes that were read, and the number of descriptors that came with
    /// them. Returns how many bytes it took: all of them, but for those that come
    /// after the last frame of a handshake that is done.
    ///
    /// It may be called whatever [`Handshake::poll`] says: a refusal is
    /// understood at any time, anything else out of turn ends the handshake.
    pub fn receive(&mut self, bytes: &[u8], descriptors: usize) -> usize {
        self.descriptors = self.descriptors.saturating_add(descriptors);
        let mut taken = 0;
        loop {
            match self.state {
                State::Done => return taken,
                // Nobody listens any more.
                State::SendRefusal | State::Failed => return bytes.len(),
                _ => {}
            }
            let rest = &bytes[taken..];
            let piece = &rest[..rest.len().min(FRAME_LEN - self.filled)];
            put_piece(&mut self.inbox, self.filled, piece);
            self.filled += piece.len();
            taken += piece.len();
            // As soon as it is clear that this is not our protocol: a stranger may
            // never send a whole frame.
            if self.filled >= 8
                && let Err(mismatch) = check_magic(&self.inbox)
            {
                self.fail(mismatch);
            } else if self.filled == FRAME_LEN {
                let descriptors = self.descriptors;
                self.filled = 0;
                self.descriptors = 0;
                self.frame(descriptors);
            } else {
                return taken;
            }
        }
    }

    /// Handles a whole frame in the inbox.
    fn frame(&mut self, descriptors: usize) {
        if is_refusal(&self.inbox) {
            let refusal = decode_refusal(&self.inbox);
            return self.end(HandshakeError::Refused(refusal));
        }
        if self.mute {
            return self.end(HandshakeError::Closed { received: 0 });
        }
        let verdict = match self.state {
            State::AwaitHello => self.hello(descriptors),
            State::AwaitAccept => self.accepted(descriptors),
            // A frame of a stranger is told so; one of ours has come too early.
            _ => Err(match check_prefix(&self.inbox, frame::HELLO) {
                Err(mismatch) if mismatch.field != Field::FrameKind => mismatch.into(),
                _ => Refusal::from(Reason::OutOfTurn),
            }),
        };
        if let Err(refusal) = verdict {
            self.fail(refusal);
        }
    }

    fn hello(&mut self, descriptors: usize) -> Result<(), Refusal> {
        let own = &self.own;
        let shape = &own.header.shape;
        let peer = Hello::decode(&self.inbox, own.role.opposite(), shape, &self.limits)
            .map_err(|reason| refusal_of(reason, &self.inbox, shape))?;
        count(descriptors, 1)?;
        self.peer = Some(peer);
        self.state = State::Verdict;
        Ok(())
    }

    fn accepted(&mut self, descriptors: usize) -> Result<(), Refusal> {
        check_accept(&self.inbox, self.own.header.nonce)?;
        count(descriptors, 0)?;
        self.state = State::Done;
        Ok(())
    }

    /// Accepts the peer's region. Returns whether there was anything to accept:
    /// the peer may have refused or gone meanwhile.
    #[must_use]
    pub fn accept(&mut self) -> bool {
        match (self.state, &self.peer) {
            (State::Verdict, Some(peer)) => {
                let nonce = peer.header.nonce;
                match self.own.role {
                    Role::Client => self.send(State::SendAccept, encode_accept(nonce)),
                    Role::Server => self.send(State::SendHello, self.own.encode()),
                }
                true
            }
            _ => false,
        }
    }

    /// Ends the handshake, and tells the peer why if no frame is half sent. Does
    /// nothing when the handshake has ended already.
    pub fn refuse(&mut self, refusal: impl Into<Refusal>) {
        if !matches!(self.state, State::Done | State::Failed | State::SendRefusal) {
            self.fail(refusal);
        }
    }

    /// Returns what is to be written, if anything.
    pub fn transmit(&self) -> Option<Outgoing<'_>> {
        if self.poll() != Wants::Write {
            return None;
        }
        Some(Outgoing {
            bytes: &self.outbox[self.sent..],
            with_descriptor: self.state == State::SendHello && self.sent == 0,
        })
    }

    /// Tells that `written` of the bytes that [`Handshake::transmit`] returned are
    /// written.
    pub fn sent(&mut self, written: usize) {
        if self.poll() != Wants::Write {
            return;
        }
        self.sent = self.sent.saturating_add(written).min(FRAME_LEN);
        if self.sent < FRAME_LEN {
            return;
        }
        self.state = match (self.state, self.own.role) {
            (State::SendHello, Role::Client) => State::AwaitHello,
            (State::SendHello, Role::Server) => State::AwaitAccept,
            (State::SendAccept, _) => State::Done,
            _ => State::Failed,
        };
    }

    /// Tells that the peer takes no bytes any more (EPIPE, ECONNRESET). What it
    /// said last may still be read: the reason why.
    pub fn unsendable(&mut self) {
        match self.state {
            State::SendRefusal => self.state = State::Failed,
            State::Done | State::Failed => {}
            _ => self.mute = true,
        }
    }

    /// Tells that the peer's stream has ended.
    pub fn closed(&mut self) {
        match self.state {
            State::SendRefusal => self.state = State::Failed,
            State::Done | State::Failed => {}
            _ => self.end(HandshakeError::Closed {
                received: self.filled,
            }),
        }
    }

    /// Returns what the peer said of itself, once it has been checked.
    pub fn peer(&self) -> Option<&Hello> {
        self.peer.as_ref()
    }

    /// Refuses the peer: sends the refusal where the peer can tell it from a frame
    /// that is half sent.
    fn fail(&mut self, refusal: impl Into<Refusal>) {
        let refusal = refusal.into();
        let sending = matches!(self.state, State::SendHello | State::SendAccept);
        let half_sent = sending && self.sent > 0;
        let frame = encode_refusal(&refusal);
        self.end(HandshakeError::Refusing(refusal));
        if !half_sent && !self.mute {
            self.send(State::SendRefusal, frame);
        }
    }

    fn end(&mut self, error: HandshakeError) {
        self.error.get_or_insert(error);
        self.state = State::Failed;
    }

    fn send(&mut self, state: State, frame: [u8; FRAME_LEN]) {
        self.state = state;
        self.outbox = frame;
        self.sent = 0;
    }
}

/// Refuses another number of descriptors than a frame has to bring.
fn count(found: usize, expected: u64) -> Result<(), Mismatch> {
    crate::layout::compare(Field::Descriptors, found as u64, expected)
}

/// Copies a piece into the inbox; the caller has cut it to what fits.
fn put_piece(inbox: &mut [u8; FRAME_LEN], at: usize, piece: &[u8]) {
    crate::layout::put(inbox, at, piece);
}
