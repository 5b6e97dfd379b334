//! Of breaker, bucket, gate and andon: their rules, said again.

use std::collections::VecDeque;
use std::time::Duration;

use duende_core::policy::andon::Alert;
use duende_core::policy::breaker::BreakerState;
use duende_core::policy::gate::{GateEffect, Offered, Ticket};
use duende_core::time::Instant;
use duende_world::{Flow, Input, PERMITS, Seen, Setup, Step, World};

use super::Oracle;
use crate::failure::{Failure, hold};

/// What the world gives them.
const FAILURES: u32 = 3;
const PROBES: u32 = 2;
const OPEN_FOR: Duration = Duration::from_millis(2);
const PROBE_TIMEOUT: Duration = Duration::from_millis(1);
const PERIOD_NS: u128 = 1_000_000;
const GATE_CAPACITY: usize = 4;
const GATE_PLACES: usize = 3;
const PARK_TIMEOUT: Duration = Duration::from_micros(500);
const SPILL_BYTES_MAX: u64 = 96;
const HOLD: Duration = Duration::from_millis(1);

/// The breaker.
#[derive(Debug)]
struct Breaker {
    state: BreakerState,
    epoch: u64,
    /// The epochs of the calls that are under way.
    permits: [Option<u64>; PERMITS],
}

impl Breaker {
    fn turn(&mut self, state: BreakerState) {
        self.state = state;
        self.epoch += 1;
    }

    fn tick(&mut self, now: Instant) {
        if let BreakerState::HalfOpen { admitted, succeeded, answer_by } = self.state
            && admitted != succeeded
            && answer_by <= now
        {
            self.turn(BreakerState::Open { until: answer_by.saturating_add(OPEN_FOR) });
        }
        if let BreakerState::Open { until } = self.state
            && until <= now
        {
            let answer_by = Instant::MAX;
            self.turn(BreakerState::HalfOpen { admitted: 0, succeeded: 0, answer_by });
        }
    }

    fn call(&mut self, now: Instant, into: u8) -> bool {
        if !matches!(self.state, BreakerState::Closed { .. }) {
            self.tick(now);
        }
        let admitted = match &mut self.state {
            BreakerState::Closed { .. } => true,
            BreakerState::Open { .. } => false,
            BreakerState::HalfOpen { admitted, answer_by, .. } => {
                let probe = *admitted < PROBES;
                if probe {
                    *admitted += 1;
                    *answer_by = now.saturating_add(PROBE_TIMEOUT);
                }
                probe
            }
        };
        if admitted && let Some(pocket) = self.permits.get_mut(usize::from(into)) {
            *pocket = Some(self.epoch);
        }
        admitted
    }

    fn answer(&mut self, now: Instant, from: u8, success: bool) {
        let pocket = self.permits.get_mut(usize::from(from));
        let Some(epoch) = pocket.and_then(Option::take) else { return };
        let quick = success && matches!(self.state, BreakerState::Closed { .. });
        if !quick {
            self.tick(now);
        }
        if epoch != self.epoch {
            return;
        }
        let open = BreakerState::Open { until: now.saturating_add(OPEN_FOR) };
        match (self.state, success) {
            (BreakerState::Closed { .. }, true) => {
                self.state = BreakerState::Closed { failures: 0 }
            }
            (BreakerState::Closed { failures }, false) if failures + 1 < FAILURES => {
                self.state = BreakerState::Closed { failures: failures + 1 };
            }
            (BreakerState::HalfOpen { succeeded, .. }, true) if succeeded + 1 == PROBES => {
                self.turn(BreakerState::Closed { failures: 0 });
            }
            (BreakerState::HalfOpen { admitted, succeeded, answer_by }, true) => {
                let succeeded = succeeded + 1;
                self.state = BreakerState::HalfOpen { admitted, succeeded, answer_by };
            }
            (_, false) => self.turn(open),
            (BreakerState::Open { .. }, true) => {}
        }
    }
}

