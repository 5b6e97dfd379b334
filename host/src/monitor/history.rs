//! The last samples of every figure of every daemon.

use std::collections::BTreeMap;
use std::time::Duration;

use duende_core::{
    metrics::{Sample, Series},
    time::Instant,
    wire::link::METRICS_MAX,
};

use super::{HISTORY, ProcessFigures, SAMPLES_MAX};

/// Figures that every daemon may have.
const OWN_FIGURES: [&str; 3] = ["memory_bytes", "processor_ms", "threads"];
/// Most figures of one daemon: those, and what it publishes.
const FIGURES_MAX: usize = OWN_FIGURES.len() + METRICS_MAX;
/// A gauge is kept in thousandths.
const GAUGE_SCALE: f64 = 1_000.0;

/// What is known of a daemon at one instant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures<'a> {
    /// Of a native daemon, what its process uses.
    pub process: Option<ProcessFigures>,
    /// Of a component, its linear memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Of a component, the processor time that it has used.
    pub processor: Option<Duration>,
    /// What it has published: totals.
    pub counters: Option<&'a BTreeMap<String, u64>>,
    /// What it has published: levels.
    pub gauges: Option<&'a BTreeMap<String, f64>>,
}

/// The samples of one figure.
#[derive(Debug)]
struct Figure {
    /// What a sample is to be divided by.
    scale: f64,
    samples: Series<Box<[Sample]>>,
}

/// The last samples of a fleet's daemons.
///
/// ```no_run
/// use std::time::Duration;
/// use duende::{DaemonMonitor, monitor::{Figures, ProcessFigures}};
/// use duende_core::time::Instant;
///
/// let mut monitor = DaemonMonitor::new(Duration::from_millis(100), 1);
/// let now = Instant::from_ns(1);
/// let process = ProcessFigures::of(std::process::id());
/// monitor.record(now, 0, Figures { process, ..Figures::default() });
/// let samples: Vec<_> = monitor.since(0, "memory_bytes", Instant::ZERO).collect();
/// assert_eq!(samples.len(), 1);
/// ```
#[derive(Debug)]
pub struct DaemonMonitor {
    interval: Duration,
    /// By the number of the daemon, then by the name of the figure.
    daemons: Vec<BTreeMap<String, Figure>>,
    /// Samples for which there is room still.
    room: usize,
    refused: u64,
}

impl DaemonMonitor {
    /// Without samples. Each figure gets room for [`HISTORY`] at this interval.
    #[must_use]
    pub fn new(interval: Duration, daemons: usize) -> Self {
        let mut all = Vec::new();
        all.resize_with(daemons, BTreeMap::new);
        Self { interval, daemons: all, room: SAMPLES_MAX, refused: 0 }
    }

