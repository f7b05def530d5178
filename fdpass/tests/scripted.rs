//! Every fault at every system call of every loop.
//!
//! A script stands between the loops and the kernel. It cuts each transfer into
//! small pieces, so that there are many calls, and injects one fault at the k-th.
//! The sockets and descriptors are real, so that what is sent, received and left
//! open can be counted. All tests count descriptors and so run alone.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use common::{
    Identity, all_have_close_on_exec, alone, borrow, files, identities, open_descriptors, pattern,
};
use memenpsf_fdpass::sys::{
    Arrival, Interest, Linux, System, receive_bytes_exact_on, receive_exact_on, receive_on,
    send_all_on, try_receive_on, try_send_on,
};
use memenpsf_fdpass::{Deadline, MAX_DESCRIPTORS, ReceiveError, SendError};
use nix::libc;

/// What the k-th call does instead of its work, or besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The call fails and does nothing.
    Errno(i32),
    /// The call transfers one byte only.
    Short,
    /// The call transfers, and the kernel says MSG_CTRUNC.
    Truncated,
    /// The call finds nothing, and the wait for it ends with this.
    Blocked(Wait),
}

/// How the wait behind a blocked call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Ready,
    InterruptedThenReady,
    Deadline,
    Errno(i32),
}

/// Faults after which a loop goes on.
const HARMLESS: [Fault; 6] = [
    Fault::None,
    Fault::Errno(libc::EINTR),
    Fault::Errno(libc::EAGAIN),
    Fault::Short,
    Fault::Blocked(Wait::Ready),
    Fault::Blocked(Wait::InterruptedThenReady),
];
/// Errors that the kernel may give to either side and that end a call.
const FATAL: [i32; 7] = [
    libc::ENOBUFS,
    libc::ENOMEM,
    libc::EMFILE,
    libc::ENFILE,
    libc::ETOOMANYREFS,
    libc::EBADF,
    libc::EPERM,
];
const GONE: [i32; 2] = [libc::EPIPE, libc::ECONNRESET];

struct Script {
    /// Most bytes of one call.
    piece: usize,
    fault: Fault,
    /// Index of the message call with the fault.
    at: usize,
    calls: usize,
    waits: Vec<Wait>,
    /// What every wait must be given.
    deadline: Deadline,
    interest: Interest,
}

impl Script {
    fn new(piece: usize, fault: Fault, at: usize, interest: Interest) -> Self {
        Self {
            piece,
            fault,
            at,
            calls: 0,
            waits: Vec::new(),
            deadline: common::soon(),
            interest,
        }
    }

