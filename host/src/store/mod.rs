//! The durable `state` of daemons: one database, one writer thread, one fsync for many slices.
//!
//! Rules:
//! 1. **A commit is atomic.** What one slice wrote, the positions of its sources and its metrics
//!    become durable together or not at all.
//! 2. **Order is kept.** Commits become durable in the order in which [`Store::commit`] accepted
//!    them; a later one is never durable without the earlier ones.
//! 3. **Groups.** The first commit that arrives opens a group; it closes after
//!    [`GROUP_WINDOW_MS_MAX`] or [`GROUP_COMMITS_MAX`] commits, whichever is first, and costs one
//!    fsync. A lone commit waits out its window too: it delays only what its slice sent, never the
//!    next slice, and it bounds the fsyncs at 200 a second however many daemons there are.
//!    [`load`](Store::load), [`flush`](Store::flush), [`forget`](Store::forget) and
//!    [`close`](Store::close) close the group at once, because somebody waits for them.
//! 4. **A failing disk loses nothing and reorders nothing.** The writer keeps the group, says so
//!    through [`Store::fault`], and tries again until it succeeds. Meanwhile commits queue up to
//!    [`QUEUE_COMMITS_MAX`] and [`QUEUE_BYTES_MAX`]; then `commit` waits.
//!
//! `database` holds the tables and the file; `writer` the thread, its groups and its retries.

mod database;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use database::Database;
use writer::{Request, Writer};

