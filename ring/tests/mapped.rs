//! The index ring over mappings that are read-only for the peer: see the suite; and
//! the control for both rings.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

#[path = "suite/mapped.rs"]
mod suite;
mod support;

use std::ffi::c_int;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use memenpsf_ring::memory::CONSUMER_BLOCK;
use support::index as subject;
use support::region::Region;

/// Elements of more than 64 bytes are not moved by words. Three at a time in a ring of
/// four: slices begin at every slot, and wrap.
#[test]
fn large_elements_arrive_one_by_one_and_in_slices() {
    suite::with_ring::<[u64; 40]>(4, |mut producer, mut consumer| {
        let element = |n: u64| std::array::from_fn(|at| n * 100 + at as u64);
        for n in (0..30).step_by(3) {
            let pair = [element(n + 1), element(n + 2)];
            producer.push(element(n)).unwrap();
            assert_eq!(producer.push_slice(&pair), Ok(2));
            assert_eq!(consumer.pop(), Ok(element(n)));
            if n % 2 == 0 {
                let mut values = [[0; 40]; 2];
                assert_eq!(consumer.pop_slice(&mut values), Ok(2));
                assert_eq!(values, pair);
            } else {
                let mut values = vec![];
                assert_eq!(consumer.pop_into(&mut values, 9), Ok(2));
                assert_eq!(values, pair);
            }
        }
    });
}

/// The control of the tests of the suite: the mapping does stop a store.
#[test]
fn a_store_to_the_peers_region_is_a_fault() {
    const CHILD: &str = "MEMENPSF_STORE_TO_PEER";
    if std::env::var_os(CHILD).is_some() {
        let region = Region::new(CONSUMER_BLOCK);
        // SAFETY: it is not: the kernel ends this process here.
        unsafe { region.peer().write_volatile(1) };
        return;
    }
    let test = "a_store_to_the_peers_region_is_a_fault";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let segv: c_int = nix::sys::signal::Signal::SIGSEGV as c_int;
    assert_eq!(child.status.signal(), Some(segv), "{child:?}");
}
