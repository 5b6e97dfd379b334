//! What can happen to a daemon, and which state each step leads to: every state against every step.

use super::state::{Starting, State, StopCause, Stopping, Then};
use crate::restart::FailureReason;
use crate::time::Instant;

/// What becomes of a daemon whose process ended although nobody had asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is over.
    Stop(StopCause),
    /// It is started again.
    Retry {
        /// When.
        until: Instant,
        /// What the exit is charged as; `None` for a clean one.
        failure: Option<FailureReason>,
    },
    /// It is over and has failed.
    Fail(FailureReason),
}

/// What happens to a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// An operator wants it started.
    Start,
    /// The backoff is over.
    Retry,
    /// Its dependencies are ready: the process is asked for.
    Spawn {
        /// When it must be ready.
        deadline: Instant,
    },
    /// The process exists.
    Spawned,
    /// The process is ready.
    Ready,
    /// An operator wants it stopped.
    Stop {
        /// When its process is killed if it is still there.
        deadline: Instant,
    },
    /// An operator wants it stopped, then started.
    Restart {
        /// When its process is killed if it is still there.
        deadline: Instant,
    },
    /// An operator wants it held still.
    Pause,
    /// An operator wants it to go on.
    Resume,
    /// An operator wants it to read its configuration anew.
    Reload {
        /// When it must be done.
        deadline: Instant,
    },
    /// It has read its configuration.
    Reloaded,
    /// Its group failed too often.
    GiveUp {
        /// When its process is killed if it is still there.
        deadline: Instant,
    },
    /// The deadline of a stop or a reload passed.
    Overdue {
        /// If that leads to a kill: when it is repeated.
        deadline: Instant,
    },
    /// The process must be ended for a failure.
    Condemn {
        /// For which.
        reason: FailureReason,
        /// When it is killed if it is still there.
        deadline: Instant,
    },
    /// An operator wants it gone at once.
    Kill {
        /// When the kill is repeated.
        deadline: Instant,
    },
    /// It was killed often enough, and is still there.
    Abandon,
    /// What is under way may take longer.
    Extend {
        /// Until when, if that is later than before.
        deadline: Instant,
    },
    /// The process ended. If a stop was under way, what follows is what the stop was for, and the
    /// verdict is not asked.
    Exited(Verdict),
}

/// Its name. Not `Debug`, which prints lengths of time too: that code has reachable panics, and this is
/// linked into firmware.
impl core::fmt::Display for Step {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Start => "Start",
            Self::Retry => "Retry",
            Self::Spawn { .. } => "Spawn",
            Self::Spawned => "Spawned",
            Self::Ready => "Ready",
            Self::Stop { .. } => "Stop",
            Self::Restart { .. } => "Restart",
            Self::GiveUp { .. } => "GiveUp",
            Self::Pause => "Pause",
            Self::Resume => "Resume",
            Self::Reload { .. } => "Reload",
            Self::Reloaded => "Reloaded",
            Self::Overdue { .. } => "Overdue",
            Self::Condemn { .. } => "Condemn",
            Self::Kill { .. } => "Kill",
            Self::Abandon => "Abandon",
            Self::Extend { .. } => "Extend",
            Self::Exited(_) => "Exited",
        })
    }
}

