//! The death of a peer: the end of the stream, a reset and a broken pipe all mean
//! the same, and what was queued before arrives first.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::error::Error as _;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

use common::{alone, borrow, files, open_descriptors, pattern, soon};
use memenpsf_fdpass::{
    ReceiveError, SendError, receive, receive_bytes, receive_bytes_exact, receive_exact, recv_fd,
    send_all, try_receive, try_receive_bytes, try_send,
};
use nix::sys::socket::{setsockopt, sockopt};

#[test]
fn end_of_stream_in_the_middle_is_closed_with_counts() {
    alone("end_of_stream_in_the_middle_is_closed_with_counts", || {
        let before = open_descriptors();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let null = files(2);
        send_all(&ours, b"hel", &borrow(&null), soon()).unwrap();
        drop((ours, null));
        let error = receive_exact(&theirs, &mut [0; 8], 2, soon()).unwrap_err();
        assert!(
            matches!(
                error,
                ReceiveError::Closed {
                    received: 3,
                    expected: 8,
                    source: None,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.source().is_none());
        drop(theirs);
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn end_of_stream_at_the_start_is_closed_for_every_call() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    let mut buf = [0; 4];
    let errors = [
        (receive(&theirs, &mut buf, soon()).unwrap_err(), 1),
        (try_receive(&theirs, &mut buf).unwrap_err(), 1),
        (receive_bytes(&theirs, &mut buf, soon()).unwrap_err(), 1),
        (try_receive_bytes(&theirs, &mut buf).unwrap_err(), 1),
        (receive_exact(&theirs, &mut buf, 1, soon()).unwrap_err(), 4),
        (
            receive_bytes_exact(&theirs, &mut buf, soon()).unwrap_err(),
            4,
        ),
        (recv_fd(&theirs, 1, soon()).unwrap_err(), 8),
    ];
    for (error, needed) in errors {
        assert!(
            matches!(error, ReceiveError::Closed { received: 0, expected, .. } if expected == needed),
            "{error:?}"
        );
    }
}

#[test]
fn reset_by_a_peer_with_unread_bytes_is_closed() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    send_all(&ours, b"unread", &[], soon()).unwrap();
    drop(theirs);
    let error = receive(&ours, &mut [0; 4], soon()).unwrap_err();
    match &error {
        ReceiveError::Closed {
            received: 0,
            source: Some(source),
            ..
        } => assert_eq!(source.kind(), io::ErrorKind::ConnectionReset),
        error => panic!("{error:?}"),
    }
    assert!(error.source().is_some());
    // Afterwards the same death shows as the end of the stream.
    assert!(matches!(
        receive(&ours, &mut [0; 4], soon()),
        Err(ReceiveError::Closed { source: None, .. })
    ));
}

#[test]
fn bytes_queued_before_the_peer_died_arrive_first() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    send_all(&ours, b"last words", &[ours.as_fd()], soon()).unwrap();
    drop(ours);
    let mut buf = [0; 10];
    let fds = receive_exact(&theirs, &mut buf, 1, soon()).unwrap();
    assert_eq!(&buf, b"last words");
    drop(fds);
    assert!(matches!(
        receive(&theirs, &mut buf, soon()),
        Err(ReceiveError::Closed { .. })
    ));
}

#[test]
fn sending_to_a_dead_peer_is_closed() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let error = send_all(&ours, b"hello", &[ours.as_fd()], soon()).unwrap_err();
    match &error {
        SendError::Closed {
            sent: 0,
            expected: 5,
            source,
            ..
        } => assert_eq!(source.kind(), io::ErrorKind::BrokenPipe),
        error => panic!("{error:?}"),
    }
    assert!(error.source().is_some());
    assert!(matches!(
        try_send(&ours, b"hello", &[]),
        Err(SendError::Closed { .. })
    ));
}

#[test]
fn peer_that_dies_during_a_send_is_closed_with_counts() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    setsockopt(&ours, sockopt::SndBuf, &1).unwrap();
    let len = 1 << 20;
    let reader = thread::spawn(move || {
        let mut buf = [0; 1000];
        receive_bytes_exact(&theirs, &mut buf, soon()).unwrap();
    });
    let error = send_all(&ours, &pattern(len), &[], soon()).unwrap_err();
    reader.join().unwrap();
    match error {
        SendError::Closed { sent, expected, .. } => {
            assert_eq!(expected, len);
            assert!((1000..len).contains(&sent), "{sent}");
        }
        error => panic!("{error:?}"),
    }
}
