//! The picture: latency percentiles by transport, and throughput by size, as SVG
//! that is written here: two panels of lines need no library.
//!
//! The colours are those of Okabe and Ito, which colour-blind people can tell
//! apart; lines are labelled where they end, so that no legend is needed.

use std::fmt::Write;

use super::report::{Group, Report, Row, digits};

const WIDTH: f64 = 1220.0;
const HEIGHT: f64 = 560.0;
/// Top and bottom of both panels.
const PANEL: [f64; 2] = [110.0, 470.0];

/// Size of the messages whose latency is shown.
const LATENCY_SIZE: usize = 64;

/// What the picture calls the transports, and their colours.
const KINDS: [(&str, &str); 6] = [
    ("shared memory", "#0072b2"),
    ("shared memory, bytes", "#56b4e9"),
    ("pipe", "#d55e00"),
    ("unix stream", "#009e73"),
    ("unix seqpacket", "#cc79a7"),
    ("tcp loopback", "#806000"),
];

/// A logarithmic axis over a range of the picture.
struct Axis {
    from: f64,
    to: f64,
    low: f64,
    high: f64,
}

impl Axis {
    /// Covers all of `values`, to whole powers of `base`.
    fn over(values: impl Iterator<Item = f64>, base: f64, from: f64, to: f64) -> Self {
        let logs = values
            .filter(|&value| value > 0.0)
            .map(|value| value.log(base));
        let (low, high) = logs.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        // A little is allowed to lie beyond the last power, so that round sizes do.
        let [low, high] = [(low + 1e-9).floor(), (high - 1e-9).ceil()];
        Self {
            from,
            to,
            low: base.powf(low),
            high: base.powf(high.max(low + 1.0)),
        }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        self.from + part * (self.to - self.from)
    }

    /// Returns the powers of ten on it.
    fn decades(&self) -> impl Iterator<Item = f64> {
        let (low, high) = (self.low, self.high);
        (-12..13)
            .map(|exponent| 10_f64.powi(exponent))
            .filter(move |&value| value >= low * 0.999 && value <= high * 1.001)
    }
}

/// Returns the picture.
pub(super) fn svg(report: &Report) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" font-size=\"14\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    text(
        &mut svg,
        40.0,
        34.0,
        "size20",
        "start",
        "memenpsf between two processes",
    );
    let place = format!("{}, {}", report.processor, report.placement);
    text(&mut svg, 40.0, 56.0, "grey", "start", &place);
    latencies(&mut svg, report);
    throughput(&mut svg, report);
    let bracket = report.bracket.map_or_else(String::new, |bracket| {
        format!(" {} ns", digits(bracket.median))
    });
    let foot = format!(
        "Never asleep. Left: dots are p50, p99, p99.9 and max; the line is the raw ping-pong on one \
         cache line{bracket}. Right: up to 16 KiB of messages a call."
    );
    text(&mut svg, 40.0, HEIGHT - 22.0, "grey", "start", &foot);
    svg.push_str("</svg>\n");
    svg
}

/// Draws the percentiles of each transport as dots on a line.
fn latencies(svg: &mut String, report: &Report) {
    let rows: Vec<_> = KINDS
        .iter()
        .filter_map(|&(name, colour)| {
            let row = report
                .group(Group::RoundTrips)
                .find(|row| row.name == name && row.size == LATENCY_SIZE)?;
            Some((name, colour, row.latency?))
        })
        .collect();
    let bracket = report.bracket.map(|bracket| bracket.median);
    let values = rows
        .iter()
        .flat_map(|(_, _, p)| [p.p50, p.p99, p.p999, p.max])
        .map(|value| value as f64)
        .chain(bracket);
    let axis = Axis::over(values, 10.0, 210.0, 560.0);
    let title = format!("Round trip of {LATENCY_SIZE} bytes");
    text(svg, 40.0, 92.0, "bold", "start", &title);
    for value in axis.decades() {
        let x = axis.at(value);
        line(svg, [x, PANEL[0]], [x, PANEL[1]], "#ddd", 1.0);
        text(svg, x, PANEL[1] + 20.0, "", "middle", &time(value));
    }
    if let Some(bracket) = bracket {
        let x = axis.at(bracket);
        line(svg, [x, PANEL[0]], [x, PANEL[1]], "#222", 1.5);
    }
    let step = (PANEL[1] - PANEL[0]) / rows.len().max(1) as f64;
    for (place, (name, colour, p)) in rows.into_iter().enumerate() {
        let y = PANEL[0] + step * (place as f64 + 0.5);
        text(svg, 198.0, y + 5.0, "", "end", name);
        let points = [p.p50, p.p99, p.p999, p.max].map(|value| axis.at(value as f64));
        line(svg, [points[0], y], [points[3], y], colour, 3.0);
        for (x, radius) in points.into_iter().zip([8.0, 6.0, 5.0, 4.0]) {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\" \
                 stroke=\"#fff\" stroke-width=\"1.5\"/>"
            );
        }
        let label = format!("p50 {}", time(p.p50 as f64));
        // To the right of the ping-pong's line, which no round trip comes before.
        text(svg, points[0] - 8.0, y - 14.0, "small", "start", &label);
    }
}

