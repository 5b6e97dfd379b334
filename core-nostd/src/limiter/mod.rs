//! How many restarts are too many.
//!
//! Rules:
//! 1. A limiter admits a restart or refuses it; what follows a refusal (quarantine) is the caller's.
//!    Which starts it is asked about is said by [`Limiter::start_by_operator`] and
//!    [`Window::counts_every_start`].
//! 2. There are two kinds of window, as users know them; they differ in what they admit, so neither
//!    stands for the other. [`Window::Sliding`] is OTP's, [`Window::Fixed`] is systemd's.
//! 3. A refused restart leaves no mark under either.
//! 4. A period of zero limits nothing, as systemd's `StartLimitIntervalSec=0`.
//! 5. An answer takes the same time however often was asked, and divides nothing.
//!
//! ```
//! use core::time::Duration;
//! use duende_core::limiter::{Limiter, RestartLimit, Window};
//! use duende_core::time::Instant;
//!
//! let second = |n| Instant::ZERO.saturating_add(Duration::from_secs(n));
//! let limit = RestartLimit { intensity: 2, ..RestartLimit::SYSTEMD }; // 2 per 10 s
//!
//! // systemd's window opens with the first restart and is empty again when it is over …
//! let mut fixed = Limiter::new([], limit)?;
//! assert_eq!([0, 9, 10, 11, 12].map(|at| fixed.admit(second(at))), [true, true, false, true, true]);
//!
//! // … OTP's looks back from each one, so the one at 12 s still sees that at 9 s.
//! let mut sliding = Limiter::new([Instant::ZERO; 2], RestartLimit { window: Window::Sliding, ..limit })?;
//! assert_eq!([0, 9, 10, 11, 12].map(|at| sliding.admit(second(at))), [true, true, false, true, false]);
//! # Ok::<(), duende_core::limiter::IntensityError>(())
//! ```

use core::time::Duration;

use crate::epitaph::Epitaph;
use crate::time::Instant;

mod fixed;
mod sliding;

use fixed::Fixed;
use sliding::Sliding;

/// How the period of a [`RestartLimit`] lies in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Window {
    /// It ends at each restart and looks back: OTP's restart intensity. An intensity of zero admits
    /// nothing.
    #[default]
    Sliding,
    /// It opens at the first restart, and the next one after it is over opens another: systemd's
    /// start limit. An intensity of zero admits everything, as `StartLimitBurst=0`.
    Fixed,
}

impl Window {
    /// Whether every start is to be admitted, whatever led to it, as systemd counts: then the
    /// limiter is asked about restarts after clean exits too. If not, only restarts that are charged
    /// as failures count.
    #[must_use]
    pub const fn counts_every_start(self) -> bool {
        match self {
            Self::Sliding => false,
            Self::Fixed => true,
        }
    }
}

/// At most `intensity` restarts per `period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RestartLimit {
    /// How many restarts are admitted within a period. What zero means is the window's.
    pub intensity: u32,
    /// The length of the window. Zero: no limit. 584 years and more: the window never ends.
    pub period: Duration,
    /// How the period lies in time.
    pub window: Window,
}

impl RestartLimit {
    /// Any number of restarts.
    pub const UNLIMITED: Self =
        Self { intensity: 0, period: Duration::ZERO, window: Window::Sliding };
    /// systemd's default: 5 starts per 10 s, those of operators included.
    pub const SYSTEMD: Self =
        Self { intensity: 5, period: Duration::from_secs(10), window: Window::Fixed };
    /// OTP's default: 1 restart per 5 s.
    pub const OTP: Self =
        Self { intensity: 1, period: Duration::from_secs(5), window: Window::Sliding };

    const fn is_unlimited(self) -> bool {
        let any_number = match self.window {
            Window::Sliding => false,
            Window::Fixed => self.intensity == 0,
        };
        self.period.is_zero() || any_number
    }
}

impl Default for RestartLimit {
    /// 5 restarts per 60 s, sliding.
    fn default() -> Self {
        Self { intensity: 5, period: Duration::from_secs(60), window: Window::Sliding }
    }
}

/// The limit can't be kept with this storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("a limit of {intensity} restarts per period, at most {intensity_max} can be counted")]
pub struct IntensityError {
    /// What was asked for.
    pub intensity: u32,
    /// The most that the storage counts.
    pub intensity_max: usize,
}

/// Counts restarts against a [`RestartLimit`].
#[derive(Clone, Debug)]
pub struct Limiter<S> {
    limit: RestartLimit,
    counter: Counter<S>,
}

#[derive(Clone, Debug)]
enum Counter<S> {
    Unlimited,
    Sliding(Sliding<S>),
    Fixed(Fixed),
}

impl<S: AsRef<[Instant]> + AsMut<[Instant]>> Limiter<S> {
    /// A limiter that has seen no restart. Only a sliding window needs `stamps`, as many as its
    /// intensity.
    ///
    /// # Errors
    /// [`IntensityError`], when `stamps` is shorter than the intensity of a sliding window.
    pub fn new(stamps: S, limit: RestartLimit) -> Result<Self, IntensityError> {
        let counter = match limit.window {
            _ if limit.is_unlimited() => Counter::Unlimited,
            Window::Sliding => {
                Counter::Sliding(Sliding::new(stamps, limit.intensity, limit.period)?)
            }
            Window::Fixed => Counter::Fixed(Fixed::new(limit.intensity, limit.period)),
        };
        Ok(Self { limit, counter })
    }

    /// The limit that is kept.
    #[must_use]
    pub const fn limit(&self) -> RestartLimit {
        self.limit
    }

    /// Admits a restart at `now`, or refuses it.
    #[must_use]
    pub fn admit(&mut self, now: Instant) -> bool {
        match &mut self.counter {
            Counter::Unlimited => true,
            Counter::Sliding(sliding) => sliding.admit(now),
            Counter::Fixed(fixed) => fixed.admit(now),
        }
    }

    /// Admits a start that an operator asked for, or refuses it. Under a sliding window it is
    /// admitted and everything before it is forgotten; under a fixed one it counts as any other, as
    /// in systemd, and only [`clear`](Self::clear) (`systemctl reset-failed`) makes room before the
    /// window is over.
    ///
    /// ```
    /// use duende_core::limiter::{Limiter, RestartLimit};
    /// use duende_core::time::Instant;
    ///
    /// let now = Instant::ZERO;
    /// let mut limiter = Limiter::new([], RestartLimit { intensity: 1, ..RestartLimit::SYSTEMD })?;
    /// assert!(limiter.admit(now));
    /// assert!(!limiter.start_by_operator(now));
    /// limiter.clear();
    /// assert!(limiter.start_by_operator(now));
    /// # Ok::<(), duende_core::limiter::IntensityError>(())
    /// ```
    #[must_use]
    pub fn start_by_operator(&mut self, now: Instant) -> bool {
        if self.limit.window.counts_every_start() {
            return self.admit(now);
        }
        self.clear();
        true
    }

    /// Forgets every restart: an operator releases what was quarantined.
    pub const fn clear(&mut self) {
        match &mut self.counter {
            Counter::Unlimited => {}
            Counter::Sliding(sliding) => sliding.clear(),
            Counter::Fixed(fixed) => fixed.clear(),
        }
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        match &self.counter {
            Counter::Unlimited => Ok(()),
            Counter::Sliding(sliding) => sliding.check_invariants(),
            Counter::Fixed(fixed) => fixed.check_invariants(),
        }
    }
}

#[cfg(test)]
mod tests;
