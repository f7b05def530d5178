//! The second process: what it is told, and how it is told.
//!
//! The first process gives it one end of a Unix socket as its standard input. A
//! message is its length and the number of its descriptors, each a `u32` of
//! little-endian bytes, then JSON with these descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use memenpsf_benches::limits::Player;
use memenpsf_benches::placement::pin;
use memenpsf_benches::session::{Outcome, Session, Subject, Task};
use memenpsf_benches::transport::TransportError;
use memenpsf_fdpass::{Deadline, receive_bytes_exact, receive_exact, send_all};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Failure;

/// How long the partner may take to answer: more than either side waits for a
/// message that was lost.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest message: a histogram of round trips has some ten thousand entries.
const LONGEST: usize = 1 << 22;

/// What the partner is to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Order {
    /// Run on this core.
    Pin(usize),
    /// Open one more session, from the descriptors that come along.
    Open(Subject),
    /// Run a task in one of them.
    Run(usize, Task),
}

/// What the partner says when it has done so.
type Answer = Result<Outcome, String>;

fn send<T: Serialize>(stream: &UnixStream, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let field = |number: usize| u32::try_from(number).map_err(io::Error::other);
    let mut head = field(text.len())?.to_le_bytes().to_vec();
    head.extend(field(fds.len())?.to_le_bytes());
    let deadline = Deadline::after(ANSWER);
    send_all(stream, &head, &[], deadline).map_err(io::Error::other)?;
    send_all(stream, &text, fds, deadline).map_err(io::Error::other)
}

fn receive<T: DeserializeOwned>(
    stream: &UnixStream,
    deadline: Deadline,
) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut head = [[0; 4]; 2];
    receive_bytes_exact(stream, head.as_flattened_mut(), deadline).map_err(io::Error::other)?;
    let [length, fds] = head.map(|field| u32::from_le_bytes(field) as usize);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length];
    let fds = receive_exact(stream, &mut text, fds, deadline).map_err(io::Error::other)?;
    Ok((serde_json::from_slice(&text)?, fds))
}

/// The partner, seen from the first process, with the first process's halves of
/// all sessions. When it is dropped, the second process is dead and reaped.
#[derive(Debug)]
pub(super) struct Partner {
    child: Child,
    stream: UnixStream,
    sessions: Vec<Session>,
    cores: [usize; 2],
}

impl Partner {
    /// Starts the second process, and binds both to their cores.
    pub(super) fn start(cores: [usize; 2]) -> Result<Self, Failure> {
        let (stream, theirs) = UnixStream::pair().map_err(Failure::Start)?;
        let child = std::env::current_exe()
            .and_then(|program| {
                Command::new(program)
                    .arg("bench-partner")
                    .stdin(OwnedFd::from(theirs))
                    .stdout(Stdio::null())
                    .spawn()
            })
            .map_err(Failure::Start)?;
        let mut partner = Self {
            child,
            stream,
            sessions: Vec::new(),
            cores,
        };
        pin(cores[0]).map_err(Failure::Start)?;
        partner.move_to(cores[1])?;
        Ok(partner)
    }

    /// Binds the second process to a core: the first one's, or its own.
    fn move_to(&mut self, core: usize) -> Result<(), Failure> {
        self.order(&Order::Pin(core), &[])?;
        self.answer().map(drop)
    }

    /// Puts both processes on one core, or apart again.
    pub(super) fn share_core(&mut self, shared: bool) -> Result<(), Failure> {
        self.move_to(self.cores[usize::from(!shared)])
    }

    /// Opens a session at both sides, and returns its number.
    pub(super) fn open(&mut self, subject: Subject) -> Result<usize, Failure> {
        let [ours, theirs] = subject
            .ends()
            .map_err(|error| Failure::Partner(error.to_string()))?;
        let fds: Vec<_> = theirs.iter().map(OwnedFd::as_fd).collect();
        self.order(&Order::Open(subject), &fds)?;
        // The partner's end is to be the only one, so that its death is seen.
        drop(theirs);
        let session = Session::open(subject, Player::First, ours)?;
        self.answer()?;
        self.sessions.push(session);
        Ok(self.sessions.len() - 1)
    }

    /// Runs a task at both sides, and returns what came of it at the first and at
    /// the second.
    pub(super) fn run(&mut self, session: usize, task: Task) -> Result<[Outcome; 2], Failure> {
        self.order(&Order::Run(session, task), &[])?;
        let ours = self.sessions[session].run(task);
        let theirs = self.answer();
        match (ours, theirs) {
            // What the partner says is the cause, if it says something.
            (Err(_), Err(theirs @ Failure::Reported(_))) => Err(theirs),
            (ours, theirs) => Ok([ours?, theirs?]),
        }
    }

    /// Lets the second process end.
    pub(super) fn dismiss(self) {
        // Its end is the end of the socket, and `drop` does the rest.
    }

    fn order(&self, order: &Order, fds: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        send(&self.stream, order, fds).map_err(|error| Failure::Partner(error.to_string()))
    }

    fn answer(&self) -> Result<Outcome, Failure> {
        let (answer, _) = receive::<Answer>(&self.stream, Deadline::after(ANSWER))
            .map_err(|error| Failure::Partner(error.to_string()))?;
        answer.map_err(Failure::Reported)
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        // It fails for a child that is gone: that is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the second process, until the first one has no more orders.
pub(crate) fn take_part() -> ExitCode {
    let orders = set_pdeathsig(Signal::SIGKILL)
        .map_err(io::Error::from)
        .and_then(|()| io::stdin().as_fd().try_clone_to_owned());
    let Ok(orders) = orders else {
        return ExitCode::FAILURE;
    };
    let stream = UnixStream::from(orders);
    let mut sessions = Vec::new();
    while let Ok((order, fds)) = receive::<Order>(&stream, Deadline::never()) {
        let answer: Answer =
            carry_out(order, fds, &mut sessions).map_err(|error| error.to_string());
        if send(&stream, &answer, &[]).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn carry_out(
    order: Order,
    fds: Vec<OwnedFd>,
    sessions: &mut Vec<Session>,
) -> Result<Outcome, TransportError> {
    let bad = |source| TransportError::Io {
        doing: "cannot carry out an order",
        source,
    };
    match order {
        Order::Pin(core) => pin(core).map_err(bad)?,
        Order::Open(subject) => sessions.push(Session::open(subject, Player::Second, fds)?),
        Order::Run(session, task) => {
            let session = sessions
                .get_mut(session)
                .ok_or_else(|| bad(io::ErrorKind::InvalidInput.into()))?;
            let mut outcome = session.run(task)?;
            // The first side's are the ones that count.
            outcome.latency.clear();
            return Ok(outcome);
        }
    }
    Ok(Outcome::default())
}
