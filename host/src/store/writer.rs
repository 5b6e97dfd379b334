//! The writer thread: it gathers commits into groups, writes each group once, and answers those who
//! wait for one.
//!
//! Invariants:
//! - Whatever writes, and whoever wants to see all that was written, is served only when everything
//!   that was sent before it is durable: a group that fails is tried again before the next one.
//! - Between two attempts only a load is served, and only one that no unwritten commit concerns. What
//!   it reads is durable, whatever became of the failed attempt: that concerned other daemons.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use duende_core::backoff::{Backoff, Curve, Jitter};
use tokio::sync::{oneshot, watch};

use super::database::Database;
use super::fault::Fault;
use super::handle::Room;
use super::snapshot::Snapshot;
use super::{Commit, Done, FaultKind, GROUP_COMMITS_MAX, Loaded, StoreError, StoreFault};

/// The wait after a failed attempt. Its cap is how late the store notices that there is room again.
/// Nobody else waits for the same disk, so there is nothing to spread.
const RETRY: Backoff = Backoff {
    curve: Curve::Exponential { initial: Duration::from_millis(50), cap: Duration::from_secs(2) },
    jitter: Jitter::None,
};

/// How often it is looked whether the file is still the one at its path.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// What the writer tells without being asked.
pub(super) struct Says {
    /// Why it can't write.
    pub(super) fault: watch::Sender<Option<StoreFault>>,
    /// What became of the file.
    pub(super) astray: watch::Sender<Option<String>>,
    /// Commits that were accepted and are not durable.
    pub(super) unwritten: Arc<AtomicUsize>,
}

/// What the writer is asked for.
pub(super) enum Request {
    Commit { commit: Commit, done: Option<Done>, room: Room },
    Load { daemon: String, reply: oneshot::Sender<Result<Loaded, StoreError>> },
    Snapshot { daemon: String, reply: oneshot::Sender<Result<Option<Snapshot>, StoreError>> },
    Forget { daemon: String, reply: oneshot::Sender<()> },
    Flush { reply: oneshot::Sender<()> },
    Close { reply: oneshot::Sender<Result<(), StoreError>> },
}

impl Request {
    /// Whether it changes what is kept of a daemon.
    fn writes_of(&self, daemon: &str) -> bool {
        match self {
            Self::Commit { commit, .. } => commit.daemon == daemon,
            Self::Forget { daemon: forgotten, .. } => forgotten == daemon,
            Self::Load { .. } | Self::Snapshot { .. } | Self::Flush { .. } | Self::Close { .. } => {
                false
            }
        }
    }
}

/// The commits that share one fsync; `tickets` holds what belongs to them until they are durable.
#[derive(Default)]
struct Group {
    commits: Vec<Commit>,
    tickets: Vec<(Option<Done>, Room)>,
}

pub(super) struct Writer {
    database: Database,
    inbox: Receiver<Request>,
    /// What was received and not served, the oldest first.
    queue: VecDeque<Request>,
    says: Says,
    group: Group,
    /// Nobody can send any more: the store was dropped.
    abandoned: bool,
    /// The request to close was served.
    closed: bool,
    looked: Instant,
    /// How long a group stays open.
    window: Duration,
    /// How long one is in the journal alone.
    settle_period: Duration,
}

impl Writer {
    pub(super) fn new(
        database: Database,
        inbox: Receiver<Request>,
        says: Says,
        window: Duration,
        settle_period: Duration,
    ) -> Self {
        Self {
            database,
            inbox,
            queue: VecDeque::new(),
            says,
            group: Group::default(),
            abandoned: false,
            closed: false,
            looked: Instant::now(),
            window,
            settle_period,
        }
    }

