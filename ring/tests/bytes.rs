//! The bytes ring from outside, on one thread: what fits, what arrives, what is
//! refused.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

mod support;

use std::collections::VecDeque;

use memenpsf_ring::bytes::{self, Consumer, Producer, longest_message, producer_block};
use memenpsf_ring::memory::{ByteMemory, Split};
use memenpsf_ring::ordering::Shipped;
use memenpsf_ring::{LayoutError, PopError, RecordError, Violation};
use support::blocks::Blocks;
use support::bytes::{Forgetful, Random, low_byte, message, split_ring, split_ring_through};

/// Start positions: zero, at every kind of place of a line, at the end of the
/// storage, and where the position's type wraps within a few records.
const STARTS: [u64; 8] = [
    0,
    8,
    56,
    120,
    4096 - 8,
    u64::MAX - 7,
    u64::MAX - 63,
    u64::MAX - 1023,
];

/// Bytes by which position, length and order can be told.
fn bytes_of(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|i| low_byte((i * 37 + seed * 11 + 1) as u64))
        .collect()
}

/// Runs a test on a ring on the heap and on one over two blocks.
macro_rules! on_both {
    ($capacity:expr, $longest:expr, $start:expr, |$producer:ident, $consumer:ident| $test:expr) => {{
        {
            let (mut producer, mut consumer) =
                bytes::ring_at::<Shipped>($capacity, $longest, $start).unwrap();
            let ($producer, $consumer) = (&mut producer, &mut consumer);
            $test;
        }
        {
            let (mut producer, mut consumer) = split_ring($capacity, $longest, $start);
            let ($producer, $consumer) = (&mut producer.handle, &mut consumer.handle);
            $test;
        }
    }};
}

fn every_length_arrives<M: ByteMemory, N: ByteMemory>(
    producer: &mut Producer<M>,
    consumer: &mut Consumer<N>,
) {
    let longest = producer.max_message();
    let mut taken = vec![0xEE];
    for length in 0..=longest {
        let sent = bytes_of(length, length);
        producer.push(&sent).unwrap();
        assert_eq!(consumer.peek_len(), Ok(length));
        taken.truncate(1);
        assert_eq!(consumer.pop_into(&mut taken), Ok(length));
        assert_eq!(taken[1..], sent);
        assert_eq!(taken[0], 0xEE, "it appends");
        assert_eq!(consumer.pop(), Err(PopError::Empty));
        assert_eq!(consumer.position(), producer.position());
    }
}

#[test]
fn every_length_arrives_from_every_start_at_every_capacity() {
    for log in 4..10 {
        let capacity = 1 << log;
        for start in STARTS {
            let longest = longest_message(capacity).unwrap();
            on_both!(capacity, longest, start, |producer, consumer| {
                every_length_arrives(producer, consumer);
            });
        }
    }
}

#[test]
fn large_messages_arrive() {
    on_both!(1 << 19, (1 << 19) - 16, 0, |producer, consumer| {
        for length in [4096, 65_537, (1 << 17) + 3, (1 << 19) - 16] {
            let sent = bytes_of(length, 5);
            producer.push(&sent).unwrap();
            assert!(consumer.pop().unwrap() == sent);
        }
    });
}

#[test]
fn empty_ring_takes_the_longest_message_wherever_it_begins() {
    for capacity in [16, 32, 64, 128, 256] {
        let longest = longest_message(capacity).unwrap();
        for start in (0..2 * capacity as u64).step_by(8) {
            on_both!(capacity, longest, start, |producer, consumer| {
                for length in 0..=longest {
                    assert!(producer.fits(length));
                    assert_eq!(producer.reserve(length).unwrap().len(), length);
                }
                assert!(!producer.fits(longest + 1));
                producer.push(&bytes_of(longest, 3)).unwrap();
                assert_eq!(consumer.pop().unwrap(), bytes_of(longest, 3));
            });
        }
    }
}

