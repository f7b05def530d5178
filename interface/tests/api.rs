//! Every call of an interface, two endpoints in one process: messages, halves,
//! accessors, control messages.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::fmt::Debug;

use common::{RINGS, Watchdog, let_the_clock_tick, pair, pair_of, pair_over, until};
use memenpsf::options::Ring;
use memenpsf::{
    ControlError, Departure, Interface, Options, Plain, Receiver, RecvError, Role, TransmitError,
    Transmitter, XmitError,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

// --- messages ---

#[test]
fn messages_arrive_once_and_in_order_in_both_directions() {
    for ring in RINGS {
        let (mut client, mut server) = pair_over::<u64>(ring, 8);
        for round in 0..100 {
            for n in 0..5 {
                client.xmit(round * 10 + n).unwrap();
                server.xmit(round * 1000 + n).unwrap();
            }
            for n in 0..5 {
                assert_eq!(server.recv(), Ok(Some(round * 10 + n)));
                assert_eq!(client.recv(), Ok(Some(round * 1000 + n)));
            }
            assert_eq!(server.recv(), Ok(None));
            assert_eq!(client.recv(), Ok(None));
        }
    }
}

#[test]
fn full_ring_gives_the_message_back_until_the_peer_receives() {
    for ring in RINGS {
        let (mut client, mut server) = pair_over::<u64>(ring, 4);
        for n in 0..4 {
            client.xmit(n).unwrap();
        }
        for _ in 0..1000 {
            assert_eq!(client.xmit(77), Err(XmitError::Full(77)));
        }
        assert_eq!(server.recv(), Ok(Some(0)));
        client.xmit(4).unwrap();
        assert_eq!(client.xmit(78).unwrap_err().into_inner(), 78);
        assert_eq!(server.recv_vectored(), Ok(vec![1, 2, 3, 4]));
    }
}

#[test]
fn xmit_vectored_takes_what_fits_and_none_when_full() {
    for ring in RINGS {
        let (mut client, mut server) = pair_over::<u64>(ring, 4);
        client.xmit(0).unwrap();
        assert_eq!(client.xmit_vectored(&[]), Ok(0));
        assert_eq!(client.xmit_vectored(&[1, 2, 3, 4, 5]), Ok(3));
        assert_eq!(client.xmit_vectored(&[4, 5]), Ok(0));
        assert_eq!(server.recv_vectored(), Ok(vec![0, 1, 2, 3]));
        assert_eq!(client.xmit_vectored(&[4, 5]), Ok(2));
        assert_eq!(server.recv_vectored(), Ok(vec![4, 5]));
    }
}

#[test]
fn commit_transmits_a_prefix_and_a_dropped_reservation_nothing() {
    for ring in RINGS {
        let (mut client, mut server) = pair_over::<u64>(ring, 4);
        let mut slots = client.reserve(4).unwrap();
        assert_eq!(slots.fill([1, 2, 3]), 3);
        slots.commit(2);
        assert_eq!(server.recv_vectored(), Ok(vec![1, 2]));

        let mut slots = client.reserve(2).unwrap();
        assert_eq!(slots.fill(8..), 2);
        drop(slots);
        assert_eq!(server.recv_vectored(), Ok(vec![]));

        let mut slots = client.reserve(3).unwrap();
        assert_eq!(slots.fill([4]), 1);
        slots.commit_all();
        assert_eq!(server.recv_vectored(), Ok(vec![4]));

        client.reserve(0).unwrap().commit(0);
        assert!(client.reserve(0).unwrap().is_empty());
        assert_eq!(server.recv_vectored(), Ok(vec![]));
    }
}

#[test]
fn reservation_comes_in_slices_from_end_to_beginning() {
    // Of 16 slots, 12 are passed. An index ring goes on to its end; a packed one has
    // 7 slots a line, and 5 of the second line are used.
    for (ring, expected) in [(Ring::Index, &[4, 6][..]), (Ring::Packed, &[2, 7, 1])] {
        let (mut client, mut server) = pair_over::<u64>(ring, 16);
        client.xmit_vectored(&[0; 12]).unwrap();
        assert_eq!(server.recv_vectored().unwrap().len(), 12);

        let mut slots = client.reserve(10).unwrap();
        assert_eq!((slots.len(), slots.is_empty()), (10, false));
        let mut next = 10..;
        let lens: Vec<_> = slots
            .slices_mut()
            .map(|slice| {
                slice.fill_with(|| next.next().unwrap());
                slice.len()
            })
            .collect();
        assert_eq!(lens, expected);
        slots.commit(10);
        assert_eq!(server.recv_vectored(), Ok((10..20).collect()));
    }
}

#[test]
fn reservation_of_more_than_is_vacant_tells_how_many_are() {
    for ring in RINGS {
        let (mut client, mut server) = pair_over::<u64>(ring, 4);
        client.xmit(1).unwrap();
        let too_few = |wanted, available| TransmitError::TooFew { wanted, available };
        assert_eq!(client.reserve(4).unwrap_err(), too_few(4, 3));
        assert_eq!(
            client.reserve(usize::MAX).unwrap_err(),
            too_few(usize::MAX, 3)
        );
        server.recv().unwrap();
        client.reserve(4).unwrap().commit(0);
        assert_eq!(client.reserve(5).unwrap_err(), too_few(5, 4));
    }
}

#[test]
#[should_panic(expected = "commit of 2 elements, of which 1 were written")]
fn commit_of_more_than_was_written_panics() {
    let (mut client, _server) = pair_of::<u64>(4);
    let mut slots = client.reserve(3).unwrap();
    slots.fill([1]);
    slots.commit(2);
}

#[test]
fn recv_into_appends_at_most_max() {
    for ring in RINGS {
        let (mut client, mut server) = pair_over::<u64>(ring, 8);
        client.xmit_vectored(&[1, 2, 3, 4, 5]).unwrap();
        let mut messages = vec![0];
        assert_eq!(server.recv_into(&mut messages, 0), Ok(0));
        assert_eq!(server.recv_into(&mut messages, 2), Ok(2));
        assert_eq!(messages, [0, 1, 2]);
        assert_eq!(server.recv_into(&mut messages, 9), Ok(3));
        assert_eq!(server.recv_into(&mut messages, 9), Ok(0));
        assert_eq!(messages, [0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn recv_vectored_returns_although_the_peer_never_stops() {
    for ring in RINGS {
        let _watchdog = Watchdog::new();
        const CAPACITY: usize = 8;
        let (mut client, mut server) = pair_over::<u64>(ring, CAPACITY);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut next = 0;
                while !matches!(client.xmit(next), Err(XmitError::Closed(..))) {
                    next = client.indices().write;
                }
            });
            let mut expected = 0;
            while expected < 100_000 {
                let messages = server.recv_vectored().unwrap();
                // One snapshot: more would mean that it looked again.
                assert!(messages.len() <= CAPACITY);
                for message in messages {
                    assert_eq!(message, expected);
                    expected += 1;
                }
            }
            drop(server);
        });
    }
}

/// Transmits 0, 1, 2, ... and waits when the ring is full.
fn transmit_all(transmitter: &mut Transmitter<u64>, count: u64) {
    for n in 0..count {
        until(|| match transmitter.xmit(n) {
            Ok(()) => Some(()),
            Err(XmitError::Full(message)) => {
                assert_eq!(message, n);
                None
            }
            Err(error) => panic!("{error}"),
        });
    }
}

fn receive_all(receiver: &mut Receiver<u64>, count: u64) {
    for n in 0..count {
        assert_eq!(until(|| receiver.recv().unwrap()), n);
    }
}

#[test]
fn split_halves_stream_a_million_messages_both_ways() {
    for ring in RINGS {
        let _watchdog = Watchdog::new();
        const COUNT: u64 = 1_000_000;
        let (client, server) = pair_over::<u64>(ring, 256);
        std::thread::scope(|scope| {
            for interface in [client, server] {
                let (mut transmitter, mut receiver) = interface.split();
                // Each thread hands its half back, so that nobody says goodbye
                // before all is received.
                scope.spawn(move || {
                    let receiving = std::thread::spawn(move || {
                        receive_all(&mut receiver, COUNT);
                        receiver
                    });
                    transmit_all(&mut transmitter, COUNT);
                    let receiver = receiving.join().unwrap();
                    assert_eq!(
                        (transmitter.position(), receiver.position()),
                        (COUNT, COUNT)
                    );
                });
            }
        });
    }
}

#[test]
fn connection_lives_as_long_as_either_half() {
    for ring in RINGS {
        let (client, mut server) = pair_over::<u64>(ring, 8);
        let (mut transmitter, receiver) = client.split();
        drop(receiver);
        let_the_clock_tick();
        assert_eq!(server.recv(), Ok(None));
        transmitter.xmit(1).unwrap();
        assert_eq!(server.recv(), Ok(Some(1)));
        drop(transmitter);
        let end = until(|| server.recv().err());
        assert_eq!(end, RecvError::Closed(Departure::Closed));
    }
}

#[test]
fn halves_tell_capacity_position_and_slots() {
    let options = |capacity| Options::new().capacity(capacity);
    let (client, server) = pair::<u64>(&options(4), &options(16));
    let (mut transmitter, mut receiver) = client.split();
    let (mut back, mut there) = server.split();
    assert_eq!((transmitter.cap(), receiver.cap()), (4, 16));
    assert_eq!((back.cap(), there.cap()), (16, 4));
    transmitter.xmit(1).unwrap();
    back.xmit_vectored(&[1, 2]).unwrap();
    assert_eq!((transmitter.slots(), receiver.slots()), (3, 2));
    assert_eq!((back.slots(), there.slots()), (14, 1));
    receiver.recv().unwrap();
    assert_eq!((transmitter.position(), receiver.position()), (1, 1));
    assert_eq!((back.slots(), receiver.slots()), (15, 1));
}

#[test]
fn debug_shows_positions_and_no_messages() {
    const SECRET: u64 = 0x5ec_2e75;
    for ring in RINGS {
        let (client, mut server) = pair_over::<u64>(ring, 4);
        let (mut transmitter, receiver) = client.split();
        transmitter.xmit(SECRET).unwrap();
        server.xmit(SECRET).unwrap();
        let shown = format!("{transmitter:?} {receiver:?} {server:?}");
        assert!(
            shown.contains("tail: 1") && shown.contains("head: 0"),
            "{shown}"
        );
        assert!(!shown.contains(&SECRET.to_string()), "{shown}");
        assert!(!shown.contains("0x"), "{shown}");
    }
}

#[test]
fn accessors_tell_names_roles_capacities_and_peers() {
    let options = |name, capacity| Options::new().name(name).capacity(capacity);
    let (client, server) = pair::<u64>(&options("kunde é", 4), &options("", 16));
    assert_eq!((client.name(), server.name()), ("kunde é", ""));
    assert_eq!((client.role(), server.role()), (Role::Client, Role::Server));
    assert_eq!((client.cap(), server.cap()), (4, 16));
    assert_eq!(client.peer().name(), "");
    assert_eq!(server.peer().name(), "kunde é");
    assert_eq!(
        (client.peer().capacity(), server.peer().capacity()),
        (16, 4)
    );
    for peer in [client.peer(), server.peer()] {
        assert_eq!(peer.credentials().pid, Some(std::process::id()));
        assert_eq!(peer.credentials().uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.credentials().gid, nix::unistd::getegid().as_raw());
    }
}

#[test]
fn indices_and_stats_count_each_call() {
    for ring in RINGS {
        let (mut client, mut server) = pair_over::<u64>(ring, 4);
        assert_eq!(client.stats().transmitted, 0);
        assert_eq!(client.xmit_vectored(&[1, 2, 3, 4, 5]), Ok(4));
        client.xmit(5).unwrap_err();
        client.xmit_vectored(&[5]).unwrap();
        client.reserve(1).unwrap_err();
        server.recv().unwrap();
        assert_eq!((client.indices().write, client.indices().read), (4, 0));
        assert_eq!((server.indices().write, server.indices().read), (0, 1));
        assert_eq!(server.recv_vectored().unwrap().len(), 3);
        for _ in 0..5 {
            server.recv().unwrap();
            server.recv_vectored().unwrap();
        }
        client.send_ctrl_msg([1, 2]).unwrap();
        server.recv_ctrl_msg().unwrap();

        let (ours, theirs) = (client.stats(), server.stats());
        assert_eq!((ours.transmitted, ours.received), (4, 0));
        assert_eq!((theirs.transmitted, theirs.received), (0, 4));
        assert_eq!((ours.full, ours.empty), (3, 0));
        assert_eq!((theirs.full, theirs.empty), (0, 10));
        assert_eq!((ours.control_sent, ours.control_received), (1, 0));
        assert_eq!((theirs.control_sent, theirs.control_received), (0, 1));
        assert!(theirs.looks > 0);
    }
}

#[test]
fn directions_may_differ_in_capacity() {
    let options = |capacity| Options::new().capacity(capacity);
    let (mut client, mut server) = pair::<u64>(&options(1), &options(64));
    let many: Vec<u64> = (0..100).collect();
    assert_eq!(client.xmit_vectored(&many), Ok(1));
    assert_eq!(server.xmit_vectored(&many), Ok(64));
    assert_eq!(server.recv_vectored(), Ok(vec![0]));
    assert_eq!(client.recv_vectored(), Ok(many[..64].to_vec()));
}

#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Order {
    id: u64,
    price: f32,
    volume: u16,
    flags: [u8; 2],
}

