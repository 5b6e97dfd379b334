//! From a source to a daemon's channel, within the window.
//!
//! The feed of a channel reads its source only as far as the daemon's [`ChannelWindow`] has room, sends
//! each item as a message, many in a frame, and tells the window where the source goes on after it.

use std::sync::Arc;

use duende_core::wire::{
    EncodeError,
    link::{Address, Command, PAYLOAD_PREFIX_BYTES, Payloads, payload_prefix},
};

use super::{
    delivery::Standing,
    peer::{NewsSender, Outbox, encode_to},
    window::{ChannelWindow, Room},
};
use crate::{
    backend::{News, SourceWord},
    source::{Item, Notice, Position, Source, SourceError},
};

/// Most messages and bytes of payload in one write to the peer.
const BATCH_MAX: Room = Room::of(64, 256 << 10);
/// Most payload in one frame, with what stands before each, in bytes.
const FRAME_PAYLOADS_BYTES_MAX: usize = 64 << 10;

/// Feeds one channel of one incarnation until the incarnation's end aborts it, or the source ends.
pub(crate) struct Feed {
    pub(crate) at: Address,
    pub(crate) channel: u8,
    pub(crate) window: Arc<ChannelWindow>,
    pub(crate) outbox: Outbox,
    pub(crate) news: NewsSender,
}

impl Feed {
    /// Runs the feed from a source of its own.
    pub(crate) async fn run(self, mut source: Source) {
        self.pump(&mut source).await;
    }

    /// Runs the feed from a source that outlives the incarnation: what earlier ones did not consume
    /// comes first.
    pub(crate) async fn run_shared(self, source: Arc<tokio::sync::Mutex<Source>>) {
        // The feed of the last incarnation holds this lock until it is aborted.
        let mut source = source.lock().await;
        for (part, payload) in self.window.kept() {
            let room = Room::of(1, payload.len());
            let Some(taken) = self.window.take_room(room).await else { return };
            self.window.give_back(taken, room);
            let item = Item { payload, part, position: Position::default() };
            if !self.send(&[item], room).await {
                return;
            }
        }
        self.pump(&mut source).await;
    }

    async fn pump(&self, source: &mut Source) {
        // What was found when it was opened.
        self.tell(source).await;
        loop {
            let taken = tokio::select! {
                biased;
                taken = self.window.take_room(BATCH_MAX) => taken,
                // A file that comes while the daemon lags is opened all the same.
                () = source.attend() => {
                    self.tell(source).await;
                    continue;
                }
            };
            let Some(taken) = taken else { return };
            let batch = source.next_batch(taken.messages, taken.bytes()).await;
            self.tell(source).await;
            match batch {
                Ok(items) => {
                    let bytes = items.iter().map(|item| item.payload.len()).sum();
                    let room = Room::of(items.len(), bytes);
                    self.window.give_back(taken, room);
                    self.window.keep(items.iter().map(|item| (item.part, &item.payload)));
                    if !self.send(&items, room).await {
                        return;
                    }
                }
                Err(error) => {
                    self.window.give_back(taken, Room::default());
                    self.window.drained().await;
                    let failure = match error {
                        SourceError::Ended => None,
                        error => Some(self.named(&error.to_string())),
                    };
                    self.news.send(self.at, News::SourceDrained { failure }).await;
                    return;
                }
            }
        }
    }

    /// Sends items; room for them was taken before.
    async fn send(&self, items: &[Item], room: Room) -> bool {
        // What other channels of the link have waiting counts too.
        self.outbox.room().await;
        let positions: Vec<_> = items.iter().map(|item| &item.position).collect();
        let numbers = self.window.sending(&positions, room);
        match frames(self.at, self.channel, items, &numbers) {
            Ok(frames) => {
                if !frames.is_empty() {
                    self.outbox.send_frames(frames);
                }
                true
            }
            Err(error) => {
                self.say(SourceWord::Gap, &error.to_string()).await;
                false
            }
        }
    }

    /// Says what happened to the source, and how it stands.
    async fn tell(&self, source: &mut Source) {
        if let Some((lag_bytes, unreadable)) = source.standing() {
            let unreadable = unreadable.unwrap_or_default().to_owned();
            self.window.stand(Standing { lag_bytes, unreadable });
        }
        for notice in source.take_notices() {
            self.say(word(&notice), &notice.to_string()).await;
        }
    }

