//! Answers `export`: all that is kept of a daemon, of one instant, while it runs.
//!
//! The store hands out what it has at that instant and goes on; a thread of its own reads it, and a client that
//! takes none of it in time loses its connection, and the thread with it. So neither the manager nor the store
//! waits for anybody (`who_does_not_take_an_export_holds_nobody_up`), and there is no more of it in memory than the
//! responses that wait for the client.

use std::{
    io::{self, Write},
    sync::Arc,
};

use tokio::sync::mpsc;

use super::Manager;
use crate::{
    control::{
        hex,
        protocol::{ErrorCode, Response},
    },
    store::{Snapshot, SnapshotError, StoreError},
};

/// Bytes in one response.
const PART_BYTES: usize = 16 << 10;

impl Manager {
    pub(super) fn export(&self, name: String, reply: mpsc::Sender<Response>) {
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            let refusal = match store.snapshot(&name).await {
                Ok(Some(snapshot)) => {
                    tokio::task::spawn_blocking(move || send(&snapshot, &reply));
                    return;
                }
                Ok(None) => Response::Error {
                    code: ErrorCode::UnknownDaemon,
                    message: format!("nothing is kept of a daemon `{name}`"),
                },
                Err(error) => refused(&error),
            };
            let _ = reply.send(refusal).await;
        });
    }
}

fn refused(error: &StoreError) -> Response {
    Response::Error { code: ErrorCode::Failed, message: error.to_string() }
}

/// Blocks until all of it is sent, or nobody takes it any more.
fn send(snapshot: &Snapshot, reply: &mpsc::Sender<Response>) {
    let mut parts = Parts { reply, part: Vec::with_capacity(PART_BYTES) };
    let end = match snapshot.write(&mut parts) {
        Ok(()) => Response::Done,
        Err(SnapshotError::Store(error)) => refused(&error),
        // The client is gone.
        Err(SnapshotError::Io(_)) => return,
    };
    let _ = reply.blocking_send(end);
}

/// What is written goes out in parts.
struct Parts<'a> {
    reply: &'a mpsc::Sender<Response>,
    part: Vec<u8>,
}

impl Write for Parts<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART_BYTES - self.part.len());
        self.part.extend(bytes.iter().take(taken));
        if self.part.len() == PART_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = Response::Export { hex: hex::encode(&self.part) };
        self.part.clear();
        self.reply.blocking_send(part).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::store::{Commit, Export, Store, Write};

    const DEADLINE: Duration = Duration::from_secs(20);
    const KEYS: usize = 64;

    /// All values are of one round.
    fn commit(round: u8) -> Commit {
        let write =
            |key: usize| Write::Set { key: format!("{key:03}"), value: vec![round; 30_000] };
        Commit {
            daemon: "web".to_owned(),
            writes: (0..KEYS).map(write).collect(),
            positions: vec![("lines".to_owned(), vec![round])],
            ..Commit::default()
        }
    }

    fn check(exported: &[u8], round: u8) {
        let export = Export::read(&mut &*exported).unwrap();
        let loaded = export.loaded();
        assert_eq!(loaded.state.len(), KEYS);
        assert!(loaded.state.iter().all(|(_, value)| value.iter().all(|byte| *byte == round)));
        assert_eq!(loaded.positions, [("lines".to_owned(), vec![round])]);
    }

    /// One client takes nothing, another one takes all of it late: the store goes on meanwhile, and what comes is of
    /// the moment at which it was asked for.
    #[tokio::test]
    async fn who_does_not_take_an_export_holds_nobody_up() {
        let directory = TempDir::new().unwrap();
        let store = Store::open(directory.path().join("state.redb")).unwrap();
        store.commit(commit(1), None).await.unwrap();
        let begin = async || {
            let (reply, parts) = mpsc::channel(2);
            let snapshot = store.snapshot("web").await.unwrap().unwrap();
            (tokio::task::spawn_blocking(move || send(&snapshot, &reply)), parts)
        };
        let (gone, nobody) = begin().await;
        let (late, mut parts) = begin().await;
        for round in 2..20 {
            store.commit(commit(round), None).await.unwrap();
            store.flush().await.unwrap();
        }
        assert!(store.snapshot("nobody").await.unwrap().is_none());
        assert!(
            !gone.is_finished() && !late.is_finished(),
            "more is in memory than the channel holds"
        );
        drop(nobody);
        tokio::time::timeout(DEADLINE, gone).await.unwrap().unwrap();

        let mut exported = Vec::new();
        loop {
            match parts.recv().await.unwrap() {
                Response::Export { hex } => exported.extend(hex::decode(&hex).unwrap()),
                end => break assert_eq!(end, Response::Done),
            }
        }
        late.await.unwrap();
        check(&exported, 1);
        store.close(DEADLINE).await.unwrap();
    }
}
