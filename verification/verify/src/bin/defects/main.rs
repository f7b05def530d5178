//! Removes one cure of SECURITY.md after the other from a copy of the workspace, and
//! shows that a test turns red each time.
//!
//! `cargo run -p memenpsf-verify --bin defects -- --list` shows the table;
//! `... -- C1` runs the defects of one entry, `... -- C1b` one defect, and no
//! argument all. First every test has to be green without a defect.
//!
//! The copy and what is built from it are below `target/defects`. A defect that does
//! not apply, or does not compile, is an error and no kill.
//!
//! - `table`: what an entry says, and all entries; `ring`, `fdpass` and `interface`
//!   have those of their crates.
//! - `copy`: the copy of the workspace.
//! - `judge`: runs a test and says how it ended.
//! - `cost`: measures what checks cost, with `--cost ROUNDS`.

#![deny(unsafe_code)]

#[cfg(not(loom))]
mod copy;
#[cfg(not(loom))]
mod cost;
#[cfg(not(loom))]
mod judge;
#[cfg(not(loom))]
mod table;

#[cfg(not(loom))]
mod command_line {
    use std::collections::BTreeSet;
    use std::io;
    use std::path::Path;
    use std::process::ExitCode;

    use clap::Parser;

    use crate::copy::Copy;
    use crate::cost;
    use crate::judge::{Judge, Verdict};
    use crate::table::{self, Defect};

    /// Removes each cure in turn, and shows which test turns red.
    #[derive(Debug, Parser)]
    #[command(name = "defects", max_term_width = 100)]
    struct Arguments {
        /// Which defects, by the beginnings of their names; all, if none is given.
        names: Vec<String>,
        /// Prints the table, and runs nothing.
        #[arg(long)]
        list: bool,
        /// Measures instead, in so many rounds of half a minute each way, what a
        /// transfer pays for the cures that the defects remove: by default the checks
        /// of what a peer says in shared memory.
        #[arg(long, value_name = "ROUNDS")]
        cost: Option<usize>,
    }

    pub(super) fn run() -> io::Result<ExitCode> {
        let arguments = Arguments::parse();
        let mut names = arguments.names;
        if names.is_empty() && arguments.cost.is_some() {
            names.extend(cost::CHECKS.map(str::to_owned));
        }
        let chosen: Vec<&Defect> = table::all()
            .filter(|defect| {
                names.is_empty() || names.iter().any(|name| defect.name.starts_with(name))
            })
            .collect();
        if chosen.is_empty() {
            return Err(io::Error::other("no defect has such a name: see --list"));
        }
        if arguments.list {
            for defect in &chosen {
                println!("{}: {}", defect.name, defect.removed);
                println!("    {}: {}", defect.file, defect.test);
            }
            return Ok(ExitCode::SUCCESS);
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize()?;
        let folder = root.join("target/defects");
        let copy = Copy::make(&root, folder.join("source"))?;
        let target = folder.join("target");
        if let Some(rounds) = arguments.cost {
            cost::measure(&copy, &target, &chosen, rounds)?;
            return Ok(ExitCode::SUCCESS);
        }
        apply(&chosen, &copy, &Judge::new(copy.root(), &target))
    }

    fn apply(chosen: &[&Defect], copy: &Copy, judge: &Judge) -> io::Result<ExitCode> {
        let tests: BTreeSet<_> = chosen.iter().map(|defect| defect.test).collect();
        for test in &tests {
            match judge.run(*test)? {
                Verdict::Green => println!("green without a defect: {test}"),
                verdict => {
                    return Err(io::Error::other(format!(
                        "without a defect: {test}: {verdict}"
                    )));
                }
            }
        }
        let mut killed = 0;
        for defect in chosen {
            let verdict = copy.with(defect, || judge.run(defect.test))?;
            let Some(verdict) = verdict else {
                println!("{}: DOES NOT APPLY: {}", defect.name, defect.file);
                continue;
            };
            killed += usize::from(verdict.is_kill());
            println!("{}: {verdict}: {}", defect.name, defect.removed);
        }
        let all = chosen.len();
        println!("evidence: {killed} of {all} seeded defects killed");
        Ok(if killed == all {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    command_line::run().unwrap_or_else(|error| {
        eprintln!("defects: {error}");
        std::process::ExitCode::FAILURE
    })
}

#[cfg(loom)]
fn main() {}
