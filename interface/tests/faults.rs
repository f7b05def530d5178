//! System calls that fail for real: limits of the process are lowered to every value
//! that matters, while connections are made. Each failure is a typed error that
//! names its cause, leaves nothing behind, and passes with the shortage.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use common::process::{Child, Note, Part};
use common::{HANG, Watchdog, alone, first_frame, holdings, try_pair, until};
use memenpsf::error::Step;
use memenpsf::frame::FRAME_LEN;
use memenpsf::layout::{Header, RegionLayout, RingKind, Shape};
use memenpsf::region::OwnRegion;
use memenpsf::{BindError, ConnectError, Interface, Name, Options, RegionError, Server};
use memenpsf_fdpass::{Deadline, ReceiveError, send_all, try_receive_bytes};
use nix::errno::Errno;
use nix::libc::rlim_t;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A soft limit of the process, set back when it is dropped.
struct Limited {
    resource: Resource,
    before: (rlim_t, rlim_t),
}

impl Limited {
    fn new(resource: Resource, limit: rlim_t) -> Self {
        let before = getrlimit(resource).unwrap();
        setrlimit(resource, limit, before.1).unwrap();
        Self { resource, before }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        setrlimit(self.resource, self.before.0, self.before.1).unwrap();
    }
}

/// The number that the next descriptor gets: with this limit, there is none.
fn lowest_free() -> rlim_t {
    let fd = std::fs::File::open("/dev/null").unwrap();
    rlim_t::try_from(fd.as_raw_fd()).unwrap()
}

fn is_shortage(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EMFILE as i32)
}

#[test]
#[ignore = "what the child process of another test runs"]
fn child() {
    let Some(part) = Part::of_this_process() else {
        return;
    };
    let mut server = Server::<u64>::bind(&part.address).unwrap();
    loop {
        let mut client = server.accept().unwrap();
        let _ = client.xmit(7);
        // Until it is gone.
        while client.recv_timeout(Some(HANG)).is_ok() {}
    }
}

fn answer(path: &Path) -> Result<Option<u64>, ConnectError> {
    let mut client = Interface::<u64>::connect(path)?;
    Ok(client.recv_timeout(Some(HANG)).unwrap())
}

/// Each number of descriptors from none to enough.
#[test]
fn client_without_descriptors_fails_at_each_step_and_recovers() {
    const NAME: &str = "client_without_descriptors_fails_at_each_step_and_recovers";
    alone(NAME, || {
        let _watchdog = Watchdog::new();
        let folder = tempfile::tempdir().unwrap();
        let (path, note) = (folder.path().join("socket"), folder.path().join("note"));
        let _server = Child::start("serve", &path, &note);
        let patient = Options::new().wait_for_server(HANG);
        drop(Interface::<u64>::connect_with(&path, &patient).unwrap());
        drop(Note::open(&note));
        let before = holdings();
        let free = lowest_free();
        let mut steps = Vec::new();
        for limit in 0.. {
            let limited = Limited::new(Resource::RLIMIT_NOFILE, limit);
            let answer = answer(&path);
            drop(limited);
            assert_eq!(holdings(), before);
            match answer {
                Ok(answer) => {
                    assert_eq!(answer, Some(7));
                    // A socket, and one region at a time.
                    assert_eq!(limit, free + 2);
                    break;
                }
                Err(ConnectError::Socket { source, .. }) if is_shortage(&source) => {
                    steps.push("socket");
                }
                Err(ConnectError::Region(RegionError::System { step, source }))
                    if is_shortage(&source) =>
                {
                    assert_eq!(step, Step::Create);
                    steps.push("region");
                }
                Err(error) => panic!("{limit} descriptors: {error}"),
            }
        }
        println!(
            "evidence: {} shortages of descriptors in a client",
            steps.len()
        );
        steps.dedup();
        assert_eq!(steps, ["socket", "region"]);
    });
}