    async fn say(&self, word: SourceWord, text: &str) {
        self.news.send(self.at, News::Source { word, text: self.named(text) }).await;
    }

    fn named(&self, text: &str) -> String {
        format!("channel {}: {text}", self.window.name())
    }
}

const fn word(notice: &Notice) -> SourceWord {
    match notice {
        Notice::Gap(_) => SourceWord::Gap,
        Notice::Unreadable { .. } | Notice::Polling { .. } | Notice::Dropped { .. } => {
            SourceWord::Trouble
        }
        Notice::Rotated
        | Notice::Truncated { .. }
        | Notice::Cut { .. }
        | Notice::LineTooLong { .. }
        | Notice::LineUnfinished { .. }
        | Notice::Readable => SourceWord::Note,
    }
}

/// Items as messages, with the number and the attempt of each: as many in one frame as are of one attempt, and
/// no more bytes than [`FRAME_PAYLOADS_BYTES_MAX`] unless the first one alone has more.
fn frames(
    at: Address,
    channel: u8,
    items: &[Item],
    numbers: &[(u64, u32)],
) -> Result<Vec<u8>, EncodeError> {
    let mut frames = Vec::new();
    let mut joined = Vec::new();
    let mut first = None;
    let mut finish = |first: Option<(u64, u32)>, joined: &mut Vec<u8>| {
        let Some((sequence, attempt)) = first else { return Ok(()) };
        let payloads = Payloads::new(joined);
        let messages = Command::Messages { at, channel, sequence, attempt, payloads };
        encode_to(&messages, &mut frames)?;
        joined.clear();
        Ok(())
    };
    for (item, number) in items.iter().zip(numbers) {
        let (_, attempt) = *number;
        let bytes = item.payload.len().saturating_add(PAYLOAD_PREFIX_BYTES);
        let has_room = joined.len().saturating_add(bytes) <= FRAME_PAYLOADS_BYTES_MAX;
        if !has_room || first.is_some_and(|(_, of_first)| of_first != attempt) {
            finish(first.take(), &mut joined)?;
        }
        first.get_or_insert(*number);
        joined.extend_from_slice(&payload_prefix(item.part, item.payload.len()));
        joined.extend_from_slice(&item.payload);
    }
    finish(first, &mut joined)?;
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use duende_core::wire::{Decoder, link::Part};
    use proptest::prelude::*;

    use super::*;

    const AT: Address = Address::of(3, 4);

    proptest! {
        /// What is read back is what was sent, under its number, its attempt and its part, in frames that fit.
        #[test]
        fn messages_arrive_as_they_were_numbered(
            lengths in prop::collection::vec(prop_oneof![0..200_usize, 60_000..65_537_usize], 0..40),
            attempts in prop::collection::vec(1..3_u32, 40),
        ) {
            let items: Vec<Item> = lengths
                .iter()
                .enumerate()
                .map(|(index, length)| Item {
                    part: Part::of(index % 2 == 0, index % 3 == 0),
                    payload: vec![u8::try_from(index).unwrap(); *length],
                    position: Position::default(),
                })
                .collect();
            let numbers: Vec<(u64, u32)> = (7..).zip(attempts).collect();
            let frames = frames(AT, 5, &items, &numbers).unwrap();
            let mut decoder = Decoder::new(vec![0; frames.len().max(64)]);
            decoder.spare()[..frames.len()].copy_from_slice(&frames);
            decoder.filled(frames.len());
            let mut received = Vec::new();
            while let Some(command) = decoder.next::<Command<'_>>().unwrap() {
                let Command::Messages { at: AT, channel: 5, sequence, attempt, payloads } = command
                else {
                    panic!("{command:?}")
                };
                prop_assert!(payloads.count().is_some());
                received.extend((sequence..).zip(payloads.iter().map(|(part, one)| (attempt, part, one.to_vec()))));
            }
            let sent = items.into_iter().zip(numbers);
            let sent: Vec<_> = sent
                .map(|(Item { part, payload, .. }, (number, attempt))| (number, (attempt, part, payload)))
                .collect();
            prop_assert_eq!(received, sent);
        }
    }
}
