//! `memenpsf serve` as the tests start it, and its clients.

use std::path::Path;

use nix::sys::signal::Signal;

use super::{Ended, Running, memenpsf, until};

/// A server in a folder of its own.
pub(crate) struct Service {
    pub(crate) server: Running,
    pub(crate) socket: String,
    _folder: tempfile::TempDir,
}

impl Service {
    pub(crate) fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket").to_str().unwrap().to_string();
        let arguments = [&["serve", &socket], options].concat();
        let server = Running::start(&mut memenpsf(&arguments));
        until(|| Path::new(&socket).exists());
        Self {
            server,
            socket,
            _folder: folder,
        }
    }

    pub(crate) fn connect(&self, options: &[&str]) -> Running {
        let arguments = [&["connect", &self.socket, "--wait", "60"], options].concat();
        Running::start(&mut memenpsf(&arguments))
    }

    /// Asks the server to end, and asserts that it has cleaned up.
    pub(crate) fn end(self) -> Ended {
        self.server.signal(Signal::SIGTERM);
        let ended = self.server.end();
        assert!(ended.status.success(), "{ended:?}");
        assert!(!Path::new(&self.socket).exists());
        ended
    }
}
