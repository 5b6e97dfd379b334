//! Requests per second, from the seconds that the log's lines carry.
//!
//! Only full seconds count: the newest second is still being filled. Lines may be out of order by up
//! to [`Rate::REMEMBERED`]; an older one does not count towards the rate.

use core::time::Duration;

const SECONDS: usize = 64;

/// Counts of the last 64 seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// The newest second seen, since 1970; 0 before the first line.
    newest: u64,
    /// The count of second `s` at `s % 64`.
    counts: Counts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Counts([u64; SECONDS]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; SECONDS])
    }
}

impl Rate {
    /// How far back counts are kept.
    pub const REMEMBERED: Duration = Duration::from_secs(SECONDS as u64);
    /// How many words [`words`](Self::words) yields.
    pub const WORDS: usize = 1 + SECONDS;

    /// Counts a request of the given second since 1970.
    pub fn count(&mut self, second: u64) {
        let span = SECONDS as u64;
        if second > self.newest {
            // The seconds that were skipped had no request.
            for skipped in self.newest.max(second.saturating_sub(span)) + 1..=second {
                *self.slot(skipped) = 0;
            }
            self.newest = second;
        } else if self.newest - second >= span {
            return;
        }
        let slot = self.slot(second);
        *slot = slot.saturating_add(1);
    }

    /// The mean over the last `seconds` (at most 63) full seconds, `quiet` after the newest line came.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts of a minute")]
    pub fn per_second(&self, seconds: u64, quiet: Duration) -> f64 {
        let seconds = seconds.clamp(1, SECONDS as u64 - 1);
        let now = self.newest.saturating_add(quiet.as_secs());
        let oldest_kept = self.newest.saturating_sub(SECONDS as u64 - 1);
        let first = now.saturating_sub(seconds).max(oldest_kept);
        let last = now.min(self.newest.saturating_add(1));
        let total: u64 = (first..last).map(|second| self.counts.0[index_of(second)]).sum();
        total as f64 / seconds as f64
    }

    /// The counts, for keeping.
    pub fn words(&self) -> impl Iterator<Item = u64> {
        [self.newest].into_iter().chain(self.counts.0)
    }

    /// The rate that [`words`](Self::words) yielded.
    #[must_use]
    pub fn from_words(words: &[u64; Self::WORDS]) -> Self {
        let [newest, counts @ ..] = words;
        Self { newest: *newest, counts: Counts(*counts) }
    }

    fn slot(&mut self, second: u64) -> &mut u64 {
        &mut self.counts.0[index_of(second)]
    }
}

/// Always under [`SECONDS`].
fn index_of(second: u64) -> usize {
    usize::try_from(second % SECONDS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_rate_is_that_of_the_full_seconds(
            steps in proptest::collection::vec(0_u64..90, 1..60),
            back in 0_u64..70,
            quiet in 0_u64..70,
        ) {
            let mut rate = Rate::default();
            let mut seen = Vec::new();
            let mut second = 1_000_u64;
            for step in steps {
                second += step / 10;
                for stamp in [second, second - back.min(step)] {
                    rate.count(stamp);
                    seen.push(stamp);
                }
            }
            let now = second + quiet;
            for seconds in [10, 60] {
                let oldest = (now - seconds).max(second - 63);
                let count = seen.iter().filter(|stamp| (oldest..now).contains(stamp)).count();
                let expected = count as f64 / seconds as f64;
                let found = rate.per_second(seconds, Duration::from_secs(quiet));
                prop_assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
            }
            let words: Vec<u64> = rate.words().collect();
            prop_assert_eq!(Rate::from_words(&words.try_into().unwrap()), rate);
        }
    }
}
