//! Processes, looked at from outside: by `/proc` and pidfds, not by what the manager says.

use std::fs;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::Timespec;

/// A process that is held by a pidfd: its number can't come to mean another one.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    pidfd: OwnedFd,
}

impl Process {
    /// Takes hold of a process.
    ///
    /// # Panics
    /// There is none of this number.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self::open(pid).unwrap_or_else(|| panic!("there is no process {pid}"))
    }

    fn open(pid: u32) -> Option<Self> {
        let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
        Some(Self { pid, pidfd: pidfd_open(raw, PidfdFlags::empty()).ok()? })
    }

    /// Sends a signal; one that has ended already gets none.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits until it has ended; whether it has.
    #[must_use]
    pub fn ends_within(&self, timeout: Duration) -> bool {
        let timeout = Timespec::try_from(timeout).ok();
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready == 1)
    }

    /// Kills it; how long it took until it had ended.
    ///
    /// # Panics
    /// It does not end.
    #[must_use]
    pub fn kill(&self) -> Duration {
        let began = Instant::now();
        self.signal(Signal::KILL);
        assert!(self.ends_within(super::TIMEOUT), "process {} survived SIGKILL", self.pid);
        began.elapsed()
    }

    /// Its command line, for messages.
    #[must_use]
    pub fn command(&self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    }

    /// A variable of the environment that it was started with.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        let bytes = fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
        bytes.split(|byte| *byte == 0).find_map(|entry| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    }
}

/// The living processes that were started with this variable; one that nobody has waited for yet
/// (a zombie) has no environment any more.
#[must_use]
pub fn processes_with(name: &str, value: &str) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Process::open(entry.file_name().to_str()?.parse().ok()?))
        .filter(|process| process.variable(name).as_deref() == Some(value))
        .collect()
}
