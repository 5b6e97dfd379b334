//! The worker from outside: starts `duende wos-worker` and holds its end of the link.

use std::{
    env, io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt as _},
        },
    },
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::Arc,
};

use duende_core::wire::link::Address;

use super::printed::{self, Printed};
use crate::{
    children::Own,
    manager::link::peer::{LinkId, NewsSender, Peer},
    platform,
    store::Store,
    worker::{COMPONENTS_VARIABLE, IMAGES_VARIABLE, handover, mark::MarkFile},
};

/// A worker that was started.
#[derive(Debug)]
pub(super) struct WorkerProcess {
    pub(super) peer: Peer,
    images: OwnedFd,
    mark: MarkFile,
    /// How many processes the system had killed for want of memory when it was started.
    oom_kills: Option<u64>,
    ended: Option<ExitStatus>,
    child: Child,
    printed: Printed,
    _own: Own,
}

impl WorkerProcess {
    /// Starts a worker for so many components. What it prints by itself — a panic, say — goes to `log_path`.
    pub(super) fn start(
        images: &[PathBuf],
        components: usize,
        log_path: &Path,
        id: LinkId,
        store: Arc<Store>,
        news: &NewsSender,
    ) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let (images_to, images_from) = handover::pair()?;
        let mark = MarkFile::new()?;
        let oom_kills = oom_kills();
        handover::give_mark(images_to.as_fd(), &mark)?;
        let (stderr, printed) = printed::to_log(log_path);
        let child = platform::own_command()
            .arg("wos-worker")
            .env(IMAGES_VARIABLE, env::join_paths(images).map_err(io::Error::other)?)
            .env(COMPONENTS_VARIABLE, components.to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(images_from))
            .stderr(stderr)
            // A Ctrl-C on the terminal is for the manager, which stops in order.
            .process_group(0)
            .spawn()?;
        let own = Own::register(child.id());
        let peer = Peer::connect(id, false, ours, store, news)?;
        Ok(Self {
            peer,
            images: images_to,
            mark,
            oom_kills,
            ended: None,
            child,
            printed,
            _own: own,
        })
    }

    /// Whose slice was open when it ended, if that can have been why: somebody who kills a worker is no slice,
    /// but for the system that had no memory.
    pub(super) fn ended_by(&self) -> Option<Address> {
        let signal = self.ended.and_then(|status| status.signal());
        let is_from_outside = match signal {
            Some(libc::SIGKILL) => self.oom_kills == oom_kills(),
            Some(libc::SIGTERM | libc::SIGINT | libc::SIGHUP) => true,
            _ => false,
        };
        self.mark.open().filter(|_| !is_from_outside)
    }

    /// Hands over the image of a daemon that is described next.
    pub(super) fn give_image(&self, entry: &Path) -> io::Result<()> {
        handover::give(self.images.as_fd(), entry)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the worker now.
    pub(super) fn kill(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
    }

    pub(super) fn printed(&self) -> &Printed {
        &self.printed
    }

    /// How it ended, if it has.
    pub(super) fn try_reap(&mut self) -> io::Result<Option<String>> {
        self.ended = self.child.try_wait()?;
        Ok(self.ended.map(|status| status.to_string()))
    }
}

/// How many processes the system has killed for want of memory, of the machine or of a group, since it was booted.
fn oom_kills() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}
