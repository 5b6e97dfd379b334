//! What a fan-out answers: its names, results, counters and errors.

use core::fmt;

use crate::ipc::Message;

/// Names one receiver of one fan-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReceiverId {
    pub(super) channel: u32,
    pub(super) seat: u32,
    pub(super) serial: u64,
}

impl fmt::Display for ReceiverId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "receiver {}.{} of channel {}", self.seat, self.serial, self.channel)
    }
}

/// Nobody more can receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("all {capacity} seats of the fan-out are taken")]
pub struct SeatsFull {
    /// How many receivers there can be.
    pub capacity: usize,
}

/// The receiver has left, or belongs to another channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{0} is not known here: it has left, or belongs to another channel")]
pub struct UnknownReceiver(pub ReceiverId);

/// What a receiver of a fan-out takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Taken<P> {
    /// The next message.
    Message {
        /// The message.
        message: Message<P>,
        /// Whether the sender was parked and goes on: its message is now in the queue.
        resumed: bool,
    },
    /// It was too slow and missed some; the next call gives the oldest message that is kept.
    Missed {
        /// How many.
        messages: u64,
    },
}

/// What a fan-out has counted since it was made. At any time `sent = entered + timed out` and the
/// one that is parked, and `copies = delivered + displaced + abandoned` and what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FanoutCounters {
    /// Messages taken in.
    pub sent_total: u64,
    /// Messages that entered the queue, or would have if anybody had been there.
    pub entered_total: u64,
    /// Those of them that entered while nobody was there.
    pub no_receivers_total: u64,
    /// For each message that entered, how many receivers there were.
    pub copies_total: u64,
    /// Copies taken.
    pub delivered_total: u64,
    /// Copies not yet taken when a newer message took the place.
    pub displaced_total: u64,
    /// Copies not yet taken when their receiver left.
    pub abandoned_total: u64,
    /// Messages with which the sender waited in vain.
    pub timed_out_total: u64,
    /// Messages handed back: they were never taken in.
    pub refused_total: u64,
    /// How many of those that entered went to places beyond the credits.
    pub spilled_total: u64,
    /// How many of those sent had to wait with the sender.
    pub parked_total: u64,
}
