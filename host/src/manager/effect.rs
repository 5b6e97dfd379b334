//! Performs what the supervisor decides, and tells it what came of it.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::{Duration, Instant as WallInstant, SystemTime},
};

use duende_core::{
    lifecycle::{FailureReason, Starting, State, Stopping},
    restart::Exit,
    supervise::{DaemonId, Effect, Input},
    wire::link::{Address, Command, LogLevel, Outcome},
};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group},
    rand::{GetRandomFlags, getrandom},
};

use super::{
    Manager, WorkerProcess, log_path,
    managed::{Incarnation, Place},
    notify::Notification,
    peer::{Outbox, Peer, PeerEvent, PeerId, Report},
    start::{Prepared, prepare},
    text,
};
use crate::{
    config::{DaemonConfig, Isolation, NativeConfig, Ready},
    control::protocol::{EventKind, HealthState},
    daemon_log::LogOrigin,
    keep::{self, KeepClient, KeepError, KeepEvent, KeepRequest, RunAs, SpawnRequest},
};

/// SIGTERM, by the number that every Unix gives it.
const SIGTERM: i32 = 15;
/// How long a worker may take to kill a daemon: it does so between two quanta.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// The worker's own output, in the log directory.
const WORKER_LOG: &str = "wos-worker.stderr";

