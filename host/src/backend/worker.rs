//! The worker from outside: starts `duende wos-worker` and holds its end of the link.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Child, Stdio},
    sync::Arc,
};

use super::printed::{self, Printed};
use crate::{
    children::Own,
    manager::link::peer::{LinkId, NewsSender, Peer},
    platform,
    store::Store,
    worker::{CACHE_DIR_VARIABLE, COMPONENTS_VARIABLE},
};

/// A worker that was started.
#[derive(Debug)]
pub(super) struct WorkerProcess {
    pub(super) peer: Peer,
    child: Child,
    printed: Printed,
    _own: Own,
}

impl WorkerProcess {
    /// Starts a worker for so many components. What it prints by itself — a panic, say — goes to `log_path`.
    pub(super) fn start(
        cache_dir: &Path,
        components: usize,
        log_path: &Path,
        id: LinkId,
        store: Arc<Store>,
        news: &NewsSender,
    ) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let (stderr, printed) = printed::to_log(log_path);
        let child = platform::own_command()
            .arg("wos-worker")
            .env(CACHE_DIR_VARIABLE, cache_dir)
            .env(COMPONENTS_VARIABLE, components.to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(stderr)
            // A Ctrl-C on the terminal is for the manager, which stops in order.
            .process_group(0)
            .spawn()?;
        let own = Own::register(child.id());
        Ok(Self { peer: Peer::connect(id, false, ours, store, news)?, child, printed, _own: own })
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
        Ok(self.child.try_wait()?.map(|status| status.to_string()))
    }
}
