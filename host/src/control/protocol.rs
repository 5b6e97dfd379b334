//! What the command line and the manager say to each other on the control socket.
//!
//! The client sends one [`Request`] at a time; the manager answers with a run of [`Response`]s whose
//! last one [ends the answer](Response::ends_answer). `Events { follow: true }` has no end but the
//! connection's. Each message is one JSON object ([`message`](super::message)) in a frame of
//! [`duende_core::wire`]; what a row or an event looks like there is what `--json` prints. `docs/control.md`
//! says all of it to those who write a client.
//!
//! Rules of growth:
//! 1. A request, a response, a field, a word may be added; none is ever renamed or removed, or means something
//!    else. `docs/control-messages.json` has one of each (`protocol::tests::what_was_published_is_still_said`).
//! 2. An answer is ended by `hello`, `ok`, `error` and `done` only: no response that ends one is ever added.
//! 3. [`CONTROL_VERSION`] counts the additions. [`CONTROL_VERSION_MIN`] is the oldest version whose messages
//!    mean the same, and rises only if rule 1 has to be broken. `hello`, `ps`, `down` and `error` are always the
//!    same (`control_client::tests::whatever_its_version_a_client_may_list_and_end_the_fleet`).
//!
//! Times are integers with their unit in the name; absent values are `null`.

use std::collections::BTreeMap;

use duende_core::bus::KernelEvent;
use duende_core::wire;
use serde::{Deserialize, Deserializer, Serialize};

use super::word::words;

/// Version of the messages in this module. Before 4 they were no JSON, and of kinds 5 and 6.
pub const CONTROL_VERSION: u16 = 5;
/// The oldest version whose messages mean what those of this one mean.
pub const CONTROL_VERSION_MIN: u16 = 4;
/// Most names in one request.
pub const NAMES_MAX: usize = 1_000;
/// Longest text (detail, reason, message) in a response, in bytes.
pub const TEXT_BYTES_MAX: usize = 8_192;
/// Most metrics that one row carries.
pub const METRICS_MAX: usize = 128;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Says which version the client speaks. Answer: `Hello`.
    Hello {
        /// Its [`CONTROL_VERSION`].
        #[serde(default)]
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
        #[serde(default)]
        follow: bool,
    },
    /// What a daemon used and did. Answer: `Sampling`, `History`*, `Done`.
    History {
        /// Its name.
        name: String,
        /// How far back, in milliseconds.
        #[serde(default = "five_minutes_ms")]
        last_ms: u64,
    },
    /// What the configuration file says now and the fleet does not do. Answer: `Change`*, `Done`; if the file
    /// is not valid, `Error`.
    Changes,
    /// All that is kept of a daemon, of one instant. Answer: `Export`*, `Done`.
    Export {
        /// Its name.
        name: String,
    },
}

const fn five_minutes_ms() -> u64 {
    300_000
}

words! {
    /// What a request is called.
    pub enum RequestName {
        /// [`Request::Hello`].
        Hello = "hello",
        /// [`Request::Ps`].
        Ps = "ps",
        /// [`Request::Status`].
        Status = "status",
        /// [`Request::Start`].
        Start = "start",
        /// [`Request::Stop`].
        Stop = "stop",
        /// [`Request::Restart`].
        Restart = "restart",
        /// [`Request::Pause`].
        Pause = "pause",
        /// [`Request::Resume`].
        Resume = "resume",
        /// [`Request::Reload`].
        Reload = "reload",
        /// [`Request::Settled`].
        Settled = "settled",
        /// [`Request::Down`].
        Down = "down",
        /// [`Request::Events`].
        Events = "events",
        /// [`Request::History`].
        History = "history",
        /// [`Request::Changes`].
        Changes = "changes",
        /// [`Request::Export`].
        Export = "export",
    }
}

impl RequestName {
    /// Whether it is asked, and answered, whatever the versions of the two sides.
    #[must_use]
    pub const fn is_of_all_versions(self) -> bool {
        matches!(self, Self::Hello | Self::Ps | Self::Down)
    }

