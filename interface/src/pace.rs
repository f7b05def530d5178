//! How often a non-blocking call looks at the socket.
//!
//! A look is a system call, far dearer than a message; yet only the socket tells
//! that the peer has died. So a call looks when the kernel's coarse clock has
//! ticked (every 1 to 4 ms) since the last look, and asks that clock at most
//! every [`LONGEST`] calls. A caller that polls rarely looks at every call; one
//! that spins pays for one look a tick.

use nix::time::{ClockId, clock_gettime};

/// Longest run of calls between two readings of the clock. A reading costs
/// about 8 ns, a spinning call about 2 ns, so this makes it a few per cent.
const LONGEST: u64 = 64;

/// Decides at which calls to look.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The clock's tick at the last look.
    tick: Option<(i64, i64)>,
    /// Number of calls between two readings of the clock.
    interval: u64,
}

impl Pace {
    /// Reads the clock. Returns whether to look now, and after how many calls
    /// to ask again.
    pub(crate) fn ask(&mut self) -> (bool, u64) {
        let tick = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
            .ok()
            .map(|time| (time.tv_sec(), time.tv_nsec()));
        // Without a clock, every call looks.
        let look = tick.is_none() || tick != self.tick;
        self.interval = if look {
            1
        } else {
            (self.interval * 2).min(LONGEST)
        };
        self.tick = tick;
        (look, self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_call_looks_and_a_spinning_caller_looks_less() {
        let mut pace = Pace::default();
        assert_eq!(pace.ask(), (true, 1));
        // A tick lasts over a million times as long as a reading, so within a
        // hundred readings at least one run of doublings shows.
        assert!((0..100).any(|_| pace.ask() == (false, LONGEST)));
    }
}
