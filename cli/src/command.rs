//! The command line: which command runs, and how wrong arguments and failures
//! end. One file a command beside this one.

use std::io::Write;
use std::process::ExitCode;

use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::Failure;
use crate::{bench, demo, echo, manual, stream};

/// Exit code of wrong arguments, as with other programs.
const USAGE: u8 = 2;

/// Shared-memory IPC for two processes on one Linux host.
#[derive(Debug, Parser)]
#[command(name = "memenpsf", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong arguments, 128 + n ended by signal n.";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Bench(bench::Arguments),
    /// The second process of a benchmark: takes orders on its standard input.
    #[command(hide = true)]
    BenchPartner,
    Serve(echo::ServeArguments),
    Connect(echo::ConnectArguments),
    Recv(stream::RecvArguments),
    Send(stream::SendArguments),
    Completions(manual::CompletionArguments),
    Man(manual::ManualArguments),
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
    let result = match &arguments.command {
        Command::Serve(arguments) => echo::serve(arguments),
        Command::Connect(arguments) => echo::connect(arguments),
        Command::Recv(arguments) => stream::receive(arguments),
        Command::Send(arguments) => stream::send(arguments),
        Command::Completions(arguments) => manual::completions(arguments),
        Command::Man(arguments) => manual::manual(arguments),
        Command::Demo(arguments) => {
            return demo::run(arguments).unwrap_or_else(|failure| {
                eprintln!("memenpsf: {failure}");
                failure.exit_code()
            });
        }
        Command::Bench(arguments) => {
            return bench::run(arguments).unwrap_or_else(|failure| {
                eprintln!("memenpsf: {failure}");
                ExitCode::FAILURE
            });
        }
        Command::BenchPartner => return bench::take_part(),
        Command::DemoServer => return demo::serve(),
        Command::DemoClient { index } => return demo::take_part(*index),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => tell(&failure),
    }
}

/// Says why a command has failed. Whoever does not read it does not want it.
fn tell(failure: &Failure) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "memenpsf: {failure}");
    failure.exit_code()
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
    let first = std::env::args().nth(1).unwrap_or_default();
    let known = Arguments::command();
    let command = match known.find_subcommand(&first) {
        Some(command) if !command.is_hide_set() => format!("memenpsf {first}"),
        _ => "memenpsf".to_string(),
    };
    let text = error.to_string();
    let mut lines = text.lines();
    let line = lines.next().unwrap_or("wrong arguments");
    let mut line = line.strip_prefix("error: ").unwrap_or(line).to_string();
    if line.ends_with(':') {
        // What is missing follows, one a line.
        for missing in lines.map(str::trim).take_while(|line| !line.is_empty()) {
            line = format!("{line} {missing}");
        }
    }
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
