//! The circuit breaker: whoever fails again and again is left alone for a while.
//!
//! Rules:
//! 1. *Closed* admits every call. So many failures in a row, with no success in between, open it.
//! 2. *Open* admits none. After its time it is half-open; it never closes on time alone.
//! 3. *Half-open* admits a bounded number of probes. Once that many have succeeded it is closed; the
//!    first that fails opens it again, and so does one that is not answered in time.
//! 4. Each change of state ends an epoch. What is heard of a call that was admitted in an earlier
//!    epoch changes nothing: an old call, slow to succeed, does not close a breaker.
//! 5. A result is told at most once: the permit is used up by it.

use core::time::Duration;

use crate::epitaph::{Epitaph, invariant};
use crate::time::Instant;

/// When a breaker opens, and what closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BreakerSpec {
    /// How many failures in a row open it. Not zero.
    pub failure_threshold: u32,
    /// How long it admits nothing before it tries again. Not zero.
    pub open_for: Duration,
    /// How many probes a half-open breaker admits; all must succeed. Not zero.
    pub probes: u32,
    /// How long the answer to a probe may take, counted from the last one admitted. Not zero.
    pub probe_timeout: Duration,
}

impl Default for BreakerSpec {
    /// Opens at 5 failures in a row, for 30 s; closes when one probe succeeds within 10 s.
    fn default() -> Self {
        Self {
            failure_threshold: 5,
            open_for: Duration::from_secs(30),
            probes: 1,
            probe_timeout: Duration::from_secs(10),
        }
    }
}

/// The specification has a zero where there has to be something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BreakerSpecError {
    /// It would be open before the first failure.
    #[error("a failure threshold of 0 admits no call: say at least 1")]
    FailureThresholdIsZero,
    /// It would never be open.
    #[error("a breaker that is open for no time stops nothing: say at least 1 ns")]
    OpenForIsZero,
    /// It would never close.
    #[error("a breaker without probes can't close: say at least 1")]
    ProbesAreZero,
    /// It would never close.
    #[error("no probe can be answered in no time: say at least 1 ns")]
    ProbeTimeoutIsZero,
}

impl BreakerSpec {
    const fn check(&self) -> Result<(), BreakerSpecError> {
        if self.failure_threshold == 0 {
            return Err(BreakerSpecError::FailureThresholdIsZero);
        }
        if self.open_for.is_zero() {
            return Err(BreakerSpecError::OpenForIsZero);
        }
        if self.probes == 0 {
            return Err(BreakerSpecError::ProbesAreZero);
        }
        if self.probe_timeout.is_zero() {
            return Err(BreakerSpecError::ProbeTimeoutIsZero);
        }
        Ok(())
    }
}

/// What a breaker does with the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Admits it.
    Closed {
        /// How many failures came since the last success; fewer than the threshold.
        failures: u32,
    },
    /// Refuses it.
    Open {
        /// When it will be half-open.
        until: Instant,
    },
    /// Admits it while there are probes left.
    HalfOpen {
        /// How many probes were admitted.
        admitted: u32,
        /// How many of them succeeded.
        succeeded: u32,
        /// When those that are not answered count as failed; means nothing if all are.
        answer_by: Instant,
    },
}

/// The right to make one call, and the duty to report what came of it.
///
/// One that is never reported counts as a failure if it was a probe, and not at all otherwise. It
/// belongs to the breaker that gave it.
#[derive(Debug, PartialEq, Eq, Hash)]
#[must_use = "report what came of the call"]
pub struct Permit {
    epoch: u64,
}

impl Permit {
    const fn use_up(self) -> u64 {
        self.epoch
    }
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It did what was asked, or failed by no fault of the other side.
    Success,
    /// It failed, or took too long.
    Failure,
}

/// Why a call was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BreakerRefusal {
    /// It failed too often.
    #[error("the circuit is open: try again at {} ns", until.as_ns())]
    Open {
        /// When the first probe will be admitted.
        until: Instant,
    },
    /// Others are trying whether it works again.
    #[error("the circuit is being probed: try again at {} ns", answer_by.as_ns())]
    Probing {
        /// When it will be known at the latest.
        answer_by: Instant,
    },
}

