//! The pump between an interface and two channels.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a failed test is what a panic says")]

mod common;

use common::{HANG, pair_of};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use memenpsf::{Departure, Finished, Interface, RunEnd};

/// A pump in a thread, with the caller's ends of its channels.
fn pump(
    interface: Interface<u64>,
    capacity: usize,
) -> (
    Sender<u64>,
    Receiver<u64>,
    std::thread::JoinHandle<Finished<u64>>,
) {
    let (send, from) = bounded(capacity);
    let (to, receive) = bounded(capacity);
    let thread = std::thread::spawn(move || interface.pump(from, to));
    (send, receive, thread)
}

#[test]
fn two_pumps_carry_everything_through_tight_places() {
    const COUNT: u64 = 20_000;
    let (ours, theirs) = pair_of::<u64>(2);
    let (send, receive, ours) = pump(ours, 1);
    let (send_back, receive_there, theirs) = pump(theirs, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..COUNT).for_each(|n| send.send_timeout(n, HANG).unwrap()));
        scope.spawn(|| {
            for n in 0..COUNT {
                assert_eq!(receive_there.recv_timeout(HANG), Ok(n));
                send_back.send_timeout(n, HANG).unwrap();
            }
        });
        for n in 0..COUNT {
            assert_eq!(receive.recv_timeout(HANG), Ok(n));
        }
    });
    drop(send);
    let finished = ours.join().unwrap();
    assert_eq!(finished.end, RunEnd::NothingMore);
    assert_eq!(
        (finished.indices.write, finished.indices.read),
        (COUNT, COUNT)
    );
    let finished = theirs.join().unwrap();
    assert_eq!(finished.end, RunEnd::Departed(Departure::Closed));
    drop(send_back);
}

#[test]
fn messages_before_the_end_of_the_channel_are_all_transmitted() {
    let (ours, mut theirs) = pair_of::<u64>(4);
    let (send, from) = unbounded();
    let (to, _receive) = unbounded();
    (0..100).for_each(|n| send.send(n).unwrap());
    drop(send);
    let pump = std::thread::spawn(move || ours.pump(from, to));
    for n in 0..100 {
        assert_eq!(theirs.recv_timeout(Some(HANG)), Ok(Some(n)));
    }
    assert_eq!(pump.join().unwrap().end, RunEnd::NothingMore);
}

#[test]
fn committed_messages_are_delivered_before_the_peers_end() {
    let (ours, mut theirs) = pair_of::<u64>(64);
    theirs.xmit_vectored(&(0..50).collect::<Vec<_>>()).unwrap();
    theirs.close();
    let (_send, receive, pump) = pump(ours, 1);
    assert_eq!(
        receive.iter().collect::<Vec<_>>(),
        (0..50).collect::<Vec<_>>()
    );
    let end = pump.join().unwrap().end;
    assert_eq!(end, RunEnd::Departed(Departure::Closed));
}

#[test]
fn message_that_nobody_takes_is_given_back() {
    let (ours, mut theirs) = pair_of::<u64>(4);
    let (send, receive, pump) = pump(ours, 1);
    drop(receive);
    theirs.xmit(9).unwrap();
    let finished = pump.join().unwrap();
    assert_eq!(finished.end, RunEnd::NobodyReceives);
    assert_eq!(finished.undelivered, Some(9));
    drop(send);
}

#[test]
fn panicking_consumer_loses_and_doubles_nothing() {
    let (ours, mut theirs) = pair_of::<u64>(8);
    let (_send, receive, pump) = pump(ours, 0);
    let (note, noted) = unbounded();
    let consumer = std::thread::spawn(move || {
        for (count, message) in receive.iter().enumerate() {
            note.send(message).unwrap();
            if count == 2 {
                // A panic without the noise of its hook.
                std::panic::resume_unwind(Box::new("the consumer panics"));
            }
        }
    });
    for n in 0..8 {
        theirs.xmit_timeout(n, Some(HANG)).unwrap();
    }
    assert!(consumer.join().is_err());
    let finished = pump.join().unwrap();
    assert_eq!(finished.end, RunEnd::NobodyReceives);
    // Delivered, then the one in hand; the rest was never taken from the ring.
    let delivered = noted.iter().chain(finished.undelivered);
    assert_eq!(delivered.collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(finished.indices.read, 4);
}

#[test]
fn message_to_a_peer_that_left_is_given_back() {
    let (ours, theirs) = pair_of::<u64>(1);
    let (send, from) = unbounded();
    let (to, _receive) = unbounded();
    let left = from.clone();
    (0..3).for_each(|n| send.send(n).unwrap());
    let pump = std::thread::spawn(move || ours.pump(from, to));
    // The ring takes one; the second is in hand, the third in the channel.
    while left.len() > 1 {
        std::thread::yield_now();
    }
    theirs.close();
    let finished = pump.join().unwrap();
    assert_eq!(finished.end, RunEnd::Departed(Departure::Closed));
    assert_eq!(finished.untransmitted, Some(1));
    assert_eq!(left.try_recv(), Ok(2));
}
