//! The children of this process that somebody waits for, and those that only came to it.
//!
//! A process that is PID 1 of its namespace, or a subreaper, becomes the parent of whoever loses its
//! own. Nobody else can reap those, and they would stay for ever.
//!
//! Rules:
//! 1. A child that somebody waits for is registered as soon as it is started, by the thread that calls
//!    [`reap_strangers`], or by [`Own::spawn`] on any, and is left alone until its [`Own`] is dropped.
//! 2. A process that adopts nobody reaps nobody here: what else is a child of it is somebody else's.

use std::collections::BTreeSet;
use std::io;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::keep::{Which, dead_child, reap_ended};

static OWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn own() -> MutexGuard<'static, BTreeSet<u32>> {
    // No panic is possible while it is held.
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that its holder waits for.
#[derive(Debug)]
pub(crate) struct Own(u32);

impl Own {
    /// Starts a child that somebody waits for. It may die before this returns, and is its holder's to reap all the
    /// same.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<(Child, Self)> {
        let mut own = own();
        let child = command.spawn()?;
        let pid = child.id();
        own.insert(pid);
        Ok((child, Self(pid)))
    }

    /// Says that somebody waits for a child.
    pub(crate) fn register(pid: u32) -> Self {
        own().insert(pid);
        Self(pid)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        own().remove(&self.0);
    }
}

/// Reaps the dead that only came to this process; how many. Does not wait. A dead child that somebody
/// waits for may hide others until it is reaped: call this from time to time.
pub(crate) fn reap_strangers() -> usize {
    if !adopts() {
        return 0;
    }
    let mut reaped = 0;
    while let Some(pid) = dead_child(Which::Any)
        && !own().contains(&pid)
    {
        reap_ended(pid);
        reaped += 1;
    }
    reaped
}

/// Whether whoever loses its parent may come to this process.
pub(crate) fn adopts() -> bool {
    let is_subreaper = rustix::process::child_subreaper().is_ok_and(|whose| whose.is_some());
    std::process::id() == 1 || is_subreaper
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);
    /// Set in the process that is this test's own: reaping is a matter of the whole process.
    const ITSELF_VARIABLE: &str = "DUENDE_TEST_CHILDREN";

    #[test]
    fn strangers_are_reaped_and_who_is_waited_for_is_not() {
        if std::env::var_os(ITSELF_VARIABLE).is_none() {
            let (_, module) = module_path!().split_once("::").unwrap();
            let output = Command::new(std::env::current_exe().unwrap())
                .arg(format!("{module}::strangers_are_reaped_and_who_is_waited_for_is_not"))
                .args(["--exact", "--nocapture", "--test-threads=1"])
                .env(ITSELF_VARIABLE, "1")
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        let until = |done: &mut dyn FnMut() -> bool| {
            let began = Instant::now();
            while !done() {
                assert!(began.elapsed() < DEADLINE, "{:?}", dead_child(Which::Any));
                std::thread::yield_now();
            }
        };
        // Nobody comes, so nobody is reaped, and a child that is not registered is its owner's.
        let mut child = Command::new("true").spawn().unwrap();
        until(&mut || dead_child(Which::This(child.id())).is_some());
        assert_eq!(reap_strangers(), 0);
        assert!(child.wait().unwrap().success());

        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let own = Own::register(child.id());
        // Its parent ends at once, so it is ours, and it ends too.
        let mut parent =
            Command::new("sh").args(["-c", "sleep 0.1 & sleep 0.1 & exit 0"]).spawn().unwrap();
        let parents = Own::register(parent.id());
        assert!(parent.wait().unwrap().success());
        drop(parents);
        until(&mut || dead_child(Which::This(child.id())).is_some());
        let mut reaped = reap_strangers();
        assert_eq!(child.wait().unwrap().code(), Some(7), "its exit was stolen");
        drop(own);
        until(&mut || {
            reaped += reap_strangers();
            reaped == 2
        });
        assert_eq!(dead_child(Which::Any), None);
    }
}
