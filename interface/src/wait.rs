//! Waiting: spin a little, then sleep in `poll` on the socket.
//!
//! The socket is the one descriptor for everything that ends a sleep: a wake-up
//! (data or space), a control message, the peer's goodbye, its death. The words and
//! barriers are in [`memenpsf_ring::wake`], whose steps are named here.
//!
//! ```text
//!   ready? ── spin ──▶ S1, S2 ──▶ ready? (S3) ──▶ poll (S4) ──▶ S5 ──▶ ready?
//! ```
//!
//! # Invariants
//!
//! - W1: a side looks at its ring after it has announced a sleep and before it
//!   sleeps, and the socket has not been read in between: [`Connection::sleep`]
//!   returns at once if it was.
//! - W2: while one half sleeps in `poll`, no other half reads the socket; what the
//!   sleeper then reads, it tells the others. So no half can take away a wake-up
//!   that another one sleeps for.
//! - W3: a spinning endpoint says so in its hello, and its peer then executes no
//!   barrier and reads no waiting word for it.
//!
//! # Memory ordering
//!
//! F1 of [`memenpsf_ring::wake`]. Where both processes have registered for
//! `membarrier(GLOBAL_EXPEDITED)`, the sleeper makes every running thread of both
//! execute a full barrier, which is as good as the waker's own: a thread that is not
//! running has executed one when it was switched out.

use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use memenpsf_fdpass::Deadline;
use memenpsf_ring::memory::Split;
use memenpsf_ring::wake::{Sleeper, Waker};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::connection::Connection;
use crate::error::Ended;
use crate::pace::Pace;

/// How an endpoint waits.
///
/// ```
/// use memenpsf::{Interface, Options, Waiting};
/// use std::os::unix::net::UnixStream;
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let other = std::thread::spawn(move || Interface::<u64>::new("b", 8, theirs, 0));
/// let spinning = Options::new().waiting(Waiting::Spin);
/// let mut interface = Interface::<u64>::establish(ours, 1, &spinning)?;
/// let mut other = other.join().unwrap()?;
/// other.xmit(1)?;
/// assert_eq!(interface.recv_timeout(None)?, Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Waiting {
    /// Spins for a short, adaptive time and then sleeps without using the
    /// processor. The peer reads one more word for every publication.
    #[default]
    Adaptive,
    /// Never sleeps: a core of its own for the lowest latency, and no cost at the
    /// peer. Such an endpoint cannot be waited for with a descriptor either.
    Spin,
}

/// Why a wait has ended.
#[derive(Debug)]
pub(crate) enum Waited {
    /// What was waited for is there.
    Ready,
    /// The connection has ended; the ring is still to be drained.
    Ended(Ended),
    /// A control message has arrived.
    Control,
    /// The deadline has passed.
    TimedOut,
}

/// Shortest spin: one below a microsecond finds nothing but what is on its way.
const SHORTEST_SPIN: Duration = Duration::from_micros(1);

/// Longest spin unless one is chosen. Both ends' wake-ups together cost about 80 us,
/// so a spin beyond that cannot pay.
pub(crate) const LONGEST_SPIN: Duration = Duration::from_micros(64);

/// A sleep shorter than this would have been a spin, had it been allowed to last:
/// the next one may.
const SHORT_SLEEP: Duration = Duration::from_micros(200);

/// Looks at the ring between two readings of the clock: a reading costs 25 ns, a
/// look with its pause 12 to 45 ns.
const LOOKS: u32 = 32;

/// One half's way to wait.
#[derive(Debug)]
pub(crate) struct Waiter {
    sleeper: Sleeper<Split<u64>>,
    strategy: Waiting,
    /// Whether both processes take part in the asymmetric barrier.
    asymmetric: bool,
    /// How long to spin at most.
    longest: Duration,
    /// How long to spin next time: doubled after a wait that a longer spin would
    /// have ended, halved after a longer one.
    spin: Duration,
    /// How many control messages had arrived when a wait last ended for one, so
    /// that each ends one wait, whenever it arrived.
    told: u64,
}

impl Waiter {
    pub(crate) fn new(
        sleeper: Sleeper<Split<u64>>,
        strategy: Waiting,
        asymmetric: bool,
        longest: Duration,
    ) -> Self {
        Self {
            sleeper,
            strategy,
            asymmetric,
            longest,
            spin: longest,
            told: 0,
        }
    }

    /// Waits until `ready`, the connection's end, a control message, or the
    /// deadline.
    pub(crate) fn wait(
        &mut self,
        connection: &Connection,
        deadline: Deadline,
        mut ready: impl FnMut() -> bool,
    ) -> Waited {
        if self.strategy == Waiting::Spin {
            return self.spin_on(connection, deadline, ready);
        }
        if self.spin_a_little(&mut ready) {
            return Waited::Ready;
        }
        let began = Instant::now();
        let waited = self.sleep_for(connection, deadline, ready);
        self.spin = if began.elapsed() < SHORT_SLEEP {
            self.spin * 2
        } else {
            (self.spin / 2).max(SHORTEST_SPIN)
        }
        .min(self.longest);
        waited
    }

