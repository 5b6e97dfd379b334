//! What operators ask for.
//!
//! A verb for several daemons does what it can, and says for each what became of it. Nothing is asked
//! of a supervisor that has halted, and nothing is started once the fleet stops.

use duende_core::{lifecycle::Starting, lifecycle::State, supervise::Input};

use super::{
    Answer, Decider, Effect, QuestionId, Verb,
    waiter::{Goal, Waiter},
};
use crate::{backend::Ask, control::protocol::ErrorCode};

impl Decider {
    pub(super) fn ask(&mut self, question: QuestionId, verb: Verb) {
        if let Verb::Down = verb {
            self.stop_all();
            return;
        }
        if let Err(refusal) = self.admit(&verb) {
            self.effect(Effect::Answer(question, refusal));
            return;
        }
        match verb {
            Verb::Start(slots) => self.start(question, &slots),
            Verb::Stop(slots) => {
                self.put(question, &slots, Goal::Down, Input::StopWithDependents);
            }
            Verb::Restart(slots) => {
                self.put(question, &slots, Goal::Up, Input::RestartWithDependencies);
            }
            Verb::Pause(slots) => {
                let allowed = |state| matches!(state, State::Running | State::Paused);
                self.at_once(question, &slots, "paused", allowed, Input::Pause);
            }
            Verb::Resume(slots) => {
                let allowed = |state| matches!(state, State::Paused);
                self.at_once(question, &slots, "resumed", allowed, Input::Resume);
            }
            Verb::Reload(slots) => self.reload(question, &slots),
            Verb::Settled => {
                let asked = self.asked(&self.all(&[]));
                self.wait(Waiter::new(question, self.now, Goal::Settled, asked));
            }
            Verb::Figures(slot) => self.ask_figures(question, slot),
            Verb::Down => {}
        }
    }

    fn admit(&self, verb: &Verb) -> Result<(), Answer> {
        if self.halted.is_some() && !matches!(verb, Verb::Figures(_)) {
            return Err(self.refusal_when_halted());
        }
        let starts = matches!(
            verb,
            Verb::Start(_) | Verb::Restart(_) | Verb::Pause(_) | Verb::Resume(_) | Verb::Reload(_)
        );
        if starts && self.leaving.is_asked() {
            let message = "the manager is stopping: `duende up` starts the fleet again".to_owned();
            return Err(Answer::Refused { code: ErrorCode::Stopping, message });
        }
        if self.waiters.len() >= super::WAITERS_MAX {
            let message = format!("{} questions wait already: try again", self.waiters.len());
            return Err(Answer::Refused { code: ErrorCode::Busy, message });
        }
        Ok(())
    }

    /// With names, a second start is an error; without, what runs is passed over.
    fn start(&mut self, question: QuestionId, slots: &[u32]) {
        let mut waiter = Waiter::new(question, self.now, Goal::Up, self.asked(&self.all(slots)));
        for slot in self.all(slots) {
            let state = self.view(slot).map(|view| view.state);
            let refusal = match state {
                Some(state) if state.is_up() && self.main_ended(slot) => {
                    "has ended, and what it left is being ended; `duende restart` starts it afterwards"
                }
                Some(
                    State::Starting(Starting::Spawning { .. } | Starting::Initialising { .. })
                    | State::Running
                    | State::Reloading { .. }
                    | State::Paused,
                ) => "is started already",
                Some(State::Backoff { .. }) => {
                    "is started already and waits for its next try; `duende restart` tries at once"
                }
                Some(State::Stopping(_)) => "is stopping; `duende restart` starts it afterwards",
                Some(
                    State::Created
                    | State::Starting(Starting::Waiting)
                    | State::Stopped(_)
                    | State::Failed(_),
                )
                | None => {
                    self.want(slot, true);
                    self.input_for(slot, Input::StartWithDependencies);
                    continue;
                }
            };
            if !slots.is_empty() {
                let detail = format!("{} {refusal}", self.name(slot));
                waiter.settle(slot, &Err((ErrorCode::InvalidState, detail)));
            }
        }
        self.wait(waiter);
    }

