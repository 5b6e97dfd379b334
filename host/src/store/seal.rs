//! How damage is found: what is kept of a daemon carries its own checksums, and one over all of it.
//!
//! redb checks its pages when it mends a file after a kill, and never in one that was closed cleanly; so what a
//! disk, a copy or a hand has changed since is found here, where it is read.
//!
//! Rules:
//! 1. **A row knows its place.** The checksum of a row covers the daemon's id, the kind and the name as well as
//!    the value: what was right elsewhere is wrong here (`a_row_is_right_in_its_place_alone`).
//! 2. **A daemon's rows are sealed.** The sum of their checksums lies on another page than they do, so a row that
//!    is missing, or a page that is an older one, is as wrong as a changed one
//!    (`damage_anywhere_is_found_and_never_a_panic`).
//! 3. **Damage is not written over.** What replaces or removes a row takes from the seal what the row that is
//!    there comes to, not what it says of itself; so the seal of a daemon with a damaged row stays wrong
//!    (`damage_is_not_written_over`).
//!
//! The checksums are blake3, cut to 8 bytes: a single bit, a page of zeros and a value of another key all miss
//! it with the same chance, and their sum means something, which it would not of a linear code.

use super::record::DaemonId;

/// What a row holds. A kind that a later version adds is kept, and covered by the seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The [record](super::record); its name is empty.
    Record = 1,
    /// A value of `state`, by its key.
    State = 2,
    /// Where the source of a channel goes on, by the channel.
    Position = 3,
    /// The total of a counter.
    Counter = 4,
    /// The level of a gauge.
    Gauge = 5,
}

impl Kind {
    /// What people call one.
    pub(super) fn word(kind: u8) -> &'static str {
        match kind {
            1 => "record",
            2 => "key",
            3 => "position of channel",
            4 => "counter",
            5 => "gauge",
            _ => "entry of a later version",
        }
    }
}

/// The bytes of a checksum, which stand behind the value.
const SUM_BYTES: usize = 8;

/// Where a row lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) id: DaemonId,
    pub(super) kind: u8,
    pub(super) name: &'a str,
}

impl Place<'_> {
    fn sum_of(&self, value: &[u8]) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.id.0.to_le_bytes());
        hasher.update(&[self.kind]);
        hasher.update(&(self.name.len() as u64).to_le_bytes());
        hasher.update(self.name.as_bytes());
        hasher.update(value);
        cut(hasher.finalize())
    }

    /// The row that says this, and what it adds to the seal.
    pub(super) fn seal(&self, value: &[u8]) -> (Vec<u8>, u64) {
        let sum = self.sum_of(value);
        let mut row = Vec::with_capacity(value.len() + SUM_BYTES);
        row.extend_from_slice(value);
        row.extend_from_slice(&sum.to_le_bytes());
        (row, sum)
    }

    /// What a row says, and what it adds to the seal; none if it is damaged.
    pub(super) fn open<'v>(&self, row: &'v [u8]) -> Option<(&'v [u8], u64)> {
        let (value, sum) = row.split_last_chunk::<SUM_BYTES>()?;
        let found = self.sum_of(value);
        (u64::from_le_bytes(*sum) == found).then_some((value, found))
    }

    /// What a row adds to the seal, whatever it says of itself.
    pub(super) fn weigh(&self, row: &[u8]) -> u64 {
        let (value, _) = row.split_last_chunk::<SUM_BYTES>().unwrap_or((row, &[0; SUM_BYTES]));
        self.sum_of(value)
    }
}

fn cut(hash: blake3::Hash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// A checksum of several parts, none of which can run into the next.
pub(super) fn sum_of_parts(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    cut(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: DaemonId = DaemonId(7);

    #[test]
    fn a_row_is_right_in_its_place_alone() {
        let place = Place { id: ID, kind: 2, name: "key" };
        let (row, sum) = place.seal(b"value");
        assert_eq!(place.open(&row), Some((&b"value"[..], sum)));
        assert_eq!(place.weigh(&row), sum);
        for at in 0..row.len() * 8 {
            let mut bad = row.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert_eq!(place.open(&bad), None, "bit {at}");
        }
        for cut in 0..row.len() {
            assert_eq!(place.open(&row[..cut]), None);
            assert_eq!(place.open(&vec![0; cut]), None, "{cut} zeros");
        }
        let (other, name) = (DaemonId(8), "ke");
        for elsewhere in
            [Place { id: other, ..place }, Place { kind: 3, ..place }, Place { name, ..place }]
        {
            assert_eq!(elsewhere.open(&row), None, "{elsewhere:?}");
        }
    }
}
