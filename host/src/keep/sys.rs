//! The system calls that `rustix` does not have: who died, reaping with usage, and signals as a
//! descriptor.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::{io, ptr};

use super::protocol::Exit;

/// What is known of a process once it is reaped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Death {
    pub(super) exit: Exit,
    pub(super) cpu_ns: u64,
    pub(super) rss_bytes_max: u64,
}

impl Death {
    /// Of a process that was another's child.
    pub(super) const UNSEEN: Self = Self { exit: Exit::Unseen, cpu_ns: 0, rss_bytes_max: 0 };
}

/// SIGCHLD as a descriptor.
#[derive(Debug)]
pub(super) struct ChildSignals(OwnedFd);

impl ChildSignals {
    /// Takes SIGCHLD on a descriptor, and outlives what is sent to ask a process to end: `keep`
    /// ends when its link does. Those signals are caught and not ignored or blocked, because a
    /// daemon would inherit either, while a handler ends with `exec`.
    pub(super) fn new() -> io::Result<Self> {
        for signal in CAUGHT {
            set_action(signal, do_nothing as extern "C" fn(libc::c_int) as libc::sighandler_t)?;
        }
        let child = signal_set(&[libc::SIGCHLD]);
        set_mask(&child)?;
        // SAFETY: `child` is an initialised set; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const child, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call gave a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes what is pending and names the child that it is about. Signals of further children
    /// may have been merged into it, so this is a hint: it saves the kernel a walk over all
    /// children to find the first of the dead.
    pub(super) fn take(&self) -> Option<u32> {
        const PID_OFFSET: usize = std::mem::offset_of!(libc::signalfd_siginfo, ssi_pid);
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        rustix::io::read(&self.0, &mut info).ok()?;
        let pid = info.get(PID_OFFSET..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*pid))
    }
}

impl AsFd for ChildSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn set_mask(mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `mask` is an initialised set, and the old one is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

extern "C" fn do_nothing(_signal: libc::c_int) {}

/// What asks a process to end, and is caught here.
const CAUGHT: [libc::c_int; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

fn set_action(signal: libc::c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all zeros is a valid sigaction: no flags and an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is valid, its handler touches nothing, and the old one is not asked for.
    match unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// From now on a file that would grow beyond `RLIMIT_FSIZE` is an error of that write, as a full disk is,
/// and not the end of this process. What is started by it has the default again.
pub(crate) fn outlive_file_limit() {
    // Fails for no signal that exists.
    let _ =
        set_action(libc::SIGXFSZ, do_nothing as extern "C" fn(libc::c_int) as libc::sighandler_t);
}

/// Signals as a daemon must find them: none blocked, and at its default what is caught here and what
/// the runtime of the language ignores. Makes system calls only.
pub(super) fn forget_signals() -> io::Result<()> {
    for signal in CAUGHT.into_iter().chain([libc::SIGPIPE, libc::SIGXFSZ]) {
        set_action(signal, libc::SIG_DFL)?;
    }
    set_mask(&signal_set(&[]))
}

/// Marks every descriptor but the standard three close-on-exec: whoever started the manager may
/// have left some open, and they are no daemon's business. Kernels before 5.11 can't.
pub(super) fn keep_descriptors_private() {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: no descriptor is closed or changes its meaning; only `exec` is affected.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) };
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the set that it is given and can't fail on a valid pointer.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for signal in signals {
        // SAFETY: the set is initialised; a number that is no signal is refused, not misused.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

/// Which children to look at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    Any,
    This(u32),
}

/// A child that is dead and not reaped. It stays so: its id is its own until [`reap`].
pub(crate) fn dead_child(which: Which) -> Option<u32> {
    let (id_type, id) = match which {
        Which::Any => (libc::P_ALL, 0),
        Which::This(pid) => (libc::P_PID, pid),
    };
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid for writing a siginfo_t.
    let result = unsafe { libc::waitid(id_type, id, info.as_mut_ptr(), options) };
    if result != 0 {
        return None;
    }
    // SAFETY: all zeros is a valid siginfo_t, and `waitid` filled it in for SIGCHLD, whose variant
    // holds a process id: zero when no child is dead.
    let pid = unsafe { info.assume_init().si_pid() };
    u32::try_from(pid).ok().filter(|pid| *pid != 0)
}

/// Whether there is any child, dead or alive.
pub(super) fn has_children() -> bool {
    exists(libc::P_ALL, 0)
}

/// Whether this process is a child, dead or alive.
pub(super) fn is_child(pid: u32) -> bool {
    exists(libc::P_PID, pid)
}

fn exists(id_type: libc::idtype_t, id: libc::id_t) -> bool {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid for writing a siginfo_t.
    let result = unsafe { libc::waitid(id_type, id, info.as_mut_ptr(), options) };
    result == 0
}

/// Reaps a dead child; its id is free from then on.
pub(super) fn reap(pid: u32) -> Option<Death> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid for writing what the call writes.
    let reaped = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    if reaped != pid {
        return None;
    }
    // SAFETY: all zeros is a valid rusage, and the call filled it in.
    let usage = unsafe { usage.assume_init() };
    let exit = if libc::WIFSIGNALED(status) {
        Exit::Signal { signal: libc::WTERMSIG(status), core_dumped: libc::WCOREDUMP(status) }
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    };
    let rss_kib = u64::try_from(usage.ru_maxrss).unwrap_or(0);
    Some(Death {
        exit,
        cpu_ns: nanoseconds(usage.ru_utime).saturating_add(nanoseconds(usage.ru_stime)),
        rss_bytes_max: rss_kib.saturating_mul(1024),
    })
}

/// Waits for a child that is ending, and forgets it.
pub(crate) fn reap_ended(pid: u32) {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return };
    loop {
        // SAFETY: the status is not asked for.
        let reaped = unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
        if reaped >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

fn nanoseconds(time: libc::timeval) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(micros.saturating_mul(1_000))
}
