//! Waiting without sleeping: spin a little, then let others run.

use std::hint::spin_loop;
use std::io;
use std::thread::yield_now;
use std::time::{Duration, Instant};

/// How long a side waits for the other before it takes a message for lost, or gives
/// up. Far longer than a loaded machine keeps a runnable process waiting.
pub const GIVE_UP: Duration = Duration::from_secs(20);

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

/// Asks `attempt` until it says something, at most [`GIVE_UP`].
///
/// # Errors
///
/// [`TimedOut`](io::ErrorKind::TimedOut).
///
/// ```
/// let mut left = 3_u32;
/// let zero = memenpsf_benches::spin::insist(|| {
///     left -= 1;
///     (left == 0).then_some("zero")
/// })?;
/// assert_eq!(zero, "zero");
/// # Ok::<(), std::io::Error>(())
/// ```
#[inline]
pub fn insist<R>(mut attempt: impl FnMut() -> Option<R>) -> io::Result<R> {
    let mut backoff = Backoff::new(PATIENT);
    let mut since: Option<Instant> = None;
    loop {
        if let Some(result) = attempt() {
            return Ok(result);
        }
        if !backoff.is_spinning() && since.get_or_insert_with(Instant::now).elapsed() > GIVE_UP {
            return Err(io::ErrorKind::TimedOut.into());
        }
        backoff.wait();
    }
}

/// Waits until `ready`, at most [`GIVE_UP`].
///
/// # Errors
///
/// [`TimedOut`](io::ErrorKind::TimedOut).
#[inline]
pub fn wait_until(ready: impl Fn() -> bool) -> io::Result<()> {
    insist(|| ready().then_some(()))
}