#[test]
fn ring_fills_to_the_last_header_word_and_empties_in_order() {
    for start in STARTS {
        on_both!(256, 100, start, |producer, consumer| {
            for round in 0..40 {
                let mut sent = VecDeque::new();
                loop {
                    let next = bytes_of((round * 7 + sent.len() * 5) % 30, round);
                    let fits = producer.fits(next.len());
                    let free = producer.free_bytes();
                    match producer.push(&next) {
                        Ok(()) => sent.push_back(next),
                        Err(RecordError::Full { needed, vacant }) => {
                            assert!(!fits && needed > vacant && vacant == free);
                            break;
                        }
                        Err(error) => panic!("{error}"),
                    }
                    assert!(fits);
                }
                // Empty messages take what is left to the last word but one.
                while producer.push(b"").is_ok() {
                    sent.push_back(Vec::new());
                }
                assert_eq!(producer.free_bytes(), 0);
                let length = producer.position().wrapping_sub(consumer.position());
                assert_eq!(length, 256 - 8);
                while let Some(expected) = sent.pop_front() {
                    assert_eq!(consumer.pop().unwrap(), expected);
                    assert!(producer.fits(0), "popping makes room at once");
                }
                assert!(consumer.is_empty());
                assert_eq!(producer.free_bytes(), 256 - 8);
            }
        });
    }
}

#[test]
fn too_long_message_is_refused_and_names_the_limit() {
    on_both!(256, 100, 0, |producer, consumer| {
        let refused = RecordError::TooLong {
            length: 101,
            longest: 100,
        };
        assert_eq!(producer.push(&[0; 101]), Err(refused));
        assert_eq!(producer.reserve(101).unwrap_err(), refused);
        assert_eq!(producer.push_vectored(&[[0; 101]]), Err(refused));
        assert_eq!(
            refused.to_string(),
            "the message has 101 bytes, the longest that the ring takes has 100"
        );
        assert!(producer.reserve(usize::MAX).is_err());
        assert!(consumer.is_empty());
        producer.push(&[1; 100]).unwrap();
        assert_eq!(consumer.pop().unwrap(), [1; 100]);
    });
}

#[test]
fn illegal_shapes_are_refused_with_the_limit() {
    for given in [0, 1, 8, 15, 17, 100, usize::MAX] {
        let refused = Some(LayoutError::Bytes { given });
        assert_eq!(bytes::ring(given, 0).err(), refused);
        assert_eq!(producer_block(given, 0).err(), refused);
        assert_eq!(longest_message(given).err(), refused);
    }
    for (capacity, limit) in [(16, 0), (32, 8), (64, 24), (128, 112), (4096, 4080)] {
        let given = limit + 1;
        let refused = Some(LayoutError::Message { given, limit });
        assert_eq!(bytes::ring(capacity, given).err(), refused);
        assert!(bytes::ring(capacity, limit).is_ok());
        assert!(bytes::ring(capacity, usize::MAX).is_err());
    }
    let capacity = 1 << (usize::BITS - 1);
    assert!(matches!(
        producer_block(capacity, 0),
        Err(LayoutError::TooLarge { .. })
    ));
    for start in [1, 4, 7, u64::MAX] {
        let refused = Some(LayoutError::Start { given: start });
        assert_eq!(bytes::ring_at::<Shipped>(64, 8, start).err(), refused);
    }
}