/// Sends every value several times round a small ring, both ways, by each call.
fn carries<T: Plain + PartialEq + Debug>(values: &[T]) {
    let (mut client, mut server) = pair_of::<T>(4);
    for _ in 0..5 {
        for &value in values {
            client.xmit(value).unwrap();
            server.reserve(1).unwrap().fill([value]);
            let mut slots = server.reserve(1).unwrap();
            slots.slices_mut().for_each(|slice| slice.fill(value));
            slots.commit(1);
            assert_eq!(server.recv(), Ok(Some(value)));
            assert_eq!(client.recv_vectored(), Ok(vec![value]));
        }
        let sent = client.xmit_vectored(values).unwrap();
        assert_eq!(server.recv_vectored().unwrap(), values[..sent]);
    }
}

#[test]
fn elements_of_every_size_and_alignment_arrive_whole() {
    carries::<u8>(&[0, 1, 255]);
    carries::<u16>(&[1, u16::MAX]);
    carries::<u32>(&[1, u32::MAX]);
    carries::<i64>(&[i64::MIN, -1, 7]);
    carries::<f64>(&[0.5, f64::MAX]);
    carries::<u128>(&[1, u128::MAX, 1 << 64]);
    carries::<[u8; 13]>(&[*b"thirteen long", [0; 13], *b"0123456789abc"]);
    carries::<[u16; 3]>(&[[1, 2, 3], [4, 5, 6]]);
    let order = Order {
        id: u64::MAX,
        price: 1.5,
        volume: 3,
        flags: [4, 5],
    };
    carries(&[order, Order { id: 1, ..order }]);
    let words: [u64; 128] = std::array::from_fn(|i| i as u64 * 0x0101_0101_0101);
    carries(&[words, [7; 128]]);
    let mut page = [0_u8; 65536];
    for (i, byte) in page.iter_mut().enumerate() {
        *byte = (i % 251).to_le_bytes()[0];
    }
    carries(&[page, [9; 65536]]);
    carries::<()>(&[(), ()]);
}

