//! Programs of this machine, held by `duende keep`.
//!
//! Each is a process group, and whatever else `keep` knows to belong to it. One that is built with the
//! SDK has a link of its own, which begins before it is started and ends with it.
//!
//! When `keep` is lost, what it held is killed here, so that none runs twice: the loss is reported only
//! when nothing of it is left, or after [`LEFTOVERS_TIME`].

use std::{
    collections::{HashMap, HashSet},
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use duende_core::{
    restart::{Exit, StartError},
    supervise::TerminateCause,
    wire::link::{Address, Command, Limits},
};
use rustix::io::Errno;
use tokio::{sync::mpsc, task::AbortHandle};

use super::{Ask, Heard, LEAVE_TIMEOUT, News, Place, PlaceNews};
use crate::{
    config::{self, DaemonConfig, Isolation, NativeConfig},
    daemon_log::log_path,
    keep::{
        self, Belonging, KeepClient, KeepError, KeepEvent, KeepOptions, KeepRequest, Left, RunAs,
        SpawnRequest, StopRule,
    },
    manager::{
        decide::signal_name,
        link::{
            peer::{LinkId, NewsSender, Peer, Settled},
            prepare::{Described, Prepared},
        },
    },
    platform,
    store::Store,
};

/// By the numbers that Linux gives them on the processors that it is built for here.
const SIGABRT: i32 = 6;
const SIGTERM: i32 = 15;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

/// Within how many microseconds a program has to give a sign of life.
const WATCHDOG_VARIABLE: &[u8] = b"WATCHDOG_USEC";
/// Where it says that it is ready, and that it lives.
const NOTIFY_VARIABLE: &[u8] = b"NOTIFY_SOCKET";
/// How long what `keep` left behind may take to be gone once it was killed.
const LEFTOVERS_TIME: Duration = Duration::from_secs(2);
/// How often it is looked for.
const LEFTOVERS_PERIOD: Duration = Duration::from_millis(5);
const LEFTOVERS_PERIOD_MAX: Duration = Duration::from_millis(100);

/// A link, and the feeds of its channels.
#[derive(Debug)]
struct Linked {
    peer: Peer,
    feeds: Vec<AbortHandle>,
}

impl Drop for Linked {
    fn drop(&mut self) {
        for feed in &self.feeds {
            feed.abort();
        }
    }
}

/// What is known of a program that runs.
#[derive(Debug)]
struct Running {
    pid: u32,
    cgroup: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Native {
    options: KeepOptions,
    log_dir: PathBuf,
    notify: Option<PathBuf>,
    keep: Option<KeepClient>,
    /// One has ended, and its loss was not heard yet.
    burying: bool,
    /// The slots of which `keep` knows what to start.
    known: HashMap<u32, u64>,
    links: HashMap<Address, Linked>,
    running: HashMap<Address, Running>,
    /// What `keep` was told to start, and has not said to run.
    starting: HashSet<Address>,
    /// By slot: the files that say who runs.
    pid_files: HashMap<u32, PathBuf>,
    heard: mpsc::UnboundedSender<Heard>,
    tokens: u64,
}

impl Native {
    pub(super) fn new(
        fleet: &config::FleetConfig,
        notify: Option<&Path>,
        heard: mpsc::UnboundedSender<Heard>,
    ) -> Self {
        Self {
            options: keep_options(fleet),
            log_dir: fleet.log_dir.clone(),
            notify: notify.map(Path::to_owned),
            keep: None,
            burying: false,
            known: HashMap::new(),
            links: HashMap::new(),
            running: HashMap::new(),
            starting: HashSet::new(),
            pid_files: HashMap::new(),
            heard,
            tokens: 0,
        }
    }

    fn say(&self, at: Address, news: News) {
        // The receiver lives as long as this.
        let _ = self.heard.send(Heard::Of(at, news));
    }

    fn say_place(&self, news: PlaceNews) {
        let _ = self.heard.send(Heard::Place(Place::Native, news));
    }

    /// `keep`, which is started if none runs.
    fn keep(&mut self) -> Result<&mut KeepClient, KeepError> {
        if self.keep.is_none() {
            self.known.clear();
            self.keep = Some(KeepClient::start(&self.options)?);
        }
        self.keep.as_mut().ok_or(KeepError::NotALink)
    }

    /// Starts a program. `version` is that of its configuration: one that changed is said anew.
    pub(super) fn start(
        &mut self,
        at: Address,
        config: &DaemonConfig,
        version: u64,
        prepared: Option<Prepared>,
        links: &mut Links<'_>,
    ) -> Option<Settled> {
        let Isolation::Native(native) = &config.isolation else { return None };
        if self.burying {
            return None;
        }
        let (link, settled) = match prepared {
            None => (None, None),
            Some(prepared) => match self.link(at, config, native, prepared, links) {
                Ok((theirs, settled)) => (Some(theirs), Some(settled)),
                Err(error) => {
                    let reason = format!("its link can't be made: {error}");
                    self.say(at, News::StartFailed { error: start_error(&error), reason });
                    return None;
                }
            },
        };
        self.starting.insert(at);
        if let Err((error, reason)) = self.spawn(at, config, native, version, link) {
            self.starting.remove(&at);
            self.links.remove(&at);
            self.known.remove(&at.daemon);
            self.say(at, News::StartFailed { error, reason });
        }
        settled
    }

    fn link(
        &mut self,
        at: Address,
        config: &DaemonConfig,
        native: &NativeConfig,
        prepared: Prepared,
        links: &mut Links<'_>,
    ) -> io::Result<(OwnedFd, Settled)> {
        let (ours, theirs) = UnixStream::pair()?;
        let id = links.next();
        let peer = Peer::connect(id, true, ours, links.store.clone(), links.news)?;
        let limits = Limits {
            // A process has its own memory and time: these two are the kernel's to limit.
            memory_bytes_max: u64::MAX,
            slice_budget_ns: u64::MAX,
            state_bytes_max: native.link.map_or(0, |link| link.state_bytes_max),
        };
        let described = Described { image: "", limits, level: config::PRIORITY };
        let frames = prepared.description(at, config, &described).map_err(io::Error::other)?;
        let settled = prepared.register(at, config, limits, &peer);
        peer.outbox().send_frames(frames);
        let feeds = prepared.feed(at, peer.outbox(), links.news);
        links.owners.insert(id, at);
        self.links.insert(at, Linked { peer, feeds });
        Ok((OwnedFd::from(theirs), settled))
    }

    fn spawn(
        &mut self,
        at: Address,
        config: &DaemonConfig,
        native: &NativeConfig,
        version: u64,
        link: Option<OwnedFd>,
    ) -> Result<(), (StartError, String)> {
        // First, so that a new one is known to know nothing.
        let started = self.keep().map(drop);
        started.map_err(|error| (error.as_start_error(), error.to_string()))?;
        // A file of variables is read again: that is what a restart is for.
        let is_known = self.known.get(&at.daemon) == Some(&version) && native.env_file.is_none();
        let request = if is_known {
            KeepRequest::SpawnAgain { at }
        } else {
            let request = self.request(at, config, native);
            KeepRequest::Spawn(Box::new(request.map_err(|text| (StartError::NotFound, text))?))
        };
        self.known.insert(at.daemon, version);
        match &native.pid_file {
            Some(path) => drop(self.pid_files.insert(at.daemon, path.clone())),
            None => drop(self.pid_files.remove(&at.daemon)),
        }
        let keep = self.keep().map_err(|error| (error.as_start_error(), error.to_string()))?;
        keep.send(&request, link).map_err(|error| (error.as_start_error(), error.to_string()))
    }

    /// What `keep` has to know of a program.
    fn request(
        &self,
        at: Address,
        config: &DaemonConfig,
        native: &NativeConfig,
    ) -> Result<SpawnRequest, String> {
        let mut env = config::native_env(native, std::env::vars_os())?;
        if let (true, Some(notify)) = (config.is_notified_of(), &self.notify) {
            env.push((NOTIFY_VARIABLE.to_vec(), text(notify).into_bytes()));
        }
        if let Some(timeout) = config.watchdog {
            let timeout_us = timeout.as_micros().to_string();
            env.push((WATCHDOG_VARIABLE.to_vec(), timeout_us.into_bytes()));
        }
        let mut argv = vec![text(&native.program)];
        argv.extend(native.args.iter().cloned());
        let grace_ms = u64::try_from(config.stop_grace.as_millis()).unwrap_or(u64::MAX);
        Ok(SpawnRequest {
            at,
            name: config.name.clone(),
            argv,
            env,
            working_dir: Some(text(&native.working_dir)),
            run_as: native.user.as_ref().map(|user| RunAs {
                uid: user.uid,
                gid: user.gid,
                groups: user.groups.clone(),
            }),
            open_files_max: native.open_files_max,
            log_path: text(&log_path(&self.log_dir, &config.name)),
            stop: StopRule { signal: native.stop_signal, scope: native.stop_scope, grace_ms },
            pid_file: native.pid_file.as_deref().map(text),
            link: native.link.is_some(),
        })
    }

    pub(super) fn ask(&mut self, at: Address, ask: Ask, config: &DaemonConfig) {
        let stop_signal = match &config.isolation {
            Isolation::Native(native) => native.stop_signal,
            Isolation::Wos(_) => SIGTERM,
        };
        let request = match ask {
            Ask::Terminate { cause, grace: _ } => {
                let signal = match cause {
                    TerminateCause::Watchdog => SIGABRT,
                    TerminateCause::Stop
                    | TerminateCause::StartTimeout
                    | TerminateCause::Unhealthy => stop_signal,
                };
                KeepRequest::Stop { at, signal }
            }
            Ask::Kill => KeepRequest::Kill { at },
            Ask::Hold => KeepRequest::Signal { at, signal: SIGSTOP, group: true },
            Ask::Release => KeepRequest::Signal { at, signal: SIGCONT, group: true },
            Ask::Reload => {
                if self.send_over_link(at, |at, outbox| {
                    super::send_config(at, config, outbox);
                }) {
                    return;
                }
                KeepRequest::Reload { at }
            }
            Ask::Probe { kind: _, token } => {
                self.command(at, &Command::HealthCheck { at, token });
                return;
            }
            Ask::Sample { token } => {
                self.command(at, &Command::Metrics { at, token });
                return;
            }
            Ask::MainProcess { pid } => KeepRequest::MainProcess { at, pid },
            Ask::Count => KeepRequest::Count { at },
        };
        // One that can't be told is dead or hangs: the one is heard of, the other is found out.
        if let Some(keep) = &mut self.keep {
            let _ = keep.send(&request, None);
        }
    }

    fn command(&self, at: Address, command: &Command<'_>) {
        self.send_over_link(at, |_, outbox| {
            // A fixed-size command always fits.
            let _ = outbox.send(command);
        });
    }

    fn send_over_link(
        &self,
        at: Address,
        send: impl FnOnce(Address, &crate::manager::link::peer::Outbox),
    ) -> bool {
        let Some(linked) = self.links.get(&at) else { return false };
        send(at, linked.peer.outbox());
        true
    }

    /// Asks `keep` whether it lives. One that is not there has nothing to answer for.
    pub(super) fn ask_place(&mut self) {
        self.tokens = self.tokens.wrapping_add(1);
        let token = self.tokens;
        match &mut self.keep {
            Some(keep) => {
                let _ = keep.send(&KeepRequest::Answer { token }, None);
            }
            None => self.say_place(PlaceNews::Lives),
        }
    }

    /// Ends a `keep` that hangs; what follows is its loss.
    pub(super) fn end_place(&mut self) {
        match &mut self.keep {
            Some(keep) => keep.kill(),
            None if !self.burying => {
                self.say_place(PlaceNews::Lost { how: "it was not there".to_owned(), open: None });
            }
            None => {}
        }
    }

    pub(super) fn let_go(&mut self, at: Address) {
        self.links.remove(&at);
        self.running.remove(&at);
        self.starting.remove(&at);
    }

    /// A link is closed. It stays known until its incarnation is let go.
    pub(super) fn link_closed(&mut self, at: Address, reason: Option<String>) {
        if let Some(linked) = self.links.get(&at) {
            linked.peer.close();
        }
        self.say(at, News::LinkClosed { reason });
    }

    /// The process of this machine that is `keep`.
    pub(super) fn pid(&self) -> Option<u32> {
        self.keep.as_ref().map(KeepClient::pid)
    }

    /// The daemon whose process this is, if it is any's; `name` tells the one in a slot.
    pub(super) fn part_of(
        &self,
        pid: u32,
        name: impl Fn(u32) -> Option<String>,
    ) -> Option<Address> {
        let keep = self.pid()?;
        let belonging = Belonging::of(pid);
        let marker = |at: Address| {
            let name = name(at.daemon).unwrap_or_default();
            keep::marker_of(&self.options.fleet, &name, at.incarnation, keep)
        };
        let its =
            |at: &Address, running: &Running| belonging.is(running.cgroup.as_deref(), &marker(*at));
        let runs = self.running.iter().find(|(at, running)| its(at, running)).map(|(at, _)| *at);
        runs.or_else(|| {
            // The word of its start is still on its way.
            let slot = belonging.slot(keep);
            self.starting.iter().copied().find(|at| {
                slot.map_or_else(|| belonging.is(None, &marker(*at)), |slot| slot == at.daemon)
            })
        })
    }

    /// What `keep` says next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        let Some(keep) = &mut self.keep else { return std::future::pending().await };
        match keep.next_event().await {
            Ok(event) => self.translate(event),
            Err(error) => {
                let pid = keep.pid();
                self.keep = None;
                // That it is keep that ended is said by whoever says this on.
                self.bury(
                    pid,
                    match error {
                        KeepError::Gone { how } => how,
                        error => error.to_string(),
                    },
                );
                None
            }
        }
    }

    fn translate(&mut self, event: KeepEvent) -> Option<Heard> {
        Some(match event {
            KeepEvent::Spawned { at, pid, cgroup } => {
                self.starting.remove(&at);
                self.running.insert(at, Running { pid, cgroup });
                Heard::Of(at, News::Started { pid: Some(pid) })
            }
            KeepEvent::SpawnFailed { at, errno, reason } => {
                self.starting.remove(&at);
                let error = start_error(&io::Error::from_raw_os_error(errno));
                Heard::Of(at, News::StartFailed { error, reason })
            }
            KeepEvent::MainExited { at, exit } => {
                let (_, how) = exit_of(exit);
                Heard::Of(at, News::MainEnded { how })
            }
            KeepEvent::Exited { at, pid: _, exit, cpu_ns: _, rss_bytes_max: _, hint } => {
                let (exit, how) = exit_of(exit);
                let reason = match hint {
                    Some(hint) => format!("{how}: {hint}"),
                    None => how,
                };
                Heard::Of(at, News::Exited { exit, reason })
            }
            KeepEvent::Reloaded { at } => Heard::Of(at, News::Reloaded),
            KeepEvent::ReloadRefused { at, reason } => {
                Heard::Of(at, News::ReloadRefused { reason })
            }
            KeepEvent::MainProcess { at, pid } => {
                if let Some(running) = self.running.get_mut(&at) {
                    running.pid = pid;
                }
                Heard::Of(at, News::MainProcess { pid })
            }
            KeepEvent::MainProcessRefused { at, pid, reason } => {
                let text = format!("MAINPID={pid} does not count: {reason}");
                let level = duende_core::wire::link::LogLevel::Warn;
                Heard::Of(at, News::Log { level, text })
            }
            KeepEvent::Processes { at, count } => Heard::Of(at, News::Processes { count }),
            KeepEvent::Lives { token: _ } => Heard::Place(Place::Native, PlaceNews::Lives),
            KeepEvent::OutputDropped { at, lines } => Heard::Of(at, News::OutputLost { lines }),
        })
    }

    /// `keep` is gone: what it held is killed, and waited for, before anybody hears of it.
    fn bury(&mut self, keep: u32, how: String) {
        self.burying = true;
        let left = self.left(keep);
        let pid_file = |(at, running): (Address, Running)| {
            Some((self.pid_files.get(&at.daemon)?.clone(), running.pid))
        };
        let pid_files: Vec<(PathBuf, u32)> = self.running.drain().filter_map(pid_file).collect();
        let heard = self.heard.clone();
        tokio::spawn(async move {
            let give_up_at = Instant::now() + LEFTOVERS_TIME;
            let mut pause = LEFTOVERS_PERIOD;
            while left.kill() && Instant::now() < give_up_at {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LEFTOVERS_PERIOD_MAX);
            }
            for (path, pid) in pid_files {
                keep::remove_pid_file(&path, pid);
            }
            // The receiver may have gone with the manager.
            let _ = heard.send(Heard::Place(Place::Native, PlaceNews::Lost { how, open: None }));
        });
    }

    fn left(&self, keep: u32) -> Left {
        let mains = self.running.values().map(|running| running.pid).collect();
        Left::of(&self.options.fleet, keep, mains)
    }

    /// Its loss was heard: another one may start.
    pub(super) fn buried(&mut self) {
        self.burying = false;
    }

    /// Ends `keep` and what it holds, within a bounded time. False if it had to be killed.
    pub(super) async fn end(&mut self) -> bool {
        let Some(mut keep) = self.keep.take() else { return true };
        // If it cannot be told, it is gone.
        let _ = keep.send(&KeepRequest::Shutdown, None);
        let ended = async { while keep.next_event().await.is_ok() {} };
        if tokio::time::timeout(LEAVE_TIMEOUT, ended).await.is_ok() {
            return true;
        }
        keep.kill();
        self.left(keep.pid()).kill();
        false
    }
}

