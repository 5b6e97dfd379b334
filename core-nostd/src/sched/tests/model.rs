//! The model: one queue per level, each of whose entries knows since when it waits, and a list of
//! servers that is searched; time in `i128`, periods counted one by one.

use std::collections::{BTreeMap, VecDeque};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Does {
    Waits,
    Ready,
    Picked { woken: bool },
}

#[derive(Clone, Debug)]
pub(super) struct Task {
    base: u8,
    inherited: Option<u8>,
    pub(super) does: Does,
    server: Option<Account>,
    /// Since when it waited when it was picked, and where.
    since: u64,
    level: u8,
}

#[derive(Clone, Debug)]
struct Account {
    budget: i128,
    period: i128,
    /// Can be below zero: what was used in advance.
    left: i128,
    deadline: i128,
    /// In the order in which servers are searched.
    place: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) tasks: BTreeMap<u32, Task>,
    levels: [VecDeque<(u32, u64)>; 8],
    capacity: u32,
    servers: usize,
    rules: Rules,
    now: u64,
}

impl Task {
    fn new(base: u8, server: Option<Account>) -> Self {
        Self { base, inherited: None, does: Does::Waits, server, since: 0, level: 0 }
    }

    fn own(&self) -> u8 {
        self.base.min(self.inherited.unwrap_or(7))
    }
}

impl Account {
    fn is_fit(&self, now: i128) -> bool {
        self.deadline > now && self.left * self.period <= self.budget * (self.deadline - now)
    }

    fn refill(&mut self, now: i128) {
        if self.left > 0 || self.deadline > now {
            return;
        }
        // What was used in advance is paid back, a period at a time.
        while self.left + self.budget <= 0 {
            self.left += self.budget;
            self.deadline += self.period;
            if self.deadline > now {
                return;
            }
        }
        self.left += self.budget;
        self.deadline += self.period;
        if self.deadline <= now {
            self.deadline = now + self.period;
        }
    }
}

impl Model {
    pub(super) fn new(capacity: u32, servers: usize, rules: Rules) -> Self {
        let (tasks, levels) = (BTreeMap::new(), Default::default());
        Self { tasks, levels, capacity, servers, rules, now: 0 }
    }

