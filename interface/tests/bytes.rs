//! Every call of an interface that carries messages of variable length, two
//! endpoints in one process.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::time::Duration;

use common::{HANG, Watchdog, pair, pair_of, try_pair, until};
use memenpsf::error::Field;
use memenpsf::{
    ByteInterface, ByteReceiver, ByteTransmitter, ByteXmitError, ConnectError, Departure, Event,
    HandshakeError, Interest, Interface, Mismatch, Options, Reason, RecvError, Server,
    ServerOptions,
};
use memenpsf_ring::LayoutError;

fn bytes_of(capacity: usize) -> (ByteInterface, ByteInterface) {
    pair_of::<[u8]>(capacity)
}

/// A client whose ring has `capacity` bytes for messages of up to `longest`.
fn bytes_with(capacity: usize, longest: usize) -> (ByteInterface, ByteInterface) {
    let options = Options::new().capacity(capacity).max_message(longest);
    pair::<[u8]>(&options, &Options::new())
}

fn too_long(length: usize, longest: usize) -> ByteXmitError {
    ByteXmitError::TooLong { length, longest }
}

const CLOSED: Departure = Departure::Closed;

// --- messages ---

#[test]
fn messages_of_every_length_arrive_once_and_in_order() {
    let (mut client, mut server) = bytes_of(4096);
    let longest = client.max_message();
    assert_eq!(longest, 1024);
    for round in 0..2_u8 {
        for length in 0..=longest {
            let message: Vec<u8> = (round..=255).cycle().take(length).collect();
            client.xmit(&message).unwrap();
            server.xmit(&message).unwrap();
            assert_eq!(server.recv(), Ok(Some(message.clone())));
            assert_eq!(client.recv(), Ok(Some(message)));
        }
    }
    assert_eq!((client.recv(), server.recv()), (Ok(None), Ok(None)));
}

#[test]
fn empty_message_is_a_message() {
    let (mut client, mut server) = bytes_of(64);
    assert_eq!(server.recv(), Ok(None));
    client.xmit(b"").unwrap();
    client.reserve(8).unwrap().commit(0);
    assert_eq!(client.xmit_vectored(&[b""]), Ok(1));
    for _ in 0..3 {
        assert_eq!(server.recv(), Ok(Some(Vec::new())));
    }
    assert_eq!(server.recv(), Ok(None));
    assert_eq!((client.indices().write, server.indices().read), (3, 3));
}

#[test]
fn full_ring_refuses_until_the_peer_receives_and_loses_nothing() {
    let (mut client, mut server) = bytes_of(128);
    client.xmit(b"first").unwrap();
    let mut sent = 1;
    while client.xmit(&[sent; 20]).is_ok() {
        sent += 1;
    }
    for _ in 0..1000 {
        assert_eq!(client.xmit(&[sent; 20]), Err(ByteXmitError::Full));
        assert_eq!(client.reserve(20).unwrap_err(), ByteXmitError::Full);
        assert_eq!(client.xmit_vectored(&[[sent; 20]]), Ok(0));
    }
    assert_eq!(server.recv(), Ok(Some(b"first".to_vec())));
    for n in 1..sent {
        assert_eq!(server.recv(), Ok(Some(vec![n; 20])));
    }
    client.xmit(&[sent; 20]).unwrap();
    assert_eq!(server.recv(), Ok(Some(vec![sent; 20])));
    assert_eq!(client.stats().full, 3001);
}

#[test]
fn free_bytes_are_what_records_have_left() {
    let (ours, mut theirs) = bytes_of(256);
    let (mut transmitter, _receiver) = ours.split();
    // The end of what was committed takes 8.
    assert_eq!(transmitter.free_bytes(), 248);
    // A header of 8, and the message rounded up to 8.
    transmitter.xmit(&[7; 9]).unwrap();
    assert_eq!(transmitter.free_bytes(), 248 - 8 - 16);
    assert!(theirs.recv().unwrap().is_some());
    assert_eq!(transmitter.free_bytes(), 248);
}

