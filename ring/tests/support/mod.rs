//! What the tests of the rings share: elements that count their drops, patience, and
//! below, memory that stands for the regions of two processes.
//!
//! [`index`] and [`packed`] offer the same names, so that the tests of the folder
//! `suite` run over either: a test binary says which ring is its `subject`.

#![allow(
    dead_code,
    unused_imports,
    reason = "every test binary compiles this and none uses it all"
)]

pub(crate) mod blocks;
pub(crate) mod bytes;
pub(crate) mod index;
pub(crate) mod packed;
pub(crate) mod region;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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

/// Panics when it is dropped, after it was counted, if the second field says so.
pub(crate) struct Fragile(pub(crate) Counted, pub(crate) bool);

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!self.1, "element {} panics in its drop", self.0.id);
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
        thread::yield_now();
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.failed.store(true, Ordering::Relaxed);
        }
    }
}

/// Lets one side run on a thread of its own while the other runs here.
pub(crate) fn side_by_side(
    produce: impl FnOnce(Patience<'_>) + Send,
    consume: impl FnOnce(Patience<'_>),
) {
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        let patience = Patience::new(&failed);
        let producing = scope.spawn(move || produce(patience));
        consume(Patience::new(&failed));
        // The end of the scope alone is a fence, which a standard library that is not
        // instrumented hides from ThreadSanitizer.
        producing.join().expect("a producer that does not panic");
    });
}
