//! Chance, from a seed: the same draws on every platform and in every version.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

/// A sequence of draws.
#[derive(Clone, Debug)]
pub struct Draw(Pcg64);

impl Draw {
    /// The draws of one world of a run: each world has its own, so that one can be had without those
    /// before it.
    #[must_use]
    pub fn new(seed: u64, world: u64) -> Self {
        Self(Pcg64::new(u128::from(seed), u128::from(world)))
    }

    /// Any number.
    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let scaled = (u128::from(self.0.next_u32()) * u128::from(end)) >> u32::BITS;
        u64::try_from(scaled).unwrap_or(0)
    }

    /// A small number below `end`.
    pub fn byte(&mut self, end: u8) -> u8 {
        u8::try_from(self.below(u64::from(end))).unwrap_or(0)
    }

    /// Whether something happens that happens `times` times in a thousand.
    pub fn per_mille(&mut self, times: u16) -> bool {
        self.below(1000) < u64::from(times)
    }

    /// One of these.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let index = self.below(u64::try_from(of.len()).unwrap_or(u64::MAX));
        of[usize::try_from(index).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seed that was written down has to mean the same run next year.
    #[test]
    fn a_seed_means_the_same_for_ever() {
        let mut draw = Draw::new(1, 2);
        assert_eq!(
            [draw.word(), draw.word()],
            [15_480_837_910_931_078_712, 6_808_287_797_791_945_199]
        );
    }

    #[test]
    fn a_draw_is_below_its_end() {
        let mut draw = Draw::new(9, 0);
        for end in [1, 2, 7, 255] {
            let drawn: Vec<u8> = (0..2000).map(|_| draw.byte(end)).collect();
            assert!(drawn.iter().all(|drawn| *drawn < end));
            assert!(drawn.contains(&0) && drawn.contains(&(end - 1)));
        }
        assert_eq!(draw.below(0), 0);
    }
}
