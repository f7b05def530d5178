//! What the kernel decides: credentials, options, limits; and a hostile peer.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use common::{all_have_close_on_exec, alone, borrow, files, identity, open_descriptors, soon};
use memenpsf_fdpass::{
    MAX_DESCRIPTORS, ReceiveError, SendError, peer_credentials, receive, receive_bytes,
    receive_exact, recv_fd, refuse_descriptors, send_all, send_fd,
};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};

/// Leaves exactly `free` descriptor numbers to this process while `body` runs.
fn with_free_descriptors<T>(free: usize, body: impl FnOnce() -> T) -> T {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let mut fill = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        fill.push(file);
    }
    fill.truncate(fill.len() - free);
    let result = body();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    result
}

#[test]
fn lack_of_descriptor_numbers_is_truncation_and_closes_what_came() {
    alone(
        "lack_of_descriptor_numbers_is_truncation_and_closes_what_came",
        || {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let before = open_descriptors();
            for (given, free) in [(1, 0), (2, 1), (5, 0), (5, 2), (5, 4)] {
                let fds = vec![ours.as_fd(); given];
                for exact in [true, false] {
                    send_all(&ours, b"hello", &fds, soon()).unwrap();
                    let error = with_free_descriptors(free, || {
                        let mut buf = [0; 5];
                        if exact {
                            receive_exact(&theirs, &mut buf, given, soon()).unwrap_err()
                        } else {
                            receive(&theirs, &mut buf, soon()).unwrap_err()
                        }
                    });
                    assert!(
                        matches!(error, ReceiveError::Truncated { received, .. } if received == free),
                        "{error:?}"
                    );
                    assert_eq!(open_descriptors(), before);
                }
            }
            // With just enough numbers the same message arrives.
            send_all(&ours, b"hello", &[ours.as_fd(); 5], soon()).unwrap();
            let fds =
                with_free_descriptors(5, || receive(&theirs, &mut [0; 5], soon()).unwrap().fds);
            assert_eq!(fds.len(), 5);
        },
    );
}

/// Sets a socket option that nix does not name.
fn set_option(socket: &UnixStream, option: libc::c_int) -> bool {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to a c_int that outlives the call, with its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const on).cast(),
            4,
        )
    };
    result == 0
}

#[test]
fn other_control_messages_neither_hide_descriptors_nor_leak() {
    alone(
        "other_control_messages_neither_hide_descriptors_nor_leak",
        || {
            /// Linux 6.5 and later; not in libc.
            const SO_PASSPIDFD: libc::c_int = 76;
            let before = open_descriptors();
            let (ours, theirs) = UnixStream::pair().unwrap();
            setsockopt(&theirs, sockopt::PassCred, &true).unwrap();
            let pidfd = set_option(&theirs, SO_PASSPIDFD);
            set_option(&theirs, libc::SO_PASSSEC);
            let file = files(1).remove(0);
            for given in [0, 1, MAX_DESCRIPTORS] {
                let fds = vec![file.as_fd(); given];
                let open = open_descriptors();
                send_all(&ours, b"hello", &fds, soon()).unwrap();
                let fds = receive_exact(&theirs, &mut [0; 5], given, soon()).unwrap();
                assert!(fds.iter().all(|fd| identity(fd) == identity(&file)));
                assert_eq!(open_descriptors(), open + given, "pidfd: {pidfd}");
            }
            // Without a control buffer any control message is reported as dropped.
            send_all(&ours, b"hello", &[], soon()).unwrap();
            assert!(matches!(
                receive_bytes(&theirs, &mut [0; 5], soon()),
                Err(ReceiveError::Truncated { received: 0, .. })
            ));
            drop((ours, theirs, file));
            assert_eq!(open_descriptors(), before);
        },
    );
}

#[test]
fn refused_descriptors_fail_at_the_peer_and_bytes_pass() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    // Descriptors already under way still arrive.
    send_all(&theirs, b"x", &[theirs.as_fd()], soon()).unwrap();
    if !refuse_descriptors(&ours).unwrap() {
        // Before Linux 6.16: nothing changes.
        send_all(&theirs, b"y", &[theirs.as_fd()], soon()).unwrap();
        return;
    }
    assert_eq!(
        receive_exact(&ours, &mut [0; 1], 1, soon()).unwrap().len(),
        1
    );
    match send_all(&theirs, b"y", &[theirs.as_fd()], soon()).unwrap_err() {
        SendError::Io {
            sent: 0, source, ..
        } => assert_eq!(source.raw_os_error(), Some(libc::EPERM)),
        error => panic!("{error:?}"),
    }
    send_all(&theirs, b"z", &[], soon()).unwrap();
    let mut buf = [0; 4];
    assert_eq!(receive(&ours, &mut buf, soon()).unwrap().bytes, 1);
    assert_eq!(buf[0], b'z');
    // The other direction is not affected.
    send_all(&ours, b"w", &[ours.as_fd()], soon()).unwrap();
    assert_eq!(
        receive_exact(&theirs, &mut buf[..1], 1, soon())
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn accepted_socket_inherits_the_refusal_of_its_listener() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    if !refuse_descriptors(&listener).unwrap() {
        return;
    }
    let client = UnixStream::connect(&path).unwrap();
    let refused = || {
        matches!(
            send_all(&client, b"x", &[client.as_fd()], soon()),
            Err(SendError::Io { sent: 0, .. })
        )
    };
    assert!(refused(), "before accept");
    let _accepted = listener.accept().unwrap();
    assert!(refused(), "after accept");
}

#[test]
fn refusing_on_what_is_no_unix_socket_is_an_error() {
    let null = File::open("/dev/null").unwrap();
    let error = refuse_descriptors(&null).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
}

