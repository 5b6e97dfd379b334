//! Performs what the supervisor decides: starts, stops, kills, asks. What comes of it is [`super::news`].

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::{Duration, Instant as WallInstant},
};

use duende_core::{
    lifecycle::{FailureReason, Starting, State, Stopping},
    restart::Exit,
    supervise::{DaemonId, Effect},
    wire::link::{Address, Command, LogLevel},
};
use rustix::rand::{GetRandomFlags, getrandom};

use super::{
    Manager, WorkerProcess, log_path,
    managed::{Incarnation, Place},
    peer::{Outbox, Peer, PeerEvent, PeerId},
    reason::failure_text,
    start::{Prepared, prepare},
    text,
};
use crate::{
    config::{self, DaemonConfig, Isolation, NativeConfig},
    control::protocol::{EventKind, HealthState},
    keep::{KeepRequest, RunAs, SpawnRequest, StopRule},
};

/// SIGTERM, by the number that every Unix gives it.
const SIGTERM: i32 = 15;
/// How long a worker may take to kill a daemon: it does so between two quanta.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// Within how many microseconds a program has to give a sign of life.
const WATCHDOG_VARIABLE: &[u8] = b"WATCHDOG_USEC";
/// The worker's own output, in the log directory.
const WORKER_LOG: &str = "wos-worker.stderr";

impl Manager {
    /// Gives the supervisor what it is to be told, and performs its effects, until both are done.
    pub(super) fn decide(&mut self) {
        if self.halted.is_some() {
            self.inputs.clear();
        }
        while let Some(input) = self.inputs.pop_front() {
            let now = self.now();
            let mut effects = Vec::new();
            self.flight.input(now, input);
            let decided =
                self.supervisor.handle(now, entropy(), input, &mut |effect| effects.push(effect));
            if let Err(error) = decided {
                // What operators ask for is checked where they ask it; this is news of the past.
                self.journal.say(LogLevel::Debug, &error.to_string());
            }
            for effect in effects {
                self.flight.effect(now, &effect);
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

    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Changed { id, from: _, to } => self.changed(id, to),
            Effect::Spawn { id, incarnation } => self.spawn(id, incarnation),
            Effect::Terminate { id, incarnation, grace } => {
                let grace_ns = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
                self.terminate(address(id, incarnation), grace_ns);
            }
            Effect::Kill { id, incarnation } => self.kill(address(id, incarnation)),
            Effect::Probe { id, incarnation, kind: _, token } => {
                let at = address(id, incarnation);
                if let Some(outbox) = self.outbox_of(at) {
                    // A fixed-size command always fits.
                    let _ = outbox.send(&Command::HealthCheck { at, token });
                }
            }
            Effect::Pause { id, incarnation } => self.hold(address(id, incarnation)),
            Effect::Resume { id, incarnation } => self.release(address(id, incarnation)),
            Effect::Reload { id, incarnation } => self.reload(address(id, incarnation)),
            Effect::ReloadTimedOut { id, incarnation } => {
                self.reload_timed_out(address(id, incarnation));
            }
            Effect::Halt(epitaph) => self.halt(&epitaph),
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

    pub(super) fn prepared(&mut self, at: Address, prepared: Result<Box<Prepared>, String>) {
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
            match self.spawn_request(at, &config, native) {
                Ok(request) => KeepRequest::Spawn(Box::new(request)),
                Err(reason) => {
                    if let Some(daemon) = self.daemon_mut(at) {
                        daemon.keep_knows = false;
                    }
                    return self.ended(at, Exit::Refused, reason);
                }
            }
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
    ) -> Result<SpawnRequest, String> {
        let grace_ms = u64::try_from(config.stop_grace.as_millis()).unwrap_or(u64::MAX);
        let log = log_path(&self.fleet.log_dir, &config.name);
        let mut env = config::native_env(native, std::env::vars_os())?;
        if let (true, Some(notify)) = (config.is_notified_of(), &self.notify) {
            env.push((b"NOTIFY_SOCKET".to_vec(), text(notify.path()).into_bytes()));
        }
        if let Some(timeout) = config.watchdog {
            let timeout_us = timeout.as_micros().to_string();
            env.push((WATCHDOG_VARIABLE.to_vec(), timeout_us.into_bytes()));
        }
        let mut argv = vec![text(&native.program)];
        argv.extend(native.args.iter().cloned());
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
            log_path: text(&log),
            stop: StopRule { signal: native.stop_signal, scope: native.stop_scope, grace_ms },
            pid_file: native.pid_file.as_deref().map(text),
            link: native.link.is_some(),
        })
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
                let signal = self.stop_signal_of(at);
                self.ask_keep(at, &KeepRequest::Stop { at, signal });
            }
        }
    }

    fn stop_signal_of(&mut self, at: Address) -> i32 {
        match self.daemon_mut(at).map(|daemon| &daemon.config.isolation) {
            Some(Isolation::Native(native)) => native.stop_signal,
            Some(Isolation::Wos(_)) | None => SIGTERM,
        }
    }

    pub(super) fn kill(&mut self, at: Address) {
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

    pub(super) fn ask_keep(&mut self, at: Address, request: &KeepRequest) {
        if let Some(keep) = &mut self.keep
            && let Err(error) = keep.send(request, None)
        {
            let name = self.name_of(at);
            self.journal.say(LogLevel::Error, &format!("{name}: {error}"));
        }
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
            State::Reloading { .. } => (EventKind::Reloading, String::new()),
            State::Paused => (EventKind::Paused, String::new()),
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
        if let State::Backoff { failure: Some(failure), .. } | State::Failed(failure) = to {
            let at = Address { daemon: id.slot(), incarnation };
            let said = self.daemon_mut(at).and_then(|daemon| daemon.last_exit.clone());
            let reason = said.unwrap_or_else(|| failure_text(failure));
            self.journal.record_crash(&name, incarnation, kind, &detail, &reason);
        } else {
            self.journal.record(&name, incarnation, kind, &detail);
        }
    }

    // Finding things.

    pub(super) fn daemon_mut(&mut self, at: Address) -> Option<&mut super::Managed> {
        self.daemons.get_mut(usize::try_from(at.daemon).ok()?)
    }

    pub(super) fn id_of(&mut self, at: Address) -> Option<DaemonId> {
        Some(self.daemon_mut(at)?.id)
    }

    pub(super) fn name_of(&mut self, at: Address) -> String {
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
