//! `memenpsf recv` and `memenpsf send` as users run them: the same bytes arrive, the
//! end of input ends both, and whoever dies leaves an error at the other side.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Running, memenpsf, until};
use nix::sys::signal::Signal;

/// A folder, and the path of a socket in it.
fn place() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket").to_str().unwrap().to_string();
    (folder, socket)
}

/// Bytes that repeat nowhere soon.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_le_bytes()[7]
    };
    (0..count).map(next).collect()
}

fn stdin(child: &mut Child) -> ChildStdin {
    child.stdin.take().unwrap()
}

fn stdout(child: &mut Child) -> ChildStdout {
    child.stdout.take().unwrap()
}

/// Starts both with a pipe to the sender and from the receiver.
fn both(socket: &str) -> (Running, Running) {
    let receiver = Running::start(&mut memenpsf(&["recv", socket]));
    let wait = ["send", socket, "--wait", "60"];
    let sender = Running::start(memenpsf(&wait).stdin(Stdio::piped()));
    (receiver, sender)
}

#[test]
fn same_bytes_arrive_from_a_file() {
    for count in [0, 1, 65_535, 65_536, 65_537, 10_000_001] {
        let (folder, socket) = place();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, bytes(count)).unwrap();
        let output = File::create(&to).unwrap();
        let receiver = Running::start(memenpsf(&["recv", &socket]).stdout(output));
        let wait = ["send", &socket, "--wait", "60"];
        let sender = Running::start(memenpsf(&wait).stdin(File::open(&from).unwrap()));
        sender.end().success();
        receiver.end().success();
        assert_eq!(fs::read(&from).unwrap(), fs::read(&to).unwrap(), "{count}");
        assert!(!Path::new(&socket).exists(), "the socket is removed");
    }
}

#[test]
fn same_bytes_arrive_through_pipes_in_small_pieces() {
    let (_folder, socket) = place();
    let (receiver, mut sender) = both(&socket);
    let sent = bytes(100_000);
    let mut input = stdin(&mut sender.0);
    let pieces = sent.clone();
    let writer = std::thread::spawn(move || {
        for piece in pieces.chunks(77) {
            input.write_all(piece).unwrap();
        }
    });
    let received = receiver.end();
    received.success();
    writer.join().unwrap();
    sender.end().success();
    assert_eq!(received.stdout, sent);
}

#[test]
fn bytes_arrive_before_the_end_of_the_input() {
    let (_folder, socket) = place();
    let (mut receiver, mut sender) = both(&socket);
    let (mut input, mut output) = (stdin(&mut sender.0), stdout(&mut receiver.0));
    for word in [b"one", b"two"] {
        input.write_all(word).unwrap();
        let mut back = [0; 3];
        output.read_exact(&mut back).unwrap();
        assert_eq!(&back, word);
    }
    drop(input);
    sender.end().success();
    receiver.end().success();
}

#[test]
fn sender_says_when_the_receiver_dies() {
    let (_folder, socket) = place();
    let (mut receiver, mut sender) = both(&socket);
    let (mut input, mut output) = (stdin(&mut sender.0), stdout(&mut receiver.0));
    input.write_all(b"half").unwrap();
    output.read_exact(&mut [0; 4]).unwrap();
    receiver.kill();
    // Its input is open, and nothing comes: the end of the peer ends the wait.
    let ended = sender.end();
    let line =
        "memenpsf: the receiver has not taken everything: the peer is gone without a goodbye";
    assert_eq!(ended.failure(), line);
    drop(input);
}

#[test]
fn sender_with_a_full_ring_says_when_the_receiver_dies() {
    let (_folder, socket) = place();
    let (mut receiver, mut sender) = both(&socket);
    // Nobody reads what the receiver writes, so it stops, and the ring fills.
    let mut input = stdin(&mut sender.0);
    let fed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&fed);
    let feeder = std::thread::spawn(move || {
        let block = bytes(1 << 16);
        // Until the sender ends.
        while input.write_all(&block).is_ok() {
            counter.fetch_add(block.len(), Ordering::Relaxed);
        }
    });
    // All but what fits into the two pipes is in the ring of 1 MiB.
    until(|| fed.load(Ordering::Relaxed) >= 1 << 20);
    receiver.kill();
    let ended = sender.end();
    assert!(
        ended
            .failure()
            .starts_with("memenpsf: the receiver has not taken everything")
    );
    feeder.join().unwrap();
}

#[test]
fn receiver_says_when_the_sender_dies() {
    let (_folder, socket) = place();
    let (mut receiver, mut sender) = both(&socket);
    let (mut input, mut output) = (stdin(&mut sender.0), stdout(&mut receiver.0));
    input.write_all(b"half").unwrap();
    output.read_exact(&mut [0; 4]).unwrap();
    sender.kill();
    let line = "memenpsf: the input is not complete: the peer is gone without a goodbye";
    assert_eq!(receiver.end().failure(), line);
}

#[test]
fn reader_that_goes_away_is_no_failure_of_the_receiver() {
    let (_folder, socket) = place();
    let (mut receiver, mut sender) = both(&socket);
    drop(stdout(&mut receiver.0));
    let mut input = stdin(&mut sender.0);
    // Whether the sender or the pipe notices first does not matter.
    let _ = input.write_all(&bytes(1 << 20));
    drop(input);
    receiver.end().success();
    assert!(sender.end().failure().contains("has not taken everything"));
}

#[test]
fn receiver_gives_up_and_removes_its_socket() {
    let (_folder, socket) = place();
    let ended = Running::start(&mut memenpsf(&["recv", &socket, "--wait", "0"])).end();
    let line = format!("memenpsf: nobody has connected to {socket} within 0 s");
    assert_eq!(ended.failure(), line);
    assert!(!Path::new(&socket).exists());
}

#[test]
fn sender_without_a_receiver_fails_at_once() {
    let (_folder, socket) = place();
    let ended = Running::start(&mut memenpsf(&["send", &socket])).end();
    assert!(
        ended.failure().contains("No such file or directory"),
        "{ended:?}"
    );
}

#[test]
fn signal_while_waiting_removes_the_socket() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (_folder, socket) = place();
        let receiver = Running::start(&mut memenpsf(&["recv", &socket]));
        until(|| Path::new(&socket).exists());
        receiver.signal(signal);
        let ended = receiver.end();
        assert_eq!(ended.status.code(), Some(128 + signal as i32));
        assert_eq!(
            ended.stderr,
            format!("memenpsf: interrupted by {}\n", signal.as_str())
        );
        assert!(!Path::new(&socket).exists());
    }
}

#[test]
fn other_programs_are_refused_in_words() {
    let (_folder, socket) = place();
    let receiver = Running::start(&mut memenpsf(&["recv", &socket]));
    let stranger = Running::start(&mut memenpsf(&["connect", &socket, "--wait", "60"])).end();
    assert!(stranger.failure().contains("refused"), "{stranger:?}");
    // The right one is still served.
    let sender = Running::start(&mut memenpsf(&["send", &socket])).end();
    sender.success();
    receiver.end().success();
}