#[test]
fn message_that_is_too_long_is_an_error_that_names_the_limit() {
    let (mut client, mut server) = bytes_of(4096);
    for length in [1025, 4096, 1 << 20] {
        let message = vec![0; length];
        let error = too_long(length, 1024);
        assert_eq!(client.xmit(&message), Err(error));
        assert_eq!(client.xmit_timeout(&message, None), Err(error));
        assert_eq!(client.xmit_vectored(&[&message]), Err(error));
        assert_eq!(client.reserve(length).unwrap_err(), error);
    }
    assert_eq!(
        client.reserve(usize::MAX).unwrap_err(),
        too_long(usize::MAX, 1024)
    );
    // Behind others, it ends the batch.
    assert_eq!(client.xmit_vectored(&[&[1][..], &[0; 1025], &[2]]), Ok(1));
    assert_eq!(server.recv_vectored(), Ok(vec![vec![1]]));
    // None of this counts as a full ring.
    assert_eq!(client.stats().full, 0);
}

#[test]
fn xmit_vectored_takes_what_fits_and_none_when_full() {
    let (mut client, mut server) = bytes_of(64);
    assert_eq!(client.xmit_vectored::<&[u8]>(&[]), Ok(0));
    let messages = ["one", "two", "three", "four", "five"];
    assert_eq!(client.xmit_vectored(&messages), Ok(3));
    assert_eq!(client.xmit_vectored(&messages[3..]), Ok(0));
    assert_eq!(
        server.recv_vectored().unwrap(),
        messages.map(str::as_bytes)[..3]
    );
    assert_eq!(client.xmit_vectored(&messages[3..]), Ok(2));
    assert_eq!(
        server.recv_vectored().unwrap(),
        messages.map(str::as_bytes)[3..]
    );
    assert_eq!(client.indices().write, 5);
}

#[test]
fn reservation_transmits_what_is_committed_of_it_and_nothing_when_dropped() {
    let (mut client, mut server) = bytes_of(256);
    let mut room = client.reserve(10).unwrap();
    assert_eq!((room.len(), room.is_empty()), (10, false));
    room.as_mut_slice().copy_from_slice(b"0123456789");
    room.commit(4);
    let mut room = client.reserve(10).unwrap();
    room.fill(b"dropped");
    drop(room);
    let mut room = client.reserve(10).unwrap();
    room.fill(b"kept");
    room.commit(4);
    let room = client.reserve(0).unwrap();
    assert!(room.is_empty());
    drop(room);
    let received = server.recv_vectored().unwrap();
    assert_eq!(received, [&b"0123"[..], b"kept"]);
    assert_eq!(client.indices().write, 2);
}

#[test]
#[should_panic(expected = "commit of 5 bytes, of which 4 were reserved")]
fn commit_of_more_than_was_reserved_panics() {
    let (mut client, _server) = bytes_of(64);
    client.reserve(4).unwrap().commit(5);
}

#[test]
fn recv_into_uses_the_same_memory_again() {
    let (mut client, mut server) = bytes_of(4096);
    let mut message = b"what was there before".to_vec();
    client.xmit(&[7; 1000]).unwrap();
    assert_eq!(server.recv_into(&mut message), Ok(Some(1000)));
    assert_eq!(message, [7; 1000]);
    let (memory, room) = (message.as_ptr(), message.capacity());
    for length in (0..1000).rev() {
        client.xmit(&vec![8; length]).unwrap();
        assert_eq!(server.recv_into(&mut message), Ok(Some(length)));
        assert_eq!(message, vec![8; length]);
    }
    assert_eq!((memory, room), (message.as_ptr(), message.capacity()));
    client.xmit(&[9; 9]).unwrap();
    assert_eq!(server.recv_into_timeout(&mut message, None), Ok(Some(9)));
    assert_eq!(message, [9; 9]);
    // Nothing there: nothing is left of the old one either.
    assert_eq!(server.recv_into(&mut message), Ok(None));
    assert_eq!(message, []);
}

