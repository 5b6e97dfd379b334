//! Whether the log is one that can be read: told once when most of the last lines could not be, and once when they
//! can be again.
//!
//! Rules:
//! 1. The last [`LINES`] lines count. It is lost when more than half of them could not be read, at least
//!    [`LINES_MIN`] of them, so that a few strange ones at the beginning are no alarm.
//! 2. It is found again when at most a quarter could not be: a log in which half of the lines are foreign does not
//!    alarm with every other one.

/// How many lines count.
pub const LINES: u32 = u64::BITS;
/// How many must have come before it can be lost.
const LINES_MIN: u32 = 8;

/// Of the last lines, which could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Legibility {
    /// One bit for each, the newest lowest; it is set where a line could not be read.
    misread: u64,
    /// How many there are, up to [`LINES`].
    lines: u32,
    is_lost: bool,
}

/// What a line did to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Most lines cannot be read.
    Lost,
    /// They can be again.
    Found,
}

impl Legibility {
    /// How many words [`words`](Self::words) yields.
    pub const WORDS: usize = 3;

    /// Takes in one line.
    pub fn push(&mut self, is_read: bool) -> Option<Turn> {
        self.misread = self.misread << 1 | u64::from(!is_read);
        self.lines = (self.lines + 1).min(LINES);
        let misread = self.misread();
        if self.is_lost {
            self.is_lost = misread * 4 > self.lines;
            (!self.is_lost).then_some(Turn::Found)
        } else {
            self.is_lost = misread * 2 > self.lines && misread >= LINES_MIN;
            self.is_lost.then_some(Turn::Lost)
        }
    }

    /// How many of the last lines could not be read.
    #[must_use]
    pub const fn misread(&self) -> u32 {
        self.misread.count_ones()
    }

    /// How many lines these are.
    #[must_use]
    pub const fn lines(&self) -> u32 {
        self.lines
    }

    /// Whether most of the lines cannot be read.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// For keeping.
    #[must_use]
    pub fn words(&self) -> [u64; Self::WORDS] {
        [self.misread, self.lines.into(), self.is_lost.into()]
    }

    /// What [`words`](Self::words) yielded; none if they are not such words.
    #[must_use]
    pub fn from_words([misread, lines, is_lost]: [u64; Self::WORDS]) -> Option<Self> {
        let lines = u32::try_from(lines).ok().filter(|lines| *lines <= LINES)?;
        let fits = misread.checked_shr(lines).unwrap_or(0) == 0 && is_lost <= 1;
        fits.then_some(Self { misread, lines, is_lost: is_lost == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_that_of_the_last_lines(lines in proptest::collection::vec(prop::bool::weighted(0.6), 0..300)) {
            let mut legibility = Legibility::default();
            let mut is_lost = false;
            for index in 0..lines.len() {
                let turn = legibility.push(lines[index]);
                let last = &lines[(index + 1).saturating_sub(64)..=index];
                let misread = last.iter().filter(|is_read| !**is_read).count();
                let was_lost = is_lost;
                is_lost = if is_lost { misread * 4 > last.len() } else { misread * 2 > last.len() && misread >= 8 };
                let expected = match (was_lost, is_lost) {
                    (false, true) => Some(Turn::Lost),
                    (true, false) => Some(Turn::Found),
                    _ => None,
                };
                prop_assert_eq!(turn, expected);
                prop_assert_eq!(usize::try_from(legibility.lines()).unwrap(), last.len());
                prop_assert_eq!(Legibility::from_words(legibility.words()), Some(legibility));
            }
        }
    }

    #[test]
    fn words_that_are_none_are_refused() {
        for words in [[0, 65, 0], [2, 1, 0], [0, 1, 2], [1, 0, 0]] {
            assert_eq!(Legibility::from_words(words), None, "{words:?}");
        }
    }
}
