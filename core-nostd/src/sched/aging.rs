//! Aging: how a task that waits catches up with more urgent ones, so that no level starves another.
//!
//! Rules:
//! 1. Each level is worth [`Rules::aging_ns`] of waiting. A task that got ready at `t` on level `l` has
//!    the *rank* `t + l·aging_ns`, and of the ready tasks the one with the earliest rank goes first; of
//!    two with the same rank, that of the more urgent level. So it is as if a task were boosted by one
//!    level for each 5 ms that it waits (WOS's authors: for each 5 ticks), with no task touched.
//! 2. Within a level ranks are in the order of coming. So the heads of the eight lists are compared,
//!    and nothing else. (Theirs looks at every process.)
//! 3. A turn is a quantum of the most urgent level that has a task: whoever overtakes a more urgent
//!    task holds it up no longer than one of its own would.
//! 4. Nothing is left of it after the turn: the task waits anew at its own level. (Theirs stays
//!    boosted for ever.)
//! 5. While a task waits its rank gets no later.
//!
//! # How long a task can wait
//!
//! Let `A` be `aging_ns`, `q(l)` the quantum of level `l`, and `N` the most tasks that are ready at a
//! time. A task `T` that gets ready at level `L` runs after at most
//!
//! ```text
//! W(L) = q(7) + L·A + (N − 1)·q(L)
//! ```
//!
//! provided that a task is picked whenever the processor is free and that no turn is longer than its
//! [`Pick::run_for_ns`]. **Proof.** Let `T` get ready at `t`. Its rank is `t + L·A`, or earlier. What
//! gets ready after that instant has a later rank, and does not go before `T`. So from then on there go
//! before `T` at most those that are ready at that instant, each of them once: that is `N − 1` turns.
//! As `T` is ready, none of them is longer than `q(L)` (rule 3). Before them there may be what is left
//! of a turn that has begun, which is at most `q(7)`. ∎
//!
//! The deadline class takes in any time `w` at most `U·w + 2·Σ Q·(1 − Q/P)` (see `server`), `U` being
//! its share and `Q` and `P` its budgets and periods. So with it the wait is at most
//! `(W(L) + 2·Σ Q) / (1 − U)`, which is what [`waiting_ns_max`] calculates.
//!
//! [`Pick::run_for_ns`]: super::Pick::run_for_ns

use super::{LEVELS, Level, Rules, Share, quantum_ns};

/// What each level is worth in waiting, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handicaps([u64; LEVELS as usize]);

impl Handicaps {
    pub(super) fn new(rules: Rules) -> Self {
        Self(Level::ALL.map(|level| rules.aging_ns.saturating_mul(u64::from(level.number()))))
    }

    /// The rank of a task that came to a level at this instant.
    #[inline]
    pub(super) const fn rank_ns(&self, level: Level, since_ns: u64) -> u64 {
        since_ns.saturating_add(self.0[level.index()])
    }
}

/// The longest that a task waits, from when it gets ready at `level` until it is picked, in
/// nanoseconds; `u64::MAX` for 584 years and more.
///
/// With `N` ready `tasks`, itself included, the quantum `q(l)` of each level, the aging `A`, and a
/// deadline class whose share is `U` and whose budgets are `B` in all, that is
///
/// ```text
/// W = (q(7) + level·A + (N − 1)·q(level) + 2·B) / (1 − U)
/// ```
///
/// provided that a task is picked in its turn whenever the processor is free, and that no turn is
/// longer than its [`Pick::run_for_ns`](super::Pick::run_for_ns).
#[must_use]
pub fn waiting_ns_max(
    level: Level,
    tasks: u32,
    rules: Rules,
    share: Share,
    budgets_ns: u64,
) -> u64 {
    let others = u128::from(tasks.saturating_sub(1));
    let turns_ns = u128::from(quantum_ns(level)) * others;
    let aging_ns = u128::from(rules.aging_ns) * u128::from(level.number());
    let begun_ns = u128::from(quantum_ns(Level::LEAST_URGENT));
    let taken_ns = u128::from(budgets_ns) * 2;
    let alone_ns = begun_ns + aging_ns + turns_ns + taken_ns;
    let rest_ppm = u128::from(share.rest_ppm());
    // The sum is below 2⁶⁸, and is multiplied by less than 2²⁰. A share leaves at least one part.
    let waiting_ns = (alone_ns * u128::from(Share::WHOLE_PPM)).div_ceil(rest_ppm.max(1));
    u64::try_from(waiting_ns).unwrap_or(u64::MAX)
}
