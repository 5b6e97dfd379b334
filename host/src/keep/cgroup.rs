//! A cgroup for each daemon, by which its processes are found wherever they go: neither `setsid` nor a
//! double fork leaves a cgroup (`stop_tests::what_left_the_session_ends_with_its_daemon`).
//!
//! Only the hierarchy of cgroup v2 is used, and no controller of it: nothing is limited here. A tree is
//! one directory below the cgroup that `keep` runs in, with one directory for each daemon. Its name
//! holds the fleet, the lock that only one `keep` of the fleet can hold, and the process id: so what
//! another tree with the same lock holds was left by a `keep` that is dead, and is ended
//! (`stop_tests::what_a_killed_keep_left_is_ended_by_the_next`), and two fleets never meet.
//!
//! Where no tree can be made (no cgroup v2, or it belongs to somebody else) a daemon's processes are
//! known by [`super::marker`].

use std::fs;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};

/// Deepest directory below a daemon's, and most directories there, that are looked at: daemons may
/// make cgroups of their own.
const DEPTH_MAX: usize = 16;
const DIRECTORIES_MAX: usize = 1_024;

/// How long what a dead `keep` left may take to end once it was killed. What is not gone then hangs in
/// the kernel, and holds nobody up any longer.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// The cgroups of one fleet.
#[derive(Debug)]
pub(super) struct Tree {
    directory: PathBuf,
    /// The same place as `/proc/PID/cgroup` has it.
    path: String,
}

impl Tree {
    /// Makes a tree, and ends what earlier ones of this owner hold. `owner` is a file name without
    /// dots at its end. None where that is not possible.
    pub(super) fn make(owner: &str) -> Option<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let (base, path) = locate(&mountinfo, &own)?;
        let prefix = format!("duende.{owner}.");
        for entry in fs::read_dir(&base).ok()?.flatten() {
            if entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
                let left = Group { directory: entry.path(), path: String::new() };
                left.kill();
                left.wait_until_empty(CLEAN_UP_TIMEOUT);
                left.remove();
            }
        }
        let name = format!("{prefix}{}", std::process::id());
        let directory = base.join(&name);
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
            Ok(()) | Err(_) => {}
        }
        let path = format!("{}/{name}", path.trim_end_matches('/'));
        Some(Self { directory, path })
    }

    /// The cgroup of a daemon, made if it is not there.
    pub(super) fn group(&self, slot: u32, name: &str) -> io::Result<Group> {
        // The number makes it unique; the name is for people.
        let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        let name = match name.as_bytes().iter().all(safe) {
            true => format!("{slot}-{name}"),
            false => slot.to_string(),
        };
        let directory = self.directory.join(&name);
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        Ok(Group { directory, path: format!("{}/{name}", self.path) })
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        Group { directory: self.directory.clone(), path: String::new() }.remove();
    }
}

/// The slot whose cgroup, or one below it, this is, in the tree of this `keep`.
pub(super) fn slot_of(cgroup: &str, keep: u32) -> Option<u32> {
    let mut names = cgroup.split('/');
    let keep = format!(".{keep}");
    names.find(|name| name.starts_with("duende.") && name.ends_with(&keep))?;
    names.next()?.split('-').next()?.parse().ok()
}

/// The cgroup of one daemon.
#[derive(Clone, Debug)]
pub(super) struct Group {
    directory: PathBuf,
    /// As `/proc/PID/cgroup` has it.
    pub(super) path: String,
}

/// Whether this is the name of the tree of that `keep`, of that fleet.
fn is_tree_of(name: &str, fleet: &str, keep: u32) -> bool {
    name.starts_with(&format!("duende.{fleet}.")) && name.ends_with(&format!(".{keep}"))
}

