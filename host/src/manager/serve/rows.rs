//! The fleet as people see it: one row for each daemon, from what the machine and the monitor know.

use std::{collections::BTreeMap, fs};

use duende_core::{
    lifecycle::{FailureReason, Starting, State},
    restart::RestartPolicy,
};

use super::{
    super::{decide::Detail, link::delivery::Standing},
    Manager, log_path,
};
use crate::{
    config::{ChannelConfig, DaemonConfig, Isolation},
    control::protocol::{DaemonRow, DaemonState, HealthState, SourceRow},
};

impl Manager {
    /// All rows, in the order of the configuration.
    pub(super) fn rows(&self) -> Vec<DaemonRow> {
        self.order.iter().filter_map(|slot| self.row(*slot)).collect()
    }

    /// What each daemon has published, in the order of the configuration.
    pub(super) fn published(&self) -> Vec<(String, BTreeMap<String, f64>)> {
        let published = |slot: &u32| {
            Some((self.config(*slot)?.name.clone(), self.decider.daemon(*slot)?.metrics()))
        };
        self.order.iter().filter_map(published).collect()
    }

    /// The daemons that run.
    pub(super) fn running_slots(&self) -> Vec<u32> {
        let runs =
            |slot: &u32| self.decider.view(*slot).is_some_and(|view| view.state == State::Running);
        self.order.iter().copied().filter(runs).collect()
    }

    /// One daemon's row.
    pub(super) fn row(&self, slot: u32) -> Option<DaemonRow> {
        let now = self.now();
        let ms =
            |length: std::time::Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let index = usize::try_from(slot).ok()?;
        let (daemon, view) = (self.decider.daemon(slot)?, self.decider.view(slot)?);
        let config = self.config(slot)?;
        let detail = self.decider.detail(slot);
        let running = daemon.running();
        let pid = running.and_then(|(_, pid, _)| pid);
        let has_process = daemon.spec().abilities.has_process;
        let (health, health_detail) = daemon.health();
        let place_pid = self.backends.pid(daemon.spec().place);
        let worker_pid = place_pid.filter(|_| !has_process && daemon.is_placed());
        // `STATUS=` is what a program says of itself while it runs; the cause of a state goes before.
        let said = if health_detail.is_empty() { daemon.status() } else { health_detail };
        Some(DaemonRow {
            name: config.name.clone(),
            isolation: daemon.spec().place.as_str().to_owned(),
            state: state_of(view.state, &detail),
            detail: detail.reason.clone(),
            pid,
            worker_pid,
            incarnation: view.incarnation,
            restarts: u64::from(view.restarts),
            // What a daemon said last, while it runs.
            health: if view.state.is_up() && !detail.ending {
                health
            } else {
                HealthState::Unknown
            },
            health_detail: said.to_owned(),
            uptime_ms: running.map(|(_, _, began)| ms(now.saturating_since(began))),
            memory_bytes: match pid {
                Some(pid) if has_process => resident_bytes(pid),
                Some(_) | None => daemon.memory_bytes(),
            },
            processor_percent: pid.and_then(|_| self.monitor.processor_percent(index)),
            rate: daemon.rate(now),
            metrics: daemon.metrics(),
            last_exit: daemon.last_exit().map(str::to_owned),
            next_restart_ms: view.restart_at.map(|at| ms(at.saturating_since(now))),
            log_path: log_path(&self.fleet.log_dir, &config.name).to_string_lossy().into_owned(),
            waits_for: detail.waits_for.clone().into_iter().collect(),
            blocked_by: detail.waits_for.filter(|_| detail.blocked),
            reason: detail.reason,
            way_out: detail.way_out,
            command: command(&config),
            policy: policy(config.restart.policy).to_owned(),
            since_ms: Some(ms(now.saturating_since(view.since))),
            processes: daemon.processes(),
            lost_lines: daemon.lost_lines(),
            sources: self.sources(&config),
        })
    }

    /// How the logs that it reads stand.
    fn sources(&self, config: &DaemonConfig) -> Vec<SourceRow> {
        let stands = |channel: &ChannelConfig| {
            let deliveries = self.deliveries.get(&config.name, &channel.name)?;
            let Standing { lag_bytes, unreadable } = deliveries.standing()?;
            Some(SourceRow { channel: channel.name.clone(), lag_bytes, unreadable })
        };
        config.channels.iter().filter_map(stands).collect()
    }
}

fn command(config: &DaemonConfig) -> String {
    match &config.isolation {
        Isolation::Wos(wos) => wos.image.to_string_lossy().into_owned(),
        Isolation::Native(native) => {
            let program = native.program.to_string_lossy().into_owned();
            let words = std::iter::once(program).chain(native.args.iter().cloned());
            words.collect::<Vec<_>>().join(" ")
        }
    }
}

const fn policy(policy: RestartPolicy) -> &'static str {
    match policy {
        RestartPolicy::Never => "never",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::Always => "always",
        RestartPolicy::UnlessStopped => "unless-stopped",
    }
}

const fn state_of(state: State, detail: &Detail) -> DaemonState {
    match state {
        State::Running | State::Reloading { .. } | State::Paused if detail.ending => {
            DaemonState::Stopping
        }
        State::Created => DaemonState::Created,
        State::Starting(Starting::Waiting) if detail.blocked => DaemonState::Blocked,
        State::Starting(Starting::Waiting) => DaemonState::Waiting,
        State::Starting(_) if detail.compiles => DaemonState::Compiling,
        State::Starting(_) => DaemonState::Starting,
        State::Running => DaemonState::Running,
        State::Reloading { .. } => DaemonState::Reloading,
        State::Paused => DaemonState::Paused,
        State::Stopping(_) => DaemonState::Stopping,
        State::Stopped(_) => DaemonState::Stopped,
        State::Backoff { .. } if detail.waiting => DaemonState::Waiting,
        State::Backoff { .. } => DaemonState::Backoff,
        State::Failed(FailureReason::Quarantined { .. }) => DaemonState::Quarantined,
        State::Failed(_) if detail.held => DaemonState::Held,
        State::Failed(_) => DaemonState::Failed,
    }
}

/// The resident set of a process, in bytes: the second field of `/proc/PID/statm`, in pages.
fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
    pages.checked_mul(page_bytes)
}
