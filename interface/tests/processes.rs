//! Processes of their own: this test binary, started again for the role that
//! the environment names.
//!
//! `MEMENPSF_KILLS` is the number of processes that are killed at random times, of
//! each role over each kind of ring (15 without it), and of the random stops of
//! each kind of ring.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::process::{Child, Note, Part, Place};
use common::{HANG, RINGS, holdings, let_the_clock_tick, until};
use memenpsf::options::Ring;
use memenpsf::{Departure, Interface, Options, RecvError, XmitError};
use nix::sys::signal::Signal;

const COUNT: u64 = 100_000;
const CAPACITY: usize = 64;
/// Messages there and back between two processes that are stopped meanwhile.
const TURNS: u64 = 2_000;

fn kills() -> u64 {
    std::env::var("MEMENPSF_KILLS").map_or(15, |count| count.parse().unwrap())
}

/// A number, and words that show when it is torn or misplaced.
type Message = [u64; 3];

fn numbered(n: u64) -> Message {
    let scattered = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    [n, scattered, n.rotate_left(31) ^ scattered]
}

/// How far an exchange of numbered messages has come.
#[derive(Default)]
struct Exchange {
    sent: u64,
    received: u64,
}

impl Exchange {
    /// Sends one more message if there is room and any are left; `true` if it did.
    fn send(&mut self, interface: &mut Interface<Message>) -> bool {
        if self.sent == COUNT {
            return false;
        }
        match interface.xmit(numbered(self.sent)) {
            Ok(()) => {
                self.sent += 1;
                true
            }
            Err(XmitError::Full(message)) => {
                assert_eq!(message, numbered(self.sent));
                false
            }
            Err(error) => panic!("{error} after {} messages", self.sent),
        }
    }

    /// Receives one more message if there is one; `true` if it did.
    fn receive(&mut self, interface: &mut Interface<Message>) -> bool {
        match interface.recv() {
            Ok(Some(message)) => {
                assert_eq!(message, numbered(self.received));
                self.received += 1;
                true
            }
            Ok(None) => false,
            Err(error) => panic!("{error} after {} messages", self.received),
        }
    }

    /// Goes on until both have sent and received all.
    fn finish(&mut self, interface: &mut Interface<Message>) {
        let began = Instant::now();
        while self.sent < COUNT || self.received < COUNT {
            let moved = self.send(interface) | self.receive(interface);
            if !moved {
                std::thread::yield_now();
            }
            assert!(began.elapsed() < HANG, "stuck");
        }
    }
}

fn options(ring: Ring) -> Options {
    let options = Options::new().ring(ring).capacity(CAPACITY);
    options.wait_for_server(HANG)
}

// --- what a child does ---

#[test]
#[ignore = "what the child processes of the other tests run"]
fn child() {
    let Some(part) = Part::of_this_process() else {
        return;
    };
    let (role, ring) = part.role.split_once(" over ").unwrap();
    let ring = match ring {
        "Packed" => Ring::Packed,
        _ => Ring::Index,
    };
    match role {
        "host" => return take_turns(host(&part.address, ring), part.note.word()),
        "guest" => return take_turns(connect(&part.address, ring), part.note.word()),
        _ => {}
    }
    let mut interface = connect(&part.address, ring);
    match role {
        "exchange" => Exchange::default().finish(&mut interface),
        // Until killed.
        "produce" => produce(&mut interface, part.note.word()),
        "consume" => consume(&mut interface, part.note.word()),
        role => panic!("no such role: {role}"),
    }
}

fn connect(address: &Path, ring: Ring) -> Interface<Message> {
    Interface::connect_with(address, &options(ring)).unwrap()
}

/// Takes the connection of a guest.
fn host(address: &Path, ring: Ring) -> Interface<Message> {
    let (stream, _) = UnixListener::bind(address).unwrap().accept().unwrap();
    Interface::accept_with(stream, &options(ring)).unwrap()
}

/// Sends a message and waits for one, many times: each side sleeps as often as it can.
fn take_turns(mut interface: Interface<Message>, note: &AtomicU64) {
    for n in 0..TURNS {
        interface.xmit_timeout(numbered(n), Some(HANG)).unwrap();
        let message = interface.recv_timeout(Some(HANG)).unwrap();
        assert_eq!(message, Some(numbered(n)));
        note.store(n + 1, Ordering::Release);
    }
}

