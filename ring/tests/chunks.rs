//! Chunks of the index ring: those of the suite, and slices of both its halves.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

#[path = "suite/chunks.rs"]
mod suite;
mod support;

use support::index as subject;
use support::index::ring_at;

#[test]
fn read_chunk_shows_what_is_left_as_slices() {
    for offset in 0..4 {
        let (mut producer, mut consumer) = ring_at(4, offset);
        producer.push_slice(&[1, 2, 3, 4]).unwrap();
        for taken in 0..=4 {
            let mut chunk = consumer.read_chunk(4).unwrap();
            chunk.by_ref().take(taken).for_each(drop);
            let (first, second) = chunk.as_slices();
            assert_eq!([first, second].concat(), [1, 2, 3, 4][taken..]);
            let wraps = offset != 0 && taken < 4 - usize::try_from(offset).unwrap();
            assert_eq!(!second.is_empty(), wraps, "offset {offset} taken {taken}");
            chunk.commit_all();
            producer.push_slice(&[1, 2, 3, 4]).unwrap();
        }
    }
}

#[test]
fn slots_written_in_place_arrive() {
    for offset in 0..4 {
        let (mut producer, mut consumer) = ring_at(4, offset);
        let mut chunk = producer.reserve(3).unwrap();
        let (first, second) = chunk.as_uninit_slices();
        assert_eq!(first.len(), 3.min(4 - usize::try_from(offset).unwrap()));
        for (n, slot) in first.iter_mut().chain(second).enumerate() {
            slot.write(n.to_string());
        }
        // SAFETY: all three were written.
        unsafe { chunk.assume_written(3) };
        chunk.commit_all();
        assert_eq!(
            consumer.read_chunk(3).unwrap().collect::<Vec<_>>(),
            ["0", "1", "2"]
        );
    }
}