// --- control messages ---

#[test]
fn control_messages_arrive_in_order_beside_the_rings() {
    for ring in RINGS {
        let (mut client, mut server) = pair_over::<u64>(ring, 4);
        assert_eq!(client.recv_ctrl_msg().unwrap(), None);
        for n in 0..100 {
            client.send_ctrl_msg([n, !n]).unwrap();
            server.send_ctrl_msg([!n, n]).unwrap();
        }
        client.xmit(1).unwrap();
        assert_eq!(server.recv(), Ok(Some(1)));
        for n in 0..100 {
            assert_eq!(server.recv_ctrl_msg().unwrap(), Some([n, !n]));
            assert_eq!(client.recv_ctrl_msg().unwrap(), Some([!n, n]));
        }
        assert_eq!(server.recv_ctrl_msg().unwrap(), None);
    }
}

/// The n-th control message of a long run.
fn numbered(n: u64) -> [u8; 2] {
    [n.to_le_bytes()[0], n.to_le_bytes()[1]]
}

/// Sends `count` control messages to a peer that looks at its socket, because
/// it asks for messages, but takes no control message.
fn send_unread(client: &mut Interface<u64>, server: &mut Interface<u64>, count: u64) {
    for n in 0..count {
        until(|| match client.send_ctrl_msg(numbered(n)) {
            Ok(()) => Some(()),
            Err(ControlError::Full) => {
                assert_eq!(server.recv(), Ok(None));
                None
            }
            Err(error) => panic!("{error}"),
        });
    }
}

