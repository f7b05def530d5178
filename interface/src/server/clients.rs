//! Keeping clients, and telling what happens at any of them.

use std::collections::VecDeque;
use std::time::Duration;

use memenpsf_fdpass::Deadline;

use super::{ClientId, Event, Server};
use crate::error::{AcceptError, RecvError};
use crate::interface::{Interest, Interface, Readiness};
use crate::message::Message;

/// A client that the server keeps.
#[derive(Debug)]
pub(super) struct Client<T: Message + ?Sized> {
    interface: Interface<T>,
    interest: Interest,
    /// Whether it is in `to_ask` or `to_ask_next`.
    listed: bool,
}

/// What is to be told of a client.
enum Answer {
    Ready(Readiness),
    Gone(RecvError),
}

impl<T: Message + ?Sized> Client<T> {
    pub(super) fn new(interface: Interface<T>) -> Self {
        Self {
            interface,
            interest: Interest::DATA,
            listed: false,
        }
    }

    /// Puts the client on the list of those to ask, if it is on neither.
    fn list(&mut self, id: u64, to_ask: &mut VecDeque<u64>) {
        if !std::mem::replace(&mut self.listed, true) {
            to_ask.push_back(id);
        }
    }

    /// Tells what is to be done; if nothing, the client is armed.
    fn ask(&mut self) -> Option<Answer> {
        let readiness = self.interface.ready(self.interest);
        if readiness.ended
            && let Some(reason) = self.interface.outcome()
        {
            return Some(Answer::Gone(reason));
        }
        readiness.any().then_some(Answer::Ready(readiness))
    }
}

impl<T: Message + ?Sized> Server<T> {
    /// Waits for the next event for at most `timeout`; `None` when the time is up.
    /// A `timeout` of `None` is for ever.
    ///
    /// | event | what to do |
    /// |---|---|
    /// | [`Event::Connected`] | nothing; [`client`](Self::client) is the interface |
    /// | [`Event::Ready`] | what its [`Readiness`] says: receive until `None`, transmit until full, read control messages |
    /// | [`Event::Gone`] | nothing; the interface is dropped at the next call |
    /// | [`Event::Failed`] | nothing; write it to a log |
    ///
    /// A client that is still ready comes again, after all others that are: doing a
    /// bounded part of the work each time is fair and loses nothing. Doing none of
    /// it makes a busy loop.
    ///
    /// Control messages are told of when they come, and once. A thousand of them may
    /// wait; when there are more and none was read since, the oldest are dropped.
    ///
    /// A client that does not receive makes no event: when its ring is full, go on
    /// with the others, and ask for [`Event::Ready`] by
    /// [`set_interest`](Self::set_interest) until what waits is transmitted.
    ///
    /// # Errors
    ///
    /// [`AcceptError`]: never because of a client.
    pub fn poll(&mut self, timeout: Option<Duration>) -> Result<Option<Event>, AcceptError> {
        let deadline = timeout.map_or(Deadline::never(), Deadline::after);
        self.bury();
        loop {
            if let Some(event) = self.next_event() {
                return Ok(Some(event));
            }
            // Those that were ready are asked again; nobody sleeps meanwhile.
            self.to_ask.extend(self.to_ask_next.drain(..));
            let asked = !self.to_ask.is_empty();
            let until = if asked {
                Deadline::after(Duration::ZERO)
            } else {
                deadline
            };
            let found = self.round(until)?;
            if !found && !asked && deadline.has_passed() {
                return Ok(None);
            }
        }
    }

