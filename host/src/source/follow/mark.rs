//! What is remembered of a file: which one, how it begins, how far it was read, and what stands there.
//!
//! Rules:
//! 1. A file is known again by its inode *and* its content, or by its content alone: a device may have
//!    another number after a reboot, an inode another file, a copy or a restored file another inode.
//! 2. Content is known by two checksums of up to [`CONTEXT_BYTES_MAX`] bytes: of the beginning, and of
//!    what lies before the place. Both must stand where they stood.
//! 3. A [`Journey`] is what is committed: the hash of the path that it belongs to, the files that are
//!    read, oldest first, and those that were read to their end, at most [`QUEUE_MAX`] and
//!    [`READ_MAX`] of them. What version 1 wrote, one file without its beginning, is still read
//!    (`tests::version_1_is_still_read`).

use std::path::Path;

use super::files::Stat;

/// Most bytes that a checksum covers. Lines of a log often have equal lengths and equal ends; so many
/// bytes mostly hold a whole line, with its time.
pub(super) const CONTEXT_BYTES_MAX: usize = 1_024;
/// Most files in one position.
pub const QUEUE_MAX: usize = 256;
/// Most files that are remembered after they were read to their end.
pub(super) const READ_MAX: usize = 32;

/// The first byte of an encoded journey.
const VERSION: u8 = 2;
const CHECKSUM_BYTES: usize = 8;
const MARK_BYTES: usize = 24 + 2 + CHECKSUM_BYTES + 8 + CHECKSUM_BYTES + 8;

pub(super) type Checksum = [u8; CHECKSUM_BYTES];

/// Which file, whatever its name is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// The file system's number.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// When it was made, in nanoseconds since 1970: a number is given again. 0 where the file system does
    /// not say.
    pub born_ns: i64,
}

impl FileId {
    /// No file has it: what is known by its content alone.
    pub(super) const NONE: Self = Self { device: 0, inode: 0, born_ns: 0 };

    /// Whether it may be the same file, on a device that may have another number since a reboot.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        let is_unknown = self.born_ns == 0 || other.born_ns == 0;
        self.inode == other.inode && (is_unknown || self.born_ns == other.born_ns)
    }
}

/// How a file begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Beginning {
    /// How many bytes the checksum covers; 0 if nothing is known.
    pub(super) length: u16,
    pub(super) checksum: Checksum,
}

impl Beginning {
    /// Of a file that begins with these bytes.
    pub(super) fn of(head: &[u8]) -> Self {
        let head = &head[..head.len().min(CONTEXT_BYTES_MAX)];
        let length = u16::try_from(head.len()).unwrap_or(u16::MAX);
        Self { length, checksum: checksum(head) }
    }

    /// Whether a file that begins with these bytes may be the same. Nothing is known to begin like an
    /// empty file.
    pub(super) fn is_of(&self, head: &[u8]) -> bool {
        let length = usize::from(self.length);
        length > 0 && head.len() >= length && checksum(&head[..length]) == self.checksum
    }
}

/// A place in a file that is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) id: FileId,
    pub(super) beginning: Beginning,
    /// How many bytes lie before the place.
    pub(super) offset: u64,
    /// Of up to [`CONTEXT_BYTES_MAX`] bytes before the place.
    pub(super) before: Checksum,
    /// When the file was changed last, as it was seen last.
    pub(super) modified_ns: i64,
}

impl Mark {
    /// All of a file whose content is nobody's affair.
    pub(super) fn whole(stat: &Stat) -> Self {
        Self {
            id: stat.id,
            beginning: Beginning::default(),
            offset: stat.size,
            before: [0; CHECKSUM_BYTES],
            modified_ns: stat.modified_ns,
        }
    }

    /// Whether its content says which file it is.
    pub(super) fn has_content(&self) -> bool {
        self.offset > 0 || self.beginning.length > 0
    }

    fn encode_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.id.device.to_le_bytes());
        bytes.extend_from_slice(&self.id.inode.to_le_bytes());
        bytes.extend_from_slice(&self.id.born_ns.to_le_bytes());
        bytes.extend_from_slice(&self.beginning.length.to_le_bytes());
        bytes.extend_from_slice(&self.beginning.checksum);
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.before);
        bytes.extend_from_slice(&self.modified_ns.to_le_bytes());
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let (device, inode) = (u64::from_le_bytes(cut(bytes)?), u64::from_le_bytes(cut(bytes)?));
        let id = FileId { device, inode, born_ns: i64::from_le_bytes(cut(bytes)?) };
        let length = u16::from_le_bytes(cut(bytes)?);
        let beginning = Beginning { length, checksum: cut(bytes)? };
        let offset = u64::from_le_bytes(cut(bytes)?);
        let before = cut(bytes)?;
        Some(Self { id, beginning, offset, before, modified_ns: i64::from_le_bytes(cut(bytes)?) })
    }
}

