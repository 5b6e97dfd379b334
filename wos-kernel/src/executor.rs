//! What runs slices. The kernel decides which process is next and what is called; an executor
//! enters the component and comes back when the call returned, or when the quantum is over.

use alloc::{boxed::Box, string::String, vec::Vec};

use crate::context::Context;

/// Why `run` is called: a set of flags. Empty when the last slice asked for another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WakeReasons(u8);

impl WakeReasons {
    /// The first slice of this incarnation.
    pub const STARTED: Self = Self(1);
    /// The instant asked for was reached.
    pub const TIMER: Self = Self(1 << 1);
    /// A channel holds a message.
    pub const MESSAGE: Self = Self(1 << 2);
    /// The configuration changed.
    pub const RELOAD: Self = Self(1 << 4);
    /// It was paused and goes on.
    pub const RESUMED: Self = Self(1 << 5);

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

/// What a daemon waits for after a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another slice, as soon as the scheduler allows.
    Again,
    /// This instant, in nanoseconds, or anything that arrives earlier.
    Until(u64),
    /// Anything that arrives.
    Wait,
    /// Nothing: it ends gracefully.
    Exit,
}

/// What a daemon says of its health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Working.
    Healthy,
    /// Working, with less than promised.
    Degraded(String),
    /// Not working.
    Unhealthy(String),
}

/// One figure that a daemon reports of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// Whether it only grows.
    pub counter: bool,
    /// Its value.
    pub value: f64,
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
    Init(Result<(), String>),
    /// From `run`.
    Run(Result<Next, String>),
    /// From `shutdown`.
    Shutdown(Result<(), String>),
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
    /// It could not be instantiated for want of a resource of the kernel.
    Refused(String),
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

    /// Opens a slice. Called at a slice boundary only.
    fn enter(&mut self, instance: &mut Self::Instance, call: Call);

    /// Runs the open slice until it returns, fails or is to be preempted.
    fn resume(&mut self, instance: &mut Self::Instance) -> Progress;
}
