//! Groups of daemons, which form a supervision tree.
//!
//! A group stands for what OTP calls a supervisor: it has a [`Strategy`], a limit on restarts of its
//! own, and perhaps a parent. Its *children* are the daemons and groups that name it, in the order in
//! which they were added. What a failure among them leads to stands in `round`.
//!
//! Invariants: a group's parent was added before it, so the groups form no circle; a group that has
//! children is not removed.

use super::Supervisor;
use super::daemon::{INTENSITY_MAX, Slot};
use super::id::GroupId;
use crate::epitaph::{Epitaph, invariant};
use crate::limiter::{IntensityError, Limiter, RestartLimit};
use crate::time::Instant;

/// Who is restarted together with a child that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Nobody else.
    #[default]
    OneForOne,
    /// All children.
    OneForAll,
    /// The children that were added after it.
    RestForOne,
}

impl Strategy {
    /// Whether a child at `place` is restarted when the one at `failed` is. Places are in the order
    /// in which the children were added.
    pub(super) const fn takes(self, place: u64, failed: u64) -> bool {
        match self {
            Self::OneForOne => place == failed,
            Self::OneForAll => true,
            Self::RestForOne => place >= failed,
        }
    }
}

/// How one group is to be supervised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSpec {
    /// Who is restarted together.
    pub strategy: Strategy,
    /// How many restarts after failures, of all children together, are too many for the group; at
    /// most [`INTENSITY_MAX`] per period.
    pub limit: RestartLimit,
    /// The group whose child it is, if it is any's.
    pub parent: Option<GroupId>,
}

impl Default for GroupSpec {
    /// As OTP's: one for one, 1 restart per 5 s. No parent.
    fn default() -> Self {
        Self { strategy: Strategy::default(), limit: RestartLimit::OTP, parent: None }
    }
}

/// A place for one group in a supervisor's storage.
#[derive(Clone, Debug, Default)]
pub struct GroupSlot {
    /// Counts the groups that had this slot.
    generation: u32,
    pub(super) group: Option<Group>,
}

impl GroupSlot {
    /// A slot that no group has. A constant, for storage that is an array.
    pub const EMPTY: Self = Self { generation: 0, group: None };
}

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) spec: GroupSpec,
    pub(super) limiter: Limiter<[Instant; INTENSITY_MAX]>,
    /// Its place among the children of its parent.
    pub(super) place: u64,
}

/// Why a group was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddGroupError {
    /// Every slot is taken: remove a group, or give the supervisor more storage.
    #[error("all {capacity} slots for groups are taken")]
    Full {
        /// How many slots there are.
        capacity: usize,
    },
    /// Its parent is not known: add that one first.
    #[error("its parent {0} is not known")]
    UnknownParent(GroupId),
    /// Its restart limit can't be kept.
    #[error(transparent)]
    Limit(#[from] IntensityError),
    /// The supervisor has halted.
    #[error("the supervisor has halted")]
    Halted,
}

/// Why a group was not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoveGroupError {
    /// No group has this identifier, or not any more.
    #[error("{0} is not known")]
    UnknownGroup(GroupId),
    /// It has children: remove them first.
    #[error("{0} has children: remove them first")]
    HasChildren(GroupId),
}