#[test]
fn recv_vectored_returns_although_the_peer_never_stops() {
    const CAPACITY: usize = 256;
    let _watchdog = Watchdog::new();
    let (mut client, mut server) = bytes_of(CAPACITY);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut next = 0_u64;
            loop {
                match client.xmit(&next.to_ne_bytes()) {
                    Ok(()) => next += 1,
                    Err(ByteXmitError::Closed(_)) => return,
                    Err(_) => {}
                }
            }
        });
        let mut expected = 0_u64;
        while expected < 100_000 {
            let messages = server.recv_vectored().unwrap();
            // A record of 8 bytes takes 16; one more may have come meanwhile.
            assert!(messages.len() <= CAPACITY / 16 + 1, "{}", messages.len());
            for message in messages {
                assert_eq!(message, expected.to_ne_bytes());
                expected += 1;
            }
        }
        drop(server);
    });
}

// --- what both sides agree upon ---

#[test]
fn longest_message_is_the_smaller_of_what_is_sent_and_what_is_accepted() {
    let talker = Options::new().capacity(8192).max_message(5000);
    let careful = Options::new().capacity(1024).accept_message(300);
    let (client, server) = pair::<[u8]>(&talker, &careful);
    assert_eq!((client.cap(), server.cap()), (8192, 1024));
    assert_eq!(
        (client.peer().capacity(), server.peer().capacity()),
        (1024, 8192)
    );
    // Down to what the server accepts; a quarter of its ring the other way.
    assert_eq!((client.max_message(), server.max_message()), (300, 256));
    let (mut transmitter, receiver) = client.split();
    let (back, mut there) = server.split();
    assert_eq!((receiver.max_message(), there.max_message()), (256, 300));
    assert_eq!(back.max_message(), 256);
    assert_eq!(transmitter.xmit(&[1; 301]), Err(too_long(301, 300)));
    transmitter.xmit(&[1; 300]).unwrap();
    assert_eq!(there.recv(), Ok(Some(vec![1; 300])));
}

#[test]
fn side_that_accepts_nothing_still_takes_empty_messages() {
    let deaf = Options::new().accept_message(0);
    let (mut client, mut server) = pair::<[u8]>(&Options::new(), &deaf);
    assert_eq!(client.xmit(b"x"), Err(too_long(1, 0)));
    client.xmit(b"").unwrap();
    assert_eq!(server.recv(), Ok(Some(Vec::new())));
}

#[test]
fn default_is_a_quarter_of_the_default_ring() {
    let (client, _server) = pair::<[u8]>(&Options::new(), &Options::new());
    assert_eq!((client.cap(), client.max_message()), (256 << 10, 64 << 10));
    // The smallest ring holds empty messages only.
    let (mut client, mut server) = bytes_of(16);
    assert_eq!(client.xmit(b"x"), Err(too_long(1, 0)));
    client.xmit(b"").unwrap();
    assert_eq!(client.xmit(b""), Err(ByteXmitError::Full));
    assert_eq!(server.recv(), Ok(Some(Vec::new())));
}

#[test]
fn ring_of_the_longest_message_takes_it_from_anywhere() {
    for start in (0..1024).step_by(8) {
        let options = Options::new().capacity(128).max_message(112);
        let options = options.start_at(u64::MAX - 7 - start);
        let (mut client, mut server) = pair::<[u8]>(&options, &options);
        for n in 0..5 {
            client.xmit(&[n; 112]).unwrap();
            assert_eq!(client.xmit(b""), Err(ByteXmitError::Full));
            assert_eq!(server.recv(), Ok(Some(vec![n; 112])));
        }
    }
}

