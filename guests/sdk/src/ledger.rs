//! The books of one incarnation that does not run on WOS: its grants, configuration, state and
//! channels, and the open slice. The native runtime and the test manager share it, so a daemon's
//! tests meet the limits that it will meet in earnest.
//!
//! Rules:
//! 1. Calls go straight into the books, and what they changed is remembered once by name. At the end
//!    of a slice [`Ledger::commit`] hands that out. A slice is discarded by dropping the ledger,
//!    because whatever discards a slice ends the incarnation too.
//! 2. A refused call changes nothing. The limits and their order are those of WOS: the grant first,
//!    then the name, then the sizes, then the quotas.
//!
//! Invariant: `state_bytes` is the sum of the lengths of all keys and values in `state`.

use core::mem;
use core::ops::Bound;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use duende_core::wire::link::{
    Address, CHANNEL_MESSAGES_MAX, CHANNELS_MAX, Event, Grants, KEY_BYTES_MAX, NAME_BYTES_MAX,
    TEXT_BYTES_MAX, VALUE_BYTES_MAX,
};

use crate::context::Host;
use crate::types::{Error, Instant, Level, Message};

/// Most keys that one slice writes.
const SLICE_WRITES_MAX: usize = 1_024;
/// Most metrics, counters and gauges together, that one incarnation publishes.
const METRICS_MAX: usize = 64;
/// Most keys that one `state.keys` yields.
const KEYS_MAX: u32 = 1_024;
/// Most payload that one `receive` yields, in bytes.
const RECEIVE_BYTES_MAX: usize = 1_048_576;
/// Most random bytes that one call yields.
const ENTROPY_BYTES_MAX: u32 = 1_024;
/// Most entries of one daemon's configuration table.
const CONFIG_ENTRIES_MAX: usize = 1_024;

/// What is outside of the transaction: time, chance and the log.
pub(crate) trait Outside {
    /// Appends a line that was found within its limit.
    fn log(&mut self, level: Level, text: &str);
    /// The monotonic clock.
    fn monotonic(&mut self) -> Instant;
    /// Time since 1970.
    fn wall(&mut self) -> Duration;
    /// Fills `bytes` with random ones.
    fn entropy(&mut self, bytes: &mut [u8]);
}

struct Channel {
    name: String,
    granted: bool,
    inbox: VecDeque<Message>,
    /// The last message that the open slice received, if it received one.
    received: Option<u64>,
}

/// The books; see the module.
pub(crate) struct Ledger<O> {
    pub(crate) outside: O,
    at: Address,
    grants: Grants,
    config: BTreeMap<String, String>,
    state: BTreeMap<String, Vec<u8>>,
    state_bytes: u64,
    state_bytes_max: u64,
    /// The keys that the open slice wrote.
    written: BTreeSet<String>,
    channels: Vec<Channel>,
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<String, f64>,
    /// Every metric that this incarnation used.
    metric_names: BTreeSet<String>,
    /// Slices that committed something.
    slices: u64,
}

