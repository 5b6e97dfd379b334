//! The trait of native daemons, and the runtime that a daemon's `main` hands itself to.
//!
//! A program implements [`Daemon`] and calls [`run_daemon`]; from then on it starts, becomes ready,
//! reloads, answers for its health and stops the same way under the manager, under systemd and in a
//! terminal. Of Duende it links the core alone, whose messages it speaks: no manager, no kernel, no
//! engine. Crate `duende` has all of this under the same names.
//!
//! Rules:
//! 1. `run`, `shutdown`, `health_check` and `metrics` take `&self`: health and figures can be asked
//!    for while `run` works, and stopping happens beside it.
//! 2. All of a daemon is polled on one thread. Work that blocks belongs on
//!    `tokio::task::spawn_blocking`; a daemon that blocks its thread answers no health check, and so
//!    counts as not live. That is meant.
//! 3. Whoever started the process can be absent or can die. A lost link or notify socket is said on
//!    stderr and never ends a daemon that works.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use std::time::Duration;
//!
//! use duende_daemon::{
//!     DaemonConfig, Daemon, DaemonContext, DaemonError, DaemonId, ExitReason, HealthStatus, run_daemon,
//! };
//!
//! struct Idle(DaemonId);
//!
//! impl Daemon for Idle {
//!     fn id(&self) -> DaemonId {
//!         self.0
//!     }
//!     fn name(&self) -> &str {
//!         "idle"
//!     }
//!     async fn init(&mut self, _config: &DaemonConfig) -> Result<(), DaemonError> {
//!         Ok(())
//!     }
//!     async fn run(&self, ctx: &DaemonContext) -> Result<ExitReason, DaemonError> {
//!         ctx.notify_ready();
//!         ctx.shutdown_requested().await;
//!         Ok(ExitReason::Graceful)
//!     }
//!     async fn health_check(&self) -> HealthStatus {
//!         HealthStatus::healthy(Duration::ZERO)
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     run_daemon(Idle(DaemonId::from_bits(1)))
//! }
//! ```

mod config;
mod context;
mod exit;
mod health;
mod id;
mod inherited;
mod link;
mod log;
mod metrics;
mod notify;
mod runtime;

use std::time::Duration;

pub use config::{CONFIG_BYTES_MAX, CONFIG_ENTRIES_MAX, DaemonConfig};
pub use context::{DaemonContext, Reload};
pub use exit::{DaemonError, ExitReason, Signal};
pub use health::{CheckResult, HealthCheck, HealthStatus};
pub use id::DaemonId;
pub use log::{Priority, log};
pub use metrics::{DaemonMetrics, METRICS_MAX, Sample};
pub use runtime::{SHUTDOWN_TIMEOUT_DEFAULT, run_daemon};

/// A native daemon.
///
/// The runtime calls [`init`](Self::init) once, then [`run`](Self::run) once; the others may be
/// called at any time between the two ends of `run`.
///
/// The futures are `Send`, so that a program of its own design may drive a daemon on a runtime with
/// many threads; implementations just write `async fn`.
pub trait Daemon: Send + Sync + 'static {
    /// Which instance this is. Differs between two instances of the same program.
    fn id(&self) -> DaemonId;

    /// What people call it, in logs.
    fn name(&self) -> &str;

    /// Acquires what the daemon needs and refuses a configuration that can't work. Called once,
    /// before anything else.
    ///
    /// # Errors
    /// Whatever makes it impossible to run, with the way out in its text. The process ends with
    /// exit code 1.
    fn init(
        &mut self,
        config: &DaemonConfig,
    ) -> impl Future<Output = Result<(), DaemonError>> + Send;

    /// The daemon's work. Ends when the work is done, or soon after
    /// [`DaemonContext::shutdown_requested`].
    ///
    /// # Errors
    /// Whatever keeps the daemon from working. The process ends with exit code 1.
    fn run(
        &self,
        ctx: &DaemonContext,
    ) -> impl Future<Output = Result<ExitReason, DaemonError>> + Send;

    /// Helps `run` to end within `timeout`: called once, beside `run`, when the daemon was asked to
    /// stop. The process ends when both have returned, or when `timeout` is over. A daemon whose
    /// `run` ends promptly by itself has nothing to do here.
    ///
    /// # Errors
    /// What could not be put in order. The process then ends with exit code 1.
    fn shutdown(&self, timeout: Duration) -> impl Future<Output = Result<(), DaemonError>> + Send {
        let _ = timeout;
        async { Ok(()) }
    }

    /// Looks whether the daemon works, by direct observation. Asked for at any time while `run`
    /// works; should return well within a second.
    fn health_check(&self) -> impl Future<Output = HealthStatus> + Send;

    /// The daemon's own figures.
    fn metrics(&self) -> DaemonMetrics {
        DaemonMetrics::new()
    }
}
