//! A window that opens at a restart and stays where it is, as systemd counts (`ratelimit_below`).
//!
//! Rules:
//! 1. A window opens at the first admitted restart, and again at the first one after it is over:
//!    when more than the period has passed since it opened. At exactly the period it is still open.
//! 2. Within a window the first `intensity` restarts are admitted.
//! 3. A clock that steps back before the window's beginning leaves it open. (systemd's difference
//!    of unsigned numbers would wrap and open another; its clock can't step back.)
//!
//! systemd takes an instant of zero for «no window yet»; here that is told apart.

use core::time::Duration;

use crate::epitaph::{Epitaph, invariant};
use crate::planted::{self, Plant};
use crate::time::{Instant, duration_ns};

#[derive(Clone, Debug)]
pub(super) struct Fixed {
    /// Not zero: that is no limit.
    intensity: u32,
    period_ns: u64,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    since: Instant,
    /// Restarts admitted since, at least the one that opened it.
    admitted: u32,
}

impl Fixed {
    pub(super) fn new(intensity: u32, period: Duration) -> Self {
        Self { intensity, period_ns: duration_ns(period), open: None }
    }

    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let period_ns = self.period_ns.saturating_sub(u64::from(planted::is(Plant::LimiterFixed)));
        match &mut self.open {
            Some(open) if now.as_ns().saturating_sub(open.since.as_ns()) <= period_ns => {
                let admits = open.admitted < self.intensity;
                if admits {
                    open.admitted = open.admitted.saturating_add(1);
                }
                admits
            }
            Some(_) | None => {
                self.open = Some(Open { since: now, admitted: 1 });
                true
            }
        }
    }

    pub(super) const fn clear(&mut self) {
        self.open = None;
    }

    pub(super) fn check_invariants(&self) -> Result<(), Epitaph> {
        let intensity = self.intensity;
        invariant!(intensity > 0 && self.period_ns > 0, "limiter without a limit");
        if let Some(Open { admitted, .. }) = self.open {
            let within = (1..=intensity).contains(&admitted);
            invariant!(within, "limiter admitted {admitted} of {intensity}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_one_says_so() {
        let good = Fixed::new(2, Duration::from_nanos(5));
        let open = |admitted| Some(Open { since: Instant::ZERO, admitted });
        for admitted in [1, 2] {
            let sound = Fixed { open: open(admitted), ..good.clone() };
            assert_eq!(sound.check_invariants(), Ok(()));
        }
        for broken in [
            Fixed { intensity: 0, ..good.clone() },
            Fixed { period_ns: 0, ..good.clone() },
            Fixed { open: open(0), ..good.clone() },
            Fixed { open: open(3), ..good },
        ] {
            assert!(broken.check_invariants().is_err(), "{broken:?}");
        }
    }
}
