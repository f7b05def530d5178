//! What arrives is what was sent: bytes, descriptors, order, flags; and what is
//! refused is refused with the offending values.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

use common::{
    all_have_close_on_exec, alone, borrow, files, identities, identity, open_descriptors, pattern,
    soon,
};
use memenpsf_fdpass::{
    MAX_DESCRIPTORS, ReceiveError, SendError, receive, receive_bytes, receive_bytes_exact,
    receive_exact, recv_fd, send_all, send_fd, try_receive, try_receive_bytes, try_send,
};
use nix::sys::socket::{setsockopt, sockopt};

/// Sends `n` descriptors and checks that they arrive complete, in order, with
/// close-on-exec, and that nothing stays open.
fn round_trip(n: usize) {
    let before = open_descriptors();
    {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let files = files(n);
        let message = pattern(20);
        send_all(&ours, &message, &borrow(&files), soon()).unwrap();
        let mut buf = [0; 20];
        let fds = receive_exact(&theirs, &mut buf, n, soon()).unwrap();
        assert_eq!(buf, *message);
        assert_eq!(identities(&fds), identities(&files));
        assert!(all_have_close_on_exec(&fds));
        assert_eq!(open_descriptors(), before + 2 + 2 * n);
    }
    assert_eq!(open_descriptors(), before);
}

#[test]
fn no_descriptor_arrives_as_none() {
    alone("no_descriptor_arrives_as_none", || round_trip(0));
}

#[test]
fn one_descriptor_arrives() {
    alone("one_descriptor_arrives", || round_trip(1));
}

#[test]
fn two_descriptors_arrive_in_order() {
    alone("two_descriptors_arrive_in_order", || round_trip(2));
}

#[test]
fn a_full_message_of_253_descriptors_arrives_in_order() {
    alone("a_full_message_of_253_descriptors_arrives_in_order", || {
        round_trip(MAX_DESCRIPTORS);
    });
}

#[test]
fn descriptors_for_a_second_message_arrive_in_order() {
    alone("descriptors_for_a_second_message_arrive_in_order", || {
        round_trip(MAX_DESCRIPTORS + 1);
    });
}

#[test]
fn descriptors_for_three_messages_fit_three_bytes() {
    alone("descriptors_for_three_messages_fit_three_bytes", || {
        let before = open_descriptors();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let one = files(1);
        let fds = vec![one[0].as_fd(); 3 * MAX_DESCRIPTORS];
        for len in [3, 4] {
            let message = pattern(len);
            send_all(&ours, &message, &fds, soon()).unwrap();
            let mut buf = vec![0; len];
            let received = receive_exact(&theirs, &mut buf, fds.len(), soon()).unwrap();
            assert_eq!(buf, message);
            assert_eq!(received.len(), fds.len());
            assert!(all_have_close_on_exec(&received));
        }
        drop((ours, theirs, one));
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn one_descriptor_more_than_the_bytes_carry_is_refused() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let fds = vec![ours.as_fd(); 2 * MAX_DESCRIPTORS + 1];
    assert!(matches!(
        send_all(&ours, b"xy", &fds, soon()),
        Err(SendError::TooManyDescriptors {
            given: 507,
            maximum: 506,
            ..
        })
    ));
    assert!(matches!(
        try_send(&ours, b"xyz", &fds[..254]),
        Err(SendError::TooManyDescriptors {
            given: 254,
            maximum: 253,
            ..
        })
    ));
    // Nothing of it was sent.
    assert!(matches!(
        try_receive(&theirs, &mut [0; 8]),
        Err(ReceiveError::WouldBlock)
    ));
}

#[test]
fn descriptors_without_a_byte_are_refused() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let fds = [ours.as_fd(), ours.as_fd()];
    for result in [
        send_all(&ours, b"", &fds, soon()),
        try_send(&ours, b"", &fds).map(drop),
    ] {
        assert!(matches!(
            result,
            Err(SendError::NoBytes { descriptors: 2, .. })
        ));
    }
    assert!(matches!(
        try_receive(&theirs, &mut [0; 8]),
        Err(ReceiveError::WouldBlock)
    ));
}

#[test]
fn nothing_to_send_is_sent_at_once() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    send_all(&ours, b"", &[], soon()).unwrap();
    assert_eq!(try_send(&ours, b"", &[]).unwrap(), 0);
    receive_bytes_exact(&theirs, &mut [], soon()).unwrap();
    assert!(
        receive_exact(&theirs, &mut [], 0, soon())
            .unwrap()
            .is_empty()
    );
}