#[test]
fn commit_publishes_a_prefix_and_drop_nothing() {
    for start in STARTS {
        on_both!(256, 100, start, |producer, consumer| {
            for round in 0..200 {
                let length = round % 101;
                let actual = (round * 13) % (length + 1);
                let mut reservation = producer.reserve(length).unwrap();
                assert_eq!(reservation.len(), length);
                assert_eq!(reservation.is_empty(), length == 0);
                reservation.as_mut_slice().fill(0xFF);
                drop(reservation);
                assert!(consumer.is_empty());

                let mut reservation = producer.reserve(length).unwrap();
                reservation
                    .as_mut_slice()
                    .copy_from_slice(&bytes_of(length, round));
                assert_eq!(reservation.as_mut_slice().as_ptr() as usize % 8, 0);
                reservation.commit(actual);
                assert_eq!(consumer.pop().unwrap(), bytes_of(length, round)[..actual]);

                let mut reservation = producer.reserve(length).unwrap();
                reservation.fill(&bytes_of(actual, round));
                assert_eq!(consumer.pop(), Err(PopError::Empty));
            }
        });
    }
}

#[test]
#[should_panic(expected = "commit of 9 bytes, of which 8 were reserved")]
fn commit_of_more_than_was_reserved_panics() {
    let (mut producer, _consumer) = bytes::ring(64, 24).unwrap();
    producer.reserve(8).unwrap().commit(9);
}

#[test]
#[should_panic(expected = "9 bytes for a reservation of 8")]
fn fill_of_more_than_was_reserved_panics() {
    let (mut producer, _consumer) = bytes::ring(64, 24).unwrap();
    producer.reserve(8).unwrap().fill(&[0; 9]);
}

#[test]
fn batch_takes_what_fits_and_ends_before_what_never_will() {
    for start in STARTS {
        on_both!(256, 100, start, |producer, consumer| {
            for round in 0..100 {
                let messages: Vec<Vec<u8>> = (0..20)
                    .map(|i| bytes_of((round * 3 + i * 5) % 40, round + i))
                    .collect();
                let pushed = producer.push_vectored(&messages).unwrap();
                assert!((1..20).contains(&pushed));
                assert!(!producer.fits(messages[pushed].len()));
                for message in &messages[..pushed] {
                    assert_eq!(consumer.pop().as_ref(), Ok(message));
                }
                assert!(consumer.is_empty());
            }
            let messages = [vec![1; 10], vec![2; 101], vec![3; 10]];
            assert_eq!(producer.push_vectored(&messages), Ok(1));
            assert!(producer.push_vectored(&messages[1..]).is_err());
            assert_eq!(producer.push_vectored::<Vec<u8>>(&[]), Ok(0));
            assert_eq!(consumer.pop().unwrap(), [1; 10]);
            assert!(consumer.is_empty());
        });
    }
}

/// A message that panics when it is asked for its bytes.
struct Bomb(bool);

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        assert!(!self.0, "the bomb goes off");
        b"harmless"
    }
}

#[test]
fn batch_that_panics_publishes_nothing() {
    let (mut producer, mut consumer) = bytes::ring(256, 100).unwrap();
    let batch = [Bomb(false), Bomb(false), Bomb(true)];
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        producer.push_vectored(&batch)
    }));
    assert!(result.is_err());
    assert!(consumer.is_empty());
    producer.push(b"x").unwrap();
    assert_eq!(consumer.pop().unwrap(), b"x");
    // Where the batch had put its second header there is now none.
    assert!(consumer.is_empty());
}

#[test]
fn record_is_borrowed_until_it_is_dropped() {
    let (mut producer, mut consumer) = bytes::ring(128, 100).unwrap();
    producer.push(&[7; 90]).unwrap();
    let record = consumer.read().unwrap();
    assert_eq!(*record, [7; 90]);
    assert!(!producer.fits(100));
    drop(record);
    assert!(producer.fits(100));
    assert_eq!(consumer.read().unwrap_err(), PopError::Empty);

    producer.push(b"again").unwrap();
    std::mem::forget(consumer.read().unwrap());
    assert_eq!(&*consumer.read().unwrap(), b"again");
    assert!(consumer.is_empty());
}

