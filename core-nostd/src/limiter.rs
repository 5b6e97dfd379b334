//! How many restarts are too many: a sliding window, as OTP's supervisors count.
//!
//! Rules:
//! 1. A restart at `now` is admitted if at most `intensity` restarts, itself included, lie within
//!    the last `period` (its first instant included). OTP counts whole seconds, this counts
//!    nanoseconds.
//! 2. A refused restart leaves no mark. What follows a refusal (quarantine) is the caller's.
//! 3. A period of zero limits nothing, as systemd's `StartLimitIntervalSec=0`.
//! 4. Only the last `intensity` admitted restarts matter, so a ring of them is all that is kept and
//!    an answer takes the same time however often was asked.

use core::time::Duration;

use crate::epitaph::{Epitaph, invariant};
use crate::time::Instant;

/// At most `intensity` restarts per `period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartLimit {
    /// How many restarts are admitted within a period. Zero admits none.
    pub intensity: u32,
    /// The length of the window. Zero: no limit.
    pub period: Duration,
}

impl RestartLimit {
    /// Any number of restarts.
    pub const UNLIMITED: Self = Self { intensity: 0, period: Duration::ZERO };

    const fn is_unlimited(self) -> bool {
        self.period.is_zero()
    }
}

impl Default for RestartLimit {
    /// 5 restarts per 60 s.
    fn default() -> Self {
        Self { intensity: 5, period: Duration::from_secs(60) }
    }
}

/// The limit can't be kept with this storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("a limit of {intensity} restarts per period, at most {intensity_max} can be counted")]
pub struct IntensityError {
    /// What was asked for.
    pub intensity: u32,
    /// The most that the storage counts.
    pub intensity_max: usize,
}

/// Counts restarts against a [`RestartLimit`].
#[derive(Clone, Debug)]
pub struct Limiter<S> {
    limit: RestartLimit,
    /// A ring of the last admitted restarts, `intensity` entries long.
    stamps: S,
    /// Where the next stamp goes; once the ring is full, also where the oldest one lies.
    next: usize,
    /// How many stamps are kept.
    kept: usize,
}

impl<S: AsRef<[Instant]> + AsMut<[Instant]>> Limiter<S> {
    /// A limiter that has seen no restart.
    ///
    /// # Errors
    /// [`IntensityError`], when `stamps` is shorter than the limit's intensity.
    pub fn new(stamps: S, limit: RestartLimit) -> Result<Self, IntensityError> {
        let intensity_max = stamps.as_ref().len();
        let fits = usize::try_from(limit.intensity).is_ok_and(|wanted| wanted <= intensity_max);
        if !fits && !limit.is_unlimited() {
            return Err(IntensityError { intensity: limit.intensity, intensity_max });
        }
        Ok(Self { limit, stamps, next: 0, kept: 0 })
    }

    /// The limit that is kept.
    #[must_use]
    pub const fn limit(&self) -> RestartLimit {
        self.limit
    }

    /// Admits a restart at `now`, or refuses it.
    #[must_use]
    pub fn admit(&mut self, now: Instant) -> bool {
        if self.limit.is_unlimited() {
            return true;
        }
        let intensity = self.intensity();
        let full = self.kept >= intensity;
        // With an intensity of zero the ring has no place and nothing is admitted.
        let Some(oldest) =
            self.stamps.as_mut().get_mut(..intensity).and_then(|ring| ring.get_mut(self.next))
        else {
            return false;
        };
        if full && now.saturating_since(*oldest) <= self.limit.period {
            return false;
        }
        *oldest = now;
        self.next = match self.next.saturating_add(1) {
            end if end >= intensity => 0,
            next => next,
        };
        if !full {
            self.kept = self.kept.saturating_add(1);
        }
        true
    }

    /// Forgets every restart: an operator releases what was quarantined.
    pub fn clear(&mut self) {
        self.next = 0;
        self.kept = 0;
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        let (next, kept, intensity) = (self.next, self.kept, self.intensity());
        invariant!(kept <= intensity, "limiter keeps {kept} of {intensity}");
        invariant!(next < intensity.max(1), "limiter at {next} of {intensity}");
        let in_front = kept == intensity || kept == next;
        invariant!(in_front, "limiter keeps {kept}, is at {next}");
        Ok(())
    }

    fn intensity(&self) -> usize {
        if self.limit.is_unlimited() {
            return 0;
        }
        // `new` saw that it fits.
        usize::try_from(self.limit.intensity).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// OTP's `add_restart`, to the letter: keep what lies in the window, add, compare.
    struct Naive(Vec<u64>);

    impl Naive {
        fn admit(&mut self, limit: RestartLimit, now_ns: u64) -> bool {
            let period_ns = u64::try_from(limit.period.as_nanos()).unwrap();
            self.0.retain(|stamp| *stamp >= now_ns.saturating_sub(period_ns));
            let admitted = self.0.len() < usize::try_from(limit.intensity).unwrap();
            if admitted {
                self.0.push(now_ns);
            }
            admitted || period_ns == 0
        }
    }

    proptest! {
        #[test]
        fn counts_like_otp(
            intensity in 0..8_u32,
            period_ns in prop_oneof![Just(0), 1..50_u64],
            start_ns in prop_oneof![Just(0), Just(u64::MAX - 200), any::<u64>()],
            steps in proptest::collection::vec((0..20_u64, 0..40_u8), 0..200),
        ) {
            let limit = RestartLimit { intensity, period: Duration::from_nanos(period_ns) };
            let mut limiter = Limiter::new([Instant::ZERO; 8], limit).unwrap();
            let mut naive = Naive(Vec::new());
            let mut now_ns = start_ns;
            for (step_ns, chance) in steps {
                now_ns = now_ns.saturating_add(step_ns);
                if chance == 0 {
                    limiter.clear();
                    naive.0.clear();
                }
                let admitted = limiter.admit(Instant::from_ns(now_ns));
                prop_assert_eq!(admitted, naive.admit(limit, now_ns));
                prop_assert_eq!(limiter.check_invariants(), Ok(()));
            }
        }
    }

    #[test]
    fn a_limit_that_cannot_be_kept_is_refused() {
        let limit = RestartLimit { intensity: 3, ..RestartLimit::default() };
        let error = IntensityError { intensity: 3, intensity_max: 2 };
        assert_eq!(Limiter::new([Instant::ZERO; 2], limit).err(), Some(error));
        assert!(Limiter::new([Instant::ZERO; 3], limit).is_ok());
        assert!(Limiter::new([], RestartLimit::UNLIMITED).unwrap().admit(Instant::MAX));
    }

    #[test]
    fn a_clock_that_steps_back_opens_no_window() {
        let limit = RestartLimit { intensity: 1, period: Duration::from_nanos(5) };
        let mut limiter = Limiter::new([Instant::ZERO; 1], limit).unwrap();
        assert!(limiter.admit(Instant::from_ns(100)));
        assert!(!limiter.admit(Instant::from_ns(3)));
        assert!(limiter.admit(Instant::from_ns(106)));
    }
}
