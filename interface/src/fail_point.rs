//! Named places at which a test can make its own process die: those of the rings
//! (see the module of the same name there) and these. Empty without the feature
//! `fail-points`, which only the tests of this crate switch on.
//!
//! | place | when |
//! |---|---|
//! | `wake: due` | the peer has to be woken, before the wake byte is written |
//! | `wake: sent` | after it was written |
//! | `handshake: begin` | before anything is sent or made |
//! | `handshake: region made` | after the own region was made |
//! | `handshake: write`, `handshake: written` | around the writing of a frame |
//! | `handshake: read` | after bytes of a frame were read |
//! | `handshake: region received` | before the peer's region is looked at |
//! | `handshake: region open` | after it was mapped |
//! | `handshake: done` | before the connection is put together |

#[cfg(feature = "fail-points")]
pub use memenpsf_ring::fail_point::{Hook, install, reach};

/// Does nothing: the feature `fail-points` is off.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub(crate) fn reach(_place: &'static str) {}
