//! How long a daemon that ended waits before it is started again.
//!
//! Rules:
//! 1. A [`Curve`] says the *ceiling* of the delay from how many restarts in a row came before; the
//!    curves that users know have constructors that carry the names of the systems they are from.
//! 2. [`Jitter`] says where below the ceiling the delay lies, so that daemons that fell together
//!    don't come back together. The entropy is the caller's; no other system does this by default.
//! 3. An initial delay of zero means no delay at all, whatever the cap.
//! 4. Forgetting is the [`supervisor`](crate::supervise)'s, since it does the counting: after how
//!    long a run is said by [`STABLE_AFTER`] and [`KUBERNETES_STABLE_AFTER`].
//!
//! ```
//! use core::time::Duration;
//! use duende_core::backoff::{Backoff, Jitter};
//!
//! // Ours: up to 100 ms at first, up to 30 s in the end, anywhere below.
//! let ours = Backoff::default();
//! assert_eq!(ours.delay(0, u64::MAX), Duration::from_millis(100));
//! assert_eq!(ours.delay(2, u64::MAX / 2), Duration::from_millis(200));
//! assert_eq!(ours.delay(50, u64::MAX), Duration::from_secs(30));
//! assert_eq!(ours.delay(50, 0), Duration::ZERO);
//!
//! // systemd with RestartSec=1, RestartSteps=4, RestartMaxDelaySec=16: entropy plays no part.
//! let systemd = Backoff::systemd(Duration::from_secs(1), 4, Duration::from_secs(16));
//! let seconds = [0, 1, 2, 3, 4, 5].map(|restarts| systemd.delay(restarts, 7).as_secs());
//! assert_eq!(seconds, [1, 2, 4, 8, 16, 16]);
//!
//! // The same, but never all at once: between half of the ceiling and all of it.
//! let spread = Backoff { jitter: Jitter::Equal, ..systemd };
//! assert_eq!(spread.delay(4, 0), Duration::from_secs(8));
//! ```

use core::time::Duration;

use crate::planted::{self, Plant};
use crate::time::duration_ns;

mod jitter;
mod steps;

pub use jitter::Jitter;
pub use steps::Steps;

/// How long a daemon must have run for its earlier failures to be forgotten, if nothing else is said.
pub const STABLE_AFTER: Duration = Duration::from_secs(60);

/// The same for Kubernetes, which forgets what happened before ten minutes without a restart.
pub const KUBERNETES_STABLE_AFTER: Duration = Duration::from_secs(600);

/// How the ceiling grows with the number of restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    /// It does not.
    Constant(Duration),
    /// It doubles with each restart.
    Exponential {
        /// The ceiling of the first restart. Zero: every restart is immediate.
        initial: Duration,
        /// The highest ceiling.
        cap: Duration,
    },
    /// The first restart is immediate, and then it doubles.
    AtOnceThenExponential {
        /// The ceiling of the second restart. Zero: every restart is immediate.
        initial: Duration,
        /// The highest ceiling.
        cap: Duration,
    },
    /// It grows by half with each restart, rounded down to whole milliseconds as pm2 does: what is
    /// too short to gain one stays as it is.
    ByHalf {
        /// The ceiling of the first restart. Zero: every restart is immediate.
        initial: Duration,
        /// The highest ceiling.
        cap: Duration,
    },
    /// It grows by the same length with each restart.
    Linear {
        /// The ceiling of the first restart, and what each further one adds. Zero: every restart is
        /// immediate.
        step: Duration,
        /// The highest ceiling.
        cap: Duration,
    },
    /// One length for the first restarts, another for the rest.
    TwoTier {
        /// The ceiling of the first restarts.
        first: Duration,
        /// How many those are.
        count: u32,
        /// The ceiling of the rest.
        then: Duration,
    },
    /// It grows by the same factor with each restart and reaches its end in a number of steps.
    Steps(Steps),
}

/// How long to wait before a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    /// The longest delay.
    pub curve: Curve,
    /// Where below it the delay lies.
    pub jitter: Jitter,
}

impl Default for Backoff {
    /// 100 ms, doubling up to 30 s, full jitter.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100), Duration::from_secs(30))
    }
}

impl Backoff {
    /// No delay.
    pub const NONE: Self = Self { curve: Curve::Constant(Duration::ZERO), jitter: Jitter::None };

    /// Doubling from `initial` up to `cap`, with full jitter.
    #[must_use]
    pub const fn exponential(initial: Duration, cap: Duration) -> Self {
        Self { curve: Curve::Exponential { initial, cap }, jitter: Jitter::Full }
    }

