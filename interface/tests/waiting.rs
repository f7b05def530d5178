//! Sleeping and waking between real processes and threads.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a failed test is what a panic says")]

mod common;

use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::{HANG, pair, pair_of, until};
use memenpsf::options::Ring;
use memenpsf::{
    ControlError, Departure, Interest, Interface, Options, RecvError, Waiting, XmitError,
};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Says to this binary, started again, which part to play and where.
const PART: &str = "MEMENPSF_WAITING_PART";

/// Hand-offs between two processes, half of them over each ring of plain data: each
/// is a sleep at one side and a wake-up by the other, two a round trip.
/// `MEMENPSF_HANDOFFS` sets another number.
fn handoffs() -> u64 {
    std::env::var("MEMENPSF_HANDOFFS").map_or(100_000, |count| count.parse().unwrap())
}

/// Plays the part of the other process, in a process of its own.
#[test]
fn part_of_the_other_process() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let (part, path) = part.split_once(':').unwrap();
    let mut peer = Interface::<u64>::connect_with(path, &options(part)).unwrap();
    loop {
        match peer.recv_timeout(None) {
            Ok(Some(n)) => peer.xmit_timeout(n, None).unwrap(),
            Ok(None) => {}
            Err(RecvError::Closed(Departure::Closed)) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn options(part: &str) -> Options {
    let (waiting, ring) = match part {
        "spin" => (Waiting::Spin, Ring::Fitting),
        "index" => (Waiting::Adaptive, Ring::Index),
        _ => (Waiting::Adaptive, Ring::Fitting),
    };
    let options = Options::new().capacity(1).waiting(waiting).ring(ring);
    // One slot: every second message finds the ring full.
    match part {
        "asleep" | "index" => options.longest_spin(Duration::ZERO),
        "fences" => options
            .longest_spin(Duration::ZERO)
            .asymmetric_barrier(false),
        _ => options,
    }
}

/// A process that echoes.
struct Echo(Child);

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn echo(part: &str, ours: &Options) -> (Interface<u64>, Echo) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "part_of_the_other_process"])
        .env(PART, format!("{part}:{}", path.display()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let child = Echo(child);
    let (stream, _) = listener.accept().unwrap();
    (Interface::accept_with(stream, ours).unwrap(), child)
}

#[test]
fn no_wake_up_is_lost_between_two_processes() {
    let trips = handoffs() / 4;
    let mut wakes = 0;
    // Sleeping at once over each ring; and spinning first, so that sleeps and
    // messages cross.
    for (part, trips) in [
        ("asleep", trips),
        ("index", trips),
        ("adaptive", trips / 10),
    ] {
        let (mut interface, mut child) = echo(part, &options(part));
        for n in 0..trips {
            let sent = interface.xmit_timeout(n, Some(HANG));
            assert_eq!(sent, Ok(()), "stalled at {n}");
            let back = interface.recv_timeout(Some(HANG));
            assert_eq!(back, Ok(Some(n)), "stalled at {n}");
        }
        wakes += interface.stats().wakes;
        interface.close();
        assert!(child.0.wait().unwrap().success());
    }
    // The other side was asleep often, however the machine is loaded.
    assert!(
        wakes > trips / 10,
        "{wakes} wake-ups in {trips} round trips"
    );
    println!(
        "evidence: {} hand-offs between two processes, 0 stalls, {wakes} wake-ups sent by one side",
        4 * trips
    );
}

/// As on a kernel without `membarrier`, at both ends or at one.
#[test]
fn ends_without_the_asymmetric_barrier_lose_no_wake_up() {
    const TRIPS: u64 = 5000;
    for (ours, theirs) in [
        ("fences", "fences"),
        ("fences", "asleep"),
        ("asleep", "fences"),
    ] {
        let (mut interface, mut child) = echo(theirs, &options(ours));
        for n in 0..TRIPS {
            interface.xmit_timeout(n, Some(HANG)).unwrap();
            let back = interface.recv_timeout(Some(HANG));
            assert_eq!(back, Ok(Some(n)), "{ours} and {theirs} stalled at {n}");
        }
        assert!(interface.stats().wakes > 0);
        interface.close();
        assert!(child.0.wait().unwrap().success());
    }
}

#[test]
fn spinning_and_sleeping_ends_understand_each_other() {
    for (ours, theirs) in [("spin", "adaptive"), ("adaptive", "spin")] {
        let (mut interface, mut child) = echo(theirs, &options(ours));
        for n in 0..1000 {
            interface.xmit_timeout(n, Some(HANG)).unwrap();
            assert_eq!(interface.recv_timeout(Some(HANG)), Ok(Some(n)));
        }
        interface.close();
        assert!(child.0.wait().unwrap().success());
    }
}

#[test]
fn death_of_the_peer_wakes_a_sleeper_for_data() {
    let (mut interface, mut child) = echo("adaptive", &options("adaptive"));
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| interface.recv_timeout(Some(HANG)));
        child.0.kill().unwrap();
        let end = sleeper.join().unwrap();
        assert_eq!(end, Err(RecvError::Closed(Departure::Gone)));
    });
}

