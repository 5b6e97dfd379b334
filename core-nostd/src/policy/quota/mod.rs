//! Quotas in a tree: what a daemon uses is used by its group, and by the group's group.
//!
//! Rules:
//! 1. A charge is within the limit of its group and of every group above, or it is refused and nothing
//!    is charged anywhere.
//! 2. Memory and messages are *held*: charged when they are taken, refunded when they are given back.
//!    Processor time and log bytes are *spent*: they can't be given back, and every group begins each
//!    period with nothing spent.
//! 3. Before it is refused, a group is asked to back off: its pressure is told each time that it
//!    changes. A level is left a little below where it is entered, so that a group at its edge does not
//!    swing.
//! 4. A refusal makes the pressure critical where it happened, and says what to do: back off, or, once
//!    the pressure has been critical for the grace, stop. So no group loses a daemon before it was asked.
//! 5. A group that is removed gives back what it held. What it spent stays spent.
//!
//! A call costs a step for each group above, at most [`DEPTH_MAX`]; except [`QuotaTree::add`], which
//! looks for a free slot, and the first call of a period, which looks at every group once.

mod meter;

pub use meter::Pressure;

use core::fmt;
use core::time::Duration;

use crate::epitaph::{Epitaph, invariant};
use crate::time::{Instant, duration_ns};
use meter::Meter;

/// How many groups may stand one above the other.
pub const DEPTH_MAX: u8 = 8;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Processor time, in nanoseconds per period. Spent.
    CpuTime,
    /// Memory, in bytes. Held.
    Memory,
    /// Messages sent and not yet received. Held.
    Messages,
    /// What was written to logs, in bytes per period. Spent.
    LogBytes,
}

/// How many resources there are.
pub const RESOURCES: usize = 4;

impl Resource {
    /// All of them.
    pub const ALL: [Self; RESOURCES] =
        [Self::CpuTime, Self::Memory, Self::Messages, Self::LogBytes];

    /// Whether it can be given back. What can't is forgotten at the end of each period.
    #[must_use]
    pub const fn is_held(self) -> bool {
        matches!(self, Self::Memory | Self::Messages)
    }

    /// Its name, as in configuration and output, with its unit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CpuTime => "cpu time (ns)",
            Self::Memory => "memory (bytes)",
            Self::Messages => "messages",
            Self::LogBytes => "log bytes",
        }
    }
}

/// The most that a group may use of each resource; `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Processor time per period, in nanoseconds.
    pub cpu_time_ns: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Messages under way.
    pub messages: u64,
    /// Bytes written to logs, per period.
    pub log_bytes: u64,
}

impl Limits {
    /// No limit on anything.
    pub const NONE: Self = Self {
        cpu_time_ns: u64::MAX,
        memory_bytes: u64::MAX,
        messages: u64::MAX,
        log_bytes: u64::MAX,
    };

    const fn of(&self, resource: Resource) -> u64 {
        match resource {
            Resource::CpuTime => self.cpu_time_ns,
            Resource::Memory => self.memory_bytes,
            Resource::Messages => self.messages,
            Resource::LogBytes => self.log_bytes,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::NONE
    }
}

/// Names a group in its tree. Stale once the group was removed, and refused then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupId {
    slot: u32,
    generation: u32,
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

/// A place for one group in a tree's storage.
#[derive(Clone, Debug)]
pub struct Slot {
    generation: u32,
    group: Option<Group>,
}

impl Slot {
    /// A slot that is free.
    pub const EMPTY: Self = Self { generation: 0, group: None };
}

impl Default for Slot {
    fn default() -> Self {
        Self::EMPTY
    }
}

#[derive(Clone, Debug)]
struct Group {
    parent: Option<GroupId>,
    /// 1 for one with nothing above it.
    depth: u8,
    children: u32,
    /// In the order of [`Resource::ALL`].
    meters: [Meter; RESOURCES],
}

impl Group {
    const fn meter(&self, resource: Resource) -> &Meter {
        let [cpu_time, memory, messages, log_bytes] = &self.meters;
        match resource {
            Resource::CpuTime => cpu_time,
            Resource::Memory => memory,
            Resource::Messages => messages,
            Resource::LogBytes => log_bytes,
        }
    }

