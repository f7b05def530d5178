//! Messages of variable length between processes: this test binary, started again
//! for the role that the environment names.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use common::HANG;
use common::process::{Child, Part, Place};
use common::until;
use memenpsf::{ByteInterface, ByteXmitError, Departure, Options, RecvError};

const CAPACITY: usize = 1024;
const LONGEST: usize = 400;

/// Round trips of the hand-off test: each is a sleep and a wake-up on either side.
const HANDOFFS: u64 = 5_000;

fn options() -> Options {
    Options::new()
        .capacity(CAPACITY)
        .max_message(LONGEST)
        .wait_for_server(HANG)
}

/// Writes the n-th message: its number, bytes that follow from it, of a length that
/// does too, and a checksum (FNV-1a) of all that.
fn numbered(n: u64, message: &mut Vec<u8>) {
    let mut state = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let length = usize::try_from(state >> 40).unwrap() % (LONGEST - 16);
    message.clear();
    message.extend(n.to_le_bytes());
    for _ in 0..length {
        state = state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        message.push(state.to_be_bytes()[0]);
    }
    message.extend(checksum(message).to_le_bytes());
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Checks a received message, and that it is the n-th.
#[track_caller]
fn check(n: u64, message: &[u8]) {
    let (body, sum) = message.split_last_chunk::<8>().unwrap();
    assert_eq!(
        u64::from_le_bytes(*sum),
        checksum(body),
        "message {n} is torn"
    );
    assert_eq!(u64::from_le_bytes(*body.first_chunk().unwrap()), n);
    let mut expected = Vec::new();
    numbered(n, &mut expected);
    assert_eq!(message, expected);
}

// --- what a child does ---

#[test]
#[ignore = "what the child processes of the other tests run"]
fn child() {
    let Some(part) = Part::of_this_process() else {
        return;
    };
    let mut interface = ByteInterface::connect_with(&part.address, &options()).unwrap();
    match &*part.role {
        // Until killed.
        "produce" => produce(&mut interface, part.note.word()),
        "consume" => consume(&mut interface, part.note.word()),
        // Until the peer closes.
        "echo" => echo(&mut interface),
        role => panic!("no such role: {role}"),
    }
}

fn produce(interface: &mut ByteInterface, note: &AtomicU64) {
    let mut message = Vec::new();
    for n in 0.. {
        numbered(n, &mut message);
        // By turns, so that a kill finds either at work.
        let sent = if n % 2 == 0 {
            interface.xmit_timeout(&message, None)
        } else {
            fill_in_place(interface, &message)
        };
        if sent.is_err() {
            return;
        }
        note.store(n + 1, Ordering::Release);
    }
}

/// Transmits a message through a longer reservation, when there is room.
fn fill_in_place(interface: &mut ByteInterface, message: &[u8]) -> Result<(), ByteXmitError> {
    loop {
        match interface.reserve(LONGEST) {
            Ok(mut room) => {
                for (to, &byte) in room.as_mut_slice().iter_mut().zip(message) {
                    *to = byte;
                }
                room.commit(message.len());
                return Ok(());
            }
            Err(ByteXmitError::Full) => std::thread::yield_now(),
            Err(error) => return Err(error),
        }
    }
}

fn consume(interface: &mut ByteInterface, note: &AtomicU64) {
    let mut message = Vec::new();
    for n in 0.. {
        match interface.recv_into_timeout(&mut message, None) {
            Ok(received) => assert_eq!(received, Some(message.len())),
            Err(_) => return,
        }
        check(n, &message);
        note.store(n + 1, Ordering::Release);
    }
}

fn echo(interface: &mut ByteInterface) {
    let mut message = Vec::new();
    loop {
        match interface.recv_into_timeout(&mut message, Some(HANG)) {
            Ok(Some(_)) => interface.xmit_timeout(&message, Some(HANG)).unwrap(),
            Ok(None) => panic!("stalled"),
            Err(RecvError::Closed(Departure::Closed)) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

// --- and what starts it ---

fn start(place: &Place, role: &str) -> (Child, ByteInterface) {
    place.start(role, &options())
}

/// Receives until the end, and returns the number of messages and the end.
fn drain(interface: &mut ByteInterface, mut received: u64) -> (u64, RecvError) {
    let mut message = Vec::new();
    let end = until(|| match interface.recv_into(&mut message) {
        Ok(Some(_)) => {
            check(received, &message);
            received += 1;
            None
        }
        Ok(None) => None,
        Err(end) => Some(end),
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
fn killed_producer_leaves_whole_messages_and_then_gone() {
    let place = Place::new();
    let mut all = 0;
    for _ in 0..30 {
        let (child, mut interface) = start(&place, "produce");
        let note = place.note();
        let mut received = 0;
        let enough = random(5000);
        let mut message = Vec::new();
        while received < enough {
            let got = interface.recv_into_timeout(&mut message, Some(HANG));
            assert_eq!(got, Ok(Some(message.len())));
            check(received, &message);
            received += 1;
        }
        child.kill();
        let (received, end) = drain(&mut interface, received);
        let noted = note.word().load(Ordering::Acquire);
        // What was transmitted and not yet noted is one message at most.
        assert!(
            (noted..=noted + 1).contains(&received),
            "noted {noted}, received {received}"
        );
        assert_eq!(end, GONE);
        all += received;
    }
    println!("evidence: {all} messages of variable length checked, 30 producers killed");
}

#[test]
fn killed_consumer_ends_the_producer() {
    let place = Place::new();
    for _ in 0..20 {
        let (child, mut interface) = start(&place, "consume");
        let note = place.note();
        let (mut sent, mut message) = (0, Vec::new());
        for n in 0..random(5000) {
            numbered(n, &mut message);
            interface.xmit_timeout(&message, Some(HANG)).unwrap();
            sent += 1;
        }
        child.kill();
        let error = loop {
            numbered(sent, &mut message);
            match interface.xmit_timeout(&message, Some(HANG)) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error, ByteXmitError::Closed(Departure::Gone));
        // The child had found nothing wrong.
        assert!(note.word().load(Ordering::Acquire) <= sent);
        assert_eq!(interface.recv(), Err(GONE));
    }
}

#[test]
fn no_wake_up_is_lost_between_two_processes() {
    let place = Place::new();
    let (child, mut interface) = start(&place, "echo");
    let (mut message, mut back) = (Vec::new(), Vec::new());
    for n in 0..HANDOFFS {
        numbered(n, &mut message);
        let sent = interface.xmit_timeout(&message, Some(HANG));
        assert_eq!(sent, Ok(()), "stalled at {n}");
        let received = interface.recv_into_timeout(&mut back, Some(HANG));
        assert_eq!(received, Ok(Some(message.len())), "stalled at {n}");
        check(n, &back);
    }
    interface.close();
    child.finish();
    println!("evidence: {HANDOFFS} hand-offs of messages of variable length, 0 stalls");
}

#[test]
fn process_that_dies_with_messages_in_its_ring_has_them_read() {
    let place = Place::new();
    let (child, mut interface) = start(&place, "produce");
    let note = place.note();
    // Until it notes no more: its ring is full, or it is slow.
    let mut seen = 0;
    until(|| {
        let (before, now) = (seen, note.word().load(Ordering::Acquire));
        seen = now;
        (now > 2 && now == before).then_some(())
    });
    child.kill();
    let (received, end) = drain(&mut interface, 0);
    assert!(received >= seen && end == GONE, "{received} of {seen}");
    assert_eq!(
        until(|| interface.xmit(b"hello").err()),
        ByteXmitError::Closed(Departure::Gone)
    );
}
