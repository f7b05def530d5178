//! A copy of the workspace, in which one defect at a time is.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::table::Defect;

/// The copy: the tracked files as they are in the working tree.
#[derive(Debug)]
pub(crate) struct Copy {
    root: PathBuf,
}

impl Copy {
    /// Copies the workspace at `from` to the folder `to`.
    ///
    /// A file that is there already with the same content stays: what was built from
    /// it need not be built again.
    ///
    /// # Errors
    ///
    /// What the system or git says.
    pub(crate) fn make(from: &Path, to: PathBuf) -> io::Result<Self> {
        let listed = Command::new("git")
            .args(["ls-files", "-z"])
            .current_dir(from)
            .output()?;
        if !listed.status.success() {
            let words = String::from_utf8_lossy(&listed.stderr).into_owned();
            return Err(io::Error::other(words));
        }
        let listed = String::from_utf8_lossy(&listed.stdout);
        let mut wanted = BTreeSet::new();
        for name in listed.split_terminator('\0') {
            let (source, copy) = (from.join(name), to.join(name));
            // Deleted, and not yet committed.
            if !source.exists() {
                continue;
            }
            let bytes = fs::read(&source)?;
            if fs::read(&copy).ok().as_ref() != Some(&bytes) {
                if let Some(folder) = copy.parent() {
                    fs::create_dir_all(folder)?;
                }
                fs::write(&copy, bytes)?;
            }
            wanted.insert(copy);
        }
        remove_others(&to, &wanted)?;
        Ok(Self { root: to })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Calls `act` while `defect` is in the copy; `None` if it does not apply.
    ///
    /// # Errors
    ///
    /// What the system or `act` says. The file is restored first.
    pub(crate) fn with<R>(
        &self,
        defect: &Defect,
        act: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<Option<R>> {
        let path = self.root.join(defect.file);
        let healthy = fs::read_to_string(&path)?;
        let Some(ill) = defect.seed(&healthy) else {
            return Ok(None);
        };
        fs::write(&path, ill)?;
        let result = act();
        // Younger than what was built: cargo builds again.
        fs::write(&path, healthy)?;
        result.map(Some)
    }

    /// Calls `act` while all `defects` are in the copy.
    ///
    /// # Errors
    ///
    /// What the system or `act` says, or the name of one that does not apply, beside
    /// the others. The files are restored first.
    pub(crate) fn with_all<R>(
        &self,
        defects: &[&Defect],
        act: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        let Some((first, others)) = defects.split_first() else {
            return act();
        };
        self.with(first, || self.with_all(others, act))?
            .ok_or_else(|| io::Error::other(format!("{} does not apply", first.name)))
    }
}

/// Removes what an earlier copy had below `folder` and this one has not.
fn remove_others(folder: &Path, wanted: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, wanted)?;
        } else if !wanted.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{self, Kind};

    #[test]
    fn copy_follows_the_tree_and_is_restored() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, to) = (folder.path().join("tree"), folder.path().join("copy"));
        fs::create_dir_all(tree.join("src")).unwrap();
        fs::write(tree.join("src/a.rs"), "one two").unwrap();
        fs::write(tree.join("untracked"), "").unwrap();
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            let status = git.args(arguments).current_dir(&tree).status().unwrap();
            assert!(status.success());
        };
        git(&["init", "--quiet"]);
        git(&["add", "src"]);
        fs::create_dir_all(&to).unwrap();
        fs::write(to.join("stale"), "").unwrap();

        let copy = Copy::make(&tree, to.clone()).unwrap();
        assert!(!to.join("stale").exists() && !to.join("untracked").exists());
        let file = to.join("src/a.rs");
        let defect = |find| Defect {
            name: "A1a",
            removed: "",
            file: "src/a.rs",
            find,
            replacement: "three",
            test: table::test("ring", Kind::Unit, ""),
        };
        let seen = copy.with(&defect("two"), || fs::read_to_string(&file));
        assert_eq!(seen.unwrap().as_deref(), Some("one three"));
        let failed = copy.with(&defect("two"), || Err::<(), _>(io::Error::other("")));
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "one two");
        for ambiguous in ["four", "o"] {
            let seen = copy.with(&defect(ambiguous), || fs::read_to_string(&file));
            assert_eq!(seen.unwrap(), None);
        }
        let (one, two) = (defect("one"), defect("two"));
        let seen = copy.with_all(&[&one, &two], || fs::read_to_string(&file));
        assert_eq!(seen.unwrap(), "three three");
        let twice = copy.with_all(&[&two, &two], || Ok(()));
        assert_eq!(twice.unwrap_err().to_string(), "A1a does not apply");
        assert_eq!(fs::read_to_string(&file).unwrap(), "one two");
    }
}