#[test]
fn server_without_descriptors_fails_at_each_step_and_recovers() {
    const NAME: &str = "server_without_descriptors_fails_at_each_step_and_recovers";
    alone(NAME, || {
        let _watchdog = Watchdog::new();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let before = holdings();
        let mut shortages = 0;
        // Listener, epoll set, timer.
        for limit in 0.. {
            let limited = Limited::new(Resource::RLIMIT_NOFILE, limit);
            let server = Server::<u64>::bind(&path);
            drop(limited);
            match server {
                Ok(_) => break,
                Err(BindError::Socket { source, .. } | BindError::System(source)) => {
                    assert!(is_shortage(&source), "{source}");
                }
                Err(error) => panic!("{limit} descriptors: {error}"),
            }
            shortages += 1;
            assert!(!path.exists(), "{limit} descriptors");
            assert_eq!(holdings(), before);
        }
        assert!(shortages > 2);

        let mut server = Server::<u64>::bind(&path).unwrap();
        let before = holdings();
        let mut seen = Vec::new();
        // The connection; the client's region, and then its own.
        for spare in 0.. {
            let client = UnixStream::connect(&path).unwrap();
            let (frame, header) = first_frame();
            let (region, fd) = OwnRegion::create(&Name::new("x").unwrap(), &header).unwrap();
            send_all(&client, &frame, &[fd.as_fd()], Deadline::never()).unwrap();
            drop(fd);
            let counted = server.stats();
            let limited = Limited::new(Resource::RLIMIT_NOFILE, lowest_free() + spare);
            let outcome = until(|| {
                assert!(server.try_accept().unwrap().is_none());
                let stats = server.stats();
                if stats.pauses > counted.pauses {
                    return Some("pause");
                }
                if stats.failed > counted.failed {
                    return Some("refusal");
                }
                hello(&client).then_some("hello")
            });
            drop(limited);
            drop((client, region));
            until(|| {
                assert!(server.try_accept().unwrap().is_none());
                (holdings() == before).then_some(())
            });
            seen.push(outcome);
            if outcome == "hello" {
                break;
            }
            shortages += 1;
        }
        assert_eq!(seen, ["pause", "refusal", "hello"]);
        println!("evidence: {shortages} shortages of descriptors in a server");
    });
}

/// Tells whether a whole frame has come, without waiting.
fn hello(stream: &UnixStream) -> bool {
    match try_receive_bytes(stream, &mut [0; FRAME_LEN]) {
        Ok(count) => count == FRAME_LEN,
        // It comes with a descriptor, for which there is no room here.
        Err(ReceiveError::Truncated { .. }) => true,
        Err(ReceiveError::WouldBlock) => false,
        Err(error) => panic!("{error}"),
    }
}

/// A header whose region has `slots` words beside its own pages.
fn large(slots: u64) -> Header {
    Header {
        shape: Shape::of::<u64>(RingKind::Index, slots, ""),
        layout: RegionLayout::new(128 + slots * 8, 1 << 30).unwrap(),
        nonce: 7,
    }
}

/// The kernel sends SIGXFSZ to whoever makes a file longer than the limit, which
/// would end the process.
#[test]
fn limit_of_file_sizes_is_an_error_and_no_signal() {
    alone("limit_of_file_sizes_is_an_error_and_no_signal", || {
        let header = large(1 << 12);
        let length = header.layout.len() as u64;
        let name = Name::new("x").unwrap();
        let before = holdings();
        let mut refused = 0;
        for below in [length, length - 1, 4096, 1] {
            let _limited = Limited::new(Resource::RLIMIT_FSIZE, length - below);
            let error = OwnRegion::create(&name, &header).unwrap_err();
            let text = error.to_string();
            assert!(
                matches!(error, RegionError::FileSize { needed, limit }
                    if needed == length && limit == length - below),
                "{text}"
            );
            assert_eq!(holdings(), before);
            refused += 1;
        }
        {
            let _limited = Limited::new(Resource::RLIMIT_FSIZE, length);
            OwnRegion::create(&name, &header).unwrap();
        }
        {
            let _limited = Limited::new(Resource::RLIMIT_FSIZE, 0);
            let (client, _server) = try_pair::<u64>(&Options::new(), &Options::new());
            let text = client.unwrap_err().to_string();
            assert!(text.contains("raise RLIMIT_FSIZE"), "{text}");
        }
        println!("evidence: {refused} limits of file sizes are errors and no signal");
    });
}

#[test]
fn limit_of_the_address_space_is_an_error() {
    alone("limit_of_the_address_space_is_an_error", || {
        let name = Name::new("x").unwrap();
        let before = holdings();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let (_, size) = status.split_once("VmSize:").unwrap();
        let size: rlim_t = size.split_whitespace().next().unwrap().parse().unwrap();
        // Room for what the test itself needs, and not for 32 MiB.
        let limited = Limited::new(Resource::RLIMIT_AS, (size << 10) + (8 << 20));
        let answer = OwnRegion::create(&name, &large(4 << 20));
        drop(limited);
        match answer {
            Err(RegionError::System { step, source }) => {
                assert_eq!(step, Step::Map);
                assert_eq!(source.raw_os_error(), Some(Errno::ENOMEM as i32));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(holdings(), before);
        OwnRegion::create(&name, &large(4 << 20)).unwrap();
    });
}
