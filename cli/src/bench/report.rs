//! The report: a table for people, or one JSON object for programs and for the
//! picture.

use std::fmt::Write;
use std::fs;

use memenpsf_benches::latency::Percentiles;
use memenpsf_benches::placement::Placement;
use serde::{Deserialize, Serialize};

/// What a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Group {
    /// Times that nothing can beat.
    Limits,
    /// Rates that nothing can beat.
    LimitRates,
    /// Round trips of a message.
    RoundTrips,
    /// Round trips between two sides that sleep.
    Asleep,
    /// Messages in one direction.
    Messages,
    /// Numbers over a ring.
    Rings,
    /// Round trips of a number over two rings.
    RingTrips,
}

impl Group {
    /// Tells whether its values are nanoseconds; otherwise they are a rate.
    pub(super) fn is_time(self) -> bool {
        !matches!(self, Self::LimitRates | Self::Messages | Self::Rings)
    }
}

/// The samples of a row.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Returns `None` when there are no samples.
    pub(super) fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        Some(Self {
            min: *samples.first()?,
            median: *samples.get(samples.len() / 2)?,
            max: *samples.last()?,
        })
    }
}

/// One thing that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) group: Group,
    pub(super) name: String,
    /// `awake`, or `asleep` for sides that sleep while they wait.
    pub(super) waits: String,
    /// Whether both processes shared one core.
    pub(super) one_core: bool,
    /// Bytes of a message or a turn; 0 where only time counts.
    pub(super) size: usize,
    /// Most messages a call.
    pub(super) batch: usize,
    /// Nanoseconds, or messages or turns a second; nothing if every sample was
    /// dropped.
    pub(super) value: Option<Spread>,
    /// Median of the samples' ratios to the ping-pongs around each; of those that
    /// sleep, to the futex of the same round.
    pub(super) of_limit: Option<f64>,
    pub(super) samples: u64,
    pub(super) dropped: u64,
    pub(super) latency: Option<Percentiles>,
    /// Of both processes together, a message.
    pub(super) cpu_us: Option<f64>,
    pub(super) sleeps: Option<f64>,
    pub(super) calls: Option<f64>,
}

impl Row {
    fn median(&self) -> Option<f64> {
        self.value.map(|value| value.median)
    }

    /// Returns bytes a second, for rates.
    pub(super) fn bytes_per_second(&self) -> Option<f64> {
        self.median().map(|rate| rate * self.size as f64)
    }
}

