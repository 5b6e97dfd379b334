//! Starting one process, and saying why it could not be started.
//!
//! The fast path is `posix_spawn`, which the standard library takes when the program is a path and
//! nothing needs a hook in the child: the kernel then shares `keep`'s memory until `exec` instead
//! of copying its page tables. A user or a limit of open files needs the hook, and so `fork`.
//! Reasons are looked for after a failure only, so a start that works pays nothing for them.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access, OFlags, access};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Resource, Rlimit, Uid, getrlimit, setrlimit};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::LINK_FD_VARIABLE;
use super::protocol::{RunAs, SpawnRequest};
use super::sys::ChildSignals;

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
}

impl Failure {
    pub(super) const fn without_errno(reason: String) -> Self {
        Self { errno: 0, reason }
    }

    fn system(action: &str, error: &io::Error) -> Self {
        Self { errno: error.raw_os_error().unwrap_or(0), reason: format!("{action}: {error}") }
    }
}

/// What `keep` and its daemons have of descriptors. `keep` holds two pipes for each daemon and so
/// raises its own soft limit; the daemons get the limit that was there before.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenFilesLimit {
    own: Rlimit,
    inherited: Rlimit,
}

impl OpenFilesLimit {
    pub(super) fn raise() -> Self {
        let inherited = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: inherited.maximum, maximum: inherited.maximum };
        // Where raising is forbidden the old limit serves: fewer daemons fit.
        let own = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => raised,
            Err(_) => inherited,
        };
        Self { own, inherited }
    }
}

/// A program with its arguments and environment, as the system takes them: made once, so that a
/// restart does not make them again.
#[derive(Debug)]
pub(super) struct Prepared {
    command: Command,
    program: PathBuf,
}

impl Prepared {
    /// Finds the program, and makes the command of everything that its starts have in common.
    pub(super) fn new(request: &SpawnRequest, open_files: OpenFilesLimit) -> Result<Self, Failure> {
        let Some((name, arguments)) = request.argv.split_first() else {
            return Err(Failure::without_errno(
                "there is no program to start: `command` is empty".to_owned(),
            ));
        };
        let program = resolve(name, request)?;
        let mut command = Command::new(&program);
        command
            .arg0(name)
            .args(arguments)
            .env_clear()
            .envs(
                request
                    .env
                    .iter()
                    .map(|(key, value)| (OsStr::from_bytes(key), OsStr::from_bytes(value))),
            )
            .stdin(Stdio::null())
            .process_group(0);
        if let Some(directory) = &request.working_dir {
            command.current_dir(directory);
        }
        if needs_hook(request) {
            let limit = request.open_files_max.map_or(open_files.inherited, |max| Rlimit {
                current: Some(max),
                maximum: Some(max),
            });
            let identity = request.run_as.as_ref().map(Identity::new);
            // SAFETY: between `fork` and `exec` the closure makes system calls only: it does not
            // allocate, and it takes no lock.
            unsafe {
                command.pre_exec(move || {
                    setrlimit(Resource::Nofile, limit)?;
                    identity.as_ref().map_or(Ok(()), Identity::assume)
                });
            }
        }
        Ok(Self { command, program })
    }

    /// Starts the program. `link` is inherited under its own number. The caller looks for the dead
    /// afterwards: see [`ChildSignals::with_clear_mask`].
    pub(super) fn start(
        &mut self,
        request: &SpawnRequest,
        link: Option<&OwnedFd>,
        open_files: OpenFilesLimit,
    ) -> Result<Started, Failure> {
        let pipe = || {
            output_pipe().map_err(|error| Failure::system("cannot make a pipe for output", &error))
        };
        let (stdout, stdout_of_child) = pipe()?;
        let (stderr, stderr_of_child) = pipe()?;
        if let Some(link) = link {
            fcntl_setfd(link, FdFlags::empty())
                .map_err(|error| Failure::system("cannot hand over the link", &error.into()))?;
            self.command.env(LINK_FD_VARIABLE, link.as_raw_fd().to_string());
        }
        self.command.stdout(stdout_of_child).stderr(stderr_of_child);
        let spawned = if needs_hook(request) {
            spawn_with_clear_mask(&mut self.command)
        } else {
            spawn_with_inherited_limit(&mut self.command, open_files)
        };
        // The command holds the child's ends of the pipes, which must close here for their end to
        // be seen.
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
        match spawned {
            Ok(pid) => Ok(Started { pid, stdout, stderr }),
            Err(error) => {
                let name = request.argv.first().map_or("", String::as_str);
                Err(Failure {
                    errno: error.raw_os_error().unwrap_or(0),
                    reason: explain(&error, name, &self.program, request),
                })
            }
        }
    }
}

