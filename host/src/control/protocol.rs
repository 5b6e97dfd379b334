//! What the command line and the manager say to each other on the control socket.
//!
//! The client sends one [`Request`] at a time; the manager answers with a run of [`Response`]s whose
//! last one [ends the answer](Response::ends_answer). `Events { follow: true }` has no end but the
//! connection's. Frames are those of [`duende_core::wire`]. The first request of a connection is
//! [`Request::Hello`]; another version is refused with [`ErrorCode::Version`].
//!
//! The same types are what `--json` prints. Their names are stable: a field may be added, none is
//! renamed or removed within one [`CONTROL_VERSION`]. Times are integers with their unit in the name.
//! Postcard knows neither optional presence nor flattening, so derives are plain and absent values
//! are `null`.

use std::collections::BTreeMap;

use duende_core::bus::KernelEvent;
use duende_core::wire;
use serde::{Deserialize, Serialize};

/// Version of the messages in this module.
pub const CONTROL_VERSION: u16 = 3;
/// Most names in one request.
pub const NAMES_MAX: usize = 1_000;
/// Longest text (detail, reason, message) in a response, in bytes.
pub const TEXT_BYTES_MAX: usize = 8_192;
/// Most metrics that one row carries.
pub const METRICS_MAX: usize = 128;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Says which version the client speaks. Answer: `Hello`.
    Hello {
        /// [`CONTROL_VERSION`].
        version: u16,
    },
    /// All daemons. Answer: `Daemons`*, `Done`.
    Ps,
    /// One daemon. Answer: `Daemons` with one row, `Done`.
    Status {
        /// Its name.
        name: String,
    },
    /// Starts daemons, and what they depend on. Answer once it is known what became of each:
    /// `Outcome`*, `Ok` if all are ready, else `Error`.
    Start {
        /// Their names; empty: all.
        names: Vec<String>,
    },
    /// Stops daemons, and before them what depends on them. Answer once all have stopped: `Outcome`*,
    /// `Ok`.
    Stop {
        /// Their names; empty: all.
        names: Vec<String>,
    },
    /// Stops and starts daemons; releases them from quarantine. Answer as to `Start`.
    Restart {
        /// Their names; empty: all.
        names: Vec<String>,
    },
    /// Holds daemons still. Answer: `Outcome`*, `Ok`.
    Pause {
        /// Their names.
        names: Vec<String>,
    },
    /// Lets paused daemons go on. Answer: `Outcome`*, `Ok`.
    Resume {
        /// Their names.
        names: Vec<String>,
    },
    /// Makes daemons read their configuration anew. Answer once all have: `Outcome`*, `Ok`.
    Reload {
        /// Their names.
        names: Vec<String>,
    },
    /// Waits until every daemon that is to run is ready, or will not be. Answer: `Outcome`*, `Ok` if
    /// all are ready, else `Error`.
    Settled,
    /// Stops everything in order, then ends the manager. Answer: `Event`*, `Ok`.
    Down,
    /// The recent events, and with `follow` those to come. Answer: `Event`*, `Done`.
    Events {
        /// Whether the answer goes on.
        follow: bool,
    },
    /// What a daemon used and did. Answer: `Sampling`, `History`*, `Done`.
    History {
        /// Its name.
        name: String,
        /// How far back, in milliseconds.
        last_ms: u64,
    },
}

/// What the manager answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// The answer to `Hello`.
    Hello(Box<ManagerInfo>),
    /// It was done.
    Ok,
    /// It was not done.
    Error {
        /// For programs.
        code: ErrorCode,
        /// For people, with the way out.
        message: String,
    },
    /// What became of one of the daemons that a request named; more may follow.
    Outcome {
        /// Its name.
        name: String,
        /// Whether it is as was asked for.
        ok: bool,
        /// Why not, or what else is to be said, for people; empty: nothing.
        detail: String,
    },
    /// Some rows; more may follow.
    Daemons(Vec<DaemonRow>),
    /// Something that happened.
    Event(EventRecord),
    /// Nothing follows.
    Done,
    /// How samples are taken.
    Sampling {
        /// From one to the next, in microseconds.
        interval_us: u64,
        /// How many times none was taken, for all daemons.
        missed_total: u64,
        /// Samples of all daemons for which there was no room.
        refused_total: u64,
    },
    /// Samples of one figure, the oldest first; the next ones may follow.
    History(FigureSamples),
}

