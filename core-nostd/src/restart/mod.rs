//! Whether a daemon that ended is started again.
//!
//! Rules:
//! 1. An exit is clean or a failure by what it is, never by policy: exit code 0 is clean, and what
//!    its [`ExitRules`] say; by default the signals SIGHUP, SIGINT, SIGTERM and SIGPIPE, as in systemd.
//!    All else is a failure.
//! 2. A clean exit is charged to the backoff and to the restart limiter if it came early, before the
//!    run counted as stable: what ends at once and is started again has no right to a whole processor.
//!    After a stable run it is not charged, unless the rules say so ([`ExitRules::charge_clean`]). It
//!    is never a failure, and so never one of the retries.
//! 3. Some exits decide about the restart by themselves, as in systemd: what is prevented is not
//!    started again, what is forced is, and prevented beats forced.
//! 4. What was refused is not tried again: without a change it would be refused again.
//! 5. What lies outside of the daemon is not charged to it: a program that is away, a limit of the
//!    machine, a disk, the death of what it ran in ([`FailureReason::is_outer`]). A start that such a
//!    thing prevented is tried again whatever the policy, which speaks of how programs end; each time
//!    after a longer wait, as its backoff has it, and never at once; and for ever. Which errors of a
//!    start are of that kind is said by [`StartError::exit`].
//! 6. Three exit codes mean the same wherever a daemon runs, by `sysexits.h`, unless its rules say
//!    otherwise: 75 that something outside is missing (rule 5), 77 that it may not, and 78 that its
//!    configuration can't work (rule 4). Every other code but 0 is a failure like 1
//!    (`tests::three_codes_mean_the_same_everywhere`).
//! 7. The policy decides the rest. How soon, and how often, is said by [`backoff`](crate::backoff)
//!    and [`limiter`](crate::limiter).
//!
//! ```
//! use duende_core::restart::{Exit, ExitRules, ExitSet, RestartPolicy};
//!
//! // SuccessExitStatus=143, RestartPreventExitStatus=64: a JVM that was told to end, a usage error.
//! let rules = ExitRules {
//!     success: ExitRules::SYSTEMD.success.with_code(143)?,
//!     prevent: ExitSet::EMPTY.with_code(64)?,
//!     ..ExitRules::SYSTEMD
//! };
//! let restarts = |exit| rules.classify(exit).restarts(RestartPolicy::OnFailure);
//! assert!(restarts(Exit::Code(1)) && restarts(Exit::Signal(11)) && restarts(Exit::Trap));
//! assert!(!restarts(Exit::Code(0)) && !restarts(Exit::Signal(15)) && !restarts(Exit::Code(143)));
//! assert!(!restarts(Exit::Code(64)));
//! # Ok::<(), duende_core::restart::ExitSetError>(())
//! ```

mod exits;
mod failure;
mod rules;
mod start;

pub use exits::{ExitSet, ExitSetError};
pub use failure::FailureReason;
pub use rules::{Classified, Decision, ExitRules};
pub use start::{StartError, Unavailable};

/// How an incarnation ended, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It ended by itself with this code. A component that exits gracefully has code 0.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// One of its functions returned an error.
    Error,
    /// It trapped.
    Trap,
    /// A slice passed its budget.
    SliceBudget,
    /// It could not be made, and would not be the next time: the image is unusable, for example.
    Refused,
    /// What it ran in is gone: its kernel or its machine died.
    Lost,
    /// It could not be started now, for a reason outside of it.
    Unavailable(Unavailable),
}

impl Exit {
    /// Why it is a failure by the default rules, [`ExitRules::SYSTEMD`]; `None` if it is clean.
    #[must_use]
    pub const fn failure(self) -> Option<FailureReason> {
        ExitRules::SYSTEMD.classify(self).failure
    }
}

/// When a daemon that ended by itself is started again. What an operator stopped stays stopped under
/// every policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RestartPolicy {
    /// Never.
    Never,
    /// After a failure.
    #[default]
    OnFailure,
    /// After every exit. When the manager starts, it also starts what an operator had stopped.
    Always,
    /// After every exit. When the manager starts, it leaves what an operator had stopped.
    UnlessStopped,
}

impl RestartPolicy {
    /// Whether an exit that was charged as `failure` (`None`: a clean one) leads to a restart.
    #[must_use]
    pub const fn restarts_after(self, failure: Option<FailureReason>) -> bool {
        match failure {
            Some(FailureReason::Refused) => return false,
            Some(FailureReason::Unavailable(_)) => return true,
            _ => {}
        }
        match self {
            Self::Never => false,
            Self::OnFailure => failure.is_some(),
            Self::Always | Self::UnlessStopped => true,
        }
    }

    /// Whether a manager that starts also starts this daemon, which an operator had stopped before.
    #[must_use]
    pub const fn overrides_earlier_stop(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never | Self::OnFailure | Self::UnlessStopped => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_systemds_clean_exits_are_clean() {
        for code in -3..=300 {
            assert_eq!(Exit::Code(code).failure().is_none(), code == 0, "code {code}");
        }
        for signal in 0..=64 {
            let clean = matches!(signal, 1 | 2 | 13 | 15);
            assert_eq!(Exit::Signal(signal).failure().is_none(), clean, "signal {signal}");
        }
        for exit in [Exit::Error, Exit::Trap, Exit::SliceBudget, Exit::Refused, Exit::Lost] {
            assert!(exit.failure().is_some(), "{exit:?}");
        }
    }

    #[test]
    fn three_codes_mean_the_same_everywhere() {
        for code in 1..=255 {
            let expected = match code {
                75 => FailureReason::Unavailable(Unavailable::TempFail),
                77 | 78 => FailureReason::Refused,
                code => FailureReason::ExitCode(code),
            };
            assert_eq!(Exit::Code(code).failure(), Some(expected), "code {code}");
        }
        // What is said of a code in a daemon's rules counts more.
        let rules = ExitRules {
            success: ExitSet::EMPTY.and(Exit::Code(75)),
            force: ExitSet::EMPTY.and(Exit::Code(78)),
            ..ExitRules::SYSTEMD
        };
        assert_eq!(rules.classify(Exit::Code(75)).failure, None);
        assert!(rules.classify(Exit::Code(78)).restarts(RestartPolicy::Never));
    }

    #[test]
    fn the_policy_decides() {
        use RestartPolicy::{Always, Never, OnFailure, UnlessStopped};
        let crash = Exit::Signal(9).failure();
        for (policy, after_clean, after_crash) in [
            (Never, false, false),
            (OnFailure, false, true),
            (Always, true, true),
            (UnlessStopped, true, true),
        ] {
            assert_eq!(policy.restarts_after(None), after_clean, "{policy:?}");
            assert_eq!(policy.restarts_after(crash), after_crash, "{policy:?}");
            assert!(!policy.restarts_after(Exit::Refused.failure()), "{policy:?}");
            let prevented = Exit::Unavailable(Unavailable::Program).failure();
            assert!(policy.restarts_after(prevented), "{policy:?}");
            assert_eq!(policy.overrides_earlier_stop(), policy == Always, "{policy:?}");
        }
    }
}
