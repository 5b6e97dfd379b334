//! What all connections share: the site, the log, the counters, and how far the drain has come.
//!
//! - Serving ends in one direction: open, then cut if the drain takes too long, then done.
//! - A request is in flight from its head to the end of its response, and counted when it is logged.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use duende_daemon::{CheckResult, DaemonMetrics, HealthCheck, HealthStatus};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::access_log::{AccessLog, Entry};
use crate::site::{Found, Site};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    site: Site,
    access_log: AccessLog,
    has_diagnostics: bool,
    requests: AtomicU64,
    in_flight: AtomicU64,
    bytes_sent: AtomicU64,
    /// Why no connection is accepted; `None` while the server accepts.
    not_accepting: Mutex<Option<String>>,
    drain: watch::Sender<Drain>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    /// Serving, or finishing what is under way.
    Open,
    /// The time is over: connections are cut.
    Over,
    /// No connection is left.
    Done,
}

impl Shared {
    pub(crate) fn new(site: Site, access_log: AccessLog, has_diagnostics: bool) -> Self {
        Self {
            site,
            access_log,
            has_diagnostics,
            requests: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            not_accepting: Mutex::new(None),
            drain: watch::Sender::new(Drain::Open),
        }
    }

    /// Looks up the path of a URL. Blocks.
    pub(crate) fn find(&self, url_path: &str) -> Found {
        self.site.find(url_path)
    }

    /// Opens the root anew; if that fails the old one stays. Blocks.
    pub(crate) fn reopen_site(&self) -> io::Result<()> {
        self.site.reopen()
    }

    /// Opens the access log anew; if that fails the old one stays.
    pub(crate) fn reopen_log(&self) -> io::Result<()> {
        self.access_log.reopen()
    }

    pub(crate) fn has_diagnostics(&self) -> bool {
        self.has_diagnostics
    }

    pub(crate) fn request_started(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn request_ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Writes a request's line and counts it.
    pub(crate) fn log_request(&self, entry: &Entry) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes_sent.fetch_add(entry.body_bytes, Ordering::Relaxed);
        self.access_log.write(entry);
    }

    /// Connections are accepted.
    pub(crate) fn accepts(&self) {
        *self.not_accepting() = None;
    }

    /// Connections are not accepted, for this reason. Whether they were before.
    pub(crate) fn accepts_no_more(&self, why: String) -> bool {
        self.not_accepting().replace(why).is_none()
    }

    /// No connection is left.
    pub(crate) fn all_are_served(&self) {
        self.drain.send_replace(Drain::Done);
    }

    /// Connections are cut, unless none is left.
    pub(crate) fn cut(&self) {
        self.drain.send_if_modified(|drain| {
            let is_open = *drain == Drain::Open;
            if is_open {
                *drain = Drain::Over;
            }
            is_open
        });
    }

    /// Waits until connections are cut.
    pub(crate) async fn drain_is_over(&self) {
        self.reached(Drain::Over).await;
    }

    /// Waits until no connection is left.
    pub(crate) async fn drain_is_done(&self) {
        self.reached(Drain::Done).await;
    }

    /// Looks at everything that serving needs.
    pub(crate) async fn health(self: &Arc<Self>) -> HealthStatus {
        let started = Instant::now();
        let shared = self.clone();
        let root = spawn_blocking(move || shared.site.check()).await;
        let root = root.map_err(io::Error::other).flatten().err();
        let check = |name, failure: Option<String>| HealthCheck {
            name,
            result: failure.map_or(CheckResult::Passed, CheckResult::Failed),
        };
        let checks = vec![
            check("listener", self.not_accepting().clone()),
            check("root", root.map(|error| error.to_string())),
            check("access log", self.access_log.failure()),
        ];
        HealthStatus::from_checks(checks, started.elapsed())
    }

    /// The counters, as the daemon's figures.
    pub(crate) fn metrics(&self) -> DaemonMetrics {
        // Exact up to 2^53, far more than there can be connections.
        #[allow(clippy::cast_precision_loss)]
        let in_flight = self.in_flight() as f64;
        DaemonMetrics::new()
            .counter("requests_total", self.requests.load(Ordering::Relaxed))
            .gauge("in_flight", in_flight)
            .counter("bytes_sent_total", self.bytes_sent.load(Ordering::Relaxed))
            .counter("access_log_lines_lost_total", self.access_log.lines_lost())
    }

    fn not_accepting(&self) -> MutexGuard<'_, Option<String>> {
        self.not_accepting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reached(&self, wanted: Drain) {
        // The sender lives in `self`, so waiting can't fail.
        let _ = self.drain.subscribe().wait_for(|drain| *drain == wanted).await;
    }
}
