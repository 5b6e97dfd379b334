//! The words of the contract: the types of `wit/daemon.wit`, the same on every target.

use core::fmt;
use core::ops::Add;
use core::time::Duration;

use crate::failure::Outcome;

bitflags::bitflags! {
    /// Why a slice runs. Reasons coalesce: several may be set, and one slice answers them all.
    /// Empty when the last slice returned [`Next::Again`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct WakeReasons: u16 {
        /// The first slice of this incarnation.
        const STARTED = 1;
        /// The instant given with [`Next::Until`] was reached.
        const TIMER = 1 << 1;
        /// A channel holds at least one message.
        const MESSAGE = 1 << 2;
        /// The configuration changed: read it again, or [refuse](crate::Config::refuse) it. Stays set
        /// until a slice has seen it.
        const RELOAD = 1 << 6;
        /// The kernel had paused the daemon, and it goes on; or it was restored, forked or moved. Stays
        /// set until a slice has seen it. A native process is paused by signals and notices nothing.
        const RESUMED = 1 << 7;
        /// Something that the daemon holds is scarce, or is no longer: see
        /// [`pressure`](crate::Context::pressure).
        const PRESSURE = 1 << 8;
        /// The daemon was asked to stop, and its `shutdown` asked for more slices.
        const STOPPING = 1 << 9;
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more work: run again as soon as the scheduler allows.
    Again,
    /// Run at this instant, or earlier if something arrives.
    Until(Instant),
    /// Run when something arrives; at once if something arrived during the slice, or is left in a channel
    /// that the slice received from.
    Wait,
    /// The daemon ends. The slice commits, whatever the code is.
    Exit(Outcome),
}

impl Next {
    /// The daemon has done its work.
    #[must_use]
    pub const fn done() -> Self {
        Self::Exit(Outcome::done())
    }
}

/// How a daemon, or a part of it, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthStatus {
    /// Working.
    Healthy,
    /// Working, with less than it promises. Counts as healthy.
    Degraded,
    /// Not working. Counts towards the failure threshold.
    Unhealthy,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What.
    pub name: String,
    /// How it is.
    pub status: HealthStatus,
    /// More about it; may be empty.
    pub detail: String,
}

/// What a daemon says of its own health.
///
/// ```
/// use duende_sdk::{Health, HealthStatus};
///
/// let health = Health::degraded("serving from the cache").with_check("database", HealthStatus::Unhealthy, "away");
/// assert_eq!(health.status, HealthStatus::Degraded);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The whole: what counts, whatever the checks say.
    pub status: HealthStatus,
    /// What is missing or wrong; may be empty.
    pub detail: String,
    /// The single things; at most 16 of those that are not well are told.
    pub checks: Vec<HealthCheck>,
}

impl Health {
    /// It is so.
    #[must_use]
    pub fn new(status: HealthStatus, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), checks: Vec::new() }
    }

    /// Working.
    #[must_use]
    pub const fn healthy() -> Self {
        Self { status: HealthStatus::Healthy, detail: String::new(), checks: Vec::new() }
    }

    /// Working, with less than it promises; the text says what is missing.
    #[must_use]
    pub fn degraded(detail: impl Into<String>) -> Self {
        Self::new(HealthStatus::Degraded, detail)
    }

    /// Not working; the text says why.
    #[must_use]
    pub fn unhealthy(detail: impl Into<String>) -> Self {
        Self::new(HealthStatus::Unhealthy, detail)
    }

    /// Adds one thing that was looked at.
    #[must_use]
    pub fn with_check(
        mut self,
        name: impl Into<String>,
        status: HealthStatus,
        detail: impl Into<String>,
    ) -> Self {
        self.checks.push(HealthCheck { name: name.into(), status, detail: detail.into() });
        self
    }
}

/// The value of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// A total that only grows within one incarnation; exact up to 2^53.
    Counter(f64),
    /// A level that may go up and down.
    Gauge(f64),
    /// A distribution, by cumulative counts.
    Histogram {
        /// How many values.
        count: u64,
        /// Their sum.
        sum: f64,
        /// Upper bounds, ascending, each with how many values are not above it; at most 32.
        buckets: Vec<(f64, u64)>,
    },
}

