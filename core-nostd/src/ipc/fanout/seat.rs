//! Who receives from a fan-out: each in a seat, with the number of the message that it takes next.

use crate::sched::Level;

/// A place for one receiver in a fan-out's storage.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReceiverSeat(pub(super) Option<Receiver>);

impl ReceiverSeat {
    /// A place without a receiver.
    pub const EMPTY: Self = Self(None);
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Receiver {
    /// Tells it from those who sat here before.
    pub(super) serial: u64,
    /// The number of the next message that it takes, perhaps one that was dropped.
    pub(super) next: u64,
    pub(super) level: Level,
}
