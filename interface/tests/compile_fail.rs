//! What the compiler says to who picks a type that cannot be a message.
//!
//! The doctests of `Interface` show that such types do not compile. This shows
//! that the message helps, and nothing but the parts that are ours, because the
//! rest changes with the compiler.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::process::{Command, Stdio};

const STRUCT: &str = "for a struct: `#[repr(C)]`, fields of integers";
const NUMBER: &str = "for `bool`, `char` and enums: send an integer";
const ARRAY: &str = "for `&[u8]`, `Vec<u8>`, `String`: send a fixed-size array";

/// A program, the type that its message names (none: it compiles), and the
/// advice that the message must hold.
const PROGRAMS: &[(&str, &str, &str, &str)] = &[
    ("plain", "memenpsf::Interface<[u8; 13]>", "", ""),
    (
        "slice",
        "memenpsf::Interface<&'static [u8]>",
        "&'static [u8]",
        ARRAY,
    ),
    ("text", "memenpsf::Interface<String>", "String", ARRAY),
    ("vector", "memenpsf::Interface<Vec<u8>>", "Vec<u8>", ARRAY),
    ("boolean", "memenpsf::Interface<bool>", "bool", NUMBER),
    ("character", "memenpsf::Interface<char>", "char", NUMBER),
    ("choice", "memenpsf::Interface<Choice>", "Choice", NUMBER),
    ("padded", "memenpsf::Interface<Padded>", "Padded", STRUCT),
    // As an argument of a constructor, where inference is under way.
    ("constructor", "", "&[u8]", ARRAY),
];

const TYPES: &str = "
    #[derive(Clone, Copy)] #[repr(u8)] pub enum Choice { This, That }
    #[derive(Clone, Copy)] #[repr(C)] pub struct Padded { pub tag: u8, pub value: u32 }
";

const CONSTRUCTOR: &str = r#"
    pub fn f(stream: std::os::unix::net::UnixStream) {
        let _ = memenpsf::Interface::<&[u8]>::new("name", 8, stream, 0);
    }
    fn main() {}
"#;

/// Writes a package with these programs, which depends on this crate as a user's
/// would, at the versions that this workspace has locked.
fn write_package(folder: &Path) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = format!(
        "[package]\nname = \"misuse\"\nedition = \"2024\"\n\
         [dependencies]\nmemenpsf = {{ path = {here:?} }}\n[workspace]\n"
    );
    std::fs::create_dir(folder.join("src")).unwrap();
    std::fs::create_dir(folder.join("src/bin")).unwrap();
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::copy(here.join("../Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    for (name, wrong, ..) in PROGRAMS {
        let text = if wrong.is_empty() {
            CONSTRUCTOR.to_owned()
        } else {
            format!("{TYPES}pub fn f(_: {wrong}) {{}}\nfn main() {{}}\n")
        };
        std::fs::write(folder.join(format!("src/bin/{name}.rs")), text).unwrap();
    }
}

#[test]
fn message_for_a_wrong_type_says_what_to_do_instead() {
    let folder = tempfile::tempdir().unwrap();
    write_package(folder.path());
    for (program, _, named, advice) in PROGRAMS {
        let output = Command::new(env!("CARGO"))
            .args([
                "check",
                "--offline",
                "--quiet",
                "--color=never",
                "--bin",
                program,
            ])
            .current_dir(folder.path())
            // Cargo keeps it from one run to the next, as it does its own results.
            .env(
                "CARGO_TARGET_DIR",
                concat!(env!("CARGO_TARGET_TMPDIR"), "/misuse"),
            )
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        // Without this the others might fail for any reason.
        if named.is_empty() {
            assert!(output.status.success(), "{program}: {message}");
            continue;
        }
        assert!(!output.status.success(), "{program} compiles");
        let headline =
            format!("error[E0277]: `{named}` cannot live in shared memory: it is not plain data");
        assert!(message.starts_with(&headline), "{program}: {message}");
        assert!(message.contains(advice), "{program}: {message}");
        // zerocopy's own advice, to derive `FromBytes` for `&[u8]`, only misleads.
        assert!(!message.contains("Consider adding"), "{program}: {message}");
    }
}
