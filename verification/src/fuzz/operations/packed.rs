//! The packed ring for elements.rs: what is called otherwise in the other ring.

use std::mem::MaybeUninit;

use memenpsf_ring::memory::{Heap, Split};
use memenpsf_ring::ordering::Shipped;
use memenpsf_ring::packed::{self as ring, ReadChunk, WriteChunk};

#[path = "elements.rs"]
pub(super) mod elements;

/// Returns the slots of a chunk, to be filled in place.
fn uninit<'a, T>(
    chunk: &'a mut WriteChunk<'_, T, Heap<T>, Shipped>,
) -> impl Iterator<Item = &'a mut MaybeUninit<T>> {
    chunk.uninit_slices_mut().flatten()
}

/// The same for plain numbers, which are there already.
fn slots<'a>(
    chunk: &'a mut WriteChunk<'_, u64, Split<u64>, Shipped>,
) -> impl Iterator<Item = &'a mut u64> {
    chunk.slices_mut().flatten()
}

/// Returns the elements of a chunk where they lie.
fn lying<'a, T>(chunk: &'a ReadChunk<'_, T, Heap<T>, Shipped>) -> impl Iterator<Item = &'a T> {
    chunk.slices().flatten()
}
