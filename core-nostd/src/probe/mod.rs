//! When a daemon's health is asked for, and what its answers lead to: Kubernetes' three probes.
//!
//! Rules:
//! 1. A *startup* probe asks whether the daemon has come up. Until it has succeeded, nothing else is
//!    asked and the daemon is not ready; then it is asked no more. At its failure threshold the
//!    daemon is condemned.
//! 2. A *liveness* probe asks whether the daemon still works. At its failure threshold the daemon is
//!    condemned.
//! 3. A *readiness* probe asks whether the daemon can do its work now. At its failure threshold the
//!    daemon is not ready, at its success threshold it is ready; it starts as not ready.
//! 4. The first question comes `initial_delay` after the probes began, then one each `period`. A
//!    question waits for the answer to the one before, or for its timeout.
//! 5. Only answers in a row count: a success ends a row of failures, a failure one of successes. No
//!    answer in time is a failure, and a poll judges that. Each answer belongs to one question; a second one to the same
//!    question, and one to a question that was found late, changes nothing.
//! 6. Probes belong to one incarnation: nothing that was counted survives a restart. (In Kubernetes
//!    it did, which was a bug.)
//! 7. A pause moves every deadline by its own length: the daemon has as much time left as before.
//!
//! ```
//! use core::time::Duration;
//! use duende_core::probe::{ProbeAction, ProbeKind, ProbeSet, ProbeSpec, Probes};
//! use duende_core::time::Instant;
//!
//! // Slow to come up, and not always able to work.
//! let probes = Probes {
//!     startup: Some(ProbeSpec { failure_threshold: 30, ..ProbeSpec::KUBERNETES }),
//!     readiness: Some(ProbeSpec::KUBERNETES),
//!     ..Probes::NONE
//! };
//! probes.check()?;
//!
//! let mut now = Instant::ZERO;
//! let mut set = ProbeSet::new(probes, now);
//! while !set.is_ready() {
//!     // The owner would ask the daemon; here it answers at once, and well.
//!     if let ProbeAction::Ask { kind, token } = set.poll(now) {
//!         let after_startup = kind == ProbeKind::Readiness;
//!         assert_eq!(set.answer(token, true), ProbeAction::Wait);
//!         assert_eq!(set.is_ready(), after_startup);
//!     } else {
//!         now = set.deadline().expect("there is always a next question");
//!     }
//! }
//! # Ok::<(), duende_core::probe::ProbeSpecError>(())
//! ```

mod check;
mod set;
mod spec;

pub use set::{ProbeAction, ProbeSet};
pub use spec::{ProbeKind, ProbeSpec, ProbeSpecError, Probes};

/// What is known of a daemon's health, from its liveness probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// This incarnation has not been asked yet, or its health is not asked for.
    #[default]
    Unknown,
    /// The last answer said so.
    Healthy,
    /// This many checks in a row failed.
    Failing {
        /// How many.
        failures: u32,
    },
}
