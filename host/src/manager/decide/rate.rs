//! How much a daemon does: a rate that forgets, and stays bounded.

use std::time::Duration;

use duende_core::{
    metrics::{Sample, Series},
    time::Instant,
};

/// How far back a rate looks.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Commits within this time count as one entry of the rate's window.
const RATE_STEP: Duration = Duration::from_millis(100);
/// Steps of the window, and both its ends.
const RATE_SAMPLES: usize = 52;

/// Counts events over the last [`RATE_WINDOW`]: a series of totals, one in each [`RATE_STEP`].
#[derive(Debug, Default)]
pub(super) struct RateMeter {
    /// All events that were ever counted.
    total: u64,
    /// The total before the events of each step. There is none for a daemon that does nothing.
    totals: Option<Series<Box<[Sample]>>>,
}

impl RateMeter {
    pub(super) fn add(&mut self, now: Instant, events: u64) {
        let totals = self.totals.get_or_insert_with(|| {
            Series::new(vec![Sample::default(); RATE_SAMPLES].into_boxed_slice())
        });
        let is_new = totals.last().is_none_or(|last| now.saturating_since(last.at) >= RATE_STEP);
        if is_new {
            let value = i64::try_from(self.total).unwrap_or(i64::MAX);
            // Refused only if the clock stepped back; then these events belong to the last step.
            let _ = totals.push(Sample { at: now, value });
        }
        self.total = self.total.saturating_add(events);
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
    pub(super) fn per_second(&self, now: Instant) -> Option<f64> {
        let window_ns = u64::try_from(RATE_WINDOW.as_nanos()).unwrap_or(u64::MAX);
        let from = Instant::from_ns(now.as_ns().saturating_sub(window_ns));
        let before = self.totals.as_ref()?.since(from).next();
        let before = before.and_then(|sample| u64::try_from(sample.value).ok());
        let events = before.map_or(0, |before| self.total.saturating_sub(before));
        Some(events as f64 / RATE_WINDOW.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_forgets_and_stays_bounded() {
        let mut meter = RateMeter::default();
        let at = |millisecond: u64| Instant::from_ns(millisecond * 1_000_000);
        assert_eq!(meter.per_second(at(0)), None);
        for millisecond in 0..20_000 {
            meter.add(at(millisecond), 2);
        }
        let rate = meter.per_second(at(20_000)).unwrap();
        assert!((rate - 2_000.0).abs() < 60.0, "{rate}");
        assert_eq!(meter.totals.as_ref().map(Series::len), Some(RATE_SAMPLES));
        // A burst, long ago, is no rate.
        assert_eq!(meter.per_second(at(40_000)), Some(0.0));
    }
}
