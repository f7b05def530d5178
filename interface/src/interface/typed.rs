//! The calls of an interface that carries plain data.

use std::time::Duration;

use memenpsf_ring::Plain;

use super::Interface;
use crate::error::{RecvError, TransmitError, XmitError};
use crate::transmitter::Reservation;
#[cfg(doc)]
use crate::{Receiver, Transmitter};

impl<T: Plain> Interface<T> {
    /// Transmits one message, at once. See [`Transmitter::xmit`].
    ///
    /// # Errors
    ///
    /// Each gives the message back: [`XmitError::Full`], [`XmitError::Closed`],
    /// [`XmitError::Violation`].
    #[inline]
    pub fn xmit(&mut self, message: T) -> Result<(), XmitError<T>> {
        self.transmitter.xmit(message)
    }

    /// Transmits as many messages as there is room for by one call, and
    /// returns how many they were. See [`Transmitter::xmit_vectored`].
    ///
    /// # Errors
    ///
    /// [`TransmitError::Closed`] and [`TransmitError::Violation`].
    #[inline]
    pub fn xmit_vectored(&mut self, messages: &[T]) -> Result<usize, TransmitError> {
        self.transmitter.xmit_vectored(messages)
    }

    /// Reserves `wanted` slots to fill in place. See [`Transmitter::reserve`].
    ///
    /// # Errors
    ///
    /// [`TransmitError::TooFew`], [`TransmitError::Closed`] and
    /// [`TransmitError::Violation`].
    pub fn reserve(&mut self, wanted: usize) -> Result<Reservation<'_, T>, TransmitError> {
        self.transmitter.reserve(wanted)
    }

    /// Receives one message, or `None` when there is none now. See
    /// [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] after everything that the peer had committed, and
    /// [`RecvError::Violation`].
    #[inline]
    pub fn recv(&mut self) -> Result<Option<T>, RecvError> {
        self.receiver.recv()
    }

    /// Receives all messages that are there now. See [`Receiver::recv_vectored`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_vectored(&mut self) -> Result<Vec<T>, RecvError> {
        self.receiver.recv_vectored()
    }

    /// Receives the messages that are there now, at most `max`, appends them to
    /// `messages`, and returns how many they were. See [`Receiver::recv_into`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    #[inline]
    pub fn recv_into(&mut self, messages: &mut Vec<T>, max: usize) -> Result<usize, RecvError> {
        self.receiver.recv_into(messages, max)
    }

    /// Transmits one message, waiting for room for at most `timeout`. See
    /// [`Transmitter::xmit_timeout`].
    ///
    /// # Errors
    ///
    /// As [`xmit`](Self::xmit); [`XmitError::Full`] when the time is up.
    pub fn xmit_timeout(
        &mut self,
        message: T,
        timeout: Option<Duration>,
    ) -> Result<(), XmitError<T>> {
        self.transmitter.xmit_timeout(message, timeout)
    }

    /// Receives one message, waiting for at most `timeout`. See
    /// [`Receiver::recv_timeout`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Option<Duration>) -> Result<Option<T>, RecvError> {
        self.receiver.recv_timeout(timeout)
    }
}
