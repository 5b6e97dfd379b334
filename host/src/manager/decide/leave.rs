//! The end of a fleet: when it is asked for, and when it has come.
//!
//! Rules:
//! 1. The first request, a signal or `down` or the end of the work, stops everything in order,
//!    dependents first, each with its grace.
//! 2. A signal that comes after it leaves out order and grace: what still runs is killed. A further
//!    `down` hurries nobody (`tests::a_signal_hurries_what_down_began_and_a_second_down_does_not`).
//! 3. The fleet is over when the supervisor knows of no process any more. A process that can't be
//!    killed does not hold it up: the core gives it up after a few attempts.
//! 4. A fleet that ends with its work does so when that is done and each daemon is ready or over: nothing
//!    to do is not done by what can't run (`rule_tests::a_fleet_ends_with_its_work_only_if_that_is_its_end`).
//! 5. A supervisor that has halted decides nothing: then the first request is the end, and the
//!    backends end what they hold by themselves.

use duende_core::{
    epitaph::Epitaph,
    lifecycle::State,
    supervise::Input,
    wire::link::{Address, LogLevel},
};

use super::{
    Answer, Decider, Effect,
    planted::{self, Plant},
};
use crate::control::protocol::{ErrorCode, EventKind};

/// How far a fleet is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    InOrder,
    AtOnce,
    Over,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Leaving {
    stage: Stage,
    ends_with_work: bool,
    /// A source that can't be read again gives nothing any more.
    work_has_ended: bool,
    /// Whose source failed.
    unfinished: Vec<String>,
}

impl Leaving {
    pub(super) const fn new(ends_with_work: bool) -> Self {
        let stage = Stage::Serving;
        Self { stage, ends_with_work, work_has_ended: false, unfinished: Vec::new() }
    }

    /// Whether order and grace were left out.
    pub(super) const fn is_at_once(&self) -> bool {
        matches!(self.stage, Stage::AtOnce)
    }

    pub(super) const fn is_asked(&self) -> bool {
        !matches!(self.stage, Stage::Serving)
    }
}

impl Decider {
    pub(super) fn interrupt(&mut self, signal: &str) {
        match self.leaving.stage {
            Stage::Serving => {
                self.say(LogLevel::Info, format!("{signal}: stopping everything in order"));
                self.stop_all();
            }
            Stage::InOrder | Stage::AtOnce => {
                let line = format!("{signal} while stopping: killing what still runs");
                self.say(LogLevel::Warn, line);
                self.leaving.stage = Stage::AtOnce;
                if !planted::is(Plant::SecondSignal) {
                    self.inputs.push_back(Input::KillAll);
                }
            }
            // Nothing runs any more, and that was said.
            Stage::Over => {}
        }
    }

    pub(super) fn stop_all(&mut self) {
        if self.leaving.is_asked() {
            return;
        }
        self.leaving.stage = Stage::InOrder;
        self.record_of_fleet(EventKind::Shutdown, String::new());
        self.inputs.push_back(Input::StopAll);
    }

    /// A source that can't be read again gives nothing any more; `unfinished`: it failed, and whose it is.
    pub(super) fn work_has_ended(&mut self, unfinished: Option<String>) {
        if self.leaving.ends_with_work {
            self.leaving.work_has_ended = true;
            self.leaving.unfinished.extend(unfinished);
        }
    }

    /// Looks whether the fleet is over, and says so once.
    pub(super) fn look_for_end(&mut self) {
        self.watch_places();
        if self.leaving.stage == Stage::Over {
            return;
        }
        let states = || self.daemons.iter().filter_map(|daemon| self.supervisor.view(daemon.id));
        let is_done = |state: State| match state {
            State::Stopped(_) | State::Failed(_) => true,
            State::Running | State::Reloading { .. } | State::Paused | State::Stopping(_) => {
                self.leaving.work_has_ended
            }
            State::Created | State::Starting(_) | State::Backoff { .. } => false,
        };
        if self.leaving.ends_with_work
            && !self.leaving.is_asked()
            && states().all(|view| is_done(view.state))
        {
            self.stop_all();
            self.decide();
        }
        // Looked at after every event: nobody counts the living before an end was asked for.
        if !self.leaving.is_asked() {
            return;
        }
        let states = || self.daemons.iter().filter_map(|daemon| self.supervisor.view(daemon.id));
        if self.halted.is_some() || !states().any(|view| view.state.has_process()) {
            self.leaving.stage = Stage::Over;
            let told = self.repeats.rest();
            self.tell_all(told);
            self.say_who_is_left();
            self.effect(Effect::End);
        }
    }

    fn say_who_is_left(&mut self) {
        let is_left = |slot: &u32| self.view(*slot).is_some_and(|view| view.unkillable);
        let slots = (0_u32..).zip(&self.daemons).map(|(slot, _)| slot);
        for slot in slots.filter(is_left).collect::<Vec<_>>() {
            let incarnation = self.view(slot).map_or(0, |view| view.incarnation);
            let at = Address::of(slot, incarnation);
            let text = "a process of it can't be killed, and is left".to_owned();
            self.record(at, EventKind::LeftBehind, &text);
        }
    }

    /// The names of the daemons that have failed, or whose work could not be read to its end.
    #[must_use]
    pub fn failed(&self) -> Vec<String> {
        let failed = self.daemons.iter().filter(|daemon| {
            let state = self.supervisor.view(daemon.id).map(|view| view.state);
            matches!(state, Some(State::Failed(_)))
        });
        let mut names: Vec<_> = failed.map(|daemon| daemon.spec.name.clone()).collect();
        for name in &self.leaving.unfinished {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// The supervisor found one of its rules broken, and decides nothing any more. What runs goes on;
    /// whoever waits for a decision waits in vain.
    pub(super) fn halt(&mut self, epitaph: &Epitaph) {
        if self.halted.is_some() {
            return;
        }
        self.halted = Some(epitaph.to_string());
        self.inputs.clear();
        self.effect(Effect::Dump(epitaph.clone()));
        self.record_of_fleet(EventKind::Halted, epitaph.to_string());
        for waiter in std::mem::take(&mut self.waiters) {
            let refusal = self.refusal_when_halted();
            self.effect(Effect::Answer(waiter.question(), refusal));
        }
    }

    pub(super) fn refusal_when_halted(&self) -> Answer {
        let words = self.halted.as_deref().unwrap_or_default();
        let message = format!(
            "the supervisor halted: {words}; please report this, with flight-recorder.txt of the fleet's state directory. `duende down` ends the fleet"
        );
        Answer::Refused { code: ErrorCode::Halted, message }
    }
}
