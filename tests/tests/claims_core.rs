//! Claims of the specification about machines of the core, each one test named after it and at its
//! own criterion, on the machines that the manager and WOS use. What takes time there takes it from
//! an injected clock.
//!
//! Others are in `claims.rs`, on the whole program.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test: its helpers fail it too")]

use std::time::Duration;

use allocation_counter::measure;
use duende_core::metrics::{Sample, Series};
use duende_core::policy::breaker::{
    Breaker, BreakerRefusal, BreakerSpec, BreakerState, Outcome as Result,
};
use duende_core::policy::bucket::{RateLimit, TokenBucket};
use duende_core::policy::gate::{Busy, Gate, Offered, Overflow, Place};
use duende_core::recorder::{Recorder, Slot};
use duende_core::time::Instant;
use duende_core::trace::{TraceContext, TraceFlags};
use duende_tests::report;

const MILLION: u64 = 1_000_000;

fn at(time: Duration) -> Instant {
    Instant::ZERO.saturating_add(time)
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn f050_a_traceparent_is_parsed() {
    // The example of the W3C text.
    let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let context = TraceContext::from_traceparent(header).unwrap();
    assert_eq!(context.trace_id.get(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
    assert_eq!(context.span_id.get(), 0x00f0_67aa_0ba9_02b7);
    assert!(context.flags.contains(TraceFlags::SAMPLED));
    // Every prefix of it is malformed, and so is it with any byte replaced by what is no digit.
    let mut refused = 0;
    for end in 0..header.len() {
        assert!(TraceContext::from_traceparent(&header[..end]).is_err(), "{end}");
        let mut bytes = header.as_bytes().to_vec();
        bytes[end] = b'G';
        let spoiled = String::from_utf8(bytes).unwrap();
        assert!(TraceContext::from_traceparent(&spoiled).is_err(), "{spoiled}");
        refused += 2;
    }
    report("F050", &format!("trace and span match; {refused} malformed ones refused"), "match");
}

#[test]
fn f051_a_traceparent_is_generated() {
    let mut entropy = 0x9e37_79b9_7f4a_7c15_u64;
    let mut made = 0;
    for round in 0..1_000_u64 {
        let mut draw = || {
            entropy = entropy.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
            entropy
        };
        let context = TraceContext::root([draw(), draw(), draw()], round % 2 == 0).child(draw());
        let header = context.to_traceparent();
        // The grammar of the specification, looked at by itself.
        let parts: Vec<&str> = header.as_str().split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        assert!(parts.iter().all(|part| part.bytes().all(is_hex)), "{}", header.as_str());
        assert_eq!(parts[0], "00");
        assert!(parts[1..3].iter().all(|part| part.bytes().any(|byte| byte != b'0')));
        assert_eq!(TraceContext::from_traceparent(header.as_str()), Ok(context));
        made += 1;
    }
    report("F051", &format!("{made} of 1000 as version 00 has them, and read back"), "W3C format");
}

#[test]
fn f052_a_ring_buffer_keeps_its_size() {
    const CAPACITY: usize = 1_000;
    let mut series = Series::new(vec![Sample::default(); CAPACITY]);
    let mut recorder = Recorder::new(vec![Slot::EMPTY; CAPACITY]);
    for number in 0..MILLION {
        let sample = Sample { at: Instant::from_ns(number), value: 0 };
        series.push(sample).unwrap();
        recorder.record(sample.at, number);
        assert!(series.len() <= CAPACITY && recorder.len() <= CAPACITY);
    }
    let (length, displaced) = (series.len(), series.displaced());
    report(
        "F052",
        &format!("{length} kept, {displaced} given up"),
        "1M samples: the capacity, 1000",
    );
    assert_eq!((length, displaced), (CAPACITY, MILLION - 1_000));
    assert_eq!((recorder.len(), recorder.displaced()), (CAPACITY, MILLION - 1_000));
    // The last thousand, and no others.
    let expected = MILLION - 1_000..MILLION;
    assert!(series.iter().map(|sample| sample.at.as_ns()).eq(expected.clone()));
    assert!(recorder.iter().map(|record| record.event).eq(expected));
}

#[test]
fn f054_a_ring_buffer_allocates_nothing_once_filled() {
    const CAPACITY: u64 = 1_000;
    let mut series = Series::new(vec![Sample::default(); 1_000]);
    let mut recorder = Recorder::new(vec![Slot::EMPTY; 1_000]);
    let mut push = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            let sample = Sample { at: Instant::from_ns(number), value: 1 };
            let _ = series.push(sample);
            recorder.record(sample.at, number);
        }
    };
    push(0..CAPACITY);
    let found = measure(|| push(CAPACITY..MILLION)).count_total;
    // The counter counts.
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(1_u8)))).count_total, 1);
    report(
        "F054",
        &format!("{found} allocations in 999,000 pushes to two rings"),
        "0 after the fill",
    );
    assert_eq!(found, 0);
}