#[test]
fn empty_buffer_is_refused() {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let errors = [
        receive(&theirs, &mut [], soon()).unwrap_err(),
        try_receive(&theirs, &mut []).unwrap_err(),
        receive_bytes(&theirs, &mut [], soon()).unwrap_err(),
        try_receive_bytes(&theirs, &mut []).unwrap_err(),
        receive_exact(&theirs, &mut [], 1, soon()).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, ReceiveError::EmptyBuffer), "{error:?}");
    }
}

#[test]
fn message_split_at_every_point_arrives() {
    let files = files(2);
    let message = pattern(16);
    for split in 1..message.len() {
        // Both descriptors with the first piece, both with the second, or one each.
        for first in 0..=files.len() {
            for order in [&files[..], &[]] {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let fds = borrow(order);
                let (early, late) = fds.split_at(first.min(fds.len()));
                send_all(&ours, &message[..split], early, soon()).unwrap();
                send_all(&ours, &message[split..], late, soon()).unwrap();
                let mut buf = [0; 16];
                let received = receive_exact(&theirs, &mut buf, fds.len(), soon()).unwrap();
                assert_eq!(buf, *message);
                assert_eq!(identities(&received), identities(&fds));
            }
        }
    }
}

#[test]
fn message_byte_by_byte_with_a_descriptor_each_arrives() {
    let files = files(16);
    let message = pattern(16);
    let (ours, theirs) = UnixStream::pair().unwrap();
    for (byte, file) in message.chunks(1).zip(&files) {
        send_all(&ours, byte, &[file.as_fd()], soon()).unwrap();
    }
    let mut buf = [0; 16];
    let fds = receive_exact(&theirs, &mut buf, 16, soon()).unwrap();
    assert_eq!(buf, *message);
    assert_eq!(identities(&fds), identities(&files));
}

#[test]
fn next_message_stays_in_the_socket() {
    let files = files(2);
    let (ours, theirs) = UnixStream::pair().unwrap();
    send_all(&ours, b"first", &[files[0].as_fd()], soon()).unwrap();
    send_all(&ours, b"second", &[files[1].as_fd()], soon()).unwrap();
    for (expected, file) in [(&b"first"[..], &files[0]), (b"second", &files[1])] {
        let mut buf = vec![0; expected.len()];
        let fds = receive_exact(&theirs, &mut buf, 1, soon()).unwrap();
        assert_eq!(buf, expected);
        assert_eq!(identity(&fds[0]), identity(file));
    }
}

#[test]
fn one_receive_ends_behind_the_piece_with_descriptors() {
    let files = files(2);
    let (ours, theirs) = UnixStream::pair().unwrap();
    send_all(&ours, b"ab", &[files[0].as_fd()], soon()).unwrap();
    send_all(&ours, b"cd", &[files[1].as_fd()], soon()).unwrap();
    let mut buf = [0; 16];
    for (expected, file) in [(b"ab", &files[0]), (b"cd", &files[1])] {
        let received = receive(&theirs, &mut buf, soon()).unwrap();
        assert_eq!(&buf[..received.bytes], expected);
        assert_eq!(identities(&received.fds), [identity(file)]);
        assert!(all_have_close_on_exec(&received.fds));
    }
}

#[test]
fn surplus_descriptors_are_refused_and_closed() {
    alone("surplus_descriptors_are_refused_and_closed", || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let before = open_descriptors();
        for (given, expected) in [(1, 0), (2, 1), (3, 1), (MAX_DESCRIPTORS, 2)] {
            let fds = vec![ours.as_fd(); given];
            send_all(&ours, b"hello", &fds, soon()).unwrap();
            let error = receive_exact(&theirs, &mut [0; 5], expected, soon()).unwrap_err();
            assert!(
                matches!(error, ReceiveError::DescriptorCount { expected: e, received: r, .. }
                    if (e, r) == (expected, given)),
                "{error:?}"
            );
            assert_eq!(open_descriptors(), before);
        }
    });
}