    fn clock(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    fn time(&self) -> i128 {
        i128::from(self.now)
    }

    fn check_free(&self, task: u32) -> Result<(), AddError> {
        if task >= self.capacity {
            let capacity = usize::try_from(self.capacity).unwrap();
            Err(AddError::NoSuchSlot { task, capacity })
        } else if self.tasks.contains_key(&task) {
            Err(AddError::AlreadyAdded { task })
        } else {
            Ok(())
        }
    }

    pub(super) fn add(&mut self, task: u32, base: u8) -> Result<(), AddError> {
        self.check_free(task)?;
        self.tasks.insert(task, Task::new(base, None));
        Ok(())
    }

    pub(super) fn add_deadline(
        &mut self,
        task: u32,
        budget_ns: u64,
        period_ns: u64,
    ) -> Result<(), AddError> {
        self.check_free(task)?;
        let (budget, period) = (i128::from(budget_ns), i128::from(period_ns));
        if budget == 0 {
            return Err(AddError::BudgetIsZero);
        }
        if period_ns < PERIOD_NS_MIN {
            return Err(AddError::PeriodTooShort { period_ns });
        }
        if budget > period {
            return Err(AddError::BudgetOverPeriod { budget_ns, period_ns });
        }
        let share = |budget: i128, period: i128| (budget * 1_000_000 + period - 1) / period;
        let servers = || self.tasks.values().filter_map(|task| task.server.as_ref());
        let taken: i128 = servers().map(|server| share(server.budget, server.period)).sum();
        let left = i128::from(self.rules.deadline_share_max.ppm()) - taken;
        if share(budget, period) > left {
            return Err(AddError::Overcommitted {
                share_ppm: u32::try_from(share(budget, period)).unwrap(),
                left_ppm: u32::try_from(left).unwrap(),
            });
        }
        let is_free = |place: &usize| servers().all(|server| server.place != *place);
        let Some(place) = (0..self.servers).find(is_free) else {
            return Err(AddError::ServersFull { capacity: self.servers });
        };
        let server = Some(Account { budget, period, left: budget, deadline: 0, place });
        self.tasks.insert(task, Task::new(0, server));
        Ok(())
    }

    pub(super) fn remove(&mut self, task: u32) -> bool {
        self.unlist(task);
        self.tasks.remove(&task).is_some()
    }

    fn unlist(&mut self, task: u32) {
        for tasks in &mut self.levels {
            tasks.retain(|(other, _)| *other != task);
        }
    }

    fn push(&mut self, task: u32, level: u8) {
        self.unlist(task);
        self.levels[usize::from(level)].push_back((task, self.now));
    }

    fn enqueue(&mut self, number: u32, has_waited: bool) {
        let now = self.time();
        let task = self.tasks.get_mut(&number).unwrap();
        task.does = Does::Ready;
        let own = task.own();
        match &mut task.server {
            None => self.push(number, own),
            Some(server) => {
                server.refill(now);
                if has_waited && server.left > 0 && !server.is_fit(now) {
                    server.left = server.budget;
                    server.deadline = now + server.period;
                }
            }
        }
    }

    pub(super) fn ready(&mut self, task: u32, now: u64) -> Result<(), UnknownTask> {
        let does = &mut self.tasks.get_mut(&task).ok_or(UnknownTask(task))?.does;
        match does {
            Does::Picked { woken } => *woken = true,
            Does::Ready => {}
            Does::Waits => {
                self.clock(now);
                self.enqueue(task, true);
            }
        }
        Ok(())
    }

    pub(super) fn unready(&mut self, task: u32) -> Result<(), UnknownTask> {
        let does = &mut self.tasks.get_mut(&task).ok_or(UnknownTask(task))?.does;
        match does {
            Does::Picked { woken } => *woken = false,
            Does::Ready | Does::Waits => *does = Does::Waits,
        }
        self.unlist(task);
        Ok(())
    }

    pub(super) fn set_base(&mut self, task: u32, now: u64, base: u8) -> Result<(), UnknownTask> {
        self.tasks.get_mut(&task).ok_or(UnknownTask(task))?.base = base;
        self.raise(task, now);
        Ok(())
    }

    pub(super) fn inherit(
        &mut self,
        task: u32,
        now: u64,
        level: Option<u8>,
    ) -> Result<(), UnknownTask> {
        self.tasks.get_mut(&task).ok_or(UnknownTask(task))?.inherited = level;
        if level.is_some() {
            self.raise(task, now);
        }
        Ok(())
    }

    fn raise(&mut self, task: u32, now: u64) {
        self.clock(now);
        let own = self.tasks[&task].own();
        let Some(level) = self.level_of(task) else { return };
        let mut waits = self.levels[usize::from(level)].iter();
        let since = waits.find(|(other, _)| *other == task).unwrap().1;
        if own < level && self.rank(own, self.now) <= self.rank(level, since) {
            self.push(task, own);
        }
    }

    /// The level at which a ready task of the levels stands.
    pub(super) fn level_of(&self, task: u32) -> Option<u8> {
        let levels = self.levels.iter().zip(0..);
        let mut of = levels.filter(|(tasks, _)| tasks.iter().any(|(other, _)| *other == task));
        of.next().map(|(_, level)| level)
    }

    /// The ready server with budget that goes first.
    fn earliest(&self) -> Option<u32> {
        let servers = self.tasks.iter().filter_map(|(number, task)| {
            let server = task.server.as_ref()?;
            let runs = task.does == Does::Ready && server.left > 0;
            runs.then_some((server.deadline, server.place, *number))
        });
        Some(servers.min()?.2)
    }

    /// When the first ready server without budget gets it.
    pub(super) fn next_refill(&self) -> Option<u64> {
        let servers = self.tasks.values().filter(|task| task.does == Does::Ready);
        let spent = servers.filter_map(|task| task.server.as_ref().filter(|of| of.left <= 0));
        let refills = spent.map(|server| {
            let (mut left, mut until) = (server.left, server.deadline);
            while left + server.budget <= 0 {
                left += server.budget;
                until += server.period;
            }
            u64::try_from(until).unwrap()
        });
        refills.min()
    }

    fn refill(&mut self) {
        let now = self.time();
        for task in self.tasks.values_mut().filter(|task| task.does == Does::Ready) {
            if let Some(server) = &mut task.server {
                server.refill(now);
            }
        }
    }

    pub(super) fn pick(&mut self, now: u64) -> Option<Pick> {
        self.clock(now);
        self.refill();
        if let Some(task) = self.earliest() {
            return Some(self.take(task));
        }
        // All tasks are looked at, not the heads alone.
        let rank = |level, since| self.rank(level, since);
        let waiting = self.levels.iter().zip(0_u8..).flat_map(|(tasks, level)| {
            let tasks = tasks.iter().enumerate();
            tasks.map(move |(place, (task, since))| (rank(level, *since), level, place, *task))
        });
        let (.., task) = waiting.min()?;
        Some(self.take(task))
    }

    fn rank(&self, level: u8, since: u64) -> u128 {
        u128::from(since) + u128::from(level) * u128::from(self.rules.aging_ns)
    }

    pub(super) fn pick_task(&mut self, task: u32, now: u64) -> Option<Pick> {
        self.clock(now);
        self.refill();
        let of = self.tasks.get(&task).filter(|of| of.does == Does::Ready)?;
        if of.server.as_ref().is_some_and(|server| server.left <= 0) {
            return None;
        }
        Some(self.take(task))
    }

    fn take(&mut self, task: u32) -> Pick {
        let served = self.levels.iter().position(|tasks| !tasks.is_empty());
        let waits = self.levels.iter().flatten().find(|(other, _)| *other == task);
        let since = waits.map_or(0, |(_, since)| *since);
        let stood = self.level_of(task);
        self.unlist(task);
        let of = self.tasks.get_mut(&task).unwrap();
        (of.since, of.level) = (since, stood.unwrap_or(0));
        of.does = Does::Picked { woken: false };
        let (class, length) = match &of.server {
            Some(server) => {
                let deadline = at(u64::try_from(server.deadline).unwrap());
                (Class::Deadline(deadline), u64::try_from(server.left).unwrap())
            }
            None => {
                let served = u8::try_from(served.unwrap()).unwrap();
                (Class::Level(level(served)), (u64::from(served) + 1) * MS)
            }
        };
        let until_refill = self.next_refill().map_or(u64::MAX, |refill| refill - self.now);
        Pick { task, class, run_for_ns: length.min(until_refill) }
    }

    pub(super) fn put_back(&mut self, pick: Pick, now: u64) -> Result<(), NotPicked> {
        self.clock(now);
        let of = self.tasks.get_mut(&pick.task).ok_or(NotPicked(pick.task))?;
        let Does::Picked { .. } = of.does else { return Err(NotPicked(pick.task)) };
        of.does = Does::Ready;
        let (own, level, since) = (of.own(), of.level, of.since);
        if let Class::Level(_) = pick.class {
            if own < level && self.rank(own, self.now) <= self.rank(level, since) {
                self.push(pick.task, own);
                return Ok(());
            }
            // Whoever comes back to the front has waited no shorter than those behind.
            let tasks = &mut self.levels[usize::from(level)];
            let since = tasks.front().map_or(since, |(_, first)| since.min(*first));
            tasks.push_front((pick.task, since));
        }
        Ok(())
    }

    pub(super) fn ran(
        &mut self,
        task: u32,
        now: u64,
        used: u64,
        outcome: Outcome,
    ) -> Result<(), NotPicked> {
        let of = self.tasks.get_mut(&task).ok_or(NotPicked(task))?;
        let Does::Picked { woken } = of.does else { return Err(NotPicked(task)) };
        of.does = Does::Waits;
        if let Some(server) = &mut of.server {
            self.now = self.now.max(now);
            server.left -= i128::from(used.max(CHARGE_NS_MIN));
            if server.left <= 0 {
                server.deadline = server.deadline.max(i128::from(self.now));
            }
        }
        if outcome == Outcome::Again || woken {
            self.clock(now);
            self.enqueue(task, outcome == Outcome::Waits);
        }
        Ok(())
    }
}
