//! When something is due that happens once in each period.
//!
//! Rules:
//! 1. The *n*-th time is due *n* periods after the beginning, so times do not drift.
//! 2. Times that were missed are one, with the number of the last of them.

use std::time::Duration;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    period: Duration,
    /// The number of the last time that was taken.
    last: u64,
}

impl Schedule {
    /// One time in each `period`; none if that is zero.
    pub(crate) fn new(period: Duration) -> Option<Self> {
        (!period.is_zero()).then_some(Self { period, last: 0 })
    }

    /// Takes the newest time that is due, `elapsed` after the beginning: its number, from 1.
    pub(crate) fn take(&mut self, elapsed: Duration) -> Option<u64> {
        let number = elapsed.as_nanos() / self.period.as_nanos();
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        let is_new = number > self.last;
        self.last = self.last.max(number);
        is_new.then_some(number)
    }

    /// How long it is to the next time, `elapsed` after the beginning.
    pub(crate) fn wait(&self, elapsed: Duration) -> Duration {
        let within = elapsed.as_nanos() % self.period.as_nanos();
        // Less than a period, which fits.
        self.period.saturating_sub(Duration::from_nanos_u128(within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_schedule_and_missed_ones_are_one() {
        let at = Duration::from_millis;
        let mut schedule = Schedule::new(at(100)).unwrap();
        // (elapsed, the number, the wait after it), in milliseconds
        let cases = [
            (0, None, 100),
            (99, None, 1),
            (100, Some(1), 100),
            (130, None, 70),
            (205, Some(2), 95),
            (999, Some(9), 1),
            (1_000, Some(10), 100),
        ];
        for (elapsed, number, wait) in cases {
            assert_eq!(schedule.take(at(elapsed)), number, "at {elapsed} ms");
            assert_eq!(schedule.wait(at(elapsed)), at(wait), "at {elapsed} ms");
        }
        assert!(Schedule::new(Duration::ZERO).is_none());
    }
}