impl<S: AsRef<[Slot]> + AsMut<[Slot]>, G: AsRef<[GroupSlot]> + AsMut<[GroupSlot]>>
    Supervisor<S, G>
{
    /// Adds a group without children.
    ///
    /// # Errors
    /// [`AddGroupError`], when there is no slot for it or `spec` can't be kept.
    pub fn add_group(&mut self, spec: GroupSpec) -> Result<GroupId, AddGroupError> {
        if self.halted {
            return Err(AddGroupError::Halted);
        }
        if let Some(parent) = spec.parent
            && self.group(parent).is_none()
        {
            return Err(AddGroupError::UnknownParent(parent));
        }
        let limiter = Limiter::new([Instant::ZERO; INTENSITY_MAX], spec.limit)?;
        let place = self.next_place();
        let slots = self.groups.as_mut();
        let capacity = slots.len();
        let free = slots.iter_mut().zip(0_u32..).find(|(slot, _)| slot.group.is_none());
        let Some((slot, index)) = free else {
            return Err(AddGroupError::Full { capacity });
        };
        slot.group = Some(Group { spec, limiter, place });
        Ok(GroupId { slot: index, generation: slot.generation })
    }

    /// Forgets a group that has no children.
    ///
    /// # Errors
    /// [`RemoveGroupError`], when it is not known or has children.
    pub fn remove_group(&mut self, id: GroupId) -> Result<(), RemoveGroupError> {
        if self.group(id).is_none() {
            return Err(RemoveGroupError::UnknownGroup(id));
        }
        let mut groups = self.groups.as_ref().iter().filter_map(|slot| slot.group.as_ref());
        let mut daemons = self.slots.as_ref().iter().filter_map(|slot| slot.daemon.as_ref());
        if groups.any(|group| group.spec.parent == Some(id))
            || daemons.any(|daemon| daemon.spec.group == Some(id))
        {
            return Err(RemoveGroupError::HasChildren(id));
        }
        if let Some(slot) = self.group_slot_mut(id) {
            slot.group = None;
            slot.generation = slot.generation.wrapping_add(1);
        }
        Ok(())
    }

    /// Where the next child stands among its siblings: behind all that were added before.
    pub(super) fn next_place(&mut self) -> u64 {
        self.places = self.places.saturating_add(1);
        self.places
    }

    /// The place of that child of `ancestor` which is, or through which descends, the child at
    /// `place` of `parent`; `None` if it does not descend from it.
    pub(super) fn place_below(
        &self,
        ancestor: GroupId,
        parent: Option<GroupId>,
        place: u64,
    ) -> Option<u64> {
        let mut place = place;
        let mut at = parent?;
        while at != ancestor {
            let group = self.group(at)?;
            place = group.place;
            at = group.spec.parent?;
        }
        Some(place)
    }

    /// Lets the groups below `ancestor` that are taken along begin to count anew.
    pub(super) fn forgive_groups(&mut self, ancestor: GroupId, taken: impl Fn(u64) -> bool) {
        for index in 0..self.groups.as_ref().len() {
            let group = self.groups.as_ref().get(index).and_then(|slot| slot.group.as_ref());
            let below =
                group.and_then(|group| self.place_below(ancestor, group.spec.parent, group.place));
            let slot = self.groups.as_mut().get_mut(index);
            if let Some(group) = slot.and_then(|slot| slot.group.as_mut())
                && below.is_some_and(&taken)
            {
                group.limiter.clear();
            }
        }
    }

    pub(super) fn group(&self, id: GroupId) -> Option<&Group> {
        let slot = self.groups.as_ref().get(usize::try_from(id.slot).ok()?)?;
        if slot.generation == id.generation { slot.group.as_ref() } else { None }
    }

    pub(super) fn group_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.group_slot_mut(id)?.group.as_mut()
    }

    /// What holds of the groups between any two inputs.
    pub(super) fn check_groups(&self) -> Result<(), Epitaph> {
        for group in self.groups.as_ref().iter().filter_map(|slot| slot.group.as_ref()) {
            group.limiter.check_invariants()?;
            if let Some(parent) = group.spec.parent {
                let older = self.group(parent).is_some_and(|parent| parent.place < group.place);
                invariant!(older, "{parent} is younger than its child");
            }
        }
        Ok(())
    }

    fn group_slot_mut(&mut self, id: GroupId) -> Option<&mut GroupSlot> {
        let slot = self.groups.as_mut().get_mut(usize::try_from(id.slot).ok()?)?;
        (slot.generation == id.generation).then_some(slot)
    }
}