/// A circuit breaker.
///
/// ```
/// use core::time::Duration;
/// use duende_core::policy::breaker::{Breaker, BreakerSpec, BreakerState, Outcome};
/// use duende_core::time::Instant;
///
/// let spec = BreakerSpec { failure_threshold: 1, ..BreakerSpec::default() };
/// let mut breaker = Breaker::new(spec)?;
/// let permit = breaker.admit(Instant::ZERO)?;
/// breaker.report(Instant::ZERO, permit, Outcome::Failure);
/// assert!(breaker.admit(Instant::ZERO).is_err());
///
/// // After 30 s one probe is let through. It succeeds, and all are.
/// let later = Instant::ZERO.saturating_add(Duration::from_secs(30));
/// let probe = breaker.admit(later)?;
/// assert!(breaker.admit(later).is_err());
/// breaker.report(later, probe, Outcome::Success);
/// assert_eq!(breaker.state(), BreakerState::Closed { failures: 0 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Breaker {
    state: BreakerState,
    /// Counts the changes of state.
    epoch: u64,
    spec: BreakerSpec,
    opened_total: u64,
    refused_total: u64,
}

impl Breaker {
    /// A closed breaker.
    ///
    /// # Errors
    /// [`BreakerSpecError`], when `spec` can't be kept.
    pub const fn new(spec: BreakerSpec) -> Result<Self, BreakerSpecError> {
        match spec.check() {
            Ok(()) => Ok(Self {
                state: BreakerState::Closed { failures: 0 },
                epoch: 0,
                spec,
                opened_total: 0,
                refused_total: 0,
            }),
            Err(error) => Err(error),
        }
    }

    /// Admits a call at `now`, or refuses it.
    ///
    /// # Errors
    /// [`BreakerRefusal`], which says when to try again.
    #[inline]
    pub fn admit(&mut self, now: Instant) -> Result<Permit, BreakerRefusal> {
        if let BreakerState::Closed { .. } = self.state {
            return Ok(Permit { epoch: self.epoch });
        }
        self.admit_probe(now)
    }

    /// Takes note of what came of an admitted call, at `now`.
    #[inline]
    pub fn report(&mut self, now: Instant, permit: Permit, outcome: Outcome) {
        let epoch = permit.use_up();
        if let (BreakerState::Closed { failures }, Outcome::Success) = (&mut self.state, outcome) {
            if epoch == self.epoch {
                *failures = 0;
            }
            return;
        }
        self.report_rare(now, epoch, outcome);
    }

    /// Does what is due at `now`. Needed by none of the other calls, which do it themselves; for
    /// whoever shows the state.
    pub fn tick(&mut self, now: Instant) {
        if let BreakerState::HalfOpen { admitted, succeeded, answer_by } = self.state
            && admitted > succeeded
            && now >= answer_by
        {
            // From the deadline, not from now: how late somebody looks must not matter.
            self.open(answer_by);
        }
        if let BreakerState::Open { until } = self.state
            && now >= until
        {
            self.half_open();
        }
    }

