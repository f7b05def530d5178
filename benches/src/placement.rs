//! On which cores the two sides run, and how near these are to each other:
//! without that, no figure about two cores means anything.

use std::fmt;
use std::fs;
use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// How near two cores are to each other, by what they share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Distance {
    /// They are one core.
    Same,
    /// They are two threads of one physical core.
    SmtPair,
    /// They share the last-level cache.
    SharedCache,
    /// They share nothing but memory.
    Across,
    /// The system does not say.
    Unknown,
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "one core",
            Self::SmtPair => "two threads of one core",
            Self::SharedCache => "same last-level cache",
            Self::Across => "no shared cache",
            Self::Unknown => "distance unknown",
        })
    }
}

/// Two cores, and how near they are.
///
/// ```
/// use memenpsf_benches::placement::{Distance, Placement};
///
/// let placement = Placement { cores: [0, 1], distance: Distance::SharedCache };
/// assert_eq!(placement.to_string(), "cores 0 and 1 (same last-level cache)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The cores of the two sides.
    pub cores: [usize; 2],
    /// How near they are.
    pub distance: Distance,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.cores;
        write!(f, "cores {first} and {second} ({})", self.distance)
    }
}

/// Returns the cores on which this thread may run, in ascending order.
///
/// # Errors
///
/// What the system says.
///
/// ```
/// assert!(!memenpsf_benches::placement::allowed_cores()?.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count())
        .filter(|&core| set.is_set(core) == Ok(true))
        .collect())
}

/// Binds this thread to one core.
///
/// # Errors
///
/// What the system says, for instance when the core is not there.
///
/// ```
/// use memenpsf_benches::placement::{allowed_cores, pin};
///
/// std::thread::spawn(|| {
///     let core = allowed_cores()?[0];
///     pin(core)?;
///     assert_eq!(allowed_cores()?, [core]);
///     std::io::Result::Ok(())
/// })
/// .join()
/// .unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Chooses two cores for two sides that talk to each other: of those that are
/// allowed, the first, and the nearest that is not a thread of the same physical
/// core. `None` when only one is allowed.
///
/// # Errors
///
/// What the system says.
pub fn choose() -> io::Result<Option<Placement>> {
    let cores = allowed_cores()?;
    let Some((&first, others)) = cores.split_first() else {
        return Ok(None);
    };
    let with = |&second: &usize| Placement {
        cores: [first, second],
        distance: distance(first, second),
    };
    // A thread of the same core shares the first's execution units, so it
    // comes last, though it is nearest.
    let rank = |placement: &Placement| match placement.distance {
        Distance::SharedCache => 0,
        Distance::Unknown => 1,
        Distance::Across => 2,
        Distance::SmtPair | Distance::Same => 3,
    };
    Ok(others.iter().map(with).min_by_key(rank))
}

/// Returns how near two cores are to each other, as far as sysfs says.
///
/// ```
/// use memenpsf_benches::placement::{Distance, distance};
///
/// assert_eq!(distance(0, 0), Distance::Same);
/// ```
pub fn distance(first: usize, second: usize) -> Distance {
    if first == second {
        return Distance::Same;
    }
    let base = format!("/sys/devices/system/cpu/cpu{first}");
    let Some(siblings) = cores_in(&format!("{base}/topology/thread_siblings_list")) else {
        return Distance::Unknown;
    };
    if siblings.contains(&second) {
        return Distance::SmtPair;
    }
    // The last index is the last level.
    let sharers = (0..8)
        .rev()
        .find_map(|index| cores_in(&format!("{base}/cache/index{index}/shared_cpu_list")));
    match sharers {
        Some(sharers) if sharers.contains(&second) => Distance::SharedCache,
        Some(_) => Distance::Across,
        None => Distance::Unknown,
    }
}

/// Reads a list of cores such as `0-3,8`; `None` when it is not there or is none.
fn cores_in(path: &str) -> Option<Vec<usize>> {
    parse_list(fs::read_to_string(path).ok()?.trim())
}

fn parse_list(list: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(parse_list("0"), Some(vec![0]));
        assert_eq!(parse_list("0-2,8,10-11"), Some(vec![0, 1, 2, 8, 10, 11]));
        assert_eq!(parse_list(""), None);
        assert_eq!(parse_list("x-1"), None);
    }
}
