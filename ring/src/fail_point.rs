//! Named places in the code at which a test can make its own process die.
//!
//! Only the feature `fail-points` has them, which no crate of this project switches
//! on but for its tests. Without it [`reach`] is empty and inlined, so the code
//! that ships has neither the places nor their names. With it, nothing happens
//! until the process itself has called `install`: no variable of the environment
//! and no file does.
//!
//! | place | reached by | when |
//! |---|---|---|
//! | `push: begin` | producer | before it looks for room |
//! | `slot: first word`, `slot: middle word`, `slot: last word` | producer | after that word of an element was written |
//! | `push: written` | producer | after the whole message, before the ordering of the publication |
//! | `tail: before`, `tail: after` | producer | around the store that commits |
//! | `wake: fenced` | either | after the barrier, before the peer's waiting word is read |
//! | `head: before`, `head: after` | consumer | around the store that vacates |
//! | `sleep: before`, `sleep: after` | either | around the store of the own waiting word |
//!
//! The commit of a packed line and of a record count as the tail's store: it is
//! their only commit too. Only an element of up to 64 bytes that is pushed by itself
//! has words.

#[cfg(all(feature = "fail-points", not(loom)))]
mod imp {
    use crate::primitive::{AtomicPtr, Ordering};
    use core::ptr;

    /// What is called with the name of each place.
    pub type Hook = fn(&'static str);

    static HOOK: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

    /// Has `hook` called at each place, with its name, in every thread.
    pub fn install(hook: Hook) {
        // Release: the hook's statics are ready where it is found.
        HOOK.store(hook as *mut (), Ordering::Release);
    }

    /// Tells the hook that `place` is reached.
    #[inline]
    pub fn reach(place: &'static str) {
        // Acquire: as in `install`.
        let hook = HOOK.load(Ordering::Acquire);
        if !hook.is_null() {
            // SAFETY: only `install` stores anything else than null, and that a `Hook`.
            let hook = unsafe { core::mem::transmute::<*mut (), Hook>(hook) };
            hook(place);
        }
    }
}

#[cfg(all(feature = "fail-points", not(loom)))]
pub use imp::{Hook, install, reach};

/// Does nothing: the feature `fail-points` is off.
#[cfg(not(all(feature = "fail-points", not(loom))))]
#[inline(always)]
pub(crate) fn reach(_place: &'static str) {}

/// Tells that word `index` of `count` of an element was written.
#[inline(always)]
pub(crate) fn word_written(index: usize, count: usize) {
    if cfg!(all(feature = "fail-points", not(loom))) {
        if index == 0 {
            reach("slot: first word");
        }
        if index == count / 2 {
            reach("slot: middle word");
        }
        if index + 1 == count {
            reach("slot: last word");
        }
    }
}
