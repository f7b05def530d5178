//! Both examples, as processes.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use common::{let_the_clock_tick, until};
use memenpsf::{Interface, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where cargo has put an example: beside the folder of this test.
fn path_of(example: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(example);
    assert!(
        path.exists(),
        "{} is not built: `cargo test` does it, `cargo test --test` does not",
        path.display()
    );
    path
}

/// A started example, which does not outlive the test.
struct Example(Option<Child>);

impl Example {
    fn start(name: &str, arguments: &[&OsStr]) -> Self {
        let child = Command::new(path_of(name))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(Some(child))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    /// Reads the first line, and returns it with what reads the others.
    fn first_line(&mut self) -> (String, BufReader<ChildStdout>) {
        let mut stdout = BufReader::new(self.child().stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        (line, stdout)
    }

    /// Waits until it ends by itself. What it prints fits into a pipe.
    fn finish(mut self) -> Output {
        until(|| self.child().try_wait().unwrap());
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It fails if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[track_caller]
fn text(output: Output) -> String {
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}: {errors}", output.status);
    assert_eq!(errors, "");
    String::from_utf8(output.stdout).unwrap()
}

/// It has failed with one line that begins with its name. Returns the rest.
#[track_caller]
fn complaint(name: &str, output: Output) -> String {
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    let words = errors.strip_prefix(&format!("{name}: ")).unwrap();
    assert!(!words.trim().is_empty());
    words.trim().to_owned()
}

/// How many arguments an example takes.
fn count(name: &str) -> usize {
    if name == "ipc_server" { 2 } else { 1 }
}

/// A path and a name that nobody else uses.
fn addresses(folder: &tempfile::TempDir) -> [OsString; 2] {
    let path = folder.path().join("socket").into_os_string();
    // The folder's name differs from every other's.
    let name = folder.path().file_name().unwrap().to_str().unwrap();
    [path, format!("@memenpsf-example-{name}").into()]
}

/// What the client prints when all goes well.
fn client_output() -> String {
    let user = nix::unistd::geteuid();
    let squares: String = (1..=10)
        .map(|n| format!("{n} squared is {}\n", n * n))
        .collect();
    format!("connected to `ipc_server`, user {user}\n{squares}")
}

/// What the server prints of one client: who it is, and how it ended.
fn assert_served(lines: &[&str], name: &str, end: &str) {
    let user = nix::unistd::geteuid();
    let is = format!(" is `{name}`, user {user}");
    assert!(lines.iter().any(|line| line.ends_with(&is)), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with(end)), "{lines:?}");
}

const DONE: &str = ": the peer closed the connection, after 10 messages";

#[test]
fn client_and_server_find_each_other_in_either_order() {
    let folder = tempfile::tempdir().unwrap();
    for address in addresses(&folder) {
        for server_first in [true, false] {
            let start_server = || Example::start("ipc_server", &[&address, "1".as_ref()]);
            let start_client = || Example::start("ipc_client", &[&address]);
            // In between, most likely long enough for the first to get going.
            let (server, client) = if server_first {
                let server = start_server();
                let_the_clock_tick();
                (server, start_client())
            } else {
                let client = start_client();
                let_the_clock_tick();
                (start_server(), client)
            };
            assert_eq!(text(client.finish()), client_output());
            let output = text(server.finish());
            let lines: Vec<_> = output.lines().collect();
            let waiting = format!("waiting for clients at {}", address.display());
            assert_eq!((lines.len(), lines[0]), (3, &*waiting));
            assert_served(&lines, "ipc_client", DONE);
            assert_left_clean(&folder);
        }
    }
}

/// No example has left a socket behind that a next one would stumble over.
fn assert_left_clean(folder: &tempfile::TempDir) {
    let sockets = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| {
            use std::os::unix::fs::FileTypeExt;
            entry.as_ref().unwrap().file_type().unwrap().is_socket()
        })
        .count();
    assert_eq!(sockets, 0);
}

#[test]
fn server_serves_clients_side_by_side_until_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket").into_os_string();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Example::start("ipc_server", &[&path]);
        let clients = [(); 4].map(|()| Example::start("ipc_client", &[&path]));
        for client in clients {
            assert_eq!(text(client.finish()), client_output());
        }
        let pid = Pid::from_raw(server.child().id().cast_signed());
        kill(pid, signal).unwrap();
        assert!(text(server.finish()).starts_with("waiting for clients at"));
        assert_left_clean(&folder);
    }
}

