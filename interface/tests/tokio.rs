//! Asynchronous calls on a real runtime.
#![cfg(all(not(loom), feature = "tokio"))]
#![allow(clippy::unwrap_used, reason = "a failed test is what a panic says")]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use memenpsf::{
    ByteInterface, ByteXmitError, ConnectError, Departure, Interface, Message, Options, RecvError,
    XmitError,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// So long that only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);

async fn pair(capacity: usize) -> (Interface<u64>, Interface<u64>) {
    pair_of(capacity).await
}

async fn pair_of<T: Message + ?Sized>(capacity: usize) -> (Interface<T>, Interface<T>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let options = Options::new().capacity(capacity);
    let (client, server) = tokio::join!(
        Interface::establish_async(ours, 0, &options),
        Interface::accept_async(theirs, &options),
    );
    (client.unwrap(), server.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tasks_exchange_messages_and_lose_no_wake_up() {
    const COUNT: u64 = 20_000;
    let (mut ours, mut theirs) = pair(1).await;
    let echo = tokio::spawn(async move {
        loop {
            match theirs.recv_async().await {
                Ok(n) => theirs.xmit_async(n).await.unwrap(),
                Err(RecvError::Closed(Departure::Closed)) => return,
                Err(error) => panic!("{error}"),
            }
        }
    });
    for n in 0..COUNT {
        timeout(HANG, ours.xmit_async(n)).await.unwrap().unwrap();
        let back = timeout(HANG, ours.recv_async())
            .await
            .expect("a lost wake-up");
        assert_eq!(back, Ok(n));
    }
    drop(ours);
    timeout(HANG, echo).await.unwrap().unwrap();
}

#[tokio::test]
async fn dropped_futures_lose_nothing() {
    let (mut ours, mut theirs) = pair(4).await;
    for n in 0..2_000 {
        // Cancelled while it waits, at a different point each time.
        let mut receive = Box::pin(ours.recv_async());
        for _ in 0..n % 3 {
            let polled = futures_util::poll!(&mut receive);
            assert!(polled.is_pending());
        }
        drop(receive);
        theirs.xmit_async(n).await.unwrap();
        let got = timeout(HANG, ours.recv_async())
            .await
            .expect("a lost wake-up");
        assert_eq!(got, Ok(n));
    }
}

#[tokio::test]
async fn dropped_transmission_transmits_nothing() {
    let (mut ours, mut theirs) = pair(1).await;
    ours.xmit_async(1).await.unwrap();
    let mut waiting = Box::pin(ours.xmit_async(2));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(waiting);
    assert_eq!(theirs.recv_async().await, Ok(1));
    ours.xmit_async(3).await.unwrap();
    assert_eq!(theirs.recv_async().await, Ok(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_and_sink_in_two_tasks_carry_everything() {
    const COUNT: u64 = 20_000;
    let (ours, theirs) = pair(2).await;
    let (mut sink, mut stream) = StreamExt::split(ours);
    let (mut sink_there, mut stream_there) = StreamExt::split(theirs);
    let echo = tokio::spawn(async move {
        while let Some(message) = stream_there.next().await {
            sink_there.send(message.unwrap()).await.unwrap();
        }
    });
    let sender = tokio::spawn(async move {
        for n in 0..COUNT {
            timeout(HANG, sink.send(n))
                .await
                .expect("a lost wake-up")
                .unwrap();
        }
        sink
    });
    for n in 0..COUNT {
        let next = timeout(HANG, stream.next()).await.expect("a lost wake-up");
        assert_eq!(next, Some(Ok(n)));
    }
    drop(sender.await.unwrap().reunite(stream).unwrap());
    timeout(HANG, echo).await.unwrap().unwrap();
}

#[tokio::test]
async fn goodbye_ends_the_stream_and_fails_the_sink() {
    let (mut ours, theirs) = pair(1).await;
    ours.xmit(1).unwrap();
    drop(theirs);
    let end = timeout(HANG, ours.xmit_async(2)).await.unwrap();
    assert_eq!(end, Err(XmitError::Closed(2, Departure::Closed)));
    assert_eq!(timeout(HANG, ours.next()).await.unwrap(), None);
    assert_eq!(ours.next().await, None);
}

#[tokio::test]
async fn full_ring_of_a_peer_that_leaves_gives_the_message_back() {
    let (mut ours, theirs) = pair(1).await;
    ours.xmit_async(1).await.unwrap();
    let mut waiting = Box::pin(ours.xmit_async(2));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(theirs);
    let end = timeout(HANG, waiting).await.unwrap();
    assert_eq!(end, Err(XmitError::Closed(2, Departure::Closed)));
}

#[tokio::test]
async fn closed_sink_has_sent_everything_and_leaves_the_other_direction_open() {
    let (mut ours, mut theirs) = pair(4).await;
    ours.feed(1).await.unwrap();
    SinkExt::close(&mut ours).await.unwrap();
    assert_eq!(timeout(HANG, theirs.next()).await.unwrap(), Some(Ok(1)));
    theirs.xmit_async(2).await.unwrap();
    assert_eq!(timeout(HANG, ours.next()).await.unwrap(), Some(Ok(2)));

    let (mut ours, mut theirs) = pair_of::<[u8]>(1024).await;
    ours.feed(b"one".to_vec()).await.unwrap();
    SinkExt::close(&mut ours).await.unwrap();
    let received = timeout(HANG, theirs.next()).await.unwrap();
    assert_eq!(received, Some(Ok(b"one".to_vec())));
    theirs.xmit_async(b"two").await.unwrap();
    let received = timeout(HANG, ours.next()).await.unwrap();
    assert_eq!(received, Some(Ok(b"two".to_vec())));
}

#[tokio::test]
async fn silent_peer_times_out() {
    let (ours, _silent) = UnixStream::pair().unwrap();
    let options = Options::new().handshake_timeout(Some(Duration::from_millis(5)));
    let result = Interface::<u64>::establish_async(ours, 1, &options).await;
    assert!(matches!(result, Err(ConnectError::Timeout)));
}

#[tokio::test]
async fn client_waits_for_a_server_that_comes_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let options = Options::new().wait_for_server(HANG);
    let client = async {
        let mut client = Interface::<u64>::connect_async(&path, &options)
            .await
            .unwrap();
        client.recv_async().await
    };
    let server = async {
        tokio::task::yield_now().await;
        let listener = UnixListener::bind(&path).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut server = Interface::<u64>::accept_async(stream, &Options::new())
            .await
            .unwrap();
        server.xmit_async(8).await.unwrap();
        server
    };
    let (received, _server) = tokio::join!(client, server);
    assert_eq!(received, Ok(8));
}

// --- messages of variable length ---

/// The n-th message: of another length each time.
fn numbered(n: u64) -> Vec<u8> {
    let length = 8 + usize::try_from(n % 40).unwrap();
    n.to_ne_bytes().into_iter().cycle().take(length).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tasks_exchange_bytes_and_lose_no_wake_up() {
    const COUNT: u64 = 20_000;
    // Room for one long message: each side waits for the other.
    let options = Options::new().capacity(128).max_message(48);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (ours, theirs) = tokio::join!(
        Interface::<[u8]>::establish_async(ours, 0, &options),
        Interface::<[u8]>::accept_async(theirs, &options),
    );
    let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
    let echo = tokio::spawn(async move {
        loop {
            match theirs.recv_async().await {
                Ok(message) => {
                    theirs.xmit_async(&message).await.unwrap();
                    theirs.xmit_async(&message).await.unwrap();
                }
                Err(RecvError::Closed(Departure::Closed)) => return,
                Err(error) => panic!("{error}"),
            }
        }
    });
    for n in 0..COUNT {
        let message = numbered(n);
        timeout(HANG, ours.xmit_async(&message))
            .await
            .unwrap()
            .unwrap();
        for _ in 0..2 {
            let back = timeout(HANG, ours.recv_async())
                .await
                .expect("a lost wake-up");
            assert_eq!(back, Ok(message.clone()));
        }
    }
    drop(ours);
    timeout(HANG, echo).await.unwrap().unwrap();
}

#[tokio::test]
async fn dropped_futures_of_bytes_neither_lose_nor_transmit_anything() {
    let (mut ours, mut theirs) = pair_of::<[u8]>(64).await;
    for n in 0..2_000 {
        let mut receive = Box::pin(ours.recv_async());
        for _ in 0..n % 3 {
            assert!(futures_util::poll!(&mut receive).is_pending());
        }
        drop(receive);
        let message = numbered(n)[..8].to_vec();
        theirs.xmit_async(&message).await.unwrap();
        let got = timeout(HANG, ours.recv_async())
            .await
            .expect("a lost wake-up");
        assert_eq!(got, Ok(message));
    }
    ours.xmit_async(&[1; 16]).await.unwrap();
    let mut waiting = Box::pin(ours.xmit_async(&[2; 16]));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(waiting);
    assert_eq!(theirs.recv_async().await, Ok(vec![1; 16]));
    ours.xmit_async(&[3; 16]).await.unwrap();
    assert_eq!(theirs.recv_async().await, Ok(vec![3; 16]));
    let longest = ours.max_message();
    let too_long = ours.xmit_async(&[0; 17]).await;
    let length = 17;
    assert_eq!(too_long, Err(ByteXmitError::TooLong { length, longest }));
}

#[tokio::test]
async fn stream_of_bytes_ends_with_the_goodbye() {
    let (mut ours, mut theirs) = pair_of::<[u8]>(1024).await;
    theirs.xmit_vectored(&["one", "two"]).unwrap();
    drop(theirs);
    assert_eq!(ours.next().await, Some(Ok(b"one".to_vec())));
    assert_eq!(ours.next().await, Some(Ok(b"two".to_vec())));
    assert_eq!(timeout(HANG, ours.next()).await.unwrap(), None);
    assert_eq!(ours.next().await, None);
    // The first calls may find room.
    let end = loop {
        match timeout(HANG, ours.xmit_async(b"hello")).await.unwrap() {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(end, ByteXmitError::Closed(Departure::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_any_length_go_through_stream_and_sink() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    // Room for two of the longest: the sink waits.
    let options = Options::new().capacity(1024).max_message(400);
    let (ours, theirs) = tokio::join!(
        ByteInterface::establish_async(ours, 0, &options),
        ByteInterface::establish_async(theirs, 1, &options),
    );
    let (mut sink, stream) = (ours.unwrap(), theirs.unwrap());
    let message = |n: usize| vec![n.to_le_bytes()[0]; n * 7 % 401];
    let receiver = tokio::spawn(stream.collect::<Vec<_>>());
    for n in 0..5000 {
        timeout(HANG, sink.send(message(n))).await.unwrap().unwrap();
    }
    let too_long = sink.send(vec![0; 401]).await;
    assert_eq!(
        too_long,
        Err(ByteXmitError::TooLong {
            length: 401,
            longest: 400
        })
    );
    drop(sink);
    let received = timeout(HANG, receiver).await.unwrap().unwrap();
    assert_eq!(received.len(), 5000);
    for (n, received) in received.into_iter().enumerate() {
        assert_eq!(received.unwrap(), message(n));
    }
}
