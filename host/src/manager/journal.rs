//! What happened to the fleet: the recent events, those who follow them, and the fleet's own log.
//!
//! The log and what is printed are written by [`Journal::flush`], once everything that belongs to
//! one decision is done: a restart never waits for a file or a terminal.

use std::{
    collections::VecDeque,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use duende_core::wire::link::LogLevel;
use tokio::sync::mpsc;

use crate::{
    control::protocol::{EventKind, EventRecord},
    daemon_log::{LogOrigin, LogWriter},
};

/// Events that are kept for `duende events`.
const EVENTS_MAX: usize = 1_024;
/// Events that wait for one follower. One that falls further behind is let go, and its connection
/// ends: it knows then that it missed some.
pub(crate) const FOLLOWER_EVENTS_MAX: usize = 1_024;

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

/// The events of one manager.
pub(crate) struct Journal {
    recent: VecDeque<EventRecord>,
    followers: Vec<mpsc::Sender<EventRecord>>,
    log: LogWriter,
    print: Print,
    /// What [`flush`](Self::flush) prints.
    unprinted: String,
}

impl Journal {
    /// A journal that also writes to `log_path`, and prints as it is told.
    pub(crate) fn new(log_path: &Path, print: Print) -> Self {
        Self {
            recent: VecDeque::new(),
            followers: Vec::new(),
            log: LogWriter::new(log_path),
            print,
            unprinted: String::new(),
        }
    }

    /// Records an event.
    pub(crate) fn record(&mut self, daemon: &str, incarnation: u32, kind: EventKind, detail: &str) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let record = EventRecord {
            time_unix_us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX),
            daemon: daemon.to_owned(),
            incarnation,
            kind,
            detail: detail.to_owned(),
        };
        let colon = if detail.is_empty() { "" } else { ": " };
        let line = format!("{daemon} {}{colon}{detail}", kind.as_str());
        if let Print::Json = self.print
            && let Ok(document) = serde_json::to_string(&record)
        {
            self.print_later(&document);
        }
        self.say(level_of(kind), line.trim_start());
        if self.recent.len() >= EVENTS_MAX {
            self.recent.pop_front();
        }
        self.followers.retain(|follower| follower.try_send(record.clone()).is_ok());
        self.recent.push_back(record);
    }

    /// Writes a line that is no event.
    pub(crate) fn say(&mut self, level: LogLevel, line: &str) {
        self.log.append(SystemTime::now(), level, LogOrigin::Duende, line.as_bytes(), false);
        if let Print::Lines = self.print {
            self.print_later(line);
        }
    }

    /// Writes what was recorded and said.
    pub(crate) fn flush(&mut self) {
        self.log.flush();
        let text = std::mem::take(&mut self.unprinted);
        match self.print {
            Print::Nothing => {}
            Print::Lines => print(&mut std::io::stderr(), &text),
            Print::Json => print(&mut std::io::stdout(), &text),
        }
    }

    fn print_later(&mut self, line: &str) {
        self.unprinted.push_str(line);
        self.unprinted.push('\n');
    }

    /// The recent events.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &EventRecord> {
        self.recent.iter()
    }

    /// The events from now on.
    pub(crate) fn follow(&mut self) -> mpsc::Receiver<EventRecord> {
        let (sender, receiver) = mpsc::channel(FOLLOWER_EVENTS_MAX);
        self.followers.push(sender);
        receiver
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.flush();
    }
}

fn print(to: &mut dyn std::io::Write, text: &str) {
    if !text.is_empty() {
        // If nobody reads it, the log still has it.
        let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    }
}

fn level_of(kind: EventKind) -> LogLevel {
    match kind {
        EventKind::Started
        | EventKind::Running
        | EventKind::Stopping
        | EventKind::Stopped
        | EventKind::Healthy => LogLevel::Info,
        EventKind::Exited | EventKind::Backoff | EventKind::Unhealthy | EventKind::SourceGap => {
            LogLevel::Warn
        }
        EventKind::Failed
        | EventKind::Quarantined
        | EventKind::WorkerExited
        | EventKind::KeepExited => LogLevel::Error,
    }
}
