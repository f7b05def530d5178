//! The memory half of sleeping and waking: when must a side that has published
//! something rouse its peer?
//!
//! Sleeping itself needs system calls and lies elsewhere. Here are the words, the
//! barriers, and the order of steps, so that the model checker sees them.
//!
//! ```text
//!   sleeper                                waker
//!   S1 waiting := odd                      W1 publish (tail or head)
//!   S2 full barrier                        W2 full barrier
//!   S3 look again for what it waits for    W3 read waiting
//!   S4 nothing: sleep                      W4 odd and new: send a wake-up
//!   S5 waiting := even
//! ```
//!
//! This is Dekker's pattern: each side writes its own word first and reads the
//! other's second. With a full barrier between the two on both sides, at least
//! one of them sees the other's write: either the sleeper finds in S3 what W1
//! published, or the waker finds in W3 what S1 announced. Without either barrier a
//! store may still be in its core's store buffer while the load after it is done,
//! and the wake-up is lost.
//!
//! The waiting word is not a flag but a counter, odd while its owner sleeps. The
//! waker remembers for which value it has sent a wake-up, so one sleep costs one
//! wake-up, however much is published until the sleeper runs.
//!
//! Each endpoint has a block of [`WAITING_BLOCK`] bytes in its region:
//!
//! | offset | size | field | written by |
//! |---|---|---|---|
//! | 0 | 8 | waiting for data: odd while the consumer sleeps | consumer's side |
//! | 64 | 8 | waiting for space: odd while the producer sleeps | producer's side |
//!
//! # Invariants
//!
//! - I1: only its owner writes a waiting word, and a side looks again (S3) after
//!   every [`Sleeper::announce`] and before it sleeps.
//! - I2: a side asks [`Waker::must_wake`] after every publication, before it does
//!   anything that may take long.
//! - I3: a wake-up, once sent, is not lost: it stays in the socket until it is read.
//!
//! # Memory ordering
//!
//! | pair | one site | other site | what the pair makes certain |
//! |---|---|---|---|
//! | F1 | [`SLEEP_BARRIER`] between S1 and S3 | [`WAKE_BARRIER`] between W1 and W3 | that S3 or W3 sees the other side's store |
//!
//! The accesses to the waiting word are relaxed: it hands nothing over, and what
//! S3 finds is ordered by P1 or P2 of [`crate::ordering`].
//!
//! An asymmetric barrier may stand in for both: when the sleeper makes every
//! thread of the waker's process execute a full barrier (Linux's
//! `membarrier(GLOBAL_EXPEDITED)`), the waker needs only to keep its compiler from
//! reordering W1 and W3. [`Waker::new`] and [`Sleeper::announce`] are told.
//!
//! # Trust
//!
//! The peer controls its waiting word. It decides only whether a wake-up is sent:
//! at most one for each publication.
//!
//! [`SLEEP_BARRIER`]: Orderings::SLEEP_BARRIER
//! [`WAKE_BARRIER`]: Orderings::WAKE_BARRIER

use core::fmt;
use core::marker::PhantomData;

use crate::fail_point;
use crate::memory::{Memory, Split};
use crate::ordering::{Orderings, Shipped};
use crate::primitive::{Ordering, barrier, compiler_fence};

/// Size of an endpoint's waiting words in bytes, with padding.
pub const WAITING_BLOCK: usize = 128;

/// What a side sleeps for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum For {
    /// A consumer, for something to pop.
    Data,
    /// A producer, for a vacant slot.
    Space,
}

impl For {
    /// Offset of its word in the waiting block.
    const fn word(self) -> usize {
        match self {
            Self::Data => 0,
            Self::Space => 64,
        }
    }
}

/// Announces that this side is about to sleep.
///
/// ```
/// use memenpsf_ring::memory::Split;
/// use memenpsf_ring::wake::{For, Sleeper, WAITING_BLOCK, Waker};
/// use std::ptr::NonNull;
///
/// #[repr(align(128))]
/// struct Block([u8; WAITING_BLOCK]);
/// let ours = NonNull::from(Box::leak(Box::new(Block([0; WAITING_BLOCK])))).cast();
/// let theirs = NonNull::from(Box::leak(Box::new(Block([0; WAITING_BLOCK])))).cast();
/// // SAFETY: both blocks live for ever, and each is written by one side.
/// let (sleeping, waking) = unsafe { (Split::new(ours, theirs), Split::new(theirs, ours)) };
/// let mut sleeper = Sleeper::<Split<u64>>::new(sleeping, For::Data);
/// let mut waker = Waker::<Split<u64>>::new(waking, For::Data, true);
///
/// assert!(!waker.must_wake());
/// sleeper.announce(true);
/// assert!(waker.must_wake());
/// assert!(!waker.must_wake(), "one wake-up for one sleep");
/// sleeper.announce(true);
/// assert!(waker.must_wake(), "another sleep, another wake-up");
/// sleeper.awake();
/// assert!(!waker.must_wake());
/// ```
pub struct Sleeper<M: Memory<u64> = Split<u64>, O: Orderings = Shipped> {
    memory: M,
    waits_for: For,
    /// Copy of the own waiting word.
    count: u64,
    marker: PhantomData<O>,
}

