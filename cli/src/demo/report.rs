//! The report: a table for people or one JSON object for programs.

use std::fmt::{self, Write};

use memenpsf_benches::latency::Percentiles;
use memenpsf_benches::message::{Counts, Format};
use memenpsf_benches::placement::Placement;
use memenpsf_benches::shared;
use serde::Serialize;

use super::orders::Carrier;
use super::rows::{Manner, Row};

/// All that a demo has found out.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) format: Format,
    pub(super) clients: usize,
    /// Where both sides ran, if they were bound to cores.
    pub(super) placement: Option<Placement>,
    pub(super) counts: Counts,
    /// Shared memory comes first.
    pub(super) rows: &'a [Row],
}

#[derive(Debug, Serialize)]
struct Json<'a> {
    messages: u64,
    lost: u64,
    duplicated: u64,
    out_of_order: u64,
    corrupt: u64,
    clients: usize,
    size: usize,
    cores: Option<[usize; 2]>,
    placement: Option<String>,
    optimised: bool,
    rows: Vec<JsonRow<'a>>,
}

#[derive(Debug, Serialize)]
struct JsonRow<'a> {
    transport: &'a str,
    /// Most messages a call.
    batch: usize,
    /// Whether a side that waits for long sleeps.
    sleeps: bool,
    /// How many messages the figures come from, and how many round trips.
    messages: u64,
    round_trips: u64,
    messages_per_s: f64,
    bytes_per_s: f64,
    rtt_ns: Percentiles,
}

impl Report<'_> {
    /// Returns one JSON object, on one line.
    pub(super) fn json(&self) -> Result<String, serde_json::Error> {
        let rows = self.rows.iter().map(|row| JsonRow {
            transport: json_name(row),
            batch: row.batch,
            sleeps: row.manner == Manner::Single,
            messages: self.both_ways(row.messages()),
            round_trips: row.round_trips() * self.clients as u64,
            messages_per_s: self.messages_per_second(row),
            bytes_per_s: self.bytes_per_second(row),
            rtt_ns: row.percentiles(),
        });
        let mut text = serde_json::to_string(&Json {
            messages: self.counts.received,
            lost: self.counts.lost,
            duplicated: self.counts.duplicated,
            out_of_order: self.counts.out_of_order,
            corrupt: self.counts.corrupt,
            clients: self.clients,
            size: self.format.length(),
            cores: self.placement.map(|placement| placement.cores),
            placement: self.placement.map(|placement| placement.to_string()),
            optimised: !cfg!(debug_assertions),
            rows: rows.collect(),
        })?;
        text.push('\n');
        Ok(text)
    }

    /// Returns the table with all that is to be said about it, at most 80 columns
    /// wide.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write_table(&mut text);
        text
    }

    fn write_table(&self, text: &mut String) -> fmt::Result {
        let clients = match self.clients {
            1 => "1 client".to_owned(),
            clients => format!("{clients} clients"),
        };
        let size = self.format.length();
        writeln!(
            text,
            "{clients}, messages of {size} bytes both ways at once"
        )?;
        match self.placement {
            Some(placement) => writeln!(text, "server and client on {placement}")?,
            None => writeln!(text, "cores chosen by the system")?,
        }
        writeln!(text, "\n{:41}round trip in us", "")?;
        line(
            text,
            "",
            [
                "messages/s",
                "GB/s",
                "slower",
                "p50",
                "p99",
                "p99.9",
                "max",
                "slower",
            ],
        )?;
        for part in self.parts() {
            writeln!(text, "{}", title(part[0].manner))?;
            for row in part {
                self.write_row(text, row, &part[0])?;
            }
        }
        self.write_notes(text)?;
        let Counts {
            received,
            lost,
            duplicated,
            out_of_order,
            corrupt,
        } = self.counts;
        writeln!(
            text,
            "\n{received} messages checked: {lost} lost, {duplicated} duplicated, \
             {out_of_order} out of order, {corrupt} corrupt"
        )
    }

    /// Returns the parts of the table: the rows of one manner, shared memory first.
    fn parts(&self) -> impl Iterator<Item = &[Row]> {
        self.rows.chunk_by(|row, next| row.manner == next.manner)
    }

    fn write_row(&self, text: &mut String, row: &Row, memory: &Row) -> fmt::Result {
        let rate = self.messages_per_second(row);
        let trip = row.percentiles();
        let [mut rate_ratio, mut trip_ratio] = [
            times(self.messages_per_second(memory), rate),
            times(trip.p50 as f64, memory.percentiles().p50 as f64),
        ];
        if std::ptr::eq(row, memory) {
            [rate_ratio, trip_ratio] = [String::new(), String::new()];
        }
        line(
            text,
            &format!("  {}", row.carrier.name()),
            [
                &with_prefix(rate),
                &three_digits(self.bytes_per_second(row) / 1e9),
                &rate_ratio,
                &microseconds(trip.p50),
                &microseconds(trip.p99),
                &microseconds(trip.p999),
                &microseconds(trip.max),
                &trip_ratio,
            ],
        )
    }

    /// Says how the figures came about.
    fn write_notes(&self, text: &mut String) -> fmt::Result {
        let slot = shared::slot(self.format);
        let slots = shared::capacity(slot / size_of::<u64>());
        let [memory, stream] = [Carrier::AwakeMemory, Carrier::Pipe]
            .map(|carrier| self.rows.iter().find(|row| row.carrier == carrier))
            .map(|row| row.map_or(1, |row| row.batch));
        writeln!(
            text,
            "
messages/s counts both ways; slower: than shared memory in the same part.
Rings of {slots} slots of {slot} bytes. Many messages a call: up to {memory} by
xmit_vectored and recv_into, up to {stream} a write. One message a call: xmit and
recv, one write each. A read always takes up to 64 KiB. Never asleep: spins,
then yields. Asleep when idle: shared memory spins up to 40 us before.
The same processes, messages and checks everywhere; messages carried:"
        )?;
        for part in self.parts() {
            let carried = part.iter().map(|row| {
                let count = with_prefix(self.both_ways(row.messages()) as f64);
                format!("{} {}", row.carrier.name(), count.trim_end())
            });
            let carried = carried.collect::<Vec<_>>().join(", ");
            let manner = match part[0].manner {
                Manner::Batched => "many a call",
                Manner::Single => "one a call",
            };
            writeln!(text, "  {manner}: {carried}")?;
        }
        if cfg!(debug_assertions) {
            writeln!(text, "Built without optimisation: the figures mean little.")?;
        }
        Ok(())
    }

    fn both_ways(&self, messages: u64) -> u64 {
        messages * 2 * self.clients as u64
    }

    fn messages_per_second(&self, row: &Row) -> f64 {
        row.messages_per_second(self.clients)
    }

    fn bytes_per_second(&self, row: &Row) -> f64 {
        self.messages_per_second(row) * self.format.length() as f64
    }
}

