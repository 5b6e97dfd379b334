//! The limits of a daemon's figures, as the specification sets them: of its code before it is
//! deployed, of its memory and processor time while it runs.
//!
//! Rules:
//! 1. What is *at* its limit is within it.
//! 2. A figure that was not measured is a violation: a check that did not happen is never reported as
//!    passed.
//! 3. Shares are in basis points. Who measures rounds to the side that lets nothing pass:
//!    [`BasisPoints::ceil`] for what has a maximum, [`BasisPoints::floor`] for what has a minimum.

use core::fmt;

use super::jidoka::Check;
use super::ratio::BasisPoints;

/// What is measured. Each has its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// The cyclomatic complexity of the most complex function.
    Complexity,
    /// How many comments admit a debt.
    Satd,
    /// The share of code that nothing reaches, in basis points.
    DeadCode,
    /// The quality score: its share of the best, in basis points.
    QualityScore,
    /// Memory in use, in bytes.
    Memory,
    /// Processor time used, in basis points of one processor.
    Cpu,
}

/// How many metrics there are.
pub const METRICS: usize = 6;

impl Metric {
    /// All of them.
    pub const ALL: [Self; METRICS] =
        [Self::Complexity, Self::Satd, Self::DeadCode, Self::QualityScore, Self::Memory, Self::Cpu];

    /// Its name, as in configuration and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complexity => "complexity",
            Self::Satd => "satd",
            Self::DeadCode => "dead-code",
            Self::QualityScore => "quality-score",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::Complexity | Self::Satd => "",
            Self::DeadCode | Self::QualityScore | Self::Cpu => " basis points",
            Self::Memory => " bytes",
        }
    }

    const fn is_minimum(self) -> bool {
        matches!(self, Self::QualityScore)
    }
}

/// A figure that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    /// What was measured.
    pub metric: Metric,
    /// How much it was, in the metric's unit.
    pub value: u64,
}

impl Reading {
    /// So much of this.
    #[must_use]
    pub const fn new(metric: Metric, value: u64) -> Self {
        Self { metric, value }
    }
}

/// The limits of all metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PolicyThresholds {
    /// The most complex that a function may be.
    pub complexity_max: u32,
    /// How many comments may admit a debt.
    pub satd_max: u32,
    /// The most code that nothing reaches.
    pub dead_code_max: BasisPoints,
    /// The least quality score, as a share of the best.
    pub quality_score_min: BasisPoints,
    /// The most memory, in bytes.
    pub memory_bytes_max: u64,
    /// The most processor time, as a share of one processor.
    pub cpu_max: BasisPoints,
}

impl Default for PolicyThresholds {
    /// 20, none, 10 %, 80 %, 500,000,000 bytes, 80 %.
    fn default() -> Self {
        Self {
            complexity_max: 20,
            satd_max: 0,
            dead_code_max: BasisPoints::from_percent(10),
            quality_score_min: BasisPoints::from_percent(80),
            memory_bytes_max: 500_000_000,
            cpu_max: BasisPoints::from_percent(80),
        }
    }
}

impl PolicyThresholds {
    /// The limit of one metric.
    #[must_use]
    pub fn of(&self, metric: Metric) -> Threshold {
        let limit = match metric {
            Metric::Complexity => u64::from(self.complexity_max),
            Metric::Satd => u64::from(self.satd_max),
            Metric::DeadCode => u64::from(self.dead_code_max.get()),
            Metric::QualityScore => u64::from(self.quality_score_min.get()),
            Metric::Memory => self.memory_bytes_max,
            Metric::Cpu => u64::from(self.cpu_max.get()),
        };
        Threshold { metric, limit }
    }

    /// What is checked before a daemon is deployed.
    #[must_use]
    pub fn checks_of_a_deploy(&self) -> [Threshold; 4] {
        [Metric::Complexity, Metric::Satd, Metric::DeadCode, Metric::QualityScore]
            .map(|metric| self.of(metric))
    }

    /// What is checked while it runs.
    #[must_use]
    pub fn checks_of_a_run(&self) -> [Threshold; 2] {
        [Metric::Memory, Metric::Cpu].map(|metric| self.of(metric))
    }
}

/// The limit of one metric; a [`Check`] of readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Threshold {
    metric: Metric,
    limit: u64,
}

impl Threshold {
    /// Whose limit it is.
    #[must_use]
    pub const fn metric(self) -> Metric {
        self.metric
    }