    /// systemd: `RestartSec`, `RestartSteps`, `RestartMaxDelaySec`. Its defaults are 100 ms, 0 and
    /// infinity, which is a constant delay.
    #[must_use]
    pub fn systemd(restart: Duration, steps: u32, restart_max: Duration) -> Self {
        let curve = Curve::Steps(Steps::new(restart, steps, restart_max));
        Self { curve, jitter: Jitter::None }
    }

    /// Kubernetes: at once, then 10 s doubling to 300 s; forgotten after
    /// [`KUBERNETES_STABLE_AFTER`].
    #[must_use]
    pub const fn kubernetes() -> Self {
        let (initial, cap) = (Duration::from_secs(10), Duration::from_secs(300));
        Self { curve: Curve::AtOnceThenExponential { initial, cap }, jitter: Jitter::None }
    }

    /// pm2 with `exp_backoff_restart_delay`: from `initial` half as much again each time, up to 15 s.
    #[must_use]
    pub const fn pm2(initial: Duration) -> Self {
        let curve = Curve::ByHalf { initial, cap: Duration::from_secs(15) };
        Self { curve, jitter: Jitter::None }
    }

    /// supervisord: 1 s, and one more with each try.
    #[must_use]
    pub const fn supervisord() -> Self {
        let curve = Curve::Linear { step: Duration::from_secs(1), cap: Duration::MAX };
        Self { curve, jitter: Jitter::None }
    }

    /// finit: 2 s for the first five tries, 5 s for the rest. Ten tries are all it makes:
    /// `max_retries`.
    #[must_use]
    pub const fn finit() -> Self {
        let (first, then) = (Duration::from_secs(2), Duration::from_secs(5));
        Self { curve: Curve::TwoTier { first, count: 5, then }, jitter: Jitter::None }
    }

    /// dinit: 200 ms.
    #[must_use]
    pub const fn dinit() -> Self {
        Self { curve: Curve::Constant(Duration::from_millis(200)), jitter: Jitter::None }
    }

    /// The longest delay after `failures` earlier restarts in a row.
    #[must_use]
    pub fn ceiling(&self, failures: u32) -> Duration {
        Duration::from_nanos(self.curve.ceiling_ns(failures))
    }

    /// The delay after `failures` earlier restarts in a row. `entropy` is uniform over all of `u64`.
    #[must_use]
    pub fn delay(&self, failures: u32, entropy: u64) -> Duration {
        let failures = failures.saturating_add(u32::from(planted::is(Plant::Backoff)));
        Duration::from_nanos(self.jitter.below(self.curve.ceiling_ns(failures), entropy))
    }
}

impl Curve {
    fn ceiling_ns(&self, failures: u32) -> u64 {
        match *self {
            Self::Constant(length) => duration_ns(length),
            Self::Exponential { initial, cap } => doubled(initial, failures, cap),
            Self::AtOnceThenExponential { initial, cap } => match failures.checked_sub(1) {
                None => 0,
                Some(failures) => doubled(initial, failures, cap),
            },
            Self::ByHalf { initial, cap } => grown_by_half(initial, failures, cap),
            Self::Linear { step, cap } => {
                let tries = u64::from(failures).saturating_add(1);
                duration_ns(step).saturating_mul(tries).min(duration_ns(cap))
            }
            Self::TwoTier { first, count, then } => {
                duration_ns(if failures < count { first } else { then })
            }
            Self::Steps(steps) => steps.ceiling_ns(failures),
        }
    }
}

fn doubled(initial: Duration, times: u32, cap: Duration) -> u64 {
    let (initial_ns, cap_ns) = (duration_ns(initial), duration_ns(cap));
    if initial_ns == 0 {
        return 0;
    }
    // Shifting by no more than the leading zeros loses no bit.
    if times > initial_ns.leading_zeros() {
        return cap_ns;
    }
    initial_ns.checked_shl(times).unwrap_or(cap_ns).min(cap_ns)
}

fn grown_by_half(initial: Duration, times: u32, cap: Duration) -> u64 {
    const MS_NS: u64 = 1_000_000;
    let cap_ns = duration_ns(cap);
    let mut delay_ns = duration_ns(initial).min(cap_ns);
    for _ in 0..times {
        let grown_ns = delay_ns.saturating_add(delay_ns / 2);
        let next_ns = (grown_ns - grown_ns % MS_NS).max(delay_ns).min(cap_ns);
        // It has reached its end. It does so soon, however many times are asked for: each turn adds
        // a third of what it is, and it has 64 bits.
        if next_ns == delay_ns {
            break;
        }
        delay_ns = next_ns;
    }
    delay_ns
}

#[cfg(test)]
mod tests;
