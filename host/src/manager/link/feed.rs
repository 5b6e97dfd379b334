//! From a source to a daemon's channel, within the window.
//!
//! The feed of a channel reads its source only as far as the daemon's window has room, sends each
//! item as a message, and remembers where the source goes on after it. When a slice that consumed
//! messages is committed, [`ChannelWindow::position_after`] tells the position that belongs into that
//! commit; once the store has it, [`ChannelWindow::consume`] makes room.
//!
//! Invariants: what was sent and not consumed plus the free room is at most
//! [`CHANNEL_MESSAGES_MAX`]; sequences in `sent` grow by one.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use duende_core::wire::link::{Address, CHANNEL_MESSAGES_MAX, Command};
use tokio::sync::Semaphore;

use super::peer::{NewsSender, Outbox, encode_to};
use crate::{
    backend::News,
    source::{Item, Notice, Source, SourceError},
};

/// How long after a failed read the source is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Most messages in one write to the peer.
const BATCH_MESSAGES_MAX: usize = 64;
/// Most payload in one write to the peer, in bytes.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// What was sent to a channel and not consumed yet.
#[derive(Debug)]
pub(crate) struct ChannelWindow {
    name: String,
    room: Semaphore,
    sent: Mutex<VecDeque<Sent>>,
    /// What is kept of a source that cannot be read again, until it is consumed.
    backlog: Option<Backlog>,
}

/// Messages of a source that cannot be read again: the standard input. They are kept until they are
/// consumed, over any number of incarnations.
pub(crate) type Backlog = Arc<Mutex<VecDeque<Vec<u8>>>>;

#[derive(Debug)]
struct Sent {
    sequence: u64,
    position: Vec<u8>,
}

