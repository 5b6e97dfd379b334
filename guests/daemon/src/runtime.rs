//! The life of a native daemon, from `main` to the exit code.
//!
//! ```text
//! handshake (link only) → init → run ──────────────────────────────→ exit
//!                                 └ asked to stop → run ∥ shutdown ─┘
//! ```
//! SIGTERM and SIGINT ask to stop, SIGHUP to reload; a second SIGTERM or SIGINT ends the wait for an
//! orderly end. The link, where there is one, is answered beside `init` and `run`.

use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use duende_core::{supervise::STOP_GRACE_DEFAULT, wire::link::Outcome};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use super::context::{Stop, StopCause};
use super::inherited::Inherited;
use super::link::{Link, LinkError, ServeEnd};
use super::{Daemon, DaemonConfig, DaemonContext, DaemonError, ExitReason, Priority, Signal, log};

/// How long a daemon that a signal asks to stop may take: as long as the manager would give it.
pub const SHUTDOWN_TIMEOUT_DEFAULT: Duration = STOP_GRACE_DEFAULT;

/// How long a manager that does not read may keep a finished daemon from ending.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a daemon to its end and says what the process should end with; `main` returns it.
///
/// Call it first of all, before the program starts threads: it takes `NOTIFY_SOCKET` and
/// `DUENDE_LINK_FD` out of the environment, so that children do not inherit them.
///
/// Failures are written to stderr, with the level prefixes of sd-daemon(3) unless it is a terminal.
pub fn run_daemon<D: Daemon>(daemon: D) -> ExitCode {
    let (name, id) = (daemon.name().to_owned(), daemon.id());
    let reason = start(daemon).unwrap_or_else(ExitReason::Error);
    let priority = if reason.is_clean() { Priority::Info } else { Priority::Error };
    log(priority, format_args!("{name} [{id}]: {reason}"));
    reason.exit_code()
}

fn start<D: Daemon>(daemon: D) -> Result<ExitReason, DaemonError> {
    let inherited = Inherited::take()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|source| {
            DaemonError::Io { what: "cannot start the runtime".to_owned(), source }
        })?;
    let reason = runtime.block_on(async {
        let ctx = DaemonContext::new(inherited.notifier);
        listen_to_signals(&ctx).map_err(|source| DaemonError::Io {
            what: "cannot listen to signals".to_owned(),
            source,
        })?;
        let link = inherited.link.map(Link::new).transpose();
        let link = link.map_err(|source| DaemonError::Io {
            what: "cannot use the link to the manager".to_owned(),
            source,
        })?;
        live(daemon, &ctx, link).await
    });
    // A blocking call that hangs (a dead network file system) must not keep the process.
    runtime.shutdown_background();
    reason
}

fn listen_to_signals(ctx: &DaemonContext) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let ctx = ctx.clone();
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                () = received(&mut terminate) => Signal::Terminate,
                () = received(&mut interrupt) => Signal::Interrupt,
                () = received(&mut hangup) => {
                    ctx.request_reload();
                    continue;
                }
            };
            ctx.request_stop(Stop {
                cause: StopCause::Signal(signal),
                timeout: SHUTDOWN_TIMEOUT_DEFAULT,
            });
        }
    });
    Ok(())
}

async fn received(signal: &mut SignalStream) {
    if signal.recv().await.is_none() {
        // The runtime shuts down; there is nothing more to hear.
        std::future::pending::<()>().await;
    }
}

/// One life, with its ends told to the manager.
async fn live<D: Daemon>(
    daemon: D,
    ctx: &DaemonContext,
    mut link: Option<Link>,
) -> Result<ExitReason, DaemonError> {
    let ended = act(daemon, ctx, &mut link).await;
    if let Some(mut link) = link {
        let (outcome, reason) = match &ended {
            Ok(reason @ (ExitReason::Graceful | ExitReason::Signal(_))) => {
                (Outcome::Graceful, reason.to_string())
            }
            Ok(reason) => (Outcome::Error, reason.to_string()),
            Err(Ended::Refused(error)) => (Outcome::Refused, error.with_causes()),
            Err(Ended::Failed(DaemonError::Killed)) => (Outcome::Killed, "killed".to_owned()),
            Err(Ended::Failed(error)) => (Outcome::Error, error.with_causes()),
        };
        // Nobody is left to read it when this fails; the exit status says the same.
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, link.exited(outcome, &reason)).await;
    }
    ended.map_err(|ended| match ended {
        Ended::Refused(error) | Ended::Failed(error) => error,
    })
}

