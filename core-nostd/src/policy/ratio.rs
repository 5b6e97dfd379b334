//! Shares without floats: hundredths of a percent, rounded to the side that is asked for.

/// How many basis points make a whole.
const WHOLE: u32 = 10_000;

/// A share in basis points, hundredths of a percent: 10,000 is all of it, and more is possible (a
/// daemon on two processors uses up to 20,000 of one).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BasisPoints(u32);

impl BasisPoints {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// All of it.
    pub const ONE: Self = Self(WHOLE);

    /// This many hundredths of a percent.
    #[must_use]
    pub const fn new(basis_points: u32) -> Self {
        Self(basis_points)
    }

    /// This many percent; the largest share if there are too many.
    #[must_use]
    pub const fn from_percent(percent: u32) -> Self {
        Self(percent.saturating_mul(100))
    }

    /// The share that `part` is of `whole`, rounded down: for what has to reach a limit. `None` if
    /// there is no whole.
    #[must_use]
    pub fn floor(part: u64, whole: u64) -> Option<Self> {
        let share = (u128::from(part) * u128::from(WHOLE)).checked_div(u128::from(whole))?;
        Some(Self(u32::try_from(share).unwrap_or(u32::MAX)))
    }

    /// The share that `part` is of `whole`, rounded up: for what must not pass a limit. `None` if
    /// there is no whole.
    #[must_use]
    pub fn ceil(part: u64, whole: u64) -> Option<Self> {
        if whole == 0 {
            return None;
        }
        let share = (u128::from(part) * u128::from(WHOLE)).div_ceil(u128::from(whole));
        Some(Self(u32::try_from(share).unwrap_or(u32::MAX)))
    }

    /// In hundredths of a percent.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether `part` is at least this share of `whole`: exact, and without a division.
    #[must_use]
    pub fn is_reached_by(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(WHOLE) >= u128::from(whole) * u128::from(self.0)
    }
}

impl core::fmt::Display for BasisPoints {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{:02} %", self.0 / 100, self.0 % 100)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rounding_never_lets_pass_what_is_over() {
        let limit = BasisPoints::from_percent(10);
        assert!(BasisPoints::ceil(100_001, 1_000_000) > Some(limit));
        assert_eq!(BasisPoints::ceil(100_000, 1_000_000), Some(limit));
        assert!(BasisPoints::floor(99_999, 1_000_000) < Some(limit));
        assert_eq!(BasisPoints::floor(u64::MAX, 1), Some(BasisPoints(u32::MAX)));
        assert_eq!(BasisPoints::ceil(u64::MAX, 1), Some(BasisPoints(u32::MAX)));
        assert_eq!((BasisPoints::floor(1, 0), BasisPoints::ceil(1, 0)), (None, None));
        assert_eq!(BasisPoints::from_percent(u32::MAX), BasisPoints(u32::MAX));
        assert_eq!(BasisPoints::new(8_005).to_string(), "80.05 %");
        assert_eq!(BasisPoints::ONE.get(), 10_000);
    }

    proptest! {
        #[test]
        fn a_share_is_reached_as_its_floor_says(
            part in any::<u64>(),
            whole in prop_oneof![1..100_u64, any::<u64>().prop_map(|whole| whole.max(1))],
            share in prop_oneof![0..20_000_u32, any::<u32>()],
        ) {
            let share = BasisPoints::new(share);
            let floor = BasisPoints::floor(part, whole).unwrap();
            let ceil = BasisPoints::ceil(part, whole).unwrap();
            prop_assert!(floor <= ceil && ceil.get() <= floor.get().saturating_add(1));
            prop_assert_eq!(share.is_reached_by(part, whole), share <= floor);
        }
    }
}
