//! What the output of a step claims.
//!
//! Lines of three kinds count; all others are for whoever reads the log:
//!
//! | line | means |
//! |---|---|
//! | `evidence: NUMBER WHAT`, `evidence: NUMBER of TOTAL WHAT` | so many of these were checked |
//! | `skipped: WHAT: WHY` | a part could not be checked |
//! | `test result: ok. N passed; ...` | the test harness's sum |

use serde::Serialize;

/// What one or several steps claim.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Evidence {
    /// How many tests passed.
    pub(crate) tests: u64,
    /// How many seeded defects a tool was to report, and how many it has.
    pub(crate) controls: u64,
    pub(crate) controls_reported: u64,
    /// What was counted, without `evidence: `.
    pub(crate) counted: Vec<String>,
    /// What was left out and why, without `skipped: `.
    pub(crate) skipped: Vec<String>,
}

impl Evidence {
    /// Collects the claims of `output`.
    pub(crate) fn of(output: &str) -> Self {
        let mut evidence = Self::default();
        for line in output.lines() {
            // With one test thread the harness writes no line end before a test's
            // own output.
            let line = match line.strip_prefix("test ") {
                Some(rest) => rest.split_once(" ... ").map_or(line, |(_, said)| said),
                None => line,
            };
            if let Some(claim) = line.strip_prefix("evidence: ") {
                evidence.counted.push(claim.trim().to_owned());
            } else if let Some(gap) = line.strip_prefix("skipped: ") {
                evidence.skipped.push(gap.trim().to_owned());
            } else {
                evidence.tests += passed(line).unwrap_or(0);
            }
        }
        evidence
    }

    /// Tells whether nothing was checked, and a reason given.
    pub(crate) fn is_only_gaps(&self) -> bool {
        !self.skipped.is_empty() && self.tests == 0 && self.counted.is_empty()
    }

    /// Adds the claims of another step.
    pub(crate) fn add(&mut self, other: Self) {
        self.tests += other.tests;
        self.controls += other.controls;
        self.controls_reported += other.controls_reported;
        self.counted.extend(other.counted);
        self.skipped.extend(other.skipped);
    }
}

/// Returns how many tests passed, of the harness's last line.
fn passed(line: &str) -> Option<u64> {
    let (_, sums) = line.strip_prefix("test result: ")?.split_once(". ")?;
    sums.split_once(" passed")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_found_among_other_output() {
        let evidence = Evidence::of(
            "running 2 tests\n\
             evidence: 4 of 4 orderings\n\
             test first ... ok\n\
             test second ... evidence: 17 executions\n\
             no evidence: 3 of these\n\
             skipped: herd7: not installed\n\
             test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured\n\
             test result: FAILED. 5 passed; 1 failed; 0 ignored\n",
        );
        assert_eq!(evidence.counted, ["4 of 4 orderings", "17 executions"]);
        assert_eq!(evidence.skipped, ["herd7: not installed"]);
        assert_eq!((evidence.tests, evidence.controls), (7, 0));
    }
}
