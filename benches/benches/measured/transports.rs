//! Streams of messages in one direction between two threads: shared memory beside
//! pipes, Unix sockets and TCP, one message a call and many.

use std::error::Error;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use memenpsf_benches::kind::{Kind, Pair};
use memenpsf_benches::message::Format;
use memenpsf_benches::placement::Placement;
use memenpsf_benches::transport::{TransportError, Waiting};

use crate::common::{place, race};

/// Lengths of messages in bytes.
const LENGTHS: [usize; 5] = [8, 64, 1024, 4096, 65_536];

/// Bytes of messages a call, where a call takes many.
const BATCH: usize = 16 * 1024;

/// Measures `count` messages from the other side to this one.
fn stream(
    placement: Option<Placement>,
    pair: &mut Pair,
    count: u64,
    batch: usize,
) -> Result<Duration, TransportError> {
    let [ours, theirs] = pair;
    // The first message each way finds out that both sides are there.
    let ours = || {
        ours.stream(1, 1, 1)?;
        ours.stream(0, count, batch)
    };
    let theirs = || {
        theirs.stream(1, 1, 1)?;
        theirs.stream(count, 0, batch)
    };
    let (_, received, sent) = race(placement, theirs, ours);
    sent?;
    Ok(Duration::from_nanos(received?.nanoseconds()))
}

/// Measures all transports at all lengths.
pub(crate) fn transports(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let placement = place();
    for (manner, waiting) in [
        ("many a call, awake", Waiting::Spin),
        ("one a call, asleep when idle", Waiting::Poll),
    ] {
        for length in LENGTHS {
            let format = Format::new(length).ok_or("a length that no message can have")?;
            let batch = match waiting {
                Waiting::Spin => (BATCH / length).max(1),
                _ => 1,
            };
            let mut group = criterion.benchmark_group(format!("messages, {manner}"));
            group.throughput(Throughput::Bytes(length as u64));
            for kind in Kind::STREAMS {
                let mut pair = kind.pair(format, waiting)?;
                let mut failure = None;
                group.bench_function(BenchmarkId::new(kind.name(), length), |bench| {
                    bench.iter_custom(|count| {
                        stream(placement, &mut pair, count, batch).unwrap_or_else(|error| {
                            failure = Some(error);
                            Duration::from_nanos(count)
                        })
                    });
                });
                failure.map_or(Ok(()), Err)?;
                if !pair.iter().all(|side| side.counts().is_flawless()) {
                    return Err(format!("{} lost or changed messages", kind.name()).into());
                }
            }
            group.finish();
        }
    }
    Ok(())
}
