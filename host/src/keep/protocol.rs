//! What the manager asks of `keep`, and what `keep` reports.
//!
//! Both travel in the frames of [`duende_core::wire`] over one stream socket. A request that takes
//! a descriptor has it attached to its first byte (`SCM_RIGHTS`). Manager and `keep` are the same
//! executable, so the messages carry no version of their own; the frame's does.

use duende_core::wire::Message;
use duende_core::wire::link::Address;
use serde::{Deserialize, Serialize};

/// Whom a daemon runs as. The manager resolves names; `keep` reads no user database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All supplementary groups; those of `keep` are dropped.
    pub groups: Vec<u32>,
}

/// One process to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// Names the process in everything that follows.
    pub at: Address,
    /// The program and its arguments. A program without a slash is looked up in the `PATH` of
    /// `env`; a relative path starts at `working_dir`.
    pub argv: Vec<String>,
    /// The complete environment; nothing is added but [`LINK_FD_VARIABLE`](super::LINK_FD_VARIABLE)
    /// for a link.
    pub env: Vec<(String, String)>,
    /// Where it runs; `keep`'s own directory when absent.
    pub working_dir: Option<String>,
    /// Whom it runs as; `keep`'s own user when absent.
    pub run_as: Option<RunAs>,
    /// Soft and hard limit of open files; inherited when absent.
    pub open_files_max: Option<u64>,
    /// Where its output goes. The directory exists.
    pub log_path: String,
    /// How long it may take to end once the manager is gone, in milliseconds from SIGTERM.
    pub stop_grace_ms: u64,
    /// Whether a descriptor comes with this request that the daemon inherits.
    pub link: bool,
}

/// What the manager asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeepRequest {
    /// Starts a process. Answered by [`KeepEvent::Spawned`] or [`KeepEvent::SpawnFailed`].
    Spawn(Box<SpawnRequest>),
    /// Starts what was last asked for with [`Spawn`](Self::Spawn) for this slot, under a new
    /// address: a restart neither says nor reads the command line and the environment again.
    /// Answered as `Spawn` is; the descriptor of a link comes with this request too.
    SpawnAgain {
        /// Names the process in everything that follows.
        at: Address,
    },
    /// Sends a signal; nothing happens when the process has ended.
    Signal {
        /// Which process.
        at: Address,
        /// The signal's number. One that has no name of its own (a real-time signal) is not sent.
        signal: i32,
        /// To its whole group instead of to it alone.
        group: bool,
    },
    /// Kills the process and its group.
    Kill {
        /// Which process.
        at: Address,
    },
    /// Stops everything as when the link closes, and reports it.
    Shutdown,
}

impl Message for KeepRequest {
    const KIND: u8 = 3;
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether a core was dumped.
        core_dumped: bool,
    },
}

/// What `keep` reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeepEvent {
    /// The program runs.
    Spawned {
        /// Which process.
        at: Address,
        /// Its process id, which is its group id too.
        pid: u32,
    },
    /// The program could not be started; nothing follows for this address.
    SpawnFailed {
        /// Which process.
        at: Address,
        /// The system's error number; 0 when there was no system call to fail.
        errno: i32,
        /// What failed, why, and the way out.
        reason: String,
    },
    /// The process ended and was reaped; nothing follows for this address but
    /// [`OutputDropped`](Self::OutputDropped).
    Exited {
        /// Which process.
        at: Address,
        /// Its process id, which is free for others now.
        pid: u32,
        /// How it ended.
        exit: Exit,
        /// Processor time of it and of the children that it waited for, in nanoseconds.
        cpu_ns: u64,
        /// Most resident memory of it or of a child that it waited for, in bytes.
        rss_bytes_max: u64,
    },
    /// Lines of output could not be written to the log. At most one a second for each process.
    OutputDropped {
        /// Which process.
        at: Address,
        /// How many lines, since this was said last.
        lines: u64,
    },
}

impl Message for KeepEvent {
    const KIND: u8 = 4;
}
