//! What decides about daemons and calls.

use core::time::Duration;
use std::hint::black_box;

use duende_core::lifecycle::{Lifecycle, Step, StopCause, Verdict};
use duende_core::limiter::{Limiter, RestartLimit, Window};
use duende_core::policy::breaker::{Breaker, BreakerSpec, Outcome};
use duende_core::policy::bucket::{RateLimit, TokenBucket};
use duende_core::restart::Exit;
use duende_core::supervise::{DaemonId, Effect, Input, Slot, Spec, Supervisor};
use duende_core::time::Instant;
use duende_policy::CircuitBreaker;
use duende_report::{Rank, Report};

use super::Result;
use super::rounds::{Contender, measure};

const DUENDE: &str = "duende";
const FRAMEWORK: &str = "framework 0.2";

pub(crate) fn measure_in(report: &mut Report) -> Result<()> {
    limiter(report)?;
    breaker(report)?;
    bucket(report)?;
    lifecycle(report);
    supervisor(report)
}

/// A clock that goes on by `step` nanoseconds each time it is read.
fn clock(step_ns: u64) -> impl FnMut() -> Instant {
    let mut now_ns = 0;
    move || {
        now_ns += step_ns;
        Instant::from_ns(black_box(now_ns))
    }
}

fn limiter(report: &mut Report) -> Result<()> {
    const SLIDING: &str = "sliding window (OTP)";
    const FIXED: &str = "fixed window (systemd)";
    let contender = |name: &str, window: Window| -> Result<Contender<'static>> {
        let limit = RestartLimit { intensity: 5, period: Duration::from_secs(60), window };
        let mut limiter = Limiter::new([Instant::ZERO; 5], limit)?;
        // One in 6 s where 5 in 60 s are admitted: half of them are refused.
        let mut now = clock(6_000_000_000);
        Ok(Contender::new(name, move || limiter.admit(now())))
    };
    let contenders = [contender(SLIDING, Window::Sliding)?, contender(FIXED, Window::Fixed)?];
    let mut measured = measure("limiter", "a restart admitted or refused: 5 in 60 s", contenders);
    for name in [SLIDING, FIXED] {
        measured = measured.at_most_ns(name, Rank::P50, 5.0).without_allocations(name);
    }
    report.add(measured);
    Ok(())
}

fn breaker(report: &mut Report) -> Result<()> {
    let mut breaker = Breaker::new(BreakerSpec::default())?;
    let mut now = clock(1_000);
    let ours = Contender::new(DUENDE, move || {
        let now = now();
        if let Ok(permit) = breaker.admit(now) {
            breaker.report(now, permit, black_box(Outcome::Success));
        }
    });
    let framework = CircuitBreaker::new(5, Duration::from_secs(30));
    let theirs = Contender::new(FRAMEWORK, move || {
        if framework.allow() {
            framework.record_success();
        }
    });
    report.add(
        measure("breaker", "a call admitted, and its success reported", [ours, theirs])
            .at_most_ns(DUENDE, Rank::P50, 5.0)
            .ratio_at_most(DUENDE, FRAMEWORK, 1.0)
            .without_allocations(DUENDE),
    );

    let mut breaker = Breaker::new(BreakerSpec::default())?;
    for _ in 0..5 {
        let permit = breaker.admit(Instant::ZERO)?;
        breaker.report(Instant::ZERO, permit, Outcome::Failure);
    }
    let ours = Contender::new(DUENDE, move || breaker.admit(black_box(Instant::ZERO)).is_ok());
    let framework = CircuitBreaker::new(5, Duration::from_secs(3_600));
    for _ in 0..5 {
        framework.record_failure();
    }
    let theirs = Contender::new(FRAMEWORK, move || framework.allow());
    report.add(
        measure("breaker, open", "a call refused", [ours, theirs])
            .at_most_ns(DUENDE, Rank::P50, 5.0)
            .ratio_at_most(DUENDE, FRAMEWORK, 1.0)
            .without_allocations(DUENDE),
    );
    Ok(())
}

