//! What happened: takes the news of `keep`, of the peers and of the notification socket, and tells
//! the supervisor.
//!
//! Invariant: an incarnation is let go in one place, [`Manager::ended`], once, whatever ended it.

use std::time::SystemTime;

use duende_core::{
    lifecycle::State,
    limiter::RestartLimit,
    restart::Exit,
    supervise::Input,
    wire::link::{Address, LogLevel, Outcome},
};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};

use super::{
    Manager, ManagerError,
    managed::Place,
    notify::Notification,
    peer::{PeerEvent, PeerId, Report},
    reason::signal_name,
};
use crate::{
    config::{Isolation, Ready},
    control::protocol::{EventKind, HealthState},
    daemon_log::LogOrigin,
    keep::{self, KeepClient, KeepError, KeepEvent},
};

impl Manager {
    pub(super) fn take_keep_event(&mut self, event: KeepEvent) {
        match event {
            KeepEvent::Spawned { at, pid, cgroup: _ } => {
                let Some(daemon) = self.daemon_mut(at) else { return };
                let waits = match &daemon.config.isolation {
                    Isolation::Native(native) => native.ready == Ready::Notify,
                    Isolation::Wos(_) => false,
                };
                if let Some(incarnation) = daemon.current(at) {
                    incarnation.pid = Some(pid);
                    self.watch(at, Some(pid));
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
            KeepEvent::Exited { at, pid: _, exit, cpu_ns: _, rss_bytes_max: _, hint } => {
                let (exit, reason) = match exit {
                    keep::Exit::Code(code) => (Exit::Code(code), format!("exit code {code}")),
                    keep::Exit::Signal { signal, core_dumped } => {
                        let core = if core_dumped { ", core dumped" } else { "" };
                        (Exit::Signal(signal), format!("{}{core}", signal_name(signal)))
                    }
                    keep::Exit::Unseen => {
                        (Exit::Error, "it ended, and only its parent was told how".to_owned())
                    }
                };
                let reason = match hint {
                    Some(hint) => format!("{reason}: {hint}"),
                    None => reason,
                };
                self.process_ended(at, exit, reason);
            }
            KeepEvent::MainExited { .. }
            | KeepEvent::MainProcessRefused { .. }
            | KeepEvent::Processes { .. }
            | KeepEvent::Lives { .. } => {}
            KeepEvent::Reloaded { at } => {
                let Some(daemon) = self.daemon_mut(at) else { return };
                let says = matches!(
                    &daemon.config.isolation,
                    Isolation::Native(native) if native.ready == Ready::Notify
                );
                if !says {
                    self.tell_reloaded(at);
                }
            }
            KeepEvent::ReloadRefused { at, reason } => {
                if let Some(daemon) = self.daemon_mut(at) {
                    daemon.reload_failed = true;
                }
                self.tell_reloaded(at);
                let name = self.name_of(at);
                self.journal.say(LogLevel::Error, &format!("{name}: {reason}"));
            }
            KeepEvent::MainProcess { at, pid } => {
                if let Some(incarnation) = self.daemon_mut(at).and_then(|daemon| daemon.current(at))
                {
                    incarnation.pid = Some(pid);
                    self.watch(at, Some(pid));
                }
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
    pub(super) fn keep_is_gone(&mut self, error: &KeepError) -> Result<(), ManagerError> {
        self.journal.record("", 0, EventKind::KeepExited, &error.to_string());
        let now = self.now();
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
        // One that dies again and again would be started again and again, with all natives.
        if !self.keep_restarts.admit(now) {
            let RestartLimit { intensity, period, .. } = self.keep_restarts.limit();
            return Err(ManagerError::KeepDies { restarts: intensity, period });
        }
        self.keep = Some(KeepClient::start(&super::keep_options(&self.fleet))?);
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
            PeerEvent::Reloaded { at } => self.tell_reloaded(at),
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
                let now = self.now();
                if let Some(daemon) = self.daemon_mut(at) {
                    daemon.memory_bytes = Some(memory_bytes);
                    daemon.committed(now, messages, counters, gauges);
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
            Report::Paused => (HealthState::Healthy, "paused".to_owned()),
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
        if notification.alive
            && let Some(id) = self.id_of(at)
        {
            self.inputs.push_back(Input::Alive { id, incarnation: at.incarnation });
        }
        if notification.ready {
            let state = self.id_of(at).and_then(|id| self.supervisor.view(id));
            if state.is_some_and(|view| matches!(view.state, State::Reloading { .. })) {
                self.tell_reloaded(at);
            } else {
                self.tell_ready(at);
            }
        }
    }

    // Telling the supervisor.

    pub(super) fn tell_spawned(&mut self, at: Address) {
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
    pub(super) fn ended(&mut self, at: Address, exit: Exit, reason: String) {
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
        self.watch(at, None);
        self.unflushed.push(at);
        let name = self.name_of(at);
        self.journal.record(&name, incarnation, EventKind::Exited, &reason);
        self.inputs.push_back(Input::Exited { id, incarnation, exit });
    }
}
