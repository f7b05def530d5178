//! The Spin model of sleep and wake, wake.pml: nobody sleeps for ever, and each
//! variant without a step of the protocol has somebody who does.
//!
//! `cargo test -p memenpsf-verification --test spin -- --nocapture`

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

use std::path::Path;
use std::process::{Command, Output};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/wake.pml");

/// Tells whether a program is there.
fn is_there(program: &str, argument: &str) -> bool {
    Command::new(program)
        .arg(argument)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Runs a program, which must end well.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output: Output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}{errors}");
    said
}

/// Explores a variant under weak fairness, and returns the number of states and
/// whether everybody gets to the end.
fn explore(defines: &[&str]) -> (f64, bool) {
    let folder = tempfile::tempdir().unwrap();
    let flags: Vec<String> = defines.iter().map(|define| format!("-D{define}")).collect();
    let mut arguments = vec!["-a"];
    arguments.extend(flags.iter().map(String::as_str));
    arguments.push(MODEL);
    run(folder.path(), "spin", &arguments);
    run(
        folder.path(),
        "gcc",
        &["-O2", "-w", "-DNFAIR=4", "-o", "pan", "pan.c"],
    );
    let said = run(folder.path(), "./pan", &["-a", "-f", "-m1000000"]);
    // One that was cut short has not seen everything.
    assert!(!said.contains("max search depth too small"), "{said}");
    let states = said.lines().find(|line| line.contains("states, stored"));
    let states = states.unwrap_or_else(|| panic!("{defines:?}: {said}"));
    let states = states.split_whitespace().next().unwrap();
    let errors = said.lines().find(|line| line.contains("errors:")).unwrap();
    let lives = errors.trim_end().ends_with("errors: 0");
    // The only thing that may go wrong: no assertion, no invalid end.
    assert!(lives || said.contains("acceptance cycle"), "{said}");
    println!("{defines:?}: {states} states, everybody ends: {lives}");
    (states.parse().unwrap(), lives)
}

#[test]
fn nobody_sleeps_for_ever_unless_a_step_is_left_out() {
    if !is_there("spin", "-V") || !is_there("gcc", "--version") {
        println!("skipped: Spin: apt-get install spin gcc");
        return;
    }
    let mut states = 0.0;
    for capacity in ["CAPACITY=1", "CAPACITY=2"] {
        for mortal in [&["MESSAGES=4"][..], &["MESSAGES=3", "MORTAL"]] {
            let (stored, lives) = explore(&[&[capacity], mortal].concat());
            assert!(lives, "{capacity} {mortal:?}");
            states += stored;
        }
    }
    let variants = [
        "NO_WAKE_BARRIER",
        "NO_SLEEP_BARRIER",
        "NO_SECOND_LOOK",
        "LATE_ANNOUNCEMENT",
        "EARLY_QUESTION",
        "ONE_WAKE_UP_FOR_ALL",
    ];
    for variant in variants {
        let (_, lives) = explore(&[variant]);
        assert!(!lives, "{variant} must strand somebody");
    }
    let killed = variants.len();
    println!("evidence: {states} states, everybody ends");
    println!("evidence: {killed} of {killed} variants without a step strand somebody");
}
