//! Whose a process is, where there are no cgroups: by descent, by its group, and by a variable in its
//! environment that only its daemon's processes have.
//!
//! `keep` is the subreaper, so whatever loses its parent becomes its child and is found among those.
//! A process that left its group, cleared its environment and lost its parent is nobody's: it ends
//! with `keep`.

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{self, Read};
use std::time::Duration;

use rustix::process::getpgid;

use super::members::as_pid;

/// Most processes of one daemon that are looked at.
const PROCESSES_MAX: usize = 32_768;

/// What is read of an environment at once, in bytes: of most all.
const ENVIRON_BYTES: usize = 128 << 10;

/// A process that is just becoming another program shows no environment for an instant, which lasts until it
/// has the processor again: how often it is looked at, and after how long.
const BECOMING_TRIES: u32 = 1_000;
/// How often a process is looked at that seems to have an empty one, as they all do for a shorter instant.
const EMPTY_TRIES: u32 = 10;
const EXEC_TIME: Duration = Duration::from_millis(1);

/// By what the processes of one daemon are known.
#[derive(Debug)]
pub(super) struct Marker {
    /// `NAME=value`, as it stands in the environment.
    variable: CString,
    /// The group that its first process leads.
    group: u32,
}

impl Marker {
    pub(super) const fn new(variable: CString, group: u32) -> Self {
        Self { variable, group }
    }

    /// The processes of the daemon that live; `main` says of a child of this process whether it is the
    /// main process of this daemon, or of another one.
    pub(super) fn pids(&self, main: impl Fn(u32) -> Option<bool>) -> Vec<u32> {
        let mut found: Vec<u32> = children(std::process::id())
            .into_iter()
            .filter(|pid| main(*pid).unwrap_or_else(|| self.marks(*pid)) && lives(*pid))
            .collect();
        let mut next = 0;
        while let Some(pid) = found.get(next).copied() {
            next += 1;
            let room = PROCESSES_MAX.saturating_sub(found.len());
            found.extend(children(pid).into_iter().filter(|pid| lives(*pid)).take(room));
        }
        found
    }

    /// Whether an orphan says itself whose it is.
    fn marks(&self, pid: u32) -> bool {
        let group = as_pid(pid).and_then(|pid| getpgid(Some(pid)).ok());
        if group.is_some_and(|group| group.as_raw_pid().unsigned_abs() == self.group) {
            return true;
        }
        is_marked(pid, &self.variable)
    }
}

/// By which marker a process was started, without its name. It is looked at once, and nothing is waited for: whoever
/// speaks is no longer becoming another program, and may speak often.
pub(super) fn of_process(pid: u32) -> Option<String> {
    marker_in(&look(pid).ok()?)
}

/// By which markers processes were started, of those that have one. Those of which it can't be told yet are waited for
/// together, however many they are.
pub(super) fn of_processes(pids: impl Iterator<Item = u32>) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    environs(pids, |pid, environ| found.extend(marker_in(environ).map(|marker| (pid, marker))));
    found
}

/// Whether this variable is in the environment that a process was started with.
pub(super) fn is_marked(pid: u32, variable: &CStr) -> bool {
    let mut is_marked = false;
    environs([pid].into_iter(), |_, environ| {
        is_marked = environ.split(|byte| *byte == 0).any(|entry| entry == variable.to_bytes());
    });
    is_marked
}

fn marker_in(environ: &[u8]) -> Option<String> {
    let prefix = format!("{}=", super::DAEMON_VARIABLE);
    let mut entries = environ.split(|byte| *byte == 0);
    let value = entries.find_map(|entry| entry.strip_prefix(prefix.as_bytes()))?;
    String::from_utf8(value.to_vec()).ok()
}

/// The environments that processes were started with, as they come to be known.
fn environs(pids: impl Iterator<Item = u32>, mut each: impl FnMut(u32, &[u8])) {
    // With how often each seemed to have an empty one.
    let mut doubtful: Vec<(u32, u32)> = pids.map(|pid| (pid, 0)).collect();
    for _ in 0..BECOMING_TRIES {
        doubtful.retain_mut(|(pid, empty)| match look(*pid) {
            Ok(environ) => {
                each(*pid, &environ);
                false
            }
            Err(Doubt::Empty) => {
                *empty += 1;
                *empty < EMPTY_TRIES
            }
            Err(Doubt::ToCome) => true,
        });
        if doubtful.is_empty() {
            return;
        }
        std::thread::sleep(EXEC_TIME);
    }
}

