//! What `duende --json` prints, as far as tests look at it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What `ps --json` and `status --json` print.
#[derive(Debug, Deserialize)]
pub struct Table {
    /// The manager.
    pub fleet: Manager,
    /// Its daemons, in the order of the configuration.
    pub daemons: Vec<Row>,
}

/// The manager.
#[derive(Debug, Deserialize)]
pub struct Manager {
    /// Its process id.
    pub pid: u32,
    /// The fleet's name.
    pub fleet: String,
}

/// A daemon.
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// `native` or `wos`.
    pub isolation: String,
    /// `waiting`, `blocked`, `starting`, `running`, `reloading`, `paused`, `stopping`, `stopped`,
    /// `backoff`, `failed`, `quarantined`.
    pub state: String,
    /// What the state does not say by itself.
    pub detail: String,
    /// The process, or of a component its id within WOS.
    pub pid: Option<u32>,
    /// The worker that hosts it.
    pub worker_pid: Option<u32>,
    /// Its processes; a component has none.
    pub processes: u32,
    /// Counts the starts.
    pub incarnation: u32,
    /// Counts the restarts that nobody asked for.
    pub restarts: u64,
    /// `unknown`, `healthy`, `degraded`, `unhealthy`.
    pub health: String,
    /// What it has in memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// How long it has run, in milliseconds.
    pub uptime_ms: Option<u64>,
    /// Lines that could not be written to its log.
    pub lost_lines: u64,
    /// Its figures.
    pub metrics: BTreeMap<String, f64>,
    /// How the last incarnation ended.
    pub last_exit: Option<String>,
    /// The file of its log.
    pub log_path: String,
    /// What it waits for.
    pub waits_for: Vec<String>,
}

impl Row {
    /// A figure as a count; 0 if it is not there yet.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    pub fn count(&self, metric: &str) -> u64 {
        self.metrics.get(metric).copied().unwrap_or_default() as u64
    }
}

/// Something that happened.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// When, in microseconds since 1970.
    pub time_unix_us: u64,
    /// To which daemon; empty: to a worker.
    pub daemon: String,
    /// In which incarnation.
    pub incarnation: u32,
    /// `started`, `running`, `stopping`, `exited`, `backoff`, `stopped`, `failed`, `quarantined`,
    /// `healthy`, `unhealthy`, `source_gap`, `worker_exited`, `shutdown`, `lagged`.
    pub kind: String,
    /// More about it.
    pub detail: String,
    /// The same in the words that kernels share.
    pub kernel: Option<serde_json::Value>,
}

impl Event {
    /// Whether it is this one.
    #[must_use]
    pub fn is(&self, daemon: &str, kind: &str) -> bool {
        self.daemon == daemon && self.kind == kind
    }
}

/// What `history --json` prints.
#[derive(Debug, Deserialize)]
pub struct History {
    /// How samples are taken.
    pub sampling: Sampling,
    /// By the name of the figure.
    pub figures: BTreeMap<String, Vec<HistorySample>>,
}

/// See [`History`].
#[derive(Debug, Deserialize)]
pub struct Sampling {
    /// From one to the next, in microseconds.
    pub interval_us: u64,
    /// How often none was taken.
    pub missed_total: u64,
}

/// See [`History`].
#[derive(Debug, Deserialize)]
pub struct HistorySample {
    /// When, in microseconds since 1970.
    pub time_unix_us: u64,
    /// How much.
    pub value: f64,
}

/// What a verb prints when it was not done.
#[derive(Debug, Deserialize)]
pub struct Failure {
    /// The error.
    pub error: FailureBody,
}

/// See [`Failure`].
#[derive(Debug, Deserialize)]
pub struct FailureBody {
    /// The exit code as a word.
    pub kind: String,
    /// The exit code.
    pub exit_code: u8,
    /// For people.
    pub message: String,
    /// Of a configuration, each problem.
    pub problems: Vec<Problem>,
}

/// What is wrong with a configuration.
#[derive(Debug, Deserialize)]
pub struct Problem {
    /// The file.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// The key.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub help: String,
}

/// What `check --json` prints.
#[derive(Debug, Deserialize)]
pub struct Check {
    /// Whether the fleet can run.
    pub valid: bool,
    /// Each daemon.
    pub daemons: Vec<Checked>,
}

/// A daemon as `check` sees it.
#[derive(Debug, Deserialize)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// Why its component can't run.
    pub error: Option<String>,
    /// What it imports and is not granted.
    pub imports_denied: Vec<String>,
}
