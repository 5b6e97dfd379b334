//! The RED set of whatever serves requests: their rate, their errors, their duration.
//!
//! A rate needs two looks: [`Red::totals`] now and earlier, and the time between them. So every
//! reader has its own window, and none resets another's.

use core::time::Duration;

use super::{Counter, Histogram, PPM, Precision};
use crate::epitaph::{Epitaph, invariant};
use crate::time::duration_ns;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was served.
    Success,
    /// It failed.
    Error,
}

/// Rate, errors and duration of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Red<S> {
    requests: Counter,
    errors: Counter,
    duration_ns: Histogram<S>,
}

impl<S: AsRef<[u64]> + AsMut<[u64]>> Red<S> {
    /// Before the first request. For `storage` see [`Precision::buckets_for`], in nanoseconds.
    pub fn new(storage: S, precision: Precision) -> Self {
        Self {
            requests: Counter::default(),
            errors: Counter::default(),
            duration_ns: Histogram::new(storage, precision),
        }
    }

    /// Counts a request that ended.
    pub fn record(&mut self, outcome: Outcome, duration: Duration) {
        self.requests.increment();
        if outcome == Outcome::Error {
            self.errors.increment();
        }
        self.duration_ns.record(duration_ns(duration));
    }

    /// The counts so far.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        Totals { requests: self.requests.get(), errors: self.errors.get() }
    }

    /// How long requests took, failed ones too, in nanoseconds.
    #[must_use]
    pub const fn duration_ns(&self) -> &Histogram<S> {
        &self.duration_ns
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        let Totals { requests, errors } = self.totals();
        let timed = self.duration_ns.count();
        invariant!(errors <= requests, "{errors} errors in {requests} requests");
        invariant!(timed == requests, "{timed} durations of {requests} requests");
        self.duration_ns.check_invariants()
    }
}

/// What was counted up to a point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that ended.
    pub requests: u64,
    /// How many of them failed.
    pub errors: u64,
}

/// What happened between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Requests in a thousand seconds; the fraction is cut off.
    pub requests_per_1000_s: u64,
    /// Failed requests among a million; zero if there was no request. The fraction is cut off.
    pub error_ratio_ppm: u32,
}

impl Totals {
    /// The rates since `earlier`, `elapsed` ago. None if no time passed, or if `earlier` counted more
    /// than this: then it is the younger one, or of another incarnation.
    #[must_use]
    pub fn rates_since(self, earlier: Self, elapsed: Duration) -> Option<Rates> {
        let requests = self.requests.checked_sub(earlier.requests)?;
        let errors =
            self.errors.checked_sub(earlier.errors).filter(|errors| *errors <= requests)?;
        let per_1000_s = u128::from(requests)
            .saturating_mul(Duration::from_secs(1_000).as_nanos())
            .checked_div(elapsed.as_nanos())?;
        let ppm =
            u128::from(errors).saturating_mul(u128::from(PPM)).checked_div(u128::from(requests));
        Some(Rates {
            requests_per_1000_s: u64::try_from(per_1000_s).unwrap_or(u64::MAX),
            error_ratio_ppm: ppm.and_then(|ppm| u32::try_from(ppm).ok()).unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_looks_make_rates() {
        let mut red = Red::new([0; 512], Precision::default());
        let mut looks = [Totals::default(); 2];
        for (request, duration_ms) in [(0, 2), (1, 4), (2, 6), (3, 8), (4, 10)] {
            if request == 2 {
                looks[0] = red.totals();
            }
            let outcome = if request % 3 == 0 { Outcome::Error } else { Outcome::Success };
            red.record(outcome, Duration::from_millis(duration_ms));
            assert_eq!(red.check_invariants(), Ok(()));
        }
        looks[1] = red.totals();
        assert_eq!(looks, [(2, 1), (5, 2)].map(|(requests, errors)| Totals { requests, errors }));
        assert_eq!(red.duration_ns().mean(), Some(6_000_000));

        let since = |earlier, later: Totals, ms| {
            let rates = later.rates_since(earlier, Duration::from_millis(ms))?;
            Some((rates.requests_per_1000_s, rates.error_ratio_ppm))
        };
        assert_eq!(since(looks[0], looks[1], 2_000), Some((1_500, 333_333)));
        assert_eq!(since(looks[1], looks[1], 1), Some((0, 0)));
        assert_eq!(since(looks[0], looks[1], 0), None, "no time passed");
        assert_eq!(since(looks[1], looks[0], 1), None, "the younger one");
        let restarted = Totals { requests: 9, errors: 1 };
        assert_eq!(since(looks[1], restarted, 1), None, "of another incarnation");
        let restarted = Totals { requests: 6, errors: 4 };
        assert_eq!(since(looks[1], restarted, 1), None, "more errors than requests");
        let full = Totals { requests: u64::MAX, errors: u64::MAX };
        assert_eq!(since(Totals::default(), full, 1), Some((u64::MAX, PPM)));
    }

    #[test]
    fn endless_durations_are_counted() {
        let mut red = Red::new([0; 4], Precision::default());
        red.record(Outcome::Error, Duration::MAX);
        assert_eq!(red.duration_ns().max(), Some(u64::MAX));
        assert_eq!(red.check_invariants(), Ok(()));
    }
}
