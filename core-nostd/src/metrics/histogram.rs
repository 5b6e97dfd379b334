//! How values are distributed: log-linear buckets with a stated relative error.
//!
//! With a [`Precision`] of p bits, values under 2^(p+1) have a bucket each; above, every power of two
//! is divided into 2^p buckets of equal width.
//!
//! # The error
//! A bucket of width 2^s, s > 0, starts at 2^(p+s) or later and is reported by its middle, so the
//! answer is off by at most 2^(s−1), and that is at most **1/2^(p+1) of the value**; a bucket of width
//! 1 is exact. The answer is then moved into the exact [minimum, maximum], which brings it only
//! nearer. So any quantile is within 1/2^(p+1) of the value of that rank.
//!
//! # The range
//! The length of the storage decides up to which value there are buckets:
//! [`Precision::buckets_for`] gives the length for a range. What lies above is counted apart
//! ([`Tally::over_range`]); a quantile that falls among those is reported as the maximum, exact and
//! never too small.
//!
//! Recording touches one bucket and five words, whatever was recorded before.

use crate::epitaph::{Epitaph, invariant};
use crate::planted::{self, Plant};

/// One million: the quantile of rank 1, and what parts per million are parts of.
pub const PPM: u32 = 1_000_000;

/// How finely powers of two are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Precision(u32);

impl Precision {
    /// The finest: 12 bits, within 1/8192.
    pub const FINEST: Self = Self(12);

    /// Every power of two in 2^`bits` buckets, at most 2^12.
    #[must_use]
    pub const fn new(bits: u32) -> Option<Self> {
        if bits <= Self::FINEST.0 { Some(Self(bits)) } else { None }
    }

    /// How many bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// A quantile is off by at most its value divided by this.
    #[must_use]
    pub const fn error_divisor(self) -> u64 {
        1 << (self.0 + 1)
    }

    /// How many buckets cover the values from 0 to `value_max`.
    ///
    /// ```
    /// use duende_core::metrics::Precision;
    ///
    /// // Within 1/64 up to a minute in nanoseconds: just under 8 KiB.
    /// assert_eq!(Precision::default().buckets_for(60_000_000_000), 1_016);
    /// ```
    #[must_use]
    pub const fn buckets_for(self, value_max: u64) -> usize {
        self.index_of(value_max) + 1
    }

    /// Which bucket a value belongs to.
    #[inline]
    const fn index_of(self, value: u64) -> usize {
        let bits = u64::BITS - value.leading_zeros();
        let shift = bits.saturating_sub(self.0 + 1);
        // The top p + 1 bits of the value choose the bucket. At most (65 − p)·2^p, under 2^18.
        #[expect(clippy::cast_possible_truncation, reason = "under 2^18")]
        let index = ((shift << self.0) as usize) + ((value >> shift) as usize);
        index
    }

    /// The smallest value of a bucket; none if no 64-bit value belongs to it.
    fn low_of(self, index: usize) -> Option<u64> {
        let index = u64::try_from(index).ok()?;
        let shift = self.shift_of(index);
        let top = index.checked_sub(shift << self.0)?;
        (u64::from(top.leading_zeros()) >= shift).then(|| top << shift)
    }

    /// The value that a bucket is reported by; none if no 64-bit value belongs to it.
    fn middle_of(self, index: usize) -> Option<u64> {
        let low = self.low_of(index)?;
        let shift = self.shift_of(u64::try_from(index).ok()?);
        Some(low | ((1 << shift) >> 1))
    }

    /// The width of a bucket is 2 to the power of this. Over 63 for a bucket that is none.
    const fn shift_of(self, index: u64) -> u64 {
        let shift = (index >> self.0).saturating_sub(1);
        if shift < 64 { shift } else { 64 }
    }
}

impl Default for Precision {
    /// 5 bits: within 1/64, which is 1.6 %.
    fn default() -> Self {
        Self(5)
    }
}

