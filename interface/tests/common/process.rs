//! Child processes: the test binary, started again for the part that the
//! environment names. A binary that uses this has a test `child`, ignored, that
//! plays its parts.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;

use memenpsf::{Interface, Message, Options};
use memmap2::MmapRaw;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::until;

const ROLE: &str = "MEMENPSF_CHILD_ROLE";
const ADDRESS: &str = "MEMENPSF_CHILD_ADDRESS";
const NOTE: &str = "MEMENPSF_CHILD_NOTE";

/// The part that this process has to play.
pub struct Part {
    pub role: String,
    pub address: PathBuf,
    pub note: Note,
}

impl Part {
    /// Returns nothing in a process that no test has started.
    pub fn of_this_process() -> Option<Self> {
        Some(Self {
            role: std::env::var(ROLE).ok()?,
            address: std::env::var_os(ADDRESS)?.into(),
            note: Note::open(Path::new(&std::env::var_os(NOTE)?)),
        })
    }
}

/// Two words in a file that parent and child map: what a child has done, as it
/// noted itself after each step, and one more thing that it has to tell.
pub struct Note {
    map: MmapRaw,
}

impl Note {
    pub fn open(path: &Path) -> Self {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .unwrap();
        file.set_len(16).unwrap();
        Self {
            map: MmapRaw::map_raw(&file).unwrap(),
        }
    }

    pub fn word(&self) -> &AtomicU64 {
        &self.words().0
    }

    /// Returns the other word.
    pub fn other(&self) -> &AtomicU64 {
        &self.words().1
    }

    fn words(&self) -> &(AtomicU64, AtomicU64) {
        // SAFETY: the mapping is 16 bytes long at least, page-aligned, lives as long
        // as `self`, and is accessed by these atomics only; which of the two comes
        // first is the same in parent and child, which are one program.
        unsafe { &*self.map.as_mut_ptr().cast() }
    }
}

/// A child process that does not outlive the test.
pub struct Child {
    process: std::process::Child,
}

impl Child {
    pub fn start(role: &str, address: &Path, note: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["child", "--exact", "--ignored", "--test-threads=1"])
            .env(ROLE, role)
            .env(ADDRESS, address)
            .env(NOTE, note)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Self {
            process: command.spawn().unwrap(),
        }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().cast_signed());
        kill(pid, signal).unwrap();
    }

    /// Waits until the kernel says that the child is stopped; `false` if it has ended
    /// instead.
    pub fn stops(&self) -> bool {
        let path = format!("/proc/{}/stat", self.process.id());
        until(|| {
            let stat = std::fs::read_to_string(&path).unwrap();
            // The state follows the name, which ends with a parenthesis.
            let (_, state) = stat.rsplit_once(") ").unwrap();
            match state.as_bytes()[0] {
                b'T' => Some(true),
                b'Z' => Some(false),
                _ => None,
            }
        })
    }

    /// Kills the child, and returns when it is dead.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        let status = self.process.wait().unwrap();
        // It was the signal that ended it, not a failure of its own.
        assert_eq!(status.code(), None, "{status}");
    }

    /// Tells whether the child is dead, which must be by SIGKILL.
    pub fn is_dead(&mut self) -> bool {
        let status = self.process.try_wait().unwrap();
        if let Some(status) = status {
            // Not a failure of its own.
            assert_eq!(status.code(), None, "{status}");
        }
        status.is_some()
    }

    /// Waits until the child ends by itself, which must be with success.
    pub fn finish(mut self) {
        let status = until(|| self.process.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail if it has been waited for already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A place for a socket and a note, gone at the end of the test.
pub struct Place {
    folder: tempfile::TempDir,
    listener: UnixListener,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { folder, listener }
    }

    /// Starts a child in a role, and takes its connection.
    pub fn start<T: Message + ?Sized>(
        &self,
        role: &str,
        options: &Options,
    ) -> (Child, Interface<T>) {
        let note = self.folder.path().join("note");
        let _ = std::fs::remove_file(&note);
        let child = Child::start(role, &self.folder.path().join("socket"), &note);
        let (stream, _) = until(|| self.listener.accept().ok());
        let interface = Interface::accept_with(stream, options).unwrap();
        (child, interface)
    }

    pub fn note(&self) -> Note {
        Note::open(&self.folder.path().join("note"))
    }
}
