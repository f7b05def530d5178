//! The end of a ring on the heap: either side first, elements left, elements
//! that panic, and memory that is freed once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use memenpsf_ring::ordering::Shipped;

use crate::subject::{HeapRing, ring, ring_at, starts};
use crate::support::{Counted, Fragile, Ledger};

/// Counts the allocations of this thread that are aligned as only rings are.
struct Counting;

thread_local! {
    /// Allocations less deallocations.
    static ALIVE: Cell<isize> = const { Cell::new(0) };
}

fn count(layout: Layout, by: isize) {
    if layout.align() >= 128 {
        // A thread that is ending has no counter left and no ring either.
        let _ = ALIVE.try_with(|alive| alive.set(alive.get() + by));
    }
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY: the caller's obligations.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        count(layout, -1);
        // SAFETY: the caller's obligations.
        unsafe { System.dealloc(start, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn alive() -> isize {
    ALIVE.get()
}

/// Ends a ring in either order.
fn end<T>((producer, consumer): HeapRing<T, Shipped>, producer_first: bool) {
    assert_eq!(alive(), 1);
    if producer_first {
        drop(producer);
        assert_eq!(alive(), 1, "the consumer still uses the memory");
        drop(consumer);
    } else {
        drop(consumer);
        assert_eq!(alive(), 1, "the producer still uses the memory");
        drop(producer);
    }
    assert_eq!(alive(), 0);
}

#[test]
fn elements_left_in_the_ring_are_dropped_once_whichever_side_goes_first() {
    for producer_first in [true, false] {
        for capacity in [1, 2, 4, 8] {
            for start in starts(capacity, size_of::<Counted>()) {
                for popped in 0..=capacity {
                    for left in 0..=capacity {
                        let ledger = Ledger::new(popped + left);
                        let (mut producer, mut consumer) = ring_at(capacity, start);
                        for id in 0..popped {
                            producer.push(ledger.element(id)).unwrap();
                            consumer.pop().unwrap();
                        }
                        for id in popped..popped + left {
                            producer.push(ledger.element(id)).unwrap();
                        }
                        assert_eq!(ledger.drops().iter().sum::<u32>() as usize, popped);
                        end((producer, consumer), producer_first);
                        ledger.assert_all_dropped_once();
                    }
                }
            }
        }
    }
}

#[test]
fn rejected_element_is_dropped_by_its_caller_once() {
    let ledger = Ledger::new(2);
    let (mut producer, consumer) = ring(1).unwrap();
    producer.push(ledger.element(0)).unwrap();
    let rejected = producer.push(ledger.element(1)).unwrap_err();
    assert_eq!(ledger.drops(), [0, 0]);
    drop(rejected);
    assert_eq!(ledger.drops(), [0, 1]);
    end((producer, consumer), true);
    ledger.assert_all_dropped_once();
}

#[test]
fn side_that_left_is_seen_by_the_other() {
    let (producer, consumer) = ring::<u8>(1).unwrap();
    assert!(!producer.is_abandoned());
    assert!(!consumer.is_abandoned());
    drop(consumer);
    assert!(producer.is_abandoned());
    drop(producer);

    let (producer, consumer) = ring::<u8>(1).unwrap();
    drop(producer);
    assert!(consumer.is_abandoned());
    drop(consumer);
    assert_eq!(alive(), 0);
}

#[test]
fn abandoned_ring_can_be_drained() {
    let ledger = Ledger::new(4);
    let (mut producer, mut consumer) = ring_at(4, u64::MAX - 1);
    for id in 0..4 {
        producer.push(ledger.element(id)).unwrap();
    }
    drop(producer);
    assert!(consumer.is_abandoned());
    for id in 0..4 {
        assert_eq!(consumer.pop().unwrap().id, id);
    }
    assert!(consumer.pop().is_err());
    drop(consumer);
    ledger.assert_all_dropped_once();
    assert_eq!(alive(), 0);
}

#[test]
fn producer_without_consumer_still_fills_the_ring() {
    let ledger = Ledger::new(3);
    let (mut producer, consumer) = ring(2).unwrap();
    drop(consumer);
    producer.push(ledger.element(0)).unwrap();
    producer.push(ledger.element(1)).unwrap();
    assert!(producer.push(ledger.element(2)).is_err());
    drop(producer);
    ledger.assert_all_dropped_once();
    assert_eq!(alive(), 0);
}

#[test]
fn element_that_panics_in_its_drop_frees_memory_and_drops_the_rest() {
    for producer_first in [true, false] {
        for fragile in 0..4 {
            let ledger = Ledger::new(4);
            let (mut producer, consumer) = ring_at(4, u64::MAX - 1);
            for id in 0..4 {
                producer
                    .push(Fragile(ledger.element(id), id == fragile))
                    .ok()
                    .unwrap();
            }
            let ending = catch_unwind(AssertUnwindSafe(|| {
                if producer_first {
                    drop(producer);
                    drop(consumer);
                } else {
                    drop(consumer);
                    drop(producer);
                }
            }));
            assert!(ending.is_err());
            ledger.assert_all_dropped_once();
            assert_eq!(alive(), 0);
        }
    }
}

#[test]
fn elements_of_size_zero_are_dropped_once() {
    thread_local! {
        static DROPS: Cell<u32> = const { Cell::new(0) };
    }
    struct Empty;
    impl Drop for Empty {
        fn drop(&mut self) {
            DROPS.set(DROPS.get() + 1);
        }
    }

    for producer_first in [true, false] {
        DROPS.set(0);
        let (mut producer, mut consumer) = ring(4).unwrap();
        for _ in 0..4 {
            producer.push(Empty).ok().unwrap();
        }
        drop(consumer.pop());
        assert_eq!(DROPS.get(), 1);
        end((producer, consumer), producer_first);
        assert_eq!(DROPS.get(), 4);
    }
}
