//! Of the supervisor: which daemon should be where, what should become of its exits, and when it may
//! be killed.
//!
//! It also knows which processes there are and what they were told, which is what the environment
//! goes by.

use std::time::Duration;

use duende_core::lifecycle::{FailureReason, Starting, State, StopCause, Stopping, Then};
use duende_core::probe::ProbeKind;
use duende_core::supervise::Effect;
use duende_core::time::Instant;
use duende_world::{DAEMONS, End, GROUPS_OF_DAEMONS, Input, Seen, Step, TEMPLATES, World};

use super::Oracle;
use crate::failure::{Failure, hold};

/// What a process was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing: it may run.
    Nothing,
    /// To end.
    Terminate,
    /// It is killed.
    Kill,
}

/// A process that was asked for and whose exit was not told to the supervisor.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Which of its daemon's starts.
    pub incarnation: u32,
    /// What it was told.
    pub told: Told,
    /// The question about its health that it has not answered, and when it was asked.
    pub probe: Option<(u64, ProbeKind, u64)>,
}

/// What is known of one daemon.
#[derive(Clone, Debug)]
pub struct Daemon {
    plan: Plan,
    depends_on: Vec<u32>,
    /// Where it is.
    pub state: State,
    /// Its process.
    pub process: Option<Process>,
    incarnation: u32,
    /// Whether it belongs to a group.
    grouped: bool,
    failures: u32,
    /// Since when it is up, put forward by its pauses.
    ready_at: Option<u64>,
    paused_at: Option<u64>,
    /// When it was started again, as its limit counts.
    stamps: Vec<u64>,
    /// The last sign of life, put forward by its pauses.
    alive_at: u64,
    /// Questions whether it works since the last answer that said so.
    asked: u32,
    /// Answers in a row, each in time, that said that it does not work.
    unwell: u32,
}

/// All daemons.
#[derive(Debug)]
pub struct Daemons {
    /// By slot.
    pub slots: [Option<Daemon>; DAEMONS],
    /// The incarnations of each slot are counted on when it has another daemon.
    incarnations: [u32; DAEMONS],
    now: Instant,
    /// The latest instant that the supervisor was told.
    heard: u64,
    step: Option<Step>,
    /// Some may be on their way out with the others.
    stopping_all: bool,
    /// Some were told to stop before others.
    stopping_chain: bool,
    /// Where the daemon of this step was at its beginning.
    before: Option<State>,
}

impl Default for Daemons {
    fn default() -> Self {
        Self {
            slots: Default::default(),
            incarnations: [0; DAEMONS],
            now: Instant::ZERO,
            heard: 0,
            step: None,
            stopping_all: false,
            stopping_chain: false,
            before: None,
        }
    }
}

impl Daemons {
    fn daemon(&mut self, slot: u32) -> Option<&mut Daemon> {
        self.slots.get_mut(usize::try_from(slot).ok()?)?.as_mut()
    }

    /// Whether a process is there, as far as the supervisor knows.
    #[must_use]
    pub fn is_current(&self, of: duende_world::Process) -> bool {
        let daemon = self.slots.get(usize::from(of.slot)).and_then(Option::as_ref);
        let process = daemon.and_then(|daemon| daemon.process);
        process.is_some_and(|process| process.incarnation == of.incarnation)
    }

    fn is_running(&self, slot: u32) -> bool {
        let place = usize::try_from(slot).ok().and_then(|slot| self.slots.get(slot));
        place
            .and_then(Option::as_ref)
            .is_some_and(|daemon| matches!(daemon.state, State::Running | State::Reloading { .. }))
    }

