//! Who may go on: breaker, bucket, gate, quotas, andon, and what is measured of it.

use core::time::Duration;

use duende_core::epitaph::Epitaph;
use duende_core::metrics::{self, Histogram, Precision, Red, Sample, Series};
use duende_core::policy::andon::{Alert, Andon};
use duende_core::policy::breaker::{Breaker, BreakerSpec, Outcome, Permit};
use duende_core::policy::bucket::{RateLimit, TokenBucket};
use duende_core::policy::gate::{self, Gate};
use duende_core::policy::quota::{GroupId, Limits, QuotaSpec, QuotaTree, Resource, Slot};
use duende_core::policy::thresholds::{Metric, PolicyThresholds, Reading};
use duende_core::time::Instant;

use crate::input::{GROUPS, PERMITS, Setup};
use crate::seen::{Out, Seen};

const BREAKER: BreakerSpec = BreakerSpec {
    failure_threshold: 3,
    open_for: Duration::from_millis(2),
    probes: 2,
    probe_timeout: Duration::from_millis(1),
};
const RATE: RateLimit = RateLimit { tokens: 4, period: Duration::from_millis(1), burst: 6 };
const QUOTA: QuotaSpec =
    QuotaSpec { period: Duration::from_millis(10), grace: Duration::from_millis(3) };
const GATE_CAPACITY: u32 = 4;
const GATE_PLACES: usize = 3;
/// With [`PRECISION`], for values up to 2²⁶.
const BUCKETS: usize = 100;
/// Powers of two in four: within an eighth.
const PRECISION: Precision = match Precision::new(2) {
    Some(precision) => precision,
    None => Precision::FINEST,
};
const SAMPLES: usize = 6;

/// The policies, and the metrics that they are seen by.
#[derive(Debug)]
pub(crate) struct Policies {
    breaker: Breaker,
    permits: [Option<(Permit, Instant)>; PERMITS],
    bucket: TokenBucket,
    gate: Gate<[gate::Place; GATE_PLACES]>,
    quotas: QuotaTree<[Slot; GROUPS]>,
    groups: [Option<GroupId>; GROUPS],
    andon: Andon,
    calls: Red<[u64; BUCKETS]>,
    durations: Histogram<[u64; BUCKETS]>,
    samples: Series<[Sample; SAMPLES]>,
}

impl Policies {
    pub(crate) fn new(now: Instant, setup: Setup) -> Result<Self, Epitaph> {
        let breaker = Breaker::new(BREAKER);
        let bucket = TokenBucket::new(RATE, now);
        let places = [gate::Place::EMPTY; GATE_PLACES];
        let gate = Gate::new(places, GATE_CAPACITY, setup.gate.into());
        let quotas = QuotaTree::new([const { Slot::EMPTY }; GROUPS], QUOTA);
        Ok(Self {
            breaker: breaker.map_err(|error| Epitaph::new(format_args!("{error}")))?,
            permits: [const { None }; PERMITS],
            bucket: bucket.map_err(|error| Epitaph::new(format_args!("{error}")))?,
            gate: gate.map_err(|error| Epitaph::new(format_args!("{error}")))?,
            quotas: quotas.map_err(|error| Epitaph::new(format_args!("{error}")))?,
            groups: [None; GROUPS],
            andon: Andon::new(PolicyThresholds::default(), Duration::from_millis(1)),
            calls: Red::new([0; BUCKETS], PRECISION),
            durations: Histogram::new([0; BUCKETS], PRECISION),
            samples: Series::new([Sample::default(); SAMPLES]),
        })
    }

    pub(crate) fn call(&mut self, now: Instant, into: u8, out: &mut Out<'_>) {
        let Some(pocket) = self.permits.get_mut(usize::from(into)) else {
            return out.tell(&Seen::Nothing);
        };
        let called = match self.breaker.admit(now) {
            Ok(permit) => {
                // One that was there is never reported: its call was lost.
                *pocket = Some((permit, now));
                Ok(())
            }
            Err(refusal) => Err(refusal),
        };
        out.tell(&Seen::Called(called));
        out.tell(&Seen::Breaker(self.breaker.state()));
    }

    pub(crate) fn answer(&mut self, now: Instant, from: u8, success: bool, out: &mut Out<'_>) {
        let pocket = self.permits.get_mut(usize::from(from));
        let Some((permit, since)) = pocket.and_then(Option::take) else {
            return out.tell(&Seen::Nothing);
        };
        let (outcome, counted) = if success {
            (Outcome::Success, metrics::Outcome::Success)
        } else {
            (Outcome::Failure, metrics::Outcome::Error)
        };
        self.breaker.report(now, permit, outcome);
        self.calls.record(counted, now.saturating_since(since));
        out.tell(&Seen::Breaker(self.breaker.state()));
    }

    pub(crate) fn close_breaker(&mut self, out: &mut Out<'_>) {
        self.breaker.close();
        out.tell(&Seen::Breaker(self.breaker.state()));
    }

    pub(crate) fn admit(&mut self, now: Instant, cost: u8, out: &mut Out<'_>) {
        let cost = u64::from(cost);
        let admitted = self.bucket.admit(now, cost);
        out.tell(&Seen::Admitted { admitted, ready_at: self.bucket.ready_at(cost) });
    }

    pub(crate) fn set_rate(&mut self, now: Instant, tokens: u8, burst: u8, out: &mut Out<'_>) {
        let limit = RateLimit { tokens: u64::from(tokens), burst: u64::from(burst), ..RATE };
        out.tell(&Seen::RateSet(self.bucket.set_limit(now, limit)));
    }

