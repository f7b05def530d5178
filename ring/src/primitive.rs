//! The only file that names core's atomics, `UnsafeCell`, the allocator or
//! loom. Every other module takes them from here, so the code that loom
//! explores is the code that ships.
//!
//! [`Slot`] is storage for one element. Where core and loom differ, core is
//! wrapped to look like loom: access goes through closures, so that loom sees
//! when it begins and ends.

pub(crate) use imp::{
    AtomicU8, AtomicU16, AtomicU32, AtomicU64, Slot, alloc, compiler_fence, dealloc, fence,
};

pub(crate) use core::sync::atomic::Ordering;

/// Executes a full barrier of strength `order`; a relaxed one is none, which
/// only a mutant asks for.
#[inline(always)]
pub(crate) fn barrier(order: Ordering) {
    if !matches!(order, Ordering::Relaxed) {
        fence(order);
    }
}

#[cfg(all(feature = "fail-points", not(loom)))]
pub(crate) use core::sync::atomic::AtomicPtr;

#[cfg(not(loom))]
mod imp {
    pub(crate) use alloc::alloc::dealloc;
    pub(crate) use core::sync::atomic::{
        AtomicU8, AtomicU16, AtomicU32, AtomicU64, compiler_fence, fence,
    };

    use core::alloc::Layout;
    use core::cell::UnsafeCell;
    use core::mem::MaybeUninit;

    /// Allocates `layout`, null when there is no memory.
    ///
    /// # Safety
    ///
    /// 1. `layout` has a size above zero.
    pub(crate) unsafe fn alloc(layout: Layout) -> *mut u8 {
        // SAFETY: obligation 1 is the caller's.
        unsafe { alloc::alloc::alloc(layout) }
    }

    /// Storage for one element, initialised or not.
    #[repr(transparent)]
    #[derive(Debug)]
    pub(crate) struct Slot<T>(UnsafeCell<MaybeUninit<T>>);

    impl<T> Slot<T> {
        /// Returns an uninitialised slot.
        pub(crate) fn new() -> Self {
            Self(UnsafeCell::new(MaybeUninit::uninit()))
        }

        /// Calls `f` with a pointer for reading.
        #[inline(always)]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get().cast())
        }

        /// Calls `f` with a pointer for writing.
        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get().cast())
        }
    }
}

#[cfg(loom)]
mod imp {
    pub(crate) use core::sync::atomic::compiler_fence;
    pub(crate) use loom::alloc::dealloc;
    pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence};

    use core::alloc::Layout;
    use core::mem::MaybeUninit;
    use loom::cell::UnsafeCell;

    /// Allocates `layout`; loom reports it when it is never freed.
    ///
    /// # Safety
    ///
    /// 1. `layout` has a size above zero.
    pub(crate) unsafe fn alloc(layout: Layout) -> *mut u8 {
        // SAFETY: obligation 1 is the caller's.
        unsafe { loom::alloc::alloc(layout) }
    }

    /// Storage for one element, watched by loom for concurrent access.
    #[derive(Debug)]
    pub(crate) struct Slot<T>(UnsafeCell<MaybeUninit<T>>);

    impl<T> Slot<T> {
        /// Returns an uninitialised slot, registered with the running model.
        pub(crate) fn new() -> Self {
            Self(UnsafeCell::new(MaybeUninit::uninit()))
        }

        /// Calls `f` with a pointer for reading.
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            self.0.with(|slot| f(slot.cast()))
        }

        /// Calls `f` with a pointer for writing.
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            self.0.with_mut(|slot| f(slot.cast()))
        }
    }
}