    fn added(&mut self, slot: u32, template_number: u8, depends_on: u8, group: u8) {
        let depends_on: Vec<u32> = (0..8_u32)
            .filter(|on| depends_on & (1 << on) != 0)
            .filter(|on| {
                usize::try_from(*on).is_ok_and(|on| self.slots.get(on).is_some_and(Option::is_some))
            })
            .collect();
        let Ok(index) = usize::try_from(slot) else { return };
        let incarnation = self.incarnations[index];
        self.slots[index] = Some(Daemon {
            plan: Plan::of(template_number),
            depends_on,
            state: State::Created,
            process: None,
            incarnation,
            grouped: usize::from(group) < GROUPS_OF_DAEMONS,
            failures: 0,
            ready_at: None,
            paused_at: None,
            stamps: Vec::new(),
            alive_at: 0,
            asked: 0,
            unwell: 0,
        });
    }

    fn effect(&mut self, effect: &Effect) -> Result<(), Failure> {
        self.heard = self.heard.max(self.now.as_ns());
        let heard = self.heard;
        match *effect {
            Effect::Changed { id, from, to } => self.changed(id.slot(), from, to),
            Effect::Spawn { id, incarnation } => {
                let depends_on = self
                    .daemon(id.slot())
                    .map(|daemon| daemon.depends_on.clone())
                    .unwrap_or_default();
                for on in depends_on {
                    hold!(
                        self.is_running(on),
                        "supervisor: spawned before its dependencies ran",
                        "{id} needs {on}"
                    );
                }
                let Some(daemon) = self.daemon(id.slot()) else {
                    return Err(Failure::new("supervisor: effect on nobody", format!("{id}")));
                };
                let before = daemon.process;
                hold!(before.is_none(), "supervisor: two processes", "{id} has {before:?}");
                let expected = daemon.incarnation.wrapping_add(1);
                hold!(
                    incarnation == expected,
                    "supervisor: incarnations are counted on",
                    "{id}: {incarnation} for {expected}"
                );
                daemon.incarnation = incarnation;
                daemon.process = Some(Process { incarnation, told: Told::Nothing, probe: None });
                self.incarnations[usize::try_from(id.slot()).unwrap_or(0)] = incarnation;
                Ok(())
            }
            Effect::Terminate { id, incarnation, grace } => {
                let process = *self.told(id.slot(), incarnation, Told::Terminate)?;
                let state = self.daemon(id.slot()).map(|daemon| daemon.state);
                let Some(State::Stopping(Stopping::Asked { deadline, .. })) = state else {
                    return Err(Failure::new(
                        "supervisor: terminated without stopping",
                        format!("{id} {process:?}"),
                    ));
                };
                let expected = deadline.as_ns().saturating_sub(heard);
                hold!(
                    grace.as_nanos() == u128::from(expected),
                    "supervisor: the grace is until the deadline",
                    "{id}: {grace:?} for {expected}"
                );
                Ok(())
            }
            Effect::Kill { id, incarnation } => {
                self.told(id.slot(), incarnation, Told::Kill).map(drop)
            }
            Effect::Probe { id, incarnation, kind, token } => {
                let process = self.told(id.slot(), incarnation, Told::Nothing)?;
                process.probe = Some((token, kind, heard));
                if let Some(daemon) = self.daemon(id.slot())
                    && kind == ProbeKind::Liveness
                {
                    daemon.asked += 1;
                }
                let startup = kind == ProbeKind::Startup;
                hold!(
                    self.is_running(id.slot()) || startup,
                    "supervisor: probed what does not run",
                    "{id}"
                );
                Ok(())
            }
            Effect::Pause { id, incarnation }
            | Effect::Resume { id, incarnation }
            | Effect::Reload { id, incarnation }
            | Effect::ReloadTimedOut { id, incarnation } => {
                self.told(id.slot(), incarnation, Told::Nothing).map(drop)
            }
            Effect::Halt(ref epitaph) => Err(Failure::new("supervisor: halted", epitaph.as_str())),
        }
    }

    fn told(&mut self, slot: u32, incarnation: u32, told: Told) -> Result<&mut Process, Failure> {
        let process = self.daemon(slot).and_then(|daemon| daemon.process.as_mut());
        match process {
            Some(process) if process.incarnation == incarnation => {
                if told != Told::Nothing {
                    process.told = told;
                }
                Ok(process)
            }
            other => Err(Failure::new(
                "supervisor: effect on a process that is not there",
                format!("{told:?} for {slot}.{incarnation}, there is {other:?}"),
            )),
        }
    }