/// Why a step was refused. The state is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// It was started already.
    #[error("it is started already")]
    AlreadyStarted,
    /// It is stopping.
    #[error("it is stopping: start it when it is stopped, or ask for a restart")]
    Stopping,
    /// Only what runs can be paused or reloaded.
    #[error("it does not run")]
    NotRunning,
    /// Only what is paused can be resumed.
    #[error("it is not paused")]
    NotPaused,
    /// It is reloading, perhaps from what was there before.
    #[error("it is reloading: try again when it is done")]
    Reloading,
    /// The step can't happen in this state: its owner has lost track.
    #[error("the step cannot happen in this state")]
    Unexpected,
}
impl State {
    /// The state after `step`.
    ///
    /// # Errors
    /// [`StepError`], when the step is refused.
    pub const fn after(self, step: Step) -> Result<Self, StepError> {
        match step {
            Step::Start => self.after_start(),
            Step::Stop { deadline } => Ok(self.after_stop(deadline)),
            Step::GiveUp { deadline } => Ok(self.after_giving_up(deadline)),
            Step::Restart { deadline } => Ok(self.after_restart(deadline)),
            Step::Retry => match self {
                Self::Backoff { .. } => Ok(Self::Starting(Starting::Waiting)),
                _ => Err(StepError::Unexpected),
            },
            Step::Spawn { deadline } => match self {
                Self::Starting(Starting::Waiting) => {
                    Ok(Self::Starting(Starting::Spawning { deadline }))
                }
                _ => Err(StepError::Unexpected),
            },
            Step::Spawned => match self {
                Self::Starting(Starting::Spawning { deadline }) => {
                    Ok(Self::Starting(Starting::Initialising { deadline }))
                }
                _ => self.unchanged_with_process(),
            },
            Step::Ready => match self {
                // What is ready exists: the word that it was spawned may come late or never.
                Self::Starting(Starting::Spawning { .. } | Starting::Initialising { .. }) => {
                    Ok(Self::Running)
                }
                _ => self.unchanged_with_process(),
            },
            Step::Pause => match self {
                Self::Running | Self::Paused => Ok(Self::Paused),
                Self::Reloading { .. } => Err(StepError::Reloading),
                _ => Err(StepError::NotRunning),
            },
            Step::Resume => match self {
                Self::Paused => Ok(Self::Running),
                Self::Running | Self::Reloading { .. } => Ok(self),
                _ => Err(StepError::NotPaused),
            },
            Step::Reload { deadline } => match self {
                Self::Running => Ok(Self::Reloading { deadline }),
                Self::Reloading { .. } => Err(StepError::Reloading),
                _ => Err(StepError::NotRunning),
            },
            Step::Reloaded => match self {
                Self::Reloading { .. } => Ok(Self::Running),
                _ => self.unchanged_with_process(),
            },
            Step::Overdue { deadline } => match self {
                Self::Reloading { .. } => Ok(Self::Running),
                Self::Stopping(stopping) => Ok(Self::Stopping(stopping.overdue(deadline))),
                _ => Err(StepError::Unexpected),
            },
            Step::Kill { deadline } => Ok(self.after_kill(deadline)),
            Step::Abandon => match self {
                Self::Stopping(Stopping::Killing { .. } | Stopping::CondemnedKilling { .. }) => {
                    Ok(Self::Failed(FailureReason::Unkillable))
                }
                _ => Err(StepError::Unexpected),
            },
            Step::Extend { deadline } => Ok(self.extended(deadline)),
            Step::Condemn { reason, deadline } => match self {
                Self::Starting(Starting::Spawning { .. } | Starting::Initialising { .. })
                | Self::Running
                | Self::Reloading { .. }
                | Self::Paused => Ok(Self::Stopping(Stopping::Condemned { reason, deadline })),
                _ => Err(StepError::Unexpected),
            },
            Step::Exited(verdict) => self.after_exit(verdict),
        }
    }

    const fn after_start(self) -> Result<Self, StepError> {
        match self {
            Self::Created | Self::Stopped(_) | Self::Backoff { .. } | Self::Failed(_) => {
                Ok(Self::Starting(Starting::Waiting))
            }
            Self::Starting(_) | Self::Running | Self::Reloading { .. } | Self::Paused => {
                Err(StepError::AlreadyStarted)
            }
            Self::Stopping(_) => Err(StepError::Stopping),
        }
    }

    const fn after_stop(self, deadline: Instant) -> Self {
        match self {
            Self::Created
            | Self::Starting(Starting::Waiting)
            | Self::Stopped(_)
            | Self::Backoff { .. } => Self::Stopped(StopCause::Operator),
            // It does not run, as was asked; why it failed stays known.
            Self::Failed(reason) => Self::Failed(reason),
            Self::Starting(Starting::Spawning { .. } | Starting::Initialising { .. })
            | Self::Running
            | Self::Reloading { .. }
            | Self::Paused
            | Self::Stopping(_) => self.ended(deadline, Then::Stop),
        }
    }

    /// What an operator stopped stays stopped by the operator; what never ran stays so.
    const fn after_giving_up(self, deadline: Instant) -> Self {
        match self {
            Self::Starting(Starting::Waiting) | Self::Backoff { .. } => {
                Self::Stopped(StopCause::GaveUp)
            }
            Self::Created
            | Self::Stopped(_)
            | Self::Failed(_)
            | Self::Stopping(
                Stopping::Asked { then: Then::Stop, .. }
                | Stopping::Killing { then: Then::Stop, .. },
            ) => self,
            Self::Starting(Starting::Spawning { .. } | Starting::Initialising { .. })
            | Self::Running
            | Self::Reloading { .. }
            | Self::Paused
            | Self::Stopping(_) => self.ended(deadline, Then::GiveUp),
        }
    }