#[test]
fn surplus_on_a_later_piece_ends_the_call_at_once() {
    alone("surplus_on_a_later_piece_ends_the_call_at_once", || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let before = open_descriptors();
        send_all(&ours, b"he", &[ours.as_fd()], soon()).unwrap();
        send_all(&ours, b"l", &[ours.as_fd(), ours.as_fd()], soon()).unwrap();
        // The last two bytes never come: the surplus alone must end the call.
        let error = receive_exact(&theirs, &mut [0; 5], 1, soon()).unwrap_err();
        assert!(
            matches!(
                error,
                ReceiveError::DescriptorCount {
                    expected: 1,
                    received: 3,
                    ..
                }
            ),
            "{error:?}"
        );
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn missing_descriptors_are_refused_and_the_others_closed() {
    alone(
        "missing_descriptors_are_refused_and_the_others_closed",
        || {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let before = open_descriptors();
            send_all(&ours, b"hello", &[ours.as_fd()], soon()).unwrap();
            // The next message's descriptor does not count for this one.
            send_all(&ours, b"hello", &[ours.as_fd()], soon()).unwrap();
            let error = receive_exact(&theirs, &mut [0; 5], 2, soon()).unwrap_err();
            assert!(matches!(
                error,
                ReceiveError::DescriptorCount {
                    expected: 2,
                    received: 1,
                    ..
                }
            ));
            assert_eq!(open_descriptors(), before);
        },
    );
}

#[test]
fn bytes_only_receive_lets_no_descriptor_in() {
    alone("bytes_only_receive_lets_no_descriptor_in", || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let before = open_descriptors();
        let fds = [ours.as_fd(); 3];
        let mut buf = [0; 5];
        type Call<'a> = &'a dyn Fn(&mut [u8]) -> Result<(), ReceiveError>;
        let calls: [Call<'_>; 3] = [
            &|buf| receive_bytes(&theirs, buf, soon()).map(drop),
            &|buf| try_receive_bytes(&theirs, buf).map(drop),
            &|buf| receive_bytes_exact(&theirs, buf, soon()),
        ];
        for call in calls {
            send_all(&ours, b"hello", &fds, soon()).unwrap();
            let error = call(&mut buf).unwrap_err();
            assert!(
                matches!(error, ReceiveError::Truncated { received: 0, .. }),
                "{error:?}"
            );
            assert_eq!(open_descriptors(), before);

            // Without descriptors the same call takes the bytes.
            send_all(&ours, b"hello", &[], soon()).unwrap();
            call(&mut buf).unwrap();
            assert_eq!(&buf, b"hello");
        }
    });
}

#[test]
fn bytes_only_receive_sees_a_descriptor_on_a_later_piece() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    send_all(&ours, b"he", &[], soon()).unwrap();
    send_all(&ours, b"llo", &[ours.as_fd()], soon()).unwrap();
    assert!(matches!(
        receive_bytes_exact(&theirs, &mut [0; 5], soon()),
        Err(ReceiveError::Truncated { received: 0, .. })
    ));
}

#[test]
fn wrong_id_is_refused_and_the_descriptor_closed() {
    alone("wrong_id_is_refused_and_the_descriptor_closed", || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = files(1).remove(0);
        let before = open_descriptors();
        send_fd(&ours, 0x0102_0304_0506_0708, &file, soon()).unwrap();
        let error = recv_fd(&theirs, 8, soon()).unwrap_err();
        assert!(matches!(
            error,
            ReceiveError::WrongId {
                expected: 8,
                received: 0x0102_0304_0506_0708,
                ..
            }
        ));
        assert_eq!(open_descriptors(), before);

        send_fd(&ours, u64::MAX, &file, soon()).unwrap();
        let fd = recv_fd(&theirs, u64::MAX, soon()).unwrap();
        assert_eq!(identity(&fd), identity(&file));
        assert!(common::has_close_on_exec(&fd));
    });
}

#[test]
fn id_is_eight_bytes_little_endian() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    send_fd(&ours, 0x0102_0304_0506_0708, &ours, soon()).unwrap();
    let mut buf = [0; 9];
    let received = receive(&theirs, &mut buf, soon()).unwrap();
    assert_eq!(received.bytes, 8);
    assert_eq!(buf, [8, 7, 6, 5, 4, 3, 2, 1, 0]);
}

