//! Sets two cfgs.
//!
//! `loom_build`: `RUSTFLAGS="--cfg loom"` reaches rustc but not rustdoc, so `cargo
//! test` would run the doctests against a library whose atomics live only inside a
//! model. A cfg from a build script reaches both, and lib.rs uses it to offer
//! rustdoc no doctests in that world.
//!
//! `copy_by_assembly`: copies out of a peer's memory are assembly, where the
//! processor has it and no tool has to see each access.

use std::env::{var, var_os};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(loom_build)");
    println!("cargo::rustc-check-cfg=cfg(copy_by_assembly)");
    let loom = var_os("CARGO_CFG_LOOM").is_some();
    if loom {
        println!("cargo::rustc-cfg=loom_build");
    }
    // `sanitize` is a cfg of nightly, as the sanitizers are.
    let watched = ["CARGO_CFG_MIRI", "CARGO_CFG_SANITIZE"];
    let watched = loom || watched.iter().any(|tool| var_os(tool).is_some());
    if !watched && var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        println!("cargo::rustc-cfg=copy_by_assembly");
    }
}
