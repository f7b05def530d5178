//! Runs every fuzz target of fuzz/ for the given number of seconds, as many at a time as
//! there are processors.
//!
//! `cargo run -p memenpsf-verify --bin fuzz -- 20`

#![deny(unsafe_code)]

#[cfg(not(loom))]
mod fuzz {
    use std::io;
    use std::path::Path;
    use std::process::{Command, ExitCode};
    use std::sync::{Mutex, PoisonError};
    use std::thread;

    /// An input that takes longer than these seconds hangs.
    const TIMEOUT: &str = "-timeout=10";

    fn cargo_fuzz(arguments: &[&str]) -> io::Result<std::process::Output> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
        Command::new("cargo")
            .args(["+nightly", "fuzz"])
            .args(arguments)
            .current_dir(folder)
            // Those of the caller are for another toolchain.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_TARGET_DIR")
            .output()
    }

    /// Returns how many inputs a run of libFuzzer has tried, of its last words.
    fn inputs(output: &str) -> Option<u64> {
        let (_, done) = output.rsplit_once("Done ")?;
        done.split_once(" runs in ")?.0.parse().ok()
    }

    pub(super) fn run() -> io::Result<ExitCode> {
        let seconds = match std::env::args().nth(1).map(|text| text.parse::<u32>()) {
            Some(Ok(seconds)) if seconds > 0 => seconds,
            _ => return Err(io::Error::other("how many seconds for each target?")),
        };
        let listed = cargo_fuzz(&["list"])?;
        let targets = String::from_utf8_lossy(&listed.stdout);
        if targets.trim().is_empty() {
            eprint!("{}", String::from_utf8_lossy(&listed.stderr));
            return Err(io::Error::other("cargo fuzz lists no targets"));
        }
        // All at once: each run would wait for the build of the one before.
        let built = cargo_fuzz(&["build"])?;
        if !built.status.success() {
            eprint!("{}", String::from_utf8_lossy(&built.stderr));
            return Err(io::Error::other("the fuzz targets do not build"));
        }
        let left = Mutex::new(targets.lines());
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || -> io::Result<bool> {
            let mut sound = true;
            while let Some(target) = next() {
                sound &= fuzz(target, seconds)?;
            }
            Ok(sound)
        };
        let workers = thread::available_parallelism()?.get();
        let sound = thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let done = workers.into_iter().map(|worker| {
                let lost = |_| Err(io::Error::other("a worker panicked"));
                worker.join().unwrap_or_else(lost)
            });
            done.collect::<io::Result<Vec<bool>>>()
        })?;
        Ok(match sound.into_iter().all(|sound| sound) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    /// Runs one target, and tells whether it found nothing.
    fn fuzz(target: &str, seconds: u32) -> io::Result<bool> {
        let limit = format!("-max_total_time={seconds}");
        let run = cargo_fuzz(&["run", target, "--", &limit, TIMEOUT])?;
        let output = String::from_utf8_lossy(&run.stderr);
        match inputs(&output) {
            Some(inputs) if run.status.success() => {
                println!("evidence: {inputs} inputs, fuzz target {target}");
                Ok(true)
            }
            _ => {
                eprintln!("{output}\nfuzz target {target}: {}", run.status);
                Ok(false)
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::inputs;

        #[test]
        fn last_words_of_a_run_have_the_count() {
            assert_eq!(
                inputs("#2 INITED\nDone 1234 runs in 21 second(s)\n"),
                Some(1234)
            );
            assert_eq!(inputs("==1== ERROR: libFuzzer: deadly signal\n"), None);
        }
    }
}

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    fuzz::run().unwrap_or_else(|error| {
        eprintln!("fuzz: {error}");
        std::process::ExitCode::FAILURE
    })
}

#[cfg(loom)]
fn main() {}
