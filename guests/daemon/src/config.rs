//! What a daemon is told when it starts. What the fleet's file says of it, the manager alone reads.

use std::collections::BTreeMap;

pub use duende_core::wire::link::CONFIG_ENTRIES_MAX;

/// Most bytes of their keys and values together.
pub const CONFIG_BYTES_MAX: usize = 1_048_576;

/// The name that the manager uses for the daemon, and its table `[daemon.config]`.
///
/// Without a manager the table is empty: then the daemon has its command line and environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonConfig {
    name: String,
    entries: BTreeMap<String, String>,
    bytes: usize,
}

impl DaemonConfig {
    /// A table without entries.
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// The daemon's name in the configuration of the manager, else [`Daemon::name`](super::Daemon::name).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of a key; nested tables are joined with dots (`alert.ratio`). Strings come as they
    /// are, other values in TOML's notation.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(String::as_str)
    }

    /// All entries, ordered by key.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Adds an entry; false when it would pass a limit.
    pub(super) fn insert(&mut self, key: &str, value: &str) -> bool {
        let bytes = self.bytes.saturating_add(key.len()).saturating_add(value.len());
        if self.entries.len() >= CONFIG_ENTRIES_MAX || bytes > CONFIG_BYTES_MAX {
            return false;
        }
        self.bytes = bytes;
        self.entries.insert(key.to_owned(), value.to_owned());
        true
    }
}
