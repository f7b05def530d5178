//! Cells of a kill matrix: one model or test with one defect, in a process of its
//! own, because a panic inside a model may abort it, and with a time limit, because
//! a defect may make it hang.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Names the cell that a child process is to run.
const CELL: &str = "MEMENPSF_CELL";
/// What a child prints when its model has passed.
const PASSED: &str = "the cell passed";
/// A cell takes seconds. One that takes this long hangs.
const WATCHDOG: Duration = Duration::from_secs(120);

/// What became of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was noticed.
    Passed,
    /// What noticed the defect.
    Killed(String),
}

/// In a child process, runs the cell that it was started for, and returns whether
/// this is one. Its parameters are those of [`run`].
pub fn is_child(cell: impl FnOnce(&str, &str)) -> bool {
    let Ok(name) = std::env::var(CELL) else {
        return false;
    };
    let (defect, model) = name.split_once('/').expect("a defect and a model");
    cell(defect, model);
    println!("{PASSED}");
    true
}

/// A child process that does not outlive its parent's interest.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the watchdog ran out.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs one cell: the test `test` of this executable, which asks [`is_child`], in a
/// child process.
///
/// # Panics
///
/// When the child hangs, or ends in another way than by passing or by a panic.
pub fn run(test: &str, defect: &str, model: &str) -> Verdict {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CELL, format!("{defect}/{model}"))
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Running(child);
    let mut stdout = child.0.stdout.take().unwrap();
    let mut stderr = child.0.stderr.take().unwrap();
    let (said, hears) = mpsc::channel();
    let errors = thread::spawn(move || {
        let mut errors = String::new();
        stderr.read_to_string(&mut errors).map(|_| errors)
    });
    thread::spawn(move || {
        let mut output = String::new();
        let end = stdout.read_to_string(&mut output).map(|_| output);
        // The other end is gone when the watchdog ran out.
        let _ = said.send(end);
    });
    let output = hears
        .recv_timeout(WATCHDOG)
        .unwrap_or_else(|_| panic!("{defect} in {model} hangs"))
        .unwrap();
    let status = child.0.wait().unwrap();
    let errors = errors.join().unwrap().unwrap();
    let passed = output.contains(PASSED);
    assert_eq!(passed, status.success(), "{output}{errors}");
    if passed {
        return Verdict::Passed;
    }
    assert!(
        errors.contains("panicked at"),
        "{defect} in {model}: {status}\n{output}{errors}"
    );
    // The message follows the line that says where.
    let mut lines = errors
        .lines()
        .skip_while(|line| !line.contains("panicked at"));
    Verdict::Killed(lines.nth(1).unwrap_or_default().trim().to_string())
}
