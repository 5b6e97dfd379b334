//! Of the scheduler: who is ready since when, searched anew for each pick; and what each task of the
//! deadline class has used.

use duende_core::sched::{Class, Level, Outcome, Pick};
use duende_core::time::Instant;
use duende_world::{DAEMONS, Input, Seen, Step};

use super::Oracle;
use crate::failure::{Failure, hold};

const AGING_NS: u64 = 5_000_000;
const MS: u64 = 1_000_000;
/// What the world gives its tasks of the deadline class.
const DEADLINE_TASKS: [u32; 2] = [6, 7];
const BUDGET_NS: u64 = 2 * MS;
const PERIOD_NS: u64 = 10 * MS;
/// The least that a turn of theirs is charged.
const CHARGE_NS_MIN: u64 = 1_000;
/// The share of each of them.
const SHARE_PPM: u64 = 200_000;

/// The level of each task that is of no deadline class.
fn level_of(task: u32) -> u64 {
    const LEVELS: [u64; DAEMONS] = [0, 1, 2, 4, 4, 7, 0, 0];
    usize::try_from(task).ok().and_then(|task| LEVELS.get(task)).copied().unwrap_or(0)
}

/// A task of the levels that is ready.
#[derive(Clone, Copy, Debug)]
struct Ready {
    task: u32,
    level: u64,
    since: u64,
    /// Tells who came first of those of the same instant.
    order: u64,
    /// Since when it waits, at whatever level.
    ready_at: u64,
}

impl Ready {
    const fn rank(&self) -> (u64, u64, u64) {
        (self.since.saturating_add(self.level * AGING_NS), self.level, self.order)
    }
}

/// All tasks.
#[derive(Debug)]
pub(super) struct Tasks {
    now: Instant,
    /// The latest instant that the scheduler was told.
    heard: u64,
    /// The same, but at least as long as all turns of the deadline class took.
    passed: u64,
    added: [bool; DAEMONS],
    inherited: [Option<u64>; DAEMONS],
    ready: Vec<Ready>,
    /// The tasks of the deadline class that are ready.
    with_deadlines: Vec<u32>,
    order: u64,
    /// Since when a task was picked whenever there was one.
    busy_since: u64,
    picked: Option<Pick>,
    /// The turns of the deadline class: when each ended, and what it used.
    turns: [Vec<(u64, u64)>; 2],
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            now: Instant::ZERO,
            heard: 0,
            passed: 0,
            added: [false; DAEMONS],
            inherited: [None; DAEMONS],
            ready: Vec::new(),
            with_deadlines: Vec::new(),
            order: 0,
            busy_since: 0,
            picked: None,
            turns: Default::default(),
        }
    }
}

impl Tasks {
    fn is_added(&self, task: u32) -> bool {
        usize::try_from(task).is_ok_and(|task| self.added.get(task) == Some(&true))
    }

    fn effective(&self, task: u32) -> u64 {
        let own = level_of(task);
        let inherited = usize::try_from(task).ok().and_then(|task| self.inherited.get(task));
        inherited.copied().flatten().map_or(own, |level| level.min(own))
    }

    fn hear(&mut self) -> u64 {
        self.heard = self.heard.max(self.now.as_ns());
        self.heard
    }

    fn is_ready(&self, task: u32) -> bool {
        self.with_deadlines.contains(&task) || self.ready.iter().any(|ready| ready.task == task)
    }

    /// A task is ready no more.
    fn forget(&mut self, task: u32) {
        self.ready.retain(|ready| ready.task != task);
        self.with_deadlines.retain(|ready| *ready != task);
    }

    fn enqueue(&mut self, task: u32) {
        if self.is_ready(task) {
            return;
        }
        if DEADLINE_TASKS.contains(&task) {
            self.hear();
            self.with_deadlines.push(task);
            return;
        }
        let (since, level) = (self.hear(), self.effective(task));
        self.order += 1;
        self.ready.push(Ready { task, level, since, order: self.order, ready_at: since });
    }

    /// The longest that a task waits, as `sched` states it.
    fn waiting_max(&self, level: u64) -> u64 {
        let tasks = self.added.iter().map(|added| u64::from(*added)).sum::<u64>();
        let servers =
            DEADLINE_TASKS.iter().map(|task| u64::from(self.is_added(*task))).sum::<u64>();
        let alone =
            8 * MS + level * AGING_NS + (tasks - 1) * (level + 1) * MS + 2 * servers * BUDGET_NS;
        (alone * 1_000_000).div_ceil(1_000_000 - servers * SHARE_PPM)
    }

