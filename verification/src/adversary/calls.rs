//! The calls of the two rings of elements: what may be asked of a handle, and what it
//! has told. The oracles judge it.

use std::fmt::Debug;

use memenpsf_ring::memory::Memory;
use memenpsf_ring::{ChunkError, Plain, PopError, PushError, Violation, index, packed};

use crate::random::Random;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Push or pop of one element.
    One,
    /// Push or pop of a slice.
    Slice,
    /// Pop into a vector.
    Into,
    /// A chunk, of which what was written or taken is committed.
    Chunk,
    /// A chunk of which half of what was written is committed, or half of what was not
    /// taken besides.
    Half,
    /// A chunk that is forgotten.
    Forgotten,
    /// How many slots there are.
    Slots,
    /// Whether there are any.
    Any,
}

/// A call that is to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    /// How many elements it asks for; none if it only asks how many there are.
    pub(super) wanted: usize,
    /// How many of a chunk are written or taken.
    pub(super) part: usize,
}

impl Plan {
    /// Plans a call of a producer.
    pub(super) fn to_push(random: &mut Random, capacity: usize) -> Self {
        use Kind::{Any, Chunk, Half, One, Slice, Slots};
        Self::of(
            &[One, One, Slice, Chunk, Half, Slots, Any],
            random,
            capacity,
        )
    }

    /// Plans a call of a consumer.
    pub(super) fn to_pop(random: &mut Random, capacity: usize) -> Self {
        use Kind::{Any, Chunk, Forgotten, Half, Into, One, Slice, Slots};
        let kinds = [One, One, Slice, Into, Chunk, Half, Forgotten, Slots, Any];
        Self::of(&kinds, random, capacity)
    }

    fn of(kinds: &[Kind], random: &mut Random, capacity: usize) -> Self {
        let kind = kinds[random.below(kinds.len())];
        let wanted = match kind {
            Kind::One => 1,
            Kind::Slots | Kind::Any => 0,
            _ => random.below(2 * capacity + 2),
        };
        let part = random.below(wanted + 1);
        Self { kind, wanted, part }
    }
}

/// What a call has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// So many elements were moved.
    Moved(usize),
    /// There was no room, or no element, for what was wanted; a chunk tells how many
    /// there are.
    Refused { available: Option<usize> },
    /// So many slots; says nothing of a violation.
    Slots(usize),
    /// Whether there are any; says nothing of a violation.
    Any(bool),
    /// The peer broke a rule.
    Violated(Violation),
}

impl Told {
    /// The error of a chunk that should have had `wanted` slots.
    pub(super) fn refused(error: ChunkError, wanted: usize) -> Self {
        match error {
            ChunkError::TooFew {
                wanted: said,
                available,
            } => {
                assert_eq!(said, wanted);
                let available = Some(available);
                Self::Refused { available }
            }
            ChunkError::Violation(violation) => Self::Violated(violation),
        }
    }
}

/// A call that was made.
#[derive(Debug)]
pub(super) struct Call<T> {
    pub(super) told: Told,
    /// What was written, or returned, in order.
    pub(super) values: Vec<T>,
    /// How many elements behind them were passed over.
    pub(super) skipped: usize,
}

/// A handle under attack.
pub(super) trait Handle<T> {
    /// Makes a call; a producer writes of these values.
    fn call(&mut self, plan: Plan, values: &[T]) -> Call<T>;
    /// Returns its position.
    fn position(&self) -> u64;
    /// Returns what the peer did to make it refuse all further work.
    fn violation(&self) -> Option<Violation>;
}