    const fn after_restart(self, deadline: Instant) -> Self {
        match self {
            Self::Created
            | Self::Starting(Starting::Waiting)
            | Self::Stopped(_)
            | Self::Backoff { .. }
            | Self::Failed(_) => Self::Starting(Starting::Waiting),
            Self::Starting(Starting::Spawning { .. } | Starting::Initialising { .. })
            | Self::Running
            | Self::Reloading { .. }
            | Self::Paused
            | Self::Stopping(_) => self.ended(deadline, Then::Start),
        }
    }

    /// Asks a process to end, or leaves an end that is under way with what now follows it.
    const fn ended(self, new_deadline: Instant, then: Then) -> Self {
        Self::Stopping(match self {
            Self::Stopping(
                Stopping::Asked { deadline, .. } | Stopping::Condemned { deadline, .. },
            ) => Stopping::Asked { deadline, then },
            Self::Stopping(
                Stopping::Killing { attempt, deadline, .. }
                | Stopping::CondemnedKilling { attempt, deadline, .. },
            ) => Stopping::Killing { then, attempt, deadline },
            _ => Stopping::Asked { deadline: new_deadline, then },
        })
    }

    const fn after_exit(self, verdict: Verdict) -> Result<Self, StepError> {
        match self {
            Self::Stopping(Stopping::Asked { then, .. } | Stopping::Killing { then, .. }) => {
                Ok(match then {
                    Then::Stop => Self::Stopped(StopCause::Operator),
                    Then::GiveUp => Self::Stopped(StopCause::GaveUp),
                    Then::Start => Self::Starting(Starting::Waiting),
                })
            }
            Self::Starting(Starting::Spawning { .. } | Starting::Initialising { .. })
            | Self::Running
            | Self::Reloading { .. }
            | Self::Paused
            | Self::Stopping(Stopping::Condemned { .. } | Stopping::CondemnedKilling { .. }) => {
                Ok(match verdict {
                    Verdict::Stop(cause) => Self::Stopped(cause),
                    Verdict::Retry { until, failure } => Self::Backoff { until, failure },
                    Verdict::Fail(reason) => Self::Failed(reason),
                })
            }
            Self::Created
            | Self::Starting(Starting::Waiting)
            | Self::Stopped(_)
            | Self::Backoff { .. }
            | Self::Failed(_) => Err(StepError::Unexpected),
        }
    }

    /// A process is killed without being asked; what has none is stopped.
    const fn after_kill(self, deadline: Instant) -> Self {
        match self {
            Self::Stopping(
                Stopping::Killing { attempt, deadline, .. }
                | Stopping::CondemnedKilling { attempt, deadline, .. },
            ) => Self::Stopping(Stopping::Killing { then: Then::Stop, attempt, deadline }),
            _ if self.has_process() => {
                Self::Stopping(Stopping::Killing { then: Then::Stop, attempt: 1, deadline })
            }
            _ => self.after_stop(deadline),
        }
    }

    /// What is under way has more time; what has no deadline of its own is as before.
    const fn extended(self, until: Instant) -> Self {
        const fn later(one: Instant, other: Instant) -> Instant {
            if one.as_ns() < other.as_ns() { other } else { one }
        }
        match self {
            Self::Starting(Starting::Spawning { deadline }) => {
                Self::Starting(Starting::Spawning { deadline: later(deadline, until) })
            }
            Self::Starting(Starting::Initialising { deadline }) => {
                Self::Starting(Starting::Initialising { deadline: later(deadline, until) })
            }
            Self::Reloading { deadline } => Self::Reloading { deadline: later(deadline, until) },
            Self::Stopping(Stopping::Asked { deadline, then }) => {
                Self::Stopping(Stopping::Asked { deadline: later(deadline, until), then })
            }
            Self::Stopping(Stopping::Condemned { reason, deadline }) => {
                Self::Stopping(Stopping::Condemned { reason, deadline: later(deadline, until) })
            }
            other => other,
        }
    }

    /// News of a process that change nothing, as long as there is one.
    const fn unchanged_with_process(self) -> Result<Self, StepError> {
        if self.has_process() { Ok(self) } else { Err(StepError::Unexpected) }
    }
}

impl Stopping {
    /// Its deadline passed: it is killed, or killed once more.
    const fn overdue(self, deadline: Instant) -> Self {
        match self {
            Self::Asked { then, .. } => Self::Killing { then, attempt: 1, deadline },
            Self::Killing { then, attempt, .. } => {
                Self::Killing { then, attempt: attempt.saturating_add(1), deadline }
            }
            Self::Condemned { reason, .. } => {
                Self::CondemnedKilling { reason, attempt: 1, deadline }
            }
            Self::CondemnedKilling { reason, attempt, .. } => {
                Self::CondemnedKilling { reason, attempt: attempt.saturating_add(1), deadline }
            }
        }
    }
}
