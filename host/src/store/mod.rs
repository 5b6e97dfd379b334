//! The durable `state` of daemons: one database, one writer thread, one fsync for many slices.
//!
//! Rules:
//! 1. **A commit is atomic.** What one slice wrote, the positions of its sources and its metrics
//!    become durable together or not at all.
//! 2. **Order is kept.** Commits become durable in the order in which [`Store::commit`] accepted
//!    them; a later one is never durable without the earlier ones.
//! 3. **Groups.** The first commit that arrives opens a group; it closes after the store's window
//!    ([`GROUP_WINDOW`], unless it was opened with another) or [`GROUP_COMMITS_MAX`] commits, whichever is
//!    first, and costs one fsync. A lone commit waits out its window too, which
//!    bounds the fsyncs (`a_window_is_how_long_a_lone_commit_waits`); nothing that a daemon does waits for it.
//!    [`load`](Store::load), [`snapshot`](Store::snapshot), [`flush`](Store::flush), [`forget`](Store::forget) and
//!    [`close`](Store::close) close the group at once, because somebody waits for them.
//! 4. **A failing disk reorders nothing, and loses nothing while the store is open.** The writer keeps
//!    the group, says so through [`Store::fault`], and tries again until it succeeds. Meanwhile commits
//!    queue up to [`QUEUE_COMMITS_MAX`] and [`QUEUE_BYTES_MAX`]; then `commit` waits, and
//!    [`try_commit`](Store::try_commit) gives the commit back.
//! 5. **A fault of writing stops no reading.** While a group fails, a load waits only if a commit of
//!    its own daemon does.
//! 6. **The end comes in time.** [`Store::close`] does not wait for a disk longer than it is told to;
//!    what may not be on it then is counted.
//!
//! `writer` is the thread, its groups and its retries. `database` is the open file, on a `disk` as redb sees it;
//! `tables` is its layout, `seal` how damage is found, `rows` what is done to them, `record` who a daemon is in
//! it, `migrate` the way from older layouts, `fault` what a failure of redb means. `export` is the form in which a daemon leaves a file, and `state_file` what the command
//! line does with the file of a fleet that does not run.

mod database;
mod disk;
mod export;
mod fault;
mod migrate;
mod record;
mod rows;
mod seal;
mod snapshot;
mod state_file;
mod tables;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod migrate_tests;
#[cfg(test)]
mod state_file_tests;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot, watch};

use database::Database;
use writer::{Request, Says, Writer};

pub use export::{EXPORT_BYTES_MAX, Export, ExportError};
pub use record::{DaemonId, Record};
pub use rows::{Kept, Listed};
pub use snapshot::{Snapshot, SnapshotError};
pub use state_file::{Checked, ImportError, StateFile};

/// The state of a fleet is this file in its state directory.
pub const STATE_FILE: &str = "state.redb";

/// How long a group stays open, unless the store is told otherwise.
pub const GROUP_WINDOW: Duration = Duration::from_millis(5);
/// Most commits in one group.
pub const GROUP_COMMITS_MAX: usize = 1_000;
/// Most commits accepted and not yet durable.
pub const QUEUE_COMMITS_MAX: usize = 10_000;
/// Most bytes of commits accepted and not yet durable. A single larger commit is accepted when the
/// queue is empty.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// The unit in which [`QUEUE_BYTES_MAX`] is handed out: permits are counted in 32 bits.
const QUEUE_UNIT_BYTES: usize = 1 << 10;
const QUEUE_UNITS_MAX: u32 = 1 << 16;
const _: () = assert!(QUEUE_UNITS_MAX as usize == QUEUE_BYTES_MAX / QUEUE_UNIT_BYTES);
/// A quarter of them.
const QUEUE_UNITS_QUARTER: u32 = QUEUE_UNITS_MAX / 4;

