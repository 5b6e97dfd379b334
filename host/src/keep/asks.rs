//! What the manager asks of one daemon. Nothing happens when it has ended.

use std::os::fd::OwnedFd;
use std::path::Path;

use duende_core::wire::link::Address;
use rustix::event::epoll;
use rustix::process::{PidfdFlags, Signal, pidfd_open};

use super::ending::Event;
use super::hangup;
use super::held::Source;
use super::members::as_pid;
use super::pid_file::PidFile;
use super::protocol::KeepEvent;
use super::reports::Reports;
use super::sys;
use super::table::Table;

impl Table {
    /// Tells a daemon's ending what happened.
    pub(super) fn ask(
        &mut self,
        at: Address,
        event: Event,
        pipes: &OwnedFd,
        reports: &mut Reports,
    ) {
        if self.held(at).is_some() {
            self.step(at.daemon, event, pipes, reports);
        }
    }

    /// The same to all daemons.
    pub(super) fn ask_all(&mut self, event: Event, pipes: &OwnedFd, reports: &mut Reports) {
        let all: Vec<u32> = self.slots.keys().copied().collect();
        for slot in all {
            self.step(slot, event, pipes, reports);
        }
    }

    pub(super) fn signal(&self, at: Address, signal: i32, all: bool) {
        let (Some(held), Some(signal)) = (self.held(at), Signal::from_named_raw(signal)) else {
            return;
        };
        match all {
            true => held.signal_all(&[signal], self.mains(at.daemon)),
            false => held.signal_main(&[signal]),
        }
    }

    pub(super) fn reload(&self, at: Address, reports: &mut Reports) {
        let Some(held) = self.held(at) else { return };
        let name = self.slots.get(&at.daemon).map_or("", |slot| slot.request.name.as_str());
        let refusal = match held.ending.main_ended() {
            true => Some("its main process has ended".to_owned()),
            false => hangup::refusal(held.pid, name),
        };
        reports.tell(&match refusal {
            Some(reason) => KeepEvent::ReloadRefused { at, reason },
            None => {
                held.signal_main(&[Signal::HUP]);
                KeepEvent::Reloaded { at }
            }
        });
    }

    pub(super) fn count(&self, at: Address, reports: &mut Reports) {
        if let Some(held) = self.held(at) {
            let count = held.members.pids(self.mains(at.daemon)).len();
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            reports.tell(&KeepEvent::Processes { at, count });
        }
    }

    pub(super) fn name_main(
        &mut self,
        at: Address,
        pid: u32,
        pipes: &OwnedFd,
        reports: &mut Reports,
    ) {
        if self.held(at).is_none() {
            return;
        }
        match self.try_name_main(at, pid, pipes) {
            Err(reason) => reports.tell(&KeepEvent::MainProcessRefused { at, pid, reason }),
            Ok(()) => {
                reports.tell(&KeepEvent::MainProcess { at, pid });
                self.step(at.daemon, Event::MainNamed, pipes, reports);
            }
        }
    }

    fn try_name_main(&mut self, at: Address, pid: u32, pipes: &OwnedFd) -> Result<(), String> {
        let slot = at.daemon;
        let Some(held) = self.held(at) else { return Ok(()) };
        if held.ending.main_ended() && held.ending.was_asked() {
            return Err(format!("its main process {} has ended, and it is being ended", held.pid));
        }
        let Some(id) = as_pid(pid) else { return Err(format!("{pid} is no process id")) };
        let process = pidfd_open(id, PidfdFlags::empty())
            .map_err(|error| format!("process {pid}: {error}"))?;
        if pid != held.pid && !held.members.holds(pid, self.mains(slot)) {
            return Err(format!("process {pid} is not one of this daemon"));
        }
        let old = held.pid;
        let watch = if sys::is_child(pid) { None } else { Some(process) };
        if let Some(process) = &watch {
            let token = epoll::EventData::new_u64(Source::Watch.token(slot));
            epoll::add(pipes, process, token, epoll::EventFlags::IN)
                .map_err(|error| format!("process {pid} can't be watched: {error}"))?;
        }
        let path = self.slots.get(&slot).and_then(|slot| slot.request.pid_file.clone());
        let pid_file = path.map(|path| PidFile::write(Path::new(&path), pid)).transpose();
        let pid_file =
            pid_file.map_err(|error| format!("its pid file can't be written: {error}"))?;
        self.mains.remove(&old);
        self.mains.insert(pid, slot);
        if let Some(held) = self.held_mut(slot) {
            if let Some(process) = std::mem::replace(&mut held.watch, watch) {
                let _ = epoll::delete(pipes, &process);
            }
            held.pid = pid;
            held.death = None;
            held.hint = None;
            held.pid_file = pid_file;
        }
        Ok(())
    }
}
