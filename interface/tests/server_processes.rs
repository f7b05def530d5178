//! A server whose clients are processes: many, stopped, killed.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use common::{Watchdog, alone, first_frame, holdings, until};
use memenpsf::frame::{Hello, Role, encode_accept};
use memenpsf::region::OwnRegion;
use memenpsf::{
    ClientId, ConnectError, Departure, Event, HandshakeError, Interface, Name, Options, Reason,
    RecvError, Server, ServerOptions,
};
use memenpsf_fdpass::{Deadline, send_all};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Which client, and what it says or is told.
type Message = [u64; 2];

/// Says to this binary, started again, which part to play.
const PART: &str = "MEMENPSF_SERVER_PART";

/// What the server answers.
fn answer([client, n]: Message) -> Message {
    let mixed = (client << 32 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    [client, mixed.rotate_left(29)]
}

/// Plays the part of a client.
#[test]
fn part_of_the_other_process() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    // Whatever becomes of the test, this process does not outlive it.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(3);
    });
    let parts: Vec<_> = part.split(' ').collect();
    let path = Path::new(parts[1]);
    let number = |at: usize| parts[at].parse::<u64>().unwrap();
    match parts[0] {
        "talk" => talk(path, number(2), number(3)),
        "hold" => hold(path),
        "step" => step(path, number(2)),
        "silent" => {
            let stream = dial(path);
            say("ready");
            let error = Interface::<u64>::new("", 8, stream, 0);
            say(&error.unwrap_err().to_string());
        }
        _ => unreachable!(),
    }
}

fn dial(path: &Path) -> UnixStream {
    match path.to_str().unwrap().strip_prefix('@') {
        Some(name) => {
            let address = SocketAddr::from_abstract_name(name).unwrap();
            UnixStream::connect_addr(&address).unwrap()
        }
        None => UnixStream::connect(path).unwrap(),
    }
}

fn say(line: &str) {
    println!("said: {line}");
}

/// Asks so many questions, several at a time, and checks every answer.
fn talk(path: &Path, client: u64, questions: u64) {
    let options = Options::new().name(&client.to_string()).capacity(16);
    let mut interface = Interface::<Message>::connect_with(path, &options).unwrap();
    let mut answered = 0;
    let mut asked = 0;
    while answered < questions {
        while asked < questions && asked < answered + 8 {
            interface.xmit_timeout([client, asked], None).unwrap();
            asked += 1;
        }
        let answers = interface.recv_timeout(None).unwrap();
        assert_eq!(answers, Some(answer([client, answered])));
        answered += 1;
    }
    say("done");
}

/// Stays until the server ends.
fn hold(path: &Path) {
    let mut interface = Interface::<Message>::connect(path).unwrap();
    say("ready");
    loop {
        match interface.recv_timeout(None) {
            Ok(_) => {}
            Err(error) => return say(&error.to_string()),
        }
    }
}

/// Goes so many steps of a handshake, and stays there.
fn step(path: &Path, step: u64) {
    let mut stream = dial(path);
    let (frame, header) = first_frame();
    let name = Name::new("step").unwrap();
    let (_region, fd) = OwnRegion::create(&name, &header).unwrap();
    if step >= 1 {
        let (first, second) = frame.split_at(100);
        send_all(&stream, first, &[fd.as_fd()], Deadline::never()).unwrap();
        if step >= 2 {
            stream.write_all(second).unwrap();
        }
    }
    if step >= 3 {
        let mut hello = [0; 256];
        stream.read_exact(&mut hello).unwrap();
        let limits = common::limits();
        let hello = Hello::decode(&hello, Role::Server, &header.shape, &limits).unwrap();
        let accept = encode_accept(hello.header.nonce);
        let part = match step {
            3 => 0,
            4 => 17,
            _ => accept.len(),
        };
        stream.write_all(&accept[..part]).unwrap();
    }
    say("ready");
    loop {
        std::thread::park();
    }
}

/// A client in a process of its own, which does not outlive the test.
struct Client {
    child: Child,
    said: Receiver<String>,
}

impl Client {
    fn start(part: &str) -> Self {
        Self::spawn(Self::command(part)).unwrap()
    }

