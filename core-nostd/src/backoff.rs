//! How long a daemon that failed waits before it is started again.
//!
//! Rules:
//! 1. The ceiling doubles with each failure, from `initial` up to `cap`.
//! 2. The delay is uniform between zero and the ceiling (*full jitter*), so daemons that fell
//!    together don't come back together.
//! 3. `initial` = 0 means no delay at all.
//!
//! Forgetting after a stable run is the [`supervisor`](crate::supervise)'s: it counts the failures.

use core::time::Duration;

use crate::time::duration_ns;

/// Exponential backoff with full jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The ceiling after the first failure. Zero: every restart is immediate.
    pub initial: Duration,
    /// The highest ceiling.
    pub cap: Duration,
}

impl Default for Backoff {
    /// 100 ms, doubling up to 30 s.
    fn default() -> Self {
        Self { initial: Duration::from_millis(100), cap: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The longest delay after `failures` earlier failures in a row.
    #[must_use]
    pub fn ceiling(&self, failures: u32) -> Duration {
        Duration::from_nanos(self.ceiling_ns(failures))
    }

    /// The delay after `failures` earlier failures in a row. `entropy` is uniform over all of `u64`.
    ///
    /// ```
    /// use core::time::Duration;
    /// use duende_core::backoff::Backoff;
    ///
    /// let backoff = Backoff::default();
    /// assert_eq!(backoff.delay(0, u64::MAX), Duration::from_millis(100));
    /// assert_eq!(backoff.delay(2, u64::MAX / 2), Duration::from_millis(200));
    /// assert_eq!(backoff.delay(50, u64::MAX), Duration::from_secs(30));
    /// ```
    #[must_use]
    pub fn delay(&self, failures: u32, entropy: u64) -> Duration {
        let ceiling_ns = self.ceiling_ns(failures);
        // Multiply-shift maps 2^64 values onto ceiling + 1 ones; no value is favoured by more than
        // one part in 2^64 / ceiling.
        let scaled = (u128::from(entropy) * (u128::from(ceiling_ns) + 1)) >> u64::BITS;
        Duration::from_nanos(u64::try_from(scaled).unwrap_or(ceiling_ns))
    }

    fn ceiling_ns(&self, failures: u32) -> u64 {
        let initial_ns = duration_ns(self.initial);
        let cap_ns = duration_ns(self.cap);
        if initial_ns == 0 {
            return 0;
        }
        // Shifting by no more than the leading zeros loses no bit.
        if failures > initial_ns.leading_zeros() {
            return cap_ns;
        }
        initial_ns.checked_shl(failures).unwrap_or(cap_ns).min(cap_ns)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_keep_their_bounds(
            initial_ns in prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>(), 0..10_000_000_000_u64],
            cap_ns in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
            failures in prop_oneof![0..70_u32, any::<u32>()],
            entropy in any::<u64>(),
        ) {
            let backoff = Backoff {
                initial: Duration::from_nanos(initial_ns),
                cap: Duration::from_nanos(cap_ns),
            };
            // The model: doubling one at a time.
            let mut model_ns = u128::from(initial_ns.min(cap_ns));
            for _ in 0..failures.min(64) {
                model_ns = (model_ns * 2).min(u128::from(cap_ns));
            }
            let ceiling = backoff.ceiling(failures);
            prop_assert_eq!(ceiling.as_nanos(), model_ns);
            prop_assert!(backoff.delay(failures, entropy) <= ceiling);
            prop_assert_eq!(backoff.delay(failures, 0), Duration::ZERO);
            prop_assert_eq!(backoff.delay(failures, u64::MAX), ceiling);
        }
    }

    #[test]
    fn the_jitter_is_uniform() {
        // A ceiling of 3 ns: four delays, each from a quarter of the entropy.
        let backoff = Backoff { initial: Duration::from_nanos(3), cap: Duration::MAX };
        let quarter = 1 << 62;
        for (delay_ns, first) in [(0, 0), (1, quarter), (2, 2 * quarter), (3, 3 * quarter)] {
            let expected = Duration::from_nanos(delay_ns);
            assert_eq!(backoff.delay(0, first), expected);
            assert_eq!(backoff.delay(0, first + (quarter - 1)), expected);
        }
    }
}
