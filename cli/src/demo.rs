//! `memenpsf demo`: one server process and some client processes exchange
//! checked messages over shared memory, and then the same over pipes and Unix
//! sockets.
//!
//! ```text
//!                    ┌──────── demo ────────┐   starts them, gives orders, takes
//!           stdin/stdout               stdin/stdout            answers, reports
//!                ▼                          ▼
//!           demo-server ◀══ shared memory ══▶ demo-client 0
//!                       ◀──────  pipes  ─────▶
//!                       ◀─── Unix socket ────▶
//! ```
//!
//! Nothing is left behind: the socket has an abstract name, which is gone with
//! the server; the kernel kills the children when the demo dies; and the demo
//! reaps them however it ends.

mod child;
mod client;
mod crew;
mod failure;
mod link;
mod orders;
mod report;
mod rows;
mod server;

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use memenpsf_benches::message::{Format, LONGEST, SHORTEST_CHECKED};
use memenpsf_benches::placement;
use memenpsf_benches::spin::{HASTY, PATIENT};

use crate::command::whole_number;
use crate::output;
pub(crate) use client::take_part;
use crew::Crew;
pub(crate) use failure::Failure;
use orders::{Order, Setup};
use report::Report;
use rows::Plan;
pub(crate) use server::serve;

/// Most clients: each is a process, and two threads beside it.
const MOST_CLIENTS: u64 = 64;
/// Most messages: far more than a day of them, far fewer than numbers.
const MOST_MESSAGES: u64 = 1_000_000_000_000;

/// Exchange checked messages between processes, and compare with pipes and sockets
///
/// Starts a server process and client processes, which send numbered and
/// checksummed messages both ways at the same time, at full speed, over shared
/// memory; checks every message; measures round trips; and does the same over
/// pipes and Unix sockets. Exits with 0 only if no message was lost, doubled,
/// out of order or corrupt.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Number of client processes, 1 to 64
    #[arg(
        long, value_name = "N", default_value = "1", allow_negative_numbers = true,
        value_parser = whole_number(1, MOST_CLIENTS)
    )]
    clients: u64,
    /// Messages that each side sends over shared memory [default: as many as take about 5 seconds
    /// in all]
    ///
    /// Pipes and sockets carry at most as many, and stop after about half a second.
    #[arg(
        long, value_name = "N", allow_negative_numbers = true,
        value_parser = whole_number(1, MOST_MESSAGES)
    )]
    messages: Option<u64>,
    /// Length of a message in bytes, 16 to 65536
    #[arg(
        long, value_name = "BYTES", default_value = "64", allow_negative_numbers = true,
        value_parser = whole_number(SHORTEST_CHECKED as u64, LONGEST as u64)
    )]
    size: u64,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  memenpsf demo                             one client, messages of 64 bytes
  memenpsf demo --size 65536                long messages
  memenpsf demo --clients 4                 four client processes, one server
  memenpsf demo --messages 1000000 --json   a million each way, for a script";

/// Runs the demo.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    // The parser's bounds keep both conversions from failing.
    let length = usize::try_from(arguments.size).unwrap_or(LONGEST);
    let clients = usize::try_from(arguments.clients).unwrap_or(1);
    let format = Format::new(length).ok_or(Failure::Protocol)?;

    let cores = placement::allowed_cores().map_err(Failure::Cores)?.len();
    // Several clients share the cores; the scheduler places them better.
    let placement = match clients {
        1 => placement::choose().map_err(Failure::Cores)?,
        _ => None,
    };
    let setup = Setup {
        socket: link::fresh_name(),
        token: link::fresh_token(),
        length,
        clients,
        cores: placement.map(|placement| placement.cores),
        spins: if 2 * clients <= cores { PATIENT } else { HASTY },
    };

    let mut crew = Crew::start(clients)?;
    crew.begin(&setup)?;
    let mut plan = Plan::new(format, arguments.messages);
    let bar = progress(arguments.json);
    while let Some(task) = plan.next() {
        bar.set_message(task.title());
        let done = crew.run(&task)?;
        plan.record(&task, &done);
        bar.set_position(plan.permille());
        if !plan.counts().is_flawless() {
            // Figures of an exchange that fails mean nothing.
            break;
        }
    }
    let leftover = crew.run_all(&Order::Drain)?;
    plan.record_counts(&leftover);
    crew.dismiss()?;
    bar.finish_and_clear();

    let report = Report {
        format,
        clients,
        placement,
        counts: plan.counts(),
        rows: plan.rows(),
    };
    let text = if arguments.json {
        report.json()?
    } else {
        report.table()
    };
    output::print(&text).map_err(Failure::Output)?;
    Ok(if report.counts.is_flawless() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns a progress bar on a terminal, and a silent one anywhere else.
fn progress(json: bool) -> ProgressBar {
    let target = if json || !stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let bar = ProgressBar::with_draw_target(Some(1000), target);
    match ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}") {
        Ok(style) => bar.with_style(style),
        // The default looks different and says the same.
        Err(_) => bar,
    }
}
