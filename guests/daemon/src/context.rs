//! What a running daemon knows of the outside: requests to stop and to reload, and the way to say
//! that it is ready.
//!
//! A request to stop is final: the phase only moves from running to stopping to aborted. Requests to
//! reload coalesce: several that come before the daemon looks are one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::Signal;
use super::notify::Notifier;

/// Who asked the daemon to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopCause {
    Signal(Signal),
    Manager,
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => signal.fmt(f),
            Self::Manager => f.write_str("the manager"),
        }
    }
}

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) cause: StopCause,
    pub(super) timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Stopping(Stop),
    /// A second signal: do not wait any longer.
    Aborted,
}

#[derive(Debug)]
struct Shared {
    phase: watch::Sender<Phase>,
    reload: Notify,
    /// A reload is over.
    reloaded: Notify,
    notifier: Notifier,
}

/// The daemon's view of the outside. Clones see the same; hand them to tasks.
#[derive(Clone, Debug)]
pub struct DaemonContext(Arc<Shared>);

impl DaemonContext {
    pub(super) fn new(notifier: Notifier) -> Self {
        Self(Arc::new(Shared {
            phase: watch::Sender::new(Phase::Running),
            reload: Notify::new(),
            reloaded: Notify::new(),
            notifier,
        }))
    }

    /// Whether the daemon was asked to stop.
    #[must_use]
    pub fn should_shutdown(&self) -> bool {
        *self.0.phase.borrow() != Phase::Running
    }

    /// Waits until the daemon is asked to stop; returns at once if it was already. Cancel-safe.
    pub async fn shutdown_requested(&self) {
        self.reached(|phase| *phase != Phase::Running).await;
    }

    /// Waits for a request to reload (SIGHUP), and tells the service manager that reloading begins.
    /// Reloading ends when the returned value is dropped. Cancel-safe.
    ///
    /// A daemon that never calls this ignores such requests.
    pub async fn reload_requested(&self) -> Reload<'_> {
        self.0.reload.notified().await;
        self.0.notifier.reloading();
        Reload { context: self }
    }

    /// Tells whoever started the process that the daemon now does its work for others.
    pub fn notify_ready(&self) {
        self.0.notifier.ready();
    }

    /// Tells whoever started the process, in one line for people, what the daemon is doing. Line
    /// breaks become spaces; a text over 1,024 bytes is cut, visibly.
    pub fn status(&self, text: &str) {
        self.0.notifier.status(text);
    }

    /// Asks the daemon to stop, and tells the service manager so before the daemon can see it. A
    /// second signal asks it to stop at once; anything else that comes second changes nothing.
    pub(super) fn request_stop(&self, stop: Stop) {
        if !self.should_shutdown() {
            self.0.notifier.stopping();
        }
        self.0.phase.send_if_modified(|phase| {
            let next = match (*phase, stop.cause) {
                (Phase::Running, _) => Phase::Stopping(stop),
                (Phase::Stopping(_), StopCause::Signal(_)) => Phase::Aborted,
                (Phase::Stopping(_), StopCause::Manager) | (Phase::Aborted, _) => return false,
            };
            *phase = next;
            true
        });
    }

    pub(super) fn request_reload(&self) {
        self.0.reload.notify_one();
    }

    /// Waits for the end of a reload. Cancel-safe.
    pub(super) async fn reload_done(&self) {
        self.0.reloaded.notified().await;
    }

    /// Waits for the request to stop and says what it was.
    pub(super) async fn stop_requested(&self) -> Stop {
        match self.reached(|phase| *phase != Phase::Running).await {
            Phase::Stopping(stop) => stop,
            // The first request was overtaken by the second one before anybody looked.
            Phase::Running | Phase::Aborted => {
                Stop { cause: StopCause::Signal(Signal::Terminate), timeout: Duration::ZERO }
            }
        }
    }

    /// Waits for the second signal.
    pub(super) async fn aborted(&self) {
        self.reached(|phase| *phase == Phase::Aborted).await;
    }

    async fn reached(&self, is_reached: impl FnMut(&Phase) -> bool) -> Phase {
        let mut phase = self.0.phase.subscribe();
        match phase.wait_for(is_reached).await {
            Ok(phase) => *phase,
            // The sender lives in `self`, so it can't be gone.
            Err(_) => Phase::Aborted,
        }
    }
}

/// A reload that is under way. Dropping it says that the reload is over, whether it succeeded or
/// the old configuration stays.
#[derive(Debug)]
#[must_use = "the reload is over when this is dropped"]
pub struct Reload<'a> {
    context: &'a DaemonContext,
}

impl Drop for Reload<'_> {
    fn drop(&mut self) {
        self.context.notify_ready();
        self.context.0.reloaded.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Stop =
        Stop { cause: StopCause::Signal(Signal::Terminate), timeout: Duration::from_secs(3) };
    const MANAGER: Stop = Stop { cause: StopCause::Manager, timeout: Duration::from_secs(5) };

    #[tokio::test]
    async fn the_first_request_counts_and_a_second_signal_aborts() {
        for (requests, last) in [
            (vec![TERM], Phase::Stopping(TERM)),
            (vec![TERM, MANAGER], Phase::Stopping(TERM)),
            (vec![MANAGER, MANAGER], Phase::Stopping(MANAGER)),
            (vec![MANAGER, TERM], Phase::Aborted),
            (vec![TERM, TERM, MANAGER], Phase::Aborted),
        ] {
            let context = DaemonContext::new(Notifier::default());
            assert!(!context.should_shutdown());
            for request in &requests {
                context.request_stop(*request);
            }
            assert!(context.should_shutdown());
            context.shutdown_requested().await;
            assert_eq!(*context.0.phase.borrow(), last, "{requests:?}");
        }
    }

    #[tokio::test]
    async fn reloads_coalesce() {
        let context = DaemonContext::new(Notifier::default());
        context.request_reload();
        context.request_reload();
        drop(context.reload_requested().await);
        tokio::select! {
            biased;
            _ = context.reload_requested() => panic!("two requests before the first look are one"),
            () = std::future::ready(()) => {}
        }
    }
}
