//! A peer that shakes hands as it should and then forges records.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use common::forger::Forger;
use common::{Watchdog, pair_of, until};
use memenpsf::frame::Limits;
use memenpsf::handshake::fresh_nonce;
use memenpsf::layout::{Header, RegionLayout, Shape};
use memenpsf::{ByteInterface, ByteXmitError, Options, RecvError, Violation};
use memenpsf_ring::Violation as RingViolation;
use memenpsf_ring::bytes::producer_block;
use proptest::prelude::*;

const CAPACITY: usize = 256;
/// What the forger's ring is laid out for.
const LAID_OUT: usize = 200;
/// What the victim accepts.
const LONGEST: usize = 100;

/// What a peer made by hand accepts.
fn limits() -> Limits {
    Limits {
        region: 1 << 20,
        producer_len: |shape| {
            let longest = usize::try_from(shape.longest).ok()?;
            let capacity = usize::try_from(shape.capacity).ok()?;
            Some(producer_block(capacity, longest).ok()?.size() as u64)
        },
    }
}

/// Connects a victim with a forger, whose ring is as large as the victim's.
fn victim() -> (ByteInterface, Forger) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let shape = Shape::of_bytes(CAPACITY as u64, LAID_OUT as u64, "");
    let block = producer_block(CAPACITY, LAID_OUT).unwrap().size();
    let header = Header {
        shape,
        layout: RegionLayout::new(block as u64, 1 << 20).unwrap(),
        nonce: fresh_nonce(),
    };
    std::thread::scope(|scope| {
        let forger = scope.spawn(|| Forger::connect(theirs, header, limits()));
        let options = Options::new()
            .capacity(CAPACITY)
            .max_message(LONGEST)
            .accept_message(LONGEST as u64);
        let victim = ByteInterface::accept_with(ours, &options).unwrap();
        (victim, forger.join().unwrap())
    })
}

/// Writes a header word at a position.
fn store(forger: &Forger, position: u64, header: u64) {
    let at = usize::try_from(position).unwrap() % CAPACITY;
    forger.word(at).store(header, Ordering::Release);
}

/// Checks that every call of both halves ends with this violation, whatever the
/// forger writes from now on.
#[track_caller]
fn assert_poisoned(victim: &mut ByteInterface, forger: &Forger, violation: Violation) {
    until(|| victim.recv().err());
    until(|| match victim.xmit(b"hello") {
        Err(ByteXmitError::Violation(_)) => Some(()),
        _ => None,
    });
    for round in 0..300_u64 {
        // Records and heads that would be legal, and others.
        for position in (0..256).step_by(8) {
            store(forger, position, round % 9);
        }
        forger.head().store(round / 8 * 8, Ordering::Relaxed);
        let end = RecvError::Violation(violation);
        assert_eq!(victim.recv(), Err(end));
        assert_eq!(victim.recv_into(&mut Vec::new()), Err(end));
        assert_eq!(victim.recv_vectored(), Err(end));
        assert_eq!(victim.recv_timeout(None), Err(end));
        let error = ByteXmitError::Violation(violation);
        assert_eq!(victim.xmit(b"hello"), Err(error));
        assert_eq!(victim.xmit_vectored(&["hello"]), Err(error));
        assert_eq!(victim.xmit_timeout(b"hello", None), Err(error));
        assert_eq!(victim.reserve(1).unwrap_err(), error);
    }
    // The forger is shown the door at once.
    assert_eq!(forger.read_to_end(), []);
}

/// Calls that receive, each of which has to look.
type Receive = fn(&mut ByteInterface) -> RecvError;
const RECEIVE: [Receive; 4] = [
    |victim| victim.recv().unwrap_err(),
    |victim| victim.recv_into(&mut Vec::new()).unwrap_err(),
    |victim| victim.recv_vectored().unwrap_err(),
    |victim| victim.recv_timeout(None).unwrap_err(),
];

