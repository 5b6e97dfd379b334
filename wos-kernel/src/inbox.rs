//! The receiving end of a channel: the manager is its one sender, the daemon its receiver.
//!
//! The rules of credits and places are the core's ([`ipc::Channel`]). Here are those of the link:
//! 1. The manager has as many credits as it said: the window, at most `CHANNEL_MESSAGES_MAX`. What it
//!    sends beyond them breaks the protocol: nobody waits for a credit, and nothing is dropped.
//! 2. Places are made with the first message: a daemon to whom nobody sends pays for none.
//! 3. What a slice received counts as consumed when the slice is committed.

use alloc::{boxed::Box, vec, vec::Vec};
#[cfg(test)]
use duende_core::epitaph::Epitaph;
use duende_core::{
    ipc::{self, Overflow, Place, Schema, Seat, SenderId, Spec},
    time::Instant,
    wire::link::{Part, VALUE_BYTES_MAX},
};

use crate::limits::RECEIVE_BYTES_MAX;

/// Nobody waits in this channel, so time plays no part.
const NOW: Instant = Instant::ZERO;
/// The one kind of message: bytes, of whose form the kernel knows nothing.
const SCHEMA: Schema = Schema { tag: 0, version: 0, length_bytes_max: 65_536 };
const _: () = assert!(SCHEMA.length_bytes_max as usize == VALUE_BYTES_MAX);

/// One message of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number in the channel; without gaps within this incarnation.
    pub sequence: u64,
    /// 1; more if it was delivered before.
    pub attempt: u32,
    /// Which part of a longer item it is.
    pub part: Part,
    /// The bytes.
    pub payload: Vec<u8>,
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

type Channel = ipc::Channel<Message, Box<[Place<Message>]>, [Seat<Message>; 1]>;

/// The queue of one channel, and what the open slice took from it.
pub(crate) struct Inbox {
    /// Most messages that are in the queue or taken from it by the open slice.
    window: usize,
    /// None until the first message.
    queue: Option<(Channel, SenderId)>,
    /// The first and the last message that the open slice received, if it received one.
    received: Option<(u64, u64)>,
}

impl Inbox {
    /// An empty one, with a window of so many messages.
    pub(crate) const fn new(window: usize) -> Self {
        Self { window, queue: None, received: None }
    }

    /// Takes a message in. False if the manager broke its promise: it has no credit left, or the
    /// message is too long.
    pub(crate) fn deliver(&mut self, message: Message) -> bool {
        if self.queue.is_none() {
            self.queue = open(self.window);
        }
        let Some((channel, manager)) = &mut self.queue else { return false };
        let message = ipc::Message { tag: SCHEMA.tag, version: SCHEMA.version, payload: message };
        channel.send(NOW, *manager, message).is_ok()
    }

    /// Takes up to `max` messages out, the oldest first, and no more than [`RECEIVE_BYTES_MAX`] bytes
    /// of payload unless the first one alone has more.
    pub(crate) fn receive(&mut self, max: usize) -> Vec<Message> {
        let Some((channel, _)) = &mut self.queue else { return Vec::new() };
        let mut messages = Vec::with_capacity(max.min(channel.len()));
        let mut bytes = 0_usize;
        while messages.len() < max
            && let Some(next) = channel.peek()
        {
            bytes = bytes.saturating_add(next.payload.payload.len());
            if bytes > RECEIVE_BYTES_MAX && !messages.is_empty() {
                break;
            }
            let Some(received) = channel.receive(NOW) else { break };
            let message = received.message.payload;
            let first = self.received.map_or(message.sequence, |(first, _)| first);
            self.received = Some((first, message.sequence));
            messages.push(message);
        }
        messages
    }

    /// Whether it holds no message.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.as_ref().is_none_or(|(channel, _)| channel.is_empty())
    }

    /// Whether the open slice has received something and left something.
    pub(crate) fn is_partly_drained(&self) -> bool {
        self.received.is_some() && !self.is_empty()
    }

    /// Whether the open slice has received the message of this number.
    pub(crate) fn has_received(&self, sequence: u64) -> bool {
        self.received.is_some_and(|(first, last)| (first..=last).contains(&sequence))
    }

    /// Commits what the open slice received: the number of the last message, if there was one.
    pub(crate) fn commit(&mut self) -> Option<u64> {
        self.received.take().map(|(_, last)| last)
    }

    /// Whether the rules of the channel hold.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not hold.
    #[cfg(test)]
    pub(crate) fn check_invariants(&self) -> Result<(), Epitaph> {
        self.queue.as_ref().map_or(Ok(()), |(channel, _)| channel.check_invariants())
    }
}

/// A channel with the manager as its sender. None if its window has no room at all.
fn open(window: usize) -> Option<(Channel, SenderId)> {
    let places = vec![Place::EMPTY; window].into_boxed_slice();
    let spec = Spec { schema: SCHEMA, overflow: Overflow::RejectNew, credits_max: window };
    let mut channel = Channel::new(0, places, [Seat::EMPTY], spec).ok()?;
    let manager = channel.open(window).ok()?;
    Some((channel, manager))
}

#[cfg(test)]
mod tests {
    use duende_core::wire::link::CHANNEL_MESSAGES_MAX;

    use super::*;

    fn message(sequence: u64, bytes: usize) -> Message {
        Message { sequence, attempt: 1, part: Part::Whole, payload: vec![0; bytes] }
    }

    #[test]
    fn the_window_is_exact_and_reopens_with_each_message_received() {
        for window in [2, 100, CHANNEL_MESSAGES_MAX] {
            let mut inbox = Inbox::new(window);
            let full = window as u64;
            for sequence in 1..=full {
                assert!(inbox.deliver(message(sequence, 1)));
            }
            assert!(!inbox.deliver(message(full + 1, 1)));
            assert!(!inbox.is_partly_drained());
            assert_eq!(inbox.receive(1).len(), 1);
            assert!(inbox.is_partly_drained());
            assert!(inbox.deliver(message(full + 1, 1)));
            assert!(!inbox.deliver(message(full + 2, 1)));
            assert_eq!(inbox.commit(), Some(1));
            assert_eq!(inbox.commit(), None);
            assert_eq!(inbox.receive(usize::MAX).last().map(|last| last.sequence), Some(full + 1));
            assert!(!inbox.is_partly_drained());
            assert_eq!(inbox.check_invariants(), Ok(()));
        }
        assert!(!Inbox::new(0).deliver(message(1, 1)));
    }

    #[test]
    fn a_receive_is_bounded_in_bytes_and_a_message_in_length() {
        let mut inbox = Inbox::new(CHANNEL_MESSAGES_MAX);
        assert!(!inbox.deliver(message(1, VALUE_BYTES_MAX + 1)));
        for sequence in 1..=17 {
            assert!(inbox.deliver(message(sequence, VALUE_BYTES_MAX)));
        }
        assert_eq!(inbox.receive(17).len(), RECEIVE_BYTES_MAX / VALUE_BYTES_MAX);
        assert_eq!(inbox.receive(0), []);
        assert_eq!(inbox.receive(17).len(), 1);
    }
}
