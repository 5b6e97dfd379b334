//! Reads how trouble is noticed and what follows: `health` and `restart`.

use duende_core::supervise::INTENSITY_MAX;

use super::diagnostic::Report;
use super::model::{HealthConfig, RestartConfig, RestartPolicy};
use super::reader::Section;
use super::reading::{FROM_1_MS, FROM_ZERO};

/// Most retries.
const RETRIES_MAX: u32 = 10_000;
/// Most restarts that a window counts.
#[allow(clippy::cast_possible_truncation)] // 32, checked below.
const INTENSITY: u32 = INTENSITY_MAX as u32;
const _: () = assert!(INTENSITY_MAX < u32::MAX as usize);

const POLICIES: [(&str, RestartPolicy); 4] = [
    ("never", RestartPolicy::Never),
    ("on-failure", RestartPolicy::OnFailure),
    ("always", RestartPolicy::Always),
    ("unless-stopped", RestartPolicy::UnlessStopped),
];

/// Reads `health`.
pub(super) fn read_health(mut section: Section<'_>, report: &mut Report<'_>) -> HealthConfig {
    let default = HealthConfig::default();
    let period = section.take("period").and_then(|entry| entry.duration(report, FROM_1_MS));
    let timeout = section.take("timeout").and_then(|entry| entry.duration(report, FROM_1_MS));
    let failures = section.take("failures").and_then(|entry| entry.integer_u32(report, 1..=1_000));
    section.finish(report);
    HealthConfig {
        period: period.unwrap_or(default.period),
        timeout: timeout.unwrap_or(default.timeout),
        failures: failures.unwrap_or(default.failures),
    }
}

/// Reads `restart`.
pub(super) fn read_restart(mut section: Section<'_>, report: &mut Report<'_>) -> RestartConfig {
    let default = RestartConfig::default();
    let policy = section.take("policy").and_then(|entry| entry.word(report, &POLICIES));
    let max_retries =
        section.take("max_retries").and_then(|entry| entry.integer_u32(report, 0..=RETRIES_MAX));
    let initial_entry = section.take("backoff_initial");
    let initial = initial_entry.as_ref().and_then(|entry| entry.duration(report, FROM_ZERO));
    let max_entry = section.take("backoff_max");
    let max = max_entry.as_ref().and_then(|entry| entry.duration(report, FROM_ZERO));
    let stable_after =
        section.take("stable_after").and_then(|entry| entry.duration(report, FROM_ZERO));
    let limit = section.take("limit").and_then(|entry| entry.integer_u32(report, 0..=INTENSITY));
    let window = section.take("window").and_then(|entry| entry.duration(report, FROM_ZERO));
    section.finish(report);

    let backoff_initial = initial.unwrap_or(default.backoff_initial);
    let backoff_max = max.unwrap_or(default.backoff_max);
    if backoff_initial > backoff_max {
        // The one that is written down is the one to change.
        if let Some(entry) = max_entry.or(initial_entry) {
            let initial = humantime::format_duration(backoff_initial);
            let max = humantime::format_duration(backoff_max);
            let message = format!("backoff_initial ({initial}) is more than backoff_max ({max})");
            entry.report(report, message, "lower backoff_initial or raise backoff_max");
        }
    }
    RestartConfig {
        policy: policy.unwrap_or(default.policy),
        max_retries,
        backoff_initial,
        backoff_max,
        stable_after: stable_after.unwrap_or(default.stable_after),
        limit: limit.unwrap_or(default.limit),
        window: window.unwrap_or(default.window),
    }
}
