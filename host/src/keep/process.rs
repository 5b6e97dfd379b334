//! The loop of `keep`.
//!
//! Pipes are in an epoll of their own, which the loop polls beside SIGCHLD and the link: so deaths
//! and requests are always seen, and always first, however many pipes have something to read.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use rustix::process::{Signal, kill_process, set_child_subreaper};

use super::KeepError;
use super::cgroup::Tree;
use super::ending::Event;
use super::launch::Launcher;
use super::left::Left;
use super::link::{Inbox, Received};
use super::lock::Lock;
use super::marker::children;
use super::members::as_pid;
use super::options::KeepOptions;
use super::protocol::{KeepEvent, KeepRequest, SpawnRequest};
use super::reports::Reports;
use super::spawn::OpenFilesLimit;
use super::sys::{self, ChildSignals, Which};
use super::table::Table;

/// While more bytes of events than this wait for the manager, requests wait too.
const PENDING_EVENT_BYTES_MAX: usize = 256 << 10;

/// Pipes that are read between two looks at deaths and requests.
const PIPES_PER_TURN: usize = 16;

/// Bytes that are read from a pipe at once: what a pipe holds unless its owner enlarged it.
const READ_BYTES: usize = 64 << 10;

/// How often a log that can't be written is tried again.
const LOG_RETRY: Duration = Duration::from_secs(1);

/// How long what a `keep` that was killed has left may take to be gone once it was killed.
const LEFT_TIME: Duration = Duration::from_secs(5);
/// How long `keep` waits, once every daemon has ended, for processes that are nobody's.
const STRAYS_GRACE: Duration = Duration::from_secs(5);

/// What the loop is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Requests are served.
    Serving,
    /// Every daemon was asked to end; no new ones are started.
    Stopping,
}

/// The whole of `keep`. Fields are dropped in their order: the lock is the last.
#[derive(Debug)]
pub(super) struct Keeper {
    reports: Reports,
    inbox: Inbox,
    deaths: ChildSignals,
    pipes: OwnedFd,
    table: Table,
    phase: Phase,
    log_retry_at: Option<Instant>,
    lock: Lock,
}

