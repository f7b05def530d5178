//! Deadlines and signals. Times have lower bounds only.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::os::unix::net::UnixStream;
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{alone, files, open_descriptors, pattern, soon};
use memenpsf_fdpass::sys::{Interest, Linux, System};
use memenpsf_fdpass::{
    Deadline, ReceiveError, SendError, receive, receive_bytes, receive_bytes_exact, receive_exact,
    send_all, try_send,
};
use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::{setsockopt, sockopt};
use std::os::fd::AsFd;

const SHORT: Duration = Duration::from_millis(30);

/// A connected pair, blocking and non-blocking.
fn pairs() -> [(UnixStream, UnixStream); 2] {
    [false, true].map(|nonblocking| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(nonblocking).unwrap();
        theirs.set_nonblocking(nonblocking).unwrap();
        (ours, theirs)
    })
}

#[test]
fn deadline_ends_a_receive_from_a_silent_peer() {
    for (_ours, theirs) in pairs() {
        let mut buf = [0; 4];
        type Call<'a> = &'a mut dyn FnMut(Deadline) -> Result<(), ReceiveError>;
        let calls: [(Call<'_>, usize); 4] = [
            (&mut |d| receive(&theirs, &mut [0; 4], d).map(drop), 1),
            (&mut |d| receive_bytes(&theirs, &mut [0; 4], d).map(drop), 1),
            (&mut |d| receive_exact(&theirs, &mut buf, 1, d).map(drop), 4),
            (&mut |d| receive_bytes_exact(&theirs, &mut [0; 4], d), 4),
        ];
        for (call, needed) in calls {
            let start = Instant::now();
            let error = call(Deadline::after(SHORT)).unwrap_err();
            assert!(start.elapsed() >= SHORT);
            assert!(
                matches!(error, ReceiveError::Timeout { received: 0, expected, .. }
                    if expected == needed),
                "{error:?}"
            );
        }
    }
}

#[test]
fn deadline_in_the_middle_says_what_arrived_and_closes_descriptors() {
    alone(
        "deadline_in_the_middle_says_what_arrived_and_closes_descriptors",
        || {
            let files = files(1);
            for (ours, theirs) in pairs() {
                let before = open_descriptors();
                send_all(&ours, b"abc", &[files[0].as_fd()], soon()).unwrap();
                let start = Instant::now();
                let error =
                    receive_exact(&theirs, &mut [0; 8], 1, Deadline::after(SHORT)).unwrap_err();
                assert!(start.elapsed() >= SHORT);
                assert!(
                    matches!(
                        error,
                        ReceiveError::Timeout {
                            received: 3,
                            expected: 8,
                            ..
                        }
                    ),
                    "{error:?}"
                );
                assert_eq!(open_descriptors(), before);
            }
        },
    );
}

#[test]
fn deadline_ends_a_send_to_a_peer_that_does_not_read() {
    for (ours, theirs) in pairs() {
        setsockopt(&ours, sockopt::SndBuf, &1).unwrap();
        let message = pattern(1 << 20);
        let start = Instant::now();
        let error = send_all(&ours, &message, &[], Deadline::after(SHORT)).unwrap_err();
        assert!(start.elapsed() >= SHORT);
        let SendError::Timeout { sent, expected, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(expected, message.len());
        // Exactly the bytes that the error names are in the socket.
        let mut buf = vec![0; sent];
        receive_bytes_exact(&theirs, &mut buf, soon()).unwrap();
        assert!(buf == message[..sent]);
        drop(ours);
        assert!(matches!(
            receive(&theirs, &mut [0; 1], soon()),
            Err(ReceiveError::Closed { .. })
        ));
    }
}

#[test]
fn past_deadline_still_takes_what_is_there() {
    for (ours, theirs) in pairs() {
        let past = Deadline::at(Instant::now());
        send_all(&ours, b"abcd", &[ours.as_fd()], past).unwrap();
        let mut buf = [0; 4];
        assert_eq!(receive_exact(&theirs, &mut buf, 1, past).unwrap().len(), 1);
        assert!(matches!(
            receive(&theirs, &mut buf, past),
            Err(ReceiveError::Timeout { received: 0, .. })
        ));
    }
}

#[test]
fn waiting_receive_is_woken_by_bytes_and_by_death() {
    for (ours, theirs) in pairs() {
        let receiver = thread::spawn(move || {
            let mut buf = [0; 4];
            let fds = receive_exact(&theirs, &mut buf, 1, soon()).unwrap();
            assert_eq!((&buf, fds.len()), (b"wake", 1));
            drop(fds);
            receive(&theirs, &mut buf, soon()).unwrap_err()
        });
        let file = files(1);
        send_all(&ours, b"wake", &[file[0].as_fd()], soon()).unwrap();
        drop(ours);
        assert!(matches!(
            receiver.join().unwrap(),
            ReceiveError::Closed { received: 0, .. }
        ));
    }
}

#[test]
fn wait_sleeps_until_what_it_is_asked_for() {
    let ready = |socket: &UnixStream, interest| {
        Linux
            .wait(socket.as_fd(), interest, Deadline::at(Instant::now()))
            .unwrap()
    };
    for (ours, theirs) in pairs() {
        // An idle socket takes bytes and has none.
        assert!(ready(&ours, Interest::Writable));
        assert!(!ready(&ours, Interest::Readable));
        while try_send(&theirs, &[0; 4096], &[]).is_ok() {}
        assert!(!ready(&theirs, Interest::Writable));
        assert!(ready(&ours, Interest::Readable));
        // Death makes both ready: the next call reports it.
        drop(theirs);
        assert!(ready(&ours, Interest::Writable));
        assert!(ready(&ours, Interest::Readable));
    }
}

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: nix::libc::c_int) {
    // Relaxed: a counter; nothing is published with it.
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Installs a handler that interrupts system calls.
fn interrupting_signal() -> Signal {
    // No SA_RESTART: poll fails with EINTR.
    let action = SigAction::new(
        SigHandler::Handler(count),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler only adds to an atomic, which is async-signal-safe.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    Signal::SIGUSR1
}

/// Signals a thread until the handler has run `n` times more.
fn storm<T>(thread: &thread::JoinHandle<T>, n: usize) {
    let end = HANDLED.load(Ordering::Relaxed) + n;
    while HANDLED.load(Ordering::Relaxed) < end {
        assert!(!thread.is_finished(), "a signal ended the call");
        // The thread is not joined, so its id is still its own.
        pthread_kill(thread.as_pthread_t(), Signal::SIGUSR1).unwrap();
        thread::yield_now();
    }
}

#[test]
fn signals_do_not_end_a_receive() {
    alone("signals_do_not_end_a_receive", || {
        interrupting_signal();
        for (ours, theirs) in pairs() {
            let receiver = thread::spawn(move || {
                let mut buf = [0; 8];
                receive_exact(&theirs, &mut buf, 1, Deadline::never()).map(|fds| (buf, fds.len()))
            });
            // The receiver has nothing to read: nearly every signal meets it asleep.
            storm(&receiver, 1000);
            send_all(&ours, b"half", &[ours.as_fd()], soon()).unwrap();
            storm(&receiver, 1000);
            send_all(&ours, b"full", &[], soon()).unwrap();
            assert_eq!(receiver.join().unwrap().unwrap(), (*b"halffull", 1));
        }
    });
}

#[test]
fn signals_do_not_end_a_send() {
    alone("signals_do_not_end_a_send", || {
        interrupting_signal();
        for (ours, theirs) in pairs() {
            setsockopt(&ours, sockopt::SndBuf, &1).unwrap();
            let message = pattern(1 << 16);
            let sender = thread::spawn({
                let message = message.clone();
                move || send_all(&ours, &message, &[ours.as_fd()], Deadline::never())
            });
            // The socket is full at once and nobody reads yet.
            storm(&sender, 1000);
            let mut buf = vec![0; message.len()];
            let fds = receive_exact(&theirs, &mut buf, 1, soon()).unwrap();
            assert_eq!(fds.len(), 1);
            assert!(buf == message);
            sender.join().unwrap().unwrap();
        }
    });
}

#[test]
fn signals_do_not_move_the_deadline() {
    alone("signals_do_not_move_the_deadline", || {
        interrupting_signal();
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let start = Instant::now();
        let receiver = thread::spawn(move || {
            receive(&theirs, &mut [0; 8], Deadline::after(SHORT)).unwrap_err()
        });
        // Signals until the call ends: an implementation that begins a new wait
        // after each one stays in this loop for ever.
        while !receiver.is_finished() {
            pthread_kill(receiver.as_pthread_t(), Signal::SIGUSR1).unwrap();
            thread::yield_now();
        }
        assert!(matches!(
            receiver.join().unwrap(),
            ReceiveError::Timeout { received: 0, .. }
        ));
        assert!(start.elapsed() >= SHORT);
        assert_ne!(HANDLED.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn dead_peer_raises_no_sigpipe() {
    alone("dead_peer_raises_no_sigpipe", || {
        // Rust's start-up ignores SIGPIPE; a host program in C does not.
        // SAFETY: the default action is no handler and runs no code of ours.
        unsafe {
            nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl).unwrap();
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(matches!(
            send_all(&ours, b"x", &[], soon()),
            Err(SendError::Closed { .. })
        ));
        assert!(matches!(
            try_send(&ours, b"x", &[]),
            Err(SendError::Closed { .. })
        ));
    });
}
