//! Starting daemons: a slot must be free, and what can't be made is that daemon's failure.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::SystemTime;

use duende_core::wire::link::{Address, LogLevel};
use rustix::io::Errno;

use super::cgroup::Tree;
use super::held::{Held, Slot};
use super::launch::Launcher;
use super::marker::Marker;
use super::members::{self, Mains, Members};
use super::pid_file::PidFile;
use super::protocol::{KeepEvent, SpawnRequest};
use super::reports::Reports;
use super::spawn::{Failure, Prepared, Started, check_open_files};
use super::sys;
use super::table::Table;
use crate::daemon_log::LogOrigin;

/// Most slots.
const SLOTS_MAX: usize = 4_096;

impl Table {
    /// Starts what a request says; `link` is what came with it.
    pub(super) fn spawn(
        &mut self,
        request: Box<SpawnRequest>,
        link: Option<&OwnedFd>,
        pipes: &OwnedFd,
        reports: &mut Reports,
    ) {
        let at = request.at;
        let started = self.free_slot(at).and_then(|()| {
            match self.slots.get_mut(&at.daemon) {
                Some(slot) => slot.renew(request),
                None => drop(self.slots.insert(at.daemon, Slot::new(request))),
            }
            self.start(at, link, pipes)
        });
        report_start(at, started, reports);
    }

    /// Starts again what was last asked for.
    pub(super) fn spawn_again(
        &mut self,
        at: Address,
        link: Option<&OwnedFd>,
        pipes: &OwnedFd,
        reports: &mut Reports,
    ) {
        let started = self.free_slot(at).and_then(|()| {
            let Some(slot) = self.slots.get_mut(&at.daemon) else {
                let reason = "keep does not know what to start again".to_owned();
                return Err(Failure::without_errno(reason));
            };
            slot.request.at = at;
            self.start(at, link, pipes)
        });
        report_start(at, started, reports);
    }

    fn free_slot(&self, at: Address) -> Result<(), Failure> {
        match self.slots.get(&at.daemon) {
            None if self.slots.len() >= SLOTS_MAX => Err(Failure::without_errno(format!(
                "{SLOTS_MAX} native daemons are known already, which is the most for one fleet"
            ))),
            Some(Slot { held: Some(held), .. }) if held.at == at => {
                Err(Failure::without_errno("a process with this address runs already".to_owned()))
            }
            Some(Slot { held: Some(held), .. }) => Err(Failure::without_errno(format!(
                "processes of its incarnation {} are still there",
                held.at.incarnation
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn start(
        &mut self,
        at: Address,
        link: Option<&OwnedFd>,
        pipes: &OwnedFd,
    ) -> Result<(u32, Option<String>), Failure> {
        check_open_files(self.running)?;
        let Some(slot) = self.slots.get_mut(&at.daemon) else {
            return Err(Failure::without_errno("its slot is gone".to_owned()));
        };
        if slot.request.link && link.is_none() {
            // Lost on the way for want of a descriptor, or never sent.
            let reason = "the descriptor of its link did not arrive".to_owned();
            return Err(Failure { errno: Errno::MFILE.raw_os_error(), reason, no_cgroup: false });
        }
        let request = &slot.request;
        if let Some(path) = &request.pid_file {
            PidFile::check(Path::new(path)).map_err(|error| pid_file_failure(path, &error))?;
        }
        // After a failure everything is looked at afresh: the program may have moved.
        let prepared = match slot.prepared.take() {
            Some(prepared) => prepared,
            None => Prepared::new(request, self.open_files)?,
        };
        let (started, members) =
            begin(&self.fleet, &mut self.tree, &mut self.launcher, request, &prepared, link)?;
        let pid = started.pid;
        let pid_file = request.pid_file.as_ref().map(|path| {
            PidFile::write(Path::new(path), pid).map_err(|error| pid_file_failure(path, &error))
        });
        let pid_file = match pid_file.transpose() {
            Ok(pid_file) => pid_file,
            Err(failure) => {
                members.kill(Mains { by_pid: &HashMap::from([(pid, at.daemon)]), slot: at.daemon });
                sys::reap_ended(pid);
                members.clean_up();
                return Err(failure);
            }
        };
        let cgroup = members.cgroup().map(str::to_owned);
        let mut held = Held::new(request, started, members, pid_file);
        if let Err(error) = held.listen(pipes) {
            // It runs, so it stays; what it prints has nowhere to go, and its log says so.
            held.streams = [None, None];
            let text = format!("its output is not captured: {error}");
            let (now, level) = (SystemTime::now(), LogLevel::Error);
            slot.log.append(now, level, LogOrigin::Duende, text.as_bytes(), false);
            slot.log.flush();
        }
        slot.prepared = Some(prepared);
        slot.held = Some(held);
        self.mains.insert(pid, at.daemon);
        self.running += 1;
        Ok((pid, cgroup))
    }
}

/// Starts a process in a cgroup of its daemon; by a marker where that can't be.
fn begin(
    fleet: &str,
    tree: &mut Option<Tree>,
    launcher: &mut Launcher,
    request: &SpawnRequest,
    prepared: &Prepared,
    link: Option<&OwnedFd>,
) -> Result<(Started, Members), Failure> {
    let at = request.at;
    let group = tree.as_ref().and_then(|tree| tree.group(at.daemon, &request.name).ok());
    if let Some(group) = group {
        match prepared.start(request, link, Some(&group), None, launcher) {
            // The kernel, or who watches over this process, does not allow it: it never will.
            Err(Failure { no_cgroup: true, .. }) => *tree = None,
            started => return Ok((started?, Members::Grouped(group))),
        }
    }
    let text = super::marker_of(fleet, &request.name, at.incarnation, std::process::id());
    let variable = members::variable(&text)
        .ok_or_else(|| Failure::without_errno("its name contains a NUL byte".to_owned()))?;
    let started = prepared.start(request, link, None, Some(&variable), launcher)?;
    let marker = Marker::new(variable, started.pid);
    Ok((started, Members::Marked(marker)))
}

fn report_start(
    at: Address,
    started: Result<(u32, Option<String>), Failure>,
    reports: &mut Reports,
) {
    reports.tell(&match started {
        Ok((pid, cgroup)) => KeepEvent::Spawned { at, pid, cgroup },
        Err(Failure { errno, reason, .. }) => KeepEvent::SpawnFailed { at, errno, reason },
    });
}

fn pid_file_failure(path: &str, error: &std::io::Error) -> Failure {
    let action = format!("its pid file {path} cannot be written, change or remove `pid_file`");
    Failure::system(&action, error)
}
