//! Who may send in a channel: its senders, each in a seat.
//!
//! Rules:
//! 1. A name is never given twice, and says which channel it belongs to: a stale one, and one of
//!    another channel, are refused.
//! 2. A sender that has left answers to its name no more, and keeps its seat while its messages wait.

use super::queue::Own;
use super::{Message, SenderId, UnknownSender};
use crate::time::Instant;

/// A place for one sender in a channel's storage.
#[derive(Clone, Debug)]
pub struct Seat<P>(pub(super) Option<Sender<P>>);

impl<P> Seat<P> {
    /// A place without a sender.
    pub const EMPTY: Self = Self(None);
}

impl<P> Default for Seat<P> {
    fn default() -> Self {
        Self::EMPTY
    }
}

#[derive(Clone, Debug)]
pub(super) struct Sender<P> {
    /// Tells it from those who sat here before.
    pub(super) serial: u64,
    pub(super) credits: usize,
    /// Places that it holds on credit, the reserved one included.
    pub(super) used: usize,
    pub(super) reserved: bool,
    pub(super) parked: Option<Parked<P>>,
    pub(super) own: Own,
    pub(super) left: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Parked<P> {
    pub(super) message: Message<P>,
    pub(super) deadline: Instant,
}

impl<P> Sender<P> {
    pub(super) const fn is_named(&self, channel: u32, id: SenderId) -> bool {
        id.channel == channel && id.serial == self.serial && !self.left
    }
}

/// The seat of a number. Not a method: the queue is used beside it.
pub(super) fn seat_mut<P, R: AsMut<[Seat<P>]>>(seats: &mut R, seat: u32) -> Option<&mut Seat<P>> {
    seats.as_mut().get_mut(usize::try_from(seat).ok()?)
}

/// The sender of a name. Not a method: the queue is used beside it.
pub(super) fn known<P, R: AsMut<[Seat<P>]>>(
    channel: u32,
    seats: &mut R,
    id: SenderId,
) -> Result<&mut Sender<P>, UnknownSender> {
    match seat_mut(seats, id.seat).and_then(|seat| seat.0.as_mut()) {
        Some(sender) if sender.is_named(channel, id) => Ok(sender),
        _ => Err(UnknownSender(id)),
    }
}