#[test]
fn rings_that_cannot_be_are_refused_before_anything_is_sent() {
    let refused = |options: Options| match ByteInterface::connect_with("/nonexistent", &options) {
        Err(ConnectError::Socket { .. }) => None,
        Err(ConnectError::Capacity(error)) => Some(error),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(Options::new()), None);
    // The address comes first, so over a socket that is there.
    let over = |options: &Options| {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        match ByteInterface::establish(ours, 0, options) {
            Err(ConnectError::Capacity(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    for given in [0, 1, 8, 100, 1000, usize::MAX] {
        let expected = LayoutError::Bytes { given };
        assert_eq!(over(&Options::new().capacity(given)), expected);
    }
    let options = Options::new().capacity(1024).max_message(1009);
    let expected = LayoutError::Message {
        given: 1009,
        limit: 1008,
    };
    assert_eq!(over(&options), expected);
}

#[test]
fn region_limit_holds_for_ring_and_overhang() {
    // A ring of 64 KiB whose longest message nearly doubles it.
    let large = Options::new().capacity(1 << 16).max_message((1 << 16) - 16);
    let small = Options::new().capacity(64).region_limit(1 << 16);
    let (client, server) = try_pair::<[u8]>(&large, &small);
    let refused = |error: &HandshakeError| match error {
        HandshakeError::Refusing(refusal) | HandshakeError::Refused(refusal) => refusal.reason(),
        error => panic!("{error}"),
    };
    for end in [client, server] {
        match end {
            Err(ConnectError::Handshake(error)) => assert_eq!(
                refused(&error),
                Reason::Memory {
                    needed: 135_168,
                    limit: 1 << 16
                }
            ),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn bytes_and_plain_data_refuse_each_other_in_words() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| Interface::<u8>::new("", 64, theirs, 1));
        let client = ByteInterface::new("", 64, ours, 0).unwrap_err();
        let server = server.join().unwrap().unwrap_err();
        let words = "kind of ring is bytes, expected packed";
        assert_eq!(client.to_string(), format!("the peer refused: {words}"));
        assert_eq!(server.to_string(), format!("the peer was refused: {words}"));
    });
}

#[test]
fn schemas_have_to_agree() {
    let options = |schema| Options::new().schema(schema);
    let (client, server) = try_pair::<[u8]>(&options("json"), &options("cbor"));
    for end in [client, server] {
        let Err(ConnectError::Handshake(
            HandshakeError::Refusing(refusal) | HandshakeError::Refused(refusal),
        )) = end
        else {
            panic!("{end:?}");
        };
        assert!(matches!(
            refusal.reason(),
            Reason::Mismatch(Mismatch {
                field: Field::LayoutHash,
                ..
            })
        ));
        let words = "the elements are alike and the schemas differ";
        assert_eq!(refusal.words(), words);
    }
}

// --- halves, accessors, ends ---

/// The n-th message of a stream: of another length and content each time.
fn numbered(n: u64, message: &mut Vec<u8>) {
    let scattered = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let length = usize::try_from(scattered >> 59).unwrap();
    message.clear();
    message.extend(n.to_ne_bytes());
    message.extend(scattered.to_ne_bytes().iter().cycle().take(length));
}

#[test]
fn split_halves_stream_both_ways_and_sleep_through_a_ring_of_two_messages() {
    const COUNT: u64 = 20_000;
    let _watchdog = Watchdog::new();
    let options = Options::new().capacity(128).max_message(48);
    let (client, server) = pair::<[u8]>(&options, &options);
    let transmit = |mut half: ByteTransmitter| {
        let mut message = Vec::new();
        for n in 0..COUNT {
            numbered(n, &mut message);
            assert_eq!(
                half.xmit_timeout(&message, Some(HANG)),
                Ok(()),
                "stalled at {n}"
            );
        }
        half
    };
    let receive = |mut half: ByteReceiver| {
        let (mut message, mut expected) = (Vec::new(), Vec::new());
        for n in 0..COUNT {
            numbered(n, &mut expected);
            let received = half.recv_into_timeout(&mut message, Some(HANG));
            assert_eq!(received, Ok(Some(expected.len())), "stalled at {n}");
            assert_eq!(message, expected);
        }
        half
    };
    let halves = std::thread::scope(|scope| {
        let halves = [client, server].map(|interface| {
            let (transmitter, receiver) = interface.split();
            (
                scope.spawn(move || transmit(transmitter)),
                scope.spawn(move || receive(receiver)),
            )
        });
        // Nobody says goodbye before all is received.
        halves.map(|(sent, received)| (sent.join().unwrap(), received.join().unwrap()))
    });
    for (transmitter, receiver) in &halves {
        assert_eq!(
            (transmitter.position(), receiver.position()),
            (COUNT, COUNT)
        );
    }
}

#[test]
fn goodbye_comes_after_all_that_was_committed_and_stays() {
    let (mut client, mut server) = bytes_of(1024);
    client.xmit_vectored(&["one", "two"]).unwrap();
    client.xmit(b"").unwrap();
    client.close();
    let mut messages = Vec::new();
    let end = until(|| match server.recv() {
        Ok(message) => {
            messages.extend(message);
            None
        }
        Err(error) => Some(error),
    });
    assert_eq!(messages, [&b"one"[..], b"two", b""]);
    assert_eq!(end, RecvError::Closed(CLOSED));
    for _ in 0..1000 {
        assert_eq!(server.recv(), Err(end));
        assert_eq!(server.recv_vectored(), Err(end));
        assert_eq!(server.recv_timeout(None), Err(end));
    }
    let error = until(|| server.xmit(b"hello").err());
    assert_eq!(error, ByteXmitError::Closed(CLOSED));
    assert_eq!(server.xmit_vectored(&["a"]), Err(error));
    assert_eq!(server.reserve(1).unwrap_err(), error);
    assert_eq!(server.xmit_timeout(b"a", None), Err(error));
}

#[test]
fn goodbye_wakes_who_waits_for_a_message_or_for_room() {
    let (mut ours, theirs) = bytes_of(64);
    ours.xmit(&[0; 16]).unwrap();
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| ours.xmit_timeout(&[0; 16], Some(HANG)));
        theirs.close();
        let end = sleeper.join().unwrap();
        assert_eq!(end, Err(ByteXmitError::Closed(CLOSED)));
    });
    let (mut ours, theirs) = bytes_of(64);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| ours.recv_timeout(Some(HANG)));
        theirs.close();
        assert_eq!(sleeper.join().unwrap(), Err(RecvError::Closed(CLOSED)));
    });
}

