//! The configuration as the machine takes it: groups, each after its parent, and daemons, each after
//! those that it depends on.

use std::{collections::HashMap, sync::Arc};

use duende_core::{
    probe::Probes,
    supervise::{GroupSpec, Spec},
};

use super::decide::{DaemonSpec, GroupPlan, NotifyAccess, ReadyBy};
use crate::{
    backend::{Abilities, place_of},
    config::{self, DaemonConfig, FleetConfig, Isolation, Ready},
};

/// What a fleet is to the machine, and the configuration of each slot.
pub(super) struct Plan {
    pub(super) groups: Vec<GroupPlan>,
    pub(super) daemons: Vec<DaemonSpec>,
    pub(super) configs: Vec<Arc<DaemonConfig>>,
    /// The slots in the order of the configuration.
    pub(super) order: Vec<u32>,
}

impl Plan {
    pub(super) fn of(fleet: &FleetConfig) -> Self {
        let groups = fleet.groups.iter().map(|group| GroupPlan {
            spec: GroupSpec { strategy: group.strategy, limit: group.limit, parent: None },
            parent: group.parent,
        });
        let mut slots: HashMap<usize, u32> = HashMap::new();
        let (mut daemons, mut configs) = (Vec::new(), Vec::new());
        for (slot, index) in (0_u32..).zip(fleet.dependencies_first()) {
            let Some(config) = fleet.daemons.get(index) else { continue };
            let depends_on = config.depends_on.iter().filter_map(|on| slots.get(on).copied());
            daemons.push(spec(config, depends_on.collect()));
            configs.push(Arc::new(config.clone()));
            slots.insert(index, slot);
        }
        let order = (0..fleet.daemons.len()).filter_map(|index| slots.get(&index).copied());
        Self { groups: groups.collect(), daemons, configs, order: order.collect() }
    }
}

/// A daemon's configuration as the machine takes it.
fn spec(config: &DaemonConfig, depends_on: Vec<u32>) -> DaemonSpec {
    let place = place_of(config);
    let (linked, ready_by, notify_access) = match &config.isolation {
        Isolation::Wos(_) => (true, ReadyBy::Link, NotifyAccess::None),
        Isolation::Native(native) => {
            let linked = native.link.is_some();
            let ready_by = match native.ready {
                Ready::Started => ReadyBy::Start,
                Ready::Notify if linked => ReadyBy::Link,
                Ready::Notify => ReadyBy::Datagram,
            };
            let access = match native.notify_access.unwrap_or_default() {
                config::NotifyAccess::None => NotifyAccess::None,
                // Nothing is started for a daemon beside its main process yet.
                config::NotifyAccess::Main | config::NotifyAccess::Exec => NotifyAccess::Main,
                config::NotifyAccess::All => NotifyAccess::All,
            };
            (linked, ready_by, access)
        }
    };
    let abilities = Abilities::of(place, linked);
    let restart = config.restart;
    DaemonSpec {
        name: config.name.clone(),
        place,
        abilities,
        supervision: Spec {
            restart: restart.policy,
            exits: restart.exits,
            max_retries: restart.max_retries,
            backoff: restart.backoff,
            limit: restart.limit,
            start_timeout: config.start_timeout,
            stop_grace: config.stop_grace,
            kill_timeout: config.kill_timeout,
            reload_timeout: config.reload_timeout,
            stable_after: restart.stable_after,
            probes: if abilities.probes { config.health } else { Probes::NONE },
            watchdog: config.watchdog,
            // The machine fills in the group and the dependencies: it knows their identifiers.
            ..Spec::default()
        },
        depends_on,
        group: config.member_of,
        ready_by,
        notify_access,
        has_channels: !config.channels.is_empty(),
    }
}
