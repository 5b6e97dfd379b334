//! Latencies in log-linear buckets.
//!
//! Values under 32 have a bucket each; above, every power of two is divided into 16 buckets. A bucket
//! is reported by its middle, so a percentile is off by at most 1/32 (3.2 %) of its value. Values from
//! 2^27 on (134 s in microseconds) share the last bucket.
//!
//! Invariant: `count` is the sum of all buckets.

/// Buckets to a power of two: 2^`PRECISION_BITS`.
const PRECISION_BITS: u32 = 4;
/// Values have at most this many bits.
const VALUE_BITS_MAX: u32 = 27;
/// How many buckets there are.
const BUCKETS: usize = ((VALUE_BITS_MAX - PRECISION_BITS + 1) << PRECISION_BITS) as usize;

/// A histogram of whole numbers; see the module for its precision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), count: 0 }
    }
}

impl Histogram {
    /// How many words [`words`](Self::words) yields.
    pub const WORDS: usize = BUCKETS;

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        if let Some(bucket) = self.buckets.get_mut(index_of(value)) {
            *bucket = bucket.saturating_add(1);
            self.count = self.count.saturating_add(1);
        }
    }

    /// The value that `percent` of 100 of the recorded values do not exceed, to within 1/32 of it;
    /// none if there is no value.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = self.count.saturating_mul(percent).div_ceil(100).max(1);
        let mut seen = 0_u64;
        self.buckets.iter().enumerate().find_map(|(index, count)| {
            seen = seen.saturating_add(*count);
            (seen >= rank).then(|| middle_of(index))
        })
    }

    /// The buckets, for keeping.
    pub fn words(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().copied()
    }

    /// A histogram of the buckets that [`words`](Self::words) yielded.
    #[must_use]
    pub fn from_words(words: &[u64; BUCKETS]) -> Self {
        Self {
            buckets: Box::new(*words),
            count: words.iter().fold(0, |sum, word| sum.saturating_add(*word)),
        }
    }
}

fn index_of(value: u64) -> usize {
    let value = value.min((1 << VALUE_BITS_MAX) - 1);
    let bits = u64::BITS - value.leading_zeros();
    // The top PRECISION_BITS + 1 bits of the value choose the bucket.
    let shift = bits.saturating_sub(PRECISION_BITS + 1);
    let index = (u64::from(shift) << PRECISION_BITS) + (value >> shift);
    usize::try_from(index).unwrap_or(BUCKETS - 1)
}

fn middle_of(index: usize) -> u64 {
    let index = index as u64;
    let shift = (index >> PRECISION_BITS).saturating_sub(1);
    let low = (index - (shift << PRECISION_BITS)) << shift;
    low + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_percentile_is_within_one_part_in_32(
            mut values in proptest::collection::vec(0_u64..1 << VALUE_BITS_MAX, 1..200),
            percent in 1_u64..=100,
        ) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|value| histogram.record(*value));
            values.sort_unstable();
            let rank = (values.len() as u64 * percent).div_ceil(100);
            let exact = values[usize::try_from(rank).unwrap() - 1];
            let found = histogram.percentile(percent).unwrap();
            prop_assert!(found.abs_diff(exact) <= exact / 32, "{found} for {exact}");

            let words: Vec<u64> = histogram.words().collect();
            prop_assert_eq!(&Histogram::from_words(&words.try_into().unwrap()), &histogram);
        }
    }

    #[test]
    fn the_buckets_cover_every_value_in_order() {
        assert_eq!(index_of(0), 0);
        assert_eq!(index_of(u64::MAX), BUCKETS - 1);
        for index in 0..BUCKETS {
            assert_eq!(index_of(middle_of(index)), index);
        }
        assert_eq!(Histogram::default().percentile(99), None);
    }
}
