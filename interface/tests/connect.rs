//! Connections that do not come about, and addresses.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::fmt::Debug;
use std::io::ErrorKind::{ConnectionRefused, NotFound};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use common::{HANG, Watchdog, first_frame, let_the_clock_tick, pair, try_pair, until};
use memenpsf::error::{Field, NameError};
use memenpsf::{
    ConnectError, HandshakeError, Interface, Options, Plain, Reason, Refusal, RegionError, Role,
};
use memenpsf_ring::LayoutError;

#[test]
fn wrong_capacity_is_refused_where_it_was_chosen() {
    for capacity in [0, 3, 1000] {
        let wrong = Options::new().capacity(capacity);
        for (client, server) in [(&wrong, &Options::new()), (&Options::new(), &wrong)] {
            let (client_end, server_end) = try_pair::<u64>(client, server);
            let (wrong_end, other_end) = if std::ptr::eq(client, &raw const wrong) {
                (client_end, server_end)
            } else {
                (server_end, client_end)
            };
            let error = wrong_end.unwrap_err();
            assert!(
                matches!(error, ConnectError::Capacity(LayoutError::Capacity { given }) if given == capacity),
                "{error}"
            );
            let words = format!("capacity {capacity} is not a power of two of at least 1");
            assert_eq!(error.to_string(), words);
            assert_closed(&other_end.unwrap_err());
        }
    }
    let error = try_pair::<u64>(&Options::new().capacity(1 << 63), &Options::new())
        .0
        .unwrap_err();
    assert!(matches!(
        error,
        ConnectError::Capacity(LayoutError::TooLarge { .. })
    ));
}

/// The other end went away before it said anything.
#[track_caller]
fn assert_closed(error: &ConnectError) {
    assert!(
        matches!(
            error,
            ConnectError::Handshake(HandshakeError::Closed { received: 0 })
        ),
        "{error:?}"
    );
}

#[test]
fn wrong_name_is_refused_where_it_was_chosen() {
    let long = "x".repeat(65);
    for (name, expected) in [
        (&*long, NameError::TooLong { len: 65, limit: 64 }),
        ("a\nb", NameError::Forbidden { offset: 1 }),
    ] {
        let (wrong, other) = try_pair::<u64>(&Options::new().name(name), &Options::new());
        assert!(matches!(wrong, Err(ConnectError::Name(error)) if error == expected));
        assert_closed(&other.unwrap_err());
    }
    let name = "x".repeat(64);
    let (client, server) = pair::<u64>(&Options::new().name(&name), &Options::new());
    assert_eq!((client.name(), server.peer().name()), (&*name, &*name));
}

/// One side refused, and the other was told so, in the same words.
#[track_caller]
fn refusal<T: Debug, U: Debug>(
    refusing: Result<T, ConnectError>,
    refused: Result<U, ConnectError>,
) -> Refusal {
    let (refusing, refused) = (refusing.unwrap_err(), refused.unwrap_err());
    match (&refusing, &refused) {
        (
            ConnectError::Handshake(HandshakeError::Refusing(ours)),
            ConnectError::Handshake(HandshakeError::Refused(theirs)),
        ) => {
            assert_eq!(ours, theirs);
            assert_eq!(
                refusing.to_string(),
                format!("the peer was refused: {ours}")
            );
            assert_eq!(refused.to_string(), format!("the peer refused: {theirs}"));
            ours.clone()
        }
        ends => panic!("{ends:?}"),
    }
}

#[track_caller]
fn mismatch(refusal: &Refusal) -> (Field, u64, u64) {
    match refusal.reason() {
        Reason::Mismatch(mismatch) => (mismatch.field, mismatch.found, mismatch.expected),
        reason => panic!("{reason:?}"),
    }
}

/// Connects a client of one type with a server of another.
fn strangers<T: Plain + Debug, U: Plain + Debug>() -> Refusal {
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| Interface::<U>::new("", 8, theirs, 1));
        let client = Interface::<T>::new("", 8, ours, 0);
        refusal(server.join().unwrap(), client)
    })
}