    pub(crate) fn offer(&mut self, now: Instant, bytes: u16, out: &mut Out<'_>) {
        let offered =
            self.gate.offer(now, u32::from(bytes), &mut |effect| out.tell(&Seen::Gate(effect)));
        out.tell(&Seen::Offered(offered));
    }

    pub(crate) fn accept(&mut self, now: Instant, out: &mut Out<'_>) {
        let accepted = self.gate.take(now, &mut |effect| out.tell(&Seen::Gate(effect)));
        out.tell(&Seen::Accepted(accepted));
    }

    pub(crate) fn add_group(&mut self, into: u8, parent: u8, limit: u16, out: &mut Out<'_>) {
        let above = self.group(parent);
        let Some(pocket) = self.groups.get_mut(usize::from(into)) else {
            return out.tell(&Seen::Nothing);
        };
        // One that is still there would be lost.
        let taken = pocket.is_some_and(|id| self.quotas.used(id, Resource::Memory).is_some());
        if taken {
            return out.tell(&Seen::Nothing);
        }
        let added = self.quotas.add(above, limits(limit));
        if let Ok(id) = added {
            *pocket = Some(id);
        }
        out.tell(&Seen::GroupAdded(added));
    }

    pub(crate) fn remove_group(&mut self, now: Instant, from: u8, out: &mut Out<'_>) {
        let Some(id) = self.group(from) else { return out.tell(&Seen::Nothing) };
        let tell = &mut |change| out.tell(&Seen::Pressure(change));
        let removed = self.quotas.remove(now, id, tell);
        out.tell(&Seen::GroupRemoved(removed));
    }

    pub(crate) fn charge(
        &mut self,
        now: Instant,
        (group, resource, amount): (u8, u8, u16),
        out: &mut Out<'_>,
    ) {
        let (Some(id), Some(resource)) = (self.group(group), resource_of(resource)) else {
            return out.tell(&Seen::Nothing);
        };
        let tell = &mut |change| out.tell(&Seen::Pressure(change));
        let charged = self.quotas.charge(now, id, resource, u64::from(amount), tell);
        out.tell(&Seen::Charged(charged));
    }

    pub(crate) fn refund(
        &mut self,
        now: Instant,
        (group, resource, amount): (u8, u8, u16),
        out: &mut Out<'_>,
    ) {
        let (Some(id), Some(resource)) = (self.group(group), resource_of(resource)) else {
            return out.tell(&Seen::Nothing);
        };
        let tell = &mut |change| out.tell(&Seen::Pressure(change));
        let refunded = self.quotas.refund(now, id, resource, u64::from(amount), tell);
        out.tell(&Seen::Refunded(refunded));
    }

    pub(crate) fn set_quota(&mut self, now: Instant, group: u8, limit: u16, out: &mut Out<'_>) {
        let Some(id) = self.group(group) else { return out.tell(&Seen::Nothing) };
        let tell = &mut |change| out.tell(&Seen::Pressure(change));
        let set = self.quotas.set_limits(now, id, limits(limit), tell);
        out.tell(&Seen::QuotaSet(set));
    }

    /// Takes a reading. What somebody should know of is for the newsroom.
    pub(crate) fn observe(
        &mut self,
        now: Instant,
        memory: bool,
        tenths: u8,
        out: &mut Out<'_>,
    ) -> Option<Alert> {
        let metric = if memory { Metric::Memory } else { Metric::Cpu };
        let limit = self.andon.thresholds().of(metric).limit();
        let value = (limit / 10).saturating_mul(u64::from(tenths));
        let alert = self.andon.observe(now, Reading::new(metric, value));
        out.tell(&Seen::Observed(alert));
        alert
    }

    pub(crate) fn measure(&mut self, now: Instant, value_ns: u32, out: &mut Out<'_>) {
        self.durations.record(u64::from(value_ns));
        // A sample that is older than the last is refused: the clock stepped back.
        let _ = self.samples.push(Sample { at: now, value: i64::from(value_ns) });
        out.tell(&Seen::Measured(self.durations.quantile_ppm(500_000)));
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Out<'_>) {
        self.breaker.tick(now);
        self.gate.tick(now, &mut |effect| out.tell(&Seen::Gate(effect)));
        self.quotas.tick(now, &mut |change| out.tell(&Seen::Pressure(change)));
        out.tell(&Seen::Breaker(self.breaker.state()));
    }

    pub(crate) fn check_invariants(&self) -> Result<(), Epitaph> {
        self.breaker.check_invariants()?;
        self.bucket.check_invariants()?;
        self.gate.check_invariants()?;
        self.quotas.check_invariants()?;
        self.andon.check_invariants()?;
        self.calls.check_invariants()?;
        self.durations.check_invariants()?;
        self.samples.check_invariants()
    }

    fn group(&self, pocket: u8) -> Option<GroupId> {
        self.groups.get(usize::from(pocket)).copied().flatten()
    }
}

fn resource_of(number: u8) -> Option<Resource> {
    Resource::ALL.get(usize::from(number)).copied()
}

fn limits(limit: u16) -> Limits {
    match u64::from(limit) {
        0 => Limits::NONE,
        limit => {
            Limits { cpu_time_ns: limit, memory_bytes: limit, messages: limit, log_bytes: limit }
        }
    }
}
