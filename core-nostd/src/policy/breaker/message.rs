//! What a breaker is told and answers: its specification, its states, permits and refusals.

use core::time::Duration;

use crate::time::Instant;

/// When a breaker opens, and what closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BreakerSpec {
    /// How many failures in a row open it. Not zero.
    pub failure_threshold: u32,
    /// How long it admits nothing before it tries again. Not zero.
    pub open_for: Duration,
    /// How many probes a half-open breaker admits; all must succeed. Not zero.
    pub probes: u32,
    /// How long the answer to a probe may take, counted from the last one admitted. Not zero.
    pub probe_timeout: Duration,
}

impl Default for BreakerSpec {
    /// Opens at 5 failures in a row, for 30 s; closes when one probe succeeds within 10 s.
    fn default() -> Self {
        Self {
            failure_threshold: 5,
            open_for: Duration::from_secs(30),
            probes: 1,
            probe_timeout: Duration::from_secs(10),
        }
    }
}

/// The specification has a zero where there has to be something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BreakerSpecError {
    /// It would be open before the first failure.
    #[error("a failure threshold of 0 admits no call: say at least 1")]
    FailureThresholdIsZero,
    /// It would never be open.
    #[error("a breaker that is open for no time stops nothing: say at least 1 ns")]
    OpenForIsZero,
    /// It would never close.
    #[error("a breaker without probes can't close: say at least 1")]
    ProbesAreZero,
    /// It would never close.
    #[error("no probe can be answered in no time: say at least 1 ns")]
    ProbeTimeoutIsZero,
}

impl BreakerSpec {
    pub(super) const fn check(&self) -> Result<(), BreakerSpecError> {
        if self.failure_threshold == 0 {
            return Err(BreakerSpecError::FailureThresholdIsZero);
        }
        if self.open_for.is_zero() {
            return Err(BreakerSpecError::OpenForIsZero);
        }
        if self.probes == 0 {
            return Err(BreakerSpecError::ProbesAreZero);
        }
        if self.probe_timeout.is_zero() {
            return Err(BreakerSpecError::ProbeTimeoutIsZero);
        }
        Ok(())
    }
}

/// What a breaker does with the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Admits it.
    Closed {
        /// How many failures came since the last success; fewer than the threshold.
        failures: u32,
    },
    /// Refuses it.
    Open {
        /// When it will be half-open.
        until: Instant,
    },
    /// Admits it while there are probes left.
    HalfOpen {
        /// How many probes were admitted.
        admitted: u32,
        /// How many of them succeeded.
        succeeded: u32,
        /// When those that are not answered count as failed; means nothing if all are.
        answer_by: Instant,
    },
}

/// The right to make one call, and the duty to report what came of it.
///
/// One that is never reported counts as a failure if it was a probe, and not at all otherwise. It
/// belongs to the breaker that gave it.
#[derive(Debug, PartialEq, Eq, Hash)]
#[must_use = "report what came of the call"]
pub struct Permit {
    pub(super) epoch: u64,
}

impl Permit {
    pub(super) const fn use_up(self) -> u64 {
        self.epoch
    }
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It did what was asked, or failed by no fault of the other side.
    Success,
    /// It failed, or took too long.
    Failure,
}

/// Why a call was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BreakerRefusal {
    /// It failed too often.
    #[error("the circuit is open: try again at {} ns", until.as_ns())]
    Open {
        /// When the first probe will be admitted.
        until: Instant,
    },
    /// Others are trying whether it works again.
    #[error("the circuit is being probed: try again at {} ns", answer_by.as_ns())]
    Probing {
        /// When it will be known at the latest.
        answer_by: Instant,
    },
}
