//! What daemons are given of the store: it hands over to the writer, and bounds what is on its way.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot, watch};

use super::commit::{QUEUE_UNIT_BYTES, QUEUE_UNITS_QUARTER};
use super::database::Database;
use super::groups::SETTLE_PERIOD;
use super::writer::{Request, Says, Writer};
use super::{
    Commit, Done, GROUP_WINDOW, Loaded, QUEUE_BYTES_MAX, QUEUE_COMMITS_MAX, Refused, Snapshot,
    StoreError, StoreFault,
};

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

    pub(super) fn start(database: Database, window: Duration) -> Result<Self, StoreError> {
        Self::start_settling(database, window, SETTLE_PERIOD)
    }

    /// As [`start`](Self::start); groups are in the journal alone for as long as `settle_period`.
    pub(super) fn start_settling(
        database: Database,
        window: Duration,
        settle_period: Duration,
    ) -> Result<Self, StoreError> {
        let path = database.path().to_owned();
        let (requests, inbox) = mpsc::channel();
        let (fault_sender, fault) = watch::channel(None);
        let (astray_sender, astray) = watch::channel(None);
        let (end, ended) = oneshot::channel();
        let unwritten = Arc::new(AtomicUsize::new(0));
        let says =
            Says { fault: fault_sender, astray: astray_sender, unwritten: unwritten.clone() };
        let writer = Writer::new(database, inbox, says, window, settle_period);
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