    fn command(part: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["part_of_the_other_process", "--exact", "--nocapture"])
            .env(PART, part)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command
    }

    fn spawn(mut command: Command) -> std::io::Result<Self> {
        let mut child = command.spawn()?;
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test harness may have begun the line.
                if let Some((_, words)) = line.split_once("said: ") {
                    let _ = sender.send(words.to_owned());
                }
            }
        });
        Ok(Self { child, said })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// What it has said, if anything.
    fn heard(&self) -> Option<String> {
        match self.said.try_recv() {
            Ok(words) => Some(words),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the client has ended"),
        }
    }

    fn hear(&self) -> String {
        self.said.recv_timeout(common::HANG).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Kills it, and waits until it is dead and its descriptors are closed.
    fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    fn finish(mut self) -> ExitStatus {
        // Its end would end the client.
        let _stdin = self.child.stdin.take();
        self.child.wait().unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn site(options: &ServerOptions) -> (Server<Message>, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    (Server::bind_with(&path, options).unwrap(), path, folder)
}

/// Answers questions, and checks that each client asks them in order.
#[derive(Default)]
struct Answers {
    /// The number of the client and how many questions it has asked.
    asked: HashMap<ClientId, Message>,
    gone: usize,
}

impl Answers {
    fn handle(&mut self, server: &mut Server<Message>, event: &Event) {
        match *event {
            Event::Connected(id) => {
                let name = server.client(id).unwrap().peer().name().to_owned();
                self.asked.insert(id, [name.parse().unwrap(), 0]);
            }
            Event::Ready(id, readiness) => {
                assert!(readiness.any());
                let next = self.asked.get_mut(&id).unwrap();
                let client = server.client(id).unwrap();
                // Some of them; the rest comes again.
                for _ in 0..16 {
                    let Ok(Some(question)) = client.recv() else {
                        break;
                    };
                    assert_eq!(question, *next);
                    next[1] += 1;
                    client.xmit(answer(question)).unwrap();
                }
            }
            Event::Gone(id, reason) => {
                assert_eq!(reason, RecvError::Closed(Departure::Closed), "{id}");
                self.gone += 1;
            }
            ref event => panic!("{event:?}"),
        }
    }

    /// How many questions a client has asked.
    fn of(&self, client: u64) -> u64 {
        let of_client = self.asked.values().find(|[number, _]| *number == client);
        of_client.map_or(0, |[_, asked]| *asked)
    }
}

const A_WHILE: Option<Duration> = Some(Duration::from_secs(60));

#[test]
fn sixty_four_processes_are_served_at_once_and_every_message_is_checked() {
    const CLIENTS: u64 = 64;
    const QUESTIONS: u64 = 500;
    alone(
        "sixty_four_processes_are_served_at_once_and_every_message_is_checked",
        || {
            let _watchdog = Watchdog::new();
            let options = ServerOptions::new()
                .connection(Options::new().capacity(16))
                .max_clients(64);
            let (mut server, path, folder) = site(&options);
            let before = holdings();
            let path = path.display();
            let clients: Vec<_> = (0..CLIENTS)
                .map(|n| Client::start(&format!("talk {path} {n} {QUESTIONS}")))
                .collect();
            let mut answers = Answers::default();
            while answers.gone < clients.len() {
                let event = server.poll(A_WHILE).unwrap().unwrap();
                answers.handle(&mut server, &event);
            }
            for client in clients {
                assert_eq!(client.hear(), "done");
                assert!(client.finish().success());
            }
            for n in 0..CLIENTS {
                assert_eq!(answers.of(n), QUESTIONS);
            }
            assert!(server.poll(Some(Duration::ZERO)).unwrap().is_none());
            let stats = server.stats();
            assert_eq!((stats.connected, stats.failed), (CLIENTS, 0));
            assert_eq!((stats.clients, stats.memory, stats.half_open), (0, 0, 0));
            // The threads that listen to the clients have ended with them.
            until(|| (holdings() == before).then_some(()));
            drop(server);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        },
    );
}

#[test]
fn stopped_client_keeps_nobody_waiting_and_goes_on_afterwards() {
    const CLIENTS: u64 = 6;
    const QUESTIONS: u64 = 2000;
    let _watchdog = Watchdog::new();
    let connection = Options::new().capacity(16);
    let (mut server, path, _folder) = site(&ServerOptions::new().connection(connection));
    let path = path.display();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|n| Client::start(&format!("talk {path} {n} {QUESTIONS}")))
        .collect();
    let mut answers = Answers::default();
    let mut stopped = None;
    while answers.gone < clients.len() - 1 {
        let event = server.poll(A_WHILE).unwrap().unwrap();
        answers.handle(&mut server, &event);
        if stopped.is_none() && answers.of(0) >= 100 {
            clients[0].signal(Signal::SIGSTOP);
            let flags = Some(WaitPidFlag::WUNTRACED);
            let state = waitpid(clients[0].pid(), flags).unwrap();
            assert!(matches!(state, WaitStatus::Stopped(..)), "{state:?}");
            stopped = Some(answers.of(0));
        }
    }
    // All the others have asked all their questions, while it said nothing.
    let (before, after) = (stopped.unwrap(), answers.of(0));
    assert!(after <= before + 8, "{before}, then {after}");
    assert!(after < QUESTIONS);
    clients[0].signal(Signal::SIGCONT);
    while answers.gone < clients.len() {
        let event = server.poll(A_WHILE).unwrap().unwrap();
        answers.handle(&mut server, &event);
    }
    assert_eq!(answers.of(0), QUESTIONS);
    for client in clients.drain(..) {
        assert_eq!(client.hear(), "done");
    }
}

#[test]
fn stopped_client_that_is_sent_to_fills_its_ring_and_no_more() {
    let _watchdog = Watchdog::new();
    let connection = Options::new().capacity(16);
    let (mut server, path, _folder) = site(&ServerOptions::new().connection(connection));
    let stopped = Client::start(&format!("hold {}", path.display()));
    let Some(Event::Connected(id)) = server.poll(A_WHILE).unwrap() else {
        panic!("not connected");
    };
    assert_eq!(stopped.hear(), "ready");
    stopped.signal(Signal::SIGSTOP);
    let state = waitpid(stopped.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(state, WaitStatus::Stopped(..)), "{state:?}");
    let client = server.client(id).unwrap();
    // The messages, and a wake-up for each attempt at the most: none waits.
    for _ in 0..10_000 {
        let _ = client.xmit([1, 2]);
        let _ = client.send_ctrl_msg([3, 4]);
    }
    let path = path.display();
    let other = Client::start(&format!("talk {path} 1 300"));
    let mut answers = Answers::default();
    while answers.gone == 0 {
        let event = server.poll(A_WHILE).unwrap().unwrap();
        answers.handle(&mut server, &event);
    }
    assert_eq!(other.hear(), "done");
    // Nor does the end, though its socket is full.
    drop(server);
    stopped.signal(Signal::SIGCONT);
    let last = stopped.hear();
    assert!(last.starts_with("the peer"), "{last}");
}

#[test]
fn server_that_ends_says_goodbye_to_other_processes() {
    let _watchdog = Watchdog::new();
    let (mut server, path, _folder) = site(&ServerOptions::new());
    let clients: Vec<_> = (0..4)
        .map(|_| Client::start(&format!("hold {}", path.display())))
        .collect();
    for _ in 0..4 {
        let event = server.poll(A_WHILE).unwrap();
        assert!(matches!(event, Some(Event::Connected(_))), "{event:?}");
    }
    for client in &clients {
        assert_eq!(client.hear(), "ready");
    }
    drop(server);
    for client in clients {
        assert_eq!(client.hear(), "the peer closed the connection");
        assert!(client.finish().success());
    }
}

/// Kills a client in each step of the handshake, so many times.
fn kills() -> u64 {
    std::env::var("MEMENPSF_HANDSHAKE_KILLS").map_or(10, |count| count.parse().unwrap())
}

#[test]
fn client_killed_in_any_step_of_the_handshake_leaves_nothing_and_the_next_is_served() {
    alone(
        "client_killed_in_any_step_of_the_handshake_leaves_nothing_and_the_next_is_served",
        || {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("socket");
            let connection = Options::new()
                .capacity(8)
                .handshake_timeout(Some(Duration::from_secs(600)));
            let options = ServerOptions::new().connection(connection);
            let mut server = Server::<u64>::bind_with(&path, &options).unwrap();
            // The first call of the kind allocates what stays.
            serve_one(&mut server, &path);
            let before = holdings();
            for step in 0..=5 {
                for round in 0..kills() {
                    let _watchdog = Watchdog::new();
                    let client = Client::start(&format!("step {} {step}", path.display()));
                    let mut events = Vec::new();
                    // The server looks on, or sees all of it only afterwards.
                    let looks_on = step >= 3 || round % 2 == 0;
                    if looks_on {
                        until(|| {
                            let event = server.poll(Some(Duration::from_millis(1))).unwrap();
                            events.extend(event);
                            client.heard()
                        });
                    } else {
                        client.hear();
                    }
                    client.kill();
                    let end = until(|| {
                        events.extend(server.poll(A_WHILE).unwrap());
                        match events.last() {
                            Some(Event::Failed(..) | Event::Gone(..)) => events.pop(),
                            _ => None,
                        }
                    });
                    if step < 5 {
                        assert!(
                            matches!(
                                &end,
                                Event::Failed(
                                    _,
                                    ConnectError::Handshake(HandshakeError::Closed { .. })
                                )
                            ),
                            "step {step}: {end:?}"
                        );
                    } else {
                        let gone = RecvError::Closed(Departure::Gone);
                        assert!(
                            matches!(end, Event::Gone(_, reason) if reason == gone),
                            "{end:?}"
                        );
                    }
                    serve_one(&mut server, &path);
                }
                until(|| (holdings() == before).then_some(()));
                assert_eq!(server.stats().clients, 0);
                assert_eq!(server.stats().half_open, 0);
            }
        },
    );
}

/// Serves a client that does as it should.
fn serve_one(server: &mut Server<u64>, path: &Path) {
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut client = Interface::<u64>::connect(path).unwrap();
            client.xmit(3).unwrap();
            assert_eq!(client.recv_timeout(None), Ok(Some(9)));
        });
        loop {
            match server.poll(A_WHILE).unwrap().unwrap() {
                Event::Ready(id, _) => {
                    let client = server.client(id).unwrap();
                    if let Ok(Some(n)) = client.recv() {
                        client.xmit(n * n).unwrap();
                    }
                }
                Event::Gone(..) => break,
                _ => {}
            }
        }
        client.join().unwrap();
    });
    assert!(server.poll(Some(Duration::ZERO)).unwrap().is_none());
}

