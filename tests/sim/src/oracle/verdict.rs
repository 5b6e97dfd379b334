//! Of one daemon: what is counted of its ends, and what should become of the next one. The rules of
//! `supervise` and `restart`, said again.

use std::time::Duration;

use duende_core::lifecycle::{FailureReason, State, StopCause, Stopping, Then};
use duende_core::time::Instant;
use duende_world::{End, TEMPLATES};

const STABLE_NS: u64 = 40_000_000;

/// The shortest wait before what something outside prevented is tried again.
const OBSTACLE_NS_MIN: u64 = 100_000_000;

/// What a template of the world comes to, in this oracle's words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    after_success: bool,
    after_failure: bool,
    retries_max: Option<u32>,
    /// So many restarts in so much time; none is no limit.
    limit: Option<(u32, Duration)>,
    /// Whether the limit counts as systemd does; else as OTP does.
    fixed_window: bool,
    /// The longest wait after the first failure, and after any.
    backoff_ns: (u64, u64),
    /// How many questions whether it works may fail in a row.
    pub(super) failures_max: Option<u32>,
    /// Whether it has to give signs of life.
    pub(super) watched: bool,
    /// Whether a probe says that it has come up.
    pub(super) comes_up_by_probe: bool,
}

impl Plan {
    /// Of a template.
    pub(super) fn of(template: u8) -> Self {
        let ms = Duration::from_millis;
        let base = Self {
            after_success: false,
            after_failure: true,
            retries_max: None,
            limit: Some((5, ms(60))),
            fixed_window: false,
            backoff_ns: (1_000_000, 8_000_000),
            failures_max: None,
            watched: false,
            comes_up_by_probe: false,
        };
        match template % TEMPLATES {
            1 => Self { after_success: true, ..base },
            2 => Self { failures_max: Some(2), ..base },
            3 => Self { retries_max: Some(3), limit: None, ..base },
            4 => Self { after_failure: false, backoff_ns: (60_000_000, 400_000_000), ..base },
            5 => Self { backoff_ns: (0, 8_000_000), ..base },
            6 => Self { after_success: true, failures_max: Some(1), ..base },
            7 => Self { limit: Some((1, ms(10))), ..base },
            8 => Self { watched: true, ..base },
            9 => Self { comes_up_by_probe: true, ..base },
            11 => {
                Self { after_success: true, limit: Some((1, ms(10))), fixed_window: true, ..base }
            }
            _ => base,
        }
    }
}

/// What is counted of a daemon's ends.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// How it is supervised.
    pub(super) plan: Plan,
    /// Failures in a row.
    failures: u32,
    /// Ends in a row that were failures or came early.
    charged: u32,
    /// Starts in a row that something outside prevented or ended.
    obstacles: u32,
    /// How its last process ended.
    pub(super) last_end: Option<End>,
    /// When it was started again, as its limit counts.
    stamps: Vec<u64>,
    /// Since when it is up, put forward by its pauses.
    ready_at: Option<u64>,
    /// Since when it is paused.
    pub(super) paused_at: Option<u64>,
}

impl Record {
    /// Of a daemon that was never started.
    pub(super) const fn new(plan: Plan) -> Self {
        Self {
            plan,
            failures: 0,
            charged: 0,
            obstacles: 0,
            last_end: None,
            stamps: Vec::new(),
            ready_at: None,
            paused_at: None,
        }
    }

    /// It is made anew.
    pub(super) const fn spawned(&mut self) {
        self.ready_at = None;
    }

    /// It is up: nothing outside keeps it from that any more, unless that is what it may lose again.
    pub(super) fn came_up(&mut self, now: u64) {
        self.ready_at = Some(now);
        if self.last_end != Some(End::Lost) {
            self.obstacles = 0;
        }
    }

    /// Its pause is over. How long that was.
    pub(super) fn resumed(&mut self, now: u64) -> u64 {
        let length = now.saturating_sub(self.paused_at.take().unwrap_or(now));
        self.ready_at = self.ready_at.map(|at| at.saturating_add(length));
        length
    }

