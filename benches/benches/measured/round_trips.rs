//! Round trips of a message of 64 bytes between two threads, beside the limit: one
//! cache line that the cores hand to each other.

use std::error::Error;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use memenpsf_benches::latency::Latency;
use memenpsf_benches::message::Format;
use memenpsf_benches::placement::Placement;
use memenpsf_benches::raw;
use memenpsf_benches::transport::{TransportError, Waiting};

use crate::common::{place, race};
use crate::transports::{Kind, Pair};

/// Length of a message in bytes: a cache line.
const LENGTH: usize = 64;

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
        let mut latency = Latency::new();
        ours.ping(count, &mut latency)?;
        Ok::<_, TransportError>(latency)
    };
    let (_, latency, echoed) = race(placement, || theirs.echo(count + 1), ours);
    echoed?;
    let latency = latency?;
    let total = latency.entries().map(|(trip, times)| trip * times);
    Ok(Duration::from_nanos(total.sum()))
}

/// Measures round trips over everything.
pub(crate) fn round_trips(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let placement = place();
    let format = Format::new(LENGTH).ok_or("a length that no message can have")?;
    let mut group = criterion.benchmark_group("round trip of 64 bytes");
    group.bench_function("raw, one cache line", |bench| {
        bench.iter_custom(|count| raw_ping_pong(placement, count));
    });
    for (name, waiting) in [("awake", Waiting::Spin), ("asleep", Waiting::Block)] {
        for kind in Kind::ALL {
            let mut pair = kind.pair(format, waiting)?;
            let mut failure = None;
            group.bench_function(BenchmarkId::new(kind.name(), name), |bench| {
                bench.iter_custom(|count| {
                    ping_pong(placement, &mut pair, count).unwrap_or_else(|error| {
                        failure = Some(error);
                        Duration::from_nanos(count)
                    })
                });
            });
            failure.map_or(Ok(()), Err)?;
        }
    }
    group.finish();
    Ok(())
}
