//! What the supervisor decided, as what the manager is to do.

use std::time::Duration;

use duende_core::{
    lifecycle::{FailureReason, State},
    restart::{Exit, Unavailable},
    supervise::{DaemonId, Effect as Decision, TerminateCause},
    wire::link::{Address, LogLevel},
};

use super::{
    Decider, Effect,
    daemon::{Incarnation, Phase, in_words},
    planted::{self, Plant},
};
use crate::{
    backend::Ask,
    control::protocol::{EventKind, HealthState},
};

/// SIGTERM and SIGKILL, by the numbers that every Unix gives them.
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

impl Decider {
    pub(super) fn perform(&mut self, decision: Decision) {
        match decision {
            // More time for the same thing, or one more try of it, is nothing new.
            Decision::Changed { from, to, .. } if super::reason::is_same_phase(from, to) => {}
            Decision::Changed { id, from: _, to } => self.changed(id, to),
            Decision::Spawn { id, incarnation } => self.spawn(address(id, incarnation)),
            Decision::Terminate { id, incarnation, grace, cause } => {
                self.terminate(address(id, incarnation), cause, grace);
            }
            Decision::Kill { id, incarnation } => self.kill(address(id, incarnation)),
            Decision::KillTimedOut { id, incarnation, attempt } => {
                self.kill_timed_out(address(id, incarnation), attempt);
            }
            Decision::Probe { id, incarnation, kind, token } => {
                self.ask_backend(address(id, incarnation), Ask::Probe { kind, token });
            }
            Decision::Pause { id, incarnation } => {
                self.ask_backend(address(id, incarnation), Ask::Hold);
            }
            Decision::Resume { id, incarnation } => {
                self.ask_backend(address(id, incarnation), Ask::Release);
            }
            Decision::Reload { id, incarnation } => {
                let at = address(id, incarnation);
                if let Some(daemon) = self.daemon_mut(at) {
                    daemon.reload_failed = None;
                }
                self.ask_backend(at, Ask::Reload);
            }
            Decision::ReloadTimedOut { id, incarnation } => {
                let at = address(id, incarnation);
                let text = "it did not say in time that it has reloaded, and runs on";
                if let Some(daemon) = self.daemon_mut(at) {
                    daemon.reload_failed = Some(text.to_owned());
                }
                self.record(at, EventKind::ReloadTimedOut, text);
            }
            Decision::Blocked { id, on } => self.blocked(id, on),
            Decision::Halt(epitaph) => self.halt(&epitaph),
        }
    }

    // Starting.

    fn spawn(&mut self, at: Address) {
        let now = self.now;
        let Some(daemon) = self.daemon_mut(at) else { return };
        daemon.health = HealthState::Unknown;
        daemon.health_detail.clear();
        daemon.status.clear();
        daemon.was_ready = false;
        daemon.unheeded = None;
        daemon.why = None;
        daemon.processes = 0;
        if std::mem::take(&mut daemon.held) {
            // An operator has released it.
            daemon.deaths = 0;
        }
        let abilities = daemon.spec.abilities;
        let phase = if abilities.speaks { Phase::Preparing } else { Phase::Placed };
        daemon.incarnation = Some(Incarnation::new(at, now, phase, false));
        if abilities.speaks {
            self.effect(Effect::Prepare(at));
        } else {
            self.place(at);
        }
    }

    /// Tells the backend to start it.
    pub(super) fn place(&mut self, at: Address) {
        let Some(daemon) = self.daemon_mut(at) else { return };
        let own_link = daemon.spec.abilities.own_link;
        let Some(incarnation) = daemon.current(at) else { return };
        incarnation.phase = Phase::Placed;
        incarnation.link_open = own_link;
        self.effect(Effect::Start(at));
    }

    // Ending.

    /// Why a daemon whose state and sources are being opened is not open yet.
    pub(super) fn not_open(&self, slot: u32) -> String {
        let time = self.daemon(slot).map(|daemon| daemon.spec.supervision.start_timeout);
        let time = in_words(time.unwrap_or_default());
        match &self.store_fault {
            Some(fault) => format!("its state can't be opened: {fault}"),
            None => format!("its state and sources were not open within {time}"),
        }
    }

