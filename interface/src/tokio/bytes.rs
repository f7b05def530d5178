//! Messages of variable length on a tokio runtime.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;

use super::stream_item;
use crate::error::{ByteXmitError, RecvError};
use crate::interface::{Interest, Interface};

impl Interface<[u8]> {
    /// Receives one message in a vector of its own, waiting for as long as it takes.
    ///
    /// Cancel safe: a future that is dropped has received nothing.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv); [`RecvError::Wait`] when the runtime cannot wait for
    /// the socket.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use memenpsf::{ByteInterface, Options};
    ///
    /// let (ours, theirs) = tokio::net::UnixStream::pair()?;
    /// let options = Options::new().capacity(4096);
    /// let (client, server) = tokio::join!(
    ///     ByteInterface::establish_async(ours, 0, &options),
    ///     ByteInterface::establish_async(theirs, 1, &options),
    /// );
    /// let (mut client, mut server) = (client?, server?);
    /// client.xmit_async(b"hello").await?;
    /// assert_eq!(server.recv_async().await?, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn recv_async(&mut self) -> Result<Vec<u8>, RecvError> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// Transmits one message, waiting for room for as long as it takes.
    ///
    /// Cancel safe: a future that is dropped before it is ready has transmitted
    /// nothing.
    ///
    /// # Errors
    ///
    /// As [`xmit`](Self::xmit), but for a full ring; [`ByteXmitError::Wait`] when the
    /// runtime cannot wait for the socket.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub async fn xmit_async(&mut self, message: &[u8]) -> Result<(), ByteXmitError> {
        loop {
            match self.xmit(message) {
                Err(ByteXmitError::Full) => {}
                result => return result,
            }
            poll_fn(|context| self.poll_space(context)).await?;
        }
    }

    /// Polls for one message. See [`recv_async`](Self::recv_async).
    ///
    /// # Errors
    ///
    /// As [`recv_async`](Self::recv_async).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<u8>, RecvError>> {
        self.poll_message(context, crate::ByteReceiver::recv_or_end)
    }
}

/// Yields messages until the peer closes the connection; a death or a violation is
/// an error before the end.
impl Stream for Interface<[u8]> {
    type Item = Result<Vec<u8>, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.stream_ended {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_recv(context));
        self.stream_ended = item.is_err();
        Poll::Ready(stream_item(item))
    }
}

/// Takes a message when the longest one that can be transmitted fits. Closing it
/// leaves the other direction open: the goodbye comes with the drop.
impl Sink<Vec<u8>> for Interface<[u8]> {
    type Error = ByteXmitError;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ByteXmitError>> {
        loop {
            let longest = self.max_message();
            // Asked for and let go, so that the wait is for as much room.
            match self.reserve(longest).map(drop) {
                Err(ByteXmitError::Full) => ready!(self.poll_space(context))?,
                room => return Poll::Ready(room),
            }
        }
    }

    fn start_send(mut self: Pin<&mut Self>, message: Vec<u8>) -> Result<(), ByteXmitError> {
        let transmitted = self.xmit(&message);
        self.tell(Interest::DATA);
        transmitted
    }

    fn poll_flush(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Result<(), ByteXmitError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Result<(), ByteXmitError>> {
        Poll::Ready(Ok(()))
    }
}
