//! The words of the contract: the types of `wit/daemon.wit`, the same on every target.

use core::fmt;
use core::ops::Add;
use core::time::Duration;

bitflags::bitflags! {
    /// Why a slice runs. Reasons coalesce: several may be set, and one slice answers them all.
    /// Empty when the last slice returned [`Next::Again`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct WakeReasons: u8 {
        /// The first slice of this incarnation.
        const STARTED = 1;
        /// The instant given with [`Next::Until`] was reached.
        const TIMER = 1 << 1;
        /// A channel holds at least one message.
        const MESSAGE = 1 << 2;
        /// An operator or another daemon sent a signal. Nobody sends one yet.
        const SIGNAL = 1 << 3;
        /// The configuration changed: read it again. Stays set until a slice has seen it.
        const RELOAD = 1 << 4;
        /// The kernel had paused the daemon, and it goes on; or it was restored, forked or moved. Stays
        /// set until a slice has seen it. A native process is paused by signals and notices nothing.
        const RESUMED = 1 << 5;
    }
}

/// A point on the daemon's monotonic clock, which on WOS stands while the daemon is paused. Its zero
/// is unspecified: instants are compared with each other and never stored in `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    /// Since the clock's zero.
    pub nanoseconds: u64,
}

impl Instant {
    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanoseconds.saturating_sub(earlier.nanoseconds))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the end of time, 584 years after the clock's zero.
    fn add(self, length: Duration) -> Self {
        let nanoseconds = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Self { nanoseconds: self.nanoseconds.saturating_add(nanoseconds) }
    }
}

/// What a slice is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Why it runs.
    pub reasons: WakeReasons,
    /// When it was started.
    pub now: Instant,
}

/// What a daemon waits for after a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more work: run again as soon as the scheduler allows.
    Again,
    /// Run at this instant, or earlier if something arrives.
    Until(Instant),
    /// Run when something arrives; at once if something arrived during the slice. What a slice left
    /// in a channel does not count as an arrival: return [`Next::Again`] to get it.
    Wait,
    /// The daemon has done its work and ends gracefully.
    Exit,
}

/// What a daemon says of its own health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Working.
    Healthy,
    /// Working, with less than it promises; the text says what is missing. Counts as healthy.
    Degraded(String),
    /// Not working; the text says why. Counts towards the failure threshold.
    Unhealthy(String),
}

/// Whether a sample only grows or is a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleKind {
    /// A total that only grows within one incarnation.
    Counter,
    /// A level that may go up and down.
    Gauge,
}

/// One figure that a daemon reports of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Of the form `[a-zA-Z_:][a-zA-Z0-9_:]*`, at most 64 bytes; the unit ends the name.
    pub name: String,
    /// Counter or gauge.
    pub kind: SampleKind,
    /// The value, in the unit that the name ends with.
    pub value: f64,
}

/// How urgent a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For following single steps.
    Trace,
    /// For finding a fault.
    Debug,
    /// Normal course.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
}

/// One message of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// 1 for the first message of this incarnation, then without gaps.
    pub sequence: u64,
    /// The bytes, at most 65,536.
    pub payload: Vec<u8>,
}

/// Why a call was refused. A refused call had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The configuration does not grant this capability.
    Denied,
    /// No channel of that name is configured.
    UnknownChannel,
    /// A name, key, value, message or line is over its limit.
    TooLarge,
    /// A name is empty or has characters that are not allowed.
    InvalidName,
    /// A quota of the daemon would be passed.
    QuotaExceeded,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Denied => "denied: add the capability to `grant` in the configuration",
            Self::UnknownChannel => {
                "no such channel: add a `[daemon.channel.NAME]` table to the configuration"
            }
            Self::TooLarge => "over the contract's size limit",
            Self::InvalidName => "empty name, or characters that are not allowed in one",
            Self::QuotaExceeded => "a quota of the daemon would be passed",
        })
    }
}

impl core::error::Error for Error {}

/// Lets `?` end a slice with the refusal as its reason.
impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}