    const fn meter_mut(&mut self, resource: Resource) -> &mut Meter {
        let [cpu_time, memory, messages, log_bytes] = &mut self.meters;
        match resource {
            Resource::CpuTime => cpu_time,
            Resource::Memory => memory,
            Resource::Messages => messages,
            Resource::LogBytes => log_bytes,
        }
    }
}

/// Where changes of pressure are told.
type Tell<'a> = &'a mut dyn FnMut(PressureChange);

/// Quotas of groups that stand in one tree, or in several.
///
/// ```
/// use duende_core::policy::quota::{ChargeError, Limits, QuotaSpec, QuotaTree, Resource, Slot};
/// use duende_core::time::Instant;
///
/// let now = Instant::ZERO;
/// let mut tree = QuotaTree::new([const { Slot::EMPTY }; 4], QuotaSpec::default())?;
/// let fleet = tree.add(None, Limits { memory_bytes: 100, ..Limits::NONE })?;
/// let web = tree.add(Some(fleet), Limits { memory_bytes: 80, ..Limits::NONE })?;
/// let mail = tree.add(Some(fleet), Limits::NONE)?;
/// tree.charge(now, web, Resource::Memory, 60, &mut |_| {})?;
///
/// // `mail` has no limit of its own, but the fleet has.
/// let refused = tree.charge(now, mail, Resource::Memory, 41, &mut |_| {});
/// assert!(matches!(refused, Err(ChargeError::OverLimit { at, .. }) if at == fleet));
/// tree.refund(now, web, Resource::Memory, 1, &mut |_| {})?;
/// tree.charge(now, mail, Resource::Memory, 41, &mut |_| {})?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct QuotaTree<S> {
    slots: S,
    spec: QuotaSpec,
    /// The latest instant that was told.
    now: Instant,
    /// When what was spent is forgotten.
    period_ends: Instant,
}

impl<S: AsRef<[Slot]> + AsMut<[Slot]>> QuotaTree<S> {
    /// A tree without groups. The first period begins at the clock's zero.
    ///
    /// # Errors
    /// [`PeriodIsZero`].
    pub fn new(slots: S, spec: QuotaSpec) -> Result<Self, PeriodIsZero> {
        if spec.period.is_zero() {
            return Err(PeriodIsZero);
        }
        let period_ends = Instant::ZERO.saturating_add(spec.period);
        Ok(Self { slots, spec, now: Instant::ZERO, period_ends })
    }

    /// Adds a group below `parent`, or at the top.
    ///
    /// # Errors
    /// [`AddError`], when there is no place for it.
    pub fn add(&mut self, parent: Option<GroupId>, limits: Limits) -> Result<GroupId, AddError> {
        let mut depth = 1;
        if let Some(id) = parent {
            let above = self.group(id).ok_or(AddError::UnknownParent(id))?;
            if above.depth >= DEPTH_MAX {
                return Err(AddError::TooDeep);
            }
            depth = above.depth.saturating_add(1);
        }
        let slots = self.slots.as_mut();
        let capacity = slots.len();
        let free = slots.iter_mut().zip(0_u32..).find(|(slot, _)| slot.group.is_none());
        let Some((slot, index)) = free else {
            return Err(AddError::Full { capacity });
        };
        let meters = Resource::ALL.map(|resource| Meter::new(limits.of(resource)));
        slot.group = Some(Group { parent, depth, children: 0, meters });
        let id = GroupId { slot: index, generation: slot.generation };
        if let Some(above) = parent.and_then(|parent| self.group_mut(parent)) {
            above.children = above.children.saturating_add(1);
        }
        Ok(id)
    }

    /// Removes a group with none below it; what it held is given back to those above.
    ///
    /// # Errors
    /// [`RemoveError`]; nothing is changed then.
    pub fn remove(&mut self, now: Instant, id: GroupId, tell: Tell<'_>) -> Result<(), RemoveError> {
        self.tick(now, tell);
        let group = self.group(id).ok_or(RemoveError::UnknownGroup(id))?;
        let (parent, children) = (group.parent, group.children);
        if children > 0 {
            return Err(RemoveError::HasChildren { id, children });
        }
        let held = Resource::ALL.map(|resource| (resource, group.meter(resource).used()));
        if let Some(parent) = parent {
            for (resource, amount) in held {
                if resource.is_held() {
                    self.climb(parent, resource, tell, |meter, now| meter.give_back(amount, now));
                }
            }
            if let Some(above) = self.group_mut(parent) {
                above.children = above.children.saturating_sub(1);
            }
        }
        if let Some(slot) = self.slot_mut(id) {
            slot.group = None;
            slot.generation = slot.generation.wrapping_add(1);
        }
        Ok(())
    }

