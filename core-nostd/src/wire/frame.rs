//! Frames: writing one into a buffer, reading them out of a stream.
//!
//! Rules:
//! 1. A frame is refused as soon as its header shows that it can't be accepted; nothing is buffered
//!    for it.
//! 2. A stream that lost its framing can't be trusted again: after an error the decoder gives the
//!    same error for ever, and its owner closes the stream.
//! 3. A payload is exactly one message: bytes left over are an error.
//! 4. A frame of a kind from [`SKIPPABLE_FROM`] on that is not asked for is skipped, if it is intact, and
//!    counted. Any other strange kind is an error.
//!
//! The payload is postcard's. A family of messages that is encoded otherwise uses [`encode_payload`] and
//! [`Decoder::next_payload`], which leave the payload to their caller.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use super::Message;
use crate::planted::{self, Plant};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 12;

/// Most bytes of a frame, header and payload together. A larger one is refused by both sides.
pub const FRAME_BYTES_MAX: usize = 131_072;

/// Version of the frame's layout.
pub const WIRE_VERSION: u8 = 1;

/// Kinds from here on may be skipped: who does not know one loses what it says, and nothing else.
pub const SKIPPABLE_FROM: u8 = 64;

/// The first two bytes of every frame.
const MAGIC: u16 = u16::from_le_bytes(*b"Du");

/// Why a message was not written. The buffer then holds nothing of use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The frame would be longer than [`FRAME_BYTES_MAX`]: send less in one message.
    #[error("the frame would be longer than {FRAME_BYTES_MAX} bytes")]
    TooLarge,
    /// The buffer is too short: give one of [`FRAME_BYTES_MAX`] bytes and any frame fits.
    #[error("the frame does not fit into a buffer of {bytes} bytes")]
    BufferTooSmall {
        /// Length of the buffer that was given.
        bytes: usize,
    },
    /// The message can't be written in this encoding (a sequence of unknown length, for example).
    #[error("the message cannot be encoded: {0}")]
    Payload(postcard::Error),
}

/// Why a stream was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The decoder's storage can't hold a header.
    #[error("a decoder with {bytes} bytes of storage cannot hold a header of {HEADER_BYTES}")]
    StorageTooSmall {
        /// Length of the storage.
        bytes: usize,
    },
    /// The bytes are not a frame.
    #[error("not a frame: it starts with {found:#06x} instead of {MAGIC:#06x}")]
    Magic {
        /// What stood in its place.
        found: u16,
    },
    /// The peer speaks another version of the frame.
    #[error("frame version {found}, this side speaks {WIRE_VERSION}")]
    Version {
        /// The peer's version.
        found: u8,
    },
    /// The message belongs to another family than the one this side reads.
    #[error("message of kind {found} where kind {expected} is read")]
    Kind {
        /// The frame's kind.
        found: u8,
        /// The kind that was asked for.
        expected: u8,
    },
    /// The header announces more than this decoder takes.
    #[error("a payload of {payload_bytes} bytes, at most {payload_bytes_max} are taken")]
    TooLarge {
        /// Length in the header.
        payload_bytes: u32,
        /// Longest payload for this storage, in bytes.
        payload_bytes_max: usize,
    },
    /// The frame was damaged on its way.
    #[error("checksum {found:#010x}, computed {computed:#010x}")]
    Checksum {
        /// The checksum in the header.
        found: u32,
        /// The checksum of what arrived.
        computed: u32,
    },
    /// The payload is not a message of this family.
    #[error("payload of kind {kind} cannot be read: {reason}")]
    Payload {
        /// The frame's kind.
        kind: u8,
        /// What the encoding says.
        reason: postcard::Error,
    },
    /// Bytes follow the message within its frame.
    #[error("{bytes} bytes follow the message of kind {kind} within its frame")]
    Trailing {
        /// The frame's kind.
        kind: u8,
        /// How many.
        bytes: usize,
    },
}

