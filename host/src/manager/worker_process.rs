//! The worker from outside: starts `duende wos-worker` and holds its end of the link.

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use tokio::sync::mpsc;

use super::peer::{Peer, PeerEvent, PeerId};
use crate::{store::Store, worker::CACHE_DIR_VARIABLE};

/// A worker that was started.
pub(super) struct WorkerProcess {
    pub(super) peer: Peer,
    child: Child,
}

impl WorkerProcess {
    /// Starts a worker. What it prints by itself — a panic, say — goes to `log_path`.
    pub(super) fn start(
        executable: &Path,
        cache_dir: &Path,
        log_path: &Path,
        id: PeerId,
        store: Arc<Store>,
        events: mpsc::Sender<PeerEvent>,
    ) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let log = OpenOptions::new().create(true).append(true).open(log_path)?;
        let child = Command::new(executable)
            .arg("wos-worker")
            .env(CACHE_DIR_VARIABLE, cache_dir)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(log)
            // A Ctrl-C on the terminal is for the manager, which stops in order.
            .process_group(0)
            .spawn()?;
        Ok(Self { peer: Peer::connect(id, ours, store, events)?, child })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the worker now.
    pub(super) fn kill(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
    }

    /// Closes the link and reaps the worker. Returns how it ended.
    pub(super) async fn reap(self) -> String {
        let Self { peer, mut child } = self;
        drop(peer);
        match tokio::task::spawn_blocking(move || child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => format!("its exit status is unknown: {error}"),
            Err(_) => "its exit status is unknown".to_owned(),
        }
    }
}