#[test]
fn partial_sends_deliver_bytes_in_order_and_descriptors_once() {
    alone(
        "partial_sends_deliver_bytes_in_order_and_descriptors_once",
        || {
            let before = open_descriptors();
            for nonblocking in [false, true] {
                let (ours, theirs) = UnixStream::pair().unwrap();
                ours.set_nonblocking(nonblocking).unwrap();
                setsockopt(&ours, sockopt::SndBuf, &1).unwrap();
                let message = pattern(1 << 18);
                let files = files(3);
                let sender = thread::spawn({
                    let (message, files) = (message.clone(), identities(&files));
                    move || {
                        let mut buf = [0; 97];
                        let mut bytes = Vec::new();
                        let mut fds = Vec::new();
                        while bytes.len() < message.len() {
                            let received = receive(&theirs, &mut buf, soon()).unwrap();
                            // They come with the first byte and never again.
                            assert_eq!(received.fds.len(), if bytes.is_empty() { 3 } else { 0 });
                            bytes.extend_from_slice(&buf[..received.bytes]);
                            fds.extend(received.fds);
                        }
                        assert!(bytes == message);
                        assert_eq!(identities(&fds), files);
                    }
                });
                send_all(&ours, &message, &borrow(&files), soon()).unwrap();
                sender.join().unwrap();
            }
            assert_eq!(open_descriptors(), before);
        },
    );
}

#[test]
fn try_send_takes_what_fits_and_descriptors_once() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    setsockopt(&ours, sockopt::SndBuf, &1).unwrap();
    let message = pattern(1 << 16);
    let sent = try_send(&ours, &message, &[ours.as_fd(); 2]).unwrap();
    assert!((1..message.len()).contains(&sent), "{sent}");
    assert!(matches!(
        try_send(&ours, &message, &[ours.as_fd(); 2]),
        Err(SendError::WouldBlock)
    ));
    let mut buf = vec![0; sent];
    let fds = receive_exact(&theirs, &mut buf, 2, soon()).unwrap();
    assert_eq!(fds.len(), 2);
    assert_eq!(buf, message[..sent]);
    assert!(matches!(
        try_receive(&theirs, &mut buf),
        Err(ReceiveError::WouldBlock)
    ));
}

#[test]
fn file_that_is_no_socket_is_an_io_error() {
    let null = std::fs::File::open("/dev/null").unwrap();
    match receive(&null, &mut [0; 4], soon()).unwrap_err() {
        ReceiveError::Io {
            received: 0,
            source,
            ..
        } => assert_eq!(source.raw_os_error(), Some(nix::libc::ENOTSOCK)),
        error => panic!("{error:?}"),
    }
    match send_all(&null, b"x", &[], soon()).unwrap_err() {
        SendError::Io {
            sent: 0, source, ..
        } => assert_eq!(source.raw_os_error(), Some(nix::libc::ENOTSOCK)),
        error => panic!("{error:?}"),
    }
}

#[test]
fn descriptors_of_every_kind_arrive() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (reader, mut writer) = io::pipe().unwrap();
    let directory = std::fs::File::open("/proc").unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let given = [
        listener.as_fd(),
        tcp.as_fd(),
        reader.as_fd(),
        writer.as_fd(),
        directory.as_fd(),
        ours.as_fd(),
        theirs.as_fd(),
    ];
    send_all(&ours, b"all kinds", &given, soon()).unwrap();
    let fds = receive_exact(&theirs, &mut [0; 9], given.len(), soon()).unwrap();
    assert_eq!(identities(&fds), identities(&given));
    writer.write_all(b"x").unwrap();
}

#[test]
fn errors_are_said_in_lower_case_without_a_full_stop() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut said = vec![
        try_receive(&theirs, &mut [0]).unwrap_err().to_string(),
        receive(&theirs, &mut [], soon()).unwrap_err().to_string(),
        send_all(&ours, b"", &[ours.as_fd()], soon())
            .unwrap_err()
            .to_string(),
        try_send(&ours, b"x", &[ours.as_fd(); 254])
            .unwrap_err()
            .to_string(),
    ];
    send_fd(&ours, 1, &ours, soon()).unwrap();
    said.push(recv_fd(&theirs, 2, soon()).unwrap_err().to_string());
    send_fd(&ours, 1, &ours, soon()).unwrap();
    let error = receive_bytes(&theirs, &mut [0; 8], soon()).unwrap_err();
    said.push(error.to_string());
    drop(theirs);
    said.push(send_all(&ours, b"x", &[], soon()).unwrap_err().to_string());
    for text in said {
        assert!(!text.ends_with('.'), "{text}");
        assert!(!text.starts_with(char::is_uppercase), "{text}");
    }
}