#[test]
fn record_is_read_in_place_over_regions() {
    let (mut producer, mut consumer) = split_ring(128, 100, u64::MAX - 7);
    for length in 0..=100 {
        producer.handle.push(&bytes_of(length, 1)).unwrap();
        // SAFETY: the producer is the one above.
        let record = unsafe { consumer.handle.read_in_place() }.unwrap();
        assert_eq!(*record, *bytes_of(length, 1));
        assert_eq!(record.as_ptr() as usize % 8, 0);
    }
    assert!(consumer.handle.is_empty());
}

#[test]
fn either_side_may_leave_first() {
    let (mut producer, mut consumer) = bytes::ring(64, 24).unwrap();
    producer.push(b"left behind").unwrap();
    assert!(!consumer.is_abandoned());
    drop(producer);
    assert!(consumer.is_abandoned());
    assert_eq!(consumer.pop().unwrap(), b"left behind");
    drop(consumer);

    let (mut producer, consumer) = bytes::ring(64, 24).unwrap();
    drop(consumer);
    assert!(producer.is_abandoned());
    producer.push(b"nobody reads it").unwrap();
}

/// What an enemy who chooses the contents of messages sends through an honest
/// producer: words that look like headers of legal lengths, at every place.
fn forged(length: usize, header: u64) -> Vec<u8> {
    let words = header.to_ne_bytes().into_iter().cycle();
    words.take(length).collect()
}

/// Sends forged messages over many laps, in every mix of lengths, reservations and
/// batches, with the ring drained at random moments; returns what arrived wrong.
fn attack<M: ByteMemory>(
    producer: &mut Producer<M>,
    consumer: &mut Consumer<Split<u64>>,
    laps: u64,
    seed: u64,
) -> Result<(), String> {
    let longest = producer.max_message();
    let end = laps * producer.capacity() as u64;
    let mut random = Random::new(seed);
    let mut sent = VecDeque::new();
    let mut popped = Vec::new();
    let begin = producer.position();
    while producer.position().wrapping_sub(begin) < end {
        let header = random.below(longest + 1) as u64 + 1;
        let length = random.below(longest + 1);
        let message = forged(length, header);
        match random.below(8) {
            0 => {
                if let Ok(mut reservation) = producer.reserve(length) {
                    reservation.as_mut_slice().copy_from_slice(&message);
                }
            }
            1 => {
                let actual = random.below(length + 1);
                if let Ok(mut reservation) = producer.reserve(length) {
                    reservation.as_mut_slice().copy_from_slice(&message);
                    reservation.commit(actual);
                    sent.push_back(message[..actual].to_vec());
                }
            }
            2 => {
                let batch: Vec<_> = (0..4).map(|i| forged(length >> i, header)).collect();
                let pushed = producer.push_vectored(&batch).unwrap_or(0);
                sent.extend(batch.into_iter().take(pushed));
            }
            _ => {
                if producer.push(&message).is_ok() {
                    sent.push_back(message);
                }
            }
        }
        for _ in 0..random.below(4) {
            popped.clear();
            let expected = sent.pop_front();
            match (consumer.pop_into(&mut popped), &expected) {
                (Ok(_), Some(expected)) if popped == *expected => (),
                (Err(PopError::Empty), None) => break,
                (got, _) => return Err(format!("{got:?}, {} sent", expected.is_some())),
            }
        }
    }
    Ok(())
}

#[test]
fn payload_that_looks_like_headers_is_never_taken_for_a_record() {
    for capacity in [32, 64, 128, 256, 1024] {
        for start in STARTS {
            for longest in [8, longest_message(capacity).unwrap()] {
                let (mut producer, mut consumer) = split_ring(capacity, longest, start);
                let (producer, consumer) = (&mut producer.handle, &mut consumer.handle);
                attack(producer, consumer, 500, start ^ capacity as u64).unwrap();
            }
        }
    }
}