    /// What should become of an exit.
    pub(super) fn verdict(&mut self, from: State, end: End, now: u64, entropy: u64) -> State {
        let plan = self.plan;
        let until = self.paused_at.unwrap_or(now);
        let stable = self.ready_at.is_some_and(|at| until.saturating_sub(at) >= STABLE_NS);
        if stable {
            (self.failures, self.charged, self.obstacles) = (0, 0, 0);
        }
        let failure = match from {
            State::Stopping(Stopping::Asked { then, .. } | Stopping::Killing { then, .. }) => {
                return match then {
                    Then::Stop => State::Stopped(StopCause::Operator),
                    Then::GiveUp => State::Stopped(StopCause::GaveUp),
                    Then::Start => State::Starting(duende_core::lifecycle::Starting::Waiting),
                };
            }
            // What came from outside is what it was condemned for, too.
            State::Stopping(
                Stopping::Condemned { reason, .. } | Stopping::CondemnedKilling { reason, .. },
            ) if !is_outer(end) => Some(reason),
            _ => failure(end),
        };
        if is_outer(end) {
            // The policy speaks of how programs end: not of what keeps them from being started.
            if !plan.after_failure && end == End::Lost {
                return State::Failed(FailureReason::Lost);
            }
            let wait_ns = self.wait_ns(self.obstacles, entropy).max(OBSTACLE_NS_MIN);
            self.obstacles += 1;
            return State::Backoff {
                until: Instant::from_ns(now.saturating_add(wait_ns)),
                failure,
            };
        }
        match failure {
            None if !plan.after_success => return State::Stopped(StopCause::Finished),
            None => {}
            Some(reason) => {
                let used_up = plan.retries_max.is_some_and(|max| self.failures >= max);
                if !plan.after_failure || reason == FailureReason::Refused || used_up {
                    return State::Failed(reason);
                }
            }
        }
        // A clean end costs nothing after a stable run only.
        let is_charged = failure.is_some() || !stable;
        if (is_charged || plan.fixed_window)
            && let Some((restarts, period)) = plan.limit
            && !self.admit(now)
        {
            return State::Failed(FailureReason::Quarantined { restarts, period });
        }
        let row = if is_charged { self.charged } else { 0 };
        self.charged += u32::from(is_charged);
        self.failures += u32::from(failure.is_some());
        let wait_ns = self.wait_ns(row, entropy);
        State::Backoff { until: Instant::from_ns(now.saturating_add(wait_ns)), failure }
    }

    /// Whether the limit admits a start.
    fn admit(&mut self, now: u64) -> bool {
        let Some((restarts, period)) = self.plan.limit else { return true };
        let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        if self.plan.fixed_window {
            // systemd's: the first of them opens a window, and the next after its end another one.
            if self.stamps.first().is_some_and(|begin| now.saturating_sub(*begin) > period_ns) {
                self.stamps.clear();
            }
        } else {
            // OTP's `add_restart`, to the letter: of those within the period, how many?
            self.stamps.retain(|stamp| *stamp >= now.saturating_sub(period_ns));
        }
        let admitted = self.stamps.len() < usize::try_from(restarts).unwrap_or(usize::MAX);
        if admitted {
            self.stamps.push(now);
        }
        admitted
    }

    /// An operator starts it anew, which forgives it; but systemd's limit counts that, too.
    pub(super) fn started_by_operator(&mut self, now: u64) {
        let stamps = std::mem::take(&mut self.stamps);
        self.forgive();
        if self.plan.fixed_window {
            self.stamps = stamps;
            self.admit(now);
        }
    }

    /// An operator forgets what it did.
    pub(super) fn forgive(&mut self) {
        (self.failures, self.charged, self.obstacles) = (0, 0, 0);
        self.stamps.clear();
    }

    /// Doubling one at a time, and full jitter.
    fn wait_ns(&self, row: u32, entropy: u64) -> u64 {
        let (mut ceiling, cap) = self.plan.backoff_ns;
        for _ in 0..row {
            ceiling = (ceiling * 2).min(cap);
        }
        let delay = (u128::from(entropy) * (u128::from(ceiling) + 1)) >> 64;
        u64::try_from(delay).unwrap_or(u64::MAX)
    }
}

/// Whether an end lies outside of the daemon.
pub(super) const fn is_outer(end: End) -> bool {
    matches!(end, End::Lost | End::Unavailable | End::Code(75))
}

/// Which ends are failures: all but code 0 and systemd's clean signals.
pub(super) fn failure(end: End) -> Option<FailureReason> {
    Some(match end {
        End::Code(0) | End::Signal(1 | 2 | 13 | 15) => return None,
        End::Code(75) => FailureReason::Unavailable(duende_core::restart::Unavailable::TempFail),
        End::Code(77 | 78) => FailureReason::Refused,
        End::Code(code) => FailureReason::ExitCode(i32::from(code)),
        End::Signal(signal) => FailureReason::Signal(i32::from(signal)),
        End::Error => FailureReason::Error,
        End::Trap => FailureReason::Trap,
        End::SliceBudget => FailureReason::SliceBudget,
        End::Refused => FailureReason::Refused,
        End::Lost => FailureReason::Lost,
        End::Unavailable => FailureReason::Unavailable(duende_core::restart::Unavailable::Memory),
    })
}
