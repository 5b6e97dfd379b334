//! Who a daemon is, apart from its name.
//!
//! An id is drawn when the daemon's first commit is written, and goes with an export to wherever that is imported;
//! after [`forget`](super::Store::forget) the same name gets another one (`a_forgotten_daemon_gets_another_id`).
//! What is known of a daemon lies under its id as a record.
//!
//! **The record is a JSON object, and it may grow:** a field is only ever added, always optional, and never
//! changes its meaning. A program keeps the fields that it does not know when it writes the record again
//! (`a_record_keeps_what_it_does_not_know`).

use std::fmt;
use std::io;
use std::time::SystemTime;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fault::Fault;
use crate::clock::unix_us;

/// What tells a daemon from every other, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DaemonId(pub(super) u128);

impl DaemonId {
    pub(super) fn random() -> io::Result<Self> {
        random().map(Self)
    }
}

impl fmt::Display for DaemonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// 128 bits of the system's entropy: nobody draws the same ones again.
pub(super) fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    // Waits until the kernel's pool was seeded once. So few bytes are never given in part.
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u128::from_ne_bytes(bytes))
}

/// What is known of a daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub(super) name: String,
    /// None of those that were there before there were records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created_s: Option<u64>,
    /// What a later version knows.
    #[serde(flatten)]
    later: Map<String, Value>,
}

impl Record {
    /// The record of a daemon whose first commit is written now.
    pub(super) fn new(name: &str) -> Self {
        let created_s = Some(unix_us(SystemTime::now()) / 1_000_000);
        Self { name: name.to_owned(), created_s, later: Map::new() }
    }

    /// The record of a daemon that was there before there were records.
    pub(super) fn of_old(name: &str) -> Self {
        Self { name: name.to_owned(), created_s: None, later: Map::new() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When its first commit was written, in seconds since 1970, if that is known.
    #[must_use]
    pub fn created_s(&self) -> Option<u64> {
        self.created_s
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("the record of a daemon: {error}"))
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, Fault> {
        // It has text keys only, which JSON can write.
        serde_json::to_vec(self).map_err(|error| Fault::damaged(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_what_it_does_not_know() {
        let text = br#"{"name":"a","epoch":7,"image":{"hash":"00"}}"#;
        let mut record = Record::decode(text).unwrap();
        record.name = "b".to_owned();
        let again: Value = serde_json::from_slice(&record.encode().unwrap()).unwrap();
        let expected = serde_json::json!({"name": "b", "epoch": 7, "image": {"hash": "00"}});
        assert_eq!(again, expected);
        assert!(Record::decode(b"{}").is_err(), "it has no name");
    }
}
