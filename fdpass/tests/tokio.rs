//! The async calls.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use common::{
    all_have_close_on_exec, alone, borrow, files, identities, identity, open_descriptors, pattern,
};
use memenpsf_fdpass::tokio::{
    receive, receive_bytes, receive_bytes_exact, receive_exact, recv_fd, send_all, send_fd,
};
use memenpsf_fdpass::{MAX_DESCRIPTORS, ReceiveError, SendError, try_send};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UnixStream;

/// Runs a future on this thread. A hang ends as a panic.
fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        // The timer needs the runtime around it when it is made.
        .block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await })
        .unwrap();
}

#[test]
fn bytes_and_descriptors_make_the_round_trip() {
    alone("bytes_and_descriptors_make_the_round_trip", || {
        block_on(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let files = files(3);
            let open = open_descriptors();
            for n in [0, 1, 3] {
                let message = pattern(20);
                let mut buf = [0; 20];
                let fds = borrow(&files[..n]);
                // The receiver is polled first and must await.
                let (received, sent) = tokio::join!(
                    receive_exact(&theirs, &mut buf, n),
                    send_all(&ours, &message, &fds)
                );
                sent.unwrap();
                let received = received.unwrap();
                assert_eq!(buf, *message);
                assert_eq!(identities(&received), identities(&fds));
                assert!(all_have_close_on_exec(&received));
            }
            assert_eq!(open_descriptors(), open);
        });
    });
}

#[test]
fn more_descriptors_than_one_message_carries_arrive() {
    alone("more_descriptors_than_one_message_carries_arrive", || {
        block_on(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let file = files(1).remove(0);
            let fds = vec![file.as_fd(); 2 * MAX_DESCRIPTORS + 1];
            send_all(&ours, b"xyz", &fds).await.unwrap();
            let mut buf = [0; 3];
            let received = receive_exact(&theirs, &mut buf, fds.len()).await.unwrap();
            assert_eq!((&buf, received.len()), (b"xyz", fds.len()));
        });
    });
}

#[test]
fn large_message_through_a_small_buffer_arrives() {
    block_on(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        setsockopt(&ours, sockopt::SndBuf, &1).unwrap();
        let message = pattern(1 << 16);
        let files = files(2);
        let fds = borrow(&files);
        let mut buf = vec![0; message.len()];
        // Both on one thread: a call that blocks it would never end.
        let (sent, received) = tokio::join!(
            send_all(&ours, &message, &fds),
            receive_exact(&theirs, &mut buf, 2)
        );
        sent.unwrap();
        assert_eq!(identities(&received.unwrap()), identities(&fds));
        assert!(buf == message);
    });
}

#[test]
fn waiting_receiver_lets_other_tasks_run() {
    block_on(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let receiver = tokio::spawn(async move {
            let mut buf = [0; 6];
            receive_bytes_exact(&theirs, &mut buf).await.unwrap();
            buf
        });
        for byte in b"pieces" {
            tokio::task::yield_now().await;
            send_all(&ours, &[*byte], &[]).await.unwrap();
        }
        assert_eq!(&receiver.await.unwrap(), b"pieces");
    });
}

#[test]
fn single_receives_take_what_is_there() {
    block_on(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut buf = [0; 16];
        send_all(&ours, b"abc", &[ours.as_fd()]).await.unwrap();
        let received = receive(&theirs, &mut buf).await.unwrap();
        assert_eq!((received.bytes, received.fds.len()), (3, 1));
        send_all(&ours, b"wake", &[]).await.unwrap();
        assert_eq!(receive_bytes(&theirs, &mut buf).await.unwrap(), 4);
    });
}

