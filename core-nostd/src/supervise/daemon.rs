//! One supervised daemon: what is asked of it, what is counted of it, and the decision whether it is
//! started again, [`Daemon::verdict`].

use core::time::Duration;

use super::id::{DaemonId, GroupId};
use crate::backoff::{Backoff, STABLE_AFTER};
use crate::epitaph::{Epitaph, invariant};
use crate::lifecycle::{
    Charge, FailureReason, Lifecycle, Starting, State, StopCause, Stopping, Then, Verdict,
};
use crate::limiter::{IntensityError, Limiter, RestartLimit};
use crate::planted::{self, Plant};
use crate::probe::{ProbeSet, Probes};
use crate::restart::{Exit, ExitRules, RestartPolicy};
use crate::time::Instant;
use crate::watchdog::Watchdog;

/// Most daemons that one daemon depends on.
pub const DEPENDENCIES_MAX: usize = 8;

/// Highest restart intensity: as many restarts are remembered for each daemon.
pub const INTENSITY_MAX: usize = 32;

/// How long a daemon may take to stop, where nobody says otherwise.
pub const STOP_GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// The longest wait of a daemon that lost what it ran in.
pub const LOST_DELAY_MAX: Duration = Duration::from_secs(2);

/// How often a process is killed before its daemon is given up.
pub const KILL_ATTEMPTS_MAX: u8 = 3;

/// The shortest wait before what something outside prevented is tried again. That is tried for ever, so
/// that no [`Backoff`] may make it a loop that never rests.
pub const OBSTACLE_DELAY_MIN: Duration = Duration::from_millis(100);

/// The most by which a daemon may put off a deadline at a time.
pub const EXTENSION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How one daemon is to be supervised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Which exits are failures, and which decide about the restart by themselves.
    pub exits: ExitRules,
    /// Most restarts after failures in a row; `None` for any number. A run of `stable_after`, or an
    /// operator's start, ends the row.
    pub max_retries: Option<u32>,
    /// How long it waits before it is started again.
    pub backoff: Backoff,
    /// How many restarts after failures and early exits are too many; at most [`INTENSITY_MAX`] per period.
    pub limit: RestartLimit,
    /// How long it may take from the spawn until it is ready. Not zero.
    pub start_timeout: Duration,
    /// How long it may take to stop before it is killed.
    pub stop_grace: Duration,
    /// How long a kill may take before it is repeated. Not zero.
    pub kill_timeout: Duration,
    /// How long it may take to read its configuration anew. Not zero.
    pub reload_timeout: Duration,
    /// How long it must have run for its earlier failures to be forgotten.
    pub stable_after: Duration,
    /// How it is asked whether it has come up, works and is ready.
    pub probes: Probes,
    /// How long it may give no sign of life while it is up; `None`: for ever. Not zero.
    pub watchdog: Option<Duration>,
    /// The group whose child it is, if it is any's.
    pub group: Option<GroupId>,
    /// It is started only when all of these are Running.
    pub depends_on: heapless::Vec<DaemonId, DEPENDENCIES_MAX>,
}

