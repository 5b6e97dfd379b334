//! One daemon of the fleet, as the manager sees it: its configuration, its running incarnation, and
//! what is shown of it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant as WallInstant},
};

use duende_core::{
    health::ComponentId,
    metrics::{Sample, Series},
    restart::Exit,
    supervise::DaemonId,
    time::Instant,
    wire::link::Address,
};
use tokio::task::AbortHandle;

use super::peer::Peer;
use crate::{
    config::DaemonConfig,
    control::protocol::{HealthState, Rate, RateUnit},
    daemon_log::LogWriter,
};

/// How far back a rate looks.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Commits within this time count as one entry of the rate's window.
const RATE_STEP: Duration = Duration::from_millis(100);
/// Steps of the window, and both its ends.
const RATE_SAMPLES: usize = 52;

/// Where an incarnation runs.
pub(super) enum Place {
    /// Its state and sources are being opened; there is no process yet.
    Preparing(AbortHandle),
    /// In the worker.
    Worker,
    /// As a process under `keep`, with its link if it has one.
    Native { link: Option<Peer> },
}

/// One start of a daemon.
pub(super) struct Incarnation {
    pub(super) at: Address,
    pub(super) place: Place,
    pub(super) pid: Option<u32>,
    pub(super) began: WallInstant,
    /// When its peer was told to kill it.
    pub(super) killed: Option<WallInstant>,
    /// The feeds of its channels; they end with it.
    pub(super) feeds: Vec<AbortHandle>,
    /// What it said last about its own end, over its link.
    pub(super) said: Option<String>,
    /// How its process ended, while the last of its link is still being read.
    pub(super) ended: Option<(Exit, String)>,
}

impl Drop for Incarnation {
    fn drop(&mut self) {
        if let Place::Preparing(task) = &self.place {
            task.abort();
        }
        for feed in &self.feeds {
            feed.abort();
        }
    }
}

/// One daemon of the fleet.
pub(super) struct Managed {
    pub(super) id: DaemonId,
    pub(super) config: Arc<DaemonConfig>,
    /// Its place in the health of the whole.
    pub(super) component: ComponentId,
    pub(super) log: LogWriter,
    pub(super) incarnation: Option<Incarnation>,
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) gauges: BTreeMap<String, f64>,
    pub(super) health: HealthState,
    pub(super) health_detail: String,
    pub(super) memory_bytes: Option<u64>,
    pub(super) last_exit: Option<String>,
    /// Whether its last reload was not done in time.
    pub(super) reload_failed: bool,
    /// Whether `keep` was told what to start: it remembers.
    pub(super) keep_knows: bool,
    rate: RateMeter,
}

impl Managed {
    pub(super) fn new(
        id: DaemonId,
        config: DaemonConfig,
        component: ComponentId,
        log: LogWriter,
    ) -> Self {
        Self {
            id,
            config: Arc::new(config),
            component,
            log,
            incarnation: None,
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            health: HealthState::Unknown,
            health_detail: String::new(),
            memory_bytes: None,
            last_exit: None,
            reload_failed: false,
            keep_knows: false,
            rate: RateMeter::default(),
        }
    }

    /// The running incarnation, if it is this one.
    pub(super) fn current(&mut self, at: Address) -> Option<&mut Incarnation> {
        self.incarnation.as_mut().filter(|incarnation| incarnation.at == at)
    }

    /// A slice was committed.
    pub(super) fn committed(
        &mut self,
        now: Instant,
        messages: u64,
        counters: Vec<(String, u64)>,
        gauges: Vec<(String, f64)>,
    ) {
        let has_channels = !self.config.channels.is_empty();
        self.rate.add(now, if has_channels { messages } else { 1 });
        for (name, delta) in counters {
            let total = self.counters.entry(name).or_default();
            *total = total.saturating_add(delta);
        }
        self.gauges.extend(gauges);
    }

    /// How much the daemon does; none for one that has no channel and never committed a slice: what
    /// it does cannot be seen.
    pub(super) fn rate(&self, now: Instant) -> Option<Rate> {
        let per_second = self.rate.per_second(now);
        if self.config.channels.is_empty() {
            return per_second.map(|per_second| Rate { per_second, unit: RateUnit::Slices });
        }
        Some(Rate { per_second: per_second.unwrap_or(0.0), unit: RateUnit::Messages })
    }

    /// Everything that the daemon has published, counters and gauges.
    #[expect(clippy::cast_precision_loss, reason = "shown as a float; exact below 2^53")]
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        let counters = self.counters.iter().map(|(name, total)| (name.clone(), *total as f64));
        counters.chain(self.gauges.iter().map(|(name, level)| (name.clone(), *level))).collect()
    }
}

/// Counts events over the last [`RATE_WINDOW`]: a series of totals, one in each [`RATE_STEP`].
#[derive(Default)]
struct RateMeter {
    /// All events that were ever counted.
    total: u64,
    /// The total before the events of each step. There is none for a daemon that does nothing.
    totals: Option<Series<Box<[Sample]>>>,
}

impl RateMeter {
    fn add(&mut self, now: Instant, events: u64) {
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
    fn per_second(&self, now: Instant) -> Option<f64> {
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
