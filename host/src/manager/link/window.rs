//! What was sent to a channel and not consumed yet, and how much more may be.
//!
//! The feed takes room, and says what it sends. When a slice that consumed messages is committed,
//! [`ChannelWindow::position_after`] tells the position that belongs into that commit; once the store has
//! it, [`ChannelWindow::consume`] makes room.
//!
//! Invariants: what was sent and not consumed plus the free room is at most [`CHANNEL_MESSAGES_MAX`] messages
//! and [`WINDOW_BYTES_MAX`] bytes (`tests::long_messages_fill_a_window_too`); the numbers in `sent` grow by one.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use duende_core::wire::link::{CHANNEL_MESSAGES_MAX, Part, VALUE_BYTES_MAX};
use tokio::sync::Semaphore;

use super::delivery::{Cursor, Deliveries, Standing};
use crate::source::Position;

/// Most bytes of messages that were sent to a channel and not consumed: what one call of `receive` may hand over.
pub(crate) const WINDOW_BYTES_MAX: usize = 1 << 20;
/// The unit in which they are counted: permits have 32 bits, and lines are short.
const UNIT_BYTES: usize = 1 << 10;
/// What the longest message needs.
const MESSAGE_UNITS: usize = VALUE_BYTES_MAX / UNIT_BYTES;

/// Room that was taken for messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) messages: usize,
    units: usize,
}

impl Room {
    pub(crate) const fn bytes(self) -> usize {
        self.units * UNIT_BYTES
    }

    /// What so many messages, and bytes of them, need.
    pub(crate) const fn of(messages: usize, bytes: usize) -> Self {
        Self { messages, units: bytes.div_ceil(UNIT_BYTES) }
    }

    const fn less(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(other.messages),
            units: self.units.saturating_sub(other.units),
        }
    }
}

/// What was sent to a channel and not consumed yet.
#[derive(Debug)]
pub(crate) struct ChannelWindow {
    name: String,
    room: Semaphore,
    room_units: Semaphore,
    sent: Mutex<Sending>,
    deliveries: Deliveries,
    /// What is kept of a source that cannot be read again, until it is consumed.
    backlog: Option<Backlog>,
}

/// Messages of a source that cannot be read again: the standard input. They are kept until they are
/// consumed, over any number of incarnations.
pub(crate) type Backlog = Arc<Mutex<VecDeque<(Part, Vec<u8>)>>>;

#[derive(Debug)]
struct Sent {
    sequence: u64,
    /// Where the source goes on after it; empty if it does not say.
    position: Position,
    /// The room in bytes that is free when it is consumed: that of all that was sent with it, before it.
    units: usize,
}

#[derive(Debug, Default)]
struct Sending {
    sent: VecDeque<Sent>,
    /// Where the source goes on after what was consumed last, as far as that is known.
    position: Position,
}