/// The `keep` of a fleet, and with it what it started, is there while this file in the state directory is locked.
pub(crate) const KEEP_LOCK: &str = "keep.lock";

/// What `keep` is told of a fleet.
pub(crate) fn keep_options(fleet: &config::FleetConfig) -> KeepOptions {
    KeepOptions {
        fleet: fleet.name.clone(),
        lock: fleet.state_dir.join(KEEP_LOCK),
        open_files: platform::inherited_open_files(),
    }
}

/// What the backends share of links.
pub(super) struct Links<'a> {
    pub(super) store: &'a Arc<Store>,
    pub(super) news: &'a NewsSender,
    pub(super) owners: &'a mut HashMap<LinkId, Address>,
    pub(super) last: &'a mut u64,
}

impl Links<'_> {
    pub(super) fn next(&mut self) -> LinkId {
        *self.last = self.last.wrapping_add(1);
        LinkId(*self.last)
    }
}

fn exit_of(exit: keep::Exit) -> (Exit, String) {
    match exit {
        keep::Exit::Code(code) => (Exit::Code(code), format!("exit code {code}")),
        keep::Exit::Signal { signal, core_dumped } => {
            let core = if core_dumped { ", core dumped" } else { "" };
            (Exit::Signal(signal), format!("{}{core}", signal_name(signal)))
        }
        keep::Exit::Unseen => {
            (Exit::Error, "it ended, and only its parent was told how".to_owned())
        }
    }
}

