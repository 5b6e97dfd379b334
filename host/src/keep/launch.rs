//! From `clone` to `exec`: what happens in a child before its program runs. Nothing else of the
//! project runs code there, and whatever is to be done in between has its [`Step`] here.
//!
//! The child is a copy of `keep` that shares nothing with it but one cell, in which it says at which
//! step it failed. `keep` waits (`CLONE_VFORK`) until the child has become its program or has ended,
//! so a start is done when [`Launcher::start`] returns: no pipe tells of it, and a lack of descriptors
//! cannot hide a failure. Where there is a cgroup the child is born in it (`CLONE_INTO_CGROUP`): there
//! is no moment at which it, or a child of it, is outside
//! (`tests::what_left_the_session_ends_with_its_daemon`).
//!
//! Between the two the child makes system calls only. It allocates nothing and takes no lock: it is
//! the copy of a process that may have been anywhere.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid, chdir, setpgid, setrlimit};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::sys;

/// The number of a link's descriptor in the process that inherits it.
pub(super) const LINK_FD: RawFd = 3;

/// What the kernel takes as `struct clone_args`, as far as it is used here: its size as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_VFORK: u64 = 0x4000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Where a start can fail, in the order in which it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    /// There was no child.
    Clone = 1,
    /// The process group of its own.
    Group,
    /// Standard streams and the link.
    Descriptors,
    /// The limit of open files.
    OpenFiles,
    /// Groups and user.
    Identity,
    /// The working directory, as its user sees it.
    Directory,
    /// The signal mask, and what signals do.
    Signals,
    /// Becoming the program.
    Program,
}

const STEPS: [Step; 8] = [
    Step::Clone,
    Step::Group,
    Step::Descriptors,
    Step::OpenFiles,
    Step::Identity,
    Step::Directory,
    Step::Signals,
    Step::Program,
];

/// What the shared cell holds until the child is about to become its program.
const NOT_YET: u64 = u64::MAX;

/// A start that failed. A child that was killed before it became its program is
/// [`Errno::OWNERDEAD`] of [`Step::Clone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) step: Step,
    pub(super) errno: Errno,
}

/// A user with all its groups.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<Gid>,
}

/// Everything that a start needs.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) program: &'a CStr,
    pub(super) argv: &'a [CString],
    pub(super) env: &'a [CString],
    /// One more variable, of this start alone.
    pub(super) marker: Option<&'a CStr>,
    pub(super) working_dir: Option<&'a CStr>,
    pub(super) stdin: BorrowedFd<'a>,
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
    pub(super) link: Option<BorrowedFd<'a>>,
    pub(super) open_files: Rlimit,
    pub(super) identity: Option<&'a Identity>,
    /// The directory of the cgroup in which it is born.
    pub(super) cgroup: Option<BorrowedFd<'a>>,
}

/// Starts processes.
#[derive(Debug)]
pub(super) struct Launcher {
    /// In memory that a child shares: [`NOT_YET`], then zero, or what a child says before it ends.
    failure: NonNull<AtomicU64>,
}