#[test]
fn more_control_messages_than_the_inbox_holds_all_arrive_in_order() {
    for ring in RINGS {
        const COUNT: u64 = 1200;
        let (mut client, mut server) = pair_over::<u64>(ring, 4);
        send_unread(&mut client, &mut server, COUNT);
        for n in 0..COUNT {
            assert_eq!(server.recv_ctrl_msg().unwrap(), Some(numbered(n)));
        }
        assert_eq!(server.recv_ctrl_msg().unwrap(), None);
    }
}

#[test]
fn control_messages_beyond_the_inbox_survive_the_peers_close() {
    for ring in RINGS {
        const COUNT: u64 = 1200;
        let (mut client, mut server) = pair_over::<u64>(ring, 4);
        send_unread(&mut client, &mut server, COUNT);
        client.close();
        // The receiver learns of the end before any control message is taken.
        let end = until(|| server.recv().err());
        assert_eq!(end, RecvError::Closed(Departure::Closed));
        for n in 0..COUNT {
            assert_eq!(server.recv_ctrl_msg().unwrap(), Some(numbered(n)));
        }
        let end = server.recv_ctrl_msg().unwrap_err();
        assert!(matches!(end, ControlError::Closed(Departure::Closed)));
    }
}

#[test]
fn control_message_to_a_peer_that_never_reads_is_refused_as_full() {
    for ring in RINGS {
        let (mut client, mut server) = pair_over::<u64>(ring, 4);
        let mut sent = 0;
        let error = loop {
            match client.send_ctrl_msg(numbered(sent)) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ControlError::Full), "{error}");
        // The rings are not affected.
        client.xmit(1).unwrap();
        assert_eq!(server.recv(), Ok(Some(1)));
        for n in 0..sent {
            assert_eq!(server.recv_ctrl_msg().unwrap(), Some(numbered(n)));
        }
        client.send_ctrl_msg([9, 9]).unwrap();
        assert_eq!(server.recv_ctrl_msg().unwrap(), Some([9, 9]));
    }
}

#[test]
fn control_message_to_a_closed_peer_tells_how_it_left() {
    for ring in RINGS {
        let (mut client, server) = pair_over::<u64>(ring, 4);
        server.close();
        for _ in 0..3 {
            let error = client.send_ctrl_msg([1, 2]).unwrap_err();
            assert!(
                matches!(error, ControlError::Closed(Departure::Closed)),
                "{error}"
            );
        }
    }
}
