//! What a state is, with its evidence, and what can be read from it.

use crate::restart::{Classified, Exit, ExitRules, FailureReason};
use crate::time::Instant;

/// Where a daemon is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Known, and never started.
    Created,
    /// On its way to Running.
    Starting(Starting),
    /// It said that it is ready.
    Running,
    /// It runs, and reads its configuration anew.
    Reloading {
        /// When it must be done.
        deadline: Instant,
    },
    /// It was ready, and is held still. Time does not pass for it.
    Paused,
    /// On its way to its end.
    Stopping(Stopping),
    /// Over, without a failure.
    Stopped(StopCause),
    /// Over; started again at an instant.
    Backoff {
        /// When.
        until: Instant,
        /// What the exit is charged as; `None` after a clean one.
        failure: Option<FailureReason>,
    },
    /// Over, and left so.
    Failed(FailureReason),
}

/// How far a start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Starting {
    /// A dependency is not ready. There is no process.
    Waiting,
    /// The process was asked for.
    Spawning {
        /// When it must be ready.
        deadline: Instant,
    },
    /// The process exists and is not ready.
    Initialising {
        /// When it must be ready.
        deadline: Instant,
    },
}

/// How far a stop has come, and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stopping {
    /// The process was asked to end.
    Asked {
        /// When it is killed if it is still there.
        deadline: Instant,
        /// What follows.
        then: Then,
    },
    /// The process is being killed, because an operator wants it gone.
    Killing {
        /// What follows.
        then: Then,
        /// How often it was killed.
        attempt: u8,
        /// When it is killed again if it is still there.
        deadline: Instant,
    },
    /// The process was asked to end for a failure, and its end is charged as that one.
    Condemned {
        /// Which.
        reason: FailureReason,
        /// When it is killed if it is still there.
        deadline: Instant,
    },
    /// It did not, and is being killed.
    CondemnedKilling {
        /// For which failure.
        reason: FailureReason,
        /// How often it was killed.
        attempt: u8,
        /// When it is killed again if it is still there.
        deadline: Instant,
    },
}

/// What follows a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// Nothing.
    Stop,
    /// Nothing, because its group failed too often.
    GiveUp,
    /// A start.
    Start,
}

/// Why a daemon is Stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopCause {
    /// An operator stopped it.
    Operator,
    /// It ended cleanly by itself, and its policy does not start it again.
    Finished,
    /// Its group failed too often, and no group above could start it again.
    GaveUp,
}

/// What an exit counts as, in the state in which it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Charge {
    /// It was asked for.
    Asked,
    /// It came unasked, and is this.
    Unasked(Classified),
}

impl State {
    /// Whether there is a process, or one was asked for.
    #[must_use]
    pub const fn has_process(self) -> bool {
        match self {
            Self::Starting(Starting::Spawning { .. } | Starting::Initialising { .. })
            | Self::Running
            | Self::Reloading { .. }
            | Self::Paused
            | Self::Stopping(_) => true,
            Self::Created
            | Self::Starting(Starting::Waiting)
            | Self::Stopped(_)
            | Self::Backoff { .. }
            | Self::Failed(_) => false,
        }
    }

    /// Whether it has become ready and has not been asked to end.
    #[must_use]
    pub const fn is_up(self) -> bool {
        match self {
            Self::Running | Self::Reloading { .. } | Self::Paused => true,
            Self::Created
            | Self::Starting(_)
            | Self::Stopping(_)
            | Self::Stopped(_)
            | Self::Backoff { .. }
            | Self::Failed(_) => false,
        }
    }

    /// When the state ends by itself.
    #[must_use]
    pub const fn deadline(self) -> Option<Instant> {
        match self {
            Self::Starting(
                Starting::Spawning { deadline } | Starting::Initialising { deadline },
            )
            | Self::Reloading { deadline }
            | Self::Stopping(
                Stopping::Asked { deadline, .. }
                | Stopping::Killing { deadline, .. }
                | Stopping::Condemned { deadline, .. }
                | Stopping::CondemnedKilling { deadline, .. },
            )
            | Self::Backoff { until: deadline, .. } => Some(deadline),
            Self::Created
            | Self::Starting(Starting::Waiting)
            | Self::Running
            | Self::Paused
            | Self::Stopped(_)
            | Self::Failed(_) => None,
        }
    }

    /// What an exit counts as; `None` where there is no process that could exit.
    #[must_use]
    pub const fn charge(self, exit: Exit, rules: &ExitRules) -> Option<Charge> {
        match self {
            Self::Starting(Starting::Spawning { .. } | Starting::Initialising { .. })
            | Self::Running
            | Self::Reloading { .. }
            | Self::Paused => Some(Charge::Unasked(rules.classify(exit))),
            Self::Stopping(Stopping::Asked { .. } | Stopping::Killing { .. }) => {
                Some(Charge::Asked)
            }
            Self::Stopping(
                Stopping::Condemned { reason, .. } | Stopping::CondemnedKilling { reason, .. },
            ) => {
                let exit = rules.classify(exit);
                Some(Charge::Unasked(match exit.failure {
                    // What it was condemned for came of that: a place that hangs makes all in it fail
                    // their checks. One that hangs its place waits longer each time.
                    Some(failure) if failure.is_outer() => exit,
                    _ => Classified::failure(reason),
                }))
            }
            Self::Created
            | Self::Starting(Starting::Waiting)
            | Self::Stopped(_)
            | Self::Backoff { .. }
            | Self::Failed(_) => None,
        }
    }
}
