//! What a capability lets its holder do: a bitmap that is only ever narrowed.

use core::fmt;
use core::ops::BitOr;

use serde::{Deserialize, Serialize};

/// A set of rights. A bit without a meaning can't be in it.
///
/// ```
/// use duende_core::caps::Rights;
///
/// let both = Rights::READ | Rights::SEND;
/// assert!(both.contains(Rights::READ));
/// assert_eq!(both.without(Rights::READ), Rights::SEND);
/// assert_eq!(both.to_string(), "read+send");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Rights(u32);

impl Rights {
    /// No right at all.
    pub const NONE: Self = Self(0);
    /// Read the object.
    pub const READ: Self = Self(1);
    /// Change the object.
    pub const WRITE: Self = Self(1 << 1);
    /// Send signals to the object.
    pub const SIGNAL: Self = Self(1 << 2);
    /// Map the object into memory.
    pub const MAP: Self = Self(1 << 3);
    /// Execute the object.
    pub const EXEC: Self = Self(1 << 4);
    /// Hand the capability on.
    pub const DUPLICATE: Self = Self(1 << 5);
    /// Send messages to the object.
    pub const SEND: Self = Self(1 << 6);
    /// Receive messages from the object.
    pub const RECEIVE: Self = Self(1 << 7);
    /// Every right that has a meaning.
    pub const ALL: Self = Self(0xff);

    const NAMES: [(Self, &str); 8] = [
        (Self::READ, "read"),
        (Self::WRITE, "write"),
        (Self::SIGNAL, "signal"),
        (Self::MAP, "map"),
        (Self::EXEC, "exec"),
        (Self::DUPLICATE, "duplicate"),
        (Self::SEND, "send"),
        (Self::RECEIVE, "receive"),
    ];

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every right of `other` is in the set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The rights of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set without the rights of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Rights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl From<Rights> for u32 {
    fn from(rights: Rights) -> Self {
        rights.bits()
    }
}

/// A bitmap has bits that are no rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bits {unknown:#x} are no rights, only those of {:#x} are", Rights::ALL.bits())]
pub struct UnknownRights {
    /// The bits without a meaning.
    pub unknown: u32,
}

impl TryFrom<u32> for Rights {
    type Error = UnknownRights;

    fn try_from(bits: u32) -> Result<Self, UnknownRights> {
        let unknown = bits & !Self::ALL.0;
        if unknown == 0 { Ok(Self(bits)) } else { Err(UnknownRights { unknown }) }
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("none");
        }
        let held = Self::NAMES.iter().filter(|(right, _)| self.contains(*right));
        for (place, (_, name)) in held.enumerate() {
            if place > 0 {
                f.write_str("+")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_set_has_its_bits_and_its_names() {
        for bits in 0..=0xff_u32 {
            let rights = Rights::try_from(bits).unwrap();
            assert_eq!(u32::from(rights), bits);
            let named = if bits == 0 { 0 } else { rights.to_string().split('+').count() };
            assert_eq!(u32::try_from(named).unwrap(), bits.count_ones());
            for other in 0..=0xff_u32 {
                let other = Rights(other);
                assert_eq!(rights.contains(other), (rights | other) == rights);
                assert_eq!(rights.without(other) | other, rights | other);
            }
        }
        assert_eq!((Rights::WRITE | Rights::EXEC).to_string(), "write+exec");
        assert_eq!(Rights::NONE.to_string(), "none");
    }

    #[test]
    fn unknown_bits_are_refused() {
        for bit in 8..32 {
            let unknown = 1_u32 << bit;
            assert_eq!(Rights::try_from(unknown | 1), Err(UnknownRights { unknown }));
        }
    }
}
