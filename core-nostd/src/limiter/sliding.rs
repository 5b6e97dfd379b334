//! A window that ends at each restart and looks back, as OTP's supervisors count
//! (`supervisor:add_restart/3`).
//!
//! Rules:
//! 1. A restart at `now` is admitted if at most `intensity` restarts, itself included, lie within the
//!    last period, its first instant included. OTP counts whole seconds, this counts nanoseconds.
//! 2. Only the last `intensity` admitted restarts matter: the oldest of them decides alone.
//! 3. A clock that steps back makes no stamp older than it is: the window does not open by it.

use core::time::Duration;

use super::IntensityError;
use crate::epitaph::{Epitaph, invariant};
use crate::planted::{self, Plant};
use crate::ring::Ring;
use crate::time::{Instant, duration_ns};

#[derive(Clone, Debug)]
pub(super) struct Sliding<S> {
    /// Not more than `stamps` has places.
    intensity: usize,
    period_ns: u64,
    /// The last admitted restarts.
    stamps: Ring<Instant, S>,
}

impl<S: AsRef<[Instant]> + AsMut<[Instant]>> Sliding<S> {
    pub(super) fn new(
        storage: S,
        intensity: u32,
        period: Duration,
    ) -> Result<Self, IntensityError> {
        let stamps = Ring::new(storage);
        let intensity_max = stamps.capacity();
        let error = IntensityError { intensity, intensity_max };
        let wanted = usize::try_from(intensity).map_err(|_| error)?;
        if wanted > intensity_max {
            return Err(error);
        }
        Ok(Self { intensity: wanted, period_ns: duration_ns(period), stamps })
    }

    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let Some(nth) = self.intensity.checked_sub(1) else { return false };
        if let Some(oldest) = self.stamps.newest(nth)
            && now.as_ns().saturating_sub(oldest.as_ns())
                <= self.period_ns.saturating_sub(u64::from(planted::is(Plant::LimiterSliding)))
        {
            return false;
        }
        self.stamps.push(now);
        true
    }

    pub(super) const fn clear(&mut self) {
        self.stamps.clear();
    }

    pub(super) fn check_invariants(&self) -> Result<(), Epitaph> {
        self.stamps.check_invariants()?;
        let (intensity, capacity) = (self.intensity, self.stamps.capacity());
        invariant!(intensity <= capacity, "limiter counts {intensity} in {capacity} places");
        invariant!(self.period_ns > 0, "limiter without a period");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_one_says_so() {
        let good = || Sliding::new([Instant::ZERO; 2], 2, Duration::from_nanos(5)).unwrap();
        assert_eq!(good().check_invariants(), Ok(()));
        let mut spoiled = good();
        spoiled.stamps.spoil(1, 2);
        assert_eq!(spoiled.check_invariants(), Ok(()), "a full ring is at any place");
        spoiled.stamps.spoil(0, 3);
        let spacious = Sliding { intensity: 3, ..good() };
        let timeless = Sliding { period_ns: 0, ..good() };
        for mut broken in [spoiled, spacious, timeless] {
            assert!(broken.check_invariants().is_err(), "{broken:?}");
            // It is halted, but asking it does no harm.
            let _ = broken.admit(Instant::MAX);
        }
    }
}
