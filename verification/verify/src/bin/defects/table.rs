//! The table of seeded defects.
//!
//! A name is the entry of SECURITY.md whose cure is removed, and a letter. `R1` is
//! the promise that what was committed arrives once and untorn.

use std::fmt;

mod fdpass;
mod interface;
mod ring;

/// A cure, and how to remove it.
#[derive(Debug)]
pub(crate) struct Defect {
    pub(crate) name: &'static str,
    /// What is removed, in one line.
    pub(crate) removed: &'static str,
    /// Below the root of the workspace.
    pub(crate) file: &'static str,
    /// Stands in the file exactly once.
    pub(crate) find: &'static str,
    pub(crate) replacement: &'static str,
    /// What has to turn red.
    pub(crate) test: Test,
}

impl Defect {
    /// Returns `text` with the defect, or `None` if it does not apply exactly once.
    pub(crate) fn seed(&self, text: &str) -> Option<String> {
        let (before, after) = text.split_once(self.find)?;
        (!after.contains(self.find)).then(|| [before, self.replacement, after].concat())
    }
}

/// Some tests of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    /// The folder of the package.
    folder: &'static str,
    kind: Kind,
    /// The test's name.
    filter: &'static str,
}

/// Where a test stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// In the named file of the folder `tests`.
    File(&'static str),
    /// Beside the code.
    Unit,
    /// In its documentation.
    Documentation,
}

/// Names the tests of the package in `folder` that have `filter` in their names.
pub(crate) const fn test(folder: &'static str, kind: Kind, filter: &'static str) -> Test {
    Test {
        folder,
        kind,
        filter,
    }
}

impl Test {
    fn target(self) -> String {
        match self.kind {
            Kind::File(name) => format!("--test={name}"),
            Kind::Unit => "--lib".to_owned(),
            Kind::Documentation => "--doc".to_owned(),
        }
    }

    fn package(self) -> String {
        match self.folder {
            "interface" => "--package=memenpsf".to_owned(),
            folder => format!("--package=memenpsf-{folder}"),
        }
    }

    /// Returns cargo's arguments that build the test.
    pub(crate) fn build(self) -> Vec<String> {
        match self.kind {
            // Built one by one while they run.
            Kind::Documentation => vec!["build".to_owned(), self.package()],
            _ => vec![
                "test".to_owned(),
                self.package(),
                self.target(),
                "--no-run".to_owned(),
            ],
        }
    }

    /// Returns cargo's arguments that run the test.
    pub(crate) fn run(self) -> Vec<String> {
        vec![
            "test".to_owned(),
            self.package(),
            self.target(),
            "--".to_owned(),
            self.filter.to_owned(),
        ]
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cargo {}", self.run().join(" "))
    }
}

/// Returns all defects.
pub(crate) fn all() -> impl Iterator<Item = &'static Defect> {
    [ring::DEFECTS, fdpass::DEFECTS, interface::DEFECTS]
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// The entries of the table that names the cure of each.
    fn entries(security: &str) -> BTreeSet<&str> {
        security
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split_once(" |"))
            .map(|(first, _)| first)
            .filter(|first| first.len() == 2 && first.ends_with(|c: char| c.is_ascii_digit()))
            .collect()
    }

    /// The files of modules that lie elsewhere than their names say.
    fn paths(source: &str) -> impl Iterator<Item = &str> {
        source
            .lines()
            .filter_map(|line| line.strip_prefix("#[path = \"")?.strip_suffix("\"]"))
    }

    /// A change of the source changes the table with it.
    #[test]
    fn every_defect_applies_and_its_test_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
        let security = read("SECURITY.md");
        let entries = entries(&security);
        assert_eq!(entries.len(), 31);
        let mut names = BTreeSet::new();
        for defect in all() {
            let name = defect.name;
            assert!(names.insert(name), "{name} stands twice");
            let entry = &name[..2];
            assert!(entry == "R1" || entries.contains(entry), "{name}");
            assert!(defect.seed(&read(defect.file)).is_some(), "{name}");
            if let Kind::File(file) = defect.test.kind {
                let folder = format!("{}/tests", defect.test.folder);
                let mut tests = read(&format!("{folder}/{file}.rs"));
                // With the tests that it shares with other files.
                let shared: String = paths(&tests)
                    .map(|path| read(&format!("{folder}/{path}")))
                    .collect();
                tests += &shared;
                let test = format!("fn {}(", defect.test.filter);
                assert!(tests.contains(&test), "{name}: {test}");
            }
        }
        // What SECURITY.md says there is.
        for name in security.split(|c: char| !c.is_alphanumeric()) {
            let mut letters = name.chars();
            let is_name = letters.next().is_some_and(|c| "ABCDEFGR".contains(c))
                && letters.next().is_some_and(|c| c.is_ascii_digit())
                && letters.next().is_some_and(|c| c.is_ascii_lowercase())
                && letters.next().is_none();
            assert!(!is_name || names.contains(name), "SECURITY.md: {name}");
        }
        println!("evidence: {} seeded defects fit the source", names.len());
    }
}