    fn changed(&mut self, slot: u32, from: State, to: State) -> Result<(), Failure> {
        let (heard, step, stopping_all) = (self.heard, self.step.clone(), self.stopping_all);
        let (stopping_chain, operator_starts) = (self.stopping_chain, self.operator_starts());
        let chained = matches!(step.as_ref().map(|s| &s.input), Some(Input::StartChain { .. }));
        let entropy = step.as_ref().map_or(0, |step| step.entropy);
        let Some(daemon) = self.daemon(slot) else {
            return Err(Failure::new("supervisor: effect on nobody", format!("slot {slot}")));
        };
        let known = daemon.state;
        hold!(
            known == from && from != to,
            "supervisor: a state follows the one before",
            "slot {slot}: {from:?} → {to:?}, was {known:?}"
        );
        daemon.state = to;
        let exit = match step.map(|step| step.input) {
            Some(Input::Exited { of, end })
                if u32::from(of.slot) == slot
                    && daemon.process.is_some_and(|p| p.incarnation == of.incarnation) =>
            {
                Some(end)
            }
            _ => None,
        };
        if from.has_process() && !to.has_process() {
            let Some(end) = exit else {
                return Err(Failure::new(
                    "supervisor: a process is over without an exit",
                    format!("slot {slot}: {from:?} → {to:?}"),
                ));
            };
            daemon.process = None;
            let kept = (daemon.failures, daemon.stamps.clone());
            let expected = daemon.verdict(from, end, heard, entropy);
            if to != expected {
                // It was to leave with others, and only waited for its turn: that is no failure of its
                // own. Or it was one too many for its group, which quarantines it.
                let by_group = daemon.grouped
                    && matches!(to, State::Failed(FailureReason::Quarantined { restarts: 3, .. }));
                let left = match to {
                    State::Stopped(StopCause::Operator) => stopping_all || stopping_chain,
                    State::Stopped(StopCause::GaveUp) => daemon.grouped,
                    State::Backoff { until, failure: None } => {
                        daemon.grouped && until.as_ns() == heard
                    }
                    _ => false,
                };
                hold!(
                    left || by_group,
                    "supervisor: the verdict on an exit",
                    "slot {slot}: {from:?}, {end:?} → {to:?} instead of {expected:?}"
                );
                if left {
                    (daemon.failures, daemon.stamps) = kept;
                }
            }
        }
        // An operator's start of what has no process forgets what it did before.
        let starts = !from.has_process() && matches!(to, State::Starting(Starting::Waiting));
        if starts && operator_starts {
            daemon.failures = 0;
            if chained {
                daemon.started_by_operator(heard);
            }
        }
        match (from, to) {
            (_, State::Paused) => daemon.paused_at = Some(heard),
            (State::Paused, _) => {
                let length = heard.saturating_sub(daemon.paused_at.take().unwrap_or(heard));
                daemon.ready_at = daemon.ready_at.map(|at| at.saturating_add(length));
                daemon.alive_at = daemon.alive_at.saturating_add(length);
                if let Some((_, _, at)) = daemon.process.as_mut().and_then(|p| p.probe.as_mut()) {
                    *at = at.saturating_add(length);
                }
            }
            _ => {}
        }
        if to.is_up() && !from.is_up() {
            (daemon.ready_at, daemon.alive_at) = (Some(heard), heard);
            (daemon.asked, daemon.unwell) = (0, 0);
        }
        match (from, to) {
            (
                State::Stopping(Stopping::Asked { deadline, .. }),
                State::Stopping(Stopping::Killing { .. }),
            ) => {
                hold!(
                    deadline.as_ns() <= heard,
                    "supervisor: killed before its grace is over",
                    "slot {slot}: {deadline:?} at {heard}"
                );
            }
            (
                State::Starting(
                    Starting::Spawning { deadline } | Starting::Initialising { deadline },
                ),
                State::Stopping(Stopping::Condemned(FailureReason::StartTimeout)),
            ) => {
                hold!(
                    deadline.as_ns() <= heard || daemon.plan.comes_up_by_probe,
                    "supervisor: condemned before its start timeout",
                    "slot {slot}: {deadline:?} at {heard}"
                );
            }
            (State::Backoff { until, .. }, State::Starting(_)) => {
                hold!(
                    until.as_ns() <= heard || operator_starts,
                    "supervisor: started again before its backoff is over",
                    "slot {slot}: {until:?} at {heard}"
                );
            }
            (_, State::Stopping(Stopping::Condemned(FailureReason::Unhealthy))) => {
                let (asked, threshold) = (daemon.asked, daemon.plan.failures_max);
                hold!(
                    threshold.is_some_and(|threshold| asked >= threshold),
                    "supervisor: condemned before its checks failed often enough",
                    "slot {slot}: asked {asked} times, {threshold:?}"
                );
            }
            (_, State::Stopping(Stopping::Condemned(FailureReason::Watchdog))) => {
                let silent = heard.saturating_sub(daemon.alive_at);
                hold!(
                    daemon.plan.watched && (silent >= WATCHDOG_NS || heard == u64::MAX),
                    "supervisor: condemned before its watchdog's time is over",
                    "slot {slot}: {silent} ns after a sign of life"
                );
            }
            (_, State::Starting(Starting::Spawning { .. })) => daemon.ready_at = None,
            _ => {}
        }
        Ok(())
    }

