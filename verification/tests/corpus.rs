//! The fuzz targets' bodies over the corpus that is in the repository, so that
//! what a fuzzer once found is run by every `cargo test`; and that a fault in what a
//! body drives would be found by the same files.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    reason = "an expectation that does not hold is a failed test"
)]

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use memenpsf_verification::fuzz::{Subject, TARGETS, Target};

/// Where the targets are, and what was found by them.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// Returns the files of a target's corpus, with their names; not what a fuzzer has left
/// there and nobody has committed.
fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder().join("corpus").join(target.name)).unwrap();
    files
        .map(Result::unwrap)
        .filter(|file| file.file_name().to_string_lossy().starts_with("seed-"))
        .map(|file| (file.path(), fs::read(file.path()).unwrap()))
        .collect()
}

#[test]
fn what_ships_passes_over_the_corpus() {
    let mut ran = 0;
    for target in TARGETS {
        let files = corpus(target);
        assert!(
            files.len() >= 3,
            "{}: its corpus is in the repository",
            target.name
        );
        for (path, bytes) in files {
            println!("{}", path.display());
            (target.run)(&bytes, Subject::Shipped);
            ran += 1;
        }
    }
    println!(
        "evidence: {ran} inputs, {} fuzz targets' corpora",
        TARGETS.len()
    );
}

#[test]
fn a_fault_in_what_is_driven_is_found_by_the_corpus() {
    let is_found = |target: &Target| {
        let fails = |bytes: Vec<u8>| {
            let run = AssertUnwindSafe(|| (target.run)(&bytes, Subject::Faulty));
            panic::catch_unwind(run).is_err()
        };
        corpus(target).into_iter().any(|(_, bytes)| fails(bytes))
    };
    let all = TARGETS.iter();
    let missed: Vec<_> = all.filter(|target| !is_found(target)).collect();
    println!(
        "evidence: {} of {} fuzz targets' faults found by their corpora",
        TARGETS.len() - missed.len(),
        TARGETS.len()
    );
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn each_body_is_a_target() {
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    let mut listed: Vec<_> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/"))
        .filter_map(|line| line.strip_suffix(".rs\""))
        .collect();
    listed.sort_unstable();
    let bodies: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(listed, bodies);
}
