//! What runs slices. The kernel decides which process is next and what is called; an executor
//! enters the component and comes back when the call returned, or when the quantum is over.

use alloc::{boxed::Box, string::String, vec::Vec};

use crate::{context::Context, limits::HEALTH_CHECKS_MAX};

/// Why `run` is called: a set of flags. Empty when the last slice asked for another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WakeReasons(u16);

impl WakeReasons {
    /// The first slice of this incarnation.
    pub const STARTED: Self = Self(1);
    /// The instant asked for was reached.
    pub const TIMER: Self = Self(1 << 1);
    /// A channel holds a message.
    pub const MESSAGE: Self = Self(1 << 2);
    /// The configuration changed.
    pub const RELOAD: Self = Self(1 << 6);
    /// It was paused and goes on.
    pub const RESUMED: Self = Self(1 << 7);
    /// The pressure on what it holds has changed.
    pub const PRESSURE: Self = Self(1 << 8);
    /// It was asked to stop, and goes on until it is done.
    pub const STOPPING: Self = Self(1 << 9);
    /// All that the contract, version 0.1, has words for.
    pub const OF_0_1: Self = Self(0b1100_0111);
    /// All that the contract, version 0.2, has words for.
    pub const OF_0_2: Self = Self(0b111_1111_1111);

    /// The bits, in the order of the contract's flags.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether every reason of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether none is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What `run` is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Why the slice runs.
    pub reasons: WakeReasons,
    /// When it was started, on the kernel's monotonic clock, in nanoseconds.
    pub now_ns: u64,
}

/// How a daemon says that it ends, or that it failed: the contract's `outcome`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// An exit code, by the table of [`restart`](duende_core::restart).
    pub code: u8,
    /// For people.
    pub text: String,
}

impl Ending {
    /// It has done its work.
    #[must_use]
    pub const fn done() -> Self {
        Self { code: 0, text: String::new() }
    }

    /// It failed.
    #[must_use]
    pub const fn failed(text: String) -> Self {
        Self { code: 1, text }
    }
}

/// What a daemon waits for after a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another slice, as soon as the scheduler allows.
    Again,
    /// This instant, in nanoseconds, or anything that arrives earlier.
    Until(u64),
    /// Anything that arrives.
    Wait,
    /// Nothing: it ends.
    Exit(Ending),
}

/// How a daemon, or a part of it, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthStatus {
    /// Working.
    Healthy,
    /// Working, with less than promised.
    Degraded,
    /// Not working.
    Unhealthy,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: String,
    /// How it is.
    pub status: HealthStatus,
    /// More about it; may be empty.
    pub detail: String,
}

/// What a daemon says of its health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The whole.
    pub status: HealthStatus,
    /// What is missing or wrong; may be empty.
    pub detail: String,
    /// The single things, as many as the contract admits.
    pub checks: Vec<Check>,
}

impl Health {
    /// All is well.
    #[must_use]
    pub const fn healthy() -> Self {
        Self { status: HealthStatus::Healthy, detail: String::new(), checks: Vec::new() }
    }

    /// Everything that is said of it, in one line: the detail, and each check that is not well.
    #[must_use]
    pub(crate) fn line(&self) -> String {
        let mut line = self.detail.clone();
        let unwell = self.checks.iter().filter(|check| check.status != HealthStatus::Healthy);
        for check in unwell.take(HEALTH_CHECKS_MAX) {
            if !line.is_empty() {
                line.push_str("; ");
            }
            line.push_str(&check.name);
            if !check.detail.is_empty() {
                line.push_str(": ");
                line.push_str(&check.detail);
            }
        }
        line
    }
}

/// The value of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// A total that only grows.
    Counter(f64),
    /// A level.
    Gauge(f64),
    /// A distribution, by cumulative counts.
    Histogram {
        /// How many values.
        count: u64,
        /// Their sum.
        sum: f64,
        /// Upper bounds, ascending, each with how many values are not above it.
        buckets: Vec<(f64, u64)>,
    },
}

/// One figure that a daemon reports of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// Its labels, by name.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: SampleValue,
}

/// An export to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `init`, which also instantiates the component.
    Init,
    /// `run`
    Run(Wake),
    /// `shutdown`, with the instant in nanoseconds at which the daemon is killed.
    Shutdown {
        /// When the grace is over.
        deadline_ns: u64,
    },
    /// `health-check`
    HealthCheck,
    /// `metrics`
    Metrics,
}

/// The exports of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Export {
    Init,
    Run,
    Shutdown,
    HealthCheck,
    Metrics,
}

impl Export {
    /// Its name in the contract.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Run => "run",
            Self::Shutdown => "shutdown",
            Self::HealthCheck => "health-check",
            Self::Metrics => "metrics",
        }
    }
}

impl Call {
    /// Which export it calls.
    pub(crate) const fn export(self) -> Export {
        match self {
            Self::Init => Export::Init,
            Self::Run(_) => Export::Run,
            Self::Shutdown { .. } => Export::Shutdown,
            Self::HealthCheck => Export::HealthCheck,
            Self::Metrics => Export::Metrics,
        }
    }

    /// Whether it is a `run` that is told this reason.
    pub(crate) const fn tells(self, reason: WakeReasons) -> bool {
        matches!(self, Self::Run(wake) if wake.reasons.contains(reason))
    }
}

/// What an export returned.
#[derive(Clone, Debug, PartialEq)]
pub enum Return {
    /// From `init`.
    Init(Result<(), Ending>),
    /// From `run`.
    Run(Result<Next, Ending>),
    /// From `shutdown`.
    Shutdown(Result<Next, Ending>),
    /// From `health-check`.
    HealthCheck(Health),
    /// From `metrics`.
    Metrics(Vec<Sample>),
}

/// How a slice failed. The instance is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It trapped; the text says where and why.
    Trap(String),
    /// It ran longer than its budget.
    SliceBudget,
    /// It could not be instantiated, and can't be.
    Refused(String),
    /// There is no room for it now.
    NoRoom(String),
}

/// How far a call came.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// The quantum is over or the kernel's owner wants attention; the slice is still open.
    Preempted,
    /// The export returned.
    Returned(Return),
    /// The slice failed.
    Failed(Fault),
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState<I> {
    /// It can be instantiated.
    Ready(I),
    /// It is being made ready: the owner calls [`Kernel::image_settled`](crate::Kernel::image_settled)
    /// with its name later.
    Pending,
    /// It cannot be used; the text says why and what to do.
    Unusable(String),
    /// It cannot be used now; the text says why. Whoever waits for it ends, and is started again.
    Unavailable(String),
}

/// Runs slices.
pub trait Executor {
    /// A component, ready to be instantiated.
    type Image;
    /// One instance, between slices or in one.
    type Instance;

    /// Finds an image, and begins to make it ready if need be.
    fn image(&mut self, name: &str) -> ImageState<Self::Image>;

    /// Makes an instance. It runs none of the component's code before [`Call::Init`].
    fn create(&mut self, image: Self::Image, context: Box<Context>) -> Self::Instance;

    /// The context, at a slice boundary; none while a slice is open.
    fn context<'a>(&self, instance: &'a mut Self::Instance) -> Option<&'a mut Context>;

    /// The reasons to be woken that its contract has words for: it is not woken for others.
    fn reasons(&self, instance: &Self::Instance) -> WakeReasons;

    /// Opens a slice. Called at a slice boundary only.
    fn enter(&mut self, instance: &mut Self::Instance, call: Call);

    /// Runs the open slice until it returns, fails or is to be preempted.
    fn resume(&mut self, instance: &mut Self::Instance) -> Progress;
}
