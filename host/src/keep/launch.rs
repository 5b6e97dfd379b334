//! From `clone` to `exec`: what happens in a child before its program runs. Nothing else of the
//! project runs code there, and whatever is to be done in between has its [`Step`] here.
//!
//! `keep` waits (`CLONE_VFORK`) until the child has become its program or has ended, so a start is done
//! when [`Launcher::start`] returns. At which step it failed the child says in a cell that both see: no
//! pipe tells of it, and a lack of descriptors cannot hide a failure. Where there is a cgroup the child
//! is born in it (`CLONE_INTO_CGROUP`): there is no moment at which it, or a child of it, is outside
//! (`stop_tests::what_left_the_session_ends_with_its_daemon`).
//!
//! On x86-64 the child borrows the memory of `keep` until then (`CLONE_VM`), on a stack of its own: to
//! copy the tables of its pages would be a third of a restart. One that becomes another user gets a
//! copy all the same, so that this user's other processes have no way into `keep`.
//!
//! Between the two the child makes system calls only. It allocates nothing, takes no lock and never
//! returns: it may be the copy of a process that was anywhere, or stand in the memory of one that waits.

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

#[cfg(target_arch = "x86_64")]
const CLONE_VM: u64 = 0x100;
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

/// Bytes of the stack of a child that borrows memory.
const STACK_BYTES: usize = 64 << 10;

/// Starts processes.
#[derive(Debug)]
pub(super) struct Launcher {
    /// In memory that a child shares: [`NOT_YET`], then zero, or what a child says before it ends.
    failure: NonNull<AtomicU64>,
    /// The lowest byte of the stack of a child that borrows memory.
    stack: NonNull<u8>,
}

impl Launcher {
    pub(super) fn new() -> io::Result<Self> {
        let failure = map(size_of::<AtomicU64>(), libc::MAP_SHARED)?;
        match map(STACK_BYTES, libc::MAP_PRIVATE | libc::MAP_STACK) {
            Ok(stack) => Ok(Self { failure: failure.cast(), stack }),
            Err(error) => {
                unmap(failure, size_of::<AtomicU64>());
                Err(error)
            }
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
        let child = Child { failure: self.failure(), launch, argv: &argv, env: &env };
        // SAFETY: one child at a time uses the stack: this waits until it has become its program.
        let cloned = unsafe { clone(&child, self.stack) };
        let pid = cloned.map_err(|errno| Failed { step: Step::Clone, errno })?;
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
}

impl Drop for Launcher {
    fn drop(&mut self) {
        unmap(self.failure.cast(), size_of::<AtomicU64>());
        unmap(self.stack, STACK_BYTES);
    }
}

/// A new mapping of zeros.
fn map(bytes: usize, flags: libc::c_int) -> io::Result<NonNull<u8>> {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, flags | libc::MAP_ANONYMOUS);
    // SAFETY: a mapping of its own, nowhere in particular.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, -1, 0) };
    match NonNull::new(start.cast::<u8>()) {
        Some(mapped) if start != libc::MAP_FAILED => Ok(mapped),
        _ => Err(io::Error::last_os_error()),
    }
}

fn unmap(start: NonNull<u8>, bytes: usize) {
    // SAFETY: mapped by `map`, with this length, and not used any more.
    unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
}

/// What a child is to do.
struct Child<'a> {
    failure: &'a AtomicU64,
    launch: &'a Launch<'a>,
    argv: &'a [*const c_char],
    env: &'a [*const c_char],
}

impl Child<'_> {
    /// Runs in the child.
    fn become_program(&self) -> ! {
        let Failed { step, errno } = prepare(self.launch).err().unwrap_or_else(|| {
            self.failure.store(0, Ordering::Relaxed);
            let program = self.launch.program.as_ptr();
            // SAFETY: the texts end with zero and the arrays with a null pointer, and all of them live
            // as long as `self`.
            unsafe { libc::execve(program, self.argv.as_ptr(), self.env.as_ptr()) };
            Failed { step: Step::Program, errno: last_errno() }
        });
        let errno = u64::from(errno.raw_os_error().unsigned_abs());
        self.failure.store((step as u64) << 32 | errno, Ordering::Relaxed);
        // SAFETY: ends this process, without what a process does at its end: that is the other's.
        unsafe { libc::_exit(127) }
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

/// Starts a child, and waits until it has become its program or has ended: its id.
///
/// # Safety
/// Nobody else uses the stack, whose lowest byte this is.
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "nobody borrows memory"))]
unsafe fn clone(child: &Child<'_>, stack: NonNull<u8>) -> Result<u32, Errno> {
    let exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    let Some(cgroup) = child.launch.cgroup else {
        // Older kernels, and the filters of some containers, know no other call.
        // SAFETY: the child has a copy of all memory, goes on here, and does not return.
        let result = unsafe {
            libc::syscall(libc::SYS_clone, CLONE_VFORK | exit_signal, 0_u64, 0_u64, 0_u64, 0_u64)
        };
        return parent(result, child);
    };
    let args = CloneArgs {
        flags: CLONE_VFORK | CLONE_INTO_CGROUP,
        exit_signal,
        cgroup: u64::from(cgroup.as_raw_fd().unsigned_abs()),
        ..CloneArgs::default()
    };
    #[cfg(target_arch = "x86_64")]
    if child.launch.identity.is_none() {
        let args = CloneArgs {
            flags: args.flags | CLONE_VM,
            stack: stack.as_ptr().addr() as u64,
            stack_size: STACK_BYTES as u64,
            ..args
        };
        // SAFETY: the stack is as long as is said, and its user nobody else's.
        let result = unsafe { clone_borrowing(&args, child) };
        let errno = |_| Errno::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EINVAL));
        return u32::try_from(result).map_err(errno);
    }
    // SAFETY: `args` is what the kernel takes, of that size; the rest as above.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    parent(result, child)
}

/// Tells the two apart after a call from which both return.
fn parent(result: libc::c_long, child: &Child<'_>) -> Result<u32, Errno> {
    match u32::try_from(result) {
        Ok(0) => child.become_program(),
        Ok(pid) => Ok(pid),
        Err(_) => Err(last_errno()),
    }
}

/// The entry of a child that borrows memory.
#[cfg(target_arch = "x86_64")]
extern "C" fn enter(child: &Child<'_>) -> ! {
    child.become_program()
}

/// `clone3` for a child in the same memory: its id, or a negative error number. The child does not
/// return from it, as it has another stack: it enters [`enter`].
///
/// # Safety
/// `args` name a stack that is valid, and nobody else's.
#[cfg(target_arch = "x86_64")]
unsafe fn clone_borrowing(args: &CloneArgs, child: &Child<'_>) -> libc::c_long {
    let result: libc::c_long;
    // SAFETY: this process goes on behind the label, with its registers as they were but for those
    // that the call is known to change. The child has the same registers and an empty stack, aligned
    // as a call needs it; what it is given lives until it is done, because this process waits.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r8",
            "call r9",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") ptr::from_ref(args),
            in("rsi") size_of::<CloneArgs>(),
            in("r8") ptr::from_ref(child),
            in("r9") enter as extern "C" fn(&Child<'_>) -> !,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

fn last_errno() -> Errno {
    // SAFETY: this thread's own error number.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// The texts as the kernel takes them.
fn pointers<'t>(texts: impl Iterator<Item = &'t CStr>) -> Vec<*const c_char> {
    texts.map(CStr::as_ptr).chain([ptr::null()]).collect()
}
