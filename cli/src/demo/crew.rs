//! The child processes: started, given orders, listened to, and always reaped.
//!
//! # Invariants
//!
//! - I1: when a [`Crew`] is dropped, every child has been killed and reaped.
//! - I2: children are started by the main thread, which lives as long as the
//!   process: the kernel kills a child when the *thread* that started it ends.
//! - I3: the signals that ask for the end are blocked in every thread, so that
//!   they come as events and not as the death of the process.

use std::io::{self, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};

use super::failure::Failure;
use super::orders::{self, Answer, Done, Order, Setup, Task};

/// How long a child may take to answer: more than it waits for a message
/// that was lost, and for that three times, because it may do so in each direction.
const ANSWER: Duration = Duration::from_secs(90);
/// How long to look for the cause when something went wrong: the death of one
/// child shows first as another one's broken connection.
const DIAGNOSIS: Duration = Duration::from_millis(500);
/// How long a child may take to end when there is nothing more to do.
const FAREWELL: Duration = Duration::from_secs(5);

/// The signals that ask for the end.
const ENDS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Something that happened.
#[derive(Debug)]
enum Event {
    /// A child answered.
    Answer(usize, Answer),
    /// A child's standard output ended or says nothing that can be understood.
    Ended,
    /// Somebody asked for the end.
    Signal(Signal),
}

/// The children: the server, then the clients.
#[derive(Debug)]
pub(super) struct Crew {
    members: Vec<Member>,
    events: Receiver<Event>,
}

#[derive(Debug)]
struct Member {
    /// Name and process number.
    name: String,
    child: Child,
    /// `None` after the farewell.
    orders: Option<ChildStdin>,
}

impl Crew {
    /// Starts a server and `clients` clients.
    pub(super) fn start(clients: usize) -> Result<Self, Failure> {
        let (sender, events) = mpsc::channel();
        watch_signals(sender.clone()).map_err(Failure::Signals)?;
        let mut crew = Self {
            members: Vec::new(),
            events,
        };
        crew.add("server", &["demo-server"], &sender)?;
        for index in 0..clients {
            let name = format!("client {index}");
            crew.add(&name, &["demo-client", &index.to_string()], &sender)?;
        }
        Ok(crew)
    }

    /// Starts one child.
    fn add(
        &mut self,
        name: &str,
        arguments: &[&str],
        events: &Sender<Event>,
    ) -> Result<(), Failure> {
        let mut child = std::env::current_exe()
            .and_then(|program| {
                Command::new(program)
                    .args(arguments)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
            })
            .map_err(Failure::Start)?;
        let index = self.members.len();
        let output = child.stdout.take();
        self.members.push(Member {
            name: format!("{name} (process {})", child.id()),
            orders: child.stdin.take(),
            child,
        });
        let events = events.clone();
        let listener = move || {
            let mut output = output.map(BufReader::new);
            while let Some(Ok(Some(answer))) = output.as_mut().map(orders::read) {
                // Nobody listens any more when the demo has ended.
                let _ = events.send(Event::Answer(index, answer));
            }
            let _ = events.send(Event::Ended);
        };
        let listener = thread::Builder::new().spawn(listener);
        listener.map(drop).map_err(Failure::Start)
    }

    /// Makes all connections.
    pub(super) fn begin(&mut self, setup: &Setup) -> Result<(), Failure> {
        let begin = Order::Begin(setup.clone());
        let everybody = 0..self.members.len();
        self.order(0, &begin)?;
        for answer in self.answers(&[0])? {
            let Answer::Listening = answer else {
                return Err(Failure::Protocol);
            };
        }
        for client in everybody.clone().skip(1) {
            self.order(client, &begin)?;
        }
        for answer in self.answers(&everybody.collect::<Vec<_>>())? {
            let Answer::Ready = answer else {
                return Err(Failure::Protocol);
            };
        }
        Ok(())
    }

    /// Has everybody do a task, and returns what each says, the server first.
    pub(super) fn run(&mut self, task: &Task) -> Result<Vec<Done>, Failure> {
        self.run_all(&Order::Run(*task))
    }

    /// Gives everybody an order that is answered by [`Answer::Done`].
    pub(super) fn run_all(&mut self, order: &Order) -> Result<Vec<Done>, Failure> {
        let everybody: Vec<usize> = (0..self.members.len()).collect();
        for &member in &everybody {
            self.order(member, order)?;
        }
        let answers = self.answers(&everybody)?.into_iter();
        answers
            .map(|answer| match answer {
                Answer::Done(done) => Ok(done),
                _ => Err(Failure::Protocol),
            })
            .collect()
    }