#[test]
fn wrong_arguments_end_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let long = OsString::from("x".repeat(108));
    let long_name = OsString::from(format!("@{}", "x".repeat(108)));
    let path = folder.path().join("socket").into_os_string();
    for name in ["ipc_server", "ipc_client"] {
        let too_many = vec![path.as_os_str(); count(name) + 1];
        let wrong: [&[&OsStr]; 6] = [
            &["".as_ref()],
            &["@".as_ref()],
            &[&long],
            &[&long_name],
            &["--help".as_ref()],
            &too_many,
        ];
        for arguments in wrong {
            complaint(name, Example::start(name, arguments).finish());
        }
    }
    let server = |arguments: &[&OsStr]| {
        let output = Example::start("ipc_server", arguments).finish();
        complaint("ipc_server", output)
    };
    server(&[&OsString::from_vec(b"/nowhere/\xff/socket".to_vec())]);
    server(&[&path, "some".as_ref()]);
    let _taken = UnixListener::bind(&path).unwrap();
    server(&[&path]);
}

/// Starts the server for one client, and connects to it by hand.
fn server(folder: &tempfile::TempDir) -> (Example, BufReader<ChildStdout>, UnixStream) {
    let path = folder.path().join("socket");
    let mut server = Example::start("ipc_server", &[path.as_os_str(), "1".as_ref()]);
    let (line, stdout) = server.first_line();
    assert!(line.starts_with("waiting"), "{line}");
    (server, stdout, UnixStream::connect(path).unwrap())
}

#[test]
fn server_refuses_a_client_with_other_messages_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _stdout, stream) = server(&folder);
    let error = Interface::<[u64; 2]>::new("stranger", 8, stream, 0).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the peer refused: layout hash")
    );
    let path = folder.path().join("socket").into_os_string();
    let client = Example::start("ipc_client", &[&path]);
    assert_eq!(text(client.finish()), client_output());
    let output = server.finish();
    assert!(output.status.success());
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    let words = "is not served: the peer was refused: layout hash";
    assert!(complaint.contains(words), "{complaint}");
}

#[test]
fn server_answers_any_number_and_reports_a_client_that_dies() {
    use std::io::Read;
    let folder = tempfile::tempdir().unwrap();
    let (server, mut stdout, stream) = server(&folder);
    let socket = stream.try_clone().unwrap();
    let options = Options::new().name("by hand").schema("squares/v1");
    let mut client = Interface::<[u64; 2]>::establish(stream, 0, &options).unwrap();
    for n in [3, u64::MAX, 1 << 40] {
        client.xmit([n, 7]).unwrap();
        let answer = until(|| client.recv().unwrap());
        assert_eq!(answer, [n, n.wrapping_mul(n)]);
    }
    // As if it was killed: the end without a goodbye.
    socket.shutdown(std::net::Shutdown::Both).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let lines: Vec<_> = rest.lines().collect();
    let gone = ": the peer is gone without a goodbye, after 3 messages";
    assert_served(&lines, "by hand", gone);
    assert_eq!(text(server.finish()), "");
}

#[test]
fn client_reports_a_wrong_answer_and_a_server_that_dies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let options = Options::new().schema("squares/v1");
    for wrong in [true, false] {
        let client = Example::start("ipc_client", &[path.as_os_str()]);
        let (stream, _) = listener.accept().unwrap();
        let socket = stream.try_clone().unwrap();
        let mut server = Interface::<[u64; 2]>::accept_with(stream, &options).unwrap();
        assert_eq!(until(|| server.recv().unwrap()), [1, 0]);
        let expected = if wrong {
            server.xmit([1, 2]).unwrap();
            "asked for the square of 1, received [1, 2]"
        } else {
            socket.shutdown(std::net::Shutdown::Both).unwrap();
            "the peer is gone without a goodbye"
        };
        assert_eq!(complaint("ipc_client", client.finish()), expected);
    }
}
