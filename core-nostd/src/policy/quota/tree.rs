//! The tree: charges climb from a group to those above it.

use super::group::Group;
use super::meter::Meter;
use super::{
    AddError, ChargeError, DEPTH_MAX, GroupId, Limits, PeriodIsZero, Pressure, PressureChange,
    QuotaSpec, RefundError, Remedy, RemoveError, Resource, Slot,
};
use crate::time::{Instant, duration_ns};

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
    pub(super) slots: S,
    /// All slots below this one are taken.
    pub(super) free_from: usize,
    spec: QuotaSpec,
    /// The latest instant that was told.
    pub(super) now: Instant,
    /// When what was spent is forgotten.
    pub(super) period_ends: Instant,
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
        Ok(Self::with_times(slots, spec))
    }

    /// A tree without groups, with the times of [`QuotaSpec::default`].
    pub fn with_default_times(slots: S) -> Self {
        Self::with_times(slots, QuotaSpec::default())
    }

    fn with_times(slots: S, spec: QuotaSpec) -> Self {
        let period_ends = Instant::ZERO.saturating_add(spec.period);
        Self { slots, free_from: 0, spec, now: Instant::ZERO, period_ends }
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
        let behind = slots.iter().skip(self.free_from).position(|slot| slot.group.is_none());
        self.free_from = behind.map_or(capacity, |behind| self.free_from.saturating_add(behind));
        let free = slots.get_mut(self.free_from).zip(u32::try_from(self.free_from).ok());
        let Some((slot, index)) = free else {
            return Err(AddError::Full { capacity });
        };
        let meters = Resource::ALL.map(|resource| Meter::new(limits.of(resource)));
        slot.group = Some(Group { parent, depth, children: 0, meters });
        let id = GroupId { slot: index, generation: slot.generation };
        self.free_from = self.free_from.saturating_add(1);
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
        self.free_from = self.free_from.min(usize::try_from(id.slot).unwrap_or(usize::MAX));
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

    pub(super) fn groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.slots.as_ref().iter().zip(0_u32..).filter_map(|(slot, index)| {
            let id = GroupId { slot: index, generation: slot.generation };
            Some((id, slot.group.as_ref()?))
        })
    }

    pub(super) fn group(&self, id: GroupId) -> Option<&Group> {
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
