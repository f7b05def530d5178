//! Runs a test, and says how it ended.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::table::Test;

/// A test that takes longer than these seconds hangs; each takes a few.
const LIMIT: &str = "60";
/// The same for a build, the first of which builds all dependencies.
const BUILD_LIMIT: &str = "1800";

/// How a test ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No test has failed, and at least one has run.
    Green,
    /// These have, or the process of the tests has died so.
    Red(String),
    /// It was not done in time.
    Hangs,
    /// No test has this name.
    NoTest,
    /// With what the compiler says.
    DoesNotCompile(String),
}

impl Verdict {
    /// Tells whether a defect with this verdict was noticed.
    pub(crate) fn is_kill(&self) -> bool {
        matches!(self, Self::Red(_) | Self::Hangs)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Green => f.write_str("SURVIVED"),
            Self::Red(what) => write!(f, "killed by {what}"),
            Self::Hangs => write!(f, "killed: hangs for {LIMIT} s"),
            Self::NoTest => f.write_str("NO SUCH TEST"),
            Self::DoesNotCompile(words) => write!(f, "DOES NOT COMPILE: {words}"),
        }
    }
}

/// Runs tests of the workspace at `root`.
#[derive(Debug)]
pub(crate) struct Judge {
    root: PathBuf,
    target: PathBuf,
}

impl Judge {
    pub(crate) fn new(root: &Path, target: &Path) -> Self {
        Self {
            root: root.to_owned(),
            target: target.to_owned(),
        }
    }

    /// Builds and runs `test`.
    ///
    /// # Errors
    ///
    /// What the system says when a program cannot be started.
    pub(crate) fn run(&self, test: Test) -> io::Result<Verdict> {
        let built = self.cargo(BUILD_LIMIT, &test.build())?;
        if !built.status.success() {
            let words = String::from_utf8_lossy(&built.stderr);
            let first = words.lines().find(|line| line.starts_with("error"));
            return Ok(Verdict::DoesNotCompile(
                first.unwrap_or("no reason given").to_owned(),
            ));
        }
        let run = self.cargo(LIMIT, &test.run())?;
        Ok(of_output(
            run.status.code(),
            &String::from_utf8_lossy(&run.stdout),
            &String::from_utf8_lossy(&run.stderr),
        ))
    }

    fn cargo(&self, limit: &str, arguments: &[String]) -> io::Result<Output> {
        // A test that hangs goes with all that it has started.
        let mut command = of_workspace("timeout", &self.root, &self.target);
        command
            .args(["--kill-after=5", limit, "cargo"])
            .args(arguments)
            // What is built once for each run is not worth optimising; dependencies are.
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0");
        command.output()
    }
}

/// Returns the start of a command that builds the workspace at `root`.
pub(crate) fn of_workspace(program: &str, root: &Path, target: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(root)
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::null());
    // What `cargo run` says of this program is not for other packages' builds.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// Judges by how `timeout cargo test` has ended, and what it has said.
fn of_output(code: Option<i32>, output: &str, errors: &str) -> Verdict {
    // 124: the time was up; 137: and it had to be killed.
    if matches!(code, Some(124 | 137)) {
        return Verdict::Hangs;
    }
    if code == Some(0) {
        let ran = output
            .lines()
            .any(|line| line.starts_with("test result: ok. ") && !line.contains(". 0 passed"));
        return if ran { Verdict::Green } else { Verdict::NoTest };
    }
    // The harness's last list has their names.
    let (_, list) = output.rsplit_once("\nfailures:\n").unwrap_or_default();
    let failed: Vec<_> = list
        .lines()
        .map_while(|line| line.strip_prefix("    "))
        .collect();
    let signal = errors
        .split_once("(signal: ")
        .and_then(|(_, rest)| rest.split_once(')'))
        .map(|(signal, _)| format!("signal {signal}"));
    match (failed.is_empty(), signal) {
        (true, Some(signal)) => Verdict::Red(signal),
        (true, None) => Verdict::Red(format!("exit code {code:?}")),
        (false, _) => Verdict::Red(failed.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_the_harness_are_judged() {
        let green = "running 1 test\ntest a ... ok\n\ntest result: ok. 1 passed; 0 failed\n";
        assert_eq!(of_output(Some(0), green, ""), Verdict::Green);
        let none = "running 0 tests\n\ntest result: ok. 0 passed; 0 failed\n";
        assert_eq!(of_output(Some(0), none, ""), Verdict::NoTest);
        let red = "running 1 test\ntest a ... FAILED\n\nfailures:\n\n---- a stdout ----\n    \
                   indented\n\n\nfailures:\n    a\n\ntest result: FAILED. 0 passed; 1 failed\n";
        let judged = of_output(Some(101), red, "");
        assert_eq!(judged, Verdict::Red("a".to_owned()));
        assert!(judged.is_kill());
        let died = "running 1 test\n";
        let words = "process didn't exit successfully: `x` (signal: 11, SIGSEGV: invalid)\n";
        assert_eq!(
            of_output(Some(101), died, words),
            Verdict::Red("signal 11, SIGSEGV: invalid".to_owned())
        );
        assert_eq!(of_output(Some(124), died, ""), Verdict::Hangs);
        assert!(!Verdict::Green.is_kill() && !Verdict::DoesNotCompile(String::new()).is_kill());
    }
}
