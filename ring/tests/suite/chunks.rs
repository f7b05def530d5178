//! Chunks: reserve, commit, abort, and every element dropped exactly once.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use memenpsf_ring::{ChunkError, PopError};

use crate::subject::{ring, ring_at, slots_mut, split_ring};
use crate::support::{Counted, Fragile, Ledger, STARTS};

#[test]
fn committed_chunk_arrives_in_order_at_every_offset() {
    for start in STARTS {
        for offset in 0..4 {
            let (mut producer, mut consumer) = ring_at(4, start);
            for n in 0..offset {
                producer.push(n).unwrap();
                consumer.pop().unwrap();
            }
            let mut chunk = producer.reserve(4).unwrap();
            assert_eq!(chunk.len(), 4);
            assert!(!chunk.is_empty());
            assert_eq!(chunk.fill(10..), 4);
            assert_eq!(chunk.push(99), Err(99));
            chunk.commit_all();
            assert_eq!(
                consumer.read_chunk(4).unwrap().collect::<Vec<_>>(),
                [10, 11, 12, 13]
            );
        }
    }
}

#[test]
fn nothing_is_published_before_the_commit() {
    let (mut producer, mut consumer) = ring(4).unwrap();
    let mut chunk = producer.reserve(4).unwrap();
    chunk.fill(0..4);
    assert_eq!(consumer.pop(), Err(PopError::Empty));
    assert_eq!(consumer.slots(), 0);
    chunk.commit(2);
    assert_eq!(consumer.slots(), 2);
}

#[test]
fn too_large_a_chunk_is_refused_with_the_number_there_is() {
    let (mut producer, mut consumer) = ring(4).unwrap();
    producer.push(0).unwrap();
    let refused = ChunkError::TooFew {
        wanted: 4,
        available: 3,
    };
    assert_eq!(producer.reserve(4).err(), Some(refused));
    let refused = ChunkError::TooFew {
        wanted: 2,
        available: 1,
    };
    assert_eq!(consumer.read_chunk(2).err(), Some(refused));
    let refused = ChunkError::TooFew {
        wanted: usize::MAX,
        available: 3,
    };
    assert_eq!(producer.reserve(usize::MAX).err(), Some(refused));
}

#[test]
fn chunk_of_nothing_changes_nothing() {
    let (mut producer, mut consumer) = ring::<u8>(1).unwrap();
    let chunk = producer.reserve(0).unwrap();
    assert!(chunk.is_empty());
    chunk.commit_all();
    consumer.read_chunk(0).unwrap().commit_all();
    assert_eq!(producer.position(), 0);
    assert_eq!(consumer.position(), 0);
    producer.push(1).unwrap();
    assert!(producer.reserve(0).unwrap().is_empty());
}

#[test]
fn partial_commit_publishes_a_prefix_and_drops_the_rest() {
    for start in STARTS {
        for committed in 0..=4 {
            let ledger = Ledger::new(4);
            let (mut producer, mut consumer) = ring_at(4, start);
            let mut chunk = producer.reserve(4).unwrap();
            chunk.fill((0..4).map(|id| ledger.element(id)));
            chunk.commit(committed);
            let dropped = (0..4)
                .map(|id| u32::from(id >= committed))
                .collect::<Vec<_>>();
            assert_eq!(ledger.drops(), dropped);
            for id in 0..committed {
                assert_eq!(consumer.pop().unwrap().id, id);
            }
            assert!(consumer.pop().is_err());
            ledger.assert_all_dropped_once();
        }
    }
}

#[test]
fn aborted_chunk_drops_what_was_written_and_publishes_nothing() {
    for written in 0..=4 {
        let ledger = Ledger::new(written);
        let (mut producer, mut consumer) = ring(4).unwrap();
        let mut chunk = producer.reserve(4).unwrap();
        chunk.fill((0..written).map(|id| ledger.element(id)));
        drop(chunk);
        ledger.assert_all_dropped_once();
        assert!(consumer.pop().is_err());
        assert_eq!(producer.slots(), 4);
    }
}