/// Writes `message` as one frame to the start of `out`, and returns the frame's length in bytes.
///
/// # Errors
/// [`EncodeError`], when the message is too large for a frame or for `out`.
///
/// ```
/// use duende_core::wire::{Decoder, encode, link::{Address, Command}};
///
/// let command = Command::Start { at: Address::of(3, 1) };
/// let mut frame = [0; 64];
/// let bytes = encode(&command, &mut frame).unwrap();
///
/// let mut decoder = Decoder::new([0; 256]);
/// decoder.spare()[..bytes].copy_from_slice(&frame[..bytes]);
/// decoder.filled(bytes);
/// assert_eq!(decoder.next::<Command>(), Ok(Some(command)));
/// assert_eq!(decoder.next::<Command>(), Ok(None));
/// ```
pub fn encode<T: Message + Serialize>(message: &T, out: &mut [u8]) -> Result<usize, EncodeError> {
    let given = out.len();
    let usable = given.min(FRAME_BYTES_MAX);
    let too_small = EncodeError::BufferTooSmall { bytes: given };
    let Some((header, rest)) =
        out.get_mut(..usable).and_then(|frame| frame.split_first_chunk_mut::<HEADER_BYTES>())
    else {
        return Err(too_small);
    };
    let payload: &[u8] = match postcard::to_slice(message, rest) {
        Ok(payload) => payload,
        Err(postcard::Error::SerializeBufferFull) if given < FRAME_BYTES_MAX => {
            return Err(too_small);
        }
        Err(postcard::Error::SerializeBufferFull) => return Err(EncodeError::TooLarge),
        Err(reason) => return Err(EncodeError::Payload(reason)),
    };
    let payload_bytes = payload.len();
    let header_of_this = Header::of(T::KIND, payload)?;
    *header = header_of_this.to_bytes();
    Ok(HEADER_BYTES.saturating_add(payload_bytes))
}

/// Writes a payload that was encoded elsewhere as one frame of `kind` to the start of `out`, and returns
/// the frame's length in bytes.
///
/// # Errors
/// [`EncodeError`], when the payload is too large for a frame or for `out`.
pub fn encode_payload(kind: u8, payload: &[u8], out: &mut [u8]) -> Result<usize, EncodeError> {
    let frame_bytes = HEADER_BYTES.saturating_add(payload.len());
    if frame_bytes > FRAME_BYTES_MAX {
        return Err(EncodeError::TooLarge);
    }
    let too_small = EncodeError::BufferTooSmall { bytes: out.len() };
    let Some((header, rest)) =
        out.get_mut(..frame_bytes).and_then(|frame| frame.split_first_chunk_mut::<HEADER_BYTES>())
    else {
        return Err(too_small);
    };
    *header = Header::of(kind, payload)?.to_bytes();
    rest.copy_from_slice(payload);
    Ok(frame_bytes)
}

/// What a header says beyond magic and version.
#[derive(Clone, Copy)]
struct Header {
    kind: u8,
    payload_bytes: u32,
    checksum: u32,
}

impl Header {
    fn of(kind: u8, payload: &[u8]) -> Result<Self, EncodeError> {
        // A payload is at most FRAME_BYTES_MAX long, so its length fits.
        let Ok(payload_bytes) = u32::try_from(payload.len()) else {
            return Err(EncodeError::TooLarge);
        };
        Ok(Self { kind, payload_bytes, checksum: checksum(kind, payload) })
    }

    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [m0, m1] = MAGIC.to_le_bytes();
        let [l0, l1, l2, l3] = self.payload_bytes.to_le_bytes();
        let [c0, c1, c2, c3] = self.checksum.to_le_bytes();
        [m0, m1, WIRE_VERSION, self.kind, l0, l1, l2, l3, c0, c1, c2, c3]
    }

    fn from_bytes(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let [m0, m1, version, kind, l0, l1, l2, l3, c0, c1, c2, c3] = bytes;
        let magic = u16::from_le_bytes([m0, m1]);
        if magic != MAGIC {
            return Err(FrameError::Magic { found: magic });
        }
        if version != WIRE_VERSION {
            return Err(FrameError::Version { found: version });
        }
        Ok(Self {
            kind,
            payload_bytes: u32::from_le_bytes([l0, l1, l2, l3]),
            checksum: u32::from_le_bytes([c0, c1, c2, c3]),
        })
    }
}

fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}

/// Reads frames out of a stream.
///
/// The owner reads bytes into [`spare`](Self::spare), says how many with [`filled`](Self::filled),
/// and takes messages with [`next`](Self::next) until it gives `None`. With storage of
/// [`FRAME_BYTES_MAX`] bytes any frame fits; a smaller one refuses what it can't hold.
#[derive(Debug)]
pub struct Decoder<S> {
    storage: S,
    /// What was read and not yet taken is `storage[start..end]`.
    start: usize,
    end: usize,
    poison: Option<FrameError>,
    skipped: u64,
}

impl<S: AsRef<[u8]> + AsMut<[u8]>> Decoder<S> {
    /// A decoder that holds at most one storage full of unread bytes.
    pub fn new(storage: S) -> Self {
        Self { storage, start: 0, end: 0, poison: None, skipped: 0 }
    }