/// One figure that a daemon reports of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Of the form `[a-zA-Z_:][a-zA-Z0-9_:]*`, at most 64 bytes; the unit ends the name.
    pub name: String,
    /// Labels by name, at most 8.
    pub labels: Vec<(String, String)>,
    /// The value, in the unit that the name ends with.
    pub value: SampleValue,
}

impl Sample {
    fn new(name: impl Into<String>, value: SampleValue) -> Self {
        Self { name: name.into(), labels: Vec::new(), value }
    }

    /// A total that only grows.
    #[must_use]
    pub fn counter(name: impl Into<String>, value: f64) -> Self {
        Self::new(name, SampleValue::Counter(value))
    }

    /// A level.
    #[must_use]
    pub fn gauge(name: impl Into<String>, value: f64) -> Self {
        Self::new(name, SampleValue::Gauge(value))
    }

    /// A distribution: how many values there are, their sum, and how many are not above each bound.
    #[must_use]
    pub fn histogram(
        name: impl Into<String>,
        count: u64,
        sum: f64,
        buckets: Vec<(f64, u64)>,
    ) -> Self {
        Self::new(name, SampleValue::Histogram { count, sum, buckets })
    }

    /// Adds a label.
    #[must_use]
    pub fn with_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }
}

/// A value of the configuration, or of a field of a log line.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text, a date or a time.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A truth value.
    Boolean(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u64> for Value {
    /// Saturates.
    fn from(value: u64) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

/// A time of day, in UTC, without leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Datetime {
    /// Since 1970-01-01T00:00:00Z; negative before.
    pub seconds: i64,
    /// 0 to 999,999,999, always forward from the seconds.
    pub nanoseconds: u32,
}

impl Datetime {
    /// How long after 1970-01-01T00:00:00Z it is; zero before.
    #[must_use]
    pub fn since_epoch(self) -> Duration {
        u64::try_from(self.seconds)
            .map_or(Duration::ZERO, |seconds| Duration::new(seconds, self.nanoseconds))
    }
}

/// How scarce something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scarcity {
    /// There is room.
    Calm,
    /// Put off what can wait, and drop caches.
    Elevated,
    /// Shed load: the next call may be refused, or one was.
    Critical,
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
    /// Somebody has to come.
    Critical,
}

/// Which part of an item a message is: a line that is longer than a message may be comes in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// Its beginning. The last part may never come: its writer died within it, say.
    First,
    /// Neither its beginning nor its end.
    Middle,
    /// Its end.
    Last,
}

/// One message of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number in the channel, which grows. Delivered again, it has the same number.
    pub sequence: u64,
    /// 1; one more for each incarnation that it was delivered to before and that did not commit it.
    pub attempt: u32,
    /// Which part of a longer item it is.
    pub part: Part,
    /// The bytes, at most 65,536.
    pub payload: Vec<u8>,
}

/// Why a call was refused. A refused call had no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The configuration does not grant this capability.
    Denied,
    /// Nothing of that name or number.
    NotFound,
    /// An argument can't be what it is; the text says why.
    Invalid(String),
    /// Longer than this limit, in bytes or in elements.
    TooLarge(u64),
    /// The quota of this name would be passed.
    QuotaExceeded(String),
    /// No room now.
    Full,
    /// Not now; if it is known, how long until trying again may help.
    Unavailable(Option<Duration>),
    /// Anything else: a word, a colon, and a text for people.
    Other(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => {
                f.write_str("denied: add the capability to `grant` in the configuration")
            }
            Self::NotFound => f.write_str(
                "not found: a channel has a `[daemon.channel.NAME]` table in the configuration",
            ),
            Self::Invalid(why) => f.write_str(why),
            Self::TooLarge(limit) => write!(f, "over the limit of {limit}"),
            Self::QuotaExceeded(name) => write!(f, "the quota `{name}` would be passed"),
            Self::Full => f.write_str("there is no room now"),
            Self::Unavailable(None) => f.write_str("not available now"),
            Self::Unavailable(Some(wait)) => write!(f, "not available for {wait:?}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl core::error::Error for Error {}
