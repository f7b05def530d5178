//! The handles of the two rings of elements behind one face, and what is sent.

use std::fmt::Debug;

use memenpsf_ring::memory::{Heap, Memory};
use memenpsf_ring::ordering::Orderings;
use memenpsf_ring::{ChunkError, Plain, PopError, PushError, index, packed};

/// What a model sends: each is told from all others.
pub trait Element: Plain + PartialEq + Debug {
    /// Makes the element of a number.
    fn of(number: u64) -> Self;
}

impl Element for u64 {
    fn of(number: u64) -> Self {
        number
    }
}

/// Equal words, so that a torn one shows.
impl<const W: usize> Element for [u64; W] {
    fn of(number: u64) -> Self {
        [number; W]
    }
}

/// The producer of either ring.
pub trait Push<T>: 'static {
    /// Pushes, or gives the element back.
    fn push(&mut self, element: T) -> Result<(), T>;
    /// Asks for the number of vacant slots.
    fn slots(&mut self) -> usize;
    /// Returns the position of the next push.
    fn position(&self) -> u64;
    /// Pushes as many as fit, and returns their number.
    fn push_slice(&mut self, elements: &[T]) -> usize
    where
        T: Copy;
    /// Fills a chunk of `elements.len()` slots and commits so many of them.
    fn fill_chunk(&mut self, elements: &[T], committed: usize) -> Result<(), ChunkError>
    where
        T: Copy;
    /// Pushes through a chunk of one slot.
    fn push_chunk(&mut self, element: T) -> Result<(), ChunkError>;
}

/// The consumer of either ring.
pub trait Pop<T>: 'static {
    /// Pops, if there is an element.
    fn pop(&mut self) -> Option<T>;
    /// Asks for the number of elements there are.
    fn slots(&mut self) -> usize;
    /// Returns the position of the next pop.
    fn position(&self) -> u64;
    /// Takes so many elements out of a chunk of all there are; the others stay.
    fn take_of_chunk(&mut self, count: usize) -> Vec<T>;
    /// Pops what is there into the front of `elements`, and returns the number.
    fn pop_slice(&mut self, elements: &mut [T]) -> usize
    where
        T: Copy;
    /// Pops up to so many.
    fn pop_into(&mut self, elements: &mut Vec<T>, max: usize);
}

/// A side of a ring on the heap, whose end the other sees.
pub trait Leave {
    /// Tells whether the other side has left.
    fn is_abandoned(&self) -> bool;
}

/// Both handles of a ring, by its module.
macro_rules! handles {
    ($module:ident) => {
        impl<T: 'static, M: Memory<T> + 'static, O: Orderings + 'static> Push<T>
            for $module::Producer<T, M, O>
        {
            fn push(&mut self, element: T) -> Result<(), T> {
                self.push(element).map_err(|error| match error {
                    PushError::Full(element) => element,
                    PushError::Violation(_, violation) => panic!("{violation}"),
                })
            }

            fn slots(&mut self) -> usize {
                self.slots()
            }

            fn position(&self) -> u64 {
                self.position()
            }

            fn push_slice(&mut self, elements: &[T]) -> usize
            where
                T: Copy,
            {
                self.push_slice(elements).unwrap()
            }

            fn fill_chunk(&mut self, elements: &[T], committed: usize) -> Result<(), ChunkError>
            where
                T: Copy,
            {
                let mut chunk = self.reserve(elements.len())?;
                assert_eq!(chunk.fill(elements.iter().copied()), elements.len());
                chunk.commit(committed);
                Ok(())
            }

            fn push_chunk(&mut self, element: T) -> Result<(), ChunkError> {
                let mut chunk = self.reserve(1)?;
                assert!(chunk.push(element).is_ok(), "it has a slot");
                chunk.commit_all();
                Ok(())
            }
        }

        impl<T: 'static, M: Memory<T> + 'static, O: Orderings + 'static> Pop<T>
            for $module::Consumer<T, M, O>
        {
            fn pop(&mut self) -> Option<T> {
                match self.pop() {
                    Ok(element) => Some(element),
                    Err(PopError::Empty) => None,
                    Err(PopError::Violation(violation)) => panic!("{violation}"),
                }
            }

            fn slots(&mut self) -> usize {
                self.slots()
            }

            fn position(&self) -> u64 {
                self.position()
            }

            fn take_of_chunk(&mut self, count: usize) -> Vec<T> {
                let there = self.slots();
                let mut chunk = self.read_chunk(there).unwrap();
                chunk.by_ref().take(count).collect()
            }

            fn pop_slice(&mut self, elements: &mut [T]) -> usize
            where
                T: Copy,
            {
                self.pop_slice(elements).unwrap()
            }

            fn pop_into(&mut self, elements: &mut Vec<T>, max: usize) {
                self.pop_into(elements, max).unwrap();
            }
        }

        impl<T: 'static, O: Orderings + 'static> Leave for $module::Producer<T, Heap<T>, O> {
            fn is_abandoned(&self) -> bool {
                self.is_abandoned()
            }
        }

        impl<T: 'static, O: Orderings + 'static> Leave for $module::Consumer<T, Heap<T>, O> {
            fn is_abandoned(&self) -> bool {
                self.is_abandoned()
            }
        }
    };
}

handles!(index);
handles!(packed);
