//! What a tree of quotas is told and answers: names, times, changes of pressure and refusals.

use core::fmt;
use core::time::Duration;

use super::{DEPTH_MAX, Pressure, Resource};

/// Names a group in its tree. Stale once the group was removed, and refused then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}.{}", self.slot, self.generation)
    }
}

/// The times of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuotaSpec {
    /// How long a period of the spent resources is. Not zero.
    pub period: Duration,
    /// How long the pressure has to be critical before a refusal says stop.
    pub grace: Duration,
}

impl Default for QuotaSpec {
    /// Periods of 1 s, a grace of 10 s.
    fn default() -> Self {
        Self { period: Duration::from_secs(1), grace: Duration::from_secs(10) }
    }
}

/// A period of no length never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the period of a quota is 0: say at least 1 ns")]
pub struct PeriodIsZero;

/// Why a group was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AddError {
    /// All slots are taken.
    #[error("the tree has {capacity} groups, its most: remove one, or give it more storage")]
    Full {
        /// How many slots there are.
        capacity: usize,
    },
    /// The group above is not there.
    #[error("{0} is not known: it may have been removed")]
    UnknownParent(GroupId),
    /// Too many groups above.
    #[error("groups stand at most {DEPTH_MAX} deep: add it further up")]
    TooDeep,
}

/// Why a group was not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RemoveError {
    /// It is not there.
    #[error("{0} is not known: it may have been removed")]
    UnknownGroup(GroupId),
    /// Groups stand below it.
    #[error("{children} groups stand below {id}: remove them first")]
    HasChildren {
        /// The group.
        id: GroupId,
        /// How many stand directly below it.
        children: u32,
    },
}

/// What has to be done about a charge that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// The one that asked does without, and all in the group that is at its limit use less.
    BackOff,
    /// They were asked to, and the grace is over: a daemon in that group is stopped. Which one is the
    /// owner's choice; the one that asked may be a newcomer that uses least of all.
    Stop,
}

/// Why nothing was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChargeError {
    /// It is not there.
    #[error("{0} is not known: it may have been removed")]
    UnknownGroup(GroupId),
    /// It would be over a limit.
    #[error("{amount} more {} are over the limit of {at}: {used} of {limit} used", resource.name())]
    OverLimit {
        /// The lowest group whose limit it is: the one that was charged, or one above.
        at: GroupId,
        /// Of which resource.
        resource: Resource,
        /// What was asked for.
        amount: u64,
        /// What the group uses.
        used: u64,
        /// What it may use.
        limit: u64,
        /// What has to be done about it.
        remedy: Remedy,
    },
}

/// Why nothing was refunded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RefundError {
    /// It is not there.
    #[error("{0} is not known: it may have been removed")]
    UnknownGroup(GroupId),
    /// It is spent and can't be given back.
    #[error("{} are spent, not held: they come back with the next period", .0.name())]
    NotHeld(Resource),
    /// So much was never charged to the group itself.
    #[error("{amount} {} can't be given back: {own} are held", resource.name())]
    MoreThanHeld {
        /// Of which resource.
        resource: Resource,
        /// What was to be given back.
        amount: u64,
        /// What the group holds by itself, without those below it.
        own: u64,
    },
}

/// The pressure of a group changed. It concerns every daemon in the group and below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PressureChange {
    /// Where.
    pub group: GroupId,
    /// Of which resource.
    pub resource: Resource,
    /// What it is now.
    pub pressure: Pressure,
}
