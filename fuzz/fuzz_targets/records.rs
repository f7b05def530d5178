//! The consumer of a bytes ring whose storage is anything.
//! The body is `memenpsf_verification::fuzz::records`, which `cargo test` runs over
//! the corpus, too.
//!
//! `cargo +nightly fuzz run records -- -max_total_time=20`

#![no_main]

use libfuzzer_sys::fuzz_target;
use memenpsf_verification::fuzz::{Subject, records};

fuzz_target!(|bytes: &[u8]| records::run(bytes, Subject::Shipped));
