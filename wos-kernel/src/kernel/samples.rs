//! A daemon's own figures, as the manager takes them: a name and a number each.
//!
//! Labels stand behind the name, as Prometheus writes them; a histogram becomes its buckets, its sum and
//! its count. What has no legal name, too many labels or buckets, or is longer than [`LINE_BYTES_MAX`]
//! with its labels, is left out, and so is what is over [`METRICS_MAX`] figures.

use alloc::{format, string::String, vec::Vec};
use core::fmt::Write as _;

use duende_core::wire::{
    check_metric_name,
    link::{Address, Event, METRICS_MAX},
};

use super::Emit;
use crate::{
    executor::{Sample, SampleValue},
    limits::{BUCKETS_MAX, LABELS_MAX},
};

/// Longest name with labels, in bytes.
const LINE_BYTES_MAX: usize = 512;

/// Answers a question for figures.
pub(super) fn emit_samples(at: Address, token: u64, samples: &[Sample], emit: Emit<'_>) {
    let mut left = METRICS_MAX;
    for sample in samples {
        let figures = figures(sample);
        if figures.len() > left {
            break;
        }
        left = left.saturating_sub(figures.len());
        for Figure { name, counter, value } in figures {
            emit(Event::Sample { at, token, name: &name, counter, value });
        }
    }
    emit(Event::SamplesEnd { at, token });
}

struct Figure {
    name: String,
    counter: bool,
    value: f64,
}

/// What one sample comes to; nothing, if it can't be told.
fn figures(sample: &Sample) -> Vec<Figure> {
    let named = |suffix: &str, bound: Option<f64>| {
        let name = format!("{}{suffix}", sample.name);
        check_metric_name(&name).ok()?;
        labelled(name, &sample.labels, bound)
    };
    let one = |name: Option<String>, counter, value| Some(Figure { name: name?, counter, value });
    let all: Option<Vec<Figure>> = match &sample.value {
        SampleValue::Counter(value) => one(named("", None), true, *value).map(|one| [one].into()),
        SampleValue::Gauge(value) => one(named("", None), false, *value).map(|one| [one].into()),
        SampleValue::Histogram { buckets, .. } if buckets.len() > BUCKETS_MAX => None,
        SampleValue::Histogram { count, sum, buckets } => buckets
            .iter()
            .map(|(upper, below)| one(named("_bucket", Some(*upper)), true, *below as f64))
            .chain([
                one(named("_sum", None), false, *sum),
                one(named("_count", None), true, *count as f64),
            ])
            .collect(),
    };
    all.unwrap_or_default()
}

/// The name with its labels behind it; none if they can't be written.
fn labelled(name: String, labels: &[(String, String)], bound: Option<f64>) -> Option<String> {
    if labels.is_empty() && bound.is_none() {
        return Some(name);
    }
    if labels.len() > LABELS_MAX {
        return None;
    }
    let mut line = name;
    let mut before = '{';
    for (label, value) in labels {
        if check_metric_name(label).is_err() || label.contains(':') {
            return None;
        }
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        // Writing to a string does not fail.
        let _ = write!(line, "{before}{label}=\"{value}\"");
        before = ',';
    }
    if let Some(bound) = bound {
        let bound = if bound == f64::INFINITY { "+Inf".into() } else { format!("{bound}") };
        let _ = write!(line, "{before}le=\"{bound}\"");
    }
    line.push('}');
    (line.len() <= LINE_BYTES_MAX).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::ToString, vec};

    fn sample(name: &str, labels: &[(&str, &str)], value: SampleValue) -> Sample {
        let labels = labels.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        Sample { name: name.into(), labels, value }
    }

    fn told(samples: &[Sample]) -> Vec<String> {
        let at = Address::of(1, 1);
        let mut told = Vec::new();
        emit_samples(at, 7, samples, &mut |event| match event {
            Event::Sample { name, counter, value, .. } => {
                told.push(format!("{name} {} {value}", if counter { "counter" } else { "gauge" }));
            }
            other => assert_eq!(other, Event::SamplesEnd { at, token: 7 }),
        });
        told
    }

    #[test]
    fn figures_are_what_prometheus_reads() {
        let buckets = vec![(0.5, 1), (f64::INFINITY, 3)];
        let histogram = SampleValue::Histogram { count: 3, sum: 2.5, buckets };
        let samples = [
            sample("lines_total", &[], SampleValue::Counter(3.0)),
            sample("depth", &[("queue", "a\"b\\c\n"), ("n", "1")], SampleValue::Gauge(-1.5)),
            sample("wait_seconds", &[("queue", "x")], histogram),
            // Nothing of these can be told.
            sample("9", &[], SampleValue::Gauge(1.0)),
            sample("a", &[("b:c", "1")], SampleValue::Gauge(1.0)),
            sample("a", &[("b", &"x".repeat(LINE_BYTES_MAX))], SampleValue::Gauge(1.0)),
            sample("a", &[("b", "1"); LABELS_MAX + 1], SampleValue::Gauge(1.0)),
        ];
        let expected = [
            "lines_total counter 3",
            r#"depth{queue="a\"b\\c\n",n="1"} gauge -1.5"#,
            r#"wait_seconds_bucket{queue="x",le="0.5"} counter 1"#,
            r#"wait_seconds_bucket{queue="x",le="+Inf"} counter 3"#,
            r#"wait_seconds_sum{queue="x"} gauge 2.5"#,
            r#"wait_seconds_count{queue="x"} counter 3"#,
        ];
        assert_eq!(told(&samples), expected);
    }

    #[test]
    fn no_more_figures_are_told_than_one_answer_has() {
        let many = vec![sample("a", &[], SampleValue::Gauge(1.0)); METRICS_MAX + 1];
        assert_eq!(told(&many).len(), METRICS_MAX);
        let buckets = |n: usize| (0..n).map(|n| (n as f64, 0)).collect();
        let histogram = |n| SampleValue::Histogram { count: 0, sum: 0.0, buckets: buckets(n) };
        assert_eq!(told(&[sample("a", &[], histogram(BUCKETS_MAX))]).len(), BUCKETS_MAX + 2);
        assert!(told(&[sample("a", &[], histogram(BUCKETS_MAX + 1))]).is_empty());
    }
}
