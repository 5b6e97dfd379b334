//! The probes of one incarnation together: which of them asks, and what the daemon is found to be.

use core::time::Duration;

use super::Health;
use super::check::{Check, Outcome, Row};
use super::spec::{ProbeKind, Probes};
use crate::epitaph::{Epitaph, invariant};
use crate::time::Instant;

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum ProbeAction {
    /// Nothing.
    Wait,
    /// Ask the daemon.
    Ask {
        /// What for.
        kind: ProbeKind,
        /// Echoed in the answer. Counts the questions to this incarnation, of all kinds: no two have
        /// the same.
        token: u64,
    },
    /// This probe has reached its failure threshold. Said once; then the set is silent.
    Condemn {
        /// Startup or liveness.
        kind: ProbeKind,
    },
}

/// The health checks of one incarnation.
///
/// [`deadline`](Self::deadline) says when to call [`poll`](Self::poll) next, which is called until
/// it says [`ProbeAction::Wait`]. While the daemon is paused neither is called, answers come with the
/// instant of the pause, and then [`shift`](Self::shift) is told how long it was.
///
/// ```
/// use core::time::Duration;
/// use duende_core::probe::{Health, ProbeAction, ProbeKind, ProbeSet, ProbeSpec, Probes};
/// use duende_core::time::Instant;
///
/// let second = |n| Instant::ZERO.saturating_add(Duration::from_secs(n));
/// let kind = ProbeKind::Liveness;
/// let spec = ProbeSpec { failure_threshold: 1, ..ProbeSpec::KUBERNETES };
/// let mut set = ProbeSet::new(Probes::liveness(spec), second(0));
/// assert_eq!(set.poll(second(0)), ProbeAction::Ask { kind, token: 1 });
///
/// // It has a second to answer; an hour's pause does not count.
/// set.shift(Duration::from_secs(3600));
/// assert_eq!(set.deadline(), Some(second(3601)));
///
/// // Its silence is its failure, and at this threshold its end.
/// assert_eq!(set.poll(second(3601)), ProbeAction::Condemn { kind });
/// assert_eq!(set.health(), Health::Failing { failures: 1 });
/// assert_eq!(set.answer(1, true), ProbeAction::Wait);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ProbeSet {
    /// None once it has succeeded.
    startup: Option<Check>,
    liveness: Option<Check>,
    readiness: Option<Check>,
    /// What readiness was found to be.
    ready: bool,
    condemned: bool,
    /// How many questions were asked; the token of the last one.
    asked: u64,
}

impl ProbeSet {
    /// The checks of a daemon whose probes begin at `now`.
    #[must_use]
    pub fn new(probes: Probes, now: Instant) -> Self {
        let check = |spec: Option<_>| spec.map(|spec| Check::new(spec, now));
        Self {
            startup: check(probes.startup),
            liveness: check(probes.liveness),
            readiness: check(probes.readiness),
            ready: probes.readiness.is_none(),
            condemned: false,
            asked: 0,
        }
    }

    /// What is known from the liveness probe.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.liveness.as_ref().map_or(Row::Empty, Check::row) {
            Row::Empty => Health::Unknown,
            Row::Successes(_) => Health::Healthy,
            Row::Failures(failures) => Health::Failing { failures },
        }
    }

    /// Whether it has come up, as far as it is asked.
    #[must_use]
    pub const fn is_started(&self) -> bool {
        self.startup.is_none()
    }

    /// Whether it has come up and can do its work, as far as it is asked.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.is_started() && self.ready
    }

    /// When [`poll`](Self::poll) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let deadlines = self.active().map(|check| check.as_ref().map(Check::deadline));
        deadlines.into_iter().flatten().min()
    }

    /// Does one thing that is due.
    pub fn poll(&mut self, now: Instant) -> ProbeAction {
        for kind in [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness] {
            let Some(check) = self.active_mut(kind) else { continue };
            let outcome = check.expire(now);
            let action = self.settle(kind, outcome);
            if action != ProbeAction::Wait {
                return action;
            }
            let token = self.asked.saturating_add(1);
            if self.active_mut(kind).is_some_and(|check| check.ask(now, token)) {
                self.asked = token;
                return ProbeAction::Ask { kind, token };
            }
        }
        ProbeAction::Wait
    }

    /// Takes an answer. One to a question that is no longer open changes nothing; only
    /// [`poll`](Self::poll) ends a question whose time is over.
    pub fn answer(&mut self, token: u64, healthy: bool) -> ProbeAction {
        for kind in [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness] {
            if let Some(check) = self.active_mut(kind)
                && check.open() == Some(token)
            {
                let outcome = check.answer(healthy);
                return self.settle(kind, outcome);
            }
        }
        ProbeAction::Wait
    }

    /// Moves every deadline by the length of a pause.
    pub fn shift(&mut self, by: Duration) {
        let checks = [&mut self.startup, &mut self.liveness, &mut self.readiness];
        checks.into_iter().flatten().for_each(|check| check.shift(by));
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        for (check, kind) in [
            (&self.startup, ProbeKind::Startup),
            (&self.liveness, ProbeKind::Liveness),
            (&self.readiness, ProbeKind::Readiness),
        ] {
            let Some(check) = check else { continue };
            check.check_invariants(kind)?;
            let token = check.open().unwrap_or(0);
            let asked = self.asked;
            invariant!(token <= asked, "{kind} probe asked {token} of {asked}");
            let gated = kind != ProbeKind::Startup && !self.is_started();
            invariant!(!gated || token == 0, "{kind} probe asked before it came up");
        }
        let asks = self.readiness.is_some();
        invariant!(asks || self.ready, "not ready, though nobody asks");
        let may_condemn = self.startup.is_some() || self.liveness.is_some();
        invariant!(!self.condemned || may_condemn, "condemned, though nobody asks");
        Ok(())
    }

    /// Keeps what an answer led to.
    fn settle(&mut self, kind: ProbeKind, outcome: Outcome) -> ProbeAction {
        match (kind, outcome) {
            (_, Outcome::Open) | (ProbeKind::Liveness, Outcome::Passed) => ProbeAction::Wait,
            (ProbeKind::Startup, Outcome::Passed) => {
                self.startup = None;
                ProbeAction::Wait
            }
            (ProbeKind::Startup | ProbeKind::Liveness, Outcome::Failed) => {
                self.condemned = true;
                ProbeAction::Condemn { kind }
            }
            (ProbeKind::Readiness, Outcome::Passed | Outcome::Failed) => {
                self.ready = outcome == Outcome::Passed;
                ProbeAction::Wait
            }
        }
    }

    /// The checks that ask: none once condemned, none but startup until it has succeeded.
    const fn active(&self) -> [&Option<Check>; 3] {
        if self.condemned {
            [&None, &None, &None]
        } else if self.startup.is_some() {
            [&self.startup, &None, &None]
        } else {
            [&None, &self.liveness, &self.readiness]
        }
    }

    fn active_mut(&mut self, kind: ProbeKind) -> Option<&mut Check> {
        if self.condemned {
            return None;
        }
        let started = self.is_started();
        match kind {
            ProbeKind::Startup => self.startup.as_mut(),
            ProbeKind::Liveness if started => self.liveness.as_mut(),
            ProbeKind::Readiness if started => self.readiness.as_mut(),
            ProbeKind::Liveness | ProbeKind::Readiness => None,
        }
    }
}

#[cfg(test)]
mod tests;
