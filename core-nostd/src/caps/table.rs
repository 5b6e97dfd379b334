//! The capability table: who may do what with which object, and for how long.
//!
//! Rules:
//! 1. A check passes if neither the capability nor any that it comes from was revoked, the caller holds
//!    it and is in its scope, it has not expired, and it has every right that is needed.
//! 2. Delegation only reduces: rights, expiry and scope stay within those of the origin, the label is
//!    the origin's, and nothing is more than [`DEPTH_MAX`] deep. More than the origin has is refused,
//!    never quietly cut.
//! 3. A revoked capability takes with it everything delegated from it, at once: its generation moves
//!    on, and every descendant compares the generations of its ancestors when it is checked. So
//!    revoking takes the same time whatever hangs below, and a check at most [`DEPTH_MAX`] comparisons.
//! 4. A revoked label takes every capability under it, in the same way, by its epoch. It can be used
//!    again.
//! 5. The slots of what was revoked are freed by [`Table::reclaim`], a few at a time, and by whoever
//!    needs one. No answer tells how far that has got.
//! 6. Time does not run backwards: what has expired once stays so, whatever the clock says next.
//!
//! Every call takes constant time but two: reclaiming, in proportion to its budget, and
//! [`Table::revoke_holder`], which looks at each slot once.

use super::arena::{Arena, Capability, Ends, Node, Slot};
use super::message::{
    DEPTH_MAX, DelegateError, Delegation, Full, Grant, GrantError, Handle, Label, LabelError,
    Object, Refusal, View,
};
use super::rights::Rights;
use super::scope::{Holder, Lineage, Scope};
use crate::planted::{self, Plant};
use crate::time::Instant;

/// Room for one label: what was granted under it.
#[derive(Clone, Debug, Default)]
pub struct LabelSlot {
    /// How often it was revoked.
    pub(super) epoch: u64,
    pub(super) grants: Option<Ends>,
}

impl LabelSlot {
    /// A label under which nothing was granted.
    pub const EMPTY: Self = Self { epoch: 0, grants: None };
}

/// Capabilities, in as many slots as `S` has, under as many labels as `L` has.
#[derive(Clone, Debug)]
pub struct Table<S, L> {
    pub(super) id: u32,
    pub(super) arena: Arena<S>,
    pub(super) labels: L,
    /// The latest instant that was told.
    now: Instant,
}

