//! What an exit counts as, and what it does to the restart: the rules that a daemon's configuration
//! can change, and those of the systems that users know.

use super::{Exit, ExitSet, FailureReason, RestartPolicy, Unavailable};

/// Something outside is missing: `sysexits.h`.
const EX_TEMPFAIL: i32 = 75;
/// It may not: `sysexits.h`.
const EX_NOPERM: i32 = 77;
/// Its configuration can't work: `sysexits.h`.
const EX_CONFIG: i32 = 78;

/// Which exits are clean, and which decide by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExitRules {
    /// What is clean beside exit code 0: systemd's list of signals with `SuccessExitStatus`.
    pub success: ExitSet,
    /// After these it is not started again, whatever else is said: `RestartPreventExitStatus`.
    pub prevent: ExitSet,
    /// After these it is, whatever the policy says, unless prevented: `RestartForceExitStatus`.
    pub force: ExitSet,
    /// Whether a restart after a clean exit is charged as one after a failure is, however long the run
    /// was: to the backoff, the retries and the limit. The policy is still asked about a clean exit.
    pub charge_clean: bool,
}

/// What an exit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Classified {
    /// Why it is a failure; `None` if it is clean.
    pub failure: Option<FailureReason>,
    /// Whether a restart after it is charged, however long the run was. (An exit that comes early is
    /// charged to the backoff and the limit in any case.)
    pub is_charged: bool,
    /// Who decides about the restart.
    pub decision: Decision,
}

/// Who decides whether there is a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Decision {
    /// The daemon's policy.
    #[default]
    ByPolicy,
    /// The exit: there is none.
    Prevented,
    /// The exit: there is one.
    Forced,
}

/// HUP, INT, PIPE, TERM: by these numbers on every Unix.
const SYSTEMD_SIGNALS: ExitSet = ExitSet::EMPTY
    .and(Exit::Signal(1))
    .and(Exit::Signal(2))
    .and(Exit::Signal(13))
    .and(Exit::Signal(15));

/// HUP, INT, USR1, USR2, TERM: by Linux's numbers.
const DINIT_SIGNALS: ExitSet = ExitSet::EMPTY
    .and(Exit::Signal(1))
    .and(Exit::Signal(2))
    .and(Exit::Signal(10))
    .and(Exit::Signal(12))
    .and(Exit::Signal(15));

impl ExitRules {
    /// systemd's, and the default: HUP, INT, PIPE and TERM are clean, and nothing clean is charged after
    /// a stable run.
    pub const SYSTEMD: Self = Self {
        success: SYSTEMD_SIGNALS,
        prevent: ExitSet::EMPTY,
        force: ExitSet::EMPTY,
        charge_clean: false,
    };

    /// s6's: only code 0 is clean, and code 125 is a permanent failure. There it is the exit code of
    /// the `finish` script; a daemon here has none and says so itself.
    pub const S6: Self = Self {
        success: ExitSet::EMPTY,
        prevent: ExitSet::EMPTY.and(Exit::Code(125)),
        force: ExitSet::EMPTY,
        charge_clean: false,
    };

    /// dinit's: HUP, INT, USR1, USR2 and TERM are clean.
    pub const DINIT: Self = Self {
        success: DINIT_SIGNALS,
        prevent: ExitSet::EMPTY,
        force: ExitSet::EMPTY,
        charge_clean: false,
    };

    /// Kubernetes': only code 0 is clean, and its restarts are charged all the same.
    ///
    /// ```
    /// use duende_core::restart::{Exit, ExitRules, RestartPolicy};
    ///
    /// let done = ExitRules::KUBERNETES.classify(Exit::Code(0));
    /// assert!(done.restarts(RestartPolicy::Always) && !done.restarts(RestartPolicy::OnFailure));
    /// // A batch job that is restarted when it is done runs into the backoff; here only a short one does.
    /// assert!(done.is_charged && !ExitRules::default().classify(Exit::Code(0)).is_charged);
    /// ```
    pub const KUBERNETES: Self = Self {
        success: ExitSet::EMPTY,
        prevent: ExitSet::EMPTY,
        force: ExitSet::EMPTY,
        charge_clean: true,
    };

    /// What the exit is.
    #[must_use]
    pub const fn classify(&self, exit: Exit) -> Classified {
        let failure = match exit {
            _ if self.success.contains(exit) => None,
            Exit::Code(0) => None,
            Exit::Code(EX_TEMPFAIL) => Some(FailureReason::Unavailable(Unavailable::TempFail)),
            Exit::Code(EX_NOPERM | EX_CONFIG) => Some(FailureReason::Refused),
            Exit::Code(code) => Some(FailureReason::ExitCode(code)),
            Exit::Signal(signal) => Some(FailureReason::Signal(signal)),
            Exit::Error => Some(FailureReason::Error),
            Exit::Trap => Some(FailureReason::Trap),
            Exit::SliceBudget => Some(FailureReason::SliceBudget),
            Exit::Refused => Some(FailureReason::Refused),
            Exit::Lost => Some(FailureReason::Lost),
            Exit::Unavailable(what) => Some(FailureReason::Unavailable(what)),
        };
        let decision = if self.prevent.contains(exit) {
            Decision::Prevented
        } else if self.force.contains(exit) {
            Decision::Forced
        } else {
            Decision::ByPolicy
        };
        let is_charged = match failure {
            Some(failure) => !failure.is_outer(),
            None => self.charge_clean,
        };
        Classified { failure, is_charged, decision }
    }
}

impl Default for ExitRules {
    fn default() -> Self {
        Self::SYSTEMD
    }
}