    /// Whether it changes nothing, and shows nothing that is secret: then it may be asked at the read-only socket.
    #[must_use]
    pub const fn is_read_only(self) -> bool {
        match self {
            Self::Hello
            | Self::Ps
            | Self::Status
            | Self::Settled
            | Self::Events
            | Self::History
            | Self::Changes => true,
            Self::Start
            | Self::Stop
            | Self::Restart
            | Self::Pause
            | Self::Resume
            | Self::Reload
            | Self::Down
            // What is kept may be secret.
            | Self::Export
            | Self::Other(_) => false,
        }
    }
}

impl Request {
    /// What it is called.
    #[must_use]
    pub const fn name(&self) -> RequestName {
        match self {
            Self::Hello { .. } => RequestName::Hello,
            Self::Ps => RequestName::Ps,
            Self::Status { .. } => RequestName::Status,
            Self::Start { .. } => RequestName::Start,
            Self::Stop { .. } => RequestName::Stop,
            Self::Restart { .. } => RequestName::Restart,
            Self::Pause { .. } => RequestName::Pause,
            Self::Resume { .. } => RequestName::Resume,
            Self::Reload { .. } => RequestName::Reload,
            Self::Settled => RequestName::Settled,
            Self::Down => RequestName::Down,
            Self::Events { .. } => RequestName::Events,
            Self::History { .. } => RequestName::History,
            Self::Changes => RequestName::Changes,
            Self::Export { .. } => RequestName::Export,
        }
    }

    /// The daemons that it names, if it may name several.
    pub(super) fn names(&self) -> Option<&[String]> {
        match self {
            Self::Start { names }
            | Self::Stop { names }
            | Self::Restart { names }
            | Self::Pause { names }
            | Self::Resume { names }
            | Self::Reload { names } => Some(names),
            Self::Hello { .. }
            | Self::Ps
            | Self::Status { .. }
            | Self::Settled
            | Self::Down
            | Self::Events { .. }
            | Self::History { .. }
            | Self::Changes
            | Self::Export { .. } => None,
        }
    }
}

/// What the manager answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum Response {
    /// The answer to `Hello`.
    Hello {
        /// The manager's [`CONTROL_VERSION_MIN`].
        #[serde(default)]
        min: u16,
        /// Who it is.
        #[serde(default)]
        fleet: Box<ManagerInfo>,
    },
    /// It was done.
    Ok,
    /// It was not done.
    Error {
        /// For programs.
        #[serde(default)]
        code: ErrorCode,
        /// For people, with the way out.
        #[serde(default)]
        message: String,
    },
    /// What became of one of the daemons that a request named; more may follow.
    Outcome {
        /// Its name.
        #[serde(default)]
        name: String,
        /// Whether it is as was asked for.
        #[serde(default)]
        ok: bool,
        /// Why not, or what else is to be said, for people; empty: nothing.
        #[serde(default)]
        detail: String,
    },
    /// Some rows; more may follow.
    Daemons {
        /// In the order of the configuration.
        #[serde(default)]
        daemons: Vec<DaemonRow>,
    },
    /// Something that happened.
    Event {
        /// What.
        #[serde(default)]
        event: EventRecord,
    },
    /// Nothing follows.
    Done,
    /// How samples are taken.
    Sampling {
        /// From one to the next, in microseconds.
        #[serde(default)]
        interval_us: u64,
        /// How many times none was taken, for all daemons.
        #[serde(default)]
        missed_total: u64,
        /// Samples of all daemons for which there was no room.
        #[serde(default)]
        refused_total: u64,
    },
    /// Samples of one figure, the oldest first; the next ones may follow.
    History(FigureSamples),
    /// A key of the configuration file that is not in force; more may follow.
    Change {
        /// Which, and what makes it take effect.
        #[serde(default)]
        change: ConfigChange,
    },
    /// A part of an export; the next one may follow. All of them are the file that `duende state export` writes.
    Export {
        /// Its bytes, as pairs of hexadecimal digits.
        #[serde(default)]
        hex: String,
    },
    /// One that a later version knows. It does not end the answer; whoever reads it skips it.
    #[serde(other)]
    Other,
}