impl<S, L> Table<S, L>
where
    S: AsRef<[Slot]> + AsMut<[Slot]>,
    L: AsRef<[LabelSlot]> + AsMut<[LabelSlot]>,
{
    /// A table without capabilities. `id` is a number that no other table has, or had.
    pub fn new(id: u32, slots: S, mut labels: L) -> Self {
        labels.as_mut().fill(LabelSlot::EMPTY);
        Self { id, arena: Arena::new(slots), labels, now: Instant::ZERO }
    }

    /// How many slots are free at once. Those that are still to be reclaimed are not counted.
    #[must_use]
    pub const fn free_slots(&self) -> usize {
        self.arena.free_len
    }

    /// Whether anything that was revoked is still to be reclaimed.
    #[must_use]
    pub const fn has_garbage(&self) -> bool {
        self.arena.graves.is_some()
    }

    /// What the capability is for, if `caller` may do all of `needed` with it.
    ///
    /// # Errors
    /// [`Refusal`], the first reason why not.
    #[inline]
    pub fn check(
        &mut self,
        now: Instant,
        caller: Lineage<'_>,
        handle: Handle,
        needed: Rights,
    ) -> Result<Object, Refusal> {
        self.now = self.now.max(now);
        let capability = self.usable(caller, handle)?;
        if !capability.rights.contains(needed) {
            return Err(Refusal::MissingRights { missing: needed.without(capability.rights) });
        }
        Ok(capability.object)
    }

    /// What the capability is, whoever holds it, expired or not.
    ///
    /// # Errors
    /// [`Refusal`], when there is none, or it was revoked.
    pub fn view(&self, handle: Handle) -> Result<View, Refusal> {
        let capability = self.live(handle)?;
        Ok(View {
            object: capability.object,
            holder: capability.holder,
            rights: capability.rights,
            expires_at: capability.expires_at,
            scope: capability.scope,
            label: capability.label,
            depth: capability.depth,
        })
    }

    /// Gives out a first capability.
    ///
    /// # Errors
    /// [`GrantError`], when it could not be used or has no place.
    pub fn grant(&mut self, grant: Grant<'_>) -> Result<Handle, GrantError> {
        let Grant { object, rights, holder, expires_at, scope, label } = grant;
        let epoch = self.label(label)?.epoch;
        if epoch == u64::MAX {
            return Err(LabelError::WornOut { label }.into());
        }
        if !scope.contains(holder) {
            return Err(GrantError::HolderOutOfScope);
        }
        let holder = holder.holder();
        let path = Default::default();
        let capability =
            Capability { object, holder, rights, expires_at, scope, label, epoch, path, depth: 1 };
        Ok(self.place(capability)?)
    }

    /// Hands on a part of what `caller` holds.
    ///
    /// # Errors
    /// [`DelegateError`], when the caller may not, or asks for more than it has.
    pub fn delegate(
        &mut self,
        now: Instant,
        caller: Lineage<'_>,
        handle: Handle,
        delegation: Delegation<'_>,
    ) -> Result<Handle, DelegateError> {
        let Delegation { to, rights, expires_at, below } = delegation;
        self.check(now, caller, handle, Rights::DUPLICATE)?;
        let origin = *self.live(handle)?;
        if origin.depth >= DEPTH_MAX {
            return Err(DelegateError::TooDeep);
        }
        let beyond = rights.without(origin.rights);
        if beyond != Rights::NONE {
            return Err(DelegateError::RightsExceed { beyond });
        }
        let expires_at = expires_at.unwrap_or(origin.expires_at);
        if expires_at > origin.expires_at {
            return Err(DelegateError::ExpiryExceeds { origin: origin.expires_at });
        }
        if below.is_some_and(|root| !origin.scope.contains(root)) {
            return Err(DelegateError::ScopeExceeds);
        }
        let scope = below.map_or(origin.scope, Scope::below);
        if !scope.contains(to) {
            return Err(DelegateError::RecipientOutOfScope);
        }
        let mut path = origin.path;
        if let Some(place) = path.get_mut(origin.ancestors().len()) {
            *place = Node { slot: handle.slot, generation: handle.generation };
        }
        let depth = origin.depth.saturating_add(1);
        let holder = to.holder();
        Ok(self.place(Capability { holder, rights, expires_at, scope, path, depth, ..origin })?)
    }

    /// Revokes a capability and everything delegated from it, in the owner's name.
    ///
    /// # Errors
    /// [`Refusal`], when there is none, or it was revoked already.
    pub fn revoke(&mut self, handle: Handle) -> Result<(), Refusal> {
        let capability = *self.live(handle)?;
        let siblings = self.siblings(&capability);
        let siblings = self.arena.unlink(siblings, handle.slot);
        self.set_siblings(&capability, siblings);
        if let Some(slot) = self.arena.get_mut(handle.slot) {
            slot.generation = slot.generation.saturating_add(1);
        }
        self.arena.bury(Ends { first: handle.slot, last: handle.slot });
        Ok(())
    }

    /// Revokes in the name of a process: what it holds, or what comes from something that it holds,
    /// through however many hands. Neither expiry nor scope keeps it from that.
    ///
    /// # Errors
    /// [`Refusal`]; [`Refusal::NotHolder`] for a capability of others.
    pub fn revoke_by(&mut self, caller: Holder, handle: Handle) -> Result<(), Refusal> {
        let capability = self.live(handle)?;
        let mut origins =
            capability.ancestors().iter().filter_map(|node| self.arena.get(node.slot));
        let holds_origin = origins.any(|slot| slot.capability.holder == caller);
        if capability.holder != caller && !holds_origin {
            return Err(Refusal::NotHolder);
        }
        self.revoke(handle)
    }

    /// Revokes everything under a label. It can be granted under again.
    ///
    /// # Errors
    /// [`LabelError`], when there is no such label, or it was worn out by 2⁶⁴ − 1 revocations.
    pub fn revoke_label(&mut self, label: Label) -> Result<(), LabelError> {
        let slot = self.label(label)?;
        let Some(epoch) = slot.epoch.checked_add(1) else {
            return Err(LabelError::WornOut { label });
        };
        let grants = slot.grants;
        if let Some(slot) = self.labels.as_mut().get_mut(usize::from(label.0)) {
            *slot = LabelSlot { epoch, grants: None };
        }
        if let Some(grants) = grants {
            self.arena.bury(grants);
        }
        Ok(())
    }

    /// Revokes whatever a process holds, which has ended. How many that were; what others had from it
    /// falls too, and is not counted.
    pub fn revoke_holder(&mut self, holder: Holder) -> u32 {
        let mut revoked = 0_u32;
        for number in 0..=u32::MAX {
            let Some(slot) = self.arena.get(number) else { break };
            let handle = Handle { table: self.id, slot: number, generation: slot.generation };
            if slot.is_held() && slot.capability.holder == holder && self.revoke(handle).is_ok() {
                revoked = revoked.saturating_add(1);
            }
        }
        revoked
    }

    /// Frees up to `budget` slots of what was revoked. How many it freed; fewer than `budget` if
    /// nothing is left to do.
    pub fn reclaim(&mut self, budget: u32) -> u32 {
        let mut freed = 0;
        while freed < budget && self.arena.reclaim_one() {
            freed = freed.saturating_add(1);
        }
        freed
    }

    /// The capability, if the caller may use it for anything.
    #[inline]
    fn usable(&self, caller: Lineage<'_>, handle: Handle) -> Result<&Capability, Refusal> {
        let capability = self.live(handle)?;
        if capability.holder != caller.holder() {
            return Err(Refusal::NotHolder);
        }
        if !capability.scope.contains(caller) {
            return Err(Refusal::OutOfScope);
        }
        // The last instant stands for everything after it, and so never comes.
        let at_the_end = self.now == capability.expires_at && planted::is(Plant::CapsExpiry);
        let is_over = self.now >= capability.expires_at && !at_the_end;
        if is_over && capability.expires_at != Instant::MAX {
            return Err(Refusal::Expired);
        }
        Ok(capability)
    }

    /// The capability, if neither it nor one that it comes from was revoked.
    #[inline]
    fn live(&self, handle: Handle) -> Result<&Capability, Refusal> {
        if handle.table != self.id {
            return Err(Refusal::ForeignTable { table: handle.table, this: self.id });
        }
        let Some(slot) = self.arena.get(handle.slot) else { return Err(Refusal::Unknown) };
        if slot.generation != handle.generation || !slot.is_held() {
            // Only an odd generation was ever given out.
            let was_given = handle.generation % 2 == 1 && handle.generation < slot.generation;
            return Err(if was_given { Refusal::Revoked } else { Refusal::Unknown });
        }
        let capability = &slot.capability;
        let label = self.labels.as_ref().get(usize::from(capability.label.0));
        if label.is_none_or(|label| label.epoch != capability.epoch) {
            return Err(Refusal::Revoked);
        }
        let skipped = usize::from(planted::is(Plant::CapsRevocation));
        for node in capability.ancestors().iter().rev().skip(skipped) {
            if self.arena.get(node.slot).is_none_or(|slot| slot.generation != node.generation) {
                return Err(Refusal::Revoked);
            }
        }
        Ok(capability)
    }

    fn label(&self, label: Label) -> Result<&LabelSlot, LabelError> {
        let slots = self.labels.as_ref();
        let slot = slots.get(usize::from(label.0));
        slot.ok_or(LabelError::NoSuchLabel { label, labels: slots.len() })
    }

    /// Puts a capability into a slot and among its siblings.
    fn place(&mut self, capability: Capability) -> Result<Handle, Full> {
        let Some(node) = self.arena.occupy(capability) else {
            return Err(Full { capacity: self.arena.slots().len() });
        };
        let siblings = self.siblings(&capability);
        let siblings = self.arena.link(siblings, node.slot);
        self.set_siblings(&capability, Some(siblings));
        Ok(Handle { table: self.id, slot: node.slot, generation: node.generation })
    }

    /// What hangs where the capability hangs: under what it comes from, or under its label.
    fn siblings(&self, capability: &Capability) -> Option<Ends> {
        match capability.parent() {
            Some(parent) => self.arena.get(parent.slot)?.children,
            None => self.label(capability.label).ok()?.grants,
        }
    }

    fn set_siblings(&mut self, capability: &Capability, siblings: Option<Ends>) {
        match capability.parent() {
            Some(parent) => {
                if let Some(slot) = self.arena.get_mut(parent.slot) {
                    slot.children = siblings;
                }
            }
            None => {
                if let Some(slot) = self.labels.as_mut().get_mut(usize::from(capability.label.0)) {
                    slot.grants = siblings;
                }
            }
        }
    }
}