/// The control of the test above: without the terminator the attack works, at every
/// capacity.
#[test]
fn without_terminator_the_same_payload_is_taken_for_records() {
    for capacity in [32, 64, 128, 256, 1024] {
        let longest = longest_message(capacity).unwrap();
        let (mut producer, mut consumer) = split_ring_through(capacity, longest, 0, Forgetful);
        let (producer, consumer) = (&mut producer.handle, &mut consumer.handle);
        assert!(attack(producer, consumer, 500, 1).is_err(), "{capacity}");
    }
}

/// The attack, place by place: old forged words lie at every offset, and a record of
/// every length is laid over them.
#[test]
fn behind_each_record_on_old_payload_there_is_no_record() {
    let longest = longest_message(256).unwrap();
    for at in (0..256).step_by(8) {
        for length in 0..=longest {
            let (mut producer, mut consumer) = split_ring(256, longest, at);
            let (producer, consumer) = (&mut producer.handle, &mut consumer.handle);
            // Two laps of forged messages, the second from another place.
            for old in [longest, 56, 100, 24, longest, 40, 8, 120, 240] {
                producer.push(&forged(old, 9)).unwrap();
                assert_eq!(consumer.pop().unwrap().len(), old);
                assert!(consumer.is_empty());
            }
            producer.push(&forged(length, 9)).unwrap();
            assert_eq!(consumer.pop().unwrap().len(), length);
            assert_eq!(consumer.pop(), Err(PopError::Empty));
        }
    }
}

#[test]
fn consumer_refuses_every_illegal_length_and_stays_so() {
    const CAPACITY: usize = 256;
    const LONGEST: usize = 100;
    let lengths = [
        LONGEST as u64 + 1,
        LONGEST as u64 + 4,
        (CAPACITY - 16) as u64,
        (CAPACITY - 8) as u64,
        CAPACITY as u64,
        CAPACITY as u64 + 104,
        u64::from(u32::MAX),
        u64::from(u32::MAX) + 1,
        (1 << 32) + 10,
        (1 << 63) - 1,
        1 << 63,
        (1 << 63) + 10,
        u64::MAX - 100,
        u64::MAX - 8,
        u64::MAX - 1,
    ];
    for length in lengths {
        for start in [0, 16, 248, u64::MAX - 15] {
            let (mut producer, mut consumer) = split_ring(CAPACITY, LONGEST, start);
            let blocks = consumer.blocks.clone();
            producer.handle.push(b"before").unwrap();
            let consumer = &mut consumer.handle;
            assert_eq!(consumer.pop().unwrap(), b"before");
            let head = consumer.position();
            blocks.set_word(usize::try_from(head % CAPACITY as u64).unwrap(), length + 1);

            let violation = Violation::Length {
                length,
                longest: LONGEST as u64,
                head,
            };
            let refused = PopError::Violation(violation);
            let mut taken = vec![1, 2, 3];
            for _ in 0..3 {
                assert_eq!(consumer.pop_into(&mut taken), Err(refused));
                assert_eq!(consumer.pop(), Err(refused));
                assert_eq!(consumer.peek_len(), Err(refused));
                // SAFETY: nothing comes to be read.
                let record = unsafe { consumer.read_in_place() };
                assert_eq!(record.unwrap_err(), refused);
                assert!(consumer.is_empty());
                // Not even a legal record, or none, is accepted afterwards.
                let word = usize::try_from(head % CAPACITY as u64).unwrap();
                blocks.set_word(word, [0, 1, 50][taken.len() % 3]);
            }
            assert_eq!(consumer.violation(), Some(violation));
            assert_eq!(taken, [1, 2, 3]);
            assert_eq!(blocks.head(), head);
            assert_eq!(
                refused.to_string(),
                format!("the peer published a record of {length} bytes at {head}, allowed are 100")
            );
        }
    }
}

#[test]
fn consumer_takes_every_legal_length_whoever_published_it() {
    for length in 0..=100 {
        let (_producer, mut consumer) = split_ring(256, 100, 0);
        consumer.blocks.set_word(0, length + 1);
        assert_eq!(
            consumer.handle.pop().unwrap(),
            vec![0; usize::try_from(length).unwrap()]
        );
        assert_eq!(consumer.handle.violation(), None);
    }
}

