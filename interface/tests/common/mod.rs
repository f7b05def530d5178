//! What several test binaries share.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

pub mod forger;
pub mod process;

use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use memenpsf::frame::Limits;
use memenpsf::handshake::{Handshake, fresh_nonce};
use memenpsf::layout::{Header, RegionLayout, RingKind, Shape};
use memenpsf::options::Ring;
use memenpsf::{ConnectError, Interface, Message, Name, Options, Plain};
use memenpsf_ring::{index, packed};

/// So long that only a hang reaches it: a test then fails instead of hanging.
pub const HANG: Duration = Duration::from_secs(60);

/// Repeats `attempt` until it returns something.
#[track_caller]
pub fn until<R>(mut attempt: impl FnMut() -> Option<R>) -> R {
    let began = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(began.elapsed() < HANG, "nothing happened for {HANG:?}");
        std::thread::yield_now();
    }
}

/// Ends the process if it is not dropped in time: for calls that might never
/// return.
pub struct Watchdog {
    _done: mpsc::Sender<()>,
}

impl Watchdog {
    pub fn new() -> Self {
        let (_done, done) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if done.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("a call has not returned for {HANG:?}");
                std::process::abort();
            }
        });
        Self { _done }
    }
}

/// Lets the kernel's coarse clock tick: an endpoint looks at its socket only
/// once a tick, which lasts 10 ms at most (`CONFIG_HZ` = 100).
pub fn let_the_clock_tick() {
    std::thread::sleep(Duration::from_millis(20));
}

/// What both ends of a pair of sockets get: first the client.
pub type Ends<T> = (
    Result<Interface<T>, ConnectError>,
    Result<Interface<T>, ConnectError>,
);

/// Connects a client with a server.
pub fn try_pair<T: Message + ?Sized>(client: &Options, server: &Options) -> Ends<T> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| Interface::establish(theirs, 1, server));
        (
            Interface::establish(ours, 0, client),
            server.join().unwrap(),
        )
    })
}

/// Connects a client with a server, which must succeed.
pub fn pair<T: Message + ?Sized>(
    client: &Options,
    server: &Options,
) -> (Interface<T>, Interface<T>) {
    let (client, server) = try_pair(client, server);
    (client.unwrap(), server.unwrap())
}

/// The rings that carry plain data.
pub const RINGS: [Ring; 2] = [Ring::Index, Ring::Packed];

/// Connects two ends of the same capacity over one kind of ring.
pub fn pair_over<T: Plain>(ring: Ring, capacity: usize) -> (Interface<T>, Interface<T>) {
    let options = Options::new().ring(ring).capacity(capacity);
    pair(&options, &options)
}

/// Connects two ends of the same capacity.
pub fn pair_of<T: Message + ?Sized>(capacity: usize) -> (Interface<T>, Interface<T>) {
    let options = Options::new().capacity(capacity);
    pair(&options, &options)
}

/// Names the test whose body the process is to run.
const ALONE: &str = "MEMENPSF_ALONE";

/// Runs `body` in a process of its own: this test binary, started again with the
/// one test `name`. For tests that count descriptors or change what belongs to
/// the whole process.
pub fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some_and(|value| value == name) {
        // The harness has begun a line.
        println!();
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
    for line in text.lines().filter(|line| line.starts_with("evidence: ")) {
        println!("{line}");
    }
}

/// What a connection holds of the system: open descriptors, mappings of regions,
/// and their memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Holdings {
    pub descriptors: usize,
    pub regions: usize,
    /// Resident shared memory, in kB.
    pub shared: u64,
}

/// Counts what this process holds.
pub fn holdings() -> Holdings {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let (_, shared) = status.split_once("RssShmem:").unwrap();
    Holdings {
        // The one that reads the directory is counted each time.
        descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
        regions: maps
            .lines()
            .filter(|line| line.contains("memfd:memenpsf"))
            .count(),
        shared: shared.split_whitespace().next().unwrap().parse().unwrap(),
    }
}

/// What the hello of a client says that sends `u64` through a ring of 8 slots.
pub fn header_of(kind: RingKind) -> Header {
    let shape = Shape::of::<u64>(kind, 8, "");
    let block = (limits().producer_len)(&shape).unwrap();
    Header {
        shape,
        layout: RegionLayout::new(block, 1 << 20).unwrap(),
        nonce: fresh_nonce(),
    }
}

/// The first frame of a client that sends `u64` by the default ring, and the header
/// of the region that has to come with it.
pub fn first_frame() -> (Vec<u8>, Header) {
    let header = header_of(RingKind::Packed);
    let client = Handshake::client(header, Name::new("client").unwrap(), limits());
    (client.transmit().unwrap().bytes.to_vec(), header)
}

/// What a peer made by hand accepts: rings of `u64`.
pub fn limits() -> Limits {
    Limits {
        region: 1 << 20,
        producer_len: |shape| {
            let capacity = usize::try_from(shape.capacity).ok()?;
            let block = match shape.kind {
                RingKind::Packed => packed::producer_block::<u64>(capacity),
                _ => index::producer_block::<u64>(capacity),
            };
            Some(block.ok()?.size() as u64)
        },
    }
}
