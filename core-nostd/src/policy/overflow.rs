//! What becomes of a message for which a queue has no room: the rule by which [`gate`](super::gate)
//! and the channels of [`ipc`](crate::ipc) go.
//!
//! Rules:
//! 1. The new message is refused, or the oldest one is dropped for it, or its sender waits with it for
//!    at most a time, or it is set aside (spilled) up to a number of bytes.
//! 2. What waits or is set aside has a bounded number of places. When they are taken, or the bytes are
//!    too many, the new message is refused.
//! 3. To wait for no time and to set nothing aside is to refuse: who wants that has to say it.

use core::time::Duration;

use crate::planted::{self, Plant};

/// How long a sender of messages whose delay is felt waits.
pub const PARK_TIMEOUT: Duration = Duration::from_micros(500);

/// The most bytes of messages in bulk that are set aside.
pub const SPILL_BYTES_MAX: u64 = 262_144;

/// What is done with a message for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// It is refused.
    RejectNew,
    /// The oldest message is dropped for it: of the queue, or of its sender where each has a part of
    /// the queue of its own.
    DropOldest,
    /// Its sender waits for room, and is refused after a time.
    Park {
        /// How long. Not zero.
        timeout: Duration,
    },
    /// It is set aside until there is room.
    Spill {
        /// The most bytes set aside, of all senders together. Not zero.
        bytes_max: u64,
    },
}

/// A bound of zero where there has to be something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OverflowError {
    /// Nobody can wait for no time.
    #[error("parking with a timeout of 0 is rejecting: say so, or give a time")]
    TimeoutIsZero,
    /// Nothing can be set aside.
    #[error("spilling to 0 bytes is rejecting: say so, or give a bound")]
    SpillIsZero,
}

/// What waits, or is set aside, already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aside {
    pub(crate) messages: usize,
    /// How many there can be.
    pub(crate) places: usize,
    pub(crate) bytes: u64,
}

/// What is done to take a message in for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    DropOldest,
    Park { timeout: Duration },
    Spill,
}

/// Why it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The policy is to refuse.
    Queue,
    /// Every place for what waits is taken.
    Places,
    /// It would be more bytes than may be set aside.
    Bytes { bytes_max: u64 },
}

impl Overflow {
    /// For messages whose delay is felt: the sender waits for [`PARK_TIMEOUT`].
    pub const LATENCY_SENSITIVE: Self = Self::Park { timeout: PARK_TIMEOUT };
    /// For messages of which the newest counts.
    pub const BEST_EFFORT: Self = Self::DropOldest;
    /// For messages in bulk: [`SPILL_BYTES_MAX`] are set aside.
    pub const BULK: Self = Self::Spill { bytes_max: SPILL_BYTES_MAX };

    /// Whether the policy can be kept.
    ///
    /// # Errors
    /// [`OverflowError`], when a bound is zero.
    pub const fn check(self) -> Result<(), OverflowError> {
        match self {
            Self::Park { timeout } if timeout.is_zero() => Err(OverflowError::TimeoutIsZero),
            Self::Spill { bytes_max: 0 } => Err(OverflowError::SpillIsZero),
            Self::RejectNew | Self::DropOldest | Self::Park { .. } | Self::Spill { .. } => Ok(()),
        }
    }

    /// Whether messages wait outside of the queue, and need places there.
    #[must_use]
    pub const fn keeps_aside(self) -> bool {
        matches!(self, Self::Park { .. } | Self::Spill { .. })
    }

    /// What is done with a message of so many bytes.
    pub(crate) fn excess(self, aside: Aside, bytes: u64) -> Result<Excess, Full> {
        let one_more = usize::from(planted::is(Plant::SpillPlaces));
        let has_place = aside.messages < aside.places.saturating_add(one_more);
        match self {
            Self::RejectNew => Err(Full::Queue),
            Self::DropOldest => Ok(Excess::DropOldest),
            Self::Spill { bytes_max } if aside.bytes.saturating_add(bytes) > bytes_max => {
                Err(Full::Bytes { bytes_max })
            }
            Self::Park { .. } | Self::Spill { .. } if !has_place => Err(Full::Places),
            Self::Park { timeout } => Ok(Excess::Park { timeout }),
            Self::Spill { .. } => Ok(Excess::Spill),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Aside = Aside { messages: 1, places: 2, bytes: 262_140 };
    const NO_PLACE: Aside = Aside { messages: 2, places: 2, bytes: 0 };

    #[test]
    fn each_policy_does_what_it_says() {
        assert_eq!(Overflow::RejectNew.excess(ROOM, 1), Err(Full::Queue));
        for aside in [ROOM, NO_PLACE] {
            assert_eq!(Overflow::BEST_EFFORT.excess(aside, 1), Ok(Excess::DropOldest));
        }
        let timeout = Duration::from_micros(500);
        let parks = Overflow::LATENCY_SENSITIVE;
        assert_eq!(parks.excess(ROOM, u64::MAX), Ok(Excess::Park { timeout }));
        assert_eq!(parks.excess(NO_PLACE, 0), Err(Full::Places));
        assert_eq!(Overflow::BULK.excess(ROOM, 4), Ok(Excess::Spill));
        for bytes in [5, u64::MAX] {
            let full = Full::Bytes { bytes_max: 262_144 };
            assert_eq!(Overflow::BULK.excess(ROOM, bytes), Err(full));
        }
        assert_eq!(Overflow::BULK.excess(NO_PLACE, 1), Err(Full::Places));
    }

    #[test]
    fn a_bound_of_zero_is_refused() {
        let parks = Overflow::Park { timeout: Duration::ZERO };
        assert_eq!(parks.check(), Err(OverflowError::TimeoutIsZero));
        assert_eq!(Overflow::Spill { bytes_max: 0 }.check(), Err(OverflowError::SpillIsZero));
        for policy in [Overflow::RejectNew, Overflow::BEST_EFFORT] {
            assert_eq!((policy.check(), policy.keeps_aside()), (Ok(()), false));
        }
        for policy in [Overflow::LATENCY_SENSITIVE, Overflow::BULK] {
            assert_eq!((policy.check(), policy.keeps_aside()), (Ok(()), true));
        }
    }
}