fn produce(interface: &mut Interface<Message>, note: &AtomicU64) {
    let mut next = 0;
    loop {
        match interface.xmit(numbered(next)) {
            Ok(()) => {
                next += 1;
                note.store(next, Ordering::Release);
            }
            Err(XmitError::Full(_)) => std::thread::yield_now(),
            Err(_) => return,
        }
    }
}

fn consume(interface: &mut Interface<Message>, note: &AtomicU64) {
    let mut exchange = Exchange::default();
    loop {
        if exchange.receive(interface) {
            note.store(exchange.received, Ordering::Release);
        } else {
            std::thread::yield_now();
        }
    }
}

// --- and what starts it ---

/// Starts a child in a role, and takes its connection over a kind of ring.
fn start(place: &Place, role: &str, ring: Ring) -> (Child, Interface<Message>) {
    place.start(&format!("{role} over {ring:?}"), &options(ring))
}

/// Receives until the end, and returns the number of messages and the end. They
/// are counted from 0 without a gap.
fn drain(interface: &mut Interface<Message>, mut received: u64) -> (u64, RecvError) {
    let mut messages = Vec::new();
    let end = until(|| {
        // One call and another, by turns.
        let result = if received.is_multiple_of(2) {
            interface.recv().map(|message| messages.extend(message))
        } else {
            interface.recv_into(&mut messages, 7).map(drop)
        };
        for message in messages.drain(..) {
            assert_eq!(message, numbered(received));
            received += 1;
        }
        result.err()
    });
    for _ in 0..100 {
        assert_eq!(interface.recv(), Err(end));
    }
    (received, end)
}

const GONE: RecvError = RecvError::Closed(Departure::Gone);

/// A number up to `limit`, another one at each call.
fn random(limit: u64) -> u64 {
    memenpsf::handshake::fresh_nonce() % limit
}

#[test]
fn unrelated_processes_exchange_numbered_messages_both_ways() {
    for ring in RINGS {
        let place = Place::new();
        let (child, mut interface) = start(&place, "exchange", ring);
        assert_eq!(interface.peer().credentials().pid, Some(child.id()));
        Exchange::default().finish(&mut interface);
        child.finish();
        // It has said goodbye.
        let (_, end) = drain(&mut interface, 0);
        assert_eq!(end, RecvError::Closed(Departure::Closed));
    }
}

#[test]
fn killed_producer_leaves_an_exact_prefix_and_then_gone() {
    let mut checked = 0;
    for ring in RINGS {
        let place = Place::new();
        for _ in 0..kills() {
            let (child, mut interface) = start(&place, "produce", ring);
            let note = place.note();
            let mut exchange = Exchange::default();
            let enough = random(5000);
            until(|| {
                exchange.receive(&mut interface);
                (exchange.received >= enough).then_some(())
            });
            child.kill();
            let (received, end) = drain(&mut interface, exchange.received);
            let noted = note.word().load(Ordering::Acquire);
            // What was transmitted and not yet noted is one message at most.
            assert!(
                (noted..=noted + 1).contains(&received),
                "noted {noted}, received {received}"
            );
            assert_eq!(end, GONE);
            checked += received;
        }
    }
    println!(
        "evidence: {} producers killed at random times, {checked} messages checked",
        2 * kills()
    );
}

#[test]
fn ring_of_a_dead_process_is_read_to_its_last_message() {
    for ring in RINGS {
        let place = Place::new();
        let (child, mut interface) = start(&place, "produce", ring);
        let note = place.note();
        let full = CAPACITY as u64;
        until(|| (note.word().load(Ordering::Acquire) == full).then_some(()));
        child.kill();
        // The child's memory is mapped here alone now.
        assert_eq!(drain(&mut interface, 0), (full, GONE));
        let message = numbered(0);
        assert_eq!(
            until(|| interface.xmit(message).err()),
            XmitError::Closed(message, Departure::Gone)
        );
    }
}

