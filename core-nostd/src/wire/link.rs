//! What a manager and a place where daemons run say to each other.
//!
//! The manager sends [`Command`]s; the peer — a WOS kernel, or the runtime inside a native daemon —
//! answers with [`Event`]s. Both sides are flat: a slice's transaction is a run of events that
//! [`Event::SliceEnd`] closes, so neither side needs a heap to read or write one, and a peer that
//! dies in the middle of a run has committed nothing.
//!
//! A peer names a daemon by [`Address`]: the manager's slot, and the incarnation in that slot. An
//! event from an incarnation that is no longer current is ignored by the manager, so a late message
//! of the dead never reaches the living.

mod bytes;
mod described;
mod payloads;

use serde::{Deserialize, Serialize};

pub use self::{
    described::{Description, Grants, Limits},
    payloads::{PAYLOAD_PREFIX_BYTES, Part, Payloads, payload_prefix},
};
pub use crate::policy::quota::Pressure;

/// Version of the messages in this module. [`Hello`](super::Hello) says which ones a build speaks.
///
/// From version 3 on a variant that was released does not change: no field, no order, no type, and
/// neither does a type within it. What is new is a variant at the end, with another version of the link,
/// and is sent to a peer that speaks it; or a frame of a kind that may be skipped. `wire/golden/` has the
/// bytes of every variant of every released version (`tests::released_variants_keep_their_bytes`).
pub const LINK_VERSION: u16 = 3;

/// The environment variable that tells a native daemon the number of its link's descriptor: a stream
/// socket that it inherits for itself alone.
pub const LINK_FD_VARIABLE: &str = "DUENDE_LINK_FD";

/// Longest key of `state`, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// Longest value of `state` and longest message of a channel, in bytes.
pub const VALUE_BYTES_MAX: usize = 65_536;
/// Longest name of a daemon, channel or metric, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest line of a log, and longest text of a reason, in bytes.
pub const TEXT_BYTES_MAX: usize = 8_192;
/// Most channels that one daemon has.
pub const CHANNELS_MAX: usize = 16;
/// Most messages that a peer holds for one channel before they are consumed: the largest window.
pub const CHANNEL_MESSAGES_MAX: usize = WINDOW_MAX as usize;
/// The same as [`Command::ChannelOpen`] says it.
pub const WINDOW_MAX: u32 = 512;
/// Most entries of one daemon's configuration table.
pub const CONFIG_ENTRIES_MAX: usize = 1_024;
/// Most metrics, counters and gauges together, that one incarnation publishes, and most samples of
/// one answer to [`Command::Metrics`].
pub const METRICS_MAX: usize = 64;

/// One incarnation of one daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The slot in the manager's table of daemons.
    pub daemon: u32,
    /// Counts the starts in that slot.
    pub incarnation: u32,
    /// Which of its processes: 0 is the daemon itself. No peer has others yet, so whatever is said of one
    /// is said of nobody, and ignored.
    pub process: u32,
}

impl Address {
    /// That of a daemon itself.
    #[must_use]
    pub const fn of(daemon: u32, incarnation: u32) -> Self {
        Self { daemon, incarnation, process: 0 }
    }
}