impl Manager {
    /// Gives the supervisor what it is to be told, and performs its effects, until both are done.
    pub(super) fn decide(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            let now = self.now();
            let mut effects = Vec::new();
            let decided =
                self.supervisor.handle(now, entropy(), input, &mut |effect| effects.push(effect));
            if let Err(error) = decided {
                // What operators ask for is checked where they ask it; this is news of the past.
                self.journal.say(LogLevel::Debug, &error.to_string());
            }
            for effect in effects {
                self.perform(effect);
            }
        }
    }

    /// Writes what was logged while effects were performed.
    pub(super) fn flush_logs(&mut self) {
        self.journal.flush();
        for at in std::mem::take(&mut self.unflushed) {
            if let Some(daemon) = self.daemon_mut(at) {
                daemon.log.flush();
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Changed { id, from: _, to } => self.changed(id, to),
            Effect::Spawn { id, incarnation } => self.spawn(id, incarnation),
            Effect::Terminate { id, incarnation, grace } => {
                let grace_ns = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
                self.terminate(address(id, incarnation), grace_ns);
            }
            Effect::Kill { id, incarnation } => self.kill(address(id, incarnation)),
            Effect::Probe { id, incarnation, token } => {
                let at = address(id, incarnation);
                if let Some(outbox) = self.outbox_of(at) {
                    // A fixed-size command always fits.
                    let _ = outbox.send(&Command::HealthCheck { at, token });
                }
            }
            Effect::Halt(epitaph) => self.halted = Some(format!("{epitaph:?}")),
        }
    }

    // Starting.

    fn spawn(&mut self, id: DaemonId, incarnation: u32) {
        let at = address(id, incarnation);
        let Some(daemon) = self.daemon_mut(at) else { return };
        let config = daemon.config.clone();
        daemon.health = HealthState::Unknown;
        daemon.health_detail.clear();
        let place = if config.speaks_contract() {
            let ready = prepare(self.store.clone(), config.clone(), self.standard_input.clone());
            let events = self.peer_events.clone();
            let task = tokio::spawn(async move {
                let prepared = ready.await.map(Box::new);
                let _ = events.send(PeerEvent::Prepared { at, prepared }).await;
            });
            Place::Preparing(task.abort_handle())
        } else {
            Place::Native { link: None }
        };
        let is_plain_native = matches!(place, Place::Native { .. });
        if let Some(daemon) = self.daemon_mut(at) {
            daemon.incarnation = Some(Incarnation {
                at,
                place,
                pid: None,
                began: WallInstant::now(),
                killed: None,
                feeds: Vec::new(),
                said: None,
                ended: None,
            });
        }
        if is_plain_native && let Isolation::Native(native) = &config.isolation {
            self.spawn_native(at, native, None);
        }
    }

    fn prepared(&mut self, at: Address, prepared: Result<Box<Prepared>, String>) {
        let Some(daemon) = self.daemon_mut(at) else { return };
        let config = daemon.config.clone();
        if daemon.current(at).is_none() {
            return;
        }
        let started = prepared.and_then(|prepared| {
            if let Some(daemon) = self.daemon_mut(at) {
                daemon.counters = prepared.loaded.counters.iter().cloned().collect();
                daemon.gauges = prepared.loaded.gauges.iter().cloned().collect();
            }
            match &config.isolation {
                Isolation::Wos(_) => self.start_component(at, *prepared),
                Isolation::Native(native) => self.start_linked(at, native, *prepared),
            }
        });
        if let Err(reason) = started {
            self.ended(at, Exit::Error, reason);
        }
    }

    fn start_component(&mut self, at: Address, prepared: Prepared) -> Result<(), String> {
        let config = self.daemon_mut(at).ok_or("it is gone")?.config.clone();
        let outbox =
            self.worker_outbox().map_err(|error| format!("cannot start a worker: {error}"))?;
        let frames = prepared.description(at, &config).map_err(|error| error.to_string())?;
        if let Some(worker) = &self.worker {
            worker.peer.register(prepared.session(at, &config).into());
        }
        outbox.send_frames(frames);
        let feeds = prepared.feed(at, &outbox, &self.peer_events);
        if let Some(incarnation) = self.daemon_mut(at).and_then(|daemon| daemon.current(at)) {
            incarnation.place = Place::Worker;
            incarnation.feeds = feeds;
        }
        self.tell_spawned(at);
        Ok(())
    }

    fn start_linked(
        &mut self,
        at: Address,
        native: &NativeConfig,
        prepared: Prepared,
    ) -> Result<(), String> {
        let config = self.daemon_mut(at).ok_or("it is gone")?.config.clone();
        let failed = |error: std::io::Error| format!("cannot make its link: {error}");
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let id = self.next_peer();
        let peer = Peer::connect(id, ours, self.store.clone(), self.peer_events.clone())
            .map_err(failed)?;
        let frames = prepared.description(at, &config).map_err(|error| error.to_string())?;
        peer.register(prepared.session(at, &config).into());
        peer.outbox().send_frames(frames);
        let feeds = prepared.feed(at, peer.outbox(), &self.peer_events);
        if let Ok(slot) = usize::try_from(at.daemon) {
            self.link_owners.insert(id, slot);
        }
        if let Some(incarnation) = self.daemon_mut(at).and_then(|daemon| daemon.current(at)) {
            incarnation.place = Place::Native { link: Some(peer) };
            incarnation.feeds = feeds;
        }
        self.spawn_native(at, native, Some(OwnedFd::from(theirs)));
        Ok(())
    }

    fn spawn_native(&mut self, at: Address, native: &NativeConfig, link: Option<OwnedFd>) {
        let Some(daemon) = self.daemon_mut(at) else { return };
        let request = if std::mem::replace(&mut daemon.keep_knows, true) {
            KeepRequest::SpawnAgain { at }
        } else {
            let config = daemon.config.clone();
            KeepRequest::Spawn(Box::new(self.spawn_request(at, &config, native)))
        };
        let sent = match &mut self.keep {
            Some(keep) => keep.send(&request, link).map_err(|error| error.to_string()),
            None => Err("nothing holds native daemons".to_owned()),
        };
        if let Err(reason) = sent {
            if let Some(daemon) = self.daemon_mut(at) {
                daemon.keep_knows = false;
            }
            self.ended(at, Exit::Error, reason);
        }
    }

    /// What `keep` has to know of a native daemon.
    fn spawn_request(
        &self,
        at: Address,
        config: &DaemonConfig,
        native: &NativeConfig,
    ) -> SpawnRequest {
        let stop_grace_ms = u64::try_from(config.stop_grace.as_millis()).unwrap_or(u64::MAX);
        let log = log_path(&self.fleet.log_dir, &config.name);
        let mut env: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| !native.env.contains_key(name))
            .filter(|(name, _)| name != keep::LINK_FD_VARIABLE && name != "NOTIFY_SOCKET")
            .collect();
        env.extend(native.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        if let (Ready::Notify, Some(notify)) = (native.ready, &self.notify) {
            env.push(("NOTIFY_SOCKET".to_owned(), text(notify.path())));
        }
        let mut argv = vec![text(&native.program)];
        argv.extend(native.args.iter().cloned());
        SpawnRequest {
            at,
            argv,
            env,
            working_dir: Some(text(&native.working_dir)),
            run_as: native.user.map(|user| RunAs {
                uid: user.uid,
                gid: user.gid,
                groups: Vec::new(),
            }),
            open_files_max: native.open_files_max,
            log_path: text(&log),
            stop_grace_ms,
            link: native.link.is_some(),
        }
    }

    /// The worker's outbox; a worker is started if none runs.
    pub(super) fn worker_outbox(&mut self) -> std::io::Result<Outbox> {
        if let Some(worker) = &self.worker {
            return Ok(worker.peer.outbox().clone());
        }
        let id = self.next_peer();
        let worker = WorkerProcess::start(
            &self.executable,
            &self.fleet.state_dir.join("images"),
            &self.fleet.log_dir.join(WORKER_LOG),
            id,
            self.store.clone(),
            self.peer_events.clone(),
        )?;
        let outbox = worker.peer.outbox().clone();
        self.worker = Some(worker);
        Ok(outbox)
    }

    // Stopping.

    fn terminate(&mut self, at: Address, grace_ns: u64) {
        let Some(incarnation) = self.daemon_mut(at).and_then(|daemon| daemon.current(at)) else {
            return;
        };
        match incarnation.place {
            Place::Preparing(_) => self.ended(at, Exit::Signal(SIGTERM), "stopped".to_owned()),
            Place::Worker => {
                if let Some(outbox) = self.outbox_of(at) {
                    // A fixed-size command always fits.
                    let _ = outbox.send(&Command::Shutdown { at, grace_ns });
                }
            }
            Place::Native { .. } => {
                self.ask_keep(at, &KeepRequest::Signal { at, signal: SIGTERM, group: false });
            }
        }
    }

    fn kill(&mut self, at: Address) {
        let Some(incarnation) = self.daemon_mut(at).and_then(|daemon| daemon.current(at)) else {
            return;
        };
        incarnation.killed = Some(WallInstant::now());
        match incarnation.place {
            Place::Preparing(_) => self.ended(at, Exit::Signal(9), "killed".to_owned()),
            Place::Worker => {
                if let Some(outbox) = self.outbox_of(at) {
                    // A fixed-size command always fits.
                    let _ = outbox.send(&Command::Kill { at });
                }
            }
            Place::Native { .. } => self.ask_keep(at, &KeepRequest::Kill { at }),
        }
    }

    pub(super) fn kill_all(&mut self) {
        let all: Vec<Address> = self
            .daemons
            .iter()
            .filter_map(|daemon| Some(daemon.incarnation.as_ref()?.at))
            .collect();
        for at in all {
            self.kill(at);
        }
        if let Some(worker) = &mut self.worker {
            worker.kill();
        }
    }

    /// When a worker that was told to kill a daemon must have done it.
    pub(super) fn kill_deadline(&self) -> Option<WallInstant> {
        let deadline = |incarnation: &Incarnation| match incarnation.place {
            Place::Worker => incarnation.killed?.checked_add(KILL_TIMEOUT),
            Place::Preparing(_) | Place::Native { .. } => None,
        };
        self.daemons.iter().filter_map(|daemon| deadline(daemon.incarnation.as_ref()?)).min()
    }

    /// A worker that does not kill what it was told to kill hangs itself: it is ended, and the
    /// daemons that it takes with it come back in another.
    pub(super) fn kill_hung_worker(&mut self) {
        if self.kill_deadline().is_some_and(|deadline| deadline <= WallInstant::now())
            && let Some(worker) = &mut self.worker
        {
            self.journal.say(LogLevel::Error, "the worker does not answer: killing it");
            worker.kill();
            for daemon in &mut self.daemons {
                if let Some(incarnation) = &mut daemon.incarnation {
                    incarnation.killed = None;
                }
            }
        }
    }

    fn ask_keep(&mut self, at: Address, request: &KeepRequest) {
        if let Some(keep) = &mut self.keep
            && let Err(error) = keep.send(request, None)
        {
            let name = self.name_of(at);
            self.journal.say(LogLevel::Error, &format!("{name}: {error}"));
        }
    }

    // What happened.

    pub(super) fn take_keep_event(&mut self, event: KeepEvent) {
        match event {
            KeepEvent::Spawned { at, pid } => {
                let Some(daemon) = self.daemon_mut(at) else { return };
                let waits = match &daemon.config.isolation {
                    Isolation::Native(native) => native.ready == Ready::Notify,
                    Isolation::Wos(_) => false,
                };
                if let Some(incarnation) = daemon.current(at) {
                    incarnation.pid = Some(pid);
                    self.tell_spawned(at);
                    if !waits {
                        self.tell_ready(at);
                    }
                }
            }
            KeepEvent::SpawnFailed { at, errno, reason } => {
                // A lack of processes or memory passes; a program that is not there stays away.
                let passes = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
                let passes = passes.iter().any(|passing| passing.raw_os_error() == errno);
                self.ended(at, if passes { Exit::Error } else { Exit::Refused }, reason);
            }
            KeepEvent::Exited { at, pid: _, exit, cpu_ns: _, rss_bytes_max: _ } => {
                let (exit, reason) = match exit {
                    keep::Exit::Code(code) => (Exit::Code(code), format!("exit code {code}")),
                    keep::Exit::Signal { signal, core_dumped } => {
                        let core = if core_dumped { ", core dumped" } else { "" };
                        (Exit::Signal(signal), format!("{}{core}", signal_name(signal)))
                    }
                };
                self.process_ended(at, exit, reason);
            }
            KeepEvent::OutputDropped { at, lines } => {
                let name = self.name_of(at);
                let line =
                    format!("{name}: {lines} lines of output could not be written to its log");
                self.journal.say(LogLevel::Warn, &line);
            }
        }
    }

    /// `keep` died, and with it what it knew of the natives. They are ended, so that none runs twice,
    /// and start again under another `keep`.
    pub(super) fn keep_is_gone(&mut self, error: &KeepError) -> Result<(), KeepError> {
        self.journal.record("", 0, EventKind::KeepExited, &error.to_string());
        let natives: Vec<(Address, Option<u32>)> = self
            .daemons
            .iter()
            .filter_map(|daemon| daemon.incarnation.as_ref())
            .filter(|incarnation| matches!(incarnation.place, Place::Native { .. }))
            .map(|incarnation| (incarnation.at, incarnation.pid))
            .collect();
        for (at, pid) in natives {
            let group = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
            if let Some(group) = group {
                // Fails if it has ended by itself.
                let _ = kill_process_group(group, Signal::KILL);
            }
            self.process_ended(at, Exit::Lost, "what held it, keep, died".to_owned());
        }
        self.keep = Some(KeepClient::start(&self.executable)?);
        for daemon in &mut self.daemons {
            daemon.keep_knows = false;
        }
        Ok(())
    }

    /// A native process ended. If it had a link, what it sent last is read first: a slice that it
    /// committed counts, whatever ended it.
    fn process_ended(&mut self, at: Address, exit: Exit, reason: String) {
        let Some(incarnation) = self.daemon_mut(at).and_then(|daemon| daemon.current(at)) else {
            return;
        };
        if let Place::Native { link: Some(_) } = incarnation.place {
            incarnation.ended = Some((exit, reason));
        } else {
            self.ended(at, exit, reason);
        }
    }

    pub(super) async fn take_peer_event(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Prepared { at, prepared } => self.prepared(at, prepared),
            PeerEvent::Running { at, pid } => {
                let Some(daemon) = self.daemon_mut(at) else { return };
                if let Some(incarnation) = daemon.current(at) {
                    if let Place::Worker = incarnation.place {
                        incarnation.pid = Some(pid);
                    }
                    self.tell_ready(at);
                }
            }
            PeerEvent::Log { at, level, text } => {
                if let Some(daemon) = self.daemon_mut(at) {
                    daemon.log.append(
                        SystemTime::now(),
                        level,
                        LogOrigin::Log,
                        text.as_bytes(),
                        false,
                    );
                    daemon.log.flush();
                }
            }
            PeerEvent::Health { at, token, report, memory_bytes } => {
                self.take_health(at, token, report, memory_bytes);
            }
            PeerEvent::Committed { at, messages, counters, gauges, memory_bytes } => {
                if let Some(daemon) = self.daemon_mut(at) {
                    daemon.memory_bytes = Some(memory_bytes);
                    daemon.committed(WallInstant::now(), messages, counters, gauges);
                }
            }
            PeerEvent::Figure { at, token, figure } => self.take_figure(at, token, figure.as_ref()),
            PeerEvent::Exited { at, outcome, reason } => self.component_ended(at, outcome, reason),
            PeerEvent::Source { at, gap, text } => {
                let name = self.name_of(at);
                if gap {
                    self.journal.record(&name, at.incarnation, EventKind::SourceGap, &text);
                } else {
                    self.journal.say(LogLevel::Info, &format!("{name}: {text}"));
                }
            }
            PeerEvent::SourceDrained { at } => {
                let name = self.name_of(at);
                self.journal.say(LogLevel::Info, &format!("{name}: standard input has ended"));
                if self.options.ends_with_work {
                    self.stop_all();
                }
            }
            PeerEvent::Closed { peer, reason } => self.link_closed(peer, reason).await,
        }
    }

    fn take_health(&mut self, at: Address, token: u64, report: Report, memory_bytes: u64) {
        let Some(daemon) = self.daemon_mut(at) else { return };
        if daemon.current(at).is_none() {
            return;
        }
        let (health, detail) = match report {
            Report::Healthy => (HealthState::Healthy, String::new()),
            Report::Degraded(text) => (HealthState::Degraded, text),
            Report::Unhealthy(text) => (HealthState::Unhealthy, text),
            // Within its budget a slice is work; over it the kernel ends the daemon.
            Report::Busy(slice_ns) => {
                (HealthState::Healthy, format!("busy for {} ms", slice_ns / 1_000_000))
            }
        };
        let before = std::mem::replace(&mut daemon.health, health);
        daemon.health_detail.clone_from(&detail);
        if memory_bytes > 0 {
            daemon.memory_bytes = Some(memory_bytes);
        }
        let id = daemon.id;
        let healthy = health != HealthState::Unhealthy;
        if healthy != (before != HealthState::Unhealthy) {
            let kind = if healthy { EventKind::Healthy } else { EventKind::Unhealthy };
            let name = self.name_of(at);
            self.journal.record(&name, at.incarnation, kind, &detail);
        }
        let incarnation = at.incarnation;
        self.inputs.push_back(Input::Probed { id, incarnation, token, healthy });
    }

    fn component_ended(&mut self, at: Address, outcome: Outcome, reason: String) {
        let Some(incarnation) = self.daemon_mut(at).and_then(|daemon| daemon.current(at)) else {
            return;
        };
        match incarnation.place {
            Place::Worker => {
                if let Some(worker) = &self.worker {
                    worker.peer.unregister(at);
                }
                let exit = match outcome {
                    Outcome::Graceful => Exit::Code(0),
                    Outcome::Error => Exit::Error,
                    Outcome::Trap => Exit::Trap,
                    Outcome::SliceBudget => Exit::SliceBudget,
                    Outcome::Killed => Exit::Signal(9),
                    Outcome::Refused => Exit::Refused,
                };
                self.ended(at, exit, reason);
            }
            // Its process is about to end, and that is what counts; what it says is for people.
            Place::Native { .. } => incarnation.said = Some(reason),
            Place::Preparing(_) => {}
        }
    }

    async fn link_closed(&mut self, peer: PeerId, reason: Option<String>) {
        if let Some(worker) = self.worker.take_if(|worker| worker.peer.id() == peer) {
            let lost = worker.peer.addresses();
            let mut how = worker.reap().await;
            if let Some(reason) = reason {
                how = format!("{how}, {reason}");
            }
            self.journal.record("", 0, EventKind::WorkerExited, &how);
            for at in lost {
                self.ended(at, Exit::Lost, format!("its worker ended: {how}"));
            }
            return;
        }
        let Some(slot) = self.link_owners.remove(&peer) else { return };
        let Some(daemon) = self.daemons.get_mut(slot) else { return };
        let Some(incarnation) = &mut daemon.incarnation else { return };
        let at = incarnation.at;
        match &mut incarnation.place {
            Place::Native { link } if link.as_ref().is_some_and(|link| link.id() == peer) => {
                *link = None;
            }
            Place::Native { .. } | Place::Worker | Place::Preparing(_) => return,
        }
        if let Some((exit, reason)) = incarnation.ended.take() {
            self.ended(at, exit, reason);
        } else if let Some(reason) = reason {
            // It broke the protocol. Without a link it is of no use, and its supervisor decides.
            let name = self.name_of(at);
            self.journal.say(LogLevel::Error, &format!("{name}: its link was closed: {reason}"));
            self.kill(at);
        }
    }

    pub(super) fn take_notification(&mut self, notification: Notification) {
        let found = self.daemons.iter().find_map(|daemon| {
            let incarnation = daemon.incarnation.as_ref()?;
            let is_native = matches!(incarnation.place, Place::Native { .. });
            (is_native && incarnation.pid == Some(notification.pid)).then_some(incarnation.at)
        });
        let Some(at) = found else { return };
        if let Some(status) = notification.status
            && let Some(daemon) = self.daemon_mut(at)
        {
            daemon.health_detail = status;
        }
        if notification.ready {
            self.tell_ready(at);
        }
    }

    // Telling the supervisor.

    fn tell_spawned(&mut self, at: Address) {
        if let Some(id) = self.id_of(at) {
            self.inputs.push_back(Input::Spawned { id, incarnation: at.incarnation });
        }
    }

    fn tell_ready(&mut self, at: Address) {
        if let Some(id) = self.id_of(at) {
            self.inputs.push_back(Input::Ready { id, incarnation: at.incarnation });
        }
    }

    /// An incarnation is over, in whatever way: this is the one place where it is let go.
    fn ended(&mut self, at: Address, exit: Exit, reason: String) {
        let Some(daemon) = self.daemon_mut(at) else { return };
        let Some(incarnation) = daemon.current(at) else { return };
        let reason = match incarnation.said.take() {
            Some(said) => format!("{reason}: {said}"),
            None => reason,
        };
        daemon.incarnation = None;
        daemon.memory_bytes = None;
        daemon.last_exit = Some(reason.clone());
        let (id, incarnation) = (daemon.id, at.incarnation);
        daemon.log.append(
            SystemTime::now(),
            if exit.failure().is_some() { LogLevel::Error } else { LogLevel::Info },
            LogOrigin::Duende,
            format!("incarnation {incarnation} ended: {reason}").as_bytes(),
            false,
        );
        self.unflushed.push(at);
        let name = self.name_of(at);
        self.journal.record(&name, incarnation, EventKind::Exited, &reason);
        self.inputs.push_back(Input::Exited { id, incarnation, exit });
    }

    fn changed(&mut self, id: DaemonId, to: State) {
        let Some(name) = usize::try_from(id.slot())
            .ok()
            .and_then(|slot| self.daemons.get(slot))
            .map(|daemon| daemon.config.name.clone())
        else {
            return;
        };
        let incarnation = self.supervisor.view(id).map_or(0, |view| view.incarnation);
        let (kind, detail) = match to {
            State::Created | State::Starting(Starting::Waiting | Starting::Initialising { .. }) => {
                return;
            }
            State::Starting(Starting::Spawning { .. }) => (EventKind::Started, String::new()),
            State::Running => (EventKind::Running, String::new()),
            State::Stopping(Stopping::Asked { .. }) => (EventKind::Stopping, String::new()),
            State::Stopping(Stopping::Killing { .. }) => {
                (EventKind::Stopping, "it did not stop in time: killing it".to_owned())
            }
            State::Stopping(Stopping::Condemned(failure)) => {
                (EventKind::Unhealthy, format!("killing it: {}", failure_text(failure)))
            }
            State::Stopped(_) => (EventKind::Stopped, String::new()),
            State::Backoff { until, failure: _ } => {
                let delay = until.saturating_since(self.now());
                (EventKind::Backoff, format!("starting again in {} ms", delay.as_millis()))
            }
            State::Failed(failure @ FailureReason::Quarantined { .. }) => {
                let text =
                    format!("{}; `duende restart {name}` releases it", failure_text(failure));
                (EventKind::Quarantined, text)
            }
            State::Failed(failure) => (EventKind::Failed, failure_text(failure)),
        };
        self.journal.record(&name, incarnation, kind, &detail);
    }

    // Finding things.

    pub(super) fn daemon_mut(&mut self, at: Address) -> Option<&mut super::Managed> {
        self.daemons.get_mut(usize::try_from(at.daemon).ok()?)
    }

    fn id_of(&mut self, at: Address) -> Option<DaemonId> {
        Some(self.daemon_mut(at)?.id)
    }

    fn name_of(&mut self, at: Address) -> String {
        self.daemon_mut(at).map(|daemon| daemon.config.name.clone()).unwrap_or_default()
    }

    pub(super) fn outbox_of(&mut self, at: Address) -> Option<Outbox> {
        let incarnation = self.daemon_mut(at)?.current(at)?;
        match &incarnation.place {
            Place::Native { link } => Some(link.as_ref()?.outbox().clone()),
            Place::Worker => Some(self.worker.as_ref()?.peer.outbox().clone()),
            Place::Preparing(_) => None,
        }
    }

    fn next_peer(&mut self) -> PeerId {
        self.next_peer += 1;
        PeerId(self.next_peer)
    }
}

