//! Which slices may be open at once, and who goes when there are too many.
//!
//! Rules:
//! 1. At most [`OPEN_SLICES_MAX`] slices are open. A slice is opened only if a place is left then for each
//!    level that is more urgent and has no slice open, and one for a question of health, if none is open: so
//!    whoever is less urgent, however many they are, can't keep a more urgent one from its slice, nor the
//!    manager from an answer.
//! 2. Who finds no place is *held back*: it is not the scheduler's until a slice is over. The most urgent
//!    goes first then, and within a level whoever has waited longest.
//! 3. While somebody is held back, the slice that has been open longest goes before all others that are not
//!    more urgent, so that there is a place soon. Health questions that are open go on too.
//! 4. A question of health is asked at the most urgent level, until it is answered: a daemon is not taken for
//!    one that hangs because others of its level are busy.
//!
//! Invariant: a process that is runnable is the scheduler's or held back, not both.

use alloc::{collections::BTreeSet, vec::Vec};
use core::mem;

use duende_core::{
    epitaph::Epitaph,
    sched::{self, LEVELS, Level, Pick},
    time::Instant,
};

use super::Kernel;
use crate::{
    executor::{Call, Executor},
    limits::OPEN_SLICES_MAX,
    process::{Phase, Process},
};

/// What a process has of a place for its next slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing: it takes one when it is picked, if there is one.
    #[default]
    None,
    /// It waits for one.
    HeldBack,
    /// One is kept for it until it is picked.
    Kept,
}

/// Who waits for a place, and how many places are kept for those who have waited.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By level and by how long they wait: rows that are held back.
    waiting: BTreeSet<(u8, u64, u32)>,
    /// Rows that have waited, and have a place now.
    kept: Vec<u32>,
    /// Numbers those who wait.
    next: u64,
}

/// What becomes of a process that was picked.
enum Turn {
    /// It runs.
    Goes,
    /// It lets the oldest slice run.
    Yields,
    /// It finds no place.
    IsHeldBack,
}

impl<E: Executor> Kernel<E> {
    /// The row that runs next, and for how long.
    pub(super) fn pick(&mut self, now_ns: u64) -> Option<Pick> {
        let now = Instant::from_ns(now_ns);
        self.keep_places(now);
        // Each that is ready yields or is held back at most once before the oldest slice comes.
        for _ in 0..=self.table.rows_max().saturating_mul(2) {
            let pick = self.scheduler.pick(now)?;
            let outcome = match self.turn_of(pick.task) {
                Turn::Goes => return Some(pick),
                Turn::Yields => sched::Outcome::Again,
                Turn::IsHeldBack => {
                    self.hold_back(pick.task);
                    sched::Outcome::Waits
                }
            };
            if let Err(error) = self.scheduler.ran(pick.task, now, 0, outcome) {
                self.halt(Epitaph::new(format_args!("{error}")));
                return None;
            }
        }
        self.halt(Epitaph::new(format_args!("the oldest open slice is not ready")));
        None
    }

    fn turn_of(&self, row: u32) -> Turn {
        let is_plenty = self.free() > LEVELS as usize;
        if is_plenty && self.places.waiting.is_empty() {
            return Turn::Goes;
        }
        let Some(process) = self.table.get(row) else { return Turn::Goes };
        if let Phase::Open { call, .. } = &process.phase {
            let oldest = self.open.front().filter(|oldest| **oldest != row);
            let oldest = oldest.and_then(|oldest| self.table.get(*oldest));
            let yields = !self.places.waiting.is_empty()
                && *call != Call::HealthCheck
                && oldest.is_some_and(|oldest| !process.level.is_more_urgent_than(oldest.level));
            return if yields { Turn::Yields } else { Turn::Goes };
        }
        let finds_one = process.place == Place::Kept
            || if process.is_asked_for_health() {
                self.free() > 0
            } else {
                self.has_place_for(process.level)
            };
        if finds_one { Turn::Goes } else { Turn::IsHeldBack }
    }

    /// Places that nobody has, and that are kept for no one.
    fn free(&self) -> usize {
        OPEN_SLICES_MAX.saturating_sub(self.open.len().saturating_add(self.places.kept.len()))
    }

    /// Whether a slice of this level may be opened: see rule 1.
    fn has_place_for(&self, level: Level) -> bool {
        let free = self.free();
        let more_urgent = usize::from(level.number());
        if free > more_urgent + 1 {
            return true;
        }
        let mut has_health = false;
        let mut has_open = [false; LEVELS as usize];
        for row in self.open.iter().chain(&self.places.kept) {
            let Some(process) = self.table.get(*row) else { continue };
            if let Phase::Open { call: Call::HealthCheck, .. } = process.phase {
                has_health = true;
            } else if let Some(has) = has_open.get_mut(usize::from(process.level.number())) {
                *has = true;
            }
        }
        let without = has_open.iter().take(more_urgent).filter(|has| !**has).count();
        free > without + usize::from(!has_health)
    }

    /// Keeps the places that are free for those who wait for them.
    fn keep_places(&mut self, now: Instant) {
        while let Some(&(level, number, row)) = self.places.waiting.first()
            && let Some(level) = Level::new(level)
            && self.has_place_for(level)
        {
            self.places.waiting.remove(&(level.number(), number, row));
            self.places.kept.push(row);
            if let Some(process) = self.table.get_mut(row) {
                process.place = Place::Kept;
            }
            if let Err(error) = self.scheduler.ready(row, now) {
                self.halt(Epitaph::new(format_args!("{error}")));
            }
        }
    }

    fn hold_back(&mut self, row: u32) {
        self.give_place_up(row);
        let Some(process) = self.table.get_mut(row) else { return };
        process.place = Place::HeldBack;
        let number = *process.held_back_since.get_or_insert_with(|| {
            self.places.next = self.places.next.saturating_add(1);
            self.places.next
        });
        self.places.waiting.insert((process.level.number(), number, row));
    }

    /// A process waits no more, and nothing is kept for it: it opens a slice, ends, or is held still.
    pub(super) fn give_place_up(&mut self, row: u32) {
        let Some(process) = self.table.get_mut(row) else { return };
        match mem::take(&mut process.place) {
            Place::None => {}
            Place::HeldBack => {
                if let Some(number) = process.held_back_since {
                    self.places.waiting.remove(&(process.level.number(), number, row));
                }
            }
            Place::Kept => self.places.kept.retain(|kept| *kept != row),
        }
    }

    /// A process opens a slice.
    pub(super) fn take_place(&mut self, row: u32, call: Call) {
        self.give_place_up(row);
        if let Some(process) = self.table.get_mut(row)
            && call != Call::HealthCheck
        {
            process.held_back_since = None;
        }
    }

    /// A process was asked for its health: it goes ahead.
    pub(super) fn hurry(&mut self, row: u32) {
        if !self.table.get(row).is_some_and(Process::is_asked_for_health) {
            return;
        }
        self.give_place_up(row);
        self.enqueue(row);
        let now = Instant::from_ns(self.shared.machine.monotonic_ns());
        if let Err(error) = self.scheduler.inherit(row, now, Level::MOST_URGENT) {
            self.halt(Epitaph::new(format_args!("{error}")));
        }
    }

    /// A process has answered all questions of its health.
    pub(super) fn hurry_no_more(&mut self, row: u32) {
        // A task that is not the scheduler's has ended.
        let _ = self.scheduler.disinherit(row);
    }

    /// Whether a row waits for a place.
    pub(super) fn is_held_back(&self, row: u32) -> bool {
        self.table.get(row).is_some_and(|process| process.place == Place::HeldBack)
    }
}
