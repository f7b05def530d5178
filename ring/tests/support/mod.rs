//! What the tests of the rings share: elements that count their drops, and two
//! heap blocks that stand for the regions of two processes.

#![allow(
    dead_code,
    reason = "every test binary compiles this and none uses it all"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memenpsf_ring::Plain;
use memenpsf_ring::index::{self, Consumer, Producer};
use memenpsf_ring::memory::{CONSUMER_BLOCK, LINE_PAIR, Split};

/// Start positions that put the wrap of the position's type at the first, a
/// middle and no step of a short test.
pub(crate) const STARTS: [u64; 5] = [0, 1, u64::MAX, u64::MAX - 1, u64::MAX - 5];

/// How often each of the numbered elements was dropped.
#[derive(Clone)]
pub(crate) struct Ledger(Arc<[AtomicU32]>);

impl Ledger {
    /// Makes the ledger of `count` elements.
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count).map(|_| AtomicU32::new(0)).collect())
    }

    /// Makes element `id`.
    pub(crate) fn element(&self, id: usize) -> Counted {
        Counted {
            id,
            ledger: self.clone(),
        }
    }

    /// Returns the drops of every element.
    pub(crate) fn drops(&self) -> Vec<u32> {
        self.0.iter().map(|n| n.load(Ordering::SeqCst)).collect()
    }

    /// Fails unless every element was dropped exactly once.
    #[track_caller]
    pub(crate) fn assert_all_dropped_once(&self) {
        assert_eq!(self.drops(), vec![1; self.0.len()]);
    }
}

/// An element that owns memory and counts its drop.
pub(crate) struct Counted {
    pub(crate) id: usize,
    ledger: Ledger,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.ledger.0[self.id].fetch_add(1, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Counted({})", self.id)
    }
}

/// Lets one of two streaming threads wait for the other, and gives up when the
/// other has panicked or nothing moves any more, so that a ring that loses an
/// element fails a test instead of hanging it.
pub(crate) struct Patience<'a> {
    failed: &'a AtomicBool,
    since: Option<Instant>,
}

impl<'a> Patience<'a> {
    /// Makes the patience of one thread; both share `failed`.
    pub(crate) fn new(failed: &'a AtomicBool) -> Self {
        Self {
            failed,
            since: None,
        }
    }

    /// Notes that something moved.
    pub(crate) fn renew(&mut self) {
        self.since = None;
    }

    /// Lets the other thread run.
    pub(crate) fn wait(&mut self) {
        let since = self.since.get_or_insert_with(Instant::now);
        // A watchdog and no measure: a step takes microseconds.
        let hangs = since.elapsed() > Duration::from_secs(20);
        assert!(!hangs, "nothing has moved for 20 seconds");
        assert!(
            !self.failed.load(Ordering::Relaxed),
            "the other thread failed"
        );
        std::thread::yield_now();
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failed.store(true, Ordering::Relaxed);
        }
    }
}

/// A zeroed block of memory, as a region is when it is made.
struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the block is memory and nothing else; who may access it is the matter
// of the handles that are made over it.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    fn new(size: usize) -> Self {
        let layout = Layout::from_size_align(size, LINE_PAIR).expect("a small block");
        assert!(size > 0);
        // SAFETY: the size is above zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout);
        };
        Self { start, layout }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `new` made it with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// The two blocks of one ring.
#[derive(Clone)]
pub(crate) struct Blocks {
    producer: Arc<Block>,
    consumer: Arc<Block>,
}

impl Blocks {
    /// Makes the blocks of a ring of `capacity` elements.
    pub(crate) fn new<T: Plain>(capacity: usize) -> Self {
        let producer = index::producer_block::<T>(capacity).expect("a legal capacity");
        Self {
            producer: Arc::new(Block::new(producer.size())),
            consumer: Arc::new(Block::new(CONSUMER_BLOCK)),
        }
    }

    /// Returns the start of the producer block.
    pub(crate) fn producer_start(&self) -> NonNull<u8> {
        self.producer.start
    }

    /// Returns the start of the consumer block.
    pub(crate) fn consumer_start(&self) -> NonNull<u8> {
        self.consumer.start
    }

    /// Sets the tail, as a hostile producer does.
    pub(crate) fn set_tail(&self, tail: u64) {
        // SAFETY: the tail is the first word of the block.
        unsafe { self.producer.start.cast::<AtomicU64>().as_ref() }.store(tail, Ordering::Release);
    }

    /// Sets the head, as a hostile consumer does.
    pub(crate) fn set_head(&self, head: u64) {
        // SAFETY: the head is the first word of the block.
        unsafe { self.consumer.start.cast::<AtomicU64>().as_ref() }.store(head, Ordering::Release);
    }

    /// Returns the tail that is published.
    pub(crate) fn tail(&self) -> u64 {
        // SAFETY: the tail is the first word of the block.
        unsafe { self.producer.start.cast::<AtomicU64>().as_ref() }.load(Ordering::Acquire)
    }

    /// Returns the head that is published.
    pub(crate) fn head(&self) -> u64 {
        // SAFETY: the head is the first word of the block.
        unsafe { self.consumer.start.cast::<AtomicU64>().as_ref() }.load(Ordering::Acquire)
    }

    /// Overwrites byte `offset` behind the padding of the producer block.
    pub(crate) fn set_slot_byte(&self, offset: usize, value: u8) {
        assert!(LINE_PAIR + offset < self.producer.layout.size());
        // SAFETY: within the block by the assertion.
        let byte = unsafe { self.producer.start.add(LINE_PAIR + offset) };
        // SAFETY: tests call this while no handle runs.
        unsafe { byte.write(value) };
    }

    /// Returns a copy of all slots.
    pub(crate) fn slots(&self) -> Vec<u8> {
        let size = self.producer.layout.size();
        (LINE_PAIR..size)
            .map(|offset| {
                // SAFETY: within the block.
                let byte = unsafe { self.producer.start.add(offset) };
                // SAFETY: tests call this while no handle runs.
                unsafe { byte.read() }
            })
            .collect()
    }
}

/// A producer over two blocks, which it keeps alive.
pub(crate) struct SplitProducer<T: Plain> {
    pub(crate) handle: Producer<T, Split<T>>,
    /// Dropped after the handle.
    pub(crate) blocks: Blocks,
}

/// A consumer over two blocks, which it keeps alive.
pub(crate) struct SplitConsumer<T: Plain> {
    pub(crate) handle: Consumer<T, Split<T>>,
    /// Dropped after the handle.
    pub(crate) blocks: Blocks,
}

/// Makes both handles of a ring over two blocks.
pub(crate) fn split_ring<T: Plain>(
    capacity: usize,
    start: u64,
) -> (SplitProducer<T>, SplitConsumer<T>) {
    let blocks = Blocks::new::<T>(capacity);
    let (ours, theirs) = (blocks.producer.start, blocks.consumer.start);
    // SAFETY: the blocks are zeroed, aligned, as large as the layout says and
    // outlive the handle.
    let memory = unsafe { Split::new(ours, theirs) };
    // SAFETY: it is the only producer.
    let producer = unsafe { Producer::attach(memory, capacity, start) };
    // SAFETY: as above.
    let memory = unsafe { Split::new(theirs, ours) };
    // SAFETY: it is the only consumer.
    let consumer = unsafe { Consumer::attach(memory, capacity, start) };
    (
        SplitProducer {
            handle: producer.expect("a legal capacity"),
            blocks: blocks.clone(),
        },
        SplitConsumer {
            handle: consumer.expect("a legal capacity"),
            blocks,
        },
    )
}