/// Draws bytes a second by size, one line a transport.
fn throughput(svg: &mut String, report: &Report) {
    let rows_of = |name: &str| {
        let name = name.to_owned();
        let rows = report.group(Group::Messages);
        rows.filter(move |row| row.name == name && row.waits == "awake")
    };
    let all = || KINDS.iter().flat_map(|(name, _)| rows_of(name));
    let sizes = report.sizes().into_iter().map(|size| size as f64);
    let across = Axis::over(sizes, 2.0, 660.0, 1030.0);
    let rates = all().filter_map(Row::bytes_per_second);
    let up = Axis::over(rates, 10.0, PANEL[1], PANEL[0]);
    text(
        svg,
        610.0,
        92.0,
        "bold",
        "start",
        "Throughput by size of a message",
    );
    for value in up.decades() {
        let y = up.at(value);
        line(svg, [across.from, y], [across.to, y], "#ddd", 1.0);
        text(svg, across.from - 8.0, y + 5.0, "", "end", &rate(value));
    }
    for size in report.sizes() {
        let x = across.at(size as f64);
        line(svg, [x, PANEL[1]], [x, PANEL[1] + 5.0], "#888", 1.0);
        text(svg, x, PANEL[1] + 20.0, "", "middle", &bytes(size));
    }
    let mut ends = Vec::new();
    for (name, colour) in KINDS {
        let mut points: Vec<_> = rows_of(name)
            .filter_map(|row| Some((across.at(row.size as f64), up.at(row.bytes_per_second()?))))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let path: Vec<_> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"/>",
            path.join(" ")
        );
        for (x, y) in &points {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"
            );
        }
        if let Some(&(x, y)) = points.last() {
            ends.push((x, y, name, colour));
        }
    }
    // Labels keep a line's height between each other.
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut free = f64::MIN;
    for (x, y, name, colour) in ends {
        let label = y.max(free);
        free = label + 17.0;
        line(svg, [x + 5.0, y], [x + 13.0, label], colour, 1.0);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            x + 16.0,
            label + 5.0
        );
    }
}

fn line(svg: &mut String, from: [f64; 2], to: [f64; 2], colour: &str, width: f64) {
    let ([x1, y1], [x2, y2]) = (from, to);
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
         stroke-width=\"{width}\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, style: &str, anchor: &str, words: &str) {
    let style = match style {
        "size20" => "font-size=\"20\" font-weight=\"bold\"",
        "bold" => "font-weight=\"bold\"",
        "grey" => "font-size=\"13\" fill=\"#555\"",
        "small" => "font-size=\"12\"",
        _ => "",
    };
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {style}>{words}</text>"
    );
}

/// Returns nanoseconds in a unit that suits them.
fn time(nanoseconds: f64) -> String {
    scaled(
        nanoseconds,
        &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")],
    )
}

/// Returns bytes a second in a unit that suits them.
fn rate(bytes: f64) -> String {
    scaled(
        bytes,
        &[(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")],
    )
}

fn bytes(size: usize) -> String {
    match size {
        0..1024 => format!("{size} B"),
        _ => format!("{} KiB", size / 1024),
    }
}

fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let unit = units.iter().find(|(unit, _)| value >= unit * 0.9995);
    let (unit, name) = unit.copied().unwrap_or((1.0, ""));
    let value = value / unit;
    let digits = usize::from(value < 9.95 && (value - value.round()).abs() > 0.005);
    format!("{value:.digits$} {name}")
}
