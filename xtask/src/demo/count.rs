//! Who counted what: the demo itself as the client, and each sentinel as a reader of the access log.

use std::collections::BTreeMap;

/// Requests, by the class of their status: 1xx, 2xx, 3xx, 4xx, 5xx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// All of them.
    pub(super) requests: u64,
    /// Of each class.
    pub(super) classes: [u64; 5],
    /// Lines that could not be understood.
    pub(super) malformed: u64,
}

/// The names of the classes, as figures end with them.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Counts {
    /// Counts one answer.
    pub(super) fn add(&mut self, status: u16) {
        self.requests += 1;
        let class = usize::from(status / 100).wrapping_sub(1);
        match self.classes.get_mut(class) {
            Some(count) => *count += 1,
            None => self.malformed += 1,
        }
    }

    /// What a sentinel has published. A figure that it has not published yet is 0.
    pub(super) fn of_sentinel(figures: &BTreeMap<String, f64>) -> Self {
        let figure = |name: &str| whole(figures.get(name).copied().unwrap_or_default());
        Self {
            requests: figure("requests_total"),
            classes: CLASSES.map(|class| figure(&format!("status_{class}"))),
            malformed: figure("malformed_total"),
        }
    }

    /// What differs from the true count, in words; none if nothing does.
    pub(super) fn difference_from(&self, truth: &Self) -> Option<String> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, counted: u64, true_count: u64| {
            if counted < true_count {
                differences.push(format!("{} {what} lost", true_count - counted));
            } else if counted > true_count {
                differences.push(format!("{} {what} too many", counted - true_count));
            }
        };
        compare("requests", self.requests, truth.requests);
        for ((class, counted), true_count) in CLASSES.iter().zip(self.classes).zip(truth.classes) {
            compare(class, counted, true_count);
        }
        compare("malformed lines", self.malformed, truth.malformed);
        (!differences.is_empty()).then(|| differences.join(", "))
    }
}

/// A gauge that holds a count. What is no count becomes one that equals nothing.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be a whole number that a float holds exactly"
)]
fn whole(value: f64) -> u64 {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&value) { value as u64 } else { u64::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth() -> Counts {
        let mut truth = Counts::default();
        for status in [200, 200, 301, 404] {
            truth.add(status);
        }
        truth
    }

    #[track_caller]
    fn check(figures: &[(&str, f64)], expected: Option<&str>) {
        let figures = figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let difference = Counts::of_sentinel(&figures).difference_from(&truth());
        assert_eq!(difference.as_deref(), expected);
    }

    #[test]
    fn every_difference_is_seen() {
        let equal = [
            ("requests_total", 4.0),
            ("status_2xx", 2.0),
            ("status_3xx", 1.0),
            ("status_4xx", 1.0),
        ];
        check(&equal, None);
        check(
            &[&equal[..], &[("malformed_total", 1.0)]].concat(),
            Some("1 malformed lines too many"),
        );
        // One lost and another one counted twice: the sum alone would not show it.
        let swapped = [("requests_total", 4.0), ("status_2xx", 3.0), ("status_3xx", 1.0)];
        check(&swapped, Some("1 2xx too many, 1 4xx lost"));
        check(&[], Some("4 requests lost, 2 2xx lost, 1 3xx lost, 1 4xx lost"));
        let torn = [
            ("requests_total", 4.5),
            ("status_2xx", 2.0),
            ("status_3xx", 1.0),
            ("status_4xx", -1.0),
        ];
        assert!(
            Counts::of_sentinel(&torn.map(|(name, value)| (name.to_owned(), value)).into())
                .difference_from(&truth())
                .is_some()
        );
    }
}
