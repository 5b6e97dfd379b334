//! What is counted, encoded and told.

use std::hint::black_box;

use duende_core::bus::{self, Bus, Received, Seat};
use duende_core::metrics::{Histogram, Precision};
use duende_core::wire::link::{Address, Event};
use duende_core::wire::{Decoder, FRAME_BYTES_MAX, encode};
use duende_report::{Rank, Report};
use tokio::sync::broadcast;

use super::Result;
use super::rounds::{Contender, measure};

const DUENDE: &str = "duende";
const TOKIO: &str = "tokio broadcast";
const HDR: &str = "hdrhistogram";

/// A minute in nanoseconds: the largest value that histograms have a bucket for here.
const VALUE_MAX: u64 = 60_000_000_000;

/// How many listen.
const RECEIVERS: usize = 8;

/// An event as large as a small one of the kernel's.
#[derive(Clone, Copy)]
struct Happened {
    _kind: u64,
    _at_ns: u64,
    number: u64,
}

pub(crate) fn measure_in(report: &mut Report) -> Result<()> {
    histogram(report)?;
    frames(report)?;
    broadcast_on_one_thread(report)
}

/// Values of all magnitudes up to `VALUE_MAX`, like latencies that vary wildly; the same ones again and
/// again, so that making them does not count.
fn values() -> impl FnMut() -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let values: [u64; 1_024] = std::array::from_fn(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 28) >> (state & 31)
    });
    let mut turn = 0;
    move || {
        turn = (turn + 1) % values.len();
        black_box(values[turn])
    }
}

fn histogram(report: &mut Report) -> Result<()> {
    let precision = Precision::default();
    let buckets = vec![0; precision.buckets_for(VALUE_MAX)].into_boxed_slice();
    let mut ours = Histogram::new(buckets, precision);
    // Two digits: within 1 %, where ours is within 1.6 %; three would be within 0.1 %.
    let mut theirs = hdrhistogram::Histogram::<u64>::new_with_bounds(1, VALUE_MAX, 2)?;
    let (mut value, mut same) = (values(), values());
    let only = values();
    report.add(
        measure(
            "histogram",
            "a value recorded; the third row is what taking the values costs",
            [
                Contender::new(DUENDE, move || ours.record(value())),
                Contender::new(HDR, move || theirs.saturating_record(same())),
                Contender::new("values", only),
            ],
        )
        .at_most_ns(DUENDE, Rank::P50, 5.0)
        .ratio_at_most(DUENDE, HDR, 1.0)
        .without_allocations(DUENDE),
    );
    Ok(())
}

fn frames(report: &mut Report) -> Result<()> {
    const ENCODE: &str = "encode";
    const DECODE: &str = "decode";
    let event = Event::Log {
        at: Address::of(7, 3),
        level: duende_core::wire::link::LogLevel::Info,
        text: "GET /index.html 200 in 3.1 ms, 5,120 bytes",
    };
    let mut out = vec![0; FRAME_BYTES_MAX];
    let bytes = encode(&event, &mut out)?;
    let frame: Vec<u8> = out.get(..bytes).ok_or("a frame is longer than its buffer")?.to_vec();
    let mut decoder = Decoder::new(vec![0; FRAME_BYTES_MAX]);
    report.add(
        measure(
            "wire",
            format!("a line of a log in a frame of {bytes} bytes").as_str(),
            [
                Contender::new(ENCODE, move || encode(black_box(&event), &mut out)),
                Contender::new(DECODE, move || {
                    if let Some(spare) = decoder.spare().get_mut(..frame.len()) {
                        spare.copy_from_slice(&frame);
                    }
                    decoder.filled(frame.len());
                    matches!(decoder.next::<Event<'_>>(), Ok(Some(Event::Log { .. })))
                }),
            ],
        )
        .without_allocations(ENCODE)
        .without_allocations(DECODE),
    );
    Ok(())
}

fn broadcast_on_one_thread(report: &mut Report) -> Result<()> {
    let ring = vec![bus::Slot::EMPTY; bus::CAPACITY_DEFAULT].into_boxed_slice();
    let mut ours = Bus::new(0, ring, [Seat::EMPTY; RECEIVERS])?;
    let mut ids = Vec::new();
    for _ in 0..RECEIVERS {
        ids.push(ours.subscribe()?);
    }
    let mut number = 0;
    let duende = Contender::new(DUENDE, move || {
        number += 1;
        ours.publish(Happened { _kind: 1, _at_ns: 2, number });
        let mut sum = 0;
        for id in &ids {
            if let Ok(Some(Received::Event(event))) = ours.receive(*id) {
                sum += event.number;
            }
        }
        sum
    });
    let (sender, _) = broadcast::channel(bus::CAPACITY_DEFAULT);
    let mut receivers: Vec<_> = (0..RECEIVERS).map(|_| sender.subscribe()).collect();
    let mut number = 0;
    let tokio = Contender::new(TOKIO, move || {
        number += 1;
        let _ = sender.send(Happened { _kind: 1, _at_ns: 2, number });
        let mut sum = 0;
        for receiver in &mut receivers {
            if let Ok(event) = receiver.try_recv() {
                sum += event.number;
            }
        }
        sum
    });
    report.add(
        measure("bus", "an event published and received by 8, all on one thread", [duende, tokio])
            .at_most_ns(DUENDE, Rank::P50, 150.0)
            .ratio_at_most(DUENDE, TOKIO, 1.0)
            .without_allocations(DUENDE),
    );
    Ok(())
}