    /// The fault of this message call, and its most bytes.
    fn next(&mut self, len: usize) -> io::Result<(usize, bool)> {
        let now = self.calls == self.at;
        self.calls += 1;
        let piece = len.min(self.piece);
        match self.fault {
            _ if !now => Ok((piece, false)),
            Fault::None => Ok((piece, false)),
            Fault::Errno(errno) => Err(io::Error::from_raw_os_error(errno)),
            Fault::Short => Ok((piece.min(1), false)),
            Fault::Truncated => Ok((piece, true)),
            Fault::Blocked(wait) => {
                self.waits.push(wait);
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }
}

impl System for Script {
    fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<usize> {
        assert!(!bytes.is_empty() && fds.len() <= MAX_DESCRIPTORS);
        let (len, _) = self.next(bytes.len())?;
        Linux.send(socket, &bytes[..len], fds)
    }

    fn receive(&mut self, socket: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Arrival> {
        let (len, truncated) = self.next(buf.len())?;
        let mut arrival = Linux.receive(socket, &mut buf[..len])?;
        arrival.truncated |= truncated;
        Ok(arrival)
    }

    fn receive_bytes(&mut self, socket: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Arrival> {
        let (len, truncated) = self.next(buf.len())?;
        let mut arrival = Linux.receive_bytes(socket, &mut buf[..len])?;
        arrival.truncated |= truncated;
        Ok(arrival)
    }

    fn wait(
        &mut self,
        socket: BorrowedFd<'_>,
        interest: Interest,
        deadline: Deadline,
    ) -> io::Result<bool> {
        // The caller's deadline, not one that begins anew after an interruption.
        assert_eq!(deadline, self.deadline);
        assert_eq!(interest, self.interest);
        match self.waits.pop() {
            None => Linux.wait(socket, interest, deadline),
            Some(Wait::Ready) => Ok(true),
            Some(Wait::InterruptedThenReady) => {
                self.waits.push(Wait::Ready);
                Err(io::ErrorKind::Interrupted.into())
            }
            Some(Wait::Deadline) => Ok(false),
            Some(Wait::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Takes everything that is in the socket: bytes, and identities of descriptors
/// with the position of the byte that each came with.
fn drain(socket: &UnixStream) -> (Vec<u8>, Vec<Identity>) {
    let (mut bytes, mut fds) = (Vec::new(), Vec::new());
    let mut buf = [0; 64];
    while let Ok(received) = try_receive_on(&mut Linux, socket.as_fd(), &mut buf) {
        bytes.extend_from_slice(&buf[..received.bytes]);
        fds.extend(identities(&received.fds));
    }
    (bytes, fds)
}

/// Calls `case` with the fault at call 0, 1, .. until one run makes no call with
/// that index. Returns how many calls there are without a fault.
fn at_every_call(fault: Fault, mut case: impl FnMut(usize) -> usize) {
    let mut at = 0;
    while case(at) > at {
        at += 1;
        assert!(at < 1000, "{fault:?}: the loop does not end");
    }
    assert_ne!(at, 0, "{fault:?}: no call was made");
}

const LEN: usize = 23;
const PIECE: usize = 3;

/// The result of a `send_all`, the bytes and descriptors that the peer then has,
/// and the number of calls.
type Sent = (Result<(), SendError>, Vec<u8>, Vec<Identity>, usize);

/// A `send_all` of 23 bytes and `fds` with one fault.
fn send_case(fds: &[BorrowedFd<'_>], fault: Fault, at: usize) -> Sent {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut script = Script::new(PIECE, fault, at, Interest::Writable);
    let deadline = script.deadline;
    let result = send_all_on(&mut script, ours.as_fd(), &pattern(LEN), fds, deadline);
    let (bytes, received) = drain(&theirs);
    (result, bytes, received, script.calls)
}

/// Runs `check` for one message of descriptors and for three.
fn for_each_number_of_descriptors(check: impl Fn(&[BorrowedFd<'_>])) {
    let files = files(5);
    let few = borrow(&files);
    let many: Vec<_> = few.iter().copied().cycle().take(2 * 253 + 5).collect();
    let before = open_descriptors();
    for fds in [&[][..], &few, &many] {
        check(fds);
        assert_eq!(open_descriptors(), before);
    }
}

#[test]
fn send_goes_on_after_every_harmless_fault() {
    alone("send_goes_on_after_every_harmless_fault", || {
        for_each_number_of_descriptors(|fds| {
            for fault in HARMLESS {
                at_every_call(fault, |at| {
                    let (result, bytes, received, calls) = send_case(fds, fault, at);
                    result.unwrap_or_else(|error| panic!("{fault:?} at {at}: {error:?}"));
                    assert_eq!(bytes, pattern(LEN), "{fault:?} at {at}");
                    assert_eq!(received, identities(fds), "{fault:?} at {at}");
                    calls
                });
            }
        });
    });
}

/// Checks that the peer has exactly the bytes that an error names, and each
/// descriptor that belongs to them once.
fn assert_prefix(sent: usize, bytes: &[u8], received: &[Identity], fds: &[BorrowedFd<'_>]) {
    assert_eq!(bytes, &pattern(LEN)[..sent]);
    // The first two of three messages carry one byte each.
    let expected = match sent {
        0 => 0,
        1 | 2 => fds.len().min(sent * MAX_DESCRIPTORS),
        _ => fds.len(),
    };
    assert_eq!(received, &identities(fds)[..expected]);
}

#[test]
fn send_ends_after_every_fatal_fault_with_what_was_sent() {
    alone(
        "send_ends_after_every_fatal_fault_with_what_was_sent",
        || {
            for_each_number_of_descriptors(|fds| {
                for errno in FATAL {
                    for fault in [Fault::Errno(errno), Fault::Blocked(Wait::Errno(errno))] {
                        at_every_call(fault, |at| {
                            let (result, bytes, received, calls) = send_case(fds, fault, at);
                            match result {
                                Ok(()) => assert!(calls <= at),
                                Err(SendError::Io { sent, source, .. }) => {
                                    assert_eq!(source.raw_os_error(), Some(errno));
                                    assert_eq!(calls, at + 1);
                                    assert_prefix(sent, &bytes, &received, fds);
                                }
                                Err(error) => panic!("{fault:?} at {at}: {error:?}"),
                            }
                            calls
                        });
                    }
                }
            });
        },
    );
}

#[test]
fn send_to_a_peer_that_is_gone_is_closed_at_every_call() {
    alone(
        "send_to_a_peer_that_is_gone_is_closed_at_every_call",
        || {
            for_each_number_of_descriptors(|fds| {
                for errno in GONE {
                    let fault = Fault::Errno(errno);
                    at_every_call(fault, |at| {
                        let (result, bytes, received, calls) = send_case(fds, fault, at);
                        match result {
                            Ok(()) => assert!(calls <= at),
                            Err(SendError::Closed {
                                sent,
                                expected: LEN,
                                source,
                                ..
                            }) => {
                                assert_eq!(source.raw_os_error(), Some(errno));
                                assert_prefix(sent, &bytes, &received, fds);
                            }
                            Err(error) => panic!("{fault:?} at {at}: {error:?}"),
                        }
                        calls
                    });
                }
            });
        },
    );
}

#[test]
fn send_at_its_deadline_says_what_was_sent_at_every_call() {
    alone(
        "send_at_its_deadline_says_what_was_sent_at_every_call",
        || {
            for_each_number_of_descriptors(|fds| {
                let fault = Fault::Blocked(Wait::Deadline);
                at_every_call(fault, |at| {
                    let (result, bytes, received, calls) = send_case(fds, fault, at);
                    match result {
                        Ok(()) => assert!(calls <= at),
                        Err(SendError::Timeout {
                            sent,
                            expected: LEN,
                            ..
                        }) => assert_prefix(sent, &bytes, &received, fds),
                        Err(error) => panic!("at {at}: {error:?}"),
                    }
                    calls
                });
            });
        },
    );
}

#[test]
fn try_send_makes_one_transfer_and_never_waits() {
    alone("try_send_makes_one_transfer_and_never_waits", || {
        let files = files(2);
        let fds = borrow(&files);
        for fault in [
            Fault::None,
            Fault::Short,
            Fault::Errno(libc::EINTR),
            Fault::Errno(libc::EAGAIN),
            Fault::Errno(libc::EPIPE),
            Fault::Errno(libc::ENOBUFS),
        ] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let mut script = Script::new(PIECE, fault, 0, Interest::Writable);
            let result = try_send_on(&mut script, ours.as_fd(), &pattern(LEN), &fds);
            let (bytes, received) = drain(&theirs);
            let sent = match (fault, result) {
                (Fault::None | Fault::Errno(libc::EINTR), Ok(PIECE)) => PIECE,
                (Fault::Short, Ok(1)) => 1,
                (Fault::Errno(libc::EAGAIN), Err(SendError::WouldBlock))
                | (Fault::Errno(libc::EPIPE), Err(SendError::Closed { sent: 0, .. }))
                | (Fault::Errno(libc::ENOBUFS), Err(SendError::Io { sent: 0, .. })) => 0,
                (fault, result) => panic!("{fault:?}: {result:?}"),
            };
            assert_prefix(sent, &bytes, &received, &fds);
        }
    });
}

/// A `receive_exact` of 23 bytes and 5 descriptors, which come with bytes 0, 1,
/// 7, 15 and 22, with one fault; returns the result and the number of calls.
fn receive_case(
    fault: Fault,
    at: usize,
    expected: usize,
) -> (Result<(usize, usize), ReceiveError>, usize) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let files = files(5);
    let message = pattern(LEN);
    let positions = [0, 1, 7, 15, 22, LEN];
    for (range, file) in positions.windows(2).zip(&files) {
        let piece = &message[range[0]..range[1]];
        send_all_on(
            &mut Linux,
            ours.as_fd(),
            piece,
            &[file.as_fd()],
            common::soon(),
        )
        .unwrap();
    }
    let mut script = Script::new(PIECE, fault, at, Interest::Readable);
    let deadline = script.deadline;
    let mut buf = vec![0; LEN];
    let before = open_descriptors();
    let result = receive_exact_on(&mut script, theirs.as_fd(), &mut buf, expected, deadline);
    let result = match result {
        Ok(fds) => {
            assert_eq!(buf, message);
            assert_eq!(identities(&fds), identities(&files));
            assert!(all_have_close_on_exec(&fds));
            assert_eq!(open_descriptors(), before + fds.len());
            Ok((LEN, fds.len()))
        }
        Err(error) => {
            assert_eq!(open_descriptors(), before, "{fault:?} at {at}");
            Err(error)
        }
    };
    // What is left in the socket continues where the call stopped.
    let (rest, _) = drain(&theirs);
    assert!(message.ends_with(&rest));
    if let Err(
        ReceiveError::Io { received, .. }
        | ReceiveError::Timeout { received, .. }
        | ReceiveError::Closed { received, .. },
    ) = &result
    {
        assert_eq!(received + rest.len(), LEN, "{fault:?} at {at}");
    }
    (result, script.calls)
}

#[test]
fn receive_goes_on_after_every_harmless_fault() {
    alone("receive_goes_on_after_every_harmless_fault", || {
        for fault in HARMLESS {
            at_every_call(fault, |at| {
                let (result, calls) = receive_case(fault, at, 5);
                assert_eq!(result.unwrap(), (LEN, 5), "{fault:?} at {at}");
                calls
            });
        }
    });
}

#[test]
fn receive_ends_after_every_fatal_fault_with_all_closed() {
    alone(
        "receive_ends_after_every_fatal_fault_with_all_closed",
        || {
            for errno in FATAL {
                for fault in [Fault::Errno(errno), Fault::Blocked(Wait::Errno(errno))] {
                    at_every_call(fault, |at| {
                        let (result, calls) = receive_case(fault, at, 5);
                        match result {
                            Ok(_) => assert!(calls <= at),
                            Err(ReceiveError::Io { source, .. }) => {
                                assert_eq!(source.raw_os_error(), Some(errno));
                                assert_eq!(calls, at + 1);
                            }
                            Err(error) => panic!("{fault:?} at {at}: {error:?}"),
                        }
                        calls
                    });
                }
            }
        },
    );
}

#[test]
fn receive_is_closed_truncated_or_late_at_every_call_with_all_closed() {
    alone(
        "receive_is_closed_truncated_or_late_at_every_call_with_all_closed",
        || {
            for fault in [
                Fault::Errno(libc::ECONNRESET),
                Fault::Errno(libc::EPIPE),
                Fault::Truncated,
                Fault::Blocked(Wait::Deadline),
            ] {
                at_every_call(fault, |at| {
                    let (result, calls) = receive_case(fault, at, 5);
                    match (fault, result) {
                        (_, Ok(_)) => assert!(calls <= at),
                        (
                            Fault::Errno(errno),
                            Err(ReceiveError::Closed {
                                expected: LEN,
                                source: Some(source),
                                ..
                            }),
                        ) => assert_eq!(source.raw_os_error(), Some(errno)),
                        (Fault::Truncated, Err(ReceiveError::Truncated { received, .. })) => {
                            assert!(received <= 5);
                        }
                        (Fault::Blocked(_), Err(ReceiveError::Timeout { expected: LEN, .. })) => {}
                        (fault, Err(error)) => panic!("{fault:?} at {at}: {error:?}"),
                    }
                    calls
                });
            }
        },
    );
}

#[test]
fn wrong_count_is_refused_whatever_happens_on_the_way() {
    alone("wrong_count_is_refused_whatever_happens_on_the_way", || {
        for expected in [0, 1, 2, 4, 6] {
            for fault in HARMLESS {
                at_every_call(fault, |at| {
                    let (result, calls) = receive_case(fault, at, expected);
                    let counts = match result {
                        Err(ReceiveError::DescriptorCount {
                            expected, received, ..
                        }) => (expected, received),
                        result => panic!("{fault:?} at {at}: {result:?}"),
                    };
                    // The first surplus one ends the call; too few show at the end.
                    assert_eq!(counts, (expected, 5.min(expected + 1)));
                    calls
                });
            }
        }
    });
}

#[test]
fn bytes_only_receive_survives_or_ends_at_every_call() {
    alone("bytes_only_receive_survives_or_ends_at_every_call", || {
        let before = open_descriptors();
        let faults = HARMLESS
            .into_iter()
            .chain(FATAL.map(Fault::Errno))
            .chain(GONE.map(Fault::Errno))
            .chain([Fault::Truncated, Fault::Blocked(Wait::Deadline)]);
        for fault in faults {
            at_every_call(fault, |at| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let message = pattern(LEN);
                send_all_on(&mut Linux, ours.as_fd(), &message, &[], common::soon()).unwrap();
                let mut script = Script::new(PIECE, fault, at, Interest::Readable);
                let deadline = script.deadline;
                let mut buf = vec![0; LEN];
                let result =
                    receive_bytes_exact_on(&mut script, theirs.as_fd(), &mut buf, deadline);
                let (rest, _) = drain(&theirs);
                let received = match (fault, result) {
                    (_, Ok(())) => {
                        assert!(HARMLESS.contains(&fault) || script.calls <= at);
                        assert_eq!(buf, message);
                        LEN
                    }
                    (Fault::Truncated, Err(ReceiveError::Truncated { received: 0, .. })) => {
                        LEN - rest.len()
                    }
                    (
                        Fault::Blocked(Wait::Deadline),
                        Err(ReceiveError::Timeout { received, .. }),
                    ) => received,
                    (Fault::Errno(errno), Err(ReceiveError::Closed { received, .. }))
                        if GONE.contains(&errno) =>
                    {
                        received
                    }
                    (Fault::Errno(errno), Err(ReceiveError::Io { received, .. }))
                        if FATAL.contains(&errno) =>
                    {
                        received
                    }
                    (fault, result) => panic!("{fault:?} at {at}: {result:?}"),
                };
                assert_eq!(received + rest.len(), LEN);
                script.calls
            });
        }
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn single_receives_survive_or_end_with_all_closed() {
    alone("single_receives_survive_or_end_with_all_closed", || {
        let faults = HARMLESS
            .into_iter()
            .chain(FATAL.map(Fault::Errno))
            .chain(GONE.map(Fault::Errno))
            .chain([Fault::Truncated, Fault::Blocked(Wait::Deadline)]);
        for fault in faults {
            for waiting in [true, false] {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let before = open_descriptors();
                send_all_on(
                    &mut Linux,
                    ours.as_fd(),
                    b"x",
                    &[ours.as_fd()],
                    common::soon(),
                )
                .unwrap();
                let mut script = Script::new(PIECE, fault, 0, Interest::Readable);
                let deadline = script.deadline;
                let mut buf = [0; 8];
                let result = if waiting {
                    receive_on(&mut script, theirs.as_fd(), &mut buf, deadline)
                } else {
                    try_receive_on(&mut script, theirs.as_fd(), &mut buf)
                };
                let blocks = matches!(fault, Fault::Errno(libc::EAGAIN) | Fault::Blocked(_));
                match (fault, result) {
                    (_, Err(ReceiveError::WouldBlock)) => assert!(!waiting && blocks),
                    (fault, Ok(received)) => {
                        assert!(HARMLESS.contains(&fault));
                        assert_eq!((received.bytes, received.fds.len()), (1, 1));
                    }
                    (Fault::Truncated, Err(ReceiveError::Truncated { received: 1, .. }))
                    | (Fault::Blocked(Wait::Deadline), Err(ReceiveError::Timeout { .. })) => {}
                    (Fault::Errno(errno), Err(ReceiveError::Closed { .. })) => {
                        assert!(GONE.contains(&errno));
                    }
                    (Fault::Errno(errno), Err(ReceiveError::Io { .. })) => {
                        assert!(FATAL.contains(&errno));
                    }
                    (fault, result) => panic!("{fault:?}: {result:?}"),
                }
                assert_eq!(open_descriptors(), before, "{fault:?}");
            }
        }
    });
}

/// A kernel that is always ready and never has anything.
struct Spurious;

impl System for Spurious {
    fn send(&mut self, _: BorrowedFd<'_>, _: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn receive(&mut self, _: BorrowedFd<'_>, _: &mut [u8]) -> io::Result<Arrival> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn receive_bytes(&mut self, _: BorrowedFd<'_>, _: &mut [u8]) -> io::Result<Arrival> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn wait(&mut self, _: BorrowedFd<'_>, _: Interest, _: Deadline) -> io::Result<bool> {
        Ok(true)
    }
}

#[test]
fn deadline_ends_a_loop_of_spurious_readiness() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let deadline = || Deadline::after(std::time::Duration::from_millis(10));
    assert!(matches!(
        receive_on(&mut Spurious, ours.as_fd(), &mut [0; 4], deadline()),
        Err(ReceiveError::Timeout { .. })
    ));
    assert!(matches!(
        send_all_on(&mut Spurious, ours.as_fd(), b"x", &[], deadline()),
        Err(SendError::Timeout { .. })
    ));
}