    /// From one sample to the next.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// How many samples of one figure are kept: enough for [`HISTORY`] and its two ends.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let intervals = HISTORY.as_nanos().div_ceil(self.interval.as_nanos().max(1));
        usize::try_from(intervals).unwrap_or(usize::MAX).saturating_add(1)
    }

    /// Samples that were refused because there was no room for their figure.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes the samples of one daemon. A clock that steps back has none.
    pub fn record(&mut self, at: Instant, daemon: usize, figures: Figures<'_>) {
        let process = figures.process;
        let memory_bytes = process.map(|process| process.memory_bytes).or(figures.memory_bytes);
        let processor = process.map(|process| process.processor_time).or(figures.processor);
        let processor_ms = processor.map(|processor| processor.as_millis());
        let own = [
            memory_bytes.map(whole),
            processor_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
            process.map(|process| i64::from(process.threads)),
        ];
        for (name, value) in OWN_FIGURES.into_iter().zip(own) {
            if let Some(value) = value {
                self.push(daemon, name, 1.0, Sample { at, value });
            }
        }
        for (name, total) in figures.counters.into_iter().flatten() {
            self.push(daemon, name, 1.0, Sample { at, value: whole(*total) });
        }
        for (name, level) in figures.gauges.into_iter().flatten() {
            // Saturates; what is no number is zero.
            #[expect(clippy::cast_possible_truncation, reason = "thousandths are what is kept")]
            let value = (level * GAUGE_SCALE) as i64;
            self.push(daemon, name, GAUGE_SCALE, Sample { at, value });
        }
    }

    /// The figures of a daemon.
    pub fn figures(&self, daemon: usize) -> impl Iterator<Item = &str> {
        self.daemons.get(daemon).into_iter().flat_map(|figures| figures.keys().map(String::as_str))
    }

    /// The samples of one figure of `from` and later, the oldest first.
    #[expect(clippy::cast_precision_loss, reason = "a figure for people; exact below 2^53")]
    pub fn since(
        &self,
        daemon: usize,
        figure: &str,
        from: Instant,
    ) -> impl Iterator<Item = (Instant, f64)> {
        let figure = self.daemons.get(daemon).and_then(|figures| figures.get(figure));
        figure.into_iter().flat_map(move |figure| {
            let samples = figure.samples.since(from);
            samples.map(|sample| (sample.at, sample.value as f64 / figure.scale))
        })
    }

    /// The share of one processor that a daemon used between its last two samples, in percent.
    #[must_use]
    pub fn processor_percent(&self, daemon: usize) -> Option<f64> {
        let figure = self.daemons.get(daemon)?.get("processor_ms")?;
        let mut newest = figure.samples.iter().rev();
        let (last, before) = (newest.next()?, newest.next()?);
        let used_ms = u32::try_from(last.value.checked_sub(before.value)?).ok()?;
        let elapsed = last.at.saturating_since(before.at);
        (!elapsed.is_zero()).then(|| f64::from(used_ms) / elapsed.as_secs_f64() / 10.0)
    }

    fn push(&mut self, daemon: usize, name: &str, scale: f64, sample: Sample) {
        let capacity = self.capacity();
        let Some(figures) = self.daemons.get_mut(daemon) else { return };
        if let Some(figure) = figures.get_mut(name) {
            // Refused only if the clock stepped back.
            let _ = figure.samples.push(sample);
            return;
        }
        let Some(room) = self.room.checked_sub(capacity).filter(|_| figures.len() < FIGURES_MAX)
        else {
            self.refused = self.refused.saturating_add(1);
            return;
        };
        self.room = room;
        let mut samples = Series::new(vec![Sample::default(); capacity].into_boxed_slice());
        let _ = samples.push(sample);
        figures.insert(name.to_owned(), Figure { scale, samples });
    }
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Instant {
        Instant::ZERO.saturating_add(Duration::from_secs(seconds))
    }

    fn process(processor_ms: u64) -> Option<ProcessFigures> {
        let processor_time = Duration::from_millis(processor_ms);
        Some(ProcessFigures { memory_bytes: 4_096, processor_time, threads: 2 })
    }

    #[test]
    fn the_last_five_minutes_are_kept_and_complete() {
        let mut monitor = DaemonMonitor::new(SECOND, 2);
        let gauges = BTreeMap::from([("load_ratio".to_owned(), 0.25)]);
        let counters = BTreeMap::from([("lines_total".to_owned(), 7)]);
        for second in 0..1_000 {
            let figures = Figures { process: process(250 * second), ..Figures::default() };
            monitor.record(at(second), 0, figures);
            let (counters, gauges) = (Some(&counters), Some(&gauges));
            let (memory_bytes, processor) = (Some(9), Some(Duration::from_millis(7)));
            let figures = Figures { memory_bytes, processor, counters, gauges, process: None };
            monitor.record(at(second), 1, figures);
        }
        assert!(monitor.figures(0).eq(["memory_bytes", "processor_ms", "threads"]));
        assert!(monitor.figures(1).eq([
            "lines_total",
            "load_ratio",
            "memory_bytes",
            "processor_ms"
        ]));
        let seconds: Vec<u64> = monitor
            .since(0, "memory_bytes", at(999 - 300))
            .map(|(at, value)| {
                assert!((value - 4_096.0).abs() < f64::EPSILON);
                at.as_ns() / 1_000_000_000
            })
            .collect();
        assert_eq!(seconds, (699..1_000).collect::<Vec<_>>());
        let level = monitor.since(1, "load_ratio", at(999)).next().unwrap().1;
        assert!((level - 0.25).abs() < f64::EPSILON);
        assert!((monitor.processor_percent(0).unwrap() - 25.0).abs() < 0.01);
        // It used 7 ms, and none of them since.
        assert!(monitor.processor_percent(1).is_some_and(|percent| percent.abs() < 0.01));
        assert_eq!(monitor.since(2, "memory_bytes", at(0)).count(), 0);
        // A clock that steps back bends nothing.
        monitor.record(at(0), 0, Figures { process: process(0), ..Figures::default() });
        assert_eq!(monitor.since(0, "threads", at(0)).count(), 301);
        assert_eq!(monitor.refused(), 0);
    }

    #[test]
    fn what_there_is_no_room_for_is_refused_and_counted() {
        let names = |count: usize| (0..count).map(|name| (format!("m{name}"), 1)).collect();
        let mut monitor = DaemonMonitor::new(SECOND, 1);
        let many: BTreeMap<String, u64> = names(FIGURES_MAX + 3);
        monitor.record(at(1), 0, Figures { counters: Some(&many), ..Figures::default() });
        assert_eq!((monitor.figures(0).count(), monitor.refused()), (FIGURES_MAX, 3));
        // Of a short interval a few figures fill all the room; those go on.
        let mut monitor = DaemonMonitor::new(Duration::from_millis(1), 1);
        let fit = SAMPLES_MAX / monitor.capacity();
        let many: BTreeMap<String, u64> = names(fit + 1);
        for second in 1..=2 {
            monitor.record(at(second), 0, Figures { counters: Some(&many), ..Figures::default() });
        }
        assert_eq!((monitor.figures(0).count(), monitor.refused()), (fit, 2));
        assert_eq!(monitor.since(0, "m0", at(0)).count(), 2);
    }
}