#[test]
fn time_up_returns_nothing() {
    let (mut ours, mut theirs) = bytes_of(64);
    let brief = Some(Duration::from_millis(2));
    assert_eq!(ours.recv_timeout(brief), Ok(None));
    ours.xmit(&[1; 16]).unwrap();
    assert_eq!(ours.xmit_timeout(&[2; 16], brief), Err(ByteXmitError::Full));
    assert_eq!(theirs.recv_timeout(brief), Ok(Some(vec![1; 16])));
}

#[test]
fn readiness_for_space_is_that_of_the_message_which_found_none() {
    let (mut ours, mut theirs) = bytes_with(256, 200);
    ours.xmit(&[0; 40]).unwrap();
    ours.xmit(&[0; 100]).unwrap();
    assert_eq!(ours.xmit(&[0; 200]), Err(ByteXmitError::Full));
    // There is room, but not for this one.
    assert!(!ours.ready(Interest::SPACE).any());
    theirs.recv().unwrap();
    assert!(!ours.ready(Interest::SPACE).any());
    theirs.recv().unwrap();
    assert!(ours.ready(Interest::SPACE).writable);
    ours.xmit(&[0; 200]).unwrap();
    assert!(!theirs.ready(Interest::SPACE).readable);
    assert!(theirs.ready(Interest::DATA).readable);
}