/// What one slice changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// The daemon's name.
    pub daemon: String,
    /// The writes to its `state`, in order.
    pub writes: Vec<Write>,
    /// For each channel that the slice received from, by name: where its source goes on.
    pub positions: Vec<(String, Vec<u8>)>,
    /// What is added to counters. They saturate.
    pub counters: Vec<(String, u64)>,
    /// The new levels of gauges.
    pub gauges: Vec<(String, f64)>,
}

impl Commit {
    /// Its share of [`QUEUE_UNITS_MAX`].
    fn size_units(&self) -> u32 {
        let units = self.size_bytes().div_ceil(QUEUE_UNIT_BYTES);
        u32::try_from(units).unwrap_or(u32::MAX).min(QUEUE_UNITS_MAX)
    }

    /// Roughly what the commit occupies in memory, in bytes.
    fn size_bytes(&self) -> usize {
        const ENTRY_BYTES: usize = 64;
        let writes = self.writes.iter().map(|write| match write {
            Write::Set { key, value } => key.len() + value.len(),
            Write::Delete { key } => key.len(),
        });
        let positions = self.positions.iter().map(|(name, at)| name.len() + at.len());
        let counters = self.counters.iter().map(|(name, _)| name.len());
        let gauges = self.gauges.iter().map(|(name, _)| name.len());
        writes
            .chain(positions)
            .chain(counters)
            .chain(gauges)
            .map(|bytes| bytes + ENTRY_BYTES)
            .sum::<usize>()
            + self.daemon.len()
            + ENTRY_BYTES
    }
}

/// One write to `state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Set {
        /// The key.
        key: String,
        /// Its new value.
        value: Vec<u8>,
    },
    /// Removes a key, if it is there.
    Delete {
        /// The key.
        key: String,
    },
}

/// Everything that is kept of one daemon, each list in the order of its names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Its `state`.
    pub state: Vec<(String, Vec<u8>)>,
    /// For each channel, where its source goes on.
    pub positions: Vec<(String, Vec<u8>)>,
    /// The totals of its counters.
    pub counters: Vec<(String, u64)>,
    /// The levels of its gauges.
    pub gauges: Vec<(String, f64)>,
}

/// Called on the writer thread once a commit is durable. It must not block: all daemons wait for it.
pub type Done = Box<dyn FnOnce() + Send>;

/// Why the store cannot write at the moment. It keeps trying; [`Store::fault`] turns to none when it
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
    /// The queue has no room: the commit is given back. [`Store::room`] waits for some.
    Full(Box<Commit>),
    /// The store is closed.
    Closed,
}

/// The store. Dropping it lets the writer finish what it accepted, without waiting for it.
#[derive(Debug)]
pub struct Store {
    requests: mpsc::Sender<Request>,
    /// The bounds of the queue; std's channel, which the writer can wait on with a deadline, has none.
    room_commits: Arc<Semaphore>,
    room_units: Arc<Semaphore>,
    /// What the largest commit needs that [`try_commit`](Store::try_commit) refused since
    /// [`room`](Store::room) was waited for.
    wanted_units: AtomicU32,
    fault: watch::Receiver<Option<StoreFault>>,
    astray: watch::Receiver<Option<String>>,
    /// Commits that were accepted and are not durable.
    unwritten: Arc<AtomicUsize>,
    /// Ends when the writer has, and with it the lock on the file.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
    path: PathBuf,
}

/// A commit's share of the queue, given back when it is durable.
#[derive(Debug)]
pub(super) struct Room {
    _commit: OwnedSemaphorePermit,
    _units: OwnedSemaphorePermit,
}

