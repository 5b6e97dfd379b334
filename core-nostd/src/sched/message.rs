//! What a scheduler is told, answers and refuses.

use super::Level;
use super::deadline::PERIOD_NS_MIN;
use crate::time::Instant;

/// What a level is worth in waiting unless the owner says otherwise: 5 ticks of a millisecond, as WOS's
/// authors have it.
pub const AGING_NS: u64 = 5_000_000;

/// A part of the processor's time: less than all of it, so that there is always a rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Share(u32);

impl Share {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Three quarters: what the deadline class may take unless the owner says otherwise.
    pub const THREE_QUARTERS: Self = Self(750_000);
    /// How many parts make the whole.
    pub(super) const WHOLE_PPM: u32 = 1_000_000;

    /// This many parts per million, if that leaves a rest.
    #[must_use]
    pub const fn from_ppm(ppm: u32) -> Option<Self> {
        if ppm < Self::WHOLE_PPM { Some(Self(ppm)) } else { None }
    }

    /// In parts per million.
    #[must_use]
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// What is left, in parts per million: not zero.
    #[must_use]
    pub const fn rest_ppm(self) -> u32 {
        Self::WHOLE_PPM.saturating_sub(self.0)
    }
}

/// The numbers that a scheduler goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// A task goes before one of the next more urgent level once it has waited longer by this, in
    /// nanoseconds. Zero: first come, first served, whatever the level. `u64::MAX`: it never does.
    pub aging_ns: u64,
    /// The largest share that the deadline class is admitted.
    pub deadline_share_max: Share,
}

impl Default for Rules {
    /// [`AGING_NS`] and [`Share::THREE_QUARTERS`].
    fn default() -> Self {
        Self { aging_ns: AGING_NS, deadline_share_max: Share::THREE_QUARTERS }
    }
}

/// The task that runs next. It is picked until the scheduler is told that it
/// [`ran`](super::Scheduler::ran), or it is [put back](super::Scheduler::put_back).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "the task is picked: run it, or put it back"]
pub struct Pick {
    /// The task.
    pub task: u32,
    /// Why it goes first.
    pub class: Class,
    /// How long it runs at most, in nanoseconds: its quantum, or what is left of its budget, or less
    /// where a throttled server gets its budget earlier than that. Not zero.
    pub run_for_ns: u64,
}

/// By which rule a task was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// It has the earliest deadline.
    Deadline(Instant),
    /// It has the earliest rank. This is the most urgent level that has a task, and the level whose
    /// quantum it gets. After a long wait that can be a more urgent one than its own.
    Level(Level),
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The task has more to do: of its own will, or it was interrupted.
    Again,
    /// It waits for something to happen, unless that has happened during the turn.
    Waits,
}

/// Why a task was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AddError {
    /// The scheduler's storage has no slot of this number.
    #[error("task {task} has no slot in a scheduler for {capacity} tasks")]
    NoSuchSlot {
        /// The task.
        task: u32,
        /// How many slots there are.
        capacity: usize,
    },
    /// There is one of this number.
    #[error("task {task} was added already")]
    AlreadyAdded {
        /// The task.
        task: u32,
    },
    /// Every place for a server is taken.
    #[error("all {capacity} places for deadline servers are taken")]
    ServersFull {
        /// How many places there are.
        capacity: usize,
    },
    /// It could never run.
    #[error("a budget of 0 ns lets the task never run")]
    BudgetIsZero,
    /// It would interrupt the others all the time.
    #[error("a period of {period_ns} ns is too short: say at least {PERIOD_NS_MIN}")]
    PeriodTooShort {
        /// The period, in nanoseconds.
        period_ns: u64,
    },
    /// It wants more time than there is.
    #[error("a budget of {budget_ns} ns does not fit into a period of {period_ns} ns")]
    BudgetOverPeriod {
        /// The budget, in nanoseconds.
        budget_ns: u64,
        /// The period, in nanoseconds.
        period_ns: u64,
    },
    /// The deadlines of those who were admitted before could not be kept.
    #[error("a share of {share_ppm} ppm was asked for, {left_ppm} ppm are left for deadlines")]
    Overcommitted {
        /// The share that it asks for, rounded up, in parts per million.
        share_ppm: u32,
        /// The share that is left, in parts per million.
        left_ppm: u32,
    },
}

/// There is no task of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("task {0} was not added, or was removed")]
pub struct UnknownTask(pub u32);

/// The task of this number is not picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("task {0} is not picked")]
pub struct NotPicked(pub u32);

/// How a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskView {
    /// Its own level.
    pub base: Level,
    /// The level that it inherits.
    pub inherited: Option<Level>,
    /// What it does.
    pub state: TaskState,
    /// Its server, if it is of the deadline class.
    pub server: Option<ServerView>,
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// It waits for something to happen.
    Waits,
    /// It waits for the processor. One of the deadline class may wait for its budget, too.
    Ready {
        /// The level at which it stands. That of a deadline task has no effect.
        level: Level,
    },
    /// It was picked.
    Picked,
}

/// How the server of a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerView {
    /// What it may use in each period, in nanoseconds.
    pub budget_ns: u64,
    /// The period, in nanoseconds.
    pub period_ns: u64,
    /// What it may use now, in nanoseconds: nothing while it is throttled.
    pub left_ns: u64,
    /// The deadline by which it may use that, or until which it is throttled.
    pub deadline: Instant,
}
