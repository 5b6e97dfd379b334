//! What holds in a capability table between any two calls, written down so that it can be checked.

use super::arena::{Capability, Node, Slot};
use super::table::{LabelSlot, Table};
use crate::epitaph::{Epitaph, invariant};

impl<S, L> Table<S, L>
where
    S: AsRef<[Slot]> + AsMut<[Slot]>,
    L: AsRef<[LabelSlot]> + AsMut<[LabelSlot]>,
{
    /// What holds between any two calls. Follows every list: for tests and simulators.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not hold.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        let capacity = self.arena.slots().len();
        let mut free = 0_usize;
        let mut at = self.arena.free;
        while let Some(number) = at {
            let slot = self.slot(number)?;
            free = free.saturating_add(1);
            invariant!(free <= capacity, "free list: circle at {number}");
            invariant!(!slot.is_held(), "slot {number} is free and held");
            invariant!(slot.children.is_none(), "slot {number} is free and has children");
            at = slot.behind;
        }
        invariant!(free == self.arena.free_len, "{free} free, {} counted", self.arena.free_len);

        let mut live = 0_usize;
        for (label, number) in self.labels.as_ref().iter().zip(0_u16..) {
            let mut last = None;
            let mut root = label.grants.map(|ends| ends.first);
            while let Some(at) = root {
                let slot = self.slot(at)?;
                let capability = &slot.capability;
                invariant!(slot.before == last, "label {number}: broken before {at}");
                invariant!(capability.depth == 1, "label {number}: {at} is no grant");
                invariant!(capability.label.0 == number, "label {number}: {at} of another");
                invariant!(capability.epoch == label.epoch, "label {number}: {at} is revoked");
                self.walk(at, &mut live, true)?;
                last = root;
                root = slot.behind;
            }
            let end = label.grants.map(|ends| ends.last);
            invariant!(end == last, "label {number}: wrong end");
        }

        let mut dead = 0_usize;
        let mut grave = self.arena.graves;
        while let Some(number) = grave {
            self.walk(number, &mut dead, false)?;
            grave = self.slot(number)?.behind;
        }

        let worn_out = |slot: &&Slot| slot.generation == u32::MAX - 1;
        let worn_out = self.arena.slots().iter().filter(worn_out).count();
        // A worn-out slot that is still in its grave is counted twice.
        let known = free.saturating_add(live).saturating_add(dead);
        let lost = known > capacity || known.saturating_add(worn_out) < capacity;
        invariant!(!lost, "{free} free, {live} live, {dead} dead of {capacity}");
        Ok(())
    }

    /// Visits a capability and all that descends from it, without a stack: down to the first child,
    /// along the siblings, and up by the path that each keeps.
    fn walk(&self, root: u32, visited: &mut usize, live: bool) -> Result<(), Epitaph> {
        let mut number = root;
        loop {
            let slot = self.slot(number)?;
            *visited = visited.saturating_add(1);
            let many = *visited > self.arena.slots().len();
            invariant!(!many, "circle at {number}");
            if live {
                self.check_live(number, slot)?;
            }
            if let Some(ends) = slot.children {
                number = ends.first;
                continue;
            }
            // Up, until there is a sibling to go on with.
            loop {
                if number == root {
                    return Ok(());
                }
                let slot = self.slot(number)?;
                if let Some(next) = slot.behind {
                    number = next;
                    break;
                }
                let Some(parent) = slot.capability.parent() else {
                    invariant!(false, "slot {number} has no parent");
                    return Ok(());
                };
                number = parent.slot;
            }
        }
    }

    fn check_live(&self, number: u32, slot: &Slot) -> Result<(), Epitaph> {
        let capability = &slot.capability;
        invariant!(slot.is_held(), "slot {number} is listed, not held");
        if let Some(Node { slot: parent, generation }) = capability.parent() {
            let origin = self.slot(parent)?;
            invariant!(origin.generation == generation, "slot {number}: parent is gone");
            let reduced = reduces(capability, &origin.capability);
            invariant!(reduced, "slot {number} exceeds its origin {parent}");
        }
        let Some(children) = slot.children else { return Ok(()) };
        let mut last = None;
        let mut child = Some(children.first);
        while let Some(at) = child {
            let slot_of_child = self.slot(at)?;
            invariant!(slot_of_child.before == last, "slot {number}: broken before {at}");
            let parent = slot_of_child.capability.parent().map(|node| node.slot);
            invariant!(parent == Some(number), "slot {at}: not a child of {number}");
            last = child;
            child = slot_of_child.behind;
        }
        invariant!(last == Some(children.last), "slot {number}: wrong end");
        Ok(())
    }

    fn slot(&self, number: u32) -> Result<&Slot, Epitaph> {
        self.arena
            .get(number)
            .ok_or_else(|| Epitaph::new(format_args!("slot {number} does not exist")))
    }
}

/// Whether `child` is no more than `origin`.
fn reduces(child: &Capability, origin: &Capability) -> bool {
    let (inherited, given) = (child.ancestors(), origin.ancestors());
    origin.rights.contains(child.rights)
        && child.expires_at <= origin.expires_at
        && child.depth == origin.depth.saturating_add(1)
        && (child.label, child.epoch) == (origin.label, origin.epoch)
        && child.object == origin.object
        && inherited.get(..given.len()) == Some(given)
}
