//! How the whole fleet is, from how its daemons are: the core decides.
//!
//! Every daemon is required. One that was stopped, or that has done its work, is as it should be; one
//! that nothing can be asked of is healthy while it runs.

use std::time::Duration;

use duende_core::{
    health::{Readiness, Registry, Slot, Status},
    lifecycle::State,
};

use super::Decider;
use crate::control::protocol::{FleetHealth, HealthState};

/// When to ask again a fleet that is not ready.
const RETRY_AFTER: Duration = Duration::from_secs(5);

pub(super) type Health = Registry<Box<[Slot]>>;

/// The health of so many daemons.
pub(super) fn registry(daemons: usize) -> Health {
    Registry::new(vec![Slot::EMPTY; daemons].into_boxed_slice(), RETRY_AFTER)
}

impl Decider {
    /// How the fleet is now.
    #[must_use]
    pub fn fleet_health(&mut self) -> FleetHealth {
        let state_fault = self.store_fault.clone().or_else(|| self.store_astray.clone());
        for daemon in &self.daemons {
            let state = self.supervisor.view(daemon.id).map(|view| view.state);
            let status = match state {
                // What it left is being ended: it does its work no longer.
                Some(state) if state.is_up() && daemon.main_ended().is_some() => Status::Degraded,
                Some(state) => status_of(state, daemon.health),
                None => Status::Unknown,
            };
            // Each was added when the manager began, and none is removed.
            let _ = self.health.report(daemon.component, status);
        }
        let retry_after_s = match self.health.readiness() {
            Readiness::Ready => None,
            Readiness::Degraded { retry_after_s, .. } => Some(retry_after_s),
        };
        FleetHealth {
            status: match self.health.status() {
                Status::Unknown => HealthState::Unknown,
                // Whoever keeps something may lose it.
                Status::Healthy if state_fault.is_some() => HealthState::Degraded,
                Status::Healthy => HealthState::Healthy,
                Status::Degraded => HealthState::Degraded,
                Status::Unhealthy => HealthState::Unhealthy,
            },
            ready: retry_after_s.is_none(),
            missing: self.health.missing().map(str::to_owned).collect(),
            retry_after_s,
            state_fault,
        }
    }
}

const fn status_of(state: State, said: HealthState) -> Status {
    match state {
        State::Running | State::Reloading { .. } => match said {
            HealthState::Unknown | HealthState::Other(_) | HealthState::Healthy => Status::Healthy,
            HealthState::Degraded => Status::Degraded,
            HealthState::Unhealthy => Status::Unhealthy,
        },
        State::Stopped(_) => Status::Healthy,
        State::Created | State::Starting(_) => Status::Unknown,
        State::Paused | State::Stopping(_) => Status::Degraded,
        State::Backoff { .. } | State::Failed(_) => Status::Unhealthy,
    }
}

#[cfg(test)]
mod tests {
    use duende_core::{
        lifecycle::{FailureReason, StopCause},
        time::Instant,
    };

    use super::*;

    #[test]
    fn what_runs_or_is_done_is_well() {
        let backoff = State::Backoff { until: Instant::ZERO, failure: None };
        for (state, said, expected) in [
            (State::Created, HealthState::Unknown, Status::Unknown),
            (State::Running, HealthState::Unknown, Status::Healthy),
            (State::Running, HealthState::Degraded, Status::Degraded),
            (State::Running, HealthState::Unhealthy, Status::Unhealthy),
            (State::Paused, HealthState::Healthy, Status::Degraded),
            (State::Stopped(StopCause::Finished), HealthState::Unhealthy, Status::Healthy),
            (backoff, HealthState::Healthy, Status::Unhealthy),
            (State::Failed(FailureReason::Trap), HealthState::Healthy, Status::Unhealthy),
        ] {
            assert_eq!(status_of(state, said), expected, "{state:?} {said:?}");
        }
    }
}
