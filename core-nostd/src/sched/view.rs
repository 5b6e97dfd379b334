//! What a scheduler can be asked: how a task is doing, and when there is something to do.

use super::aging;
use super::deadline::Server;
use super::queue::{Kind, Phase, Slot};
use super::server::{Funds, NEVER_NS};
use super::{Class, Level, Pick, Scheduler, ServerView, TaskState, TaskView};
use crate::time::Instant;

impl<S, D> Scheduler<S, D>
where
    S: AsRef<[Slot]> + AsMut<[Slot]>,
    D: AsRef<[Server]> + AsMut<[Server]>,
{
    /// Whether something that is ready at `now` may go before this pick: a task of a more urgent level,
    /// one with an earlier deadline, or a throttled one whose budget has come. An owner asks at its
    /// ticks, and ends the turn.
    #[must_use]
    pub fn is_outranked(&self, pick: &Pick, now: Instant) -> bool {
        let now_ns = self.now_ns.max(now.as_ns());
        let is_refill_due = self.servers.is_refill_due(now_ns);
        let earliest = self.servers.earliest();
        match pick.class {
            Class::Deadline(deadline) => {
                let deadline_ns = deadline.as_ns();
                is_refill_due || earliest.is_some_and(|other| other.deadline_ns < deadline_ns)
            }
            Class::Level(level) => {
                let other = self.lists.most_urgent();
                is_refill_due
                    || earliest.is_some()
                    || other.is_some_and(|other| other.is_more_urgent_than(level))
            }
        }
    }

    /// Whether a task could be picked at `now`.
    #[must_use]
    pub fn is_busy(&self, now: Instant) -> bool {
        let now_ns = self.now_ns.max(now.as_ns());
        self.lists.occupied() != 0
            || self.servers.earliest().is_some()
            || self.servers.is_refill_due(now_ns)
    }

    /// Whether a task of this number waits for the processor, or for its budget.
    #[must_use]
    pub fn is_ready(&self, task: u32) -> bool {
        self.task(task).is_some_and(|slot| slot.phase == Phase::Ready)
    }

    /// When the first of the servers that wait for their budget gets it. Whoever gets no task from
    /// [`pick`](Self::pick) asks again then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.servers.refill_ns() {
            NEVER_NS => None,
            refill_ns => Some(Instant::from_ns(refill_ns)),
        }
    }

    /// How many tasks there are.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How a task is doing.
    #[must_use]
    pub fn view(&self, task: u32) -> Option<TaskView> {
        let &Slot { base, inherited, level, phase, kind, .. } = self.task(task)?;
        let state = match phase {
            Phase::Ready => TaskState::Ready { level },
            Phase::Picked { .. } => TaskState::Picked,
            Phase::Waits | Phase::Free => TaskState::Waits,
        };
        let server = match kind {
            Kind::Level => None,
            Kind::Deadline(server) => {
                let account = self.servers.get(server)?.account;
                let (left_ns, deadline_ns) = match account.funds {
                    Funds::Left { left_ns, deadline_ns } => (left_ns, deadline_ns),
                    Funds::Spent { until_ns, .. } => (0, until_ns),
                };
                Some(ServerView {
                    budget_ns: account.budget_ns,
                    period_ns: account.period_ns,
                    left_ns,
                    deadline: Instant::from_ns(deadline_ns),
                })
            }
        };
        Some(TaskView { base, inherited, state, server })
    }

    /// The longest that a task of the levels waits from when it gets ready at `level` until it is
    /// picked, in nanoseconds, with as many tasks and servers as there are now: see
    /// [`waiting_ns_max`](super::waiting_ns_max). It holds if a task is picked whenever the processor
    /// is free, in its turn, and no turn is longer than [`Pick::run_for_ns`].
    #[must_use]
    pub fn waiting_ns_max(&self, level: Level) -> u64 {
        let (share, budgets_ns) = (self.servers.admitted(), self.servers.budgets_ns());
        aging::waiting_ns_max(level, self.len, self.rules, share, budgets_ns)
    }
}
