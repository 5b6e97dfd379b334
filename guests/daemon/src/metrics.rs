//! The figures that a daemon reports of itself.

use duende_core::wire::check_metric_name;
pub use duende_core::wire::link::METRICS_MAX;

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Its name; the unit ends it.
    pub name: &'static str,
    /// Whether it is a total that only grows; else it is a level.
    pub counter: bool,
    /// The value, in the unit that the name ends with.
    pub value: f64,
}

/// A daemon's figures at one moment: at most [`METRICS_MAX`].
///
/// A name has the form `[a-zA-Z_:][a-zA-Z0-9_:]*` and at most 64 bytes. What breaks a rule is left
/// out and counted in [`refused`](Self::refused); the runtime says so on stderr.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DaemonMetrics {
    samples: Vec<Sample>,
    refused: usize,
}

impl DaemonMetrics {
    /// No figures.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a total that only grows within one life of the process.
    #[must_use]
    pub fn counter(self, name: &'static str, total: u64) -> Self {
        // Exact up to 2^53, as in every consumer of such figures.
        #[allow(clippy::cast_precision_loss)]
        let value = total as f64;
        self.with(Sample { name, counter: true, value })
    }

    /// Adds a level.
    #[must_use]
    pub fn gauge(self, name: &'static str, value: f64) -> Self {
        self.with(Sample { name, counter: false, value })
    }

    /// The figures, in the order in which they were added.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// How many were left out because of their name or number.
    #[must_use]
    pub const fn refused(&self) -> usize {
        self.refused
    }

    fn with(mut self, sample: Sample) -> Self {
        if self.samples.len() < METRICS_MAX && check_metric_name(sample.name).is_ok() {
            self.samples.push(sample);
        } else {
            self.refused = self.refused.saturating_add(1);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_and_too_many_are_refused_and_counted() {
        let metrics = DaemonMetrics::new()
            .counter("requests_total", 3)
            .gauge("", 1.0)
            .gauge("2x", 1.0)
            .gauge("in flight", 1.0)
            .gauge("in_flight", 2.5);
        assert_eq!(metrics.refused(), 3);
        assert_eq!(
            metrics.samples(),
            [
                Sample { name: "requests_total", counter: true, value: 3.0 },
                Sample { name: "in_flight", counter: false, value: 2.5 },
            ]
        );
        let many = (0..=METRICS_MAX).fold(DaemonMetrics::new(), |all, _| all.gauge("x", 0.0));
        assert_eq!((many.samples().len(), many.refused()), (METRICS_MAX, 1));
    }
}
