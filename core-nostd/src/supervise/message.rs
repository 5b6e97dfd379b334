//! What goes into a supervisor and what comes out.

use core::time::Duration;

use super::id::{DaemonId, GroupId};
use crate::epitaph::Epitaph;
use crate::lifecycle::State;
use crate::limiter::IntensityError;
use crate::probe::{Health, ProbeKind, ProbeSpecError};
use crate::restart::Exit;
use crate::time::Instant;

/// What a supervisor is told.
///
/// News of a process carry the incarnation of the [`Effect::Spawn`] that it answers. News of an
/// incarnation that is over are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// An operator wants it started. Releases it from quarantine and forgets its failures; only a limit
    /// with a [fixed window](crate::limiter::Window::Fixed) counts such starts, too. It waits until all
    /// that it depends on is ready; starting those is the operator's.
    Start(DaemonId),
    /// An operator wants it started, and before it all that it depends on, directly or through others.
    /// Those that are started already are left as they are. One that waits for its dependencies can be
    /// started once more, for their sake.
    StartWithDependencies(DaemonId),
    /// An operator wants it stopped. What is stopped stays so; that is no error.
    Stop(DaemonId),
    /// An operator wants it stopped, and before it all that depend on it, directly or through others.
    StopWithDependents(DaemonId),
    /// An operator wants it stopped, then started; charged to nobody. What does not run is started.
    Restart(DaemonId),
    /// As `Restart`, and what it depends on is started if it is not, as by `StartWithDependencies`.
    RestartWithDependencies(DaemonId),
    /// All daemons are to stop, each one after those that depend on it.
    StopAll,
    /// All processes are to be killed, now: an operator does not want to wait for their grace.
    KillAll,
    /// An operator forgets what it did before: its failures in a row, and its restarts as the limit
    /// counts them. Its state stays as it is.
    Forgive(DaemonId),
    /// An operator wants it held still. Only what runs can be; what is paused stays so.
    Pause(DaemonId),
    /// An operator wants it to go on.
    Resume(DaemonId),
    /// An operator wants it to read its configuration anew.
    Reload(DaemonId),
    /// The process exists.
    Spawned {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
    },
    /// The process is ready; what is left to do is said by its startup probe, if it has one.
    Ready {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
    },
    /// The process has read its configuration anew.
    Reloaded {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
    },
    /// The process can't be told to read its configuration anew. It runs on.
    ReloadRefused {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
    },
    /// The process says that what it is doing (starting, reloading, stopping) takes longer: systemd's
    /// `EXTEND_TIMEOUT_USEC`. Its deadline is then at least that far away. While it runs, nothing is
    /// to be extended.
    Extend {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
        /// From now; at most [`EXTENSION_MAX`](super::EXTENSION_MAX) counts.
        by: Duration,
    },
    /// The process gave a sign of life for its watchdog.
    Alive {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
    },
    /// The process is gone, or could not be made.
    Exited {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
        /// How it ended.
        exit: Exit,
    },
    /// The answer to an [`Effect::Probe`].
    Probed {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
        /// From the question.
        token: u64,
        /// The answer.
        healthy: bool,
    },
    /// [`next_deadline`](super::Supervisor::next_deadline) has come, and all that had arrived before
    /// was handed over: only this input judges who is late.
    Tick,
}

/// What a supervisor asks its owner to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// A daemon is in another state. Comes before the effects that belong to the new state. More time
    /// for what is under way ([`Input::Extend`]) is none: it is seen in [`View::state`].
    Changed {
        /// Which daemon.
        id: DaemonId,
        /// Where it was.
        from: State,
        /// Where it is.
        to: State,
    },
    /// Make a process; answer with [`Input::Spawned`] and [`Input::Ready`], or [`Input::Exited`].
    Spawn {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts this is.
        incarnation: u32,
    },
    /// Ask the process to end; it answers with [`Input::Exited`]. May come before the process was
    /// said to be spawned.
    Terminate {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
        /// How long it may take.
        grace: Duration,
        /// Why.
        cause: TerminateCause,
    },
    /// End the process now; answer with [`Input::Exited`].
    Kill {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
    },
    /// The process was killed and is still there after the daemon's `kill_timeout`. An
    /// [`Effect::Kill`] follows, or the daemon is given up as
    /// [`Unkillable`](crate::lifecycle::FailureReason::Unkillable).
    KillTimedOut {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
        /// How often it was killed.
        attempt: u8,
    },
    /// The daemon waits for one that does not come by itself: it failed, was stopped, was never started
    /// or is paused. Said once for each that is in the way. When that one is ready, the daemon starts.
    Blocked {
        /// Which daemon.
        id: DaemonId,
        /// The one that it waits for, directly or through others that wait.
        on: DaemonId,
    },
    /// Hold the process still.
    Pause {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
    },
    /// Let the process go on. Comes before [`Effect::Terminate`], too: what is held still could not
    /// answer that.
    Resume {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
    },
    /// Ask the process to read its configuration anew; answer with [`Input::Reloaded`].
    Reload {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
    },
    /// The process did not say in time that it has read its configuration. It runs on; the operator
    /// should know.
    ReloadTimedOut {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
    },
    /// Ask the daemon for its health; answer with [`Input::Probed`].
    Probe {
        /// Which daemon.
        id: DaemonId,
        /// Which of its starts.
        incarnation: u32,
        /// What for.
        kind: ProbeKind,
        /// To be given back in the answer.
        token: u64,
    },
    /// An invariant is broken: the supervisor takes no more input.
    Halt(Epitaph),
}

