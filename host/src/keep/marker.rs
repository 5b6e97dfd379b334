//! Whose a process is, where there are no cgroups: by descent, by its group, and by a variable in its
//! environment that only its daemon's processes have.
//!
//! `keep` is the subreaper, so whatever loses its parent becomes its child and is found among those.
//! A process that left its group, cleared its environment and lost its parent is nobody's: it ends
//! with `keep`.

use std::ffi::{CStr, CString};
use std::fs;
use std::time::Duration;

use rustix::process::getpgid;

use super::members::as_pid;

/// Most processes of one daemon that are looked at.
const PROCESSES_MAX: usize = 32_768;

/// A process that is just becoming another program shows no environment for an instant: how often it is
/// looked at again, and after how long.
const ENVIRON_TRIES: usize = 5;
const EXEC_TIME: Duration = Duration::from_millis(1);

/// By what the processes of one daemon are known.
#[derive(Debug)]
pub(super) struct Marker {
    /// `NAME=value`, as it stands in the environment.
    variable: CString,
    /// The group that its first process leads.
    group: u32,
}

impl Marker {
    pub(super) const fn new(variable: CString, group: u32) -> Self {
        Self { variable, group }
    }

    /// The processes of the daemon that live; `main` says of a child of this process whether it is the
    /// main process of this daemon, or of another one.
    pub(super) fn pids(&self, main: impl Fn(u32) -> Option<bool>) -> Vec<u32> {
        let mut found: Vec<u32> = children(std::process::id())
            .into_iter()
            .filter(|pid| main(*pid).unwrap_or_else(|| self.marks(*pid)) && lives(*pid))
            .collect();
        let mut next = 0;
        while let Some(pid) = found.get(next).copied() {
            next += 1;
            let room = PROCESSES_MAX.saturating_sub(found.len());
            found.extend(children(pid).into_iter().filter(|pid| lives(*pid)).take(room));
        }
        found
    }

    /// Whether an orphan says itself whose it is.
    fn marks(&self, pid: u32) -> bool {
        let group = as_pid(pid).and_then(|pid| getpgid(Some(pid)).ok());
        if group.is_some_and(|group| group.as_raw_pid().unsigned_abs() == self.group) {
            return true;
        }
        is_marked(pid, &self.variable)
    }
}

/// Whether this variable is in the environment that a process was started with.
pub(super) fn is_marked(pid: u32, variable: &CStr) -> bool {
    for _ in 0..ENVIRON_TRIES {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if !environ.is_empty() {
            return environ.split(|byte| *byte == 0).any(|entry| entry == variable.to_bytes());
        }
        if !lives(pid) {
            return false;
        }
        std::thread::sleep(EXEC_TIME);
    }
    false
}

/// The children of a process, as the kernel lists them: by thread, whichever it gave them to.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let mut pids = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let list = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        pids.extend(list.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    pids
}

/// Whether it is more than what waits to be reaped.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which stands in parentheses and may hold some.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}
