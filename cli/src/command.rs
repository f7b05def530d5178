//! The command line: which command runs, and how wrong arguments and failures
//! end. One file a command beside this one.

use std::process::ExitCode;

use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::demo;

/// Exit code of wrong arguments, as with other programs.
const USAGE: u8 = 2;

/// Shared-memory IPC for two processes on one Linux host.
#[derive(Debug, Parser)]
#[command(name = "memenpsf", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    /// The server of a demo: takes orders on its standard input.
    #[command(hide = true)]
    DemoServer,
    /// A client of a demo: takes orders on its standard input.
    #[command(hide = true)]
    DemoClient {
        /// Which of the clients it is.
        index: usize,
    },
}

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let arguments = match Arguments::try_parse_from(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    match arguments.command {
        Command::Demo(arguments) => match demo::run(&arguments) {
            Ok(code) => code,
            Err(failure) => {
                eprintln!("memenpsf: {failure}");
                failure.exit_code()
            }
        },
        Command::DemoServer => demo::serve(),
        Command::DemoClient { index } => demo::take_part(index),
    }
}

/// Says in one line what is wrong with the arguments; help is printed whole.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        // A reader that has gone away does not want the help.
        let _ = error.print();
        return u8::try_from(error.exit_code()).unwrap_or(USAGE).into();
    }
    let command = match std::env::args_os().nth(1) {
        Some(first) if first == *"demo" => "memenpsf demo",
        _ => "memenpsf",
    };
    let text = error.to_string();
    let line = text.lines().next().unwrap_or("wrong arguments");
    let line = line.strip_prefix("error: ").unwrap_or(line);
    eprintln!("memenpsf: {line} (see {command} --help)");
    USAGE.into()
}

/// Returns a parser of whole numbers from `first` to `last`, which says so when
/// it is given anything else.
pub(crate) fn whole_number(first: u64, last: u64) -> ValueParser {
    ValueParser::from(move |text: &str| match text.parse() {
        Ok(number) if (first..=last).contains(&number) => Ok(number),
        _ => Err(format!("a whole number from {first} to {last} is needed")),
    })
}
