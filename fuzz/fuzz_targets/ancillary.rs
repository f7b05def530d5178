//! Each call that receives, against what a peer sends over a real socket.
//! The body is `memenpsf_verification::fuzz::ancillary`, which `cargo test` runs over
//! the corpus, too.
//!
//! `cargo +nightly fuzz run ancillary -- -max_total_time=20`

#![no_main]

use libfuzzer_sys::fuzz_target;
use memenpsf_verification::fuzz::{Subject, ancillary};

fuzz_target!(|bytes: &[u8]| ancillary::run(bytes, Subject::Shipped));