impl Response {
    /// Whether this is the last response to its request.
    #[must_use]
    pub const fn ends_answer(&self) -> bool {
        match self {
            Self::Hello(_) | Self::Ok | Self::Error { .. } | Self::Done => true,
            Self::Outcome { .. }
            | Self::Daemons(_)
            | Self::Event(_)
            | Self::Sampling { .. }
            | Self::History(_) => false,
        }
    }
}

impl wire::Message for Request {
    const KIND: u8 = 5;
}

impl wire::Message for Response {
    const KIND: u8 = 6;
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The peer speaks another [`CONTROL_VERSION`].
    Version,
    /// No daemon of that name is configured.
    UnknownDaemon,
    /// The daemon is not in a state in which this can be done.
    InvalidState,
    /// The daemon failed while the request waited for it.
    Failed,
    /// The manager is stopping.
    Stopping,
    /// The supervisor found one of its rules broken: nothing is decided any more.
    Halted,
    /// As many as there can be follow the events.
    TooManyFollowers,
    /// As many as there can be are connected.
    Busy,
    /// Who asks is neither the fleet's user nor root.
    Denied,
    /// Who asks took too long to ask, or to read the answer.
    TooSlow,
    /// The request is malformed or over a limit.
    Malformed,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerInfo {
    /// Its [`CONTROL_VERSION`].
    pub version: u16,
    /// The fleet's name.
    pub fleet: String,
    /// The manager's process id.
    pub pid: u32,
    /// How long it has run, in milliseconds.
    pub uptime_ms: u64,
    /// Where the fleet's logs lie.
    pub log_dir: String,
    /// The configuration file; none for a fleet made from flags.
    pub config_file: Option<String>,
    /// How the fleet is.
    pub health: FleetHealth,
}

/// How a fleet is, from how its daemons are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetHealth {
    /// The whole.
    pub status: HealthState,
    /// Whether every daemon that should run is healthy.
    pub ready: bool,
    /// The daemons that are not.
    pub missing: Vec<String>,
    /// When to ask again, in seconds; none if it is ready.
    pub retry_after_s: Option<u32>,
}

impl FleetHealth {
    /// Of a fleet of which nothing is known.
    #[must_use]
    pub const fn unknown() -> Self {
        Self {
            status: HealthState::Unknown,
            ready: false,
            missing: Vec::new(),
            retry_after_s: None,
        }
    }
}

/// Where a daemon is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DaemonState {
    /// Configured and not started yet, or waiting for its dependencies.
    Created,
    /// It lacks something outside of it (its program, a permission, room), and is tried again and
    /// again until that is there.
    Waiting,
    /// A daemon that it depends on does not come by itself.
    Blocked,
    /// Started, not ready yet.
    Starting,
    /// Ready.
    Running,
    /// Ready, and reading its configuration anew.
    Reloading,
    /// Held still.
    Paused,
    /// Asked to stop.
    Stopping,
    /// Ended; it stays so until somebody starts it.
    Stopped,
    /// Ended; it is started again after its delay.
    Backoff,
    /// Failed, and its policy starts it no more.
    Failed,
    /// Failed too often; it stays so until somebody restarts it.
    Quarantined,
}

impl DaemonState {
    /// The word that people and `--json` see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Waiting => "waiting",
            Self::Blocked => "blocked",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Reloading => "reloading",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
            Self::Quarantined => "quarantined",
        }
    }
}

/// What the last health check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// Not asked yet in this incarnation, or the daemon can't be asked.
    Unknown,
    /// Working.
    Healthy,
    /// Working, with less than it promises.
    Degraded,
    /// Not working, or silent.
    Unhealthy,
}

impl HealthState {
    /// The word that people and `--json` see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateUnit {
    /// Committed slices.
    Slices,
    /// Consumed messages.
    Messages,
}

/// How much a daemon does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// How many in a second, over the last few seconds.
    pub per_second: f64,
    /// Of what.
    pub unit: RateUnit,
}

