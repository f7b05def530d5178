//! Waiting without sleeping: spin a little, then let others run.

use std::hint::spin_loop;
use std::thread::yield_now;

/// How often a side spins before it yields its core, when it has a core of its
/// own: some 10 us on current x86, many times a round trip between two cores,
/// so that a yield (a system call) is the exception.
pub const PATIENT: u32 = 512;
/// How often a side spins before it yields, when sides share cores: the peer may
/// be waiting for this very core.
pub const HASTY: u32 = 4;

/// Waits for something that another thread or process is about to do.
///
/// ```
/// use memenpsf_benches::spin::{Backoff, PATIENT};
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// static READY: AtomicBool = AtomicBool::new(false);
/// std::thread::spawn(|| READY.store(true, Ordering::Relaxed));
/// let mut backoff = Backoff::new(PATIENT);
/// while !READY.load(Ordering::Relaxed) {
///     backoff.wait();
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    spins: u32,
    left: u32,
}

impl Backoff {
    /// Spins `spins` times before the first yield.
    pub fn new(spins: u32) -> Self {
        Self { spins, left: spins }
    }

    /// Begins to spin anew, because something happened.
    #[inline]
    pub fn reset(&mut self) {
        self.left = self.spins;
    }

    /// Tells whether the next wait spins.
    #[inline]
    pub fn is_spinning(&self) -> bool {
        self.left > 0
    }

    /// Waits a moment.
    #[inline]
    pub fn wait(&mut self) {
        if self.left > 0 {
            self.left -= 1;
            spin_loop();
        } else {
            yield_now();
        }
    }
}