impl Response {
    /// Whether this is the last response to its request.
    #[must_use]
    pub const fn ends_answer(&self) -> bool {
        match self {
            Self::Hello { .. } | Self::Ok | Self::Error { .. } | Self::Done => true,
            Self::Outcome { .. }
            | Self::Daemons { .. }
            | Self::Event { .. }
            | Self::Sampling { .. }
            | Self::History(_)
            | Self::Change { .. }
            | Self::Export { .. }
            | Self::Other => false,
        }
    }
}

impl wire::Message for Request {
    const KIND: u8 = 7;
}

impl wire::Message for Response {
    const KIND: u8 = 8;
}

words! {
    /// Why a request was refused.
    pub enum ErrorCode {
        /// The client is older than what the manager's messages still mean.
        Version = "version",
        /// The manager knows no such request.
        UnknownRequest = "unknown_request",
        /// It was asked at the read-only socket, and would change something.
        ReadOnly = "read_only",
        /// No daemon of that name is configured.
        UnknownDaemon = "unknown_daemon",
        /// The daemon is not in a state in which this can be done.
        InvalidState = "invalid_state",
        /// The daemon failed while the request waited for it.
        Failed = "failed",
        /// The manager is stopping.
        Stopping = "stopping",
        /// The supervisor found one of its rules broken: nothing is decided any more.
        Halted = "halted",
        /// As many as there can be follow the events.
        TooManyFollowers = "too_many_followers",
        /// As many as there can be are connected.
        Busy = "busy",
        /// Who asks is neither the fleet's user nor root.
        Denied = "denied",
        /// Who asks took too long to ask, or to read the answer.
        TooSlow = "too_slow",
        /// The request is malformed or over a limit.
        Malformed = "malformed",
        /// The answer has no place in a frame.
        TooLarge = "too_large",
        /// The fleet has ended, and something of what its daemons kept is lost or not where it belongs.
        StateLost = "state_lost",
    }
}

/// Who answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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

words! {
    /// What makes a change of the configuration file take effect.
    pub enum TakesEffect {
        /// A reload of the daemon.
        Reload = "reload",
        /// The next start of the fleet.
        Up = "up",
    }
}

/// A key of the configuration file that says something else than what is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigChange {
    /// The daemon; empty: the fleet, or a group.
    pub daemon: String,
    /// The dotted key; empty: the whole daemon is new, or gone from the file.
    pub key: String,
    /// The line of the file on which it stands; none: it stands there no longer.
    pub line: Option<u64>,
    /// What makes it take effect.
    pub takes_effect: TakesEffect,
}

impl ConfigChange {
    /// It on one line, as a compiler would say it of its place in the file.
    #[must_use]
    pub fn in_words(&self, file: &str) -> String {
        let place = self.line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
        let what = match (&*self.daemon, &*self.key) {
            ("", key) => key.to_owned(),
            (daemon, "") => format!("daemon.{daemon}"),
            (daemon, key) => format!("daemon.{daemon}.{key}"),
        };
        let did = match (self.line.is_some(), self.key.is_empty()) {
            (true, true) => "new",
            (true, false) => "changed",
            (false, _) => "removed",
        };
        let way = match self.takes_effect {
            TakesEffect::Reload => format!("takes effect with `duende reload {}`", self.daemon),
            TakesEffect::Up | TakesEffect::Other(_) => "takes effect with the next up".to_owned(),
        };
        format!("{place}: {did}, but {way}: {what}")
    }
}

/// How a fleet is, from how its daemons are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FleetHealth {
    /// The whole.
    pub status: HealthState,
    /// Whether every daemon that should run is healthy.
    pub ready: bool,
    /// The daemons that are not.
    pub missing: Vec<String>,
    /// When to ask again, in seconds; none if it is ready.
    pub retry_after_s: Option<u32>,
    /// Why what daemons keep can't be written, or not to where it belongs; none: it is.
    pub state_fault: Option<String>,
}