/// Longest time that a group stays open, in milliseconds.
pub const GROUP_WINDOW_MS_MAX: u64 = 5;
/// Most commits in one group.
pub const GROUP_COMMITS_MAX: usize = 1_000;
/// Most commits accepted and not yet durable.
pub const QUEUE_COMMITS_MAX: usize = 10_000;
/// Most bytes of commits accepted and not yet durable. A single larger commit is accepted when the
/// queue is empty.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// The unit in which [`QUEUE_BYTES_MAX`] is handed out: permits are counted in 32 bits.
const QUEUE_UNIT_BYTES: usize = 1 << 10;
const QUEUE_UNITS_MAX: usize = QUEUE_BYTES_MAX / QUEUE_UNIT_BYTES;

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
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, path, detail, attempts } = self;
        let path = path.display();
        let way_out = match kind {
            FaultKind::Full => {
                "free some space on its file system; nothing is lost, the store goes on by itself"
            }
            FaultKind::Io => {
                "check its file system; nothing is lost so far, the store keeps trying"
            }
            FaultKind::Damaged => {
                "stop the manager and put a copy of the file in its place, or move it away to start without state"
            }
        };
        write!(f, "cannot write state to {path}: {detail} ({attempts} attempts): {way_out}")
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
        "{path} has schema {found}, and this version of duende reads schema {supported}: use the version that wrote it, or move the file away to start without state"
    )]
    Schema {
        /// The database file.
        path: PathBuf,
        /// The file's schema.
        found: u64,
        /// The one schema that is understood.
        supported: u64,
    },
    /// The file's content contradicts itself.
    #[error(
        "{path} is damaged ({detail}): put a copy in its place, or move it away to start without state"
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
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
    #[error("the store was closed with {commits} commits unwritten: {fault}")]
    Unwritten {
        /// How many accepted commits are lost.
        commits: usize,
        /// Why.
        fault: StoreFault,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// The store. Dropping it lets the writer finish what it accepted, without waiting for it.
#[derive(Debug)]
pub struct Store {
    requests: mpsc::Sender<Request>,
    /// The bounds of the queue; std's channel, which the writer can wait on with a deadline, has none.
    room_commits: Arc<Semaphore>,
    room_units: Arc<Semaphore>,
    fault: watch::Receiver<Option<StoreFault>>,
    /// Tells a writer that waits between two attempts that the failed one was the last.
    closing: Arc<AtomicBool>,
    writer: Mutex<Option<JoinHandle<()>>>,
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
    /// [`Damaged`](StoreError::Damaged) or [`Io`](StoreError::Io). The file is left as it was.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        Self::start(Database::open(path)?)
    }

    fn start(database: Database) -> Result<Self, StoreError> {
        let path = database.path().to_owned();
        let (requests, inbox) = mpsc::channel();
        let (fault_sender, fault) = watch::channel(None);
        let closing = Arc::new(AtomicBool::new(false));
        let writer = Writer::new(database, inbox, fault_sender, Arc::clone(&closing));
        let thread = std::thread::Builder::new()
            .name("duende-store".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| StoreError::Io { path, source })?;
        Ok(Self {
            requests,
            room_commits: Arc::new(Semaphore::new(QUEUE_COMMITS_MAX)),
            room_units: Arc::new(Semaphore::new(QUEUE_UNITS_MAX)),
            fault,
            closing,
            writer: Mutex::new(Some(thread)),
        })
    }

    /// Hands over a commit; returns as soon as the queue has room, long before it is durable, which
    /// `done` tells. Waits only while the queue is full. Cancelling the call hands over nothing.
    ///
    /// # Errors
    /// [`StoreError::Closed`]; `done` is then dropped without being called.
    pub async fn commit(&self, commit: Commit, done: Option<Done>) -> Result<(), StoreError> {
        let units = commit.size_bytes().div_ceil(QUEUE_UNIT_BYTES).min(QUEUE_UNITS_MAX);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let closed = |_| StoreError::Closed;
        let room = Room {
            _commit: Arc::clone(&self.room_commits).acquire_owned().await.map_err(closed)?,
            _units: Arc::clone(&self.room_units).acquire_many_owned(units).await.map_err(closed)?,
        };
        self.send(Request::Commit { commit, done, room })
    }

    /// Hands over a commit if the queue has room now.
    ///
    /// # Errors
    /// It has none, or is closed: the commit is given back.
    pub fn try_commit(&self, commit: Commit) -> Result<(), Box<Commit>> {
        let units = commit.size_bytes().div_ceil(QUEUE_UNIT_BYTES).min(QUEUE_UNITS_MAX);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room_commits).try_acquire_owned().ok().and_then(|one| {
            let units = Arc::clone(&self.room_units).try_acquire_many_owned(units).ok()?;
            Some(Room { _commit: one, _units: units })
        });
        let Some(room) = room else { return Err(Box::new(commit)) };
        let sent = self.requests.send(Request::Commit { commit, done: None, room });
        sent.map_err(|refused| match refused.0 {
            Request::Commit { commit, .. } => Box::new(commit),
            // It is what was sent.
            _ => Box::default(),
        })
    }

    /// Waits until the queue has room for a commit of any size, or the store is closed. Somebody else
    /// may take it first.
    pub async fn room(&self) {
        let all = u32::try_from(QUEUE_UNITS_MAX).unwrap_or(u32::MAX);
        let _one = self.room_commits.acquire().await;
        // Half of it: a queue that is never quite empty is no reason to wait for ever.
        let _units = self.room_units.acquire_many(all / 2).await;
    }

    /// Everything kept of a daemon, every earlier commit included. While a fault lasts it waits.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`Damaged`](StoreError::Damaged) if it cannot be read,
    /// [`StoreError::Closed`].
    pub async fn load(&self, daemon: &str) -> Result<Loaded, StoreError> {
        let daemon = daemon.to_owned();
        self.ask(|reply| Request::Load { daemon, reply }).await?
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
    /// does not wait for its end.
    ///
    /// # Errors
    /// [`StoreError::Unwritten`] if a fault lasts; [`StoreError::Closed`] on a second call.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.room_commits.close();
        let (reply, answer) = oneshot::channel();
        self.send(Request::Close { reply })?;
        // After the request, so that the writer finds it when it gives up.
        self.stop_retrying();
        let outcome = answer.await.unwrap_or(Err(StoreError::Closed));
        if let Some(thread) = self.take_writer() {
            // The answer is the thread's last act but for closing the file.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        outcome
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

    fn take_writer(&self) -> Option<JoinHandle<()>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn stop_retrying(&self) {
        self.closing.store(true, Ordering::Release);
        if let Some(thread) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            thread.thread().unpark();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop_retrying();
    }
}