#[test]
fn nothing_to_transfer_is_done_at_once() {
    block_on(async {
        let (stream, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        // Full before tokio sees it, and without a byte to read: readiness never
        // comes, in neither direction.
        while try_send(&stream, &[0; 4096], &[]).is_ok() {}
        let stream = UnixStream::from_std(stream).unwrap();
        send_all(&stream, b"", &[]).await.unwrap();
        receive_bytes_exact(&stream, &mut []).await.unwrap();
        assert!(receive_exact(&stream, &mut [], 0).await.unwrap().is_empty());
        assert!(matches!(
            receive(&stream, &mut []).await,
            Err(ReceiveError::EmptyBuffer)
        ));
        assert!(matches!(
            send_all(&stream, b"", &[stream.as_fd()]).await,
            Err(SendError::NoBytes { descriptors: 1, .. })
        ));
    });
}

#[test]
fn wrong_counts_and_ids_are_refused_and_closed() {
    alone("wrong_counts_and_ids_are_refused_and_closed", || {
        block_on(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let file = files(1).remove(0);
            let open = open_descriptors();
            for (given, expected) in [(0, 1), (1, 0), (2, 1), (1, 2)] {
                let fds = vec![file.as_fd(); given];
                send_all(&ours, b"hello", &fds).await.unwrap();
                assert!(matches!(
                    receive_exact(&theirs, &mut [0; 5], expected).await,
                    Err(ReceiveError::DescriptorCount { expected: e, received: r, .. })
                        if (e, r) == (expected, given)
                ));
            }
            send_fd(&ours, 1, &file).await.unwrap();
            assert!(matches!(
                recv_fd(&theirs, 2).await,
                Err(ReceiveError::WrongId {
                    expected: 2,
                    received: 1,
                    ..
                })
            ));
            send_all(&ours, b"x", &[file.as_fd()]).await.unwrap();
            assert!(matches!(
                receive_bytes(&theirs, &mut [0; 5]).await,
                Err(ReceiveError::Truncated { received: 0, .. })
            ));
            assert_eq!(open_descriptors(), open);

            send_fd(&ours, 3, &file).await.unwrap();
            let fd = recv_fd(&theirs, 3).await.unwrap();
            assert_eq!(identity(&fd), identity(&file));
        });
    });
}

#[test]
fn death_of_the_peer_is_closed() {
    block_on(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send_all(&ours, b"abc", &[]).await.unwrap();
        drop(ours);
        assert!(matches!(
            receive_exact(&theirs, &mut [0; 8], 1).await,
            Err(ReceiveError::Closed {
                received: 3,
                expected: 8,
                source: None,
                ..
            })
        ));
        match send_all(&theirs, b"hello", &[]).await.unwrap_err() {
            SendError::Closed {
                sent: 0,
                expected: 5,
                source,
                ..
            } => assert_eq!(source.kind(), io::ErrorKind::BrokenPipe),
            error => panic!("{error:?}"),
        }
    });
}

#[test]
fn dropped_future_closes_what_it_had() {
    alone("dropped_future_closes_what_it_had", || {
        block_on(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let file = files(1).remove(0);
            let open = open_descriptors();
            send_all(&ours, b"abc", &[file.as_fd()]).await.unwrap();
            let mut buf = [0; 8];
            {
                let mut future = std::pin::pin!(receive_exact(&theirs, &mut buf, 1));
                // It takes the three bytes and the descriptor, then awaits more.
                while open_descriptors() == open {
                    tokio::select! {
                        biased;
                        result = &mut future => panic!("{result:?}"),
                        () = tokio::task::yield_now() => {}
                    }
                }
                assert_eq!(open_descriptors(), open + 1);
            }
            assert_eq!(open_descriptors(), open);
        });
    });
}

/// Counts how often a future asks to be polled again.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        // Relaxed: a counter of one thread.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn future_without_bytes_sleeps_instead_of_spinning() {
    block_on(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send_all(&ours, b"abc", &[]).await.unwrap();
        let mut buf = [0; 8];
        let mut future = std::pin::pin!(receive_exact(&theirs, &mut buf, 0));
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        assert!(future.as_mut().poll(&mut context).is_pending());
        // The bytes are there, so a wake comes as soon as tokio looks.
        while wakes.0.swap(0, Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        // It takes the three bytes; only new ones may wake it again.
        assert!(future.as_mut().poll(&mut context).is_pending());
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn dropped_single_receive_takes_nothing() {
    block_on(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut buf = [0; 8];
        for _ in 0..3 {
            tokio::select! {
                biased;
                result = receive(&theirs, &mut buf) => panic!("{result:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        send_all(&ours, b"abc", &[ours.as_fd()]).await.unwrap();
        let received = receive(&theirs, &mut buf).await.unwrap();
        assert_eq!((received.bytes, received.fds.len()), (3, 1));
    });
}

#[test]
fn futures_can_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    block_on(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let fds = [ours.as_fd()];
        is_send(&send_all(&ours, b"x", &fds));
        is_send(&receive_exact(&theirs, &mut [0; 1], 1));
        is_send(&receive_bytes(&theirs, &mut [0; 1]));
    });
}
