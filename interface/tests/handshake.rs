//! Two handshakes against each other, and against whatever bytes there are.
#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as loudly as the test"
)]

use memenpsf::error::Field;
use memenpsf::frame::{FRAME_LEN, Flags, Hello, Limits, encode_accept, encode_refusal};
use memenpsf::handshake::{Handshake, Wants};
use memenpsf::layout::{Header, RegionLayout, RingKind, Shape};
use memenpsf::{HandshakeError, Mismatch, Name, Reason, Refusal, Role};
use proptest::prelude::*;

const LIMIT: u64 = 1 << 20;

fn header(capacity: u64, nonce: u64) -> Header {
    Header {
        shape: Shape::of::<u64>(RingKind::Index, capacity, "test"),
        layout: RegionLayout::new(128 + capacity * 8, LIMIT).unwrap(),
        nonce,
    }
}

fn limits() -> Limits {
    Limits {
        region: LIMIT,
        producer_len: |shape| {
            let capacity = usize::try_from(shape.capacity).ok()?;
            let block = memenpsf_ring::index::producer_block::<u64>(capacity).ok()?;
            Some(block.size() as u64)
        },
    }
}

fn hello(role: Role) -> Hello {
    match role {
        Role::Client => Hello {
            role,
            flags: Flags::default(),
            accepts: 0,
            header: header(1024, 0xc11e),
            name: Name::new("client é").unwrap(),
        },
        Role::Server => Hello {
            role,
            flags: Flags::default(),
            accepts: 0,
            // Half or double of it makes another number of pages.
            header: header(512, 0x5e7e),
            name: Name::new("server").unwrap(),
        },
    }
}

fn side(role: Role) -> Handshake {
    let Hello { header, name, .. } = hello(role);
    match role {
        Role::Client => Handshake::client(header, name, limits()),
        Role::Server => Handshake::server(header, name, limits()),
    }
}

/// Moves what one side wants to write to the other, at most `piece` bytes at a time.
/// Returns whether anything moved.
fn carry(from: &mut Handshake, to: &mut Handshake, piece: usize) -> bool {
    let mut moved = false;
    while let Some(out) = from.transmit() {
        let bytes = &out.bytes[..piece.min(out.bytes.len())];
        let written = bytes.len();
        assert_eq!(to.receive(bytes, out.with_descriptor.into()), written);
        from.sent(written);
        moved = true;
    }
    moved
}

/// Runs both sides until neither moves; every verdict is to accept.
fn run(client: &mut Handshake, server: &mut Handshake, piece: usize) {
    loop {
        let mut moved = false;
        for side in [&mut *client, &mut *server] {
            if matches!(side.poll(), Wants::Verdict { .. }) {
                assert!(side.accept());
                moved = true;
            }
        }
        moved |= carry(client, server, piece);
        moved |= carry(server, client, piece);
        if !moved {
            return;
        }
    }
}

/// The error that a side failed with.
fn error(side: &Handshake) -> HandshakeError {
    match side.poll() {
        Wants::Failed { error } => error.clone(),
        other => panic!("{other:?}"),
    }
}

