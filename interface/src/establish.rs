//! Making a connection: drives the handshake over a socket, opens the peer's
//! region and makes our own.
//!
//! # Invariants
//!
//! - I1: the own region is made when its descriptor is about to be sent: by a
//!   client at once, by a server after a valid hello.
//! - I2: the own descriptor is closed as soon as it has been sent, the peer's as
//!   soon as it is mapped; neither outlives an `Establishing`.
//! - I3: [`Establishing::advance`] never waits, so many can be driven side by side.
//!
//! # Trust
//!
//! The peer decides about every byte and descriptor. Bytes go to [`Handshake`],
//! descriptors to [`PeerRegion::open`], both of which check all they use.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use memenpsf_fdpass::{
    Deadline, ReceiveError, SendError, peer_credentials, refuse_descriptors, try_receive,
    try_receive_bytes, try_send,
};
use memenpsf_ring::LayoutError;
use memenpsf_ring::memory::Split;
use memenpsf_ring::wake::{For, Sleeper, Waker};
use nix::poll::PollFlags;

use crate::connection::{Connection, Peer};
use crate::error::{ConnectError, Field, Mismatch, Reason, Refusal};
use crate::fail_point;
use crate::frame::{Flags, Hello, Limits, Name, Role};
use crate::handshake::{Handshake, Wants, fresh_nonce};
use crate::interface::Interface;
use crate::layout::{Header, RegionLayout, RingKind, Shape};
use crate::message::{Blocks, Message, Terms};
use crate::options::Options;
use crate::receiver::Receiver;
use crate::region::{OwnRegion, PeerRegion};
use crate::server::Place;
use crate::transmitter::Transmitter;
use crate::wait::{Bell, Waiter, Waiting, membarrier, wait_for};

/// A handshake on its way, with what it has made so far.
#[derive(Debug)]
pub(crate) struct Establishing {
    stream: UnixStream,
    handshake: Handshake,
    role: Role,
    name: Name,
    header: Header,
    flags: Flags,
    own: Option<OwnRegion>,
    /// The own region's descriptor, until it is sent (I2).
    descriptor: Option<OwnedFd>,
    /// The peer's region's descriptor, until it is mapped (I2).
    received: Option<OwnedFd>,
    theirs: Option<PeerRegion>,
    /// Prepares the own region's blocks for rings that begin at `start`.
    begin_rings: BeginRings,
    /// Position at which both rings begin.
    start: u64,
    /// The longest message that this side accepts, 0 for plain data.
    accepts: u64,
    /// How long this side spins at most before it sleeps.
    longest_spin: Duration,
    /// The place that the peer takes among a server's clients.
    place: Option<Place>,
}

/// See [`Rings::begin`](crate::message::Rings::begin).
type BeginRings = unsafe fn(NonNull<u8>, NonNull<u8>, &Shape, u64) -> Result<(), LayoutError>;

/// What a handshake waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Readable,
    Writable,
    Done,
}

impl Establishing {
    /// Checks what the caller has chosen, and returns what follows from it.
    pub(crate) fn check<T: Message + ?Sized>(
        options: &Options,
    ) -> Result<(Name, Header), ConnectError> {
        let name = Name::new(&options.name)?;
        let (shape, block) = T::describe(options)?;
        let header = Header {
            shape,
            layout: RegionLayout::new(block.size() as u64, options.region_limit)?,
            nonce: fresh_nonce(),
        };
        Ok((name, header))
    }

    /// Begins a handshake for messages of type `T`.
    pub(crate) fn begin<T: Message + ?Sized>(
        stream: UnixStream,
        role: Role,
        options: &Options,
    ) -> Result<Self, ConnectError> {
        let (name, header) = Self::check::<T>(options)?;
        let limits = Limits {
            region: options.region_limit,
            producer_len: T::producer_len,
        };
        let accepts = match header.shape.kind {
            RingKind::Bytes => options.accepts,
            _ => 0,
        };
        let own = Hello {
            role,
            header,
            flags: Flags {
                spins: options.waiting == Waiting::Spin,
                barrier: options.asymmetric && membarrier::is_available(),
            },
            accepts,
            name: name.clone(),
        };
        fail_point::reach("handshake: begin");
        let mut this = Self {
            flags: own.flags,
            handshake: Handshake::begin(own, limits),
            stream,
            role,
            name,
            header,
            own: None,
            descriptor: None,
            received: None,
            theirs: None,
            begin_rings: T::begin,
            accepts,
            longest_spin: options.longest_spin,
            start: options.start,
            place: None,
        };
        if role == Role::Client {
            this.make_region()?;
        }
        Ok(this)
    }

