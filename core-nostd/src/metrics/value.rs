//! The two plain metrics: a count that only grows, and a level that moves both ways.

/// How often something happened. Sticks at `u64::MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counter(u64);

impl Counter {
    /// A counter that stands at `count`: zero for a new one, more for one that is read back.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// Counts one more.
    pub const fn increment(&mut self) {
        self.add(1);
    }

    /// Counts `times` more.
    pub const fn add(&mut self, times: u64) {
        self.0 = self.0.saturating_add(times);
    }

    /// How often so far.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// How much of something there is now. Sticks at the ends of `i64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gauge(i64);

impl Gauge {
    /// A gauge that shows `level`.
    #[must_use]
    pub const fn new(level: i64) -> Self {
        Self(level)
    }

    /// Shows another level.
    pub const fn set(&mut self, level: i64) {
        self.0 = level;
    }

    /// Moves the level, down if `change` is negative.
    pub const fn add(&mut self, change: i64) {
        self.0 = self.0.saturating_add(change);
    }

    /// The level.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stick_at_their_ends() {
        let mut counter = Counter::new(u64::MAX - 2);
        counter.increment();
        assert_eq!(counter.get(), u64::MAX - 1);
        counter.add(7);
        assert_eq!(counter.get(), u64::MAX);

        let mut gauge = Gauge::default();
        gauge.add(5);
        gauge.add(-7);
        assert_eq!(gauge.get(), -2);
        gauge.add(i64::MIN);
        assert_eq!(gauge.get(), i64::MIN);
        gauge.set(i64::MAX);
        gauge.add(1);
        assert_eq!(gauge.get(), i64::MAX);
    }
}