fn cut<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (&first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(first)
}

/// The hash of a followed path.
pub(super) type PathHash = [u8; CHECKSUM_BYTES];

pub(super) fn path_hash(path: &Path) -> PathHash {
    checksum(path.as_os_str().as_encoded_bytes())
}

/// How far a sequence of files was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Journey {
    /// None in what version 1 wrote: then it belongs to whatever is followed.
    pub(super) path: Option<PathHash>,
    /// The files that are read, the oldest first.
    pub(super) queue: Vec<Mark>,
    /// Files that were read to their end, the latest last.
    pub(super) read: Vec<Mark>,
}

impl Journey {
    pub(super) fn encode(&self) -> Vec<u8> {
        let marks = self.queue.len() + self.read.len();
        let mut bytes = Vec::with_capacity(1 + CHECKSUM_BYTES + 4 + marks * MARK_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.path.unwrap_or_default());
        for marks in [&self.queue, &self.read] {
            let count = u16::try_from(marks.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&count.to_le_bytes());
            marks.iter().take(count.into()).for_each(|mark| mark.encode_to(&mut bytes));
        }
        bytes
    }

    /// None if the bytes are of no version that is known.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, mut rest) = bytes.split_first()?;
        let journey = match version {
            1 => Self::decode_1(&mut rest)?,
            VERSION => {
                let path = Some(cut(&mut rest)?);
                let [queue, read] =
                    [Self::decode_marks(&mut rest)?, Self::decode_marks(&mut rest)?];
                Self { path, queue, read }
            }
            _ => return None,
        };
        rest.is_empty().then_some(journey)
    }

    fn decode_marks(bytes: &mut &[u8]) -> Option<Vec<Mark>> {
        let count = u16::from_le_bytes(cut(bytes)?);
        (0..count).map(|_| Mark::decode(bytes)).collect()
    }

    fn decode_1(bytes: &mut &[u8]) -> Option<Self> {
        let (device, inode) = (u64::from_le_bytes(cut(bytes)?), u64::from_le_bytes(cut(bytes)?));
        let id = FileId { device, inode, born_ns: 0 };
        let offset = u64::from_le_bytes(cut(bytes)?);
        let before = cut(bytes)?;
        let mark =
            Mark { id, beginning: Beginning::default(), offset, before, modified_ns: i64::MAX };
        Some(Self { path: None, queue: vec![mark], read: Vec::new() })
    }
}

/// A checksum that nobody hits by chance.
pub(super) fn checksum(bytes: &[u8]) -> Checksum {
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM_BYTES]);
    checksum
}

/// How many bytes the checksum before a place covers.
pub(super) fn context_length(offset: u64) -> usize {
    usize::try_from(offset).map_or(CONTEXT_BYTES_MAX, |offset| offset.min(CONTEXT_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(inode: u64) -> Mark {
        Mark {
            id: FileId { device: 1, inode, born_ns: -7 },
            beginning: Beginning::of(b"2026-11-27 one\n"),
            offset: 70_000,
            before: checksum(b"context"),
            modified_ns: -5,
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else_is() {
        let journey = Journey {
            path: Some(path_hash(Path::new("/var/log/access.log"))),
            queue: vec![mark(1), mark(u64::MAX)],
            read: (0..READ_MAX as u64).map(mark).collect(),
        };
        let bytes = journey.encode();
        assert_eq!(Journey::decode(&bytes), Some(journey));
        for cut in 0..bytes.len() {
            assert_eq!(Journey::decode(&bytes[..cut]), None);
        }
        assert_eq!(Journey::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(Journey::decode(&[&[3], &bytes[1..]].concat()), None);
    }

    #[test]
    fn version_1_is_still_read() {
        let mut bytes = vec![1];
        for number in [3_u64, 4, 8] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&checksum(b"one\ntwo\n"));
        let journey = Journey::decode(&bytes).unwrap();
        let [mark] = journey.queue[..] else { panic!("{journey:?}") };
        assert_eq!((mark.id, mark.offset), (FileId { device: 3, inode: 4, born_ns: 0 }, 8));
        assert_eq!((mark.before, mark.beginning.length), (checksum(b"one\ntwo\n"), 0));
        assert_eq!((journey.path, journey.read), (None, vec![]));
        assert_eq!(Journey::decode(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_beginning_is_known_again_in_a_longer_file() {
        let beginning = Beginning::of(b"one\n");
        assert!(beginning.is_of(b"one\n") && beginning.is_of(b"one\ntwo\n"));
        assert!(!beginning.is_of(b"one") && !beginning.is_of(b"two\ntwo\n"));
        assert!(!Beginning::of(b"").is_of(b"anything"));
    }
}
