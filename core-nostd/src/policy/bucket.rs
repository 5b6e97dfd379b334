//! The token bucket: so many per period in the long run, and so many at once.
//!
//! Rules:
//! 1. The bucket begins full, holds at most `burst` tokens, and gains `tokens` per `period`, evenly:
//!    parts of a token count.
//! 2. A call takes its cost from the bucket, or is refused and takes nothing.
//! 3. Nothing is rounded while a limit stands. What is counted is the debt, what is missing until the
//!    bucket is full, in units of which a token has as many as the period has nanoseconds: so a
//!    nanosecond pays back exactly `tokens` units. That is a multiplication, no division, and holds
//!    for all of `u64`: no product of two is more than a `u128`.

use core::num::{NonZeroU64, NonZeroU128};
use core::time::Duration;

use crate::epitaph::{Epitaph, invariant};
use crate::planted::{self, Plant};
use crate::time::Instant;

/// A rate and a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// How many tokens are gained per period. Not zero.
    pub tokens: u64,
    /// The period: not zero, and at most `u64::MAX` nanoseconds.
    pub period: Duration,
    /// The most tokens that are there at once. Not zero.
    pub burst: u64,
}

/// The limit can't be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RateLimitError {
    /// An empty bucket would stay empty.
    #[error("a rate of 0 tokens admits nothing once the burst is used up: say at least 1")]
    TokensAreZero,
    /// No rate.
    #[error("the period of a rate is from 1 ns to 584 years")]
    PeriodOutOfRange,
    /// Nothing would ever be admitted.
    #[error("a burst of 0 tokens admits nothing: say at least 1")]
    BurstIsZero,
}

impl RateLimit {
    /// `tokens` per second, and as many at once.
    #[must_use]
    pub const fn per_second(tokens: u64) -> Self {
        Self { tokens, period: Duration::from_secs(1), burst: tokens }
    }

    /// The period in nanoseconds, if all of the limit can be kept.
    fn check(self) -> Result<NonZeroU64, RateLimitError> {
        if self.tokens == 0 {
            return Err(RateLimitError::TokensAreZero);
        }
        if self.burst == 0 {
            return Err(RateLimitError::BurstIsZero);
        }
        let period_ns = u64::try_from(self.period.as_nanos()).ok();
        period_ns.and_then(NonZeroU64::new).ok_or(RateLimitError::PeriodOutOfRange)
    }
}

/// Keeps calls to a [`RateLimit`].
///
/// ```
/// use duende_core::policy::bucket::{RateLimit, TokenBucket};
/// use duende_core::time::Instant;
///
/// let mut bucket = TokenBucket::new(RateLimit::per_second(2), Instant::ZERO)?;
/// let admitted = (0..10).filter(|_| bucket.admit(Instant::ZERO, 1)).count();
/// assert_eq!(admitted, 2);
/// assert_eq!(bucket.ready_at(1), Some(Instant::from_ns(500_000_000)));
/// assert!(bucket.admit(Instant::from_ns(500_000_000), 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// What is missing until the bucket is full, at `at`.
    debt: u128,
    /// The debt of an empty bucket.
    debt_max: u128,
    /// Up to when tokens were gained.
    at: Instant,
    /// Units in a token.
    period_ns: NonZeroU64,
    limit: RateLimit,
    refused_total: u64,
}

impl TokenBucket {
    /// A full bucket.
    ///
    /// # Errors
    /// [`RateLimitError`], when `limit` can't be kept.
    pub fn new(limit: RateLimit, now: Instant) -> Result<Self, RateLimitError> {
        let period_ns = limit.check()?;
        let debt_max = u128::from(limit.burst) * u128::from(period_ns.get());
        Ok(Self { debt: 0, debt_max, at: now, period_ns, limit, refused_total: 0 })
    }

    /// Takes `cost` tokens at `now`, if they are there.
    #[inline]
    #[must_use]
    pub fn admit(&mut self, now: Instant, cost: u64) -> bool {
        self.refill(now);
        let units = u128::from(cost) * u128::from(self.period_ns.get());
        let last = planted::is(Plant::BucketBurst) && cost > 0 && units == self.level();
        if units > self.level() || last {
            self.refused_total = self.refused_total.saturating_add(1);
            return false;
        }
        self.debt += units;
        true
    }

    /// From when on `cost` tokens are there, if nobody takes any before; an instant that is past
    /// means at once, [`Instant::MAX`] may mean later than can be told. `None` if never: the cost is
    /// more than the burst.
    #[must_use]
    pub fn ready_at(&self, cost: u64) -> Option<Instant> {
        if cost > self.limit.burst {
            return None;
        }
        let units = u128::from(cost) * u128::from(self.period_ns.get());
        let missing = units.saturating_sub(self.level());
        let tokens = NonZeroU128::new(u128::from(self.limit.tokens))?;
        let wait_ns = missing / tokens + u128::from(missing % tokens != 0);
        let wait_ns = u64::try_from(wait_ns).unwrap_or(u64::MAX);
        Some(self.at.saturating_add(Duration::from_nanos(wait_ns)))
    }

