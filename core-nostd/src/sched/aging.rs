//! Aging: a task that waits long enough is boosted, so that no level starves another.
//!
//! Rules:
//! 1. Each time a task is picked by its level, the heads of the less urgent levels are looked at, and
//!    no other task. A head that has waited at its level for more than [`Rules::aging_ns`] goes to the
//!    end of the next more urgent level, where its wait begins anew. (WOS's authors: a boost of one
//!    level after 5 ticks. They look at every process.)
//! 2. The level that is served does not age: its head is what is picked.
//! 3. A boost lasts one turn: after it the task is at its own level again. (Theirs never end.)
//! 4. While a task waits its level never gets less urgent.
//!
//! # How long a task can wait
//!
//! Let `A` be `aging_ns`, `q(l)` the quantum of level `l`, and `n(l)` the number of tasks in front of
//! a task `T` when it comes to level `l`. `T`, ready at level `L`, runs after at most
//!
//! ```text
//! W(L) = q(7) + L·A + Σ over l from 1 to L of q(l)·(n(l) + 1) + q(0)·n(0)
//! ```
//!
//! provided that a task is picked whenever the processor is free and that no turn is longer than its
//! [`Pick::run_for_ns`]. **Proof.** `q(7)` is what may be left of a turn that has begun. `T` waits for
//! `A` at level `l > 0`, until it may be boosted. From then on each pick takes one task from the front
//! of that list: if `l` is the most urgent level with a task, that which runs; if not, its head, which
//! is boosted, for it came no later than `T` (lists are first in, first out) and so has waited for
//! more than `A` too. After `n(l) + 1` picks that is `T`. What is picked meanwhile is of level `l` or
//! more urgent, so each of these turns is at most `q(l)`. At level 0 nothing is more urgent, and `T`
//! is behind `n(0)` turns of at most `q(0)`. By rule 4 `T` is at each level at most once. ∎
//!
//! With at most `N` ready tasks, each `n(l)` is at most `N − 1`. The deadline class takes in any time
//! `w` at most `U·w + 2·Σ Q·(1 − Q/P)` (see `server`), `U` being its share and `Q` and `P` its
//! budgets and periods. So with it the wait is at most `(W(L) + 2·Σ Q) / (1 − U)`. [`waiting_ns_max`]
//! calculates that, with `N − 1` for each `n(l)`, and for simplicity one more `q(0)`.
//!
//! [`Pick::run_for_ns`]: super::Pick::run_for_ns

use super::queue::{Lists, Slot};
use super::{LEVELS, Level, Rules, Share, quantum_ns};

/// Boosts the heads that have waited too long, as the rules say.
#[inline]
pub(super) fn boost(lists: &mut Lists, slots: &mut [Slot], now_ns: u64, aging_ns: u64) {
    let occupied = lists.occupied();
    // All levels above the lowest bit, which is the level that is served.
    let less_urgent = occupied & occupied.wrapping_sub(1);
    if less_urgent == 0 {
        return;
    }
    // Who has waited for more than `aging_ns` came before this.
    let mut overdue = lists.waiting_since_before(now_ns.saturating_sub(aging_ns)) & less_urgent;
    // From the most urgent one on: a task that was boosted has not waited yet, and is not looked at.
    while let Some(level) = u8::try_from(overdue.trailing_zeros()).ok().and_then(Level::new) {
        overdue &= !level.bit();
        if let Some(boosted) = level.boosted()
            && let Some(task) = lists.pop(slots, level)
        {
            lists.push_back(slots, task, boosted, now_ns);
        }
    }
}

/// The longest that a task waits, from when it gets ready at `level` until it is picked, in
/// nanoseconds; `u64::MAX` for 584 years and more.
///
/// With `N` ready `tasks`, itself included, the quantum `q(l)` of each level, the aging `A`, and a
/// deadline class whose share is `U` and whose budgets are `B` in all, that is
///
/// ```text
/// W = (q(7) + level·A + N · Σ over l from 0 to level of q(l) + 2·B) / (1 − U)
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
    let tasks = u128::from(tasks);
    let levels = (0..LEVELS).filter_map(Level::new);
    let passed = levels.filter(|passed| passed.number() <= level.number());
    let turns_ns: u128 = passed.map(|passed| u128::from(quantum_ns(passed)) * tasks).sum();
    let aging_ns = u128::from(rules.aging_ns) * u128::from(level.number());
    let begun_ns = u128::from(quantum_ns(Level::LEAST_URGENT));
    let taken_ns = u128::from(budgets_ns) * 2;
    let alone_ns = begun_ns + aging_ns + turns_ns + taken_ns;
    let rest_ppm = u128::from(share.rest_ppm());
    // Of three terms below 2⁹⁶, times 2²⁰: no overflow. A share leaves at least one part.
    let waiting_ns = (alone_ns * u128::from(Share::WHOLE_PPM)).div_ceil(rest_ppm.max(1));
    u64::try_from(waiting_ns).unwrap_or(u64::MAX)
}
