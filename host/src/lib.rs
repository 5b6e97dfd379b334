//! The manager of daemons, its command line, and the traits of native daemons.
//!
//! A native daemon links this crate without the feature `manager` and finds [`Daemon`],
//! [`DaemonContext`] and [`run_daemon`]. Everything else is the program `duende`: see
//! `ARCHITECTURE.md` at the top of the repository. The feature `formats` is the part of it that reads
//! what others wrote.

pub mod bus;
pub mod daemon;

#[cfg(feature = "formats")]
pub mod backend;
#[cfg(feature = "manager")]
mod children;
#[cfg(feature = "manager")]
pub mod cli;
#[cfg(feature = "formats")]
mod clock;
#[cfg(feature = "formats")]
pub mod config;
#[cfg(feature = "formats")]
pub mod control;
#[cfg(feature = "formats")]
pub mod daemon_log;
#[cfg(feature = "manager")]
pub mod doctor;
#[cfg(feature = "manager")]
pub mod keep;
#[cfg(feature = "formats")]
pub mod manager;
#[cfg(feature = "manager")]
pub mod monitor;
#[cfg(feature = "formats")]
pub mod notification;
#[cfg(feature = "formats")]
pub mod platform;
#[cfg(feature = "manager")]
mod schedule;
#[cfg(feature = "manager")]
pub mod source;
#[cfg(feature = "manager")]
pub mod store;
#[cfg(feature = "formats")]
mod terminal;
#[cfg(feature = "manager")]
pub mod worker;

pub use bus::{Bus, Subscriber};
pub use daemon::{
    CONFIG_BYTES_MAX, CONFIG_ENTRIES_MAX, CheckResult, ConfigView, Daemon, DaemonContext,
    DaemonError, DaemonId, DaemonMetrics, ExitReason, HealthCheck, HealthStatus, METRICS_MAX,
    Priority, Reload, SHUTDOWN_TIMEOUT_DEFAULT, Sample, Signal, log, run_daemon,
};

#[cfg(feature = "formats")]
pub use config::DaemonConfig;
#[cfg(feature = "formats")]
pub use control::protocol::HealthState;
/// What the quick start of the specification names, as the core has it.
#[doc(inline)]
pub use duende_core::{
    backoff::Backoff as BackoffConfig,
    bus::KernelEvent,
    lifecycle::FailureReason,
    policy::{
        breaker::Breaker as CircuitBreaker, jidoka::JidokaGate, thresholds::PolicyThresholds,
    },
    restart::RestartPolicy,
    trace::TraceContext,
};
#[cfg(feature = "manager")]
pub use monitor::DaemonMonitor;
