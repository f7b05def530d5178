//! `memenpsf serve` and `memenpsf connect`: a service that gives every message back,
//! and a client that checks that it does.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use memenpsf::{
    ByteInterface, ByteXmitError, ClientId, Event, Interest, Options, Server, ServerOptions,
};
use memenpsf_benches::latency::Latency;
use memenpsf_benches::message::{Checker, Composer, Format, LONGEST, SHORTEST_CHECKED};
use memenpsf_fdpass::Credentials;
use zerocopy::IntoBytes;

use crate::command::whole_number;
use crate::failure::Failure;
use crate::output;
use crate::signals::Signals;

/// What the service and its clients call their messages.
const SCHEMA: &str = "memenpsf/echo/1";
/// Bytes of a ring.
const RING: usize = 1 << 20;
/// Most clients that can be asked for.
const MOST_CLIENTS: u64 = 100_000;
/// Messages that one client is answered before the next one has its turn.
const TURN: usize = 256;
/// Most messages of a client: far more than a day of them.
const MOST_MESSAGES: u64 = 1_000_000_000_000;
/// Round trips that are measured one by one.
const ROUND_TRIPS: u64 = 20_000;
/// How long an answer may take before something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// Give every message of every client back
///
/// Listens at SOCKET and serves any number of clients from one thread until SIGINT or
/// SIGTERM, which end it with 0 and remove the socket. Says on the standard error who
/// comes and goes.
#[derive(Debug, clap::Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub(crate) struct ServeArguments {
    /// Path of the socket to make, or @ and a name without a file
    socket: PathBuf,
    /// Most clients at a time
    #[arg(
        long, value_name = "N", default_value = "1000", allow_negative_numbers = true,
        value_parser = whole_number(1, MOST_CLIENTS)
    )]
    max_clients: u64,
    /// Most bytes of shared memory for all clients together
    #[arg(
        long, value_name = "BYTES", default_value = "4294967296", allow_negative_numbers = true,
        value_parser = whole_number(1, u64::MAX)
    )]
    max_memory: u64,
    /// Mode of the socket file, octal: who may write to it may connect
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = mode)]
    mode: u32,
}

const SERVE_EXAMPLES: &str = "\
Examples:
  memenpsf serve /tmp/echo.sock             and elsewhere: memenpsf connect /tmp/echo.sock
  memenpsf serve @echo                      a name without a file
  memenpsf serve /run/echo.sock --mode 666  for clients of every user";

/// Send messages to `memenpsf serve` and check what comes back
///
/// First as many messages at a time as there is room for, then single round trips.
/// Every message carries a number and a checksum. Exits with 0 only if every one came
/// back once, in order and unchanged.
#[derive(Debug, clap::Args)]
#[command(after_help = CONNECT_EXAMPLES)]
pub(crate) struct ConnectArguments {
    /// Path of the server's socket, or @ and its name
    socket: PathBuf,
    /// Number of messages
    #[arg(
        long, value_name = "N", default_value = "1000000", allow_negative_numbers = true,
        value_parser = whole_number(1, MOST_MESSAGES)
    )]
    messages: u64,
    /// Length of a message in bytes, 16 to 65536
    #[arg(
        long, value_name = "BYTES", default_value = "64", allow_negative_numbers = true,
        value_parser = whole_number(SHORTEST_CHECKED as u64, LONGEST as u64)
    )]
    size: u64,
    /// Name that the server is told
    #[arg(long, value_name = "NAME", default_value = "memenpsf connect")]
    name: String,
    /// Wait so many seconds for the server to appear
    #[arg(
        long, value_name = "SECONDS", default_value = "0", allow_negative_numbers = true,
        value_parser = whole_number(0, 1_000_000_000)
    )]
    wait: u64,
}

const CONNECT_EXAMPLES: &str = "\
Examples:
  memenpsf connect /tmp/echo.sock
  memenpsf connect /tmp/echo.sock --messages 10000000 --size 1024
  memenpsf connect @echo --name camera --wait 10";

/// Parses the mode of a file.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("an octal number from 0 to 777 is needed".to_string()),
    }
}

fn options() -> Options {
    // Checked messages are padded to whole words.
    Options::new()
        .schema(SCHEMA)
        .capacity(RING)
        .max_message(LONGEST)
        .accept_message(LONGEST as u64)
}

/// What the server keeps of a client.
#[derive(Debug, Default)]
struct Client {
    name: String,
    /// An answer for which there was no room.
    unsent: Option<Vec<u8>>,
    echoed: u64,
}