#[test]
fn forger_that_keeps_the_rules_is_an_honest_peer() {
    let (mut victim, forger) = victim();
    // "hello" and nothing: the length plus 1, the bytes, the next header.
    forger
        .word(8)
        .store(u64::from_le_bytes(*b"hello\0\0\0"), Ordering::Relaxed);
    store(&forger, 16, 1);
    store(&forger, 0, 6);
    assert_eq!(victim.recv(), Ok(Some(b"hello".to_vec())));
    assert_eq!(victim.recv(), Ok(Some(Vec::new())));
    assert_eq!(victim.recv(), Ok(None));
    victim.xmit(b"abc").unwrap();
    assert_eq!(forger.victims_word(0), 4);
    assert_eq!(
        forger.victims_word(8) & 0xff_ffff,
        u64::from_le_bytes(*b"abc\0\0\0\0\0")
    );
    while victim.xmit(b"abc").is_ok() {}
    forger.head().store(16, Ordering::Release);
    victim.xmit(b"abc").unwrap();
}

#[test]
fn record_that_lies_about_its_length_poisons_the_connection() {
    let (mut client, mut bystander) = pair_of::<[u8]>(256);
    let longest = LONGEST as u64;
    let lies = [
        // One more than the victim accepts, though the forger's ring would hold it.
        longest + 1,
        LAID_OUT as u64,
        LAID_OUT as u64 + 1,
        CAPACITY as u64,
        1 << 31,
        1 << 32,
        (1 << 32) + 5,
        1 << 63,
        u64::MAX - 1,
    ];
    for length in lies {
        for receive in RECEIVE {
            let (mut victim, forger) = victim();
            // Behind one honest record.
            store(&forger, 8, 0);
            store(&forger, 0, 1);
            assert_eq!(victim.recv(), Ok(Some(Vec::new())));
            store(&forger, 8, length + 1);
            let violation = Violation::Ring(RingViolation::Length {
                length,
                longest,
                head: 8,
            });
            assert_eq!(receive(&mut victim), RecvError::Violation(violation));
            assert_poisoned(&mut victim, &forger, violation);
        }
        client.xmit(b"unharmed").unwrap();
        assert_eq!(bystander.recv(), Ok(Some(b"unharmed".to_vec())));
    }
}