/// Looks once at the environment that a process was started with; an empty one if it cannot be read.
fn look(pid: u32) -> Result<Vec<u8>, Doubt> {
    let environ = read_environ(pid).unwrap_or_default();
    if environ.is_empty() { Doubt::of(pid).map_or(Ok(environ), Err) } else { Ok(environ) }
}

/// Reads it in one piece, as far as it has room: between two reads the process may have become another program,
/// and what was read of the one before would seem to be all.
fn read_environ(pid: u32) -> io::Result<Vec<u8>> {
    let mut environ = vec![0; ENVIRON_BYTES];
    let mut file = fs::File::open(format!("/proc/{pid}/environ"))?;
    let length = file.read(&mut environ)?;
    environ.truncate(length);
    if length == ENVIRON_BYTES {
        file.read_to_end(&mut environ)?;
    }
    Ok(environ)
}

/// Why it can't be told yet whether a process that showed no environment has one.
enum Doubt {
    /// It has nothing in it, or its end is not known yet.
    Empty,
    /// The process is becoming another program; or it was, and has become one.
    ToCome,
}

impl Doubt {
    /// None of the kernel's own threads, of what waits to be reaped, and of somebody else's: they will not show one.
    fn of(pid: u32) -> Option<Self> {
        /// `env_start` and `env_end`, in `/proc/PID/stat`, counted behind the name. While a program is
        /// loaded both are 0, and then equal until the last of it is counted.
        const PLACES: [usize; 2] = [47, 48];
        fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let stat = stat(pid)?;
        let [start, end] = PLACES.map(|place| field(&stat, place).unwrap_or_default());
        Some(if start == end && end != "0" { Self::Empty } else { Self::ToCome })
    }
}

/// The children of a process, as the kernel lists them: by thread, whichever it gave them to.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let mut pids = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let list = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        pids.extend(list.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    pids
}

/// Whether it is more than what waits to be reaped.
fn lives(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(field(&stat, 0), None | Some("Z" | "X")))
}

fn stat(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

/// A field of what the kernel says of a process. The first one is the state; it follows the name, which stands
/// in parentheses and may hold some.
fn field(stat: &str, number: usize) -> Option<&str> {
    stat.rsplit_once(") ")?.1.split(' ').nth(number)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A child that does not outlive the test, however that ends.
    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    /// However often it becomes another program: this one does so a thousand times, and each look is
    /// somewhere within it.
    #[test]
    fn a_process_that_becomes_another_program_keeps_its_marker() {
        let script =
            r#"i=$((${1} + 1)); [ $i -lt 1000 ] && exec sh -c "$0" "$0" $i; exec sleep 1000"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, script, "0"]).stdin(Stdio::null());
        let child = command.env(super::super::DAEMON_VARIABLE, "marked").spawn().unwrap();
        let child = Killed(child);
        let became = format!("/proc/{}/comm", child.0.id());
        let mut looks = 0_u32;
        while fs::read_to_string(&became).unwrap().trim_end() != "sleep" {
            let marked = of_processes([child.0.id()].into_iter());
            assert_eq!(marked, [(child.0.id(), "marked".to_owned())], "look {looks}");
            looks += 1;
        }
        drop(child);
        assert!(looks > 100, "{looks} looks");
    }

    /// How often this thread has given the processor away.
    fn times_waited() -> u64 {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let times = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        times.unwrap().trim().parse().unwrap()
    }

    /// Whoever has an empty environment, and however often it speaks: nobody waits for it.
    #[test]
    fn who_speaks_is_looked_at_once() {
        let mut command = Command::new("sleep");
        let child = Killed(command.arg("1000").env_clear().stdin(Stdio::null()).spawn().unwrap());
        while !matches!(look(child.0.id()), Err(Doubt::Empty)) {
            std::thread::yield_now();
        }
        let looks = 200;
        let before = times_waited();
        assert!((0..looks).all(|_| of_process(child.0.id()).is_none()));
        let waited = times_waited() - before;
        assert!(waited < looks, "waited {waited} times for {looks} looks");
        assert_eq!(of_processes([child.0.id()].into_iter()), []);
    }
}
