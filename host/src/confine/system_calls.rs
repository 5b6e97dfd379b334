//! seccomp: which system calls.
//!
//! Three kinds. Those of a process's list are made. Those of [`FATAL`] no process of ours makes, nor a
//! library of its own accord: who tries is ended at once by SIGSYS. All others are refused with `EPERM`, so
//! that a library that asks for more than it needs goes on without it, a backtrace without the program's
//! file, say. Calls of another ABI (i386, x32) end the process or are refused: their numbers mean others.

use std::io;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::Layer;

/// Memory, threads, time, and descriptors that are open already.
macro_rules! computing {
    ($($more:ident)*) => {
        &[
            libc::SYS_brk, libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_mremap, libc::SYS_munmap,
            libc::SYS_madvise, libc::SYS_membarrier,
            libc::SYS_clone, libc::SYS_clone3, libc::SYS_set_robust_list, libc::SYS_rseq,
            libc::SYS_set_tid_address, libc::SYS_futex, libc::SYS_sched_yield,
            libc::SYS_sched_getaffinity, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_getppid,
            libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_uname,
            libc::SYS_exit,
            libc::SYS_exit_group, libc::SYS_tgkill,
            libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn,
            libc::SYS_sigaltstack, libc::SYS_restart_syscall,
            libc::SYS_clock_gettime, libc::SYS_clock_nanosleep, libc::SYS_nanosleep,
            libc::SYS_gettimeofday, libc::SYS_getrandom, libc::SYS_getrusage, libc::SYS_sysinfo,
            libc::SYS_read, libc::SYS_readv, libc::SYS_pread64, libc::SYS_write, libc::SYS_writev,
            libc::SYS_lseek, libc::SYS_fstat, libc::SYS_fcntl, libc::SYS_close,
            $(libc::$more,)*
        ]
    };
}

/// Of `compile-worker`.
pub(super) const COMPILER: &[c_long] = computing!();

/// Of `wos-worker`. Which files it opens is Landlock's; it makes no socket, it has its link.
pub(super) const WORKER: &[c_long] = computing!(
    SYS_eventfd2 SYS_openat SYS_newfstatat SYS_statx SYS_memfd_create SYS_ftruncate
    SYS_ppoll SYS_poll SYS_recvfrom SYS_recvmsg SYS_sendto SYS_sendmsg SYS_shutdown
);

/// What nobody does by accident.
const FATAL: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
];

/// Since Linux 6.4; not in `libc`.
const PR_GET_AUXV: libc::c_int = 0x4155_5856;

/// Leaves these calls.
pub(super) fn confine(calls: &[c_long]) -> io::Result<Layer> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(Layer::Missing(format!("not for {} yet", std::env::consts::ARCH)));
    };
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let mut rules: std::collections::BTreeMap<c_long, Vec<SeccompRule>> =
        calls.iter().map(|call| (*call, Vec::new())).collect();
    // Its name, that of a region of its memory, and what its start told it of the machine: all that threads, the
    // allocator and libraries ask.
    let asked = [libc::PR_SET_NAME, libc::PR_SET_VMA, PR_GET_AUXV];
    let asked: io::Result<Vec<_>> = asked.into_iter().map(option_is).collect();
    rules.insert(libc::SYS_prctl, asked?);
    // Its own limits, to read them: the third argument would set them.
    rules.insert(libc::SYS_prlimit64, vec![argument_is(2, SeccompCmpArgLen::Qword, 0)?]);
    let allowed = SeccompFilter::new(rules, eperm, SeccompAction::Allow, arch);
    let fatal = FATAL.iter().map(|call| (*call, Vec::new())).collect();
    let fatal = SeccompFilter::new(fatal, SeccompAction::Allow, SeccompAction::KillProcess, arch);
    // Of two filters the stricter word counts. The first one leaves no `seccomp` for a second: so the
    // fatal calls come first.
    for filter in [fatal, allowed] {
        let program: BpfProgram = filter
            .and_then(TryInto::try_into)
            .map_err(|error| io::Error::other(error.to_string()))?;
        if let Err(error) = seccompiler::apply_filter(&program) {
            return match error {
                seccompiler::Error::Seccomp(error)
                    if error.raw_os_error() == Some(libc::EINVAL) =>
                {
                    Ok(Layer::Missing("this kernel has no seccomp filters".into()))
                }
                error => Err(io::Error::other(error.to_string())),
            };
        }
    }
    Ok(Layer::Full)
}

fn option_is(value: libc::c_int) -> io::Result<SeccompRule> {
    argument_is(0, SeccompCmpArgLen::Dword, u64::from(value.unsigned_abs()))
}

fn argument_is(index: u8, length: SeccompCmpArgLen, value: u64) -> io::Result<SeccompRule> {
    SeccompCondition::new(index, length, SeccompCmpOp::Eq, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(|error| io::Error::other(error.to_string()))
}
