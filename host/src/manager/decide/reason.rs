//! Why something is as it is, in words for people: those of the rule that decided, not of what
//! followed from it.

use std::fmt::Write as _;

use duende_core::{
    lifecycle::{FailureReason, Starting, State, StopCause, Stopping},
    restart::Unavailable,
};

use super::{Daemon, Decider, ReadyBy, daemon::in_words};
use crate::{config::signals, control::protocol::EventKind};

/// What the state of a daemon does not say by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Why it is so: the cause first.
    pub reason: String,
    /// What an operator can do about it; empty: nothing needs to be done.
    pub way_out: String,
    /// The daemon that it waits for, by name.
    pub waits_for: Option<String>,
    /// Whether that one does not come by itself.
    pub blocked: bool,
    /// Whether it has ended by itself, and what it left is being ended.
    pub ending: bool,
    /// Whether its image is being made.
    pub compiles: bool,
    /// Whether it is held back because its place died of it.
    pub held: bool,
    /// Whether it lacks something outside of it, and is tried again.
    pub waiting: bool,
}

#[cfg(test)]
#[path = "reason_tests.rs"]
mod tests;

impl Decider {
    /// What can be said about a daemon.
    #[must_use]
    pub fn detail(&self, slot: u32) -> Detail {
        let (Some(view), Some(daemon)) = (self.view(slot), self.daemon(slot)) else {
            return Detail::default();
        };
        let name = &daemon.spec.name;
        let last = daemon.last_exit.clone().unwrap_or_default();
        let mut detail = Detail::default();
        match view.state {
            State::Running | State::Reloading { .. } | State::Paused
                if let Some(how) = daemon.main_ended() =>
            {
                detail.reason = format!("{how}; ending the processes that it left");
                detail.ending = true;
            }
            State::Running if daemon.is_empty_loop() => {
                "a busy loop: slice after slice changes nothing and asks for the next one at once"
                    .clone_into(&mut detail.reason);
                "let `run` return `wait`, or `until` the instant of the next work"
                    .clone_into(&mut detail.way_out);
            }
            State::Created | State::Running | State::Reloading { .. } | State::Paused => {}
            State::Starting(Starting::Waiting) => {
                if let Some(on) = view.blocked_by {
                    let state = self.supervisor.view(on).map(|view| view.state);
                    let on = self.name(on.slot());
                    detail.reason =
                        format!("waits for {on}, which {}", why_it_does_not_come(state));
                    detail.way_out = format!("duende restart {on}");
                    detail.blocked = true;
                    detail.waits_for = Some(on.to_owned());
                } else if let Some(on) = view.waits_for {
                    let on = self.name(on.slot());
                    detail.reason = format!("waits for {on}");
                    detail.waits_for = Some(on.to_owned());
                }
            }
            State::Starting(_) if let Some(words) = daemon.compiles() => {
                words.clone_into(&mut detail.reason);
                detail.compiles = true;
            }
            State::Starting(_)
                if let Some(fault) = &self.store_fault
                    && !daemon.is_placed() =>
            {
                detail.reason = format!("waits for its state: {fault}");
            }
            State::Starting(_) | State::Stopping(_) => {
                detail.reason = daemon.why.clone().unwrap_or_default();
            }
            State::Stopped(StopCause::Operator) => {}
            State::Stopped(StopCause::Finished) => detail.reason = last,
            State::Stopped(StopCause::GaveUp) => {
                "its group failed too often".clone_into(&mut detail.reason);
                detail.way_out = format!("duende restart {}", self.given_up_with(slot));
            }
            State::Backoff { failure, .. } => {
                detail.waiting = matches!(failure, Some(FailureReason::Unavailable(_)));
                detail.reason = last;
            }
            State::Failed(_) if daemon.held => {
                detail.reason = last;
                detail.held = true;
                detail.way_out = format!("duende restart {name} releases it");
            }
            State::Failed(failure) => {
                detail.reason = failed(failure, &last);
                detail.way_out = match failure {
                    FailureReason::Quarantined { .. } => {
                        let given_up = self.given_up_with(slot);
                        let what = if given_up == *name { "it" } else { "them" };
                        format!("duende restart {given_up} releases {what}")
                    }
                    FailureReason::Unkillable => {
                        match daemon.running().and_then(|(_, pid, _)| pid) {
                            Some(pid) => format!("end process {pid} by hand"),
                            None => "end by hand what its main process left".to_owned(),
                        }
                    }
                    _ => format!("duende start {name}"),
                };
            }
        }
        detail
    }

