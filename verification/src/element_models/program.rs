//! What the two sides of a model do, and the record of it.

use memenpsf_ring::ChunkError;

use super::{Element, Pop, Push, Ring};

/// The first element's number; no slot's initial value.
pub(crate) const FIRST: u64 = 100;

/// What the two sides of a model do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// So many attempts a side, each of which asks for all that the other side has
    /// published.
    Asking(usize),
    /// So many attempts a side, which ask when they must.
    OneByOne(usize),
    /// Slices and chunks.
    Batches,
}

/// What one side did.
#[derive(Debug)]
pub(crate) struct Done<T> {
    /// Which position each attempt read from the other side.
    pub(crate) reads: Vec<Option<u64>>,
    /// Whether each attempt moved an element.
    pub(crate) moved: Vec<bool>,
    /// How many elements were pushed.
    pub(crate) pushed: u64,
    /// The elements popped.
    pub(crate) popped: Vec<T>,
}

impl<T> Default for Done<T> {
    fn default() -> Self {
        Self {
            reads: Vec::new(),
            moved: Vec::new(),
            pushed: 0,
            popped: Vec::new(),
        }
    }
}

impl<T: Element> Done<T> {
    /// Attempts to push the next element.
    pub(crate) fn push(&mut self, producer: &mut impl Push<T>) {
        let element = T::of(FIRST + self.pushed);
        let pushed = producer.push(element);
        assert!(pushed.is_ok() || pushed == Err(element));
        self.pushed += u64::from(pushed.is_ok());
        self.moved.push(pushed.is_ok());
    }

    /// Attempts to pop.
    pub(crate) fn pop(&mut self, consumer: &mut impl Pop<T>) {
        let popped = consumer.pop();
        self.popped.extend(popped);
        self.moved.push(popped.is_some());
    }
}

impl Program {
    /// The producer's side.
    pub(super) fn produce<R: Ring>(
        self,
        ring: R,
        producer: &mut impl Push<R::Element>,
    ) -> Done<R::Element> {
        let mut done = Done::default();
        match self {
            Self::Asking(attempts) => {
                for _ in 0..attempts {
                    let vacant = producer.slots();
                    let head = (producer.position())
                        .wrapping_sub(ring.start())
                        .wrapping_sub((ring.capacity() - vacant) as u64);
                    done.reads.push(Some(head));
                    if vacant > 0 {
                        done.push(producer);
                        assert_eq!(done.moved.last(), Some(&true), "there was room");
                    } else {
                        done.moved.push(false);
                    }
                }
            }
            Self::OneByOne(attempts) => (0..attempts).for_each(|_| done.push(producer)),
            Self::Batches => {
                let elements = |from, count| -> Vec<R::Element> {
                    (from..).map(Element::of).take(count).collect()
                };
                // A chunk of all slots, of which half are committed.
                let committed = ring.capacity().div_ceil(2);
                let filled = producer.fill_chunk(&elements(FIRST, ring.capacity()), committed);
                assert_eq!(filled, Ok(()), "the ring begins empty");
                done.pushed = committed as u64;
                // A slice of more than fits.
                let slice = elements(FIRST + done.pushed, ring.capacity() + 1);
                done.pushed += producer.push_slice(&slice) as u64;
                // A chunk of one, if there is room by now.
                match producer.push_chunk(Element::of(FIRST + done.pushed)) {
                    Ok(()) => done.pushed += 1,
                    Err(ChunkError::TooFew { available: 0, .. }) => (),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        done
    }

    /// The consumer's side.
    pub(super) fn consume<R: Ring>(
        self,
        ring: R,
        consumer: &mut impl Pop<R::Element>,
    ) -> Done<R::Element> {
        let mut done = Done::default();
        match self {
            Self::Asking(attempts) => {
                for _ in 0..attempts {
                    let there = consumer.slots();
                    let tail = (consumer.position())
                        .wrapping_sub(ring.start())
                        .wrapping_add(there as u64);
                    done.reads.push(Some(tail));
                    if there > 0 {
                        done.pop(consumer);
                        assert_eq!(done.moved.last(), Some(&true), "there was one");
                    } else {
                        done.moved.push(false);
                    }
                }
            }
            Self::OneByOne(attempts) => (0..attempts).for_each(|_| done.pop(consumer)),
            Self::Batches => {
                done.popped = consumer.take_of_chunk(1);
                let mut elements = [Element::of(0); 2];
                let count = consumer.pop_slice(&mut elements);
                done.popped.extend_from_slice(&elements[..count]);
                consumer.pop_into(&mut done.popped, 1);
            }
        }
        done
    }
}
