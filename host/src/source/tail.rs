//! A followed log on the system's files: [`Follow`] with a clock, and what wakes it.
//!
//! Rules:
//! 1. On a file system of this machine files are read at once, by whoever asks: reads are short, and mostly
//!    from the page cache.
//! 2. Any other (a server's, a program's) may never answer. What is to be done there is done by a thread of its
//!    own, and the log is the only one that waits for it: it is told that the file system does not answer, and
//!    later that it does (`tests::a_file_system_that_does_not_answer_holds_up_nobody`). So is the opening
//!    everywhere, as nobody knows before what it leads to.
//! 3. A call that is cancelled loses nothing: what is being done is taken by the next call.

use std::{
    collections::BTreeMap,
    panic::resume_unwind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    Batch, Notice, Notices, Position,
    follow::{FileId, Follow, Settings, UnknownPosition},
    system::{System, is_of_this_machine},
    watch::{Watch, Watcher},
};

/// Longest time between two looks: a file system may report nothing, or a limit of watches be reached.
const LOOK: Duration = Duration::from_secs(1);
/// Longest time where everything is watched.
const LOOK_WATCHED: Duration = Duration::from_secs(5);
/// How long a file system may take before it is said that it does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    watcher: Watcher,
    /// None while a turn of it is taken.
    log: Option<Box<Log>>,
    turn: Option<JoinHandle<Turn>>,
    /// What was read for a call that did not wait for it.
    filled: Option<(Batch, Wait)>,
    /// How long a turn may take before that is told.
    patience: Duration,
    /// It was told that the turn takes long.
    is_told: bool,
    lag_bytes: u64,
    trouble: Option<String>,
}

/// The log, and what is watched of it.
#[derive(Debug)]
struct Log {
    follow: Follow<System>,
    begun: Instant,
    watcher: Watcher,
    directories: BTreeMap<PathBuf, Option<Watch>>,
    files: BTreeMap<FileId, Option<Watch>>,
    /// That something can't be watched was told.
    is_told: bool,
    /// Whether each directory is one of this machine.
    is_near: bool,
    /// Somebody has waited since the directories were watched: something may have happened to them.
    has_waited: bool,
}

/// What was done to a log, and what came of it.
#[derive(Debug)]
struct Turn {
    log: Box<Log>,
    notices: Notices,
    /// None if it was only looked at.
    filled: Option<(Batch, Wait)>,
}

/// When a log has to be looked at again without a change.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// At once: what is watched from now on may have changed before.
    No,
    /// After this time, if there is such a time.
    For(Option<Duration>),
}

impl Tail {
    pub(super) async fn open(
        path: PathBuf,
        position: Option<&[u8]>,
        settings: Settings,
        notices: &mut Notices,
    ) -> Result<Self, UnknownPosition> {
        let watcher = Watcher::new();
        let (followed, position, waker) =
            (path.clone(), position.map(<[u8]>::to_vec), watcher.clone());
        let opened = spawn_blocking(move || {
            let mut notices = Notices::default();
            let log = Log::open(followed, position.as_deref(), settings, waker, &mut notices)?;
            Ok((Box::new(log), notices))
        });
        let (log, told) = finished(opened.await)?;
        notices.append(told);
        let mut tail = Self {
            path,
            watcher,
            log: None,
            turn: None,
            filled: None,
            patience: PATIENCE,
            is_told: false,
            lag_bytes: 0,
            trouble: None,
        };
        tail.take_back(log);
        Ok(tail)
    }

    /// Empty while a turn is taken.
    pub(super) fn position(&mut self) -> Position {
        self.log.as_mut().map_or_else(Position::default, |log| log.follow.position())
    }

    pub(super) fn standing(&self) -> (u64, Option<&str>) {
        (self.lag_bytes, self.trouble.as_deref())
    }

    pub(super) async fn fill(&mut self, batch: &mut Batch, notices: &mut Notices) {
        let known = notices.count();
        loop {
            let Some(wait) = self.fill_once(batch, notices).await else { return };
            if !batch.is_empty() || notices.count() > known {
                return;
            }
            if let Wait::For(wait) = wait {
                self.changed(wait).await;
            }
        }
    }

