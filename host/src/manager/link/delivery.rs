//! What outlives an incarnation of a channel: how far its numbers have come, and how often a message was
//! delivered.
//!
//! Rules:
//! 1. A message has one number in the life of its channel. The number of the last one that was consumed is
//!    stored with the source's position, in the same commit ([`Cursor`]); a source that cannot be resumed
//!    (standard input) counts as long as the manager lives.
//! 2. The attempt of a message is one more than the number of incarnations that it was sent to before and
//!    that ended without having consumed it. It may have lain behind the one that they failed on.
//!
//! Invariant of [`Deliveries`]: every number in `past` is above `consumed`, so there are at most as many as
//! a window holds (`tests::past_deliveries_are_bounded_by_the_window`).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The first byte of a stored cursor. Positions of sources, which stood in its place before, begin with
/// small numbers.
const MAGIC: u8 = 0xc5;

/// How far a channel has come, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The number of the last message that was consumed.
    pub(crate) sequence: u64,
    /// Where the source goes on; empty if it can't say.
    pub(crate) position: Vec<u8>,
}

impl Cursor {
    /// As it is stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(9 + self.position.len());
        bytes.push(MAGIC);
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.position);
        bytes
    }

    /// What was stored: also by a version that stored the position alone.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        if let Some((&MAGIC, rest)) = bytes.split_first()
            && let Some((sequence, position)) = rest.split_first_chunk()
        {
            let sequence = u64::from_le_bytes(*sequence);
            return Self { sequence, position: position.to_vec() };
        }
        Self { sequence: 0, position: bytes.to_vec() }
    }
}

/// How far one channel has come, over all incarnations that this manager knows. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deliveries(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    consumed: u64,
    /// The last number that the present incarnation was sent.
    sent: u64,
    /// How its log stands; none of another source.
    standing: Option<Standing>,
    /// By the last number that they were sent: how many incarnations ended before it was consumed.
    past: BTreeMap<u64, u32>,
}

impl Deliveries {
    /// Another incarnation begins. `stored` is what the store has of the channel, if it has anything.
    pub(crate) fn begin(&self, stored: Option<u64>) {
        let mut state = self.state();
        state.consumed = state.consumed.max(stored.unwrap_or(0));
        let consumed = state.consumed;
        let sent = std::mem::replace(&mut state.sent, consumed);
        if sent > consumed {
            let ends = state.past.entry(sent).or_default();
            *ends = ends.saturating_add(1);
        }
        state.past = state.past.split_off(&consumed.saturating_add(1));
    }

    /// The numbers and the attempts of so many messages, which are sent next.
    pub(crate) fn next(&self, count: usize) -> Vec<(u64, u32)> {
        let mut state = self.state();
        let State { sent, past, .. } = &mut *state;
        let next = |_| {
            *sent = sent.saturating_add(1);
            let before =
                past.range(*sent..).fold(0_u32, |sum, (_, ends)| sum.saturating_add(*ends));
            (*sent, before.saturating_add(1))
        };
        (0..count).map(next).collect()
    }

    /// Everything up to and with this number was consumed.
    pub(crate) fn consumed(&self, sequence: u64) {
        let mut state = self.state();
        state.consumed = state.consumed.max(sequence);
    }

    /// Says how the log stands.
    pub(crate) fn stand(&self, standing: Standing) {
        self.state().standing = Some(standing);
    }

    /// How the log stands; none if nobody has said yet.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.state().standing.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the log of a channel stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Bytes that were seen and not read yet.
    pub(crate) lag_bytes: u64,
    /// Why it can't be read at the moment; empty: it is.
    pub(crate) unreadable: String,
}

/// Those of all channels of a fleet, by daemon and channel.
#[derive(Debug, Default)]
pub(crate) struct AllDeliveries(HashMap<(String, String), Deliveries>);

impl AllDeliveries {
    /// That of a channel, if anything was ever delivered.
    pub(crate) fn get(&self, daemon: &str, channel: &str) -> Option<&Deliveries> {
        self.0.get(&(daemon.to_owned(), channel.to_owned()))
    }

    /// That of a channel; a new one if nothing was delivered yet.
    pub(crate) fn of(&mut self, daemon: &str, channel: &str) -> Deliveries {
        self.0.entry((daemon.to_owned(), channel.to_owned())).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_so_is_a_bare_position() {
        for position in [&b""[..], &[1, 2, 3], &[MAGIC; 40]] {
            let cursor = Cursor { sequence: 7 << 40, position: position.to_vec() };
            assert_eq!(Cursor::decode(&cursor.encode()), cursor);
        }
        let old = Cursor::decode(&[1, 2, 3]);
        assert_eq!(old, Cursor { sequence: 0, position: vec![1, 2, 3] });
    }

    proptest! {
        /// Against a model that counts each delivery of each message.
        #[test]
        fn numbers_stay_and_attempts_count(
            incarnations in proptest::collection::vec((0_u64..6, 0_u64..6), 1..12),
        ) {
            let deliveries = Deliveries::default();
            let mut delivered: HashMap<u64, u32> = HashMap::new();
            let mut consumed = 0;
            for (sends, consumes) in incarnations {
                deliveries.begin(Some(consumed));
                for expected in consumed + 1..=consumed + sends {
                    let (sequence, attempt) = deliveries.next(1)[0];
                    prop_assert_eq!(sequence, expected);
                    let times = delivered.entry(sequence).or_default();
                    *times += 1;
                    prop_assert_eq!(attempt, *times);
                }
                consumed += consumes.min(sends);
                deliveries.consumed(consumed);
            }
        }
    }

    #[test]
    fn past_deliveries_are_bounded_by_the_window() {
        let deliveries = Deliveries::default();
        for round in 0..2_000 {
            deliveries.begin(None);
            deliveries.next(round % 512 + 1);
        }
        deliveries.begin(None);
        assert!(deliveries.state().past.len() <= 512);
        assert_eq!(deliveries.next(1), [(1, 2_001)]);
        // What is stored counts, and what lies before it is forgotten.
        deliveries.begin(Some(512));
        assert_eq!(deliveries.next(2), [(513, 1), (514, 1)]);
        assert_eq!(deliveries.state().past.len(), 0);
    }
}
