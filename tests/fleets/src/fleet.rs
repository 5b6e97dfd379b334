//! Fleets from a seed: a few daemons of every kind, with short times.

use std::time::Duration;

use duende::{
    backend::{Abilities, Place},
    manager::decide::{DaemonSpec, NotifyAccess, ReadyBy},
};
use duende_core::{
    backoff::{Backoff, Curve, Jitter},
    limiter::{RestartLimit, Window},
    probe::{ProbeSpec, Probes},
    restart::RestartPolicy,
    supervise::Spec,
};

use duende_history::Draw;

/// Most daemons of one fleet: enough for chains and bystanders.
const DAEMONS_MAX: usize = 5;

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A fleet.
pub(crate) fn draw_fleet(draw: &mut Draw) -> Vec<DaemonSpec> {
    let count = 1 + draw.below(DAEMONS_MAX);
    (0..count).map(|slot| draw_daemon(draw, slot)).collect()
}

fn draw_daemon(draw: &mut Draw, slot: usize) -> DaemonSpec {
    let place = if draw.once_in(3) { Place::Wos } else { Place::Native };
    let linked = place == Place::Wos || draw.once_in(3);
    let abilities = Abilities::of(place, linked);
    let ready_by = match (linked, draw.below(2)) {
        (true, _) => ReadyBy::Link,
        (false, 0) => ReadyBy::Start,
        (false, _) => ReadyBy::Datagram,
    };
    let policies = [
        RestartPolicy::Always,
        RestartPolicy::Always,
        RestartPolicy::OnFailure,
        RestartPolicy::UnlessStopped,
        RestartPolicy::Never,
    ];
    let probe = ProbeSpec {
        initial_delay: ms(500),
        period: ms(500),
        timeout: ms(100),
        failure_threshold: 3,
        success_threshold: 1,
    };
    let supervision = Spec {
        restart: policies[draw.below(policies.len())],
        limit: RestartLimit { intensity: 3, period: ms(20_000), window: Window::Sliding },
        backoff: Backoff {
            curve: Curve::Exponential { initial: ms(10), cap: ms(1_000) },
            jitter: Jitter::Full,
        },
        start_timeout: ms(400),
        stop_grace: ms(200),
        kill_timeout: ms(100),
        reload_timeout: ms(300),
        stable_after: ms(2_000),
        probes: if abilities.probes { Probes::liveness(probe) } else { Probes::NONE },
        watchdog: (ready_by == ReadyBy::Datagram && draw.once_in(3)).then_some(ms(1_000)),
        ..Spec::default()
    };
    let mut depends_on = Vec::new();
    for on in 0..slot {
        if draw.once_in(3) {
            depends_on.push(u32::try_from(on).unwrap_or(0));
        }
    }
    DaemonSpec {
        name: format!("d{slot}"),
        place,
        abilities,
        supervision,
        depends_on,
        group: None,
        ready_by,
        notify_access: if draw.once_in(4) { NotifyAccess::All } else { NotifyAccess::Main },
        has_channels: false,
    }
}
