//! Operation sequences on each ring, compared step by step with a queue.
//! The body is `memenpsf_verification::fuzz::operations`, which `cargo test` runs over
//! the corpus, too.
//!
//! `cargo +nightly fuzz run ring_operations -- -max_total_time=20`

#![no_main]

use libfuzzer_sys::fuzz_target;
use memenpsf_verification::fuzz::{Subject, operations};

fuzz_target!(|bytes: &[u8]| operations::run(bytes, Subject::Shipped));
