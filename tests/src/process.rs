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

    /// Its state as the kernel calls it: `S` sleeps, `T` is stopped, `Z` is dead and not waited for; `-`: it
    /// is gone.
    #[must_use]
    pub fn state(&self) -> char {
        let state = |stat: &str| stat.rsplit_once(") ")?.1.chars().next();
        fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .ok()
            .as_deref()
            .and_then(state)
            .unwrap_or('-')
    }

    /// The processor time that it has used, in user mode and for it in the kernel.
    ///
    /// # Panics
    /// It is gone.
    #[must_use]
    pub fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("it lives");
        let (_, rest) = stat.rsplit_once(") ").expect("a line of `stat`");
        // The fields 14 and 15; the state is the third.
        let ticks: u64 =
            rest.split(' ').skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum();
        Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
    }

    /// What it may have open at most, by the kernel's own table: soft and hard.
    ///
    /// # Panics
    /// It is gone.
    #[must_use]
    pub fn open_files_max(&self) -> [String; 2] {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.pid)).expect("it lives");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let mut fields = line.unwrap_or_default().split_whitespace().map(str::to_owned);
        [(); 2].map(|()| fields.next().expect("two limits"))
    }

    /// The numbers of its open descriptors.
    #[must_use]
    pub fn descriptors(&self) -> Vec<u64> {
        let entries =
            fs::read_dir(format!("/proc/{}/fd", self.pid)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Its children that are dead and that it has not waited for, and its living ones.
    #[must_use]
    pub fn children(&self) -> (usize, usize) {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let of_this = |stat: &str| {
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            let (state, parent) = (fields.next()?, fields.next()?);
            (parent == self.pid.to_string()).then(|| state == "Z")
        };
        let states: Vec<bool> = entries
            .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
            .filter_map(|stat| of_this(&stat))
            .collect();
        let dead = states.iter().filter(|dead| **dead).count();
        (dead, states.len() - dead)
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