impl ChannelWindow {
    pub(crate) fn new(name: &str, backlog: Option<Backlog>) -> Self {
        Self {
            name: name.to_owned(),
            room: Semaphore::new(CHANNEL_MESSAGES_MAX),
            sent: Mutex::default(),
            backlog,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where the source goes on once everything up to and with `sequence` was consumed; none for
    /// sources without a place.
    pub(crate) fn position_after(&self, sequence: u64) -> Option<Vec<u8>> {
        let sent = self.sent();
        let consumed = sent.iter().take_while(|sent| sent.sequence <= sequence);
        consumed.map(|sent| &sent.position).filter(|position| !position.is_empty()).last().cloned()
    }

    /// Everything up to and with `sequence` was consumed, and is in the store's hands: there is room
    /// again. How many messages that were.
    pub(crate) fn consume(&self, sequence: u64) -> u64 {
        let mut messages = 0;
        let mut sent = self.sent();
        while sent.front().is_some_and(|first| first.sequence <= sequence) {
            sent.pop_front();
            messages += 1;
            if let Some(backlog) = &self.backlog {
                lock(backlog).pop_front();
            }
        }
        drop(sent);
        self.room.add_permits(usize::try_from(messages).unwrap_or(0));
        messages
    }

    fn sent(&self) -> MutexGuard<'_, VecDeque<Sent>> {
        lock(&self.sent)
    }

    /// Waits until the window is empty.
    async fn drained(&self) {
        let all = u32::try_from(CHANNEL_MESSAGES_MAX).unwrap_or(u32::MAX);
        // Fails only if the semaphore is closed, which nobody does.
        let _ = self.room.acquire_many(all).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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
        let mut sequence = 0;
        self.pump(&mut source, &mut sequence).await;
    }

    /// Runs the feed from a source that outlives the incarnation: what earlier ones did not consume
    /// comes first.
    pub(crate) async fn run_shared(self, source: Arc<tokio::sync::Mutex<Source>>) {
        // The feed of the last incarnation holds this lock until it is aborted.
        let mut source = source.lock().await;
        let mut sequence = 0;
        let unconsumed: Vec<_> = match &self.window.backlog {
            Some(backlog) => lock(backlog).iter().cloned().collect(),
            None => Vec::new(),
        };
        for payload in unconsumed {
            if let Ok(permit) = self.window.room.acquire().await {
                permit.forget();
            }
            let item = Item { payload, position: Vec::new() };
            if !self.send(&[item], &mut sequence).await {
                return;
            }
        }
        self.pump(&mut source, &mut sequence).await;
    }

    async fn pump(&self, source: &mut Source, sequence: &mut u64) {
        loop {
            // Room for one is waited for; more is taken as it is there.
            match self.window.room.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => return,
            }
            let more = self.window.room.available_permits().min(BATCH_MESSAGES_MAX - 1);
            let taken = match self.window.room.try_acquire_many(u32::try_from(more).unwrap_or(0)) {
                Ok(permits) => {
                    permits.forget();
                    more + 1
                }
                Err(_) => 1,
            };
            let batch = source.next_batch(taken, BATCH_BYTES_MAX).await;
            for notice in source.take_notices() {
                let gap = matches!(notice, Notice::Gap { .. });
                self.say(gap, notice.to_string()).await;
            }
            match batch {
                Err(SourceError::Ended) => {
                    self.window.room.add_permits(taken);
                    self.window.drained().await;
                    self.news.send(self.at, News::SourceDrained).await;
                    return;
                }
                Ok(items) => {
                    self.window.room.add_permits(taken.saturating_sub(items.len()));
                    if let Some(backlog) = &self.window.backlog {
                        lock(backlog).extend(items.iter().map(|item| item.payload.clone()));
                    }
                    if !self.send(&items, sequence).await {
                        return;
                    }
                }
                Err(error) => {
                    // The source keeps its place: nothing is lost, and it may work again.
                    self.window.room.add_permits(taken);
                    self.say(false, error.to_string()).await;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Sends items; room for them was taken before.
    async fn send(&self, items: &[Item], sequence: &mut u64) -> bool {
        let mut frames = Vec::new();
        for item in items {
            *sequence += 1;
            let command = Command::Message {
                at: self.at,
                channel: self.channel,
                sequence: *sequence,
                payload: &item.payload,
            };
            self.window
                .sent()
                .push_back(Sent { sequence: *sequence, position: item.position.clone() });
            if let Err(error) = encode_to(&command, &mut frames) {
                self.say(true, error.to_string()).await;
                return false;
            }
        }
        if !frames.is_empty() {
            self.outbox.send_frames(frames);
        }
        true
    }

    async fn say(&self, gap: bool, text: String) {
        let text = format!("channel {}: {text}", self.window.name());
        self.news.send(self.at, News::Source { gap, text }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window_with(sequences: u64) -> ChannelWindow {
        let window = ChannelWindow::new("lines", None);
        for sequence in 1..=sequences {
            window.room.try_acquire().unwrap().forget();
            let position = sequence.to_le_bytes().to_vec();
            window.sent().push_back(Sent { sequence, position });
        }
        window
    }

    #[test]
    fn consuming_makes_room_and_tells_the_last_position() {
        let window = window_with(3);
        assert_eq!(window.room.available_permits(), CHANNEL_MESSAGES_MAX - 3);
        assert_eq!(window.position_after(2), Some(2_u64.to_le_bytes().to_vec()));
        // Only the store's word makes room.
        assert_eq!(window.room.available_permits(), CHANNEL_MESSAGES_MAX - 3);
        assert_eq!(window.consume(2), 2);
        assert_eq!(window.room.available_permits(), CHANNEL_MESSAGES_MAX - 1);
        assert_eq!((window.position_after(2), window.consume(2)), (None, 0));
        assert_eq!(window.consume(3), 1);
    }

    #[test]
    fn a_backlog_shrinks_by_what_was_consumed() {
        let backlog = Backlog::default();
        lock(&backlog).extend([b"a".to_vec(), b"b".to_vec()]);
        let mut window = window_with(2);
        window.backlog = Some(backlog.clone());
        window.consume(1);
        assert_eq!(*lock(&backlog), [b"b".to_vec()]);
    }
}