    fn picked(&mut self, pick: Option<Pick>) -> Result<(), Failure> {
        let heard = self.hear();
        for ready in &self.ready {
            // Its own level: what it inherited on the way made it no later.
            let (level, since) = (level_of(ready.task), ready.ready_at.max(self.busy_since));
            let (waited, bound) = (heard.saturating_sub(since), self.waiting_max(level));
            hold!(
                waited <= bound,
                "scheduler: a ready task runs within the stated bound",
                "task {} has waited for {waited} of {bound} ns",
                ready.task
            );
        }
        self.picked = pick;
        let first = self.ready.iter().min_by_key(|ready| ready.rank()).map(|ready| ready.task);
        let served = self.ready.iter().map(|ready| ready.level).min();
        let Some(pick) = pick else {
            hold!(first.is_none(), "scheduler: the processor is not idle", "{first:?} is ready");
            self.busy_since = u64::MAX;
            return Ok(());
        };
        match pick.class {
            Class::Deadline(_) => {
                hold!(
                    self.with_deadlines.contains(&pick.task),
                    "scheduler: who was admitted and is ready has a deadline",
                    "{pick:?}"
                );
                self.forget(pick.task);
            }
            Class::Level(level) => {
                let expected = (first, served);
                let found = (Some(pick.task), Some(u64::from(Level::number(level))));
                hold!(
                    found == expected,
                    "scheduler: the earliest rank goes first",
                    "{found:?} instead of {expected:?} of {:?}",
                    self.ready
                );
                self.forget(pick.task);
            }
        }
        Ok(())
    }

    fn ran(&mut self, task: u32, used_ns: u64, outcome: Outcome) -> Result<(), Failure> {
        let Some(pick) = self.picked.take() else {
            return Err(Failure::new("scheduler: ran what was not picked", format!("{task}")));
        };
        hold!(used_ns <= pick.run_for_ns, "scheduler: a turn has its length", "{used_ns}");
        self.now = self.now.saturating_add(std::time::Duration::from_nanos(used_ns));
        let server = DEADLINE_TASKS.iter().position(|of| *of == task);
        if let Some(turns) = server.and_then(|server| self.turns.get_mut(server)) {
            // Time does not run backwards, and while the clock stands still a turn takes its time too.
            self.heard = self.heard.max(self.now.as_ns());
            let charged = used_ns.max(CHARGE_NS_MIN);
            self.passed = self.passed.saturating_add(charged).max(self.heard);
            let heard = self.passed;
            turns.push((heard, charged));
            if turns.len() > 64 {
                turns.remove(0);
            }
            let mut used = 0;
            for (index, (ended, turn)) in turns.iter().enumerate().rev() {
                used += turn;
                let window = heard - ended + turn;
                // (Q / P)·w + 2·Q·(1 − Q / P), and what a turn is charged too much.
                let bound = u128::from(window) * u128::from(BUDGET_NS) / u128::from(PERIOD_NS)
                    + 2 * u128::from(BUDGET_NS) * u128::from(PERIOD_NS - BUDGET_NS)
                        / u128::from(PERIOD_NS)
                    + u128::from(CHARGE_NS_MIN) * 64;
                hold!(
                    u128::from(used) <= bound,
                    "scheduler: a task of the deadline class keeps to its bandwidth",
                    "task {task} used {used} of {bound} ns in {window}, {index}"
                );
            }
        }
        if outcome == Outcome::Again {
            self.enqueue(task);
        }
        Ok(())
    }
}

impl Oracle for Tasks {
    fn step(&mut self, now: Instant, step: &Step) {
        self.now = now;
        if step.elapsed_ns != 0 || !matches!(step.input, Input::Run { .. }) {
            // The processor may have been idle.
            self.busy_since = u64::MAX;
        }
        if matches!(step.input, Input::Run { .. }) && self.busy_since == u64::MAX {
            self.busy_since = self.hear();
        }
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Failure> {
        match *seen {
            Seen::TaskAdded { task, added } => {
                hold!(added.is_ok(), "scheduler: there is a place for each task", "{added:?}");
                if let Some(place) = usize::try_from(task).ok().and_then(|t| self.added.get_mut(t))
                {
                    *place = true;
                }
            }
            Seen::TaskReady(task) => self.enqueue(task),
            Seen::TaskHeld(task) => self.forget(task),
            Seen::TaskRemoved { task, removed } => {
                let known = self.is_added(task);
                hold!(removed == known, "scheduler: who is a task is known", "{task}: {removed}");
                self.forget(task);
                if let Ok(task) = usize::try_from(task) {
                    (self.added[task], self.inherited[task]) = (false, None);
                }
                // Another server counts from its own beginning.
                if let Some(server) = DEADLINE_TASKS.iter().position(|of| *of == task) {
                    self.turns[server].clear();
                }
            }
            Seen::TaskInherits { task, level } => {
                let heard = if level.is_some() { self.hear() } else { self.heard };
                if let Ok(task) = usize::try_from(task) {
                    self.inherited[task] = level.map(|level| u64::from(level.number()));
                }
                let effective = self.effective(task);
                self.order += 1;
                let order = self.order;
                if level.is_some()
                    && let Some(ready) = self.ready.iter_mut().find(|ready| ready.task == task)
                    && effective < ready.level
                    && heard.saturating_add(effective * AGING_NS) <= ready.rank().0
                {
                    (ready.level, ready.since, ready.order) = (effective, heard, order);
                }
            }
            Seen::Picked(pick) => self.picked(pick)?,
            Seen::Ran { task, used_ns, outcome } => self.ran(task, used_ns, outcome)?,
            _ => {}
        }
        Ok(())
    }
}
