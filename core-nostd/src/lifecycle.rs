//! The states of one daemon, and every step between them.
//!
//! ```text
//!            Start                 Ready                     Exited
//!  Created ────────▶ Starting ────────────▶ Running ─────────────────┐
//!                    ▲ │ │                 ▲ │ │ ▲                   │
//!                    │ │ │           Pause │ │ │ │ Reload            │
//!                    │ │ │          Resume ▼ │ ▼ │ Reloaded, Overdue │
//!                    │ │ │           Paused  │  Reloading            │
//!         Retry,     │ │ │ Stop, Restart     │ (of all three)        │ the verdict of the
//!         Start      │ │ │ Condemn           ▼                       ▼ restart policy
//!                    │ │ └──────▶ Stopping ◀─┘          Stopped · Backoff · Failed
//!                    │ │ Exited      │ Exited                      ▲ │
//!                    │ └─────────────┴─────────────────────────────┘ │
//!                    └───────────────────────────────────────────────┘
//! ```
//!
//! Rules:
//! 1. A state carries its evidence: a daemon that is stopping has a deadline, one that failed has a
//!    reason; no field is meaningless in any state.
//! 2. Each start is answered: a start of what runs is an error, a stop of what is stopped is none.
//! 3. What an operator asked for wins: an exit while a stop is under way is that stop, whatever the
//!    exit looks like, and is charged to nobody.
//! 4. Deadlines are data. This machine sets none and watches none; its owner does both.
//! 5. Doing twice is defined: a second start is an error, a second stop, pause or resume is none, and
//!    a reload during a reload is refused, because the first may have read the old configuration.
//! 6. A reload that takes too long ends, and the daemon runs on, as under systemd.

use core::time::Duration;

use crate::epitaph::{Epitaph, invariant};
use crate::restart::{Classified, Exit, ExitRules};
use crate::time::Instant;

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
    /// It was not ready in time, or its startup probe failed too often, and it was killed.
    StartTimeout,
    /// Its health checks failed too often in a row, and it was killed.
    Unhealthy,
    /// It gave no sign of life for as long as its watchdog waits, and was killed.
    Watchdog,
    /// It could not be made, and a further try would not help.
    Refused,
    /// What it ran in died.
    Lost,
    /// It failed more often than its restart limit admits. An operator's start releases it.
    Quarantined {
        /// The restarts that the limit admitted.
        restarts: u32,
        /// The period in which it admitted them.
        period: Duration,
    },
}

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
    },
    /// The process is being killed for a failure, and its end is charged as that one.
    Condemned(FailureReason),
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

/// What an exit counts as, in the state in which it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Charge {
    /// It was asked for.
    Asked,
    /// It came unasked, and is this.
    Unasked(Classified),
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
    Overdue,
    /// The process must be killed for this failure.
    Condemn(FailureReason),
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
            Self::Overdue => "Overdue",
            Self::Condemn(_) => "Condemn",
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

/// The lifecycle of one daemon.
#[derive(Clone, Copy, Debug)]
pub struct Lifecycle {
    state: State,
    since: Instant,
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
            | Self::Stopping(Stopping::Asked { deadline, .. })
            | Self::Backoff { until: deadline, .. } => Some(deadline),
            Self::Created
            | Self::Starting(Starting::Waiting)
            | Self::Running
            | Self::Paused
            | Self::Stopping(Stopping::Killing { .. } | Stopping::Condemned(_))
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
            Self::Stopping(Stopping::Condemned(reason)) => {
                Some(Charge::Unasked(Classified::failure(reason)))
            }
            Self::Created
            | Self::Starting(Starting::Waiting)
            | Self::Stopped(_)
            | Self::Backoff { .. }
            | Self::Failed(_) => None,
        }
    }

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
            Step::Overdue => match self {
                Self::Reloading { .. } => Ok(Self::Running),
                Self::Stopping(Stopping::Asked { then, .. }) => {
                    Ok(Self::Stopping(Stopping::Killing { then }))
                }
                _ => Err(StepError::Unexpected),
            },
            Step::Condemn(reason) => match self {
                Self::Starting(Starting::Spawning { .. } | Starting::Initialising { .. })
                | Self::Running
                | Self::Reloading { .. }
                | Self::Paused => Ok(Self::Stopping(Stopping::Condemned(reason))),
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
                Stopping::Asked { then: Then::Stop, .. } | Stopping::Killing { then: Then::Stop },
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
            Self::Stopping(Stopping::Asked { deadline, .. }) => Stopping::Asked { deadline, then },
            Self::Stopping(Stopping::Killing { .. } | Stopping::Condemned(_)) => {
                Stopping::Killing { then }
            }
            _ => Stopping::Asked { deadline: new_deadline, then },
        })
    }

    const fn after_exit(self, verdict: Verdict) -> Result<Self, StepError> {
        match self {
            Self::Stopping(Stopping::Asked { then, .. } | Stopping::Killing { then }) => {
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
            | Self::Stopping(Stopping::Condemned(_)) => Ok(match verdict {
                Verdict::Stop(cause) => Self::Stopped(cause),
                Verdict::Retry { until, failure } => Self::Backoff { until, failure },
                Verdict::Fail(reason) => Self::Failed(reason),
            }),
            Self::Created
            | Self::Starting(Starting::Waiting)
            | Self::Stopped(_)
            | Self::Backoff { .. }
            | Self::Failed(_) => Err(StepError::Unexpected),
        }
    }

    /// News of a process that change nothing, as long as there is one.
    const fn unchanged_with_process(self) -> Result<Self, StepError> {
        if self.has_process() { Ok(self) } else { Err(StepError::Unexpected) }
    }
}

impl Lifecycle {
    /// A daemon that was never started.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { state: State::Created, since: now }
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Since when.
    #[must_use]
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// Does one step, and returns the state before it.
    ///
    /// # Errors
    /// [`StepError`], when the step is refused; the state is then as before.
    pub fn step(&mut self, now: Instant, step: Step) -> Result<State, StepError> {
        let next = self.state.after(step)?;
        Ok(self.set_state(now, next))
    }

    /// What holds between any two steps.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self, now: Instant) -> Result<(), Epitaph> {
        let (since, now) = (self.since.as_ns(), now.as_ns());
        invariant!(since <= now, "state since {since}, now {now}");
        Ok(())
    }

    /// The one place where the state changes. Staying in it does not renew its age.
    fn set_state(&mut self, now: Instant, next: State) -> State {
        let before = self.state;
        if next != before {
            self.state = next;
            self.since = now;
        }
        before
    }
}

#[cfg(test)]
mod tests;