    /// This daemon, and those of its group that were given up with it.
    fn given_up_with(&self, slot: u32) -> String {
        let group = self.daemon(slot).and_then(|daemon| daemon.spec.group);
        let is_given_up = |of: &u32| {
            *of == slot
                || group.is_some()
                    && self.daemon(*of).is_some_and(|daemon| daemon.spec.group == group)
                    && self.view(*of).is_some_and(|view| {
                        matches!(
                            view.state,
                            State::Stopped(StopCause::GaveUp)
                                | State::Failed(FailureReason::Quarantined { .. })
                        )
                    })
        };
        let slots = (0_u32..).zip(&self.daemons).map(|(slot, _)| slot);
        slots.filter(is_given_up).map(|slot| self.name(slot)).collect::<Vec<_>>().join(" ")
    }

    /// The event that a state is, and what is said with it; none for steps on the way.
    pub(super) fn event_of(&self, slot: u32, to: State) -> Option<(EventKind, String)> {
        let daemon = self.daemon(slot)?;
        let name = &daemon.spec.name;
        Some(match to {
            State::Created | State::Starting(Starting::Waiting | Starting::Initialising { .. }) => {
                return None;
            }
            State::Starting(Starting::Spawning { .. }) => (EventKind::Started, String::new()),
            State::Running => (EventKind::Running, String::new()),
            State::Reloading { .. } => (EventKind::Reloading, String::new()),
            State::Paused => (EventKind::Paused, String::new()),
            State::Stopping(Stopping::Asked { .. }) => (EventKind::Stopping, String::new()),
            State::Stopping(Stopping::Killing { .. }) if self.leaving.is_at_once() => {
                (EventKind::Stopping, "everything is to end at once: killing it".to_owned())
            }
            State::Stopping(Stopping::Killing { .. }) => {
                let grace = in_words(daemon.spec.supervision.stop_grace);
                (EventKind::Stopping, format!("it did not end within {grace}: killing it"))
            }
            State::Stopping(Stopping::Condemned { .. }) if !daemon.is_placed() => {
                (EventKind::Unhealthy, self.not_open(slot))
            }
            State::Stopping(Stopping::Condemned { reason, .. }) => {
                (EventKind::Unhealthy, format!("{}: ending it", verdict(daemon, reason)))
            }
            State::Stopping(Stopping::CondemnedKilling { reason, .. }) => {
                let grace = in_words(daemon.spec.supervision.stop_grace);
                let why = verdict(daemon, reason);
                (EventKind::Stopping, format!("{why}; it did not end within {grace}: killing it"))
            }
            State::Stopped(_) => (EventKind::Stopped, String::new()),
            State::Backoff { until, failure } => {
                let delay = in_words(until.saturating_since(self.now));
                let text = match failure {
                    Some(FailureReason::Unavailable(_)) => {
                        let last = daemon.last_exit.as_deref().unwrap_or_default();
                        format!("waiting: {last}; trying again in {delay}")
                    }
                    _ => format!("starting again in {delay}"),
                };
                (EventKind::Backoff, text)
            }
            State::Failed(failure @ FailureReason::Quarantined { .. }) => {
                let text =
                    format!("{}; `duende restart {name}` releases it", failure_text(failure));
                (EventKind::Quarantined, text)
            }
            State::Failed(_) if daemon.held => {
                let last = daemon.last_exit.as_deref().unwrap_or_default();
                (EventKind::Held, format!("{last}; `duende restart {name}` releases it"))
            }
            State::Failed(failure) => {
                let last = daemon.last_exit.as_deref().unwrap_or_default();
                (EventKind::Failed, failed(failure, last))
            }
        })
    }
}

/// Why a daemon has failed for good: the cause first, then the rule that made it final.
pub(super) fn failed(failure: FailureReason, last: &str) -> String {
    match failure {
        FailureReason::Quarantined { .. } if !last.is_empty() => {
            format!("{last}; quarantined: {}", failure_text(failure))
        }
        FailureReason::Quarantined { .. } => format!("quarantined: {}", failure_text(failure)),
        _ if last.is_empty() => failure_text(failure),
        _ => last.to_owned(),
    }
}

/// Why a daemon that others wait for does not come by itself.
pub(super) fn why_it_does_not_come(state: Option<State>) -> &'static str {
    match state {
        Some(State::Failed(FailureReason::Quarantined { .. })) => "is quarantined",
        Some(State::Failed(_)) => "has failed",
        Some(State::Stopped(_)) => "is stopped",
        Some(State::Created) => "was never started",
        Some(State::Paused) => "is paused",
        Some(State::Backoff { .. }) => "has ended and is tried again",
        _ => "is not ready",
    }
}