impl Classified {
    /// A failure that was found from outside and has no exit to go by, such as a start that took too
    /// long: charged, and the policy decides.
    #[must_use]
    pub const fn failure(reason: FailureReason) -> Self {
        Self { failure: Some(reason), is_charged: true, decision: Decision::ByPolicy }
    }

    /// Whether there is a restart, before retries and limits are asked.
    #[must_use]
    pub const fn restarts(&self, policy: RestartPolicy) -> bool {
        match self.decision {
            Decision::ByPolicy => policy.restarts_after(self.failure),
            Decision::Prevented => false,
            Decision::Forced => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const SYSTEMS: [(ExitRules, &[i32]); 4] = [
        (ExitRules::SYSTEMD, &[1, 2, 13, 15]),
        (ExitRules::S6, &[]),
        (ExitRules::DINIT, &[1, 2, 10, 12, 15]),
        (ExitRules::KUBERNETES, &[]),
    ];

    /// What lies outside of a daemon and is charged to nobody. Other systems know no such exits.
    const OUTER: [Exit; 3] =
        [Exit::Lost, Exit::Unavailable(Unavailable::Memory), Exit::Code(EX_TEMPFAIL)];

    /// Every exit there is, and some there are not.
    fn exits() -> Vec<Exit> {
        let numbers = (-3..=300).chain([i32::MIN, i32::MAX]);
        let others = [Exit::Error, Exit::Trap, Exit::SliceBudget, Exit::Refused];
        numbers
            .flat_map(|number| [Exit::Code(number), Exit::Signal(number)])
            .chain(others)
            .chain(OUTER)
            .collect()
    }

    /// systemd's `is_clean_exit` for daemons and `exit_status_set_test`, to the letter.
    fn is_clean_exit(exit: Exit, success: &[Exit]) -> bool {
        match exit {
            Exit::Code(status) => status == 0 || success.contains(&exit),
            Exit::Signal(status) => [1, 2, 15, 13].contains(&status) || success.contains(&exit),
            _ => false,
        }
    }

    /// The head of systemd's `service_shall_restart`; `None` where it goes on to ask the setting.
    fn shall_restart(exit: Exit, prevent: &[Exit], force: &[Exit]) -> Option<bool> {
        if prevent.contains(&exit) {
            return Some(false);
        }
        force.contains(&exit).then_some(true)
    }

    #[test]
    fn decides_like_systemd() {
        let (success, prevent, force) = (
            [Exit::Code(7), Exit::Signal(10), Exit::Code(255)],
            [Exit::Code(0), Exit::Code(7), Exit::Signal(9), Exit::Code(64)],
            [Exit::Code(7), Exit::Code(8), Exit::Signal(15), Exit::Signal(64), Exit::Code(0)],
        );
        let set = |exits: &[Exit]| exits.iter().fold(ExitSet::EMPTY, |set, exit| set.and(*exit));
        let rules = ExitRules {
            success: success.iter().fold(SYSTEMD_SIGNALS, |set, exit| set.and(*exit)),
            prevent: set(&prevent),
            force: set(&force),
            charge_clean: false,
        };
        use RestartPolicy::{Always, Never, OnFailure, UnlessStopped};
        for exit in exits() {
            let classified = rules.classify(exit);
            let clean = is_clean_exit(exit, &success);
            assert_eq!(classified.failure.is_none(), clean, "{exit:?}");
            assert_eq!(classified.is_charged, !clean && !OUTER.contains(&exit), "{exit:?}");
            for policy in [Never, OnFailure, Always, UnlessStopped] {
                let by_policy = match policy {
                    Never => false,
                    OnFailure => !clean,
                    Always | UnlessStopped => true,
                };
                // What was refused would be refused again, and what kept it from starting may pass:
                // that is ours, systemd has no such exits.
                let by_policy = match exit {
                    Exit::Refused | Exit::Code(EX_NOPERM | EX_CONFIG) => false,
                    Exit::Unavailable(_) | Exit::Code(EX_TEMPFAIL) => true,
                    _ => by_policy,
                };
                let expected = shall_restart(exit, &prevent, &force).unwrap_or(by_policy);
                assert_eq!(classified.restarts(policy), expected, "{exit:?} under {policy:?}");
            }
        }
    }

    #[test]
    fn each_system_has_its_clean_exits() {
        for (rules, signals) in SYSTEMS {
            for exit in exits() {
                let clean = match exit {
                    Exit::Code(code) => code == 0,
                    Exit::Signal(signal) => signals.contains(&signal),
                    _ => false,
                };
                let classified = rules.classify(exit);
                assert_eq!(classified.failure.is_none(), clean, "{exit:?} by {rules:?}");
                let is_charged = !OUTER.contains(&exit) && (!clean || rules.charge_clean);
                assert_eq!(classified.is_charged, is_charged, "{exit:?}");
                let permanent = rules == ExitRules::S6 && exit == Exit::Code(125);
                let decision = if permanent { Decision::Prevented } else { Decision::ByPolicy };
                assert_eq!(classified.decision, decision, "{exit:?} by {rules:?}");
            }
        }
    }

    #[test]
    fn a_clean_exit_is_no_failure_even_where_it_is_charged() {
        // Kubernetes' restartPolicy: OnFailure leaves what exited with 0 as it is.
        let done = ExitRules::KUBERNETES.classify(Exit::Code(0));
        assert!(done.is_charged);
        assert!(!done.restarts(RestartPolicy::OnFailure));
        assert!(done.restarts(RestartPolicy::Always));
    }

    #[test]
    fn a_failure_without_an_exit_is_decided_by_policy() {
        let late = Classified::failure(FailureReason::StartTimeout);
        assert!(late.is_charged);
        assert!(late.restarts(RestartPolicy::OnFailure));
        assert!(!late.restarts(RestartPolicy::Never));
    }
}