#[test]
fn elements_that_differ_are_refused_with_both_values() {
    let size = strangers::<u32, u64>();
    assert_eq!(mismatch(&size), (Field::ElementSize, 4, 8));
    assert_eq!(
        size.to_string(),
        "element size is 4, expected 8: \
         elements of 4 bytes aligned to 4 meet elements of 8 bytes aligned to 8"
    );
    let align = strangers::<u64, [u8; 8]>();
    assert_eq!(mismatch(&align), (Field::ElementAlign, 8, 1));
    assert_eq!(
        align.to_string(),
        "element alignment is 8, expected 1: \
         elements of 8 bytes aligned to 8 meet elements of 8 bytes aligned to 1"
    );
}

#[test]
fn schemas_that_differ_are_refused() {
    let options = |schema| Options::new().schema(schema);
    let (client, server) = try_pair::<u64>(&options("orders/v1"), &options("orders/v2"));
    assert_eq!(mismatch(&refusal(server, client)).0, Field::LayoutHash);
    pair::<u64>(&options("orders/v1"), &options("orders/v1"));
}

#[test]
fn two_clients_refuse_each_other() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| Interface::<u64>::new("", 8, theirs, 0));
        let one = Interface::<u64>::new("", 8, ours, 0);
        for end in [one, other.join().unwrap()] {
            let error = end.unwrap_err();
            let words = "role is 0, expected 1";
            assert!(error.to_string().ends_with(words), "{error}");
        }
    });
}

#[test]
fn two_servers_wait_until_the_first_gives_up() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let patient = Options::new().handshake_timeout(None);
        let other = scope.spawn(move || Interface::<u64>::establish(theirs, 1, &patient));
        let hasty = Options::new().handshake_timeout(Some(Duration::from_millis(50)));
        let one = Interface::<u64>::establish(ours, 1, &hasty);
        assert!(matches!(one, Err(ConnectError::Timeout)));
        let error = other.join().unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the peer refused: the handshake took too long"
        );
    });
}

#[test]
fn own_region_beyond_the_own_limit_is_not_made() {
    let small = Options::new().capacity(1024).region_limit(4096);
    let (client, server) = try_pair::<u64>(&small, &Options::new());
    let error = client.unwrap_err();
    assert!(matches!(
        error,
        ConnectError::Region(RegionError::TooLarge {
            needed: 12288,
            limit: 4096
        })
    ));
    assert!(
        error
            .to_string()
            .ends_with("the region needs 12288 bytes, the limit is 4096")
    );
    assert_closed(&server.unwrap_err());
}

#[test]
fn peers_region_beyond_the_limit_is_refused_by_either_side() {
    let large = Options::new().capacity(1024);
    let small = Options::new().capacity(1).region_limit(4096);
    let expected = Reason::Memory {
        needed: 12288,
        limit: 4096,
    };
    let (client, server) = try_pair::<u64>(&large, &small);
    assert_eq!(refusal(server, client).reason(), expected);
    let (client, server) = try_pair::<u64>(&small, &large);
    assert_eq!(refusal(client, server).reason(), expected);
}

#[test]
fn silent_peer_is_given_up_and_told_so() {
    let _watchdog = Watchdog::new();
    let patience = Duration::from_millis(50);
    let options = Options::new().handshake_timeout(Some(patience));
    for role in [Role::Client, Role::Server] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let began = Instant::now();
        let end = Interface::<u64>::establish(ours, role, &options);
        assert!(matches!(end, Err(ConnectError::Timeout)));
        assert!(began.elapsed() >= patience);
        assert_eq!(last_refusal(&theirs).reason(), Reason::Deadline);
    }
}

/// Reads all frames, the last of which is a refusal.
fn last_refusal(mut stream: &UnixStream) -> Refusal {
    use std::io::Read;
    let mut bytes = Vec::new();
    stream.set_read_timeout(Some(HANG)).unwrap();
    // A reset, because we have not been read to the end, comes after the bytes.
    let _ = stream.read_to_end(&mut bytes);
    memenpsf::frame::decode_refusal(bytes.last_chunk().unwrap())
}

/// The first bytes that a client sends.
fn first_bytes(len: usize) -> Vec<u8> {
    first_frame().0[..len].to_vec()
}

