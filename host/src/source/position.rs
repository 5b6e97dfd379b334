//! A place in a file that is recognised again: which file, how far, and what was there.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Most bytes before a place that its fingerprint covers. Lines of a log often have equal lengths and
/// equal ends; so many bytes mostly hold a whole line, with its time.
pub(super) const CONTEXT_BYTES_MAX: usize = 1_024;
/// The first byte of an encoded position.
const VERSION: u8 = 1;
const FINGERPRINT_BYTES: usize = 8;
const ENCODED_BYTES: usize = 1 + 3 * 8 + FINGERPRINT_BYTES;

/// Which file, whatever its name is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) file: FileId,
    /// How many bytes lie before the place.
    pub(super) offset: u64,
    /// A checksum of up to [`CONTEXT_BYTES_MAX`] bytes before the place.
    pub(super) fingerprint: [u8; FINGERPRINT_BYTES],
}

impl Position {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ENCODED_BYTES);
        bytes.push(VERSION);
        for number in [self.file.device, self.file.inode, self.offset] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.fingerprint);
        bytes
    }

    /// None if the bytes are not of this version.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        let (&device, rest) = rest.split_first_chunk()?;
        let (&inode, rest) = rest.split_first_chunk()?;
        let (&offset, rest) = rest.split_first_chunk()?;
        let fingerprint = rest.try_into().ok()?;
        let file = FileId { device: u64::from_le_bytes(device), inode: u64::from_le_bytes(inode) };
        (version == VERSION).then_some(Self {
            file,
            offset: u64::from_le_bytes(offset),
            fingerprint,
        })
    }
}

/// The checksum of the bytes before a place.
pub(super) fn fingerprint(context: &[u8]) -> [u8; FINGERPRINT_BYTES] {
    let mut fingerprint = [0; FINGERPRINT_BYTES];
    fingerprint.copy_from_slice(&blake3::hash(context).as_bytes()[..FINGERPRINT_BYTES]);
    fingerprint
}

/// How many bytes the fingerprint of a place covers.
pub(super) fn context_length(offset: u64) -> usize {
    usize::try_from(offset).map_or(CONTEXT_BYTES_MAX, |offset| offset.min(CONTEXT_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else_is() {
        let file = FileId { device: 1, inode: u64::MAX };
        let position = Position { file, offset: 70_000, fingerprint: fingerprint(b"context") };
        let bytes = position.encode();
        assert_eq!(Position::decode(&bytes), Some(position));
        for cut in 0..bytes.len() {
            assert_eq!(Position::decode(&bytes[..cut]), None);
        }
        assert_eq!(Position::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(Position::decode(&[&[2], &bytes[1..]].concat()), None);
    }
}