impl Default for Spec {
    /// On failure, any number of retries, 100 ms to 30 s of backoff, 5 restarts per 60 s, 30 s to
    /// start and to reload, 10 s to stop, 5 s to be killed, stable after 60 s, no health checks, no
    /// watchdog, no group, no dependencies.
    fn default() -> Self {
        Self {
            restart: RestartPolicy::default(),
            exits: ExitRules::default(),
            max_retries: None,
            backoff: Backoff::default(),
            limit: RestartLimit::default(),
            start_timeout: Duration::from_secs(30),
            stop_grace: STOP_GRACE_DEFAULT,
            kill_timeout: Duration::from_secs(5),
            reload_timeout: Duration::from_secs(30),
            stable_after: STABLE_AFTER,
            probes: Probes::NONE,
            watchdog: None,
            group: None,
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
    /// The probes of this incarnation: from when it is up, or said that it is ready if it has a
    /// startup probe.
    pub(super) probe: Option<ProbeSet>,
    /// Failures in a row that led to a restart.
    failures: u32,
    /// Charged restarts in a row: those, and the ones after clean exits that came early.
    charged: u32,
    /// Starts in a row that something outside prevented or ended.
    obstacles: u32,
    /// When this incarnation became ready, put forward by the time for which it was paused.
    ready_at: Option<Instant>,
    /// Since when it is paused; only while it is.
    paused_at: Option<Instant>,
    /// Watches this incarnation while it is up.
    watchdog: Option<Watchdog>,
    /// Where it stands among the children of its group.
    pub(super) place: u64,
    /// The round of its group in which it takes part.
    pub(super) round: Option<u64>,
    pub(super) restarts: u32,
    pub(super) last_exit: Option<Exit>,
    /// How many daemons depend on it, and how many of those have a process.
    pub(super) dependents: u32,
    pub(super) dependents_alive: u32,
    /// It is to leave as soon as those have no process that leave before it. Only while it starts or
    /// is up.
    pub(super) leaving: Option<Leaving>,
    /// The incarnation that could not be killed, until it has ended after all.
    pub(super) abandoned: Option<u32>,
    /// For whom it waits in vain, and for whom that was told.
    pub(super) blocked_by: Option<DaemonId>,
    pub(super) blocked_told: Option<DaemonId>,
    /// Found by the input that is being handled; never between two inputs.
    pub(super) marked: bool,
}

/// What a daemon that waits for its turn to end will end for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// All daemons are to stop.
    Stop,
    /// Its group has failed for good.
    GiveUp,
    /// Its group starts anew.
    Restart,
}

impl Daemon {
    pub(super) fn new(spec: Spec, place: u64, now: Instant) -> Result<Self, IntensityError> {
        Ok(Self {
            limiter: Limiter::new([Instant::ZERO; INTENSITY_MAX], spec.limit)?,
            spec,
            lifecycle: Lifecycle::new(now),
            probe: None,
            failures: 0,
            charged: 0,
            obstacles: 0,
            ready_at: None,
            paused_at: None,
            watchdog: None,
            place,
            round: None,
            restarts: 0,
            last_exit: None,
            dependents: 0,
            dependents_alive: 0,
            leaving: None,
            abandoned: None,
            blocked_by: None,
            blocked_told: None,
            marked: false,
        })
    }

    pub(super) const fn state(&self) -> State {
        self.lifecycle.state()
    }

    /// Whether it satisfies those that depend on it.
    pub(super) fn is_ready(&self) -> bool {
        let runs = matches!(self.state(), State::Running | State::Reloading { .. });
        runs && self.leaving.is_none() && self.probe.as_ref().is_none_or(ProbeSet::is_ready)
    }

    /// Since when it is up, not counting the time for which it was paused.
    pub(super) const fn up_since(&self) -> Option<Instant> {
        if self.state().is_up() { self.ready_at } else { None }
    }