    /// Whether in this step an operator starts a daemon, or several.
    fn operator_starts(&self) -> bool {
        matches!(
            self.step.as_ref().map(|step| &step.input),
            Some(Input::Start { .. } | Input::StartChain { .. } | Input::Restart { .. })
        )
    }

    /// What a process has answered.
    fn answered(&mut self, input: &Input) {
        let heard = self.heard;
        match *input {
            Input::Alive(of) => {
                if let Some(daemon) = self.daemon(u32::from(of.slot))
                    && daemon.process.is_some_and(|p| p.incarnation == of.incarnation)
                {
                    daemon.alive_at = daemon.paused_at.unwrap_or(heard);
                }
            }
            Input::Probed { of, token, healthy } => {
                let Some(daemon) = self.daemon(u32::from(of.slot)) else { return };
                // For what is paused, time stands still.
                let when = daemon.paused_at.unwrap_or(heard);
                let Some(process) = &mut daemon.process else { return };
                if process.incarnation != of.incarnation {
                    return;
                }
                let Some((_, kind, at)) = process.probe.take_if(|(asked, _, _)| *asked == token)
                else {
                    return;
                };
                let in_time = when < at.saturating_add(PROBE_TIMEOUT_NS);
                if kind != ProbeKind::Liveness || !in_time {
                    return;
                }
                (daemon.asked, daemon.unwell) =
                    if healthy { (0, 0) } else { (daemon.asked, daemon.unwell + 1) };
            }
            _ => {}
        }
    }
}

