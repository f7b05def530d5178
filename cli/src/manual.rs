//! `memenpsf completions` and `memenpsf man`: from the same definition as the
//! arguments themselves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::command::Arguments;
use crate::failure::Failure;
use crate::output;

/// Print the completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETION_EXAMPLES)]
pub(crate) struct CompletionArguments {
    /// The shell
    shell: Shell,
}

const COMPLETION_EXAMPLES: &str = "\
Examples:
  memenpsf completions bash > ~/.local/share/bash-completion/completions/memenpsf
  memenpsf completions zsh > ~/.zfunc/_memenpsf
  memenpsf completions fish > ~/.config/fish/completions/memenpsf.fish";

/// Print the manual page, or write those of all commands to a folder
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL_EXAMPLES)]
pub(crate) struct ManualArguments {
    /// Folder for one page a command; it must exist
    folder: Option<PathBuf>,
}

const MANUAL_EXAMPLES: &str = "\
Examples:
  memenpsf man | man -l -
  memenpsf man ~/.local/share/man/man1";

/// Prints the completions for a shell.
pub(crate) fn completions(arguments: &CompletionArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "memenpsf", &mut script);
    print(&script)
}

/// Prints or writes manual pages.
pub(crate) fn manual(arguments: &ManualArguments) -> Result<(), Failure> {
    let command = Arguments::command();
    let Some(folder) = &arguments.folder else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        rendered.map_err(Failure::io("cannot make the page"))?;
        return print(&page);
    };
    write_pages(command, folder).map_err(Failure::io("cannot write the pages"))
}

/// Writes the page of the program and those of its commands.
fn write_pages(command: clap::Command, folder: &Path) -> io::Result<()> {
    let commands: Vec<_> = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .cloned()
        .collect();
    let mut pages = vec![("memenpsf".to_string(), command)];
    pages.extend(commands.into_iter().map(|command| {
        let name = format!("memenpsf-{}", command.get_name());
        (name.clone(), command.display_name(name))
    }));
    for (name, command) in pages {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        fs::write(folder.join(format!("{name}.1")), page)?;
    }
    Ok(())
}

fn print(text: &[u8]) -> Result<(), Failure> {
    output::print(&String::from_utf8_lossy(text))
        .map_err(Failure::io("cannot write to the standard output"))
}
