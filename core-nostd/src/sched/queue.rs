//! The ready tasks of the eight levels: a list each, whose links lie in the tasks' own slots.
//!
//! Rules:
//! 1. A list is first in, first out. Its tasks stand in the order in which they came, so the head has
//!    waited longest and has the earliest rank (`aging`): who looks for that looks at the heads alone.
//! 2. Putting in, taking out from anywhere and taking the first touch the task and its neighbours,
//!    whatever the number of tasks. A slot is 24 bytes: 100,000 of them are 2.3 MiB.
//! 3. The heads' ranks, which each pick compares, lie beside the lists, not in the heads' slots.

use super::aging::Handicaps;
use super::{LEVELS, Level};
use crate::planted::{self, Plant};

/// No task. So the storage's last possible number is never one.
pub(super) const NONE: u32 = u32::MAX;

/// The rank of the head of an empty list: none is later.
const NOBODY_NS: u64 = u64::MAX;

/// A place for one task in a scheduler's storage.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// When the task came to the end of its list.
    pub(super) since_ns: u64,
    /// Means nothing in the first of a list: taking the first then writes to no neighbour.
    before: u32,
    behind: u32,
    pub(super) base: Level,
    pub(super) inherited: Option<Level>,
    /// The level in whose list it is, or was picked from.
    pub(super) level: Level,
    pub(super) phase: Phase,
    pub(super) kind: Kind,
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is none in this slot.
    Free,
    /// It waits for something to happen.
    Waits,
    /// It waits for the processor.
    Ready,
    /// It was picked. What happened to it since then makes it ready again at once.
    Picked { woken: bool },
}

/// By which rules a task is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// By its level.
    Level,
    /// By the deadline of the server with this index.
    Deadline(u8),
}

impl Slot {
    /// A place without a task.
    pub const EMPTY: Self = Self {
        since_ns: 0,
        before: NONE,
        behind: NONE,
        base: Level::LEAST_URGENT,
        inherited: None,
        level: Level::LEAST_URGENT,
        phase: Phase::Free,
        kind: Kind::Level,
    };

    /// A task that waits.
    pub(super) const fn of(base: Level, kind: Kind) -> Self {
        Self { base, level: base, phase: Phase::Waits, kind, ..Self::EMPTY }
    }

    /// The level to which it goes when it gets ready.
    pub(super) fn effective(&self) -> Level {
        self.inherited.map_or(self.base, |inherited| self.base.or_more_urgent(inherited))
    }

