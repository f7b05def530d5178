//! `memenpsf demo` as a user runs it: what it prints, how it ends, and that it
//! leaves nothing behind however it ends.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A run that would not end before it is stopped.
const ENDLESS: [&str; 3] = ["demo", "--messages", "1000000000000"];

/// Clock ticks that a child has used when it is in the midst of the exchange:
/// connecting takes less than one.
const BUSY: u64 = 5;

fn memenpsf(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memenpsf"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    memenpsf(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Asserts that there is exactly one line and returns it.
#[track_caller]
fn one_line(bytes: &[u8]) -> &str {
    let text = text(bytes);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.ends_with('\n'), "{text}");
    text.trim_end()
}

#[track_caller]
fn number(value: &Value, name: &str) -> u64 {
    value[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} in {value}"))
}

/// Runs a demo with `--json` and asserts that it is flawless and complete.
#[track_caller]
fn assert_flawless(arguments: &[&str], messages: u64, clients: u64, size: u64) {
    let output = run(&[&["demo", "--json"], arguments].concat());
    assert_eq!(text(&output.stderr), "");
    assert!(output.status.success(), "{:?}", output.status);
    let report: Value = serde_json::from_str(one_line(&output.stdout)).unwrap();
    for name in ["lost", "duplicated", "out_of_order", "corrupt"] {
        assert_eq!(number(&report, name), 0, "{name}");
    }
    assert_eq!(number(&report, "clients"), clients);
    assert_eq!(number(&report, "size"), size);
    let rows = report["rows"].as_array().unwrap();
    let names: Vec<_> = rows
        .iter()
        .map(|row| row["transport"].as_str().unwrap())
        .collect();
    for name in ["shared memory", "pipe", "unix socket"] {
        assert_eq!(names.iter().filter(|&&other| other == name).count(), 1);
    }
    let mut sum = 0;
    for row in rows {
        // Both ways; and each round trip is two messages.
        sum += number(row, "messages") + 2 * number(row, "round_trips");
        if row["transport"]
            .as_str()
            .unwrap()
            .starts_with("shared memory")
        {
            assert_eq!(number(row, "messages"), 2 * messages * clients, "{row}");
        }
        for name in ["messages_per_s", "bytes_per_s"] {
            assert!(row[name].as_f64().unwrap() > 0.0, "{row}");
        }
        let trip = ["p50", "p99", "p999", "max"].map(|name| number(&row["rtt_ns"], name));
        assert!(trip[0] > 0 && trip.is_sorted(), "{row}");
    }
    assert_eq!(number(&report, "messages"), sum);
}

#[test]
fn small_run_counts_every_message() {
    assert_flawless(&["--messages", "3000"], 3000, 1, 64);
}

#[test]
fn run_of_one_message_is_complete() {
    assert_flawless(&["--messages", "1"], 1, 1, 64);
}

#[test]
fn sizes_at_the_ends_and_between_classes_work() {
    for size in ["16", "17", "1000", "65536"] {
        let arguments = ["--messages", "100", "--size", size];
        assert_flawless(&arguments, 100, 1, size.parse().unwrap());
    }
}

#[test]
fn many_clients_are_served_side_by_side() {
    assert_flawless(&["--messages", "300", "--clients", "5"], 300, 5, 64);
}

#[test]
fn table_names_every_transport_and_fits_a_terminal() {
    let output = run(&["demo", "--messages", "100"]);
    assert!(output.status.success());
    // No terminal, no progress bar.
    assert_eq!(text(&output.stderr), "");
    let table = text(&output.stdout);
    for words in [
        "shared memory",
        "pipe",
        "unix socket",
        "0 lost, 0 duplicated",
    ] {
        assert!(table.contains(words), "{words} in\n{table}");
    }
    for line in table.lines() {
        assert!(line.len() <= 80, "{line}");
    }
}