#[test]
fn half_a_hello_is_given_up() {
    let _watchdog = Watchdog::new();
    use std::io::Write;
    let options = Options::new().handshake_timeout(Some(Duration::from_millis(50)));
    for len in [1, 7, 8, 100, 255] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&first_bytes(len)).unwrap();
        let end = Interface::<u64>::establish(ours, 1, &options);
        assert!(matches!(end, Err(ConnectError::Timeout)));
        assert_eq!(last_refusal(&theirs).reason(), Reason::Deadline);
    }
}

#[test]
fn trickle_of_bytes_does_not_extend_the_deadline() {
    let _watchdog = Watchdog::new();
    use std::io::Write;
    let options = Options::new().handshake_timeout(Some(Duration::from_millis(50)));
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // 255 bytes at this pace take 2.5 s.
            for byte in first_bytes(255) {
                if theirs.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            panic!("it was listened to all of it");
        });
        let end = Interface::<u64>::establish(ours, 1, &options);
        assert!(matches!(end, Err(ConnectError::Timeout)));
    });
}

#[test]
fn half_a_hello_and_the_end_of_the_stream_is_closed() {
    use std::io::Write;
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&first_bytes(100)).unwrap();
    drop(theirs);
    let end = Interface::<u64>::establish(ours, 1, &Options::new());
    assert!(matches!(
        end,
        Err(ConnectError::Handshake(HandshakeError::Closed {
            received: 100
        }))
    ));
}

#[test]
fn server_without_a_free_descriptor_blames_itself() {
    common::alone("server_without_a_free_descriptor_blames_itself", || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let client = std::thread::spawn(|| Interface::<u64>::new("", 8, theirs, 0));
        // The client's hello waits in our socket, its descriptor in flight.
        let mut peeked = [0; 256];
        until(|| {
            let flags = nix::sys::socket::MsgFlags::MSG_PEEK;
            let fd = std::os::fd::AsRawFd::as_raw_fd(&ours);
            (nix::sys::socket::recv(fd, &mut peeked, flags).unwrap() == 256).then_some(())
        });
        let mut hoard = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        let error = Interface::<u64>::new("", 8, ours, 1).unwrap_err();
        drop(hoard);
        assert!(matches!(error, ConnectError::Receive(_)), "{error:?}");
        let error = client.join().unwrap().unwrap_err();
        let words = "the peer refused: the region was not accepted: ";
        assert!(error.to_string().starts_with(words), "{error}");
    });
}

// --- addresses ---

fn socket_error(address: impl AsRef<std::path::Path>) -> std::io::ErrorKind {
    match Interface::<u64>::connect(address).unwrap_err() {
        ConnectError::Socket { source, .. } => source.kind(),
        error => panic!("{error:?}"),
    }
}

#[test]
fn connect_to_nobody_is_a_socket_error_that_names_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    assert_eq!(socket_error(&path), NotFound);
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(socket_error(&path), ConnectionRefused);
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(socket_error(&file), ConnectionRefused);
    let name = format!("@memenpsf-nobody-{}", std::process::id());
    assert_eq!(socket_error(&name), ConnectionRefused);

    let words = Interface::<u64>::connect(&path).unwrap_err().to_string();
    let address = path.display();
    assert!(
        words.starts_with(&format!("no connection to `{address}`: ")),
        "{words}"
    );
}

#[test]
fn impossible_addresses_are_refused_before_any_socket() {
    let long = "x".repeat(108);
    let long_name = format!("@{}", "x".repeat(108));
    for address in ["", "@", "a\0b", &long, &long_name] {
        let error = Interface::<u64>::connect(address).unwrap_err();
        assert!(
            matches!(&error, ConnectError::Address { path, .. } if path.as_os_str() == address),
            "{error:?}"
        );
        assert!(error.to_string().contains("is no address of a socket"));
    }
    // The longest that there can be.
    assert_eq!(socket_error("x".repeat(107)), NotFound);
    assert_eq!(
        socket_error(format!("@{}", "x".repeat(107))),
        ConnectionRefused
    );
}

/// Serves one client that sends 1.
fn serve(listener: &UnixListener) {
    let (stream, _) = listener.accept().unwrap();
    let mut server = Interface::<u64>::accept(stream).unwrap();
    assert_eq!(until(|| server.recv().unwrap()), 1);
}

