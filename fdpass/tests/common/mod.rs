//! What several test binaries share.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use memenpsf_fdpass::Deadline;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Names the test whose body the process is to run.
const ALONE: &str = "FDPASS_ALONE";

/// Runs `body` in a process of its own: this test binary, started again with the
/// one test `name`. For tests that count descriptors or change what belongs to
/// the whole process.
pub fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some_and(|value| value == name) {
        body();
        // Proof that the body ran: a wrong name would run no test and succeed.
        println!("{name} ran to its end");
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, name)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains(&format!("{name} ran to its end")),
        "{}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Number of open descriptors of this process.
pub fn open_descriptors() -> usize {
    // The one that reads the directory is counted each time.
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// So late that only a hang reaches it: a test then fails instead of hanging.
pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

/// `n` files, each a different one.
pub fn files(n: usize) -> Vec<File> {
    (0..n).map(|_| tempfile::tempfile().unwrap()).collect()
}

pub fn borrow<T: AsFd>(fds: &[T]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

/// Which file a descriptor refers to.
pub type Identity = (u64, u64);

pub fn identity(fd: impl AsFd) -> Identity {
    let file = File::from(fd.as_fd().try_clone_to_owned().unwrap());
    let metadata = file.metadata().unwrap();
    (metadata.dev(), metadata.ino())
}

pub fn identities<T: AsFd>(fds: &[T]) -> Vec<Identity> {
    fds.iter().map(identity).collect()
}

pub fn has_close_on_exec(fd: impl AsFd) -> bool {
    let flags = fcntl(fd.as_fd(), FcntlArg::F_GETFD).unwrap();
    FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC)
}

pub fn all_have_close_on_exec(fds: &[OwnedFd]) -> bool {
    fds.iter().all(has_close_on_exec)
}

/// Bytes in which every misplaced one shows.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}
