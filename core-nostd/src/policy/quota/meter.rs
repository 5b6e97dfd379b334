//! The meter of one resource in one group: what is used of how much, and what pressure that is.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::epitaph::{Epitaph, invariant};
use crate::planted::{self, Plant};
use crate::policy::ratio::BasisPoints;
use crate::time::Instant;

/// How near a group is to its limit, from lowest to highest.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Pressure {
    /// There is room. Left at 80 % of the limit.
    #[default]
    Calm,
    /// Back off: put off what can wait, and drop caches. Left at 95 % of the limit, or below 70 %.
    Elevated,
    /// Shed load: the next charge may be refused, or one was. Left below 85 % of the limit.
    Critical,
}

const ELEVATED_FROM: BasisPoints = BasisPoints::from_percent(80);
const ELEVATED_DOWN_TO: BasisPoints = BasisPoints::from_percent(70);
const CRITICAL_FROM: BasisPoints = BasisPoints::from_percent(95);
const CRITICAL_DOWN_TO: BasisPoints = BasisPoints::from_percent(85);

/// Counts one resource against its limit.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    limit: u64,
    /// By the group and those below it.
    used: u64,
    /// By the group itself.
    own: u64,
    pressure: Pressure,
    /// Since when the pressure is critical; means nothing if it is not.
    critical_since: Instant,
}

impl Meter {
    pub(super) const fn new(limit: u64) -> Self {
        let critical_since = Instant::ZERO;
        Self { limit, used: 0, own: 0, pressure: Pressure::Calm, critical_since }
    }

    pub(super) const fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) const fn used(&self) -> u64 {
        self.used
    }

    pub(super) const fn own(&self) -> u64 {
        self.own
    }

    pub(super) const fn pressure(&self) -> Pressure {
        self.pressure
    }

    pub(super) fn has_room_for(&self, amount: u64) -> bool {
        let one_less = u64::from(planted::is(Plant::QuotaLimit));
        let limit = self.limit.saturating_sub(one_less);
        self.used.checked_add(amount).is_some_and(|used| used <= limit)
    }

    pub(super) fn is_critical_for(&self, grace: Duration, now: Instant) -> bool {
        self.pressure == Pressure::Critical && now.saturating_since(self.critical_since) >= grace
    }

    /// Takes what there is room for. The pressure, if it changed.
    pub(super) fn take(&mut self, amount: u64, now: Instant) -> Option<Pressure> {
        self.used = self.used.saturating_add(amount);
        self.settle(now)
    }

    pub(super) const fn take_own(&mut self, amount: u64) {
        self.own = self.own.saturating_add(amount);
    }

    /// Gives back what was taken. The pressure, if it changed.
    pub(super) fn give_back(&mut self, amount: u64, now: Instant) -> Option<Pressure> {
        self.used = self.used.saturating_sub(amount);
        self.settle(now)
    }

    pub(super) const fn give_back_own(&mut self, amount: u64) {
        self.own = self.own.saturating_sub(amount);
    }

    /// Begins anew with nothing used. The pressure, if it changed.
    pub(super) fn forget(&mut self) -> Option<Pressure> {
        (self.used, self.own) = (0, 0);
        self.change(Pressure::Calm)
    }

    /// Sets the limit. The pressure, if it changed.
    pub(super) fn set_limit(&mut self, limit: u64, now: Instant) -> Option<Pressure> {
        self.limit = limit;
        self.settle(now)
    }

    /// A charge was refused here. The pressure, if it changed.
    pub(super) fn refuse(&mut self, now: Instant) -> Option<Pressure> {
        self.press(Pressure::Critical, now)
    }

    pub(super) fn check_invariants(&self) -> Result<(), Epitaph> {
        let Self { limit, used, own, pressure, .. } = *self;
        invariant!(own <= used, "meter: {own} own of {used} used");
        // A refusal makes it critical, whatever is used.
        let settled = self.settled() == pressure || pressure == Pressure::Critical;
        invariant!(settled, "meter: {pressure:?} at {used} of {limit}");
        Ok(())
    }

    fn settle(&mut self, now: Instant) -> Option<Pressure> {
        self.press(self.settled(), now)
    }

    /// The pressure that follows from what is used and from the pressure before.
    fn settled(&self) -> Pressure {
        let Self { limit, used, pressure, .. } = *self;
        if used == 0 || limit == u64::MAX {
            return Pressure::Calm;
        }
        let (critical, elevated) = match pressure {
            Pressure::Calm => (CRITICAL_FROM, ELEVATED_FROM),
            Pressure::Elevated => (CRITICAL_FROM, ELEVATED_DOWN_TO),
            Pressure::Critical => (CRITICAL_DOWN_TO, ELEVATED_DOWN_TO),
        };
        if critical.is_reached_by(used, limit) {
            Pressure::Critical
        } else if elevated.is_reached_by(used, limit) {
            Pressure::Elevated
        } else {
            Pressure::Calm
        }
    }

    fn press(&mut self, pressure: Pressure, now: Instant) -> Option<Pressure> {
        let change = self.change(pressure);
        if change == Some(Pressure::Critical) {
            self.critical_since = now;
        }
        change
    }

    /// The one place where the pressure becomes another one.
    fn change(&mut self, pressure: Pressure) -> Option<Pressure> {
        let before = core::mem::replace(&mut self.pressure, pressure);
        (before != pressure).then_some(pressure)
    }
}
