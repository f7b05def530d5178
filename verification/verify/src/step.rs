//! What an entry of the table of layers can say.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::world::{self, World};

/// One kind of evidence.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    /// What it checks, in a few words.
    pub(crate) checks: &'static str,
    pub(crate) steps: &'static [Step],
}

/// One command of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// A program of the path, or one of the workspace if it contains a slash.
    program: &'static str,
    arguments: &'static [&'static str],
    world: World,
    variables: &'static [(&'static str, &'static str)],
    folder: &'static str,
    pub(crate) depth: Depth,
    pub(crate) needs: &'static [Need],
    pub(crate) expects: Expects,
    /// A step that takes longer hangs.
    pub(crate) limit: Duration,
}

/// In which runs a step takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// In all.
    Always,
    /// Only without `--deep`, in place of another step.
    Quick,
    /// Only with `--deep`.
    Deep,
}

/// How a step has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expects {
    /// With success, and, if it is a test command, after at least one test.
    Success,
    /// A control: with failure, and with this text in its output.
    Report(&'static str),
}

/// What a step cannot run without. A step that lacks it is skipped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    /// The command that shows whether it is there, by its success.
    pub(crate) probe: &'static [&'static str],
    /// Why the step is skipped, and what helps.
    pub(crate) missing: &'static str,
}

/// A watchdog and no measure: an unhurried machine needs minutes at most.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// The same for the steps of `--deep`.
const DEEP_LIMIT: Duration = Duration::from_secs(12 * 60 * 60);

impl Step {
    /// Makes a step of a cargo command that has to succeed.
    pub(crate) const fn cargo(arguments: &'static [&'static str]) -> Self {
        Self::program("cargo", arguments)
    }

    /// Makes a step of any command that has to succeed.
    pub(crate) const fn program(program: &'static str, arguments: &'static [&'static str]) -> Self {
        Self {
            program,
            arguments,
            world: World::Plain,
            variables: &[],
            folder: ".",
            depth: Depth::Always,
            needs: &[],
            expects: Expects::Success,
            limit: LIMIT,
        }
    }

    /// Returns what the world of this step lacks.
    pub(crate) fn missing(&self, root: &Path) -> Option<&'static str> {
        self.world.missing(root)
    }

    /// Builds in `world`.
    pub(crate) const fn world(mut self, world: World) -> Self {
        self.world = world;
        self
    }

    /// Adds to the environment.
    pub(crate) const fn with(mut self, variables: &'static [(&'static str, &'static str)]) -> Self {
        self.variables = variables;
        self
    }

    /// Takes part only in runs without `--deep`.
    pub(crate) const fn quick(mut self) -> Self {
        self.depth = Depth::Quick;
        self
    }

    /// Takes part only in runs with `--deep`.
    pub(crate) const fn deep(mut self) -> Self {
        self.depth = Depth::Deep;
        self.limit = DEEP_LIMIT;
        self
    }

    /// Is skipped without one of `needs`.
    pub(crate) const fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    /// Is a control, which has to fail with `text` in its output.
    pub(crate) const fn reports(mut self, text: &'static str) -> Self {
        self.expects = Expects::Report(text);
        self
    }

    /// Tells whether the step takes part in a run.
    pub(crate) fn takes_part(&self, deep: bool) -> bool {
        match self.depth {
            Depth::Always => true,
            Depth::Quick => !deep,
            Depth::Deep => deep,
        }
    }

    /// Tells whether the step runs tests.
    pub(crate) fn is_test(&self) -> bool {
        self.program == "cargo" && self.arguments.contains(&"test")
    }

    /// Returns the command, to be run from anywhere.
    pub(crate) fn command(&self, root: &Path) -> Command {
        let program = if self.program.contains('/') {
            root.join(self.program).into_os_string()
        } else {
            self.program.into()
        };
        let mut command = Command::new(program);
        command
            .args(self.arguments)
            .current_dir(root.join(self.folder))
            .envs(self.world.variables(root))
            .envs(self.variables.iter().copied())
            .stdin(Stdio::null());
        // What `cargo run` says of this program is not for other packages' builds.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(name.as_ref());
            }
        }
        command
    }

    /// Returns the command as it is typed in a shell, at the root.
    pub(crate) fn typed(&self) -> Typed<'_> {
        Typed(self)
    }
}

/// A step's command as it is typed.
#[derive(Debug)]
pub(crate) struct Typed<'a>(&'a Step);

impl fmt::Display for Typed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.0;
        if step.folder != "." {
            write!(f, "cd {} && ", step.folder)?;
        }
        let root = world::root();
        for (name, value) in step.world.variables(&root) {
            // What is printed holds on every machine, in a shell at the root.
            let value = value
                .to_string_lossy()
                .replace(&*root.to_string_lossy(), "$PWD");
            write!(f, "{name}={} ", quoted(&value))?;
        }
        for (name, value) in step.variables {
            write!(f, "{name}={} ", quoted(value))?;
        }
        f.write_str(step.program)?;
        for argument in step.arguments {
            write!(f, " {}", quoted(argument))?;
        }
        Ok(())
    }
}

/// Puts quotes around what a shell would take apart, and leaves its variables.
fn quoted(text: &str) -> String {
    if text.contains([' ', '*', ';']) {
        format!("\"{text}\"")
    } else {
        text.to_owned()
    }
}
