//! The breaker against a model, and its edges.

use core::time::Duration;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn ns(length: u64) -> Duration {
    Duration::from_nanos(length)
}

/// The rules once more, told every nanosecond that passes and keeping each call by itself.
struct Naive {
    spec: BreakerSpec,
    now: u64,
    opened_at: Option<u64>,
    failures_in_a_row: u32,
    /// Of the half-open phase, if it is one: when each probe was sent and whether it succeeded.
    probes: Option<Vec<(u64, bool)>>,
    /// A number for each phase between two changes.
    phase: u32,
}

impl Naive {
    fn pass(&mut self, until: u64) {
        while self.now < until {
            self.now += 1;
            let timeout = u64::try_from(self.spec.probe_timeout.as_nanos()).unwrap();
            let open_for = u64::try_from(self.spec.open_for.as_nanos()).unwrap();
            if let Some(probes) = &self.probes
                && probes.iter().any(|(_, succeeded)| !succeeded)
                && probes.iter().all(|(sent, _)| self.now >= sent + timeout)
            {
                self.trip();
            }
            if self.opened_at.is_some_and(|at| self.now >= at + open_for) {
                (self.opened_at, self.probes) = (None, Some(Vec::new()));
                self.phase += 1;
            }
        }
    }

    fn trip(&mut self) {
        (self.opened_at, self.probes, self.failures_in_a_row) = (Some(self.now), None, 0);
        self.phase += 1;
    }

    fn admit(&mut self) -> Option<(u32, usize)> {
        if self.opened_at.is_some() {
            return None;
        }
        let Some(probes) = &mut self.probes else {
            return Some((self.phase, 0));
        };
        if probes.len() == usize::try_from(self.spec.probes).unwrap() {
            return None;
        }
        probes.push((self.now, false));
        Some((self.phase, probes.len() - 1))
    }

    fn report(&mut self, (phase, probe): (u32, usize), outcome: Outcome) {
        if phase != self.phase {
            return;
        }
        match (&mut self.probes, outcome) {
            (None, Outcome::Success) => self.failures_in_a_row = 0,
            (None, Outcome::Failure) => {
                self.failures_in_a_row += 1;
                if self.failures_in_a_row == self.spec.failure_threshold {
                    self.trip();
                }
            }
            (Some(probes), Outcome::Success) => {
                probes[probe].1 = true;
                let all = probes.iter().filter(|(_, succeeded)| *succeeded).count();
                if all == usize::try_from(self.spec.probes).unwrap() {
                    self.probes = None;
                    self.phase += 1;
                }
            }
            (Some(_), Outcome::Failure) => self.trip(),
        }
    }

