//! What happened to the fleet: the recent events, those who follow them, and the fleet's own log.
//!
//! What readers of other kernels know too is told as a [`KernelEvent`] beside the record that it
//! belongs to: health that changes, a crash, another configuration, and the end.
//!
//! Whoever decides only hands over what is to be logged and printed: threads of their own write it
//! (`scribe`, `printer`). A line goes to the log's thread at once; what is printed goes to the printer's
//! after each event that was decided about, in one piece ([`Journal::flush`]).

use std::{sync::Arc, time::SystemTime};

use duende_core::{
    bus::{Full, KernelEvent, NoCapacity},
    recorder::{Recorder, Slot},
    time::Instant,
    wire::link::LogLevel,
};

use super::{
    control_places::CONNECTIONS_MAX,
    printer::{self, Printer},
    scribe::Log,
};
use crate::{
    bus::{Bus, Subscriber},
    clock::unix_us,
    control::protocol::{EventKind, EventRecord},
    daemon_log::LogOrigin,
    terminal::{harmless, harmless_json},
};

/// Events that are kept, for `duende events` and for those who follow.
const EVENTS_MAX: usize = 1_024;
/// Most followers: one for each connection, and one whose connection is just being closed.
const FOLLOWERS_MAX: usize = 2 * CONNECTIONS_MAX;

/// What is printed besides the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Print {
    Nothing,
    /// Lines, to standard error.
    Lines,
    /// Events as JSON, to standard output.
    Json,
}

impl Print {
    pub(crate) fn of(options: &super::ServeOptions) -> Self {
        match (options.print_events, options.json) {
            (false, _) => Self::Nothing,
            (true, false) => Self::Lines,
            (true, true) => Self::Json,
        }
    }
}

/// The last events.
type Recent = Recorder<Arc<EventRecord>, Box<[Slot<Arc<EventRecord>>]>>;

/// The events of one manager.
pub(crate) struct Journal {
    /// The last events, for `duende events`.
    recent: Recent,
    /// Who follows reads at its own pace; one that is too slow is told how many it missed.
    followers: Bus<Arc<EventRecord>>,
    log: Log,
    print: Print,
    printer: Printer,
    /// What [`flush`](Self::flush) prints.
    unprinted: String,
}

impl Journal {
    /// A journal that also writes to `log`, and prints as it is told.
    ///
    /// # Errors
    /// There is room for no event, or for no follower: one of the constants above is zero.
    pub(crate) fn new(log: Log, print: Print) -> Result<Self, NoCapacity> {
        Ok(Self {
            recent: Recorder::new(vec![Slot::EMPTY; EVENTS_MAX].into_boxed_slice()),
            followers: Bus::with_capacity(EVENTS_MAX, FOLLOWERS_MAX)?,
            log,
            printer: match print {
                Print::Nothing => Printer::none(),
                Print::Lines => Printer::to_fd(std::io::stderr(), printer::dropped_line),
                Print::Json => Printer::to_fd(std::io::stdout(), dropped_document),
            },
            print,
            unprinted: String::new(),
        })
    }

    /// Records an event.
    pub(crate) fn record(&mut self, daemon: &str, incarnation: u32, kind: EventKind, detail: &str) {
        self.record_as(daemon, incarnation, kind, detail, kernel_event(daemon, kind, detail));
    }

    /// Records that an incarnation ended by a failure, and what follows.
    pub(crate) fn record_crash(
        &mut self,
        daemon: &str,
        incarnation: u32,
        kind: EventKind,
        detail: &str,
        reason: &str,
    ) {
        let crash = KernelEvent::service_crashed(daemon, reason).ok();
        self.record_as(daemon, incarnation, kind, detail, crash);
    }

    /// Records that another configuration is in force.
    pub(crate) fn record_config(&mut self, version: u64, detail: &str) {
        let event = KernelEvent::ConfigUpdated { version };
        self.record_as("", 0, EventKind::ConfigUpdated, detail, Some(event));
    }

    fn record_as(
        &mut self,
        daemon: &str,
        incarnation: u32,
        kind: EventKind,
        detail: &str,
        kernel: Option<KernelEvent>,
    ) {
        let record = EventRecord {
            time_unix_us: time_unix_us(),
            daemon: daemon.to_owned(),
            incarnation,
            kind,
            detail: detail.to_owned(),
            kernel: kernel.map(Box::new),
        };
        let colon = if detail.is_empty() { "" } else { ": " };
        let line = format!("{daemon} {}{colon}{detail}", kind.as_str());
        if let Print::Json = self.print
            && let Ok(document) = serde_json::to_string(&record)
        {
            self.print_later(&harmless_json(&document));
        }
        self.say(level_of(kind), line.trim_start());
        // Each carries its time of day: the order is the recorder's, its clock is not used.
        let record = Arc::new(record);
        self.recent.record(Instant::ZERO, record.clone());
        self.followers.publish(record);
    }

