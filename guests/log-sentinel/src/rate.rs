//! Requests per second, from the seconds that the log's lines carry.
//!
//! Rules:
//! 1. Only full seconds count: the newest second is still being filled. Lines may be out of order by up
//!    to [`Rate::REMEMBERED`]; an older one does not count towards the rate.
//! 2. No line is from the future: one that says so counts as from now. So the lines of a server whose clock is
//!    ahead count when they come.
//! 3. The newest second is never for long one that no other line agrees with. If it is ahead of the clock, because
//!    that was set back, or if [`STALE_MAX`] lines in a row are too old for it, because a line of an old log was dated
//!    wrong, the rate begins anew (`tests::a_wrong_time_does_not_break_the_rate`).

use core::time::Duration;

const SECONDS: usize = 64;
/// So many lines are not late, each for itself: it is the newest second that is wrong.
const STALE_MAX: u64 = 16;

/// Counts of the last 64 seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// The newest second seen, since 1970; 0 before the first line.
    newest: u64,
    /// How many lines in a row were too old for it.
    stale: u64,
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
    pub const WORDS: usize = 2 + SECONDS;

    /// Counts a request of the given second, when it is `now`, both in seconds since 1970.
    pub fn count(&mut self, second: u64, now: u64) {
        let span = SECONDS as u64;
        let second = second.min(now);
        if self.newest.saturating_sub(now) >= span {
            *self = Self::default();
        }
        if second > self.newest {
            // The seconds that were skipped had no request.
            for skipped in self.newest.max(second.saturating_sub(span)) + 1..=second {
                *self.slot(skipped) = 0;
            }
            self.newest = second;
        } else if self.newest - second >= span {
            self.stale += 1;
            if self.stale < STALE_MAX {
                return;
            }
            *self = Self { newest: second, ..Self::default() };
        }
        self.stale = 0;
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
        [self.newest, self.stale].into_iter().chain(self.counts.0)
    }

    /// The rate that [`words`](Self::words) yielded.
    #[must_use]
    pub fn from_words(words: &[u64; Self::WORDS]) -> Self {
        let [newest, stale, counts @ ..] = words;
        Self { newest: *newest, stale: *stale, counts: Counts(*counts) }
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
                    rate.count(stamp, u64::MAX);
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

    /// Ten lines a second from `from` on, when it is `now` or, without it, when they say.
    fn flow(rate: &mut Rate, from: u64, seconds: u64, now: Option<u64>) {
        for line in 0..seconds * 10 {
            let second = from + line / 10;
            rate.count(second, now.unwrap_or(second));
        }
    }

    #[test]
    fn a_wrong_time_does_not_break_the_rate() {
        const NOW: u64 = 1_795_252_515;
        let restarted = |rate: Rate| {
            let words: Vec<u64> = rate.words().collect();
            Rate::from_words(&words.try_into().unwrap())
        };
        let per_second = |rate: &Rate| rate.per_second(10, Duration::ZERO);
        for restart in [false, true] {
            let again = |rate: Rate| if restart { restarted(rate) } else { rate };
            // From the future, amid lines that come when they are written.
            let mut rate = Rate::default();
            flow(&mut rate, NOW, 20, None);
            for wrong in [NOW + 86_400, u64::MAX] {
                rate.count(wrong, NOW + 20);
            }
            rate = again(rate);
            flow(&mut rate, NOW + 21, 12, None);
            assert!((per_second(&rate) - 10.0).abs() < 1e-9, "{}", per_second(&rate));

            // In an old log, where the clock says nothing about it.
            let mut rate = Rate::default();
            flow(&mut rate, NOW, 20, Some(NOW * 2));
            rate.count(NOW + 86_400, NOW * 2);
            rate = again(rate);
            flow(&mut rate, NOW + 20, 15, Some(NOW * 2));
            assert!((per_second(&rate) - 10.0).abs() < 1e-9, "{}", per_second(&rate));

            // The clock is set back by an hour.
            let mut rate = Rate::default();
            flow(&mut rate, NOW, 20, None);
            rate = again(rate);
            flow(&mut rate, NOW - 3_600, 11, None);
            assert!((per_second(&rate) - 10.0).abs() < 1e-9, "{}", per_second(&rate));

            // The server's clock is ahead by an hour.
            let mut rate = Rate::default();
            for second in 0..20 {
                rate = again(rate);
                flow(&mut rate, NOW + second + 3_600, 1, Some(NOW + second));
            }
            assert!((per_second(&rate) - 10.0).abs() < 1e-9, "{}", per_second(&rate));

            // Late lines, fewer than that in a row, are only not counted.
            let mut rate = Rate::default();
            for second in 0..20 {
                flow(&mut rate, NOW + second, 1, None);
                flow(&mut rate, NOW - 500, 1, Some(NOW));
            }
            assert!((per_second(&rate) - 10.0).abs() < 1e-9, "{}", per_second(&rate));
        }
    }
}