#[test]
fn goodbye_wakes_a_sleeper_for_space() {
    let (mut ours, theirs) = pair_of::<u64>(1);
    ours.xmit(0).unwrap();
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| ours.xmit_timeout(1, Some(HANG)));
        theirs.close();
        let end = sleeper.join().unwrap();
        assert_eq!(end, Err(XmitError::Closed(1, Departure::Closed)));
    });
}

#[test]
fn control_message_wakes_a_sleeper() {
    let (mut ours, mut theirs) = pair_of::<u64>(1);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            let woken = ours.recv_timeout(Some(HANG));
            (woken, ours.recv_ctrl_msg().unwrap())
        });
        theirs.send_ctrl_msg([3, 4]).unwrap();
        assert_eq!(sleeper.join().unwrap(), (Ok(None), Some([3, 4])));
    });
}

#[test]
fn time_up_returns_nothing_and_gives_the_message_back() {
    let (mut ours, _theirs) = pair_of::<u64>(1);
    let brief = Some(Duration::from_millis(2));
    assert_eq!(ours.recv_timeout(brief), Ok(None));
    assert_eq!(ours.recv_timeout(Some(Duration::ZERO)), Ok(None));
    ours.xmit(1).unwrap();
    assert_eq!(ours.xmit_timeout(2, brief), Err(XmitError::Full(2)));
}

#[test]
fn both_halves_sleep_in_two_threads_and_lose_nothing() {
    const COUNT: u64 = 20_000;
    let (ours, theirs) = pair_of::<u64>(1);
    let (mut send, receive) = ours.split();
    let (mut send_back, receive_there) = theirs.split();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..COUNT {
                assert_eq!(send.xmit_timeout(n, Some(HANG)), Ok(()));
            }
        });
        scope.spawn(move || {
            for n in 0..COUNT {
                assert_eq!(send_back.xmit_timeout(n, Some(HANG)), Ok(()));
            }
        });
        for mut half in [receive, receive_there] {
            scope.spawn(move || {
                for n in 0..COUNT {
                    assert_eq!(half.recv_timeout(Some(HANG)), Ok(Some(n)));
                }
            });
        }
    });
}

#[test]
fn sleeping_end_uses_no_processor() {
    common::alone("sleeping_end_uses_no_processor", || {
        let (mut ours, _theirs) = pair_of::<u64>(1);
        let began = processor_time();
        let slept = Duration::from_secs(1);
        assert_eq!(ours.recv_timeout(Some(slept)), Ok(None));
        // A busy loop uses all of the second; a sleep some microseconds.
        let used = processor_time() - began;
        assert!(used < slept / 10, "used {used:?} in {slept:?} of sleep");
    });
}

fn processor_time() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
    Duration::from(time)
}

#[test]
fn awake_peer_costs_no_system_call() {
    let (mut ours, mut theirs) = pair_of::<u64>(64);
    for n in 0..10_000 {
        ours.xmit(n).unwrap();
        assert_eq!(theirs.recv(), Ok(Some(n)));
    }
    // Nobody slept, so nobody was woken: the socket is empty but for nothing.
    assert_eq!(ours.stats().wakes, 0);
    assert_eq!(theirs.stats().wakes, 0);
}

