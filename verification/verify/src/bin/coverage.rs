//! Which share of the lines of some crates their tests run.
//!
//! `cargo run -p memenpsf-verify --bin coverage -- ring=96 fdpass=96` runs the tests
//! of the packages in these folders, built with counters, says for each folder how
//! many of its lines were run, and which were not, and fails below the given
//! percentage. Doctests do not count: the stable compiler does not measure them.
//!
//! The tools are LLVM's, of the version that rustc has: those of the environment
//! (`LLVM_COV`, `LLVM_PROFDATA`), of the toolchain, or of Debian (`llvm-22`).

#![deny(unsafe_code)]

#[cfg(not(loom))]
mod coverage {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::process::{Command, ExitCode, Stdio};

    /// How often each line of each file was run.
    type Lines = BTreeMap<PathBuf, BTreeMap<u32, u64>>;

    /// A folder of the workspace, and the least share of its lines, in percent.
    struct Floor {
        folder: String,
        percent: f64,
    }

    /// LLVM's tools.
    struct Tools {
        cov: PathBuf,
        profdata: PathBuf,
    }

    pub(super) fn run() -> io::Result<ExitCode> {
        let floors = std::env::args()
            .skip(1)
            .map(|argument| {
                let (folder, percent) = argument.split_once('=')?;
                Some(Floor {
                    folder: folder.to_owned(),
                    percent: percent.parse().ok()?,
                })
            })
            .collect::<Option<Vec<_>>>()
            .filter(|floors| !floors.is_empty())
            .ok_or_else(|| io::Error::other("arguments: FOLDER=PERCENT..."))?;
        let version = llvm_version()?;
        let Some(tools) = Tools::find(&version)? else {
            println!("skipped: coverage: no llvm-cov: apt-get install llvm-{version}");
            return Ok(ExitCode::SUCCESS);
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize()?;
        let lines = measure(&root, &floors, &tools)?;
        let mut code = ExitCode::SUCCESS;
        for floor in &floors {
            let source = root.join(&floor.folder).join("src");
            if !report(&root, &source, floor, &lines) {
                code = ExitCode::FAILURE;
            }
        }
        Ok(code)
    }

    /// Says what was run of the files below `source`; `false` if too little was.
    fn report(root: &Path, source: &Path, floor: &Floor, lines: &Lines) -> bool {
        let (mut all, mut run) = (0_u32, 0_u32);
        for (file, lines) in lines.iter().filter(|(file, _)| file.starts_with(source)) {
            let missed: Vec<u32> = (lines.iter())
                .filter_map(|(line, count)| (*count == 0).then_some(*line))
                .collect();
            for count in lines.values() {
                all += 1;
                run += u32::from(*count > 0);
            }
            if !missed.is_empty() {
                let file = file.strip_prefix(root).unwrap_or(file);
                println!("not run: {}: {}", file.display(), ranges(&missed));
            }
        }
        let percent = 100.0 * f64::from(run) / f64::from(all.max(1));
        let Floor {
            folder,
            percent: least,
        } = floor;
        println!(
            "evidence: {run} of {all} lines of {folder} run by tests ({percent:.1} %, floor {least} %)"
        );
        percent >= *least
    }

    /// Writes `1, 2, 3, 7` as `1-3, 7`.
    fn ranges(lines: &[u32]) -> String {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for &line in lines {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == line => *last = line,
                _ => ranges.push((line, line)),
            }
        }
        let words: Vec<_> = (ranges.into_iter())
            .map(|(first, last)| match last - first {
                0 => first.to_string(),
                _ => format!("{first}-{last}"),
            })
            .collect();
        words.join(", ")
    }