#[test]
fn producer_refuses_every_illegal_head_and_stays_so() {
    for start in [0, 128, u64::MAX - 127] {
        let relative: [(u64, bool); 10] = [
            (8, true),
            (40, true),
            (0_u64.wrapping_sub(8), true),
            (128, true),
            (136, true),
            (1 << 63, true),
            (1, false),
            (4, false),
            (31, false),
            (u64::MAX, false),
        ];
        for (offset, aligned) in relative {
            let (mut producer, mut consumer) = split_ring(128, 100, start);
            let blocks = producer.blocks.clone();
            let producer = &mut producer.handle;
            // A record of 24 bytes has been popped, and its vacating was seen.
            producer.push(&[0; 16]).unwrap();
            consumer.handle.pop().unwrap();
            assert_eq!(producer.free_bytes(), 120);
            let previous = start.wrapping_add(24);
            producer.push(&[0; 8]).unwrap();
            let tail = producer.position();
            assert_eq!(tail, start.wrapping_add(40));
            // Those between are what the consumer might do.
            let head = start.wrapping_add(offset);
            blocks.set_head(head);
            if offset == 40 {
                assert_eq!(producer.free_bytes(), 120);
                continue;
            }
            let violation = if aligned {
                Violation::Head {
                    head,
                    previous,
                    tail,
                }
            } else {
                Violation::Unaligned { head }
            };
            let refused = RecordError::Violation(violation);
            assert_eq!(producer.free_bytes(), 0);
            for _ in 0..3 {
                assert_eq!(producer.push(b""), Err(refused));
                assert_eq!(producer.push(&[0; 101]), Err(refused));
                assert_eq!(producer.push_vectored(&[b"x"]), Err(refused));
                assert_eq!(producer.push_vectored::<&[u8]>(&[]), Err(refused));
                assert_eq!(producer.reserve(0).unwrap_err(), refused);
                assert!(!producer.fits(0));
                blocks.set_head(tail);
            }
            assert_eq!(producer.violation(), Some(violation));
            assert_eq!(producer.position(), tail);
        }
    }
}

/// A ring with `start` other than zero begins empty, whatever lies elsewhere.
#[test]
fn header_word_at_the_start_is_cleared() {
    let blocks = Blocks::new(producer_block(64, 24).unwrap());
    blocks.set_word(16, 9);
    // SAFETY: the blocks outlive the handle, which is the only producer.
    let producer = unsafe { Producer::<_>::attach(blocks.producing(), 64, 24, 16) };
    // SAFETY: and this is the only consumer.
    let consumer = unsafe { Consumer::<_>::attach(blocks.consuming(), 64, 24, 16) };
    let (mut producer, mut consumer) = (producer.unwrap(), consumer.unwrap());
    assert!(consumer.is_empty());
    producer.push(b"x").unwrap();
    assert_eq!(blocks.word(16), 2);
    assert_eq!(consumer.pop().unwrap(), b"x");
}

#[test]
fn mixed_lengths_arrive_in_order_over_many_laps() {
    for start in STARTS {
        on_both!(1024, 200, start, |producer, consumer| {
            let (mut sent, mut received) = (0, 0);
            while received < 5_000 {
                while producer.push(&message(sent, 200)).is_ok() {
                    sent += 1;
                }
                while let Ok(got) = consumer.pop() {
                    assert_eq!(got, message(received, 200));
                    received += 1;
                }
                assert_eq!(sent, received);
            }
        });
    }
}

#[test]
fn handles_are_send() {
    fn is_send<T: Send>() {}
    is_send::<Producer>();
    is_send::<Consumer>();
    is_send::<Producer<Split<u64>>>();
    is_send::<Consumer<Split<u64>>>();
}
