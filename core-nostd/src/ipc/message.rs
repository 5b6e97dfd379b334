//! What travels in a channel, and how it is laid out where it crosses a boundary as bytes.
//!
//! Eight bytes of header, little endian, then the payload:
//!
//! | offset | bytes | field | meaning |
//! |---|---|---|---|
//! | 0 | 2 | tag | which kind of message |
//! | 2 | 1 | version | of that kind's layout |
//! | 3 | 1 | flags | none is known: a message with any is refused |
//! | 4 | 4 | length | bytes of payload |
//!
//! Rules:
//! 1. What is not known is refused, never skipped: a receiver that ignored a field would act on half
//!    of what it was told.
//! 2. A message is exactly as long as it says.

/// Bytes of a message's header.
pub const HEADER_BYTES: usize = 8;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message<P> {
    /// Which kind of message.
    pub tag: u16,
    /// The version of that kind's layout.
    pub version: u8,
    /// The bytes; their number is the message's length.
    pub payload: P,
}

/// The one kind of message that a channel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    /// Its tag.
    pub tag: u16,
    /// Its version. Another one is refused, older or newer.
    pub version: u8,
    /// Longest payload, in bytes.
    pub length_bytes_max: u32,
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum MessageError {
    /// There are fewer bytes than a header, or than the header announces.
    #[error("{bytes} bytes where the message has {expected}")]
    Truncated {
        /// How many there are.
        bytes: usize,
        /// How many there should be.
        expected: u64,
    },
    /// There are more bytes than the header announces.
    #[error("{bytes} bytes where the message has {expected}")]
    Trailing {
        /// How many there are.
        bytes: usize,
        /// How many there should be.
        expected: u64,
    },
    /// The message has fields that this side does not know.
    #[error("unknown flags {flags:#04x}: the sender speaks a later layout")]
    UnknownFlags {
        /// All of its flags.
        flags: u8,
    },
    /// The channel takes messages of another kind.
    #[error("a message with tag {found}, the channel takes {expected}")]
    Tag {
        /// The message's tag.
        found: u16,
        /// The channel's.
        expected: u16,
    },
    /// The channel takes messages of another version.
    #[error("a message of version {found}, the channel takes {expected}")]
    Version {
        /// The message's version.
        found: u8,
        /// The channel's.
        expected: u8,
    },
    /// The payload is too long.
    #[error("a payload of {length_bytes} bytes, at most {length_bytes_max} are taken")]
    TooLong {
        /// Its length.
        length_bytes: u64,
        /// The longest that is taken.
        length_bytes_max: u32,
    },
}

/// Why a message was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum EncodeError {
    /// Its length can't be written in a header.
    #[error("a payload of {length_bytes} bytes, at most {} can be written", u32::MAX)]
    TooLong {
        /// Length of the payload.
        length_bytes: u64,
    },
    /// The buffer is too short.
    #[error("a message of {needed} bytes does not fit into a buffer of {bytes}")]
    BufferTooSmall {
        /// Length of the buffer.
        bytes: usize,
        /// Length of the message with its header.
        needed: usize,
    },
}

impl<P: AsRef<[u8]>> Message<P> {
    /// Bytes of payload.
    #[must_use]
    pub fn length_bytes(&self) -> u64 {
        // Lossless: no target has a `usize` of more than 64 bits.
        u64::try_from(self.payload.as_ref().len()).unwrap_or(u64::MAX)
    }

    /// Writes header and payload to the start of `out`, and returns how many bytes they take.
    ///
    /// # Errors
    /// [`EncodeError`], when there is no room for them.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let payload = self.payload.as_ref();
        let length_bytes = self.length_bytes();
        let length =
            u32::try_from(length_bytes).map_err(|_| EncodeError::TooLong { length_bytes })?;
        let (bytes, needed) = (out.len(), payload.len().saturating_add(HEADER_BYTES));
        let too_small = EncodeError::BufferTooSmall { bytes, needed };
        let (header, rest) = out.split_first_chunk_mut::<HEADER_BYTES>().ok_or(too_small)?;
        rest.get_mut(..payload.len()).ok_or(too_small)?.copy_from_slice(payload);
        let [t0, t1] = self.tag.to_le_bytes();
        let [l0, l1, l2, l3] = length.to_le_bytes();
        *header = [t0, t1, self.version, 0, l0, l1, l2, l3];
        Ok(needed)
    }
}

