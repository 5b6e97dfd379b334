//! Planted bugs: faults of following logs of kinds that were found in the running program or by the model,
//! to show that the model finds them.
//!
//! The feature `planted` is for that test alone. No build that ships has it: without it nothing here is
//! public, the question at each place is the constant `false`, and nothing is left of it in the code.

#[cfg(feature = "planted")]
use std::sync::atomic::{AtomicU8, Ordering};

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// An inode says all.
    InodeAlone,
    /// A compressed file is never read.
    CompressedIsSkipped,
    /// A copy is a new file.
    CopiesAreNew,
    /// What a truncated file held is not looked for in copies.
    CopyTruncateLoses,
    /// A directory is believed while it changes.
    UnsteadyList,
    /// A file that was left behind is closed at once: a late line is lost.
    NoRotateWait,
    /// What came and went between two looks is not looked for.
    OnlyTheNamed,
    /// What is truncated is noticed by its length alone.
    LengthAlone,
    /// Only names tell whether a file was read.
    NothingRemembered,
    /// What is gone is no gap.
    SilentGap,
    /// What is queued and not open is queued again.
    ClosedIsForgotten,
    /// What a logger has finished and not named yet is none of its files.
    PreviousIsForeign,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::InodeAlone,
        Self::CompressedIsSkipped,
        Self::CopiesAreNew,
        Self::CopyTruncateLoses,
        Self::UnsteadyList,
        Self::NoRotateWait,
        Self::OnlyTheNamed,
        Self::LengthAlone,
        Self::NothingRemembered,
        Self::SilentGap,
        Self::ClosedIsForgotten,
        Self::PreviousIsForeign,
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
