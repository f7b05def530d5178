//! What errors and ends say: it is all that a user of a program sees of them.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;

use memenpsf::{
    ByteXmitError, ConnectError, Departure, Interface, Options, RecvError, RunEnd, ServerOptions,
    TransmitError, Violation, XmitError,
};

const BROKEN: Violation = Violation::Descriptors;

#[test]
fn every_way_of_not_transmitting_says_why() {
    let waited = "the runtime cannot wait for the socket: timed out";
    let kind = ErrorKind::TimedOut;
    let closed = Departure::Closed;
    let said = [
        (XmitError::Full(1), "the ring is full"),
        (
            XmitError::Closed(1, closed),
            "the peer closed the connection",
        ),
        (
            XmitError::Violation(1, BROKEN),
            "the peer sent descriptors after the handshake",
        ),
        (XmitError::Wait(1, kind), waited),
    ];
    let several = [
        TransmitError::TooFew {
            wanted: 1,
            available: 0,
        },
        TransmitError::Closed(closed),
        TransmitError::Violation(BROKEN),
        TransmitError::Wait(kind),
    ];
    for ((error, words), of_several) in said.into_iter().zip(several) {
        assert_eq!(error.to_string(), words);
        assert_eq!(TransmitError::from(error), of_several);
        assert_eq!(error.into_inner(), 1);
    }
    assert_eq!(ByteXmitError::Full.to_string(), "the ring is full");
    assert_eq!(
        ByteXmitError::Closed(closed).to_string(),
        closed.to_string()
    );
    assert_eq!(ByteXmitError::Wait(kind).to_string(), waited);
    assert_eq!(RecvError::Wait(kind).to_string(), waited);
    assert_eq!(RecvError::Violation(BROKEN).to_string(), BROKEN.to_string());
}

#[test]
fn every_end_of_a_pump_says_why() {
    let said = [
        (RunEnd::NothingMore, "nothing more to transmit"),
        (RunEnd::NobodyReceives, "nobody takes received messages"),
        (
            RunEnd::Departed(Departure::Gone),
            "the peer is gone without a goodbye",
        ),
        (
            RunEnd::Violation(BROKEN),
            "the peer sent descriptors after the handshake",
        ),
    ];
    for (end, words) in said {
        assert_eq!(end.to_string(), words);
    }
}

#[test]
fn run_connects_and_pumps() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (questions, asked) = crossbeam_channel::bounded(4);
    let (answer, answers) = crossbeam_channel::bounded(4);
    let client =
        std::thread::spawn(move || Interface::<u64>::run("client", 8, 0, theirs, asked, answer));
    let mut server = Interface::<u64>::new("server", 8, ours, 1).unwrap();
    assert_eq!(server.peer().name(), "client");
    questions.send(7).unwrap();
    let question = server.recv_timeout(None).unwrap().unwrap();
    server.xmit(question + 1).unwrap();
    assert_eq!(answers.recv(), Ok(8));
    // The channel of received messages ends first: the next answer has no taker.
    drop(answers);
    server.xmit(9).unwrap();
    let finished = client.join().unwrap().unwrap();
    assert_eq!(finished.end, RunEnd::NobodyReceives);
    assert_eq!(finished.undelivered, Some(9));

    // Without a connection there is nothing to pump.
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let (_sender, receiver) = crossbeam_channel::bounded(1);
    let (sender, _receiver) = crossbeam_channel::bounded(1);
    let error = Interface::<u64>::run("odd", 3, 0, ours, receiver, sender).unwrap_err();
    assert!(matches!(error, ConnectError::Capacity(_)), "{error}");
}

#[test]
fn each_step_of_making_a_region_has_its_words() {
    use memenpsf::error::Step;

    let steps = [
        (Step::Create, "create the memfd"),
        (Step::Resize, "set the length"),
        (Step::Allocate, "allocate the memory"),
        (Step::Map, "map the region"),
        (Step::DontFork, "keep the mapping out of forks"),
        (Step::Populate, "fault the pages in"),
        (Step::Seal, "seal the region"),
        (Step::ReadSeals, "read the seals"),
        (Step::ReadFlags, "read the access mode"),
        (Step::FileSystem, "ask for the file system"),
        (Step::Stat, "ask for the length"),
    ];
    for (step, words) in steps {
        assert_eq!(step.to_string(), words);
    }
}

#[test]
fn defaults_are_those_of_new() {
    assert_eq!(Options::default(), Options::new());
    assert_eq!(ServerOptions::default(), ServerOptions::new());
}
