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

mod message;

pub use message::{BreakerRefusal, BreakerSpec, BreakerSpecError, BreakerState, Outcome, Permit};

use crate::epitaph::{Epitaph, invariant};
use crate::planted::{self, Plant};
use crate::time::Instant;

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
            BreakerState::HalfOpen { admitted, answer_by, .. }
                if *admitted < self.spec.probes
                    || (planted::is(Plant::BreakerProbes) && *admitted == self.spec.probes) =>
            {
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
mod tests;
