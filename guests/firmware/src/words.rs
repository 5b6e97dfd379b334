//! States in words, for the output.

use core::fmt;

use duende_core::lifecycle::{FailureReason, Starting, State, StopCause, Stopping};
use duende_core::time::Instant;

/// A state, told at an instant.
pub(crate) struct InWords {
    pub(crate) state: State,
    pub(crate) now: Instant,
}

impl fmt::Display for InWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state {
            State::Created => f.write_str("created"),
            State::Starting(Starting::Waiting) => f.write_str("is to start"),
            State::Starting(Starting::Spawning { .. }) => f.write_str("starts"),
            State::Starting(Starting::Initialising { .. }) => f.write_str("initialises"),
            State::Running => f.write_str("runs"),
            State::Reloading { .. } => f.write_str("reloads"),
            State::Paused => f.write_str("is paused"),
            State::Stopping(Stopping::Asked { .. }) => f.write_str("is asked to stop"),
            State::Stopping(Stopping::Killing { .. }) => f.write_str("is killed"),
            State::Stopping(Stopping::Condemned { reason, .. }) => {
                f.write_str("is asked to stop: ")?;
                failure(reason, f)
            }
            State::Stopping(Stopping::CondemnedKilling { reason, .. }) => {
                f.write_str("is killed: ")?;
                failure(reason, f)
            }
            State::Stopped(StopCause::Operator) => f.write_str("is stopped"),
            State::Stopped(StopCause::Finished) => f.write_str("has finished"),
            State::Stopped(StopCause::GaveUp) => f.write_str("is stopped: its group gave up"),
            State::Backoff { until, failure: reason } => {
                if let Some(reason) = reason {
                    f.write_str("failed: ")?;
                    failure(reason, f)?;
                    f.write_str("; ")?;
                }
                let ms = until.saturating_since(self.now).as_millis();
                write!(f, "starts again in {} ms", u64::try_from(ms).unwrap_or(u64::MAX))
            }
            State::Failed(reason) => {
                f.write_str("failed for good: ")?;
                failure(reason, f)
            }
        }
    }
}

fn failure(reason: FailureReason, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match reason {
        FailureReason::ExitCode(code) => write!(f, "exit code {code}"),
        FailureReason::Signal(signal) => write!(f, "signal {signal}"),
        FailureReason::Error => f.write_str("an error"),
        FailureReason::Trap => f.write_str("a trap"),
        FailureReason::SliceBudget => f.write_str("a slice over its budget"),
        FailureReason::StartTimeout => f.write_str("not ready in time"),
        FailureReason::Unhealthy => f.write_str("unhealthy"),
        FailureReason::Watchdog => f.write_str("no sign of life"),
        FailureReason::Refused => f.write_str("refused"),
        FailureReason::Lost => f.write_str("lost"),
        FailureReason::Unavailable(_) => f.write_str("something outside of it"),
        FailureReason::Unkillable => f.write_str("no kill ended it"),
        FailureReason::Quarantined { restarts, period } => {
            write!(f, "quarantined after {restarts} restarts within {} s", period.as_secs())
        }
    }
}