#[test]
fn wrong_arguments_end_in_one_line_that_says_what_is_allowed() {
    for (arguments, words) in [
        (&["--size", "0"][..], "from 16 to 65536"),
        (&["--size", "15"], "from 16 to 65536"),
        (&["--size", "65537"], "from 16 to 65536"),
        (&["--size", "many"], "from 16 to 65536"),
        (&["--size", "-64"], "from 16 to 65536"),
        (&["--size"], "--size"),
        (&["--clients", "0"], "from 1 to 64"),
        (&["--clients", "65"], "from 1 to 64"),
        (&["--clients", "99999999999999999999"], "from 1 to 64"),
        (&["--messages", "0"], "from 1 to"),
        (&["--messages", "1.5"], "from 1 to"),
        (&["--fast"], "--fast"),
        (&["now"], "now"),
    ] {
        let output = run(&[&["demo"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "");
        let line = one_line(&output.stderr);
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn unknown_command_is_refused_in_one_line() {
    let output = run(&["fly"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(one_line(&output.stderr).contains("fly"));
}

#[test]
fn help_has_examples_and_hides_the_children() {
    let output = run(&["demo", "--help"]);
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("Examples:"));
    let output = run(&["--help"]);
    assert!(!text(&output.stdout).contains("demo-server"));
}

#[test]
fn child_that_is_told_nonsense_fails_without_a_panic() {
    for arguments in [&["demo-server"][..], &["demo-client", "0"]] {
        let mut child = memenpsf(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"{}\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn reader_that_goes_away_is_no_error() {
    let mut child = memenpsf(&["demo", "--messages", "100"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "");
    assert!(output.status.success(), "{:?}", output.status);
}

#[test]
fn full_disk_is_an_error_in_one_line() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = memenpsf(&["demo", "--messages", "100"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(one_line(&output.stderr).contains("standard output"));
}

/// A demo in the midst of its exchange.
struct Running {
    demo: Child,
    /// The server and the clients, in the order of their start.
    children: Vec<Pid>,
    /// Inodes of all sockets of the children.
    sockets: HashSet<String>,
    /// Where temporary files would be.
    directory: std::path::PathBuf,
}

impl Running {
    /// Starts a demo with two clients and waits until all of them are busy.
    fn start(name: &str) -> Self {
        let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).unwrap();
        let mut demo = memenpsf(&[&ENDLESS[..], &["--clients", "2"]].concat())
            .env("TMPDIR", &directory)
            .current_dir(&directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let parent = pid(demo.id());
        let children = loop {
            let children = children_of(parent);
            if children.len() == 3 && children.iter().all(|&child| ticks(child) >= BUSY) {
                break children;
            }
            assert_eq!(demo.try_wait().unwrap(), None, "the demo has ended");
            thread::sleep(Duration::from_millis(5));
        };
        let sockets = children.iter().copied().flat_map(sockets_of).collect();
        Self {
            demo,
            children,
            sockets,
            directory,
        }
    }

    /// Waits for the end, and asserts that nothing is left.
    #[track_caller]
    fn finish(self) -> Output {
        let output = self.demo.wait_with_output().unwrap();
        for &child in &self.children {
            if output.status.code().is_some() {
                // The demo has ended by itself, and reaped its children before.
                assert_eq!(stat(child), None);
            }
            // Otherwise they are dead; reaping them is up to init.
            while stat(child).is_some_and(|stat| stat[0] != "Z") {
                thread::sleep(Duration::from_millis(5));
            }
        }
        let sockets = fs::read_to_string("/proc/net/unix").unwrap();
        let left = sockets.lines().filter(|line| {
            let inode = line.split_whitespace().nth(6);
            inode.is_some_and(|inode| self.sockets.contains(inode))
        });
        assert_eq!(left.count(), 0);
        assert_eq!(fs::read_dir(&self.directory).unwrap().count(), 0);
        fs::remove_dir(&self.directory).unwrap();
        output
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(id.try_into().unwrap())
}

/// Returns the fields of `/proc/PID/stat` behind the name, beginning with the
/// state; `None` when there is no such process.
fn stat(process: Pid) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may hold blanks and parentheses.
    let fields = stat.rsplit_once(") ")?.1;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").unwrap();
    let processes = processes.filter_map(|entry| {
        let number = entry.ok()?.file_name().to_str()?.parse().ok()?;
        Some(Pid::from_raw(number))
    });
    let mut children: Vec<_> = processes
        .filter(|&process| stat(process).is_some_and(|stat| stat[1] == parent.to_string()))
        .collect();
    children.sort();
    children
}

/// Returns how many clock ticks a process has used.
fn ticks(process: Pid) -> u64 {
    let stat = stat(process).unwrap_or_default();
    let used = [11, 12].map(|field| stat.get(field).map_or(0, |ticks| ticks.parse().unwrap()));
    used.into_iter().sum()
}

/// Returns the inodes of the sockets that a process has open.
fn sockets_of(process: Pid) -> HashSet<String> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    descriptors
        .filter_map(|entry| {
            let target = fs::read_link(entry.ok()?.path()).ok()?;
            let inode = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect()
}

/// Kills one child of a running demo and asserts that the demo says so.
#[track_caller]
fn assert_killed_child_is_named(running: Running, index: usize, name: &str) {
    let victim = running.children[index];
    assert!(!running.sockets.is_empty());
    kill(victim, Signal::SIGKILL).unwrap();
    let output = running.finish();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    let expected = format!("memenpsf: {name} (process {victim}) was killed by SIGKILL");
    assert_eq!(one_line(&output.stderr), expected);
}

#[test]
fn killed_client_is_named_and_nothing_is_left() {
    assert_killed_child_is_named(Running::start("killed-client"), 2, "client 1");
}

#[test]
fn killed_server_is_named_and_nothing_is_left() {
    assert_killed_child_is_named(Running::start("killed-server"), 0, "server");
}

#[test]
fn killed_demo_leaves_nothing() {
    let mut running = Running::start("killed-demo");
    running.demo.kill().unwrap();
    let output = running.finish();
    assert_eq!(output.status.signal(), Some(Signal::SIGKILL as i32));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn interrupted_demo_says_so_and_leaves_nothing() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let running = Running::start(signal.as_str());
        kill(pid(running.demo.id()), signal).unwrap();
        let output = running.finish();
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(text(&output.stdout), "");
        assert_eq!(
            one_line(&output.stderr),
            format!("memenpsf: interrupted by {signal}")
        );
    }
}
