//! What the errors and the handles say of themselves: it ends up in logs.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::error::Error;

use memenpsf_ring::memory::Split;
use memenpsf_ring::wake::{For, Sleeper, WAITING_BLOCK, Waker};
use memenpsf_ring::{
    ChunkError, LayoutError, PopError, PushError, RecordError, Violation, bytes, index, packed,
};

const VIOLATION: Violation = Violation::Unaligned { head: 12 };

#[test]
fn violations_name_what_was_published_and_what_is_allowed() {
    let said = [
        (
            Violation::Head {
                head: 9,
                previous: 2,
                tail: 5,
            },
            "the peer published head 9, allowed are 2 to 5",
        ),
        (
            Violation::Tail {
                tail: 9,
                previous: 2,
                head: 1,
                capacity: 4,
            },
            "the peer published tail 9, allowed are 2 to 5",
        ),
        (
            Violation::Line {
                lap: 3,
                count: 9,
                expected: 2,
                previous: 1,
                most: 7,
            },
            "the peer published 9 elements of lap 3 in a line, allowed are 1 to 7 of lap 2",
        ),
        (VIOLATION, "the peer published head 12, no multiple of 8"),
    ];
    for (violation, words) in said {
        assert_eq!(violation.to_string(), words);
    }
    let length = Violation::Length {
        length: 99,
        longest: 24,
        head: 8,
    };
    assert!(length.to_string().contains("99") && length.to_string().contains("24"));
}

#[test]
fn errors_say_what_is_wrong_and_give_the_violation_as_their_cause() {
    let errors: [(Box<dyn Error>, &str); 6] = [
        (Box::new(PushError::Full('a')), "the ring is full"),
        (Box::new(PopError::Empty), "the ring is empty"),
        (
            Box::new(ChunkError::TooFew {
                wanted: 3,
                available: 2,
            }),
            "3 slots were asked for and 2 are available",
        ),
        (
            Box::new(RecordError::Full {
                needed: 24,
                vacant: 8,
            }),
            "the ring is full: the record takes 24 bytes and 8 are vacant",
        ),
        (
            Box::new(RecordError::TooLong {
                length: 9,
                longest: 8,
            }),
            "the message has 9 bytes, the longest that the ring takes has 8",
        ),
        (
            Box::new(VIOLATION),
            "the peer published head 12, no multiple of 8",
        ),
    ];
    for (error, words) in errors {
        assert_eq!(error.to_string(), words);
        assert!(error.source().is_none());
    }
    let violated: [Box<dyn Error>; 4] = [
        Box::new(PushError::Violation('a', VIOLATION)),
        Box::new(PopError::from(VIOLATION)),
        Box::new(ChunkError::from(VIOLATION)),
        Box::new(RecordError::from(VIOLATION)),
    ];
    for error in violated {
        assert_eq!(error.to_string(), VIOLATION.to_string());
        let cause = error.source().unwrap().downcast_ref::<Violation>();
        assert_eq!(cause, Some(&VIOLATION));
    }
}

#[test]
fn layouts_are_refused_in_words() {
    let said = [
        (
            index::ring::<u8>(3).unwrap_err(),
            "capacity 3 is not a power of two of at least 1",
        ),
        (
            packed::ring::<u8>(0).unwrap_err(),
            "capacity 0 holds nothing",
        ),
        (
            packed::producer_block::<[u8; 57]>(1).unwrap_err(),
            "an element of 57 bytes, aligned to 1, does not fit into a packed line",
        ),
        (
            bytes::ring(24, 0).unwrap_err(),
            "capacity 24 is not a power of two of at least 16 bytes",
        ),
        (
            bytes::ring(1024, 1009).unwrap_err(),
            "messages of 1009 bytes do not fit, the limit at this capacity is 1008",
        ),
        (
            LayoutError::NoMemory { bytes: 5 },
            "no memory for a ring of 5 bytes",
        ),
        (
            LayoutError::Start { given: 5 },
            "start position 5 is no multiple of 8",
        ),
    ];
    for (error, words) in said {
        assert_eq!(error.to_string(), words);
    }
    let too_large = index::producer_block::<[u8; 4096]>(1 << 60).unwrap_err();
    assert!(
        too_large
            .to_string()
            .ends_with("do not fit into the address space")
    );
}

/// No handle shows an element, or an address.
#[test]
fn handles_show_their_state_and_no_element() {
    let (mut producer, mut consumer) = index::ring(4).unwrap();
    producer.push("secret").unwrap();
    let chunk = format!("{:?}", producer.reserve(2).unwrap());
    assert!(chunk.starts_with("WriteChunk"), "{chunk}");
    let said = format!("{producer:?} {consumer:?}");
    assert!(
        said.contains("tail: 1") && said.contains("head: 0"),
        "{said}"
    );
    let chunk = format!("{:?}", consumer.read_chunk(1).unwrap());
    assert!(chunk.starts_with("ReadChunk"), "{chunk}");
    assert!(!format!("{said}{chunk}").contains("secret"));

    let (mut producer, mut consumer) = packed::ring(4).unwrap();
    producer.push(0x5ec3_u64).unwrap();
    let chunk = format!("{:?}", producer.reserve(2).unwrap());
    assert!(chunk.starts_with("WriteChunk"), "{chunk}");
    let said = format!("{producer:?} {consumer:?}");
    assert!(
        said.contains("capacity: 4") && said.contains("head: 0"),
        "{said}"
    );
    let chunk = format!("{:?}", consumer.read_chunk(1).unwrap());
    assert!(chunk.starts_with("ReadChunk"), "{chunk}");

    let (mut producer, mut consumer) = bytes::ring(128, 24).unwrap();
    producer.push(b"secret").unwrap();
    let room = format!("{:?}", producer.reserve(8).unwrap());
    assert_eq!(room, "Reservation { length: 8, .. }");
    let said = format!("{producer:?} {consumer:?}");
    assert!(
        said.contains("longest: 24") && !said.contains("secret"),
        "{said}"
    );
    let record = format!("{:?}", consumer.read().unwrap());
    assert_eq!(record, "Record { length: 6, .. }");
}

#[repr(align(128))]
struct Block(#[expect(dead_code, reason = "reached by pointers only")] [u8; WAITING_BLOCK]);

#[test]
fn sleepers_and_wakers_show_what_they_wait_for() {
    let mut blocks = [0, 1].map(|_| Block([0; WAITING_BLOCK]));
    let [ours, theirs] = &mut blocks;
    let [ours, theirs] = [ours, theirs].map(|block| std::ptr::NonNull::from(block).cast());
    // SAFETY: both blocks outlive the views, and one side writes each.
    let sleeps = unsafe { Split::new(ours, theirs) };
    // SAFETY: as above.
    let wakes = unsafe { Split::new(theirs, ours) };
    assert_eq!(format!("{sleeps:?}"), "Split { .. }");
    let mut sleeper = Sleeper::<Split<u64>>::new(sleeps, For::Data);
    let mut waker = Waker::<Split<u64>>::new(wakes, For::Data, true);
    sleeper.announce(true);
    assert!(waker.must_wake());
    let said = format!("{sleeper:?} {waker:?}");
    assert!(
        said.contains("waits_for: Data") && said.contains("fence: true"),
        "{said}"
    );
}
