//! The harness must see what a transport does wrong: here it is given transports
//! that do it.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use memenpsf::{Options, Role};
use memenpsf_benches::exchange::{Endpoint, Side};
use memenpsf_benches::latency::Latency;
use memenpsf_benches::message::{Checker, Composer, Counts, Format};
use memenpsf_benches::spin::{Backoff, HASTY};
use memenpsf_benches::transport::{Transport, TransportError, Waiting};
use memenpsf_benches::{shared, stream};

/// Composes messages 0 to `count`.
fn messages(format: Format, count: u64) -> Vec<Vec<u64>> {
    let mut composer = Composer::new(format);
    (0..count)
        .map(|_| {
            let mut message = vec![0; format.words()];
            composer.compose(&mut message);
            message
        })
        .collect()
}

/// Checks messages in the order of `numbers` and gives up what is missing of 10.
fn check(numbers: &[usize]) -> Counts {
    let format = Format::new(40).unwrap();
    let messages = messages(format, 10);
    let mut checker = Checker::new(format);
    for &number in numbers {
        checker.check(&messages[number]);
    }
    checker.settle(10);
    checker.counts()
}

#[test]
fn messages_in_order_are_flawless() {
    let counts = check(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(counts.is_flawless());
    assert_eq!(counts.received, 10);
}

#[test]
fn lost_messages_are_counted_wherever_they_are() {
    assert_eq!(check(&[1, 2, 3, 6, 7, 8]).lost, 4);
    assert_eq!(check(&[]).lost, 10);
}

#[test]
fn repeated_messages_are_counted() {
    let counts = check(&[0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 4]);
    assert_eq!((counts.duplicated, counts.lost), (3, 0));
}

#[test]
fn late_messages_are_out_of_order_and_not_lost() {
    let counts = check(&[0, 4, 1, 3, 2, 5, 6, 7, 8, 9]);
    assert_eq!(
        (counts.out_of_order, counts.lost, counts.duplicated),
        (3, 0, 0)
    );
    assert_eq!(check(&[0, 4, 1, 1, 5, 6, 7, 8, 9]).duplicated, 1);
}

#[test]
fn changed_messages_are_corrupt_at_every_length() {
    for length in [16, 24, 40, 100, 4096, 65_536] {
        let format = Format::new(length).unwrap();
        let messages = messages(format, 2);
        for word in [0, format.words() / 2, format.words() - 1] {
            let mut changed = messages[0].clone();
            changed[word] ^= 1 << 50;
            let mut checker = Checker::new(format);
            checker.check(&changed);
            checker.check(&messages[1]);
            let counts = checker.counts();
            assert_eq!((counts.corrupt, counts.lost), (1, 0), "{length} {word}");
        }
    }
}

#[test]
fn message_of_another_length_is_corrupt() {
    let mut message = messages(Format::new(33).unwrap(), 1).remove(0);
    message.resize(8, 0);
    let mut checker = Checker::new(Format::new(34).unwrap());
    checker.check(&message);
    assert_eq!(checker.counts().corrupt, 1);
}

/// What a transport does to the messages.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    DoublesTheFourth,
    SwapsTheFourth,
    ChangesTheFourth,
}

/// A transport within one thread: what is sent is received by the same side.
struct Loop {
    format: Format,
    fault: Fault,
    wire: Arc<Mutex<Vec<Vec<u64>>>>,
    inbox: Vec<u64>,
    sent: usize,
}

impl Transport for Loop {
    fn stride(&self) -> usize {
        self.format.words()
    }

    fn send(&mut self, messages: &[u64]) -> Result<usize, TransportError> {
        let mut wire = self.wire.lock().unwrap();
        let mut message = messages[..self.format.words()].to_vec();
        self.sent += 1;
        let fourth = self.sent == 4;
        match self.fault {
            Fault::DoublesTheFourth if fourth => wire.push(message.clone()),
            Fault::ChangesTheFourth if fourth => message[1] = !message[1],
            _ => {}
        }
        wire.push(message);
        if self.fault == Fault::SwapsTheFourth && fourth {
            let last = wire.len() - 1;
            wire.swap(last - 1, last);
        }
        Ok(1)
    }

    fn receive(&mut self, max: usize) -> Result<usize, TransportError> {
        let mut wire = self.wire.lock().unwrap();
        // All ten at once, so that a swap finds two on the wire.
        let count = if self.sent < 10 {
            0
        } else {
            max.min(wire.len())
        };
        self.inbox = wire.drain(..count).flatten().collect();
        Ok(count)
    }

