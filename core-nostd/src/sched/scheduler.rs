//! The scheduler: both classes, and what tasks inherit, behind one `pick`.
//!
//! Rules:
//! 1. A task of the deadline class that is ready and has budget goes before any level (`deadline`).
//!    Else the first of the most urgent level that has a task goes, unless one of a less urgent level
//!    has waited so long that it goes before that (`aging`).
//! 2. A turn is at most one quantum. Whoever ends it early, of its own will or because something more
//!    urgent came, has had its turn: it goes to the end of its own level.
//! 3. A task's own level is the more urgent of its base level and the one that it inherits. While it
//!    is ready it moves to a more urgent level at once, unless it has waited so long that it goes
//!    earlier where it is; and to a less urgent one after its next turn.
//! 4. What makes a task ready while it is picked is not lost: it is ready again after its turn.
//! 5. A clock that goes back stands still.

use super::aging::Handicaps;
use super::deadline::{Earliest, Server, Servers};
use super::queue::{Kind, Lists, Phase, Slot, slot_mut};
use super::{AddError, Class, Level, NotPicked, Outcome, Pick, Rules, UnknownTask, quantum_ns};
use crate::time::Instant;

/// Decides which task runs next, on one processor or on several. A task is a number, and the index of
/// its [`Slot`]; `servers` bounds the deadline class.
///
/// ```
/// use duende_core::sched::{Class, Level, Outcome, Rules, Scheduler, Server, Slot};
/// use duende_core::time::Instant;
///
/// let slots = [Slot::EMPTY; 16];
/// let mut scheduler = Scheduler::with_servers(slots, [Server::EMPTY; 2], Rules::default());
/// scheduler.add(3, Level::default())?;
/// // A millisecond in each ten, before any level.
/// scheduler.add_deadline(7, 1_000_000, 10_000_000)?;
///
/// let mut now = Instant::ZERO;
/// scheduler.ready(3, now)?;
/// scheduler.ready(7, now)?;
/// let pick = scheduler.pick(now).ok_or("nothing to run")?;
/// assert_eq!((pick.task, pick.run_for_ns), (7, 1_000_000));
///
/// // It would like to run on, but its budget is used up.
/// now = Instant::from_ns(1_000_000);
/// scheduler.ran(7, now, 1_000_000, Outcome::Again)?;
/// let pick = scheduler.pick(now).ok_or("nothing to run")?;
/// assert_eq!((pick.task, pick.class), (3, Class::Level(Level::default())));
/// scheduler.ran(3, now, pick.run_for_ns, Outcome::Waits)?;
/// assert_eq!(scheduler.pick(now), None);
/// assert_eq!(scheduler.next_deadline(), Some(Instant::from_ns(10_000_000)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scheduler<S, D = [Server; 0]> {
    pub(super) slots: S,
    pub(super) lists: Lists,
    pub(super) servers: Servers<D>,
    pub(super) rules: Rules,
    /// The latest instant that was told.
    pub(super) now_ns: u64,
    /// How many tasks there are.
    pub(super) len: u32,
}

impl<S: AsRef<[Slot]> + AsMut<[Slot]>> Scheduler<S> {
    /// A scheduler without tasks, and without a deadline class.
    pub fn new(slots: S, rules: Rules) -> Self {
        Self::with_servers(slots, [], rules)
    }
}

