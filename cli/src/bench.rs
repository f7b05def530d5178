//! `memenpsf bench`: the limits of this machine, the transports and the rings,
//! between two processes that are bound to two cores.
//!
//! ```text
//!   memenpsf bench ◀── orders, descriptors ──▶ memenpsf bench-partner
//!     core A       ◀══ what is measured ═════▶   core B
//! ```
//!
//! Every sample lies between two raw ping-pongs: what the distance of the two cores
//! was then is known, and a sample during which it changed is dropped.
//!
//! Nothing is left behind: all memory and sockets are nameless, and the kernel
//! kills the partner when this process dies.

mod partner;
mod plan;
mod plot;
mod report;

use std::fs;
use std::io::{self, IsTerminal, stderr};
use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use memenpsf_benches::placement;
use memenpsf_benches::transport::TransportError;

use crate::output;
use partner::Partner;
pub(crate) use partner::take_part;
use plan::Plan;
use report::Report;

/// Measure the limits of this machine, the transports and the rings
///
/// Two processes, bound to two cores, hand each other cache lines, messages over
/// shared memory, pipes and sockets, and numbers over the rings, in turns, and check
/// whatever arrives. Takes about two minutes, or half a minute with --quick.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Fewer sizes and rounds
    #[arg(long)]
    quick: bool,
    /// As little as a test needs: the figures mean nothing
    #[arg(long, hide = true)]
    smoke: bool,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Draw latencies and throughput into a file
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Measure nothing: read what an earlier run printed with --json
    #[arg(long, value_name = "FILE.json", conflicts_with = "quick")]
    from: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  memenpsf bench --quick                        a table, within half a minute
  memenpsf bench --plot bench.svg               a table and a picture
  memenpsf bench --json > bench.json            for a script
  memenpsf bench --from bench.json --plot b.svg the table and the picture of that run";

/// Why a measurement ended before its report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("two cores are needed to measure, and this process may use one only")]
    OneCore,
    #[error("cannot start the second process: {0}")]
    Start(#[source] io::Error),
    #[error("cannot talk to the second process: {0}")]
    Partner(String),
    #[error("the second process: {0}")]
    Reported(String),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("{0} messages were lost or changed: the figures mean nothing")]
    Flaws(u64),
    #[error("cannot read {}: {source}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {}: {source}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write to the standard output: {0}")]
    Output(#[source] io::Error),
}

/// Runs the benchmark.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let report = match &arguments.from {
        Some(path) => read(path)?,
        None => measure(arguments)?,
    };
    if let Some(path) = &arguments.plot {
        fs::write(path, plot::svg(&report)).map_err(|source| Failure::Write {
            path: path.clone(),
            source,
        })?;
    }
    let text = if arguments.json {
        report.json()
    } else {
        report.table()
    };
    output::print(&text).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &PathBuf) -> Result<Report, Failure> {
    let read = |source| Failure::Read {
        path: path.clone(),
        source,
    };
    let text = fs::read_to_string(path).map_err(read)?;
    serde_json::from_str(&text).map_err(|error| read(error.into()))
}

fn measure(arguments: &Arguments) -> Result<Report, Failure> {
    let placement = placement::choose()
        .map_err(Failure::Start)?
        .ok_or(Failure::OneCore)?;
    let mut partner = Partner::start(placement.cores)?;
    let mut plan = Plan::new(arguments.quick, arguments.smoke);
    plan.open(&mut partner)?;
    let bar = progress(arguments.json);
    while let Some(title) = plan.step(&mut partner)? {
        bar.set_position(plan.permille());
        bar.set_message(title);
    }
    bar.finish_and_clear();
    partner.dismiss();
    Ok(plan.report(placement))
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
