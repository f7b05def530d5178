//! One round of a server: waits once, then does what can be done without waiting.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use memenpsf_fdpass::{Credentials, Deadline, peer_credentials, try_send};
use nix::errno::Errno;
use nix::poll::PollTimeout;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::bind::AcceptFailure;
use super::{BATCH, Client, HalfOpen, LISTENER, PeerInfo, Server, TIMER};
use crate::error::{AcceptError, ConnectError, HandshakeError, Reason, Refusal};
use crate::establish::{Establishing, Progress};
use crate::frame::{Hello, Role, encode_refusal};
use crate::message::Message;

/// How long accepting pauses when the system lacks something. Trying at once would
/// be a busy loop, as the listener stays readable. Twenty tries a second cost nothing,
/// and the clients wait in the backlog meanwhile: a shortage that passes hurts nobody.
const PAUSE: Duration = Duration::from_millis(50);

/// Connections in the backlog that are refused in words when the server ends: as
/// many as the kernel lets wait.
const BACKLOG: usize = 4096;

impl<T: Message + ?Sized> Server<T> {
    /// Waits until something happens or until the deadline, and handles it. Tells
    /// whether anything was there. A signal ends the wait early.
    pub(super) fn round(&mut self, deadline: Deadline) -> Result<bool, AcceptError> {
        let mut events = [EpollEvent::empty(); BATCH];
        let count = match self.epoll.wait(&mut events, timeout(deadline)) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(broken(errno)),
        };
        let mut accept = None;
        for event in &events[..count] {
            match event.data() {
                LISTENER => accept = Some(event.events()),
                TIMER => self.alarm.clear(),
                id if self.half_open.contains_key(&id) => self.advance(id),
                id => self.list(id),
            }
        }
        self.expire();
        if self.paused.is_some_and(Deadline::has_passed) {
            self.watch_listener(true)?;
            self.paused = None;
        }
        // Last, so that a listener that fails keeps nobody else from being served.
        let accepted = accept.map_or(Ok(()), |events| self.accept_batch(events));
        self.set_alarm()?;
        accepted.map(|()| count > 0 || !self.failed.is_empty())
    }

    /// Sets the alarm for the first deadline (I4, I5).
    fn set_alarm(&mut self) -> Result<(), AcceptError> {
        let first = self.half_open.first_key_value();
        let first = first.map(|(_, half_open)| half_open.deadline);
        let deadlines = [first, self.paused].into_iter().flatten();
        match deadlines.filter_map(Deadline::instant).min() {
            Some(next) => self.alarm.set(next).map_err(broken),
            None => Ok(()),
        }
    }

    /// Accepts the connections that wait, up to a batch of them.
    fn accept_batch(&mut self, events: EpollFlags) -> Result<(), AcceptError> {
        // A listener that was shut down says so here only: `accept` says that nobody
        // is waiting, for ever.
        let shut_down = events.contains(EpollFlags::EPOLLHUP);
        for _ in 0..BATCH {
            match self.listener.socket.accept() {
                Ok((stream, _)) => self.admit(stream),
                Err(error) => match AcceptFailure::of(&error) {
                    AcceptFailure::Empty | AcceptFailure::Shortage if shut_down => {
                        return Err(AcceptError::Listener(Errno::EINVAL.into()));
                    }
                    AcceptFailure::Empty => break,
                    AcceptFailure::Next => {}
                    AcceptFailure::Shortage => {
                        self.stats.pauses += 1;
                        self.paused = Some(Deadline::after(PAUSE));
                        return self.watch_listener(false);
                    }
                    AcceptFailure::Fatal => return Err(AcceptError::Listener(error)),
                },
            }
        }
        Ok(())
    }

    /// Takes the listener out of the set's view, or in again.
    fn watch_listener(&self, watch: bool) -> Result<(), AcceptError> {
        let flags = if watch {
            EpollFlags::EPOLLIN
        } else {
            EpollFlags::empty()
        };
        self.epoll
            .modify(&self.listener.socket, &mut EpollEvent::new(flags, LISTENER))
            .map_err(broken)
    }

    /// Begins the handshake with a client that has just connected.
    fn admit(&mut self, stream: UnixStream) {
        let Ok(credentials) = peer_credentials(&stream) else {
            // Nobody is known to be there, so there is nobody to tell of either.
            self.stats.failed += 1;
            return;
        };
        let permitted = match &mut self.admit_user {
            Some(policy) => policy(credentials),
            None => Ok(()),
        };
        // Before anything is spent; asked again after the hello.
        let room = permitted.and_then(|()| self.ledger.has_room(credentials.uid));
        if let Err(refusal) = room.and_then(|()| self.make_room(credentials.uid)) {
            turn_away(&stream, &refusal);
            self.fail(credentials, HandshakeError::Refusing(refusal).into());
            return;
        }
        let begun = Establishing::begin::<T>(stream, Role::Server, &self.connection);
        let establishing = match begun {
            Ok(establishing) => establishing,
            Err(error) => return self.fail(credentials, error),
        };
        let id = self.next_id;
        self.next_id += 1;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, id);
        if let Err(errno) = self.epoll.add(&establishing, event) {
            return self.fail(credentials, ConnectError::Wait(errno.into()));
        }
        let half_open = HalfOpen {
            establishing,
            credentials,
            deadline: self.connection.handshake_deadline(),
            writes: false,
        };
        self.half_open.insert(id, half_open);
        // Its hello is usually there.
        self.advance(id);
    }

    /// Makes room for one more handshake: of the user who has most of them, with
    /// the new one of `newcomer`, the oldest gives way.
    fn make_room(&mut self, newcomer: u32) -> Result<(), Refusal> {
        if self.half_open.len() < self.max_half_open {
            return Ok(());
        }
        let mut counts = HashMap::from([(newcomer, 1_usize)]);
        for half_open in self.half_open.values() {
            *counts.entry(half_open.credentials.uid).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|&(_, count)| count);
        let most = most.map_or(newcomer, |(user, _)| user);
        let oldest = self
            .half_open
            .iter()
            .find_map(|(id, half_open)| (half_open.credentials.uid == most).then_some(*id));
        let refusal = Refusal::from(Reason::HalfOpen {
            limit: self.max_half_open as u64,
        });
        match oldest {
            Some(id) => {
                let error = HandshakeError::Refusing(refusal.clone());
                self.give_up(id, refusal, error.into());
                Ok(())
            }
            None => Err(refusal),
        }
    }

    /// Ends a handshake and tells the client why.
    fn give_up(&mut self, id: u64, refusal: Refusal, error: ConnectError) {
        if let Some(mut half_open) = self.half_open.remove(&id) {
            half_open.establishing.refuse(refusal);
            self.end(&half_open, error);
        }
    }

    /// Goes on with a handshake as far as that is possible without waiting.
    fn advance(&mut self, id: u64) {
        // Out of the map meanwhile: a policy that panics ends this client only.
        let Some(mut half_open) = self.half_open.remove(&id) else {
            return;
        };
        let credentials = half_open.credentials;
        let (policy, ledger) = (&mut self.admit_client, &self.ledger);
        let progress = half_open.establishing.advance_with(|hello, own| {
            let memory = own.saturating_add(hello.header.region_length());
            if let Some(policy) = policy {
                policy(&peer_info(credentials, hello, memory))?;
            }
            ledger.take(credentials.uid, memory, &hello.name).map(Some)
        });
        match progress {
            Ok(Progress::Done) => self.finish(id, half_open),
            Ok(Progress::Readable) => self.keep(id, half_open, false),
            Ok(Progress::Writable) => self.keep(id, half_open, true),
            Err(error) => self.end(&half_open, error),
        }
    }

    /// Keeps a handshake that waits.
    fn keep(&mut self, id: u64, mut half_open: HalfOpen, writes: bool) {
        if half_open.writes != writes {
            half_open.writes = writes;
            let flags = if writes {
                EpollFlags::EPOLLOUT
            } else {
                EpollFlags::EPOLLIN
            };
            let changed = self
                .epoll
                .modify(&half_open.establishing, &mut EpollEvent::new(flags, id));
            if let Err(errno) = changed {
                return self.end(&half_open, ConnectError::Wait(errno.into()));
            }
        }
        self.half_open.insert(id, half_open);
    }

    /// Makes a client of a handshake that is done.
    fn finish(&mut self, id: u64, half_open: HalfOpen) {
        let credentials = half_open.credentials;
        let interface = match half_open.establishing.into_interface::<T>() {
            Ok(interface) => interface,
            Err(error) => return self.fail(credentials, error),
        };
        // Edge-triggered: what is in the socket says nothing new (I1).
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        if let Err(errno) = self
            .epoll
            .modify(&interface, &mut EpollEvent::new(flags, id))
        {
            return self.fail(credentials, ConnectError::Wait(errno.into()));
        }
        self.stats.connected += 1;
        self.clients.insert(id, Client::new(interface));
        self.connected.push_back(id);
    }

    /// Refuses the handshakes whose time is up (I4).
    fn expire(&mut self) {
        while let Some((&id, half_open)) = self.half_open.first_key_value()
            && half_open.deadline.has_passed()
        {
            self.give_up(id, Reason::Deadline.into(), ConnectError::Timeout);
        }
    }

    /// Notes a handshake that has failed, whose socket is about to be closed.
    fn end(&mut self, half_open: &HalfOpen, error: ConnectError) {
        // The set forgets it with its descriptor at the latest.
        let _ = self.epoll.delete(half_open.establishing.as_fd());
        self.fail(half_open.credentials, error);
    }

    fn fail(&mut self, credentials: Credentials, error: ConnectError) {
        self.stats.failed += 1;
        self.failed.push_back((credentials, error));
    }

    /// Refuses the clients in the backlog.
    pub(super) fn refuse_waiting(&self, reason: Reason) {
        let refusal = Refusal::from(reason);
        for _ in 0..BACKLOG {
            match self.listener.socket.accept() {
                Ok((stream, _)) => turn_away(&stream, &refusal),
                Err(error) if AcceptFailure::of(&error) == AcceptFailure::Next => {}
                Err(_) => return,
            }
        }
    }
}

fn broken(errno: Errno) -> AcceptError {
    AcceptError::Wait(errno.into())
}

fn peer_info(credentials: Credentials, hello: &Hello, memory: u64) -> PeerInfo<'_> {
    PeerInfo {
        credentials,
        name: hello.name.as_str(),
        capacity: usize::try_from(hello.header.shape.capacity).unwrap_or(usize::MAX),
        memory,
    }
}

/// Refuses a client before its handshake: its next frame is the reason, whatever
/// it is about to say.
fn turn_away(stream: &UnixStream, refusal: &Refusal) {
    // An empty socket takes a frame; a client that is gone needs none.
    let _ = try_send(stream, &encode_refusal(refusal), &[]);
}

/// Returns what epoll waits for: rounded up, so that the last wait does not
/// become a busy loop, and cut to what it can wait for at once.
fn timeout(deadline: Deadline) -> PollTimeout {
    deadline.remaining().map_or(PollTimeout::NONE, |left| {
        let millis = left.as_nanos().div_ceil(1_000_000);
        u16::try_from(millis).map_or(PollTimeout::from(u16::MAX), PollTimeout::from)
    })
}
