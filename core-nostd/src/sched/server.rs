//! One constant-bandwidth server: how much processor time a task of the deadline class has left, and
//! until when. (Abeni and Buttazzo, "Integrating Multimedia Applications in Hard Real-Time Systems",
//! 1998; its budgets are hard here, as Linux' SCHED_DEADLINE has them.)
//!
//! Rules, for a budget `Q` in each period `P`:
//! 1. A server that gets ready at `t` keeps what is left of its budget and its deadline `d`, if it
//!    could use that up by then without taking more than its share: `left / (d − t) ≤ Q / P`. If it
//!    could not, or `d` has passed, it gets the whole budget, and the deadline `t + P`.
//! 2. Time that it uses is charged to the budget, and each turn with at least [`CHARGE_NS_MIN`], so
//!    that a clock that stalls, or turns too short to be measured, do not let it run for ever.
//! 3. A server without budget does not run until its deadline has come. Then the budget is `Q` again
//!    and the deadline `P` later, counted from the old one; from now on if that has passed too.
//! 4. What it used beyond its budget is taken from the next one, or the next ones.
//! 5. A deadline that is too late to be counted never comes.
//!
//! From this follows what a server can take, however it behaves: **in any time `w` no more than
//! `(Q / P)·w + 2·Q·(1 − Q / P)`**, and, if its turns are longer than they should be, what one turn
//! was too long. **Proof.** Call the time from one refill (rules 1 and 3) to the next a round. A
//! round that rule 3 ends is `P` or longer, and at most `Q` is used in it. One that rule 1 ends early,
//! at `t`, has used `Q − left < Q·(1 − (d − t) / P)`, which is less than `Q / P` of its length
//! `P − (d − t)`. So all whole rounds in `w` are within the share. In what `w` has of the round that it
//! begins in, of length `x`, at most `min(Q, x)` is used, which is at most `Q·(1 − Q / P)` more than
//! the share of `x`; likewise where it ends. ∎

use crate::planted::{self, Plant};

/// What a turn is charged at least, in nanoseconds.
pub const CHARGE_NS_MIN: u64 = 1_000;

/// An instant that never comes.
pub(super) const NEVER_NS: u64 = u64::MAX;

/// The account of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Not zero, and at most the period.
    pub(super) budget_ns: u64,
    pub(super) period_ns: u64,
    pub(super) funds: Funds,
}

/// What is on the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Funds {
    /// So much, to be used by the deadline. Not zero.
    Left { left_ns: u64, deadline_ns: u64 },
    /// Nothing until then, and then so much: not zero.
    Spent { until_ns: u64, refill_ns: u64 },
}

impl Account {
    /// The account of a server that was never ready.
    pub(super) const fn new(budget_ns: u64, period_ns: u64) -> Self {
        Self { budget_ns, period_ns, funds: Funds::Left { left_ns: budget_ns, deadline_ns: 0 } }
    }

    /// The server gets ready.
    pub(super) fn wake(&mut self, now_ns: u64) {
        self.refill(now_ns);
        if let Funds::Left { left_ns, deadline_ns } = self.funds
            && !self.is_within_share(left_ns, deadline_ns.saturating_sub(now_ns))
        {
            self.open_period(now_ns, self.budget_ns);
        }
    }

    /// Gives it its next budget, if the time has come.
    pub(super) fn refill(&mut self, now_ns: u64) {
        if let Funds::Spent { until_ns, refill_ns } = self.funds
            && until_ns <= now_ns
        {
            // After the end of time there is no period: `open_period` finds that.
            let is_late = until_ns.saturating_add(self.period_ns) <= now_ns;
            self.open_period(if is_late { now_ns } else { until_ns }, refill_ns);
        }
    }

    /// It has run.
    pub(super) fn charge(&mut self, now_ns: u64, used_ns: u64) {
        let Funds::Left { left_ns, deadline_ns } = self.funds else { return };
        let used_ns = used_ns.max(CHARGE_NS_MIN);
        match used_ns.checked_sub(left_ns) {
            None => self.funds = Funds::Left { left_ns: left_ns - used_ns, deadline_ns },
            Some(over_ns) => {
                // Whole budgets that it has used in advance, and a part of one.
                let periods = over_ns.checked_div(self.budget_ns).unwrap_or(0);
                let part_ns = over_ns.checked_rem(self.budget_ns).unwrap_or(0);
                let until_ns =
                    deadline_ns.max(now_ns).saturating_add(periods.saturating_mul(self.period_ns));
                let refill_ns = self.budget_ns.saturating_sub(part_ns);
                if planted::is(Plant::DeadlineBudget) {
                    self.open_period(now_ns, refill_ns);
                    return;
                }
                self.funds = Funds::Spent { until_ns, refill_ns };
            }
        }
    }

    /// Whether it takes no more than its share to use `left_ns` up in `time_ns`.
    fn is_within_share(&self, left_ns: u64, time_ns: u64) -> bool {
        let left = u128::from(left_ns) * u128::from(self.period_ns);
        left <= u128::from(self.budget_ns) * u128::from(time_ns)
    }

    fn open_period(&mut self, from_ns: u64, left_ns: u64) {
        self.funds = match from_ns.checked_add(self.period_ns) {
            Some(deadline_ns) => Funds::Left { left_ns, deadline_ns },
            None => Funds::Spent { until_ns: NEVER_NS, refill_ns: left_ns },
        };
    }
}
