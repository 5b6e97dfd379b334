//! All processes of one daemon, and signals for them.
//!
//! A signal is for those whom it is meant for (`stop_tests::an_end_of_one_daemon_is_not_anothers`). A
//! main process is sent one by its id only while it is unreaped and `keep`'s to reap; every other process
//! by a descriptor (pidfd) that was opened first and found to be one of the daemon's afterwards: should
//! its id have been given to somebody else in between, that one is not of the daemon. Only where no
//! descriptor can be had does the look alone have to do.

use std::collections::HashMap;
use std::ffi::CString;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::cgroup::{self, Group};
use super::marker::{self, Marker};

/// How often the processes are listed for a signal after which they start no others.
const PASSES_MAX: usize = 16;

/// Where the processes of one daemon are found.
#[derive(Debug)]
pub(super) enum Members {
    /// In a cgroup.
    Grouped(Group),
    /// Among the descendants of `keep`.
    Marked(Marker),
}

/// The main processes of all daemons, each with its slot; and the slot that is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mains<'a> {
    pub(super) by_pid: &'a HashMap<u32, u32>,
    pub(super) slot: u32,
}

impl Members {
    /// The cgroup, as `/proc/PID/cgroup` has it.
    pub(super) fn cgroup(&self) -> Option<&str> {
        match self {
            Self::Grouped(group) => Some(&group.path),
            Self::Marked(_) => None,
        }
    }

    /// The processes that live.
    pub(super) fn pids(&self, mains: Mains<'_>) -> Vec<u32> {
        match self {
            Self::Grouped(group) => group.pids(),
            Self::Marked(marker) => {
                marker.pids(|pid| mains.by_pid.get(&pid).map(|slot| *slot == mains.slot))
            }
        }
    }

    /// Whether any process lives. Cheap where there is a cgroup.
    pub(super) fn is_any_left(&self, mains: Mains<'_>) -> bool {
        match self {
            Self::Grouped(group) => group.is_populated(),
            Self::Marked(_) => !self.pids(mains).is_empty(),
        }
    }

    /// Whether a process is one of them now.
    pub(super) fn holds(&self, pid: u32, mains: Mains<'_>) -> bool {
        match self {
            Self::Grouped(group) => group.holds(pid),
            Self::Marked(_) => self.pids(mains).contains(&pid),
        }
    }

    /// Sends these signals to every process, one after the other. After SIGSTOP and SIGKILL nobody
    /// starts another process, so then those that were started meanwhile are
    /// found too. Gives who was told.
    pub(super) fn signal(&self, signals: &[Signal], mains: Mains<'_>) -> Vec<u32> {
        let is_final = signals == [Signal::KILL] || signals == [Signal::STOP];
        let passes = if is_final { PASSES_MAX } else { 1 };
        let mut told = Vec::new();
        for _ in 0..passes {
            let mut new = self.pids(mains);
            new.retain(|pid| !told.contains(pid));
            if new.is_empty() {
                break;
            }
            for pid in &new {
                self.signal_one(*pid, signals, mains);
            }
            told.extend(new);
        }
        told
    }

    fn signal_one(&self, pid: u32, signals: &[Signal], mains: Mains<'_>) {
        let Some(id) = as_pid(pid) else { return };
        let opened = pidfd_open(id, PidfdFlags::empty());
        if !self.holds(pid, mains) {
            return;
        }
        for signal in signals {
            let _ = match &opened {
                Ok(process) => pidfd_send_signal(process, *signal),
                // A lack of descriptors, or a kernel before 5.3, must not keep anybody alive: it was
                // of the daemon an instant ago.
                Err(error) if *error != Errno::SRCH => kill_process(id, *signal),
                Err(_) => return,
            };
        }
    }

    /// Nothing is left, and something was killed.
    pub(super) fn clean_up(&self) {
        if let Self::Grouped(group) = self {
            group.remove();
        }
    }

    /// Kills every process.
    pub(super) fn kill(&self, mains: Mains<'_>) {
        match self {
            Self::Grouped(group) if group.kill() => {}
            Self::Grouped(_) | Self::Marked(_) => drop(self.signal(&[Signal::KILL], mains)),
        }
    }
}

/// What is known of a process that says something: whose it may be.
///
/// Ask at once: a process that has ended belongs to nobody.
#[derive(Clone, Debug)]
pub struct Belonging {
    cgroup: Option<String>,
    marker: Option<String>,
}

impl Belonging {
    /// Of this process.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self { cgroup: cgroup::of_process(pid), marker: marker::of_process(pid) }
    }

    /// Whether it is of the daemon with this cgroup, as
    /// [`KeepEvent::Spawned`](super::KeepEvent::Spawned) told it; without one, of the daemon with this
    /// [`marker`](super::marker_of).
    #[must_use]
    pub fn is(&self, cgroup: Option<&str>, marker: &str) -> bool {
        match (cgroup, &self.cgroup) {
            (Some(above), Some(own)) => cgroup::is_below(own, above),
            (Some(_), None) => false,
            (None, _) => self.marker.as_deref() == Some(marker),
        }
    }

    /// The slot of the daemon that it is of, if it is in a cgroup of this `keep`.
    #[must_use]
    pub fn slot(&self, keep: u32) -> Option<u32> {
        cgroup::slot_of(self.cgroup.as_deref()?, keep)
    }
}

/// A marker as it stands in the environment.
pub(super) fn variable(marker: &str) -> Option<CString> {
    CString::new(format!("{}={marker}", super::DAEMON_VARIABLE)).ok()
}

pub(super) fn as_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By its cgroup, if the daemon has one, and else by its marker.
    #[test]
    fn a_process_is_of_the_daemon_whose_cgroup_or_marker_it_has() {
        let text = |text: &str| Some(text.to_owned());
        for (cgroup, marker, of_cgroup, expected) in [
            (None, text("m"), None, true),
            (text("/a"), text("m"), None, true),
            (None, text("x"), None, false),
            (None, None, None, false),
            (None, text("m"), Some("/a"), false),
            (text("/a"), None, Some("/a"), true),
            (text("/a/b"), None, Some("/a"), true),
            (text("/ab"), text("m"), Some("/a"), false),
        ] {
            let belonging = Belonging { cgroup, marker };
            assert_eq!(belonging.is(of_cgroup, "m"), expected, "{belonging:?} {of_cgroup:?}");
        }
    }
}
