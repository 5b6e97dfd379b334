//! Words of the control protocol that a later version may have more of: states, kinds of events, codes.
//!
//! Rules:
//! 1. A word that this version does not know is never an error: it is kept as [`Word`], shown as it came, and
//!    passed on in `--json` (`word::tests::an_unknown_word_is_kept_and_a_known_one_never_is`).
//! 2. A [`Word`] has at most [`WORD_BYTES_MAX`] bytes, and none that a terminal would obey: what has no place
//!    in a word is replaced (`word::tests::no_word_drives_a_terminal_or_grows`).

use std::fmt;

/// Longest word that is kept whole, in bytes. Every known one is shorter, so that none that was cut is taken
/// for one of them.
pub const WORD_BYTES_MAX: usize = 31;

/// A word that this version does not know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word {
    bytes: [u8; WORD_BYTES_MAX],
    length: u8,
}

impl Word {
    /// As much of a text as has a place in a word.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut word = Self { bytes: [0; WORD_BYTES_MAX], length: 0 };
        for (place, character) in word.bytes.iter_mut().zip(text.chars()) {
            let known = u8::try_from(character).ok();
            *place = known.filter(|byte| is_of_words(*byte)).unwrap_or(b'?');
            word.length += 1;
        }
        word
    }

    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        // Each of them is ASCII.
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

const fn is_of_words(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// Makes an enum whose values are words on the wire, and whose last one is any other word.
macro_rules! words {
    (
        $(#[$about:meta])*
        pub enum $name:ident { $($(#[$variant_about:meta])* $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_about])* $variant,)+
            /// One that a later version knows.
            Other($crate::control::word::Word),
        }

        impl $name {
            /// All that this version knows.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// What a word means.
            #[must_use]
            pub fn of(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other($crate::control::word::Word::of(other)),
                }
            }

            /// The word that people and `--json` see.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word.as_str(),
                }
            }
        }

        impl Default for $name {
            /// What an absent word means.
            fn default() -> Self {
                Self::of("unknown")
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Ok(Self::of(&std::borrow::Cow::<'de, str>::deserialize(from)?))
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macro is for the enums of the protocol")]
mod tests {
    use super::*;

    words! {
        /// Of a test.
        pub enum Known {
            /// One.
            One = "one",
        }
    }

    #[test]
    fn an_unknown_word_is_kept_and_a_known_one_never_is() {
        let known: Known = serde_json::from_str("\"one\"").unwrap();
        assert_eq!(known, Known::One);
        let other: Known = serde_json::from_str("\"tw\\u006f\"").unwrap();
        assert_eq!((other, other.as_str()), (Known::Other(Word::of("two")), "two"));
        assert_eq!(serde_json::to_string(&other).unwrap(), "\"two\"");
        assert_eq!(Known::of(Known::of("one").as_str()), Known::One);
        assert!(Known::WORDS.iter().all(|word| word.len() < WORD_BYTES_MAX));
    }

    #[test]
    fn no_word_drives_a_terminal_or_grows() {
        for text in ["\x1b[2J", "a b\u{202e}", "ü\r\n", &"x".repeat(5_000), "", "web.1-a_B"] {
            let word = Word::of(text);
            assert!(word.as_str().len() <= WORD_BYTES_MAX);
            assert!(!word.as_str().contains(crate::terminal::drives_terminal), "{word:?}");
            assert_eq!(Word::of(word.as_str()), word);
        }
        assert_eq!(Word::of("web.1-a_B").as_str(), "web.1-a_B");
    }
}