impl<M: Memory<u64>, O: Orderings> Sleeper<M, O> {
    /// Makes the announcer of sleeps for `waits_for`; `memory` reaches both
    /// endpoints' waiting blocks, and its own is zero.
    pub fn new(memory: M, waits_for: For) -> Self {
        Self {
            memory,
            waits_for,
            count: 0,
            marker: PhantomData,
        }
    }

    /// Announces a sleep (S1), and unless `fence` is false executes the barrier
    /// (S2). The caller then looks again, and sleeps only if there is nothing
    /// (I1).
    ///
    /// Without the fence the caller must make all threads of both processes
    /// execute a full barrier before it looks again.
    pub fn announce(&mut self, fence: bool) {
        fail_point::reach("sleep: before");
        // The next odd value, also after one that was not withdrawn: the peer
        // may have sent the wake-up for that one, and it may have been read.
        self.set(self.count.wrapping_add(1) | 1);
        fail_point::reach("sleep: after");
        if fence {
            // SeqCst (F1): S1 is seen by the waker's W3, or its W1 by our S3.
            barrier(O::SLEEP_BARRIER);
        }
    }

    /// Withdraws the announcement (S5).
    pub fn awake(&mut self) {
        self.set((self.count | 1).wrapping_add(1));
    }

    /// Tells whether a sleep is announced.
    pub fn is_announced(&self) -> bool {
        self.count & 1 == 1
    }

    fn set(&mut self, count: u64) {
        self.count = count;
        // Relaxed: it hands nothing over; F1 orders it against the next look.
        // SAFETY: the offset is that of a word of the own waiting block.
        unsafe {
            self.memory
                .store(self.waits_for.word(), count, Ordering::Relaxed);
        };
    }
}

/// Tells whether the peer has to be woken.
pub struct Waker<M: Memory<u64> = Split<u64>, O: Orderings = Shipped> {
    memory: M,
    waits_for: For,
    /// Whether the barrier is ours to execute.
    fence: bool,
    /// The peer's word at the last wake-up that was sent.
    woken: u64,
    marker: PhantomData<O>,
}

impl<M: Memory<u64>, O: Orderings> Waker<M, O> {
    /// Makes the judge of wake-ups of a peer that sleeps for `waits_for`; `memory`
    /// reaches both endpoints' waiting blocks. With `fence` false, the peer makes
    /// this process execute the barrier whenever it is about to sleep.
    pub fn new(memory: M, waits_for: For, fence: bool) -> Self {
        Self {
            memory,
            waits_for,
            fence,
            woken: 0,
            marker: PhantomData,
        }
    }

    /// Tells, after a publication, whether the peer sleeps and has not been woken
    /// for this sleep (W2, W3). The caller then sends the wake-up (W4).
    #[inline(always)]
    pub fn must_wake(&mut self) -> bool {
        if self.fence {
            // SeqCst (F1): our publication is seen by the sleeper's S3, or its
            // S1 by our W3.
            barrier(O::WAKE_BARRIER);
        } else {
            // The sleeper's barrier reaches this thread through the kernel; only
            // the compiler must keep W1 before W3.
            compiler_fence(Ordering::SeqCst);
        }
        fail_point::reach("wake: fenced");
        // PEER: loaded once; any value is harmless. Relaxed: F1 orders it.
        // SAFETY: the offset is that of a word of the peer's waiting block.
        let count = unsafe { self.memory.load(self.waits_for.word(), Ordering::Relaxed) };
        if count & 1 == 1 && count != self.woken {
            self.woken = count;
            true
        } else {
            false
        }
    }
}

impl<M: Memory<u64>, O: Orderings> fmt::Debug for Sleeper<M, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleeper")
            .field("waits_for", &self.waits_for)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl<M: Memory<u64>, O: Orderings> fmt::Debug for Waker<M, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker")
            .field("waits_for", &self.waits_for)
            .field("fence", &self.fence)
            .field("woken", &self.woken)
            .finish_non_exhaustive()
    }
}