words! {
    /// Where a daemon is in its life.
    pub enum DaemonState {
        /// Configured and not started yet: a moment at the beginning of `up`, before anybody can ask.
        Created = "created",
        /// Started once what it depends on is ready; or it lacks something outside of it (its program, a
        /// permission, room), and is tried again and again until that is there.
        Waiting = "waiting",
        /// A daemon that it depends on does not come by itself.
        Blocked = "blocked",
        /// Its image is being made; it starts then.
        Compiling = "compiling",
        /// Started, not ready yet.
        Starting = "starting",
        /// Ready.
        Running = "running",
        /// Ready, and reading its configuration anew.
        Reloading = "reloading",
        /// Held still.
        Paused = "paused",
        /// Asked to stop.
        Stopping = "stopping",
        /// Ended; it stays so until somebody starts it.
        Stopped = "stopped",
        /// Ended; it is started again after its delay.
        Backoff = "backoff",
        /// Failed, and its policy starts it no more.
        Failed = "failed",
        /// Failed too often; it stays so until somebody restarts it.
        Quarantined = "quarantined",
        /// What it ran in died of it, twice; it stays so until somebody restarts it.
        Held = "held",
    }
}

words! {
    /// What the last health check found.
    pub enum HealthState {
        /// Not asked yet in this incarnation, or the daemon can't be asked.
        Unknown = "unknown",
        /// Working.
        Healthy = "healthy",
        /// Working, with less than it promises.
        Degraded = "degraded",
        /// Not working, or silent.
        Unhealthy = "unhealthy",
    }
}

words! {
    /// What a rate counts.
    pub enum RateUnit {
        /// Committed slices.
        Slices = "slices",
        /// Consumed messages.
        Messages = "messages",
    }
}

/// How much a daemon does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rate {
    /// How many in a second, over the last few seconds.
    #[serde(deserialize_with = "number_or_null")]
    pub per_second: f64,
    /// Of what.
    pub unit: RateUnit,
}

/// One daemon, as `ps` and `status` show it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
    /// The share of one processor that its process, or a component itself, used between the last two samples.
    pub processor_percent: Option<f64>,
    /// How much it does.
    pub rate: Option<Rate>,
    /// Its figures. They belong to the daemon, not to the incarnation.
    #[serde(deserialize_with = "numbers_or_null")]
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
    /// The logs that it reads.
    pub sources: Vec<SourceRow>,
}

/// A log that feeds a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceRow {
    /// The channel.
    pub channel: String,
    /// Bytes that were seen of the log and not read yet.
    pub lag_bytes: u64,
    /// Why it can't be read at the moment; empty: it is.
    pub unreadable: String,
}

words! {
    /// What happened to a daemon.
    pub enum EventKind {
        /// A new incarnation was started.
        Started = "started",
        /// It is ready.
        Running = "running",
        /// It reads its configuration anew.
        Reloading = "reloading",
        /// It did not say in time that it has read its configuration anew.
        ReloadTimedOut = "reload_timed_out",
        /// It is held still.
        Paused = "paused",
        /// It was asked to stop.
        Stopping = "stopping",
        /// The incarnation ended by itself or was killed.
        Exited = "exited",
        /// It is started again after a delay.
        Backoff = "backoff",
        /// It stopped as asked.
        Stopped = "stopped",
        /// It ended for good: its policy or its retries allow no restart.
        Failed = "failed",
        /// It failed too often.
        Quarantined = "quarantined",
        /// What it ran in died of it, twice.
        Held = "held",
        /// A daemon that it depends on does not come by itself.
        Blocked = "blocked",
        /// A health check was answered well after it had not been.
        Healthy = "healthy",
        /// A health check was answered badly or not at all.
        Unhealthy = "unhealthy",
        /// A source lost lines: the file was truncated or replaced before they were read.
        SourceGap = "source_gap",
        /// A worker that hosts components ended.
        WorkerExited = "worker_exited",
        /// The process that holds the native daemons ended.
        KeepExited = "keep_exited",
        /// Another configuration is in force.
        ConfigUpdated = "config_updated",
        /// Everything is stopped in order, and the manager ends.
        Shutdown = "shutdown",
        /// Who follows the events was too slow and missed some; the detail begins with their number.
        Lagged = "lagged",
        /// The supervisor found one of its rules broken and decides nothing any more.
        Halted = "halted",
        /// The fleet ends, and a process of this daemon that can't be killed is left.
        LeftBehind = "left_behind",
        /// The daemon gave up a message.
        Rejected = "rejected",
        /// What daemons keep can't be written, or not to where it belongs.
        StateFault = "state_fault",
        /// It can again.
        StateRestored = "state_restored",
    }
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    #[serde(deserialize_with = "known_kernel_event")]
    pub kernel: Option<Box<KernelEvent>>,
}

