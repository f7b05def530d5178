//! Handing clients over, each as an interface of its own.

use std::time::Duration;

use memenpsf_fdpass::Deadline;

use super::{ClientId, Server};
use crate::error::AcceptError;
use crate::interface::Interface;
use crate::message::Message;

impl<T: Message + ?Sized> Server<T> {
    /// Waits for the next client and hands it over.
    ///
    /// Clients that fail are passed over; [`poll`](Self::poll) tells of them, and
    /// [`stats`](Self::stats) counts them.
    ///
    /// # Errors
    ///
    /// [`AcceptError`]: never because of a client.
    pub fn accept(&mut self) -> Result<Interface<T>, AcceptError> {
        loop {
            if let Some(interface) = self.accept_timeout(None)? {
                return Ok(interface);
            }
        }
    }

    /// Waits for the next client for at most `timeout` and hands it over; `None`
    /// when the time is up. A `timeout` of `None` is for ever.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    ///
    /// ```
    /// use memenpsf::Server;
    /// use std::time::Duration;
    ///
    /// let mut server = Server::<u64>::bind("@memenpsf-doc-timeout")?;
    /// assert!(server.accept_timeout(Some(Duration::from_millis(1)))?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn accept_timeout(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Option<Interface<T>>, AcceptError> {
        let deadline = timeout.map_or(Deadline::never(), Deadline::after);
        self.bury();
        loop {
            while let Some(id) = self.connected.pop_front() {
                // One that the caller has taken meanwhile is passed over.
                if let Some(interface) = self.take(ClientId(id)) {
                    return Ok(Some(interface));
                }
            }
            self.round(deadline)?;
            self.failed.clear();
            if self.connected.is_empty() && deadline.has_passed() {
                return Ok(None);
            }
        }
    }

    /// Hands over a client if one is there; goes on with all handshakes as far as
    /// that is possible without waiting.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn try_accept(&mut self) -> Result<Option<Interface<T>>, AcceptError> {
        self.accept_timeout(Some(Duration::ZERO))
    }

    /// Returns an iterator over the clients to come. It ends after an error only.
    ///
    /// ```
    /// use memenpsf::{Interface, Server};
    ///
    /// let mut server = Server::<u64>::bind("@memenpsf-doc-incoming")?;
    /// let client = std::thread::spawn(|| {
    ///     let mut client = Interface::<u64>::connect("@memenpsf-doc-incoming").unwrap();
    ///     client.recv_timeout(None)
    /// });
    /// for client in server.incoming().take(1) {
    ///     client?.xmit(7)?;
    /// }
    /// assert_eq!(client.join().unwrap(), Ok(Some(7)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn incoming(&mut self) -> Incoming<'_, T> {
        Incoming { server: Some(self) }
    }
}

/// The clients to come. See [`Server::incoming`].
#[derive(Debug)]
pub struct Incoming<'a, T: Message + ?Sized> {
    /// None after an error.
    server: Option<&'a mut Server<T>>,
}

impl<T: Message + ?Sized> Iterator for Incoming<'_, T> {
    type Item = Result<Interface<T>, AcceptError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.server.as_mut()?.accept();
        if next.is_err() {
            // The next call would fail as well, and a loop go round for ever.
            self.server = None;
        }
        Some(next)
    }
}

impl<T: Message + ?Sized> std::iter::FusedIterator for Incoming<'_, T> {}