impl Keeper {
    pub(super) fn new(link: OwnedFd, options: KeepOptions) -> Result<Self, KeepError> {
        let lock = Lock::take(&options.lock)?;
        set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|error| KeepError::system("becoming the subreaper", error))?;
        sys::keep_descriptors_private();
        let deaths =
            ChildSignals::new().map_err(|error| KeepError::system("taking over SIGCHLD", error))?;
        let pipes = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| KeepError::system("making an epoll descriptor", error))?;
        let launcher = Launcher::new()
            .map_err(|error| KeepError::system("mapping a page to share with children", error))?;
        let KeepOptions { fleet, open_files, .. } = options;
        // Without either, no tree is told from another's.
        let owner = lock.identity().filter(|_| crate::config::names_a_fleet(&fleet));
        let tree = owner.and_then(|owner| Tree::make(&format!("{fleet}.{owner}")));
        if let Some(keep) = lock.killed_before() {
            Left::of(&fleet, keep, Vec::new()).end(LEFT_TIME);
        }
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        let open_files = OpenFilesLimit::raise(open_files);
        Ok(Self {
            reports: Reports::new(link),
            inbox: Inbox::new(),
            deaths,
            pipes,
            table: Table::new(fleet, tree, launcher, open_files, buffer),
            phase: Phase::Serving,
            log_retry_at: None,
            lock,
        })
    }

    /// Serves until the link is closed and every process is gone.
    pub(super) fn run(mut self) -> Result<(), KeepError> {
        let mut result = Ok(());
        while self.phase == Phase::Serving || !self.table.is_empty() {
            if let Err(error) = self.turn() {
                // Whatever is wrong, the daemons are not left to themselves. Without the link it
                // is the waiting that fails, and so nothing can be waited for.
                let hopeless = self.reports.link.is_none();
                result = result.and(Err(error));
                self.reports.link = None;
                self.stop_all();
                if hopeless {
                    break;
                }
            }
        }
        self.end_strays();
        if self.table.is_empty() {
            self.lock.clear();
        }
        self.reports.flush();
        result
    }

    /// Waits for something to happen, and handles what did.
    fn turn(&mut self) -> Result<(), KeepError> {
        let ready = self.wait()?;
        if ready.deaths {
            let hint = self.deaths.take();
            self.table.reap(hint, &self.pipes, &mut self.reports);
        }
        if ready.link {
            self.serve()?;
        }
        self.reports.flush();
        if ready.pipes {
            self.read_pipes()?;
        }
        self.handle_deadlines();
        Ok(())
    }

    fn wait(&self) -> Result<Ready, KeepError> {
        let timeout = self.next_deadline().map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let mut link_flags = PollFlags::empty();
        if self.reports.pending_bytes() <= PENDING_EVENT_BYTES_MAX {
            link_flags |= PollFlags::IN;
        }
        if self.reports.pending_bytes() > 0 {
            link_flags |= PollFlags::OUT;
        }
        let link = &self.reports.link;
        let mut fds = [
            PollFd::new(&self.deaths, PollFlags::IN),
            PollFd::new(&self.pipes, PollFlags::IN),
            // Without a link this one is a stand-in that is never asked for anything.
            match link {
                Some(link) => PollFd::new(link, link_flags),
                None => PollFd::new(&self.pipes, PollFlags::empty()),
            },
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(KeepError::system("waiting", error)),
        }
        let [deaths, pipes, told] = fds.map(|fd| fd.revents());
        Ok(Ready {
            deaths: !deaths.is_empty(),
            pipes: pipes.contains(PollFlags::IN),
            link: link.is_some()
                && told.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
        })
    }

    // Requests.

    fn serve(&mut self) -> Result<(), KeepError> {
        let Some(link) = &self.reports.link else {
            return Ok(());
        };
        match self.inbox.receive(link) {
            Ok(Received::Some) => {}
            Ok(Received::Closed) => {
                self.reports.link = None;
                self.stop_all();
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(KeepError::system("receiving from the manager", error)),
        }
        while let Some(request) = self.inbox.next()? {
            self.answer(request);
        }
        Ok(())
    }

    fn answer(&mut self, request: KeepRequest) {
        let (table, pipes, reports) = (&mut self.table, &self.pipes, &mut self.reports);
        match request {
            KeepRequest::Spawn(request) => self.spawn(request),
            KeepRequest::SpawnAgain { at } => {
                let link = if table.takes_link(at) { self.inbox.take_fd() } else { None };
                if self.phase == Phase::Stopping {
                    return reports.tell(&too_late(at));
                }
                table.spawn_again(at, link.as_ref(), pipes, reports);
            }
            KeepRequest::Stop { at, signal } => {
                table.ask(at, Event::Stop { signal }, pipes, reports);
            }
            KeepRequest::Kill { at } => table.ask(at, Event::Kill, pipes, reports),
            KeepRequest::Signal { at, signal, group } => table.signal(at, signal, group),
            KeepRequest::Reload { at } => table.reload(at, reports),
            KeepRequest::MainProcess { at, pid } => table.name_main(at, pid, pipes, reports),
            KeepRequest::Count { at } => table.count(at, reports),
            KeepRequest::Answer { token } => reports.tell(&KeepEvent::Lives { token }),
            KeepRequest::Shutdown => self.stop_all(),
        }
    }

    fn spawn(&mut self, request: Box<SpawnRequest>) {
        let link = if request.link { self.inbox.take_fd() } else { None };
        if self.phase == Phase::Stopping {
            return self.reports.tell(&too_late(request.at));
        }
        self.table.spawn(request, link.as_ref(), &self.pipes, &mut self.reports);
    }

    /// Asks every daemon to end. Each is killed when its own grace is over.
    fn stop_all(&mut self) {
        if self.phase == Phase::Serving {
            self.phase = Phase::Stopping;
            self.table.ask_all(Event::StopAlone, &self.pipes, &mut self.reports);
        }
    }

    // Output.

    fn read_pipes(&mut self) -> Result<(), KeepError> {
        let mut events = Vec::with_capacity(PIPES_PER_TURN);
        match epoll::wait(&self.pipes, spare_capacity(&mut events), Some(&Timespec::default())) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(KeepError::system("waiting for output", error)),
        }
        for event in events {
            let token = event.data.u64();
            if self.table.ready(token, &self.pipes, &mut self.reports) {
                self.retry_logs_later();
            }
        }
        Ok(())
    }

    fn retry_logs_later(&mut self) {
        if self.log_retry_at.is_none() {
            self.log_retry_at = Instant::now().checked_add(LOG_RETRY);
        }
    }

    // Deadlines.

    fn next_deadline(&self) -> Option<Instant> {
        self.table.next_deadline().into_iter().chain(self.log_retry_at).min()
    }

    fn handle_deadlines(&mut self) {
        if self.next_deadline().is_none() {
            return;
        }
        let now = Instant::now();
        self.table.tick(now, &self.pipes, &mut self.reports);
        if self.log_retry_at.is_some_and(|at| at <= now) {
            self.log_retry_at = None;
            if self.table.retry_logs(&mut self.reports) {
                self.retry_logs_later();
            }
        }
    }

    /// Ends what is left once every daemon has ended: processes that are nobody's.
    fn end_strays(&self) {
        let give_up_at = Instant::now() + STRAYS_GRACE;
        while sys::has_children() && Instant::now() < give_up_at {
            for pid in children(std::process::id()) {
                if let Some(pid) = as_pid(pid) {
                    // It is a child of this process and unreaped, so the id is its own.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            let mut fds = [PollFd::from_borrowed_fd(self.deaths.as_fd(), PollFlags::IN)];
            let soon = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let _ = poll(&mut fds, Some(&soon));
            self.deaths.take();
            while let Some(pid) = sys::dead_child(Which::Any) {
                sys::reap(pid);
            }
        }
    }
}

fn too_late(at: duende_core::wire::link::Address) -> KeepEvent {
    KeepEvent::SpawnFailed { at, errno: 0, reason: "everything is being stopped".to_owned() }
}

/// What a wait found.
#[derive(Clone, Copy, Debug)]
struct Ready {
    deaths: bool,
    pipes: bool,
    link: bool,
}