    /// Charges a group and all above it, or none of them.
    ///
    /// # Errors
    /// [`ChargeError`]; nothing is charged then, but the pressure where it was refused is critical.
    pub fn charge(
        &mut self,
        now: Instant,
        id: GroupId,
        resource: Resource,
        amount: u64,
        tell: Tell<'_>,
    ) -> Result<(), ChargeError> {
        self.tick(now, tell);
        if self.group(id).is_none() {
            return Err(ChargeError::UnknownGroup(id));
        }
        let mut next = Some(id);
        while let Some(at) = next
            && let Some(group) = self.group(at)
        {
            if !group.meter(resource).has_room_for(amount) {
                return Err(self.refuse(at, resource, amount, tell));
            }
            next = group.parent;
        }
        self.climb(id, resource, tell, |meter, now| meter.take(amount, now));
        if let Some(group) = self.group_mut(id) {
            group.meter_mut(resource).take_own(amount);
        }
        Ok(())
    }

    /// Gives back what a group held, there and in all above it.
    ///
    /// # Errors
    /// [`RefundError`]; nothing is given back then.
    pub fn refund(
        &mut self,
        now: Instant,
        id: GroupId,
        resource: Resource,
        amount: u64,
        tell: Tell<'_>,
    ) -> Result<(), RefundError> {
        self.tick(now, tell);
        let group = self.group(id).ok_or(RefundError::UnknownGroup(id))?;
        if !resource.is_held() {
            return Err(RefundError::NotHeld(resource));
        }
        let own = group.meter(resource).own();
        if amount > own {
            return Err(RefundError::MoreThanHeld { resource, amount, own });
        }
        if let Some(group) = self.group_mut(id) {
            group.meter_mut(resource).give_back_own(amount);
        }
        self.climb(id, resource, tell, |meter, now| meter.give_back(amount, now));
        Ok(())
    }

    /// Begins a new period, if one is due at `now`. The calls that charge do it too.
    pub fn tick(&mut self, now: Instant, tell: Tell<'_>) {
        self.now = self.now.max(now);
        // The last period of the clock never ends.
        if self.now < self.period_ends || self.period_ends == Instant::MAX {
            return;
        }
        let period_ns = duration_ns(self.spec.period).max(1);
        let late_ns = self.now.as_ns().saturating_sub(self.period_ends.as_ns());
        let left_ns = period_ns.saturating_sub(late_ns % period_ns);
        self.period_ends = Instant::from_ns(self.now.as_ns().saturating_add(left_ns));
        for (slot, index) in self.slots.as_mut().iter_mut().zip(0_u32..) {
            let id = GroupId { slot: index, generation: slot.generation };
            let Some(group) = &mut slot.group else {
                continue;
            };
            for resource in Resource::ALL.into_iter().filter(|resource| !resource.is_held()) {
                if let Some(pressure) = group.meter_mut(resource).forget() {
                    tell(PressureChange { group: id, resource, pressure });
                }
            }
        }
    }

    /// When [`QuotaTree::tick`] is due: what was spent is forgotten then, and those that were asked to
    /// back off are told that they need not.
    #[must_use]
    pub const fn next_deadline(&self) -> Instant {
        self.period_ends
    }

    /// Changes the limits of a group. One that uses more than its new limit keeps what it has, and
    /// gets no more. Whether the group is known.
    pub fn set_limits(
        &mut self,
        now: Instant,
        id: GroupId,
        limits: Limits,
        tell: Tell<'_>,
    ) -> bool {
        self.tick(now, tell);
        let now = self.now;
        let Some(group) = self.group_mut(id) else {
            return false;
        };
        for resource in Resource::ALL {
            let change = group.meter_mut(resource).set_limit(limits.of(resource), now);
            if let Some(pressure) = change {
                tell(PressureChange { group: id, resource, pressure });
            }
        }
        true
    }