impl<O> Ledger<O> {
    pub(crate) fn new(outside: O, at: Address, grants: Grants, state_bytes_max: u64) -> Self {
        Self {
            outside,
            at,
            grants,
            config: BTreeMap::new(),
            state: BTreeMap::new(),
            state_bytes: 0,
            state_bytes_max,
            written: BTreeSet::new(),
            channels: Vec::new(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            metric_names: BTreeSet::new(),
            slices: 0,
        }
    }

    pub(crate) fn address(&self) -> Address {
        self.at
    }

    /// Takes in one entry of the configuration. False if there are too many.
    #[must_use]
    pub(crate) fn configure(&mut self, key: &str, value: &str) -> bool {
        self.config.insert(key.to_owned(), value.to_owned());
        self.config.len() <= CONFIG_ENTRIES_MAX
    }

    /// Takes in a committed pair. One that was accepted under a larger quota is kept: the quota
    /// refuses growth, it does not lose data.
    pub(crate) fn load_state(&mut self, key: &str, value: &[u8]) {
        self.state_bytes = self.state_bytes.saturating_add(cost(key, value));
        if let Some(old) = self.state.insert(key.to_owned(), value.to_owned()) {
            self.state_bytes = self.state_bytes.saturating_sub(cost(key, &old));
        }
    }

    /// Opens the next channel. False if there are too many.
    #[must_use]
    pub(crate) fn open_channel(&mut self, name: &str, granted: bool) -> bool {
        self.channels.push(Channel {
            name: name.to_owned(),
            granted,
            inbox: VecDeque::new(),
            received: None,
        });
        self.channels.len() <= CHANNELS_MAX
    }

    /// Puts a message into an inbox. False if there is no such channel, or its inbox is full.
    #[must_use]
    pub(crate) fn deliver(&mut self, channel: u8, sequence: u64, payload: Vec<u8>) -> bool {
        match self.channels.get_mut(usize::from(channel)) {
            Some(channel) if channel.inbox.len() < CHANNEL_MESSAGES_MAX => {
                channel.inbox.push_back(Message { sequence, payload });
                true
            }
            Some(_) | None => false,
        }
    }

    /// Whether the open slice drained a part of a channel: `wait` then has something to return for.
    pub(crate) fn left_messages(&self) -> bool {
        self.channels
            .iter()
            .any(|channel| channel.received.is_some() && !channel.inbox.is_empty())
    }

    /// Hands out the open slice as events, closed by [`Event::SliceEnd`], and opens the next one.
    /// A slice that changed nothing yields none.
    pub(crate) fn commit(&mut self, emit: &mut dyn FnMut(&mut O, Event<'_>)) {
        if self.is_unchanged() {
            return;
        }
        let (at, outside) = (self.at, &mut self.outside);
        let mut emit = |event: Event<'_>| emit(outside, event);
        for key in mem::take(&mut self.written) {
            let key = key.as_str();
            emit(match self.state.get(key) {
                Some(value) => Event::StateSet { at, key, value },
                None => Event::StateDelete { at, key },
            });
        }
        for (channel, books) in (0_u8..).zip(&mut self.channels) {
            if let Some(sequence) = books.received.take() {
                emit(Event::Consumed {
                    at,
                    channel,
                    sequence,
                });
            }
        }
        for (name, delta) in mem::take(&mut self.counters) {
            emit(Event::CounterAdd {
                at,
                name: &name,
                delta,
            });
        }
        for (name, value) in mem::take(&mut self.gauges) {
            emit(Event::GaugeSet {
                at,
                name: &name,
                value,
            });
        }
        self.slices = self.slices.saturating_add(1);
        let slice = self.slices;
        emit(Event::SliceEnd {
            at,
            slice,
            memory_bytes: 0,
        });
    }

    /// Whether the open slice has nothing to commit.
    fn is_unchanged(&self) -> bool {
        self.written.is_empty()
            && self.counters.is_empty()
            && self.gauges.is_empty()
            && self
                .channels
                .iter()
                .all(|channel| channel.received.is_none())
    }

    fn require(&self, grant: Grants) -> Result<(), Error> {
        if self.grants.contains(grant) {
            Ok(())
        } else {
            Err(Error::Denied)
        }
    }

    fn remember_write(&mut self, key: &str) -> Result<(), Error> {
        if !self.written.contains(key) {
            if self.written.len() >= SLICE_WRITES_MAX {
                return Err(Error::QuotaExceeded);
            }
            self.written.insert(key.to_owned());
        }
        Ok(())
    }

    fn check_metric(&mut self, name: &str) -> Result<(), Error> {
        self.require(Grants::METRIC)?;
        check_metric_name(name)?;
        if !self.metric_names.contains(name) {
            if self.metric_names.len() >= METRICS_MAX {
                return Err(Error::QuotaExceeded);
            }
            self.metric_names.insert(name.to_owned());
        }
        Ok(())
    }

    #[cfg(test)]
    fn check_invariants(&self) {
        let bytes: u64 = self.state.iter().map(|(k, v)| cost(k, v)).sum();
        assert_eq!(self.state_bytes, bytes);
        assert!(self.written.len() <= SLICE_WRITES_MAX);
        assert!(self.metric_names.len() <= METRICS_MAX);
    }
}

impl<O: Outside> Host for Ledger<O> {
    fn log(&mut self, level: Level, text: &str) -> Result<(), Error> {
        self.require(Grants::LOG)?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        self.outside.log(level, text);
        Ok(())
    }

    fn monotonic(&mut self) -> Instant {
        self.outside.monotonic()
    }

    fn wall(&mut self) -> Duration {
        self.outside.wall()
    }

    fn entropy(&mut self, length: u32) -> Vec<u8> {
        let mut bytes = vec![0; length.min(ENTROPY_BYTES_MAX) as usize];
        self.outside.entropy(&mut bytes);
        bytes
    }

    fn config_get(&mut self, key: &str) -> Option<String> {
        self.config.get(key).cloned()
    }

    fn state_get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.require(Grants::STATE)?;
        Ok(self.state.get(key).cloned())
    }

    fn state_set(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.require(Grants::STATE)?;
        check_key(key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        let freed = self.state.get(key).map_or(0, |old| cost(key, old));
        let bytes = self
            .state_bytes
            .saturating_sub(freed)
            .saturating_add(cost(key, value));
        if bytes > self.state_bytes_max && bytes > self.state_bytes {
            return Err(Error::QuotaExceeded);
        }
        self.remember_write(key)?;
        self.state_bytes = bytes;
        self.state.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn state_delete(&mut self, key: &str) -> Result<(), Error> {
        self.require(Grants::STATE)?;
        check_key(key)?;
        if !self.state.contains_key(key) {
            return Ok(());
        }
        self.remember_write(key)?;
        if let Some(old) = self.state.remove(key) {
            self.state_bytes = self.state_bytes.saturating_sub(cost(key, &old));
        }
        Ok(())
    }

    fn state_keys(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Error> {
        self.require(Grants::STATE)?;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        Ok(self
            .state
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .take(limit.min(KEYS_MAX) as usize)
            .cloned()
            .collect())
    }

    fn receive(&mut self, channel: &str, max: u32) -> Result<Vec<Message>, Error> {
        let books = self
            .channels
            .iter_mut()
            .find(|books| books.name == channel)
            .ok_or(Error::UnknownChannel)?;
        if !books.granted {
            return Err(Error::Denied);
        }
        let mut messages = Vec::new();
        let mut bytes = 0_usize;
        while messages.len() < max as usize
            && let Some(message) = books.inbox.front()
        {
            bytes = bytes.saturating_add(message.payload.len());
            if bytes > RECEIVE_BYTES_MAX && !messages.is_empty() {
                break;
            }
            books.received = Some(message.sequence);
            messages.extend(books.inbox.pop_front());
        }
        Ok(messages)
    }

    fn counter_add(&mut self, name: &str, delta: u64) -> Result<(), Error> {
        self.check_metric(name)?;
        let total = self.counters.entry(name.to_owned()).or_default();
        *total = total.saturating_add(delta);
        Ok(())
    }

    fn gauge_set(&mut self, name: &str, value: f64) -> Result<(), Error> {
        self.check_metric(name)?;
        self.gauges.insert(name.to_owned(), value);
        Ok(())
    }
}

/// What a pair counts for in the quota, in bytes.
fn cost(key: &str, value: &[u8]) -> u64 {
    (key.len() as u64).saturating_add(value.len() as u64)
}

fn check_key(key: &str) -> Result<(), Error> {
    if key.is_empty() {
        Err(Error::InvalidName)
    } else if key.len() > KEY_BYTES_MAX {
        Err(Error::TooLarge)
    } else {
        Ok(())
    }
}

/// The rule for names of metrics and samples: `[a-zA-Z_:][a-zA-Z0-9_:]*`, at most 64 bytes.
pub(crate) fn check_metric_name(name: &str) -> Result<(), Error> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::TooLarge);
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    let starts_with_digit = name.starts_with(|first: char| first.is_ascii_digit());
    if name.is_empty() || starts_with_digit || !name.bytes().all(legal) {
        return Err(Error::InvalidName);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
