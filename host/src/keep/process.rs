//! The loop of `keep`, and the table of the processes that it holds.
//!
//! State: `children` by process id, and `pids` from address to process id; both name the same
//! processes, all of them unreaped. A process leaves both when it is reaped, and nowhere else.
//!
//! Pipes are in an epoll of their own, which the loop polls beside SIGCHLD and the link: so deaths
//! and requests are always seen, and always first, however many pipes have something to read.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use duende_core::wire::link::{Address, LogLevel};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, set_child_subreaper};

use super::KeepError;
use super::lines::LineSplitter;
use super::link::{Inbox, Outbox, Received};
use super::protocol::{KeepEvent, KeepRequest, SpawnRequest};
use super::spawn::{Failure, OpenFilesLimit, Prepared, Started};
use super::sys::{self, ChildSignals, Which};
use crate::daemon_log::{LogOrigin, LogWriter};

/// Most processes at once.
const CHILDREN_MAX: usize = 4_096;

/// While more bytes of events than this wait for the manager, requests wait too.
const PENDING_EVENT_BYTES_MAX: usize = 256 << 10;

/// Pipes that are read between two looks at deaths and requests.
const PIPES_PER_TURN: usize = 16;

/// Bytes that are read from a pipe at once: what a pipe holds unless its owner enlarged it.
const READ_BYTES: usize = 64 << 10;

/// Reads of one pipe after the death of its daemon. A megabyte is the most that a pipe can hold
/// without privileges; a writer that outlives the daemon must not hold up its restart.
const READS_AFTER_DEATH_MAX: usize = 16;

/// How often a log that can't be written is tried again.
const LOG_RETRY: Duration = Duration::from_secs(1);

/// How long `keep` waits, once every daemon has ended, for processes that left their group.
const STRAYS_GRACE: Duration = Duration::from_secs(5);

/// One process that runs, or is dead and not yet reaped.
#[derive(Debug)]
struct Running {
    at: Address,
    stop_grace: Duration,
    /// When it is killed, once everything is being stopped.
    kill_at: Option<Instant>,
    /// Standard output and standard error, each until its end.
    streams: [Option<Stream>; 2],
    log: LogWriter,
}

#[derive(Debug)]
struct Stream {
    pipe: OwnedFd,
    origin: LogOrigin,
    lines: LineSplitter,
}

/// What a read of a pipe found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drained {
    Some,
    Empty,
    Ended,
}

/// What the loop is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Requests are served.
    Serving,
    /// Every process was asked to end; no new ones are started.
    Stopping,
}

/// The whole of `keep`.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Absent once the manager is gone.
    link: Option<OwnedFd>,
    inbox: Inbox,
    outbox: Outbox,
    deaths: ChildSignals,
    pipes: OwnedFd,
    children: HashMap<u32, Running>,
    pids: HashMap<Address, u32>,
    /// By slot: what was last asked to be started there; prepared, if it could be started.
    last_requests: HashMap<u32, (Box<SpawnRequest>, Option<Prepared>)>,
    phase: Phase,
    open_files: OpenFilesLimit,
    log_retry_at: Option<Instant>,
    buffer: Box<[u8]>,
}

