//! What a daemon may have and do, by name.
//!
//! On the link limits and capabilities are words, so that those to come need no other version of it: the
//! words of the configuration and of `context.limit` and `context.granted`. Here are those that every peer
//! knows, each with its place; a peer finds a word in these tables or does not know it.

use super::{Address, Command};

/// The capabilities that the configuration grants, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grants(pub u32);

impl Grants {
    /// May write lines to its log.
    pub const LOG: Self = Self(1);
    /// May keep durable state.
    pub const STATE: Self = Self(1 << 1);
    /// May publish metrics.
    pub const METRIC: Self = Self(1 << 2);

    /// All that there are, with their words.
    pub const WORDS: [(&'static str, Self); 3] =
        [("log", Self::LOG), ("state", Self::STATE), ("metric", Self::METRIC)];

    /// That of a word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.into_iter().find(|(known, _)| *known == word).map(|(_, grant)| grant)
    }

    /// Whether every capability of `other` is in `self`.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The capabilities of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The limits that a WOS kernel enforces on one daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most linear memory, in bytes: `memory`.
    pub memory_bytes_max: u64,
    /// Most running time of one slice, in nanoseconds: `slice`.
    pub slice_budget_ns: u64,
    /// Most bytes of keys and values in `state`: `state`.
    pub state_bytes_max: u64,
}

impl Limits {
    /// No limit at all.
    pub const NONE: Self =
        Self { memory_bytes_max: u64::MAX, slice_budget_ns: u64::MAX, state_bytes_max: u64::MAX };

    /// Each with its name.
    #[must_use]
    pub const fn settings(&self) -> [(&'static str, u64); 3] {
        [
            ("memory", self.memory_bytes_max),
            ("slice", self.slice_budget_ns),
            ("state", self.state_bytes_max),
        ]
    }

    /// Sets one by its name; false if there is none of that name.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        let place = match name {
            "memory" => &mut self.memory_bytes_max,
            "slice" => &mut self.slice_budget_ns,
            "state" => &mut self.state_bytes_max,
            _ => return false,
        };
        *place = value;
        true
    }
}

/// What is said of a daemon before its configuration, state and channels.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    /// Its address from here on.
    pub at: Address,
    /// Its name.
    pub name: &'a str,
    /// Path of its image; empty for a native peer.
    pub image: &'a str,
    /// 0 (most urgent) to 7.
    pub level: u8,
    /// What is enforced.
    pub limits: Limits,
    /// What is granted.
    pub grants: Grants,
}

impl<'a> Description<'a> {
    /// The commands that say it, in their order. A limit that is none is not said; every other one, and every
    /// capability, is required.
    pub fn commands(&self) -> impl Iterator<Item = Command<'a>> + use<'a> {
        let Self { at, name, image, level, limits, grants } = *self;
        let required = true;
        let settings = limits.settings().into_iter().filter(|(_, value)| *value != u64::MAX);
        let settings =
            settings.map(move |(name, value)| Command::Setting { at, name, value, required });
        let granted = Grants::WORDS.into_iter().filter(move |(_, grant)| grants.contains(*grant));
        let granted =
            granted.map(move |(capability, _)| Command::Grant { at, capability, required });
        core::iter::once(Command::Create { at, name, image, level }).chain(settings).chain(granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every set of grants against every other, and each word.
    #[test]
    fn grants_are_sets_of_words() {
        let single = Grants::WORDS.map(|(_, grant)| grant);
        for (one, other) in (0..64).map(|bits| (Grants(bits / 8), Grants(bits % 8))) {
            let has = |grants: Grants| single.map(|grant| grants.contains(grant));
            let both = [0, 1, 2].map(|n| has(one)[n] || has(other)[n]);
            assert_eq!(has(one.union(other)), both);
            let within = [0, 1, 2].into_iter().all(|n| has(one)[n] || !has(other)[n]);
            assert_eq!(one.contains(other), within, "{one:?} {other:?}");
        }
        assert_eq!(single.map(|grant| grant.0), [1, 2, 4]);
        for (word, grant) in Grants::WORDS {
            assert_eq!(Grants::of_word(word), Some(grant));
        }
        assert_eq!(Grants::of_word("rocket"), None);
    }

    /// What a description says is what a peer that takes it word by word comes to.
    #[test]
    fn a_description_is_read_as_it_was_meant() {
        for bits in 0..64 {
            let value = |bit: u32| if bits >> bit & 1 == 1 { u64::from(bit) } else { u64::MAX };
            let limits = Limits {
                memory_bytes_max: value(3),
                slice_budget_ns: value(4),
                state_bytes_max: value(5),
            };
            let at = Address::of(1, 2);
            let grants = Grants(bits & 7);
            let (mut heard_limits, mut heard_grants) = (Limits::NONE, Grants::default());
            let said = Description { at, name: "n", image: "i", level: 4, limits, grants };
            for command in said.commands() {
                match command {
                    Command::Create { at: to, name: "n", image: "i", level: 4 } if to == at => {}
                    Command::Setting { name, value, required: true, .. } => {
                        assert!(heard_limits.set(name, value), "{name}");
                    }
                    Command::Grant { capability, required: true, .. } => {
                        heard_grants = heard_grants.union(Grants::of_word(capability).unwrap());
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!((heard_limits, heard_grants), (limits, grants));
        }
        assert!(!Limits::NONE.clone().set("rocket", 1));
    }
}