    #[expect(
        unsafe_code,
        reason = "writes the first positions into memory that was just mapped"
    )]
    fn make_region(&mut self) -> Result<(), ConnectError> {
        let (region, descriptor) = OwnRegion::create(&self.name, &self.header)?;
        let (producer, consumer) = (region.producer_block(), region.consumer_block());
        // SAFETY: both are zeroed blocks of a region that was laid out for this shape
        // and that is not shared yet.
        unsafe { (self.begin_rings)(producer, consumer, &self.header.shape, self.start) }?;
        self.own = Some(region);
        self.descriptor = Some(descriptor);
        fail_point::reach("handshake: region made");
        Ok(())
    }

    /// Does what can be done without waiting, and tells what to wait for.
    pub(crate) fn advance(&mut self) -> Result<Progress, ConnectError> {
        self.advance_with(|_, _| Ok(None))
    }

    /// As [`advance`](Self::advance). `admit` decides about the peer once its hello
    /// is known, before its region is mapped; it gets the length of the own region
    /// too.
    pub(crate) fn advance_with(
        &mut self,
        mut admit: impl FnMut(&Hello, u64) -> Result<Option<Place>, Refusal>,
    ) -> Result<Progress, ConnectError> {
        loop {
            match self.handshake.poll() {
                Wants::Read { bytes, descriptors } => {
                    if !self.read(bytes, descriptors)? {
                        return Ok(Progress::Readable);
                    }
                }
                Wants::Write => {
                    if !self.write()? {
                        return Ok(Progress::Writable);
                    }
                }
                Wants::Verdict { peer } => match admit(peer, self.header.region_length()) {
                    Ok(place) => {
                        self.place = place;
                        self.decide()?;
                    }
                    Err(refusal) => self.handshake.refuse(refusal),
                },
                Wants::Done { .. } => return Ok(Progress::Done),
                Wants::Failed { error } => return Err(ConnectError::Handshake(error.clone())),
            }
        }
    }

    /// Reads once. `false` means that there is nothing to read yet.
    fn read(&mut self, bytes: usize, descriptors: usize) -> Result<bool, ConnectError> {
        let mut buffer = [0; crate::frame::FRAME_LEN];
        let buffer = &mut buffer[..bytes];
        let received = if descriptors > 0 {
            try_receive(&self.stream, buffer).map(|received| (received.bytes, received.fds))
        } else {
            try_receive_bytes(&self.stream, buffer).map(|bytes| (bytes, Vec::new()))
        };
        match received {
            Ok((bytes, fds)) => {
                fail_point::reach("handshake: read");
                let count = fds.len();
                // A second descriptor ends the handshake below; all close here.
                self.received = fds.into_iter().next().or(self.received.take());
                self.handshake.receive(&buffer[..bytes], count);
                Ok(true)
            }
            Err(ReceiveError::WouldBlock) => Ok(false),
            Err(ReceiveError::Closed { .. }) => {
                self.handshake.closed();
                Ok(true)
            }
            // There was room for it, so it is this process that cannot take it.
            Err(error @ ReceiveError::Truncated { .. }) if descriptors > 0 => {
                let words = "no descriptor is free";
                self.handshake
                    .refuse(Refusal::with_words(Reason::Region, words));
                // As in `decide`.
                let _ = self.write();
                Err(ConnectError::Receive(error))
            }
            Err(ReceiveError::Truncated { received, .. }) => {
                self.handshake.refuse(Reason::Mismatch(Mismatch {
                    field: Field::Descriptors,
                    found: received as u64 + 1,
                    expected: descriptors as u64,
                }));
                Ok(true)
            }
            Err(error) => Err(ConnectError::Receive(error)),
        }
    }

    /// Writes once. `false` means that the socket takes nothing now.
    fn write(&mut self) -> Result<bool, ConnectError> {
        let Some(outgoing) = self.handshake.transmit() else {
            return Ok(true);
        };
        let with = outgoing.with_descriptor.then_some(self.descriptor.as_ref());
        let descriptor = with.flatten().map(AsFd::as_fd);
        fail_point::reach("handshake: write");
        match try_send(&self.stream, outgoing.bytes, descriptor.as_slice()) {
            Ok(written) => {
                fail_point::reach("handshake: written");
                // The kernel holds a reference of its own now (I2).
                self.descriptor = None;
                self.handshake.sent(written);
                Ok(true)
            }
            Err(SendError::WouldBlock) => Ok(false),
            Err(SendError::Closed { .. }) => {
                self.handshake.unsendable();
                Ok(true)
            }
            Err(error) => Err(ConnectError::Send(error)),
        }
    }

    /// Opens the peer's region, and as a server makes our own.
    fn decide(&mut self) -> Result<(), ConnectError> {
        let (Some(peer), Some(descriptor)) = (self.handshake.peer(), self.received.take()) else {
            self.handshake.refuse(Reason::Region);
            return Ok(());
        };
        fail_point::reach("handshake: region received");
        match PeerRegion::open(descriptor, &peer.header) {
            Ok(region) => {
                self.theirs = Some(region);
                fail_point::reach("handshake: region open");
            }
            Err(error) => {
                self.handshake.refuse(&error);
                return Ok(());
            }
        }
        if self.own.is_none()
            && let Err(error) = self.make_region()
        {
            self.handshake.refuse(Reason::Region);
            // The peer is told if its socket takes a frame, as it does unless
            // it is hostile; our own error is what the caller needs.
            let _ = self.write();
            return Err(error);
        }
        // When the peer has refused meanwhile, the next poll says so.
        let _ = self.handshake.accept();
        Ok(())
    }

    /// Ends the handshake, and tells the peer why if its socket takes a frame.
    pub(crate) fn refuse(&mut self, refusal: impl Into<Refusal>) {
        self.handshake.refuse(refusal);
        // It ends by our own refusal, which is no news.
        let _ = self.advance();
    }

    /// Drives the handshake to its end, waiting until `deadline` at most.
    pub(crate) fn finish(mut self, deadline: Deadline) -> Result<Self, ConnectError> {
        loop {
            let events = match self.advance()? {
                Progress::Done => return Ok(self),
                Progress::Readable => PollFlags::POLLIN,
                Progress::Writable => PollFlags::POLLOUT,
            };
            if deadline.has_passed() {
                self.refuse(Reason::Deadline);
                return Err(ConnectError::Timeout);
            }
            wait_for(&self.stream, events, deadline);
        }
    }

    /// Puts the connection together once the handshake is done.
    #[expect(
        unsafe_code,
        reason = "a ring is attached to memory that was mapped as its layout says"
    )]
    pub(crate) fn into_interface<T: Message + ?Sized>(self) -> Result<Interface<T>, ConnectError> {
        fail_point::reach("handshake: done");
        let (Wants::Done { peer }, Some(own), Some(theirs)) =
            (self.handshake.poll(), self.own, self.theirs)
        else {
            return Err(ConnectError::Unfinished);
        };
        let (Some(peer_consumer), Some(peer_producer), Some(sleeps)) = (
            NonNull::new(theirs.consumer_block().cast_mut()),
            NonNull::new(theirs.producer_block().cast_mut()),
            NonNull::new(theirs.waiting().cast_mut()),
        ) else {
            return Err(ConnectError::Unfinished);
        };
        let blocks = Blocks {
            producer: own.producer_block(),
            consumer: own.consumer_block(),
            peer_producer,
            peer_consumer,
        };
        let (ours, yours) = (self.header.shape, peer.header.shape);
        let terms = Terms {
            outbound: Shape {
                longest: ours.longest.min(peer.accepts),
                ..ours
            },
            inbound: Shape {
                longest: yours.longest.min(self.accepts),
                ..yours
            },
            start: self.start,
        };
        // SAFETY: the own blocks lie in a region that was laid out for the own shape,
        // the peer's at their places in a region that was checked to be as long as its
        // shape asks, and a shorter longest message asks for less. All are
        // page-aligned plus a multiple of 128. Each region outlives its handles
        // through `Connection` (its I1). Nothing else in this process touches the
        // blocks: this is called once, with a fresh region.
        let (producer, consumer) = unsafe { T::attach(blocks, &terms) }?;

        let waiting = if self.flags.spins {
            Waiting::Spin
        } else {
            Waiting::Adaptive
        };
        let asymmetric = self.flags.barrier && peer.flags.barrier;
        // SAFETY: the own waiting words lie in a region of ours, the peer's at
        // their place in its region; both outlive the handles like the blocks.
        // Each word has one handle that writes it.
        let words = || unsafe { Split::new(own.waiting(), sleeps) };
        let longest = self.longest_spin;
        let waiter = |what| Waiter::new(Sleeper::new(words(), what), waiting, asymmetric, longest);
        // The consumer is woken by what the transmitter publishes.
        let bell = |what| {
            let waker = Waker::new(words(), what, !asymmetric);
            Bell::new((!peer.flags.spins).then_some(waker))
        };
        let (data, space) = (waiter(For::Data), waiter(For::Space));
        let (data_bell, space_bell) = (bell(For::Data), bell(For::Space));

        let peer = Peer {
            name: peer.name.clone(),
            credentials: peer_credentials(&self.stream).map_err(ConnectError::Wait)?,
            capacity: usize::try_from(yours.capacity).unwrap_or(usize::MAX),
        };
        // Where the kernel can, it keeps descriptors out from now on (D2); where it
        // cannot, one that comes ends the connection.
        let _ = refuse_descriptors(&self.stream);
        let (stream, name, place) = (self.stream, self.name, self.place);
        let connection = Connection::new(stream, name, self.role, peer, own, theirs, place);
        let connection = Arc::new(connection);
        Ok(Interface::from_halves(
            Transmitter::new(producer, Arc::clone(&connection), space, data_bell),
            Receiver::new(consumer, connection, data, space_bell),
        ))
    }
}

impl AsFd for Establishing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
