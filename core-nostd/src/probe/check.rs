//! One probe of one incarnation: its next question, and the answers in a row.
//!
//! Rules:
//! 1. A question is open until it is answered, or until somebody polls at its deadline or later: only
//!    that judges who is late, so an answer that was handed over before counts.
//! 2. The next question comes one period after the last one, or at once if its answer took longer.
//! 3. A threshold that is reached is told once per answer: a row that goes on goes on telling.
//! 4. At [`Instant::MAX`] nothing is asked: there is no time left in which it could be answered.

use core::time::Duration;

use super::spec::{ProbeKind, ProbeSpec};
use crate::epitaph::{Epitaph, invariant};
use crate::planted::{self, Plant};
use crate::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    spec: ProbeSpec,
    phase: Phase,
    row: Row,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Until the next question.
    Resting { until: Instant },
    /// A question is open.
    Asked { token: u64, at: Instant, deadline: Instant },
}

/// The answers since the last one that was different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Empty,
    Successes(u32),
    Failures(u32),
}

/// What an answer, or its absence, led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Outcome {
    /// No threshold is reached.
    Open,
    /// So many successes in a row as it takes.
    Passed,
    /// So many failures in a row as it takes.
    Failed,
}

impl Check {
    pub(super) fn new(spec: ProbeSpec, now: Instant) -> Self {
        let until = now.saturating_add(spec.initial_delay);
        Self { spec, phase: Phase::Resting { until }, row: Row::Empty }
    }

    pub(super) const fn row(&self) -> Row {
        self.row
    }

    /// When [`expire`](Self::expire) or [`ask`](Self::ask) has something to do.
    pub(super) const fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Resting { until } => until,
            Phase::Asked { deadline, .. } => deadline,
        }
    }

    /// The token of the open question.
    pub(super) const fn open(&self) -> Option<u64> {
        match self.phase {
            Phase::Resting { .. } => None,
            Phase::Asked { token, .. } => Some(token),
        }
    }

    /// Ends a question whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Outcome {
        match self.phase {
            Phase::Asked { at, deadline, .. } if deadline <= now => self.answered(at, false),
            Phase::Resting { .. } | Phase::Asked { .. } => Outcome::Open,
        }
    }

    /// Asks the next question under this token, if it is due.
    pub(super) fn ask(&mut self, now: Instant, token: u64) -> bool {
        match self.phase {
            Phase::Resting { until } if until <= now && now < Instant::MAX => {
                let deadline = now.saturating_add(self.spec.timeout);
                self.phase = Phase::Asked { token, at: now, deadline };
                true
            }
            Phase::Resting { .. } | Phase::Asked { .. } => false,
        }
    }

    /// Takes the answer to the open question, if there is one.
    pub(super) fn answer(&mut self, healthy: bool) -> Outcome {
        match self.phase {
            Phase::Asked { at, .. } => self.answered(at, healthy),
            Phase::Resting { .. } => Outcome::Open,
        }
    }

    /// Moves what is to come by the length of a pause.
    pub(super) fn shift(&mut self, by: Duration) {
        match &mut self.phase {
            Phase::Resting { until } => *until = until.saturating_add(by),
            Phase::Asked { at, deadline, .. } => {
                *at = at.saturating_add(by);
                *deadline = deadline.saturating_add(by);
            }
        }
    }

    pub(super) fn check_invariants(&self, kind: ProbeKind) -> Result<(), Epitaph> {
        invariant!(self.spec.check(kind).is_ok(), "{kind} probe: its schedule can't be kept");
        if let Phase::Asked { token, at, deadline } = self.phase {
            invariant!(at <= deadline, "{kind} probe is due before it is asked");
            invariant!(token > 0, "{kind} probe is open but was never asked");
        }
        let counted = !matches!(self.row, Row::Successes(0) | Row::Failures(0));
        invariant!(counted, "{kind} probe counts a row of nothing");
        Ok(())
    }

    fn answered(&mut self, asked_at: Instant, healthy: bool) -> Outcome {
        self.phase = Phase::Resting { until: asked_at.saturating_add(self.spec.period) };
        let before = match (self.row, healthy) {
            (Row::Successes(count), true) | (Row::Failures(count), false) => count,
            (Row::Empty | Row::Failures(_), true) | (Row::Empty | Row::Successes(_), false) => 0,
        };
        let count = before.saturating_add(1);
        let (row, threshold, outcome) = if healthy {
            (Row::Successes(count), self.spec.success_threshold, Outcome::Passed)
        } else {
            (Row::Failures(count), self.spec.failure_threshold, Outcome::Failed)
        };
        self.row = row;
        let threshold = threshold.saturating_add(u32::from(planted::is(Plant::ProbeThreshold)));
        if count >= threshold { outcome } else { Outcome::Open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_one_says_so() {
        let good = Check::new(ProbeSpec::default(), Instant::ZERO);
        let now = Instant::from_ns(7);
        let asked = |token, deadline| Phase::Asked { token, at: now, deadline };
        let sound = Check { phase: asked(1, now), row: Row::Failures(1), ..good };
        assert_eq!(sound.check_invariants(ProbeKind::Liveness), Ok(()));
        for broken in [
            Check { spec: ProbeSpec { period: Duration::ZERO, ..good.spec }, ..good },
            Check { spec: ProbeSpec { success_threshold: 2, ..good.spec }, ..good },
            Check { phase: asked(1, Instant::ZERO), ..good },
            Check { phase: asked(0, now), ..good },
            Check { row: Row::Failures(0), ..good },
            Check { row: Row::Successes(0), ..good },
        ] {
            assert!(broken.check_invariants(ProbeKind::Liveness).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn nothing_comes_of_what_is_not_open() {
        let mut check = Check::new(ProbeSpec::default(), Instant::ZERO);
        assert_eq!(check.answer(false), Outcome::Open);
        assert_eq!(check.expire(Instant::MAX), Outcome::Open);
        assert_eq!((check.row(), check.open()), (Row::Empty, None));
    }
}
