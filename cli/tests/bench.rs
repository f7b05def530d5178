//! `memenpsf bench` as a user runs it, with as few messages as there can be.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memenpsf"));
    command.arg("bench").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn run_measures_everything_and_its_json_becomes_table_and_picture() {
    let cores = std::thread::available_parallelism().unwrap().get();
    if cores < 2 {
        println!("skipped: memenpsf bench: one core only");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let [json, svg] = ["bench.json", "bench.svg"].map(|name| directory.path().join(name));
    let output = bench(&["--smoke", "--json"]);
    assert_eq!(text(&output.stderr), "");
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    for group in [
        "limits",
        "limit_rates",
        "round_trips",
        "asleep",
        "messages",
        "rings",
        "ring_trips",
    ] {
        assert!(rows.iter().any(|row| row["group"] == group), "{group}");
    }
    for row in rows {
        // One sample each: counted, or dropped because the machine was disturbed.
        let samples = [&row["samples"], &row["dropped"]].map(|n| n.as_u64().unwrap());
        assert_eq!(samples.iter().sum::<u64>(), 1, "{row}");
        assert_eq!(row["value"].is_null(), samples[0] == 0, "{row}");
    }

    fs::write(&json, &output.stdout).unwrap();
    let paths = [&json, &svg].map(|path| path.to_str().unwrap());
    let output = bench(&["--from", paths[0], "--plot", paths[1]]);
    assert!(output.status.success());
    let table = text(&output.stdout);
    for words in ["ping-pong on one line", "unix seqpacket", "packed ring"] {
        assert!(table.contains(words), "{words} in\n{table}");
    }
    let picture = fs::read_to_string(&svg).unwrap();
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    assert!(!picture.contains("NaN") && !picture.contains("inf"));
}

#[test]
fn failures_are_one_line() {
    for (arguments, words) in [
        (&["--from", "no such file"][..], "no such file"),
        (&["--quick", "--from", "x"], "cannot be used with"),
        (&["--fast"], "--fast"),
    ] {
        let output = bench(arguments);
        assert!(!output.status.success());
        assert_eq!(text(&output.stdout), "");
        let line = text(&output.stderr);
        assert!(line.contains(words) && line.lines().count() == 1, "{line}");
    }
}