/// What the manager tells a peer.
///
/// A daemon is described by [`Create`](Command::Create), then any number of [`Setting`](Command::Setting),
/// [`Grant`](Command::Grant), [`ConfigEntry`](Command::ConfigEntry), [`StateEntry`](Command::StateEntry) and
/// [`ChannelOpen`](Command::ChannelOpen), and set going by [`Start`](Command::Start).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command<'a> {
    /// Makes a process, in state Created.
    Create {
        /// Its address from here on.
        at: Address,
        /// The daemon's name, for logs and for the process table.
        name: &'a str,
        /// Path of the image; empty for a native peer, which is its own image.
        image: &'a str,
        /// 0 (most urgent) to 7.
        level: u8,
    },
    /// One limit, by the name that `context.limit` has for it. A limit that is not set is none.
    Setting {
        /// Which daemon.
        at: Address,
        /// Its name: one of [`Limits`], or one that came later.
        name: &'a str,
        /// In the unit of that limit.
        value: u64,
        /// Whether the daemon may not run where nobody enforces it: a peer that does not know the name
        /// refuses the daemon, and says so. Otherwise it ignores the limit.
        required: bool,
    },
    /// One capability that the configuration grants, in its words.
    Grant {
        /// Which daemon.
        at: Address,
        /// The capability: one of [`Grants`], or one that came later.
        capability: &'a str,
        /// As of [`Setting`](Command::Setting).
        required: bool,
    },
    /// One entry of `[daemon.config]`. After [`Start`](Command::Start) it is an entry of the next
    /// table, which [`Reload`](Command::Reload) puts in force.
    ConfigEntry {
        /// Which daemon.
        at: Address,
        /// The dotted key.
        key: &'a str,
        /// The value's text.
        value: &'a str,
        /// What the text stands for.
        kind: ValueKind,
    },
    /// One pair of the durable state, as of the last committed slice.
    StateEntry {
        /// Which daemon.
        at: Address,
        /// The key, at most [`KEY_BYTES_MAX`] bytes.
        key: &'a str,
        /// The value, at most [`VALUE_BYTES_MAX`] bytes.
        #[serde(serialize_with = "bytes::serialize")]
        value: &'a [u8],
    },
    /// Opens a channel. Channels are numbered 0, 1, … in the order in which they are opened.
    ChannelOpen {
        /// Which daemon.
        at: Address,
        /// The channel's name.
        name: &'a str,
        /// Whether the daemon may receive from it.
        granted: bool,
        /// Most messages that the manager has sent and the daemon has not consumed, at any time: at most
        /// [`CHANNEL_MESSAGES_MAX`].
        window: u32,
    },
    /// Everything was said: initialise and run.
    Start {
        /// Which daemon.
        at: Address,
    },
    /// Messages for a channel, at least one. The manager keeps within the channel's window.
    Messages {
        /// Which daemon.
        at: Address,
        /// The channel's number.
        channel: u8,
        /// The number of the first one in the channel, from which they are counted without gaps: also
        /// from one command to the next, within an incarnation.
        sequence: u64,
        /// 1; more if they were delivered before.
        attempt: u32,
        /// Their bytes.
        #[serde(borrow)]
        payloads: Payloads<'a>,
    },
    /// Holds the daemon still from its next slice boundary on: an open slice is finished, and none
    /// is begun. Its clock stands, and with it its timer. What is sent to it waits within its limits.
    /// Doing it twice is doing it once; for a daemon that was asked to stop it does nothing.
    Pause {
        /// Which daemon.
        at: Address,
    },
    /// Lets a paused daemon go on. Its next slice is told so. Without effect if it is not paused.
    Resume {
        /// Which daemon.
        at: Address,
    },
    /// Puts a new configuration in force for the next slice, and tells that slice so. The table is
    /// exactly what was sent by [`ConfigEntry`](Command::ConfigEntry) since the daemon was started, or
    /// since the last reload: all of it, not the differences. Answered by [`Event::Reloaded`].
    Reload {
        /// Which daemon.
        at: Address,
    },
    /// Asks the daemon to stop at the next slice boundary. One that is paused goes on for that.
    Shutdown {
        /// Which daemon.
        at: Address,
        /// How long it may take, in nanoseconds from receipt.
        grace_ns: u64,
    },
    /// Ends the daemon now; an open slice is discarded.
    Kill {
        /// Which daemon.
        at: Address,
    },
    /// Asks for the daemon's health; answered by [`Event::Health`] with the same token, at a slice
    /// boundary. The daemon is not asked while a slice is open or while it is paused: the peer answers
    /// [`HealthReport::Busy`] or [`HealthReport::Paused`] for it, at once.
    HealthCheck {
        /// Which daemon.
        at: Address,
        /// Echoed in the answer.
        token: u64,
    },
    /// Asks for the daemon's own figures; answered by [`Event::Sample`]s and one
    /// [`Event::SamplesEnd`] with the same token. A paused daemon has no samples.
    Metrics {
        /// Which daemon.
        at: Address,
        /// Echoed in the answer.
        token: u64,
    },
}

/// What the text of a configuration's entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueKind {
    /// Itself.
    Text,
    /// An integer, in decimal.
    Integer,
    /// A number, as Rust writes it; `inf` and `nan` too.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A whole array in TOML's notation; its elements have entries of their own.
    Array,
}

/// How urgent a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    /// For following single steps.
    Trace,
    /// For finding a fault.
    Debug,
    /// Normal course.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
    /// Somebody has to come.
    Critical,
}

/// What a health check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthReport<'a> {
    /// Working.
    Healthy,
    /// Working, with less than promised.
    Degraded(&'a str),
    /// Not working.
    Unhealthy(&'a str),
    /// In a slice for this long, in nanoseconds.
    Busy {
        /// Running time of the open slice so far.
        slice_ns: u64,
    },
    /// Held still by [`Command::Pause`].
    Paused,
}

/// How an incarnation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It said `exit`, or it returned from `shutdown`.
    Graceful,
    /// `init`, `run` or `shutdown` returned an error.
    Error,
    /// It trapped.
    Trap,
    /// A slice passed its budget.
    SliceBudget,
    /// It was killed by [`Command::Kill`].
    Killed,
    /// It could not be made: the image is unusable or a limit of the peer is reached. Trying again
    /// without a change is unlikely to help.
    Refused,
    /// It could not be made now: its image can't be had, or the peer has no room for it. That may change.
    Unavailable,
}