#[test]
fn f055_a_query_of_the_last_five_minutes_is_complete() {
    // A sample a second for twenty minutes, with a gap, and two at the same instant.
    let times: Vec<u64> = (0..1_200).filter(|second| !(1_000..1_020).contains(second)).collect();
    let mut series = Series::new(vec![Sample::default(); 600]);
    let mut pushed = Vec::new();
    for second in times {
        for _ in 0..=u64::from(second % 100 == 0) {
            let value = i64::try_from(second).unwrap();
            let sample = Sample { at: at(seconds(second)), value };
            series.push(sample).unwrap();
            pushed.push(sample);
        }
    }
    let from = at(seconds(1_199 - 300));
    let found: Vec<Sample> = series.since(from).collect();
    let expected: Vec<Sample> = pushed.into_iter().filter(|sample| sample.at >= from).collect();
    let figure = format!("{} of {} samples of the last 300 s", found.len(), expected.len());
    report("F055", &figure, "all samples in range");
    assert_eq!(found, expected);
    assert_eq!(found.len(), 301 - 20 + 2);
}

#[test]
fn f065_a_breaker_opens_after_its_failures() {
    let spec = BreakerSpec::default();
    let mut breaker = Breaker::new(spec).unwrap();
    for failure in 1..=spec.failure_threshold {
        let permit = breaker.admit(at(seconds(1))).expect("still closed");
        breaker.report(at(seconds(1)), permit, Result::Failure);
        let is_open = matches!(breaker.state(), BreakerState::Open { .. });
        assert_eq!(is_open, failure == spec.failure_threshold, "after {failure}");
    }
    let refused = breaker.admit(at(seconds(1)));
    let until = at(seconds(31));
    assert_eq!(refused, Err(BreakerRefusal::Open { until }));
    report("F065", &format!("Open after {} failures", spec.failure_threshold), "Open");
}

/// A breaker that was opened at the beginning of time.
fn opened() -> Breaker {
    let spec = BreakerSpec { failure_threshold: 1, ..BreakerSpec::default() };
    let mut breaker = Breaker::new(spec).unwrap();
    let permit = breaker.admit(Instant::ZERO).unwrap();
    breaker.report(Instant::ZERO, permit, Result::Failure);
    breaker
}

/// It closes when its probe succeeds after the timeout: on time alone nothing is known to work again.
#[test]
fn f066_a_breaker_closes_after_its_timeout() {
    let mut breaker = opened();
    let timeout = breaker.spec().open_for;
    let before = at(timeout - Duration::from_nanos(1));
    assert!(breaker.admit(before).is_err());
    let probe = breaker.admit(at(timeout)).expect("the timeout is over");
    breaker.report(at(timeout), probe, Result::Success);
    let state = breaker.state();
    report("F066", &format!("after {timeout:?} and a probe: {state:?}"), "Closed");
    assert_eq!(state, BreakerState::Closed { failures: 0 });
}

#[test]
fn f067_a_half_open_breaker_lets_a_test_request_through() {
    let mut breaker = opened();
    let now = at(breaker.spec().open_for);
    let probe = breaker.admit(now);
    assert!(matches!(breaker.state(), BreakerState::HalfOpen { .. }));
    assert!(probe.is_ok());
    let another = breaker.admit(now);
    report("F067", "one request admitted, the next refused until it is answered", "processed");
    assert!(matches!(another, Err(BreakerRefusal::Probing { .. })));
}

#[test]
fn f068_backpressure_rejects_when_the_queue_is_full() {
    let mut gate = Gate::new([Place::EMPTY; 0], 128, Overflow::RejectNew).unwrap();
    for _ in 0..128 {
        assert_eq!(gate.offer(Instant::ZERO, 1, &mut |_| {}), Ok(Offered::Queued));
    }
    assert_eq!(gate.offer(Instant::ZERO, 1, &mut |_| {}), Err(Busy::QueueFull { capacity: 128 }));
    assert_eq!(gate.counts().rejected_total, 1);
    report("F068", "128 queued, the 129th rejected and counted", "rejected");
}

#[test]
fn f069_backpressure_recovers_when_the_queue_drains() {
    let mut gate = Gate::new([Place::EMPTY; 0], 128, Overflow::RejectNew).unwrap();
    let mut rejected = 0;
    while gate.offer(Instant::ZERO, 1, &mut |_| {}).is_ok() {}
    for _ in 0..128 {
        gate.take(Instant::ZERO, &mut |_| {}).unwrap();
        rejected += u32::from(gate.offer(Instant::ZERO, 1, &mut |_| {}).is_err());
        rejected += u32::from(gate.offer(Instant::ZERO, 1, &mut |_| {}).is_ok());
    }
    report("F069", "each place that is drained admits one request, and no more", "accepted");
    assert_eq!(rejected, 0);
}

#[test]
fn f070_a_rate_limit_enforces_its_rate() {
    const RATE: u64 = 100;
    let mut bucket = TokenBucket::new(RateLimit::per_second(RATE), Instant::ZERO).unwrap();
    // Ten times the rate for ten seconds.
    let admitted = (0..10 * 10 * RATE)
        .filter(|call| bucket.admit(at(Duration::from_millis(*call)), 1))
        .count();
    let refused = bucket.refused_total();
    // The burst, and what ten seconds gain but for the last millisecond.
    let figure = format!("{admitted} of 10000 admitted, {refused} rejected");
    report("F070", &figure, "100 per second, 10 s, burst 100: 1099");
    assert_eq!((admitted, refused), (1_099, 10_000 - 1_099));
}