impl<S, D> Scheduler<S, D>
where
    S: AsRef<[Slot]> + AsMut<[Slot]>,
    D: AsRef<[Server]> + AsMut<[Server]>,
{
    /// A scheduler without tasks. Of `servers` the first [`SERVERS_MAX`](super::SERVERS_MAX) are used.
    pub fn with_servers(mut slots: S, servers: D, rules: Rules) -> Self {
        slots.as_mut().fill(Slot::EMPTY);
        let servers = Servers::new(servers, rules.deadline_share_max);
        Self { slots, lists: Lists::new(Handicaps::new(rules)), servers, rules, now_ns: 0, len: 0 }
    }

    // Tasks.

    /// Adds a task that waits, with its base level.
    ///
    /// # Errors
    /// [`AddError::NoSuchSlot`] and [`AddError::AlreadyAdded`].
    pub fn add(&mut self, task: u32, base: Level) -> Result<(), AddError> {
        *self.free_slot(task)? = Slot::of(base, Kind::Level);
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Adds a task that waits, of the deadline class: it may run `budget_ns` in each `period_ns`.
    ///
    /// # Errors
    /// [`AddError`], when there is no place for it or what it asks for can't be kept.
    pub fn add_deadline(
        &mut self,
        task: u32,
        budget_ns: u64,
        period_ns: u64,
    ) -> Result<(), AddError> {
        self.free_slot(task)?;
        let server = self.servers.admit(task, budget_ns, period_ns)?;
        *self.free_slot(task)? = Slot::of(Level::MOST_URGENT, Kind::Deadline(server));
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Removes a task, whatever it does. Whether there was one. Its server goes with it, with what that
    /// has used: who adds the task again at once gives it a whole budget.
    pub fn remove(&mut self, task: u32) -> bool {
        let Some(&Slot { kind, .. }) = self.task(task) else { return false };
        self.unlist(task);
        if let Kind::Deadline(server) = kind {
            self.servers.release(server);
        }
        if let Some(slot) = slot_mut(self.slots.as_mut(), task) {
            *slot = Slot::EMPTY;
        }
        self.len = self.len.saturating_sub(1);
        true
    }

    /// Gives a task another base level. In the deadline class it has no effect.
    ///
    /// # Errors
    /// [`UnknownTask`], when there is none of this number.
    pub fn set_base(&mut self, task: u32, now: Instant, base: Level) -> Result<(), UnknownTask> {
        self.task_mut(task)?.base = base;
        self.raise(task, now);
        Ok(())
    }

    /// Lets a task inherit a level: that of a receiver in whose queue it holds a place. One that holds
    /// several inherits the most urgent level, and who calls this says which. What was inherited
    /// before is forgotten. In the deadline class it has no effect.
    ///
    /// # Errors
    /// [`UnknownTask`], when there is none of this number.
    pub fn inherit(&mut self, task: u32, now: Instant, level: Level) -> Result<(), UnknownTask> {
        self.task_mut(task)?.inherited = Some(level);
        self.raise(task, now);
        Ok(())
    }

    /// Ends what a task inherits.
    ///
    /// # Errors
    /// [`UnknownTask`], when there is none of this number.
    pub fn disinherit(&mut self, task: u32) -> Result<(), UnknownTask> {
        self.task_mut(task)?.inherited = None;
        Ok(())
    }

    // Turns.

    /// Something has happened that a task waits for. If it is ready already nothing changes.
    ///
    /// # Errors
    /// [`UnknownTask`], when there is none of this number.
    pub fn ready(&mut self, task: u32, now: Instant) -> Result<(), UnknownTask> {
        let slot = self.task_mut(task)?;
        match slot.phase {
            Phase::Waits => self.enqueue(task, now, true),
            Phase::Picked { .. } => slot.phase = Phase::Picked { woken: true },
            Phase::Ready | Phase::Free => {}
        }
        Ok(())
    }

    /// A task is ready no more, before it had a turn. If it is picked, that goes on, and what has made
    /// it ready since then is forgotten.
    ///
    /// # Errors
    /// [`UnknownTask`], when there is none of this number.
    pub fn unready(&mut self, task: u32) -> Result<(), UnknownTask> {
        self.task_mut(task)?;
        self.unlist(task);
        let slot = self.task_mut(task)?;
        slot.phase = match slot.phase {
            Phase::Picked { .. } => Phase::Picked { woken: false },
            Phase::Ready | Phase::Waits | Phase::Free => Phase::Waits,
        };
        Ok(())
    }

    /// The task that runs next, which is picked from now on. `None`: none is ready, or those that are
    /// have no budget before [`next_deadline`](Self::next_deadline).
    #[inline]
    pub fn pick(&mut self, now: Instant) -> Option<Pick> {
        let now_ns = self.clock(now);
        if self.servers.is_any_ready() {
            self.servers.refill(now_ns);
            if let Some(earliest) = self.servers.earliest() {
                return Some(self.take_server(earliest));
            }
        }
        let served = self.lists.most_urgent()?;
        let slots = self.slots.as_mut();
        let task = self.lists.pop(slots, self.lists.earliest(served))?;
        if let Some(slot) = slot_mut(slots, task) {
            slot.phase = Phase::Picked { woken: false };
        }
        Some(self.turn(task, served))
    }

    /// Picks this task out of its turn, if it is ready: for an owner who has only what this one needs
    /// to run. One without budget is not picked.
    pub fn pick_task(&mut self, task: u32, now: Instant) -> Option<Pick> {
        let now_ns = self.clock(now);
        self.servers.refill(now_ns);
        let &Slot { phase: Phase::Ready, kind, .. } = self.task(task)? else { return None };
        match kind {
            Kind::Deadline(server) => {
                let earliest = self.servers.ready_one(server)?;
                Some(self.take_server(earliest))
            }
            Kind::Level => {
                let served = self.lists.most_urgent()?;
                self.unlist(task);
                self.task_mut(task).ok()?.phase = Phase::Picked { woken: false };
                Some(self.turn(task, served))
            }
        }
    }

    /// Puts a task that was picked and did not run back to where it was, in front of all others of its
    /// level; or to the end of its own level, if that has become more urgent and lets it go earlier.
    ///
    /// # Errors
    /// [`NotPicked`], when it is not: it was removed since then, or has run.
    pub fn put_back(&mut self, pick: Pick, now: Instant) -> Result<(), NotPicked> {
        let now_ns = self.clock(now);
        let (_, kind) = self.end_turn(pick.task)?;
        let slots = self.slots.as_mut();
        let Some(slot) = slot_mut(slots, pick.task) else { return Ok(()) };
        slot.phase = Phase::Ready;
        let own = slot.effective();
        let is_raised = self.lists.is_better_off_at_own(slot, now_ns);
        match kind {
            Kind::Deadline(server) => self.servers.requeue(server, now_ns),
            Kind::Level if is_raised => {
                self.lists.push_back(slots, pick.task, own, now_ns);
            }
            Kind::Level => self.lists.push_front(slots, pick.task),
        }
        Ok(())
    }

    /// A picked task has run for `used_ns`, until `now`.
    ///
    /// # Errors
    /// [`NotPicked`], when it is not: it was removed since then.
    #[inline]
    pub fn ran(
        &mut self,
        task: u32,
        now: Instant,
        used_ns: u64,
        outcome: Outcome,
    ) -> Result<(), NotPicked> {
        let (woken, kind) = self.end_turn(task)?;
        if let Kind::Deadline(server) = kind {
            let now_ns = self.clock(now);
            self.servers.charge(server, now_ns, used_ns);
        }
        let has_waited = outcome == Outcome::Waits;
        if woken || !has_waited {
            self.enqueue(task, now, has_waited);
        }
        Ok(())
    }

    // Steps.

    pub(super) fn task(&self, task: u32) -> Option<&Slot> {
        let slot = self.slots.as_ref().get(usize::try_from(task).ok()?)?;
        (slot.phase != Phase::Free).then_some(slot)
    }

    fn task_mut(&mut self, task: u32) -> Result<&mut Slot, UnknownTask> {
        match slot_mut(self.slots.as_mut(), task) {
            Some(slot) if slot.phase != Phase::Free => Ok(slot),
            _ => Err(UnknownTask(task)),
        }
    }

    fn free_slot(&mut self, task: u32) -> Result<&mut Slot, AddError> {
        let slots = self.slots.as_mut();
        let capacity = slots.len();
        match slot_mut(slots, task) {
            Some(slot) if task != super::queue::NONE => match slot.phase {
                Phase::Free => Ok(slot),
                _ => Err(AddError::AlreadyAdded { task }),
            },
            _ => Err(AddError::NoSuchSlot { task, capacity }),
        }
    }

    #[inline]
    fn clock(&mut self, now: Instant) -> u64 {
        self.now_ns = self.now_ns.max(now.as_ns());
        self.now_ns
    }

    /// Puts a task that is in no list or set into the one where it belongs.
    #[inline]
    fn enqueue(&mut self, task: u32, now: Instant, has_waited: bool) {
        let now_ns = self.clock(now);
        let slots = self.slots.as_mut();
        let Some(slot) = slot_mut(slots, task) else { return };
        slot.phase = Phase::Ready;
        let level = slot.effective();
        match slot.kind {
            Kind::Level => self.lists.push_back(slots, task, level, now_ns),
            Kind::Deadline(server) if has_waited => self.servers.wake(server, now_ns),
            Kind::Deadline(server) => self.servers.requeue(server, now_ns),
        }
    }

    /// Takes a task out of the list or set that it is in, if any.
    fn unlist(&mut self, task: u32) {
        let Some(&Slot { phase: Phase::Ready, kind, .. }) = self.task(task) else { return };
        match kind {
            Kind::Level => self.lists.unlink(self.slots.as_mut(), task),
            Kind::Deadline(server) => self.servers.unready(server),
        }
    }

    /// Moves a ready task to its own level, if that is more urgent than where it stands, and it would
    /// not go later there.
    fn raise(&mut self, task: u32, now: Instant) {
        let now_ns = self.clock(now);
        let Some(slot) = self.task(task) else { return };
        let own = slot.effective();
        let is_listed = slot.phase == Phase::Ready && slot.kind == Kind::Level;
        if is_listed && self.lists.is_better_off_at_own(slot, now_ns) {
            let slots = self.slots.as_mut();
            self.lists.unlink(slots, task);
            self.lists.push_back(slots, task, own, now_ns);
        }
    }

    /// A task is picked no more. Whether it was woken, and its kind.
    #[inline]
    fn end_turn(&mut self, task: u32) -> Result<(bool, Kind), NotPicked> {
        match slot_mut(self.slots.as_mut(), task) {
            Some(slot) => match slot.phase {
                Phase::Picked { woken } => {
                    slot.phase = Phase::Waits;
                    Ok((woken, slot.kind))
                }
                Phase::Free | Phase::Waits | Phase::Ready => Err(NotPicked(task)),
            },
            None => Err(NotPicked(task)),
        }
    }

    fn take_server(&mut self, earliest: Earliest) -> Pick {
        let Earliest { index, task, deadline_ns, left_ns } = earliest;
        self.servers.unready(index);
        if let Some(slot) = slot_mut(self.slots.as_mut(), task) {
            slot.phase = Phase::Picked { woken: false };
        }
        let run_for_ns = self.until_refill(left_ns);
        Pick { task, class: Class::Deadline(Instant::from_ns(deadline_ns)), run_for_ns }
    }

    #[inline]
    fn turn(&self, task: u32, level: Level) -> Pick {
        let run_for_ns = self.until_refill(quantum_ns(level));
        Pick { task, class: Class::Level(level), run_for_ns }
    }

    /// The length of a turn, cut where the next throttled server gets its budget.
    #[inline]
    fn until_refill(&self, length_ns: u64) -> u64 {
        length_ns.min(self.servers.refill_ns().saturating_sub(self.now_ns))
    }
}