/// What a daemon holds within its quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// Linear memory: [`Limits::memory_bytes_max`].
    Memory,
    /// Keys and values of `state`: [`Limits::state_bytes_max`].
    State,
}

/// What a daemon has used so far, told now and then by a peer whose daemons are no processes of the system. A
/// frame of its own kind, which may be skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Which daemon.
    pub at: Address,
    /// Processor time of this incarnation, in nanoseconds.
    pub processor_ns: u64,
    /// Slices of this incarnation that changed nothing and asked for the next one at once.
    pub empty_slices: u64,
}

/// What a peer tells the manager.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event<'a> {
    /// `init` returned: the daemon is Running.
    Running {
        /// Which daemon.
        at: Address,
        /// The process id within the peer.
        pid: u32,
    },
    /// A line for the daemon's log. Outside the transaction.
    Log {
        /// Which daemon.
        at: Address,
        /// How urgent.
        level: LogLevel,
        /// The line, at most [`TEXT_BYTES_MAX`] bytes.
        text: &'a str,
    },
    /// Part of the open transaction: `state.set`.
    StateSet {
        /// Which daemon.
        at: Address,
        /// The key.
        key: &'a str,
        /// The value.
        #[serde(serialize_with = "bytes::serialize")]
        value: &'a [u8],
    },
    /// Part of the open transaction: `state.delete`.
    StateDelete {
        /// Which daemon.
        at: Address,
        /// The key.
        key: &'a str,
    },
    /// Part of the open transaction: every message up to and with `sequence` was received.
    Consumed {
        /// Which daemon.
        at: Address,
        /// The channel's number.
        channel: u8,
        /// The last one received.
        sequence: u64,
    },
    /// Part of the open transaction: `metric.counter-add`.
    CounterAdd {
        /// Which daemon.
        at: Address,
        /// The counter's name.
        name: &'a str,
        /// What is added.
        delta: u64,
    },
    /// Part of the open transaction: `metric.gauge-set`.
    GaugeSet {
        /// Which daemon.
        at: Address,
        /// The gauge's name.
        name: &'a str,
        /// The new level.
        value: f64,
    },
    /// Commits the open transaction of this daemon.
    SliceEnd {
        /// Which daemon.
        at: Address,
        /// Counts the slices of this incarnation that committed something, from 1.
        slice: u64,
        /// Linear memory in use, in bytes; 0 from a process, whose memory its manager can see.
        memory_bytes: u64,
    },
    /// The answer to [`Command::HealthCheck`].
    Health {
        /// Which daemon.
        at: Address,
        /// From the question.
        token: u64,
        /// What was found.
        report: HealthReport<'a>,
        /// Linear memory in use, in bytes.
        memory_bytes: u64,
    },
    /// One figure of the answer to [`Command::Metrics`].
    Sample {
        /// Which daemon.
        at: Address,
        /// From the question.
        token: u64,
        /// The figure's name.
        name: &'a str,
        /// Whether it is a counter; else it is a gauge.
        counter: bool,
        /// Its value.
        value: f64,
    },
    /// The end of the answer to [`Command::Metrics`].
    SamplesEnd {
        /// Which daemon.
        at: Address,
        /// From the question.
        token: u64,
    },
    /// The pressure on something that the daemon holds has changed. It is asked to hold less before it
    /// is refused more; the contract of daemons has no word for that yet, so it is for people to see.
    Pressure {
        /// Which daemon.
        at: Address,
        /// What it holds.
        held: Held,
        /// The pressure now, its own or that of the whole peer.
        pressure: Pressure,
    },
    /// A slice that was told of a new configuration has returned; its transaction, if it had one, is
    /// closed. Answers every [`Command::Reload`] that came before that slice was opened.
    Reloaded {
        /// Which daemon.
        at: Address,
    },
    /// The incarnation is over; nothing follows from it.
    Exited {
        /// Which daemon.
        at: Address,
        /// How.
        outcome: Outcome,
        /// With [`Graceful`](Outcome::Graceful) and [`Error`](Outcome::Error), its exit code, by the one
        /// table of [`restart`](crate::restart); else 0.
        code: u8,
        /// Why, for people.
        reason: &'a str,
    },
    /// In the place of [`Reloaded`](Event::Reloaded): the daemon says that the new configuration can't
    /// work. The one before it is in force again.
    ReloadRefused {
        /// Which daemon.
        at: Address,
        /// Why, for people.
        reason: &'a str,
    },
    /// Part of the open transaction: the daemon gives up a message that it received.
    Rejected {
        /// Which daemon.
        at: Address,
        /// The channel's number.
        channel: u8,
        /// The message's number.
        sequence: u64,
        /// Why, for people.
        reason: &'a str,
    },
}

#[cfg(test)]
mod tests;
