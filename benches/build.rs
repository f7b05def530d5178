//! Tells rustdoc about the model checker's world, as ring/build.rs does: this
//! crate is empty there, and so are its doctests.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(loom_build)");
    if std::env::var_os("CARGO_CFG_LOOM").is_some() {
        println!("cargo::rustc-cfg=loom_build");
    }
}