impl ChannelWindow {
    /// Of a source that goes on at `stored`, if it can be resumed and ever was; one with a backlog can't.
    pub(crate) fn new(
        name: &str,
        deliveries: Deliveries,
        stored: Option<Cursor>,
        backlog: Option<Backlog>,
    ) -> Self {
        deliveries.begin(stored.as_ref().map(|cursor| cursor.sequence));
        let position = stored.map(|cursor| Position::stored(&cursor.position)).unwrap_or_default();
        Self {
            name: name.to_owned(),
            room: Semaphore::new(CHANNEL_MESSAGES_MAX),
            room_units: Semaphore::new(WINDOW_BYTES_MAX / UNIT_BYTES),
            sent: Mutex::new(Sending { sent: VecDeque::new(), position }),
            deliveries,
            backlog,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Says how the log that feeds it stands.
    pub(crate) fn stand(&self, standing: Standing) {
        self.deliveries.stand(standing);
    }

    /// What is to be stored once everything up to and with `sequence` was consumed; none if nothing was,
    /// or the source can't be resumed.
    pub(crate) fn position_after(&self, sequence: u64) -> Option<Vec<u8>> {
        if self.backlog.is_some() {
            return None;
        }
        let sending = self.sending_state();
        let consumed = || sending.sent.iter().take_while(|sent| sent.sequence <= sequence);
        let last = consumed().last()?;
        let said = consumed()
            .map(|sent| &sent.position)
            .filter(|position| !position.is_empty())
            .last()
            .unwrap_or(&sending.position);
        Some(Cursor { sequence: last.sequence, position: said.encode() }.encode())
    }

    /// Everything up to and with `sequence` was consumed, and is in the store's hands: there is room
    /// again. How many messages that were.
    pub(crate) fn consume(&self, sequence: u64) -> u64 {
        let (mut messages, mut units) = (0, 0);
        let mut sending = self.sending_state();
        while sending.sent.front().is_some_and(|first| first.sequence <= sequence) {
            if let Some(Sent { position, units: sent, .. }) = sending.sent.pop_front() {
                units += sent;
                if !position.is_empty() {
                    sending.position = position;
                }
            }
            messages += 1;
            if let Some(backlog) = &self.backlog {
                lock(backlog).pop_front();
            }
        }
        drop(sending);
        if messages > 0 {
            self.deliveries.consumed(sequence);
        }
        self.room.add_permits(usize::try_from(messages).unwrap_or(0));
        self.room_units.add_permits(units);
        messages
    }

    /// Waits for room for one message, and takes room for up to `most`. How much it took; none once the window
    /// is closed.
    pub(crate) async fn take_room(&self, most: Room) -> Option<Room> {
        // Both or none: a call that is cancelled has taken nothing.
        let message = self.room.acquire().await.ok()?;
        let units = self.room_units.acquire_many(permits(MESSAGE_UNITS)).await.ok()?;
        message.forget();
        units.forget();
        let more = |room: &Semaphore, most: usize| {
            let more = room.available_permits().min(most);
            // Nobody else takes any: it is there.
            let taken = room.try_acquire_many(permits(more)).is_ok_and(|taken| {
                taken.forget();
                true
            });
            if taken { more } else { 0 }
        };
        Some(Room {
            messages: 1 + more(&self.room, most.messages.saturating_sub(1)),
            units: MESSAGE_UNITS + more(&self.room_units, most.units.saturating_sub(MESSAGE_UNITS)),
        })
    }

    /// Gives back room that was taken, but for what is needed.
    pub(crate) fn give_back(&self, taken: Room, needed: Room) {
        let Room { messages, units } = taken.less(needed);
        self.room.add_permits(messages);
        self.room_units.add_permits(units);
    }

    /// Messages are sent, in room of so many bytes that was taken for them. `positions` are where the source
    /// goes on after each. Their numbers, and which attempt each is.
    pub(crate) fn sending(&self, positions: &[&Position], room: Room) -> Vec<(u64, u32)> {
        let numbers = self.deliveries.next(positions.len());
        let sent = numbers.iter().zip(positions);
        let sent = sent.map(|((sequence, _), position)| Sent {
            sequence: *sequence,
            position: Position::clone(position),
            units: 0,
        });
        let mut sending = self.sending_state();
        sending.sent.extend(sent);
        if let Some(last) = sending.sent.back_mut().filter(|_| !positions.is_empty()) {
            last.units = room.units;
        }
        drop(sending);
        numbers
    }

    /// Keeps messages until they are consumed, if their source cannot be read again.
    pub(crate) fn keep<'a>(&self, payloads: impl Iterator<Item = (Part, &'a Vec<u8>)>) {
        if let Some(backlog) = &self.backlog {
            lock(backlog).extend(payloads.map(|(part, payload)| (part, payload.clone())));
        }
    }

    /// What is kept, the oldest first.
    pub(crate) fn kept(&self) -> Vec<(Part, Vec<u8>)> {
        self.backlog
            .as_ref()
            .map_or_else(Vec::new, |backlog| lock(backlog).iter().cloned().collect())
    }