impl Daemon {
    /// Whether it has to give signs of life.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.plan.watched && self.state.is_up()
    }

    /// The slots of what it depends on.
    #[must_use]
    pub fn depends_on(&self) -> &[u32] {
        &self.depends_on
    }

    /// What should become of an exit: the rules of `supervise` and `restart`, said again.
    fn verdict(&mut self, from: State, end: End, now: u64, entropy: u64) -> State {
        let plan = self.plan;
        let until = self.paused_at.unwrap_or(now);
        if self.ready_at.is_some_and(|at| until.saturating_sub(at) >= STABLE_NS) {
            self.failures = 0;
        }
        let failure = match from {
            State::Stopping(Stopping::Asked { then, .. } | Stopping::Killing { then }) => {
                return match then {
                    Then::Stop => State::Stopped(StopCause::Operator),
                    Then::GiveUp => State::Stopped(StopCause::GaveUp),
                    Then::Start => State::Starting(Starting::Waiting),
                };
            }
            State::Stopping(Stopping::Condemned(reason)) => Some(reason),
            _ => failure(end),
        };
        match failure {
            None if !plan.after_success => return State::Stopped(StopCause::Finished),
            None => {}
            Some(reason) => {
                let used_up = plan.retries_max.is_some_and(|max| self.failures >= max);
                if !plan.after_failure || reason == FailureReason::Refused || used_up {
                    return State::Failed(reason);
                }
            }
        }
        if (failure.is_some() || plan.fixed_window)
            && let Some((restarts, period)) = plan.limit
            && !self.admit(now)
        {
            return State::Failed(FailureReason::Quarantined { restarts, period });
        }
        let row = if failure.is_some() { self.failures } else { 0 };
        self.failures += u32::from(failure.is_some());
        State::Backoff { until: self.until(row, now, entropy), failure }
    }

    /// Whether the limit admits a start.
    fn admit(&mut self, now: u64) -> bool {
        let Some((restarts, period)) = self.plan.limit else { return true };
        let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        if self.plan.fixed_window {
            // systemd's: the first of them opens a window, and the next after its end another one.
            if self.stamps.first().is_some_and(|begin| now.saturating_sub(*begin) > period_ns) {
                self.stamps.clear();
            }
        } else {
            // OTP's `add_restart`, to the letter: of those within the period, how many?
            self.stamps.retain(|stamp| *stamp >= now.saturating_sub(period_ns));
        }
        let admitted = self.stamps.len() < usize::try_from(restarts).unwrap_or(usize::MAX);
        if admitted {
            self.stamps.push(now);
        }
        admitted
    }

    /// An operator starts it anew, which forgives it; but systemd's limit counts that, too.
    fn started_by_operator(&mut self, now: u64) {
        self.failures = 0;
        if self.plan.fixed_window {
            self.admit(now);
        } else {
            self.stamps.clear();
        }
    }

    /// Doubling one at a time, and full jitter.
    fn until(&self, failures: u32, now: u64, entropy: u64) -> Instant {
        let mut ceiling = self.plan.backoff_ns;
        for _ in 0..failures {
            ceiling = (ceiling * 2).min(BACKOFF_NS_MAX);
        }
        let delay = (u128::from(entropy) * (u128::from(ceiling) + 1)) >> 64;
        Instant::from_ns(now.saturating_add(u64::try_from(delay).unwrap_or(u64::MAX)))
    }
}

const BACKOFF_NS_MAX: u64 = 8_000_000;
const STABLE_NS: u64 = 40_000_000;

const WATCHDOG_NS: u64 = 6_000_000;
const PROBE_TIMEOUT_NS: u64 = 1_000_000;

/// What a template of the world comes to, in this oracle's words.
#[derive(Clone, Copy, Debug)]
struct Plan {
    after_success: bool,
    after_failure: bool,
    retries_max: Option<u32>,
    /// So many restarts in so much time; none is no limit.
    limit: Option<(u32, Duration)>,
    /// Whether the limit counts as systemd does; else as OTP does.
    fixed_window: bool,
    /// The longest wait after the first failure.
    backoff_ns: u64,
    /// How many questions whether it works may fail in a row.
    failures_max: Option<u32>,
    watched: bool,
    comes_up_by_probe: bool,
}

