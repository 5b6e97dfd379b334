//! Points in time, as the owner of a machine tells them.
//!
//! No machine reads a clock: every `now` is an argument. Lengths of time are
//! [`core::time::Duration`]s. Arithmetic saturates, so a deadline that lies beyond what can be
//! counted is [`Instant::MAX`], 584 years after the clock's zero, and never an overflow.

use core::time::Duration;

/// A point on the owner's monotonic clock: nanoseconds since a zero that the owner chose.
///
/// Instants are compared only with instants of the same clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The clock's zero.
    pub const ZERO: Self = Self(0);
    /// The last point that can be told apart.
    pub const MAX: Self = Self(u64::MAX);

    /// The point `ns` nanoseconds after the clock's zero.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the clock's zero.
    #[must_use]
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// The point `length` later, or [`Instant::MAX`].
    #[must_use]
    pub fn saturating_add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(duration_ns(length)))
    }

    /// The point `length` later, if it can be counted.
    #[must_use]
    pub fn checked_add(self, length: Duration) -> Option<Self> {
        let length_ns = u64::try_from(length.as_nanos()).ok()?;
        self.0.checked_add(length_ns).map(Self)
    }

    /// The time from `earlier` to `self`; zero if `earlier` is not earlier.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A length of time in nanoseconds, `u64::MAX` for 584 years and more.
pub(crate) fn duration_ns(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_never_overflows() {
        let late = Instant::from_ns(u64::MAX - 1);
        let ns = Duration::from_nanos;
        assert_eq!(late.saturating_add(ns(1)), Instant::MAX);
        assert_eq!(late.saturating_add(ns(2)), Instant::MAX);
        assert_eq!(late.saturating_add(Duration::MAX), Instant::MAX);
        assert_eq!(late.checked_add(ns(1)), Some(Instant::MAX));
        assert_eq!(late.checked_add(ns(2)), None);
        assert_eq!(Instant::ZERO.checked_add(Duration::MAX), None);
        assert_eq!(late.saturating_since(Instant::MAX), Duration::ZERO);
        assert_eq!(Instant::MAX.saturating_since(late), ns(1));
    }
}