#[test]
fn fill_takes_no_element_that_does_not_fit() {
    let ledger = Ledger::new(5);
    let (mut producer, consumer) = ring(4).unwrap();
    let mut elements = (0..5).map(|id| ledger.element(id));
    let mut chunk = producer.reserve(3).unwrap();
    assert_eq!(chunk.fill(&mut elements), 3);
    assert_eq!(elements.next().unwrap().id, 3);
    chunk.commit_all();
    drop(elements.next());
    drop((producer, consumer));
    ledger.assert_all_dropped_once();
}

#[test]
fn commit_of_more_than_was_written_panics_and_publishes_nothing() {
    let ledger = Ledger::new(1);
    let (mut producer, mut consumer) = ring(4).unwrap();
    let mut chunk = producer.reserve(2).unwrap();
    chunk.push(ledger.element(0)).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| chunk.commit(2))).is_err());
    assert!(consumer.pop().is_err());
    ledger.assert_all_dropped_once();
}

#[test]
fn iterator_that_panics_in_fill_loses_no_element() {
    let ledger = Ledger::new(2);
    let (mut producer, mut consumer) = ring(4).unwrap();
    let mut chunk = producer.reserve(4).unwrap();
    let filling = catch_unwind(AssertUnwindSafe(|| {
        chunk.fill((0..).map(|id| {
            assert!(id < 2, "the caller's iterator panics");
            ledger.element(id)
        }))
    }));
    assert!(filling.is_err());
    chunk.commit_all();
    assert_eq!(consumer.slots(), 2);
    consumer.read_chunk(2).unwrap().commit_all();
    ledger.assert_all_dropped_once();
}

#[test]
fn read_chunk_vacates_exactly_what_was_taken() {
    for start in STARTS {
        for taken in 0..=4 {
            let ledger = Ledger::new(4);
            let (mut producer, mut consumer) = ring_at(4, start);
            let mut chunk = producer.reserve(4).unwrap();
            chunk.fill((0..4).map(|id| ledger.element(id)));
            chunk.commit_all();
            let mut chunk = consumer.read_chunk(4).unwrap();
            assert_eq!(chunk.len(), 4);
            let ids: Vec<usize> = chunk
                .by_ref()
                .take(taken)
                .map(|element| element.id)
                .collect();
            assert_eq!(ids, (0..taken).collect::<Vec<_>>());
            assert_eq!(
                producer.slots(),
                0,
                "vacated when the chunk ends, not before"
            );
            assert_eq!(chunk.len(), 4 - taken);
            drop(chunk);
            assert_eq!(producer.slots(), taken);
            assert_eq!(consumer.slots(), 4 - taken);
            drop((producer, consumer));
            ledger.assert_all_dropped_once();
        }
    }
}

#[test]
fn read_chunk_commit_drops_what_was_not_taken() {
    for taken in 0..=4 {
        for committed in 0..=4 - taken {
            let ledger = Ledger::new(4);
            let (mut producer, mut consumer) = ring_at(4, u64::MAX - 1);
            producer
                .reserve(4)
                .map(|mut chunk| {
                    chunk.fill((0..4).map(|id| ledger.element(id)));
                    chunk.commit_all();
                })
                .unwrap();
            let mut chunk = consumer.read_chunk(4).unwrap();
            let held: Vec<Counted> = chunk.by_ref().take(taken).collect();
            chunk.commit(committed);
            let gone = ledger.drops().iter().sum::<u32>();
            assert_eq!(gone as usize, committed);
            assert_eq!(producer.slots(), taken + committed);
            drop(held);
            drop((consumer, producer));
            ledger.assert_all_dropped_once();
        }
    }
}

#[test]
fn read_chunk_commit_of_more_than_is_left_panics() {
    let (mut producer, mut consumer) = ring(4).unwrap();
    producer.push_slice(&[1, 2, 3]).unwrap();
    let mut chunk = consumer.read_chunk(3).unwrap();
    chunk.next();
    assert!(catch_unwind(AssertUnwindSafe(|| chunk.commit(3))).is_err());
    assert_eq!(consumer.pop(), Ok(2));
}

