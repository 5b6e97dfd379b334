//! What a `keep` that was killed has left. Nobody holds it any more, so whoever comes upon it kills it: by
//! the groups of the main processes that are known, by its cgroups, and, where there are none, by the
//! variable that only processes of its daemons have. So what left its group, or was just started and not
//! spoken of, is found too; and nothing of another fleet is, whatever that is called.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::process::{Signal, kill_process, kill_process_group, test_kill_process_group};

use super::{cgroup::Group, marker, members::as_pid};

/// From one kill to the next.
const KILL_PERIOD: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Left {
    mains: Vec<u32>,
    cgroups: Option<Group>,
    /// What the markers of its processes begin and end with.
    marker: (String, String),
}

impl Left {
    /// Of this `keep` of a fleet, of which these main processes are known; each leads its group.
    pub(crate) fn of(fleet: &str, keep: u32, mains: Vec<u32>) -> Self {
        let marker = (format!("{fleet}/"), format!("/{keep}"));
        Self { mains, cgroups: Group::of_keep(fleet, keep), marker }
    }

    /// Kills what is left; false if nothing was. What can't be killed at once is found again.
    pub(crate) fn kill(&self) -> bool {
        let mut any = false;
        for group in self.mains.iter().copied().filter_map(as_pid) {
            // Fails if it has ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
            any |= test_kill_process_group(group).is_ok();
        }
        if let Some(cgroups) = &self.cgroups {
            if cgroups.is_populated() {
                any = true;
                if !cgroups.kill() {
                    cgroups.pids().into_iter().for_each(kill);
                }
            } else {
                cgroups.remove();
            }
        }
        for pid in self.marked() {
            any = true;
            kill(pid);
        }
        any
    }

    /// Kills until nothing is left, at most this long.
    pub(super) fn end(&self, within: Duration) {
        let give_up_at = Instant::now() + within;
        while self.kill() && Instant::now() < give_up_at {
            std::thread::sleep(KILL_PERIOD);
        }
    }

    /// One that is dead and not reaped has no environment.
    fn marked(&self) -> Vec<u32> {
        let (begin, end) = &self.marker;
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let marked = marker::of_processes(pids).into_iter();
        let own = marked.filter(|(_, marker)| marker.starts_with(begin) && marker.ends_with(end));
        own.map(|(pid, _)| pid).collect()
    }
}

fn kill(pid: u32) {
    // Fails if it has ended by itself.
    let _ = as_pid(pid).map(|pid| kill_process(pid, Signal::KILL));
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::keep::{DAEMON_VARIABLE, marker_of};

    /// A process, and one that leads a session of its own.
    fn two(marker: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", "setsid sleep 1000 & exec sleep 1000"]).env(DAEMON_VARIABLE, marker);
        command.stdin(Stdio::null()).spawn().unwrap()
    }

    fn wait(mut until: impl FnMut() -> bool) {
        while !until() {
            std::thread::yield_now();
        }
    }

    /// By its marker alone: also what left its group, and nothing of a fleet that is called the same.
    #[test]
    fn what_left_its_group_is_found_by_its_marker_and_nobody_else() {
        let fleet = format!("left-{}", std::process::id());
        let left = |keep| Left::of(&fleet, keep, Vec::new());
        let (own, other) = (left(4_194_301), left(4_194_302));
        let mut child = two(&marker_of(&fleet, "a", 1, 4_194_301));
        let mut bystander = two(&marker_of(&fleet, "a", 1, 4_194_302));
        wait(|| own.marked().len() == 2 && other.marked().len() == 2);
        assert!(own.kill());
        child.wait().unwrap();
        wait(|| !own.kill());
        assert_eq!(other.marked().len(), 2);
        assert!(other.kill());
        bystander.wait().unwrap();
        wait(|| !other.kill());
    }
}