/// Echoes through an epoll loop on `flags` until the peer closes.
fn echo_by_epoll(mut interface: Interface<u64>, flags: EpollFlags) {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    epoll
        .add(interface.as_fd(), EpollEvent::new(flags, 7))
        .unwrap();
    let mut pending: Option<u64> = None;
    loop {
        let interest = match pending {
            Some(_) => Interest::SPACE,
            None => Interest::DATA,
        };
        if !interface.ready(interest).any() {
            let mut events = [EpollEvent::empty()];
            let hang = EpollTimeout::try_from(HANG).unwrap();
            assert_eq!(epoll.wait(&mut events, hang), Ok(1), "a lost wake-up");
            continue;
        }
        if let Some(message) = pending.take() {
            if let Err(error) = interface.xmit(message) {
                match error {
                    XmitError::Full(message) => pending = Some(message),
                    _ => return,
                }
            }
        } else {
            match interface.recv() {
                Ok(message) => pending = message,
                Err(RecvError::Closed(_)) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn epoll_loops_of_either_trigger_lose_nothing() {
    for flags in [
        EpollFlags::EPOLLIN,
        EpollFlags::EPOLLIN | EpollFlags::EPOLLET,
    ] {
        let (mut ours, theirs) = pair_of::<u64>(1);
        std::thread::scope(|scope| {
            scope.spawn(move || echo_by_epoll(theirs, flags));
            for n in 0..5_000 {
                ours.xmit_timeout(n, Some(HANG)).unwrap();
                if n % 2 == 1 {
                    for expected in [n - 1, n] {
                        assert_eq!(ours.recv_timeout(Some(HANG)), Ok(Some(expected)));
                    }
                }
            }
            ours.close();
        });
    }
}

#[test]
fn one_sleep_is_woken_once() {
    let (mut ours, mut theirs) = pair_of::<u64>(64);
    assert!(!theirs.ready(Interest::DATA).any());
    for n in 0..10 {
        ours.xmit(n).unwrap();
    }
    assert_eq!(ours.stats().wakes, 1);
    assert!(theirs.ready(Interest::DATA).readable);
    assert_eq!(theirs.recv_vectored().unwrap().len(), 10);
}

#[test]
fn sleep_announced_again_is_woken_again() {
    let (mut ours, mut theirs) = pair_of::<u64>(64);
    for n in 0..10 {
        assert!(!theirs.ready(Interest::DATA).any());
        ours.xmit(n).unwrap();
        assert_eq!(ours.stats().wakes, n + 1);
        // Received before the socket was read and without withdrawing: the
        // wake-up is read by the next call of `ready`, which sleeps anew.
        assert_eq!(theirs.recv(), Ok(Some(n)));
    }
}

#[test]
fn full_inbox_does_not_hide_a_wake_up() {
    let (mut ours, mut theirs) = pair_of::<u64>(1);
    // More control messages than the inbox takes, and nobody receives them.
    for _ in 0..1100 {
        if theirs.send_ctrl_msg([1, 1]).is_err() {
            break;
        }
    }
    let until_data = || loop {
        if let Some(message) = ours.recv_timeout(Some(HANG)).unwrap() {
            return message;
        }
    };
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(until_data);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(20) {
            std::thread::yield_now();
        }
        theirs.xmit(9).unwrap();
        assert_eq!(sleeper.join().unwrap(), 9);
    });
}

#[test]
fn control_messages_that_nobody_reads_keep_no_epoll_loop_awake() {
    for flags in [
        EpollFlags::EPOLLIN,
        EpollFlags::EPOLLIN | EpollFlags::EPOLLET,
    ] {
        let (mut ours, mut theirs) = pair_of::<u64>(1);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        epoll.add(&ours, EpollEvent::new(flags, 7)).unwrap();
        // More than the inbox and the socket hold together.
        let mut sent = 0;
        let end = Instant::now() + HANG;
        while sent < 20_000 {
            assert!(Instant::now() < end, "the socket is not read any more");
            match theirs.send_ctrl_msg([1, 1]) {
                Ok(()) => sent += 1,
                Err(ControlError::Full) => drop(ours.ready(Interest::DATA)),
                Err(error) => panic!("{error}"),
            }
        }
        let mut told = 0;
        while ours.ready(Interest::DATA).any() {
            assert_eq!(ours.recv(), Ok(None));
            told += 1;
            assert!(told < sent, "told to go on for ever");
        }
        let mut events = [EpollEvent::empty()];
        if !flags.contains(EpollFlags::EPOLLET) {
            assert_eq!(epoll.wait(&mut events, EpollTimeout::ZERO), Ok(0));
        }
        // The wake-up is not stuck behind them, and the latest of them are there.
        theirs.xmit(5).unwrap();
        let hang = EpollTimeout::try_from(HANG).unwrap();
        assert_eq!(epoll.wait(&mut events, hang), Ok(1));
        assert!(ours.ready(Interest::DATA).readable);
        assert_eq!(ours.recv(), Ok(Some(5)));
        assert_eq!(ours.stats().control_received, sent);
        assert_eq!(ours.recv_ctrl_msg().unwrap(), Some([1, 1]));
    }
}

#[test]
fn stopped_peer_is_waited_for_and_goes_on() {
    let (mut interface, child) = echo("adaptive", &options("adaptive"));
    let pid = nix::unistd::Pid::from_raw(child.0.id().try_into().unwrap());
    interface.xmit_timeout(1, Some(HANG)).unwrap();
    assert_eq!(interface.recv_timeout(Some(HANG)), Ok(Some(1)));
    nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP).unwrap();
    // The stop is asynchronous; whenever it comes, nothing is lost.
    let _ = interface.xmit(2);
    let early = interface
        .recv_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    nix::sys::signal::kill(pid, nix::sys::signal::SIGCONT).unwrap();
    let late = early.or_else(|| interface.recv_timeout(Some(HANG)).unwrap());
    assert_eq!(late, Some(2));
}

#[test]
fn spinning_end_finds_the_end() {
    let spinning = Options::new().waiting(Waiting::Spin);
    let (mut ours, theirs) = pair::<u64>(&spinning, &spinning);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(move || ours.recv_timeout(Some(HANG)));
        theirs.close();
        let end = waiter.join().unwrap();
        assert_eq!(end, Err(RecvError::Closed(Departure::Closed)));
    });
}

#[test]
fn descriptor_is_readable_after_the_end() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let other = std::thread::spawn(move || Interface::<u64>::new("b", 8, theirs, 0).unwrap());
    let mut interface = Interface::<u64>::new("a", 8, ours, 1).unwrap();
    drop(other.join().unwrap());
    until(|| interface.ready(Interest::DATA).ended.then_some(()));
    assert_eq!(interface.recv(), Err(RecvError::Closed(Departure::Closed)));
}
