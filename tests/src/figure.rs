//! What was measured for a claim.

use std::time::Duration;

/// Prints a claim's figure beside its criterion; `cargo xtask falsify` collects these lines.
pub fn report(claim: &str, measured: &str, criterion: &str) {
    println!("\n{claim}: {measured} | {criterion}");
}

/// Durations of the same thing.
#[derive(Debug, Default)]
pub struct Figures {
    durations: Vec<Duration>,
}

impl FromIterator<Duration> for Figures {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Self {
        let mut durations: Vec<_> = durations.into_iter().collect();
        durations.sort_unstable();
        Self { durations }
    }
}

impl Figures {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.durations.len()
    }

    /// What `percent` of them do not pass: the nearest rank.
    ///
    /// # Panics
    /// There are none.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.durations.len() * percent).div_ceil(100);
        self.durations[rank.saturating_sub(1)]
    }

    /// Reports a percentile and asserts that it is under the limit.
    ///
    /// # Panics
    /// It is not.
    pub fn assert_under(&self, claim: &str, what: &str, percent: usize, limit: Duration) {
        let (median, found) = (self.percentile(50), self.percentile(percent));
        let (times, longest) = (self.count(), self.percentile(100));
        let measured = format!(
            "{what}, {times} times: p50 {median:.1?}, p{percent} {found:.1?}, longest {longest:.1?}"
        );
        report(claim, &measured, &format!("p{percent} < {limit:?}"));
        assert!(found < limit, "{claim}: {measured}, not under {limit:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_rank() {
        let figures: Figures = (1..=1_000).rev().map(Duration::from_millis).collect();
        for (percent, milliseconds) in [(1, 10), (50, 500), (99, 990), (100, 1_000)] {
            assert_eq!(figures.percentile(percent), Duration::from_millis(milliseconds));
        }
        let one: Figures = [Duration::from_millis(7)].into_iter().collect();
        assert_eq!(one.percentile(99), Duration::from_millis(7));
    }
}
