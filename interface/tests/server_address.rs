//! Where a server listens: its socket file, and what was there before.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;

use common::{Watchdog, alone};
use memenpsf::{AcceptError, BindError, ConnectError, Interface, Options, Server, ServerOptions};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{Backlog, listen};
use nix::sys::stat::{Mode, umask};

/// A directory of the test's own, and the path of a socket in it.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    (folder, path)
}

fn entries(folder: &tempfile::TempDir) -> usize {
    std::fs::read_dir(folder.path()).unwrap().count()
}

/// Checks that clients are served.
#[track_caller]
fn assert_serves(server: &mut Server<u64>, path: &Path) {
    std::thread::scope(|scope| {
        let client = scope.spawn(|| Interface::<u64>::connect(path).unwrap());
        server.accept().unwrap().xmit(7).unwrap();
        let mut client = client.join().unwrap();
        assert_eq!(client.recv(), Ok(Some(7)));
    });
}

fn in_use(path: &Path) -> bool {
    let bound = Server::<u64>::bind(path);
    matches!(bound, Err(BindError::AddressInUse { path: at }) if at == path)
}

/// Leaves what a server leaves that is killed.
fn leave_a_dead_socket(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    assert!(path.exists());
}

/// Says to this binary, started again, where to serve.
const PART: &str = "MEMENPSF_SERVER_ADDRESS";
/// Says to this binary, started again, where to connect.
const CONNECT: &str = "MEMENPSF_SERVER_CONNECT";

/// Plays the part of another process.
#[test]
fn part_of_the_other_process() {
    if let Some(path) = std::env::var_os(CONNECT) {
        // The server may have no time for us.
        let options = Options::new().handshake_timeout(Some(Duration::from_millis(100)));
        let error = Interface::<u64>::connect_with(path, &options).unwrap_err();
        println!("{error}");
        return;
    }
    let Some(path) = std::env::var_os(PART) else {
        return;
    };
    match Server::<u64>::bind(&path) {
        Ok(mut server) => {
            println!("bound");
            drop(server.accept());
        }
        Err(error) => println!("{error}"),
    }
}

/// A server in another process.
struct Other(Child);

impl Other {
    fn bind(path: &Path) -> (Self, String) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["part_of_the_other_process", "--exact", "--nocapture"])
            .env(PART, path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines
            .map(Result::unwrap)
            .find(|line| line.contains("bound") || line.contains("server"));
        (Self(child), line.unwrap_or_default())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn socket_file_of_a_killed_server_is_replaced() {
    let _watchdog = Watchdog::new();
    let (folder, path) = folder();
    for _ in 0..3 {
        let (other, said) = Other::bind(&path);
        assert!(said.ends_with("bound"), "{said}");
        // Alive, even if it is another process.
        assert!(in_use(&path));
        drop(other);
        assert!(path.exists());
    }
    let mut server = Server::<u64>::bind(&path).unwrap();
    assert_eq!(entries(&folder), 1);
    assert_serves(&mut server, &path);
}

#[test]
fn live_server_is_told_and_stays() {
    let (_folder, path) = folder();
    let mut server = Server::<u64>::bind(&path).unwrap();
    for _ in 0..3 {
        assert!(in_use(&path));
        assert_serves(&mut server, &path);
    }
    let words = Server::<u64>::bind(&path).unwrap_err().to_string();
    assert_eq!(words, format!("another server is at `{}`", path.display()));
}

#[test]
fn server_whose_backlog_is_full_is_alive() {
    let (_folder, path) = folder();
    let listener = UnixListener::bind(&path).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let _waiting = UnixStream::connect(&path).unwrap();
    assert!(in_use(&path));
    assert!(path.exists());
}

#[test]
fn socket_of_another_type_counts_as_in_use() {
    let (_folder, path) = folder();
    let _datagram = UnixDatagram::bind(&path).unwrap();
    assert!(in_use(&path));
    assert!(path.exists());
}

#[test]
fn of_servers_made_at_once_in_the_place_of_a_dead_one_exactly_one_succeeds() {
    let _watchdog = Watchdog::new();
    let (folder, path) = folder();
    for round in 0..40 {
        if round % 4 > 0 {
            leave_a_dead_socket(&path);
        }
        let start = Barrier::new(6);
        let mut made = std::thread::scope(|scope| {
            let bind = || {
                start.wait();
                Server::<u64>::bind(&path)
            };
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(bind)).collect();
            let bound = threads.into_iter().map(|thread| thread.join().unwrap());
            bound.collect::<Vec<_>>()
        });
        let winner = made.iter().position(Result::is_ok).unwrap();
        let mut server = made.swap_remove(winner).unwrap();
        for other in made {
            assert!(
                matches!(other, Err(BindError::AddressInUse { .. })),
                "{other:?}"
            );
        }
        // The winner's file is still its own.
        assert_serves(&mut server, &path);
        drop(server);
        assert_eq!(entries(&folder), 0);
    }
}

