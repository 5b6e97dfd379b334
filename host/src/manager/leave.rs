//! The end of a fleet: when it is over, and what is left to do then.

use std::time::Duration;

use duende_core::{lifecycle::State, supervise::Input, wire::link::LogLevel};

use super::{Manager, ManagerError, Outcome, control_server::ControlServer};
use crate::{
    control::protocol::EventKind,
    keep::{KeepClient, KeepRequest},
};

/// How long the processes of a stopped fleet may take to end once nobody needs them.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

impl Manager {
    /// The first request to stop is done in order; the second one kills.
    pub(super) fn stop_or_kill(&mut self, why: &str) {
        if self.stopping {
            self.journal.say(LogLevel::Warn, &format!("{why} again: killing what still runs"));
            self.kill_all();
        } else {
            self.journal.say(LogLevel::Info, &format!("{why}: stopping everything in order"));
            self.stop_all();
        }
    }

    pub(super) fn stop_all(&mut self) {
        if let Some(halted) = &mut self.halted {
            halted.ends = true;
        }
        if !self.stopping {
            self.stopping = true;
            self.journal.record("", 0, EventKind::Shutdown, "");
            self.inputs.push_back(Input::StopAll);
        }
    }

    /// Whether a stop was asked for and nothing runs any more.
    pub(super) fn is_over(&self) -> bool {
        if let Some(halted) = &self.halted {
            return halted.ends;
        }
        self.stopping
            && self.inputs.is_empty()
            && self.daemons.iter().all(|daemon| daemon.incarnation.is_none())
    }

    /// Whether every daemon has ended for good.
    pub(super) fn has_no_work(&self) -> bool {
        !self.stopping
            && self.inputs.is_empty()
            && self.daemons.iter().all(|daemon| {
                let state = self.supervisor.view(daemon.id).map(|view| view.state);
                matches!(state, Some(State::Stopped(_) | State::Failed(_)))
            })
    }

    pub(super) fn outcome(&self) -> Outcome {
        let failed = self.daemons.iter().filter(|daemon| {
            let state = self.supervisor.view(daemon.id).map(|view| view.state);
            matches!(state, Some(State::Failed(_)))
        });
        Outcome { failed: failed.map(|daemon| daemon.config.name.clone()).collect() }
    }

    /// Ends the fleet's own processes and closes what is open, the socket last.
    pub(super) async fn leave(mut self, server: ControlServer) -> Result<(), ManagerError> {
        if let Some(worker) = self.worker.take() {
            // A worker ends when its link is closed.
            if tokio::time::timeout(LEAVE_TIMEOUT, worker.reap()).await.is_err() {
                self.journal.say(LogLevel::Warn, "the worker did not end in time");
            }
        }
        if let Some(keep) = self.keep.take()
            && tokio::time::timeout(LEAVE_TIMEOUT, end_keep(keep)).await.is_err()
        {
            self.journal.say(LogLevel::Warn, "keep did not end in time");
        }
        let closed = self.store.close().await;
        drop(self.notify.take());
        drop(server);
        // With the journal its followers end, and with them the answers to `down`.
        let farewells = std::mem::take(&mut self.farewells);
        drop(self);
        for farewell in farewells {
            let _ = tokio::time::timeout(LEAVE_TIMEOUT, farewell).await;
        }
        Ok(closed?)
    }
}

/// Asks `keep` to end, and waits until it has.
async fn end_keep(mut keep: KeepClient) {
    // If it cannot be told, it is gone.
    let _ = keep.send(&KeepRequest::Shutdown, None);
    while keep.next_event().await.is_ok() {}
}