impl Plan {
    fn of(template: u8) -> Self {
        let ms = Duration::from_millis;
        let base = Self {
            after_success: false,
            after_failure: true,
            retries_max: None,
            limit: Some((5, ms(60))),
            fixed_window: false,
            backoff_ns: 1_000_000,
            failures_max: None,
            watched: false,
            comes_up_by_probe: false,
        };
        match template % TEMPLATES {
            1 => Self { after_success: true, ..base },
            2 => Self { failures_max: Some(2), ..base },
            3 => Self { retries_max: Some(3), limit: None, ..base },
            4 => Self { after_failure: false, ..base },
            5 => Self { backoff_ns: 0, ..base },
            6 => Self { after_success: true, failures_max: Some(1), ..base },
            7 => Self { limit: Some((1, ms(10))), ..base },
            8 => Self { watched: true, ..base },
            9 => Self { comes_up_by_probe: true, ..base },
            11 => {
                Self { after_success: true, limit: Some((1, ms(10))), fixed_window: true, ..base }
            }
            _ => base,
        }
    }
}

/// Which ends are failures: all but code 0 and systemd's clean signals.
fn failure(end: End) -> Option<FailureReason> {
    Some(match end {
        End::Code(0) | End::Signal(1 | 2 | 13 | 15) => return None,
        End::Code(code) => FailureReason::ExitCode(i32::from(code)),
        End::Signal(signal) => FailureReason::Signal(i32::from(signal)),
        End::Error => FailureReason::Error,
        End::Trap => FailureReason::Trap,
        End::SliceBudget => FailureReason::SliceBudget,
        End::Refused => FailureReason::Refused,
        End::Lost => FailureReason::Lost,
    })
}

impl Oracle for Daemons {
    fn step(&mut self, now: Instant, step: &Step) {
        self.now = now;
        self.step = Some(step.clone());
        self.before = match step.input {
            Input::Start { slot } | Input::Restart { slot } => {
                self.daemon(u32::from(slot)).map(|daemon| daemon.state)
            }
            Input::StopAll => {
                self.stopping_all = true;
                None
            }
            Input::StopChain { .. } => {
                self.stopping_chain = true;
                None
            }
            _ => None,
        };
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Failure> {
        match seen {
            Seen::Effect(effect) => self.effect(effect),
            Seen::Supervised(handled) => {
                self.heard = self.heard.max(self.now.as_ns());
                let input = self.step.as_ref().map(|step| step.input.clone());
                if let Some(input) = &input {
                    self.answered(input);
                }
                if let (Ok(()), Some(Input::Forgive { slot })) = (handled, &input)
                    && let Some(daemon) = self.daemon(u32::from(*slot))
                {
                    (daemon.failures, daemon.stamps) = (0, Vec::new());
                }
                // A restart of what waits changes no state, and forgives it too.
                if let (Ok(()), Some(Input::Start { slot } | Input::Restart { slot })) =
                    (handled, &input)
                    && self.before.is_some_and(|state| !state.has_process())
                {
                    let heard = self.heard;
                    if let Some(daemon) = self.daemon(u32::from(*slot)) {
                        daemon.started_by_operator(heard);
                    }
                }
                Ok(())
            }
            Seen::Added(Ok(id)) => {
                if let Some(Input::Add { template, depends_on, group }) =
                    self.step.as_ref().map(|step| step.input.clone())
                {
                    self.added(id.slot(), template, depends_on, group);
                }
                Ok(())
            }
            Seen::Removed(Ok(())) => {
                if let Some(Input::Remove { slot }) = self.step.as_ref().map(|step| &step.input)
                    && let Some(place) = self.slots.get_mut(usize::from(*slot))
                {
                    *place = None;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn done(&mut self, world: &World) -> Result<(), Failure> {
        for (slot, daemon) in (0..).zip(&self.slots) {
            if let Some(daemon) = daemon
                && let Some(threshold) = daemon.plan.failures_max
            {
                let unwell = daemon.unwell;
                hold!(
                    unwell < threshold || !daemon.state.is_up(),
                    "supervisor: who is unwell often enough is condemned",
                    "{slot}: {unwell} times in a row"
                );
            }
            let (seen, known) =
                (world.view(slot).map(|view| view.state), daemon.as_ref().map(|d| d.state));
            hold!(seen == known, "supervisor: changes are told", "{slot}: {seen:?}, {known:?}");
        }
        Ok(())
    }
}
