//! The writer thread: it gathers commits into groups, writes each group once, and answers those who
//! wait for one.
//!
//! Invariant: a request is served only when everything that was sent before it is durable, so a
//! group that fails is tried again before anything else happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use duende_core::backoff::{Backoff, Curve, Jitter};
use tokio::sync::{oneshot, watch};

use super::database::{Database, Fault};
use super::{
    Commit, Done, GROUP_COMMITS_MAX, GROUP_WINDOW_MS_MAX, Loaded, Room, StoreError, StoreFault,
};

/// The wait after a failed attempt. Its cap is how late the store notices that there is room again.
/// Nobody else waits for the same disk, so there is nothing to spread.
const RETRY: Backoff = Backoff {
    curve: Curve::Exponential { initial: Duration::from_millis(50), cap: Duration::from_secs(2) },
    jitter: Jitter::None,
};

/// What the writer is asked for.
pub(super) enum Request {
    Commit { commit: Commit, done: Option<Done>, room: Room },
    Load { daemon: String, reply: oneshot::Sender<Result<Loaded, StoreError>> },
    Forget { daemon: String, reply: oneshot::Sender<()> },
    Flush { reply: oneshot::Sender<()> },
    Close { reply: oneshot::Sender<Result<(), StoreError>> },
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
    fault: watch::Sender<Option<StoreFault>>,
    closing: Arc<AtomicBool>,
    group: Group,
    /// The request to close was served.
    closed: bool,
}

impl Writer {
    pub(super) fn new(
        database: Database,
        inbox: Receiver<Request>,
        fault: watch::Sender<Option<StoreFault>>,
        closing: Arc<AtomicBool>,
    ) -> Self {
        Self { database, inbox, fault, closing, group: Group::default(), closed: false }
    }

    /// Serves until [`Request::Close`], or until the store is dropped and all that it sent is done.
    pub(super) fn run(mut self) {
        while !self.closed
            && let Ok(request) = self.inbox.recv()
        {
            let waiting = self.gather(request);
            if let Err(fault) = self.write_group() {
                return self.give_up(waiting, fault);
            }
            let Some(request) = waiting else { continue };
            if let Err(fault) = self.serve(request) {
                return self.give_up(None, fault);
            }
        }
    }

    /// Fills the group, from its first request on. Returns the request that closed it, if it was not
    /// time or number.
    fn gather(&mut self, first: Request) -> Option<Request> {
        let closes_at = Instant::now() + Duration::from_millis(GROUP_WINDOW_MS_MAX);
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
            let left = closes_at.saturating_duration_since(Instant::now());
            match self.inbox.recv_timeout(left) {
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
        let written = self.persist(|database| database.apply(number, &commits));
        if written.is_err() {
            self.group.commits = commits;
            return written;
        }
        for (done, room) in self.group.tickets.drain(..) {
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
                let path = self.database.path().to_owned();
                let loaded = self.database.load(&daemon).map_err(|fault| fault.into_error(path));
                let _ = reply.send(loaded);
            }
            Request::Forget { daemon, reply } => {
                self.persist(|database| database.forget(&daemon))?;
                let _ = reply.send(());
            }
            Request::Flush { reply } => {
                let _ = reply.send(());
            }
            Request::Close { reply } => {
                self.closed = true;
                let _ = reply.send(Ok(()));
            }
        }
        Ok(())
    }

    /// Writes until it succeeds; gives up only if the store is closing.
    fn persist(
        &mut self,
        mut write: impl FnMut(&mut Database) -> Result<(), Fault>,
    ) -> Result<(), StoreFault> {
        let mut attempts = 0_u32;
        while let Err(Fault { kind, detail }) = write(&mut self.database) {
            let wait = RETRY.ceiling(attempts);
            attempts = attempts.saturating_add(1);
            let fault =
                StoreFault { kind, path: self.database.path().to_owned(), detail, attempts };
            self.fault.send_replace(Some(fault.clone()));
            if self.closing.load(Ordering::Acquire) {
                return Err(fault);
            }
            std::thread::park_timeout(wait);
        }
        if attempts > 0 {
            self.fault.send_replace(None);
        }
        Ok(())
    }

    /// The store is closing and the disk still refuses: says how much is lost.
    fn give_up(mut self, waiting: Option<Request>, fault: StoreFault) {
        let mut commits = self.group.commits.len();
        self.group.tickets.clear();
        let mut closer = None;
        for request in waiting.into_iter().chain(self.inbox.try_iter()) {
            match request {
                Request::Commit { .. } => commits += 1,
                Request::Close { reply } => closer = Some(reply),
                // Their replies are dropped, which reads as closed.
                Request::Load { .. } | Request::Forget { .. } | Request::Flush { .. } => {}
            }
        }
        if let Some(reply) = closer {
            let _ = reply.send(Err(StoreError::Unwritten { commits, fault }));
        }
    }
}