/// What a histogram knows beside its buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How many values lay above the range of the buckets.
    pub over_range: u64,
    /// All values together.
    pub sum: u128,
    /// The smallest value; `u64::MAX` if there is none.
    pub min: u64,
    /// The largest value; 0 if there is none.
    pub max: u64,
}

impl Tally {
    /// Of no values.
    pub const EMPTY: Self = Self { over_range: 0, sum: 0, min: u64::MAX, max: 0 };
}

impl Default for Tally {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Two histograms can't be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Their buckets have other bounds.
    #[error("a histogram of {other_bits} bits of precision can't be merged into one of {own_bits}")]
    PrecisionDiffers {
        /// Of the one that was to be added to.
        own_bits: u32,
        /// Of the one that was to be added.
        other_bits: u32,
    },
    /// The one to be added has values over its range, and they may lie within this one's.
    #[error("{values} values over a smaller range can't be placed: merge the other way round")]
    Unplaceable {
        /// How many such values.
        values: u64,
    },
}

/// The distribution of the recorded values; see the [module](self) for its error and its range.
///
/// ```
/// use duende_core::metrics::{Histogram, Precision};
///
/// const BUCKETS: usize = 1_016; // `Precision::default().buckets_for(60_000_000_000)`
/// let mut latency_ns = Histogram::new([0; BUCKETS], Precision::default());
/// for request in 1..=1_000 {
///     latency_ns.record(request * 1_000);
/// }
/// // The exact one is 990_000; within 1/64 of it is what is promised.
/// let p99_ns = latency_ns.quantile_ppm(990_000).unwrap_or_default();
/// assert!(p99_ns.abs_diff(990_000) <= 990_000 / 64);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<S> {
    buckets: S,
    precision: Precision,
    /// All values, those over the range too.
    count: u64,
    tally: Tally,
}

impl<S: AsRef<[u64]> + AsMut<[u64]>> Histogram<S> {
    /// An empty histogram with a bucket in each place of `storage`, whatever lies there.
    pub fn new(mut storage: S, precision: Precision) -> Self {
        storage.as_mut().fill(0);
        Self { buckets: storage, precision, count: 0, tally: Tally::EMPTY }
    }

    /// A histogram that was kept: its [`buckets`](Self::buckets) and [`tally`](Self::tally).
    ///
    /// # Errors
    /// An [`Epitaph`], when they don't belong together.
    pub fn restore(buckets: S, precision: Precision, tally: Tally) -> Result<Self, Epitaph> {
        let count = total(buckets.as_ref(), tally.over_range);
        let histogram = Self { buckets, precision, count, tally };
        histogram.check_invariants()?;
        Ok(histogram)
    }

