//! The example server, as a process: it serves clients side by side and ends
//! when it is told to.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use common::{HANG, Watchdog, until};
use memenpsf::{Departure, Interface, Options, RecvError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The server, which does not outlive the test.
struct Example {
    child: Child,
    stdout: BufReader<ChildStdout>,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Example {
    /// Starts it, and waits until it is ready.
    fn serve(clients: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        // Cargo puts the examples beside the folder of this test.
        let this = std::env::current_exe().unwrap();
        let target = this.parent().and_then(Path::parent).unwrap();
        let mut child = Command::new(target.join("examples/ipc_server"))
            .arg(&path)
            .args(clients)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.starts_with("waiting for clients at "), "{line}");
        Self {
            child,
            stdout,
            path,
            _folder: folder,
        }
    }

    fn connect(&self) -> Interface<[u64; 2]> {
        let options = Options::new().schema("squares/v1");
        Interface::connect_with(&self.path, &options).unwrap()
    }

    /// Waits until it ends, checks that it has removed its socket file, and returns
    /// what it has printed.
    fn finish(mut self) -> String {
        let status = until(|| self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
        assert!(!self.path.exists());
        let mut printed = String::new();
        self.stdout.read_to_string(&mut printed).unwrap();
        printed
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It fails if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn ask(client: &mut Interface<[u64; 2]>, n: u64) {
    client.xmit([n, 0]).unwrap();
    assert_eq!(client.recv_timeout(Some(HANG)), Ok(Some([n, n * n])));
}

#[test]
fn others_are_served_while_a_client_talks_and_one_does_not_receive() {
    let _watchdog = Watchdog::new();
    let server = Example::serve(Some("6"));
    let (mut talks, mut asks_only) = (server.connect(), server.connect());
    // More questions than its ring holds answers.
    let asked = 2 * asks_only.cap() as u64;
    for n in 0..asked {
        asks_only.xmit_timeout([n, 0], None).unwrap();
    }
    ask(&mut talks, 1);
    for n in 0..4 {
        let mut other = server.connect();
        ask(&mut other, n);
        ask(&mut talks, n);
    }
    // And it has missed nothing.
    for n in 0..asked {
        let answer = asks_only.recv_timeout(Some(HANG));
        assert_eq!(answer, Ok(Some([n, n * n])));
    }
    drop((talks, asks_only));
    let printed = server.finish();
    assert_eq!(printed.matches("the peer closed the connection").count(), 6);
}

#[test]
fn interrupted_server_says_goodbye_and_removes_its_socket() {
    let _watchdog = Watchdog::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let server = Example::serve(None);
        let mut client = server.connect();
        ask(&mut client, 3);
        kill(Pid::from_raw(server.child.id().try_into().unwrap()), signal).unwrap();
        server.finish();
        let end = client.recv_timeout(Some(HANG));
        assert_eq!(end, Err(RecvError::Closed(Departure::Closed)));
    }
}
