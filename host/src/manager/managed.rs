//! One daemon of the fleet, as the manager sees it: its configuration, its running incarnation, and
//! what is shown of it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use duende_core::{restart::Exit, supervise::DaemonId, wire::link::Address};
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
    pub(super) began: Instant,
    /// When its peer was told to kill it.
    pub(super) killed: Option<Instant>,
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
    pub(super) log: LogWriter,
    pub(super) incarnation: Option<Incarnation>,
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) gauges: BTreeMap<String, f64>,
    pub(super) health: HealthState,
    pub(super) health_detail: String,
    pub(super) memory_bytes: Option<u64>,
    pub(super) last_exit: Option<String>,
    /// Whether `keep` was told what to start: it remembers.
    pub(super) keep_knows: bool,
    rate: RateMeter,
}

impl Managed {
    pub(super) fn new(id: DaemonId, config: DaemonConfig, log: LogWriter) -> Self {
        Self {
            id,
            config: Arc::new(config),
            log,
            incarnation: None,
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            health: HealthState::Unknown,
            health_detail: String::new(),
            memory_bytes: None,
            last_exit: None,
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
    pub(super) fn rate(&mut self, now: Instant) -> Option<Rate> {
        let unit =
            if self.config.channels.is_empty() { RateUnit::Slices } else { RateUnit::Messages };
        let is_seen = !self.config.channels.is_empty() || self.rate.has_entries;
        is_seen.then(|| Rate { per_second: self.rate.per_second(now), unit })
    }

    /// Everything that the daemon has published, counters and gauges.
    #[expect(clippy::cast_precision_loss, reason = "shown as a float; exact below 2^53")]
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        let counters = self.counters.iter().map(|(name, total)| (name.clone(), *total as f64));
        counters.chain(self.gauges.iter().map(|(name, level)| (name.clone(), *level))).collect()
    }
}

/// Counts events over the last [`RATE_WINDOW`], in at most one entry per [`RATE_STEP`].
#[derive(Default)]
struct RateMeter {
    /// Whether anything was ever counted.
    has_entries: bool,
    entries: VecDeque<(Instant, u64)>,
}

impl RateMeter {
    fn add(&mut self, now: Instant, events: u64) {
        self.has_entries = true;
        self.forget(now);
        match self.entries.back_mut() {
            Some((at, count)) if now.duration_since(*at) < RATE_STEP => {
                *count = count.saturating_add(events);
            }
            Some(_) | None => self.entries.push_back((now, events)),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
    fn per_second(&mut self, now: Instant) -> f64 {
        self.forget(now);
        let events: u64 = self.entries.iter().map(|(_, count)| count).sum();
        events as f64 / RATE_WINDOW.as_secs_f64()
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, _)) = self.entries.front()
            && now.duration_since(*at) > RATE_WINDOW
        {
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_forgets_and_stays_bounded() {
        let mut meter = RateMeter::default();
        let start = Instant::now();
        for millisecond in 0..20_000 {
            meter.add(start + Duration::from_millis(millisecond), 2);
            assert!(meter.entries.len() <= 52);
        }
        let now = start + Duration::from_millis(20_000);
        let rate = meter.per_second(now);
        assert!((rate - 2_000.0).abs() < 60.0, "{rate}");
        assert!(meter.per_second(now + RATE_WINDOW * 2).abs() < f64::EPSILON);
    }
}