impl Store {
    /// Opens the database at `path`, or makes it, and starts the writer thread. Blocks on the file
    /// system; after a kill it also checks the whole file.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`Foreign`](StoreError::Foreign), [`Schema`](StoreError::Schema),
    /// [`OtherFormat`](StoreError::OtherFormat), [`Damaged`](StoreError::Damaged) or [`Io`](StoreError::Io).
    /// The file is left as it was.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_gathering(path, None, GROUP_WINDOW)
    }

    /// As [`open`](Self::open), for a fleet: a file that nobody's was is this fleet's from now on.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`StoreError::OtherFleet`].
    pub fn open_for(path: impl AsRef<Path>, fleet: &str) -> Result<Self, StoreError> {
        Self::open_gathering(path, Some(fleet), GROUP_WINDOW)
    }

    /// As [`open_for`](Self::open_for), or [`open`](Self::open) without a fleet, with groups that stay open for
    /// `window`.
    ///
    /// # Errors
    /// As they.
    pub fn open_gathering(
        path: impl AsRef<Path>,
        fleet: Option<&str>,
        window: Duration,
    ) -> Result<Self, StoreError> {
        Self::start(Database::open(path.as_ref(), fleet)?, window)
    }

    fn start(database: Database, window: Duration) -> Result<Self, StoreError> {
        let path = database.path().to_owned();
        let (requests, inbox) = mpsc::channel();
        let (fault_sender, fault) = watch::channel(None);
        let (astray_sender, astray) = watch::channel(None);
        let (end, ended) = oneshot::channel();
        let unwritten = Arc::new(AtomicUsize::new(0));
        let says =
            Says { fault: fault_sender, astray: astray_sender, unwritten: unwritten.clone() };
        let writer = Writer::new(database, inbox, says, window);
        std::thread::Builder::new()
            .name("duende-store".to_owned())
            .spawn(move || {
                writer.run();
                drop(end);
            })
            .map_err(|source| StoreError::Io { path: path.clone(), source })?;
        Ok(Self {
            requests,
            room_commits: Arc::new(Semaphore::new(QUEUE_COMMITS_MAX)),
            room_units: Arc::new(Semaphore::new(QUEUE_BYTES_MAX / QUEUE_UNIT_BYTES)),
            wanted_units: AtomicU32::new(0),
            fault,
            astray,
            unwritten,
            ended: Mutex::new(Some(ended)),
            path,
        })
    }

    /// Hands over a commit; returns as soon as the queue has room, long before it is durable, which
    /// `done` tells. Waits only while the queue is full. Cancelling the call hands over nothing.
    ///
    /// # Errors
    /// [`StoreError::Closed`]; `done` is then dropped without being called.
    pub async fn commit(&self, commit: Commit, done: Option<Done>) -> Result<(), StoreError> {
        let units = commit.size_units();
        let closed = |_| StoreError::Closed;
        let room = Room {
            _commit: Arc::clone(&self.room_commits).acquire_owned().await.map_err(closed)?,
            _units: Arc::clone(&self.room_units).acquire_many_owned(units).await.map_err(closed)?,
        };
        self.send_commit(commit, done, room)
    }

    /// Hands over a commit if the queue has room now. Never waits.
    ///
    /// # Errors
    /// It has none, or the store is closed.
    pub fn try_commit(&self, commit: Commit) -> Result<(), Refused> {
        let units = commit.size_units();
        let one = match Arc::clone(&self.room_commits).try_acquire_owned() {
            Ok(one) => one,
            Err(TryAcquireError::NoPermits) => return Err(self.full(commit, units)),
            Err(TryAcquireError::Closed) => return Err(Refused::Closed),
        };
        let Ok(all) = Arc::clone(&self.room_units).try_acquire_many_owned(units) else {
            return Err(self.full(commit, units));
        };
        let room = Room { _commit: one, _units: all };
        self.send_commit(commit, None, room).map_err(|_| Refused::Closed)
    }

    fn send_commit(
        &self,
        commit: Commit,
        done: Option<Done>,
        room: Room,
    ) -> Result<(), StoreError> {
        // Before it is sent: the writer may be done with it at once.
        self.unwritten.fetch_add(1, Ordering::SeqCst);
        self.send(Request::Commit { commit, done, room }).inspect_err(|_| {
            self.unwritten.fetch_sub(1, Ordering::SeqCst);
        })
    }

    fn full(&self, commit: Commit, units: u32) -> Refused {
        self.wanted_units.fetch_max(units, Ordering::Relaxed);
        Refused::Full(Box::new(commit))
    }

    /// Waits until the queue has room for whatever [`try_commit`](Self::try_commit) refused. Somebody
    /// else may take it first.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub async fn room(&self) -> Result<(), StoreError> {
        let wanted = self.wanted_units.swap(0, Ordering::Relaxed);
        let closed = |_| StoreError::Closed;
        let _one = self.room_commits.acquire().await.map_err(closed)?;
        // A quarter of it at least: who waits once should not wait again for the next commit.
        let units = wanted.max(QUEUE_UNITS_QUARTER);
        let _units = self.room_units.acquire_many(units).await.map_err(closed)?;
        Ok(())
    }

    /// Everything kept of a daemon, every earlier commit included. While commits of this daemon can't
    /// be written it waits.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`Damaged`](StoreError::Damaged) or [`OtherFormat`](StoreError::OtherFormat) if it
    /// cannot be read, [`StoreError::Closed`].
    pub async fn load(&self, daemon: &str) -> Result<Loaded, StoreError> {
        let daemon = daemon.to_owned();
        self.ask(|reply| Request::Load { daemon, reply }).await?
    }

    /// A daemon as it is on the disk, to be read while the store goes on; none if nothing is kept of it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn snapshot(&self, daemon: &str) -> Result<Option<Snapshot>, StoreError> {
        let daemon = daemon.to_owned();
        self.ask(|reply| Request::Snapshot { daemon, reply }).await?
    }

    /// Returns once every earlier commit is durable.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.ask(|reply| Request::Flush { reply }).await
    }

    /// Removes everything kept of a daemon, durably.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub async fn forget(&self, daemon: &str) -> Result<(), StoreError> {
        let daemon = daemon.to_owned();
        self.ask(|reply| Request::Forget { daemon, reply }).await
    }

    /// Writes what was accepted, ends the writer thread and unlocks the file. While a fault lasts it
    /// does not wait for its end; for a disk that does not answer it waits as long as `within`. The
    /// writer is left behind then: it goes on if the disk does, and the file is locked so long.
    ///
    /// # Errors
    /// [`StoreError::Unwritten`] if a fault lasts; [`StoreError::NoAnswer`] if the disk does not
    /// answer; [`StoreError::Astray`] if the file is not at its path any more; [`StoreError::Died`] if the writer
    /// has panicked; [`StoreError::Closed`] on a second call.
    pub async fn close(&self, within: Duration) -> Result<(), StoreError> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ended = ended.ok_or(StoreError::Closed)?;
        self.room_commits.close();
        self.room_units.close();
        let (reply, answer) = oneshot::channel();
        let died =
            |_| StoreError::Died { path: self.path.clone(), commits: self.unwritten_commits() };
        self.send(Request::Close { reply }).map_err(died)?;
        let closed = async {
            let outcome = answer.await.unwrap_or_else(|_| Err(died(StoreError::Closed)));
            // Nothing is ever sent: it ends with the thread, after the file was closed.
            let _ = ended.await;
            outcome
        };
        tokio::time::timeout(within, closed).await.unwrap_or_else(|_| {
            let path = self.path.clone();
            Err(StoreError::NoAnswer { path, commits: self.unwritten_commits(), within })
        })
    }

    /// Commits that were accepted and are not known to be durable.
    #[must_use]
    pub fn unwritten_commits(&self) -> usize {
        self.unwritten.load(Ordering::SeqCst)
    }

    /// What became of the file, if it is not the one at its path any more; a change wakes the receiver.
    #[must_use]
    pub fn astray(&self) -> watch::Receiver<Option<String>> {
        self.astray.clone()
    }

    /// The fault that keeps the store from writing, if there is one; a change wakes the receiver.
    #[must_use]
    pub fn fault(&self) -> watch::Receiver<Option<StoreFault>> {
        self.fault.clone()
    }

    fn send(&self, request: Request) -> Result<(), StoreError> {
        self.requests.send(request).map_err(|_| StoreError::Closed)
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(request(reply))?;
        answer.await.map_err(|_| StoreError::Closed)
    }
}
