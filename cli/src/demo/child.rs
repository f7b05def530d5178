//! What server and client have in common: orders come in, answers go out.

use std::io::{self, StdinLock, stdin, stdout};
use std::process::ExitCode;

use memenpsf_benches::latency::Latency;
use memenpsf_benches::transport::TransportError;

use super::crew::die_with_parent;
use super::link::{LinkError, Links};
use super::orders::{self, Answer, Done, Kind, Order, Setup, Task};

/// Why a child cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChildError {
    #[error("cannot talk to the demo: {0}")]
    Orders(#[from] io::Error),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Transport(#[from] TransportError),
}

impl ChildError {
    /// Tells whether it only means that another process is gone.
    fn is_peer_gone(&self) -> bool {
        match self {
            Self::Orders(_) => false,
            Self::Link(error) => error.is_peer_gone(),
            Self::Transport(error) => error.is_closed(),
        }
    }
}

/// Runs a child: `work` on the setup, which is the first order, and on the orders
/// that follow.
pub(super) fn run(
    work: impl FnOnce(&Setup, &mut StdinLock<'_>) -> Result<(), ChildError>,
) -> ExitCode {
    let orders = &mut stdin().lock();
    let outcome = die_with_parent()
        .and_then(|()| orders::read(orders))
        .map_err(ChildError::Orders)
        .and_then(|order| match order {
            Some(Order::Begin(setup)) => work(&setup, orders),
            Some(_) => Err(LinkError::Protocol.into()),
            None => Ok(()),
        });
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    // Without a demo that listens there is nobody to tell.
    let _ = answer(&Answer::Failed {
        what: error.to_string(),
        peer_gone: error.is_peer_gone(),
    });
    ExitCode::FAILURE
}

/// Says something to the demo.
pub(super) fn answer(answer: &Answer) -> Result<(), ChildError> {
    Ok(orders::write(&mut stdout().lock(), answer)?)
}

/// Which side of a connection a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Server,
    Client,
}

/// Carries out an order on the connections of one client.
pub(super) fn carry_out(order: &Order, part: Part, links: &mut Links) -> Result<Done, ChildError> {
    let mut done = Done::default();
    match order {
        Order::Run(task) => exchange(task, part, links, &mut done)?,
        Order::Drain => {
            for link in &mut links.0 {
                link.drain()?;
            }
        }
        Order::Begin(_) => return Err(LinkError::Protocol.into()),
    }
    for link in &links.0 {
        done.counts += link.counts();
    }
    Ok(done)
}

/// Exchanges messages as a task says.
fn exchange(
    task: &Task,
    part: Part,
    links: &mut Links,
    done: &mut Done,
) -> Result<(), TransportError> {
    let link = &mut links.0[task.carrier.index()];
    link.set_waiting(task.waiting)?;
    let span = match (task.kind, part) {
        (Kind::Stream, _) => link.stream(task.count, task.count, task.batch)?,
        (Kind::RoundTrips, Part::Server) => link.echo(task.count)?,
        (Kind::RoundTrips, Part::Client) => {
            let mut latency = Latency::new();
            let span = link.ping(task.count, &mut latency)?;
            done.latency = latency.entries().collect();
            span
        }
    };
    done.span = Some(span);
    Ok(())
}
