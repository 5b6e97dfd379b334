//! What holds in a tree of quotas between any two calls.

use super::{DEPTH_MAX, QuotaTree, Resource, Slot};
use crate::epitaph::{Epitaph, invariant};
use crate::time::Instant;

impl<S: AsRef<[Slot]> + AsMut<[Slot]>> QuotaTree<S> {
    /// What holds between any two calls. Looks at every pair of groups: for tests and simulators.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not hold.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        let overdue = self.now >= self.period_ends && self.period_ends != Instant::MAX;
        invariant!(!overdue, "quota period is overslept");
        let taken = self.slots.as_ref().iter().take_while(|slot| slot.group.is_some()).count();
        let free_from = self.free_from;
        invariant!(free_from <= taken, "quota: free from {free_from}, taken up to {taken}");
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
}