impl<'a> Message<&'a [u8]> {
    /// Reads a message that is exactly `bytes`.
    ///
    /// # Errors
    /// [`MessageError`], when it is not.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let given = bytes.len();
        let Some((header, payload)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(MessageError::Truncated { bytes: given, expected: 8 });
        };
        let [t0, t1, version, flags, l0, l1, l2, l3] = *header;
        if flags != 0 {
            return Err(MessageError::UnknownFlags { flags });
        }
        let message = Self { tag: u16::from_le_bytes([t0, t1]), version, payload };
        let announced = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
        let expected = announced.saturating_add(8);
        match message.length_bytes() {
            found if found < announced => Err(MessageError::Truncated { bytes: given, expected }),
            found if found > announced => Err(MessageError::Trailing { bytes: given, expected }),
            _ => Ok(message),
        }
    }
}

impl Schema {
    /// Whether a message is of this kind.
    ///
    /// # Errors
    /// [`MessageError`], which says in what it differs.
    pub fn check<P: AsRef<[u8]>>(&self, message: &Message<P>) -> Result<(), MessageError> {
        let Self { tag, version, length_bytes_max } = *self;
        if message.tag != tag {
            return Err(MessageError::Tag { found: message.tag, expected: tag });
        }
        if message.version != version {
            return Err(MessageError::Version { found: message.version, expected: version });
        }
        let length_bytes = message.length_bytes();
        if length_bytes > u64::from(length_bytes_max) {
            return Err(MessageError::TooLong { length_bytes, length_bytes_max });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_message_survives_and_every_other_length_is_refused() {
        let message = Message { tag: 0x1234, version: 5, payload: &b"payload"[..] };
        let mut out = [0xff; 32];
        assert_eq!(message.encode(&mut out), Ok(15));
        assert_eq!(&out[..16], b"\x34\x12\x05\x00\x07\x00\x00\x00payload\xff");
        for bytes in 0..out.len() {
            let parsed = Message::parse(&out[..bytes]);
            match bytes {
                15 => assert_eq!(parsed, Ok(message)),
                0..8 => assert_eq!(parsed, Err(MessageError::Truncated { bytes, expected: 8 })),
                8..15 => assert_eq!(parsed, Err(MessageError::Truncated { bytes, expected: 15 })),
                _ => assert_eq!(parsed, Err(MessageError::Trailing { bytes, expected: 15 })),
            }
            let error = EncodeError::BufferTooSmall { bytes, needed: 15 };
            let encoded = message.encode(&mut [0; 32][..bytes]);
            assert_eq!(encoded, if bytes < 15 { Err(error) } else { Ok(15) });
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let mut bytes: Vec<u8> = std::vec![0; HEADER_BYTES];
        assert!(Message::parse(&bytes).is_ok());
        for flags in 1..=u8::MAX {
            bytes[3] = flags;
            assert_eq!(Message::parse(&bytes), Err(MessageError::UnknownFlags { flags }));
        }
    }

    #[test]
    fn a_schema_takes_one_kind_only() {
        let schema = Schema { tag: 3, version: 2, length_bytes_max: 4 };
        let check = |tag, version, bytes| {
            schema.check(&Message { tag, version, payload: std::vec![0; bytes] })
        };
        assert_eq!(check(3, 2, 4), Ok(()));
        assert_eq!(check(4, 2, 4), Err(MessageError::Tag { found: 4, expected: 3 }));
        assert_eq!(check(3, 1, 4), Err(MessageError::Version { found: 1, expected: 2 }));
        assert_eq!(check(3, 3, 4), Err(MessageError::Version { found: 3, expected: 2 }));
        let error = MessageError::TooLong { length_bytes: 5, length_bytes_max: 4 };
        assert_eq!(check(3, 2, 5), Err(error));
    }
}