/// Whether something is to be done between `fork` and `exec`.
const fn needs_hook(request: &SpawnRequest) -> bool {
    request.run_as.is_some() || request.open_files_max.is_some()
}

/// `posix_spawn` can't set a limit, so the child inherits it: `keep` has no other thread, and a
/// lowered soft limit does not touch what is open.
fn spawn_with_inherited_limit(
    command: &mut Command,
    open_files: OpenFilesLimit,
) -> io::Result<u32> {
    let lowered = open_files.own != open_files.inherited;
    if lowered {
        setrlimit(Resource::Nofile, open_files.inherited)?;
    }
    let spawned = spawn_with_clear_mask(command);
    if lowered {
        setrlimit(Resource::Nofile, open_files.own)?;
    }
    spawned
}

fn spawn_with_clear_mask(command: &mut Command) -> io::Result<u32> {
    let spawned = ChildSignals::with_clear_mask(|| command.spawn())?;
    spawned.map(|child| child.id())
}

/// A user with its groups, ready for the kernel.
struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    fn new(run_as: &RunAs) -> Self {
        Self {
            uid: Uid::from_raw(run_as.uid),
            gid: Gid::from_raw(run_as.gid),
            groups: run_as.groups.iter().copied().map(Gid::from_raw).collect(),
        }
    }

    /// Groups first: the right to change them goes with the user.
    fn assume(&self) -> io::Result<()> {
        set_thread_groups(&self.groups)?;
        set_thread_gid(self.gid)?;
        set_thread_uid(self.uid)?;
        Ok(())
    }
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
        Some(path) => {
            Failure { errno: Errno::ACCESS.raw_os_error(), reason: not_executable(&path) }
        }
        None => Failure {
            errno: Errno::NOENT.raw_os_error(),
            reason: format!(
                "`{name}` was not found in PATH ({}): install it, or write its path in `command`",
                search.display()
            ),
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

fn not_executable(path: &Path) -> String {
    let path = path.display();
    format!("`{path}` is not executable for this user: `chmod +x {path}`, or name another program")
}

/// The reason of a failed start. The system gives one number for several steps, so the steps are
/// looked at again.
fn explain(error: &io::Error, name: &str, program: &Path, request: &SpawnRequest) -> String {
    if error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none() {
        return format!(
            "`{name}` cannot be started: its command line or environment contains a NUL byte"
        );
    }
    if let Some(directory) = &request.working_dir {
        match std::fs::metadata(directory) {
            Err(error) => {
                return format!(
                    "working directory `{directory}` of `{name}`: {error}; create it or change `working_dir`"
                );
            }
            Ok(found) if !found.is_dir() => {
                return format!(
                    "working directory `{directory}` of `{name}` is not a directory; change `working_dir`"
                );
            }
            Ok(_) => {}
        }
    }
    let path = in_working_dir(program, request);
    let shown = path.display();
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR) => match std::fs::read(&path) {
            Ok(content) => missing_interpreter(&shown.to_string(), &content),
            Err(_) => format!("`{shown}` does not exist: check the path in `command`"),
        },
        Some(Errno::ACCESS) if path.is_dir() => {
            format!("`{shown}` is a directory: name a program in `command`")
        }
        Some(Errno::ACCESS) => not_executable(&path),
        Some(Errno::NOEXEC) => format!(
            "`{shown}` is neither a program for this machine nor a script: a script's first line names its interpreter, as in `#!/bin/sh`"
        ),
        Some(Errno::PERM) if request.open_files_max > getrlimit(Resource::Nofile).maximum => {
            format!(
                "`{name}` cannot have `open_files_max` above the hard limit of this session: {error}; lower it, or raise the limit (`ulimit -Hn`)"
            )
        }
        Some(Errno::PERM) if request.run_as.is_some() => format!(
            "`{name}` cannot run as another user: {error}; run duende as root, or leave out `user` and `group`"
        ),
        Some(Errno::AGAIN) => format!(
            "`{name}` cannot be started: the limit of processes is reached (`ulimit -u`, or `pids.max` of the cgroup)"
        ),
        Some(Errno::TOOBIG) => format!(
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