/// One daemon, as `ps` and `status` show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DaemonRow {
    /// Its name.
    pub name: String,
    /// `native` or `wos`.
    pub isolation: String,
    /// Where it is in its life.
    pub state: DaemonState,
    /// What the state does not say by itself; empty: nothing.
    pub detail: String,
    /// Of a native daemon the process id; of a component its id within its WOS.
    pub pid: Option<u32>,
    /// Of a component, the process id of the worker that hosts it.
    pub worker_pid: Option<u32>,
    /// Counts the starts.
    pub incarnation: u32,
    /// Counts the restarts that followed a failure or an end, not those that an operator asked for.
    pub restarts: u64,
    /// What the last health check found.
    pub health: HealthState,
    /// What the daemon said of its health; empty: nothing.
    pub health_detail: String,
    /// How long this incarnation has been up, in milliseconds.
    pub uptime_ms: Option<u64>,
    /// Linear memory of a component; resident set of a process. In bytes.
    pub memory_bytes: Option<u64>,
    /// Of a process, the share of one processor that it used between the last two samples.
    pub processor_percent: Option<f64>,
    /// How much it does.
    pub rate: Option<Rate>,
    /// Its figures. They belong to the daemon, not to the incarnation.
    pub metrics: BTreeMap<String, f64>,
    /// How the last incarnation ended.
    pub last_exit: Option<String>,
    /// When it is started again, in milliseconds from now.
    pub next_restart_ms: Option<u64>,
    /// The file of its log.
    pub log_path: String,
    /// The dependencies that it waits for.
    pub waits_for: Vec<String>,
    /// Of these, the one that does not come by itself.
    pub blocked_by: Option<String>,
    /// Why it is in this state, in the words of the rule that decided; empty: nothing to say.
    pub reason: String,
    /// What an operator can do about it; empty: nothing needs to be done.
    pub way_out: String,
    /// What is run: the command line of a program, the image of a component.
    pub command: String,
    /// Which ends are followed by a restart.
    pub policy: String,
    /// How long it has been in this state, in milliseconds.
    pub since_ms: Option<u64>,
    /// How many processes it has now; a component has none.
    pub processes: u32,
    /// Lines of its output that did not reach its log.
    pub lost_lines: u64,
}

/// What happened to a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A new incarnation was started.
    Started,
    /// It is ready.
    Running,
    /// It reads its configuration anew.
    Reloading,
    /// It did not say in time that it has read its configuration anew.
    ReloadTimedOut,
    /// It is held still.
    Paused,
    /// It was asked to stop.
    Stopping,
    /// The incarnation ended by itself or was killed.
    Exited,
    /// It is started again after a delay.
    Backoff,
    /// It stopped as asked.
    Stopped,
    /// It ended for good: its policy or its retries allow no restart.
    Failed,
    /// It failed too often.
    Quarantined,
    /// A daemon that it depends on does not come by itself.
    Blocked,
    /// A health check was answered well after it had not been.
    Healthy,
    /// A health check was answered badly or not at all.
    Unhealthy,
    /// A source lost lines: the file was truncated or replaced before they were read.
    SourceGap,
    /// A worker that hosts components ended.
    WorkerExited,
    /// The process that holds the native daemons ended.
    KeepExited,
    /// Another configuration is in force.
    ConfigUpdated,
    /// Everything is stopped in order, and the manager ends.
    Shutdown,
    /// Who follows the events was too slow and missed some; the detail begins with their number.
    Lagged,
    /// The supervisor found one of its rules broken and decides nothing any more.
    Halted,
}

impl EventKind {
    /// The word that people and `--json` see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Running => "running",
            Self::Reloading => "reloading",
            Self::ReloadTimedOut => "reload_timed_out",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Backoff => "backoff",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Quarantined => "quarantined",
            Self::Blocked => "blocked",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::SourceGap => "source_gap",
            Self::WorkerExited => "worker_exited",
            Self::KeepExited => "keep_exited",
            Self::ConfigUpdated => "config_updated",
            Self::Shutdown => "shutdown",
            Self::Lagged => "lagged",
            Self::Halted => "halted",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// When, in microseconds since 1970-01-01T00:00:00Z.
    pub time_unix_us: u64,
    /// To which daemon; empty: to the manager or a worker.
    pub daemon: String,
    /// In which incarnation.
    pub incarnation: u32,
    /// What.
    pub kind: EventKind,
    /// More about it, for people; empty: nothing.
    pub detail: String,
    /// The same in the words that kernels share, where they have some for it.
    pub kernel: Option<Box<KernelEvent>>,
}

/// Most samples in one response: each is encoded in at most 18 bytes.
pub const SAMPLES_PER_RESPONSE_MAX: usize = 2_048;

/// Samples of one figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FigureSamples {
    /// Its name; the unit ends it.
    pub figure: String,
    /// At most [`SAMPLES_PER_RESPONSE_MAX`].
    pub samples: Vec<HistorySample>,
}

/// A figure at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistorySample {
    /// When, in microseconds since 1970-01-01T00:00:00Z.
    pub time_unix_us: u64,
    /// How much.
    pub value: f64,
}

