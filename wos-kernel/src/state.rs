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
use duende_core::{
    policy::quota::Pressure,
    wire::link::{KEY_BYTES_MAX, VALUE_BYTES_MAX},
};

use crate::{
    context::SyscallError,
    limits::{ENTRIES_BYTES_MAX, KEYS_MAX, SLICE_WRITES_MAX},
    paging::page,
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
            return Err(SyscallError::TooLarge(VALUE_BYTES_MAX as u64));
        }
        self.check_writes(key)?;
        let resized = self.account.resize(self.cost_of(key), cost(key, &value));
        resized.map_err(|_| SyscallError::QuotaExceeded("state"))?;
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
        page(&self.pairs, prefix, after).take(page_max(limit)).map(|(key, _)| key.clone()).collect()
    }

    /// The same with values: no more than [`ENTRIES_BYTES_MAX`] bytes of both, but one entry if there is
    /// one.
    pub(crate) fn entries(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Vec<(String, Vec<u8>)> {
        let mut bytes = 0_usize;
        page(&self.pairs, prefix, after)
            .take(page_max(limit))
            .take_while(|(key, value)| {
                let is_first = bytes == 0;
                bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
                is_first || bytes <= ENTRIES_BYTES_MAX
            })
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Removes every key that starts with `prefix`, or none. How many.
    pub(crate) fn delete_all(&mut self, prefix: &str) -> Result<u64, SyscallError> {
        let keys: Vec<String> =
            page(&self.pairs, prefix, None).map(|(key, _)| key.clone()).collect();
        let unwritten = keys.iter().filter(|key| !self.written.contains(*key)).count();
        if self.written.len().saturating_add(unwritten) > SLICE_WRITES_MAX {
            return Err(SyscallError::QuotaExceeded("slice-writes"));
        }
        for key in &keys {
            self.delete(key)?;
        }
        Ok(keys.len() as u64)
    }

    /// How much of its quota is used, in bytes.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.account.used_bytes()
    }

    /// How scarce room is.
    pub(crate) fn pressure(&self) -> Pressure {
        self.account.pressure()
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
            return Err(SyscallError::QuotaExceeded("slice-writes"));
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

/// What one page may have.
fn page_max(limit: u32) -> usize {
    usize::try_from(limit.min(KEYS_MAX)).unwrap_or(usize::MAX)
}

fn cost(key: &str, value: &[u8]) -> u64 {
    (key.len() as u64).saturating_add(value.len() as u64)
}

fn check_key(key: &str) -> Result<(), SyscallError> {
    if key.is_empty() {
        Err(SyscallError::Invalid("a key has at least one byte"))
    } else if key.len() > KEY_BYTES_MAX {
        Err(SyscallError::TooLarge(KEY_BYTES_MAX as u64))
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
        let accounts = Arc::new(Quotas::new(1, u64::MAX)).open().unwrap();
        let mut state = State::new(accounts.state);
        state.limit(bytes_max);
        state
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(String, usize),
        Delete(String),
        DeleteAll(String),
        Commit,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            ("[ab]{0,2}", 0_usize..40).prop_map(|(key, size)| Step::Set(key, size)),
            "[ab]{1,2}".prop_map(Step::Delete),
            "[ab]{0,2}".prop_map(Step::DeleteAll),
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
                            prop_assert!(matches!(result, Err(SyscallError::Invalid(_))));
                        } else if result == Err(SyscallError::QuotaExceeded("state")) {
                            prop_assert_eq!(state.account.used_bytes(), before);
                        }
                    }
                    Step::Delete(key) => state.delete(&key).unwrap(),
                    Step::DeleteAll(prefix) => {
                        let there = state.keys(&prefix, None, u32::MAX).len() as u64;
                        prop_assert_eq!(state.delete_all(&prefix), Ok(there));
                        prop_assert!(state.keys(&prefix, None, 1).is_empty());
                    }
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
    fn entries_come_by_pages_that_are_bounded_in_bytes() {
        let mut state = state(u64::MAX);
        for number in 0..20 {
            assert!(state.load(&alloc::format!("{number:02}"), &[0; VALUE_BYTES_MAX]));
        }
        let mut seen = Vec::new();
        while let page = state.entries("", seen.last().map(|(key, _): &(String, _)| &**key), 9)
            && !page.is_empty()
        {
            assert!(page.len() <= 9);
            seen.extend(page);
        }
        assert_eq!(seen.len(), 20);
        // 15 values of 64 KiB and their keys are below a mebibyte, 16 are above.
        assert_eq!(state.entries("", None, 100).len(), 15);
        assert_eq!(state.keys("", None, 100).len(), 20);
    }

    #[test]
    fn all_keys_of_a_prefix_go_or_none() {
        let mut state = state(u64::MAX);
        for number in 0..=SLICE_WRITES_MAX {
            assert!(state.load(&alloc::format!("a{number}"), b""));
        }
        assert_eq!(state.delete_all("a"), Err(SyscallError::QuotaExceeded("slice-writes")));
        assert_eq!(state.pairs.len(), SLICE_WRITES_MAX + 1);
        assert_eq!(state.delete("a0"), Ok(()));
        state.drain_written(|_, _| {});
        assert_eq!(state.delete_all("a"), Ok(SLICE_WRITES_MAX as u64));
    }
}
