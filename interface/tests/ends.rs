//! How a connection ends, two endpoints in one process.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::os::unix::net::UnixStream;

use common::{RINGS, let_the_clock_tick, pair_over, until};
use memenpsf::{Departure, Interface, RecvError, TransmitError, XmitError};

/// Receives everything, then the end, which stays.
fn drain(interface: &mut Interface<u64>) -> (Vec<u64>, RecvError) {
    let mut messages = Vec::new();
    let end = until(|| match interface.recv() {
        Ok(message) => {
            messages.extend(message);
            None
        }
        Err(error) => Some(error),
    });
    for _ in 0..1000 {
        assert_eq!(interface.recv(), Err(end));
        assert_eq!(interface.recv_vectored(), Err(end));
    }
    (messages, end)
}

#[test]
fn close_lets_the_peer_drain_all_that_was_committed() {
    for ring in RINGS {
        let (mut client, mut server) = pair_over::<u64>(ring, 8);
        client.xmit_vectored(&[1, 2, 3]).unwrap();
        let mut slots = client.reserve(2).unwrap();
        slots.fill([4, 5]);
        slots.commit(1);
        client.close();
        let_the_clock_tick();
        let closed = RecvError::Closed(Departure::Closed);
        assert_eq!(drain(&mut server), (vec![1, 2, 3, 4], closed));
    }
}

#[test]
fn drop_is_a_close() {
    for ring in RINGS {
        let (mut client, mut server) = pair_over::<u64>(ring, 8);
        client.xmit(1).unwrap();
        drop(client);
        let closed = RecvError::Closed(Departure::Closed);
        assert_eq!(drain(&mut server), (vec![1], closed));
    }
}

#[test]
fn goodbye_arrives_behind_a_full_socket() {
    let (mut client, mut server) = pair_over::<u64>(RINGS[0], 8);
    client.xmit(1).unwrap();
    let mut sent = 0;
    while client.send_ctrl_msg([1, 2]).is_ok() {
        sent += 1;
    }
    drop(client);
    let closed = RecvError::Closed(Departure::Closed);
    assert_eq!(drain(&mut server), (vec![1], closed));
    for _ in 0..sent {
        assert_eq!(server.recv_ctrl_msg().unwrap(), Some([1, 2]));
    }
}

#[test]
fn recv_vectored_drains_before_the_end() {
    for ring in RINGS {
        let (mut client, mut server) = pair_over::<u64>(ring, 8);
        client.xmit_vectored(&[1, 2, 3]).unwrap();
        client.close();
        assert_eq!(server.recv_vectored(), Ok(vec![1, 2, 3]));
        let end = until(|| server.recv_vectored().err());
        assert_eq!(end, RecvError::Closed(Departure::Closed));
    }
}

#[test]
fn end_of_the_socket_without_a_goodbye_is_gone() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let socket = ours.try_clone().unwrap();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| Interface::<u64>::new("", 8, theirs, 1));
        let mut client = Interface::<u64>::new("", 8, ours, 0).unwrap();
        let mut server = server.join().unwrap().unwrap();
        client.xmit(1).unwrap();
        socket.shutdown(std::net::Shutdown::Both).unwrap();
        let gone = RecvError::Closed(Departure::Gone);
        assert_eq!(drain(&mut server), (vec![1], gone));
    });
}

#[test]
fn xmit_to_a_closed_peer_gives_every_message_back() {
    for ring in RINGS {
        let (mut client, mut server) = pair_over::<u64>(ring, 1 << 16);
        // A burst, after which the client looks at its socket as rarely as it ever does.
        for n in 0..10_000 {
            client.xmit(n).unwrap();
        }
        assert_eq!(server.recv_vectored().unwrap().len(), 10_000);
        server.close();
        let_the_clock_tick();

        let mut accepted = 0;
        let error = loop {
            match client.xmit(accepted) {
                Ok(()) => accepted += 1,
                Err(error) => break error,
            }
        };
        // As documented: within 64 calls once the clock has ticked.
        assert!(accepted <= 64, "{accepted} messages into the void");
        assert_eq!(error, XmitError::Closed(accepted, Departure::Closed));
        for n in 0..1000 {
            let closed = TransmitError::Closed(Departure::Closed);
            assert_eq!(client.xmit(n), Err(XmitError::Closed(n, Departure::Closed)));
            assert_eq!(client.xmit_vectored(&[n]), Err(closed));
            assert_eq!(client.reserve(1).unwrap_err(), closed);
        }
    }
}

#[test]
fn xmit_into_a_full_ring_of_a_closed_peer_ends_in_closed_for_good() {
    for ring in RINGS {
        let (mut client, mut server) = pair_over::<u64>(ring, 4);
        assert_eq!(client.xmit_vectored(&[1, 2, 3, 4]), Ok(4));
        let_the_clock_tick();
        assert_eq!(client.xmit(5), Err(XmitError::Full(5)));
        // The peer makes room, and is gone all the same.
        server.recv_vectored().unwrap();
        server.close();
        until(|| {
            let closed = Err(XmitError::Closed(5, Departure::Closed));
            (client.xmit(5) == closed).then_some(())
        });
        for n in 0..1000 {
            assert_eq!(client.xmit(n), Err(XmitError::Closed(n, Departure::Closed)));
        }
    }
}

#[test]
fn rings_that_stay_full_end_in_closed_too() {
    for ring in RINGS {
        let (mut client, server) = pair_over::<u64>(ring, 2);
        assert_eq!(client.xmit_vectored(&[1, 2, 3]), Ok(2));
        server.close();
        let error = until(|| client.xmit_vectored(&[3]).err());
        assert_eq!(error, TransmitError::Closed(Departure::Closed));
        for _ in 0..1000 {
            assert_eq!(client.xmit_vectored(&[3]), Err(error));
            assert_eq!(client.reserve(1).unwrap_err(), error);
            assert_eq!(client.xmit(3), Err(XmitError::Closed(3, Departure::Closed)));
        }
    }
}

#[test]
fn receiver_notices_the_end_within_its_number_of_calls() {
    for ring in RINGS {
        let (client, mut server) = pair_over::<u64>(ring, 4);
        // So many empty calls that the server looks as rarely as it ever does.
        for _ in 0..10_000 {
            assert_eq!(server.recv(), Ok(None));
        }
        client.close();
        let_the_clock_tick();
        let calls = (1..).find(|_| server.recv().is_err()).unwrap();
        assert!(calls <= 65, "{calls} calls");
    }
}
