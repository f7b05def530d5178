//! The litmus tests of all sites, under six models of herd7's and under the axioms
//! in Rust. litmus.md beside this crate's sources holds the verdicts; a difference
//! fails. `MEMENPSF_BLESS=1` writes the file instead.
//!
//! herd7 is looked for in target/tools, where `verification/tools/herd.sh` puts it, and
//! in the path. Without it the verdicts of the axioms alone are compared.
//!
//! `cargo test -p memenpsf-verification --test litmus -- --nocapture`

#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an expectation that does not hold is a failed test"
)]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use memenpsf_verification::litmus::axioms::{LoadBuffering, judge};
use memenpsf_verification::litmus::shapes::{Payload, Test, tests};
use memenpsf_verification::litmus::{Machine, Verdict};
use memenpsf_verification::sites::MUTANTS;

/// The committed verdicts.
const VERDICTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/litmus.md");

/// herd7's models of C, and the mode of the axioms that must agree with each.
const C_MODELS: [(&str, LoadBuffering); 2] = [
    ("rc11.cat", LoadBuffering::Forbidden),
    ("c11_partialSC.cat", LoadBuffering::Permitted),
];

const HEADING: &str = "\
# What each model says of the litmus tests

Written and compared by `cargo verify litmus`. A test is two threads around one site,
as it ships or with the site weakened; *never* means that no execution of the model has
the bad outcome, *allowed* that one has, *race* that the program has a data race, so that
anything may come out. A processor knows no plain accesses, so it has no races.

RC11 and C11 differ in load buffering, which C11 permits. Their columns come from the
axioms in Rust and from herd7, which agree in every row.

| test | payload | orderings | RC11 | C11 | AArch64 | RISC-V | POWER | x86-TSO |
|---|---|---|---|---|---|---|---|---|
";

const FOOTING: &str = "\
Needed by the language only: no processor shows the bad outcome with these, because each
keeps a load before a store that depends on a branch upon it. A compiler need not.";

/// Returns the program, if there is one.
fn herd7() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/herd/herd7");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("herd7"));
    std::iter::once(tools)
        .chain(in_path)
        .find(|path| path.is_file())
}

/// Runs a program of herd7's under one of its models.
fn herd(herd7: &Path, model: &str, folder: &Path, text: &str) -> Verdict {
    let file = folder.join("test.litmus");
    std::fs::write(&file, text).unwrap();
    let output = Command::new(herd7)
        .args(["-model", model])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let observed = said.lines().find(|line| line.starts_with("Observation"));
    let observed = observed.unwrap_or_else(|| panic!("{model}: {said}{errors}\n{text}"));
    if said.lines().any(|line| line == "Undef") {
        Verdict::Race
    } else if observed.contains(" Never ") {
        Verdict::Never
    } else {
        Verdict::Allowed
    }
}

/// The verdicts of one test: the axioms', and those of the machines if herd7 is here.
struct Row {
    test: Test,
    axioms: [Verdict; 2],
    machines: Option<[Verdict; 4]>,
}

impl Row {
    fn shipped(&self) -> bool {
        self.test.mutant.is_none()
    }

    /// The names of the test's columns and the axioms' verdicts.
    fn beginning(&self) -> String {
        let orderings = self.test.mutant.map_or("shipped", |mutant| mutant.name);
        let name = &self.test.program.name;
        let sites = name
            .split("_Plain_")
            .next()
            .unwrap()
            .split("_Words_")
            .next()
            .unwrap();
        let payload = match self.test.payload {
            Payload::Plain => "plain",
            Payload::Words => "words",
        };
        let [rc11, c11] = self.axioms;
        format!("| {sites} | {payload} | {orderings} | {rc11} | {c11} |")
    }
}

fn judged(herd7: Option<&Path>) -> Vec<Row> {
    let folder = tempfile::tempdir().unwrap();
    tests()
        .into_iter()
        .map(|test| {
            let axioms = C_MODELS.map(|(model, buffering)| {
                let verdict = judge(&test.program, buffering);
                if let Some(herd7) = herd7 {
                    let theirs = herd(herd7, model, folder.path(), &test.program.in_c());
                    assert_eq!(verdict, theirs, "{} under {model}", test.program.name);
                }
                verdict
            });
            let machines = herd7.map(|herd7| {
                Machine::ALL.map(|machine| {
                    herd(
                        herd7,
                        machine.model(),
                        folder.path(),
                        &test.program.on(machine),
                    )
                })
            });
            Row {
                test,
                axioms,
                machines,
            }
        })
        .collect()
}

