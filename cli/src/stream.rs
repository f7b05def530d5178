//! `memenpsf recv` and `memenpsf send`: a pipe through shared memory between two
//! processes that have no parent in common.
//!
//! `recv` listens. The bytes travel as messages of any length above zero; an empty
//! message ends them. `recv` answers it by an empty message when it has handed all
//! bytes on, and only then does `send` succeed: so whichever side dies, the other one
//! knows that something may be missing.
//!
//! While bytes flow, signals end the process at once, as they end any filter; the
//! other side sees a connection that ended too early.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use memenpsf::{ByteInterface, ByteXmitError, Interest, Options, Server, ServerOptions};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::command::whole_number;
use crate::failure::Failure;
use crate::signals::Signals;

/// What both programs call their messages, so that no other program is mistaken for
/// one of them.
const SCHEMA: &str = "memenpsf/stream/1";
/// Bytes of a ring: some messages under way, and still in a core's cache.
const RING: usize = 1 << 20;
/// Longest message.
const CHUNK: usize = 1 << 16;
/// Longest wait for the other side.
const LONGEST_WAIT: u64 = 1_000_000_000;

/// Write what `memenpsf send` reads to the standard output
///
/// Listens at SOCKET, takes one sender, and ends with it. Exits with 0 only if the
/// sender has come to the end of its input and every byte was written; a reader of
/// the standard output that goes away early is not a failure.
#[derive(Debug, clap::Args)]
#[command(after_help = RECV_EXAMPLES)]
pub(crate) struct RecvArguments {
    /// Path of the socket to make, or @ and a name without a file
    socket: PathBuf,
    /// Give up when nobody has connected within so many seconds [default: wait for ever]
    #[arg(
        long, value_name = "SECONDS", allow_negative_numbers = true,
        value_parser = whole_number(0, LONGEST_WAIT)
    )]
    wait: Option<u64>,
}

const RECV_EXAMPLES: &str = "\
Examples:
  memenpsf recv /tmp/copy.sock > copy          and elsewhere: memenpsf send /tmp/copy.sock < file
  memenpsf recv @backup | tar -xf -            and elsewhere: tar -cf - . | memenpsf send @backup
  memenpsf recv /tmp/copy.sock --wait 10 > copy";

/// Send the standard input to `memenpsf recv`
///
/// Connects to SOCKET and ends with the end of the input. Exits with 0 only if the
/// receiver has written every byte.
#[derive(Debug, clap::Args)]
#[command(after_help = SEND_EXAMPLES)]
pub(crate) struct SendArguments {
    /// Path of the receiver's socket, or @ and its name
    socket: PathBuf,
    /// Wait so many seconds for the receiver to appear
    #[arg(
        long, value_name = "SECONDS", default_value = "0", allow_negative_numbers = true,
        value_parser = whole_number(0, LONGEST_WAIT)
    )]
    wait: u64,
}

const SEND_EXAMPLES: &str = "\
Examples:
  memenpsf send /tmp/copy.sock < file
  memenpsf send /tmp/copy.sock --wait 10 < file   started before the receiver
  tar -cf - . | memenpsf send @backup";

fn options() -> Options {
    Options::new()
        .schema(SCHEMA)
        .capacity(RING)
        .max_message(CHUNK)
        .accept_message(CHUNK as u64)
}

/// Receives a stream.
pub(crate) fn receive(arguments: &RecvArguments) -> Result<(), Failure> {
    let mut interface = sender(arguments)?;
    let mut output = unbuffered(io::stdout().as_fd())?;
    let bar = progress(&output, None);
    let mut message = Vec::new();
    loop {
        match interface.recv_into_timeout(&mut message, None) {
            // The end.
            Ok(Some(0)) => break,
            Ok(Some(length)) => match output.write_all(&message) {
                Ok(()) => bar.inc(length as u64),
                // It has read what it wanted; the sender learns that this is not all.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(Failure::io("cannot write the output")(error)),
            },
            // A control message, which nobody has a use for.
            Ok(None) => drop(interface.recv_ctrl_msg()),
            Err(error) => return Err(Failure::peer("the input is not complete")(error)),
        }
    }
    // All is written: the sender may go. If it has gone, nothing is lost.
    let _ = interface.xmit(&[]);
    bar.finish();
    Ok(())
}