#[test]
fn what_is_no_socket_is_told_and_stays() {
    let (folder, path) = folder();
    let target = folder.path().join("target");
    let make: [&dyn Fn(); 4] = [
        &|| std::fs::write(&path, "precious").unwrap(),
        &|| std::fs::create_dir(&path).unwrap(),
        &|| symlink("nowhere", &path).unwrap(),
        &|| {
            leave_a_dead_socket(&target);
            symlink(&target, &path).unwrap();
        },
    ];
    for make in make {
        make();
        let before = path.symlink_metadata().unwrap();
        let error = Server::<u64>::bind(&path).unwrap_err();
        assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            format!("`{}` is there and is no socket", path.display())
        );
        let after = path.symlink_metadata().unwrap();
        assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
        if after.is_dir() {
            std::fs::remove_dir(&path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
    }
    assert!(target.exists());
    assert!(matches!(
        Server::<u64>::bind("/").unwrap_err(),
        BindError::NotASocket { .. }
    ));
}

#[test]
fn address_that_cannot_be_one_is_told() {
    let (folder, _) = folder();
    let missing = folder.path().join("missing").join("socket");
    let error = Server::<u64>::bind(&missing).unwrap_err();
    assert!(
        matches!(&error, BindError::Socket { source, .. }
            if source.kind() == std::io::ErrorKind::NotFound),
        "{error}"
    );
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Server::<u64>::bind(file.join("socket")).unwrap_err();
    assert!(
        matches!(&error, BindError::Socket { source, .. }
            if source.raw_os_error() == Some(Errno::ENOTDIR as i32)),
        "{error}"
    );
    let long = folder.path().join("x".repeat(108));
    let long_name = PathBuf::from(format!("@{}", "x".repeat(108)));
    for wrong in [&long, &long_name, Path::new(""), Path::new("@")] {
        let error = Server::<u64>::bind(wrong).unwrap_err();
        assert!(matches!(error, BindError::Address { .. }), "{error}");
    }
    // As long as an address may be.
    let room = 107 - folder.path().as_os_str().len() - 1;
    let longest = folder.path().join("x".repeat(room));
    let mut server = Server::<u64>::bind(&longest).unwrap();
    assert_serves(&mut server, &longest);
}

#[test]
fn options_that_cannot_be_are_told_before_there_is_a_file() {
    let (folder, path) = folder();
    let wrong = [
        Options::new().capacity(3),
        Options::new().name("a\nb"),
        Options::new().region_limit(4096),
    ];
    for options in wrong {
        let options = ServerOptions::new().connection(options);
        let error = Server::<u64>::bind_with(&path, &options).unwrap_err();
        assert!(matches!(error, BindError::Options(_)), "{error}");
        assert_eq!(entries(&folder), 0);
    }
}

#[test]
fn mode_is_as_chosen_whatever_the_umask() {
    alone("mode_is_as_chosen_whatever_the_umask", || {
        let (_folder, path) = folder();
        for mask in [0o000, 0o022, 0o077, 0o777] {
            umask(Mode::from_bits(mask).unwrap());
            for mode in [0o600, 0o660, 0o666, 0o777, 0o200, 0o000] {
                let options = ServerOptions::new().mode(mode);
                let server = Server::<u64>::bind_with(&path, &options).unwrap();
                let metadata = path.symlink_metadata().unwrap();
                assert!(metadata.file_type().is_socket());
                assert_eq!(metadata.permissions().mode() & 0o7777, mode);
                drop(server);
            }
            let _server = Server::<u64>::bind(&path).unwrap();
            let metadata = path.symlink_metadata().unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
        }
    });
}

#[test]
fn socket_file_goes_with_its_server_and_no_other_does() {
    let (folder, path) = folder();
    drop(Server::<u64>::bind(&path).unwrap());
    assert_eq!(entries(&folder), 0);

    Server::<u64>::bind(&path).unwrap().shutdown();
    assert_eq!(entries(&folder), 0);

    // Removed by somebody else.
    let server = Server::<u64>::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    drop(server);

    // Replaced, by a file and by another server.
    let server = Server::<u64>::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    drop(server);
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_file(&path).unwrap();

    let first = Server::<u64>::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut second = Server::<u64>::bind(&path).unwrap();
    drop(first);
    assert_serves(&mut second, &path);

    // Moved: it is no longer where it was, and is left alone.
    let moved = folder.path().join("moved");
    std::fs::rename(&path, &moved).unwrap();
    drop(second);
    assert!(moved.exists());
}

#[test]
fn relative_path_means_the_same_file_after_a_change_of_directory() {
    alone(
        "relative_path_means_the_same_file_after_a_change_of_directory",
        || {
            let (folder, path) = folder();
            std::env::set_current_dir(folder.path()).unwrap();
            let server = Server::<u64>::bind("socket").unwrap();
            assert!(path.exists());
            std::env::set_current_dir("/").unwrap();
            drop(server);
            assert!(!path.exists());
        },
    );
}

#[test]
fn abstract_name_is_free_again_when_its_server_is_gone() {
    let name = format!("@memenpsf-test-{}-abstract", std::process::id());
    let name = Path::new(&name);
    for _ in 0..2 {
        let mut server = Server::<u64>::bind(name).unwrap();
        assert_eq!(server.path(), Some(name));
        assert!(in_use(name));
        assert_serves(&mut server, name);
    }
    let error = Interface::<u64>::connect(name).unwrap_err();
    assert!(matches!(error, ConnectError::Socket { .. }), "{error}");
    assert!(!name.exists());
}

#[test]
fn dead_socket_stays_while_somebody_else_holds_the_lock() {
    let (folder, path) = folder();
    leave_a_dead_socket(&path);
    let directory = std::fs::File::open(folder.path()).unwrap();
    let lock = Flock::lock(directory, FlockArg::LockExclusive).unwrap();
    let error = Server::<u64>::bind(&path).unwrap_err();
    assert!(matches!(error, BindError::Locked { .. }), "{error}");
    assert!(path.exists());
    // An address that is free needs no lock.
    let free = folder.path().join("free");
    let mut server = Server::<u64>::bind(&free).unwrap();
    assert_serves(&mut server, &free);
    drop(lock);
    let mut server = Server::<u64>::bind(&path).unwrap();
    assert_serves(&mut server, &path);
}

#[test]
fn listener_of_somebody_else_serves_and_keeps_its_file() {
    let (_folder, path) = folder();
    let listener = UnixListener::bind(&path).unwrap();
    let mut server = Server::<u64>::from_listener(listener, &ServerOptions::new()).unwrap();
    assert_eq!(server.path(), None);
    assert!(server.try_accept().unwrap().is_none());
    assert_serves(&mut server, &path);
    drop(server);
    assert!(path.exists());
}

#[test]
fn socket_that_does_not_listen_is_told() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let listener = UnixListener::from(std::os::fd::OwnedFd::from(ours));
    let error = Server::<u64>::from_listener(listener, &ServerOptions::new()).unwrap_err();
    assert!(matches!(error, BindError::NotListening), "{error}");
}

