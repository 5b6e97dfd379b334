//! The histogram against a sorted list of what it was told.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

type Heap = Histogram<Vec<u64>>;

fn of(precision: Precision, buckets: usize, values: &[u64]) -> Heap {
    let mut histogram = Histogram::new(vec![7; buckets], precision);
    for value in values {
        histogram.record(*value);
        assert_eq!(histogram.check_invariants(), Ok(()));
    }
    histogram
}

/// Values of every magnitude.
fn value() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64_u32).prop_map(|(value, shift)| value >> shift)
}

fn precision() -> impl Strategy<Value = Precision> {
    (0..=7_u32).prop_map(|bits| Precision::new(bits).unwrap())
}

proptest! {
    #[test]
    fn a_quantile_is_within_the_stated_error(
        precision in precision(),
        range in value(),
        mut values in proptest::collection::vec(value(), 1..100),
        ppm in 0..=PPM + 1,
    ) {
        let histogram = of(precision, precision.buckets_for(range), &values);
        values.sort_unstable();
        let rank = (values.len() as u64 * u64::from(ppm.min(PPM))).div_ceil(u64::from(PPM));
        let exact = values[usize::try_from(rank.max(1)).unwrap() - 1];
        let found = histogram.quantile_ppm(ppm).unwrap();
        if exact <= range {
            // Whole numbers: the error rounded down is as strict as the error.
            let error = exact / precision.error_divisor();
            prop_assert!(found.abs_diff(exact) <= error, "{found} for {exact}");
        } else if histogram.value_max().unwrap() < exact {
            prop_assert_eq!(Some(found), values.last().copied());
        }
        let sum = values.iter().map(|value| u128::from(*value)).sum::<u128>();
        prop_assert_eq!(histogram.min(), values.first().copied());
        prop_assert_eq!(histogram.max(), values.last().copied());
        prop_assert_eq!(histogram.mean().map(u128::from), Some(sum / values.len() as u128));
    }

    #[test]
    fn merged_is_recorded_together(
        precision in precision(),
        (own_range, other_range) in (value(), value()),
        own in proptest::collection::vec(value(), 0..30),
        other in proptest::collection::vec(value(), 0..30),
    ) {
        let own_buckets = precision.buckets_for(own_range);
        let mut merged = of(precision, own_buckets, &own);
        let other = (of(precision, precision.buckets_for(other_range), &other), other);
        let before = merged.clone();
        match merged.merge(&other.0) {
            Ok(()) => {
                let together = [own, other.1].concat();
                prop_assert_eq!(merged, of(precision, own_buckets, &together));
            }
            Err(error) => {
                let values = other.0.tally().over_range;
                prop_assert_eq!(error, MergeError::Unplaceable { values });
                prop_assert!(values > 0 && other.0.value_max() < before.value_max());
                prop_assert_eq!(merged, before);
            }
        }
    }

    #[test]
    fn what_is_kept_is_restored(values in proptest::collection::vec(value(), 0..30)) {
        let histogram = of(Precision::default(), 300, &values);
        let restored = |tally| {
            Heap::restore(histogram.buckets().to_vec(), Precision::default(), tally)
        };
        let tally = histogram.tally();
        prop_assert_eq!(restored(tally), Ok(histogram.clone()));
        for spoiled in [
            Tally { over_range: tally.over_range + 1, ..tally },
            Tally { sum: u128::MAX, ..tally },
            Tally { min: u64::MAX, max: 0, sum: tally.sum + 1, ..tally },
        ] {
            // One more over the range is a count like any other, if there is one already.
            let possible = spoiled.over_range > tally.over_range && tally.over_range > 0;
            prop_assert!(possible || restored(spoiled).is_err(), "{:?}", spoiled);
        }
    }
}

/// The proof of the module, walked bucket by bucket at every precision: buckets join without gap
/// or overlap, and both ends of each are within the error of what it is reported by.
#[test]
fn every_bucket_keeps_the_error() {
    for bits in 0..=Precision::FINEST.bits() {
        let precision = Precision::new(bits).unwrap();
        assert_eq!(precision.bits(), bits);
        let buckets = precision.buckets_for(u64::MAX);
        let mut low = 0_u64;
        for index in 0..buckets {
            assert_eq!(precision.low_of(index), Some(low));
            let high = precision.low_of(index + 1).map_or(u64::MAX, |next| next - 1);
            let middle = precision.middle_of(index).unwrap();
            for end in [low, high] {
                assert_eq!(precision.index_of(end), index);
                assert!(middle.abs_diff(end) <= end / precision.error_divisor(), "{end}");
            }
            low = high.wrapping_add(1);
        }
        assert_eq!(low, 0, "the last bucket ends at u64::MAX");
        for beyond in [buckets, buckets + 1, usize::MAX] {
            assert_eq!(precision.low_of(beyond), None);
            assert_eq!(precision.middle_of(beyond), None);
        }
    }
    assert_eq!(Precision::new(13), None);
    assert_eq!(Precision::FINEST.bits(), 12);
}

#[test]
fn the_ends_are_no_overflow() {
    assert_eq!(of(Precision::default(), 8, &[]).quantile_ppm(PPM), None);
    assert_eq!(of(Precision::default(), 8, &[]).mean(), None);

    // Without a bucket every value is over the range.
    let bare = of(Precision::default(), 0, &[3, 9, 4]);
    assert_eq!((bare.quantile_ppm(1), bare.value_max()), (Some(9), None));
    assert_eq!(bare.tally().over_range, 3);

    // Counts stick: doubled 64 times, one value is 2^64 values.
    let mut many = of(Precision::default(), 2_000, &[u64::MAX]);
    assert_eq!(many.value_max(), Some(u64::MAX));
    for _ in 0..64 {
        let other = many.clone();
        many.merge(&other).unwrap();
        assert_eq!(many.check_invariants(), Ok(()));
    }
    many.record(1);
    assert_eq!((many.count(), many.max(), many.min()), (u64::MAX, Some(u64::MAX), Some(1)));
    assert_eq!(many.check_invariants(), Ok(()));
    many.clear();
    assert_eq!(many, of(Precision::default(), 2_000, &[]));
}

#[test]
fn other_bounds_are_not_merged() {
    let mut own = of(Precision::new(3).unwrap(), 8, &[1]);
    let other = of(Precision::new(4).unwrap(), 8, &[1]);
    let error = MergeError::PrecisionDiffers { own_bits: 3, other_bits: 4 };
    assert_eq!(own.merge(&other), Err(error));
}