fn address(id: DaemonId, incarnation: u32) -> Address {
    Address { daemon: id.slot(), incarnation }
}

/// One draw of entropy, for the jitter of one decision.
fn entropy() -> u64 {
    let mut bytes = [0; 8];
    // Fails only before the kernel's pool is first seeded; then there is no jitter, and no harm.
    let _ = getrandom(&mut bytes, GetRandomFlags::NONBLOCK);
    u64::from_ne_bytes(bytes)
}

/// A failure, for people.
pub(super) fn failure_text(failure: FailureReason) -> String {
    match failure {
        FailureReason::ExitCode(code) => format!("exit code {code}"),
        FailureReason::Signal(signal) => signal_name(signal),
        FailureReason::Error => "it returned an error".to_owned(),
        FailureReason::Trap => "it trapped".to_owned(),
        FailureReason::SliceBudget => "a slice passed its budget".to_owned(),
        FailureReason::StartTimeout => "it was not ready in time".to_owned(),
        FailureReason::Unhealthy => "its health checks failed".to_owned(),
        FailureReason::Refused => "it cannot be started".to_owned(),
        FailureReason::Lost => "what it ran in ended".to_owned(),
        FailureReason::Quarantined { restarts, period } => {
            format!("{restarts} restarts within {} s were not enough", period.as_secs())
        }
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    format!("killed by {name}")
}
