//! The first message in either direction of a link: who speaks, and which versions.
//!
//! Its layout is for ever. It is not extended: what is new is a [version](Hello::max) or a
//! [feature](Hello::features), so programs of all times understand each other's first message, and say
//! in words why they don't go on.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 | the lowest version of the link that is spoken |
//! | 2 | 2 | the highest one |
//! | 4 | 8 | features, a bit each; a bit that one side does not know is off |
//! | 12 | 4 | most bytes of a frame that are taken |
//! | 16 | 1 | the role |
//! | 17 | 32 | the build, as text, padded with zeros |
//!
//! All little endian. The version that is spoken is the highest that both speak.

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Decoder, FRAME_BYTES_MAX, FrameError, Message, link::LINK_VERSION};

/// The lowest version of the link that this build speaks. What came before it said hello otherwise.
pub const LINK_VERSION_MIN: u16 = 3;

/// What one side of a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role(pub u8);

impl Role {
    /// The manager.
    pub const MANAGER: Self = Self(1);
    /// A worker that hosts WOS.
    pub const WORKER: Self = Self(2);
    /// A native program that is built with the SDK.
    pub const SDK: Self = Self(3);
    /// A native program of the async trait.
    pub const TRAIT: Self = Self(4);
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::MANAGER => "the manager",
            Self::WORKER => "the worker",
            Self::SDK => "a program of the SDK",
            Self::TRAIT => "a program of the async trait",
            _ => "a peer of another kind",
        })
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The lowest version that is spoken.
    pub min: u16,
    /// The highest one.
    pub max: u16,
    /// Features, a bit each.
    pub features: u64,
    /// Most bytes of a frame that are taken.
    pub frame_bytes_max: u32,
    /// What the sender is.
    pub role: Role,
    /// Which build it is, padded with zeros.
    pub build: [u8; 32],
}

impl Message for Hello {
    const KIND: u8 = 9;
}

/// What both sides of a link have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The version that is spoken.
    pub version: u16,
    /// The features that both have.
    pub features: u64,
}

/// Why two sides don't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// No version is spoken by both.
    #[error(
        "{role} speaks versions {min} to {max} of the link, this side {LINK_VERSION_MIN} to \
         {LINK_VERSION}: use builds that have one in common"
    )]
    Version {
        /// What the other side is.
        role: Role,
        /// Its lowest version.
        min: u16,
        /// Its highest version.
        max: u16,
    },
    /// It takes shorter frames than messages may need.
    #[error("{role} takes frames of {bytes} bytes, at least {FRAME_BYTES_MAX} are needed")]
    Frames {
        /// What the other side is.
        role: Role,
        /// What it takes.
        bytes: u32,
    },
}

/// Why a link ends with its first message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The stream can't be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It begins with something else.
    #[error(
        "it did not say which versions of the link it speaks, which every build since version \
         {LINK_VERSION_MIN} does first: build it with the SDK of this version"
    )]
    Silent,
    /// Nothing is in common.
    #[error(transparent)]
    Disagreement(#[from] Disagreement),
}

impl Hello {
    /// Takes a side's first message from a link; `None` when more bytes are needed for it.
    ///
    /// # Errors
    /// The link begins otherwise: it is to be closed, with these words.
    pub fn take<S: AsRef<[u8]> + AsMut<[u8]>>(
        decoder: &mut Decoder<S>,
    ) -> Result<Option<Self>, HelloError> {
        decoder.next::<Self>().map_err(|error| match error {
            FrameError::Kind { .. } => HelloError::Silent,
            error => error.into(),
        })
    }

    /// Takes the other side's first message from a link, and says what is agreed on; `None` when more bytes
    /// are needed for it.
    ///
    /// # Errors
    /// [`HelloError`]: the link is to be closed, with these words.
    pub fn hear<S: AsRef<[u8]> + AsMut<[u8]>>(
        self,
        decoder: &mut Decoder<S>,
    ) -> Result<Option<Agreed>, HelloError> {
        let theirs = Self::take(decoder)?;
        Ok(theirs.map(|theirs| self.agree(theirs)).transpose()?)
    }

    /// What this build says.
    #[must_use]
    pub fn of(role: Role) -> Self {
        let mut build = [0; 32];
        let version = env!("CARGO_PKG_VERSION").as_bytes();
        for (place, byte) in build.iter_mut().zip(version) {
            *place = *byte;
        }
        Self {
            min: LINK_VERSION_MIN,
            max: LINK_VERSION,
            features: 0,
            frame_bytes_max: FRAME_BYTES_MAX_U32,
            role,
            build,
        }
    }

    /// What this build and the other side agree on.
    ///
    /// # Errors
    /// [`Disagreement`]: the link is to be closed, with these words.
    pub fn agree(self, theirs: Self) -> Result<Agreed, Disagreement> {
        let version = self.max.min(theirs.max);
        if version < self.min.max(theirs.min) {
            let Self { role, min, max, .. } = theirs;
            return Err(Disagreement::Version { role, min, max });
        }
        if theirs.frame_bytes_max < FRAME_BYTES_MAX_U32 {
            let bytes = theirs.frame_bytes_max;
            return Err(Disagreement::Frames { role: theirs.role, bytes });
        }
        Ok(Agreed { version, features: self.features & theirs.features })
    }

