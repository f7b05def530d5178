//! Distributions of latencies, and what a turn takes without a clock in it.

use std::time::Instant;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Highest latency that is told from a higher one: a minute.
const HIGHEST: u64 = 60_000_000_000;
/// Decimal digits that are kept of a latency.
const DIGITS: u8 = 3;

/// A distribution of latencies in nanoseconds, with three digits each.
#[derive(Debug, Clone)]
pub struct Latency(Option<Histogram<u64>>);

/// The figures of a distribution that are reported, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of all took no longer.
    pub p50: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
    /// 999 of 1000 took no longer.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    /// Returns an empty distribution, with all the memory it will need.
    pub fn new() -> Self {
        // It fails only for bounds or digits that are out of range, and these
        // constants are not.
        Self(Histogram::new_with_bounds(1, HIGHEST, DIGITS).ok())
    }

    /// Adds one latency.
    #[inline]
    pub fn record(&mut self, nanoseconds: u64) {
        self.record_times(nanoseconds, 1);
    }

    /// Adds one latency `times` times.
    #[inline]
    pub fn record_times(&mut self, nanoseconds: u64, times: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record_n(nanoseconds, times);
        }
    }

    /// Returns how many latencies there are.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// Adds all latencies of `other`.
    ///
    /// ```
    /// use memenpsf_benches::latency::Latency;
    ///
    /// let (mut all, mut more) = (Latency::new(), Latency::new());
    /// all.record(100);
    /// more.record(300);
    /// all.merge(&more);
    /// assert_eq!(all.count(), 2);
    /// assert_eq!(all.percentiles().max, 300);
    /// ```
    pub fn merge(&mut self, other: &Self) {
        for (nanoseconds, times) in other.entries() {
            self.record_times(nanoseconds, times);
        }
    }

    /// Returns the figures to report; zeros when it is empty.
    pub fn percentiles(&self) -> Percentiles {
        let at = |percentile| {
            self.0
                .as_ref()
                .map_or(0, |histogram| histogram.value_at_percentile(percentile))
        };
        Percentiles {
            p50: at(50.0),
            p99: at(99.0),
            p999: at(99.9),
            max: at(100.0),
        }
    }

    /// Returns each latency that occurs and how often, for another process to
    /// [`collect`](FromIterator) again.
    pub fn entries(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0
            .iter()
            .flat_map(Histogram::iter_recorded)
            .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<(u64, u64)> for Latency {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(entries: I) -> Self {
        let mut latency = Self::new();
        for (nanoseconds, times) in entries {
            latency.record_times(nanoseconds, times);
        }
        latency
    }
}

/// Turns of a lap: reading the clock, some 25 ns, adds a quarter of a nanosecond
/// to each.
pub const LAP: u32 = 100;

/// Times turns by the hundred. A [`Latency`] reads the clock twice in each turn,
/// which costs as much as half a hand-over of a cache line.
///
/// ```
/// use memenpsf_benches::latency::{LAP, Laps};
///
/// let mut laps = Laps::new();
/// laps.begin();
/// assert_eq!(laps.median(), None);
/// for _ in 0..LAP {
///     laps.turn();
/// }
/// assert!(laps.median().is_some());
/// ```
#[derive(Debug, Clone)]
pub struct Laps {
    since: Instant,
    left: u32,
    laps: Vec<f64>,
}

impl Laps {
    /// Returns none yet.
    pub fn new() -> Self {
        Self {
            since: Instant::now(),
            left: LAP,
            laps: Vec::new(),
        }
    }

    /// Begins the first lap now.
    pub fn begin(&mut self) {
        self.since = Instant::now();
        self.left = LAP;
    }

    /// Counts a turn.
    #[inline]
    pub fn turn(&mut self) {
        self.left -= 1;
        if self.left == 0 {
            let now = Instant::now();
            let lap = now.duration_since(self.since).as_nanos() as f64;
            self.laps.push(lap / f64::from(LAP));
            (self.since, self.left) = (now, LAP);
        }
    }

    /// Returns the median of all laps, in nanoseconds a turn; `None` before the
    /// first is over.
    pub fn median(&self) -> Option<f64> {
        let mut laps = self.laps.clone();
        laps.sort_by(f64::total_cmp);
        laps.get(laps.len() / 2).copied()
    }
}

impl Default for Laps {
    fn default() -> Self {
        Self::new()
    }
}
