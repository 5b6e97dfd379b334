//! Why something ended, in words for people.

use duende_core::lifecycle::FailureReason;

use crate::config::signals;

/// A failure, for people.
pub(super) fn failure_text(failure: FailureReason) -> String {
    match failure {
        FailureReason::ExitCode(code) => format!("exit code {code}"),
        FailureReason::Signal(signal) => signal_name(signal),
        FailureReason::Error => "it returned an error".to_owned(),
        FailureReason::Trap => "it trapped".to_owned(),
        FailureReason::SliceBudget => "a slice passed its budget".to_owned(),
        FailureReason::StartTimeout => "it was not ready in time".to_owned(),
        FailureReason::Unhealthy => "its health checks failed".to_owned(),
        FailureReason::Watchdog => "it gave no sign of life".to_owned(),
        FailureReason::Refused => "it cannot be started".to_owned(),
        FailureReason::Lost => "what it ran in ended".to_owned(),
        FailureReason::Quarantined { restarts, period } => {
            format!("{restarts} restarts within {} s were not enough", period.as_secs())
        }
    }
}

/// How a signal ended a process.
pub(super) fn signal_name(signal: i32) -> String {
    match signals::name_of(signal) {
        Some(name) => format!("killed by {name}"),
        None => format!("signal {signal}"),
    }
}
