//! Tells rustdoc about the model checker's world.
//!
//! `RUSTFLAGS="--cfg loom"` reaches rustc but not rustdoc, so `cargo test`
//! would run the doctests against a library whose atomics live only inside a
//! model. A cfg from a build script reaches both, and lib.rs uses it to offer
//! rustdoc no doctests in that world.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(loom_build)");
    if std::env::var_os("CARGO_CFG_LOOM").is_some() {
        println!("cargo::rustc-cfg=loom_build");
    }
}
