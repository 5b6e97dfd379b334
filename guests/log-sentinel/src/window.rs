//! The error ratio over the last requests, and the alert on it.
//!
//! Invariants: `errors` is the number of true flags; there are never more flags than `capacity`.

use std::collections::VecDeque;

/// Whether each of the last requests failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    flags: VecDeque<bool>,
    capacity: usize,
    errors: usize,
    is_alerting: bool,
}

/// What a request did to the alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The error ratio rose above the threshold.
    Alerting,
    /// The error ratio fell to the threshold or below it.
    Recovered,
}

impl Window {
    /// Most requests that a window can hold.
    pub const REQUESTS_MAX: usize = 4_096;
    /// How many words [`words`](Self::words) yields.
    pub const WORDS: usize = 2 + Self::REQUESTS_MAX / 64;

    /// An empty window of `capacity` requests, 1 to [`REQUESTS_MAX`](Self::REQUESTS_MAX).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            flags: VecDeque::new(),
            capacity: capacity.clamp(1, Self::REQUESTS_MAX),
            errors: 0,
            is_alerting: false,
        }
    }

    /// Takes in one request; the oldest makes room. An alert is raised only once a fifth of the
    /// window is filled, so that the very first failure is no 100 %.
    pub fn push(&mut self, is_error: bool, threshold: f64) -> Option<Change> {
        if self.flags.len() == self.capacity && self.flags.pop_front() == Some(true) {
            self.errors = self.errors.saturating_sub(1);
        }
        self.flags.push_back(is_error);
        self.errors = self.errors.saturating_add(usize::from(is_error));

        let is_above = self.error_ratio() > threshold;
        let is_filled = self.flags.len() >= self.capacity.div_ceil(5);
        if is_above && is_filled && !self.is_alerting {
            self.is_alerting = true;
            Some(Change::Alerting)
        } else if !is_above && self.is_alerting {
            self.is_alerting = false;
            Some(Change::Recovered)
        } else {
            None
        }
    }

    /// Gives the window another capacity, 1 to [`REQUESTS_MAX`](Self::REQUESTS_MAX). The newest requests
    /// stay.
    pub fn resize(&mut self, capacity: usize) {
        self.capacity = capacity.clamp(1, Self::REQUESTS_MAX);
        self.flags.drain(..self.flags.len().saturating_sub(self.capacity));
        self.errors = self.flags.iter().filter(|flag| **flag).count();
    }

    /// Failed requests of all in the window, 0.0 to 1.0; 0.0 when it is empty.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "at most REQUESTS_MAX")]
    pub fn error_ratio(&self) -> f64 {
        self.errors as f64 / self.flags.len().max(1) as f64
    }

    /// How many requests are in the window.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flags.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// Whether the error ratio is above the threshold.
    #[must_use]
    pub fn is_alerting(&self) -> bool {
        self.is_alerting
    }

    /// The window, for keeping: length, alert, then one bit to a request.
    pub fn words(&self) -> impl Iterator<Item = u64> {
        let bits = (0..Self::REQUESTS_MAX / 64).map(|word| {
            let flags = self.flags.iter().skip(word * 64).take(64);
            flags.enumerate().fold(0_u64, |bits, (index, flag)| bits | (u64::from(*flag) << index))
        });
        [self.flags.len() as u64, u64::from(self.is_alerting)].into_iter().chain(bits)
    }

    /// The window that [`words`](Self::words) yielded; of another capacity, only its newest requests.
    /// None if they are not such words.
    #[must_use]
    pub fn from_words(words: &[u64; Self::WORDS], capacity: usize) -> Option<Self> {
        let [length, is_alerting, bits @ ..] = words;
        let length = usize::try_from(*length).ok().filter(|len| *len <= Self::REQUESTS_MAX)?;
        let mut window = Self::new(capacity);
        let flag =
            |index: usize| bits.get(index / 64).is_some_and(|word| (word >> (index % 64)) & 1 == 1);
        window.flags = (0..length).skip(length.saturating_sub(window.capacity)).map(flag).collect();
        window.errors = window.flags.iter().filter(|flag| **flag).count();
        window.is_alerting = *is_alerting == 1;
        Some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_ratio_is_that_of_the_last_requests(
            flags in proptest::collection::vec(any::<bool>(), 1..300),
            capacity in 1_usize..130,
            kept_with in 1_usize..130,
        ) {
            let mut window = Window::new(capacity);
            for (index, flag) in flags.iter().enumerate() {
                window.push(*flag, 0.5);
                let last = &flags[(index + 1).saturating_sub(capacity)..=index];
                let errors = last.iter().filter(|flag| **flag).count();
                prop_assert_eq!(window.len(), last.len());
                prop_assert!((window.error_ratio() - errors as f64 / last.len() as f64).abs() < 1e-9);
            }
            let words: Vec<u64> = window.words().collect();
            let words: [u64; Window::WORDS] = words.try_into().unwrap();
            prop_assert_eq!(&Window::from_words(&words, capacity).unwrap(), &window);
            let other = Window::from_words(&words, kept_with).unwrap();
            prop_assert_eq!(other.len(), window.len().min(kept_with));
            window.resize(kept_with);
            prop_assert_eq!(window, other);
        }
    }

    #[test]
    fn the_alert_rises_once_and_recovers_once() {
        let mut window = Window::new(10);
        let requests = "x.............xx.x................";
        let changes: Vec<_> = requests
            .chars()
            .enumerate()
            .filter_map(|(at, request)| Some((at, window.push(request == 'x', 0.1)?)))
            .collect();
        assert_eq!(
            changes,
            [
                // One of two: above, and a fifth of the window is filled.
                (1, Change::Alerting),
                (9, Change::Recovered),
                (15, Change::Alerting),
                (25, Change::Recovered),
            ]
        );
    }
}
