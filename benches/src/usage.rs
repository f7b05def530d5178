//! What a thread has cost so far.

use std::io;
use std::ops::{Add, Sub};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

/// What one thread, or several, have cost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Time on a processor in microseconds, the user's and the system's.
    pub cpu_us: u64,
    /// How often it gave up its processor by itself: how often it slept.
    pub sleeps: u64,
    /// System calls, as far as a transport can count its own.
    pub calls: u64,
}

impl Usage {
    /// Returns what this thread has cost so far, without the calls.
    ///
    /// # Errors
    ///
    /// What the system says.
    ///
    /// ```
    /// use memenpsf_benches::usage::Usage;
    ///
    /// let before = Usage::of_this_thread()?;
    /// std::thread::sleep(std::time::Duration::from_millis(1));
    /// assert!((Usage::of_this_thread()? - before).sleeps > 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn of_this_thread() -> io::Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
        let cpu = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        Ok(Self {
            cpu_us: u64::try_from(cpu).unwrap_or(0),
            sleeps: u64::try_from(usage.voluntary_context_switches()).unwrap_or(0),
            calls: 0,
        })
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu_us: self.cpu_us + other.cpu_us,
            sleeps: self.sleeps + other.sleeps,
            calls: self.calls + other.calls,
        }
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            cpu_us: self.cpu_us.saturating_sub(earlier.cpu_us),
            sleeps: self.sleeps.saturating_sub(earlier.sleeps),
            calls: self.calls.saturating_sub(earlier.calls),
        }
    }
}