    fn to_bytes(self) -> ([u8; 17], [u8; 32]) {
        let mut head = [0; 17];
        let parts = self
            .min
            .to_le_bytes()
            .into_iter()
            .chain(self.max.to_le_bytes())
            .chain(self.features.to_le_bytes())
            .chain(self.frame_bytes_max.to_le_bytes())
            .chain([self.role.0]);
        for (place, byte) in head.iter_mut().zip(parts) {
            *place = byte;
        }
        (head, self.build)
    }

    fn from_bytes(head: [u8; 17], build: [u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, role] = head;
        Self {
            min: u16::from_le_bytes([a, b]),
            max: u16::from_le_bytes([c, d]),
            features: u64::from_le_bytes([e, f, g, h, i, j, k, l]),
            frame_bytes_max: u32::from_le_bytes([m, n, o, p]),
            role: Role(role),
            build,
        }
    }
}

/// What every side takes.
const FRAME_BYTES_MAX_U32: u32 = 131_072;
const _: () = assert!(FRAME_BYTES_MAX_U32 as usize == FRAME_BYTES_MAX);

impl Serialize for Hello {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Hello {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (head, build) = Deserialize::deserialize(deserializer)?;
        Ok(Self::from_bytes(head, build))
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::{
        HEADER_BYTES, encode,
        link::{Address, Command},
    };

    /// The first message of this build, byte for byte: it is the same in every version to come.
    #[test]
    fn the_layout_is_for_ever() {
        let hello = Hello {
            min: 0x0102,
            max: 0x0304,
            features: 0x0506_0708_090a_0b0c,
            frame_bytes_max: 0x0d0e_0f10,
            role: Role::SDK,
            build: *b"a build of some time in the past",
        };
        let mut frame = [0; 128];
        let bytes = encode(&hello, &mut frame).unwrap();
        assert_eq!(bytes, HEADER_BYTES + 49);
        let expected = b"\x02\x01\x04\x03\x0c\x0b\x0a\x09\x08\x07\x06\x05\x10\x0f\x0e\x0d\x03a build of some time in the past";
        assert_eq!(&frame[HEADER_BYTES..bytes], expected);
        assert_eq!(frame[3], 9);
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard(min: u16, max: u16, features: u64, frames: u32, role: u8) {
            let said = Hello {
                min, max, features, frame_bytes_max: frames, role: Role(role), build: [role; 32],
            };
            let mut decoder = Decoder::new(vec![0; 256]);
            let mut frame = [0; 128];
            let bytes = encode(&said, &mut frame).unwrap();
            decoder.spare()[..bytes].copy_from_slice(&frame[..bytes]);
            decoder.filled(bytes);
            prop_assert_eq!(decoder.next::<Hello>(), Ok(Some(said)));
        }

        /// The version is one that both speak, and no higher one is.
        #[test]
        fn the_highest_common_version_is_spoken(a in 0_u16..9, b in 0_u16..9, c in 0_u16..9, d in 0_u16..9) {
            let of = |min, max| Hello { min, max, ..Hello::of(Role::MANAGER) };
            let (ours, theirs) = (of(a, b), of(c, d));
            let both = (0..9).filter(|v| (a..=b).contains(v) && (c..=d).contains(v)).max();
            prop_assert_eq!(ours.agree(theirs).ok().map(|agreed| agreed.version), both);
        }
    }

    #[test]
    fn what_begins_otherwise_is_told_so() {
        let ours = Hello::of(Role::MANAGER);
        let mut frame = [0; 128];
        let first = |bytes: &[u8]| {
            let mut decoder = Decoder::new(vec![0; 256]);
            decoder.spare()[..bytes.len()].copy_from_slice(bytes);
            decoder.filled(bytes.len());
            ours.hear(&mut decoder)
        };
        let at = Address::of(0, 0);
        let bytes = encode(&Command::Start { at }, &mut frame).unwrap();
        assert_eq!(first(&frame[..bytes]), Err(HelloError::Silent));
        let bytes = encode(&ours, &mut frame).unwrap();
        assert!(matches!(first(&frame[..bytes]), Ok(Some(_))));
        assert_eq!(first(&frame[..bytes - 1]), Ok(None));
        frame[20] ^= 1;
        assert!(matches!(first(&frame[..bytes]), Err(HelloError::Frame(_))));
        assert!(matches!(first(b"GET / HTTP/1.1"), Err(HelloError::Frame(_))));
    }

    #[test]
    fn what_has_nothing_in_common_is_told_so() {
        let ours = Hello::of(Role::MANAGER);
        let past = Hello { min: 1, max: 2, role: Role::SDK, ..ours };
        let said = ours.agree(past).unwrap_err().to_string();
        assert!(said.contains("a program of the SDK speaks versions 1 to 2"), "{said}");
        let short = Hello { frame_bytes_max: 1_000, role: Role::WORKER, ..ours };
        let said = ours.agree(short).unwrap_err().to_string();
        assert!(said.contains("takes frames of 1000 bytes"), "{said}");
        // What one side alone has is off.
        let future = Hello { max: 9, features: 6, role: Role(99), ..ours };
        let agreed = Hello { features: 3, ..ours }.agree(future).unwrap();
        assert_eq!(agreed, Agreed { version: LINK_VERSION, features: 2 });
    }
}
