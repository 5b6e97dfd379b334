//! What the manager asks of `keep`, and what `keep` reports.
//!
//! Both travel in the frames of [`duende_core::wire`] over one stream socket. A request that takes
//! a descriptor has it attached to its first byte (`SCM_RIGHTS`). Manager and `keep` are the same
//! executable, so the messages carry no version of their own; the frame's does.

use duende_core::wire::Message;
use duende_core::wire::link::Address;
use serde::{Deserialize, Serialize};

use crate::config::{Environment, StopScope};

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

/// How a daemon is asked to end when nobody says how: when the manager is gone, and when its main
/// process ended and left others behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRule {
    /// The signal's number.
    pub signal: i32,
    /// Who is asked while the main process lives.
    pub scope: StopScope,
    /// How long everybody has from there until SIGKILL, in milliseconds.
    pub grace_ms: u64,
}

/// One process to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// Names the process in everything that follows.
    pub at: Address,
    /// The daemon's name: its processes are known by it.
    pub name: String,
    /// The program and its arguments. A program without a slash is looked up in the `PATH` of
    /// `env`; a relative path starts at `working_dir`.
    pub argv: Vec<String>,
    /// The complete environment; nothing is added but [`LINK_FD_VARIABLE`](duende_core::wire::link::LINK_FD_VARIABLE)
    /// for a link, and [`DAEMON_VARIABLE`](super::DAEMON_VARIABLE) where there are no cgroups.
    pub env: Environment,
    /// Where it runs; `keep`'s own directory when absent.
    pub working_dir: Option<String>,
    /// Whom it runs as; `keep`'s own user when absent.
    pub run_as: Option<RunAs>,
    /// Soft and hard limit of open files; when absent, what the manager was started with.
    pub open_files_max: Option<u64>,
    /// Where its output goes. A directory that is missing is made.
    pub log_path: String,
    /// How it is asked to end.
    pub stop: StopRule,
    /// Where the id of its main process is written before [`KeepEvent::Spawned`] is sent, and removed
    /// at its end. The directory exists.
    pub pid_file: Option<String>,
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
    /// Asks the daemon to end: every process of it, or its main one alone if its
    /// [`StopRule::scope`] says so. What is stopped (SIGSTOP) is continued, so that it can. What the
    /// main process leaves behind has until the grace is over, counted from this request, or until
    /// [`Kill`](Self::Kill). The main process itself is killed by request only.
    Stop {
        /// Which daemon.
        at: Address,
        /// The signal's number.
        signal: i32,
    },
    /// Kills every process of the daemon, again and again until none is left.
    Kill {
        /// Which daemon.
        at: Address,
    },
    /// Sends a signal; nothing happens when the daemon has ended. It asks nobody to end:
    /// [`Stop`](Self::Stop) does.
    Signal {
        /// Which daemon.
        at: Address,
        /// The signal's number. One that has no name of its own (a real-time signal) is not sent.
        signal: i32,
        /// To every process of it instead of to its main one alone.
        group: bool,
    },
    /// Sends SIGHUP to the main process if it does something about it. Answered by
    /// [`KeepEvent::Reloaded`] or [`KeepEvent::ReloadRefused`].
    Reload {
        /// Which daemon.
        at: Address,
    },
    /// Makes another process of the same daemon its main one: its end is then the daemon's. Answered
    /// by [`KeepEvent::MainProcess`] or [`KeepEvent::MainProcessRefused`].
    MainProcess {
        /// Which daemon.
        at: Address,
        /// Which process.
        pid: u32,
    },
    /// Counts the daemon's processes. Answered by [`KeepEvent::Processes`], unless it has ended.
    Count {
        /// Which daemon.
        at: Address,
    },
    /// Asks for a sign of life. Answered by [`KeepEvent::Lives`].
    Answer {
        /// Given back in the answer.
        token: u64,
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
    /// It ended as the child of another process, which alone was told how.
    Unseen,
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
        /// The cgroup of all its processes, as `/proc/PID/cgroup` has it; absent where `keep` may
        /// make none.
        cgroup: Option<String>,
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
    /// The main process ended, and others of the daemon are left: they are being ended, and
    /// [`Exited`](Self::Exited) follows when none is left; or one of them becomes the main one.
    MainExited {
        /// Which daemon.
        at: Address,
        /// How the main process ended.
        exit: Exit,
    },
    /// The daemon has ended: its main process did, and none of its processes is left. Nothing follows
    /// for this address but [`OutputDropped`](Self::OutputDropped).
    Exited {
        /// Which daemon.
        at: Address,
        /// The process id of its main process, which is free for others now.
        pid: u32,
        /// How the main process ended.
        exit: Exit,
        /// Processor time of it and of the children that it waited for, in nanoseconds.
        cpu_ns: u64,
        /// Most resident memory of it or of a child that it waited for, in bytes.
        rss_bytes_max: u64,
        /// What to do about an end that is probably a misunderstanding, for people.
        hint: Option<String>,
    },
    /// The main process was sent SIGHUP, and does something about it.
    Reloaded {
        /// Which daemon.
        at: Address,
    },
    /// The main process was not sent SIGHUP: it would have ended of it, or not noticed.
    ReloadRefused {
        /// Which daemon.
        at: Address,
        /// Why, and the way out.
        reason: String,
    },
    /// The main process is another one from now on.
    MainProcess {
        /// Which daemon.
        at: Address,
        /// Its process id.
        pid: u32,
    },
    /// The main process is the one that it was.
    MainProcessRefused {
        /// Which daemon.
        at: Address,
        /// The process that was named.
        pid: u32,
        /// Why.
        reason: String,
    },
    /// How many processes the daemon has.
    Processes {
        /// Which daemon.
        at: Address,
        /// The main one included.
        count: u32,
    },
    /// `keep` lives.
    Lives {
        /// From the request.
        token: u64,
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
