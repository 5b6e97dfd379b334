//! When a daemon's health is asked for, and when it counts as unhealthy.
//!
//! Rules:
//! 1. The first question comes one period after the daemon became ready, then one each period. A
//!    question waits for the answer to the one before, or for its timeout.
//! 2. An answer in time that says healthy clears the count; one that says unhealthy, and none in
//!    time, adds one. At the threshold the daemon is unhealthy.
//! 3. A schedule belongs to one incarnation: nothing that was counted survives a restart.

use core::time::Duration;

use crate::epitaph::{Epitaph, invariant};
use crate::time::Instant;

/// How often health is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// From one question to the next. Not zero.
    pub period: Duration,
    /// How long an answer may take. Not zero.
    pub timeout: Duration,
    /// How many failures in a row make a daemon unhealthy. Not zero.
    pub failure_threshold: u32,
}

impl Default for ProbeSpec {
    /// Every 10 s, 1 s to answer, unhealthy after 3 failures.
    fn default() -> Self {
        Self {
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            failure_threshold: 3,
        }
    }
}

impl ProbeSpec {
    /// Whether the schedule can be kept: nothing in it is zero.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        !self.period.is_zero() && !self.timeout.is_zero() && self.failure_threshold > 0
    }
}

/// What is known of a daemon's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// This incarnation has not been asked yet, or its health is not asked for.
    #[default]
    Unknown,
    /// The last answer said so.
    Healthy,
    /// This many checks in a row failed, fewer than the threshold.
    Failing {
        /// How many.
        failures: u32,
    },
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum ProbeAction {
    /// Nothing.
    Wait,
    /// Ask the daemon.
    Ask {
        /// Echoed in the answer; counts the questions to this incarnation.
        token: u64,
    },
    /// The threshold is reached.
    Condemn,
}

/// The health checks of one incarnation.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    spec: ProbeSpec,
    phase: Phase,
    /// How many questions were asked; the token of the last one.
    asked: u64,
    health: Health,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Until the next question.
    Resting { until: Instant },
    /// A question is open.
    Asked { at: Instant, deadline: Instant },
}

impl Probe {
    /// The checks of a daemon that became ready at `now`.
    #[must_use]
    pub fn new(spec: ProbeSpec, now: Instant) -> Self {
        Self {
            spec,
            phase: Phase::Resting { until: now.saturating_add(spec.period) },
            asked: 0,
            health: Health::Unknown,
        }
    }

    /// What is known.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// When [`poll`](Self::poll) has something to do.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Resting { until } => until,
            Phase::Asked { deadline, .. } => deadline,
        }
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Instant) -> ProbeAction {
        match self.phase {
            Phase::Resting { until } if until <= now => {
                self.asked = self.asked.saturating_add(1);
                self.phase =
                    Phase::Asked { at: now, deadline: now.saturating_add(self.spec.timeout) };
                ProbeAction::Ask { token: self.asked }
            }
            Phase::Asked { at, deadline } if deadline <= now => self.answered(at, false),
            Phase::Resting { .. } | Phase::Asked { .. } => ProbeAction::Wait,
        }
    }

    /// Takes an answer. One to a question that is no longer open changes nothing.
    pub fn answer(&mut self, token: u64, healthy: bool) -> ProbeAction {
        match self.phase {
            Phase::Asked { at, .. } if token == self.asked => self.answered(at, healthy),
            Phase::Asked { .. } | Phase::Resting { .. } => ProbeAction::Wait,
        }
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        invariant!(self.spec.is_valid(), "probe schedule has a zero");
        if let Health::Failing { failures } = self.health {
            invariant!(failures > 0, "probe fails without a failure");
        }
        if let Phase::Asked { at, deadline } = self.phase {
            invariant!(at <= deadline, "probe is due before it is asked");
            invariant!(self.asked > 0, "probe is open but was never asked");
        }
        Ok(())
    }

    fn answered(&mut self, asked_at: Instant, healthy: bool) -> ProbeAction {
        self.phase = Phase::Resting { until: asked_at.saturating_add(self.spec.period) };
        if healthy {
            self.health = Health::Healthy;
            return ProbeAction::Wait;
        }
        let before = match self.health {
            Health::Failing { failures } => failures,
            Health::Unknown | Health::Healthy => 0,
        };
        let failures = before.saturating_add(1);
        self.health = Health::Failing { failures };
        if failures >= self.spec.failure_threshold {
            ProbeAction::Condemn
        } else {
            ProbeAction::Wait
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO.saturating_add(Duration::from_secs(seconds))
    }

    #[test]
    fn three_failures_in_a_row_condemn() {
        let mut probe = Probe::new(ProbeSpec::default(), at(100));
        assert_eq!(probe.poll(at(109)), ProbeAction::Wait);
        // Unhealthy, too late (the answer that follows is void), healthy: the count starts again.
        assert_eq!(probe.poll(at(110)), ProbeAction::Ask { token: 1 });
        assert_eq!(probe.answer(1, false), ProbeAction::Wait);
        assert_eq!(probe.health(), Health::Failing { failures: 1 });
        assert_eq!(probe.answer(1, false), ProbeAction::Wait, "answered twice");
        assert_eq!(probe.deadline(), at(120));
        assert_eq!(probe.poll(at(120)), ProbeAction::Ask { token: 2 });
        assert_eq!(probe.answer(1, true), ProbeAction::Wait, "an old token");
        assert_eq!(probe.deadline(), at(121));
        assert_eq!(probe.poll(at(121)), ProbeAction::Wait);
        assert_eq!(probe.answer(2, true), ProbeAction::Wait, "too late");
        assert_eq!(probe.health(), Health::Failing { failures: 2 });
        assert_eq!(probe.poll(at(130)), ProbeAction::Ask { token: 3 });
        assert_eq!(probe.answer(3, true), ProbeAction::Wait);
        assert_eq!(probe.health(), Health::Healthy);
        for (round, expected) in
            [(4, ProbeAction::Wait), (5, ProbeAction::Wait), (6, ProbeAction::Condemn)]
        {
            assert_eq!(probe.poll(at(100 + 10 * round)), ProbeAction::Ask { token: round });
            assert_eq!(probe.answer(round, false), expected);
            assert_eq!(probe.check_invariants(), Ok(()));
        }
    }

    #[test]
    fn the_end_of_time_is_no_overflow() {
        let mut probe = Probe::new(ProbeSpec::default(), Instant::MAX);
        assert_eq!(probe.poll(Instant::MAX), ProbeAction::Ask { token: 1 });
        assert_eq!(probe.poll(Instant::MAX), ProbeAction::Wait);
        assert_eq!(probe.health(), Health::Failing { failures: 1 });
    }
}