    /// How many whole tokens are there at `now`.
    #[must_use]
    pub fn tokens(&mut self, now: Instant) -> u64 {
        self.refill(now);
        u64::try_from(self.level() / NonZeroU128::from(self.period_ns)).unwrap_or(u64::MAX)
    }

    /// The limit that is kept.
    #[must_use]
    pub const fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Changes the limit. What the bucket holds stays in it as far as the new burst has room.
    ///
    /// # Errors
    /// [`RateLimitError`], when `limit` can't be kept; nothing is changed then.
    pub fn set_limit(&mut self, now: Instant, limit: RateLimit) -> Result<(), RateLimitError> {
        let period_ns = limit.check()?;
        self.refill(now);
        let (old, new) = (NonZeroU128::from(self.period_ns), u128::from(period_ns.get()));
        // Both products are of two factors below 2^64: a level is at most `burst` tokens.
        let level = self.level();
        let (whole, part) = ((level / old) * new, (level % old) * new / old);
        self.debt_max = u128::from(limit.burst) * new;
        self.debt = self.debt_max.saturating_sub(whole.saturating_add(part));
        self.period_ns = period_ns;
        self.limit = limit;
        Ok(())
    }

    /// How many calls were refused.
    #[must_use]
    pub const fn refused_total(&self) -> u64 {
        self.refused_total
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        invariant!(self.limit.check() == Ok(self.period_ns), "bucket limit can't be kept");
        let debt_max = u128::from(self.limit.burst) * u128::from(self.period_ns.get());
        invariant!(self.debt_max == debt_max, "bucket holds more or less than its burst");
        invariant!(self.debt <= debt_max, "bucket is less than empty");
        Ok(())
    }

    #[inline]
    fn refill(&mut self, now: Instant) {
        let elapsed_ns = now.as_ns().saturating_sub(self.at.as_ns());
        let gained = u128::from(elapsed_ns) * u128::from(self.limit.tokens);
        self.debt = self.debt.saturating_sub(gained);
        self.at = self.at.max(now);
    }