/// All that was found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) version: String,
    pub(super) processor: String,
    pub(super) kernel: String,
    pub(super) placement: String,
    pub(super) quick: bool,
    pub(super) optimised: bool,
    /// Nanoseconds of the ping-pongs between the samples.
    pub(super) bracket: Option<Spread>,
    pub(super) rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(
        quick: bool,
        placement: Placement,
        bracket: Option<Spread>,
        rows: Vec<Row>,
    ) -> Self {
        let unknown = || "unknown".to_owned();
        let processor = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            processor: processor.unwrap_or_else(unknown),
            kernel: kernel.map_or_else(unknown, |kernel| kernel.trim().to_owned()),
            placement: placement.to_string(),
            quick,
            optimised: !cfg!(debug_assertions),
            bracket,
            rows,
        }
    }

    /// Returns one JSON object, on one line.
    pub(super) fn json(&self) -> String {
        // A report is numbers and words: nothing that JSON refuses.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Returns the rows of a group.
    pub(super) fn group(&self, group: Group) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.group == group)
    }

    /// Returns the sizes of the messages, in ascending order.
    pub(super) fn sizes(&self) -> Vec<usize> {
        let mut sizes: Vec<_> = self.group(Group::Messages).map(|row| row.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Returns the fastest row of limits in bytes a second whose name begins so.
    fn limit(&self, name: &str) -> Option<f64> {
        let rows = self.group(Group::LimitRates);
        let rows = rows.filter(|row| row.name.starts_with(name));
        rows.filter_map(Row::bytes_per_second)
            .max_by(f64::total_cmp)
    }

    /// Returns the tables.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        self.head(&mut text);
        self.limits(&mut text);
        self.round_trips(&mut text);
        self.messages(&mut text);
        self.rings(&mut text);
        self.foot(&mut text);
        text
    }

    fn head(&self, text: &mut String) {
        let extent = if self.quick { ", a quick run" } else { "" };
        push(text, format_args!("memenpsf {}{extent}", self.version));
        push(
            text,
            format_args!("{}, Linux {}", self.processor, self.kernel),
        );
        push(text, format_args!("two processes on {}", self.placement));
        if !self.optimised {
            push(
                text,
                format_args!("Built without optimisation: the figures mean little."),
            );
        }
    }

    fn limits(&self, text: &mut String) {
        push(
            text,
            format_args!("\n{:<43}{:>9}{:>9}{:>9}", "limits", "median", "min", "max"),
        );
        for row in self.rows.iter() {
            let (scale, unit) = match row.group {
                Group::Limits => (1.0, "ns"),
                Group::LimitRates => (row.size as f64 / 1e9, "GB/s"),
                _ => continue,
            };
            let cells = spread(row.value, scale);
            push(text, format_args!("  {:<41}{cells} {unit}", row.name));
        }
    }

    fn round_trips(&self, text: &mut String) {
        for (title, group, one_core) in [
            ("round trips, awake, us", Group::RoundTrips, false),
            ("round trips, asleep on two cores, us", Group::Asleep, false),
            ("round trips, asleep on one core, us", Group::Asleep, true),
            (
                "round trips of a u64 over rings, us",
                Group::RingTrips,
                false,
            ),
        ] {
            push(
                text,
                format_args!(
                    "\n{title:<38}{:>7}{:>8}{:>8}{:>8}{:>8}{:>8}{:>9}{:>8}{:>7}",
                    "bytes", "median", "p50", "p99", "p99.9", "max", "CPU/msg", "sleeps", "limit"
                ),
            );
            let mut rows: Vec<_> = self
                .group(group)
                .filter(|row| row.one_core == one_core)
                .collect();
            rows.sort_by_key(|row| row.size);
            for row in &rows {
                let median = row.median().map_or_else(dash, |ns| digits(ns / 1e3));
                // A limit is not timed trip by trip.
                let [p50, p99, p999, max] = row.latency.map_or_else(
                    || [(); 4].map(|()| dash()),
                    |p| [p.p50, p.p99, p.p999, p.max].map(|ns| digits(ns as f64 / 1e3)),
                );
                push(
                    text,
                    format_args!(
                        "  {:<36}{:>7}{median:>8}{p50:>8}{p99:>8}{p999:>8}{max:>8}{:>9}{:>8}{:>7}",
                        row.name,
                        row.size,
                        row.cpu_us.map_or_else(dash, digits),
                        row.sleeps
                            .map_or_else(dash, |sleeps| format!("{sleeps:.2}")),
                        row.of_limit.map_or_else(dash, times),
                    ),
                );
            }
        }
    }

    fn messages(&self, text: &mut String) {
        // The rows compose and check their messages, too.
        let limit = self.limit("compose");
        for (title, waits) in [
            ("M messages/s, awake, up to 16 KiB a call", "awake"),
            ("M messages/s, asleep when idle, one a call", "asleep"),
        ] {
            push(
                text,
                format_args!(
                    "\n{title:<43}{:>7}{:>9}{:>9}{:>8}{:>8}{:>9}{:>9}",
                    "bytes", "median", "GB/s", "slower", "limit", "calls/m", "CPU us/m"
                ),
            );
            for size in self.sizes() {
                let rows: Vec<_> = self
                    .group(Group::Messages)
                    .filter(|row| row.size == size && row.waits == waits)
                    .collect();
                let memory = rows.first().and_then(|row| row.median());
                for row in rows {
                    let slower = memory.zip(row.median()).map(|(memory, own)| memory / own);
                    let bytes = row.bytes_per_second();
                    let part = bytes.zip(limit).map(|(own, limit)| own / limit);
                    push(
                        text,
                        format_args!(
                            "  {:<41}{:>7}{:>9}{:>9}{:>8}{:>8}{:>9}{:>9}",
                            row.name,
                            size,
                            row.median().map_or_else(dash, |rate| digits(rate / 1e6)),
                            bytes.map_or_else(dash, |bytes| digits(bytes / 1e9)),
                            slower.map_or_else(dash, times),
                            part.map_or_else(dash, times),
                            row.calls.map_or_else(dash, digits),
                            row.cpu_us.map_or_else(dash, digits),
                        ),
                    );
                }
            }
        }
    }

    fn rings(&self, text: &mut String) {
        let limit = self.limit("fill");
        push(
            text,
            format_args!(
                "\n{:<38}{:>7}{:>9}{:>9}{:>9}{:>8}",
                "M u64/s over rings", "a call", "median", "min", "max", "limit"
            ),
        );
        for row in self.group(Group::Rings) {
            let part = row.bytes_per_second().zip(limit);
            push(
                text,
                format_args!(
                    "  {:<36}{:>7}{}{:>8}",
                    row.name,
                    row.batch,
                    spread(row.value, 1e-6),
                    part.map_or_else(dash, |(own, limit)| times(own / limit)),
                ),
            );
        }
    }

    fn foot(&self, text: &mut String) {
        let samples: u64 = self.rows.iter().map(|row| row.samples).sum();
        let dropped: u64 = self.rows.iter().map(|row| row.dropped).sum();
        push(
            text,
            format_args!(
                "
Medians of samples in rotating order. {samples} samples counted, {dropped} dropped: the raw
ping-pongs before and after them differed by more than 1.3x. median: of round trips
timed by the hundred, as the ping-pongs are; p50 to max: of others, timed one by one,
with two readings of the clock in each. limit: of a round trip, the multiple of those
ping-pongs, sample by sample; of one asleep, of the futex of the same round, where
nine of ten messages of both found their receiver asleep; of a rate, its part of the
fastest compose, copy, check (messages) or fill and sum (rings).
calls/m and CPU: system calls that a transport makes by itself, and processor
time, of both processes together, a message. Every message was checked."
            ),
        );
    }
}

/// Writes a line.
fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = text.write_fmt(line);
    text.push('\n');
}

fn spread(value: Option<Spread>, scale: f64) -> String {
    let cells = value.map(|value| [value.median, value.min, value.max]);
    let cells = cells.map(|cells| cells.map(|cell| digits(cell * scale)));
    let [median, min, max] = cells.unwrap_or_else(|| [dash(), dash(), dash()]);
    format!("{median:>9}{min:>9}{max:>9}")
}

fn dash() -> String {
    "-".to_owned()
}

/// Returns a number with three digits.
pub(super) fn digits(number: f64) -> String {
    let digits = match number {
        _ if number >= 99.95 => 0,
        _ if number >= 9.995 => 1,
        _ if number >= 0.9995 => 2,
        _ => 3,
    };
    format!("{number:.digits$}")
}

fn times(ratio: f64) -> String {
    let digits = if ratio >= 9.995 { 0 } else { 2 };
    format!("{ratio:.digits$}x")
}
