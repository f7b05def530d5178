//! Rules about the product's source that no compiler checks: where atomics are
//! named, and where an ordering may stand.

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// What may stand only in the files named.
struct Rule {
    /// The texts, of which none may stand elsewhere.
    texts: &'static [&'static str],
    /// Each file needs it, or it does not belong here.
    only_in: &'static [&'static str],
}

const RULES: [Rule; 3] = [
    // What loom explores is what ships, because all else takes these from there.
    Rule {
        texts: &[
            "sync::atomic",
            "UnsafeCell",
            "loom::",
            "alloc::alloc",
            "alloc::dealloc",
        ],
        only_in: &["ring/src/primitive.rs"],
    },
    // An ordering that orders is a constant of the table, so that it has a mutant.
    Rule {
        texts: &[
            "Ordering::Release",
            "Ordering::Acquire",
            "Ordering::AcqRel",
            "Ordering::SeqCst",
        ],
        // A compiler fence of wake.rs is no ordering of the memory, and the hook of
        // fail_point.rs is no shared word.
        only_in: &[
            "ring/src/ordering.rs",
            "ring/src/wake.rs",
            "ring/src/fail_point.rs",
        ],
    },
    // Barriers belong to the wake-up, and to a load from a read-only page.
    Rule {
        texts: &["fence(", "barrier("],
        only_in: &[
            "ring/src/primitive.rs",
            "ring/src/wake.rs",
            "ring/src/memory/split.rs",
        ],
    },
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns all source files of the product, by their path below the root.
fn product() -> Vec<(String, String)> {
    let root = root();
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = ["ring", "fdpass", "interface", "cli"]
        .iter()
        .map(|folder| root.join(folder).join("src"))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the product") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).expect("a source file");
                let name = path.strip_prefix(&root).expect("below the root");
                files.push((name.display().to_string(), text));
            }
        }
    }
    files
}

/// Returns the lines of the product's code that hold one of `texts`: neither
/// comments nor unit tests.
fn lines_with<'a>(source: &'a str, texts: &[&str]) -> Vec<&'a str> {
    source
        .lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .filter(|line| !line.trim_start().starts_with("//"))
        .filter(|line| texts.iter().any(|text| names(line, text)))
        .collect()
}

/// Tells whether `text` stands in `line`, and not as the end of a longer name.
fn names(line: &str, text: &str) -> bool {
    line.match_indices(text).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    })
}

#[test]
fn atomics_and_orderings_stand_where_they_belong() {
    let files = product();
    for Rule { texts, only_in } in RULES {
        for (name, text) in &files {
            let lines = lines_with(text, texts);
            assert_eq!(
                only_in.contains(&name.as_str()),
                !lines.is_empty(),
                "{name} has {lines:?}, which only {only_in:?} may and must have"
            );
        }
    }
    println!(
        "evidence: {} source files keep {} rules",
        files.len(),
        RULES.len()
    );
}

/// The control: the rules see what they look for.
#[test]
fn stray_atomics_are_found_and_comments_are_not() {
    let stray = "use core::sync::atomic::AtomicU8;\n// sync::atomic\n    x.load(Ordering::Acquire);\n\
                 #[cfg(test)]\nuse std::cell::UnsafeCell;\n";
    assert_eq!(lines_with(stray, RULES[0].texts).len(), 1);
    assert_eq!(lines_with(stray, RULES[1].texts).len(), 1);
    assert_eq!(lines_with(stray, RULES[2].texts).len(), 0);
    let barriers = "    fence(order);\n    options.asymmetric_barrier(true);\n";
    assert_eq!(lines_with(barriers, RULES[2].texts), ["    fence(order);"]);
}