    /// The limit, in the metric's unit.
    #[must_use]
    pub const fn limit(self) -> u64 {
        self.limit
    }

    /// Whether a figure of this metric is within the limit.
    #[must_use]
    pub const fn admits(self, value: u64) -> bool {
        if self.metric.is_minimum() { value >= self.limit } else { value <= self.limit }
    }
}

/// A figure that is not within its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThresholdViolation {
    /// Whose limit, and which.
    pub threshold: Threshold,
    /// The figure; `None` if it was not measured.
    pub value: Option<u64>,
}

impl fmt::Display for ThresholdViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Threshold { metric, limit } = self.threshold;
        let bound = if metric.is_minimum() { "at least" } else { "at most" };
        let unit = metric.unit();
        match self.value {
            Some(value) => write!(f, "{value}{unit}, {bound} {limit} allowed"),
            None => write!(f, "not measured, {bound} {limit}{unit} allowed"),
        }
    }
}

impl core::error::Error for ThresholdViolation {}

impl Check<[Reading]> for Threshold {
    type Violation = ThresholdViolation;

    fn name(&self) -> &'static str {
        self.metric.name()
    }

    fn way_out(&self) -> &'static str {
        match self.metric {
            Metric::Complexity => "split the function, or raise the limit",
            Metric::Satd => "settle the debt, or raise the limit",
            Metric::DeadCode => "remove what nothing reaches, or raise the limit",
            Metric::QualityScore => "see the analyser's report, or lower the limit",
            Metric::Memory => "find what it keeps, or raise the limit",
            Metric::Cpu => "find what it does, or raise the limit",
        }
    }

    /// Every reading of this metric has to be within the limit, and there has to be one.
    fn verify(&self, readings: &[Reading]) -> Result<(), ThresholdViolation> {
        let mut measured = false;
        for Reading { value, .. } in readings.iter().filter(|r| r.metric == self.metric) {
            if !self.admits(*value) {
                return Err(ThresholdViolation { threshold: *self, value: Some(*value) });
            }
            measured = true;
        }
        if measured { Ok(()) } else { Err(ThresholdViolation { threshold: *self, value: None }) }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use super::super::jidoka::JidokaGate;
    use super::*;

    /// The specification's six defaults: the last figure within, and the first beyond.
    #[test]
    fn the_defaults_are_those_of_the_specification() {
        let thresholds = PolicyThresholds::default();
        for (metric, within, beyond) in [
            (Metric::Complexity, 20, 21),
            (Metric::Satd, 0, 1),
            (Metric::DeadCode, 1_000, 1_001),
            (Metric::QualityScore, 8_000, 7_999),
            (Metric::Memory, 500_000_000, 500_000_001),
            (Metric::Cpu, 8_000, 8_001),
        ] {
            let threshold = thresholds.of(metric);
            assert!(threshold.admits(within) && !threshold.admits(beyond), "{}", metric.name());
            assert_eq!((threshold.metric(), threshold.limit()), (metric, within));
            let readings = [Reading::new(metric, within), Reading::new(metric, beyond)];
            let violation = ThresholdViolation { threshold, value: Some(beyond) };
            assert_eq!(threshold.verify(&readings), Err(violation), "the worst of several counts");
        }
        let covered: Vec<Metric> = thresholds
            .checks_of_a_deploy()
            .into_iter()
            .chain(thresholds.checks_of_a_run())
            .map(Threshold::metric)
            .collect();
        assert_eq!(covered, Metric::ALL);
    }

    #[test]
    fn what_was_not_measured_does_not_pass() {
        let gate = JidokaGate::new(PolicyThresholds::default().checks_of_a_deploy());
        let readings = [
            Reading::new(Metric::Complexity, 3),
            Reading::new(Metric::Satd, 0),
            Reading::new(Metric::QualityScore, 9_000),
        ];
        let failed = gate.check(&readings[..]).unwrap_err();
        assert_eq!((failed.index, failed.violation.value), (2, None));
        let text = "dead-code: not measured, at most 1000 basis points allowed; \
                    remove what nothing reaches, or raise the limit";
        assert_eq!(failed.to_string(), text);
        let low = [Reading::new(Metric::QualityScore, 7_000)];
        let mut told = Vec::new();
        let verdict = gate.report(&low[..], &mut |failed| told.push(failed.to_string()));
        assert_eq!((verdict.ran, verdict.failed), (4, 4));
        assert!(told[3].starts_with("quality-score: 7000 basis points, at least 8000 allowed; "));
    }
}