impl Keeper {
    pub(super) fn new(link: OwnedFd) -> Result<Self, KeepError> {
        set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|error| KeepError::system("becoming the subreaper", error))?;
        sys::keep_descriptors_private();
        let deaths =
            ChildSignals::new().map_err(|error| KeepError::system("taking over SIGCHLD", error))?;
        let pipes = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| KeepError::system("making an epoll descriptor", error))?;
        Ok(Self {
            link: Some(link),
            inbox: Inbox::new(),
            outbox: Outbox::new(),
            deaths,
            pipes,
            children: HashMap::new(),
            pids: HashMap::new(),
            last_requests: HashMap::new(),
            phase: Phase::Serving,
            open_files: OpenFilesLimit::raise(),
            log_retry_at: None,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        })
    }

    /// Serves until the link is closed and every process is gone.
    pub(super) fn run(mut self) -> Result<(), KeepError> {
        let mut result = Ok(());
        while self.phase == Phase::Serving || !self.children.is_empty() {
            if let Err(error) = self.turn() {
                // Whatever is wrong, the daemons are not left to themselves. Without the link it
                // is the waiting that fails, and so nothing can be waited for.
                let hopeless = self.link.is_none();
                result = result.and(Err(error));
                self.link = None;
                self.stop_all();
                if hopeless {
                    break;
                }
            }
        }
        self.end_strays();
        if let Some(link) = &self.link {
            let _ = self.outbox.flush(link);
        }
        result
    }

    /// Waits for something to happen, and handles what did.
    fn turn(&mut self) -> Result<(), KeepError> {
        let ready = self.wait()?;
        if ready.deaths {
            self.reap();
        }
        if ready.link {
            self.serve()?;
        }
        self.flush_events();
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
        if self.outbox.pending_bytes() <= PENDING_EVENT_BYTES_MAX {
            link_flags |= PollFlags::IN;
        }
        if !self.outbox.is_empty() {
            link_flags |= PollFlags::OUT;
        }
        let mut fds = [
            PollFd::new(&self.deaths, PollFlags::IN),
            PollFd::new(&self.pipes, PollFlags::IN),
            // Without a link this one is a stand-in that is never asked for anything.
            match &self.link {
                Some(link) => PollFd::new(link, link_flags),
                None => PollFd::new(&self.pipes, PollFlags::empty()),
            },
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(KeepError::system("waiting", error)),
        }
        let [deaths, pipes, link] = fds.map(|fd| fd.revents());
        Ok(Ready {
            deaths: !deaths.is_empty(),
            pipes: pipes.contains(PollFlags::IN),
            link: self.link.is_some()
                && link.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
        })
    }

    // Deaths.

    /// Reaps everything that is dead: daemons, and orphans that came to this process.
    fn reap(&mut self) {
        let hint = self.deaths.take();
        let mut dead = hint.and_then(|pid| sys::dead_child(Which::This(pid)));
        while let Some(pid) = dead.or_else(|| sys::dead_child(Which::Any)) {
            dead = None;
            // Before it is reaped, while its id still is the group's and nobody else's.
            if self.children.contains_key(&pid) {
                signal_group(pid, Signal::KILL);
            }
            let Some(death) = sys::reap(pid) else {
                return;
            };
            let Some(mut child) = self.children.remove(&pid) else {
                continue;
            };
            self.pids.remove(&child.at);
            child.drain(&mut self.buffer);
            child.log.flush();
            let at = child.at;
            self.report(&KeepEvent::Exited {
                at,
                pid,
                exit: death.exit,
                cpu_ns: death.cpu_ns,
                rss_bytes_max: death.rss_bytes_max,
                hint: None,
            });
            self.flush_events();
            self.report_dropped(at, child.log.take_dropped_lines());
            for stream in child.streams.into_iter().flatten() {
                let _ = epoll::delete(&self.pipes, &stream.pipe);
            }
        }
    }

    // Requests.

    fn serve(&mut self) -> Result<(), KeepError> {
        let Some(link) = &self.link else {
            return Ok(());
        };
        match self.inbox.receive(link) {
            Ok(Received::Some) => {}
            Ok(Received::Closed) => {
                self.link = None;
                self.stop_all();
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(KeepError::system("receiving from the manager", error)),
        }
        while let Some(request) = self.inbox.next()? {
            match request {
                KeepRequest::Spawn(request) => self.spawn(request, None),
                KeepRequest::SpawnAgain { at } => self.spawn_again(at),
                KeepRequest::Signal { at, signal, group } => self.signal(at, signal, group),
                KeepRequest::Kill { at } => {
                    if let Some(pid) = self.pids.get(&at) {
                        signal_group(*pid, Signal::KILL);
                    }
                }
                KeepRequest::Stop { at, signal } => self.signal(at, signal, true),
                KeepRequest::Reload { .. }
                | KeepRequest::MainProcess { .. }
                | KeepRequest::Count { .. }
                | KeepRequest::Answer { .. } => {}
                KeepRequest::Shutdown => self.stop_all(),
            }
            self.flush_events();
        }
        Ok(())
    }

    fn spawn(&mut self, request: Box<SpawnRequest>, mut prepared: Option<Prepared>) {
        let at = request.at;
        let started = self.start(&request, &mut prepared);
        // After a failure everything is looked at afresh: the program may have moved.
        let prepared = prepared.filter(|_| started.is_ok());
        self.last_requests.insert(at.daemon, (request, prepared));
        self.report_start(at, started);
    }

    fn spawn_again(&mut self, at: Address) {
        let Some((mut request, prepared)) = self.last_requests.remove(&at.daemon) else {
            let reason = "keep does not know what to start again".to_owned();
            return self.report_start(at, Err(Failure::without_errno(reason)));
        };
        request.at = at;
        self.spawn(request, prepared);
    }

    fn report_start(&mut self, at: Address, started: Result<u32, Failure>) {
        let event = match started {
            Ok(pid) => KeepEvent::Spawned { at, pid, cgroup: None },
            Err(Failure { errno, reason }) => KeepEvent::SpawnFailed { at, errno, reason },
        };
        self.report(&event);
        self.flush_events();
        // A death while the process was started gave no signal.
        self.reap();
    }

    fn start(
        &mut self,
        request: &SpawnRequest,
        prepared: &mut Option<Prepared>,
    ) -> Result<u32, Failure> {
        let link = match request.link {
            true => Some(self.inbox.take_fd().ok_or_else(|| {
                Failure::without_errno("the descriptor of its link did not arrive".to_owned())
            })?),
            false => None,
        };
        if self.phase == Phase::Stopping {
            return Err(Failure::without_errno("everything is being stopped".to_owned()));
        }
        if self.pids.contains_key(&request.at) {
            return Err(Failure::without_errno(
                "a process with this address runs already".to_owned(),
            ));
        }
        if self.children.len() >= CHILDREN_MAX {
            return Err(Failure::without_errno(format!(
                "{CHILDREN_MAX} native daemons run already, which is the most for one fleet"
            )));
        }
        let command = match prepared {
            Some(prepared) => prepared,
            None => prepared.insert(Prepared::new(request, self.open_files)?),
        };
        let Started { pid, stdout, stderr } =
            command.start(request, link.as_ref(), self.open_files)?;
        let mut child = Running {
            at: request.at,
            stop_grace: Duration::from_millis(request.stop.grace_ms),
            kill_at: None,
            streams: [
                Some(Stream::new(stdout, LogOrigin::Stdout, LogLevel::Info)),
                Some(Stream::new(stderr, LogOrigin::Stderr, LogLevel::Warn)),
            ],
            log: LogWriter::new(Path::new(&request.log_path)),
        };
        let watched = (0_u64..).zip(&child.streams).try_for_each(|(index, stream)| {
            stream.as_ref().map_or(Ok(()), |stream| {
                let token = epoll::EventData::new_u64(u64::from(pid) << 1 | index);
                epoll::add(&self.pipes, &stream.pipe, token, epoll::EventFlags::IN)
            })
        });
        if let Err(error) = watched {
            // It runs, so it stays; what it prints has nowhere to go, and its log says so.
            child.streams = [None, None];
            child.log.append(
                SystemTime::now(),
                LogLevel::Error,
                LogOrigin::Duende,
                format!("its output is not captured: {error}").as_bytes(),
                false,
            );
            child.log.flush();
        }
        self.children.insert(pid, child);
        self.pids.insert(request.at, pid);
        Ok(pid)
    }

    fn signal(&self, at: Address, signal: i32, group: bool) {
        let (Some(pid), Some(signal)) = (self.pids.get(&at), Signal::from_named_raw(signal)) else {
            return;
        };
        if group {
            signal_group(*pid, signal);
        } else if let Some(pid) = as_pid(*pid) {
            // It is unreaped: the worst that this can meet is a zombie.
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks every process to end, and sets when each is killed.
    fn stop_all(&mut self) {
        if self.phase == Phase::Stopping {
            return;
        }
        self.phase = Phase::Stopping;
        let now = Instant::now();
        for (pid, child) in &mut self.children {
            child.kill_at = now.checked_add(child.stop_grace);
            signal_group(*pid, Signal::TERM);
            // A stopped process would sleep through its grace.
            signal_group(*pid, Signal::CONT);
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
            let Some(child) =
                u32::try_from(token >> 1).ok().and_then(|pid| self.children.get_mut(&pid))
            else {
                continue;
            };
            let [stdout, stderr] = &mut child.streams;
            let slot = if token & 1 == 0 { stdout } else { stderr };
            let Some(stream) = slot else { continue };
            if stream.read(&mut self.buffer, &mut child.log) == Drained::Ended {
                let _ = epoll::delete(&self.pipes, &stream.pipe);
                *slot = None;
            }
            child.log.flush();
            if child.log.is_dropping() && self.log_retry_at.is_none() {
                self.log_retry_at = Instant::now().checked_add(LOG_RETRY);
            }
        }
        Ok(())
    }

    // Deadlines.

    fn next_deadline(&self) -> Option<Instant> {
        let kills = self.children.values().filter_map(|child| child.kill_at);
        match self.phase {
            Phase::Serving => self.log_retry_at,
            Phase::Stopping => kills.chain(self.log_retry_at).min(),
        }
    }

    fn handle_deadlines(&mut self) {
        if self.phase == Phase::Serving && self.log_retry_at.is_none() {
            return;
        }
        let now = Instant::now();
        for (pid, child) in &mut self.children {
            if child.kill_at.is_some_and(|at| at <= now) {
                child.kill_at = None;
                signal_group(*pid, Signal::KILL);
            }
        }
        if self.log_retry_at.is_none_or(|at| at > now) {
            return;
        }
        self.log_retry_at = None;
        let mut dropped = Vec::new();
        for child in self.children.values_mut() {
            let lines = child.log.take_dropped_lines();
            if lines > 0 {
                dropped.push((child.at, lines));
            }
            if child.log.is_dropping() {
                child.log.flush();
            }
            if child.log.is_dropping() {
                self.log_retry_at = now.checked_add(LOG_RETRY);
            }
        }
        for (at, lines) in dropped {
            self.report_dropped(at, lines);
        }
        self.flush_events();
    }

    // Events.

    fn report(&mut self, event: &KeepEvent) {
        // An event is a few words and one reason, far below the bound of a frame.
        if self.link.is_some() {
            let _ = self.outbox.push(event, None);
        }
    }

    fn report_dropped(&mut self, at: Address, lines: u64) {
        if lines > 0 {
            self.report(&KeepEvent::OutputDropped { at, lines });
        }
    }

    /// Sends what the link takes. A broken link shows when it is read.
    fn flush_events(&mut self) {
        if let Some(link) = &self.link {
            let _ = self.outbox.flush(link);
        }
    }

    /// Ends what is left: processes that moved to a group of their own when their daemon ended.
    fn end_strays(&self) {
        let give_up_at = Instant::now() + STRAYS_GRACE;
        while sys::has_children() && Instant::now() < give_up_at {
            for pid in own_children() {
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

/// What a wait found.
#[derive(Clone, Copy, Debug)]
struct Ready {
    deaths: bool,
    pipes: bool,
    link: bool,
}

impl Running {
    /// Reads what the dead left in its pipes.
    fn drain(&mut self, buffer: &mut [u8]) {
        for stream in self.streams.iter_mut().flatten() {
            for _ in 0..READS_AFTER_DEATH_MAX {
                if stream.read(buffer, &mut self.log) != Drained::Some {
                    break;
                }
            }
            stream.finish(&mut self.log);
        }
    }
}

impl Stream {
    const fn new(pipe: OwnedFd, origin: LogOrigin, level: LogLevel) -> Self {
        Self { pipe, origin, lines: LineSplitter::new(level) }
    }

    /// Reads once, and adds the lines to the log.
    fn read(&mut self, buffer: &mut [u8], log: &mut LogWriter) -> Drained {
        match rustix::io::read(&self.pipe, &mut *buffer) {
            Ok(0) => {
                self.finish(log);
                Drained::Ended
            }
            Ok(count) => {
                let (now, origin) = (SystemTime::now(), self.origin);
                let bytes = buffer.get(..count).unwrap_or_default();
                self.lines.push(bytes, &mut |line| {
                    log.append(now, line.level, origin, line.text, line.continues);
                });
                Drained::Some
            }
            Err(Errno::INTR) => Drained::Some,
            Err(_) => Drained::Empty,
        }
    }

    fn finish(&mut self, log: &mut LogWriter) {
        let (now, origin) = (SystemTime::now(), self.origin);
        self.lines.finish(&mut |line| {
            log.append(now, line.level, origin, line.text, line.continues);
        });
    }
}

/// Signals the group that this unreaped process leads; the process alone, should it have moved to
/// another group.
fn signal_group(pid: u32, signal: Signal) {
    if let Some(pid) = as_pid(pid)
        && kill_process_group(pid, signal) == Err(Errno::SRCH)
    {
        let _ = kill_process(pid, signal);
    }
}

fn as_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// The children of this process, as the kernel lists them: by thread, whichever it gave them to.
fn own_children() -> Vec<u32> {
    let mut pids = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let list = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        pids.extend(list.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    pids
}
