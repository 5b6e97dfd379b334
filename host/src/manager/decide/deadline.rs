//! What is waited for, until when, and what happens then.
//!
//! - The supervisor's deadlines are the core's.
//! - A link that outlives its process is closed ([`LINK_TIME`](super::news::LINK_TIME)).
//! - A kill that the machine itself asked for is asked for again, each
//!   [`kill_timeout`](duende_core::supervise::Spec::kill_timeout).
//! - A place that tells of ends is asked each [`ASK_PERIOD`] whether it lives, as long as
//!   anything runs in it: that a daemon answers its probes says nothing of the place that would tell of
//!   its end, and a paused one is not probed (`tests::a_place_is_asked_while_anything_is_in_it`). One that
//!   leaves it unanswered for [`ANSWER_TIMEOUT`] is ended, with everything in it, and again if it does
//!   not end.
//! - A question for figures is answered without them.
//! - What repeats itself is told with its count.

use std::time::Duration;

use duende_core::{
    supervise::Input,
    time::Instant,
    wire::link::{Address, LogLevel},
};

use super::{
    Decider, Effect,
    daemon::Ending,
    planted::{self, Plant},
};
use crate::backend::{ANSWER_TIMEOUT, Ask, PLACES, Place};

/// How often a place is asked whether it lives.
const ASK_PERIOD: Duration = Duration::from_secs(5);

impl Decider {
    /// When [`Event::Tick`](super::Event::Tick) is due; `None` if nothing is waited for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let incarnations = self.daemons.iter().filter_map(|daemon| daemon.incarnation.as_ref());
        let of_incarnations = incarnations
            .flat_map(|there| {
                [
                    there.kill_again_at,
                    there.reloaded_at,
                    there.ending.as_ref().map(|ending| ending.until),
                ]
            })
            .flatten();
        let of_places = self.places.iter().flat_map(|place| {
            let silent_at = place.asked_at.map(|asked| asked.saturating_add(ANSWER_TIMEOUT));
            [place.ask_at, silent_at, place.end_again_at]
        });
        let of_supervisor = self.supervisor.next_deadline().filter(|_| self.halted.is_none());
        of_incarnations
            .chain(of_places.flatten())
            .chain(of_supervisor)
            .chain(self.waiter_deadline())
            .chain(self.repeats.deadline())
            .min()
    }

    pub(super) fn tick(&mut self) {
        let now = self.now;
        self.inputs.push_back(Input::Tick);
        let told = self.repeats.due(now);
        self.tell_all(told);
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let mut closed: Vec<Address> = Vec::new();
        let mut killed: Vec<Address> = Vec::new();
        let mut reloaded: Vec<Address> = Vec::new();
        for daemon in &mut self.daemons {
            let again = now.saturating_add(daemon.spec.supervision.kill_timeout);
            let Some(there) = &mut daemon.incarnation else { continue };
            let is_late = there.ending.as_ref().is_some_and(|ending| ending.until <= now);
            if is_late && planted::is(Plant::LinkWithoutEnd) {
                if let Some(ending) = &mut there.ending {
                    ending.until = Instant::from_ns(u64::MAX);
                }
            } else if is_late {
                closed.push(there.at);
            }
            if due(there.reloaded_at) {
                there.reloaded_at = None;
                reloaded.push(there.at);
            }
            if due(there.kill_again_at) {
                there.kill_again_at = Some(again);
                killed.push(there.at);
            }
        }
        for at in closed {
            let Some(there) = self.daemon_mut(at).and_then(|daemon| daemon.current(at)) else {
                continue;
            };
            there.link_open = false;
            if let Some(Ending { exit, reason, .. }) = there.ending.take() {
                self.effect(Effect::CloseLink(at));
                self.ended(at, exit, reason);
            }
        }
        for at in reloaded {
            self.tell(at, |id, incarnation| Input::Reloaded { id, incarnation });
        }
        for at in killed {
            self.ask_backend(at, Ask::Kill);
        }
        for place in PLACES {
            let state = *self.place_mut(place);
            if due(state.asked_at.map(|asked| asked.saturating_add(ANSWER_TIMEOUT))) {
                if planted::is(Plant::SilentPlace) {
                    self.place_mut(place).asked_at = None;
                } else {
                    self.end_place(place, "it does not answer");
                }
            } else if due(state.end_again_at) {
                self.place_mut(place).end_again_at = None;
                self.end_place(place, "it does not end");
            } else if due(state.ask_at) {
                self.place_mut(place).ask_at = None;
                self.ask_place(place);
            }
        }
    }

    /// Asks a place whether it lives, unless it was asked already.
    pub(super) fn ask_place(&mut self, place: Place) {
        let now = self.now;
        let state = self.place_mut(place);
        if state.asked_at.is_none() && state.end_again_at.is_none() {
            state.asked_at = Some(now);
            self.effect(Effect::AskPlace(place));
        }
    }

    pub(super) fn end_place(&mut self, place: Place, why: &str) {
        let again = self.now.saturating_add(ANSWER_TIMEOUT);
        let state = self.place_mut(place);
        state.asked_at = None;
        state.ask_at = None;
        if state.end_again_at.is_some() {
            return;
        }
        state.end_again_at = Some(again);
        self.say(LogLevel::Error, format!("{}: {why}: killing it", place.process()));
        self.effect(Effect::EndPlace(place));
    }

    /// Sees to it that a place in which something runs is asked now and then.
    pub(super) fn watch_places(&mut self) {
        for place in PLACES {
            if !self.place_mut(place).tells_of_ends {
                continue;
            }
            let runs =
                self.daemons.iter().any(|daemon| daemon.spec.place == place && daemon.is_placed());
            let next = self.now.saturating_add(ASK_PERIOD);
            let state = self.place_mut(place);
            match (runs, state.ask_at) {
                (true, None) if state.asked_at.is_none() && state.end_again_at.is_none() => {
                    state.ask_at = Some(next);
                }
                (false, Some(_)) => state.ask_at = None,
                _ => {}
            }
        }
    }
}
