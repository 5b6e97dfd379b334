//! What a daemon says of its own health.

use std::time::{Duration, Instant};

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// In order.
    Passed,
    /// Less than promised, but working; the text says what is missing. Counts as healthy.
    Degraded(String),
    /// Not working; the text says why.
    Failed(String),
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub result: CheckResult,
}

/// The answer to [`Daemon::health_check`](super::Daemon::health_check).
///
/// Whether a daemon is healthy is not a field of its own: it follows from the checks.
#[derive(Clone, Debug)]
pub struct HealthStatus {
    /// What was looked at, one by one.
    pub checks: Vec<HealthCheck>,
    /// How long looking took.
    pub latency: Duration,
    /// When the looking ended.
    pub last_check: Instant,
}

impl HealthStatus {
    /// Healthy, without single checks. `latency` is how long it took to find out.
    #[must_use]
    pub fn healthy(latency: Duration) -> Self {
        Self::from_checks(Vec::new(), latency)
    }

    /// Not healthy, for one reason.
    #[must_use]
    pub fn unhealthy(why: impl Into<String>, latency: Duration) -> Self {
        let check = HealthCheck { name: "daemon", result: CheckResult::Failed(why.into()) };
        Self::from_checks(vec![check], latency)
    }

    /// As healthy as the worst of `checks`.
    #[must_use]
    pub fn from_checks(checks: Vec<HealthCheck>, latency: Duration) -> Self {
        Self { checks, latency, last_check: Instant::now() }
    }

    /// Whether no check failed.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.failures().is_empty()
    }

    /// The failed checks, as `name: reason; name: reason`; empty when healthy.
    #[must_use]
    pub fn failures(&self) -> String {
        self.join(|result| match result {
            CheckResult::Failed(why) => Some(why),
            CheckResult::Passed | CheckResult::Degraded(_) => None,
        })
    }

    /// The degraded checks, in the same form.
    #[must_use]
    pub fn degradations(&self) -> String {
        self.join(|result| match result {
            CheckResult::Degraded(why) => Some(why),
            CheckResult::Passed | CheckResult::Failed(_) => None,
        })
    }

    fn join(&self, pick: impl Fn(&CheckResult) -> Option<&String>) -> String {
        let texts: Vec<String> = self
            .checks
            .iter()
            .filter_map(|check| Some(format!("{}: {}", check.name, pick(&check.result)?)))
            .collect();
        texts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_as_healthy_as_the_worst_check() {
        let check = |name, result| HealthCheck { name, result };
        let degraded = || check("cache", CheckResult::Degraded("cold".to_owned()));
        let failed = || check("disk", CheckResult::Failed("full".to_owned()));
        for (checks, healthy, failures, degradations) in [
            (vec![], true, "", ""),
            (vec![check("a", CheckResult::Passed)], true, "", ""),
            (vec![degraded()], true, "", "cache: cold"),
            (vec![degraded(), failed()], false, "disk: full", "cache: cold"),
        ] {
            let status = HealthStatus::from_checks(checks, Duration::ZERO);
            assert_eq!(status.is_healthy(), healthy, "{status:?}");
            assert_eq!(status.failures(), failures);
            assert_eq!(status.degradations(), degradations);
        }
        assert!(!HealthStatus::unhealthy("", Duration::ZERO).is_healthy());
    }
}
