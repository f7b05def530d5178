//! Runs the steps of a layer and judges them.
//!
//! Each step is a group of processes of its own, so that nothing of it outlives an
//! interrupt or its time limit. Its output goes to the layer's log and nowhere
//! else; the claims are read from there when it has ended.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Serialize;
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::evidence::Evidence;
use crate::progress::Progress;
use crate::step::{Expects, Layer, Need, Step};
use crate::world;

/// How a layer or a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// All that could be checked holds, and something could be.
    Passed,
    /// Something does not hold.
    Failed,
    /// Nothing could be checked.
    Skipped,
}

/// What a layer has shown.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) layer: &'static str,
    pub(crate) checks: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) seconds: f64,
    #[serde(flatten)]
    pub(crate) evidence: Evidence,
    /// Each step that failed, with what was wrong.
    pub(crate) failures: Vec<String>,
    pub(crate) log: PathBuf,
}

/// Runs layers, one after the other.
#[derive(Debug)]
pub(crate) struct Runner {
    root: PathBuf,
    logs: PathBuf,
    deep: bool,
    events: Receiver<Event>,
}

/// What the system tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    ChildEnded,
    Interrupted,
}

/// How one step ended.
#[derive(Debug)]
enum Ended {
    Passed,
    Failed(String),
    /// With the reason, unless the step's own claims have it.
    Skipped(Option<String>),
}

impl Runner {
    /// Makes a runner for the workspace at `root`, which puts its logs into `logs`.
    ///
    /// # Errors
    ///
    /// What the system says when it cannot tell of signals or make the folder.
    pub(crate) fn new(root: PathBuf, logs: PathBuf, deep: bool) -> io::Result<Self> {
        fs::create_dir_all(&logs)?;
        let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM])?;
        let (tell, events) = mpsc::channel();
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let event = if signal == SIGCHLD {
                    Event::ChildEnded
                } else {
                    Event::Interrupted
                };
                if tell.send(event).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            root,
            logs,
            deep,
            events,
        })
    }

    /// Runs all steps of `layer` that take part, also after one has failed.
    ///
    /// # Errors
    ///
    /// What the system says when the log cannot be written, a program cannot be
    /// started, or the user interrupts.
    pub(crate) fn run(&self, layer: &Layer, progress: &mut Progress) -> io::Result<Outcome> {
        let began = Instant::now();
        let path = self.logs.join(layer.name).with_extension("log");
        let mut log = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)?;
        let mut evidence = Evidence::default();
        let mut failures = Vec::new();
        let mut passed = 0;
        let steps: Vec<_> = (layer.steps.iter())
            .filter(|step| step.takes_part(self.deep))
            .collect();
        if steps.is_empty() {
            evidence
                .skipped
                .push("takes part with --deep only".to_owned());
        }
        for (index, step) in steps.iter().enumerate() {
            progress.step(index + 1, steps.len(), &step.typed().to_string());
            let (ended, claims) = self.step(step, &mut log)?;
            evidence.add(claims);
            match ended {
                Ended::Passed => passed += 1,
                Ended::Failed(why) => failures.push(format!("{}: {why}", step.typed())),
                // Several steps may lack the same tool.
                Ended::Skipped(Some(why)) if !evidence.skipped.contains(&why) => {
                    evidence.skipped.push(why);
                }
                Ended::Skipped(_) => {}
            }
        }
        let verdict = if !failures.is_empty() {
            Verdict::Failed
        } else if passed > 0 {
            Verdict::Passed
        } else {
            Verdict::Skipped
        };
        Ok(Outcome {
            layer: layer.name,
            checks: layer.checks,
            verdict,
            seconds: began.elapsed().as_secs_f64(),
            evidence,
            failures,
            log: path.strip_prefix(&self.root).unwrap_or(&path).to_path_buf(),
        })
    }

    fn step(&self, step: &Step, log: &mut File) -> io::Result<(Ended, Evidence)> {
        let lacking = step.needs.iter().find(|need| !self.has(need));
        let lacking = lacking.map(|need| need.missing);
        if let Some(missing) = lacking.or_else(|| step.missing(&self.root)) {
            writeln!(log, "$ {}\nskipped: {missing}", step.typed())?;
            return Ok((
                Ended::Skipped(Some(missing.to_owned())),
                Evidence::default(),
            ));
        }
        writeln!(log, "$ {}", step.typed())?;
        let from = log.stream_position()?;
        let mut command = step.command(&self.root);
        command
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .process_group(0);
        let ended = self.wait(&mut command, step.limit)?;
        // The step has moved the position, which is one for all that write the log.
        log.seek(io::SeekFrom::Start(from))?;
        let mut output = Vec::new();
        log.read_to_end(&mut output)?;
        let output = String::from_utf8_lossy(&output);
        let mut evidence = Evidence::of(&output);
        let Some(status) = ended else {
            let why = format!("hangs: not done after {} s", step.limit.as_secs());
            return Ok((Ended::Failed(why), evidence));
        };
        evidence.controls += u64::from(step.expects != Expects::Success);
        let ended = match step.expects {
            Expects::Success if !status.success() => Ended::Failed(status.to_string()),
            Expects::Success if step.is_test() && evidence.tests == 0 => {
                Ended::Failed("no test ran".to_owned())
            }
            // It has found out by itself that it cannot do anything.
            Expects::Success if evidence.is_only_gaps() => Ended::Skipped(None),
            Expects::Success => Ended::Passed,
            Expects::Report(text) if status.success() || !output.contains(text) => {
                Ended::Failed(format!("control: {status}, and no report of `{text}`"))
            }
            Expects::Report(_) => {
                evidence.controls_reported += 1;
                Ended::Passed
            }
        };
        Ok((ended, evidence))
    }

    /// Tells whether a tool is there.
    fn has(&self, need: &Need) -> bool {
        let [program, arguments @ ..] = need.probe else {
            return true;
        };
        let status = Command::new(program)
            .args(arguments)
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }

    /// Runs `command` to its end; `None` if it took longer than `limit`.
    fn wait(&self, command: &mut Command, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        let mut group = Group(command.spawn()?);
        loop {
            if let Some(status) = group.0.try_wait()? {
                return Ok(Some(status));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(Event::ChildEnded) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Ok(Event::Interrupted) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
                }
            }
        }
    }
}

