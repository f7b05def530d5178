//! Messages of any length over shared memory: [`ByteInterface`] behind the trait of
//! the others. A message is as many bytes as its words have. A batch is sent up to 64
//! messages a call, and received one a call.

use std::os::unix::net::UnixStream;

use memenpsf::{ByteInterface, ByteXmitError, Options, Role};
use zerocopy::{FromBytes, IntoBytes};

use super::{capacity, sleep};
use crate::exchange::{Endpoint, Side};
use crate::message::Format;
use crate::spin::Backoff;
use crate::transport::{Transport, TransportError, Waiting};

/// The most messages that one call sends.
const AT_ONCE: usize = 64;

/// One end of a connection over shared memory for messages of any length.
#[derive(Debug)]
struct SharedBytes {
    interface: ByteInterface,
    words: usize,
    /// The only message of the last call, if it lies where words may.
    message: Vec<u8>,
    /// Otherwise, its messages.
    inbox: Vec<u64>,
    waiting: Waiting,
    backoff: Backoff,
    sleeps: u64,
}

impl Transport for SharedBytes {
    fn stride(&self) -> usize {
        self.words
    }

    fn send(&mut self, messages: &[u64]) -> Result<usize, TransportError> {
        let mut sent = 0;
        if messages.len() == self.words {
            sent = match self.interface.xmit(messages.as_bytes()) {
                Ok(()) => 1,
                Err(ByteXmitError::Full) => 0,
                Err(error) => return Err(failure(error)),
            };
        } else {
            let mut parts: [&[u8]; AT_ONCE] = [&[]; AT_ONCE];
            for messages in messages.chunks(AT_ONCE * self.words) {
                let mut count = 0;
                for (part, message) in parts.iter_mut().zip(messages.chunks_exact(self.words)) {
                    *part = message.as_bytes();
                    count += 1;
                }
                let accepted = self.interface.xmit_vectored(&parts[..count]);
                let accepted = accepted.map_err(failure)?;
                sent += accepted;
                if accepted < count {
                    break;
                }
            }
        }
        if sent > 0 {
            self.backoff.reset();
        }
        Ok(sent)
    }

    fn receive(&mut self, max: usize) -> Result<usize, TransportError> {
        self.inbox.clear();
        let mut received = 0;
        while received < max && self.interface.recv_into(&mut self.message)?.is_some() {
            received += 1;
            match <[u64]>::ref_from_bytes(&self.message) {
                // Nobody needs to copy it: `received` finds it there.
                Ok(_) if max == 1 => return Ok(self.arrived(1)),
                Ok(words) => self.inbox.extend_from_slice(words),
                Err(_) => {
                    let words = self.message.chunks_exact(size_of::<u64>());
                    self.inbox
                        .extend(words.filter_map(|word| u64::read_from_bytes(word).ok()));
                }
            }
        }
        self.message.clear();
        Ok(self.arrived(received))
    }

    fn received(&self) -> &[u64] {
        match <[u64]>::ref_from_bytes(&self.message) {
            Ok(words) if !words.is_empty() => words,
            _ => &self.inbox,
        }
    }

    fn idle(&mut self, to_send: bool) -> Result<(), TransportError> {
        if self.waiting == Waiting::Spin || self.backoff.is_spinning() {
            self.backoff.wait();
            return Ok(());
        }
        sleep(&mut self.interface, to_send, &mut self.sleeps)
    }

    fn calls(&self) -> u64 {
        let stats = self.interface.stats();
        stats.looks + stats.wakes + 2 * self.sleeps
    }

    fn set_waiting(&mut self, waiting: Waiting) -> Result<(), TransportError> {
        self.waiting = waiting;
        Ok(())
    }
}

fn failure(error: ByteXmitError) -> TransportError {
    match error {
        ByteXmitError::Closed(_) => TransportError::Closed,
        error => TransportError::TransmitBytes(error),
    }
}

impl SharedBytes {
    fn arrived(&mut self, messages: usize) -> usize {
        if messages > 0 {
            self.backoff.reset();
        }
        messages
    }
}

/// Makes a connection over `stream` for messages of `format`, each as bytes.
///
/// # Errors
///
/// [`TransportError::Connect`].
pub fn connect(
    stream: UnixStream,
    role: Role,
    format: Format,
    options: &Options,
    backoff: Backoff,
) -> Result<Box<dyn Endpoint>, TransportError> {
    // As many bytes as the ring of a typed connection has.
    let slot = format.words().next_power_of_two();
    let bytes = capacity(slot) * slot * size_of::<u64>();
    let transport = SharedBytes {
        interface: ByteInterface::establish(stream, role, &options.clone().capacity(bytes))?,
        words: format.words(),
        message: Vec::new(),
        inbox: Vec::new(),
        waiting: Waiting::Spin,
        backoff,
        sleeps: 0,
    };
    Ok(Box::new(Side::new(transport, format)))
}
