//! What the demo and its children say to each other: one JSON object a line,
//! orders on a child's standard input, answers on its standard output.

use std::io::{self, BufRead, Write};

use memenpsf_benches::exchange::Span;
use memenpsf_benches::message::Counts;
use memenpsf_benches::transport::Waiting;
use serde::{Deserialize, Serialize};

/// What a child is to do next. The end of the input means: end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Order {
    /// Connect.
    Begin(Setup),
    /// Exchange messages.
    Run(Task),
    /// Check what else has arrived.
    Drain,
}

/// What a child needs to connect.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Setup {
    /// The abstract name of the server's socket.
    pub(super) socket: String,
    /// What a client of this demo knows and nobody else.
    pub(super) token: u64,
    /// Length of a message in bytes.
    pub(super) length: usize,
    /// Number of clients.
    pub(super) clients: usize,
    /// The cores of server and client, if they are to be bound.
    pub(super) cores: Option<[usize; 2]>,
    /// How often a side spins before it yields.
    pub(super) spins: u32,
}

/// What carries the messages. Each client has one connection of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Carrier {
    /// Shared memory between two sides that never sleep.
    AwakeMemory,
    /// Shared memory between two sides that sleep when they wait for long.
    Memory,
    Pipe,
    UnixSocket,
}

impl Carrier {
    pub(super) const ALL: [Self; CARRIERS] = [
        Self::AwakeMemory,
        Self::Memory,
        Self::Pipe,
        Self::UnixSocket,
    ];

    /// Returns its place in [`ALL`](Self::ALL).
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// Returns the number that stands for it in a greeting.
    pub(super) fn code(self) -> u32 {
        self as u32
    }

    /// Returns what the report calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AwakeMemory | Self::Memory => "shared memory",
            Self::Pipe => "pipe",
            Self::UnixSocket => "unix socket",
        }
    }
}

/// Number of carriers.
pub(super) const CARRIERS: usize = 4;

/// One run of messages over one connection.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Task {
    /// The row of the table that it belongs to.
    pub(super) row: usize,
    pub(super) carrier: Carrier,
    pub(super) kind: Kind,
    /// Messages, or round trips, of each client.
    pub(super) count: u64,
    /// Most messages a call.
    pub(super) batch: usize,
    pub(super) waiting: Waiting,
}

/// What a run measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// Both sides send at the same time.
    Stream,
    /// The server answers each message of the client.
    RoundTrips,
}

impl Task {
    /// Returns what the progress bar says.
    pub(super) fn title(&self) -> String {
        let kind = match self.kind {
            Kind::Stream => "messages both ways",
            Kind::RoundTrips => "round trips",
        };
        format!("{}: {kind}", self.carrier.name())
    }
}

/// What a child answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The server listens.
    Listening,
    /// All connections are made.
    Ready,
    /// A task is done, or the input is drained.
    Done(Done),
    /// It cannot go on.
    Failed {
        /// Why.
        what: String,
        /// Whether it only means that another process is gone.
        peer_gone: bool,
    },
}

/// What came of a task at one side.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Done {
    /// From when to when; nothing after a drain.
    pub(super) span: Option<Span>,
    /// Durations of round trips in nanoseconds, and how often each occurred.
    pub(super) latency: Vec<(u64, u64)>,
    /// What has been found out about all messages so far.
    pub(super) counts: Counts,
}

impl Done {
    /// Adds what came of the same task on another client's connection.
    pub(super) fn merge(&mut self, other: Self) {
        self.span = match (self.span, other.span) {
            (Some(span), Some(other)) => Some(span.union(other)),
            (span, other) => span.or(other),
        };
        self.latency.extend(other.latency);
        self.counts += other.counts;
    }
}

/// Reads the next order or answer; `None` at the end.
///
/// # Errors
///
/// What the system says, and what is no order or answer.
pub(super) fn read<T: for<'a> Deserialize<'a>>(input: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

/// Writes an order or answer.
///
/// # Errors
///
/// What the system says.
pub(super) fn write<T: Serialize>(output: &mut impl Write, message: &T) -> io::Result<()> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    output.write_all(line.as_bytes())?;
    output.flush()
}
