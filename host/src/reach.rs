//! Why a path can't be used, in words that say what to change.
//!
//! The system says "Permission denied" of a path and means a directory above it, or how it is mounted. Here
//! it is said which, and whom it bars (`tests::it_is_said_who_may_not_pass_what`). What is looked at may have
//! changed since the failure: the words are for people, and nothing is decided by them.

use std::io;
#[cfg(feature = "manager")]
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};

/// The way out of a directory that may not be passed.
pub(crate) const HELP: &str =
    "let that user pass the directory (chmod o+x), or run as a user that may";

/// Another user, by its numbers.
#[cfg(feature = "manager")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct User<'a> {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: &'a [u32],
}

/// What the system said of a path, as this process sees it.
pub(crate) fn said(path: &Path, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error.to_string();
    }
    let uid = rustix::process::geteuid().as_raw();
    match barred_by(path) {
        Some(directory) => denied(uid, &directory),
        None => format!("permission denied for user {uid}"),
    }
}

/// The same, with the path.
#[cfg(feature = "manager")]
pub(crate) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {}", path.display(), said(path, error)))
}

/// Who may not pass what; none: this user may pass every directory above the path.
#[cfg(feature = "manager")]
pub(crate) fn barred_for(path: &Path, user: Option<User<'_>>) -> Option<String> {
    match user {
        None => barred_by(path).map(|found| denied(rustix::process::geteuid().as_raw(), &found)),
        Some(user) => {
            let barred = |directory: &&Path| {
                std::fs::metadata(directory).is_ok_and(|found| !passes(user, &found))
            };
            above(path).into_iter().find(barred).map(|found| denied(user.uid, found))
        }
    }
}

/// Whether nothing on its file system can be executed.
pub(crate) fn is_noexec(path: &Path) -> bool {
    statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

fn denied(uid: u32, directory: &Path) -> String {
    format!("permission denied: user {uid} may not pass {}", directory.display())
}

/// The first directory above a path that this process may not pass.
fn barred_by(path: &Path) -> Option<PathBuf> {
    let barred =
        |directory: &&Path| access(*directory, Access::EXEC_OK) == Err(rustix::io::Errno::ACCESS);
    above(path).into_iter().find(barred).map(Path::to_owned)
}

/// The directories above a path, from the top.
fn above(path: &Path) -> Vec<&Path> {
    let mut above: Vec<&Path> =
        path.ancestors().skip(1).filter(|found| !found.as_os_str().is_empty()).collect();
    above.reverse();
    above
}

/// By its mode alone: what a list says beyond it is not looked at.
#[cfg(feature = "manager")]
fn passes(user: User<'_>, directory: &std::fs::Metadata) -> bool {
    let mode = directory.mode();
    if user.uid == 0 {
        true
    } else if directory.uid() == user.uid {
        mode & 0o100 != 0
    } else if directory.gid() == user.gid || user.groups.contains(&directory.gid()) {
        mode & 0o010 != 0
    } else {
        mode & 0o001 != 0
    }
}

/// Runs this as somebody who is nobody here: root in a thread of its own, which alone becomes another
/// user; everybody else as they are.
#[cfg(test)]
pub(crate) fn as_nobody<T: Send>(work: impl FnOnce(u32) -> T + Send) -> T {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
    const NOBODY: u32 = 65_534;
    let own = rustix::process::geteuid();
    if !own.is_root() {
        return work(own.as_raw());
    }
    let become_nobody = move || {
        set_thread_groups(&[]).unwrap();
        set_thread_gid(Gid::from_raw(NOBODY)).unwrap();
        set_thread_uid(Uid::from_raw(NOBODY)).unwrap();
        work(NOBODY)
    };
    std::thread::scope(|scope| scope.spawn(become_nobody).join().unwrap())
}

// Most of what they try is there for the manager alone.
#[cfg(all(test, feature = "manager"))]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// As the kernel lists it.
    #[test]
    fn a_mount_that_runs_nothing_is_known() {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        for place in ["/", "/proc", "/sys", "/dev", "/tmp"] {
            let options = mounts.lines().rev().find_map(|line| {
                let mut words = line.split(' ');
                (words.nth(1) == Some(place)).then(|| words.nth(1)).flatten()
            });
            if let Some(options) = options {
                let expected = options.split(',').any(|option| option == "noexec");
                assert_eq!(is_noexec(Path::new(place)), expected, "{place}: {options}");
            }
        }
    }

    #[test]
    fn it_is_said_who_may_not_pass_what() {
        let home = tempfile::tempdir().unwrap();
        let (open, locked) = (home.path().join("open"), home.path().join("open/locked"));
        fs::create_dir_all(locked.join("deep")).unwrap();
        let mode =
            |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        mode(home.path(), 0o755);
        mode(&locked, 0o000);
        let path = locked.join("deep/program");
        as_nobody(|uid| {
            let words = format!("permission denied: user {uid} may not pass {}", locked.display());
            let error = fs::metadata(&path).unwrap_err();
            assert_eq!(said(&path, &error), words);
            assert_eq!(named(&path, &error).to_string(), format!("{}: {words}", path.display()));
            assert_eq!(barred_for(&path, None), Some(words));
            assert_eq!(barred_for(&open.join("x"), None), None);
            let missing = open.join("missing");
            let error = fs::metadata(&missing).unwrap_err();
            assert_eq!(said(&missing, &error), error.to_string());
        });
        // Of another user the mode tells it.
        let owner = fs::metadata(&locked).unwrap();
        let user = |uid, gid, groups| Some(User { uid, gid, groups });
        for (bits, user, passes) in [
            (0o711, user(owner.uid() + 1, 9_999, &[][..]), true),
            (0o710, user(owner.uid() + 1, 9_999, &[][..]), false),
            (0o710, user(owner.uid() + 1, 9_999, &[owner.gid()][..]), true),
            (0o701, user(owner.uid() + 1, owner.gid(), &[][..]), false),
            (0o000, user(0, 0, &[][..]), true),
        ] {
            mode(&locked, bits);
            assert_eq!(barred_for(&path, user).is_none(), passes, "{bits:o} {user:?}");
        }
        mode(&locked, 0o700);
    }
}
