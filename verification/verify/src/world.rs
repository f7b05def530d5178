//! The worlds: builds with flags of their own, with a target directory that none
//! rebuilds for another. The sanitizers share one: what runs while they are built is
//! the same, and the rest cargo keeps apart by its flags.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The only target that the sanitizers are run for.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// How a step's code is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    /// As a user builds it.
    Plain,
    /// The model checker's.
    Loom,
    /// With a sanitizer built in, by the nightly compiler.
    Sanitized(Sanitizer),
}

/// What watches a program while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sanitizer {
    /// Accesses out of bounds and after free; leaks.
    Address,
    /// Decisions that depend on what nobody wrote.
    Memory,
    /// Accesses that nothing orders.
    Thread,
}

impl Sanitizer {
    fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Memory => "memory",
            Self::Thread => "thread",
        }
    }
}

impl World {
    /// Returns what the world adds to the environment of a command, for the
    /// workspace at `root`.
    pub(crate) fn variables(self, root: &Path) -> Vec<(&'static str, OsString)> {
        match self {
            Self::Plain => vec![],
            Self::Loom => vec![
                ("RUSTFLAGS", "--cfg loom".into()),
                ("CARGO_TARGET_DIR", target(root).join("loom").into()),
            ],
            Self::Sanitized(sanitizer) => sanitized(sanitizer, root),
        }
    }

    /// Returns what the world cannot do without and does not have, and what helps.
    pub(crate) fn missing(self, root: &Path) -> Option<&'static str> {
        // It would take all that a library without it has written for unwritten.
        let needs_sources = self == Self::Sanitized(Sanitizer::Memory);
        (needs_sources && matches!(StandardLibrary::found(root), StandardLibrary::Prebuilt))
            .then_some(SOURCES)
    }
}

/// What MemorySanitizer needs.
const SOURCES: &str = "the standard library's sources, for MemorySanitizer: \
                       verification/tools/debian.sh rust-src sid rust-src";

fn sanitized(sanitizer: Sanitizer, root: &Path) -> Vec<(&'static str, OsString)> {
    let name = sanitizer.name();
    let mut flags = format!("-Zsanitizer={name}");
    let mut variables: Vec<(&str, OsString)> = Vec::new();
    match StandardLibrary::found(root) {
        StandardLibrary::Component => {
            variables.push(("CARGO_UNSTABLE_BUILD_STD", "std".into()));
        }
        StandardLibrary::Folder(sources) => {
            variables.push(("CARGO_UNSTABLE_BUILD_STD", "std".into()));
            variables.push(("__CARGO_TESTS_ONLY_SRC_ROOT", sources.into()));
        }
        StandardLibrary::Prebuilt => {
            flags += " -Cunsafe-allow-abi-mismatch=sanitizer";
        }
    }
    match sanitizer {
        // Rings that are too large are refused by the allocator, and a store to a
        // page that is read-only is the test's own.
        Sanitizer::Address => {
            let options = "allocator_may_return_null=1:handle_segv=0";
            variables.push(("ASAN_OPTIONS", options.into()));
        }
        Sanitizer::Memory => {
            let options = "allocator_may_return_null=1:handle_segv=0";
            variables.push(("MSAN_OPTIONS", options.into()));
        }
        Sanitizer::Thread => {
            let list = root.join("verification/tsan-suppressions.txt");
            let mut options = OsString::from("halt_on_error=1:suppressions=");
            options.push(list);
            variables.push(("TSAN_OPTIONS", options));
        }
    }
    variables.extend([
        ("RUSTUP_TOOLCHAIN", "nightly".into()),
        ("CARGO_BUILD_TARGET", TARGET.into()),
        ("CARGO_TARGET_DIR", target(root).join("sanitize").into()),
        ("RUSTFLAGS", flags.into()),
    ]);
    variables
}

/// Where the sources of nightly's standard library are, so that it can be built
/// with a sanitizer, too.
enum StandardLibrary {
    /// In the toolchain, by `rustup component add rust-src`.
    Component,
    /// In a folder, by `verification/tools/debian.sh`.
    Folder(PathBuf),
    /// Nowhere: the one that comes compiled has to do.
    Prebuilt,
}

impl StandardLibrary {
    fn found(root: &Path) -> Self {
        let sysroot = Command::new("rustc")
            .args(["--print", "sysroot"])
            .env("RUSTUP_TOOLCHAIN", "nightly")
            .output();
        let sysroot = sysroot.map_or(String::new(), |output| {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        });
        let component = Path::new(&sysroot).join("lib/rustlib/src/rust/library/std");
        if component.is_dir() {
            return Self::Component;
        }
        let fetched = target(root).join("tools/rust-src/usr/src");
        fs::read_dir(fetched)
            .into_iter()
            .flatten()
            .flatten()
            .map(|version| version.path().join("library"))
            .find(|library| library.join("std").is_dir())
            .map_or(Self::Prebuilt, Self::Folder)
    }
}

/// Returns the workspace's target directory.
pub(crate) fn target(root: &Path) -> PathBuf {
    root.join("target")
}

/// Returns the root of the workspace, which is two folders above this package.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap_or(Path::new("."))
        .to_path_buf()
}