/// Serves until a signal asks for the end.
pub(crate) fn serve(arguments: &ServeArguments) -> Result<(), Failure> {
    // Before there is a socket file, so that no signal leaves it behind.
    let signals = Signals::block()?;
    let server = ServerOptions::new()
        .connection(options().name("memenpsf serve"))
        .max_clients(usize::try_from(arguments.max_clients).unwrap_or(usize::MAX))
        .max_memory(arguments.max_memory)
        .mode(arguments.mode);
    let mut server = Server::<[u8]>::bind_with(&arguments.socket, &server)?;
    log(&format!(
        "waiting for clients at {}",
        arguments.socket.display()
    ));
    let mut clients = HashMap::new();
    let mut buffer = Vec::new();
    let mut total = Total::default();
    loop {
        match server.poll(Some(Duration::ZERO))? {
            Some(Event::Connected(id)) => {
                welcome(&mut server, id, &mut clients);
                total.served += 1;
                total.at_once = total.at_once.max(clients.len());
            }
            Some(Event::Ready(id, _)) => {
                let (Some(interface), Some(client)) = (server.client(id), clients.get_mut(&id))
                else {
                    continue;
                };
                let interest = answer(interface, client, &mut buffer);
                server.set_interest(id, interest);
                // A server that is never idle is interrupted as well.
                if let Err(failure) = signals.check() {
                    return farewell(failure, total, &clients);
                }
            }
            Some(Event::Gone(id, why)) => {
                let client = clients.remove(&id).unwrap_or_default();
                total.echoed += client.echoed;
                let (name, count) = (client.name, client.echoed);
                log(&format!(
                    "{id} `{name}` is gone after {count} messages: {why}"
                ));
            }
            Some(Event::Failed(peer, error)) => {
                let who = who(peer);
                log(&format!("{who} is not served: {error}"));
            }
            Some(_) => {}
            None => {
                if let Err(failure) = signals.wait(&[server.as_fd()], None) {
                    return farewell(failure, total, &clients);
                }
            }
        }
    }
}

/// Takes note of a client.
fn welcome(server: &mut Server<[u8]>, id: ClientId, clients: &mut HashMap<ClientId, Client>) {
    let Some(interface) = server.client(id) else {
        return;
    };
    let peer = interface.peer();
    let name = peer.name().to_string();
    log(&format!("{id} is `{name}`: {}", who(peer.credentials())));
    let client = Client {
        name,
        ..Client::default()
    };
    clients.insert(id, client);
}

/// Gives a client's messages back, and returns what to wait for then.
fn answer(interface: &mut ByteInterface, client: &mut Client, buffer: &mut Vec<u8>) -> Interest {
    // A part of it, so that the others have their turn; what is left comes again.
    for _ in 0..TURN {
        if let Some(message) = &client.unsent {
            match interface.xmit(message) {
                // It does not receive: its own messages wait until it does.
                Err(ByteXmitError::Full) => return Interest::SPACE,
                // How it has ended is told by an event.
                Err(_) => break,
                Ok(()) => client.echoed += 1,
            }
            client.unsent = None;
        }
        match interface.recv_into(buffer) {
            Ok(Some(_)) => match interface.xmit(buffer) {
                Ok(()) => client.echoed += 1,
                Err(ByteXmitError::Full) => client.unsent = Some(buffer.clone()),
                Err(_) => break,
            },
            Ok(None) | Err(_) => break,
        }
    }
    Interest::DATA
}

/// What a server has done.
#[derive(Debug, Default, Clone, Copy)]
struct Total {
    served: u64,
    at_once: usize,
    echoed: u64,
}

/// Ends a service that was asked to end; anything else has gone wrong.
fn farewell(
    failure: Failure,
    total: Total,
    clients: &HashMap<ClientId, Client>,
) -> Result<(), Failure> {
    let Failure::Interrupted(signal) = failure else {
        return Err(failure);
    };
    let unfinished: u64 = clients.values().map(|client| client.echoed).sum();
    log(&format!(
        "{}: served {} clients, {} at a time, {} messages",
        signal.as_str(),
        total.served,
        total.at_once,
        total.echoed + unfinished
    ));
    Ok(())
}

/// Says whom the kernel knows a peer as.
fn who(peer: Credentials) -> String {
    match peer.pid {
        Some(pid) => format!("user {}, process {pid}", peer.uid),
        // Its number means nothing here.
        None => format!("user {}, a process of another namespace", peer.uid),
    }
}

