//! What a store says of what failed, with the way out.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Commit;

/// Why the store cannot write at the moment. It keeps trying; [`Store::fault`](super::Store::fault) turns to none when it
/// succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFault {
    /// What kind of failure it is.
    pub kind: FaultKind,
    /// The database file.
    pub path: PathBuf,
    /// What the system said.
    pub detail: String,
    /// Attempts that failed in a row.
    pub attempts: u32,
}

/// The kinds of [`StoreFault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// No space, or over a quota.
    Full,
    /// The file system refuses.
    Io,
    /// What was read back is not what was written.
    Damaged,
    /// It is what another version wrote.
    OtherFormat,
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, path, detail, attempts } = self;
        let path = path.display();
        let way_out = match kind {
            FaultKind::Full => {
                "free some space on its file system; what was committed is kept in memory, and written \
                 once there is room; if the manager ends before, it is lost"
            }
            FaultKind::Io => {
                "check its file system; what was committed is kept in memory, and tried again; if the \
                 manager ends before it is written, it is lost"
            }
            FaultKind::Damaged => {
                "stop the manager and put a copy of the file in its place, or move it away to start \
                 without state; what was committed since the file can't be written is lost then"
            }
            FaultKind::OtherFormat => {
                "it is not damaged, but another version wrote it: stop the manager, and use the version of \
                 duende that wrote the file; what was committed since the file can't be written is lost then"
            }
        };
        write!(f, "cannot write state to {path}: {detail} (attempt {attempts}): {way_out}")
    }
}

/// Why a call to the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the database open.
    #[error(
        "{path} is in use by another manager: stop that one (`duende down`), or give this one another state directory"
    )]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// The file was not made by this program.
    #[error(
        "{path} is not a state database of duende ({detail}): move it away, or name another state directory"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How that shows.
        detail: String,
    },
    /// The file was made by another version of this program.
    #[error(
        "{path} is not damaged, but has schema {found}, written by {writer}, and this version of duende ({ours}) \
         reads schemas up to {supported}: leave the file where it is, and use the version that wrote it, to run \
         the fleet or to `duende state export` its daemons",
        ours = env!("CARGO_PKG_VERSION")
    )]
    Schema {
        /// The database file.
        path: PathBuf,
        /// The file's schema.
        found: u64,
        /// The newest schema that is understood.
        supported: u64,
        /// The program that wrote it last.
        writer: String,
    },
    /// The file is redb's in a format, or has tables of a form, that this version does not read.
    #[error(
        "{path} is not damaged, but in a format that this version of duende ({ours}) does not read ({detail}), \
         written by {writer}: leave the file where it is, and use the version that wrote it, to run the fleet or \
         to `duende state export` its daemons",
        ours = env!("CARGO_PKG_VERSION")
    )]
    OtherFormat {
        /// The database file.
        path: PathBuf,
        /// How that shows.
        detail: String,
        /// The program that wrote it last.
        writer: String,
    },
    /// The file holds the state of a fleet that is not the one that asks.
    #[error(
        "{path} holds the state of fleet `{found}`, not of `{asking}`: give `{asking}` another state directory; to \
         take daemons over, `duende state export` them from `{found}` and `duende state import` them here; if the \
         fleet was renamed, name it `{found}` again"
    )]
    OtherFleet {
        /// The database file.
        path: PathBuf,
        /// The fleet whose state it is.
        found: String,
        /// The fleet that was to use it.
        asking: String,
    },
    /// The file's content contradicts itself.
    #[error(
        "{path} is damaged ({detail}): put a copy in its place, or move it away to start without state; `duende \
         state check` says more, and `duende state export` what can still be read"
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// What is kept of one daemon contradicts itself; of the others it does not.
    #[error(
        "{path} is damaged in what it keeps of daemon `{name}` ({detail}), and of that alone: with the fleet down, \
         `duende state import --replace` puts a backup in its place, and `duende state reset {name}` lets it begin \
         anew",
        name = daemon.escape_debug()
    )]
    DamagedDaemon {
        /// The database file.
        path: PathBuf,
        /// The daemon's name.
        daemon: String,
        /// What was found.
        detail: String,
    },
    /// What lies where the file's journal should is not the one that the file goes on in, or is damaged.
    #[error(
        "{journal} is not the journal that {path} goes on in ({detail}): put both files back as they were at one moment; \
         or, to go on with what can still be read of them, `duende state reset --journal`, which leaves the journal \
         beside them"
    )]
    Journal {
        /// The database file.
        path: PathBuf,
        /// The journal.
        journal: PathBuf,
        /// What was found.
        detail: String,
    },
    /// There is a journal, and not what it is the journal of.
    #[error(
        "{path} is not there, but {journal} is, which holds a part of it: put {path} back, or, to start without state, \
         move the journal away too"
    )]
    LoneJournal {
        /// The database file.
        path: PathBuf,
        /// The journal.
        journal: PathBuf,
    },
    /// The file could not be opened, made or read.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The database file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store was closed while a fault lasted.
    #[error(
        "{commits} commits are lost: state could not be written to {path} before the end: {detail}",
        path = fault.path.display(), detail = fault.detail
    )]
    Unwritten {
        /// How many accepted commits are lost.
        commits: usize,
        /// Why.
        fault: StoreFault,
    },
    /// The store was closed while the disk did not answer.
    #[error(
        "the disk did not answer within {} s: of {commits} commits it is not known whether they are in {path}; \
         a commit is in it as a whole or not at all", within.as_secs()
    )]
    NoAnswer {
        /// The database file.
        path: PathBuf,
        /// How many accepted commits may be lost.
        commits: usize,
        /// How long it was waited for.
        within: Duration,
    },
    /// What was written is not where the next manager looks for it.
    #[error(
        "{detail} while the manager had it open: what daemons kept since is in a file that is no longer there, or is \
         lost; if it was moved, put it back before the fleet starts again"
    )]
    Astray {
        /// What became of the file.
        detail: String,
    },
    /// The writer's thread has panicked.
    #[error("the store of {path} has died: {commits} commits are lost")]
    Died {
        /// The database file.
        path: PathBuf,
        /// How many accepted commits are lost.
        commits: usize,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// Why a commit was not accepted.
#[derive(Debug)]
pub enum Refused {
    /// The queue has no room: the commit is given back. [`Store::room`](super::Store::room) waits for some.
    Full(Box<Commit>),
    /// The store is closed.
    Closed,
}