    /// When the state changes by itself; `None` if it does not.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            BreakerState::Open { until } => Some(until),
            BreakerState::HalfOpen { admitted, succeeded, answer_by } if admitted > succeeded => {
                Some(answer_by)
            }
            BreakerState::Closed { .. } | BreakerState::HalfOpen { .. } => None,
        }
    }

    /// The state since the last call that told the time.
    #[must_use]
    pub const fn state(&self) -> BreakerState {
        self.state
    }

    /// What is kept to.
    #[must_use]
    pub const fn spec(&self) -> BreakerSpec {
        self.spec
    }

    /// Changes what is kept to. A closed breaker stays closed, and if it has as many failures as the
    /// new threshold the next one opens it. An open one is open for no longer than the new spec says,
    /// a half-open one begins its probes afresh.
    ///
    /// # Errors
    /// [`BreakerSpecError`], when `spec` can't be kept; nothing is changed then.
    pub fn set_spec(&mut self, now: Instant, spec: BreakerSpec) -> Result<(), BreakerSpecError> {
        spec.check()?;
        self.tick(now);
        self.spec = spec;
        match &mut self.state {
            BreakerState::Closed { failures } => {
                *failures = (*failures).min(spec.failure_threshold.saturating_sub(1));
            }
            BreakerState::Open { until } => {
                *until = (*until).min(now.saturating_add(spec.open_for));
            }
            BreakerState::HalfOpen { .. } => self.half_open(),
        }
        Ok(())
    }

    /// Closes the breaker and forgets what was counted: an operator knows that the fault is gone.
    pub fn close(&mut self) {
        self.change(BreakerState::Closed { failures: 0 });
    }

    /// How often it opened.
    #[must_use]
    pub const fn opened_total(&self) -> u64 {
        self.opened_total
    }

    /// How many calls were refused.
    #[must_use]
    pub const fn refused_total(&self) -> u64 {
        self.refused_total
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        invariant!(self.spec.check().is_ok(), "breaker spec has a zero");
        let BreakerSpec { failure_threshold, probes, .. } = self.spec;
        match self.state {
            BreakerState::Closed { failures } => {
                let fewer = failures < failure_threshold;
                invariant!(fewer, "breaker closed at {failures} of {failure_threshold}");
            }
            BreakerState::Open { .. } => {
                invariant!(self.opened_total > 0, "breaker open but never opened");
            }
            BreakerState::HalfOpen { admitted, succeeded, .. } => {
                invariant!(admitted <= probes, "breaker: {admitted} probes of {probes}");
                invariant!(succeeded <= admitted, "breaker: {succeeded} of {admitted} succeeded");
                invariant!(succeeded < probes, "breaker half-open after {succeeded} probes");
            }
        }
        Ok(())
    }

    #[cold]
    fn admit_probe(&mut self, now: Instant) -> Result<Permit, BreakerRefusal> {
        self.tick(now);
        let refusal = match &mut self.state {
            BreakerState::Closed { .. } => return Ok(Permit { epoch: self.epoch }),
            BreakerState::HalfOpen { admitted, answer_by, .. } if *admitted < self.spec.probes => {
                *admitted = admitted.saturating_add(1);
                *answer_by = now.saturating_add(self.spec.probe_timeout);
                return Ok(Permit { epoch: self.epoch });
            }
            BreakerState::HalfOpen { answer_by, .. } => {
                BreakerRefusal::Probing { answer_by: *answer_by }
            }
            BreakerState::Open { until } => BreakerRefusal::Open { until: *until },
        };
        self.refused_total = self.refused_total.saturating_add(1);
        Err(refusal)
    }

    #[cold]
    fn report_rare(&mut self, now: Instant, epoch: u64, outcome: Outcome) {
        self.tick(now);
        if epoch != self.epoch {
            return;
        }
        match (&mut self.state, outcome) {
            (BreakerState::Closed { failures }, Outcome::Success) => *failures = 0,
            (BreakerState::Closed { failures }, Outcome::Failure) => {
                *failures = failures.saturating_add(1);
                if *failures >= self.spec.failure_threshold {
                    self.open(now);
                }
            }
            (BreakerState::HalfOpen { admitted, succeeded, .. }, Outcome::Success) => {
                // A permit of another breaker may come here; it must not count for a probe.
                *succeeded = succeeded.saturating_add(1).min(*admitted);
                if *succeeded >= self.spec.probes {
                    self.close();
                }
            }
            (BreakerState::HalfOpen { .. }, Outcome::Failure) => self.open(now),
            // Nothing is admitted while it is open, so nothing of this epoch can be reported.
            (BreakerState::Open { .. }, _) => {}
        }
    }

    fn open(&mut self, at: Instant) {
        self.opened_total = self.opened_total.saturating_add(1);
        self.change(BreakerState::Open { until: at.saturating_add(self.spec.open_for) });
    }

    fn half_open(&mut self) {
        self.change(BreakerState::HalfOpen { admitted: 0, succeeded: 0, answer_by: Instant::MAX });
    }

    /// The one place where the state becomes another one.
    fn change(&mut self, state: BreakerState) {
        self.epoch = self.epoch.wrapping_add(1);
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
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
                (None, None, BreakerState::Closed { failures }) => {
                    failures == self.failures_in_a_row
                }
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
            (
                BreakerSpec { failure_threshold: 0, ..sound },
                BreakerSpecError::FailureThresholdIsZero,
            ),
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
}
