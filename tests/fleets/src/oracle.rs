//! What must hold after each step, said independently of the machine.

use std::time::Duration;

use duende::{
    control::protocol::EventKind,
    manager::decide::{Daemon, ReadyBy},
};
use duende_core::lifecycle::{FailureReason, Starting, State};

use duende_history::Fault;

use crate::world::{World, key};

/// Within what time every question is answered: the times of a whole chain of daemons, of a place that
/// hangs and is found out, and of kills that are not answered.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(60);

impl World {
    pub(crate) fn check(&self) -> Result<(), Fault> {
        self.decider.check_invariants()?;
        for (slot, spec) in (0_u32..).zip(&self.specs) {
            let Some(view) = self.decider.view(slot) else { continue };
            let name = &spec.name;
            let living =
                self.procs.iter().filter(|((of, _), proc)| *of == slot && proc.alive).count();
            if living > 1 {
                return Err(format!("{living} processes of {name}"));
            }
            let there = self.decider.daemon(slot).and_then(Daemon::running);
            if let Some((at, Some(pid), _)) = there
                && spec.abilities.has_process
                && self.procs.get(&key(at)).is_some_and(|proc| proc.alive && proc.pid != pid)
            {
                return Err(format!("{name} is said to be process {pid}, which is another"));
            }
            // What it said counts, whenever it said it.
            let at = self.decider.daemon(slot).and_then(Daemon::running);
            let proc = at.and_then(|(at, ..)| self.procs.get(&key(at)));
            if let (Some(proc), ReadyBy::Datagram) = (proc, spec.ready_by)
                && proc.alive
                && proc.known
                && proc.ready_heard
                && matches!(
                    view.state,
                    State::Starting(Starting::Spawning { .. } | Starting::Initialising { .. })
                )
            {
                return Err(format!("{name} said that it is ready, and nobody heard it"));
            }
            if let (Some(proc), ReadyBy::Datagram, State::Running) =
                (proc, spec.ready_by, view.state)
                && proc.alive
                && !proc.said_ready
            {
                return Err(format!("{name} is said to be ready, and said nothing"));
            }
            if let State::Failed(FailureReason::Quarantined { restarts, .. }) = view.state {
                let ends = self.own_ends[slot as usize];
                if ends <= restarts {
                    return Err(format!("{name} is quarantined for {ends} ends of its own"));
                }
            }
            let held = self.decider.detail(slot).held;
            if held && self.deaths[slot as usize] < 2 {
                return Err(format!("{name} is held, and its place did not die of it twice"));
            }
            if view.state == State::Failed(FailureReason::Refused) && !held {
                return Err(format!("{name} has failed for good, for want of room"));
            }
        }
        self.check_words()?;
        self.check_history()?;
        for (question, (since, verb)) in &self.questions {
            let open = self.now.saturating_since(*since);
            if open > ANSWER_TIME {
                return Err(format!("{question:?} ({verb:?}) is open for {} s", open.as_secs()));
            }
        }
        Ok(())
    }

    /// What can be asked of the machine at any time agrees with what it decided, and whatever is not as it
    /// should be has a cause, and a way out if it does not come by itself.
    fn check_words(&self) -> Result<(), Fault> {
        let mut failed = Vec::new();
        for (slot, spec) in (0_u32..).zip(&self.specs) {
            let Some(view) = self.decider.view(slot) else { continue };
            let (name, detail) = (&spec.name, self.decider.detail(slot));
            let daemon = self.decider.daemon(slot);
            if self.decider.find(name) != Some(slot) {
                return Err(format!("{name} is not found by its name"));
            }
            let is_explained = match view.state {
                State::Failed(_) => {
                    failed.push(name.clone());
                    !detail.reason.is_empty() && !detail.way_out.is_empty()
                }
                State::Backoff { failure, .. } => {
                    let waits = matches!(failure, Some(FailureReason::Unavailable(_)));
                    !detail.reason.is_empty() && detail.waiting == waits
                }
                State::Starting(Starting::Waiting) => {
                    let on = view.blocked_by.or(view.waits_for);
                    let on = on.map(|on| self.spec(on.slot()).name.clone());
                    let says = |on: &String| detail.reason.contains(on.as_str());
                    detail.waits_for == on
                        && on.as_ref().is_none_or(says)
                        && detail.blocked == view.blocked_by.is_some()
                        && detail.blocked != detail.way_out.is_empty()
                }
                _ => true,
            };
            if !is_explained {
                return Err(format!("{name} is {:?}, and that is said: {detail:?}", view.state));
            }
            if detail.ending != daemon.and_then(Daemon::main_ended).is_some() && view.state.is_up()
            {
                return Err(format!("{name}: ending: {detail:?}"));
            }
            // Whoever is looked at is the process that runs.
            let pid = daemon.and_then(Daemon::running).and_then(|(_, pid, _)| pid);
            let watched = self.watched.get(&slot).copied().flatten();
            if spec.abilities.has_process && pid != watched {
                return Err(format!("{name} is process {pid:?}, and {watched:?} is looked at"));
            }
            if daemon.is_some_and(|daemon| daemon.running().is_none() && daemon.is_placed()) {
                return Err(format!("{name} is in its place, and is not there"));
            }
        }
        if self.decider.failed() != failed {
            return Err(format!("{failed:?} have failed, not {:?}", self.decider.failed()));
        }
        if self.decider.is_stopping() != (self.asked_to_end > 0) {
            return Err(format!("asked to end {} times", self.asked_to_end));
        }
        if self.decider.now() != self.now {
            return Err(format!("its clock shows {:?}", self.decider.now()));
        }
        Ok(())
    }

    /// What happened stands in the history, and why.
    fn check_history(&self) -> Result<(), Fault> {
        for (slot, before) in (0_u32..).zip(&self.before) {
            let (Some(view), Some((state, was_blocked))) = (self.decider.view(slot), before) else {
                continue;
            };
            let name = &self.spec(slot).name;
            let has = |kinds: &[EventKind], crashed: bool| {
                self.recorded.iter().any(|(of, kind, crash)| {
                    let is_of_kind = kinds.iter().any(|one| one.as_str() == *kind);
                    let has_words = crash.as_ref().is_some_and(|words| !words.is_empty());
                    *of == slot && is_of_kind && has_words == crashed
                })
            };
            let is_told = view.state == *state
                || match view.state {
                    State::Failed(_) => {
                        has(&[EventKind::Failed, EventKind::Quarantined, EventKind::Held], true)
                    }
                    State::Backoff { failure, .. } => has(&[EventKind::Backoff], failure.is_some()),
                    State::Stopped(_) => has(&[EventKind::Stopped], false),
                    State::Paused => has(&[EventKind::Paused], false),
                    State::Running => has(&[EventKind::Running], false),
                    _ => true,
                };
            if !is_told {
                let now = view.state;
                return Err(format!("{name} is {now:?} after {state:?}, which is not recorded"));
            }
            if view.blocked_by.is_some() && !was_blocked && !has(&[EventKind::Blocked], false) {
                return Err(format!("{name} is blocked, which is not recorded"));
            }
        }
        Ok(())
    }
}