fn bucket(report: &mut Report) -> Result<()> {
    let mut bucket = TokenBucket::new(RateLimit::per_second(1_000), Instant::ZERO)?;
    // Twice as fast as tokens come: half of the calls are refused.
    let mut now = clock(500_000);
    let ours = Contender::new(DUENDE, move || bucket.admit(now(), black_box(1)));
    report.add(
        measure("bucket", "a call admitted or refused: 1,000 in 1 s", [ours])
            .at_most_ns(DUENDE, Rank::P50, 5.0)
            .without_allocations(DUENDE),
    );
    Ok(())
}

fn lifecycle(report: &mut Report) {
    let steps = [
        Step::Start,
        Step::Spawn { deadline: Instant::MAX },
        Step::Spawned,
        Step::Ready,
        Step::Exited(Verdict::Retry { until: Instant::ZERO, failure: None }),
        Step::Retry,
        Step::Spawn { deadline: Instant::MAX },
        Step::Ready,
        Step::Stop { deadline: Instant::MAX },
        Step::Exited(Verdict::Stop(StopCause::Operator)),
    ];
    let mut lifecycle = Lifecycle::new(Instant::ZERO);
    let mut now = clock(1_000);
    let mut next = steps.iter().cycle();
    let ours = Contender::new(DUENDE, move || {
        next.next().map(|step| lifecycle.step(now(), *black_box(step)).is_ok())
    });
    report.add(
        measure("lifecycle", "one step, of ten from start to stop", [ours])
            .at_most_ns(DUENDE, Rank::P50, 50.0)
            .without_allocations(DUENDE),
    );
}

/// A daemon of many that crashes, is spawned again after its backoff, and becomes ready: three inputs,
/// of which the tick looks at every daemon.
fn supervisor(report: &mut Report) -> Result<()> {
    let cycle = |daemons: usize| -> Result<Contender<'static>> {
        let mut supervisor = Supervisor::new(vec![Slot::EMPTY; daemons].into_boxed_slice());
        // A day between two crashes: each comes after a stable run.
        let mut now = clock(86_400_000_000_000);
        let mut ids = Vec::new();
        for _ in 0..daemons {
            ids.push(supervisor.add(Spec::default())?);
        }
        let start = now();
        for id in &ids {
            supervisor.handle(start, 0, Input::Start(*id), &mut |_| {})?;
            supervisor.handle(start, 0, Input::Ready { id: *id, incarnation: 1 }, &mut |_| {})?;
        }
        let mut incarnation = 1;
        let id: DaemonId = *ids.first().ok_or("no daemon")?;
        Ok(Contender::new(
            format!("{daemons} daemon{}", if daemons == 1 { "" } else { "s" }),
            move || {
                let mut spawned = None;
                let mut perform = |effect| {
                    if let Effect::Spawn { incarnation, .. } = effect {
                        spawned = Some(incarnation);
                    }
                };
                let crash = Input::Exited { id, incarnation, exit: Exit::Signal(11) };
                let mut all = supervisor.handle(now(), 0, crash, &mut perform).is_ok();
                if let Some(deadline) = supervisor.next_deadline() {
                    all &= supervisor.handle(deadline, 0, Input::Tick, &mut perform).is_ok();
                }
                incarnation = spawned.unwrap_or(incarnation);
                let ready = Input::Ready { id, incarnation };
                all & supervisor.handle(now(), 0, ready, &mut |_| {}).is_ok()
            },
        ))
    };
    report.add(
        measure(
            "supervisor",
            "a crash, the tick that spawns again, and the word that it is ready",
            [cycle(1)?, cycle(100)?, cycle(1_000)?],
        )
        .without_allocations("1 daemon")
        .without_allocations("1000 daemons"),
    );
    Ok(())
}
