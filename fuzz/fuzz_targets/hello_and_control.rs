//! Handshake and control frames that a peer makes up, whole and in pieces.
//! The body is `memenpsf_verification::fuzz::hello_and_control`, which `cargo test` runs over
//! the corpus, too.
//!
//! `cargo +nightly fuzz run hello_and_control -- -max_total_time=20`

#![no_main]

use libfuzzer_sys::fuzz_target;
use memenpsf_verification::fuzz::{Subject, hello_and_control};

fuzz_target!(|bytes: &[u8]| hello_and_control::run(bytes, Subject::Shipped));
