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
