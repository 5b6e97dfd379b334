//! When a daemon that should report is taken for stuck: systemd's `WatchdogSec`.
//!
//! Rules:
//! 1. A daemon that has become ready must say that it is alive again and again, with less than
//!    `timeout` in between; the first time counts from when it became ready. At the deadline itself it
//!    is too late.
//! 2. A timeout of zero, or one that can't be counted (`infinity`), watches nothing.
//! 3. A sign of life never brings the deadline forward, though the clock may have stepped back.
//! 4. A pause moves the deadline by its own length.
//!
//! ```
//! use core::time::Duration;
//! use duende_core::time::Instant;
//! use duende_core::watchdog::Watchdog;
//!
//! let second = |n| Instant::ZERO.saturating_add(Duration::from_secs(n));
//! let ready_at = second(5);
//! let mut watchdog = Watchdog::new(Duration::from_secs(30), ready_at).expect("30 s are watched");
//! assert_eq!(watchdog.deadline(), second(35));
//! watchdog.alive(second(20));
//! assert!(!watchdog.is_expired(second(49)));
//! assert!(watchdog.is_expired(second(50)));
//! ```

use core::time::Duration;

use crate::epitaph::{Epitaph, invariant};
use crate::planted::{self, Plant};
use crate::time::{Instant, duration_ns};

/// Watches one incarnation.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog {
    timeout: Duration,
    deadline: Instant,
}

impl Watchdog {
    /// Watches a daemon that became ready at `now`; `None` if `timeout` switches it off.
    #[must_use]
    pub fn new(timeout: Duration, now: Instant) -> Option<Self> {
        let is_on = !timeout.is_zero() && duration_ns(timeout) < u64::MAX;
        is_on.then(|| Self { timeout, deadline: now.saturating_add(timeout) })
    }

    /// The daemon says that it is alive.
    pub fn alive(&mut self, now: Instant) {
        if planted::is(Plant::WatchdogAlive) {
            return;
        }
        self.deadline = self.deadline.max(now.saturating_add(self.timeout));
    }

    /// When it counts as stuck, if nothing is heard of it.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether it counts as stuck.
    #[must_use]
    pub fn is_expired(&self, now: Instant) -> bool {
        self.deadline <= now
    }

    /// Moves the deadline by the length of a pause.
    pub fn shift(&mut self, by: Duration) {
        self.deadline = self.deadline.saturating_add(by);
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        let timeout_ns = duration_ns(self.timeout);
        invariant!(timeout_ns > 0 && timeout_ns < u64::MAX, "watchdog waits {timeout_ns} ns");
        let deadline_ns = self.deadline.as_ns();
        invariant!(deadline_ns >= timeout_ns, "watchdog barks at {deadline_ns} ns");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// systemd's: the last sign of life, plus the timeout.
        #[test]
        fn expires_one_timeout_after_the_last_sign_of_life(
            timeout_ns in 1..100_u64,
            start_ns in prop_oneof![Just(0), 0..1000_u64, Just(u64::MAX - 300), Just(u64::MAX)],
            steps in proptest::collection::vec((0..60_u64, 0..4_u8), 0..50),
        ) {
            let mut now_ns = u128::from(start_ns);
            let mut watchdog = Watchdog::new(
                Duration::from_nanos(timeout_ns),
                Instant::from_ns(start_ns),
            ).unwrap();
            let mut heard_ns = now_ns;
            for (step_ns, what) in steps {
                now_ns = (now_ns + u128::from(step_ns)).min(u128::from(u64::MAX));
                let now = Instant::from_ns(u64::try_from(now_ns).unwrap());
                match what {
                    0 => {
                        watchdog.alive(now);
                        heard_ns = now_ns;
                    }
                    1 => {
                        watchdog.shift(Duration::from_nanos(step_ns));
                        heard_ns = heard_ns.saturating_add(u128::from(step_ns));
                    }
                    _ => {}
                }
                let deadline_ns = (heard_ns + u128::from(timeout_ns)).min(u128::from(u64::MAX));
                prop_assert_eq!(u128::from(watchdog.deadline().as_ns()), deadline_ns);
                prop_assert_eq!(watchdog.is_expired(now), deadline_ns <= now_ns);
                prop_assert_eq!(watchdog.check_invariants(), Ok(()));
            }
        }
    }

    #[test]
    fn zero_and_infinity_watch_nothing() {
        for timeout in [Duration::ZERO, Duration::from_nanos(u64::MAX), Duration::MAX] {
            assert!(Watchdog::new(timeout, Instant::ZERO).is_none(), "{timeout:?}");
        }
    }

    #[test]
    fn a_clock_that_steps_back_shortens_nothing() {
        let mut watchdog = Watchdog::new(Duration::from_nanos(5), Instant::from_ns(100)).unwrap();
        watchdog.alive(Instant::from_ns(3));
        assert_eq!(watchdog.deadline(), Instant::from_ns(105));
    }

    #[test]
    fn a_broken_one_says_so() {
        let (timeout, deadline) = (Duration::ZERO, Instant::ZERO);
        assert!(Watchdog { timeout, deadline }.check_invariants().is_err());
        let timeout = Duration::from_nanos(2);
        assert!(Watchdog { timeout, deadline }.check_invariants().is_err());
    }
}
