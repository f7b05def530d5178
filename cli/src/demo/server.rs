//! The server of a demo: accepts every client, and serves each in a thread of
//! its own.

use std::io;
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::thread;

use memenpsf_benches::placement::pin;

use super::child::{self, ChildError, Part};
use super::link::{self, LinkError, Links};
use super::orders::{self, Answer, Done, Order};

/// What came of an order at one client's connections.
type Outcome = Result<Done, ChildError>;

/// Runs the server until the demo has no more orders.
pub(crate) fn serve() -> ExitCode {
    child::run(|setup, orders| {
        let listener = link::listen(setup)?;
        child::answer(&Answer::Listening)?;
        let clients = link::accept(setup, &listener)?;
        drop(listener);

        let core = setup.cores.map(|[server, _]| server);
        let (report, outcomes) = mpsc::channel();
        let threads = clients
            .into_iter()
            .map(|links| serve_client(links, core, report.clone()))
            .collect::<io::Result<Vec<_>>>()?;
        child::answer(&Answer::Ready)?;

        while let Some(order) = orders::read::<Order>(orders)? {
            for thread in &threads {
                // A thread that has ended has said why.
                let _ = thread.send(order.clone());
            }
            let mut all = Done::default();
            for _ in &threads {
                let outcome = outcomes.recv().map_err(|_| LinkError::Protocol)?;
                all.merge(outcome?);
            }
            child::answer(&Answer::Done(all))?;
        }
        Ok(())
    })
}

/// Starts a thread that serves one client, and returns where it takes orders.
fn serve_client(
    mut links: Links,
    core: Option<usize>,
    report: Sender<Outcome>,
) -> io::Result<Sender<Order>> {
    let (sender, orders) = mpsc::channel::<Order>();
    thread::Builder::new().spawn(move || {
        if let Some(error) = core.and_then(|core| pin(core).err()) {
            let _ = report.send(Err(error.into()));
            return;
        }
        for order in orders {
            let outcome = child::carry_out(&order, Part::Server, &mut links);
            let is_over = outcome.is_err();
            // Nobody waits for it when another client's thread has failed.
            let _ = report.send(outcome);
            if is_over {
                return;
            }
        }
    })?;
    Ok(sender)
}