impl Group {
    /// The tree of this `keep`, if there is one.
    pub(super) fn of_keep(fleet: &str, keep: u32) -> Option<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let (base, path) = locate(&mountinfo, &own)?;
        let is_it = |name: &str| is_tree_of(name, fleet, keep);
        let mut entries = fs::read_dir(&base).ok()?.flatten();
        let name = entries
            .find_map(|entry| entry.file_name().into_string().ok().filter(|name| is_it(name)))?;
        let path = format!("{}/{name}", path.trim_end_matches('/'));
        Some(Self { directory: base.join(name), path })
    }

    /// The directory, for a child to be born in.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(open(&self.directory, flags, Mode::empty())?)
    }

    /// Whether a living process is in it; one that is dead and not reaped is none.
    pub(super) fn is_populated(&self) -> bool {
        fs::read_to_string(self.directory.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// Waits until no living process is in it, at most so long.
    fn wait_until_empty(&self, timeout: Duration) {
        let Some(deadline) = Instant::now().checked_add(timeout) else { return };
        let Ok(mut events) = fs::File::open(self.directory.join("cgroup.events")) else { return };
        loop {
            // What was read is what the kernel tells of changes since.
            let mut text = String::new();
            let read = events.rewind().and_then(|()| events.read_to_string(&mut text));
            let left = deadline.saturating_duration_since(Instant::now());
            if read.is_err() || !text.contains("populated 1") || left.is_zero() {
                return;
            }
            let left = Timespec::try_from(left).unwrap_or_default();
            let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left));
        }
    }

    /// The processes in it.
    pub(super) fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for directory in self.directories() {
            let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            pids.extend(list.lines().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        pids
    }

    /// Whether this process is in it now.
    pub(super) fn holds(&self, pid: u32) -> bool {
        of_process(pid).is_some_and(|path| is_below(&path, &self.path))
    }

    /// Kills every process in it at once; false where the kernel (before 5.14) can't. Remove it when
    /// nothing is left: a kernel (seen with 6.18) may kill at once what is born there later.
    pub(super) fn kill(&self) -> bool {
        fs::write(self.directory.join("cgroup.kill"), "1").is_ok()
    }

    /// Removes the directories, the lowest first. One that holds a process stays.
    pub(super) fn remove(&self) {
        for directory in self.directories().iter().rev() {
            let _ = fs::remove_dir(directory);
        }
    }

    /// This directory and those below it, each after its parent.
    fn directories(&self) -> Vec<PathBuf> {
        let mut found = vec![(self.directory.clone(), 0)];
        let mut next = 0;
        while let Some((directory, depth)) = found.get(next).cloned() {
            next += 1;
            if depth == DEPTH_MAX {
                continue;
            }
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if found.len() < DIRECTORIES_MAX && entry.file_type().is_ok_and(|t| t.is_dir()) {
                    found.push((entry.path(), depth + 1));
                }
            }
        }
        found.into_iter().map(|(directory, _)| directory).collect()
    }
}

/// The cgroup that a process is in, as `/proc/PID/cgroup` has it.
pub(super) fn of_process(pid: u32) -> Option<String> {
    unified(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?).map(str::to_owned)
}

/// Whether a cgroup is another or below it.
pub(super) fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The cgroup v2 of the lines of `/proc/PID/cgroup`.
fn unified(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Where a process's own cgroup v2 is mounted, and its path; from `/proc/self/mountinfo` and
/// `/proc/self/cgroup`. A mount that does not show it is none.
fn locate(mountinfo: &str, cgroup: &str) -> Option<(PathBuf, String)> {
    let path = unified(cgroup)?;
    if path.contains("/..") {
        return None;
    }
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let below = match root.as_str() {
            "/" => path,
            root if is_below(path, root) => path.strip_prefix(root)?,
            _ => return None,
        };
        Some((Path::new(&point).join(below.trim_start_matches('/')), path.to_owned()))
    })
}

/// A path of `mountinfo`, which writes blanks and backslashes as octal numbers.
fn unescape(text: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.into_iter().fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mounts: &[&str], cgroup: &str, expected: Option<(&str, &str)>) {
        let mountinfo = mounts.join("\n");
        let found = locate(&mountinfo, cgroup);
        let expected =
            expected.map(|(directory, path)| (PathBuf::from(directory), path.to_owned()));
        assert_eq!(found, expected, "{mounts:?} {cgroup:?}");
    }

    #[test]
    fn a_tree_is_of_one_keep_of_one_fleet() {
        for (name, is_it) in [
            ("duende.edge.0a1b.12", true),
            ("duende.edge.0a1b.112", false),
            ("duende.edge.0a1b.1", false),
            ("duende.ed.0a1b.12", false),
            ("duende.edges.0a1b.12", false),
            ("other.edge.0a1b.12", false),
            ("duende.edge.12.0a1b", false),
        ] {
            assert_eq!(is_tree_of(name, "edge", 12), is_it, "{name}");
        }
    }

    #[test]
    fn the_own_cgroup_is_found_where_it_is_mounted() {
        let v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
        let v2 = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        let shared = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let bound = "50 23 0:26 /a /mnt/a\\040b rw - cgroup2 none rw";
        check(&[v1, v2], "1:cpu:/x\n0::/\n", Some(("/sys/fs/cgroup/unified/", "/")));
        check(&[shared], "0::/u/s.scope\n", Some(("/sys/fs/cgroup/u/s.scope", "/u/s.scope")));
        check(&[bound], "0::/a/b\n", Some(("/mnt/a b/b", "/a/b")));
        check(&[bound, shared], "0::/ab\n", Some(("/sys/fs/cgroup/ab", "/ab")));
        check(&[bound], "0::/ab\n", None);
        check(&[shared], "0::/../x\n", None);
        check(&[v1], "1:cpu:/\n0::/\n", None);
        check(&[shared], "1:cpu:/\n", None);
        check(&[], "", None);
    }
}
