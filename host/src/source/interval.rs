//! Ticks: one item in each period.
//!
//! Tick *n* is due *n* periods after the source was opened, so ticks do not drift. Those that were
//! missed are one tick, with the number of the last of them.

use std::time::Duration;

use tokio::time::Instant;

use super::{Batch, SourceError};

#[derive(Debug)]
pub(super) struct Interval {
    start: Instant,
    period: Duration,
    /// The number of the last tick that was delivered.
    last: u64,
}

impl Interval {
    pub(super) fn new(period: Duration) -> Result<Self, SourceError> {
        if period.is_zero() {
            return Err(SourceError::PeriodZero);
        }
        Ok(Self { start: Instant::now(), period, last: 0 })
    }

    pub(super) async fn fill(&mut self, batch: &mut Batch) {
        loop {
            let elapsed = self.start.elapsed();
            if let Some(tick) = self.due(elapsed) {
                self.last = tick;
                return batch.push(tick.to_string().into_bytes(), Vec::new());
            }
            tokio::time::sleep(self.wait(elapsed)).await;
        }
    }

    /// The newest tick that is due and was not delivered.
    fn due(&self, elapsed: Duration) -> Option<u64> {
        let tick = elapsed.as_nanos() / self.period.as_nanos();
        let tick = u64::try_from(tick).unwrap_or(u64::MAX);
        (tick > self.last).then_some(tick)
    }

    /// The time to the next tick.
    fn wait(&self, elapsed: Duration) -> Duration {
        let within = elapsed.as_nanos() % self.period.as_nanos();
        // Less than a period, which fits.
        self.period.saturating_sub(Duration::from_nanos_u128(within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_keep_their_schedule_and_missed_ones_are_one() {
        let at = Duration::from_millis;
        let mut interval = Interval::new(at(100)).unwrap();
        // (elapsed, the tick, the wait after it), in milliseconds
        let cases = [
            (0, None, 100),
            (99, None, 1),
            (100, Some(1), 100),
            (130, None, 70),
            (205, Some(2), 95),
            (999, Some(9), 1),
            (1_000, Some(10), 100),
        ];
        for (elapsed, tick, wait) in cases {
            assert_eq!(interval.due(at(elapsed)), tick, "at {elapsed} ms");
            interval.last = tick.unwrap_or(interval.last);
            assert_eq!(interval.wait(at(elapsed)), at(wait), "at {elapsed} ms");
        }
        assert!(matches!(Interval::new(Duration::ZERO), Err(SourceError::PeriodZero)));
    }

    #[test]
    fn ticks_arrive() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut interval = Interval::new(Duration::from_millis(2)).unwrap();
            let mut last = 0;
            for _ in 0..5 {
                let mut batch = Batch::new(10, usize::MAX);
                tokio::time::timeout(Duration::from_secs(10), interval.fill(&mut batch))
                    .await
                    .unwrap();
                let tick: u64 =
                    String::from_utf8(batch.items.remove(0).payload).unwrap().parse().unwrap();
                assert!(tick > last && batch.items.is_empty());
                last = tick;
            }
        });
    }
}