    fn terminate(&mut self, at: Address, cause: TerminateCause, grace: Duration) {
        let Some(daemon) = self.daemon_mut(at) else { return };
        if let Some(incarnation) = daemon.current(at)
            && incarnation.phase == Phase::Preparing
        {
            match cause {
                TerminateCause::Stop => {
                    self.ended(
                        at,
                        Exit::Signal(SIGTERM),
                        "stopped before it was started".to_owned(),
                    );
                }
                // Whatever holds up the store or a source is not the daemon's fault.
                TerminateCause::StartTimeout
                | TerminateCause::Unhealthy
                | TerminateCause::Watchdog => {
                    let reason = self.not_open(at.daemon);
                    if let Some(daemon) = self.daemon_mut(at) {
                        daemon.why = None;
                    }
                    self.ended(at, Exit::Unavailable(Unavailable::Store), reason);
                }
            }
            return;
        }
        self.ask_backend(at, Ask::Terminate { cause, grace });
        if planted::is(Plant::DoubleStart) {
            self.ended(at, Exit::Signal(SIGTERM), "it was asked to end".to_owned());
        }
    }

    pub(super) fn kill(&mut self, at: Address) {
        let Some(daemon) = self.daemon_mut(at) else { return };
        let Some(incarnation) = daemon.current(at) else { return };
        if incarnation.phase == Phase::Preparing {
            self.ended(at, Exit::Signal(SIGKILL), "killed before it was started".to_owned());
            return;
        }
        self.ask_backend(at, Ask::Kill);
    }

    /// A kill was not answered. A place without processes of its own does not carry out what it is
    /// told: it hangs, and takes only its own with it. One with processes may be in order while the
    /// kernel keeps one of them, so it is asked first.
    fn kill_timed_out(&mut self, at: Address, attempt: u8) {
        let Some(daemon) = self.daemon(at.daemon) else { return };
        let (place, timeout) = (daemon.spec.place, daemon.spec.supervision.kill_timeout);
        let has_process = daemon.spec.abilities.has_process;
        let text = format!(
            "the kill was not carried out within {} (attempt {attempt}): trying again",
            in_words(timeout)
        );
        self.record(at, EventKind::Stopping, &text);
        if has_process {
            self.ask_place(place);
        } else {
            self.end_place(place, "it does not carry out a kill");
        }
    }

    pub(super) fn ask_backend(&mut self, at: Address, ask: Ask) {
        let placed = self.daemon_mut(at).is_some_and(|daemon| {
            daemon.current(at).is_some_and(|incarnation| incarnation.phase == Phase::Placed)
        });
        if placed {
            self.effect(Effect::Ask(at, ask));
        }
    }

    // What people see.

    fn blocked(&mut self, id: DaemonId, on: DaemonId) {
        let state = self.supervisor.view(on).map(|view| view.state);
        let detail = format!(
            "it waits for {}, which {}",
            self.name(on.slot()),
            super::reason::why_it_does_not_come(state)
        );
        let incarnation = self.supervisor.view(id).map_or(0, |view| view.incarnation);
        self.record(Address::of(id.slot(), incarnation), EventKind::Blocked, &detail);
    }

    fn changed(&mut self, id: DaemonId, to: State) {
        let slot = id.slot();
        let incarnation = self.supervisor.view(id).map_or(0, |view| view.incarnation);
        let at = Address::of(slot, incarnation);
        if let Some(failure) = super::reason::condemned(to) {
            let why = self.daemon(slot).map(|daemon| super::reason::verdict(daemon, failure));
            if let Some(daemon) = self.daemon_mut(at)
                && daemon.why.is_none()
            {
                daemon.why = why;
            }
        }
        if let (State::Running, Some(daemon)) = (to, self.daemon_mut(at)) {
            daemon.was_ready = true;
        }
        let Some((kind, detail)) = self.event_of(slot, to) else { return };
        let crash = match to {
            State::Backoff { failure: Some(failure), .. } | State::Failed(failure) => {
                let said = self.daemon(slot).and_then(|daemon| daemon.last_exit.clone());
                Some(said.unwrap_or_else(|| super::failure_text(failure)))
            }
            _ => None,
        };
        self.effect(Effect::Record { slot: Some(slot), incarnation, kind, detail, crash });
        if let State::Failed(FailureReason::Unkillable) = to {
            let name = self.name(slot).to_owned();
            let text = format!("{name}: its process can't be killed; the fleet goes on without it");
            self.say(LogLevel::Error, text);
        }
    }

    pub(super) fn record(&mut self, at: Address, kind: EventKind, detail: &str) {
        let detail = detail.to_owned();
        let (slot, incarnation) = (Some(at.daemon), at.incarnation);
        self.effect(Effect::Record { slot, incarnation, kind, detail, crash: None });
    }

    pub(super) fn record_of_fleet(&mut self, kind: EventKind, detail: String) {
        self.effect(Effect::Record { slot: None, incarnation: 0, kind, detail, crash: None });
    }
}

pub(super) const fn address(id: DaemonId, incarnation: u32) -> Address {
    Address::of(id.slot(), incarnation)
}
