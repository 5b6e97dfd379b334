//! Claims whose criterion is a matter of milliseconds: a program of their own, in which one test runs
//! at a time, so that none measures another's load.
//!
//! Those that measure a thousand times need the feature `falsification`.

#![allow(clippy::expect_used, reason = "a test: its helpers fail it too")]

use std::hint::black_box;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use duende_core::metrics::{Sample, Series};
use duende_tests::rows::History;
use duende_tests::{Figures, Fleet, Process, component, linked, report, wait_for};
use rustix::time::{ClockId, clock_gettime};

/// What `flaky` needs.
const LOG: &str = "grant = [\"log\"]\n";
/// Started again at once, for ever: restart limits are lifted where starts are counted.
const AT_ONCE: &str = "[daemon.restart]\npolicy = \"always\"\nbackoff_initial = \"0s\"\n\
                       backoff_max = \"0s\"\nwindow = \"0s\"\n";

/// Waits until no other test runs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed measures no more.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn between(began_us: u64, ended_us: u64) -> Duration {
    Duration::from_micros(ended_us.saturating_sub(began_us))
}

/// How long so many starts of a daemon that ends by itself took: from the end of one incarnation to
/// Running of the next, that is decided, its state loaded, created and its `init` returned.
fn starts(daemon: &str, fleet: &mut Fleet, count: usize) -> Figures {
    (0..count)
        .map(|_| {
            let ended = fleet.next(daemon, "exited");
            let running = fleet.next(daemon, "running");
            assert_eq!(running.incarnation, ended.incarnation + 1);
            between(ended.time_unix_us, running.time_unix_us)
        })
        .collect()
}

#[test]
#[cfg_attr(not(feature = "falsification"), ignore = "1000 starts: cargo xtask falsify")]
fn f001_starts_within_100_ms() {
    let _alone = alone();
    let ends = format!("{LOG}{AT_ONCE}[daemon.config]\nmode = \"exit\"\n");
    for (what, daemon) in
        [("native", linked("d", "flaky", &ends)), ("WOS", component("d", "flaky", &ends))]
    {
        let mut fleet = Fleet::up("f001", &daemon);
        let figures = starts("d", &mut fleet, 1_000);
        figures.assert_under("F001", &format!("start, {what}"), 99, Duration::from_millis(100));
        fleet.down();
    }
}

#[test]
#[cfg_attr(not(feature = "falsification"), ignore = "1000 starts: cargo xtask falsify")]
fn f005_starts_within_50_ms_on_wos() {
    let _alone = alone();
    let ends = format!("{LOG}{AT_ONCE}[daemon.config]\nmode = \"exit\"\n");
    let mut fleet = Fleet::up("f005", &component("d", "flaky", &ends));
    let figures = starts("d", &mut fleet, 1_000);
    let what = "process creation and exec on WOS";
    figures.assert_under("F005", what, 99, Duration::from_millis(50));
    fleet.down();
}

#[test]
fn f007_a_kill_terminates_within_10_ms() {
    // The claim is about one kill. A tenth is left to whatever else the machine does meanwhile.
    let (limit, percent) = (Duration::from_millis(10), 90);
    let _alone = alone();
    let mut fleet = Fleet::up("f007", &linked("d", "flaky", &format!("{LOG}{AT_ONCE}")));
    let kills: Figures = (0..50)
        .map(|_| {
            let incarnation = fleet.next("d", "running").incarnation;
            let pid = fleet.wait_row("d", |row| row.incarnation == incarnation).pid;
            Process::of(pid.expect("it runs")).kill()
        })
        .collect();
    kills.assert_under("F007", "SIGKILL to a native process", percent, limit);
    fleet.down();

    // On WOS: from the decision to kill to the end, in the middle of a slice that never returns.
    let hangs = "grant = [\"log\"]\nslice_budget = \"60s\"\nstop_grace = \"1ms\"\n[daemon.config]\nmode = \"hang\"\n";
    let mut fleet = Fleet::up("f007-wos", &component("d", "flaky", hangs));
    let kills: Figures = (0..50)
        .map(|round| {
            if round > 0 {
                fleet.run(&["start", "d"]).done();
            }
            fleet.next("d", "running");
            fleet.run(&["stop", "d"]).done();
            let killed = fleet
                .next_event(|event| event.is("d", "stopping") && event.detail.contains("killing"));
            let exited = fleet.next("d", "exited");
            between(killed.time_unix_us, exited.time_unix_us)
        })
        .collect();
    kills.assert_under("F007", "kill on WOS, in mid-slice", percent, limit);
    fleet.down();
}

/// What this thread has used of the processor.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[test]
fn f053_a_ring_buffer_takes_the_same_time_for_every_push() {
    const MILLION: u64 = 1_000_000;
    let _alone = alone();
    let pushes = |count: u64| {
        let mut series = Series::new(vec![Sample::default(); 1_000]);
        let began = processor_time();
        for number in 0..count {
            let at = duende_core::time::Instant::from_ns(number);
            let _ = series.push(Sample { at, value: 1 });
            black_box(series.last());
        }
        processor_time().saturating_sub(began)
    };
    // The shortest of many, taken in turn: what else the machine does only adds to it.
    let (mut one, mut two) = (Duration::MAX, Duration::MAX);
    for _ in 0..40 {
        one = one.min(pushes(MILLION));
        two = two.min(pushes(2 * MILLION));
    }
    let ratio = two.as_secs_f64() / one.as_secs_f64();
    let measured = format!("1M pushes {one:.1?}, 2M {two:.1?}: ratio {ratio:.2}");
    // Linear is 2, quadratic 4.
    report("F053", &measured, "2M take 1.5 to 2.5 times as long as 1M");
    assert!((1.5..2.5).contains(&ratio), "{measured}");
}

#[test]
fn f056_metrics_are_sampled_at_their_interval() {
    const SAMPLES: usize = 41;
    let _alone = alone();
    let interval = Duration::from_millis(100);
    let daemons = "metrics_interval = \"100ms\"\n".to_owned()
        + &linked("native", "flaky", LOG)
        + &component("wos", "flaky", LOG);
    let mut fleet = Fleet::up("f056", &daemons);
    for daemon in ["native", "wos"] {
        fleet.wait_state(daemon, "running");
        let history = wait_for("samples", || {
            let history: History = fleet.run(&["history", daemon]).done().json();
            history
                .figures
                .get("memory_bytes")
                .is_some_and(|all| all.len() >= SAMPLES)
                .then_some(history)
        });
        assert_eq!(history.sampling.interval_us, 100_000);
        let samples = &history.figures["memory_bytes"];
        assert!(samples.iter().all(|sample| sample.value >= 4_096.0), "{samples:?}");
        let times: Vec<u64> = samples.iter().map(|sample| sample.time_unix_us).collect();
        let intervals: Figures = times.windows(2).map(|pair| between(pair[0], pair[1])).collect();
        let median = intervals.percentile(50);
        let count = u32::try_from(intervals.count()).unwrap_or(u32::MAX);
        let mean = between(times[0], times[times.len() - 1]) / count;
        let (least, most) = (intervals.percentile(10), intervals.percentile(90));
        let measured = format!(
            "{daemon}, {count} intervals: mean {mean:.1?}, p10 {least:.1?}, p50 {median:.1?}, p90 {most:.1?}"
        );
        report("F056", &measured, "within 10 % of 100ms");
        for actual in [mean, median] {
            let off = actual.abs_diff(interval);
            assert!(off <= interval / 10, "{measured}");
        }
    }
    fleet.down();
}