/// The bucket: parts of a token, of which a token has as many as the period has nanoseconds.
#[derive(Debug)]
struct Bucket {
    level: u128,
    at: Instant,
    tokens: u128,
    burst: u128,
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let elapsed_ns = u128::from(now.as_ns().saturating_sub(self.at.as_ns()));
        self.level = (self.level + elapsed_ns * self.tokens).min(self.burst * PERIOD_NS);
        self.at = self.at.max(now);
    }

    fn admit(&mut self, now: Instant, cost: u8) -> (bool, Option<Instant>) {
        self.refill(now);
        let cost = u128::from(cost) * PERIOD_NS;
        let admitted = cost <= self.level;
        if admitted {
            self.level -= cost;
        }
        let ready_at = (cost <= self.burst * PERIOD_NS).then(|| {
            let wait_ns = cost.saturating_sub(self.level).div_ceil(self.tokens);
            let wait_ns = u64::try_from(wait_ns).unwrap_or(u64::MAX);
            Instant::from_ns(self.at.as_ns().saturating_add(wait_ns))
        });
        (admitted, ready_at)
    }
}

/// The gate.
#[derive(Debug)]
struct Gate {
    flow: Flow,
    now: Instant,
    depth: usize,
    waiting: VecDeque<(Ticket, u64, Instant)>,
    /// What has to be told in this step.
    owed: VecDeque<GateEffect>,
    last: Option<Ticket>,
}

