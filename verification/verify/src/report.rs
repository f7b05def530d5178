//! What a run ends with.

use std::fmt::Write;

use serde::Serialize;

use crate::run::{Outcome, Verdict};

/// What all layers have shown.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    pub(crate) deep: bool,
    pub(crate) seconds: f64,
    pub(crate) layers: Vec<Outcome>,
}

impl Report {
    /// Sums up `layers`.
    pub(crate) fn new(layers: Vec<Outcome>, deep: bool) -> Self {
        let has = |verdict| layers.iter().any(|layer| layer.verdict == verdict);
        let verdict = if has(Verdict::Failed) {
            Verdict::Failed
        } else if has(Verdict::Passed) {
            Verdict::Passed
        } else {
            Verdict::Skipped
        };
        Self {
            verdict,
            deep,
            seconds: layers.iter().map(|layer| layer.seconds).sum(),
            layers,
        }
    }

    /// Returns the table: a line a layer, and under it a line for each claim.
    pub(crate) fn table(&self) -> String {
        let mut table = format!(
            "{:<11} {:<8} {:>8}  what was checked, and how many\n",
            "layer", "verdict", "time"
        );
        for layer in &self.layers {
            push(
                &mut table,
                &[
                    layer.layer,
                    layer.verdict.word(),
                    &format!("{:.1} s", layer.seconds),
                    layer.checks,
                ],
            );
            for line in lines(layer) {
                push(&mut table, &["", "", "", &line]);
            }
        }
        push(
            &mut table,
            &[
                "all",
                self.verdict.word(),
                &format!("{:.1} s", self.seconds),
                &format!("{} layers", self.layers.len()),
            ],
        );
        table
    }
}

fn push(table: &mut String, [layer, verdict, time, what]: &[&str; 4]) {
    let line = format!("{layer:<11} {verdict:<8} {time:>8}  {what}");
    // Writing to a string does not fail.
    let _ = writeln!(table, "{}", line.trim_end());
}

/// Returns what is said of a layer beside its first line.
fn lines(layer: &Outcome) -> Vec<String> {
    let evidence = &layer.evidence;
    let mut lines = Vec::new();
    if evidence.tests > 0 {
        lines.push(format!("  {} tests", evidence.tests));
    }
    if evidence.controls > 0 {
        let (reported, all) = (evidence.controls_reported, evidence.controls);
        lines.push(format!("  {reported} of {all} controls reported"));
    }
    lines.extend(evidence.counted.iter().map(|claim| format!("  {claim}")));
    lines.extend(
        evidence
            .skipped
            .iter()
            .map(|gap| format!("  SKIPPED: {gap}")),
    );
    lines.extend(layer.failures.iter().map(|why| format!("  FAILED: {why}")));
    if !layer.failures.is_empty() {
        lines.push(format!("  see {}", layer.log.display()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Evidence;

    fn outcome(verdict: Verdict, failures: &[&str]) -> Outcome {
        Outcome {
            layer: "loom",
            checks: "the rings",
            verdict,
            seconds: 2.04,
            evidence: Evidence {
                tests: 3,
                controls: 1,
                controls_reported: 1,
                counted: vec!["8 of 8 mutants killed".to_owned()],
                skipped: vec!["herd7: not installed".to_owned()],
            },
            failures: failures.iter().copied().map(str::to_owned).collect(),
            log: "target/verify/loom.log".into(),
        }
    }

    #[test]
    fn table_has_every_claim_and_every_gap() {
        let report = Report::new(vec![outcome(Verdict::Passed, &[])], false);
        let expected = "\
layer       verdict      time  what was checked, and how many
loom        passed      2.0 s  the rings
                                 3 tests
                                 1 of 1 controls reported
                                 8 of 8 mutants killed
                                 SKIPPED: herd7: not installed
all         passed      2.0 s  1 layers
";
        assert_eq!(report.table(), expected);
    }

    #[test]
    fn one_failure_among_many_is_the_verdict() {
        let layers = vec![
            outcome(Verdict::Passed, &[]),
            outcome(Verdict::Failed, &["cargo test: exit status: 1"]),
            outcome(Verdict::Skipped, &[]),
        ];
        let report = Report::new(layers, true);
        assert_eq!(report.verdict, Verdict::Failed);
        let table = report.table();
        assert!(
            table.contains("FAILED: cargo test: exit status: 1"),
            "{table}"
        );
        assert!(table.contains("see target/verify/loom.log"), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["layers"][1]["verdict"], "failed");
        assert_eq!(json["layers"][0]["counted"][0], "8 of 8 mutants killed");
    }
}