#[test]
fn longest_record_is_received_to_its_last_byte() {
    let (mut victim, forger) = victim();
    for at in (8..8 + LONGEST).step_by(8) {
        let bytes = [at.to_le_bytes()[0]; 8];
        forger
            .word(at)
            .store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
    store(&forger, 0, LONGEST as u64 + 1);
    let expected: Vec<u8> = (0..LONGEST)
        .map(|n| (8 + n / 8 * 8).to_le_bytes()[0])
        .collect();
    assert_eq!(victim.recv(), Ok(Some(expected)));
}

#[test]
fn length_that_changes_while_it_is_read_is_one_of_its_values() {
    let _watchdog = Watchdog::new();
    for _ in 0..200 {
        let (mut victim, forger) = victim();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for length in [3, u64::MAX - 1, 40] {
                        store(&forger, 0, length + 1);
                    }
                }
            });
            let mut message = Vec::new();
            match until(|| victim.recv_into(&mut message).transpose()) {
                Ok(length) => {
                    assert!(matches!(length, 3 | 40), "{length}");
                    assert_eq!(message.len(), length);
                }
                Err(error) => assert!(
                    matches!(
                        error,
                        RecvError::Violation(Violation::Ring(RingViolation::Length {
                            length: 0xffff_ffff_ffff_fffe,
                            ..
                        }))
                    ),
                    "{error}"
                ),
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn head_that_is_no_head_poisons_the_connection() {
    type Transmit = fn(&mut ByteInterface) -> ByteXmitError;
    let calls: [Transmit; 3] = [
        |victim| victim.xmit(&[0; 100]).unwrap_err(),
        |victim| victim.xmit_vectored(&[[0; 100]]).unwrap_err(),
        |victim| victim.reserve(100).unwrap_err(),
    ];
    // The victim has sent 2 records, of 112 bytes each.
    for head in [
        1,
        4,
        7,
        113,
        232,
        256,
        1 << 32,
        1 << 63,
        u64::MAX,
        u64::MAX - 7,
    ] {
        for call in calls {
            let (mut victim, forger) = victim();
            victim.xmit(&[1; 100]).unwrap();
            victim.xmit(&[2; 100]).unwrap();
            forger.head().store(head, Ordering::Relaxed);
            let violation = Violation::Ring(if head.is_multiple_of(8) {
                RingViolation::Head {
                    head,
                    previous: 0,
                    tail: 224,
                }
            } else {
                RingViolation::Unaligned { head }
            });
            assert_eq!(call(&mut victim), ByteXmitError::Violation(violation));
            assert_poisoned(&mut victim, &forger, violation);
        }
    }
}

/// What a forger writes, and what the victim does.
#[derive(Debug, Clone)]
enum Move {
    Header(u64, u64),
    Head(u64),
    Xmit(usize),
    Reserve(usize),
    Recv,
    RecvVectored,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    // Mostly what is legal, so that the rings live for a while.
    let header = prop_oneof![6 => 0..=101_u64, 1 => 0..300_u64, 1 => any::<u64>()];
    let head = prop_oneof![6 => (0..64_u64).prop_map(|word| word * 8), 1 => any::<u64>()];
    let one = prop_oneof![
        4 => (0..32_u64, header).prop_map(|(word, header)| Move::Header(word * 8, header)),
        1 => head.prop_map(Move::Head),
        2 => (0..120_usize).prop_map(Move::Xmit),
        1 => (0..120_usize).prop_map(Move::Reserve),
        3 => Just(Move::Recv),
        1 => Just(Move::RecvVectored),
    ];
    proptest::collection::vec(one, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn records_of_any_kind_end_in_an_error_that_stays(moves in moves()) {
        let (mut victim, forger) = victim();
        let mut sending = None;
        let mut receiving = None;
        for step in moves {
            match step {
                Move::Header(position, header) => store(&forger, position, header),
                Move::Head(head) => forger.head().store(head, Ordering::Relaxed),
                Move::Xmit(length) => match victim.xmit(&vec![1; length]) {
                    Ok(()) => prop_assert!(length <= LONGEST && sending.is_none()),
                    Err(ByteXmitError::TooLong { .. }) => prop_assert!(length > LONGEST),
                    Err(ByteXmitError::Full) => prop_assert!(sending.is_none()),
                    Err(error) => prop_assert_eq!(*sending.get_or_insert(error), error),
                },
                Move::Reserve(length) => match victim.reserve(length) {
                    Ok(room) => prop_assert!(room.len() == length && sending.is_none()),
                    Err(ByteXmitError::TooLong { .. }) => prop_assert!(length > LONGEST),
                    Err(ByteXmitError::Full) => prop_assert!(sending.is_none()),
                    Err(error) => prop_assert_eq!(*sending.get_or_insert(error), error),
                },
                Move::Recv => match victim.recv() {
                    Ok(Some(message)) => prop_assert!(message.len() <= LONGEST && receiving.is_none()),
                    Ok(None) => prop_assert!(receiving.is_none()),
                    Err(error) => prop_assert_eq!(*receiving.get_or_insert(error), error),
                },
                // At most one ring of records, of 8 bytes at least.
                Move::RecvVectored => match victim.recv_vectored() {
                    Ok(messages) => {
                        prop_assert!(messages.len() <= CAPACITY / 8 && receiving.is_none());
                        prop_assert!(messages.iter().all(|message| message.len() <= LONGEST));
                    }
                    Err(error) => prop_assert_eq!(*receiving.get_or_insert(error), error),
                },
            }
        }
    }
}