/// Whether two states differ in their deadlines and counts only.
pub(super) fn is_same_phase(one: State, other: State) -> bool {
    use std::mem::discriminant;
    match (one, other) {
        (State::Starting(one), State::Starting(other)) => {
            discriminant(&one) == discriminant(&other)
        }
        (State::Stopping(one), State::Stopping(other)) => {
            discriminant(&one) == discriminant(&other)
        }
        (State::Reloading { .. }, State::Reloading { .. }) => true,
        _ => false,
    }
}

/// What a daemon is being ended for by the supervisor.
pub(super) const fn condemned(state: State) -> Option<FailureReason> {
    match state {
        State::Stopping(
            Stopping::Condemned { reason, .. } | Stopping::CondemnedKilling { reason, .. },
        ) => Some(reason),
        _ => None,
    }
}

/// The rule that condemned it, with its figures.
pub(super) fn verdict(daemon: &Daemon, failure: FailureReason) -> String {
    let spec = &daemon.spec;
    match failure {
        FailureReason::StartTimeout => {
            let missing = match (spec.ready_by, daemon.unheeded) {
                (ReadyBy::Datagram, None) => "no READY=1 came".to_owned(),
                (ReadyBy::Datagram, Some(pid)) => format!(
                    "READY=1 came from its process {pid}, which does not count by its notify_access"
                ),
                (ReadyBy::Link, _) => "it did not say that it is ready".to_owned(),
                (ReadyBy::Start, _) => "its startup probe did not succeed".to_owned(),
            };
            format!("not ready within {}: {missing}", in_words(spec.supervision.start_timeout))
        }
        FailureReason::Watchdog => {
            let timeout = spec.supervision.watchdog.unwrap_or_default();
            format!("no WATCHDOG=1 for {}", in_words(timeout))
        }
        FailureReason::Unhealthy => {
            let mut text = "its health checks failed".to_owned();
            if !daemon.health_detail.is_empty() {
                let _ = write!(text, ": {}", daemon.health_detail);
            }
            text
        }
        other => failure_text(other),
    }
}

/// How an incarnation ended: why it was ended, if it was, and what came of that; what it said of itself
/// comes last.
pub(super) fn end(why: Option<String>, said: Option<String>, how: String) -> String {
    let text = match why {
        Some(why) if how.starts_with("killed by SIGKILL") => format!("{why}; killed"),
        Some(why) => format!("{why}; {how}"),
        None => how,
    };
    match said {
        Some(said) if said != text => format!("{text}: {said}"),
        _ => text,
    }
}

/// A failure, for people.
#[must_use]
pub fn failure_text(failure: FailureReason) -> String {
    match failure {
        FailureReason::ExitCode(code) => format!("exit code {code}"),
        FailureReason::Signal(signal) => signal_name(signal),
        FailureReason::Error => "it returned an error".to_owned(),
        FailureReason::Trap => "it trapped".to_owned(),
        FailureReason::SliceBudget => "a slice passed its budget".to_owned(),
        FailureReason::StartTimeout => "it was not ready in time".to_owned(),
        FailureReason::Unhealthy => "its health checks failed".to_owned(),
        FailureReason::Watchdog => "it gave no sign of life".to_owned(),
        FailureReason::Refused => "it cannot be started".to_owned(),
        FailureReason::Lost => "what it ran in ended".to_owned(),
        FailureReason::Unkillable => "its process can't be killed".to_owned(),
        FailureReason::Unavailable(what) => unavailable(what).to_owned(),
        FailureReason::Quarantined { restarts, period } => {
            let what = if restarts == 1 { "restart was" } else { "restarts were" };
            format!("{restarts} {what} not enough, within {}", in_words(period))
        }
    }
}

const fn unavailable(what: Unavailable) -> &'static str {
    match what {
        Unavailable::Program => "its program is not there",
        Unavailable::Permission => "the permission is missing",
        Unavailable::Busy => "its program is being written",
        Unavailable::Descriptors => "there are no descriptors left",
        Unavailable::Memory => "there is no memory left",
        Unavailable::Processes => "there can be no more processes",
        Unavailable::Space => "the disk is full",
        Unavailable::Io => "the disk fails",
        Unavailable::Source => "a source can't be opened",
        Unavailable::Store => "its state can't be read",
        Unavailable::Image => "its image can't be read",
        Unavailable::Link => "there is no link to it",
        Unavailable::TempFail => "it says that something which it needs is missing (exit code 75)",
        Unavailable::Other => "it can't be started now",
    }
}

/// How a signal ended a process.
#[must_use]
pub fn signal_name(signal: i32) -> String {
    match signals::name_of(signal) {
        Some(name) => format!("killed by {name}"),
        None => format!("signal {signal}"),
    }
}