#[test]
fn verdicts_are_as_committed() {
    let herd7 = herd7();
    let rows = judged(herd7.as_deref());
    for row in rows.iter().filter(|row| row.shipped()) {
        let verdicts = row.axioms.iter().chain(row.machines.iter().flatten());
        for verdict in verdicts {
            assert_eq!(*verdict, Verdict::Never, "{}", row.test.program.name);
        }
    }
    let mut table = HEADING.to_string();
    for row in &rows {
        write!(table, "{}", row.beginning()).unwrap();
        for verdict in row.machines.iter().flatten() {
            write!(table, " {verdict} |").unwrap();
        }
        table.push('\n');
    }
    // By the processors alone they could be weaker.
    let by_language: Vec<_> = MUTANTS
        .iter()
        .filter(|mutant| {
            let mut rows = rows.iter().filter(|row| row.test.mutant == Some(mutant));
            rows.all(|row| {
                row.machines
                    .iter()
                    .flatten()
                    .all(|&machine| machine == Verdict::Never)
            })
        })
        .map(|mutant| mutant.name)
        .collect();
    write!(table, "\n{FOOTING}\n\n- {}\n", by_language.join("\n- ")).unwrap();
    if herd7.is_some() && std::env::var_os("MEMENPSF_BLESS").is_some() {
        std::fs::write(VERDICTS, &table).unwrap();
    }
    let committed = std::fs::read_to_string(VERDICTS).unwrap_or_default();
    let verdicts = if herd7.is_some() {
        assert_eq!(
            table, committed,
            "the verdicts have changed: see {VERDICTS}"
        );
        8 * rows.len()
    } else {
        println!("skipped: herd7: verification/tools/herd.sh fetches it; the axioms alone");
        let expected: Vec<_> = committed
            .lines()
            .filter(|line| line.starts_with("| "))
            .collect();
        // The first one names the columns.
        assert_eq!(expected.len(), rows.len() + 1);
        for (row, line) in rows.iter().zip(&expected[1..]) {
            assert!(line.starts_with(&row.beginning()), "{line}");
        }
        2 * rows.len()
    };
    println!(
        "evidence: {verdicts} verdicts on {} programs, as committed",
        rows.len()
    );
}

/// An ordering that nothing shows to be needed would be too strong.
#[test]
fn every_weaker_ordering_is_seen_by_a_model() {
    let rows = judged(None);
    for mutant in MUTANTS {
        let of_mutant = |row: &&Row| row.test.mutant == Some(mutant);
        let seen = |payload: Payload, model: usize| {
            let mut rows = rows.iter().filter(of_mutant);
            rows.any(|row| row.test.payload == payload && row.axioms[model] != Verdict::Never)
        };
        let barrier = mutant.site.ends_with("_BARRIER");
        let head = mutant.site.ends_with("_HEAD");
        let [rc11, c11] = [0, 1];
        assert_eq!(seen(Payload::Plain, rc11), !barrier, "{mutant:?}");
        assert_eq!(seen(Payload::Plain, c11), !barrier, "{mutant:?}");
        // With words, load buffering alone shows that the head's two are needed.
        assert_eq!(seen(Payload::Words, rc11), !head, "{mutant:?}");
        assert!(seen(Payload::Words, c11), "{mutant:?}");
    }
    let killed = MUTANTS.len();
    println!("evidence: {killed} of {killed} weaker orderings seen by the axioms of C11");
}

/// The axioms know the textbook's outcomes.
#[test]
fn axioms_know_the_classics() {
    use memenpsf_verification::litmus::{Holds, Program, Step, Word};
    use std::sync::atomic::Ordering::Relaxed;

    let (x, y) = (Word("x"), Word("y"));
    let side = |load, store| {
        vec![
            Step::Load(0, load, Some(Relaxed)),
            Step::Store(store, 1, Some(Relaxed)),
        ]
    };
    let both = [0, 1].map(|thread| Holds {
        thread,
        register: 0,
        value: 1,
    });
    let load_buffering = Program {
        name: "LB".to_string(),
        threads: vec![side(x, y), side(y, x)],
        bad: vec![both.to_vec()],
    };
    assert_eq!(
        judge(&load_buffering, LoadBuffering::Permitted),
        Verdict::Allowed
    );
    assert_eq!(
        judge(&load_buffering, LoadBuffering::Forbidden),
        Verdict::Never
    );
    // One word only: no model lets a thread read what it has not yet written.
    let coherence = Program {
        name: "CoLB".to_string(),
        threads: vec![side(x, x), side(x, x)],
        bad: vec![both.to_vec()],
    };
    let of_one = judge(&coherence, LoadBuffering::Permitted);
    assert_eq!(of_one, Verdict::Never);
}
