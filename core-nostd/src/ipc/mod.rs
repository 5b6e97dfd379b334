//! Bounded channels between processes: who may send how much, and what happens to what is too much.
//!
//! - [`Channel`]: many senders, one receiver.
//! - [`Fanout`]: one sender, many receivers.
//! - [`Message`]: what travels: a tag, a version and bytes. Each channel takes one [`Schema`].
//! - [`Qos`]: three classes of traffic, each with its [`Overflow`] policy.
//!
//! # Credits
//!
//! A sender has credits: the places in the receiver's queue that it may hold at a time. Sending takes
//! one, and it comes back when the receiver has taken the message. All credits together are at most
//! the places that there are, so no sender can take the place of another, however fast it is. Who
//! sends without credit meets the channel's overflow policy, alone. In a fan-out the credit comes back
//! when the last receiver has taken the message.
//!
//! # Whose priority
//!
//! A sender that is about to write a message can reserve its place first. From then until it has sent
//! (or cancelled) it holds space of the receiver's queue, and a receiver more urgent than the sender
//! would wait for whatever keeps the sender from running. So it inherits the receiver's level:
//! [`Channel::inherited_level`] and [`Fanout::inherited_level`] tell the scheduler. A message that was sent holds its place too, but
//! nobody waits for its sender any more.

mod channel;
mod excess;
mod fanout;
mod message;
mod queue;
mod report;
mod seat;

pub use channel::Channel;
pub use fanout::{
    Fanout, FanoutCounters, FanoutPlace, ReceiverId, ReceiverSeat, SeatsFull, Taken,
    UnknownReceiver,
};
pub use message::{EncodeError, HEADER_BYTES, Message, MessageError, Schema};
pub use queue::Place;
pub use report::{
    Counters, NewError, OpenError, Received, Refused, ReserveError, SendError, SenderId,
    SenderView, Sent, Spec, TimedOut, UnknownSender,
};
pub use seat::Seat;

pub use crate::policy::overflow::{Overflow, OverflowError, PARK_TIMEOUT, SPILL_BYTES_MAX};

/// What a channel is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Qos {
    /// Late is useless: a sender without credit waits briefly, and is then told.
    LatencySensitive,
    /// New is better than old: a sender without credit replaces its oldest message.
    BestEffort,
    /// All of it is wanted: what is sent without credit is kept aside, up to a bound.
    Bulk,
}

impl Qos {
    /// The class's policy.
    #[must_use]
    pub const fn overflow(self) -> Overflow {
        match self {
            Self::LatencySensitive => Overflow::LATENCY_SENSITIVE,
            Self::BestEffort => Overflow::BEST_EFFORT,
            Self::Bulk => Overflow::BULK,
        }
    }
}

#[cfg(test)]
mod tests;