/// Both handles of a ring, by its module.
macro_rules! handles {
    ($module:ident) => {
        impl<T: Plain + PartialEq + Debug, M: Memory<T>> Handle<T> for $module::Producer<T, M> {
            fn call(&mut self, plan: Plan, values: &[T]) -> Call<T> {
                let Plan { kind, wanted, part } = plan;
                let mut written = 0;
                let told = match kind {
                    Kind::One => match self.push(values[0]) {
                        Ok(()) => {
                            written = 1;
                            Told::Moved(1)
                        }
                        Err(PushError::Full(back)) => {
                            assert_eq!(back, values[0]);
                            Told::Refused { available: None }
                        }
                        Err(PushError::Violation(back, violation)) => {
                            assert_eq!(back, values[0]);
                            Told::Violated(violation)
                        }
                    },
                    Kind::Slice | Kind::Into => match self.push_slice(&values[..wanted]) {
                        Ok(moved) => {
                            written = moved;
                            Told::Moved(moved)
                        }
                        Err(violation) => Told::Violated(violation),
                    },
                    Kind::Chunk | Kind::Half | Kind::Forgotten => match self.reserve(wanted) {
                        Ok(mut chunk) => {
                            assert_eq!(chunk.len(), wanted);
                            // An aborted element stays in its slot, unpublished.
                            written = chunk.fill(values.iter().copied().take(part));
                            assert_eq!(written, part);
                            let committed = if kind == Kind::Half { part / 2 } else { part };
                            chunk.commit(committed);
                            Told::Moved(committed)
                        }
                        Err(error) => Told::refused(error, wanted),
                    },
                    Kind::Slots => Told::Slots(self.slots()),
                    Kind::Any => Told::Any(!self.is_full()),
                };
                Call {
                    told,
                    values: values[..written].to_vec(),
                    skipped: 0,
                }
            }

            fn position(&self) -> u64 {
                self.position()
            }

            fn violation(&self) -> Option<Violation> {
                self.violation()
            }
        }

        impl<T: Plain + PartialEq + Debug, M: Memory<T>> Handle<T> for $module::Consumer<T, M> {
            fn call(&mut self, plan: Plan, _values: &[T]) -> Call<T> {
                let Plan { kind, wanted, part } = plan;
                let mut values = Vec::new();
                let mut skipped = 0;
                let told = match kind {
                    Kind::One => match self.pop() {
                        Ok(value) => {
                            values.push(value);
                            Told::Moved(1)
                        }
                        Err(PopError::Empty) => Told::Refused { available: None },
                        Err(PopError::Violation(violation)) => Told::Violated(violation),
                    },
                    Kind::Slice => {
                        values = vec![T::new_zeroed(); wanted];
                        let popped = self.pop_slice(&mut values);
                        values.truncate(popped.unwrap_or(0));
                        popped.map_or_else(Told::Violated, Told::Moved)
                    }
                    Kind::Into => {
                        let popped = self.pop_into(&mut values, wanted);
                        assert_eq!(values.len(), popped.unwrap_or(0));
                        popped.map_or_else(Told::Violated, Told::Moved)
                    }
                    Kind::Chunk | Kind::Half | Kind::Forgotten => match self.read_chunk(wanted) {
                        Ok(mut chunk) => {
                            assert_eq!(chunk.len(), wanted);
                            values.extend(chunk.by_ref().take(part));
                            if kind == Kind::Forgotten {
                                std::mem::forget(chunk);
                            } else {
                                skipped = if kind == Kind::Half {
                                    (wanted - part) / 2
                                } else {
                                    0
                                };
                                chunk.commit(skipped);
                            }
                            Told::Moved(part + skipped)
                        }
                        Err(error) => Told::refused(error, wanted),
                    },
                    Kind::Slots => Told::Slots(self.slots()),
                    Kind::Any => Told::Any(!self.is_empty()),
                };
                Call {
                    told,
                    values,
                    skipped,
                }
            }

            fn position(&self) -> u64 {
                self.position()
            }

            fn violation(&self) -> Option<Violation> {
                self.violation()
            }
        }
    };
}

handles!(index);
handles!(packed);

/// Makes so many calls; once one has found the ring poisoned, no more than are enough
/// to see every call return the violation.
pub(super) fn make(calls: usize, mut is_poisoned_after: impl FnMut() -> bool) {
    let (mut left, mut was_poisoned) = (calls, false);
    while left > 0 {
        left -= 1;
        if is_poisoned_after() && !was_poisoned {
            was_poisoned = true;
            left = left.min(20);
        }
    }
}

/// Draws an element.
pub(super) fn element<T: Plain>(random: &mut Random) -> T {
    let mut bytes = vec![0; size_of::<T>()];
    random.fill(&mut bytes);
    T::read_from_bytes(&bytes).expect("as long as T")
}
