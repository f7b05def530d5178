//! Chunks of the packed ring: those of the suite, and slices of its lines.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

#[path = "suite/chunks.rs"]
mod suite;
mod support;

use support::packed as subject;
use support::packed::ring_at;

#[test]
fn read_chunk_shows_what_is_left_as_slices() {
    for offset in 0..4 {
        let (mut producer, mut consumer) = ring_at(4, offset);
        producer.push_slice(&[1_u128, 2, 3, 4]).unwrap();
        for taken in 0..=4 {
            let mut chunk = consumer.read_chunk(4).unwrap();
            chunk.by_ref().take(taken).for_each(drop);
            let slices: Vec<&[u128]> = chunk.slices().collect();
            assert_eq!(slices.concat(), [1, 2, 3, 4][taken..]);
            assert!(slices.iter().all(|slice| (1..=3).contains(&slice.len())));
            assert!(slices.len() <= 3);
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
        // Two strings to a line.
        assert_eq!(chunk.uninit_slices_mut().count(), 2);
        for (n, slot) in chunk.uninit_slices_mut().flatten().enumerate() {
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
