//! Why a daemon failed, and whether that lies with it.

use core::time::Duration;

use super::Unavailable;

/// Why a daemon failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// It exited with this code, which is not 0.
    ExitCode(i32),
    /// This signal ended it, which is not one of the [clean ones](crate::restart::ExitRules::success).
    Signal(i32),
    /// One of its functions returned an error.
    Error,
    /// It trapped.
    Trap,
    /// A slice passed its budget.
    SliceBudget,
    /// It was not ready in time, or its startup probe failed too often, and it was ended.
    StartTimeout,
    /// Its health checks failed too often in a row, and it was ended.
    Unhealthy,
    /// It gave no sign of life for as long as its watchdog waits, and was ended.
    Watchdog,
    /// It could not be made, and a further try would not help.
    Refused,
    /// What it ran in died.
    Lost,
    /// It could not be started, for a reason outside of it.
    Unavailable(Unavailable),
    /// It was killed again and again, and did not end.
    Unkillable,
    /// It failed more often than its restart limit admits. An operator's start releases it.
    Quarantined {
        /// The restarts that the limit admitted.
        restarts: u32,
        /// The period in which it admitted them.
        period: Duration,
    },
}

impl FailureReason {
    /// Whether it lies outside of the daemon, which is not charged for it.
    #[must_use]
    pub const fn is_outer(self) -> bool {
        matches!(self, Self::Lost | Self::Unavailable(_))
    }
}