impl Launcher {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: a new mapping of its own, nowhere in particular.
        let page = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size_of::<AtomicU64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        match NonNull::new(page.cast()) {
            Some(failure) if page != libc::MAP_FAILED => Ok(Self { failure }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn failure(&self) -> &AtomicU64 {
        // SAFETY: mapped zeros, aligned to a page, valid as long as `self` is; the other process that
        // writes there does so atomically.
        unsafe { self.failure.as_ref() }
    }

    /// Starts a process; it is its program when this returns.
    pub(super) fn start(&mut self, launch: &Launch<'_>) -> Result<u32, Failed> {
        let argv = pointers(launch.argv.iter().map(CString::as_c_str));
        let env = launch.env.iter().map(CString::as_c_str).chain(launch.marker);
        let env = pointers(env);
        self.failure().store(NOT_YET, Ordering::Relaxed);
        // SAFETY: the child runs `become_program`, which does not return.
        let pid = match unsafe { clone(launch.cgroup) } {
            Ok(0) => self.become_program(launch, &argv, &env),
            Ok(pid) => pid,
            Err(errno) => return Err(Failed { step: Step::Clone, errno }),
        };
        let said = self.failure().load(Ordering::Relaxed);
        if said == 0 {
            return Ok(pid);
        }
        sys::reap_ended(pid);
        if said == NOT_YET {
            return Err(Failed { step: Step::Clone, errno: Errno::OWNERDEAD });
        }
        let step = STEPS.into_iter().find(|step| *step as u64 == said >> 32);
        let errno = i32::try_from(said & u64::from(u32::MAX)).unwrap_or(libc::EINVAL);
        let errno = Errno::from_raw_os_error(errno);
        Err(Failed { step: step.unwrap_or(Step::Program), errno })
    }

    /// The child.
    fn become_program(
        &self,
        launch: &Launch<'_>,
        argv: &[*const c_char],
        env: &[*const c_char],
    ) -> ! {
        let Failed { step, errno } = prepare(launch).err().unwrap_or_else(|| {
            self.failure().store(0, Ordering::Relaxed);
            // SAFETY: the texts end with zero and the arrays with a null pointer, and both live
            // longer than this call.
            unsafe { libc::execve(launch.program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
            Failed { step: Step::Program, errno: last_errno() }
        });
        let errno = u64::from(errno.raw_os_error().unsigned_abs());
        self.failure().store((step as u64) << 32 | errno, Ordering::Relaxed);
        // SAFETY: ends this process, without what a process does at its end: that is the other's.
        unsafe { libc::_exit(127) }
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, with this length, and not used any more.
        unsafe { libc::munmap(self.failure.as_ptr().cast(), size_of::<AtomicU64>()) };
    }
}

/// The last step but one.
fn prepare(launch: &Launch<'_>) -> Result<(), Failed> {
    let failed = |step| move |errno| Failed { step, errno };
    setpgid(None, None).map_err(failed(Step::Group))?;
    descriptors(launch).map_err(failed(Step::Descriptors))?;
    setrlimit(Resource::Nofile, launch.open_files).map_err(failed(Step::OpenFiles))?;
    if let Some(identity) = launch.identity {
        // Groups first: the right to change them goes with the user.
        set_thread_groups(&identity.groups)
            .and_then(|()| set_thread_gid(identity.gid))
            .and_then(|()| set_thread_uid(identity.uid))
            .map_err(failed(Step::Identity))?;
    }
    if let Some(directory) = launch.working_dir {
        chdir(directory).map_err(failed(Step::Directory))?;
    }
    sys::forget_signals().map_err(|_| failed(Step::Signals)(last_errno()))
}

/// Each is duplicated to where its program looks for it, which takes close-on-exec away. None of the
/// sources is below 3, so none is lost; what is left at the number of the link closes with `exec`.
fn descriptors(launch: &Launch<'_>) -> Result<(), Errno> {
    for (source, target) in [(launch.stdin, 0), (launch.stdout, 1), (launch.stderr, 2)] {
        duplicate(source, target)?;
    }
    match launch.link {
        Some(link) if link.as_raw_fd() == LINK_FD => {
            rustix::io::fcntl_setfd(link, rustix::io::FdFlags::empty())
        }
        Some(link) => duplicate(link, LINK_FD),
        None => Ok(()),
    }
}

fn duplicate(source: BorrowedFd<'_>, target: RawFd) -> Result<(), Errno> {
    // SAFETY: no memory is touched; what `target` was is not used by this process any more.
    match unsafe { libc::dup2(source.as_raw_fd(), target) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// A copy of this process: zero in the copy, its id here, once it has become a program or has ended.
///
/// # Safety
/// The copy makes system calls only, and does not return to whoever called it.
unsafe fn clone(cgroup: Option<BorrowedFd<'_>>) -> Result<u32, Errno> {
    let exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    let result = match cgroup {
        Some(cgroup) => {
            let args = CloneArgs {
                flags: CLONE_VFORK | CLONE_INTO_CGROUP,
                exit_signal,
                cgroup: u64::from(cgroup.as_raw_fd().unsigned_abs()),
                ..CloneArgs::default()
            };
            // SAFETY: `args` is what the kernel takes, of that size; the copy has its own memory.
            unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) }
        }
        // Older kernels, and the filters of some containers, know no other.
        // SAFETY: as above; without a stack of its own the copy goes on where it is.
        None => unsafe {
            libc::syscall(libc::SYS_clone, CLONE_VFORK | exit_signal, 0_u64, 0_u64, 0_u64, 0_u64)
        },
    };
    u32::try_from(result).map_err(|_| last_errno())
}

fn last_errno() -> Errno {
    // SAFETY: this thread's own error number.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// The texts as the kernel takes them.
fn pointers<'t>(texts: impl Iterator<Item = &'t CStr>) -> Vec<*const c_char> {
    texts.map(CStr::as_ptr).chain([ptr::null()]).collect()
}
