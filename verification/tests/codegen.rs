//! What the compiler makes of push and pop: one load that acquires and one store
//! that releases, and nothing else that other processors could notice.
//!
//! `cargo test -p memenpsf-verification --test codegen -- --ignored --nocapture`

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Every atomic access and fence of an operation on the heap, in order: the peer's
/// position, refreshed only now and then, and the publication.
const HEAP: [&str; 2] = ["load acquire", "store release"];
/// Over regions an acquire load is a relaxed one and a fence, and the element is a
/// relaxed word.
const SPLIT_PUSH: [&str; 4] = [
    "load monotonic",
    "fence acquire",
    "store monotonic",
    "store release",
];
const SPLIT_POP: [&str; 4] = [
    "load monotonic",
    "fence acquire",
    "load monotonic",
    "store release",
];

/// The functions of `examples/codegen.rs`, with what they are to do.
const PROBES: [(&str, &[&str]); 8] = [
    ("probe_index_heap_push", &HEAP),
    ("probe_index_heap_pop", &HEAP),
    ("probe_index_split_push", &SPLIT_PUSH),
    ("probe_index_split_pop", &SPLIT_POP),
    ("probe_packed_heap_push", &HEAP),
    ("probe_packed_heap_pop", &HEAP),
    ("probe_packed_split_push", &SPLIT_PUSH),
    ("probe_packed_split_pop", &SPLIT_POP),
];

/// The functions of a packed ring that are called once a line.
const ONCE_A_LINE: [&str; 2] = ["make_room", "find_element"];

/// Returns the atomic operations of `function` in LLVM's language, each with its
/// ordering, in the order of the text: those of what it calls once a line first.
fn atomics(text: &str, function: &str) -> Vec<String> {
    let name = format!("@{function}(");
    let body: Vec<&str> = text
        .lines()
        .skip_while(|line| !(line.starts_with("define") && line.contains(&name)))
        .take_while(|line| *line != "}")
        .collect();
    let called = body.iter().find_map(|line| {
        let (_, callee) = line.split_once(" call ")?.1.split_once('@')?;
        let (callee, _) = callee.split_once('(')?;
        let is_called = ONCE_A_LINE.iter().any(|name| callee.contains(name));
        is_called.then(|| atomics(text, callee))
    });
    let own = body.iter().filter_map(|line| {
        let words: Vec<&str> = line.split([' ', ',']).collect();
        let is_one = |word: &&&str| ["atomic", "fence", "cmpxchg", "atomicrmw"].contains(*word);
        words.iter().find(is_one)?;
        let kind = (words.iter())
            .find(|word| ["load", "store", "fence", "cmpxchg", "atomicrmw"].contains(*word))?;
        let orderings = ["monotonic", "acquire", "release", "acq_rel", "seq_cst"];
        let ordering = words.iter().find(|word| orderings.contains(*word))?;
        Some(format!("{kind} {ordering}"))
    });
    called.into_iter().flatten().chain(own).collect()
}

#[test]
#[ignore = "builds the rings with all optimisations: cargo verify static"]
fn push_and_pop_load_once_and_store_once() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("codegen");
    let output = folder.join("probes.ll");
    let status = Command::new(std::env::var_os("CARGO").expect("cargo runs the tests"))
        .args(["rustc", "--quiet", "--release", "--example=codegen"])
        .args(["--package=memenpsf-verification", "--"])
        .arg(format!("--emit=llvm-ir={}", output.display()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", &folder)
        // A sanitizer or counters would be seen in the code.
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo starts");
    assert!(status.success());
    let text = fs::read_to_string(&output).expect("what the compiler wrote");
    for (function, expected) in PROBES {
        assert_eq!(atomics(&text, function), expected, "{function}");
    }
    println!(
        "evidence: {0} of {0} functions have only the atomic accesses that they need",
        PROBES.len()
    );
    // The control: the check sees an ordering that is not there.
    assert_eq!(
        atomics(&text, "probe_weak_push"),
        ["load acquire", "store monotonic"]
    );
}
