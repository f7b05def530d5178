//! Files offered as regions, and rings over one that its owner rewrites.
//! The body is `memenpsf_verification::fuzz::hostile_region`, which `cargo test` runs over
//! the corpus, too.
//!
//! `cargo +nightly fuzz run hostile_region -- -max_total_time=20`

#![no_main]

use libfuzzer_sys::fuzz_target;
use memenpsf_verification::fuzz::{Subject, hostile_region};

fuzz_target!(|bytes: &[u8]| hostile_region::run(bytes, Subject::Shipped));