#[test]
fn listener_that_fails_is_told_once_by_incoming_and_always_by_accept() {
    let _watchdog = Watchdog::new();
    let (_folder, path) = folder();
    let listener = UnixListener::bind(&path).unwrap();
    let other = listener.try_clone().unwrap();
    let mut server = Server::<u64>::from_listener(listener, &ServerOptions::new()).unwrap();
    nix::sys::socket::shutdown(other.as_raw_fd(), nix::sys::socket::Shutdown::Both).unwrap();
    let mut incoming = server.incoming();
    assert!(matches!(
        incoming.next(),
        Some(Err(AcceptError::Listener(_)))
    ));
    assert!(incoming.next().is_none());
    for _ in 0..3 {
        assert!(matches!(server.accept(), Err(AcceptError::Listener(_))));
        assert!(matches!(server.poll(None), Err(AcceptError::Listener(_))));
    }
}

#[test]
fn socket_file_keeps_other_users_out() {
    // Only root can become somebody else.
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let (folder, path) = folder();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let connect = |expected: &str| {
        let another = Command::new(std::env::current_exe().unwrap())
            .args(["part_of_the_other_process", "--exact", "--nocapture"])
            .env(CONNECT, &path)
            .current_dir("/")
            .gid(65534)
            .uid(65534)
            .output();
        match another {
            Ok(output) => {
                let said = String::from_utf8(output.stdout).unwrap();
                assert!(said.contains(expected), "{said}");
            }
            Err(error) => println!("skipped: nobody else may start this binary: {error}"),
        }
    };
    let server = Server::<u64>::bind(&path).unwrap();
    connect("Permission denied");
    drop(server);
    let _server = Server::<u64>::bind_with(&path, &ServerOptions::new().mode(0o666)).unwrap();
    connect("did not finish the handshake in time");
}
