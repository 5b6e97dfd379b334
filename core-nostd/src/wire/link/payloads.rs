//! Messages that travel together: a line is not a frame.
//!
//! Four bytes of length, little endian, then the bytes, for each. What is read is checked whole before any of
//! it is taken: no payload is longer than a message may be, none is cut, and there is at least one.

use serde::{Deserialize, Serialize};

use super::VALUE_BYTES_MAX;

/// Bytes before each payload.
pub const PAYLOAD_PREFIX_BYTES: usize = 4;

/// The bytes of messages, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payloads<'a>(&'a [u8]);

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
            let (payload, further) = split(rest)?;
            if payload.len() > VALUE_BYTES_MAX {
                return None;
            }
            rest = further;
            count = count.saturating_add(1);
        }
        (count > 0).then_some(count)
    }

    /// The payloads, up to the first one that is cut.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (payload, further) = split(rest)?;
            rest = further;
            Some(payload)
        })
    }
}

/// What stands before a payload of so many bytes, at most [`VALUE_BYTES_MAX`] of them.
#[must_use]
pub fn payload_prefix(payload_bytes: usize) -> [u8; PAYLOAD_PREFIX_BYTES] {
    u32::try_from(payload_bytes).unwrap_or(u32::MAX).to_le_bytes()
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk::<PAYLOAD_PREFIX_BYTES>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*prefix)).ok()?)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn joined(payloads: &[Vec<u8>]) -> Vec<u8> {
        payloads.iter().flat_map(|one| [&payload_prefix(one.len())[..], one].concat()).collect()
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
            prop_assert!(whole.iter().eq(payloads.iter().map(Vec::as_slice)));
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
