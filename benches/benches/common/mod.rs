//! What the benchmarks share: short settings, two threads on two cores, and a
//! clock that starts when both are there.

use std::error::Error;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::Criterion;
use memenpsf_benches::placement::{Placement, choose, pin};

/// Runs a benchmark; says so when it cannot.
pub(crate) fn run(
    benchmark: fn(&mut Criterion) -> Result<(), Box<dyn Error>>,
) -> std::process::ExitCode {
    let mut criterion = short();
    match benchmark(&mut criterion) {
        Ok(()) => {
            criterion.final_summary();
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot measure: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Settings under which a whole `cargo bench` takes about a minute. Criterion's
/// own options (`--measurement-time`, `--sample-size`) make it longer.
fn short() -> Criterion {
    Criterion::default()
        .without_plots()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700))
        .configure_from_args()
}

/// Says once where the two threads run, and binds this one, which is the one that
/// measures.
pub(crate) fn place() -> Option<Placement> {
    let placement = choose().ok().flatten()?;
    eprintln!("both threads on {placement}");
    pin(placement.cores[0]).ok()?;
    Some(placement)
}

/// Runs `theirs` in a thread on the other core and `ours` in this one, and returns
/// how long `ours` took and what both return.
///
/// Each side owns what it works on: two halves that lie in one stack frame would
/// share cache lines.
pub(crate) fn race<T: Send, U>(
    placement: Option<Placement>,
    theirs: impl FnOnce() -> T + Send,
    ours: impl FnOnce() -> U,
) -> (Duration, U, T) {
    let start = Barrier::new(2);
    let start = &start;
    thread::scope(|scope| {
        let other = scope.spawn(move || {
            if let Some(placement) = placement {
                // The core is allowed; if it is gone since, the scheduler chooses.
                let _ = pin(placement.cores[1]);
            }
            start.wait();
            theirs()
        });
        start.wait();
        let clock = Instant::now();
        let outcome = ours();
        let elapsed = clock.elapsed();
        match other.join() {
            Ok(value) => (elapsed, outcome, value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