#[test]
fn connect_reaches_paths_and_abstract_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let name = format!("memenpsf-api-{}", std::process::id());
    let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
    let abstract_listener = UnixListener::bind_addr(&abstract_address).unwrap();
    std::thread::scope(|scope| {
        let path = &path;
        let clients = scope.spawn(move || {
            let mut client = Interface::<u64>::connect(path).unwrap();
            assert_eq!((client.name(), client.role()), ("", Role::Client));
            client.xmit(1).unwrap();
            let options = Options::new().name("named");
            let mut client = Interface::<u64>::connect_with(format!("@{name}"), &options).unwrap();
            assert_eq!(client.name(), "named");
            client.xmit(1).unwrap();
        });
        serve(&listener);
        serve(&abstract_listener);
        clients.join().unwrap();
    });
}

#[test]
fn wait_for_server_connects_once_one_appears() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    // An address that exists without a server, as after a crash, counts as none.
    drop(UnixListener::bind(&path).unwrap());
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let options = Options::new().wait_for_server(HANG);
            let mut client = Interface::<u64>::connect_with(&path, &options).unwrap();
            client.xmit(1).unwrap();
        });
        // Long enough for some attempts; with none the test shows less.
        let_the_clock_tick();
        std::fs::remove_file(&path).unwrap();
        let_the_clock_tick();
        assert!(!client.is_finished());
        serve(&UnixListener::bind(&path).unwrap());
    });
}

#[test]
fn wait_for_server_ends_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let patience = Duration::from_millis(50);
    let options = Options::new().wait_for_server(patience);
    let began = Instant::now();
    let end = Interface::<u64>::connect_with(folder.path().join("socket"), &options);
    assert!(matches!(end, Err(ConnectError::Socket { .. })));
    assert!(began.elapsed() >= patience);
}

/// Fills the backlog of a listener, so that a further client has to wait.
fn fill_backlog(listener: &UnixListener) -> Vec<std::os::fd::OwnedFd> {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, connect, listen, socket,
    };
    use std::os::fd::AsRawFd;
    listen(listener, Backlog::new(0).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let address = UnixAddr::new(address.as_pathname().unwrap()).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            None,
        )
        .unwrap();
        match connect(client.as_raw_fd(), &address) {
            Ok(()) => waiting.push(client),
            Err(errno) => {
                assert_eq!(errno, nix::errno::Errno::EAGAIN);
                return waiting;
            }
        }
    }
}

#[test]
fn server_that_does_not_accept_is_given_up_at_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let _waiting = fill_backlog(&listener);
    let patience = Duration::from_millis(50);
    let options = Options::new().handshake_timeout(Some(patience));
    let began = Instant::now();
    let error = Interface::<u64>::connect_with(&path, &options).unwrap_err();
    assert!(began.elapsed() >= patience);
    assert!(
        matches!(&error, ConnectError::Socket { source, .. } if source.kind() == std::io::ErrorKind::WouldBlock),
        "{error:?}"
    );
}

#[test]
fn server_that_appears_late_and_busy_is_waited_for_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let handshake = Duration::from_secs(1);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let options = Options::new()
                .wait_for_server(HANG)
                .handshake_timeout(Some(handshake));
            Interface::<u64>::connect_with(&path, &options)
        });
        // It appears when a handshake that began with the first attempt would be
        // too late, and with a full backlog.
        std::thread::sleep(handshake);
        let elsewhere = folder.path().join("elsewhere");
        let listener = UnixListener::bind(&elsewhere).unwrap();
        let waiting = fill_backlog(&listener);
        std::fs::rename(&elsewhere, &path).unwrap();
        // Time for some attempts that meet the backlog.
        std::thread::sleep(Duration::from_millis(100));
        for _ in waiting {
            listener.accept().unwrap();
        }
        listener.set_nonblocking(true).unwrap();
        let server = until(|| match listener.accept() {
            Ok((stream, _)) => Some(Interface::<u64>::accept(stream)),
            Err(_) if client.is_finished() => Some(Err(ConnectError::Timeout)),
            Err(_) => None,
        });
        client.join().unwrap().unwrap();
        server.unwrap();
    });
}