    /// Returns what is to be told, if anything is.
    fn next_event(&mut self) -> Option<Event> {
        if let Some((credentials, error)) = self.failed.pop_front() {
            return Some(Event::Failed(credentials, error));
        }
        while let Some(id) = self.connected.pop_front() {
            if self.clients.contains_key(&id) {
                self.list(id);
                return Some(Event::Connected(ClientId(id)));
            }
        }
        while let Some(id) = self.to_ask.pop_front() {
            // One that the caller has taken meanwhile is passed over.
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            match client.ask() {
                Some(Answer::Ready(readiness)) => {
                    self.to_ask_next.push(id);
                    return Some(Event::Ready(ClientId(id), readiness));
                }
                Some(Answer::Gone(reason)) => {
                    self.departed = Some(id);
                    return Some(Event::Gone(ClientId(id), reason));
                }
                None => client.listed = false,
            }
        }
        None
    }

    /// Returns a client that the server keeps.
    pub fn client(&mut self, id: ClientId) -> Option<&mut Interface<T>> {
        // The caller may take a wake-up out of its socket (I6).
        self.list(id.0);
        Some(&mut self.clients.get_mut(&id.0)?.interface)
    }

    /// Returns all clients that the server keeps, in no order.
    ///
    /// ```
    /// use memenpsf::{Event, Interface, Server};
    ///
    /// let mut server = Server::<u64>::bind("@memenpsf-doc-all")?;
    /// let client = std::thread::spawn(|| Interface::<u64>::connect("@memenpsf-doc-all"));
    /// let Some(Event::Connected(id)) = server.poll(None)? else { unreachable!() };
    /// for (_, client) in server.clients() {
    ///     client.xmit(1)?;
    /// }
    /// assert_eq!(client.join().unwrap()?.recv()?, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clients(&mut self) -> impl Iterator<Item = (ClientId, &mut Interface<T>)> {
        let to_ask = &mut self.to_ask;
        self.clients.iter_mut().map(|(id, client)| {
            // As for one.
            client.list(*id, to_ask);
            (ClientId(*id), &mut client.interface)
        })
    }

    /// Takes a client out of the server, for another thread for example. It counts
    /// among the clients until it is dropped; dropping it ends the connection.
    ///
    /// ```
    /// use memenpsf::{Event, Interface, Server};
    ///
    /// let mut server = Server::<u64>::bind("@memenpsf-doc-take")?;
    /// let client = std::thread::spawn(|| Interface::<u64>::connect("@memenpsf-doc-take"));
    /// let Some(Event::Connected(id)) = server.poll(None)? else { unreachable!() };
    /// let mut interface = server.take(id).unwrap();
    /// assert!(server.client(id).is_none());
    /// assert_eq!(server.stats().clients, 1);
    /// # interface.xmit(1)?;
    /// # drop(client.join());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take(&mut self, id: ClientId) -> Option<Interface<T>> {
        let client = self.clients.remove(&id.0)?;
        // It is registered; the set forgets it with its descriptor at the latest.
        let _ = self.epoll.delete(&client.interface);
        Some(client.interface)
    }

    /// Sets what [`Event::Ready`] is to tell of a client: [`Interest::DATA`] unless
    /// chosen. Control messages and the end are always told.
    ///
    /// ```
    /// use memenpsf::{Event, Interest, Interface, Server};
    ///
    /// let mut server = Server::<u64>::bind("@memenpsf-doc-interest")?;
    /// let client = std::thread::spawn(|| Interface::<u64>::connect("@memenpsf-doc-interest"));
    /// let Some(Event::Connected(id)) = server.poll(None)? else { unreachable!() };
    /// server.set_interest(id, Interest::BOTH);
    /// let Some(Event::Ready(ready, what)) = server.poll(None)? else { unreachable!() };
    /// assert!(ready == id && what.writable);
    /// # drop(client.join());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_interest(&mut self, id: ClientId, interest: Interest) {
        if let Some(client) = self.clients.get_mut(&id.0) {
            client.interest = interest;
            self.list(id.0);
        }
    }

    /// Has a client asked in this round.
    pub(super) fn list(&mut self, id: u64) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.list(id, &mut self.to_ask);
        }
    }

    /// Drops the client that was told to be gone.
    pub(super) fn bury(&mut self) {
        if let Some(id) = self.departed.take() {
            drop(self.take(ClientId(id)));
        }
    }
}