/// None, if it is one that this version does not know.
fn known_kernel_event<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Box<KernelEvent>>, D::Error> {
    let found = Option::<serde_json::Value>::deserialize(from)?;
    Ok(found.and_then(|value| serde_json::from_value(value).ok()))
}

/// JSON writes what is no number as `null`.
fn number_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

fn numbers_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let found = BTreeMap::<String, Option<f64>>::deserialize(from)?;
    Ok(found.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
}

/// Most samples in one response: each is written in at most 80 bytes.
pub const SAMPLES_PER_RESPONSE_MAX: usize = 1_024;

/// Samples of one figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FigureSamples {
    /// Its name; the unit ends it.
    pub figure: String,
    /// At most [`SAMPLES_PER_RESPONSE_MAX`].
    pub samples: Vec<HistorySample>,
}

/// A figure at an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistorySample {
    /// When, in microseconds since 1970-01-01T00:00:00Z.
    pub time_unix_us: u64,
    /// How much.
    #[serde(deserialize_with = "number_or_null")]
    pub value: f64,
}

/// Splits rows into responses that each fit a frame. A row that would fit none has its texts cut. The answer
/// still needs its [`Done`](Response::Done).
#[must_use]
pub fn daemons_responses(rows: Vec<DaemonRow>) -> Vec<Response> {
    let mut responses = Vec::new();
    let mut daemons = Vec::new();
    let mut batch_bytes = 0;
    for mut row in rows {
        let bytes = row.cut_to_fit();
        if !daemons.is_empty() && batch_bytes + bytes > ROWS_BYTES_MAX {
            responses.push(Response::Daemons { daemons: std::mem::take(&mut daemons) });
            batch_bytes = 0;
        }
        batch_bytes += bytes;
        daemons.push(row);
    }
    if !daemons.is_empty() {
        responses.push(Response::Daemons { daemons });
    }
    responses
}

/// What one response may hold in rows, in bytes: a frame, less room for what is around them.
const ROWS_BYTES_MAX: usize = wire::FRAME_BYTES_MAX - 64;

impl DaemonRow {
    /// Cuts its texts until it fits a frame, and returns how many bytes it takes there, with the comma behind
    /// it. What a daemon prints of itself may need six bytes for each of its own.
    fn cut_to_fit(&mut self) -> usize {
        let mut text_bytes_max = TEXT_BYTES_MAX;
        loop {
            let bytes = json_bytes(self) + 1;
            if bytes <= ROWS_BYTES_MAX || text_bytes_max == 0 {
                return bytes;
            }
            text_bytes_max /= 2;
            self.cut_texts(text_bytes_max);
        }
    }

    fn cut_texts(&mut self, bytes_max: usize) {
        let optional = [&mut self.last_exit, &mut self.blocked_by].into_iter().flatten();
        let texts = [
            &mut self.detail,
            &mut self.health_detail,
            &mut self.reason,
            &mut self.way_out,
            &mut self.command,
            &mut self.log_path,
        ];
        for text in texts.into_iter().chain(optional) {
            if text.len() > bytes_max {
                text.truncate(text.floor_char_boundary(bytes_max));
                text.push('…');
            }
        }
    }
}

/// How long a value is as JSON.
fn json_bytes(value: &impl Serialize) -> usize {
    struct Counted(usize);
    impl std::io::Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counted = Counted(0);
    // Counting does not fail.
    let _ = serde_json::to_writer(&mut counted, value);
    counted.0
}

#[cfg(test)]
mod tests;
