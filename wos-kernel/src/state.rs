//! The durable key-value pairs of one daemon, resident while it runs.
//!
//! The manager sends the committed pairs before the daemon starts, so that reads never leave the
//! kernel. Writes go straight into the map: whatever discards a slice also ends the incarnation, and
//! with it this map. What a slice wrote is remembered by key and handed out once, at its end.
//!
//! Invariant: `bytes` is the sum of the lengths of all keys and values, and at most `bytes_max`.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use core::ops::Bound;
use duende_core::wire::link::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use crate::{
    context::SyscallError,
    limits::{KEYS_MAX, SLICE_WRITES_MAX},
};

pub(crate) struct State {
    pairs: BTreeMap<String, Vec<u8>>,
    written: BTreeSet<String>,
    bytes: u64,
    bytes_max: u64,
}

impl State {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { pairs: BTreeMap::new(), written: BTreeSet::new(), bytes: 0, bytes_max }
    }

    /// Takes in a committed pair, before the daemon starts. A pair that was accepted under a larger
    /// quota is kept: the quota then refuses growth, it does not lose data.
    pub(crate) fn load(&mut self, key: &str, value: &[u8]) {
        self.bytes = self.bytes.saturating_add(cost(key, value));
        if let Some(old) = self.pairs.insert(key.into(), value.into()) {
            self.bytes = self.bytes.saturating_sub(cost(key, &old));
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&[u8]> {
        self.pairs.get(key).map(Vec::as_slice)
    }

    pub(crate) fn set(&mut self, key: &str, value: Vec<u8>) -> Result<(), SyscallError> {
        check_key(key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(SyscallError::TooLarge);
        }
        let freed = self.pairs.get(key).map_or(0, |old| cost(key, old));
        let bytes = self.bytes.saturating_sub(freed).saturating_add(cost(key, &value));
        if bytes > self.bytes_max && bytes > self.bytes {
            return Err(SyscallError::QuotaExceeded);
        }
        self.remember(key)?;
        self.bytes = bytes;
        self.pairs.insert(key.into(), value);
        Ok(())
    }

    pub(crate) fn delete(&mut self, key: &str) -> Result<(), SyscallError> {
        check_key(key)?;
        if !self.pairs.contains_key(key) {
            return Ok(());
        }
        self.remember(key)?;
        if let Some(old) = self.pairs.remove(key) {
            self.bytes = self.bytes.saturating_sub(cost(key, &old));
        }
        Ok(())
    }

    pub(crate) fn keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Vec<String> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let limit = usize::try_from(limit.min(KEYS_MAX)).unwrap_or(usize::MAX);
        self.pairs
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .take(limit)
            .cloned()
            .collect()
    }

    /// Hands out what the slice wrote, in byte order of the keys: the value, or none for a key that
    /// is gone. Returns whether there was anything.
    pub(crate) fn drain_written(&mut self, mut write: impl FnMut(&str, Option<&[u8]>)) -> bool {
        if self.written.is_empty() {
            return false;
        }
        for key in core::mem::take(&mut self.written) {
            write(&key, self.pairs.get(&key).map(Vec::as_slice));
        }
        true
    }

    fn remember(&mut self, key: &str) -> Result<(), SyscallError> {
        if !self.written.contains(key) {
            if self.written.len() >= SLICE_WRITES_MAX {
                return Err(SyscallError::QuotaExceeded);
            }
            self.written.insert(key.into());
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        let bytes: u64 = self.pairs.iter().map(|(key, value)| cost(key, value)).sum();
        assert_eq!(self.bytes, bytes);
    }
}

fn cost(key: &str, value: &[u8]) -> u64 {
    (key.len() as u64).saturating_add(value.len() as u64)
}

fn check_key(key: &str) -> Result<(), SyscallError> {
    if key.is_empty() {
        Err(SyscallError::InvalidName)
    } else if key.len() > KEY_BYTES_MAX {
        Err(SyscallError::TooLarge)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::ToString, vec};
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(String, usize),
        Delete(String),
        Commit,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            ("[ab]{0,2}", 0_usize..40).prop_map(|(key, size)| Step::Set(key, size)),
            "[ab]{1,2}".prop_map(Step::Delete),
            Just(Step::Commit),
        ]
    }

    proptest! {
        /// What the slices hand out, applied in order to a plain map, is what the daemon reads.
        #[test]
        fn the_writes_handed_out_rebuild_the_state(steps in proptest::collection::vec(step(), 0..60)) {
            let mut state = State::new(100);
            let mut durable: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Set(key, size) => {
                        let before = state.bytes;
                        let result = state.set(&key, vec![7; size]);
                        if key.is_empty() {
                            prop_assert_eq!(result, Err(SyscallError::InvalidName));
                        } else if result == Err(SyscallError::QuotaExceeded) {
                            prop_assert_eq!(state.bytes, before);
                        }
                    }
                    Step::Delete(key) => state.delete(&key).unwrap(),
                    Step::Commit => {
                        state.drain_written(|key, value| match value {
                            Some(value) => { durable.insert(key.to_string(), value.to_vec()); }
                            None => { durable.remove(key); }
                        });
                    }
                }
                state.check_invariants();
                prop_assert!(state.bytes <= 100);
            }
            state.drain_written(|key, value| match value {
                Some(value) => { durable.insert(key.to_string(), value.to_vec()); }
                None => { durable.remove(key); }
            });
            prop_assert_eq!(&durable, &state.pairs);
        }
    }

    #[test]
    fn keys_are_paged_in_byte_order_within_the_prefix() {
        let mut state = State::new(1_000);
        for key in ["a", "b/1", "b/2", "b/3", "c"] {
            state.load(key, b"x");
        }
        assert_eq!(state.keys("b/", None, 2), ["b/1", "b/2"]);
        assert_eq!(state.keys("b/", Some("b/2"), 2), ["b/3"]);
        assert_eq!(state.keys("b/", Some("a"), 9).len(), 3);
        assert_eq!(state.keys("", None, 9).len(), 5);
    }
}
