//! The last samples of one figure, oldest first.
//!
//! Rules:
//! 1. Samples are in order of time. One that is older than the last is refused: a clock that steps
//!    back must not bend a curve. Two of the same instant are kept.
//! 2. When every place is taken the oldest sample gives way, and is counted.

use super::Counter;
use crate::epitaph::{Epitaph, invariant};
use crate::ring::Ring;
use crate::time::Instant;

/// A figure at a point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// The figure, in the unit of its series.
    pub value: i64,
}

/// A sample is older than the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sample of {} ns comes after one of {} ns: samples are in order of time", .at.as_ns(), .last_at.as_ns())]
pub struct OutOfOrder {
    /// When it was taken.
    pub at: Instant,
    /// When the last one was.
    pub last_at: Instant,
}

/// The last samples of one figure.
///
/// ```
/// use duende_core::metrics::{Sample, Series};
/// use duende_core::time::Instant;
///
/// let mut depth = Series::new([Sample::default(); 2]);
/// for (second, value) in [(1, 10), (2, 30), (3, 20)] {
///     depth.push(Sample { at: Instant::from_ns(second * 1_000_000_000), value })?;
/// }
/// assert!(depth.iter().map(|sample| sample.value).eq([30, 20]));
/// assert_eq!(depth.displaced(), 1);
/// # Ok::<(), duende_core::metrics::OutOfOrder>(())
/// ```
#[derive(Clone, Debug)]
pub struct Series<S> {
    ring: Ring<Sample, S>,
    displaced: Counter,
}

impl<S: AsRef<[Sample]> + AsMut<[Sample]>> Series<S> {
    /// Without samples. Keeps as many as `storage` has places.
    pub fn new(storage: S) -> Self {
        Self { ring: Ring::new(storage), displaced: Counter::default() }
    }

    /// Keeps a sample.
    ///
    /// # Errors
    /// [`OutOfOrder`], when it is older than the last one; it is not kept.
    pub fn push(&mut self, sample: Sample) -> Result<(), OutOfOrder> {
        let at = sample.at;
        if let Some(Sample { at: last_at, .. }) = self.last().filter(|last| at < last.at) {
            return Err(OutOfOrder { at, last_at });
        }
        if self.ring.push(sample).is_some() {
            self.displaced.increment();
        }
        Ok(())
    }

    /// How many samples are kept.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many samples were given up for younger ones.
    #[must_use]
    pub const fn displaced(&self) -> u64 {
        self.displaced.get()
    }

    /// The youngest sample.
    #[must_use]
    pub fn last(&self) -> Option<Sample> {
        self.ring.iter().next_back().copied()
    }

    /// Every sample, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Sample> {
        self.ring.iter().copied()
    }

    /// The samples of `from` and later, the oldest first.
    pub fn since(&self, from: Instant) -> impl DoubleEndedIterator<Item = Sample> {
        self.iter().filter(move |sample| from <= sample.at)
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        self.ring.check_invariants()?;
        invariant!(self.iter().is_sorted_by_key(|sample| sample.at), "series is out of order");
        let partly = self.ring.len() < self.ring.capacity();
        invariant!(!partly || self.displaced() == 0, "series displaced samples and has places");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keeps_the_last_samples_in_order_of_time(
            capacity in 0..5_usize,
            pushes in proptest::collection::vec((0..20_u64, any::<i64>()), 0..30),
            from_ns in 0..20_u64,
        ) {
            let mut series = Series::new(vec![Sample::default(); capacity]);
            let mut naive = Vec::<Sample>::new();
            for (at_ns, value) in pushes {
                let sample = Sample { at: Instant::from_ns(at_ns), value };
                // What has no place is not kept, so it is not looked back at either.
                let last = naive.last().filter(|_| capacity > 0).copied();
                match series.push(sample) {
                    Ok(()) => naive.push(sample),
                    Err(error) => prop_assert_eq!(Some(error.last_at), last.map(|last| last.at)),
                }
                prop_assert!(last.is_none_or(|last| naive.last() == Some(&last) || last.at <= sample.at));
                let kept = naive.len().min(capacity);
                let (displaced, last) = naive.split_at(naive.len() - kept);
                prop_assert!(series.iter().eq(last.iter().copied()));
                prop_assert_eq!(series.len(), kept);
                prop_assert_eq!(series.displaced(), displaced.len() as u64);
                let from = Instant::from_ns(from_ns);
                prop_assert!(series.since(from).eq(last.iter().copied().filter(|s| s.at >= from)));
                prop_assert_eq!(series.check_invariants(), Ok(()));
            }
        }
    }

    #[test]
    fn only_the_past_is_refused() {
        let mut series = Series::new([Sample::default(); 4]);
        let mut push = |at, value| series.push(Sample { at, value });
        assert_eq!(push(Instant::MAX, 1), Ok(()));
        assert_eq!(push(Instant::MAX, 2), Ok(()));
        let error = OutOfOrder { at: Instant::ZERO, last_at: Instant::MAX };
        assert_eq!(push(Instant::ZERO, 3), Err(error));
        assert_eq!(series.last().map(|sample| sample.value), Some(2));
    }
}