/// The system's word as the core has it.
pub(super) fn start_error(error: &io::Error) -> StartError {
    let Some(errno) = Errno::from_io_error(error) else { return StartError::Other };
    match errno {
        Errno::NOENT | Errno::NOTDIR => StartError::NotFound,
        Errno::ACCESS => StartError::Denied,
        Errno::TXTBSY => StartError::Busy,
        Errno::MFILE | Errno::NFILE => StartError::NoDescriptors,
        Errno::NOMEM => StartError::NoMemory,
        Errno::AGAIN => StartError::NoProcesses,
        Errno::NOSPC | Errno::DQUOT => StartError::NoSpace,
        Errno::IO | Errno::STALE => StartError::Io,
        Errno::NOEXEC | Errno::LIBBAD | Errno::INVAL => StartError::NotAProgram,
        Errno::TOOBIG => StartError::TooLong,
        Errno::PERM => StartError::NotPermitted,
        Errno::NAMETOOLONG | Errno::LOOP => StartError::BadName,
        _ => StartError::Other,
    }
}

impl KeepError {
    /// What it means for a start that it prevented.
    pub(super) fn as_start_error(&self) -> StartError {
        match self {
            Self::System { source, .. } => start_error(source),
            Self::Encode { .. } => StartError::TooLong,
            Self::NotALink
            | Self::Arguments
            | Self::StillThere { .. }
            | Self::Frame { .. }
            | Self::StrayDescriptors
            | Self::Backlog { .. }
            | Self::Gone { .. } => StartError::NoPlace,
        }
    }
}

/// Reads `path` as text, for what goes into a frame.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_have_their_names() {
        for (errno, expected) in [
            (Errno::NOENT, StartError::NotFound),
            (Errno::TXTBSY, StartError::Busy),
            (Errno::MFILE, StartError::NoDescriptors),
            (Errno::AGAIN, StartError::NoProcesses),
            (Errno::NOSPC, StartError::NoSpace),
            (Errno::NOEXEC, StartError::NotAProgram),
            (Errno::PERM, StartError::NotPermitted),
            (Errno::LOOP, StartError::BadName),
            (Errno::XDEV, StartError::Other),
        ] {
            assert_eq!(start_error(&errno.into()), expected, "{errno:?}");
        }
        // No system call failed.
        assert_eq!(start_error(&io::Error::from_raw_os_error(0)), StartError::Other);
    }
}