/// Why a process is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TerminateCause {
    /// Somebody wants it to end, or to end and start again.
    Stop,
    /// It was not ready in time.
    StartTimeout,
    /// Its health checks failed.
    Unhealthy,
    /// It gave no sign of life. systemd sends SIGABRT then, so that it leaves a trace.
    Watchdog,
}

/// What can be seen of one daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Where it is in its life.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// Counts the starts in its slot; the last process that was asked for has this number.
    pub incarnation: u32,
    /// How often it was started again after an exit that nobody had asked for, since it was added.
    pub restarts: u32,
    /// What its health checks found.
    pub health: Health,
    /// Since when this incarnation is up, put forward by the time for which it was paused; `None` if
    /// it is not up.
    pub up_since: Option<Instant>,
    /// Whether it satisfies those that depend on it.
    pub is_ready: bool,
    /// If it waits: the first dependency that is not ready, or the first daemon of its group that has
    /// not ended yet.
    pub waits_for: Option<DaemonId>,
    /// If it waits for a dependency that does not come by itself: which.
    pub blocked_by: Option<DaemonId>,
    /// Whether a process of it is still there that was given up: until that has ended it can't be
    /// started.
    pub unkillable: bool,
    /// When it is started again, if it is in Backoff.
    pub restart_at: Option<Instant>,
    /// How its last process ended.
    pub last_exit: Option<Exit>,
}

/// Why a daemon was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AddError {
    /// Every slot is taken: remove a daemon, or give the supervisor more storage.
    #[error("all {capacity} slots are taken")]
    Full {
        /// How many slots there are.
        capacity: usize,
    },
    /// It depends on a daemon that is not known: add that one first.
    #[error("it depends on {0}, which is not known")]
    UnknownDependency(DaemonId),
    /// Its restart limit can't be kept.
    #[error(transparent)]
    Limit(#[from] IntensityError),
    /// The schedule of one of its probes can't be kept.
    #[error(transparent)]
    Probe(#[from] ProbeSpecError),
    /// Its start timeout is zero: nothing would ever be ready in time.
    #[error("the start timeout must not be zero")]
    StartTimeoutIsZero,
    /// Its kill timeout is zero: no kill would ever be done in time.
    #[error("the kill timeout must not be zero")]
    KillTimeoutIsZero,
    /// Its reload timeout is zero: no reload would ever be done in time.
    #[error("the reload timeout must not be zero")]
    ReloadTimeoutIsZero,
    /// Its watchdog's timeout is zero: no sign of life would ever be in time.
    #[error("the timeout of the watchdog must not be zero")]
    WatchdogIsZero,
    /// It belongs to a group that is not known: add that one first.
    #[error("it belongs to {0}, which is not known")]
    UnknownGroup(GroupId),
    /// The supervisor has halted.
    #[error("the supervisor has halted")]
    Halted,
}

/// Why a daemon was not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RemoveError {
    /// No daemon has this identifier, or not any more.
    #[error("{0} is not known")]
    UnknownDaemon(DaemonId),
    /// It has a process: stop it first.
    #[error("{0} has a process: stop it first")]
    HasProcess(DaemonId),
    /// Others depend on it: remove them first.
    #[error("{dependents} daemons depend on {id}: remove them first")]
    HasDependents {
        /// The daemon.
        id: DaemonId,
        /// How many depend on it.
        dependents: u32,
    },
}

/// Why an input was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum InputError {
    /// No daemon has this identifier, or not any more.
    #[error("{0} is not known")]
    UnknownDaemon(DaemonId),
    /// It is started already.
    #[error("{0} is started already")]
    AlreadyStarted(DaemonId),
    /// It is stopping.
    #[error("{0} is stopping: start it when it is stopped, or ask for a restart")]
    Stopping(DaemonId),
    /// Its limit counts an operator's starts too, and admits no more of them now.
    #[error("{0} was started too often: wait, or forgive it first")]
    TooManyStarts(DaemonId),
    /// A process of it that could not be killed is still there.
    #[error("{0} can't be started: a process of it could not be killed and is still there")]
    StillThere(DaemonId),
    /// It does not run, so it can't be paused or reloaded.
    #[error("{0} does not run")]
    NotRunning(DaemonId),
    /// It is not paused, so it can't be resumed.
    #[error("{0} is not paused")]
    NotPaused(DaemonId),
    /// It is reloading.
    #[error("{0} is reloading: try again when it is done")]
    Reloading(DaemonId),
    /// An invariant is broken, now or earlier; the reason was in [`Effect::Halt`].
    #[error("the supervisor has halted")]
    Halted,
}
