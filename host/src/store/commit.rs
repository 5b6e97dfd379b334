//! What one slice changes, and what all slices of a daemon come to.

use serde::{Deserialize, Serialize};

/// The unit in which [`QUEUE_BYTES_MAX`](super::QUEUE_BYTES_MAX) is handed out: permits are counted in 32 bits.
pub(super) const QUEUE_UNIT_BYTES: usize = 1 << 10;
pub(super) const QUEUE_UNITS_MAX: u32 = 1 << 16;
const _: () = assert!(QUEUE_UNITS_MAX as usize == super::QUEUE_BYTES_MAX / QUEUE_UNIT_BYTES);
/// A quarter of them.
pub(super) const QUEUE_UNITS_QUARTER: u32 = QUEUE_UNITS_MAX / 4;

/// What one slice changes. So encoded it stands in the [journal](super::journal), whose format is another one if this is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// The daemon's name.
    pub daemon: String,
    /// The writes to its `state`, in order.
    pub writes: Vec<Write>,
    /// For each channel that the slice received from, by name: where its source goes on.
    pub positions: Vec<(String, Vec<u8>)>,
    /// What is added to counters. They saturate.
    pub counters: Vec<(String, u64)>,
    /// The new levels of gauges.
    pub gauges: Vec<(String, f64)>,
}

impl Commit {
    /// Its share of [`QUEUE_UNITS_MAX`].
    pub(super) fn size_units(&self) -> u32 {
        let units = self.size_bytes().div_ceil(QUEUE_UNIT_BYTES);
        u32::try_from(units).unwrap_or(u32::MAX).min(QUEUE_UNITS_MAX)
    }

    /// Roughly what the commit occupies in memory, in bytes.
    pub(super) fn size_bytes(&self) -> usize {
        const ENTRY_BYTES: usize = 64;
        let writes = self.writes.iter().map(|write| match write {
            Write::Set { key, value } => key.len() + value.len(),
            Write::Delete { key } => key.len(),
        });
        let positions = self.positions.iter().map(|(name, at)| name.len() + at.len());
        let counters = self.counters.iter().map(|(name, _)| name.len());
        let gauges = self.gauges.iter().map(|(name, _)| name.len());
        writes
            .chain(positions)
            .chain(counters)
            .chain(gauges)
            .map(|bytes| bytes + ENTRY_BYTES)
            .sum::<usize>()
            + self.daemon.len()
            + ENTRY_BYTES
    }
}

/// One write to `state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Write {
    /// Sets a key.
    Set {
        /// The key.
        key: String,
        /// Its new value.
        value: Vec<u8>,
    },
    /// Removes a key, if it is there.
    Delete {
        /// The key.
        key: String,
    },
}

/// Everything that is kept of one daemon, each list in the order of its names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Its `state`.
    pub state: Vec<(String, Vec<u8>)>,
    /// For each channel, where its source goes on.
    pub positions: Vec<(String, Vec<u8>)>,
    /// The totals of its counters.
    pub counters: Vec<(String, u64)>,
    /// The levels of its gauges.
    pub gauges: Vec<(String, f64)>,
}
