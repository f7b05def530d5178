//! What checks cost: `memenpsf bench` with them and without, in turns.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::copy::Copy;
use crate::judge::of_workspace;
use crate::table::Defect;

/// The checks of what a peer says in shared memory: what a transfer pays for.
pub(crate) const CHECKS: [&str; 6] = ["A2a", "A2b", "A2d", "A2e", "A2f", "A5a"];

/// What `memenpsf bench --json` prints, as far as it is needed.
#[derive(Debug, Deserialize)]
struct Report {
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    group: String,
    name: String,
    waits: String,
    size: usize,
    batch: usize,
    value: Option<Spread>,
}

#[derive(Debug, Deserialize)]
struct Spread {
    median: f64,
}

impl Row {
    /// Returns what the row measures, and the time that one takes, in nanoseconds;
    /// `None` where no ring of ours takes part.
    fn time(&self) -> Option<(String, f64)> {
        let ours = self.group.starts_with("ring") || self.name.starts_with("shared memory");
        let value = self
            .value
            .as_ref()
            .filter(|_| ours && self.waits == "awake")?;
        let is_time = matches!(self.group.as_str(), "round_trips" | "ring_trips");
        let name = format!(
            "{} {} {} B, {} a call",
            self.group, self.name, self.size, self.batch
        );
        Some((
            name,
            if is_time {
                value.median
            } else {
                1e9 / value.median
            },
        ))
    }
}

/// Measures what `checks` cost, in so many rounds, and prints it.
///
/// # Errors
///
/// What the system, the compiler or the benchmark says.
pub(crate) fn measure(
    copy: &Copy,
    target: &Path,
    checks: &[&Defect],
    rounds: usize,
) -> io::Result<()> {
    let with = build(copy.root(), target, "with-checks")?;
    let without = copy.with_all(checks, || build(copy.root(), target, "without-checks"))?;
    let mut times: BTreeMap<String, [Vec<f64>; 2]> = BTreeMap::new();
    for round in 0..rounds {
        let mut order = [(0, &with), (1, &without)];
        // Neither is always the one that comes after the other.
        order.rotate_left(round % 2);
        for (which, program) in order {
            for (name, time) in run(program)?.rows.iter().filter_map(Row::time) {
                times.entry(name).or_default()[which].push(time);
            }
        }
    }
    println!("ns each, medians of {rounds} runs, and the median ratio of with to without");
    for (name, [with, without]) in &times {
        let ratios = with
            .iter()
            .zip(without)
            .map(|(with, without)| with / without);
        let [with, without, ratio] = [with.clone(), without.clone(), ratios.collect()].map(median);
        println!("{with:10.2} {without:10.2} {ratio:6.3}  {name}");
    }
    let all = times.values().flat_map(|[with, without]| {
        with.iter()
            .zip(without)
            .map(|(with, without)| with / without)
    });
    let ratio = median(all.collect());
    println!("evidence: {ratio:.3} times the time without the checks, median of all rows");
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Builds the benchmark, and keeps it as `name`.
fn build(root: &Path, target: &Path, name: &str) -> io::Result<PathBuf> {
    let status = of_workspace("cargo", root, target)
        .args(["build", "--release", "--package=memenpsf-cli"])
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("{name}: {status}")));
    }
    let kept = target.join(name);
    fs::copy(target.join("release/memenpsf"), &kept)?;
    Ok(kept)
}

fn run(program: &Path) -> io::Result<Report> {
    let output = Command::new(program)
        .args(["bench", "--quick", "--json"])
        .output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(words));
    }
    serde_json::from_slice(&output.stdout).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: &str, name: &str, median: f64) -> Row {
        let text = format!(
            r#"{{"group":"{group}","name":"{name}","waits":"awake","size":8,"batch":64,
               "value":{{"min":1,"median":{median},"max":2}},"samples":3}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn rates_become_times_and_only_our_rings_count() {
        let (name, time) = row("rings", "index", 2e8).time().unwrap();
        assert_eq!((name.as_str(), time), ("rings index 8 B, 64 a call", 5.0));
        let trip = row("round_trips", "shared memory, bytes", 120.0).time();
        assert_eq!(trip.unwrap().1, 120.0);
        assert!(row("messages", "pipe", 1.0).time().is_none());
    }

    #[test]
    fn median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
