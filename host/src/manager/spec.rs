//! The configuration as the supervisor takes it: groups, each after its parent, and daemons, each
//! after those that it depends on.

use std::collections::HashMap;

use duende_core::{
    health::Need,
    probe::Probes,
    supervise::{DaemonId, GroupId, GroupSpec, Spec},
};

use super::{LogWriter, Managed, Manager, ManagerError, log_path};
use crate::config::DaemonConfig;

impl Manager {
    /// Adds everything that is configured.
    pub(super) fn add_groups_and_daemons(&mut self) -> Result<(), ManagerError> {
        let mut groups: Vec<GroupId> = Vec::with_capacity(self.fleet.groups.len());
        for group in &self.fleet.groups {
            let parent = group.parent.and_then(|index| groups.get(index).copied());
            let spec = GroupSpec { strategy: group.strategy, limit: group.limit, parent };
            let added = self.supervisor.add_group(spec);
            groups.push(added.map_err(|source| {
                let name = group.name.clone();
                ManagerError::Group { name, source }
            })?);
        }
        let configs = self.fleet.daemons.clone();
        let mut ids: HashMap<usize, DaemonId> = HashMap::new();
        for index in self.fleet.dependencies_first() {
            let Some(config) = configs.get(index) else { continue };
            let dependencies: Vec<DaemonId> =
                config.depends_on.iter().filter_map(|index| ids.get(index).copied()).collect();
            let group = config.member_of.and_then(|index| groups.get(index).copied());
            let id = self
                .supervisor
                .add(spec(config, group, &dependencies))
                .map_err(|source| ManagerError::Daemon { name: config.name.clone(), source })?;
            ids.insert(index, id);
            let log = LogWriter::new(&log_path(&self.fleet.log_dir, &config.name));
            self.by_name.insert(config.name.clone(), self.daemons.len());
            let component = self.health.add(&config.name, Need::Required)?;
            self.daemons.push(Managed::new(id, config.clone(), component, log));
        }
        Ok(())
    }
}

/// The supervisor's view of a daemon's configuration.
fn spec(config: &DaemonConfig, group: Option<GroupId>, dependencies: &[DaemonId]) -> Spec {
    let restart = config.restart;
    Spec {
        restart: restart.policy,
        exits: restart.exits,
        max_retries: restart.max_retries,
        backoff: restart.backoff,
        limit: restart.limit,
        start_timeout: config.start_timeout,
        stop_grace: config.stop_grace,
        reload_timeout: config.reload_timeout,
        stable_after: restart.stable_after,
        probes: if config.speaks_contract() { config.health } else { Probes::NONE },
        watchdog: config.watchdog,
        group,
        depends_on: dependencies.iter().copied().collect(),
    }
}