/// How a life failed.
enum Ended {
    /// What the manager wants can't be had.
    Refused(DaemonError),
    Failed(DaemonError),
}

impl From<DaemonError> for Ended {
    fn from(error: DaemonError) -> Self {
        Self::Failed(error)
    }
}

async fn act<D: Daemon>(
    mut daemon: D,
    ctx: &DaemonContext,
    link: &mut Option<Link>,
) -> Result<ExitReason, Ended> {
    let config = match link.as_mut() {
        None => DaemonConfig::new(daemon.name()),
        Some(live) => tokio::select! {
            config = live.handshake(daemon.name()) => config.map_err(|error| {
                let text = format!("no start by the manager: {error}");
                match error {
                    LinkError::Refused(_) => Ended::Refused(DaemonError::Config(text)),
                    _ => Ended::Failed(DaemonError::Failed(text)),
                }
            })?,
            stop = ctx.stop_requested() => return Ok(stopped_early(stop)),
        },
    };

    let init = async {
        tokio::select! {
            biased;
            done = daemon.init(&config) => done.map(|()| None),
            stop = ctx.stop_requested() => Ok(Some(stopped_early(stop))),
        }
    };
    if let Some(reason) = beside_link(init, link, None::<&D>, ctx).await?? {
        return Ok(reason);
    }
    if let Some(live) = link.as_mut()
        && let Err(error) = live.running().await
    {
        drop_link(link, &error);
    }
    log(Priority::Info, format_args!("{} [{}]: running", daemon.name(), daemon.id()));

    let work = run_until_stopped(&daemon, ctx);
    Ok(beside_link(work, link, Some(&daemon), ctx).await??)
}

async fn run_until_stopped<D: Daemon>(
    daemon: &D,
    ctx: &DaemonContext,
) -> Result<ExitReason, DaemonError> {
    let mut run = pin!(daemon.run(ctx));
    let stop = tokio::select! {
        biased;
        // First, so that `shutdown` is called even if `run` ends the moment it sees the request.
        stop = ctx.stop_requested() => stop,
        ended = &mut run => return ended,
    };
    log(Priority::Info, format_args!("{}: asked to stop by {}", daemon.name(), stop.cause));
    let orderly_end = async {
        let (ran, shut_down) = tokio::join!(run, daemon.shutdown(stop.timeout));
        ran.and_then(|reason| shut_down.map(|()| reason))
    };
    tokio::select! {
        biased;
        () = ctx.aborted() => Err(DaemonError::Aborted),
        ended = tokio::time::timeout(stop.timeout, orderly_end) => {
            ended.unwrap_or(Err(DaemonError::ShutdownTimeout { timeout: stop.timeout }))
        }
    }
}

/// Does `work` while the link is answered. A link that is lost is dropped, and the work goes on.
async fn beside_link<D: Daemon, T>(
    work: impl Future<Output = T>,
    link: &mut Option<Link>,
    daemon: Option<&D>,
    ctx: &DaemonContext,
) -> Result<T, DaemonError> {
    let mut work = pin!(work);
    if let Some(live) = link.as_mut() {
        let end = tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            end = live.serve(daemon, ctx) => end,
        };
        match end {
            ServeEnd::Killed => return Err(DaemonError::Killed),
            ServeEnd::Lost(error) => drop_link(link, &error),
        }
    }
    Ok(work.await)
}

fn drop_link(link: &mut Option<Link>, error: &LinkError) {
    *link = None;
    log(Priority::Warning, format_args!("going on without the manager: {error}"));
}

/// What it is called when a daemon was asked to stop before it ran.
fn stopped_early(stop: Stop) -> ExitReason {
    match stop.cause {
        StopCause::Signal(signal) => ExitReason::Signal(signal),
        StopCause::Manager => ExitReason::Graceful,
    }
}

#[cfg(test)]
mod tests;
