//! A supervisor that found one of its rules broken.
//!
//! Rules:
//! 1. It decides nothing any more, so nothing is started, stopped or restarted from then on. What
//!    runs goes on running.
//! 2. The manager stays, so that people can look: `ps`, `status`, `events` and `logs` answer. What
//!    would need a decision is refused with [`ErrorCode::Halted`], which names the dump.
//! 3. `down` and signals end the manager, and with it `keep` and the worker, which stop what they
//!    hold by themselves. The manager's exit says that it failed.

use duende_core::{epitaph::Epitaph, wire::link::LogLevel};

use super::Manager;
use crate::control::protocol::{ErrorCode, EventKind, Response};

/// What is left of a supervisor.
#[derive(Clone, Debug)]
pub(super) struct Halted {
    /// Its last words, and where more is written.
    pub(super) text: String,
    /// Whether somebody asked for the end.
    pub(super) ends: bool,
}

impl Manager {
    /// The supervisor halted: writes what led to it, and says so. Only the first halt counts.
    pub(super) fn halt(&mut self, epitaph: &Epitaph) {
        if self.halted.is_some() {
            return;
        }
        let text = match self.flight.dump(epitaph, &self.fleet.state_dir) {
            Ok(path) => format!("{epitaph}; what led to it is in {}", path.display()),
            Err(error) => {
                let line = format!("the flight recorder can't be written: {error}");
                self.journal.say(LogLevel::Error, &line);
                format!("{epitaph}; what led to it could not be written")
            }
        };
        self.journal.record("", 0, EventKind::Halted, &text);
        self.inputs.clear();
        self.halted = Some(Halted { text, ends: self.stopping });
        // Whoever waits for a decision waits in vain.
        for waiter in std::mem::take(&mut self.waiters) {
            let refusal = self.refuse_when_halted().err().into_iter().collect();
            waiter.refuse(refusal);
        }
    }

    pub(super) fn refuse_when_halted(&self) -> Result<(), Response> {
        let Some(halted) = &self.halted else { return Ok(()) };
        let message = format!(
            "the supervisor halted: {}; please report this. `duende down` ends the fleet",
            halted.text
        );
        Err(Response::Error { code: ErrorCode::Halted, message })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use duende_core::supervise::Effect;
    use tokio::sync::mpsc;

    use super::super::{ServeOptions, control_server::Question};
    use super::*;
    use crate::{config::FleetConfig, control::protocol::Request};

    #[tokio::test]
    async fn a_halted_supervisor_leaves_a_dump_and_refuses_what_needs_a_decision() {
        let home = tempfile::tempdir().unwrap();
        let directory = |name: &str| {
            let path = home.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let fleet = FleetConfig {
            name: "halts".to_owned(),
            file: None,
            state_dir: directory("state"),
            log_dir: directory("log"),
            runtime_dir: directory("run"),
            metrics_interval: std::time::Duration::from_secs(1),
            groups: Vec::new(),
            daemons: Vec::new(),
        };
        let (events, _from_peers) = mpsc::channel(1);
        let mut manager = Manager::new(fleet, ServeOptions::default(), events).unwrap();
        manager.inputs.push_back(duende_core::supervise::Input::Tick);
        manager.decide();

        manager.perform(Effect::Halt(Epitaph::new(format_args!("slot 3 is used twice"))));
        let dump = fs::read_to_string(home.path().join("state/flight-recorder.txt")).unwrap();
        assert!(dump.starts_with("halt: slot 3 is used twice\n#1 "), "{dump}");
        assert!(dump.contains("<- Tick"), "{dump}");

        let mut ask = async |request| {
            let (reply, mut responses) = mpsc::channel(8);
            manager.take_question(Question { request, reply });
            responses.recv().await.unwrap()
        };
        for request in [
            Request::Start { names: Vec::new() },
            Request::Stop { names: Vec::new() },
            Request::Restart { names: Vec::new() },
        ] {
            let response = ask(request).await;
            let Response::Error { code: ErrorCode::Halted, message } = response else {
                panic!("{response:?}");
            };
            assert!(message.contains("slot 3") && message.contains("flight-recorder.txt"));
        }
        assert_eq!(ask(Request::Ps).await, Response::Done);
        let Response::Event(event) = ask(Request::Events { follow: false }).await else {
            panic!("no event");
        };
        assert_eq!(event.kind, EventKind::Halted);
        assert!(!manager.is_over());
        manager.stop_all();
        assert!(manager.is_over());
    }
}