    fn state_matches(&self, state: BreakerState) -> bool {
        match (&self.probes, self.opened_at, state) {
            (None, None, BreakerState::Closed { failures }) => failures == self.failures_in_a_row,
            (None, Some(at), BreakerState::Open { until }) => {
                Instant::from_ns(at).saturating_add(self.spec.open_for) == until
            }
            (Some(probes), None, BreakerState::HalfOpen { admitted, succeeded, .. }) => {
                let done = probes.iter().filter(|(_, succeeded)| *succeeded).count();
                (usize::try_from(admitted), usize::try_from(succeeded))
                    == (Ok(probes.len()), Ok(done))
            }
            _ => false,
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Admit,
    Report(prop::sample::Index, Outcome),
    Tick,
}

fn ops() -> impl Strategy<Value = Op> {
    let outcome = prop_oneof![Just(Outcome::Success), Just(Outcome::Failure)];
    prop_oneof![
        4 => Just(Op::Admit),
        4 => (any::<prop::sample::Index>(), outcome).prop_map(|(at, o)| Op::Report(at, o)),
        1 => Just(Op::Tick),
    ]
}

proptest! {
    #[test]
    fn turns_as_if_watched_every_nanosecond(
        failure_threshold in 1..4_u32,
        open_for in 1..12_u64,
        probes in 1..4_u32,
        probe_timeout in 1..9_u64,
        history in prop::collection::vec((0..5_u64, ops()), 0..200),
    ) {
        let spec = BreakerSpec {
            failure_threshold,
            open_for: ns(open_for),
            probes,
            probe_timeout: ns(probe_timeout),
        };
        let mut breaker = Breaker::new(spec).unwrap();
        let mut naive = Naive {
            spec, now: 0, opened_at: None, failures_in_a_row: 0, probes: None, phase: 0,
        };
        let mut calls = Vec::new();
        let mut refused = 0;
        for (step, op) in history {
            naive.pass(naive.now + step);
            let now = Instant::from_ns(naive.now);
            match op {
                Op::Admit => match (breaker.admit(now), naive.admit()) {
                    (Ok(permit), Some(call)) => calls.push((permit, call)),
                    (Err(refusal), None) => {
                        refused += 1;
                        let at = match refusal {
                            BreakerRefusal::Open { until } => until,
                            BreakerRefusal::Probing { answer_by } => answer_by,
                        };
                        prop_assert!(at > now && breaker.next_deadline() == Some(at));
                    }
                    (real, model) => prop_assert!(false, "{:?}, expected {:?}", real, model),
                },
                Op::Report(at, outcome) if !calls.is_empty() => {
                    let (permit, call) = calls.swap_remove(at.index(calls.len()));
                    breaker.report(now, permit, outcome);
                    naive.report(call, outcome);
                }
                Op::Report(..) => {}
                Op::Tick => {
                    breaker.tick(now);
                    prop_assert!(naive.state_matches(breaker.state()), "{:?}", breaker);
                    prop_assert!(breaker.next_deadline().is_none_or(|at| at > now));
                }
            }
            prop_assert_eq!(breaker.check_invariants(), Ok(()));
        }
        prop_assert_eq!(breaker.refused_total(), refused);
    }
}

fn fail(breaker: &mut Breaker, now: Instant, times: u32) {
    for _ in 0..times {
        let permit = breaker.admit(now).unwrap();
        breaker.report(now, permit, Outcome::Failure);
    }
}

/// Claims F065, F066 and F067, with the choice that time alone does not close.
#[test]
fn opens_after_n_failures_and_closes_after_its_probes() {
    let spec = BreakerSpec { probes: 2, ..BreakerSpec::default() };
    let mut breaker = Breaker::new(spec).unwrap();
    fail(&mut breaker, Instant::ZERO, 4);
    assert_eq!(breaker.state(), BreakerState::Closed { failures: 4 });
    fail(&mut breaker, Instant::ZERO, 1);
    let until = Instant::ZERO.saturating_add(Duration::from_secs(30));
    assert_eq!(breaker.state(), BreakerState::Open { until });
    let early = Instant::from_ns(until.as_ns() - 1);
    assert_eq!(breaker.admit(early), Err(BreakerRefusal::Open { until }));
    let late = until.saturating_add(Duration::from_secs(9999));
    breaker.tick(late);
    assert!(matches!(breaker.state(), BreakerState::HalfOpen { admitted: 0, .. }));
    let (one, two) = (breaker.admit(late).unwrap(), breaker.admit(late).unwrap());
    assert!(matches!(breaker.admit(late), Err(BreakerRefusal::Probing { .. })));
    breaker.report(late, one, Outcome::Success);
    assert!(matches!(breaker.state(), BreakerState::HalfOpen { succeeded: 1, .. }));
    breaker.report(late, two, Outcome::Success);
    assert_eq!(breaker.state(), BreakerState::Closed { failures: 0 });
    assert_eq!((breaker.opened_total(), breaker.refused_total()), (1, 2));
}

#[test]
fn a_spec_with_a_zero_is_refused_and_changes_nothing() {
    let sound = BreakerSpec::default();
    let mut breaker = Breaker::new(sound).unwrap();
    for (spec, error) in [
        (BreakerSpec { failure_threshold: 0, ..sound }, BreakerSpecError::FailureThresholdIsZero),
        (BreakerSpec { open_for: ns(0), ..sound }, BreakerSpecError::OpenForIsZero),
        (BreakerSpec { probes: 0, ..sound }, BreakerSpecError::ProbesAreZero),
        (BreakerSpec { probe_timeout: ns(0), ..sound }, BreakerSpecError::ProbeTimeoutIsZero),
    ] {
        assert_eq!(Breaker::new(spec).err(), Some(error));
        assert_eq!(breaker.set_spec(Instant::ZERO, spec), Err(error));
        assert_eq!(breaker.spec(), sound);
    }
}

#[test]
fn a_new_spec_holds_at_once_in_every_state() {
    let mut breaker = Breaker::new(BreakerSpec::default()).unwrap();
    fail(&mut breaker, Instant::ZERO, 4);
    let strict = BreakerSpec { failure_threshold: 2, probes: 3, ..BreakerSpec::default() };
    breaker.set_spec(Instant::ZERO, strict).unwrap();
    assert_eq!(breaker.check_invariants(), Ok(()));
    fail(&mut breaker, Instant::ZERO, 1);
    let brief = BreakerSpec { open_for: ns(7), ..strict };
    breaker.set_spec(Instant::from_ns(3), brief).unwrap();
    assert_eq!(breaker.next_deadline(), Some(Instant::from_ns(10)));
    let old = breaker.admit(Instant::from_ns(10)).unwrap();
    let _lost = breaker.admit(Instant::from_ns(10)).unwrap();
    breaker.set_spec(Instant::from_ns(10), BreakerSpec { probes: 1, ..brief }).unwrap();
    assert_eq!(breaker.check_invariants(), Ok(()));
    breaker.report(Instant::from_ns(10), old, Outcome::Success);
    assert!(matches!(breaker.state(), BreakerState::HalfOpen { succeeded: 0, .. }));
}

#[test]
fn the_end_of_time_and_a_stolen_permit_break_nothing() {
    let spec = BreakerSpec {
        failure_threshold: 1,
        open_for: Duration::MAX,
        probes: 2,
        probe_timeout: Duration::MAX,
    };
    let mut breaker = Breaker::new(spec).unwrap();
    fail(&mut breaker, Instant::from_ns(5), 1);
    assert_eq!(breaker.next_deadline(), Some(Instant::MAX));
    breaker.tick(Instant::MAX);
    let mut other = breaker.clone();
    let stolen = other.admit(Instant::MAX).unwrap();
    // Unanswered at the end of time: open and half-open again, since both lie there.
    assert!(other.admit(Instant::MAX).is_ok());
    breaker.report(Instant::ZERO, stolen, Outcome::Success);
    assert_eq!(breaker.check_invariants(), Ok(()));
    assert!(matches!(breaker.state(), BreakerState::HalfOpen { succeeded: 0, .. }));
    breaker.close();
    assert!(breaker.admit(Instant::ZERO).is_ok());
}
