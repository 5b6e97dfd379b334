//! Planted bugs: one in each machine, to show that the simulator finds them.
//!
//! A simulator that finds nothing may be a simulator that sees nothing. So with the feature `planted`
//! each machine has a place where it can be made to go wrong by one: a comparison that includes its
//! bound, a count that is one short, a step that is left out. `arm` switches one of them on for the
//! whole program; `duende-sim` runs until it has found it.
//!
//! The feature is for that test alone. No build that ships has it: without it nothing here is public,
//! the question at each place is the constant `false`, and nothing is left of it in the code.

#[cfg(feature = "planted")]
use core::sync::atomic::{AtomicU8, Ordering};

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A daemon is started without waiting for the first of its dependencies.
    SupervisorDependency,
    /// That a process could not be killed is forgotten, and its daemon can be started again.
    SupervisorAbandon,
    /// Who waits already when the other one fails is not told.
    SupervisorBlocked,
    /// A clean exit that comes early is charged to nobody.
    CleanExitsFree,
    /// The second half of an operator's restart is lost.
    LifecycleRestart,
    /// A restart at the very end of the period is not counted.
    LimiterSliding,
    /// The start at the very end of the fixed window opens another one.
    LimiterFixed,
    /// The first failure waits as long as the second.
    Backoff,
    /// It takes one failed check more than the threshold.
    ProbeThreshold,
    /// A sign of life does not move the deadline.
    WatchdogAlive,
    /// The least urgent level does not age.
    SchedulerAging,
    /// What a task has used beyond its budget is given to it again.
    DeadlineBudget,
    /// A sender may hold one place more than it has credits.
    ChannelCredits,
    /// One message more may be set aside than there are places.
    SpillPlaces,
    /// A receiver that missed messages misses one more, uncounted.
    FanoutMissed,
    /// Revoking a capability leaves what was delegated from it directly.
    CapsRevocation,
    /// A capability is still valid at the instant at which it expires.
    CapsExpiry,
    /// The last record of a batch is not sealed.
    AuditSeal,
    /// A subscriber that lags reads one event that is overwritten.
    BusLag,
    /// A half-open breaker admits one probe too many.
    BreakerProbes,
    /// The last token of the bucket can't be had.
    BucketBurst,
    /// The queue behind the gate holds one message too many.
    GateDepth,
    /// The last unit of a quota can't be had.
    QuotaLimit,
    /// A lamp goes out only after its hold is over.
    AndonHold,
    /// A dump begins with the event before the newest.
    RecorderDump,
    /// A quantile is that of one rank higher.
    HistogramRank,
    /// A byte that was taken from a stream is read again.
    DecoderSpare,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::SupervisorDependency,
        Self::SupervisorAbandon,
        Self::SupervisorBlocked,
        Self::CleanExitsFree,
        Self::LifecycleRestart,
        Self::LimiterSliding,
        Self::LimiterFixed,
        Self::Backoff,
        Self::ProbeThreshold,
        Self::WatchdogAlive,
        Self::SchedulerAging,
        Self::DeadlineBudget,
        Self::ChannelCredits,
        Self::SpillPlaces,
        Self::FanoutMissed,
        Self::CapsRevocation,
        Self::CapsExpiry,
        Self::AuditSeal,
        Self::BusLag,
        Self::BreakerProbes,
        Self::BucketBurst,
        Self::GateDepth,
        Self::QuotaLimit,
        Self::AndonHold,
        Self::RecorderDump,
        Self::HistogramRank,
        Self::DecoderSpare,
    ];
}

/// One more than the number of the bug that is armed; zero for none.
#[cfg(feature = "planted")]
static ARMED: AtomicU8 = AtomicU8::new(0);

/// Switches one bug on for the whole program, and all others off; `None`: all off.
#[cfg(feature = "planted")]
pub fn arm(plant: Option<Plant>) {
    ARMED.store(plant.map_or(0, |plant| plant as u8 + 1), Ordering::Relaxed);
}

/// Whether a bug is armed.
#[cfg(feature = "planted")]
pub(crate) fn is(plant: Plant) -> bool {
    ARMED.load(Ordering::Relaxed) == plant as u8 + 1
}

/// No bug is ever armed.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub(crate) const fn is(_: Plant) -> bool {
    false
}
