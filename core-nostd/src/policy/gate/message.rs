//! What a gate is told and answers: places and tickets, effects, counts and refusals.

use crate::policy::overflow::OverflowError;
use crate::time::Instant;

/// The gate can't be made like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GateError {
    /// Every message would find the queue full.
    #[error("a queue for 0 messages is always full: say at least 1")]
    CapacityIsZero,
    /// The policy has a bound of zero.
    #[error(transparent)]
    Overflow(#[from] OverflowError),
    /// The policy lets messages wait, and the storage has no place for one.
    #[error("to park or to spill, the gate needs storage for at least one place")]
    NoWaitingRoom,
}

/// A sender that waits, or a message set aside. Names one offer for as long as the gate lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub(super) u64);

/// A place in the waiting room.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub(super) bytes: u32,
    pub(super) deadline: Instant,
}

impl Place {
    /// A place where nobody waits.
    pub const EMPTY: Self = Self { bytes: 0, deadline: Instant::MAX };
}

impl Default for Place {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Where an offered message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "the message goes where the gate says"]
pub enum Offered {
    /// Into the queue.
    Queued,
    /// Into the queue, once the owner has thrown away the queue's oldest message.
    QueuedForOldest,
    /// Nowhere yet: the sender keeps it and waits, for [`GateEffect::Admitted`] or
    /// [`GateEffect::TimedOut`].
    Parked {
        /// The name under which it waits.
        ticket: Ticket,
        /// When it will have waited long enough.
        deadline: Instant,
    },
    /// Aside: the owner keeps it, until [`GateEffect::Admitted`].
    Spilled {
        /// The name under which it is kept.
        ticket: Ticket,
    },
}

/// Why a message was refused: in each case, offer it again later or do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Busy {
    /// The queue is full.
    #[error("the queue is full: {capacity} messages")]
    QueueFull {
        /// How many messages it holds.
        capacity: u32,
    },
    /// The queue is full, and so is the waiting room.
    #[error("the queue is full and {places} more wait for it")]
    WaitingRoomFull {
        /// How many places the waiting room has.
        places: usize,
    },
    /// The queue is full, and with this message too many bytes would be set aside.
    #[error("the queue is full and {spilled_bytes} of {bytes_max} bytes are set aside")]
    SpillFull {
        /// How many bytes are set aside.
        spilled_bytes: u64,
        /// How many may be.
        bytes_max: u64,
    },
}

/// A message was said to be taken from a queue that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("nothing can be taken from the queue: it is empty")]
pub struct QueueEmpty;

/// What the owner is to do for somebody that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GateEffect {
    /// The place in the queue is this one's: put the message set aside there, or let its sender go
    /// on. If the sender is gone, report the place as [taken](super::Gate::take).
    Admitted(Ticket),
    /// The sender waited long enough: tell it that its message was refused.
    TimedOut(Ticket),
}

/// What became of all messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GateCounts {
    /// Entered the queue, at once or after waiting.
    pub queued_total: u64,
    /// Left the queue for a receiver.
    pub taken_total: u64,
    /// Left the queue for a newer message.
    pub dropped_total: u64,
    /// Were refused when they were offered.
    pub rejected_total: u64,
    /// Were refused after they had waited.
    pub timed_out_total: u64,
    /// Had to wait or were set aside.
    pub waited_total: u64,
}

impl GateCounts {
    /// Nothing was counted yet.
    pub(super) const NONE: Self = Self {
        queued_total: 0,
        taken_total: 0,
        dropped_total: 0,
        rejected_total: 0,
        timed_out_total: 0,
        waited_total: 0,
    };
}
