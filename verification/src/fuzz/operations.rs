//! The fuzz target `ring_operations`: operation sequences on any ring, compared step
//! by step with a queue. The first byte chooses the ring, the others are the sequence.
//!
//! The same sequence runs on the heap, with elements that own memory, and over
//! two blocks, with plain numbers. After each operation the ring must have done
//! what a queue of bounded length does, and at the end no element may be left
//! alive.

use arbitrary::{Arbitrary, Unstructured};

use super::{Script, Subject};

mod bytes;

// Both compile elements.rs, each over its ring.
mod index;
#[allow(clippy::duplicate_mod, reason = "two rings without a trait in common")]
mod packed;

/// A ring and what happens to it.
#[derive(Debug, Arbitrary)]
struct Input {
    /// Logarithm of the capacity, modulo 5.
    capacity_log: u8,
    /// First position.
    start: Start,
    /// Which side leaves first.
    producer_first: bool,
    /// The calls.
    operations: Vec<Operation>,
}

/// First position of a ring.
#[derive(Debug, Arbitrary)]
enum Start {
    /// As in a ring that is new.
    Zero,
    /// So many elements before the positions wrap.
    BeforeTheWrap(u8),
    /// Anywhere.
    Any(u64),
}

/// One call of the API, or a chunk from its beginning to its end. Counts may be
/// larger than what fits.
#[derive(Debug, Arbitrary)]
enum Operation {
    /// Push one.
    Push,
    /// Push a slice of so many.
    PushSlice(u8),
    /// Reserve, fill, commit so many.
    Commit(u8, u8, u8),
    /// Reserve, fill in place through the slices, commit all.
    InPlace(u8),
    /// Reserve, fill so many, drop the chunk.
    Abort(u8, u8),
    /// Ask how many slots are vacant.
    Vacant,
    /// Ask whether the ring is full.
    IsFull,
    /// Pop one.
    Pop,
    /// Pop a slice of at most so many.
    PopSlice(u8),
    /// Append at most so many to a vector.
    PopInto(u8),
    /// Look at the next element.
    Peek,
    /// Read chunk, take so many, commit so many of the rest.
    Take(u8, u8, u8),
    /// Read chunk, take so many, forget the chunk.
    Forget(u8, u8),
    /// Ask how many elements are published.
    Published,
    /// Ask whether the ring is empty.
    IsEmpty,
}

/// Runs the sequence that `bytes` encode, if they do, on the heap and over two blocks.
/// The fault: the queue forgets what is pushed one by one.
///
/// # Panics
///
/// When the ring differs from the queue.
pub fn run(bytes: &[u8], subject: Subject) {
    let mut script = Script(bytes);
    let ring = script.byte() % 3;
    if ring == 2 {
        bytes::run(script, subject);
        return;
    }
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(script.0)) else {
        return;
    };
    if ring == 0 {
        index::elements::run(&input, subject);
    } else {
        packed::elements::run(&input, subject);
    }
}
