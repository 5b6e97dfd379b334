//! A followed log on the system's files: [`Follow`] with a clock, and what wakes it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    Batch, Notice, Notices, Position,
    follow::{FileId, Follow, Settings, UnknownPosition},
    system::System,
    watch::{Watch, Watcher},
};

/// Longest time between two looks: a file system may report nothing, or a limit of watches be reached.
const LOOK: Duration = Duration::from_secs(1);
/// Longest time where everything is watched.
const LOOK_WATCHED: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Tail {
    follow: Follow<System>,
    begun: Instant,
    watcher: Watcher,
    directories: BTreeMap<PathBuf, Option<Watch>>,
    files: BTreeMap<FileId, Option<Watch>>,
    /// That something can't be watched was told.
    is_told: bool,
}

impl Tail {
    pub(super) fn open(
        path: PathBuf,
        position: Option<&[u8]>,
        settings: Settings,
        notices: &mut Notices,
    ) -> Result<Self, UnknownPosition> {
        let follow = Follow::open(System, path, position, settings, Duration::ZERO, notices)?;
        let mut tail = Self {
            follow,
            begun: Instant::now(),
            watcher: Watcher::new(),
            directories: BTreeMap::new(),
            files: BTreeMap::new(),
            is_told: false,
        };
        tail.watch(notices);
        Ok(tail)
    }

    pub(super) fn position(&mut self) -> Position {
        self.follow.position()
    }

    pub(super) fn standing(&self) -> (u64, Option<&str>) {
        (self.follow.lag_bytes(), self.follow.trouble())
    }

    /// The reads block the thread: they are short, and mostly from the page cache.
    pub(super) async fn fill(&mut self, batch: &mut Batch, notices: &mut Notices) {
        let known = notices.count();
        loop {
            let wait = self.follow.fill(self.begun.elapsed(), batch, notices);
            // What is watched from now on may have changed since it was looked at.
            let look_again = self.watch(notices);
            if !batch.is_empty() || notices.count() > known {
                return;
            }
            if !look_again {
                self.changed(wait).await;
            }
        }
    }

    /// Opens what comes while nobody wants lines, until there is a notice.
    pub(super) async fn attend(&mut self, notices: &mut Notices) {
        let known = notices.count();
        loop {
            self.changed(None).await;
            self.follow.look(self.begun.elapsed(), notices);
            self.watch(notices);
            if notices.count() > known {
                return;
            }
        }
    }

    async fn changed(&self, wait: Option<Duration>) {
        let is_watched = self.directories.values().chain(self.files.values()).all(Option::is_some);
        let look = if is_watched && self.follow.trouble().is_none() { LOOK_WATCHED } else { LOOK };
        let wait = wait.map_or(look, |wait| wait.min(look));
        // Cancelled or not, a wake-up is kept until somebody waits.
        let _ = tokio::time::timeout(wait, self.watcher.woken()).await;
    }

    /// Watches what is open, and the directories where something may come. Whether anything is new.
    fn watch(&mut self, notices: &mut Notices) -> bool {
        let mut is_new = false;
        let mut reason = None;
        let mut wanted = BTreeMap::new();
        for directory in self.follow.directories() {
            // One that is not there shows by what comes to the nearest one that is.
            for directory in directory.ancestors() {
                let watch = self.watcher.directory(directory).ok();
                let is_there = watch.is_some();
                wanted.insert(directory.to_owned(), watch);
                if is_there {
                    break;
                }
            }
        }
        // Watched anew each time: another directory may have the name, and that has another number.
        is_new = is_new
            || wanted.iter().any(|(path, watch)| {
                let known = self.directories.get(path).and_then(Option::as_ref);
                watch.as_ref().map(Watch::number) != known.map(Watch::number)
            });
        self.directories = wanted;
        let open: BTreeMap<_, _> = self.follow.open_files().collect();
        self.files.retain(|id, _| open.contains_key(id));
        for (id, file) in open {
            if self.files.contains_key(&id) {
                continue;
            }
            match self.watcher.file(&file.0) {
                Ok(watch) => {
                    is_new = true;
                    self.files.insert(id, Some(watch));
                }
                Err(error) => {
                    reason = Some(error);
                    self.files.insert(id, None);
                }
            }
        }
        if let Some(reason) = reason.filter(|_| !self.is_told) {
            self.is_told = true;
            notices.push(Notice::Polling { reason: reason.to_string() });
        }
        is_new
    }
}
