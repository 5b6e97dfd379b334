//! Wakes a reader when a followed file may have changed.
//!
//! Two inotify watches: one on the directory, for files that come, go and are renamed; one on the
//! open file itself, whatever its name is. A wake-up says only "look again". Looking again once a
//! second as well makes every miss harmless: a file system that reports nothing, a directory that
//! does not exist yet, a symbolic link whose target moved.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Longest time between two looks, in milliseconds.
const LOOK_MS_MAX: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Watch {
    /// None if the system has no more inotify instances to give: then it is the clock alone.
    inotify: Option<AsyncFd<OwnedFd>>,
    directory: PathBuf,
    /// The watch on the open file.
    file: Option<i32>,
}

impl Watch {
    /// Watches a directory, and says why if it cannot.
    pub(super) fn new(directory: &Path) -> (Self, Option<String>) {
        let opened =
            inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(io::Error::from);
        let (inotify, reason) = match opened.and_then(register) {
            Ok(inotify) => (Some(inotify), None),
            Err(error) => (None, Some(format!("no inotify instance: {error}"))),
        };
        let mut watch = Self { inotify, directory: directory.to_owned(), file: None };
        watch.watch_directory();
        (watch, reason)
    }

    /// Watches what has the directory's name now; for a directory that is watched this does nothing.
    fn watch_directory(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        // It may not exist yet, or the limit of watches is reached: the clock looks anyway.
        let _ = inotify::add_watch(inotify.get_ref(), &self.directory, flags);
    }

    /// Watches an open file, in place of the one before, and says why if it cannot.
    pub(super) fn watch_file(&mut self, file: &File) -> Option<String> {
        let inotify = self.inotify.as_ref()?;
        if let Some(before) = self.file.take() {
            // It vanishes by itself when its file does.
            let _ = inotify::remove_watch(inotify.get_ref(), before);
        }
        // The open file and no other, whatever happens to its name.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        match inotify::add_watch(inotify.get_ref(), path, WatchFlags::MODIFY) {
            Ok(watch) => {
                self.file = Some(watch);
                None
            }
            Err(errno) => Some(format!("no inotify watch: {}", io::Error::from(errno))),
        }
    }

    /// Waits until something may have changed, for `at_most` at the longest. Cancelling it loses no
    /// wake-up.
    pub(super) async fn changed(&mut self, at_most: Option<Duration>) {
        let look = Duration::from_millis(LOOK_MS_MAX);
        let wait = at_most.map_or(look, |at_most| at_most.min(look));
        let event = async {
            match &self.inotify {
                Some(inotify) => wait_and_drain(inotify).await,
                None => std::future::pending().await,
            }
        };
        if tokio::time::timeout(wait, event).await.is_err() {
            self.watch_directory();
        }
    }
}

fn register(inotify: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the `AsyncFd` owns the descriptor, and nobody replaces or closes it: an `OwnedFd` is
    // closed when it is dropped and at no other time.
    Ok(unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }?)
}

async fn wait_and_drain(inotify: &AsyncFd<OwnedFd>) {
    // An error means that the runtime is shutting down; the caller is not polled again.
    let Ok(mut ready) = inotify.readable().await else {
        return std::future::pending().await;
    };
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(inotify.get_ref(), &mut buffer);
    loop {
        match reader.next() {
            // What it was does not matter: the files themselves are looked at.
            Ok(_) | Err(Errno::INTR) => {}
            // Would block, or a failure that leaves the clock to look.
            Err(_) => return ready.clear_ready(),
        }
    }
}
