//! What the tests of the commands share: children that are always reaped.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(dead_code, reason = "not every test uses everything")]

pub(crate) mod service;

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A child that has not ended by then hangs.
const HANG: Duration = Duration::from_secs(60);

pub(crate) fn memenpsf(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memenpsf"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A running command, killed and reaped when it is dropped.
pub(crate) struct Running(pub(crate) Child);

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().try_into().unwrap());
        kill(pid, signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Waits for the end; what it writes is read meanwhile.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let stdout = self.0.stdout.take().map(read_all);
        let stderr = self.0.stderr.take().map(read_all);
        let end = Instant::now() + HANG;
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "the command hangs");
            thread::sleep(Duration::from_millis(2));
        };
        let text = |stream: Option<thread::JoinHandle<Vec<u8>>>| {
            stream.map_or(Vec::new(), |reader| reader.join().unwrap())
        };
        Ended {
            status,
            stdout: text(stdout),
            stderr: String::from_utf8(text(stderr)).unwrap(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_all(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    })
}

/// Waits until `there` says so.
#[track_caller]
pub(crate) fn until(mut there: impl FnMut() -> bool) {
    let end = Instant::now() + HANG;
    while !there() {
        assert!(Instant::now() < end, "it does not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

impl Ended {
    /// Asserts that the command failed with one line, and returns it.
    #[track_caller]
    pub(crate) fn failure(&self) -> &str {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        self.stderr.trim_end()
    }

    /// Asserts that the command was successful and silent.
    #[track_caller]
    pub(crate) fn success(&self) {
        assert!(self.status.success(), "{self:?}");
        assert_eq!(self.stderr, "");
    }
}