/// Writes a line to the standard error. Whoever does not read it does not want it.
fn log(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Sends messages and checks what comes back.
pub(crate) fn connect(arguments: &ConnectArguments) -> Result<(), Failure> {
    let options = options()
        .name(&arguments.name)
        .wait_for_server(Duration::from_secs(arguments.wait));
    let interface = ByteInterface::connect_with(&arguments.socket, &options)?;
    // From here on a signal ends the connection with a goodbye.
    let signals = Signals::block()?;
    // The parser's bounds keep the conversions from failing.
    let length = usize::try_from(arguments.size).unwrap_or(LONGEST);
    let format = Format::new(length).unwrap_or_else(|| unreachable!("the parser's bounds"));
    let peer = interface.peer();
    let server = format!("`{}` ({})", peer.name(), who(peer.credentials()));
    let trips = arguments.messages.min(ROUND_TRIPS);
    let bar = progress(arguments.messages + trips);
    let mut exchange = Exchange {
        interface,
        signals,
        composer: Composer::new(format),
        checker: Checker::new(format),
        message: vec![0; format.words()],
        answer: Vec::new(),
        bar,
    };
    let began = Instant::now();
    let streamed = exchange.stream(arguments.messages);
    let taken = began.elapsed();
    let trips = streamed.and_then(|()| exchange.round_trips(arguments.messages, trips));
    exchange.bar.finish_and_clear();
    let counts = exchange.checker.counts();
    // Also of an exchange that was interrupted: so far it was right, or it was not.
    if !counts.is_flawless() {
        return Err(Failure::Flawed(format!(
            "{} messages lost, {} duplicated, {} out of order, {} corrupt",
            counts.lost, counts.duplicated, counts.out_of_order, counts.corrupt
        )));
    }
    let trips = trips?;
    let figures = trips.percentiles();
    let micros = |nanoseconds: u64| Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6;
    let rate = arguments.messages as f64 / taken.as_secs_f64();
    let text = format!(
        "{} messages of {} bytes to {server} and back, every one checked\n\
         in a stream  {:.2} M messages/s each way\n\
         round trip   p50 {:.2} us, p99 {:.2} us, p99.9 {:.2} us, longest {:.2} us\n",
        counts.received,
        arguments.size,
        rate / 1e6,
        micros(figures.p50),
        micros(figures.p99),
        micros(figures.p999),
        micros(figures.max),
    );
    output::print(&text).map_err(Failure::io("cannot write to the standard output"))
}

/// What is wrong when the server goes too early.
const NOT_BACK: &str = "not every message has come back";

/// A client's side of the exchange.
struct Exchange {
    interface: ByteInterface,
    signals: Signals,
    composer: Composer,
    checker: Checker,
    message: Vec<u64>,
    answer: Vec<u8>,
    bar: ProgressBar,
}

impl Exchange {
    /// Sends so many messages, as many at a time as there is room for, until all are
    /// back.
    fn stream(&mut self, messages: u64) -> Result<(), Failure> {
        let mut sent = 0;
        let mut composed = false;
        while self.checker.next() < messages {
            let mut moved = false;
            for _ in 0..TURN {
                if sent == messages {
                    break;
                }
                if !composed {
                    self.composer.compose(&mut self.message);
                    composed = true;
                }
                match self.interface.xmit(self.message.as_bytes()) {
                    Ok(()) => (sent, composed, moved) = (sent + 1, false, true),
                    Err(ByteXmitError::Full) => break,
                    Err(error) => return Err(Failure::transmission(NOT_BACK, error)),
                }
            }
            for _ in 0..TURN {
                if !self.take(Duration::ZERO)? {
                    break;
                }
                moved = true;
            }
            if !moved && !self.take(PATIENCE)? {
                return Err(self.silence());
            }
            self.bar.set_position(self.checker.next());
            self.signals.check()?;
        }
        Ok(())
    }

    /// Sends so many messages, the first of them number `from`, each when the one
    /// before is back.
    fn round_trips(&mut self, from: u64, count: u64) -> Result<Latency, Failure> {
        let mut latency = Latency::new();
        for number in from..from + count {
            self.composer.compose(&mut self.message);
            let began = Instant::now();
            let sent = self.interface.xmit(self.message.as_bytes());
            sent.map_err(|error| Failure::transmission(NOT_BACK, error))?;
            if !self.take(PATIENCE)? {
                return Err(self.silence());
            }
            let taken = began.elapsed().as_nanos();
            latency.record(u64::try_from(taken).unwrap_or(u64::MAX));
            if number % 64 == 0 {
                self.bar.set_position(number);
                self.signals.check()?;
            }
        }
        Ok(latency)
    }

    /// Takes one message that has come back, if one comes in time, and checks it.
    fn take(&mut self, patience: Duration) -> Result<bool, Failure> {
        let end = Instant::now() + patience;
        let received = loop {
            let received = if patience.is_zero() {
                self.interface.recv_into(&mut self.answer)
            } else {
                // In slices, so that a signal is noticed.
                let slice = Duration::from_millis(100);
                self.interface
                    .recv_into_timeout(&mut self.answer, Some(slice))
            };
            match received.map_err(Failure::peer(NOT_BACK))? {
                None if Instant::now() < end => self.signals.check()?,
                received => break received,
            }
        };
        let Some(length) = received else {
            return Ok(false);
        };
        let words = self.message.len();
        if length != 8 * words {
            return Err(Failure::Flawed(format!(
                "a message of {} bytes came back with {length}",
                8 * words
            )));
        }
        let mut message = vec![0_u64; words];
        message.as_mut_bytes().copy_from_slice(&self.answer);
        self.checker.check(&message);
        Ok(true)
    }

    fn silence(&self) -> Failure {
        Failure::Flawed(format!(
            "message {} has not come back for {} s",
            self.checker.next(),
            PATIENCE.as_secs()
        ))
    }
}

/// Returns a progress bar on a terminal, and a silent one anywhere else.
fn progress(messages: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(messages), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("{bar:30} {percent:>3} %  {human_pos} messages  {eta} left")
    {
        Ok(style) => bar.with_style(style),
        // The default looks different and says the same.
        Err(_) => bar,
    }
}
