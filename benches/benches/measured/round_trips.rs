//! Round trips of messages of 8 bytes to 64 KiB between two threads, over every
//! transport, beside the limit: one cache line that the cores hand to each other.

use std::error::Error;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use memenpsf_benches::kind::{Kind, Pair};
use memenpsf_benches::latency::{Laps, Latency};
use memenpsf_benches::message::{Format, SHORTEST};
use memenpsf_benches::placement::Placement;
use memenpsf_benches::raw;
use memenpsf_benches::transport::{TransportError, Waiting};

use crate::common::{place, race};

/// Lengths of messages in bytes.
const LENGTHS: [usize; 4] = [8, 64, 4096, 65_536];

/// Measures `count` turns of both players.
fn raw_ping_pong(placement: Option<Placement>, count: u64) -> Duration {
    let (mut ping, mut pong) = raw::players();
    race(placement, move || pong.play(count), || ping.play(count)).0
}

/// Measures `count` round trips.
fn ping_pong(
    placement: Option<Placement>,
    pair: &mut Pair,
    count: u64,
) -> Result<Duration, TransportError> {
    let [ours, theirs] = pair;
    let ours = || {
        // The first one finds out that the other side is there.
        ours.ping(1, &mut Latency::new())?;
        // No clock in a trip: it would be half of what is measured.
        ours.pace(count, &mut Laps::new())
    };
    let (_, span, echoed) = race(placement, || theirs.echo(count + 1), ours);
    echoed?;
    Ok(Duration::from_nanos(span?.nanoseconds()))
}

/// Measures round trips over everything.
pub(crate) fn round_trips(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let placement = place();
    let mut group = criterion.benchmark_group("round trip");
    group.bench_function("raw, one cache line", |bench| {
        bench.iter_custom(|count| raw_ping_pong(placement, count));
    });
    for length in LENGTHS {
        let format = Format::new(length).ok_or("a length that no message can have")?;
        for kind in Kind::STREAMS {
            let id = BenchmarkId::new(format!("{kind}, awake"), length);
            measure(&mut group, id, placement, kind.pair(format, Waiting::Spin)?)?;
        }
    }
    let format = Format::new(SHORTEST).ok_or("a length that no message can have")?;
    for kind in Kind::STREAMS.into_iter().chain([Kind::EventFd]) {
        let waiting = match kind {
            Kind::Memory | Kind::Bytes => Waiting::Poll,
            _ => Waiting::Block,
        };
        let id = BenchmarkId::new(format!("{kind}, asleep"), SHORTEST);
        measure(&mut group, id, placement, kind.pair(format, waiting)?)?;
    }
    group.finish();
    Ok(())
}

/// Measures round trips between two sides.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    placement: Option<Placement>,
    mut pair: Pair,
) -> Result<(), Box<dyn Error>> {
    let mut failure = None;
    group.bench_function(id, |bench| {
        bench.iter_custom(|count| {
            ping_pong(placement, &mut pair, count).unwrap_or_else(|error| {
                failure = Some(error);
                Duration::from_nanos(count)
            })
        });
    });
    failure.map_or(Ok(()), Err)?;
    if !pair.iter().all(|side| side.counts().is_flawless()) {
        return Err("a message was lost or changed".into());
    }
    Ok(())
}
