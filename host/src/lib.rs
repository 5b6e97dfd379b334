//! The manager of daemons and its command line, and the names that users of the framework look for.
//!
//! This is the program `duende`: see `ARCHITECTURE.md` at the top of the repository. A native daemon
//! that lives from sockets and timers links crate `duende-daemon` alone; all that it has is here too:
//!
//! ```no_run
//! use std::{process::ExitCode, time::Duration};
//!
//! use duende::{
//!     Daemon, DaemonConfig, DaemonContext, DaemonError, DaemonId, DaemonMetrics, ExitReason,
//!     HealthStatus, run_daemon,
//! };
//!
//! struct MyDaemon {
//!     id: DaemonId,
//!     metrics: DaemonMetrics,
//! }
//!
//! impl Daemon for MyDaemon {
//!     fn id(&self) -> DaemonId {
//!         self.id
//!     }
//!     fn name(&self) -> &str {
//!         "my-daemon"
//!     }
//!     async fn init(&mut self, _config: &DaemonConfig) -> Result<(), DaemonError> {
//!         Ok(())
//!     }
//!     // `&self`, and so is `shutdown`: both are at work while health is asked for.
//!     async fn run(&self, ctx: &DaemonContext) -> Result<ExitReason, DaemonError> {
//!         while !ctx.should_shutdown() {
//!             tokio::time::sleep(Duration::from_millis(100)).await;
//!         }
//!         Ok(ExitReason::Graceful)
//!     }
//!     async fn shutdown(&self, _timeout: Duration) -> Result<(), DaemonError> {
//!         Ok(())
//!     }
//!     async fn health_check(&self) -> HealthStatus {
//!         HealthStatus::healthy(Duration::from_millis(5))
//!     }
//!     fn metrics(&self) -> DaemonMetrics {
//!         self.metrics.clone()
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     run_daemon(MyDaemon { id: DaemonId::from_bits(1), metrics: DaemonMetrics::new() })
//! }
//! ```
//!
//! Without the feature `manager` there is no program; `formats` is the part of it that reads what
//! others wrote.

pub mod bus;

#[cfg(feature = "formats")]
pub mod backend;
#[cfg(feature = "manager")]
mod children;
#[cfg(feature = "manager")]
pub mod cli;
#[cfg(feature = "formats")]
mod clock;
#[cfg(feature = "manager")]
pub mod compile;
#[cfg(feature = "formats")]
pub mod config;
#[cfg(feature = "manager")]
pub mod confine;
#[cfg(feature = "formats")]
pub mod control;
#[cfg(feature = "formats")]
pub mod daemon_log;
#[cfg(feature = "manager")]
pub mod doctor;
#[cfg(feature = "manager")]
pub mod image;
#[cfg(feature = "manager")]
pub mod keep;
#[cfg(feature = "manager")]
mod lock_file;
#[cfg(feature = "formats")]
pub mod manager;
#[cfg(feature = "manager")]
pub mod monitor;
#[cfg(feature = "formats")]
pub mod notification;
#[cfg(feature = "formats")]
mod own_file;
#[cfg(feature = "formats")]
pub mod platform;
#[cfg(feature = "formats")]
mod reach;
#[cfg(feature = "formats")]
mod regular_file;
#[cfg(feature = "manager")]
mod schedule;
#[cfg(any(feature = "formats", feature = "sources"))]
pub mod source;
#[cfg(feature = "manager")]
pub mod store;
#[cfg(feature = "formats")]
mod terminal;
#[cfg(feature = "manager")]
pub mod worker;

pub use bus::{Bus, Subscriber};
#[cfg(feature = "manager")]
#[doc(inline)]
pub use duende_daemon::{
    CONFIG_BYTES_MAX, CONFIG_ENTRIES_MAX, CheckResult, Daemon, DaemonConfig, DaemonContext,
    DaemonError, DaemonId, DaemonMetrics, ExitReason, HealthCheck, HealthStatus, METRICS_MAX,
    Priority, Reload, SHUTDOWN_TIMEOUT_DEFAULT, Sample, Signal, log, run_daemon,
};

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
