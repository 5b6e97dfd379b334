//! One supervised daemon: what is asked of it, what is counted of it, and the decision whether it is
//! started again, [`Daemon::verdict`].

use core::time::Duration;

use super::message::DaemonId;
use crate::backoff::Backoff;
use crate::epitaph::{Epitaph, invariant};
use crate::lifecycle::{Charge, FailureReason, Lifecycle, Starting, State, StopCause, Verdict};
use crate::limiter::{IntensityError, Limiter, RestartLimit};
use crate::probe::{ProbeSet, ProbeSpec, Probes};
use crate::restart::{Exit, RestartPolicy};
use crate::time::Instant;

/// Most daemons that one daemon depends on.
pub const DEPENDENCIES_MAX: usize = 8;

/// Highest restart intensity: as many restarts are remembered for each daemon.
pub const INTENSITY_MAX: usize = 32;

/// How one daemon is to be supervised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Most restarts after failures in a row; `None` for any number. A run of `stable_after`, or an
    /// operator's start, ends the row.
    pub max_retries: Option<u32>,
    /// How long it waits before it is started again.
    pub backoff: Backoff,
    /// How many restarts after failures are too many; at most [`INTENSITY_MAX`] per period.
    pub limit: RestartLimit,
    /// How long it may take from the spawn until it is ready. Not zero.
    pub start_timeout: Duration,
    /// How long it may take to stop before it is killed.
    pub stop_grace: Duration,
    /// How long it must have run for its earlier failures to be forgotten.
    pub stable_after: Duration,
    /// Its health checks, if it has any.
    pub probe: Option<ProbeSpec>,
    /// It is started only when all of these are Running.
    pub depends_on: heapless::Vec<DaemonId, DEPENDENCIES_MAX>,
}

impl Default for Spec {
    /// On failure, any number of retries, 100 ms to 30 s of backoff, 5 restarts per 60 s, 30 s to
    /// start, 10 s to stop, stable after 60 s, no health checks, no dependencies.
    fn default() -> Self {
        Self {
            restart: RestartPolicy::default(),
            max_retries: None,
            backoff: Backoff::default(),
            limit: RestartLimit::default(),
            start_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(10),
            stable_after: Duration::from_secs(60),
            probe: None,
            depends_on: heapless::Vec::new(),
        }
    }
}

/// A place for one daemon in a supervisor's storage.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// Counts the daemons that had this slot.
    pub(super) generation: u32,
    /// Counts the starts in this slot, over all its daemons: an address is never given twice.
    pub(super) incarnation: u32,
    pub(super) daemon: Option<Daemon>,
}

impl Slot {
    /// A slot that no daemon has. A constant, for storage that is an array.
    pub const EMPTY: Self = Self { generation: 0, incarnation: 0, daemon: None };
}

#[derive(Clone, Debug)]
pub(super) struct Daemon {
    pub(super) spec: Spec,
    pub(super) lifecycle: Lifecycle,
    limiter: Limiter<[Instant; INTENSITY_MAX]>,
    /// The health checks of this incarnation; there are some only while it is Running.
    pub(super) probe: Option<ProbeSet>,
    /// Failures in a row that led to a restart.
    failures: u32,
    /// When this incarnation became ready.
    ready_at: Option<Instant>,
    pub(super) restarts: u32,
    pub(super) last_exit: Option<Exit>,
    /// How many daemons depend on it, and how many of those have a process.
    pub(super) dependents: u32,
    pub(super) dependents_alive: u32,
    /// It is to stop as soon as no dependent has a process. Only while it starts or runs.
    pub(super) leaving: bool,
}

impl Daemon {
    pub(super) fn new(spec: Spec, now: Instant) -> Result<Self, IntensityError> {
        Ok(Self {
            limiter: Limiter::new([Instant::ZERO; INTENSITY_MAX], spec.limit)?,
            spec,
            lifecycle: Lifecycle::new(now),
            probe: None,
            failures: 0,
            ready_at: None,
            restarts: 0,
            last_exit: None,
            dependents: 0,
            dependents_alive: 0,
            leaving: false,
        })
    }

    pub(super) const fn state(&self) -> State {
        self.lifecycle.state()
    }