    /// Decides what becomes of it after an exit: whether, and when, it is started again.
    pub(super) fn verdict(&mut self, charge: Charge, now: Instant, entropy: u64) -> Verdict {
        match self.leaving {
            Some(Leaving::Stop) => return Verdict::Stop(StopCause::Operator),
            Some(Leaving::GiveUp) => return Verdict::Stop(StopCause::GaveUp),
            Some(Leaving::Restart) => return Verdict::Retry { until: now, failure: None },
            None => {}
        }
        let stable_after = self.spec.stable_after;
        let until = self.own_now(now);
        let ran_for = self.ready_at.map(|ready_at| until.saturating_since(ready_at));
        let was_stable = ran_for.is_some_and(|length| length >= stable_after);
        if was_stable {
            self.failures = 0;
            self.charged = 0;
            self.obstacles = 0;
        }
        let Charge::Unasked(exit) = charge else {
            return Verdict::Stop(StopCause::Operator);
        };
        if let Some(failure) = exit.failure
            && failure.is_outer()
        {
            if !exit.restarts(self.spec.restart) {
                return Verdict::Fail(failure);
            }
            let delay = self.spec.backoff.delay(self.obstacles, entropy).max(OBSTACLE_DELAY_MIN);
            // A place is made anew at once: those who were in it need not wait for long.
            let delay = match failure {
                FailureReason::Lost => delay.min(LOST_DELAY_MAX),
                _ => delay,
            };
            self.obstacles = self.obstacles.saturating_add(1);
            return Verdict::Retry { until: now.saturating_add(delay), failure: Some(failure) };
        }
        let used_up = exit.is_charged && self.retries_are_used_up();
        if used_up || !exit.restarts(self.spec.restart) {
            return exit.failure.map_or(Verdict::Stop(StopCause::Finished), Verdict::Fail);
        }
        let limit = self.spec.limit;
        let came_early = !was_stable && !planted::is(Plant::CleanExitsFree);
        let is_charged = exit.is_charged || came_early;
        let is_counted = is_charged || limit.window.counts_every_start();
        if is_counted && !self.limiter.admit(now) {
            return Verdict::Fail(FailureReason::Quarantined {
                restarts: limit.intensity,
                period: limit.period,
            });
        }
        let row = if is_charged { self.charged } else { 0 };
        let delay = self.spec.backoff.delay(row, entropy);
        if is_charged {
            self.charged = self.charged.saturating_add(1);
        }
        if exit.is_charged {
            self.failures = self.failures.saturating_add(1);
        }
        Verdict::Retry { until: now.saturating_add(delay), failure: exit.failure }
    }

    /// An operator forgets what it did before.
    pub(super) fn forgive(&mut self) {
        self.failures = 0;
        self.charged = 0;
        self.obstacles = 0;
        self.limiter.clear();
    }

    /// An operator starts it anew, which forgives it. Whether its limit admits that.
    pub(super) fn start_by_operator(&mut self, now: Instant) -> bool {
        let admitted = self.limiter.start_by_operator(now);
        if admitted {
            self.failures = 0;
            self.charged = 0;
            self.obstacles = 0;
        }
        admitted
    }

    /// It said that it is ready. Whether that is enough: a startup probe begins only now.
    pub(super) fn said_ready(&mut self, now: Instant) -> bool {
        let starts = matches!(
            self.state(),
            State::Starting(Starting::Spawning { .. } | Starting::Initialising { .. })
        );
        let waits = starts && self.spec.probes.startup.is_some();
        if waits && self.probe.is_none() {
            self.probe = Some(ProbeSet::new(self.spec.probes, now));
        }
        !waits
    }

    /// The instant that it knows: for what is paused, time stood still when the pause began.
    pub(super) fn own_now(&self, now: Instant) -> Instant {
        self.paused_at.unwrap_or(now)
    }

