//! Planted bugs: faults of the manager's logic of kinds that were found in the running program, to show
//! that the simulator of fleets finds them.
//!
//! The feature `planted` is for that test alone. No build that ships has it: without it nothing here is
//! public, the question at each place is the constant `false`, and nothing is left of it in the code.

#[cfg(feature = "planted")]
use std::sync::atomic::{AtomicU8, Ordering};

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A peer may speak for an incarnation that is not its own.
    ForeignAddress,
    /// A datagram that comes before its backend's word is lost.
    LostReady,
    /// The end of a process waits for its link for ever.
    LinkWithoutEnd,
    /// Who lost its place is charged for it.
    ChargedForPlace,
    /// A question waits on although another operator asked for the opposite.
    MovedGoal,
    /// The second signal is like the first.
    SecondSignal,
    /// A start that the machine has no room for is final.
    NoRoomIsFinal,
    /// What was asked to end counts as ended.
    DoubleStart,
    /// A place that does not answer is not ended.
    SilentPlace,
    /// Of what waits behind a failed one nothing is said to whoever asks.
    SilentBlock,
    /// A turn of news lasts as long as there are news.
    Starvation,
    /// A deadline is judged before what had arrived is heard.
    TickBeforeNews,
    /// The end of a process is handled before the datagrams that had arrived.
    EndBeforeDatagrams,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::ForeignAddress,
        Self::LostReady,
        Self::LinkWithoutEnd,
        Self::ChargedForPlace,
        Self::MovedGoal,
        Self::SecondSignal,
        Self::NoRoomIsFinal,
        Self::DoubleStart,
        Self::SilentPlace,
        Self::SilentBlock,
        Self::Starvation,
        Self::TickBeforeNews,
        Self::EndBeforeDatagrams,
    ];
}

/// One more than the number of the bug that is armed; zero for none.
#[cfg(feature = "planted")]
static ARMED: AtomicU8 = AtomicU8::new(0);

/// Switches one bug on for the whole program, and all others off; `None`: all off.
#[cfg(feature = "planted")]
pub fn arm(plant: Option<Plant>) {
    ARMED.store(plant.map_or(0, |plant| plant as u8 + 1), Ordering::Relaxed);
}

/// Whether a bug is armed.
#[cfg(feature = "planted")]
pub(crate) fn is(plant: Plant) -> bool {
    ARMED.load(Ordering::Relaxed) == plant as u8 + 1
}

/// No bug is ever armed.
#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_: Plant) -> bool {
    false
}