    /// None if it takes so long that this is to be told.
    async fn fill_once(&mut self, batch: &mut Batch, notices: &mut Notices) -> Option<Wait> {
        if let Some((filled, wait)) = self.filled.take() {
            *batch = filled;
            return Some(wait);
        }
        loop {
            if let Some(log) = self.log.as_mut().filter(|log| log.is_near) {
                let wait = log.fill(batch, notices);
                self.note_standing();
                return Some(wait);
            }
            let mut filled = batch.like();
            self.begin(|log, notices| {
                let wait = log.fill(&mut filled, notices);
                Some((filled, wait))
            });
            match self.end(notices).await {
                Ended::Late => return None,
                // What was only looked at before this call.
                Ended::Turn(None) => {}
                Ended::Turn(Some((filled, wait))) => {
                    *batch = filled;
                    return Some(wait);
                }
            }
        }
    }

    /// Opens what comes while nobody wants lines, until there is a notice.
    pub(super) async fn attend(&mut self, notices: &mut Notices) {
        let known = notices.count();
        loop {
            if self.turn.is_none() {
                self.changed(None).await;
            }
            if let Some(log) = self.log.as_mut().filter(|log| log.is_near) {
                log.look(notices);
                self.note_standing();
            } else {
                self.begin(|log, notices| {
                    log.look(notices);
                    None
                });
                if let Ended::Turn(Some(filled)) = self.end(notices).await {
                    self.filled = Some(filled);
                }
            }
            if notices.count() > known {
                return;
            }
        }
    }

    /// Begins a turn elsewhere, unless one is taken.
    fn begin(
        &mut self,
        act: impl FnOnce(&mut Log, &mut Notices) -> Option<(Batch, Wait)> + Send + 'static,
    ) {
        let Some(mut log) = self.log.take() else { return };
        self.turn = Some(spawn_blocking(move || {
            let mut notices = Notices::default();
            let filled = act(&mut log, &mut notices);
            Turn { log, notices, filled }
        }));
    }

    /// Waits for the end of the turn, or until it is to be told that it takes long.
    async fn end(&mut self, notices: &mut Notices) -> Ended {
        let Some(turn) = &mut self.turn else { return Ended::Turn(None) };
        let ended = if self.is_told {
            turn.await
        } else {
            match tokio::time::timeout(self.patience, &mut *turn).await {
                Ok(ended) => ended,
                Err(_) => {
                    let path = self.path.display();
                    let reason = format!("cannot read {path}: its file system does not answer");
                    self.trouble = Some(reason.clone());
                    self.is_told = true;
                    notices.push(Notice::Unreadable { reason });
                    return Ended::Late;
                }
            }
        };
        self.turn = None;
        let Turn { log, notices: told, filled } = finished(ended);
        if std::mem::take(&mut self.is_told) {
            notices.push(Notice::Readable);
        }
        notices.append(told);
        self.take_back(log);
        Ended::Turn(filled)
    }

    fn take_back(&mut self, log: Box<Log>) {
        self.log = Some(log);
        self.note_standing();
    }

    fn note_standing(&mut self) {
        let Some(log) = &self.log else { return };
        self.lag_bytes = log.follow.lag_bytes();
        if self.trouble.as_deref() != log.follow.trouble() {
            self.trouble = log.follow.trouble().map(str::to_owned);
        }
    }

    async fn changed(&mut self, wait: Option<Duration>) {
        let look = self.log.as_ref().map_or(LOOK, |log| log.look_after());
        let wait = wait.map_or(look, |wait| wait.min(look));
        // Cancelled or not, a wake-up is kept until somebody waits.
        let _ = tokio::time::timeout(wait, self.watcher.woken()).await;
        if let Some(log) = &mut self.log {
            log.has_waited = true;
        }
    }
}

enum Ended {
    /// The turn is not over, and that was just told.
    Late,
    Turn(Option<(Batch, Wait)>),
}

/// A panic in a thread is one here.
fn finished<T>(ended: Result<T, tokio::task::JoinError>) -> T {
    match ended {
        Ok(ended) => ended,
        Err(error) => {
            resume_unwind(error.try_into_panic().unwrap_or_else(|_| Box::new("cancelled")))
        }
    }
}

impl Log {
    fn open(
        path: PathBuf,
        position: Option<&[u8]>,
        settings: Settings,
        watcher: Watcher,
        notices: &mut Notices,
    ) -> Result<Self, UnknownPosition> {
        let follow = Follow::open(System, path, position, settings, Duration::ZERO, notices)?;
        let mut log = Self {
            follow,
            begun: Instant::now(),
            watcher,
            directories: BTreeMap::new(),
            files: BTreeMap::new(),
            is_told: false,
            is_near: false,
            has_waited: true,
        };
        log.watch(notices);
        Ok(log)
    }