    /// What is in the bucket.
    #[inline]
    const fn level(&self) -> u128 {
        // A debt is at most that of an empty bucket.
        self.debt_max.saturating_sub(self.debt)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// The bucket's law, without a bucket: in no stretch of time is more admitted than the burst and
    /// what that time brings. What would break it is refused, and nothing else.
    fn lawful(limit: RateLimit, admitted: &[(u64, u64)], now: u64, cost: u64) -> bool {
        let period = limit.period.as_nanos();
        let mut sum = 0;
        let calls = admitted.iter().copied().chain([(now, cost)]);
        calls.rev().all(|(from, cost)| {
            sum += u128::from(cost);
            let brought = u128::from(now - from) * u128::from(limit.tokens);
            sum * period <= u128::from(limit.burst) * period + brought
        })
    }

    proptest! {
        #[test]
        fn admits_what_the_law_admits(
            tokens in prop_oneof![1..10_u64, 1..1_000_000_000_u64],
            period in prop_oneof![1..10_u64, 1..1_000_000_007_u64],
            burst in 1..12_u64,
            start in prop_oneof![Just(0), 0..1_u64 << 62],
            calls in prop::collection::vec((0..8_u64, 0..4_u64), 0..150),
        ) {
            let limit = RateLimit { tokens, period: Duration::from_nanos(period), burst };
            let mut now = start;
            let mut bucket = TokenBucket::new(limit, Instant::from_ns(now)).unwrap();
            let mut admitted = Vec::new();
            let mut refused = 0;
            for (step, cost) in calls {
                // Steps on the scale of a token.
                now += step * (period / tokens).max(1);
                let expected = lawful(limit, &admitted, now, cost);
                prop_assert_eq!(bucket.admit(Instant::from_ns(now), cost), expected);
                if expected {
                    admitted.push((now, cost));
                } else {
                    refused += 1;
                }
                prop_assert_eq!(bucket.check_invariants(), Ok(()));
                // `ready_at` is exact to the nanosecond.
                for cost in 1..=burst {
                    let ready = bucket.ready_at(cost).unwrap().as_ns();
                    prop_assert!(lawful(limit, &admitted, ready.max(now), cost));
                    if ready > now {
                        prop_assert!(!lawful(limit, &admitted, ready - 1, cost));
                    }
                }
                prop_assert_eq!(bucket.ready_at(burst + 1), None);
            }
            prop_assert_eq!(bucket.refused_total(), refused);
        }

        #[test]
        fn nothing_overflows(
            tokens in prop_oneof![Just(u64::MAX), 1..=u64::MAX],
            period in prop_oneof![Just(u64::MAX), 1..=u64::MAX],
            burst in prop_oneof![Just(u64::MAX), 1..=u64::MAX],
            calls in prop::collection::vec((any::<u64>(), any::<u64>(), any::<bool>()), 0..40),
        ) {
            let limit = RateLimit { tokens, period: Duration::from_nanos(period), burst };
            let mut bucket = TokenBucket::new(limit, Instant::ZERO).unwrap();
            for (now, cost, turned) in calls {
                let before = bucket.tokens(Instant::from_ns(now));
                let admitted = bucket.admit(Instant::from_ns(now), cost);
                prop_assert_eq!(admitted, cost <= before);
                prop_assert!(bucket.ready_at(cost).is_some() || cost > bucket.limit().burst);
                if turned {
                    let turned = RateLimit { period: Duration::from_nanos(tokens), tokens: period, burst };
                    bucket.set_limit(Instant::from_ns(now), turned).unwrap();
                }
                prop_assert_eq!(bucket.check_invariants(), Ok(()));
            }
        }
    }

    /// 3 per 7 ns, asked each nanosecond: thirds and sevenths that rounding would lose.
    #[test]
    fn a_rate_does_not_drift() {
        let limit = RateLimit { tokens: 3, period: Duration::from_nanos(7), burst: 5 };
        let mut bucket = TokenBucket::new(limit, Instant::ZERO).unwrap();
        let asked = (0..=700_000).map(Instant::from_ns);
        let admitted = asked.filter(|now| bucket.admit(*now, 1)).count();
        assert_eq!(admitted, 300_000 + 5);
    }

    /// Claim F070: twice the rate is asked for, and half of it refused.
    #[test]
    fn what_is_above_the_rate_is_refused() {
        let mut bucket = TokenBucket::new(RateLimit::per_second(100), Instant::ZERO).unwrap();
        let asked = (1..=2_000_u64).map(|call| Instant::from_ns(call * 5_000_000));
        let admitted = asked.filter(|now| bucket.admit(*now, 1)).count();
        // The burst, and the whole tokens of the 9.995 s from the first call to the last.
        assert_eq!(admitted, 100 + 999);
        assert_eq!(bucket.refused_total(), 901);
    }

    #[test]
    fn a_clock_that_steps_back_brings_nothing() {
        let mut bucket = TokenBucket::new(RateLimit::per_second(1), Instant::from_ns(9)).unwrap();
        assert!(bucket.admit(Instant::from_ns(9), 1));
        assert!(!bucket.admit(Instant::ZERO, 1));
        assert!(!bucket.admit(Instant::from_ns(1_000_000_008), 1));
        assert!(bucket.admit(Instant::from_ns(1_000_000_009), 1));
    }

    #[test]
    fn a_new_limit_keeps_what_is_there() {
        let mut bucket = TokenBucket::new(RateLimit::per_second(10), Instant::ZERO).unwrap();
        assert!(bucket.admit(Instant::ZERO, 8));
        // 2 tokens and, 50 ms later, half a one.
        let later = Instant::from_ns(50_000_000);
        let slow = RateLimit { tokens: 1, period: Duration::from_secs(60), burst: 4 };
        bucket.set_limit(later, slow).unwrap();
        assert_eq!(bucket.tokens(later), 2);
        let half = later.saturating_add(Duration::from_secs(30));
        assert_eq!(bucket.ready_at(3), Some(half));
        bucket.set_limit(later, RateLimit { burst: 1, ..slow }).unwrap();
        assert_eq!(bucket.tokens(later), 1);
    }

    #[test]
    fn a_limit_that_cannot_be_kept_is_refused() {
        let sound = RateLimit::per_second(1);
        let mut bucket = TokenBucket::new(sound, Instant::ZERO).unwrap();
        for (limit, error) in [
            (RateLimit { tokens: 0, ..sound }, RateLimitError::TokensAreZero),
            (RateLimit { period: Duration::ZERO, ..sound }, RateLimitError::PeriodOutOfRange),
            (RateLimit { period: Duration::MAX, ..sound }, RateLimitError::PeriodOutOfRange),
            (RateLimit { burst: 0, ..sound }, RateLimitError::BurstIsZero),
        ] {
            assert_eq!(TokenBucket::new(limit, Instant::ZERO).err(), Some(error));
            assert_eq!(bucket.set_limit(Instant::ZERO, limit), Err(error));
            assert_eq!(bucket.limit(), sound);
        }
    }
}