/// A child and all that it has started; killed when nobody waits any longer.
#[derive(Debug)]
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None))
            && let Ok(leader) = i32::try_from(self.0.id())
        {
            // The leader is not reaped, so the number is still its own.
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
            let _ = self.0.wait();
        }
    }
}

/// Returns the last lines of a log.
pub(crate) fn tail(root: &Path, log: &Path, lines: usize) -> String {
    let text = fs::read(root.join(log)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Returns where the logs of the workspace at `root` are.
pub(crate) fn logs(root: &Path) -> PathBuf {
    world::target(root).join("verify")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Sanitizer, World};

    const NEVER: Need = Need {
        probe: &["false"],
        missing: "tool: not there",
    };

    const fn shell(arguments: &'static [&'static str]) -> Step {
        Step::program("sh", arguments)
    }

    fn outcome(deep: bool, steps: &[Step]) -> Outcome {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_path_buf();
        let runner = Runner::new(root.clone(), root.join("logs"), deep).unwrap();
        let layer = Layer {
            name: "layer",
            checks: "this program",
            steps: steps.to_vec().leak(),
        };
        let outcome = runner.run(&layer, &mut Progress::new(false)).unwrap();
        let log = fs::read_to_string(root.join(&outcome.log)).unwrap();
        let typed = log.lines().filter(|line| line.starts_with("$ sh -c"));
        let steps = steps.iter().filter(|step| step.takes_part(deep));
        assert_eq!(typed.count(), steps.count(), "{log}");
        outcome
    }

    #[test]
    fn claims_of_all_steps_are_collected() {
        let outcome = outcome(
            false,
            &[
                shell(&["-c", "echo evidence: 3 of 3 a; echo evidence: 4 b >&2"]),
                shell(&["-c", "echo evidence: 5 c; sleep 0"]),
            ],
        );
        assert_eq!(outcome.verdict, Verdict::Passed);
        assert_eq!(outcome.evidence.counted, ["3 of 3 a", "4 b", "5 c"]);
    }

    #[test]
    fn one_failed_step_fails_the_layer_and_the_next_step_runs() {
        let outcome = outcome(
            false,
            &[
                shell(&["-c", "exit 7"]),
                shell(&["-c", "echo evidence: 1 a"]),
            ],
        );
        assert_eq!(outcome.verdict, Verdict::Failed);
        assert_eq!(outcome.failures, ["sh -c \"exit 7\": exit status: 7"]);
        assert_eq!(outcome.evidence.counted, ["1 a"]);
    }

    #[test]
    fn control_has_to_fail_with_its_report() {
        const REPORTED: Step = shell(&["-c", "echo found: a race; exit 66"]).reports("a race");
        const SILENT: Step = shell(&["-c", "exit 66"]).reports("a race");
        const SURVIVES: Step = shell(&["-c", "echo a race"]).reports("a race");
        let all = outcome(false, &[REPORTED, REPORTED]);
        assert_eq!(all.verdict, Verdict::Passed);
        let of = |outcome: &Outcome| {
            (
                outcome.evidence.controls_reported,
                outcome.evidence.controls,
            )
        };
        assert_eq!(of(&all), (2, 2));
        let one = outcome(false, &[REPORTED, SILENT, SURVIVES]);
        assert_eq!(one.verdict, Verdict::Failed);
        assert_eq!(of(&one), (1, 3));
        assert_eq!(one.failures.len(), 2);
    }

    #[test]
    fn missing_tool_skips_and_is_named_once() {
        const LACKING: Step = shell(&["-c", "exit 1"]).needs(&[NEVER]);
        let all = outcome(false, &[LACKING, LACKING]);
        assert_eq!(all.verdict, Verdict::Skipped);
        assert_eq!(all.evidence.skipped, ["tool: not there"]);
        let one = outcome(false, &[shell(&["-c", "true"]), LACKING]);
        assert_eq!(one.verdict, Verdict::Passed);
        assert_eq!(one.evidence.skipped, ["tool: not there"]);
        const GIVES_UP: Step = shell(&["-c", "echo skipped: a: b"]);
        let none = outcome(false, &[GIVES_UP]);
        assert_eq!(none.verdict, Verdict::Skipped);
        assert_eq!(none.evidence.skipped, ["a: b"]);
    }

    #[test]
    fn memory_sanitizer_is_skipped_without_the_sources_of_the_standard_library() {
        let root = tempfile::tempdir().unwrap();
        let missing = |sanitizer| World::Sanitized(sanitizer).missing(root.path());
        assert_eq!(missing(Sanitizer::Thread), None);
        if let Some(missing) = missing(Sanitizer::Memory) {
            assert!(missing.contains("rust-src"), "{missing}");
        } else {
            eprintln!("nightly has them: rustup component add rust-src");
        }
        let library = "target/tools/rust-src/usr/src/rustc/library/std";
        fs::create_dir_all(root.path().join(library)).unwrap();
        assert_eq!(missing(Sanitizer::Memory), None);
    }

    #[test]
    fn deep_run_takes_the_deep_steps() {
        const STEPS: &[Step] = &[
            shell(&["-c", "echo evidence: 1 always"]),
            shell(&["-c", "echo evidence: 1 quick"]).quick(),
            shell(&["-c", "echo evidence: 1 deep"]).deep(),
        ];
        assert_eq!(
            outcome(false, STEPS).evidence.counted,
            ["1 always", "1 quick"]
        );
        assert_eq!(
            outcome(true, STEPS).evidence.counted,
            ["1 always", "1 deep"]
        );
    }

    #[test]
    fn layer_of_deep_steps_alone_is_skipped_and_says_so() {
        const STEPS: &[Step] = &[shell(&["-c", "echo evidence: 1 deep"]).deep()];
        let shallow = outcome(false, STEPS);
        assert_eq!(shallow.verdict, Verdict::Skipped);
        assert_eq!(shallow.evidence.skipped, ["takes part with --deep only"]);
        assert_eq!(outcome(true, STEPS).verdict, Verdict::Passed);
    }

    #[test]
    fn step_that_hangs_is_ended_with_all_that_it_started() {
        const HANGS: Step = {
            let mut step = shell(&["-c", "echo $$; sleep 1000 & sleep 1000"]);
            step.limit = Duration::from_millis(300);
            step
        };
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_path_buf();
        let runner = Runner::new(root.clone(), root.clone(), false).unwrap();
        let layer = Layer {
            name: "layer",
            checks: "this program",
            steps: &[HANGS],
        };
        let outcome = runner.run(&layer, &mut Progress::new(false)).unwrap();
        assert_eq!(outcome.verdict, Verdict::Failed);
        assert!(outcome.failures[0].contains("hangs"), "{outcome:?}");
        let log = fs::read_to_string(root.join(&outcome.log)).unwrap();
        let leader = log.lines().nth(1).unwrap().parse().unwrap();
        // Killed members are gone when their new parent has reaped them.
        let watchdog = Instant::now() + Duration::from_secs(60);
        while killpg(Pid::from_raw(leader), None).is_ok() {
            assert!(Instant::now() < watchdog, "a process has outlived its step");
            std::thread::yield_now();
        }
    }
}
