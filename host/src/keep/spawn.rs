//! Starting one program, and saying why it could not be started.
//!
//! What the starts of a program have in common is made once ([`Prepared`]); [`super::launch`] does
//! the rest. Reasons are looked for after a failure only, so a start that works pays nothing for them.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use duende_core::wire::link::LINK_FD_VARIABLE;
use rustix::fs::{Access, Mode, OFlags, access, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Resource, Rlimit, Uid, getegid, geteuid, getrlimit, setrlimit};

use super::cgroup::Group;
use super::launch::{Failed, Identity, LINK_FD, Launch, Launcher, Step};
use super::protocol::{RunAs, SpawnRequest};
use crate::config::keep_open_files_needed;
use crate::reach;

/// What a clone into a cgroup says where that is not possible, or not allowed.
const NO_CGROUP: [Errno; 8] = [
    Errno::NOSYS,
    Errno::PERM,
    Errno::ACCESS,
    Errno::BUSY,
    Errno::OPNOTSUPP,
    Errno::INVAL,
    Errno::NODEV,
    // Killed at birth, which is what becomes of it where the cgroup of `keep` itself was once killed.
    Errno::OWNERDEAD,
];

/// Where a program is looked for when the environment has no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// A process that runs.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Why nothing runs, for people.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) errno: i32,
    pub(super) reason: String,
    /// Whether it is for its cgroup that there is no process.
    pub(super) no_cgroup: bool,
}

impl Failure {
    pub(super) const fn without_errno(reason: String) -> Self {
        Self { errno: 0, reason, no_cgroup: false }
    }

    pub(super) fn system(action: &str, error: &io::Error) -> Self {
        Self {
            errno: error.raw_os_error().unwrap_or(0),
            reason: format!("{action}: {error}"),
            no_cgroup: false,
        }
    }
}

/// What `keep` and its daemons have of descriptors. `keep` holds two pipes for each daemon and so
/// raises its own soft limit; the daemons get the one that the manager was started with.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenFilesLimit {
    of_daemons: Rlimit,
}

impl OpenFilesLimit {
    /// `soft` is what daemons get, if it is not what this process has.
    pub(super) fn raise(soft: Option<u64>) -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        // Where raising is forbidden the old limit serves: fewer daemons fit.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        Self { of_daemons: Rlimit { current: soft.or(current), maximum } }
    }
}

/// Whether there are descriptors for one more daemon beside this many.
pub(super) fn check_open_files(daemons: usize) -> Result<(), Failure> {
    let needed = keep_open_files_needed((daemons as u64).saturating_add(1));
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed => Err(Failure {
            errno: Errno::MFILE.raw_os_error(),
            reason: format!(
                "keep needs {needed} open files for {} daemons and may have {limit}: raise the hard limit (`ulimit -Hn`)",
                daemons + 1
            ),
            no_cgroup: false,
        }),
        _ => Ok(()),
    }
}

/// A program with its arguments and environment, as the system takes them: made once, so that a
/// restart does not make them again.
#[derive(Debug)]
pub(super) struct Prepared {
    path: PathBuf,
    program: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
    working_dir: Option<CString>,
    identity: Option<Identity>,
    open_files: Rlimit,
}

impl Prepared {
    /// Finds the program, and makes everything that its starts have in common.
    pub(super) fn new(request: &SpawnRequest, limit: OpenFilesLimit) -> Result<Self, Failure> {
        let Some(name) = request.argv.first() else {
            return Err(Failure::without_errno(
                "there is no program to start: `command` is empty".to_owned(),
            ));
        };
        let path = resolve(name, request)?;
        let text = |bytes: &[u8]| {
            CString::new(bytes).map_err(|_| {
                Failure::without_errno(format!(
                    "`{name}` cannot be started: its command line or environment contains a NUL byte"
                ))
            })
        };
        let mut env = Vec::with_capacity(request.env.len() + 1);
        for (key, value) in &request.env {
            env.push(text(&[key.as_slice(), b"=", value].concat())?);
        }
        if request.link {
            env.push(text(format!("{LINK_FD_VARIABLE}={LINK_FD}").as_bytes())?);
        }
        let argv = request.argv.iter().map(|word| text(word.as_bytes()));
        let open_files = match request.open_files_max {
            Some(max) => Rlimit { current: Some(max), maximum: Some(max) },
            None => limit.of_daemons,
        };
        Ok(Self {
            program: text(path.as_os_str().as_bytes())?,
            path,
            argv: argv.collect::<Result<_, _>>()?,
            env,
            working_dir: request
                .working_dir
                .as_deref()
                .map(|dir| text(dir.as_bytes()))
                .transpose()?,
            identity: request.run_as.as_ref().and_then(identity),
            open_files,
        })
    }

