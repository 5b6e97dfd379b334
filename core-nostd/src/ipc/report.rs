//! What a channel is told and what it answers: its specification, results, counters and errors.

use core::fmt;

use super::{Message, MessageError, Overflow, OverflowError, Schema};
use crate::time::Instant;

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// The one kind of message that it takes.
    pub schema: Schema,
    /// What becomes of a message that is sent without credit.
    pub overflow: Overflow,
    /// The most credits of all senders together: so many places are kept for them. Places beyond
    /// these hold what is spilled. Not zero.
    pub credits_max: usize,
}

impl Spec {
    /// Whether a queue of so many places can keep to this.
    pub(super) fn check(&self, places: usize) -> Result<(), NewError> {
        let Self { credits_max, overflow, .. } = *self;
        if credits_max == 0 || credits_max > places {
            return Err(NewError::TooFewPlaces { credits_max, places });
        }
        overflow.check()?;
        match overflow {
            Overflow::Spill { .. } if places == credits_max => {
                Err(NewError::NoPlaceToSpill { places, credits_max })
            }
            Overflow::RejectNew
            | Overflow::DropOldest
            | Overflow::Park { .. }
            | Overflow::Spill { .. } => Ok(()),
        }
    }
}

/// Names one sender of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SenderId {
    pub(super) channel: u32,
    pub(super) seat: u32,
    pub(super) serial: u64,
}

impl fmt::Display for SenderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sender {}.{} of channel {}", self.seat, self.serial, self.channel)
    }
}

/// What became of a message that was taken in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Sent<P> {
    /// It is in the queue.
    Queued,
    /// It is in the queue, in place of its sender's oldest message.
    Displaced(Message<P>),
    /// It is in the queue, in a place beyond those of the credits.
    Spilled,
    /// It waits for a credit, and its sender with it: until [`Received::resumed`], or until
    /// [`TimedOut`] at the deadline.
    Parked {
        /// When the wait ends.
        deadline: Instant,
    },
}

/// A message that was not taken in, handed back to its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{reason}")]
pub struct Refused<P> {
    /// Why.
    pub reason: SendError,
    /// The message.
    pub message: Message<P>,
}

/// What the receiver takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Received<P> {
    /// Whose message it is. The sender may have left since.
    pub sender: SenderId,
    /// The message.
    pub message: Message<P>,
    /// Whether its sender was parked and goes on: the credit that came back was for the message that
    /// it waited with, which is now in the queue.
    pub resumed: bool,
}

/// The end of a wait in vain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct TimedOut<P> {
    /// Who waited, and goes on.
    pub sender: SenderId,
    /// What is not sent.
    pub message: Message<P>,
}

/// How a sender is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SenderView {
    /// Credits that it was given.
    pub credits: usize,
    /// Places that it holds: messages sent on credit and not yet received, and the reserved one.
    pub used: usize,
    /// Whether one of them is reserved.
    pub reserved: bool,
    /// Until when it waits, if it does.
    pub parked_until: Option<Instant>,
}

/// What a channel has counted since it was made. At any time `sent = delivered + displaced +
/// timed out + abandoned` and what waits: in the queue or with a parked sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Messages taken in.
    pub sent_total: u64,
    /// Messages received.
    pub delivered_total: u64,
    /// Messages that their sender's newer ones took the place of.
    pub displaced_total: u64,
    /// Messages whose senders waited for a credit in vain.
    pub timed_out_total: u64,
    /// Messages that waited when their sender or the receiver left.
    pub abandoned_total: u64,
    /// Messages handed back: they were never taken in.
    pub refused_total: u64,
    /// How many of those sent went to places beyond the credits.
    pub spilled_total: u64,
    /// How many of those sent had to wait with their senders.
    pub parked_total: u64,
}

impl Counters {
    /// Messages that were taken in and will never be received: `queue_dropped_total`.
    #[must_use]
    pub const fn dropped_total(&self) -> u64 {
        self.displaced_total
            .saturating_add(self.timed_out_total)
            .saturating_add(self.abandoned_total)
    }
}

/// The channel can't work as specified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NewError {
    /// There are fewer places than credits, or none of either.
    #[error("a channel of {credits_max} credits with {places} places: give it one or more of each")]
    TooFewPlaces {
        /// What was asked for.
        credits_max: usize,
        /// How many places the storage has.
        places: usize,
    },
    /// The policy has a bound of zero.
    #[error(transparent)]
    Overflow(#[from] OverflowError),
    /// The policy is to spill and there is no place beyond those of the credits.
    #[error("{places} places leave none to spill to beyond {credits_max} credits")]
    NoPlaceToSpill {
        /// How many places the storage has.
        places: usize,
        /// How many of them are for credits.
        credits_max: usize,
    },
}

/// Nobody more can send, or not with so many credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OpenError {
    /// A sender without credits could never send.
    #[error("a sender needs one credit or more")]
    NoCredits,
    /// The credits of all senders would be more than the channel has.
    #[error("{credits} credits asked for, {left} of the channel's are left")]
    CreditsOverflow {
        /// What was asked for.
        credits: usize,
        /// What could be given.
        left: usize,
    },
    /// Every seat is taken, some perhaps by senders that left and whose messages still wait.
    #[error("all {capacity} seats of the channel are taken")]
    Full {
        /// How many senders there can be.
        capacity: usize,
    },
}

/// The sender has left, or belongs to another channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{0} is not known here: it has left, or belongs to another channel")]
pub struct UnknownSender(pub SenderId);

/// Why no place was reserved, or none given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ReserveError {
    /// There is no such sender.
    #[error(transparent)]
    UnknownSender(#[from] UnknownSender),
    /// It has reserved one already: send, or cancel.
    #[error("a place is reserved already: send, or cancel")]
    AlreadyReserved,
    /// It has reserved none.
    #[error("no place is reserved")]
    NotReserved,
    /// All of its credits are in use: what it sends now meets the overflow policy.
    #[error("none of the sender's {credits} credits is left")]
    NoCredit {
        /// How many it has.
        credits: usize,
    },
    /// It is parked with a message.
    #[error("the sender is parked")]
    Parked,
}

/// Why a message was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SendError {
    /// There is no such sender.
    #[error(transparent)]
    UnknownSender(#[from] UnknownSender),
    /// The channel takes other messages.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The sender waits with another message. It was not to send before it goes on.
    #[error("the sender is parked with a message")]
    Parked,
    /// The sender has no credit left, and the policy is to refuse.
    #[error("no credit is left")]
    NoCredit,
    /// The sender has no credit left, and there is no room to spill.
    #[error("no credit, and {spilled_bytes} bytes in {spilled} places are spilled already")]
    SpillIsFull {
        /// Messages that are spilled.
        spilled: usize,
        /// Bytes of payload in them.
        spilled_bytes: u64,
    },
}
