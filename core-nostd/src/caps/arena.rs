//! The slots of a capability table, and the lists that run through them.
//!
//! Rules:
//! 1. A slot's generation is odd while it names a capability and even while it does not, and only
//!    grows. So an odd generation that matches is a capability that nobody revoked, and none is given
//!    out twice. A slot whose generations are used up is never used again.
//! 2. Each slot is in exactly one place: the free list; the list of its siblings, under a live parent
//!    or a label; or under the graves, the roots of what was revoked.
//! 3. A whole list joins the graves at once, whatever hangs below it. [`Arena::reclaim_one`] frees one
//!    of them and puts its children in its place, so each step is as short as any other.

use super::message::{DEPTH_MAX, Label, Object};
use super::rights::Rights;
use super::scope::{Holder, Scope};
use crate::time::Instant;

/// How many capabilities one may descend from.
pub(super) const ANCESTORS_MAX: usize = DEPTH_MAX as usize - 1;

/// The last generation that may be given out: one more lets the slot be revoked.
const GENERATION_MAX: u32 = u32::MAX - 2;

/// A capability at one time: its slot, and the generation that it had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// The ends of a list that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) first: u32,
    pub(super) last: u32,
}

/// The capability in a slot; without meaning while the generation is even.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capability {
    pub(super) object: Object,
    pub(super) holder: Holder,
    pub(super) rights: Rights,
    pub(super) expires_at: Instant,
    pub(super) scope: Scope,
    pub(super) label: Label,
    /// The label's epoch when it was granted.
    pub(super) epoch: u64,
    /// What it comes from, the granted one first; `depth` − 1 of them.
    pub(super) path: [Node; ANCESTORS_MAX],
    pub(super) depth: u8,
}

impl Capability {
    const NONE: Self = Self {
        object: Object(0),
        holder: Holder(0),
        rights: Rights::NONE,
        expires_at: Instant::ZERO,
        scope: Scope::Everywhere,
        label: Label(0),
        epoch: 0,
        path: [Node { slot: 0, generation: 0 }; ANCESTORS_MAX],
        depth: 0,
    };

    /// What it comes from, the granted one first.
    #[inline]
    pub(super) fn ancestors(&self) -> &[Node] {
        let count = usize::from(self.depth).saturating_sub(1);
        self.path.get(..count).unwrap_or(&self.path)
    }

    /// What it was delegated from, unless it was granted.
    pub(super) fn parent(&self) -> Option<Node> {
        self.ancestors().last().copied()
    }
}

/// Room for one capability.
#[derive(Clone, Debug)]
pub struct Slot {
    pub(super) generation: u32,
    pub(super) capability: Capability,
    /// The neighbours in the one list that the slot is in. `before` is kept among siblings only.
    pub(super) before: Option<u32>,
    pub(super) behind: Option<u32>,
    pub(super) children: Option<Ends>,
}

impl Slot {
    /// A slot that was never used.
    pub const EMPTY: Self = Self {
        generation: 0,
        capability: Capability::NONE,
        before: None,
        behind: None,
        children: None,
    };

    /// Whether the generation is one of a capability that was not revoked itself.
    #[inline]
    pub(super) const fn is_held(&self) -> bool {
        self.generation % 2 == 1
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::EMPTY
    }
}

#[derive(Clone, Debug)]
pub(super) struct Arena<S> {
    slots: S,
    /// The slots to use next.
    pub(super) free: Option<u32>,
    pub(super) free_len: usize,
    /// The roots of what was revoked and is not reclaimed yet.
    pub(super) graves: Option<u32>,
}

impl<S: AsRef<[Slot]> + AsMut<[Slot]>> Arena<S> {
    pub(super) fn new(mut slots: S) -> Self {
        // More slots than a handle can name are left alone.
        let count = u32::try_from(slots.as_mut().len()).unwrap_or(u32::MAX);
        for (slot, number) in slots.as_mut().iter_mut().zip(1..=count) {
            *slot = Slot::EMPTY;
            slot.behind = (number < count).then_some(number);
        }
        let free_len = usize::try_from(count).unwrap_or(usize::MAX);
        Self { slots, free: (count > 0).then_some(0), free_len, graves: None }
    }

    pub(super) fn slots(&self) -> &[Slot] {
        self.slots.as_ref()
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Slot> {
        self.slots.as_ref().get(usize::try_from(slot).ok()?)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.as_mut().get_mut(usize::try_from(slot).ok()?)
    }

    /// Puts a capability into a slot, in no list yet. With no slot free it reclaims what it needs, so
    /// that it fails only if every slot holds a live capability (or is worn out).
    pub(super) fn occupy(&mut self, capability: Capability) -> Option<Node> {
        while self.free.is_none() && self.reclaim_one() {}
        let number = self.free?;
        let slot = self.get_mut(number)?;
        slot.generation = slot.generation.saturating_add(1);
        slot.capability = capability;
        let node = Node { slot: number, generation: slot.generation };
        let next = slot.behind.take();
        self.free = next;
        self.free_len = self.free_len.saturating_sub(1);
        Some(node)
    }

    /// Puts a slot at the front of a list of siblings, whose new ends it gives.
    pub(super) fn link(&mut self, siblings: Option<Ends>, number: u32) -> Ends {
        let first = siblings.map(|ends| ends.first);
        if let Some(slot) = self.get_mut(number) {
            slot.before = None;
            slot.behind = first;
        }
        if let Some(slot) = first.and_then(|first| self.get_mut(first)) {
            slot.before = Some(number);
        }
        Ends { first: number, last: siblings.map_or(number, |ends| ends.last) }
    }

    /// Takes a slot out of a list of siblings, whose new ends it gives.
    pub(super) fn unlink(&mut self, siblings: Option<Ends>, number: u32) -> Option<Ends> {
        let slot = self.get_mut(number)?;
        let (before, behind) = (slot.before.take(), slot.behind.take());
        if let Some(slot) = before.and_then(|before| self.get_mut(before)) {
            slot.behind = behind;
        }
        if let Some(slot) = behind.and_then(|behind| self.get_mut(behind)) {
            slot.before = before;
        }
        let ends = siblings?;
        match (before, behind) {
            (Some(_), Some(_)) => Some(ends),
            (Some(last), None) => Some(Ends { last, ..ends }),
            (None, Some(first)) => Some(Ends { first, ..ends }),
            (None, None) => None,
        }
    }

    /// A list joins the graves, with everything below it.
    pub(super) fn bury(&mut self, list: Ends) {
        let graves = self.graves;
        if let Some(last) = self.get_mut(list.last) {
            last.behind = graves;
        }
        self.graves = Some(list.first);
    }

    /// Frees one slot of what was revoked. Whether there was one.
    pub(super) fn reclaim_one(&mut self) -> bool {
        let (Some(number), free) = (self.graves, self.free) else { return false };
        let Some(slot) = self.get_mut(number) else { return false };
        if slot.is_held() {
            // It fell with an ancestor or a label.
            slot.generation = slot.generation.saturating_add(1);
        }
        let worn_out = slot.generation > GENERATION_MAX;
        let children = slot.children.take();
        let rest = slot.behind;
        slot.capability = Capability::NONE;
        slot.before = None;
        slot.behind = if worn_out { None } else { free };
        if !worn_out {
            self.free = Some(number);
            self.free_len = self.free_len.saturating_add(1);
        }
        self.graves = rest;
        if let Some(children) = children {
            self.bury(children);
        }
        true
    }
}
