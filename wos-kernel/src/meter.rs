//! How long the slice that runs may go on.
//!
//! Rules:
//! 1. A turn is over at the first tick after its length, or when the machine's owner wants attention:
//!    the slice yields and stays open.
//! 2. A slice has a budget of running time over all of its turns. At the first tick beyond it the slice
//!    is ended. `init` has none: an interpreter that starts is slow and does not hang, and how long a start may
//!    take is the manager's to say (`tests::init_has_no_budget`).
//!
//! An open slice lies out of the kernel's reach, so the kernel says what the turn is in a [`Turn`] that
//! both share.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The turn that the kernel gave last. One runs at a time, so a kernel has one. Written before a turn
/// begins and read during it, by the same thread: no order is needed.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    began_ns: AtomicU64,
    length_ns: AtomicU64,
    /// The last tick in it, or its beginning.
    seen_ns: AtomicU64,
}

impl Turn {
    /// A turn begins.
    pub(crate) fn begin(&self, now_ns: u64, length_ns: u64) {
        self.began_ns.store(now_ns, Relaxed);
        self.length_ns.store(length_ns, Relaxed);
        self.seen_ns.store(now_ns, Relaxed);
    }

    /// When the turn that has just ended was over, to a tick: the scheduler counts in ticks, and needs
    /// no look at the clock after each turn.
    pub(crate) fn over_ns(&self) -> u64 {
        self.seen_ns.load(Relaxed)
    }
}

/// What is to be done at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    /// Go on.
    Continue,
    /// Give the processor back; the slice stays open.
    Yield,
    /// The slice is over its budget.
    OverBudget,
}

/// How much running time the open slice had, and how much it may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    /// Running time of earlier turns of this slice, in nanoseconds.
    used_ns: u64,
    budget_ns: u64,
    /// Whether the open slice has a budget at all.
    is_limited: bool,
}

impl Meter {
    pub(crate) const fn new(budget_ns: u64) -> Self {
        Self { used_ns: 0, budget_ns, is_limited: true }
    }

    /// A slice is opened.
    pub(crate) const fn begin_slice(&mut self, is_init: bool) {
        self.used_ns = 0;
        self.is_limited = !is_init;
    }

    /// Called at each tick of the preemption clock while the slice runs.
    pub(crate) fn tick(&mut self, turn: &Turn, now_ns: u64, attention: bool) -> Tick {
        turn.seen_ns.store(now_ns, Relaxed);
        let turn_ns = now_ns.saturating_sub(turn.began_ns.load(Relaxed));
        let used_ns = self.used_ns.saturating_add(turn_ns);
        if self.is_limited && used_ns >= self.budget_ns {
            Tick::OverBudget
        } else if turn_ns >= turn.length_ns.load(Relaxed) || attention {
            self.used_ns = used_ns;
            Tick::Yield
        } else {
            Tick::Continue
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_has_no_budget() {
        let turn = Turn::default();
        let mut meter = Meter::new(10);
        meter.begin_slice(true);
        for turn_ns in [0, 100, 1_000_000] {
            turn.begin(turn_ns, 4);
            assert_eq!(meter.tick(&turn, turn_ns + 3, false), Tick::Continue);
            assert_eq!(meter.tick(&turn, turn_ns + 50, false), Tick::Yield);
        }
        meter.begin_slice(false);
        turn.begin(0, 4);
        assert_eq!(meter.tick(&turn, 10, false), Tick::OverBudget);
    }

    #[test]
    fn a_turn_ends_with_its_length_and_a_slice_with_its_budget() {
        let turn = Turn::default();
        let mut meter = Meter::new(10);
        for slice_ns in [1_000, 2_000] {
            meter.begin_slice(false);
            turn.begin(slice_ns, 4);
            assert_eq!(meter.tick(&turn, slice_ns + 3, false), Tick::Continue);
            assert_eq!(meter.tick(&turn, slice_ns + 3, true), Tick::Yield);
            // What passes between two turns is not the slice's.
            turn.begin(slice_ns + 500, 4);
            assert_eq!(meter.tick(&turn, slice_ns + 503, false), Tick::Continue);
            assert_eq!(meter.tick(&turn, slice_ns + 504, false), Tick::Yield);
            // The next turn is at a level with a longer one.
            turn.begin(slice_ns + 700, 8);
            assert_eq!(meter.tick(&turn, slice_ns + 702, false), Tick::Continue);
            assert_eq!(turn.over_ns(), slice_ns + 702);
            assert_eq!(meter.tick(&turn, slice_ns + 703, false), Tick::OverBudget);
        }
    }
}