/// Splits rows into responses that each fit a frame. The answer still needs its
/// [`Done`](Response::Done).
#[must_use]
pub fn daemons_responses(rows: Vec<DaemonRow>) -> Vec<Response> {
    let mut responses = Vec::new();
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    for row in rows {
        let bytes = row.encoded_bytes_bound();
        if !batch.is_empty() && batch_bytes + bytes > ROWS_BYTES_MAX {
            responses.push(Response::Daemons(std::mem::take(&mut batch)));
            batch_bytes = 0;
        }
        batch_bytes += bytes;
        batch.push(row);
    }
    if !batch.is_empty() {
        responses.push(Response::Daemons(batch));
    }
    responses
}

/// What one response may hold in rows, in bytes: a frame, less room for its header and the count.
const ROWS_BYTES_MAX: usize = wire::FRAME_BYTES_MAX - 64;

impl DaemonRow {
    /// An upper bound of the encoded size, in bytes. Postcard writes a length in at most 10 bytes.
    fn encoded_bytes_bound(&self) -> usize {
        const SCALARS: usize = 192;
        const LENGTH: usize = 10;
        let texts = [
            self.name.len(),
            self.isolation.len(),
            self.detail.len(),
            self.health_detail.len(),
            self.last_exit.as_deref().map_or(0, str::len),
            self.log_path.len(),
            self.blocked_by.as_deref().map_or(0, str::len),
            self.reason.len(),
            self.way_out.len(),
            self.command.len(),
            self.policy.len(),
        ];
        let metrics: usize = self.metrics.keys().map(|name| name.len() + LENGTH + 8).sum();
        let waits_for: usize = self.waits_for.iter().map(|name| name.len() + LENGTH).sum();
        SCALARS + texts.iter().map(|bytes| bytes + LENGTH).sum::<usize>() + metrics + waits_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, detail_bytes: usize) -> DaemonRow {
        DaemonRow {
            name: name.to_owned(),
            isolation: "wos".to_owned(),
            state: DaemonState::Running,
            detail: "x".repeat(detail_bytes),
            pid: Some(u32::MAX),
            worker_pid: Some(u32::MAX),
            incarnation: u32::MAX,
            restarts: u64::MAX,
            health: HealthState::Healthy,
            health_detail: String::new(),
            uptime_ms: Some(u64::MAX),
            memory_bytes: Some(u64::MAX),
            processor_percent: Some(99.5),
            rate: Some(Rate { per_second: 0.5, unit: RateUnit::Messages }),
            metrics: (0..METRICS_MAX).map(|i| (format!("{i:064}"), 1.0)).collect(),
            last_exit: Some("y".repeat(TEXT_BYTES_MAX)),
            next_restart_ms: Some(u64::MAX),
            log_path: "/z".repeat(100),
            waits_for: (0..64).map(|i| format!("{i:064}")).collect(),
            blocked_by: Some("b".repeat(64)),
            reason: "r".repeat(detail_bytes),
            way_out: "w".repeat(detail_bytes),
            command: "c".repeat(detail_bytes),
            policy: "on-failure".to_owned(),
            since_ms: Some(u64::MAX),
            processes: u32::MAX,
            lost_lines: u64::MAX,
        }
    }

    #[test]
    fn the_largest_fleet_fits_its_frames_and_arrives_whole() {
        let rows: Vec<_> = (0..40).map(|i| row(&format!("d{i}"), TEXT_BYTES_MAX)).collect();
        let mut seen = Vec::new();
        let mut frame = vec![0; wire::FRAME_BYTES_MAX];
        for response in daemons_responses(rows.clone()) {
            let bytes = wire::encode(&response, &mut frame).expect("fits");
            let mut storage = vec![0; wire::FRAME_BYTES_MAX];
            let mut decoder = wire::Decoder::new(&mut storage[..]);
            decoder.spare()[..bytes].copy_from_slice(&frame[..bytes]);
            decoder.filled(bytes);
            match decoder.next::<Response>().expect("valid").expect("whole") {
                Response::Daemons(rows) => seen.extend(rows),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, rows);
    }

    #[test]
    fn json_and_people_see_the_same_words() {
        for state in [DaemonState::Created, DaemonState::Waiting, DaemonState::Blocked] {
            assert_eq!(serde_json::json!(state), state.as_str());
        }
        for kind in [EventKind::SourceGap, EventKind::WorkerExited, EventKind::Exited] {
            assert_eq!(serde_json::json!(kind), kind.as_str());
        }
    }
}