/// Waits for the sender. The socket is gone when it has come, however long it stays.
fn sender(arguments: &RecvArguments) -> Result<ByteInterface, Failure> {
    // Before there is a socket file, so that no signal leaves it behind.
    let signals = Signals::block()?;
    let connection = options().name("memenpsf recv");
    let server = ServerOptions::new().connection(connection).max_clients(1);
    let mut server = Server::<[u8]>::bind_with(&arguments.socket, &server)?;
    let patience = arguments.wait.map(Duration::from_secs);
    let end = patience.map(|patience| Instant::now() + patience);
    loop {
        if let Some(interface) = server.try_accept()? {
            return Ok(interface);
        }
        if let (Some(patience), Some(end)) = (patience, end)
            && Instant::now() >= end
        {
            let path = arguments.socket.clone();
            return Err(Failure::Nobody { path, patience });
        }
        signals.wait(&[server.as_fd()], end)?;
    }
}

/// Sends a stream.
pub(crate) fn send(arguments: &SendArguments) -> Result<(), Failure> {
    let options = options()
        .name("memenpsf send")
        .wait_for_server(Duration::from_secs(arguments.wait));
    let mut interface = ByteInterface::connect_with(&arguments.socket, &options)?;
    let mut input = unbuffered(io::stdin().as_fd())?;
    let bar = progress(&input, length(&input));
    loop {
        await_input(&mut interface, &input)?;
        let mut room = match interface.reserve(CHUNK) {
            Ok(room) => room,
            Err(ByteXmitError::Full) => {
                await_room(&mut interface)?;
                continue;
            }
            Err(error) => return Err(Failure::transmission(NOT_SENT, error)),
        };
        // From the kernel into the ring.
        match input.read(room.as_mut_slice()) {
            Ok(0) => break,
            Ok(length) => {
                room.commit(length);
                bar.inc(length as u64);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(Failure::io("cannot read the input")(error)),
        }
    }
    // The end, and the receiver's word that it has written everything.
    let ended = interface.xmit_timeout(&[], None);
    ended.map_err(|error| Failure::transmission(NOT_SENT, error))?;
    loop {
        match interface.recv_timeout(None) {
            Ok(Some(answer)) if answer.is_empty() => break,
            Ok(Some(_)) => return Err(Failure::Stranger("recv")),
            Ok(None) => drop(interface.recv_ctrl_msg()),
            Err(error) => return Err(Failure::peer(NOT_SENT)(error)),
        }
    }
    bar.finish();
    Ok(())
}

/// What is wrong when the receiver goes too early.
const NOT_SENT: &str = "the receiver has not taken everything";

/// Waits until there is something to read, or the end of it; reports the receiver's.
fn await_input(interface: &mut ByteInterface, input: &File) -> Result<(), Failure> {
    loop {
        if interface.ready(Interest::DATA).any() {
            match interface.recv() {
                Ok(None) => drop(interface.recv_ctrl_msg()),
                Ok(Some(_)) => return Err(Failure::Stranger("recv")),
                Err(error) => return Err(Failure::peer(NOT_SENT)(error)),
            }
            continue;
        }
        if wait([input.as_fd(), interface.as_fd()])? {
            return Ok(());
        }
    }
}

/// Waits until the receiver has made room.
fn await_room(interface: &mut ByteInterface) -> Result<(), Failure> {
    let readiness = interface.ready(Interest::SPACE);
    if readiness.ended
        && let Err(error) = interface.recv()
    {
        return Err(Failure::peer(NOT_SENT)(error));
    }
    if readiness.control {
        // Nobody has a use for it.
        drop(interface.recv_ctrl_msg());
    }
    if !readiness.any() {
        wait([interface.as_fd()])?;
    }
    Ok(())
}

/// Waits for one of the descriptors, and tells whether it is the first.
fn wait<const N: usize>(descriptors: [BorrowedFd<'_>; N]) -> Result<bool, Failure> {
    let mut fds = descriptors.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) => Ok(fds[0].any().unwrap_or(true)),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(Failure::io("cannot wait")(errno.into())),
    }
}

/// Returns a handle of its own, without a buffer, for a standard stream.
fn unbuffered(stream: BorrowedFd<'_>) -> Result<File, Failure> {
    let owned = stream.try_clone_to_owned();
    Ok(owned
        .map_err(Failure::io("cannot use a standard stream"))?
        .into())
}

/// Returns how many bytes are left to read, where a file has an end.
fn length(input: &File) -> Option<u64> {
    use std::io::Seek;

    let metadata = input.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut input = input;
    Some(metadata.len().saturating_sub(input.stream_position().ok()?))
}

/// Returns a progress bar with the rate, if the standard error is a terminal, and the
/// bytes do not go to a terminal as well.
fn progress(data: &File, length: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() || data.is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    let template = if length.is_some() {
        "{bytes:>12} of {total_bytes}  {bar:30}  {binary_bytes_per_sec}  {eta} left"
    } else {
        "{bytes:>12}  {binary_bytes_per_sec}  {elapsed}"
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        // The default looks different and says the same.
        Err(_) => bar,
    }
}
