//! The andon board: one lamp for each metric, lit while its figure is beyond the limit.
//!
//! Rules:
//! 1. A lamp is lit by the first reading beyond the limit, and that is told once.
//! 2. It goes out by the first reading that ends a time, the *hold*, within the limit throughout, and
//!    that is told once. A figure that swings about its limit gives one alert, not hundreds.
//! 3. Each lamp is by itself: one that is lit says nothing of another.

use core::time::Duration;

use super::thresholds::{METRICS, Metric, PolicyThresholds, Reading, ThresholdViolation};
use crate::epitaph::{Epitaph, invariant};
use crate::planted::{self, Plant};
use crate::time::Instant;

/// Something that somebody should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alert {
    /// A figure went beyond its limit.
    Raised(ThresholdViolation),
    /// It has been within it for the hold.
    Cleared {
        /// Of which metric.
        metric: Metric,
        /// When the alert was raised.
        since: Instant,
    },
}

/// One metric's lamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lamp {
    Out,
    Lit {
        since: Instant,
        /// The first of the readings within the limit, if the last was one.
        within_since: Option<Instant>,
    },
}

/// The lamps of one daemon.
///
/// ```
/// use core::time::Duration;
/// use duende_core::policy::andon::{Alert, Andon};
/// use duende_core::policy::thresholds::{Metric, PolicyThresholds, Reading};
/// use duende_core::time::Instant;
///
/// let mut andon = Andon::new(PolicyThresholds::default(), Duration::from_secs(60));
/// let busy = Reading::new(Metric::Cpu, 9_500);
/// assert!(matches!(andon.observe(Instant::ZERO, busy), Some(Alert::Raised(_))));
/// assert_eq!(andon.observe(Instant::ZERO, busy), None);
/// assert!(andon.is_lit(Metric::Cpu));
/// ```
#[derive(Clone, Debug)]
pub struct Andon {
    thresholds: PolicyThresholds,
    hold: Duration,
    /// In the order of [`Metric::ALL`].
    lamps: [Lamp; METRICS],
    raised_total: u64,
    cleared_total: u64,
}

impl Andon {
    /// A board with all lamps out. A `hold` of zero clears at the first reading within the limit.
    #[must_use]
    pub const fn new(thresholds: PolicyThresholds, hold: Duration) -> Self {
        Self { thresholds, hold, lamps: [Lamp::Out; METRICS], raised_total: 0, cleared_total: 0 }
    }

    /// Takes a reading, and says whether somebody should know of it.
    #[must_use = "an alert is for somebody"]
    pub fn observe(&mut self, now: Instant, reading: Reading) -> Option<Alert> {
        let Reading { metric, value } = reading;
        let threshold = self.thresholds.of(metric);
        let within = threshold.admits(value);
        let hold = self.hold;
        let lamp = self.lamp_mut(metric);
        match lamp {
            Lamp::Out if within => None,
            Lamp::Out => {
                *lamp = Lamp::Lit { since: now, within_since: None };
                self.raised_total = self.raised_total.saturating_add(1);
                Some(Alert::Raised(ThresholdViolation { threshold, value: Some(value) }))
            }
            Lamp::Lit { within_since, .. } if !within => {
                *within_since = None;
                None
            }
            Lamp::Lit { since, within_since } => {
                let since = *since;
                let begun = *within_since.get_or_insert(now);
                let length = now.saturating_since(begun);
                if length < hold || (planted::is(Plant::AndonHold) && length == hold) {
                    return None;
                }
                *lamp = Lamp::Out;
                self.cleared_total = self.cleared_total.saturating_add(1);
                Some(Alert::Cleared { metric, since })
            }
        }
    }

    /// Whether a metric's lamp is lit.
    #[must_use]
    pub fn is_lit(&self, metric: Metric) -> bool {
        let lamps = Metric::ALL.iter().zip(&self.lamps);
        lamps.filter(|(of, _)| **of == metric).any(|(_, lamp)| *lamp != Lamp::Out)
    }

    /// The limits.
    #[must_use]
    pub const fn thresholds(&self) -> PolicyThresholds {
        self.thresholds
    }

    /// Changes the limits. Lamps stay as they are until the next reading.
    pub const fn set_thresholds(&mut self, thresholds: PolicyThresholds) {
        self.thresholds = thresholds;
    }

    /// How many alerts were raised.
    #[must_use]
    pub const fn raised_total(&self) -> u64 {
        self.raised_total
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        let lit = self.lamps.iter().filter(|lamp| **lamp != Lamp::Out).count();
        let open = self.raised_total.saturating_sub(self.cleared_total);
        let same = u64::try_from(lit).is_ok_and(|lit| lit == open);
        invariant!(same, "andon: {lit} lamps lit, {open} alerts open");
        Ok(())
    }

    const fn lamp_mut(&mut self, metric: Metric) -> &mut Lamp {
        let [complexity, satd, dead_code, quality_score, memory, cpu] = &mut self.lamps;
        match metric {
            Metric::Complexity => complexity,
            Metric::Satd => satd,
            Metric::DeadCode => dead_code,
            Metric::QualityScore => quality_score,
            Metric::Memory => memory,
            Metric::Cpu => cpu,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The naive board keeps every reading and looks back.
        #[test]
        fn alerts_as_the_history_says(
            hold in 0..6_u64,
            history in prop::collection::vec((0..4_u64, 0..6_usize, any::<bool>()), 0..200),
        ) {
            let thresholds = PolicyThresholds::default();
            let mut andon = Andon::new(thresholds, Duration::from_nanos(hold));
            let mut readings: [Vec<(u64, bool)>; METRICS] = Default::default();
            let mut lit = [None; METRICS];
            let mut now = 0;
            for (step, which, within) in history {
                now += step;
                let metric = Metric::ALL[which];
                let limit = thresholds.of(metric).limit();
                let beyond = if metric == Metric::QualityScore { limit - 1 } else { limit + 1 };
                let value = if within { limit } else { beyond };
                readings[which].push((now, within));
                let calm = readings[which].iter().rev().take_while(|(_, within)| *within).last();
                let expected = match (lit[which], calm) {
                    (None, None) => {
                        lit[which] = Some(now);
                        let threshold = thresholds.of(metric);
                        Some(Alert::Raised(ThresholdViolation { threshold, value: Some(value) }))
                    }
                    (Some(since), Some((begun, _))) if now - begun >= hold => {
                        lit[which] = None;
                        Some(Alert::Cleared { metric, since: Instant::from_ns(since) })
                    }
                    _ => None,
                };
                let alert = andon.observe(Instant::from_ns(now), Reading::new(metric, value));
                prop_assert_eq!(alert, expected);
                prop_assert_eq!(andon.check_invariants(), Ok(()));
                for (metric, lit) in Metric::ALL.into_iter().zip(lit) {
                    prop_assert_eq!(andon.is_lit(metric), lit.is_some());
                }
            }
        }
    }

    #[test]
    fn new_thresholds_hold_from_the_next_reading() {
        let mut andon = Andon::new(PolicyThresholds::default(), Duration::ZERO);
        let reading = Reading::new(Metric::Complexity, 21);
        assert!(matches!(andon.observe(Instant::MAX, reading), Some(Alert::Raised(_))));
        let lenient = PolicyThresholds { complexity_max: 21, ..andon.thresholds() };
        andon.set_thresholds(lenient);
        let cleared = Alert::Cleared { metric: Metric::Complexity, since: Instant::MAX };
        assert_eq!(andon.observe(Instant::ZERO, reading), Some(cleared));
        assert_eq!(andon.raised_total(), 1);
    }
}
