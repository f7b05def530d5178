//! Blocks of memory that stand for the regions of two processes.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use memenpsf_ring::memory::LINE_PAIR;

/// A zeroed block, aligned as a region is.
#[derive(Debug)]
pub(crate) struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

impl Block {
    /// Allocates `size` bytes, which is above zero.
    pub(crate) fn new(size: usize) -> Self {
        assert!(size > 0);
        let layout = Layout::from_size_align(size, LINE_PAIR).unwrap();
        // SAFETY: the size is above zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout);
        };
        Self { start, layout }
    }

    /// Returns the first byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `new` made it with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
