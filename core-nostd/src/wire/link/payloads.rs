//! Messages that travel together: a line is not a frame.
//!
//! Four bytes, little endian, then the bytes, for each: the length in the lower thirty bits, above it which
//! [`Part`] of an item it is. What is read is checked whole before any of it is taken: no payload is longer than
//! a message may be, none is cut, and there is at least one.

use serde::{Deserialize, Serialize};

use super::VALUE_BYTES_MAX;

/// Bytes before each payload.
pub const PAYLOAD_PREFIX_BYTES: usize = 4;

/// Above the length: it goes on what the message before it began.
const CONTINUES: u32 = 1 << 31;
/// Above the length: the message after it goes on.
const CONTINUED: u32 = 1 << 30;
const _: () = assert!((VALUE_BYTES_MAX as u64) < CONTINUED as u64);

/// Which part of an item a message is: a line that is longer than a message may be comes in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// Its beginning. The last part may never come: its writer died within it, say.
    First,
    /// Neither its beginning nor its end.
    Middle,
    /// Its end.
    Last,
}

impl Part {
    /// Of an item that begins with this message or before it, and ends with it or after it.
    #[must_use]
    pub const fn of(begins: bool, ends: bool) -> Self {
        match (begins, ends) {
            (true, true) => Self::Whole,
            (true, false) => Self::First,
            (false, false) => Self::Middle,
            (false, true) => Self::Last,
        }
    }

    /// Whether an item begins with it.
    #[must_use]
    pub const fn begins(self) -> bool {
        matches!(self, Self::Whole | Self::First)
    }

    /// Whether an item ends with it.
    #[must_use]
    pub const fn ends(self) -> bool {
        matches!(self, Self::Whole | Self::Last)
    }

    const fn bits(self) -> u32 {
        let continues = if self.begins() { 0 } else { CONTINUES };
        let continued = if self.ends() { 0 } else { CONTINUED };
        continues | continued
    }
}

/// The bytes of messages, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payloads<'a>(#[serde(serialize_with = "super::bytes::serialize")] &'a [u8]);

impl<'a> Payloads<'a> {
    /// Bytes that hold, for each message, [its prefix](payload_prefix) and its payload.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many there are; none if the bytes are not what the module says.
    #[must_use]
    pub fn count(self) -> Option<usize> {
        let mut rest = self.0;
        let mut count = 0_usize;
        while !rest.is_empty() {
            let (_, payload, further) = split(rest)?;
            if payload.len() > VALUE_BYTES_MAX {
                return None;
            }
            rest = further;
            count = count.saturating_add(1);
        }
        (count > 0).then_some(count)
    }

    /// The payloads, up to the first one that is cut.
    pub fn iter(self) -> impl Iterator<Item = (Part, &'a [u8])> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (part, payload, further) = split(rest)?;
            rest = further;
            Some((part, payload))
        })
    }
}

/// What stands before a payload of so many bytes, at most [`VALUE_BYTES_MAX`] of them.
#[must_use]
pub fn payload_prefix(part: Part, payload_bytes: usize) -> [u8; PAYLOAD_PREFIX_BYTES] {
    let length = u32::try_from(payload_bytes).unwrap_or(u32::MAX).min(CONTINUED - 1);
    (length | part.bits()).to_le_bytes()
}

fn split(bytes: &[u8]) -> Option<(Part, &[u8], &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk::<PAYLOAD_PREFIX_BYTES>()?;
    let prefix = u32::from_le_bytes(*prefix);
    let part = Part::of(prefix & CONTINUES == 0, prefix & CONTINUED == 0);
    let length = usize::try_from(prefix & (CONTINUED - 1)).ok()?;
    let (payload, rest) = rest.split_at_checked(length)?;
    Some((part, payload, rest))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const PARTS: [Part; 4] = [Part::Whole, Part::First, Part::Middle, Part::Last];

    /// Each is another part.
    fn parts(payloads: &[Vec<u8>]) -> impl Iterator<Item = (Part, &[u8])> {
        PARTS.into_iter().cycle().zip(payloads.iter().map(Vec::as_slice))
    }

    fn joined(payloads: &[Vec<u8>]) -> Vec<u8> {
        let one = |(part, one): (Part, &[u8])| [&payload_prefix(part, one.len())[..], one].concat();
        parts(payloads).flat_map(one).collect()
    }

    proptest! {
        /// What is joined is read back; cut anywhere but between two, it is nothing.
        #[test]
        fn payloads_are_read_back_or_refused(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cut in 0_usize..400,
        ) {
            let bytes = joined(&payloads);
            let whole = Payloads::new(&bytes);
            prop_assert_eq!(whole.count(), (!payloads.is_empty()).then_some(payloads.len()));
            prop_assert!(whole.iter().eq(parts(&payloads)));
            let cut = &bytes[..cut.min(bytes.len())];
            let ends: Vec<usize> =
                (1..=payloads.len()).map(|count| joined(&payloads[..count]).len()).collect();
            let between = ends.iter().position(|end| *end == cut.len()).map(|index| index + 1);
            prop_assert_eq!(Payloads::new(cut).count(), between);
        }
    }

    #[test]
    fn a_payload_is_at_most_as_long_as_a_message() {
        for (bytes, count) in [(VALUE_BYTES_MAX, Some(1)), (VALUE_BYTES_MAX + 1, None)] {
            assert_eq!(Payloads::new(&joined(&[std::vec![7; bytes]])).count(), count);
        }
    }
}
