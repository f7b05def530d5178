//! The command line of `cargo verify`.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::PossibleValuesParser;

use crate::layers::LAYERS;
use crate::progress::Progress;
use crate::report::Report;
use crate::run::{self, Runner, Verdict};
use crate::step::Layer;
use crate::world;

/// Lines of a failed layer's log that are shown at once.
const SHOWN: usize = 40;

/// Runs the evidence for memenpsf and says what it shows.
#[derive(Debug, Parser)]
#[command(name = "cargo verify", bin_name = "cargo verify", max_term_width = 100)]
struct Arguments {
    /// The layers to run; all, if none is named.
    #[arg(value_parser = PossibleValuesParser::new(LAYERS.iter().map(|layer| layer.name)))]
    layers: Vec<String>,
    /// Leaves out a layer; may be given several times.
    #[arg(long, value_name = "LAYER")]
    #[arg(value_parser = PossibleValuesParser::new(LAYERS.iter().map(|layer| layer.name)))]
    without: Vec<String>,
    /// Longer versions: hours instead of minutes.
    #[arg(long)]
    deep: bool,
    /// Prints the table as JSON.
    #[arg(long)]
    json: bool,
    /// Prints the layers with their commands, and runs nothing.
    #[arg(long, conflicts_with = "json")]
    list: bool,
}

/// Does what the arguments ask for.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let layers: Vec<&Layer> = LAYERS
        .iter()
        .filter(|layer| {
            let is_in = |names: &[String]| names.iter().any(|name| name == layer.name);
            (arguments.layers.is_empty() || is_in(&arguments.layers)) && !is_in(&arguments.without)
        })
        .collect();
    let done = if arguments.list {
        list(&layers, arguments.deep);
        Ok(ExitCode::SUCCESS)
    } else {
        verify(&layers, &arguments)
    };
    done.unwrap_or_else(|error| {
        eprintln!("cargo verify: {error}");
        ExitCode::FAILURE
    })
}

fn list(layers: &[&Layer], deep: bool) {
    for layer in layers {
        println!("{}: {}", layer.name, layer.checks);
        for step in layer.steps.iter().filter(|step| step.takes_part(deep)) {
            println!("    {}", step.typed());
        }
    }
}

fn verify(layers: &[&Layer], arguments: &Arguments) -> io::Result<ExitCode> {
    let root = world::root();
    let runner = Runner::new(root.clone(), run::logs(&root), arguments.deep)?;
    let mut progress = Progress::new(true);
    let mut outcomes = Vec::new();
    for layer in layers {
        progress.layer(layer.name, layer.checks);
        let outcome = runner.run(layer, &mut progress)?;
        progress.ended(&outcome);
        if outcome.verdict == Verdict::Failed {
            eprintln!("{}", run::tail(&root, &outcome.log, SHOWN));
        }
        outcomes.push(outcome);
    }
    let report = Report::new(outcomes, arguments.deep);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("\n{}", report.table());
    }
    Ok(if report.verdict == Verdict::Failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
