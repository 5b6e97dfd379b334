//! Of the supervisor: which daemon should be where, what should become of its exits, and when it may
//! be killed.
//!
//! It also knows which processes there are and what they were told, which is what the environment
//! goes by.

use std::time::Duration;

use duende_core::lifecycle::{FailureReason, Starting, State, StopCause, Stopping, Then};
use duende_core::supervise::Effect;
use duende_core::time::Instant;
use duende_world::{DAEMONS, End, Input, Seen, Step, TEMPLATES, World};

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
    /// The question about its health that it has not answered.
    pub probe: Option<u64>,
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
    failures: u32,
    ready_at: Option<u64>,
    /// When it was started again after a failure.
    stamps: Vec<u64>,
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
            before: None,
        }
    }
}

impl Daemons {
    fn daemon(&mut self, slot: u32) -> Option<&mut Daemon> {
        self.slots.get_mut(usize::try_from(slot).ok()?)?.as_mut()
    }

    fn is_running(&self, slot: u32) -> bool {
        let place = usize::try_from(slot).ok().and_then(|slot| self.slots.get(slot));
        place.and_then(Option::as_ref).is_some_and(|daemon| daemon.state == State::Running)
    }

    fn added(&mut self, slot: u32, template_number: u8, depends_on: u8) {
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
            failures: 0,
            ready_at: None,
            stamps: Vec::new(),
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
            Effect::Probe { id, incarnation, kind: _, token } => {
                let process = self.told(id.slot(), incarnation, Told::Nothing)?;
                process.probe = Some(token);
                hold!(self.is_running(id.slot()), "supervisor: probed what does not run", "{id}");
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
            let Some(exit) = exit else {
                return Err(Failure::new(
                    "supervisor: a process is over without an exit",
                    format!("slot {slot}: {from:?} → {to:?}"),
                ));
            };
            daemon.process = None;
            let expected = daemon.verdict(from, exit, heard, entropy);
            let leaves = stopping_all && to == State::Stopped(StopCause::Operator);
            hold!(
                to == expected || leaves,
                "supervisor: the verdict on an exit",
                "slot {slot}: {from:?}, {exit:?} → {to:?} instead of {expected:?}"
            );
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
                    deadline.as_ns() <= heard,
                    "supervisor: condemned before its start timeout",
                    "slot {slot}: {deadline:?} at {heard}"
                );
            }
            (State::Backoff { until, .. }, State::Starting(_)) => {
                let asked = self.operator_asked(slot);
                hold!(
                    until.as_ns() <= heard || asked,
                    "supervisor: started again before its backoff is over",
                    "slot {slot}: {until:?} at {heard}"
                );
            }
            (_, State::Running) => {
                daemon.ready_at = Some(heard);
            }
            (_, State::Starting(Starting::Spawning { .. })) => daemon.ready_at = None,
            _ => {}
        }
        Ok(())
    }

    /// Whether this step is an operator's word on this daemon.
    fn operator_asked(&self, slot: u32) -> bool {
        matches!(
            self.step.as_ref().map(|step| &step.input),
            Some(Input::Start { slot: asked } | Input::Restart { slot: asked })
                if u32::from(*asked) == slot
        )
    }
}

impl Daemon {
    /// The slots of what it depends on.
    #[must_use]
    pub fn depends_on(&self) -> &[u32] {
        &self.depends_on
    }

    /// What should become of an exit: the rules of `supervise` and `restart`, said again.
    fn verdict(&mut self, from: State, end: End, now: u64, entropy: u64) -> State {
        let plan = self.plan;
        if self.ready_at.is_some_and(|at| now.saturating_sub(at) >= STABLE_NS) {
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
        let Some(reason) = failure else {
            if !plan.after_success {
                return State::Stopped(StopCause::Finished);
            }
            return State::Backoff { until: self.until(0, now, entropy), failure: None };
        };
        let used_up = plan.retries_max.is_some_and(|max| self.failures >= max);
        if !plan.after_failure || reason == FailureReason::Refused || used_up {
            return State::Failed(reason);
        }
        // OTP's `add_restart`, to the letter: of those within the period, how many?
        if let Some((restarts, period)) = plan.limit {
            let from = u128::from(now).saturating_sub(period.as_nanos());
            self.stamps.retain(|stamp| u128::from(*stamp) >= from);
            if self.stamps.len() >= usize::try_from(restarts).unwrap_or(usize::MAX) {
                return State::Failed(FailureReason::Quarantined { restarts, period });
            }
            self.stamps.push(now);
        }
        let until = self.until(self.failures, now, entropy);
        self.failures += 1;
        State::Backoff { until, failure: Some(reason) }
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

/// What a template of the world comes to, in this oracle's words.
#[derive(Clone, Copy, Debug)]
struct Plan {
    after_success: bool,
    after_failure: bool,
    retries_max: Option<u32>,
    /// So many restarts in so much time; none is no limit.
    limit: Option<(u32, Duration)>,
    /// The longest wait after the first failure.
    backoff_ns: u64,
}

impl Plan {
    fn of(template: u8) -> Self {
        let base = Self {
            after_success: false,
            after_failure: true,
            retries_max: None,
            limit: Some((5, Duration::from_millis(60))),
            backoff_ns: 1_000_000,
        };
        match template % TEMPLATES {
            1 | 6 => Self { after_success: true, ..base },
            3 => Self { retries_max: Some(3), limit: None, ..base },
            4 => Self { after_failure: false, ..base },
            5 => Self { backoff_ns: 0, ..base },
            7 => Self { limit: Some((1, Duration::from_millis(10))), ..base },
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
            _ => None,
        };
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Failure> {
        match seen {
            Seen::Effect(effect) => self.effect(effect),
            Seen::Supervised(handled) => {
                self.heard = self.heard.max(self.now.as_ns());
                let input = self.step.as_ref().map(|step| step.input.clone());
                if let Some(Input::Probed { of, token, .. }) = input
                    && let Some(daemon) = self.daemon(u32::from(of.slot))
                    && let Some(process) = &mut daemon.process
                    && process.incarnation == of.incarnation
                {
                    process.probe.take_if(|asked| *asked == token);
                }
                // An operator's start of what has no process forgets what it did before.
                if let (Ok(()), Some(Input::Start { slot } | Input::Restart { slot })) =
                    (handled, input)
                    && self.before.is_some_and(|state| !state.has_process())
                    && let Some(daemon) = self.daemon(u32::from(slot))
                {
                    (daemon.failures, daemon.stamps) = (0, Vec::new());
                }
                Ok(())
            }
            Seen::Added(Ok(id)) => {
                if let Some(Input::Add { template, depends_on }) =
                    self.step.as_ref().map(|step| step.input.clone())
                {
                    self.added(id.slot(), template, depends_on);
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
            let (seen, known) =
                (world.view(slot).map(|view| view.state), daemon.as_ref().map(|d| d.state));
            hold!(seen == known, "supervisor: changes are told", "{slot}: {seen:?}, {known:?}");
        }
        Ok(())
    }
}