#[test]
fn killed_consumer_ends_the_producer_which_keeps_its_message() {
    for ring in RINGS {
        let place = Place::new();
        for _ in 0..kills() {
            let (child, mut interface) = start(&place, "consume", ring);
            let note = place.note();
            let mut exchange = Exchange::default();
            let enough = random(5000);
            until(|| {
                exchange.send(&mut interface);
                (exchange.sent >= enough).then_some(())
            });
            child.kill();
            let error = until(|| match interface.xmit(numbered(exchange.sent)) {
                Ok(()) => {
                    exchange.sent += 1;
                    None
                }
                Err(XmitError::Full(_)) => None,
                Err(error) => Some(error),
            });
            let message = numbered(exchange.sent);
            assert_eq!(error, XmitError::Closed(message, Departure::Gone));
            // The child had found nothing wrong.
            assert!(note.word().load(Ordering::Acquire) <= exchange.sent);
            assert_eq!(interface.recv(), Err(GONE));
        }
    }
    println!("evidence: {} consumers killed at random times", 2 * kills());
}

#[test]
fn stopped_process_loses_nothing_and_counts_as_alive() {
    for ring in RINGS {
        let place = Place::new();
        let (child, mut interface) = start(&place, "exchange", ring);
        let mut exchange = Exchange::default();
        for pause in [1_000, 30_000, 60_000] {
            until(|| {
                exchange.send(&mut interface);
                exchange.receive(&mut interface);
                (exchange.received >= pause).then_some(())
            });
            child.signal(Signal::SIGSTOP);
            assert!(child.stops());
            while exchange.receive(&mut interface) {}
            // The other way round, its ring fills, and that is all.
            while exchange.send(&mut interface) {}
            for _ in 0..5 {
                let_the_clock_tick();
                assert!(!exchange.receive(&mut interface));
                assert!(!exchange.send(&mut interface));
            }
            child.signal(Signal::SIGCONT);
        }
        exchange.finish(&mut interface);
        child.finish();
    }
}

/// Either side, wherever it is in its work or its sleep.
#[test]
fn processes_stopped_at_random_times_lose_nothing() {
    let mut all = 0;
    for ring in RINGS {
        let mut stops = 0;
        while stops < kills() {
            let folder = tempfile::tempdir().unwrap();
            let address = folder.path().join("socket");
            let sides = ["host", "guest"].map(|role| {
                let note = folder.path().join(role);
                let child = Child::start(&format!("{role} over {ring:?}"), &address, &note);
                (child, Note::open(&note))
            });
            let turns = |side: usize| sides[side].1.word().load(Ordering::Acquire);
            until(|| (turns(0) > 0).then_some(()));
            while turns(0) < TURNS && turns(1) < TURNS {
                // What the time is does not matter, as long as it is another one.
                std::thread::sleep(Duration::from_micros(random(1000)));
                let (child, _) = &sides[usize::from(random(2) == 0)];
                child.signal(Signal::SIGSTOP);
                stops += u64::from(child.stops());
                std::thread::sleep(Duration::from_micros(random(1000)));
                child.signal(Signal::SIGCONT);
            }
            for (child, note) in sides {
                child.finish();
                assert_eq!(note.word().load(Ordering::Acquire), TURNS);
            }
        }
        all += stops;
    }
    println!("evidence: {all} stops of either side at random times");
}

#[test]
fn fifty_connections_leave_no_descriptor_and_no_mapping_behind() {
    common::alone(
        "fifty_connections_leave_no_descriptor_and_no_mapping_behind",
        || {
            let place = Place::new();
            let before = holdings();
            for round in 0..50_u64 {
                let ring = RINGS[usize::from(round % 4 < 2)];
                let (child, mut interface) = start(&place, "produce", ring);
                let mut exchange = Exchange::default();
                until(|| {
                    exchange.receive(&mut interface);
                    (exchange.received >= round * 10).then_some(())
                });
                // A mapping of the peer's region and one of our own; the socket.
                let held = holdings();
                assert_eq!(held.regions, before.regions + 2);
                assert_eq!(held.descriptors, before.descriptors + 1);
                // It dies, or it is left and ends.
                if round % 2 == 0 {
                    child.kill();
                    assert_eq!(drain(&mut interface, exchange.received).1, GONE);
                } else {
                    interface.close();
                    child.finish();
                }
            }
            assert_eq!(holdings(), before);
        },
    );
}