    /// Whether it satisfies those that depend on it.
    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.state(), State::Running) && !self.leaving
    }

    /// Decides what becomes of it after an exit: whether, and when, it is started again.
    pub(super) fn verdict(&mut self, charge: Charge, now: Instant, entropy: u64) -> Verdict {
        if self.leaving {
            return Verdict::Stop(StopCause::Operator);
        }
        let stable_after = self.spec.stable_after;
        let ran_for = self.ready_at.map(|ready_at| now.saturating_since(ready_at));
        if ran_for.is_some_and(|length| length >= stable_after) {
            self.failures = 0;
        }
        let policy = self.spec.restart;
        match charge {
            Charge::Asked => Verdict::Stop(StopCause::Operator),
            Charge::Clean if policy.restarts_after(None) => Verdict::Retry {
                until: now.saturating_add(self.spec.backoff.delay(0, entropy)),
                failure: None,
            },
            Charge::Clean => Verdict::Stop(StopCause::Finished),
            Charge::Failure(reason) if !policy.restarts_after(Some(reason)) => {
                Verdict::Fail(reason)
            }
            Charge::Failure(reason) if self.retries_are_used_up() => Verdict::Fail(reason),
            Charge::Failure(reason) => {
                if !self.limiter.admit(now) {
                    return Verdict::Fail(FailureReason::Quarantined {
                        restarts: self.spec.limit.intensity,
                        period: self.spec.limit.period,
                    });
                }
                let delay = self.spec.backoff.delay(self.failures, entropy);
                self.failures = self.failures.saturating_add(1);
                Verdict::Retry { until: now.saturating_add(delay), failure: Some(reason) }
            }
        }
    }

    /// An operator starts it anew: what it did before is forgotten.
    pub(super) fn forgive(&mut self) {
        self.failures = 0;
        self.limiter.clear();
    }

    /// Keeps what belongs to a state in step with it.
    pub(super) fn entered(&mut self, state: State, now: Instant) {
        let starts_or_runs = match state {
            State::Starting(Starting::Spawning { .. }) => {
                self.ready_at = None;
                true
            }
            State::Starting(Starting::Initialising { .. }) => true,
            State::Running => {
                self.ready_at = Some(now);
                true
            }
            State::Created
            | State::Starting(Starting::Waiting)
            | State::Stopping(_)
            | State::Stopped(_)
            | State::Backoff { .. }
            | State::Failed(_) => false,
        };
        self.leaving = self.leaving && starts_or_runs;
        self.probe = match state {
            State::Running => {
                self.spec.probe.map(|spec| ProbeSet::new(Probes::liveness(spec), now))
            },
            _ => None,
        };
    }

    /// When something is to be done about it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let probe_at = self.probe.as_ref().and_then(ProbeSet::deadline);
        match (self.state().deadline(), probe_at) {
            (Some(state_at), Some(probe_at)) => Some(state_at.min(probe_at)),
            (at, None) | (None, at) => at,
        }
    }

    /// What holds between any two inputs, as far as this daemon alone is concerned.
    pub(super) fn check_invariants(&self, now: Instant) -> Result<(), Epitaph> {
        self.lifecycle.check_invariants(now)?;
        self.limiter.check_invariants()?;
        let state = self.state();
        let runs = state == State::Running;
        if let Some(probe) = &self.probe {
            probe.check_invariants()?;
        }
        let probed = runs && self.spec.probe.is_some();
        invariant!(self.probe.is_some() == probed, "probed but not running");
        let stopping = matches!(state, State::Stopping(_));
        let may_leave = state.has_process() && !stopping;
        invariant!(!self.leaving || may_leave, "leaving without running");
        let waits = !self.leaving || self.dependents_alive > 0;
        invariant!(waits, "leaving, but nothing holds it");
        let (alive, dependents) = (self.dependents_alive, self.dependents);
        invariant!(alive <= dependents, "{alive} of {dependents} alive");
        let retries = self.spec.max_retries.unwrap_or(u32::MAX);
        invariant!(self.failures <= retries, "more retries than {retries}");
        Ok(())
    }

    fn retries_are_used_up(&self) -> bool {
        self.spec.max_retries.is_some_and(|max| self.failures >= max)
    }
}