/// Gives the refusal that `from` wants to send to `to`; both have failed then, for the
/// same reason, which is returned.
fn both_fail(from: &mut Handshake, to: &mut Handshake) -> Reason {
    assert!(carry(from, to, FRAME_LEN), "nothing sent: {from:?}");
    match (error(from), error(to)) {
        (HandshakeError::Refusing(ours), HandshakeError::Refused(theirs)) => {
            assert_eq!(ours, theirs);
            ours.reason()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn sides_agree_in_pieces_of_any_size() {
    for piece in 1..=FRAME_LEN {
        let (mut client, mut server) = (side(Role::Client), side(Role::Server));
        run(&mut client, &mut server, piece);
        assert_eq!(
            client.poll(),
            Wants::Done {
                peer: &hello(Role::Server)
            }
        );
        assert_eq!(
            server.poll(),
            Wants::Done {
                peer: &hello(Role::Client)
            }
        );
    }
}

/// Both streams of a handshake: what the client and the server say.
fn streams() -> (Vec<u8>, Vec<u8>) {
    let accept = encode_accept(hello(Role::Server).header.nonce);
    let client = [hello(Role::Client).encode(), accept].concat();
    (client, hello(Role::Server).encode().to_vec())
}

#[test]
fn every_two_way_split_of_a_frame_is_understood() {
    let (from_client, from_server) = streams();
    for split in 0..=FRAME_LEN {
        let mut server = side(Role::Server);
        assert_eq!(server.receive(&from_client[..split], 1), split);
        let rest = &from_client[split..FRAME_LEN];
        assert_eq!(server.receive(rest, 0), rest.len());
        assert!(matches!(server.poll(), Wants::Verdict { .. }), "{split}");
        assert!(server.accept());
        server.sent(FRAME_LEN);
        let (first, second) = from_client[FRAME_LEN..].split_at(split);
        assert_eq!(server.receive(first, 0), split);
        assert_eq!(server.receive(second, 0), second.len());
        assert!(matches!(server.poll(), Wants::Done { .. }), "{split}");

        let mut client = side(Role::Client);
        client.sent(split);
        assert_eq!(
            client.transmit().map(|out| out.with_descriptor),
            match split {
                0 => Some(true),
                FRAME_LEN => None,
                _ => Some(false),
            }
        );
        client.sent(FRAME_LEN - split);
        let (first, second) = from_server.split_at(split);
        assert_eq!(client.receive(first, 1), split);
        assert_eq!(client.receive(second, 0), second.len());
        assert!(matches!(client.poll(), Wants::Verdict { .. }), "{split}");
    }
}

#[test]
fn wanted_bytes_and_descriptors_shrink_with_what_has_come() {
    let (from_client, _) = streams();
    let mut server = side(Role::Server);
    let wants = |bytes, descriptors| Wants::Read { bytes, descriptors };
    assert_eq!(server.poll(), wants(256, 1));
    server.receive(&from_client[..100], 0);
    assert_eq!(server.poll(), wants(156, 1));
    server.receive(&from_client[100..200], 1);
    assert_eq!(server.poll(), wants(56, 0));
    server.receive(&from_client[200..256], 0);
    assert!(server.accept());
    assert_eq!(server.poll(), Wants::Write);
    server.sent(FRAME_LEN);
    assert_eq!(server.poll(), wants(256, 0));
}

#[test]
fn bytes_after_the_accept_are_left_for_the_control_frames() {
    let (from_client, _) = streams();
    let mut server = side(Role::Server);
    server.receive(&from_client[..FRAME_LEN], 1);
    assert!(server.accept());
    server.sent(FRAME_LEN);
    let more = [&from_client[FRAME_LEN..], &b"control!"[..]].concat();
    assert_eq!(server.receive(&more, 0), FRAME_LEN);
    assert!(matches!(server.poll(), Wants::Done { .. }));
    assert_eq!(server.receive(b"control!", 0), 0);
}

/// A field of a hello: offset, width, and what a wrong one is refused with.
const FIELDS: [(usize, usize, Field); 13] = [
    (0, 8, Field::Magic),
    (8, 4, Field::Version),
    (12, 4, Field::FrameKind),
    (16, 4, Field::Endian),
    (20, 4, Field::Role),
    (24, 4, Field::ElementSize),
    (28, 4, Field::ElementAlign),
    (32, 8, Field::LayoutHash),
    (40, 8, Field::Capacity),
    (48, 4, Field::RingKind),
    (52, 4, Field::Flags),
    (56, 8, Field::RegionLength),
    (72, 4, Field::NameLength),
];

/// Gives a hello, perhaps a mutated one, to the side that expects it.
fn offer(to: &mut Handshake, hello: &[u8; FRAME_LEN], descriptors: usize) {
    if to.poll() == Wants::Write {
        to.sent(FRAME_LEN);
    }
    assert_eq!(to.receive(hello, descriptors), FRAME_LEN);
}

#[test]
fn every_mutated_field_is_refused_on_both_sides() {
    for sender in [Role::Client, Role::Server] {
        let good = hello(sender).encode();
        for (offset, width, field) in FIELDS {
            let mut padded = [0; 8];
            padded[..width].copy_from_slice(&good[offset..][..width]);
            let value = u64::from_le_bytes(padded);
            let top = u64::MAX >> (64 - 8 * width);
            let mut others = vec![0, 1, top, value.wrapping_add(1), value.wrapping_sub(1)];
            others.extend((0..8 * width).map(|bit| value ^ (1 << bit)));
            for other in others.into_iter().map(|other| other & top) {
                let known = field == Field::Flags && other <= Flags::KNOWN.into();
                if other == value || known {
                    continue;
                }
                let mut bytes = good;
                bytes[offset..][..width].copy_from_slice(&other.to_le_bytes()[..width]);
                let (mut from, mut to) = (side(sender), side(sender.opposite()));
                from.sent(FRAME_LEN);
                if field == Field::FrameKind && other == 2 {
                    // A refusal with a strange reason.
                    offer(&mut to, &bytes, 1);
                    assert!(matches!(error(&to), HandshakeError::Refused(_)));
                    continue;
                }
                offer(&mut to, &bytes, 1);
                let reason = both_fail(&mut to, &mut from);
                check_reason(reason, field, other, value);
            }
        }
    }
}

/// Checks the reason for `other` in place of `value`.
fn check_reason(reason: Reason, field: Field, other: u64, value: u64) {
    let value = match field {
        // Of the flags, every known one is expected.
        Field::Flags => Flags::KNOWN.into(),
        _ => value,
    };
    match reason {
        // Another capacity that is possible in itself means another length.
        Reason::Mismatch(Mismatch {
            field: Field::RegionLength,
            found,
            expected,
        }) if field == Field::Capacity => {
            assert!(other.is_power_of_two() && found != expected);
        }
        Reason::Memory {
            needed,
            limit: LIMIT,
        } if field == Field::Capacity => {
            assert!(other.is_power_of_two() && needed > LIMIT);
        }
        // A shorter name leaves bytes of the name where none may be.
        Reason::Mismatch(Mismatch {
            field: Field::Reserved,
            ..
        }) if field == Field::NameLength => {
            assert!(other < value);
        }
        // A longer one takes in the zero bytes behind it.
        Reason::Mismatch(Mismatch {
            field: Field::NameText,
            found,
            ..
        }) if field == Field::NameLength => {
            assert!(other <= 64 && found == value);
        }
        Reason::Mismatch(mismatch) => {
            assert_eq!((mismatch.field, mismatch.found), (field, other));
            match field {
                Field::Capacity => assert!(!other.is_power_of_two() || other > LIMIT),
                Field::NameLength => assert_eq!(mismatch.expected, 64),
                _ => assert_eq!(mismatch.expected, value),
            }
        }
        _ => panic!("{field:?} {other:#x}: {reason:?}"),
    }
}

#[test]
fn every_reserved_byte_has_to_be_zero() {
    for sender in [Role::Client, Role::Server] {
        let good = hello(sender).encode();
        let name_end = 80 + hello(sender).name.as_str().len();
        for offset in (76..80).chain(name_end..FRAME_LEN) {
            for found in [1, 0x80, 0xff] {
                let mut bytes = good;
                bytes[offset] = found;
                let (mut from, mut to) = (side(sender), side(sender.opposite()));
                from.sent(FRAME_LEN);
                offer(&mut to, &bytes, 1);
                let expected = Mismatch {
                    field: Field::Reserved,
                    found: found.into(),
                    expected: 0,
                };
                assert_eq!(both_fail(&mut to, &mut from), expected.into(), "{offset}");
            }
        }
    }
}

#[test]
fn free_fields_reach_the_verdict_as_they_are() {
    let mut bytes = hello(Role::Client).encode();
    bytes[64..72].copy_from_slice(&u64::MAX.to_le_bytes());
    bytes[80..86].copy_from_slice(b"\xc3\xa9lan\xc3");
    let mut server = side(Role::Server);
    offer(&mut server, &bytes, 1);
    // "élan" and half a character, with the rest of "client é" after it.
    let mut client = side(Role::Client);
    client.sent(FRAME_LEN);
    let expected = Mismatch {
        field: Field::NameText,
        found: 5,
        expected: 0,
    };
    assert_eq!(both_fail(&mut server, &mut client), expected.into());

    bytes[80..86].copy_from_slice(b"\xc3\xa9lan\x20");
    let mut server = side(Role::Server);
    offer(&mut server, &bytes, 1);
    match server.poll() {
        Wants::Verdict { peer } => {
            assert_eq!(peer.name.as_str(), "élan  é");
            assert_eq!(peer.header.nonce, u64::MAX);
            assert_eq!(peer.header.layout, header(1024, 0).layout);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn misleading_names_are_refused_on_both_ends() {
    for name in [
        "\n",
        "a\u{1b}[2J",
        "\0",
        "\u{7f}",
        "abc\u{202e}fdp",
        "\u{2028}",
    ] {
        let offset = name
            .find(|c: char| c.is_control() || c > '\u{1000}')
            .unwrap();
        assert!(Name::new(name).is_err(), "{name:?}");
        let mut bytes = hello(Role::Client).encode();
        bytes[72] = u8::try_from(name.len()).unwrap();
        bytes[80..144].fill(0);
        bytes[80..][..name.len()].copy_from_slice(name.as_bytes());
        let (mut client, mut server) = (side(Role::Client), side(Role::Server));
        client.sent(FRAME_LEN);
        offer(&mut server, &bytes, 1);
        let expected = Mismatch {
            field: Field::NameText,
            found: offset as u64,
            expected: 0,
        };
        assert_eq!(
            both_fail(&mut server, &mut client),
            expected.into(),
            "{name:?}"
        );
    }
}

#[test]
fn wrong_number_of_descriptors_is_refused() {
    for descriptors in [0, 2, 253, usize::MAX] {
        let (mut client, mut server) = (side(Role::Client), side(Role::Server));
        client.sent(FRAME_LEN);
        offer(&mut server, &hello(Role::Client).encode(), descriptors);
        let expected = Mismatch {
            field: Field::Descriptors,
            found: descriptors as u64,
            expected: 1,
        };
        assert_eq!(both_fail(&mut server, &mut client), expected.into());
    }
    // With an accept comes none; one byte at a time, so that they have to be summed.
    let (mut client, mut server) = (side(Role::Client), side(Role::Server));
    let (from_client, _) = streams();
    server.receive(&from_client[..FRAME_LEN], 1);
    assert!(server.accept());
    assert!(carry(&mut server, &mut client, FRAME_LEN));
    for byte in from_client[FRAME_LEN..].chunks(1) {
        server.receive(byte, 1);
    }
    match error_after_refusal(&mut server).reason() {
        Reason::Mismatch(mismatch) => {
            assert_eq!((mismatch.field, mismatch.found), (Field::Descriptors, 256));
        }
        other => panic!("{other:?}"),
    }
}

/// Lets a side send its refusal into the void and returns it.
fn error_after_refusal(side: &mut Handshake) -> Refusal {
    assert_eq!(side.poll(), Wants::Write);
    side.sent(FRAME_LEN);
    match error(side) {
        HandshakeError::Refusing(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn accept_of_another_hello_is_refused() {
    let good = encode_accept(hello(Role::Server).header.nonce);
    for offset in 0..FRAME_LEN {
        let mut bytes = good;
        bytes[offset] ^= 0x40;
        let (mut client, mut server) = (side(Role::Client), side(Role::Server));
        assert!(carry(&mut client, &mut server, FRAME_LEN));
        assert!(server.accept());
        assert!(carry(&mut server, &mut client, FRAME_LEN));
        server.receive(&bytes, 0);
        let field = match offset {
            0..8 => Field::Magic,
            8..12 => Field::Version,
            12..16 => Field::FrameKind,
            16..24 => Field::Nonce,
            _ => Field::Reserved,
        };
        match both_fail(&mut server, &mut client) {
            Reason::Mismatch(mismatch) => assert_eq!(mismatch.field, field, "{offset}"),
            other => panic!("{offset}: {other:?}"),
        }
    }
}

#[test]
fn stranger_is_refused_after_eight_bytes() {
    let mut server = side(Role::Server);
    server.receive(b"GET / H", 0);
    assert!(matches!(server.poll(), Wants::Read { .. }));
    server.receive(b"T", 0);
    match error_after_refusal(&mut server).reason() {
        Reason::Mismatch(mismatch) => {
            assert_eq!(mismatch.field, Field::Magic);
            assert_eq!(mismatch.found, u64::from_le_bytes(*b"GET / HT"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_clients_and_two_servers_do_not_meet() {
    let (mut first, mut second) = (side(Role::Client), side(Role::Client));
    second.sent(FRAME_LEN);
    assert!(carry(&mut first, &mut second, FRAME_LEN));
    let reason = both_fail(&mut second, &mut first);
    let expected = Mismatch {
        field: Field::Role,
        found: 0,
        expected: 1,
    };
    assert_eq!(reason, expected.into());

    let (mut first, mut second) = (side(Role::Server), side(Role::Server));
    run(&mut first, &mut second, FRAME_LEN);
    assert!(
        matches!(first.poll(), Wants::Read { .. }),
        "for its deadline"
    );
    assert!(matches!(second.poll(), Wants::Read { .. }));
}

/// Every reason for which a driver ends a handshake.
fn drivers_reasons() -> Vec<Reason> {
    vec![
        Reason::OutOfTurn,
        Reason::Busy { limit: 64 },
        Reason::HalfOpen { limit: 16 },
        Reason::NotPermitted,
        Reason::Memory {
            needed: 1 << 30,
            limit: LIMIT,
        },
        Reason::Deadline,
        Reason::NameInUse,
        Reason::ShuttingDown,
        Reason::Region,
        Reason::Other {
            code: Reason::APPLICATION,
            found: 1,
            expected: u64::MAX,
        },
    ]
}

#[test]
fn drivers_refusals_reach_the_peer_at_every_step() {
    for reason in drivers_reasons() {
        // Instead of reading the hello.
        let (mut client, mut server) = (side(Role::Client), side(Role::Server));
        server.refuse(reason);
        assert_eq!(both_fail(&mut server, &mut client), reason);
        // The client, before its hello.
        let (mut client, mut server) = (side(Role::Client), side(Role::Server));
        client.refuse(reason);
        assert_eq!(both_fail(&mut client, &mut server), reason);
        // At the server's verdict.
        let (mut client, mut server) = (side(Role::Client), side(Role::Server));
        assert!(carry(&mut client, &mut server, FRAME_LEN));
        server.refuse(Refusal::with_words(reason, "words of my own"));
        assert_eq!(both_fail(&mut server, &mut client), reason);
        assert!(error(&client).to_string().ends_with(": words of my own"));
        assert!(!server.accept(), "nothing to accept any more");
        // At the client's.
        let (mut client, mut server) = (side(Role::Client), side(Role::Server));
        assert!(carry(&mut client, &mut server, FRAME_LEN));
        assert!(server.accept());
        assert!(carry(&mut server, &mut client, FRAME_LEN));
        client.refuse(reason);
        assert_eq!(both_fail(&mut client, &mut server), reason);
        // While the server waits for the client's.
        let (mut client, mut server) = (side(Role::Client), side(Role::Server));
        assert!(carry(&mut client, &mut server, FRAME_LEN));
        assert!(server.accept());
        assert!(carry(&mut server, &mut client, FRAME_LEN));
        server.refuse(reason);
        assert_eq!(both_fail(&mut server, &mut client), reason);
        assert!(!client.accept(), "nothing to accept any more");
    }
}

#[test]
fn half_sent_frame_is_followed_by_nothing() {
    let mut client = side(Role::Client);
    client.sent(1);
    client.refuse(Reason::Deadline);
    assert_eq!(client.transmit(), None);
    assert_eq!(
        error(&client),
        HandshakeError::Refusing(Reason::Deadline.into())
    );
}

#[test]
fn refusal_is_read_after_the_peer_takes_nothing_any_more() {
    let mut client = side(Role::Client);
    client.sent(100);
    client.unsendable();
    assert_eq!(client.transmit(), None);
    assert_eq!(
        client.poll(),
        Wants::Read {
            bytes: FRAME_LEN,
            descriptors: 0
        }
    );
    let refusal = Refusal::from(Reason::Busy { limit: 1 });
    client.receive(&encode_refusal(&refusal), 0);
    assert_eq!(error(&client), HandshakeError::Refused(refusal));

    let mut client = side(Role::Client);
    client.unsendable();
    client.receive(&hello(Role::Server).encode(), 1);
    assert_eq!(error(&client), HandshakeError::Closed { received: 0 });
}

#[test]
fn end_of_the_stream_is_an_error_at_every_step() {
    for received in [0, 1, 255] {
        let mut server = side(Role::Server);
        server.receive(&hello(Role::Client).encode()[..received], 0);
        server.closed();
        assert_eq!(error(&server), HandshakeError::Closed { received });
        server.closed();
        server.refuse(Reason::Deadline);
        assert_eq!(
            error(&server),
            HandshakeError::Closed { received },
            "the first cause stays"
        );
    }
    // Not once the connection stands: that is for the control frames to tell.
    let (mut client, mut server) = (side(Role::Client), side(Role::Server));
    run(&mut client, &mut server, FRAME_LEN);
    server.closed();
    server.refuse(Reason::Deadline);
    server.unsendable();
    assert!(matches!(server.poll(), Wants::Done { .. }));
}

#[test]
fn frames_out_of_turn_end_the_handshake() {
    // An accept before the hello that it would answer was sent.
    let (mut client, mut server) = (side(Role::Client), side(Role::Server));
    assert!(carry(&mut client, &mut server, FRAME_LEN));
    server.receive(&encode_accept(hello(Role::Server).header.nonce), 0);
    assert_eq!(both_fail(&mut server, &mut client), Reason::OutOfTurn);
    // A second hello.
    let (mut client, mut server) = (side(Role::Client), side(Role::Server));
    assert!(carry(&mut client, &mut server, FRAME_LEN));
    server.receive(&hello(Role::Client).encode(), 1);
    assert_eq!(both_fail(&mut server, &mut client), Reason::OutOfTurn);
    // The server's hello before the client's is read; in one piece with more.
    let mut client = side(Role::Client);
    client.receive(
        &[hello(Role::Server).encode(), hello(Role::Server).encode()].concat(),
        1,
    );
    assert_eq!(error_after_refusal(&mut client).reason(), Reason::OutOfTurn);
}

#[test]
fn refusal_of_a_later_version_is_understood() {
    let refusal = Refusal::from(Mismatch {
        field: Field::Version,
        found: 1,
        expected: 2,
    });
    let mut bytes = encode_refusal(&refusal);
    bytes[8] = 2;
    let mut client = side(Role::Client);
    client.sent(FRAME_LEN);
    client.receive(&bytes, 0);
    assert_eq!(error(&client), HandshakeError::Refused(refusal));
}

#[test]
fn words_of_a_hostile_refusal_are_tamed() {
    let mut bytes = encode_refusal(&Reason::NotPermitted.into());
    bytes[20..24].fill(0xff);
    bytes[40..256].fill(b'\x1b');
    bytes[44..48].copy_from_slice(b"\xffok\n");
    let mut client = side(Role::Client);
    client.sent(FRAME_LEN);
    client.receive(&bytes, 0);
    let shown = error(&client).to_string();
    assert!(shown.contains("\u{fffd}ok\u{fffd}"), "{shown:?}");
    assert!(!shown.contains(char::is_control), "{shown:?}");
    assert!(shown.len() < 512, "{shown:?}");
}

#[test]
fn every_code_is_a_reason_and_every_reason_a_code() {
    for code in (0..300).chain([Reason::APPLICATION, u32::MAX]) {
        let reason = Reason::from_parts(code, 7, 9);
        assert_eq!(reason.to_parts().0, code);
        assert_eq!(
            matches!(reason, Reason::Mismatch(_)),
            (1..=18).contains(&code)
        );
        assert!(!reason.to_string().is_empty());
    }
    for reason in drivers_reasons() {
        let (code, found, expected) = reason.to_parts();
        assert_eq!(Reason::from_parts(code, found, expected), reason);
    }
}

/// Whatever a driver and its peer may do.
#[derive(Debug, Clone)]
enum Act {
    Receive(Vec<u8>, usize),
    Valid(usize),
    Sent(usize),
    Accept,
    Refuse,
    Unsendable,
    Closed,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (prop::collection::vec(any::<u8>(), 0..600), 0..3_usize)
            .prop_map(|(bytes, descriptors)| Act::Receive(bytes, descriptors)),
        (0..4_usize).prop_map(Act::Valid),
        (0..300_usize).prop_map(Act::Sent),
        Just(Act::Sent(FRAME_LEN)),
        Just(Act::Accept),
        Just(Act::Refuse),
        Just(Act::Unsendable),
        Just(Act::Closed),
    ]
}

/// One of the frames that are right somewhere.
fn frame(which: usize) -> [u8; FRAME_LEN] {
    match which {
        0 => hello(Role::Client).encode(),
        1 => hello(Role::Server).encode(),
        2 => encode_accept(hello(Role::Server).header.nonce),
        _ => encode_refusal(&Reason::Deadline.into()),
    }
}

proptest! {
    #[test]
    fn nothing_panics_and_a_failure_stays(
        is_client: bool,
        acts in prop::collection::vec(act(), 0..12),
    ) {
        let mut side = side(if is_client { Role::Client } else { Role::Server });
        let mut failed = None;
        for act in acts {
            match act {
                Act::Receive(bytes, descriptors) => {
                    let taken = side.receive(&bytes, descriptors);
                    prop_assert!(taken <= bytes.len());
                }
                Act::Valid(which) => {
                    side.receive(&frame(which), usize::from(which < 2));
                }
                Act::Sent(written) => side.sent(written),
                Act::Accept => {
                    let verdict = matches!(side.poll(), Wants::Verdict { .. });
                    prop_assert_eq!(side.accept(), verdict);
                }
                Act::Refuse => side.refuse(Reason::Deadline),
                Act::Unsendable => side.unsendable(),
                Act::Closed => side.closed(),
            }
            prop_assert_eq!(side.transmit().is_some(), side.poll() == Wants::Write);
            if let Some(out) = side.transmit() {
                prop_assert!((1..=FRAME_LEN).contains(&out.bytes.len()));
            }
            if let Wants::Read { bytes, descriptors } = side.poll() {
                prop_assert!((1..=FRAME_LEN).contains(&bytes) && descriptors <= 1);
            }
            if let Some(failed) = &failed {
                prop_assert_eq!(side.poll(), Wants::Failed { error: failed });
            }
            if let Wants::Failed { error } = side.poll() {
                failed = Some(error.clone());
            }
        }
    }

    #[test]
    fn outcome_does_not_depend_on_the_pieces(
        which in 0..4_usize,
        offset in 0..FRAME_LEN,
        flip: u8,
        cuts in prop::collection::vec(0..FRAME_LEN, 0..6),
    ) {
        let mut bytes = frame(which);
        bytes[offset] ^= flip;
        let mut whole = side(Role::Server);
        whole.receive(&bytes, 1);
        let mut pieces = side(Role::Server);
        let mut cuts = cuts;
        cuts.sort_unstable();
        cuts.push(FRAME_LEN);
        let mut from = 0;
        for to in cuts {
            pieces.receive(&bytes[from..to], usize::from(from == 0 && to > 0));
            from = to;
        }
        prop_assert_eq!(whole.poll(), pieces.poll());
        prop_assert_eq!(whole.transmit(), pieces.transmit());
    }
}

// --- hellos of bytes rings ---

/// The hello of a client whose ring of 4096 bytes carries messages of up to 1000.
fn bytes_hello() -> [u8; FRAME_LEN] {
    let shape = Shape::of_bytes(4096, 1000, "test");
    let header = Header {
        shape,
        layout: RegionLayout::new(4096 + 1000, LIMIT).unwrap(),
        nonce: 0xc11e,
    };
    let hello = Hello {
        accepts: 2000,
        ..Hello::new(Role::Client, header, Name::new("client").unwrap())
    };
    hello.encode()
}

/// What a server says to such a hello, with `found` at `offset`.
fn answer_to_bytes(offset: usize, found: u64) -> Result<Hello, Reason> {
    let limits = Limits {
        region: LIMIT,
        producer_len: |shape| {
            let capacity = usize::try_from(shape.capacity).ok()?;
            let longest = usize::try_from(shape.longest).ok()?;
            let block = memenpsf_ring::bytes::producer_block(capacity, longest).ok()?;
            Some(block.size() as u64)
        },
    };
    let mut bytes = bytes_hello();
    bytes[offset..][..8].copy_from_slice(&found.to_le_bytes());
    let own = Shape::of_bytes(1 << 16, 9, "test");
    Hello::decode(&bytes, Role::Client, &own, &limits)
}

#[test]
fn longest_messages_reach_the_verdict_as_they_are() {
    for accepts in [0, 1, 2000, 1 << 32, u64::MAX] {
        let hello = answer_to_bytes(152, accepts).unwrap();
        assert_eq!((hello.header.shape.longest, hello.accepts), (1000, accepts));
        assert_eq!(hello.header.layout.producer_len(), 4096 + 1000);
    }
}

#[test]
fn longest_message_that_its_ring_cannot_have_is_refused() {
    let refused = |field, found, expected| {
        Err(Reason::Mismatch(Mismatch {
            field,
            found,
            expected,
        }))
    };
    for longest in [
        4081,
        4096,
        1 << 31,
        1 << 32,
        1 << 63,
        u64::MAX - 7,
        u64::MAX,
    ] {
        let expected = refused(Field::Longest, longest, 0);
        assert_eq!(answer_to_bytes(144, longest), expected, "{longest}");
    }
    // Possible, but then the region is longer or shorter than it says.
    for (longest, length) in [(0, 8192), (3000, 8192), (4000, 12288)] {
        let answer = answer_to_bytes(144, longest);
        match length {
            8192 => assert_eq!(answer.unwrap().header.shape.longest, longest),
            _ => assert_eq!(answer, refused(Field::RegionLength, 8192, length)),
        }
    }
    for capacity in [0, 8, 100, 4095, 1 << 63, u64::MAX] {
        let expected = refused(Field::Capacity, capacity, 0);
        assert_eq!(answer_to_bytes(40, capacity), expected, "{capacity}");
    }
    // A ring that is too small for the messages, and one that is too large for us.
    assert_eq!(answer_to_bytes(40, 512), refused(Field::Longest, 1000, 0));
    let needed = (1 << 40) + 4096;
    let limit = LIMIT;
    assert_eq!(
        answer_to_bytes(40, 1 << 40),
        Err(Reason::Memory { needed, limit })
    );
}

#[test]
fn reserved_bytes_of_a_hello_of_bytes_have_to_be_zero() {
    for offset in (160..=248).step_by(8) {
        let expected = Mismatch {
            field: Field::Reserved,
            found: 1,
            expected: 0,
        };
        assert_eq!(
            answer_to_bytes(offset, 1 << 56),
            Err(expected.into()),
            "{offset}"
        );
    }
}
