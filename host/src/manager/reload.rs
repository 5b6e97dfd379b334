//! `duende reload`: a daemon reads its configuration anew, without a restart.
//!
//! Rules:
//! 1. Of the fleet's file only the table `config` of the named daemons is taken; whatever else
//!    changed in it needs a restart of the fleet. A file that is not valid changes nothing.
//! 2. A component is given the whole new table, and has reloaded when a slice that saw it returned.
//! 3. A native program with a link is told over the link; one without gets SIGHUP. One that is ready
//!    by `sd_notify` has reloaded when it says `READY=1` after `RELOADING=1`; another, at once: it
//!    can't say.
//! 4. A daemon that does not say in time that it has reloaded runs on, and whoever asked is told.

use std::sync::Arc;

use duende_core::{
    lifecycle::State,
    supervise::{DaemonId, Input},
    wire::link::Address,
};

use super::Manager;
use crate::{
    config::{self, Overrides},
    control::protocol::{ErrorCode, EventKind, Response},
    platform::Surroundings,
};

impl Manager {
    /// Takes the tables of these daemons from the fleet's file.
    pub(super) fn read_configs(&mut self, ids: &[DaemonId]) -> Result<(), Response> {
        let Some(file) = self.fleet.file.clone() else { return Ok(()) };
        let surroundings = Surroundings::current();
        let fleet = config::load(&file, &Overrides::default(), &surroundings).map_err(|error| {
            let message = format!("nothing was reloaded: {error}");
            Response::Error { code: ErrorCode::InvalidState, message }
        })?;
        let mut changed = Vec::new();
        for id in ids {
            let slot = usize::try_from(id.slot()).unwrap_or(usize::MAX);
            let Some(daemon) = self.daemons.get_mut(slot) else { continue };
            let Some(new) = fleet.daemon(&daemon.config.name) else { continue };
            if new.config != daemon.config.config {
                Arc::make_mut(&mut daemon.config).config.clone_from(&new.config);
                changed.push(daemon.config.name.clone());
            }
        }
        if !changed.is_empty() {
            self.config_version = self.config_version.saturating_add(1);
            let detail = format!("version {}: {}", self.config_version, changed.join(", "));
            self.journal.record_config(self.config_version, &detail);
        }
        Ok(())
    }

    /// A daemon said that it has reloaded.
    pub(super) fn tell_reloaded(&mut self, at: Address) {
        if let Some(id) = self.id_of(at) {
            self.inputs.push_back(Input::Reloaded { id, incarnation: at.incarnation });
        }
    }

    /// A daemon did not say in time that it has reloaded.
    pub(super) fn reload_timed_out(&mut self, at: Address) {
        if let Some(daemon) = self.daemon_mut(at) {
            daemon.reload_failed = true;
        }
        let name = self.name_of(at);
        let text = "it did not say in time that it has reloaded, and runs on";
        self.journal.record(&name, at.incarnation, EventKind::ReloadTimedOut, text);
    }

    /// How a reload of these went; none while one of them is at it.
    pub(super) fn reloaded(&self, ids: &[DaemonId]) -> Option<Response> {
        let mut late = Vec::new();
        for id in ids {
            let state = self.supervisor.view(*id).map(|view| view.state);
            if matches!(state, Some(State::Reloading { .. })) {
                return None;
            }
            let slot = usize::try_from(id.slot()).unwrap_or(usize::MAX);
            let Some(daemon) = self.daemons.get(slot) else { continue };
            if daemon.reload_failed || !state.is_some_and(State::is_up) {
                late.push(daemon.config.name.as_str());
            }
        }
        if late.is_empty() {
            return Some(Response::Ok);
        }
        let message = format!("not reloaded: {}; see `duende events`", late.join(", "));
        Some(Response::Error { code: ErrorCode::Failed, message })
    }
}