    /// A sign of life.
    pub(super) fn alive(&mut self, now: Instant) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.alive(now);
        }
    }

    /// Whether it has given no sign of life for too long.
    pub(super) fn watchdog_expired(&self, now: Instant) -> bool {
        self.paused_at.is_none() && self.watchdog.is_some_and(|watchdog| watchdog.is_expired(now))
    }

    /// Keeps what belongs to a state in step with it, after the step from `from`.
    pub(super) fn entered(&mut self, from: State, now: Instant) {
        let to = self.state();
        if matches!(to, State::Starting(Starting::Spawning { .. })) {
            self.ready_at = None;
        }
        if to.is_up() && !from.is_up() {
            self.ready_at = Some(now);
            // What takes down what it runs in comes up each time before it does.
            if self.last_exit != Some(Exit::Lost) {
                self.obstacles = 0;
            }
            self.watchdog = self.spec.watchdog.and_then(|timeout| Watchdog::new(timeout, now));
            if self.probe.is_none() && !self.spec.probes.is_empty() {
                self.probe = Some(ProbeSet::new(self.spec.probes, now));
            }
        }
        if !to.is_up() {
            self.watchdog = None;
        }
        if !to.is_up() && !matches!(to, State::Starting(Starting::Initialising { .. })) {
            self.probe = None;
        }
        match (from, to) {
            (_, State::Paused) => self.paused_at = Some(now),
            (State::Paused, _) => {
                let paused_at = self.paused_at.take().unwrap_or(now);
                self.shift(now.saturating_since(paused_at));
            }
            _ => {}
        }
        let may_leave = to.has_process() && !matches!(to, State::Stopping(_));
        if !may_leave {
            self.leaving = None;
        }
        let stays_in_round = self.leaving.is_some()
            || match to {
                State::Starting(Starting::Waiting)
                | State::Backoff { .. }
                | State::Stopping(
                    Stopping::Asked { then: Then::Start | Then::GiveUp, .. }
                    | Stopping::Killing { then: Then::Start | Then::GiveUp, .. },
                ) => true,
                State::Created
                | State::Starting(Starting::Spawning { .. } | Starting::Initialising { .. })
                | State::Running
                | State::Reloading { .. }
                | State::Paused
                | State::Stopping(
                    Stopping::Asked { then: Then::Stop, .. }
                    | Stopping::Killing { then: Then::Stop, .. }
                    | Stopping::Condemned { .. }
                    | Stopping::CondemnedKilling { .. },
                )
                | State::Stopped(_)
                | State::Failed(_) => false,
            };
        if !stays_in_round {
            self.round = None;
        }
    }

    /// Puts everything forward by the length of a pause.
    fn shift(&mut self, length: Duration) {
        self.ready_at = self.ready_at.map(|ready_at| ready_at.saturating_add(length));
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.shift(length);
        }
        if let Some(probe) = &mut self.probe {
            probe.shift(length);
        }
    }

    /// When something is to be done about it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let running = self.paused_at.is_none();
        let probe_at = self.probe.as_ref().filter(|_| running).and_then(ProbeSet::deadline);
        let watchdog_at = self.watchdog.filter(|_| running).map(|watchdog| watchdog.deadline());
        [self.state().deadline(), probe_at, watchdog_at].into_iter().flatten().min()
    }

    /// What holds between any two inputs, as far as this daemon alone is concerned.
    pub(super) fn check_invariants(&self, now: Instant) -> Result<(), Epitaph> {
        self.lifecycle.check_invariants(now)?;
        self.limiter.check_invariants()?;
        let state = self.state();
        let is_up = state.is_up();
        if let Some(probe) = &self.probe {
            probe.check_invariants()?;
        }
        let initialises = matches!(state, State::Starting(Starting::Initialising { .. }));
        let comes_up = initialises && self.spec.probes.startup.is_some();
        let is_asked = self.probe.is_some();
        invariant!(!is_up || is_asked != self.spec.probes.is_empty(), "up, but its probes are not");
        invariant!(is_up || comes_up || !is_asked, "probed, but neither up nor coming up");
        invariant!(is_up || self.watchdog.is_none(), "watched but not up");
        if let Some(watchdog) = &self.watchdog {
            watchdog.check_invariants()?;
        }
        let paused = state == State::Paused;
        invariant!(self.paused_at.is_some() == paused, "a pause without its beginning");
        invariant!(!is_up || self.ready_at.is_some(), "up, but never ready");
        invariant!(!self.marked, "marked between two inputs");
        let stopping = matches!(state, State::Stopping(_));
        let may_leave = state.has_process() && !stopping;
        let leaving = self.leaving.is_some();
        invariant!(!leaving || may_leave, "leaving without running");
        let waits = !leaving || self.dependents_alive > 0;
        invariant!(waits, "leaving, but nothing holds it");
        let (alive, dependents) = (self.dependents_alive, self.dependents);
        invariant!(alive <= dependents, "{alive} of {dependents} alive");
        let retries = self.spec.max_retries.unwrap_or(u32::MAX);
        invariant!(self.failures <= retries, "more retries than {retries}");
        let given_up = state == State::Failed(FailureReason::Unkillable);
        invariant!(self.abandoned.is_none() || given_up, "beside a process that stayed");
        Ok(())
    }

    fn retries_are_used_up(&self) -> bool {
        self.spec.max_retries.is_some_and(|max| self.failures >= max)
    }
}