    /// Waits until everything that was sent is consumed.
    pub(crate) async fn drained(&self) {
        let all = u32::try_from(CHANNEL_MESSAGES_MAX).unwrap_or(u32::MAX);
        // Fails only if the semaphore is closed, which nobody does.
        let _ = self.room.acquire_many(all).await;
    }

    fn sending_state(&self) -> MutexGuard<'_, Sending> {
        lock(&self.sent)
    }
}

fn permits(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window_with(sequences: u64) -> ChannelWindow {
        let window = ChannelWindow::new("lines", Deliveries::default(), None, None);
        for sequence in 1..=sequences {
            window.room.try_acquire().unwrap().forget();
            let position = sequence.to_le_bytes().to_vec();
            assert_eq!(
                window.sending(&[&Position::stored(&position)], Room::default()),
                [(sequence, 1)]
            );
        }
        window
    }

    #[test]
    fn consuming_makes_room_and_tells_the_last_position() {
        let window = window_with(3);
        assert_eq!(window.room.available_permits(), CHANNEL_MESSAGES_MAX - 3);
        let position = 2_u64.to_le_bytes().to_vec();
        assert_eq!(window.position_after(2), Some(Cursor { sequence: 2, position }.encode()));
        // Only the store's word makes room.
        assert_eq!(window.room.available_permits(), CHANNEL_MESSAGES_MAX - 3);
        assert_eq!(window.consume(2), 2);
        assert_eq!(window.room.available_permits(), CHANNEL_MESSAGES_MAX - 1);
        assert_eq!((window.position_after(2), window.consume(2)), (None, 0));
        assert_eq!(window.consume(3), 1);
    }

    /// A source that does not say where it goes on keeps the place that is known.
    #[test]
    fn a_number_is_stored_without_a_position_too() {
        let stored = Cursor { sequence: 9, position: b"here".to_vec() };
        let window = ChannelWindow::new("lines", Deliveries::default(), Some(stored), None);
        let after = |sequence, position: &[u8]| {
            Some(Cursor { sequence, position: position.to_vec() }.encode())
        };
        for position in [&b""[..], b"there", b""] {
            window.room.try_acquire().unwrap().forget();
            window.sending(&[&Position::stored(position)], Room::default());
        }
        assert_eq!(window.position_after(10), after(10, b"here"));
        assert_eq!(window.position_after(12), after(12, b"there"));
        window.consume(11);
        assert_eq!(window.position_after(12), after(12, b"there"));
    }

    #[tokio::test]
    async fn long_messages_fill_a_window_too() {
        let window = ChannelWindow::new("lines", Deliveries::default(), None, None);
        let most = Room::of(64, 4 * VALUE_BYTES_MAX);
        let is_full = async || {
            tokio::select! {
                biased;
                room = window.take_room(most) => { window.give_back(room.unwrap(), Room::default()); false }
                () = tokio::task::yield_now() => true,
            }
        };
        let mut sent = 0;
        for sequence in 1.. {
            if is_full().await {
                break;
            }
            let taken = window.take_room(most).await.unwrap();
            assert!(taken.bytes() >= VALUE_BYTES_MAX);
            let needed = Room::of(1, VALUE_BYTES_MAX);
            window.give_back(taken, needed);
            assert_eq!(window.sending(&[&Position::default()], needed), [(sequence, 1)]);
            sent += VALUE_BYTES_MAX;
        }
        assert_eq!(sent, WINDOW_BYTES_MAX);
        assert_eq!(window.consume(1), 1);
        assert!(!is_full().await);
        assert_eq!(window.room.available_permits(), CHANNEL_MESSAGES_MAX - 15);
    }

    #[test]
    fn a_backlog_shrinks_by_what_was_consumed() {
        let backlog = Backlog::default();
        let kept = [(Part::First, b"a".to_vec()), (Part::Last, b"b".to_vec())];
        lock(&backlog).extend(kept.clone());
        let mut window = window_with(2);
        window.backlog = Some(backlog.clone());
        window.consume(1);
        assert_eq!(*lock(&backlog), &kept[1..]);
    }
}
