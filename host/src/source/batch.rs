//! What a source gives: items, and where it goes on after each.

use std::sync::Arc;

use duende_core::wire::link::Part;

use super::follow::LogPosition;

/// One message for the channel.
#[derive(Clone, Debug)]
pub struct Item {
    /// At most [`ITEM_BYTES_MAX`](super::ITEM_BYTES_MAX) bytes.
    pub payload: Vec<u8>,
    /// Which part of a longer line it is.
    pub part: Part,
    /// What to commit when the item was consumed.
    pub position: Position,
}

/// Where a source goes on. Cheap to make and to clone: what is committed is made of it only when it is
/// committed.
#[derive(Clone, Debug, Default)]
pub struct Position(Kind);

#[derive(Clone, Debug, Default)]
enum Kind {
    /// The source cannot be read again.
    #[default]
    None,
    Stored(Arc<[u8]>),
    Log(LogPosition),
}

impl Position {
    /// As it was committed.
    #[must_use]
    pub fn stored(bytes: &[u8]) -> Self {
        if bytes.is_empty() { Self::default() } else { Self(Kind::Stored(bytes.into())) }
    }

    pub(super) fn log(position: LogPosition) -> Self {
        Self(Kind::Log(position))
    }

    /// Whether the source cannot be read again.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        matches!(self.0, Kind::None)
    }

    /// What to commit; empty if the source cannot be read again.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match &self.0 {
            Kind::None => Vec::new(),
            Kind::Stored(bytes) => bytes.to_vec(),
            Kind::Log(position) => position.encode(),
        }
    }
}

/// The items of one answer, and the room that is left in it.
#[derive(Debug)]
pub struct Batch {
    items: Vec<Item>,
    items_max: usize,
    bytes_left: usize,
}

impl Batch {
    /// Of at most `items_max` items (at least one) and, unless the first alone is larger, `bytes_max`
    /// bytes of payload.
    #[must_use]
    pub fn new(items_max: usize, bytes_max: usize) -> Self {
        Self { items: Vec::new(), items_max: items_max.max(1), bytes_left: bytes_max }
    }

    /// What it holds.
    #[must_use]
    pub fn into_items(self) -> Vec<Item> {
        self.items
    }

    /// An empty one with the same room.
    #[cfg(feature = "manager")]
    pub(super) const fn like(&self) -> Self {
        Self { items: Vec::new(), items_max: self.items_max, bytes_left: self.bytes_left }
    }

    #[cfg(feature = "manager")]
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether an item of this size still fits. The first always does.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.items.is_empty() || (self.items.len() < self.items_max && bytes <= self.bytes_left)
    }

    pub(super) fn push(&mut self, part: Part, payload: Vec<u8>, position: Position) {
        self.bytes_left = self.bytes_left.saturating_sub(payload.len());
        self.items.push(Item { payload, part, position });
    }
}
