//! Levels: how urgent a task is, and how long its turn is.

/// How many levels there are.
pub const LEVELS: u8 = 8;

/// How urgent a task is. There is no order on levels, on purpose: the smaller number is the more
/// urgent one, and `<` would be read the wrong way half of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Level(u8);

impl Level {
    /// The most urgent level.
    pub const MOST_URGENT: Self = Self(0);
    /// The least urgent level.
    pub const LEAST_URGENT: Self = Self(LEVELS - 1);

    /// All of them, the most urgent first.
    pub(super) const ALL: [Self; LEVELS as usize] =
        [Self(0), Self(1), Self(2), Self(3), Self(4), Self(5), Self(6), Self(7)];

    /// The level with this number, if there is one.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < LEVELS { Some(Self(number)) } else { None }
    }

    /// Its number: 0 (most urgent) to 7.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether a task of this level goes before one of `other`.
    #[must_use]
    pub const fn is_more_urgent_than(self, other: Self) -> bool {
        self.0 < other.0
    }

    /// The more urgent of the two.
    #[must_use]
    pub const fn or_more_urgent(self, other: Self) -> Self {
        if other.is_more_urgent_than(self) { other } else { self }
    }

    /// Its place in an array of one entry per level. The mask says what [`Level::new`] has checked,
    /// so that the compiler sees it where the array is indexed.
    #[inline]
    pub(super) const fn index(self) -> usize {
        (self.0 & (LEVELS - 1)) as usize
    }

    /// Its bit in a set of levels.
    #[inline]
    pub(super) const fn bit(self) -> u8 {
        1 << (self.0 & (LEVELS - 1))
    }
}

impl Default for Level {
    /// Level 4.
    fn default() -> Self {
        Self(4)
    }
}

/// How long a task of this level runs before others of its level get their turn, in milliseconds:
/// 1 at level 0 up to 8 at level 7. Urgent tasks run often and briefly.
#[must_use]
pub const fn quantum_ms(level: Level) -> u32 {
    // Lossless; `From` is not const.
    level.0 as u32 + 1
}

/// [`quantum_ms`], in nanoseconds.
#[must_use]
pub const fn quantum_ns(level: Level) -> u64 {
    quantum_ms(level) as u64 * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_say_which_is_more_urgent() {
        assert_eq!(Level::new(LEVELS), None);
        assert!(Level::MOST_URGENT.is_more_urgent_than(Level::default()));
        assert!(Level::default().is_more_urgent_than(Level::LEAST_URGENT));
        assert!(!Level::default().is_more_urgent_than(Level::default()));
        assert_eq!(Level::default().or_more_urgent(Level::LEAST_URGENT), Level::default());
        assert_eq!(Level::LEAST_URGENT.or_more_urgent(Level::default()), Level::default());
        assert_eq!(Level::ALL.map(Level::number), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn urgent_turns_are_brief() {
        assert_eq!(quantum_ms(Level::MOST_URGENT), 1);
        assert_eq!(quantum_ms(Level::LEAST_URGENT), 8);
        assert_eq!(quantum_ns(Level::LEAST_URGENT), 8_000_000);
    }
}
