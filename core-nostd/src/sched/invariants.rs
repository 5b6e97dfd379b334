//! What holds in a scheduler between any two calls.

use super::deadline::Server;
use super::queue::{Kind, NONE, Phase, Slot};
use super::{LEVELS, Level, Scheduler};
use crate::epitaph::{Epitaph, invariant};

impl<S, D> Scheduler<S, D>
where
    S: AsRef<[Slot]> + AsMut<[Slot]>,
    D: AsRef<[Server]> + AsMut<[Server]>,
{
    /// What holds between any two calls. Follows every list: for tests and simulators.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not hold.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        self.servers.check_invariants(self.now_ns)?;
        let mut listed = 0_usize;
        for level in (0..LEVELS).filter_map(Level::new) {
            listed = listed.saturating_add(self.check_list(level)?);
        }
        let (mut tasks, mut ready, mut servers) = (0_u32, 0_usize, 0_usize);
        for (slot, task) in self.slots.as_ref().iter().zip(0_u32..) {
            if slot.phase == Phase::Free {
                continue;
            }
            tasks = tasks.saturating_add(1);
            match slot.kind {
                Kind::Level => {
                    ready = ready.saturating_add(usize::from(slot.phase == Phase::Ready));
                }
                Kind::Deadline(index) => {
                    servers = servers.saturating_add(1);
                    let owner = self.servers.get(index).map(|reservation| reservation.task);
                    invariant!(owner == Some(task), "server {index} is not of task {task}");
                    let (funded, throttled) = self.servers.sets(index);
                    let is_ready = slot.phase == Phase::Ready;
                    invariant!((funded || throttled) == is_ready, "task {task}: server not queued");
                }
            }
        }
        invariant!(listed == ready, "{ready} tasks are ready, {listed} are listed");
        let len = self.len;
        invariant!(tasks == len, "{tasks} tasks, {len} counted");
        let reserved = (0..=u8::MAX).filter(|index| self.servers.get(*index).is_some()).count();
        invariant!(servers == reserved, "{servers} deadline tasks with {reserved} servers");
        Ok(())
    }

    /// Follows the list of a level. Its length.
    fn check_list(&self, level: Level) -> Result<usize, Epitaph> {
        let number = level.number();
        let slots = self.slots.as_ref();
        let (first, last, rank_ns) = self.lists.ends(level);
        let marked = self.lists.occupied() & level.bit() != 0;
        invariant!(marked == (first != NONE), "level {number}: the set of levels is wrong");
        let (mut at, mut before, mut came_ns, mut length) = (first, NONE, 0, 0_usize);
        while at != NONE {
            let Some(slot) = usize::try_from(at).ok().and_then(|index| slots.get(index)) else {
                invariant!(false, "level {number}: no task {at}");
                break;
            };
            let listed = slot.phase == Phase::Ready && slot.kind == Kind::Level;
            invariant!(listed && slot.level == level, "level {number}: task {at} is not of it");
            let (its_before, behind) = slot.neighbours();
            let linked = before == NONE || its_before == before;
            invariant!(linked, "level {number}: broken before {at}");
            let is_late = self.lists.is_better_off_at_own(slot, self.now_ns);
            invariant!(!is_late, "task {at} is below its own level");
            let is_ranked = before != NONE || self.lists.rank_ns(slot) == rank_ns;
            invariant!(is_ranked, "level {number}: the head's rank is wrong");
            let in_order = came_ns <= slot.since_ns && slot.since_ns <= self.now_ns;
            invariant!(in_order, "level {number}: task {at} out of order");
            length = length.saturating_add(1);
            invariant!(length <= slots.len(), "level {number}: circle at {at}");
            (before, came_ns, at) = (at, slot.since_ns, behind);
        }
        invariant!(before == last, "level {number}: wrong end");
        invariant!(marked || rank_ns == u64::MAX, "level {number}: empty, and ranked");
        Ok(length)
    }
}
