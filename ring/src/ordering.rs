//! The pairing table as code: one named constant for each access to a shared
//! word that orders something, with its partner.
//!
//! # Memory ordering
//!
//! | pair | writer's site | reader's site | what the pair makes visible |
//! |---|---|---|---|
//! | P1 | [`PUBLISH_TAIL`] Release store | [`REFRESH_TAIL`] Acquire load | the slots that the producer wrote, to the consumer that reads them |
//! | P2 | [`VACATE_HEAD`] Release store | [`REFRESH_HEAD`] Acquire load | that the consumer is done with the slots, to the producer that overwrites them |
//! | P3 | [`ABANDON`] AcqRel swap | [`ABANDON`], [`OBSERVE_ABANDONED`] Acquire load | all that the first side to go did, to the side that frees the ring or drains it |
//! | P4 | [`PUBLISH_LINE`] Release store | [`REFRESH_LINE`] Acquire load | the slots of a packed line that its header counts, to the consumer that reads them |
//! | P5 | [`PUBLISH_RECORD`] Release store | [`REFRESH_RECORD`] Acquire load | the message and the next header word of a bytes ring, to the consumer that reads them: see [`crate::bytes`] |
//! | F1 | [`WAKE_BARRIER`] SeqCst fence | [`SLEEP_BARRIER`] SeqCst fence | a publication to the sleeper that looks again, or the sleep to the waker: see [`crate::wake`] |
//!
//! P1 and P2 are the pairs of Le, Guatto, Cohen and Pop, "Correct and Efficient
//! Bounded FIFO Queues" (SBAC-PAD 2013).
//!
//! An ordering is an associated constant of a type parameter, and not a literal
//! at its site, so that a verifier can put another implementation of
//! [`Orderings`] into the very code that ships: a mutant is a type. It costs
//! nothing: the constant folds.
//!
//! [`PUBLISH_TAIL`]: Orderings::PUBLISH_TAIL
//! [`REFRESH_TAIL`]: Orderings::REFRESH_TAIL
//! [`VACATE_HEAD`]: Orderings::VACATE_HEAD
//! [`REFRESH_HEAD`]: Orderings::REFRESH_HEAD
//! [`PUBLISH_LINE`]: Orderings::PUBLISH_LINE
//! [`REFRESH_LINE`]: Orderings::REFRESH_LINE
//! [`ABANDON`]: Orderings::ABANDON
//! [`OBSERVE_ABANDONED`]: Orderings::OBSERVE_ABANDONED
//! [`PUBLISH_RECORD`]: Orderings::PUBLISH_RECORD
//! [`REFRESH_RECORD`]: Orderings::REFRESH_RECORD
//! [`WAKE_BARRIER`]: Orderings::WAKE_BARRIER
//! [`SLEEP_BARRIER`]: Orderings::SLEEP_BARRIER

use crate::primitive::Ordering;

/// The orderings of every site, as constants. [`Shipped`] is the only
/// implementation outside tests, and every constant's default is its value.
///
/// # Safety
///
/// 1. Each constant is at least as strong as its default, or every handle with
///    these orderings lives inside a checker that is to find the weakness.
pub unsafe trait Orderings {
    /// P1: the producer's store of its tail.
    const PUBLISH_TAIL: Ordering = Ordering::Release;
    /// P1: the consumer's load of the producer's tail.
    const REFRESH_TAIL: Ordering = Ordering::Acquire;
    /// P2: the consumer's store of its head.
    const VACATE_HEAD: Ordering = Ordering::Release;
    /// P2: the producer's load of the consumer's head.
    const REFRESH_HEAD: Ordering = Ordering::Acquire;
    /// P4: the producer's store of a packed line's header.
    const PUBLISH_LINE: Ordering = Ordering::Release;
    /// P4: the consumer's load of a packed line's header.
    const REFRESH_LINE: Ordering = Ordering::Acquire;
    /// P3: the swap by which a side leaves a ring on the heap.
    const ABANDON: Ordering = Ordering::AcqRel;
    /// P3: the load that asks whether the other side has left.
    const OBSERVE_ABANDONED: Ordering = Ordering::Acquire;
    /// P5: the producer's store of a record's header in a bytes ring.
    const PUBLISH_RECORD: Ordering = Ordering::Release;
    /// P5: the consumer's load of a record's header in a bytes ring.
    const REFRESH_RECORD: Ordering = Ordering::Acquire;
    /// F1: the waker's barrier between its publication and its look at the
    /// peer's waiting word.
    const WAKE_BARRIER: Ordering = Ordering::SeqCst;
    /// F1: the sleeper's barrier between its announcement and its next look at
    /// the ring.
    const SLEEP_BARRIER: Ordering = Ordering::SeqCst;
}

/// The orderings that ship.
#[derive(Debug, Clone, Copy)]
pub struct Shipped;

// SAFETY: the defaults.
unsafe impl Orderings for Shipped {}
