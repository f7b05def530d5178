//! What is shown while layers run, on the standard error: a line that moves on a
//! terminal, one line a layer elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::run::{Outcome, Verdict};

/// Shows which layer runs, which of its steps, and for how long.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Whether anything is shown.
    shown: bool,
    layer: &'static str,
    spinner: Option<ProgressBar>,
}

impl Progress {
    /// Makes the display; silent unless `shown`.
    pub(crate) fn new(shown: bool) -> Self {
        Self {
            shown,
            layer: "",
            spinner: None,
        }
    }

    /// Says that a layer begins.
    pub(crate) fn layer(&mut self, name: &'static str, checks: &str) {
        self.layer = name;
        if !self.shown {
            return;
        }
        if std::io::stderr().is_terminal() {
            let spinner = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>5} {wide_msg}") {
                spinner.set_style(style);
            }
            // Often enough to be seen to move.
            spinner.enable_steady_tick(Duration::from_millis(120));
            self.spinner = Some(spinner);
        } else {
            eprintln!("{name}: {checks}");
        }
    }

    /// Says which of how many steps begins.
    pub(crate) fn step(&mut self, number: usize, of: usize, command: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(format!("{} {number}/{of}: {command}", self.layer));
        }
    }

    /// Says how the layer has ended.
    pub(crate) fn ended(&mut self, outcome: &Outcome) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        if self.shown {
            let seconds = outcome.seconds;
            eprintln!(
                "{}: {} after {seconds:.1} s",
                self.layer,
                outcome.verdict.word()
            );
        }
    }
}

impl Verdict {
    /// Returns the word for it; what needs attention is in capitals.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped => "SKIPPED",
        }
    }
}