    /// What a group and those below it use; `None` if it is not known. What was spent in a period
    /// that ended since the last call that told the time is still in it.
    #[must_use]
    pub fn used(&self, id: GroupId, resource: Resource) -> Option<u64> {
        Some(self.group(id)?.meter(resource).used())
    }

    /// The pressure that a daemon of this group is under: the highest of the group's and of those
    /// above it. `None` if the group is not known.
    #[must_use]
    pub fn pressure(&self, id: GroupId, resource: Resource) -> Option<Pressure> {
        let mut highest = self.group(id)?.meter(resource).pressure();
        let mut next = Some(id);
        while let Some(group) = next.and_then(|id| self.group(id)) {
            highest = highest.max(group.meter(resource).pressure());
            next = group.parent;
        }
        Some(highest)
    }

    /// What holds between any two calls. Looks at every pair of groups: for tests and simulators.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not hold.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        let overdue = self.now >= self.period_ends && self.period_ends != Instant::MAX;
        invariant!(!overdue, "quota period is overslept");
        for (id, group) in self.groups() {
            let depth = match group.parent {
                None => 0,
                Some(parent) => match self.group(parent) {
                    Some(above) => above.depth,
                    None => {
                        invariant!(false, "{id} stands below nothing");
                        0
                    }
                },
            };
            invariant!(depth.checked_add(1) == Some(group.depth), "{id}: wrong depth");
            invariant!(group.depth <= DEPTH_MAX, "{id} is too deep");
            let below = || self.groups().filter(|(_, other)| other.parent == Some(id));
            let children = below().count();
            let counted = usize::try_from(group.children) == Ok(children);
            invariant!(counted, "{id} has {children} below it");
            for resource in Resource::ALL {
                let meter = group.meter(resource);
                meter.check_invariants()?;
                // What was spent below may have been spent by one that is gone.
                let sum = below().try_fold(meter.own(), |sum, (_, other)| {
                    sum.checked_add(other.meter(resource).used())
                });
                let (used, name) = (meter.used(), resource.name());
                let balanced =
                    sum.is_some_and(|sum| sum == used || (sum < used && !resource.is_held()));
                invariant!(balanced, "{id}: {used} {name} do not add up");
            }
        }
        Ok(())
    }

    #[cold]
    fn refuse(
        &mut self,
        at: GroupId,
        resource: Resource,
        amount: u64,
        tell: Tell<'_>,
    ) -> ChargeError {
        let (now, grace) = (self.now, self.spec.grace);
        let Some(group) = self.group_mut(at) else {
            return ChargeError::UnknownGroup(at);
        };
        let meter = group.meter_mut(resource);
        let remedy = if meter.is_critical_for(grace, now) { Remedy::Stop } else { Remedy::BackOff };
        let (used, limit) = (meter.used(), meter.limit());
        if let Some(pressure) = meter.refuse(now) {
            tell(PressureChange { group: at, resource, pressure });
        }
        ChargeError::OverLimit { at, resource, amount, used, limit, remedy }
    }

    /// Does the same to the meters of a group and of all above it.
    fn climb(
        &mut self,
        from: GroupId,
        resource: Resource,
        tell: Tell<'_>,
        step: impl Fn(&mut Meter, Instant) -> Option<Pressure>,
    ) {
        let now = self.now;
        let mut next = Some(from);
        while let Some(id) = next {
            let Some(group) = self.group_mut(id) else {
                return;
            };
            next = group.parent;
            if let Some(pressure) = step(group.meter_mut(resource), now) {
                tell(PressureChange { group: id, resource, pressure });
            }
        }
    }

    fn groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.slots.as_ref().iter().zip(0_u32..).filter_map(|(slot, index)| {
            let id = GroupId { slot: index, generation: slot.generation };
            Some((id, slot.group.as_ref()?))
        })
    }

    fn group(&self, id: GroupId) -> Option<&Group> {
        let slot = self.slots.as_ref().get(usize::try_from(id.slot).ok()?)?;
        slot.group.as_ref().filter(|_| slot.generation == id.generation)
    }

    fn group_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.slot_mut(id)?.group.as_mut()
    }

    fn slot_mut(&mut self, id: GroupId) -> Option<&mut Slot> {
        let slot = self.slots.as_mut().get_mut(usize::try_from(id.slot).ok()?)?;
        (slot.generation == id.generation).then_some(slot)
    }
}

#[cfg(test)]
mod tests;