    /// Runs the tests and returns how often they ran which line.
    fn measure(root: &Path, floors: &[Floor], tools: &Tools) -> io::Result<Lines> {
        let target = root.join("target/coverage");
        let profiles = target.join("profiles");
        // Those of the last run would count, too.
        match fs::remove_dir_all(&profiles) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&profiles)?;
        let packages = (floors.iter())
            .map(|floor| package(&root.join(&floor.folder)))
            .collect::<io::Result<Vec<_>>>()?;
        let cargo = |arguments: &[&str]| {
            let mut command = Command::new("cargo");
            command
                .args(arguments)
                .arg("--all-features")
                .current_dir(root)
                .env("CARGO_TARGET_DIR", &target)
                .env("RUSTFLAGS", "-Cinstrument-coverage")
                // %m: one file a program and %p: process, for tests have children.
                .env("LLVM_PROFILE_FILE", profiles.join("%m-%p.profraw"));
            for package in &packages {
                command.args(["--package", package]);
            }
            command
        };
        // The examples as the programs that tests start, and not as tests.
        let programs = [
            &["build", "--examples", "--message-format=json"][..],
            &["test", "--tests", "--no-run", "--message-format=json"],
        ];
        let mut objects = BTreeSet::new();
        for arguments in programs {
            let built = said(cargo(arguments).stderr(Stdio::inherit()))?;
            objects.extend(executables(&built)?);
        }
        let status = cargo(&["test", "--tests"]).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("the tests: {status}")));
        }

        let merged = target.join("tests.profdata");
        // A process that is killed leaves a profile that is cut short, or none.
        said(
            Command::new(&tools.profdata)
                .args(["merge", "--sparse", "--failure-mode=all", "--output"])
                .args([&merged, &profiles]),
        )?;
        let mut export = Command::new(&tools.cov);
        export
            .args(["export", "--format=lcov", "--instr-profile"])
            .arg(&merged);
        for object in &objects {
            export.arg("--object").arg(object);
        }
        // What is not of the workspace is nobody's floor.
        export.arg("--ignore-filename-regex=/(registry|rustc|rustlib)/");
        Ok(of_lcov(&said(&mut export)?))
    }

    /// Returns the name of the package in `folder`.
    fn package(folder: &Path) -> io::Result<String> {
        let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
        let name =
            (manifest.lines()).find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        name.map(str::to_owned)
            .ok_or_else(|| io::Error::other(format!("{} is no package", folder.display())))
    }

    /// Returns what a command says that has to succeed.
    fn said(command: &mut Command) -> io::Result<String> {
        let output = command.output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        Err(io::Error::other(output.status.to_string()))
    }

    /// Returns the programs that cargo has built, tests and examples.
    fn executables(messages: &str) -> io::Result<BTreeSet<PathBuf>> {
        let mut programs = BTreeSet::new();
        for message in messages.lines().filter(|line| line.starts_with('{')) {
            let message: serde_json::Value = serde_json::from_str(message)?;
            if let Some(program) = message["executable"].as_str() {
                programs.insert(program.into());
            }
        }
        Ok(programs)
    }

    /// Reads `SF:` (a file) and `DA:` (a line and how often it was run) of a report.
    fn of_lcov(report: &str) -> Lines {
        let mut lines = Lines::new();
        let mut file = PathBuf::new();
        for line in report.lines() {
            if let Some(path) = line.strip_prefix("SF:") {
                file = path.into();
            } else if let Some((number, count)) =
                (line.strip_prefix("DA:")).and_then(|data| data.split_once(','))
                && let (Ok(number), Ok(count)) = (number.parse(), count.parse::<u64>())
            {
                let entry = lines.entry(file.clone()).or_default();
                *entry.entry(number).or_default() += count;
            }
        }
        lines
    }

    fn llvm_version() -> io::Result<String> {
        let rustc = said(Command::new("rustc").arg("-vV"))?;
        let version = rustc
            .lines()
            .find_map(|line| line.strip_prefix("LLVM version: "))
            .and_then(|version| version.split('.').next());
        version
            .map(str::to_owned)
            .ok_or_else(|| io::Error::other("rustc does not say which LLVM it has"))
    }

    impl Tools {
        /// Looks for tools of LLVM's `version`.
        fn find(version: &str) -> io::Result<Option<Self>> {
            if let (Some(cov), Some(profdata)) = (
                std::env::var_os("LLVM_COV"),
                std::env::var_os("LLVM_PROFDATA"),
            ) {
                return Ok(Some(Self {
                    cov: cov.into(),
                    profdata: profdata.into(),
                }));
            }
            let libraries = said(Command::new("rustc").args(["--print", "target-libdir"]))?;
            let libraries = PathBuf::from(libraries.trim());
            let folders = [
                libraries.join("../bin"),
                format!("/usr/lib/llvm-{version}/bin").into(),
            ];
            Ok(folders
                .into_iter()
                .map(|folder| Self {
                    cov: folder.join("llvm-cov"),
                    profdata: folder.join("llvm-profdata"),
                })
                .find(|tools| tools.cov.exists() && tools.profdata.exists()))
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn lines_of_all_programs_are_added() {
            let lines = of_lcov(
                "SF:/a.rs\nDA:1,0\nDA:2,3\nend_of_record\nSF:/b.rs\nDA:1,1\nSF:/a.rs\nDA:1,4\nDA:3,0\n",
            );
            let a = &lines[Path::new("/a.rs")];
            assert_eq!(a.iter().collect::<Vec<_>>(), [(&1, &4), (&2, &3), (&3, &0)]);
            assert_eq!(lines.len(), 2);
        }

        #[test]
        fn share_below_the_floor_is_refused() {
            let lines = of_lcov("SF:/w/ring/src/a.rs\nDA:1,1\nDA:2,0\nDA:3,1\nDA:4,1\n");
            let root = Path::new("/w");
            let source = root.join("ring/src");
            let floor = |percent| Floor {
                folder: "ring".to_owned(),
                percent,
            };
            assert!(report(root, &source, &floor(75.0), &lines));
            assert!(!report(root, &source, &floor(75.1), &lines));
            // Nothing measured is nothing run.
            assert!(!report(root, &source, &floor(1.0), &Lines::new()));
        }

        #[test]
        fn neighbouring_lines_are_joined() {
            assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1-3, 7, 9-10");
        }
    }
}

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    coverage::run().unwrap_or_else(|error| {
        eprintln!("coverage: {error}");
        std::process::ExitCode::FAILURE
    })
}

#[cfg(loom)]
fn main() {}