    /// Starts the program, in the cgroup if there is one. `link` is inherited.
    pub(super) fn start(
        &self,
        request: &SpawnRequest,
        link: Option<&OwnedFd>,
        group: Option<&Group>,
        marker: Option<&CStr>,
        launcher: &mut Launcher,
    ) -> Result<Started, Failure> {
        let failed = |action: &str, error: io::Error| Failure::system(action, &error);
        let pipe = || output_pipe().map_err(|error| failed("cannot make a pipe for output", error));
        let (stdout, stdout_of_child) = pipe()?;
        let (stderr, stderr_of_child) = pipe()?;
        let stdin = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed("cannot open /dev/null", error.into()))?;
        let cgroup = group
            .map(Group::open)
            .transpose()
            .map_err(|error| failed("cannot open its cgroup", error))?;
        let launch = Launch {
            program: &self.program,
            argv: &self.argv,
            env: &self.env,
            marker,
            working_dir: self.working_dir.as_deref(),
            stdin: stdin.as_fd(),
            stdout: stdout_of_child.as_fd(),
            stderr: stderr_of_child.as_fd(),
            link: link.map(|link| link.as_fd()),
            open_files: self.open_files,
            identity: self.identity.as_ref(),
            cgroup: cgroup.as_ref().map(|cgroup| cgroup.as_fd()),
        };
        match launcher.start(&launch) {
            Ok(pid) => Ok(Started { pid, stdout, stderr }),
            Err(failed) => Err(Failure {
                errno: failed.errno.raw_os_error(),
                reason: explain(failed, &self.path, request),
                no_cgroup: is_for_cgroup(cgroup.is_some(), failed),
            }),
        }
    }
}

/// Whether it is its cgroup that it can't be born in: then it can be without one. What fails after that, or
/// without one, is told as it is.
fn is_for_cgroup(has_cgroup: bool, failed: Failed) -> bool {
    has_cgroup && failed.step == Step::Clone && NO_CGROUP.contains(&failed.errno)
}

/// A user with its groups. None for the own one, which only root could take on again.
fn identity(run_as: &RunAs) -> Option<Identity> {
    let is_own = run_as.uid == geteuid().as_raw() && run_as.gid == getegid().as_raw();
    if is_own && run_as.uid != 0 {
        return None;
    }
    Some(Identity {
        uid: Uid::from_raw(run_as.uid),
        gid: Gid::from_raw(run_as.gid),
        groups: run_as.groups.iter().copied().map(Gid::from_raw).collect(),
    })
}

/// A pipe whose reading end does not block; the writing end does, as daemons expect.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK)?;
    Ok((read, write))
}

/// The path of the program. The lookup is done here and not by the system, which would look in
/// `keep`'s own `PATH`, and would need the slow path for the daemon's.
fn resolve(name: &str, request: &SpawnRequest) -> Result<PathBuf, Failure> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let search = request
        .env
        .iter()
        .rev()
        .find(|(key, _)| key == b"PATH")
        .map_or(OsStr::new(PATH_DEFAULT), |(_, value)| OsStr::from_bytes(value));
    let mut found_without_permission = None;
    for directory in std::env::split_paths(search) {
        let candidate = match directory.as_os_str().is_empty() {
            true => Path::new(".").join(name),
            false => directory.join(name),
        };
        let from_here = in_working_dir(&candidate, request);
        if !from_here.is_file() {
            continue;
        }
        if access(&from_here, Access::EXEC_OK).is_ok() {
            return Ok(candidate);
        }
        found_without_permission.get_or_insert(candidate);
    }
    Err(match found_without_permission {
        Some(path) => Failure {
            errno: Errno::ACCESS.raw_os_error(),
            reason: not_executable(&path),
            no_cgroup: false,
        },
        None => Failure {
            errno: Errno::NOENT.raw_os_error(),
            reason: format!(
                "`{name}` was not found in PATH ({}): install it, or write its path in `command`",
                search.display()
            ),
            no_cgroup: false,
        },
    })
}

/// A path as the child sees it.
fn in_working_dir(path: &Path, request: &SpawnRequest) -> PathBuf {
    request
        .working_dir
        .as_ref()
        .map_or_else(|| path.to_owned(), |directory| Path::new(directory).join(path))
}