    /// Sends everybody home, and waits until they have gone.
    pub(super) fn dismiss(mut self) -> Result<(), Failure> {
        for member in &mut self.members {
            member.orders = None;
        }
        let end = Instant::now() + FAREWELL;
        for index in 0..self.members.len() {
            loop {
                let member = &mut self.members[index];
                match member.child.try_wait().map_err(Failure::Start)? {
                    Some(status) if status.success() => break,
                    Some(status) => return Err(death(&member.name, status)),
                    None if Instant::now() > end => return Err(silent(&member.name, FAREWELL)),
                    None => thread::sleep(Duration::from_millis(1)),
                }
            }
        }
        Ok(())
    }

    /// Gives one child an order.
    fn order(&mut self, member: usize, order: &Order) -> Result<(), Failure> {
        let orders = self.members[member].orders.as_mut();
        match orders.map(|orders| orders::write(orders, order)) {
            Some(Ok(())) => Ok(()),
            _ => Err(self.diagnose(Event::Ended)),
        }
    }

    /// Waits for one answer of each of `from`, and returns them in that order.
    fn answers(&mut self, from: &[usize]) -> Result<Vec<Answer>, Failure> {
        let end = Instant::now() + ANSWER;
        let mut answers: Vec<Option<Answer>> = from.iter().map(|_| None).collect();
        while let Some(missing) = answers.iter().position(Option::is_none) {
            let left = end.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(Event::Answer(member, answer)) if !matches!(answer, Answer::Failed { .. }) => {
                    let place = from.iter().position(|&index| index == member);
                    *place
                        .and_then(|place| answers.get_mut(place))
                        .ok_or(Failure::Protocol)? = Some(answer);
                }
                Ok(event) => return Err(self.diagnose(event)),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(silent(&self.members[from[missing]].name, ANSWER));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::Protocol),
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Finds out why something went wrong: the first event may be a consequence.
    fn diagnose(&mut self, first: Event) -> Failure {
        let end = Instant::now() + DIAGNOSIS;
        let mut reported = None;
        let mut event = Some(first);
        loop {
            match event {
                Some(Event::Signal(signal)) => return Failure::Interrupted(signal),
                // What is no consequence of another's end comes first.
                Some(Event::Answer(member, Answer::Failed { what, peer_gone }))
                    if reported.is_none() || !peer_gone =>
                {
                    let who = self.members[member].name.clone();
                    reported = Some(Failure::Reported { who, what });
                }
                _ => {}
            }
            if let Some(killed) = self.killed() {
                return killed;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // Short, because a child's death is no event but is asked for.
            event = self
                .events
                .recv_timeout(left.min(Duration::from_millis(10)))
                .ok();
        }
        reported
            .or_else(|| self.dead(|_| true))
            .unwrap_or(Failure::Protocol)
    }

    /// Returns a failure if a child was killed, other than by a signal that the
    /// whole process group may have got: then the demo's own counts.
    fn killed(&mut self) -> Option<Failure> {
        self.dead(|status| {
            let ends = ENDS.map(|signal| signal as i32);
            status
                .signal()
                .is_some_and(|signal| !ends.contains(&signal))
        })
    }

    /// Returns a failure for the first child that is dead in such a way.
    fn dead(&mut self, such: impl Fn(ExitStatus) -> bool) -> Option<Failure> {
        self.members.iter_mut().find_map(|member| {
            let status = member.child.try_wait().ok()??;
            such(status).then(|| death(&member.name, status))
        })
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            // It fails for a child that has been reaped: that is what is wanted.
            let _ = member.child.kill();
        }
        for member in &mut self.members {
            let _ = member.child.wait();
        }
    }
}

/// Says how a child ended.
fn death(name: &str, status: ExitStatus) -> Failure {
    let who = name.to_owned();
    match status.signal() {
        Some(number) => Failure::Killed {
            who,
            signal: Signal::try_from(number).map_or(format!("signal {number}"), |signal| {
                signal.as_str().to_owned()
            }),
        },
        None => Failure::Ended {
            who,
            status: status.to_string(),
        },
    }
}

fn silent(name: &str, limit: Duration) -> Failure {
    Failure::Silent {
        who: name.to_owned(),
        seconds: limit.as_secs(),
    }
}

/// Makes events of the signals that ask for the end (I3).
fn watch_signals(events: Sender<Event>) -> io::Result<()> {
    let signals = SigSet::from_iter(ENDS);
    signals.thread_block()?;
    thread::Builder::new().spawn(move || {
        while let Ok(signal) = signals.wait() {
            let _ = events.send(Event::Signal(signal));
        }
    })?;
    Ok(())
}

/// Has the kernel kill this process, a child of the demo, when the demo dies.
///
/// Before this call the end of its input does the same: the demo's end closes it.
pub(super) fn die_with_parent() -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    // Ctrl-C reaches the whole group: the demo is to decide, so SIGINT and SIGHUP
    // stay blocked, as inherited. Whoever sends SIGTERM to a child means it.
    SigSet::from(Signal::SIGTERM).thread_unblock()?;
    Ok(())
}
