//! Plain data on a tokio runtime.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use memenpsf_ring::Plain;

use super::stream_item;
use crate::error::{RecvError, TransmitError, XmitError};
use crate::interface::{Interest, Interface};

impl<T: Plain> Interface<T> {
    /// Receives one message, waiting for as long as it takes.
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
    pub async fn recv_async(&mut self) -> Result<T, RecvError> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// Transmits one message, waiting for room for as long as it takes.
    ///
    /// Cancel safe: a future that is dropped before it is ready has transmitted
    /// nothing; its message is dropped with it.
    ///
    /// # Errors
    ///
    /// As [`xmit`](Self::xmit), but for a full ring; [`XmitError::Wait`] when the
    /// runtime cannot wait for the socket.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub async fn xmit_async(&mut self, message: T) -> Result<(), XmitError<T>> {
        let mut message = message;
        loop {
            message = match self.xmit(message) {
                Err(XmitError::Full(message)) => message,
                result => return result,
            };
            if let Err(error) = poll_fn(|context| self.poll_space(context)).await {
                return Err(XmitError::transmit(message, error.into()));
            }
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
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<T, RecvError>> {
        self.poll_message(context, crate::Receiver::<T>::recv_or_end)
    }
}

/// Yields messages until the peer closes the connection; a death or a violation is
/// an error before the end.
impl<T: Plain> Stream for Interface<T> {
    type Item = Result<T, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.stream_ended {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_recv(context));
        self.stream_ended = item.is_err();
        Poll::Ready(stream_item(item))
    }
}

/// Transmits at once when there is room; there is nothing to flush.
impl<T: Plain> Sink<T> for Interface<T> {
    type Error = TransmitError;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), TransmitError>> {
        self.poll_space(context).map_err(TransmitError::from)
    }

    fn start_send(mut self: Pin<&mut Self>, message: T) -> Result<(), TransmitError> {
        let transmitted = self.xmit(message);
        self.tell(Interest::DATA);
        transmitted.map_err(TransmitError::from)
    }

    fn poll_flush(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Result<(), TransmitError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Result<(), TransmitError>> {
        // The goodbye comes with the drop: the other direction may go on.
        Poll::Ready(Ok(()))
    }
}