/// Whom a daemon runs as, if it is another user.
fn user(request: &SpawnRequest) -> Option<reach::User<'_>> {
    let run_as = request.run_as.as_ref()?;
    Some(reach::User { uid: run_as.uid, gid: run_as.gid, groups: &run_as.groups })
}

fn not_executable(path: &Path) -> String {
    let path = path.display();
    format!("`{path}` is not executable for this user: `chmod +x {path}`, or name another program")
}

/// The reason of a failed start.
fn explain(failed: Failed, program: &Path, request: &SpawnRequest) -> String {
    let Failed { step, errno } = failed;
    let error = io::Error::from(errno);
    let name = request.argv.first().map_or("", String::as_str);
    match (step, errno) {
        (Step::Directory, _) => {
            let directory = request.working_dir.as_deref().unwrap_or_default();
            return match errno {
                Errno::NOTDIR => format!(
                    "working directory `{directory}` of `{name}` is not a directory; change `working_dir`"
                ),
                Errno::ACCESS => {
                    let inside = Path::new(directory).join(".");
                    let why = reach::barred_for(&inside, user(request))
                        .unwrap_or_else(|| "permission denied".to_owned());
                    format!("working directory `{directory}` of `{name}`: {why}; {}", reach::HELP)
                }
                _ => format!(
                    "working directory `{directory}` of `{name}`: {error}; create it or change `working_dir`"
                ),
            };
        }
        (Step::OpenFiles, _) => {
            return format!(
                "`{name}` cannot have `open_files_max` above the hard limit of this session: {error}; lower it, or raise the limit (`ulimit -Hn`)"
            );
        }
        (Step::Identity, _) => {
            return format!(
                "`{name}` cannot run as another user: {error}; run duende as root, or leave out `user` and `group`"
            );
        }
        (_, Errno::AGAIN) => {
            return format!(
                "`{name}` cannot be started: the limit of processes is reached (`ulimit -u`, or `pids.max` of the cgroup)"
            );
        }
        (Step::Clone | Step::Group | Step::Descriptors | Step::Signals, _) => {
            return format!("no process can be made for `{name}`: {error}");
        }
        (Step::Program, _) => {}
    }
    let path = in_working_dir(program, request);
    let shown = path.display();
    match errno {
        Errno::NOENT | Errno::NOTDIR => match std::fs::read(&path) {
            Ok(content) => missing_interpreter(&shown.to_string(), &content),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                format!("`{shown}`: {}; {}", reach::said(&path, &error), reach::HELP)
            }
            Err(_) => format!("`{shown}` does not exist: check the path in `command`"),
        },
        Errno::ACCESS if path.is_dir() => {
            format!("`{shown}` is a directory: name a program in `command`")
        }
        Errno::ACCESS if reach::is_noexec(&path) => format!(
            "`{shown}` lies on a file system that is mounted noexec: move it, or mount that with exec"
        ),
        Errno::ACCESS => match reach::barred_for(&path, user(request)) {
            Some(why) => format!("`{shown}`: {why}; {}", reach::HELP),
            None => not_executable(&path),
        },
        Errno::NOEXEC => format!(
            "`{shown}` is neither a program for this machine nor a script: a script's first line names its interpreter, as in `#!/bin/sh`"
        ),
        Errno::TOOBIG => format!(
            "`{name}` cannot be started: command line and environment are longer than the system takes"
        ),
        _ => format!("`{shown}` cannot be started: {error}"),
    }
}

/// The program is there, so what it needs to be run with is not.
fn missing_interpreter(path: &str, content: &[u8]) -> String {
    let line = content.split(|byte| *byte == b'\n').next();
    match line.and_then(|line| line.strip_prefix(b"#!")) {
        Some(interpreter) => {
            let interpreter = String::from_utf8_lossy(interpreter);
            let interpreter = interpreter.trim();
            format!("`{path}` asks for the interpreter `{interpreter}`, which does not exist")
        }
        None => format!(
            "`{path}` exists, but the loader that it asks for does not: it was built for another system"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_birth_into_a_cgroup_is_tried_without_one() {
        for (has_cgroup, step, errno, expected) in [
            (true, Step::Clone, Errno::BUSY, true),
            (true, Step::Clone, Errno::NOENT, false),
            (true, Step::Program, Errno::ACCESS, false),
            (false, Step::Clone, Errno::PERM, false),
            (false, Step::Program, Errno::NOENT, false),
        ] {
            let failed = Failed { step, errno };
            assert_eq!(is_for_cgroup(has_cgroup, failed), expected, "{step:?} {errno:?}");
        }
    }
}