    /// Gives each daemon an input, and waits for the goal.
    fn put(
        &mut self,
        question: QuestionId,
        slots: &[u32],
        goal: Goal,
        input: fn(duende_core::supervise::DaemonId) -> Input,
    ) {
        let slots = self.all(slots);
        let waiter = Waiter::new(question, self.now, goal, self.asked(&slots));
        for slot in slots {
            self.want(slot, goal == Goal::Up);
            self.input_for(slot, input);
        }
        self.wait(waiter);
    }

    /// Gives each daemon in a state that allows it an input that is done at once.
    fn at_once(
        &mut self,
        question: QuestionId,
        slots: &[u32],
        what: &str,
        allowed: fn(State) -> bool,
        input: fn(duende_core::supervise::DaemonId) -> Input,
    ) {
        let slots = self.all(slots);
        let mut waiter = Waiter::new(question, self.now, Goal::Nothing, self.asked(&slots));
        for slot in slots {
            let allowed = |state| allowed(state) && !self.main_ended(slot);
            if self.view(slot).is_some_and(|view| allowed(view.state)) {
                self.input_for(slot, input);
            } else {
                waiter.settle(slot, &Err((ErrorCode::InvalidState, self.not_now(slot, what))));
            }
        }
        self.wait(waiter);
    }

    fn reload(&mut self, question: QuestionId, slots: &[u32]) {
        let slots = self.all(slots);
        let mut waiter = Waiter::new(question, self.now, Goal::Reloaded, self.asked(&slots));
        for slot in slots {
            let runs = self.view(slot).is_some_and(|view| view.state == State::Running);
            if runs && !self.main_ended(slot) {
                self.input_for(slot, Input::Reload);
            } else {
                waiter
                    .settle(slot, &Err((ErrorCode::InvalidState, self.not_now(slot, "reloaded"))));
            }
        }
        self.wait(waiter);
    }

    fn main_ended(&self, slot: u32) -> bool {
        self.daemon(slot).is_some_and(|daemon| daemon.main_ended().is_some())
    }

    fn not_now(&self, slot: u32, what: &str) -> String {
        format!("{} can't be {what} now; `duende ps` shows its state", self.name(slot))
    }

    fn ask_figures(&mut self, question: QuestionId, slot: u32) {
        let runs = self.view(slot).is_some_and(|view| view.state == State::Running);
        let there = self.daemon(slot).filter(|_| runs);
        let abilities = there.map(|daemon| daemon.spec.abilities);
        let at = there.and_then(super::Daemon::running).map(|(at, ..)| at);
        let (Some(abilities), Some(at)) = (abilities, at) else {
            self.effect(Effect::Answer(question, Answer::Figures { slot, figures: Vec::new() }));
            return;
        };
        self.next_token = self.next_token.wrapping_add(1);
        let token = self.next_token;
        self.wait(Waiter::for_figures(question, self.now, at, token, abilities));
        if abilities.speaks {
            self.ask_backend(at, Ask::Sample { token });
        }
        if abilities.has_process {
            self.ask_backend(at, Ask::Count);
        }
    }

    /// Decides before the goal is looked at: what was true before the question does not count.
    fn wait(&mut self, waiter: Waiter) {
        self.waiters.push(waiter);
        self.decide();
    }

    fn input_for(&mut self, slot: u32, input: fn(duende_core::supervise::DaemonId) -> Input) {
        if let Some(id) = self.daemon(slot).map(super::Daemon::id) {
            self.inputs.push_back(input(id));
        }
    }

    /// Remembers what an operator wanted of a daemon last: whoever wanted the opposite before waits in
    /// vain.
    fn want(&mut self, slot: u32, up: bool) {
        for waiter in &mut self.waiters {
            waiter.other_wants(slot, up);
        }
    }

    /// These daemons, each with its incarnation.
    fn asked(&self, slots: &[u32]) -> Vec<(u32, u32)> {
        let incarnation = |slot| self.view(slot).map_or(0, |view| view.incarnation);
        slots.iter().map(|slot| (*slot, incarnation(*slot))).collect()
    }

    /// These slots, or all.
    fn all(&self, slots: &[u32]) -> Vec<u32> {
        if slots.is_empty() {
            (0_u32..).zip(&self.daemons).map(|(slot, _)| slot).collect()
        } else {
            slots.to_vec()
        }
    }
}
