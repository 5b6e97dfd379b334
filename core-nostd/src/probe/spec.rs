//! What is asked, how often, and how many answers in a row count: the schedules.
//!
//! The defaults are those of Kubernetes' API, v1.Probe. One differs: the first question comes after
//! 10 s, as here a daemon has said by itself that it is up before it is asked;
//! [`ProbeSpec::KUBERNETES`] asks at once.

use core::fmt;
use core::time::Duration;

/// What a probe asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    /// Has it come up?
    Startup,
    /// Does it still work?
    Liveness,
    /// Can it do its work now?
    Readiness,
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        })
    }
}

/// The schedule of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeSpec {
    /// From the beginning to the first question.
    pub initial_delay: Duration,
    /// From one question to the next. Not zero.
    pub period: Duration,
    /// How long an answer may take. Not zero.
    pub timeout: Duration,
    /// How many failures in a row count as one. Not zero.
    pub failure_threshold: u32,
    /// How many successes in a row count as one. Not zero; 1 for all but readiness.
    pub success_threshold: u32,
}

impl ProbeSpec {
    /// Kubernetes' defaults: at once, then every 10 s, 1 s to answer, 3 failures, 1 success.
    pub const KUBERNETES: Self = Self {
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        failure_threshold: 3,
        success_threshold: 1,
    };

    /// Whether the schedule can be kept for a probe of this kind.
    ///
    /// # Errors
    /// [`ProbeSpecError`], which names what is wrong.
    pub const fn check(&self, kind: ProbeKind) -> Result<(), ProbeSpecError> {
        let Self { initial_delay: _, period, timeout, failure_threshold, success_threshold } =
            *self;
        let has_zero = period.is_zero()
            || timeout.is_zero()
            || failure_threshold == 0
            || success_threshold == 0;
        if has_zero {
            return Err(ProbeSpecError::HasZero { kind });
        }
        match kind {
            ProbeKind::Startup | ProbeKind::Liveness if success_threshold != 1 => {
                Err(ProbeSpecError::SuccessThreshold { kind, success_threshold })
            }
            ProbeKind::Startup | ProbeKind::Liveness | ProbeKind::Readiness => Ok(()),
        }
    }
}

impl Default for ProbeSpec {
    /// First after 10 s, then every 10 s, 1 s to answer, 3 failures, 1 success.
    fn default() -> Self {
        Self { initial_delay: Self::KUBERNETES.period, ..Self::KUBERNETES }
    }
}

/// Why a schedule can't be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ProbeSpecError {
    /// Something that must not be zero is.
    #[error("period, timeout and thresholds of a {kind} probe must not be zero")]
    HasZero {
        /// Of which probe.
        kind: ProbeKind,
    },
    /// Only readiness can ask for several successes: there is nothing between started and not, or
    /// between alive and not, that they could lead out of.
    #[error("a {kind} probe needs one success, not {success_threshold}")]
    SuccessThreshold {
        /// Of which probe.
        kind: ProbeKind,
        /// What was asked for.
        success_threshold: u32,
    },
}

/// The probes of a daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Probes {
    /// Whether it has come up; gates the other two.
    pub startup: Option<ProbeSpec>,
    /// Whether it still works.
    pub liveness: Option<ProbeSpec>,
    /// Whether it can do its work now.
    pub readiness: Option<ProbeSpec>,
}

impl Probes {
    /// Nothing is asked: the daemon counts as started, alive and ready.
    pub const NONE: Self = Self { startup: None, liveness: None, readiness: None };

    /// Only whether it still works.
    #[must_use]
    pub const fn liveness(spec: ProbeSpec) -> Self {
        Self { liveness: Some(spec), ..Self::NONE }
    }

    /// Whether nothing is asked.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.startup.is_none() && self.liveness.is_none() && self.readiness.is_none()
    }

    /// Whether all schedules can be kept.
    ///
    /// # Errors
    /// [`ProbeSpecError`], which names the first thing that is wrong.
    pub fn check(&self) -> Result<(), ProbeSpecError> {
        for (spec, kind) in [
            (self.startup, ProbeKind::Startup),
            (self.liveness, ProbeKind::Liveness),
            (self.readiness, ProbeKind::Readiness),
        ] {
            spec.map_or(Ok(()), |spec| spec.check(kind))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn what_cannot_be_kept_is_refused() {
        use ProbeKind::{Liveness, Readiness, Startup};
        let good = ProbeSpec::default();
        for kind in [Startup, Liveness, Readiness] {
            assert_eq!(good.check(kind), Ok(()));
            assert_eq!(ProbeSpec::KUBERNETES.check(kind), Ok(()));
            for zero in [
                ProbeSpec { period: Duration::ZERO, ..good },
                ProbeSpec { timeout: Duration::ZERO, ..good },
                ProbeSpec { failure_threshold: 0, ..good },
                ProbeSpec { success_threshold: 0, ..good },
            ] {
                assert_eq!(zero.check(kind), Err(ProbeSpecError::HasZero { kind }));
            }
            let twice = ProbeSpec { success_threshold: 2, ..good };
            let error = ProbeSpecError::SuccessThreshold { kind, success_threshold: 2 };
            let expected = if kind == Readiness { Ok(()) } else { Err(error) };
            assert_eq!(twice.check(kind), expected);
        }
        let bad = Some(ProbeSpec { period: Duration::ZERO, ..good });
        for (probes, kind) in [
            (Probes { startup: bad, ..Probes::NONE }, Startup),
            (Probes { liveness: bad, ..Probes::NONE }, Liveness),
            (Probes { readiness: bad, ..Probes::NONE }, Readiness),
        ] {
            let error = ProbeSpecError::HasZero { kind };
            assert_eq!(probes.check(), Err(error));
            let name = match kind {
                Startup => "startup",
                Liveness => "liveness",
                Readiness => "readiness",
            };
            assert!(error.to_string().contains(name), "{error}");
            assert!(!probes.is_empty());
        }
        assert_eq!(Probes::NONE.check(), Ok(()));
        assert!(Probes::NONE.is_empty());
        assert_eq!(Probes::liveness(good).check(), Ok(()));
    }
}