    /// Where the next bytes of the stream go. Never empty after [`next`](Self::next) gave `None`:
    /// it is empty only when a full frame, or one that will be refused, waits to be taken.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.start > 0 {
            if let Some(unread) = self.storage.as_mut().get_mut(..self.end)
                && self.start < unread.len()
            {
                unread.copy_within(self.start.., 0);
            }
            let again = usize::from(planted::is(Plant::DecoderSpare));
            self.end = self.end.saturating_sub(self.start).saturating_add(again);
            self.start = 0;
        }
        self.storage.as_mut().get_mut(self.end..).unwrap_or_default()
    }

    /// Says that `bytes` bytes were written to the start of what [`spare`](Self::spare) returned
    /// last. More than it had room for counts as all of it.
    pub fn filled(&mut self, bytes: usize) {
        let capacity = self.storage.as_ref().len();
        self.end = self.end.saturating_add(bytes).min(capacity);
    }

    /// Takes the next message; `None` when more bytes are needed for it.
    ///
    /// # Errors
    /// [`FrameError`], when the stream can't be read; from then on always the same one.
    // Not an iterator: each message borrows from the decoder.
    #[allow(clippy::should_implement_trait)]
    pub fn next<'a, T: Message + Deserialize<'a>>(&'a mut self) -> Result<Option<T>, FrameError> {
        let Some(payload) = self.take(T::KIND)? else { return Ok(None) };
        let bytes = self.storage.as_ref().get(payload).unwrap_or_default();
        let error = match postcard::take_from_bytes(bytes) {
            Ok((message, [])) => return Ok(Some(message)),
            Ok((_, rest)) => FrameError::Trailing { kind: T::KIND, bytes: rest.len() },
            Err(reason) => FrameError::Payload { kind: T::KIND, reason },
        };
        self.poison = Some(error.clone());
        Err(error)
    }

    /// Takes the payload of the next frame, which is of `kind`, as it is; `None` when more bytes are
    /// needed for it. What its caller can't read in it does not keep the next one from being taken.
    ///
    /// # Errors
    /// [`FrameError`], when the stream can't be read; from then on always the same one.
    pub fn next_payload(&mut self, kind: u8) -> Result<Option<&[u8]>, FrameError> {
        let Some(payload) = self.take(kind)? else { return Ok(None) };
        Ok(self.storage.as_ref().get(payload))
    }

    /// Takes the first frame, and says where its payload lies.
    fn take(&mut self, kind: u8) -> Result<Option<Range<usize>>, FrameError> {
        if let Some(error) = &self.poison {
            return Err(error.clone());
        }
        loop {
            match self.waiting(kind) {
                Ok(Some((found, payload))) => {
                    self.start = payload.end;
                    if found == kind {
                        return Ok(Some(payload));
                    }
                    self.skipped = self.skipped.saturating_add(1);
                }
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.poison = Some(error.clone());
                    return Err(error);
                }
            }
        }
    }

    /// The kind of the first frame, as its header says, once that is there: for who takes messages of several
    /// kinds from one stream.
    #[must_use]
    pub fn kind(&self) -> Option<u8> {
        let unread = self.storage.as_ref().get(self.start..self.end)?;
        let (header, _) = unread.split_first_chunk::<HEADER_BYTES>()?;
        Header::from_bytes(*header).ok().map(|header| header.kind)
    }

    /// How many frames were skipped, whose kind nobody asked for.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Where the payload of the first frame lies, once all of it is there and found intact, and its kind:
    /// the one that is asked for, or one that may be skipped.
    fn waiting(&self, kind: u8) -> Result<Option<(u8, Range<usize>)>, FrameError> {
        let storage = self.storage.as_ref();
        let Some(payload_bytes_max) = storage.len().min(FRAME_BYTES_MAX).checked_sub(HEADER_BYTES)
        else {
            let bytes = storage.len();
            return Err(FrameError::StorageTooSmall { bytes });
        };
        let unread = storage.get(self.start..self.end).unwrap_or_default();
        let Some((header, rest)) = unread.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = Header::from_bytes(*header)?;
        if header.kind != kind && header.kind < SKIPPABLE_FROM {
            return Err(FrameError::Kind { found: header.kind, expected: kind });
        }
        let payload_bytes = match usize::try_from(header.payload_bytes) {
            Ok(bytes) if bytes <= payload_bytes_max => bytes,
            Ok(_) | Err(_) => {
                return Err(FrameError::TooLarge {
                    payload_bytes: header.payload_bytes,
                    payload_bytes_max,
                });
            }
        };
        let Some(payload) = rest.get(..payload_bytes) else {
            return Ok(None);
        };
        let computed = checksum(header.kind, payload);
        if computed != header.checksum {
            return Err(FrameError::Checksum { found: header.checksum, computed });
        }
        let start = self.start.saturating_add(HEADER_BYTES);
        Ok(Some((header.kind, start..start.saturating_add(payload_bytes))))
    }
}

#[cfg(test)]
mod tests;
