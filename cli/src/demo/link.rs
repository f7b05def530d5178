//! How a client's connections come about.
//!
//! Each begins as a connection to the server's socket and with a greeting, which
//! says whose it is and what it is for:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | the token of this demo |
//! | 8 | 4 | index of the client |
//! | 12 | 4 | code of the carrier |
//!
//! (all little-endian)
//!
//! Then it becomes the socket of an `Interface`, or brings the client its ends of
//! two pipes, or carries messages itself.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use memenpsf::{Options, Role, Waiting};
use memenpsf_benches::exchange::{Endpoint, Side};
use memenpsf_benches::message::Format;
use memenpsf_benches::shared;
use memenpsf_benches::spin::Backoff;
use memenpsf_benches::stream::Stream;
use memenpsf_benches::transport::TransportError;
use memenpsf_fdpass::{Deadline, peer_credentials, receive_exact, send_all};

use super::orders::{CARRIERS, Carrier, Setup};

/// How long one step of connecting may take: much longer than it does on a busy
/// machine with many clients.
const STEP: Duration = Duration::from_secs(30);
/// How long a greeting may take: it is sent at once, so only a stranger is slow.
const GREETING: Duration = Duration::from_secs(2);

/// Why a child cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("cannot listen for the clients: {0}")]
    Listen(#[source] io::Error),
    #[error("cannot connect to the server: {0}")]
    Connect(#[source] io::Error),
    #[error("cannot make a pipe or a socket for the comparison: {0}")]
    Stream(#[source] io::Error),
    #[error("cannot pass the pipes to the client: {0}")]
    Pass(#[from] memenpsf_fdpass::SendError),
    #[error("cannot take over the pipes: {0}")]
    Take(#[from] memenpsf_fdpass::ReceiveError),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("the demo asks for what cannot be")]
    Protocol,
}

impl LinkError {
    /// Tells whether it only means that another process is gone.
    pub(super) fn is_peer_gone(&self) -> bool {
        match self {
            Self::Transport(error) => error.is_closed(),
            Self::Connect(_) | Self::Pass(_) | Self::Take(_) => true,
            _ => false,
        }
    }
}

/// A number that cannot be guessed: the standard library seeds its hash maps by
/// the system's random source.
pub(super) fn fresh_token() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// An abstract name for a server's socket.
pub(super) fn fresh_name() -> String {
    format!("memenpsf-demo-{:016x}", fresh_token())
}

/// One side's connections, one for each carrier.
#[derive(Debug)]
pub(super) struct Links(pub(super) [Box<dyn Endpoint>; CARRIERS]);

/// The format of a demo's messages.
pub(super) fn format(setup: &Setup) -> Result<Format, LinkError> {
    Format::new(setup.length).ok_or(LinkError::Protocol)
}

fn address(setup: &Setup) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(&setup.socket)
}

/// Makes the connections of client `index`.
pub(super) fn connect(setup: &Setup, index: usize) -> Result<Links, LinkError> {
    let index = u32::try_from(index).map_err(|_| LinkError::Protocol)?;
    let dial = |carrier| {
        let mut stream = UnixStream::connect_addr(&address(setup)?)?;
        let greeting = Greeting {
            token: setup.token,
            client: index,
            carrier,
        };
        stream.write_all(&greeting.encode())?;
        Ok(stream)
    };
    let dial = |carrier| dial(carrier).map_err(LinkError::Connect);
    let share = |carrier| share(dial(carrier)?, Role::Client, carrier, setup);
    let awake = share(Carrier::AwakeMemory)?;
    let sleepy = share(Carrier::Memory)?;

    let carrier = dial(Carrier::Pipe)?;
    let fds = receive_exact(&carrier, &mut [0], 2, Deadline::after(STEP))?;
    let [reader, writer] = <[OwnedFd; 2]>::try_from(fds).map_err(|_| LinkError::Protocol)?;
    let pipe = over(Stream::new(reader, writer, format(setup)?), setup)?;

    let socket = dial(Carrier::UnixSocket)?;
    let socket = over(Stream::from_socket(socket, format(setup)?), setup)?;
    Ok(Links([awake, sleepy, pipe, socket]))
}

/// Listens for the clients of a demo.
pub(super) fn listen(setup: &Setup) -> Result<UnixListener, LinkError> {
    address(setup)
        .and_then(|address| UnixListener::bind_addr(&address))
        .map_err(LinkError::Listen)
}

/// Accepts all connections of all clients.
pub(super) fn accept(setup: &Setup, listener: &UnixListener) -> Result<Vec<Links>, LinkError> {
    let mut made: Vec<[Option<Box<dyn Endpoint>>; CARRIERS]> = Vec::new();
    made.resize_with(setup.clients, Default::default);
    let mut left = setup.clients * Carrier::ALL.len();
    while left > 0 {
        let (stream, _) = listener.accept().map_err(LinkError::Listen)?;
        let Some(greeting) = greet(&stream, setup.token) else {
            continue;
        };
        let client = greeting.client as usize;
        let place = made
            .get_mut(client)
            .map(|links| &mut links[greeting.carrier.index()]);
        // A client that comes twice is none of ours.
        let Some(place @ None) = place else { continue };
        *place = Some(match greeting.carrier {
            Carrier::AwakeMemory | Carrier::Memory => {
                share(stream, Role::Server, greeting.carrier, setup)?
            }
            Carrier::Pipe => {
                let [reader, writer] = hand_over_pipes(&stream)?;
                over(Stream::new(reader, writer, format(setup)?), setup)?
            }
            Carrier::UnixSocket => over(Stream::from_socket(stream, format(setup)?), setup)?,
        });
        left -= 1;
    }
    let links = made.into_iter().map(|links| match links {
        [Some(awake), Some(sleepy), Some(pipe), Some(socket)] => {
            Ok(Links([awake, sleepy, pipe, socket]))
        }
        // Not so: none was left.
        _ => Err(LinkError::Protocol),
    });
    links.collect()
}

/// Reads the greeting of a client of this demo; strangers get no answer.
fn greet(stream: &UnixStream, token: u64) -> Option<Greeting> {
    // The abstract namespace has no permissions: another user may connect.
    let stranger = peer_credentials(stream).ok()?;
    if stranger.uid != nix::unistd::geteuid().as_raw() {
        return None;
    }
    let mut bytes = [0; Greeting::LEN];
    stream.set_read_timeout(Some(GREETING)).ok()?;
    (&*stream).read_exact(&mut bytes).ok()?;
    stream.set_read_timeout(None).ok()?;
    Greeting::decode(&bytes).filter(|greeting| greeting.token == token)
}

/// Makes two pipes, passes the client its ends, and returns the others: what to
/// read from and what to write to.
fn hand_over_pipes(stream: &UnixStream) -> Result<[OwnedFd; 2], LinkError> {
    let (from_server, to_client) = io::pipe().map_err(LinkError::Stream)?;
    let (from_client, to_server) = io::pipe().map_err(LinkError::Stream)?;
    let ends = [from_server.as_fd(), to_server.as_fd()];
    send_all(stream, &[0], &ends, Deadline::after(STEP))?;
    Ok([from_client.into(), to_client.into()])
}

/// Makes a side of an exchange over `stream`.
fn over(stream: io::Result<Stream>, setup: &Setup) -> Result<Box<dyn Endpoint>, LinkError> {
    let stream = stream.map_err(LinkError::Stream)?;
    let stream = stream.with_backoff(Backoff::new(setup.spins));
    Ok(Box::new(Side::new(stream, format(setup)?)))
}

/// Makes a connection over shared memory.
fn share(
    stream: UnixStream,
    role: Role,
    carrier: Carrier,
    setup: &Setup,
) -> Result<Box<dyn Endpoint>, LinkError> {
    let waiting = match carrier {
        Carrier::AwakeMemory => Waiting::Spin,
        _ => Waiting::Adaptive,
    };
    let options = Options::new()
        .name("memenpsf demo")
        .waiting(waiting)
        .handshake_timeout(Some(STEP));
    let backoff = Backoff::new(setup.spins);
    let format = format(setup)?;
    Ok(shared::connect(stream, role, format, &options, backoff)?)
}

/// The first bytes of a connection to the server.
#[derive(Debug, PartialEq, Eq)]
struct Greeting {
    token: u64,
    client: u32,
    carrier: Carrier,
}

impl Greeting {
    const LEN: usize = 16;

    fn encode(&self) -> [u8; Self::LEN] {
        let carrier = u128::from(self.carrier.code()) << 96;
        let client = u128::from(self.client) << 64;
        (carrier | client | u128::from(self.token)).to_le_bytes()
    }

    /// Reads a greeting; `None` when there is no such carrier.
    fn decode(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let (token, rest) = bytes.split_first_chunk()?;
        let (client, rest) = rest.split_first_chunk()?;
        let (code, _) = rest.split_first_chunk()?;
        let code = u32::from_le_bytes(*code);
        Some(Self {
            token: u64::from_le_bytes(*token),
            client: u32::from_le_bytes(*client),
            carrier: Carrier::ALL
                .into_iter()
                .find(|carrier| carrier.code() == code)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greeting_is_read_as_it_was_written() {
        for carrier in Carrier::ALL {
            let greeting = Greeting {
                token: 0x0123_4567_89ab_cdef,
                client: 63,
                carrier,
            };
            assert_eq!(Greeting::decode(&greeting.encode()), Some(greeting));
        }
    }

    #[test]
    fn greeting_for_an_unknown_carrier_is_refused() {
        assert_eq!(Greeting::decode(&[0xff; Greeting::LEN]), None);
    }
}
