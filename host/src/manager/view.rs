//! The fleet as people see it: one row for each daemon.

use std::fs;

use duende_core::{lifecycle::FailureReason, lifecycle::State, supervise::View};

use super::{Manager, log_path, managed::Place, reason::failure_text};
use crate::{
    config::Isolation,
    control::protocol::{DaemonRow, DaemonState, HealthState},
};

impl Manager {
    /// All rows, in the order of the configuration.
    pub(super) fn rows(&mut self) -> Vec<DaemonRow> {
        let slots: Vec<usize> = self
            .fleet
            .daemons
            .iter()
            .filter_map(|daemon| self.by_name.get(&daemon.name).copied())
            .collect();
        slots.into_iter().filter_map(|slot| self.row(slot)).collect()
    }

    /// One daemon's row.
    pub(super) fn row(&mut self, slot: usize) -> Option<DaemonRow> {
        let now = self.now();
        let worker_pid = self.worker.as_ref().map(super::WorkerProcess::pid);
        let log_dir = self.fleet.log_dir.clone();
        let daemon = self.daemons.get_mut(slot)?;
        let view = self.supervisor.view(daemon.id)?;
        let waits_for = view.waits_for.and_then(|id| usize::try_from(id.slot()).ok());
        let rate = daemon.rate(now);
        let incarnation = daemon.incarnation.as_ref();
        let is_component = matches!(daemon.config.isolation, Isolation::Wos(_));
        let is_placed =
            incarnation.is_some_and(|incarnation| matches!(incarnation.place, Place::Worker));
        let pid = incarnation.and_then(|incarnation| incarnation.pid);
        let row = DaemonRow {
            name: daemon.config.name.clone(),
            isolation: daemon.config.isolation.as_str().to_owned(),
            state: state_of(&view),
            detail: match view.state {
                State::Failed(failure) => failure_text(failure),
                _ => String::new(),
            },
            pid,
            worker_pid: worker_pid.filter(|_| is_placed),
            incarnation: view.incarnation,
            restarts: u64::from(view.restarts),
            health: health_of(&view, daemon.health),
            health_detail: daemon.health_detail.clone(),
            uptime_ms: incarnation.map(|incarnation| {
                u64::try_from(incarnation.began.elapsed().as_millis()).unwrap_or(u64::MAX)
            }),
            memory_bytes: match pid {
                Some(pid) if !is_component => resident_bytes(pid),
                Some(_) | None => daemon.memory_bytes,
            },
            processor_percent: pid.and_then(|_| self.monitor.processor_percent(slot)),
            rate,
            metrics: daemon.metrics(),
            last_exit: daemon.last_exit.clone(),
            next_restart_ms: view
                .restart_at
                .map(|at| u64::try_from(at.saturating_since(now).as_millis()).unwrap_or(u64::MAX)),
            log_path: log_path(&log_dir, &daemon.config.name).to_string_lossy().into_owned(),
            waits_for: Vec::new(),
            blocked_by: None,
            reason: String::new(),
            way_out: String::new(),
            command: String::new(),
            policy: String::new(),
            since_ms: None,
            processes: u32::from(pid.is_some() && !is_component),
            lost_lines: 0,
        };
        let waits_for = waits_for
            .and_then(|slot| self.daemons.get(slot))
            .map(|daemon| daemon.config.name.clone());
        Some(DaemonRow { waits_for: waits_for.into_iter().collect(), ..row })
    }
}

fn state_of(view: &View) -> DaemonState {
    match view.state {
        State::Created => DaemonState::Created,
        State::Starting(_) => DaemonState::Starting,
        State::Running => DaemonState::Running,
        State::Reloading { .. } => DaemonState::Reloading,
        State::Paused => DaemonState::Paused,
        State::Stopping(_) => DaemonState::Stopping,
        State::Stopped(_) => DaemonState::Stopped,
        State::Backoff { .. } => DaemonState::Backoff,
        State::Failed(FailureReason::Quarantined { .. }) => DaemonState::Quarantined,
        State::Failed(_) => DaemonState::Failed,
    }
}

/// What a daemon said last, while it runs.
fn health_of(view: &View, said: HealthState) -> HealthState {
    if view.state.is_up() { said } else { HealthState::Unknown }
}

/// The resident set of a process, in bytes: the second field of `/proc/PID/statm`, in pages.
fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
    pages.checked_mul(page_bytes)
}
