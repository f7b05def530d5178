//! `memenpsf serve` and `memenpsf connect` as users run them, and the manual.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::service::Service;
use common::{Running, memenpsf, until};
use nix::sys::signal::Signal;

#[test]
fn every_message_comes_back() {
    let service = Service::start(&[]);
    for size in ["16", "17", "64", "65536"] {
        let client = service.connect(&["--messages", "2000", "--size", size]);
        let ended = client.end();
        ended.success();
        let said = String::from_utf8(ended.stdout).unwrap();
        let first = format!("4000 messages of {size} bytes to `memenpsf serve` (user ");
        assert!(said.starts_with(&first), "{said}");
        assert_eq!(said.lines().count(), 3, "{said}");
    }
    let ended = service.end();
    let last = ended.stderr.lines().last().unwrap();
    assert_eq!(
        last,
        "SIGTERM: served 4 clients, 1 at a time, 16000 messages"
    );
}

#[test]
fn clients_are_served_side_by_side_and_named() {
    let service = Service::start(&[]);
    let names = ["ada", "grace", "edsger"];
    let clients = names.map(|name| service.connect(&["--messages", "20000", "--name", name]));
    for client in clients {
        client.end().success();
    }
    let ended = service.end();
    for name in names {
        assert!(
            ended.stderr.contains(&format!("is `{name}`: user ")),
            "{}",
            ended.stderr
        );
        let gone = format!("`{name}` is gone after 40000 messages: the peer closed the connection");
        assert!(ended.stderr.contains(&gone), "{}", ended.stderr);
    }
}

#[test]
fn limits_and_mode_are_kept() {
    let service = Service::start(&["--max-memory", "1000000", "--mode", "640"]);
    let mode = fs::metadata(&service.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let refused = service.connect(&[]).end();
    assert!(refused.failure().contains("refused"), "{refused:?}");
    assert!(service.end().stderr.contains("is not served"));
}

#[test]
fn client_says_when_the_server_dies_and_when_it_is_interrupted() {
    let mut service = Service::start(&[]);
    let endless = ["--messages", "1000000000000"];
    let (left, interrupted) = (service.connect(&endless), service.connect(&endless));
    let busy = |client: &Running| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", client.0.id())).unwrap();
        let ticks: u64 = stat.split(' ').nth(13).unwrap().parse().unwrap();
        ticks > 5
    };
    until(|| busy(&left) && busy(&interrupted));
    interrupted.signal(Signal::SIGINT);
    let ended = interrupted.end();
    assert_eq!(ended.status.code(), Some(130));
    assert_eq!(ended.stderr, "memenpsf: interrupted by SIGINT\n");
    service.server.kill();
    let line = "memenpsf: not every message has come back: the peer is gone without a goodbye";
    assert_eq!(left.end().failure(), line);
}

#[test]
fn wrong_arguments_are_refused_in_one_line() {
    for (arguments, line) in [
        (
            &["recv"][..],
            "memenpsf: the following required arguments were not provided: <SOCKET> \
             (see memenpsf recv --help)\n",
        ),
        (
            &["connect", "@x", "--size", "15"],
            "memenpsf: invalid value '15' for '--size <BYTES>': a whole number from 16 to \
             65536 is needed (see memenpsf connect --help)\n",
        ),
        (
            &["serve", "@x", "--mode", "888"],
            "memenpsf: invalid value '888' for '--mode <MODE>': an octal number from 0 to 777 \
             is needed (see memenpsf serve --help)\n",
        ),
    ] {
        let ended = Running::start(&mut memenpsf(arguments)).end();
        assert_eq!(ended.status.code(), Some(2));
        assert_eq!(ended.stderr, line);
    }
}

#[test]
fn help_of_every_command_has_examples() {
    for command in [
        "demo",
        "serve",
        "connect",
        "recv",
        "send",
        "completions",
        "man",
    ] {
        let ended = Running::start(&mut memenpsf(&[command, "--help"])).end();
        ended.success();
        let help = String::from_utf8(ended.stdout).unwrap();
        let example = format!("Examples:\n  memenpsf {command}");
        assert!(help.contains(&example), "{help}");
    }
}

#[test]
fn completions_and_pages_name_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = Running::start(&mut memenpsf(&["completions", shell])).end();
        ended.success();
        let script = String::from_utf8(ended.stdout).unwrap();
        for command in ["demo", "serve", "connect", "recv", "send"] {
            assert!(script.contains(command), "{command} for {shell}");
        }
    }
    let page = Running::start(&mut memenpsf(&["man"])).end();
    page.success();
    assert!(
        String::from_utf8(page.stdout)
            .unwrap()
            .contains("memenpsf\\-recv(1)")
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    Running::start(&mut memenpsf(&["man", path]))
        .end()
        .success();
    for page in ["memenpsf", "memenpsf-serve", "memenpsf-send"] {
        let text = fs::read_to_string(folder.path().join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".TH"), "{page}");
        assert!(!text.contains("demo\\-server"), "{page}");
    }
}