/// Writes one line of the table.
fn line(text: &mut String, name: &str, cells: [&str; 8]) -> fmt::Result {
    const WIDTHS: [usize; 8] = [11, 7, 7, 8, 7, 7, 8, 8];
    write!(text, "{name:15}")?;
    for (cell, width) in cells.into_iter().zip(WIDTHS) {
        write!(text, "{cell:>width$}")?;
    }
    // No blanks at the end of a line.
    text.truncate(text.trim_end().len());
    writeln!(text)
}

/// Returns what a part of the table is called.
fn title(manner: Manner) -> &'static str {
    match manner {
        Manner::Batched => "many messages a call, never asleep",
        Manner::Single => "one message a call, asleep when idle",
    }
}

/// Returns what a row is called where it stands alone. The plain names are those
/// of the usual way: batches over shared memory, a write for each message.
fn json_name(row: &Row) -> &'static str {
    match (row.carrier, row.manner) {
        (Carrier::Memory, _) => "shared memory, one message a call",
        (Carrier::Pipe, Manner::Batched) => "pipe, batched, never asleep",
        (Carrier::UnixSocket, Manner::Batched) => "unix socket, batched, never asleep",
        (carrier, _) => carrier.name(),
    }
}

/// Returns a number with three digits.
fn three_digits(number: f64) -> String {
    let digits = match number {
        _ if number >= 99.95 => 0,
        _ if number >= 9.995 => 1,
        _ if number >= 0.9995 => 2,
        _ => 3,
    };
    format!("{number:.digits$}")
}

/// Returns a large number with three digits and a prefix.
fn with_prefix(number: f64) -> String {
    let (unit, prefix) = match number {
        _ if number >= 999.5e6 => (1e9, " G"),
        _ if number >= 999.5e3 => (1e6, " M"),
        _ if number >= 999.5 => (1e3, " k"),
        _ => (1.0, "  "),
    };
    three_digits(number / unit) + prefix
}

/// Returns nanoseconds as microseconds.
fn microseconds(nanoseconds: u64) -> String {
    three_digits(nanoseconds as f64 / 1e3)
}

/// Returns how many times `large` is `small`.
fn times(large: f64, small: f64) -> String {
    if small > 0.0 {
        three_digits(large / small) + "x"
    } else {
        "-".to_owned()
    }
}
