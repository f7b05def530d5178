//! The same calls for [`tokio::net::UnixStream`].
//!
//! They await readiness and hold no thread. There is no deadline parameter: wrap
//! a call in [`tokio::time::timeout`](https://docs.rs/tokio/latest/tokio/time/fn.timeout.html),
//! which drops its future.
//!
//! # Cancel safety
//!
//! A dropped future closes every descriptor that it has received. [`receive`] and
//! [`receive_bytes`] are cancel safe: a future that is dropped before it is ready
//! has taken nothing from the socket. The others are not: they may have taken or
//! sent a part, and the stream is of no further use, exactly as after a
//! [`Timeout`](crate::ReceiveError::Timeout) of the blocking calls.
//!
//! # Trust
//!
//! As in the blocking calls, whose steps these are: each await comes before one
//! system call, so that a peer that always has something ready cannot keep other
//! tasks from running.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ::tokio::io::Interest;
use ::tokio::net::UnixStream;

use crate::receive::{Descriptors, Receiving, check_id};
use crate::send::Sending;
use crate::sys::{Linux, Progress};
use crate::{ReceiveError, Received, SendError};

/// Sends all `bytes`, and all `fds` with the first of them, like
/// [`send_all`](crate::send_all). Not cancel safe.
///
/// # Errors
///
/// Those of [`send_all`](crate::send_all) except the timeout.
///
/// # Examples
///
/// ```
/// use std::os::fd::AsFd;
/// use memenpsf_fdpass::tokio::{receive_exact, send_all};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, theirs) = tokio::net::UnixStream::pair()?;
/// let null = std::fs::File::open("/dev/null")?;
/// let given = [null.as_fd()];
/// let mut hello = [0; 5];
/// let (sent, fds) = tokio::join!(
///     send_all(&ours, b"hello", &given),
///     receive_exact(&theirs, &mut hello, 1),
/// );
/// sent?;
/// assert_eq!(fds?.len(), 1);
/// assert_eq!(&hello, b"hello");
/// # Ok(())
/// # }
/// ```
pub async fn send_all(
    stream: &UnixStream,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<(), SendError> {
    let mut sending = Sending::new(bytes, fds)?;
    if bytes.is_empty() {
        return Ok(());
    }
    loop {
        stream
            .writable()
            .await
            .map_err(|source| sending.io(source))?;
        let step = stream.try_io(Interest::WRITABLE, || {
            would_block(sending.step(&mut Linux, stream.as_fd()))
        });
        match step {
            Ok(progress) => {
                if progress? == Progress::Done {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(source) => return Err(sending.io(source)),
        }
    }
}

/// Awaits bytes and receives what is there, with any number of descriptors, like
/// [`receive`](crate::receive()). Cancel safe.
///
/// # Errors
///
/// Those of [`receive`](crate::receive()) except the timeout.
///
/// # Examples
///
/// ```
/// use memenpsf_fdpass::tokio::{receive, send_all};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, theirs) = tokio::net::UnixStream::pair()?;
/// send_all(&ours, b"abc", &[]).await?;
/// let mut buf = [0; 16];
/// assert_eq!(receive(&theirs, &mut buf).await?.bytes, 3);
/// # Ok(())
/// # }
/// ```
pub async fn receive(stream: &UnixStream, buf: &mut [u8]) -> Result<Received, ReceiveError> {
    run(stream, Receiving::some(buf, Descriptors::Any)?).await
}

/// Fills `buf` and collects exactly `expected_fds` descriptors with it, like
/// [`receive_exact`](crate::receive_exact). Not cancel safe.
///
/// # Errors
///
/// Those of [`receive_exact`](crate::receive_exact) except the timeout.
///
/// # Examples
///
/// ```
/// use memenpsf_fdpass::ReceiveError;
/// use memenpsf_fdpass::tokio::{receive_exact, send_all};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, theirs) = tokio::net::UnixStream::pair()?;
/// send_all(&ours, b"abc", &[]).await?;
/// let error = receive_exact(&theirs, &mut [0; 3], 1).await.unwrap_err();
/// assert!(matches!(
///     error,
///     ReceiveError::DescriptorCount { expected: 1, received: 0, .. }
/// ));
/// # Ok(())
/// # }
/// ```
pub async fn receive_exact(
    stream: &UnixStream,
    buf: &mut [u8],
    expected_fds: usize,
) -> Result<Vec<OwnedFd>, ReceiveError> {
    let receiving = Receiving::all(buf, Descriptors::Exactly(expected_fds))?;
    Ok(run(stream, receiving).await?.fds)
}

/// Awaits bytes and receives what is there, and lets no descriptor in, like
/// [`receive_bytes`](crate::receive_bytes). Cancel safe.
///
/// # Errors
///
/// Those of [`receive_bytes`](crate::receive_bytes) except the timeout.
///
/// # Examples
///
/// ```
/// use memenpsf_fdpass::tokio::{receive_bytes, send_all};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, theirs) = tokio::net::UnixStream::pair()?;
/// send_all(&ours, b"wake", &[]).await?;
/// assert_eq!(receive_bytes(&theirs, &mut [0; 16]).await?, 4);
/// # Ok(())
/// # }
/// ```
pub async fn receive_bytes(stream: &UnixStream, buf: &mut [u8]) -> Result<usize, ReceiveError> {
    let receiving = Receiving::some(buf, Descriptors::Refused)?;
    Ok(run(stream, receiving).await?.bytes)
}

/// Fills `buf` and lets no descriptor in, like
/// [`receive_bytes_exact`](crate::receive_bytes_exact). Not cancel safe.
///
/// # Errors
///
/// Those of [`receive_bytes_exact`](crate::receive_bytes_exact) except the timeout.
///
/// # Examples
///
/// ```
/// use memenpsf_fdpass::tokio::{receive_bytes_exact, send_all};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, theirs) = tokio::net::UnixStream::pair()?;
/// send_all(&ours, b"hello", &[]).await?;
/// let mut buf = [0; 5];
/// receive_bytes_exact(&theirs, &mut buf).await?;
/// assert_eq!(&buf, b"hello");
/// # Ok(())
/// # }
/// ```
pub async fn receive_bytes_exact(stream: &UnixStream, buf: &mut [u8]) -> Result<(), ReceiveError> {
    let receiving = Receiving::all(buf, Descriptors::Refused)?;
    run(stream, receiving).await.map(drop)
}

/// Sends one descriptor with an id, like [`send_fd`](crate::send_fd). Not cancel
/// safe.
///
/// # Errors
///
/// Those of [`send_fd`](crate::send_fd) except the timeout.
///
/// # Examples
///
/// ```
/// use memenpsf_fdpass::tokio::{recv_fd, send_fd};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, theirs) = tokio::net::UnixStream::pair()?;
/// let null = std::fs::File::open("/dev/null")?;
/// send_fd(&ours, 7, &null).await?;
/// assert!(recv_fd(&theirs, 7).await.is_ok());
/// # Ok(())
/// # }
/// ```
pub async fn send_fd(stream: &UnixStream, id: u64, fd: impl AsFd) -> Result<(), SendError> {
    send_all(stream, &id.to_le_bytes(), &[fd.as_fd()]).await
}

/// Receives the one descriptor that was sent with `expected_id`, like
/// [`recv_fd`](crate::recv_fd). Not cancel safe.
///
/// # Errors
///
/// Those of [`recv_fd`](crate::recv_fd) except the timeout.
///
/// # Examples
///
/// ```
/// use memenpsf_fdpass::ReceiveError;
/// use memenpsf_fdpass::tokio::{recv_fd, send_fd};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, theirs) = tokio::net::UnixStream::pair()?;
/// let null = std::fs::File::open("/dev/null")?;
/// send_fd(&ours, 7, &null).await?;
/// let error = recv_fd(&theirs, 8).await.unwrap_err();
/// assert!(matches!(error, ReceiveError::WrongId { expected: 8, received: 7, .. }));
/// # Ok(())
/// # }
/// ```
pub async fn recv_fd(stream: &UnixStream, expected_id: u64) -> Result<OwnedFd, ReceiveError> {
    let mut id = [0; 8];
    let fds = receive_exact(stream, &mut id, 1).await?;
    check_id(id, expected_id, fds)
}

/// Steps until the receive is complete.
async fn run(stream: &UnixStream, mut receiving: Receiving<'_>) -> Result<Received, ReceiveError> {
    if receiving.is_done() {
        return Ok(receiving.into_received());
    }
    loop {
        stream
            .readable()
            .await
            .map_err(|source| receiving.io(source))?;
        let step = stream.try_io(Interest::READABLE, || {
            would_block(receiving.step(&mut Linux, stream.as_fd()))
        });
        match step {
            Ok(progress) => {
                if progress? == Progress::Done {
                    return Ok(receiving.into_received());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(source) => return Err(receiving.io(source)),
        }
    }
}

/// Tells tokio in its own words that the socket is no longer ready, and hands
/// everything else through.
fn would_block<E>(step: Result<Progress, E>) -> io::Result<Result<Progress, E>> {
    match step {
        Ok(Progress::Blocked) => Err(io::ErrorKind::WouldBlock.into()),
        step => Ok(step),
    }
}