    /// Sleeps until there is a reason to end the wait.
    fn sleep_for(
        &mut self,
        connection: &Connection,
        deadline: Deadline,
        mut ready: impl FnMut() -> bool,
    ) -> Waited {
        loop {
            // Before the looks below, so that what is read after them is known.
            let seen = connection.events();
            if let Some(ended) = connection.ended() {
                return Waited::Ended(ended);
            }
            if connection.has_news(&mut self.told) {
                return Waited::Control;
            }
            let certain = self.announce();
            let found = ready();
            let late = !found && deadline.has_passed();
            if !found && !late {
                connection.sleep(seen, if certain { deadline } else { brief(deadline) });
            }
            self.awake();
            if found || ready() {
                return Waited::Ready;
            }
            if late {
                return Waited::TimedOut;
            }
        }
    }

    /// Announces a sleep to the peer (S1, S2). The caller looks again before it
    /// sleeps. `false` means that the barrier could not be had and that a sleep must
    /// be [`brief`].
    pub(crate) fn announce(&mut self) -> bool {
        self.sleeper.announce(!self.asymmetric);
        !self.asymmetric || membarrier::execute()
    }

    /// Withdraws the announcement (S5).
    pub(crate) fn awake(&mut self) {
        if self.sleeper.is_announced() {
            self.sleeper.awake();
        }
    }

    /// Tells whether this side sleeps at all.
    pub(crate) fn sleeps(&self) -> bool {
        self.strategy != Waiting::Spin
    }

    /// Waits without ever sleeping.
    fn spin_on(
        &mut self,
        connection: &Connection,
        deadline: Deadline,
        mut ready: impl FnMut() -> bool,
    ) -> Waited {
        let mut pace = Pace::default();
        let mut left = 1;
        loop {
            if ready() {
                return Waited::Ready;
            }
            left -= 1;
            if left > 0 {
                std::hint::spin_loop();
                continue;
            }
            let (look, interval) = pace.ask();
            left = interval;
            if look {
                if let Some(ended) = connection.look() {
                    return Waited::Ended(ended);
                }
                if connection.has_news(&mut self.told) {
                    return Waited::Control;
                }
            }
            if deadline.has_passed() {
                return Waited::TimedOut;
            }
        }
    }

    /// Spins for a while, and tells whether it paid.
    fn spin_a_little(&self, ready: &mut impl FnMut() -> bool) -> bool {
        // With one processor the peer cannot run while we spin.
        static SPINS_PAY: OnceLock<bool> = OnceLock::new();
        let pays = || std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        if self.longest.is_zero() || !SPINS_PAY.get_or_init(pays) {
            return ready();
        }
        let began = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if ready() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if began.elapsed() >= self.spin {
                return false;
            }
        }
    }
}

/// One half's way to wake the peer, after each publication.
#[derive(Debug)]
pub(crate) struct Bell(Option<Waker<Split<u64>>>);

impl Bell {
    /// Makes the bell of a peer that sleeps; `None` for one that never does.
    pub(crate) fn new(waker: Option<Waker<Split<u64>>>) -> Self {
        Self(waker)
    }

    /// Wakes the peer if it sleeps for what has just been published (W2 to W4).
    #[inline(always)]
    pub(crate) fn ring(&mut self, connection: &Connection) {
        if let Some(waker) = &mut self.0
            && waker.must_wake()
        {
            connection.wake();
        }
    }
}

/// Waits until `socket` has one of `events`, an error or a hang-up, or until the
/// deadline; returns early on a signal.
pub(crate) fn wait_for(socket: impl AsFd, events: PollFlags, deadline: Deadline) {
    // Rounded up, so that the last wait does not become a busy loop; one too long
    // for poll is cut.
    let timeout = deadline.remaining().map_or(PollTimeout::NONE, |left| {
        let millis = left.as_nanos().div_ceil(1_000_000);
        u16::try_from(millis).map_or(PollTimeout::from(u16::MAX), PollTimeout::from)
    });
    // Whatever ends the wait, the caller looks again at what it waits for.
    let _ = poll(&mut [PollFd::new(socket.as_fd(), events)], timeout);
}

/// Longest sleep that a lost wake-up may cost where one cannot be excluded.
pub(crate) const BRIEF: Duration = Duration::from_millis(1);

/// Returns the earlier of `deadline` and [`BRIEF`] from now.
pub(crate) fn brief(deadline: Deadline) -> Deadline {
    match deadline.remaining() {
        Some(left) if left < BRIEF => deadline,
        _ => Deadline::after(BRIEF),
    }
}

/// The asymmetric barrier of Linux (since 4.16), `membarrier(2)`.
#[expect(unsafe_code, reason = "no crate wraps membarrier")]
pub(crate) mod membarrier {
    use nix::libc;
    use std::sync::OnceLock;

    /// `MEMBARRIER_CMD_GLOBAL_EXPEDITED`
    const GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
    /// `MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED`
    const REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

    fn call(command: libc::c_int) -> bool {
        // SAFETY: membarrier takes three integers and touches no memory.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    /// Registers this process, once, and tells whether it takes part: its threads
    /// execute a barrier when another process asks, and it may ask.
    pub(crate) fn is_available() -> bool {
        static REGISTERED: OnceLock<bool> = OnceLock::new();
        *REGISTERED.get_or_init(|| call(REGISTER_GLOBAL_EXPEDITED) && call(GLOBAL_EXPEDITED))
    }

    /// Makes every running thread of every registered process execute a full
    /// barrier, this one included. `false` when the kernel refuses, as after a
    /// sandbox was put on.
    pub(crate) fn execute() -> bool {
        call(GLOBAL_EXPEDITED)
    }
}