    /// Writes a line that is no event.
    pub(crate) fn say(&mut self, level: LogLevel, line: &str) {
        self.log.append(level, LogOrigin::Duende, line.as_bytes());
        if let Print::Lines = self.print {
            // What daemons, files and peers say is in it.
            self.print_later(&harmless(line));
        }
    }

    /// Prints what was recorded and said.
    pub(crate) fn flush(&mut self) {
        let text = std::mem::take(&mut self.unprinted);
        self.printer.print(&text);
    }

    fn print_later(&mut self, line: &str) {
        self.unprinted.push_str(line);
        self.unprinted.push('\n');
    }

    /// The recent events.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &EventRecord> {
        self.recent.iter().map(|record| &*record.event)
    }

    /// The events from now on.
    ///
    /// # Errors
    /// Too many follow.
    pub(crate) fn follow(&self) -> Result<Subscriber<Arc<EventRecord>>, Full> {
        self.followers.subscribe()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.flush();
    }
}

/// What stands in the place of documents that nobody read: one too.
fn dropped_document(documents: u64) -> String {
    let document = serde_json::to_string(&lagged(documents)).unwrap_or_default();
    format!("{}\n", harmless_json(&document))
}

/// What a follower is told that was too slow for some events.
pub(crate) fn lagged(events: u64) -> EventRecord {
    let plural = if events == 1 { "event was" } else { "events were" };
    EventRecord {
        time_unix_us: time_unix_us(),
        daemon: String::new(),
        incarnation: 0,
        kind: EventKind::Lagged,
        detail: format!("{events} {plural} missed: this follower was too slow"),
        kernel: None,
    }
}

fn time_unix_us() -> u64 {
    unix_us(SystemTime::now())
}

/// What other kernels would tell of it. A worker and `keep` are services too.
fn kernel_event(daemon: &str, kind: EventKind, detail: &str) -> Option<KernelEvent> {
    match kind {
        EventKind::Running | EventKind::Healthy => KernelEvent::health(daemon, true).ok(),
        EventKind::Unhealthy => KernelEvent::health(daemon, false).ok(),
        EventKind::WorkerExited => KernelEvent::service_crashed("wos-worker", detail).ok(),
        EventKind::KeepExited => KernelEvent::service_crashed("keep", detail).ok(),
        EventKind::Shutdown => Some(KernelEvent::Shutdown),
        EventKind::Started
        | EventKind::Stopping
        | EventKind::Exited
        | EventKind::Backoff
        | EventKind::Stopped
        | EventKind::Failed
        | EventKind::Quarantined
        | EventKind::Held
        | EventKind::Blocked
        | EventKind::SourceGap
        | EventKind::Lagged
        | EventKind::Reloading
        | EventKind::ReloadTimedOut
        | EventKind::Paused
        | EventKind::ConfigUpdated
        | EventKind::Halted
        | EventKind::LeftBehind
        | EventKind::Rejected
        | EventKind::StateFault
        | EventKind::StateRestored
        | EventKind::Other(_) => None,
    }
}

fn level_of(kind: EventKind) -> LogLevel {
    match kind {
        EventKind::Started
        | EventKind::Running
        | EventKind::Reloading
        | EventKind::Paused
        | EventKind::ConfigUpdated
        | EventKind::Stopping
        | EventKind::Stopped
        | EventKind::Healthy
        | EventKind::StateRestored
        | EventKind::Shutdown
        | EventKind::Other(_) => LogLevel::Info,
        EventKind::Exited
        | EventKind::Backoff
        | EventKind::Blocked
        | EventKind::Unhealthy
        | EventKind::SourceGap
        | EventKind::ReloadTimedOut
        | EventKind::Rejected
        | EventKind::Lagged => LogLevel::Warn,
        EventKind::Failed
        | EventKind::Quarantined
        | EventKind::Held
        | EventKind::WorkerExited
        | EventKind::KeepExited
        | EventKind::StateFault
        | EventKind::Halted
        | EventKind::LeftBehind => LogLevel::Error,
    }
}