#[test]
fn slots_of_a_region_filled_in_place_arrive() {
    for start in STARTS {
        let (mut producer, mut consumer) = split_ring::<[u8; 3]>(4, start);
        for round in 0..9 {
            let mut chunk = producer.handle.reserve(3).unwrap();
            for (n, slot) in slots_mut(&mut chunk).enumerate() {
                *slot = [round, u8::try_from(n).unwrap(), 7];
            }
            chunk.commit_all();
            for n in 0..3 {
                assert_eq!(consumer.handle.pop(), Ok([round, n, 7]));
            }
        }
    }
}

// A chunk is an ordinary value, so safe code may forget it and no destructor
// runs. Elements may leak then; none may come twice.

#[test]
fn forgotten_read_chunk_yields_no_element_twice() {
    let ledger = Ledger::new(4);
    let (mut producer, mut consumer) = ring(4).unwrap();
    let mut chunk = producer.reserve(4).unwrap();
    chunk.fill((0..4).map(|id| ledger.element(id)));
    chunk.commit_all();
    let mut chunk = consumer.read_chunk(3).unwrap();
    let first = chunk.next().unwrap();
    mem::forget(chunk);
    assert_eq!(consumer.pop().unwrap().id, first.id + 1);
    drop(first);
    drop((producer, consumer));
    ledger.assert_all_dropped_once();
}

#[test]
fn forgotten_read_chunk_drops_no_element_twice_whichever_side_goes_last() {
    for producer_last in [false, true] {
        let ledger = Ledger::new(4);
        let (mut producer, mut consumer) = ring(4).unwrap();
        let mut chunk = producer.reserve(4).unwrap();
        chunk.fill((0..4).map(|id| ledger.element(id)));
        chunk.commit_all();
        let mut chunk = consumer.read_chunk(4).unwrap();
        drop(chunk.next());
        drop(chunk.next());
        mem::forget(chunk);
        if producer_last {
            drop(consumer);
            drop(producer);
        } else {
            drop(producer);
            drop(consumer);
        }
        ledger.assert_all_dropped_once();
    }
}

#[test]
fn forgotten_write_chunk_publishes_nothing() {
    let (mut producer, mut consumer) = ring(2).unwrap();
    let mut chunk = producer.reserve(2).unwrap();
    chunk.fill([1, 2]);
    mem::forget(chunk);
    assert!(consumer.pop().is_err());
    producer.push(3).unwrap();
    assert_eq!(consumer.pop(), Ok(3));
}

#[test]
fn panicking_drop_in_an_aborted_chunk_drops_the_rest() {
    for fragile in 0..4 {
        let ledger = Ledger::new(4);
        let (mut producer, mut consumer) = ring(4).unwrap();
        let mut chunk = producer.reserve(4).unwrap();
        chunk.fill((0..4).map(|id| Fragile(ledger.element(id), id == fragile)));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(chunk))).is_err());
        assert!(consumer.pop().is_err());
        ledger.assert_all_dropped_once();
    }
}

#[test]
fn panicking_drop_in_a_partial_commit_drops_the_rest_and_publishes_nothing() {
    for fragile in 1..4 {
        let ledger = Ledger::new(4);
        let (mut producer, mut consumer) = ring(4).unwrap();
        let mut chunk = producer.reserve(4).unwrap();
        chunk.fill((0..4).map(|id| Fragile(ledger.element(id), id == fragile)));
        assert!(catch_unwind(AssertUnwindSafe(|| chunk.commit(1))).is_err());
        assert!(consumer.pop().is_err());
        ledger.assert_all_dropped_once();
    }
}

#[test]
fn panicking_drop_in_a_read_chunk_leaves_the_rest_in_the_ring() {
    let ledger = Ledger::new(4);
    let (mut producer, mut consumer) = ring(4).unwrap();
    let mut chunk = producer.reserve(4).unwrap();
    chunk.fill((0..4).map(|id| Fragile(ledger.element(id), id == 1)));
    chunk.commit_all();
    let chunk = consumer.read_chunk(4).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| chunk.commit_all())).is_err());
    assert_eq!(ledger.drops(), [1, 1, 0, 0]);
    assert_eq!(consumer.pop().unwrap().0.id, 2);
    drop((producer, consumer));
    ledger.assert_all_dropped_once();
}