impl Gate {
    fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while self.flow == Flow::Park
            && let Some((ticket, _, _)) =
                self.waiting.pop_front_if(|(_, _, deadline)| *deadline <= self.now)
        {
            self.owed.push_back(GateEffect::TimedOut(ticket));
        }
    }

    fn offered(&mut self, bytes: u16, offered: Option<Offered>) -> Result<(), Failure> {
        let spilled: u64 = self.waiting.iter().map(|(_, bytes, _)| bytes).sum();
        let places = self.waiting.len() < GATE_PLACES;
        let expected = if self.depth < GATE_CAPACITY {
            self.depth += 1;
            "queued"
        } else {
            match self.flow {
                Flow::DropOldest => "queued for oldest",
                Flow::Park if places => "parked",
                Flow::Spill if places && spilled + u64::from(bytes) <= SPILL_BYTES_MAX => "spilled",
                _ => "refused",
            }
        };
        let deadline = self.now.saturating_add(PARK_TIMEOUT);
        let (found, ticket) = match offered {
            None => ("refused", None),
            Some(Offered::Queued) => ("queued", None),
            Some(Offered::QueuedForOldest) => ("queued for oldest", None),
            Some(Offered::Parked { ticket, deadline: told }) => {
                hold!(told == deadline, "gate: a wait is as long as the policy says", "{told:?}");
                ("parked", Some(ticket))
            }
            Some(Offered::Spilled { ticket }) => ("spilled", Some(ticket)),
        };
        hold!(found == expected, "gate: room and policy decide", "{found}, not {expected}");
        if let Some(ticket) = ticket {
            hold!(self.last != Some(ticket), "gate: no ticket is given twice", "{ticket:?}");
            self.last = Some(ticket);
            self.waiting.push_back((ticket, u64::from(bytes), deadline));
        }
        Ok(())
    }

    fn accept(&mut self) -> bool {
        if self.depth == 0 {
            return false;
        }
        // Its place goes to the one that has waited longest.
        match self.waiting.pop_front() {
            Some((ticket, _, _)) => self.owed.push_back(GateEffect::Admitted(ticket)),
            None => self.depth -= 1,
        }
        true
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Policies {
    now: Instant,
    input: Option<Input>,
    breaker: Breaker,
    bucket: Bucket,
    gate: Gate,
    /// Of memory and processor time: since when a lamp is lit, and since when its figure is within.
    lamps: [Option<(Instant, Option<Instant>)>; 2],
    taken: bool,
}

impl Default for Policies {
    fn default() -> Self {
        let now = Instant::ZERO;
        let breaker = Breaker {
            state: BreakerState::Closed { failures: 0 },
            epoch: 0,
            permits: [None; PERMITS],
        };
        let bucket = Bucket { level: 6 * PERIOD_NS, at: now, tokens: 4, burst: 6 };
        let gate = Gate {
            flow: Flow::Park,
            now,
            depth: 0,
            waiting: VecDeque::new(),
            owed: VecDeque::new(),
            last: None,
        };
        Self { now, input: None, breaker, bucket, gate, lamps: [None; 2], taken: false }
    }
}

impl Policies {
    fn observed(&mut self, memory: bool, tenths: u8, alert: Option<Alert>) -> Result<(), Failure> {
        let lamp = &mut self.lamps[usize::from(memory)];
        let within = tenths <= 10;
        let now = self.now;
        let expected = match lamp {
            None if within => "none",
            None => {
                *lamp = Some((now, None));
                "raised"
            }
            Some((_, since)) if !within => {
                *since = None;
                "none"
            }
            Some((_, since)) => {
                let since = *since.get_or_insert(now);
                if now.saturating_since(since) >= HOLD {
                    *lamp = None;
                    "cleared"
                } else {
                    "none"
                }
            }
        };
        let found = match alert {
            None => "none",
            Some(Alert::Raised(_)) => "raised",
            Some(Alert::Cleared { .. }) => "cleared",
        };
        hold!(found == expected, "andon: one alert for each excursion", "{found}, not {expected}");
        Ok(())
    }
}

impl Oracle for Policies {
    fn step(&mut self, now: Instant, step: &Step) {
        self.now = now;
        self.input = Some(step.input.clone());
        self.taken = false;
        match step.input {
            Input::Begin(Setup { gate, .. }) => {
                self.gate.flow = gate;
                self.bucket.at = now;
            }
            Input::Answer { from, success } => self.breaker.answer(now, from, success),
            Input::CloseBreaker => self.breaker.turn(BreakerState::Closed { failures: 0 }),
            Input::Tick => {
                self.breaker.tick(now);
                self.gate.tick(now);
            }
            Input::Offer { .. } => self.gate.tick(now),
            Input::Accept => {
                self.gate.tick(now);
                self.taken = self.gate.accept();
            }
            _ => {}
        }
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Failure> {
        match *seen {
            Seen::Called(called) => {
                let Some(Input::Call { into }) = self.input else { return Ok(()) };
                let expected = self.breaker.call(self.now, into);
                hold!(
                    called.is_ok() == expected,
                    "breaker: who is let through",
                    "{called:?} in {:?}",
                    self.breaker.state
                );
            }
            Seen::Breaker(state) => {
                let expected = self.breaker.state;
                hold!(
                    state == expected,
                    "breaker: its state follows from what was reported",
                    "{state:?} instead of {expected:?}"
                );
            }
            Seen::Admitted { admitted, ready_at } => {
                let Some(Input::Admit { cost }) = self.input else { return Ok(()) };
                let expected = self.bucket.admit(self.now, cost);
                hold!(
                    (admitted, ready_at) == expected,
                    "bucket: rate and burst",
                    "{admitted} {ready_at:?} instead of {expected:?}"
                );
            }
            Seen::RateSet(set) => {
                let Some(Input::SetRate { tokens, burst }) = self.input else { return Ok(()) };
                let sound = tokens > 0 && burst > 0;
                hold!(set.is_ok() == sound, "bucket: a limit that can't be kept", "{set:?}");
                if sound {
                    self.bucket.refill(self.now);
                    (self.bucket.tokens, self.bucket.burst) = (tokens.into(), burst.into());
                    self.bucket.level = self.bucket.level.min(self.bucket.burst * PERIOD_NS);
                }
            }
            Seen::Offered(offered) => {
                let Some(Input::Offer { bytes }) = self.input else { return Ok(()) };
                self.gate.offered(bytes, offered.ok())?;
            }
            Seen::Accepted(accepted) => {
                hold!(
                    accepted.is_ok() == self.taken,
                    "gate: what is taken was there",
                    "{accepted:?} with {}",
                    self.gate.depth
                );
            }
            Seen::Gate(effect) => {
                let expected = self.gate.owed.pop_front();
                hold!(
                    expected == Some(effect),
                    "gate: nobody overtakes and nobody is forgotten",
                    "{effect:?} instead of {expected:?}"
                );
            }
            Seen::Observed(alert) => {
                let Some(Input::Observe { memory, tenths }) = self.input else { return Ok(()) };
                self.observed(memory, tenths, alert)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn done(&mut self, _: &World) -> Result<(), Failure> {
        let owed = &self.gate.owed;
        hold!(owed.is_empty(), "gate: nobody overtakes and nobody is forgotten", "{owed:?}");
        Ok(())
    }
}
