//! Many clients at once through one server process, one of them stopped, and what
//! everybody costs when there is nothing to do.
//!
//! `cargo test -p memenpsf-cli --test crowd -- --nocapture`

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::service::Service;
use common::{Running, memenpsf, until};
use nix::sys::signal::Signal;

/// Client processes.
const CLIENTS: usize = 64;
/// Messages of each: first in a stream, then as many single round trips.
const MESSAGES: &str = "300";
/// How long one of them is stopped, at least.
const STOPPED: Duration = Duration::from_secs(2);

fn connect(service: &Service, messages: &str) -> Running {
    service.connect(&["--messages", messages])
}

/// Waits for a client, which has found every message right, and returns the 99th
/// percentile of its round trips in microseconds.
fn p99(client: Running) -> f64 {
    let ended = client.end();
    ended.success();
    let said = String::from_utf8(ended.stdout).unwrap();
    let figure = said.split("p99 ").nth(1).unwrap().split(' ').next();
    figure.unwrap().parse().unwrap()
}

/// Starts so many clients that do not end by themselves, and waits until all of them
/// are at work.
fn endless(service: &Service, count: usize) -> Vec<Running> {
    let crowd: Vec<_> = (0..count)
        .map(|_| connect(service, "1000000000000"))
        .collect();
    for client in &crowd {
        let stat = stat(client);
        until(|| ticks(&stat) > 1);
    }
    crowd
}

/// Interrupts a client, which has found everything right so far.
fn interrupt(client: Running) {
    client.signal(Signal::SIGINT);
    let ended = client.end();
    assert_eq!(ended.stderr, "memenpsf: interrupted by SIGINT\n");
}

fn is_stopped(client: &Running) -> bool {
    fs::read_to_string(stat(client)).unwrap().contains(") T ")
}

#[test]
fn stopped_client_of_64_delays_nobody() {
    let service = Service::start(&[]);
    // The others of the 64 at work, and one that is measured.
    let mut crowd = endless(&service, CLIENTS - 1);
    let before = p99(connect(&service, MESSAGES));

    let stopped = crowd.pop().unwrap();
    stopped.signal(Signal::SIGSTOP);
    let began = Instant::now();
    until(|| is_stopped(&stopped));
    let during = p99(connect(&service, MESSAGES));
    thread::sleep(STOPPED.saturating_sub(began.elapsed()));
    let lasted = began.elapsed();
    // All others have gone on, and it is still where it was.
    for client in &crowd {
        let stat = stat(client);
        let used = ticks(&stat);
        until(|| ticks(&stat) > used);
    }
    assert!(is_stopped(&stopped));
    stopped.signal(Signal::SIGCONT);
    let stat = stat(&stopped);
    let used = ticks(&stat);
    until(|| ticks(&stat) > used);
    interrupt(stopped);
    crowd.into_iter().for_each(interrupt);

    let ended = service.end();
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.contains(&format!(" {CLIENTS} at a time")), "{last}");
    println!("evidence: {CLIENTS} clients at once, every message checked");
    println!(
        "evidence: {} clients go on while one is stopped for {:.1} s: p99 of a round trip \
         {during:.0} us, {before:.0} us without it",
        CLIENTS - 1,
        lasted.as_secs_f64()
    );
}

fn stat(client: &Running) -> String {
    format!("/proc/{}/stat", client.0.id())
}

/// Clock ticks that a process has used.
fn ticks(stat: &str) -> u64 {
    let stat = fs::read_to_string(stat).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let number = |index: usize| fields[index].parse::<u64>().unwrap();
    // Behind the name: fields 14 and 15 of all, user and system time.
    number(11) + number(12)
}

#[test]
fn nobody_who_waits_uses_the_processor() {
    let service = Service::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe").to_str().unwrap().to_string();
    let mut receiver = Running::start(&mut memenpsf(&["recv", &pipe]));
    let wait = ["send", &pipe, "--wait", "60"];
    let mut sender = Running::start(memenpsf(&wait).stdin(Stdio::piped()));
    // One message has gone through: both ends are connected, and then wait.
    let mut input = sender.0.stdin.take().unwrap();
    input.write_all(b"x").unwrap();
    let mut output = receiver.0.stdout.take().unwrap();
    output.read_exact(&mut [0]).unwrap();
    let idle = [&service.server, &receiver, &sender];
    let stats = idle.map(stat);
    // The last spin before they sleep.
    thread::sleep(Duration::from_millis(100));

    let before = [0, 1, 2].map(|index| ticks(&stats[index]));
    thread::sleep(Duration::from_secs(3));
    let used: u64 = (0..3)
        .map(|index| ticks(&stats[index]) - before[index])
        .sum();
    assert!(
        used <= 1,
        "{used} ticks of three processes with nothing to do"
    );
    println!("evidence: {used} clock ticks in 3 s of an idle server and two sleeping endpoints");

    // The control: one who does something is seen.
    let client = connect(&service, "1000000000000");
    let busy = stat(&client);
    until(|| ticks(&busy) > 10);
    drop(input);
    sender.end().success();
    receiver.end().success();
}