#[test]
fn message_that_fits_is_not_kept_waiting_for_the_room_of_a_reservation() {
    let (mut ours, mut theirs) = bytes_with(256, 200);
    ours.xmit(&[0; 56]).unwrap();
    ours.xmit(&[0; 168]).unwrap();
    assert_eq!(ours.xmit(&[0; 60]), Err(ByteXmitError::Full));
    theirs.recv().unwrap();
    // 72 bytes are vacant: what the message takes. A shorter one, which a
    // reservation may become, would be padded to 80.
    assert!(ours.ready(Interest::SPACE).writable);
    assert_eq!(ours.reserve(60).unwrap_err(), ByteXmitError::Full);
    assert!(!ours.ready(Interest::SPACE).any());
    ours.xmit(&[0; 60]).unwrap();
    theirs.recv().unwrap();
    assert!(ours.ready(Interest::SPACE).writable);
    ours.reserve(60).unwrap().commit(1);
}

#[test]
fn control_messages_pass_beside_the_rings() {
    let (mut ours, mut theirs) = bytes_of(64);
    ours.send_ctrl_msg([1, 2]).unwrap();
    assert_eq!(theirs.recv_ctrl_msg().unwrap(), Some([1, 2]));
    assert_eq!(theirs.recv(), Ok(None));
    assert_eq!(ours.stats().control_sent, 1);
}

#[test]
fn debug_shows_neither_messages_nor_addresses() {
    let (mut ours, _theirs) = bytes_of(64);
    ours.xmit(b"secret").unwrap();
    let shown = format!("{ours:?}");
    assert!(shown.contains("capacity: 64"), "{shown}");
    assert!(
        !shown.contains("secret") && !shown.contains("0x"),
        "{shown}"
    );
}

// --- served ---

#[test]
fn server_serves_clients_of_bytes_by_events_and_by_accept() {
    let _watchdog = Watchdog::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let options = ServerOptions::new().connection(Options::new().capacity(1024));
    let mut server = Server::<[u8]>::bind_with(&path, &options).unwrap();
    std::thread::scope(|scope| {
        let path = &path;
        let clients: Vec<_> = (0..8_u8)
            .map(|n| {
                scope.spawn(move || {
                    let options = Options::new().wait_for_server(HANG);
                    let mut client = ByteInterface::connect_with(path, &options).unwrap();
                    for round in 0..100_u8 {
                        let message = vec![n ^ round; usize::from(round) + 1];
                        client.xmit_timeout(&message, Some(HANG)).unwrap();
                        let echo = client.recv_timeout(Some(HANG)).unwrap();
                        assert_eq!(echo.unwrap(), message);
                    }
                })
            })
            .collect();
        let mut gone = 0;
        let mut message = Vec::new();
        while gone < clients.len() {
            match server.poll(Some(HANG)).unwrap() {
                Some(Event::Ready(id, _)) => {
                    let client = server.client(id).unwrap();
                    while let Ok(Some(_)) = client.recv_into(&mut message) {
                        client.xmit(&message).unwrap();
                    }
                }
                Some(Event::Gone(_, reason)) => {
                    assert_eq!(reason, RecvError::Closed(CLOSED));
                    gone += 1;
                }
                Some(Event::Connected(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        for client in clients {
            client.join().unwrap();
        }
    });
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut client = ByteInterface::connect(&path).unwrap();
            client.recv_timeout(Some(HANG)).unwrap()
        });
        for client in server.incoming().take(1) {
            client.unwrap().xmit(b"hello").unwrap();
        }
        assert_eq!(client.join().unwrap(), Some(b"hello".to_vec()));
    });
    // A client of plain data is refused, and the server goes on.
    std::thread::scope(|scope| {
        let stranger = scope.spawn(|| Interface::<u64>::connect(&path).unwrap_err());
        let Some(Event::Failed(..)) = server.poll(Some(HANG)).unwrap() else {
            panic!();
        };
        let words = "the peer refused: kind of ring is packed, expected bytes";
        assert_eq!(stranger.join().unwrap().to_string(), words);
    });
}