    /// Counts a value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        match self.buckets.as_mut().get_mut(self.precision.index_of(value)) {
            Some(bucket) => *bucket = bucket.saturating_add(1),
            None => self.tally.over_range = self.tally.over_range.saturating_add(1),
        }
        self.count = self.count.saturating_add(1);
        self.tally.sum = self.tally.sum.saturating_add(u128::from(value));
        self.tally.min = self.tally.min.min(value);
        self.tally.max = self.tally.max.max(value);
    }

    /// Adds all values of another one, as if they had been recorded here.
    ///
    /// # Errors
    /// [`MergeError`], and nothing was added.
    pub fn merge<T>(&mut self, other: &Histogram<T>) -> Result<(), MergeError>
    where
        T: AsRef<[u64]> + AsMut<[u64]>,
    {
        let (own_bits, other_bits) = (self.precision.0, other.precision.0);
        if own_bits != other_bits {
            return Err(MergeError::PrecisionDiffers { own_bits, other_bits });
        }
        let values = other.tally.over_range;
        if values > 0 && other.buckets().len() < self.buckets().len() {
            return Err(MergeError::Unplaceable { values });
        }
        let mut buckets = self.buckets.as_mut().iter_mut();
        // Buckets have the same bounds, so what has no bucket here is over this one's range.
        let over_range = other.buckets().iter().fold(values, |over_range, theirs| {
            if let Some(own) = buckets.next() {
                *own = own.saturating_add(*theirs);
                return over_range;
            }
            over_range.saturating_add(*theirs)
        });
        self.count = self.count.saturating_add(other.count);
        self.tally = Tally {
            over_range: self.tally.over_range.saturating_add(over_range),
            sum: self.tally.sum.saturating_add(other.tally.sum),
            min: self.tally.min.min(other.tally.min),
            max: self.tally.max.max(other.tally.max),
        };
        Ok(())
    }

    /// Forgets every value.
    pub fn clear(&mut self) {
        self.buckets.as_mut().fill(0);
        self.count = 0;
        self.tally = Tally::EMPTY;
    }

    /// The value that `ppm` of a million recorded values do not exceed, to within its
    /// [error](Precision::error_divisor); none if nothing was recorded. More than a million counts
    /// as a million, zero as the smallest value's rank.
    #[must_use]
    pub fn quantile_ppm(&self, ppm: u32) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let rank = (u128::from(self.count) * u128::from(ppm.min(PPM))).div_ceil(u128::from(PPM));
        let rank = rank.max(1).saturating_add(u128::from(planted::is(Plant::HistogramRank)));
        let mut seen = 0_u128;
        let index = self.buckets().iter().position(|count| {
            seen = seen.saturating_add(u128::from(*count));
            seen >= rank
        });
        let found = index.and_then(|index| self.precision.middle_of(index));
        Some(found.unwrap_or(self.tally.max).max(self.tally.min).min(self.tally.max))
    }

    /// How many values were recorded.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The smallest value, exact.
    #[must_use]
    pub fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(self.tally.min)
    }

    /// The largest value, exact.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.tally.max)
    }

    /// The mean, exact but for the fraction that is cut off.
    #[must_use]
    pub fn mean(&self) -> Option<u64> {
        let mean = self.tally.sum.checked_div(u128::from(self.count))?;
        Some(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// How finely powers of two are divided.
    #[must_use]
    pub const fn precision(&self) -> Precision {
        self.precision
    }

    /// The largest value that has a bucket; none without any bucket.
    #[must_use]
    pub fn value_max(&self) -> Option<u64> {
        let buckets = self.buckets().len();
        match self.precision.low_of(buckets) {
            Some(beyond) => beyond.checked_sub(1),
            None => Some(u64::MAX),
        }
    }

    /// The counts of the buckets, for keeping or publishing.
    #[must_use]
    pub fn buckets(&self) -> &[u64] {
        self.buckets.as_ref()
    }

    /// What is known beside the buckets, for keeping or publishing.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        let Tally { over_range, sum, min, max } = self.tally;
        let (count, buckets) = (self.count, self.buckets());
        let counted = total(buckets, over_range);
        invariant!(count == counted, "histogram of {count} has {counted}");
        if count == 0 {
            invariant!(self.tally == Tally::EMPTY, "histogram of nothing has a tally");
            return Ok(());
        }
        let place = |value| Some(self.precision.index_of(value)).filter(|at| *at < buckets.len());
        let (first, last) = (place(min), place(max));
        invariant!(first == buckets.iter().position(|n| *n > 0), "histogram's min is not first");
        invariant!((over_range > 0) == last.is_none(), "histogram's max and range disagree");
        if over_range == 0 {
            let found = buckets.iter().rposition(|n| *n > 0);
            invariant!(last == found, "histogram's max is not last");
        }
        invariant!(min <= max, "histogram's min is over its max");
        if count < u64::MAX {
            let bounds = [min, max].map(|value| u128::from(value) * u128::from(count));
            invariant!((bounds[0]..=bounds[1]).contains(&sum), "histogram's sum is out of bounds");
        }
        Ok(())
    }
}

fn total(buckets: &[u64], over_range: u64) -> u64 {
    buckets.iter().fold(over_range, |sum, count| sum.saturating_add(*count))
}

#[cfg(test)]
mod tests;