#[test]
fn credentials_without_a_peer_are_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let unconnected = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let file = File::open(directory.path()).unwrap();
    for fd in [tcp.as_fd(), unconnected.as_fd(), file.as_fd()] {
        assert!(peer_credentials(fd).is_err());
    }
    assert_eq!(
        peer_credentials(&unconnected).unwrap_err().kind(),
        std::io::ErrorKind::NotConnected
    );
}

/// Path of the socket, in the environment of the second process.
const SOCKET: &str = "FDPASS_TEST_SOCKET";

#[test]
fn credentials_and_descriptors_cross_processes() {
    const NAME: &str = "credentials_and_descriptors_cross_processes";
    if let Some(path) = std::env::var_os(SOCKET) {
        return second_process(&UnixStream::connect(path).unwrap());
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([NAME, "--exact", "--test-threads=1"])
        .env(SOCKET, &path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().unwrap();

    let credentials = peer_credentials(&stream).unwrap();
    assert_eq!(credentials.pid, Some(child.id()));
    assert_eq!(credentials.uid, nix::unistd::getuid().as_raw());
    assert_eq!(credentials.gid, nix::unistd::getgid().as_raw());

    // A pipe made there works here, and the other way round.
    let reader = recv_fd(&stream, 1, soon()).unwrap();
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!(text, "from the second process");
    let (mut reader, writer) = std::io::pipe().unwrap();
    send_fd(&stream, 2, &writer, soon()).unwrap();
    drop(writer);
    text.clear();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through the pipe of the first");
    assert!(child.wait().unwrap().success());
    assert!(matches!(
        receive(&stream, &mut [0; 1], soon()),
        Err(ReceiveError::Closed { received: 0, .. })
    ));
}

fn second_process(stream: &UnixStream) {
    let credentials = peer_credentials(stream).unwrap();
    assert_eq!(credentials.pid, Some(std::os::unix::process::parent_id()));
    let (reader, mut writer) = std::io::pipe().unwrap();
    send_fd(stream, 1, &reader, soon()).unwrap();
    writer.write_all(b"from the second process").unwrap();
    drop(writer);
    let writer = recv_fd(stream, 2, soon()).unwrap();
    File::from(writer)
        .write_all(b"through the pipe of the first")
        .unwrap();
}

/// A pseudo-random sequence (xorshift64), the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }
}

/// One descriptor of each kind that a peer may offer.
fn kinds(stream: &UnixStream) -> Vec<OwnedFd> {
    let (reader, writer) = std::io::pipe().unwrap();
    let (end, _) = UnixStream::pair().unwrap();
    let path_only = File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open("/")
        .unwrap();
    vec![
        File::open("/dev/null").unwrap().into(),
        File::open("/proc").unwrap().into(),
        path_only.into(),
        tempfile::tempfile().unwrap().into(),
        reader.into(),
        writer.into(),
        end.into(),
        stream.try_clone().unwrap().into(),
        nix::sys::eventfd::EventFd::new().unwrap().into(),
        nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::empty())
            .unwrap()
            .0,
    ]
}

/// FDPASS_HOSTILE sets the number of messages; the default suits every change.
#[test]
fn hostile_messages_leave_no_descriptor_behind() {
    alone("hostile_messages_leave_no_descriptor_behind", || {
        let messages = std::env::var("FDPASS_HOSTILE").map_or(500, |n| n.parse().unwrap());
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let before = open_descriptors();
        let mut accepted = 0;
        for message in 0..messages {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let kinds = kinds(&theirs);
            let open = open_descriptors();
            let expected = random.below(3);
            let mut total = 0;
            // Up to four pieces of a message of eight bytes, each with any number
            // of descriptors, mostly few; then sometimes silence, mostly death.
            for _ in 0..=random.below(4) {
                let most = [1, 2, 3, MAX_DESCRIPTORS + 1][random.below(4)];
                let fds: Vec<BorrowedFd<'_>> = (0..random.below(most))
                    .map(|_| kinds[random.below(kinds.len())].as_fd())
                    .collect();
                total += fds.len();
                let bytes = [0; 8];
                send_all(&theirs, &bytes[..1 + random.below(8)], &fds, soon()).unwrap();
            }
            let deadline = memenpsf_fdpass::Deadline::at(std::time::Instant::now());
            let mut buf = [0; 8];
            match random.below(4) {
                0 => {
                    if let Ok(received) = receive(&ours, &mut buf, deadline) {
                        assert!(all_have_close_on_exec(&received.fds));
                    }
                }
                1 => drop(receive_bytes(&ours, &mut buf, deadline)),
                _ => {
                    if let Ok(fds) = receive_exact(&ours, &mut buf, expected, deadline) {
                        assert_eq!(fds.len(), expected);
                        assert!(expected <= total);
                        assert!(all_have_close_on_exec(&fds));
                        accepted += 1;
                    }
                }
            }
            assert_eq!(open_descriptors(), open, "message {message}");
            drop((kinds, theirs, ours));
            assert_eq!(open_descriptors(), before, "message {message}");
        }
        // The mixture has both outcomes in it.
        assert!((1..messages).contains(&accepted), "{accepted}");
    });
}

#[test]
fn own_descriptors_stay_open_after_a_send() {
    alone("own_descriptors_stay_open_after_a_send", || {
        let files = files(3);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let before = open_descriptors();
        send_all(&ours, b"x", &borrow(&files), soon()).unwrap();
        assert_eq!(open_descriptors(), before);
        // The sender may close before the receiver looks.
        let expected = common::identities(&files);
        drop(files);
        let fds = receive_exact(&theirs, &mut [0; 1], 3, soon()).unwrap();
        assert_eq!(common::identities(&fds), expected);
    });
}
