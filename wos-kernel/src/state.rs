//! The durable key-value pairs of one daemon, resident while it runs.
//!
//! The manager sends the committed pairs before the daemon starts, so that reads never leave the
//! kernel. Writes go straight into the map: whatever discards a slice also ends the incarnation, and
//! with it this map. What a slice wrote is remembered by key and handed out once, at its end.
//!
//! Invariant: the account holds the sum of the lengths of all keys and values.

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
    quota::Account,
};

pub(crate) struct State {
    pairs: BTreeMap<String, Vec<u8>>,
    written: BTreeSet<String>,
    account: Account,
}

impl State {
    pub(crate) fn new(account: Account) -> Self {
        Self { pairs: BTreeMap::new(), written: BTreeSet::new(), account }
    }

    /// Takes in a committed pair, before the daemon starts and before its quota counts. False if this
    /// WOS has no memory left for it.
    pub(crate) fn load(&mut self, key: &str, value: &[u8]) -> bool {
        let has_room = self.account.resize(self.cost_of(key), cost(key, value)).is_ok();
        if has_room {
            self.pairs.insert(key.into(), value.into());
        }
        has_room
    }

    /// Everything was loaded: from here on the quota counts.
    pub(crate) fn limit(&mut self, bytes_max: u64) {
        self.account.limit(bytes_max);
    }

    pub(crate) fn get(&self, key: &str) -> Option<&[u8]> {
        self.pairs.get(key).map(Vec::as_slice)
    }

    pub(crate) fn set(&mut self, key: &str, value: Vec<u8>) -> Result<(), SyscallError> {
        check_key(key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(SyscallError::TooLarge);
        }
        self.check_writes(key)?;
        let resized = self.account.resize(self.cost_of(key), cost(key, &value));
        resized.map_err(|_| SyscallError::QuotaExceeded)?;
        self.written.insert(key.into());
        self.pairs.insert(key.into(), value);
        Ok(())
    }

    pub(crate) fn delete(&mut self, key: &str) -> Result<(), SyscallError> {
        check_key(key)?;
        if !self.pairs.contains_key(key) {
            return Ok(());
        }
        self.check_writes(key)?;
        // Giving back is never refused.
        let _ = self.account.resize(self.cost_of(key), 0);
        self.written.insert(key.into());
        self.pairs.remove(key);
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

    /// Whether the slice may write this key.
    fn check_writes(&self, key: &str) -> Result<(), SyscallError> {
        if self.written.len() >= SLICE_WRITES_MAX && !self.written.contains(key) {
            return Err(SyscallError::QuotaExceeded);
        }
        Ok(())
    }

    /// What a key and its value cost now.
    fn cost_of(&self, key: &str) -> u64 {
        self.pairs.get(key).map_or(0, |value| cost(key, value))
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        let bytes: u64 = self.pairs.iter().map(|(key, value)| cost(key, value)).sum();
        assert_eq!(self.account.used_bytes(), bytes);
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
    use crate::quota::Quotas;
    use alloc::{string::ToString, sync::Arc, vec};
    use proptest::prelude::*;

    fn state(bytes_max: u64) -> State {
        let accounts = Arc::new(Quotas::new(1, u64::MAX)).open(0).unwrap();
        let mut state = State::new(accounts.state);
        state.limit(bytes_max);
        state
    }

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
            let mut state = state(100);
            let mut durable: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Set(key, size) => {
                        let before = state.account.used_bytes();
                        let result = state.set(&key, vec![7; size]);
                        if key.is_empty() {
                            prop_assert_eq!(result, Err(SyscallError::InvalidName));
                        } else if result == Err(SyscallError::QuotaExceeded) {
                            prop_assert_eq!(state.account.used_bytes(), before);
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
                prop_assert!(state.account.used_bytes() <= 100);
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
        let mut state = state(1_000);
        for key in ["a", "b/1", "b/2", "b/3", "c"] {
            assert!(state.load(key, b"x"));
        }
        assert_eq!(state.keys("b/", None, 2), ["b/1", "b/2"]);
        assert_eq!(state.keys("b/", Some("b/2"), 2), ["b/3"]);
        assert_eq!(state.keys("b/", Some("a"), 9).len(), 3);
        assert_eq!(state.keys("", None, 9).len(), 5);
    }
}