/// Somebody who is neither root nor anybody else here.
const STRANGER: u32 = 65_534;

/// A client of another user, where that is possible.
fn stranger(part: &str) -> Option<Client> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    let mut command = Client::command(part);
    match Client::spawn({
        command.gid(STRANGER).uid(STRANGER);
        command
    }) {
        Ok(client) => Some(client),
        Err(error) => {
            println!("skipped: nobody else may start this binary: {error}");
            None
        }
    }
}

#[test]
fn user_who_floods_the_server_drives_out_nobody_else() {
    let _watchdog = Watchdog::new();
    let name = format!("@memenpsf-test-{}-flood", std::process::id());
    let connection = Options::new().handshake_timeout(None);
    let options = ServerOptions::new().connection(connection).max_half_open(4);
    let mut server = Server::<u64>::bind_with(&name, &options).unwrap();
    // The other user's handshake is the oldest of all.
    let step_0 = format!("step {name} 0");
    let Some(other) = stranger(&step_0) else {
        return;
    };
    until(|| {
        assert!(server.try_accept().unwrap().is_none());
        other.heard()
    });
    let flood: Vec<_> = (0..20).map(|_| dial(Path::new(&name))).collect();
    let mut refused = 0;
    while refused < 17 {
        match server.poll(A_WHILE).unwrap().unwrap() {
            Event::Failed(who, _) => {
                assert_ne!(who.uid, STRANGER);
                refused += 1;
            }
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(server.stats().half_open, 4);
    drop(flood);
    // It is still awaited, and only its death ends it.
    other.kill();
    let event = until(|| match server.poll(A_WHILE).unwrap().unwrap() {
        Event::Failed(who, error) if who.uid == STRANGER => Some(error),
        _ => None,
    });
    assert!(
        matches!(
            event,
            ConnectError::Handshake(HandshakeError::Closed { .. })
        ),
        "{event}"
    );
}

#[test]
fn limit_of_one_user_leaves_room_for_another() {
    let _watchdog = Watchdog::new();
    let name = format!("@memenpsf-test-{}-users", std::process::id());
    let options = ServerOptions::new().max_clients_per_user(1);
    let mut server = Server::<Message>::bind_with(&name, &options).unwrap();
    let Some(first) = stranger(&format!("hold {name}")) else {
        return;
    };
    let event = server.poll(A_WHILE).unwrap();
    assert!(matches!(event, Some(Event::Connected(_))), "{event:?}");
    assert_eq!(first.hear(), "ready");
    let second = stranger(&format!("silent {name}")).unwrap();
    let event = until(|| server.poll(A_WHILE).unwrap());
    let Event::Failed(who, ConnectError::Handshake(HandshakeError::Refusing(refusal))) = event
    else {
        panic!("{event:?}");
    };
    assert_eq!(
        (who.uid, refusal.reason()),
        (STRANGER, Reason::Busy { limit: 1 })
    );
    assert_eq!(second.hear(), "ready");
    assert_eq!(second.hear(), format!("the peer refused: {refusal}"));
    // Root has a place of its own.
    let third = Client::start(&format!("hold {name}"));
    let event = until(|| server.poll(A_WHILE).unwrap());
    assert!(matches!(event, Event::Connected(_)), "{event:?}");
    // And a policy may keep a user out altogether.
    server.admit_users(|who| {
        if who.uid == STRANGER {
            return Err(Reason::NotPermitted.into());
        }
        Ok(())
    });
    let kept_out = stranger(&format!("silent {name}")).unwrap();
    let event = until(|| server.poll(A_WHILE).unwrap());
    assert!(
        matches!(event, Event::Failed(who, _) if who.uid == STRANGER),
        "{event:?}"
    );
    assert_eq!(kept_out.hear(), "ready");
    assert_eq!(kept_out.hear(), "the peer refused: not permitted");
    drop(server);
    assert_eq!(first.hear(), "the peer closed the connection");
    assert_eq!(third.hear(), "ready");
    assert_eq!(third.hear(), "the peer closed the connection");
}