    fn received(&self) -> &[u64] {
        &self.inbox
    }

    fn idle(&mut self, _to_send: bool) -> Result<(), TransportError> {
        Ok(())
    }

    fn calls(&self) -> u64 {
        0
    }

    fn set_waiting(&mut self, _waiting: Waiting) -> Result<(), TransportError> {
        Ok(())
    }
}

/// Streams ten messages through a transport with `fault`.
fn stream_with(fault: Fault) -> Counts {
    let format = Format::new(64).unwrap();
    let transport = Loop {
        format,
        fault,
        wire: Arc::default(),
        inbox: Vec::new(),
        sent: 0,
    };
    let mut side = Side::new(transport, format);
    side.stream(10, 10, 1).unwrap();
    side.drain().unwrap();
    side.counts()
}

#[test]
fn stream_through_a_good_transport_is_flawless() {
    assert!(stream_with(Fault::None).is_flawless());
}

#[test]
fn stream_finds_what_a_bad_transport_does() {
    assert_eq!(stream_with(Fault::DoublesTheFourth).duplicated, 1);
    assert_eq!(stream_with(Fault::SwapsTheFourth).out_of_order, 1);
    assert_eq!(stream_with(Fault::ChangesTheFourth).corrupt, 1);
}

#[test]
fn streams_carry_every_length_both_ways_and_round() {
    for length in [8, 16, 20, 64, 1000, 4096, 40_000, 65_536] {
        for waiting in [Waiting::Spin, Waiting::Poll] {
            for make in [stream::pipes, stream::unix_sockets] {
                let format = Format::new(length).unwrap();
                let (here, there) = make(format).unwrap();
                let there = std::thread::spawn(move || {
                    let mut there = Side::new(there, format);
                    there.set_waiting(waiting)?;
                    there.stream(50, 70, 7)?;
                    there.set_waiting(Waiting::Block)?;
                    there.echo(20)?;
                    Ok::<_, TransportError>(there)
                });
                let mut here = Side::new(here, format);
                here.set_waiting(waiting).unwrap();
                here.stream(70, 50, 3).unwrap();
                here.set_waiting(Waiting::Block).unwrap();
                let mut latency = Latency::new();
                here.ping(20, &mut latency).unwrap();
                let mut there = there.join().unwrap().unwrap();
                here.drain().unwrap();
                there.drain().unwrap();
                let there = there.counts();
                assert!(here.counts().is_flawless() && there.is_flawless());
                assert_eq!((here.counts().received, there.received), (70, 90));
                assert_eq!(latency.count(), 20);
            }
        }
    }
}

#[test]
fn shared_memory_carries_every_length_both_ways_and_round() {
    let exponents = (3..=16).map(|exponent| 1 << exponent);
    for length in exponents.chain([20, 1000, 40_000]) {
        let format = Format::new(length).unwrap();
        let (here, there) = UnixStream::pair().unwrap();
        let connect = move |stream, role| {
            let backoff = Backoff::new(HASTY);
            shared::connect(stream, role, format, &Options::new(), backoff)
        };
        let there = std::thread::spawn(move || {
            let mut there = connect(there, Role::Server)?;
            there.stream(50, 70, 7)?;
            there.set_waiting(Waiting::Poll)?;
            there.stream(30, 30, 1)?;
            there.set_waiting(Waiting::Block)?;
            there.echo(20)?;
            Ok::<_, TransportError>(there.counts())
        });
        let mut here = connect(here, Role::Client).unwrap();
        here.stream(70, 50, 3).unwrap();
        here.set_waiting(Waiting::Poll).unwrap();
        here.stream(30, 30, 1).unwrap();
        here.set_waiting(Waiting::Block).unwrap();
        let mut latency = Latency::new();
        here.ping(20, &mut latency).unwrap();
        let there = there.join().unwrap().unwrap();
        assert!(here.counts().is_flawless() && there.is_flawless());
        assert_eq!((here.counts().received, there.received), (100, 120));
        assert_eq!(latency.count(), 20);
    }
}

#[test]
fn dead_peer_is_closed_and_not_lost_messages() {
    let format = Format::new(64).unwrap();
    for make in [stream::pipes, stream::unix_sockets] {
        let (here, there) = make(format).unwrap();
        drop(there);
        let error = Side::new(here, format).stream(10, 10, 1).unwrap_err();
        assert!(error.is_closed());
    }
}