    /// Serves until [`Request::Close`], or until the store is dropped and all that it sent is done.
    pub(super) fn run(mut self) {
        while !self.closed
            && let Some(request) = self.next()
        {
            let waiting = self.gather(request);
            let served = match waiting {
                Some(request) if self.group.commits.is_empty() => self.serve(request),
                waiting => {
                    // A load that closed the group need not wait for a group that fails.
                    if let Some(request) = waiting {
                        self.queue.push_front(request);
                    }
                    self.write_group()
                }
            };
            if let Err(fault) = served {
                return self.give_up(fault);
            }
        }
        if !self.closed {
            // The store was dropped. What can't be done here the next opening does.
            let _ = self.database.finish();
        }
    }

    /// The next request; none: nobody can send any more.
    fn next(&mut self) -> Option<Request> {
        loop {
            let left = LOOK_PERIOD.saturating_sub(self.looked.elapsed());
            if left.is_zero() {
                self.look();
                continue;
            }
            if let Some(request) = self.queue.pop_front() {
                return Some(request);
            }
            match self.inbox.recv_timeout(left) {
                Ok(request) => return Some(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Looks whether the file is still the one at its path, and whether the journal has had something for long.
    fn look(&mut self) {
        self.looked = Instant::now();
        self.database.settle_after(self.settle_period);
        let astray = self.database.astray();
        self.says.astray.send_if_modified(|said| {
            let changed = *said != astray;
            *said = astray;
            changed
        });
    }

    /// Fills the group, from its first request on. Returns the request that closed it, if it was not
    /// time or number.
    fn gather(&mut self, first: Request) -> Option<Request> {
        let opened = Instant::now();
        let mut next = first;
        loop {
            let Request::Commit { commit, done, room } = next else {
                return Some(next);
            };
            self.group.commits.push(commit);
            self.group.tickets.push((done, room));
            if self.group.commits.len() == GROUP_COMMITS_MAX {
                return None;
            }
            if let Some(request) = self.queue.pop_front() {
                next = request;
                continue;
            }
            match self.inbox.recv_timeout(self.window.saturating_sub(opened.elapsed())) {
                Ok(request) => next = request,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn write_group(&mut self) -> Result<(), StoreFault> {
        if self.group.commits.is_empty() {
            return Ok(());
        }
        // Put back on failure: `give_up` counts what it holds.
        let commits = std::mem::take(&mut self.group.commits);
        let number = self.database.next_group();
        let concerns = |daemon: &str| commits.iter().any(|commit| commit.daemon == daemon);
        let written = self.persist(concerns, |database| database.apply(number, &commits));
        if written.is_err() {
            self.group.commits = commits;
            return written;
        }
        for (done, room) in self.group.tickets.drain(..) {
            self.says.unwritten.fetch_sub(1, Ordering::SeqCst);
            drop(room);
            if let Some(done) = done {
                done();
            }
        }
        Ok(())
    }

    fn serve(&mut self, request: Request) -> Result<(), StoreFault> {
        // A failed send means that nobody waits any more.
        match request {
            Request::Commit { .. } => {}
            Request::Load { daemon, reply } => {
                let _ = reply.send(self.load(&daemon));
            }
            Request::Snapshot { daemon, reply } => {
                let _ = reply.send(self.snapshot(&daemon));
            }
            Request::Forget { daemon, reply } => {
                self.persist(|other| other == daemon, |database| database.forget(&daemon))?;
                let _ = reply.send(());
            }
            Request::Flush { reply } => {
                let _ = reply.send(());
            }
            Request::Close { reply } => {
                self.closed = true;
                let closed = self.finish();
                let astray = self.database.astray();
                let astray = astray.map_or(Ok(()), |detail| Err(StoreError::Astray { detail }));
                let _ = reply.send(closed.and(astray));
            }
        }
        Ok(())
    }

    /// Takes the journal into the database. On a disk that refuses, both stay as they are, and nothing is lost.
    fn finish(&mut self) -> Result<(), StoreError> {
        match self.database.finish() {
            Err(fault) if !matches!(fault.kind, FaultKind::Full | FaultKind::Io) => {
                let Fault { kind, detail, .. } = &fault;
                let path = self.database.path().to_owned();
                let said = StoreFault { kind: *kind, path, detail: detail.clone(), attempts: 1 };
                self.says.fault.send_replace(Some(said));
                Err(self.database.error(fault))
            }
            _ => Ok(()),
        }
    }

    fn load(&mut self, daemon: &str) -> Result<Loaded, StoreError> {
        self.database.load(daemon).map_err(|fault| self.database.error(fault))
    }

    fn snapshot(&mut self, daemon: &str) -> Result<Option<Snapshot>, StoreError> {
        self.database.snapshot(daemon).map_err(|fault| self.database.error(fault))
    }

    /// Writes until it succeeds; gives up only if the store is closing. `concerns` says which daemons
    /// it writes of.
    fn persist(
        &mut self,
        concerns: impl Fn(&str) -> bool,
        mut write: impl FnMut(&mut Database) -> Result<(), Fault>,
    ) -> Result<(), StoreFault> {
        let mut attempts = 0_u32;
        while let Err(Fault { kind, detail, .. }) = write(&mut self.database) {
            let wait = RETRY.ceiling(attempts);
            attempts = attempts.saturating_add(1);
            let fault =
                StoreFault { kind, path: self.database.path().to_owned(), detail, attempts };
            let same = |known: &StoreFault| (known.kind, &known.detail) == (kind, &fault.detail);
            // Told when it begins, when it changes, and ever more rarely while it lasts.
            if attempts.is_power_of_two() || !self.says.fault.borrow().as_ref().is_some_and(same) {
                self.says.fault.send_replace(Some(fault.clone()));
            }
            if self.listen(wait, &concerns) {
                return Err(fault);
            }
        }
        if attempts > 0 {
            self.says.fault.send_replace(None);
        }
        Ok(())
    }

    /// Waits for the next attempt, and serves the loads meanwhile that need not wait for it. Whether
    /// the store is closing.
    fn listen(&mut self, wait: Duration, concerns: impl Fn(&str) -> bool) -> bool {
        let began = Instant::now();
        loop {
            self.serve_loads(&concerns);
            let is_closing = |request: &Request| matches!(request, Request::Close { .. });
            if self.abandoned || self.queue.iter().any(is_closing) {
                return true;
            }
            match self.inbox.recv_timeout(wait.saturating_sub(began.elapsed())) {
                Ok(request) => self.queue.push_back(request),
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => self.abandoned = true,
            }
        }
    }

    /// Serves each load in the queue that nothing unwritten before it concerns.
    fn serve_loads(&mut self, concerns: impl Fn(&str) -> bool) {
        let mut at = 0;
        while let Some(request) = self.queue.get(at) {
            // It is of what is on the disk, whatever is not.
            if matches!(request, Request::Snapshot { .. }) {
                if let Some(Request::Snapshot { daemon, reply }) = self.queue.remove(at) {
                    let _ = reply.send(self.snapshot(&daemon));
                }
                continue;
            }
            let Request::Load { daemon, .. } = request else {
                at += 1;
                continue;
            };
            let queued = self.queue.iter().take(at).any(|earlier| earlier.writes_of(daemon));
            if queued || concerns(daemon) {
                at += 1;
            } else if let Some(Request::Load { daemon, reply }) = self.queue.remove(at) {
                let _ = reply.send(self.load(&daemon));
            }
        }
    }

    /// The store is closing and the disk still refuses: says how much is lost.
    fn give_up(mut self, fault: StoreFault) {
        let mut commits = self.group.commits.len();
        self.group.tickets.clear();
        let mut closer = None;
        for request in self.queue.into_iter().chain(self.inbox.try_iter()) {
            match request {
                Request::Commit { .. } => commits += 1,
                Request::Close { reply } => closer = Some(reply),
                // Their replies are dropped, which reads as closed.
                Request::Load { .. }
                | Request::Snapshot { .. }
                | Request::Forget { .. }
                | Request::Flush { .. } => {}
            }
        }
        if let Some(reply) = closer {
            let _ = reply.send(Err(StoreError::Unwritten { commits, fault }));
        }
    }
}