    fn fill(&mut self, batch: &mut Batch, notices: &mut Notices) -> Wait {
        let wait = self.follow.fill(self.begun.elapsed(), batch, notices);
        if self.watch(notices) { Wait::No } else { Wait::For(wait) }
    }

    fn look(&mut self, notices: &mut Notices) {
        self.follow.look(self.begun.elapsed(), notices);
        self.watch(notices);
    }

    /// After what time it is looked at if nothing is reported.
    fn look_after(&self) -> Duration {
        let is_watched = self.directories.values().chain(self.files.values()).all(Option::is_some);
        if is_watched && self.follow.trouble().is_none() { LOOK_WATCHED } else { LOOK }
    }

    /// Watches what is open, and the directories where something may come. Whether anything is new.
    fn watch(&mut self, notices: &mut Notices) -> bool {
        let mut is_new = self.watch_directories();
        let mut reason = None;
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

    /// Watches them anew after each wait, and when there are others: another directory may have a name, and that
    /// has another number. While lines lie there to be read nobody waits.
    fn watch_directories(&mut self) -> bool {
        let is_watched = |directory: &PathBuf| self.directories.contains_key(directory);
        if !self.has_waited && self.follow.directories().iter().all(is_watched) {
            return false;
        }
        self.has_waited = false;
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
        let is_new = wanted.iter().any(|(path, watch)| {
            let known = self.directories.get(path).and_then(Option::as_ref);
            watch.as_ref().map(Watch::number) != known.map(Watch::number)
        });
        self.directories = wanted;
        if is_new {
            let directories = || self.directories.keys().map(PathBuf::as_path);
            self.is_near = directories().all(is_near);
        }
        is_new
    }
}

/// One that is not there says nothing.
fn is_near(directory: &Path) -> bool {
    is_of_this_machine(directory).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc};

    use super::*;
    use crate::source::{StartAt, follow::InHand};

    #[tokio::test]
    async fn a_file_system_that_does_not_answer_holds_up_nobody() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("a.log");
        fs::write(&path, "one\ntwo\n").unwrap();
        let settings = Settings {
            start: StartAt::Beginning,
            rotate_wait: Duration::from_secs(5),
            in_hand: InHand::default(),
        };
        let mut notices = Notices::default();
        let mut tail = Tail::open(path, None, settings, &mut notices).await.unwrap();
        assert!(tail.log.as_ref().unwrap().is_near, "the tests' own directory");
        tail.log.as_mut().unwrap().is_near = false;
        // Lines come as before.
        let mut batch = Batch::new(1, 100);
        tail.fill(&mut batch, &mut notices).await;
        assert_eq!(batch.into_items().len(), 1);
        assert_eq!(notices.take(), []);
        // A turn that takes as long as it is let.
        let (go, gone) = mpsc::channel::<()>();
        tail.begin(move |log, notices| {
            gone.recv().unwrap_err();
            log.look(notices);
            None
        });
        tail.patience = Duration::from_millis(1);
        let mut batch = Batch::new(10, 100);
        tail.fill(&mut batch, &mut notices).await;
        assert!(batch.is_empty());
        let told = notices.take();
        assert!(
            matches!(&told[..], [Notice::Unreadable { reason }] if reason.ends_with("does not answer")),
            "{told:?}"
        );
        assert!(tail.standing().1.is_some());
        // Nobody waits longer than they want to, and nothing is lost when it answers.
        let looked =
            tokio::time::timeout(Duration::from_millis(1), tail.attend(&mut notices)).await;
        assert!(looked.is_err());
        drop(go);
        tail.fill(&mut batch, &mut notices).await;
        assert_eq!(batch.into_items().len(), 1);
        assert_eq!(notices.take(), [Notice::Readable]);
        assert_eq!(tail.standing().1, None);
        // What was read for one call is there for the next, also if it came in between.
        fs::write(tail.path.clone(), "one\ntwo\nthree\n").unwrap();
        let mut read = Batch::new(1, 100);
        tail.begin(|log, notices| {
            let wait = log.fill(&mut read, notices);
            Some((read, wait))
        });
        let _ = tokio::time::timeout(Duration::from_millis(100), tail.attend(&mut notices)).await;
        let mut batch = Batch::new(1, 100);
        tail.fill(&mut batch, &mut notices).await;
        assert_eq!(batch.into_items()[0].payload, b"three");
    }
}