    /// For who follows the lists.
    pub(super) const fn neighbours(&self) -> (u32, u32) {
        (self.before, self.behind)
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// The slot of a task.
#[inline]
pub(super) fn slot_mut(slots: &mut [Slot], task: u32) -> Option<&mut Slot> {
    slots.get_mut(usize::try_from(task).ok()?)
}

/// The ends of the eight lists.
#[derive(Clone, Debug)]
pub(super) struct Lists {
    first: [u32; LEVELS as usize],
    last: [u32; LEVELS as usize],
    /// The rank of the first of each list.
    rank_ns: [u64; LEVELS as usize],
    handicaps: Handicaps,
    /// Bit n is set if level n has a task.
    occupied: u8,
}

impl Lists {
    /// Eight lists without a task.
    pub(super) const fn new(handicaps: Handicaps) -> Self {
        Self {
            first: [NONE; LEVELS as usize],
            last: [NONE; LEVELS as usize],
            rank_ns: [NOBODY_NS; LEVELS as usize],
            handicaps,
            occupied: 0,
        }
    }

    /// The set of levels that have a task, by [`Level::bit`].
    #[inline]
    pub(super) const fn occupied(&self) -> u8 {
        self.occupied
    }

    /// The most urgent level that has a task.
    #[inline]
    pub(super) fn most_urgent(&self) -> Option<Level> {
        // With no bit set this is 8, which is no level.
        u8::try_from(self.occupied.trailing_zeros()).ok().and_then(Level::new)
    }

    /// The level whose head has the earliest rank; of two the more urgent one. `served` is the most
    /// urgent level that has a task.
    #[inline]
    pub(super) fn earliest(&self, served: Level) -> Level {
        if self.occupied == served.bit() {
            return served;
        }
        // A tree of comparisons without branches: the heads' order is not to be predicted.
        let [zero, one, two, three, four, five, six, seven] = Level::ALL;
        let head = |level: Level| (self.rank_ns[level.index()], level);
        let first = |more: (u64, Level), less: (u64, Level)| {
            if less.0 < more.0 { less } else { more }
        };
        let upper = first(first(head(zero), head(one)), first(head(two), head(three)));
        let seven = if planted::is(Plant::SchedulerAging) { six } else { seven };
        let lower = first(first(head(four), head(five)), first(head(six), head(seven)));
        let (rank_ns, level) = first(upper, lower);
        // Where no rank can be counted, they are the same for all that have a task and for none.
        if rank_ns == NOBODY_NS { served } else { level }
    }

    /// The rank of a task that is in a list, or was.
    pub(super) const fn rank_ns(&self, slot: &Slot) -> u64 {
        self.handicaps.rank_ns(slot.level, slot.since_ns)
    }

    /// Whether a task would go no later if it came to its own level now than where it is, or was.
    pub(super) fn is_better_off_at_own(&self, slot: &Slot, now_ns: u64) -> bool {
        let own = slot.effective();
        own.is_more_urgent_than(slot.level)
            && self.handicaps.rank_ns(own, now_ns) <= self.rank_ns(slot)
    }

    /// The ends of a level's list, and the rank of its first: for who follows the lists.
    pub(super) const fn ends(&self, level: Level) -> (u32, u32, u64) {
        let index = level.index();
        (self.first[index], self.last[index], self.rank_ns[index])
    }

    /// Puts a task at the end of a level.
    #[inline]
    pub(super) fn push_back(&mut self, slots: &mut [Slot], task: u32, level: Level, now_ns: u64) {
        let index = level.index();
        let last = self.last[index];
        let Some(slot) = slot_mut(slots, task) else { return };
        slot.since_ns = now_ns;
        slot.level = level;
        slot.before = last;
        slot.behind = NONE;
        if let Some(before) = slot_mut(slots, last) {
            before.behind = task;
        } else {
            self.first[index] = task;
            self.rank_ns[index] = self.handicaps.rank_ns(level, now_ns);
            self.occupied |= level.bit();
        }
        self.last[index] = task;
    }

    /// Puts a task that was taken from the front of its level back there. It has waited as long as
    /// before, and no shorter than those behind it.
    pub(super) fn push_front(&mut self, slots: &mut [Slot], task: u32) {
        let Some(&mut Slot { level, since_ns, .. }) = slot_mut(slots, task) else { return };
        let index = level.index();
        let first = self.first[index];
        let since_ns = if let Some(behind) = slot_mut(slots, first) {
            behind.before = task;
            since_ns.min(behind.since_ns)
        } else {
            self.last[index] = task;
            self.occupied |= level.bit();
            since_ns
        };
        if let Some(slot) = slot_mut(slots, task) {
            slot.since_ns = since_ns;
            slot.before = NONE;
            slot.behind = first;
        }
        self.first[index] = task;
        self.rank_ns[index] = self.handicaps.rank_ns(level, since_ns);
    }

    /// Takes the first of a level.
    #[inline]
    pub(super) fn pop(&mut self, slots: &mut [Slot], level: Level) -> Option<u32> {
        let index = level.index();
        let task = self.first[index];
        let behind = slot_mut(slots, task)?.behind;
        self.first[index] = behind;
        if let Some(head) = slot_mut(slots, behind) {
            self.rank_ns[index] = self.handicaps.rank_ns(level, head.since_ns);
        } else {
            self.last[index] = NONE;
            self.rank_ns[index] = NOBODY_NS;
            self.occupied &= !level.bit();
        }
        Some(task)
    }

    /// Takes a task that is in a list out of it, wherever it stands.
    pub(super) fn unlink(&mut self, slots: &mut [Slot], task: u32) {
        let Some(&mut Slot { level, before, behind, .. }) = slot_mut(slots, task) else { return };
        let index = level.index();
        if self.first[index] == task {
            self.pop(slots, level);
            return;
        }
        if let Some(slot) = slot_mut(slots, before) {
            slot.behind = behind;
        }
        if let Some(slot) = slot_mut(slots, behind) {
            slot.before = before;
        } else {
            self.last[index] = before;
        }
    }
}
