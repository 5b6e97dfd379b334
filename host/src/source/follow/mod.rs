//! Follows a log: a sequence of files, most of which had one name after the other.
//!
//! A sans-I/O machine over [`Files`], a small trait of what a directory offers, with `now` as an argument:
//! the system's own directories and the model in `tests/sources` implement it. A wake-up says only "look
//! again"; nothing here waits.
//!
//! The design:
//! 1. A file is known by its inode and its content ([`mark`]); names only tell the order of those that
//!    nobody saw ([`family`]).
//! 2. The queue holds the files that are read, the oldest first. Whatever appears under the name, links
//!    followed, is opened at once and queued, so later names do not matter. What came and went between two
//!    looks is found beside it ([`survey`]).
//! 3. Each look reads from the oldest to the newest, each to its end: what was written before a file came
//!    is read before it. A file that was left behind is read on beside its successors, for its writer may
//!    not have reopened yet, until nothing came for `rotate_wait`; then its unfinished line is given, and
//!    it is remembered.
//! 4. What is remembered, a bounded list, is not read again, whatever its inode and times are; if it has
//!    grown at the next rotation, what was added is.
//! 5. A position is the whole queue and what is remembered, and belongs to the path; it goes with every line
//!    ([`position`]). With another path all files are remembered and none is queued.
//! 6. After a time away each file of the position is found by inode and content, then by content alone,
//!    compressed or not; what follows the last of them, in order, is queued ([`again`]).
//! 7. Where the content before the place has changed, the old content's rest is read from a copy if there is
//!    one; then the new content, from where the old goes on in it or from its beginning.
//! 8. What is lost is a [`Gap`](super::Gap). An error that can heal is told once, tried again with backoff, and told to
//!    be over; meanwhile the open files are read.
//!
//! Invariants, held by the model in `tests/sources` over a hundred thousand schedules: each line is given
//! once, and each of one file in order, as seen by one who goes on from committed positions; or it is told
//! that there is a gap, and no reader could have found the line.

mod again;
mod content;
mod entry;
mod family;
mod files;
mod mark;
pub mod planted;
mod position;
mod reader;
mod survey;

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use duende_core::wire::link::Part;
use entry::Entry;
pub use files::{Files, Listed, LogFile, Stat};
pub use mark::FileId;
use mark::{Journey, Mark, PathHash, READ_MAX, path_hash};
use planted::Plant;
pub(super) use position::LogPosition;
use reader::Found;

use super::{Batch, Notice, Notices, Position, StartAt};

/// Most files that one log keeps open.
pub const OPEN_MAX: usize = 64;
/// First and longest time until what could not be read is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How soon it is looked again at what changes faster than one can look.
const UNSTEADY: Duration = Duration::from_millis(20);

/// How a log is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the first file begins if no position was ever committed.
    pub start: StartAt,
    /// How long a file that was left behind is read on after something came.
    pub rotate_wait: Duration,
    /// How many files may be open; the newer ones wait until one is read to its end.
    pub open_max: usize,
}

/// A log that is followed.
#[derive(Debug)]
pub struct Follow<F: Files> {
    files: F,
    path: PathBuf,
    path_hash: PathHash,
    settings: Settings,
    /// The files that are read, the oldest first. The last is the one that had the name last.
    queue: VecDeque<Entry<F::File>>,
    /// Files that were read to their end, the latest last.
    read: VecDeque<Mark>,
    /// Nothing was ever seen of this log.
    is_fresh: bool,
    /// It changed while it was looked at.
    is_unsteady: bool,
    /// Directories where something may come that matters.
    directories: Vec<PathBuf>,
    trouble: Option<Trouble>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Trouble {
    reason: String,
    /// The reason that was said, if one was.
    told: Option<String>,
    since: Duration,
    retry_at: Duration,
    wait: Duration,
}

/// The committed position was written by another version of this program.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a position in a form that this version does not know")]
pub struct UnknownPosition;

impl<F: Files> Follow<F> {
    /// Follows a path from a committed position, or as `settings` say. What is there is opened; what is
    /// not, or can't be, is waited for.
    ///
    /// # Errors
    /// [`UnknownPosition`].
    pub fn open(
        files: F,
        path: PathBuf,
        position: Option<&[u8]>,
        settings: Settings,
        now: Duration,
        notices: &mut Notices,
    ) -> Result<Self, UnknownPosition> {
        let path_hash = path_hash(&path);
        let journey = match position {
            Some(position) => Some(Journey::decode(position).ok_or(UnknownPosition)?),
            None => None,
        };
        let is_same = journey
            .as_ref()
            .is_some_and(|journey| journey.path.is_none_or(|path| path == path_hash));
        let Journey { queue, mut read, .. } = journey.unwrap_or_default();
        let mut queue: VecDeque<_> = queue.into_iter().map(Entry::away).collect();
        if !is_same {
            // What was read under another path is known, should it come under this one.
            read.extend(queue.drain(..).map(|entry| entry.mark));
        }
        let mut follow = Self {
            files,
            path,
            path_hash,
            settings,
            queue,
            read: VecDeque::new(),
            is_fresh: !is_same,
            is_unsteady: false,
            directories: Vec::new(),
            trouble: None,
            scratch: Vec::new(),
        };
        read.into_iter().for_each(|mark| follow.remember(mark));
        follow.look(now, notices);
        Ok(follow)
    }

    /// Where it goes on. To be committed before anything is given if no position was: then a file that is
    /// rotated before the first line is consumed is found again.
    pub fn position(&mut self) -> Position {
        let (chunk, cursor, offset) = (Arc::from([]), 0, 0);
        // No file has that number: the journey stays as it is.
        Position::log(LogPosition::new(self.journey(), usize::MAX, (chunk, cursor, offset)))
    }

    /// Directories in which a change matters.
    #[must_use]
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// The open files.
    pub fn open_files(&self) -> impl Iterator<Item = (FileId, &F::File)> {
        self.queue.iter().filter_map(|entry| {
            let reader = entry.reader.as_ref()?;
            Some((reader.id(), reader.file()))
        })
    }

    /// Bytes that were seen and not given yet.
    #[must_use]
    pub fn lag_bytes(&self) -> u64 {
        let readers = self.queue.iter().filter_map(|entry| entry.reader.as_ref());
        readers.map(reader::Reader::unread).fold(0, u64::saturating_add)
    }

    /// Why it cannot be read at the moment.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.reason.as_str())
    }

    /// Opens what has come under the name. To be called when something may have changed, also while nobody
    /// wants lines: a file that is open can't be lost.
    pub fn look(&mut self, now: Duration, notices: &mut Notices) {
        match self.survey(now, notices) {
            Ok(()) => self.is_well(notices),
            Err(error) => self.is_in_trouble(now, &error, notices),
        }
    }

    /// Moves what there is to the batch. Returns after what time it has to be called again even if nothing
    /// changes, if there is such a time.
    pub fn fill(
        &mut self,
        now: Duration,
        batch: &mut Batch,
        notices: &mut Notices,
    ) -> Option<Duration> {
        self.look(now, notices);
        match self.read_all(now, batch, notices) {
            Ok(true) => return None,
            Ok(false) => {}
            Err(error) => self.is_in_trouble(now, &error, notices),
        }
        self.next_look(now)
    }

    /// Whether the batch is full.
    fn read_all(
        &mut self,
        now: Duration,
        batch: &mut Batch,
        notices: &mut Notices,
    ) -> io::Result<bool> {
        let mut failed = Ok(false);
        let mut index = 0;
        while index < self.queue.len() {
            match self.read_one(index, now, batch, notices) {
                Ok(Step::Full) => return Ok(true),
                Ok(Step::Next) => index += 1,
                Ok(Step::Over) => {
                    if let Some(entry) = self.queue.remove(index) {
                        self.remember(entry.mark);
                    }
                }
                // What lies in front of it now is the rest of its old content.
                Ok(Step::Again) => {}
                // The others are read all the same.
                Err(error) => {
                    failed = Err(error);
                    index += 1;
                }
            }
        }
        failed
    }

    fn read_one(
        &mut self,
        index: usize,
        now: Duration,
        batch: &mut Batch,
        notices: &mut Notices,
    ) -> io::Result<Step> {
        self.pass_copied(index)?;
        loop {
            if self.take_lines(index, now, batch, notices)? {
                return Ok(Step::Full);
            }
            let Some(reader) = self.queue.get_mut(index).and_then(|entry| entry.reader.as_mut())
            else {
                return Ok(Step::Next);
            };
            match reader.read(&mut self.scratch)? {
                Found::Lines => self.pass_former(index)?,
                Found::End => break,
                Found::Rewritten => {
                    let is_settled = self.rewritten(index, now, notices)?;
                    return Ok(if is_settled { Step::Again } else { Step::Next });
                }
            }
        }
        if !self.is_over(index, now) {
            return Ok(Step::Next);
        }
        if !self.take_rest(index, batch, notices)? {
            return Ok(Step::Full);
        }
        Ok(Step::Over)
    }

    /// Moves lines from a file's chunk to the batch; true if it stopped because the batch is full.
    fn take_lines(
        &mut self,
        index: usize,
        now: Duration,
        batch: &mut Batch,
        notices: &mut Notices,
    ) -> io::Result<bool> {
        let mut journey = None;
        loop {
            let Some(entry) = self.queue.get_mut(index) else { return Ok(false) };
            let Some(reader) = &mut entry.reader else { return Ok(false) };
            let Some(line) = reader.next() else { return Ok(false) };
            if !batch.has_room(line.length) {
                return Ok(true);
            }
            if journey.is_none() {
                reader.grow_head()?;
                journey = Some(self.journey());
                continue;
            }
            if line.begins && !line.ends {
                notices.push(Notice::LineTooLong { offset_bytes: reader.offset() });
            }
            let payload = reader.take(line).to_vec();
            entry.grew_at = now;
            if let Some(journey) = &journey {
                let position = LogPosition::new(journey.clone(), index, reader.place());
                batch.push(Part::of(line.begins, line.ends), payload, Position::log(position));
            }
        }
    }

    /// The file will not grow: takes what is left of an unfinished line. False if the batch is full.
    fn take_rest(
        &mut self,
        index: usize,
        batch: &mut Batch,
        notices: &mut Notices,
    ) -> io::Result<bool> {
        let Some(reader) = self.queue.get_mut(index).and_then(|entry| entry.reader.as_mut()) else {
            return Ok(true);
        };
        if let Some(rest) = reader.rest() {
            if !batch.has_room(rest.length) {
                return Ok(false);
            }
            reader.grow_head()?;
            notices.push(Notice::LineUnfinished { length_bytes: rest.length as u64 });
            let payload = reader.take(rest).to_vec();
            let place = reader.place();
            let position = Position::log(LogPosition::new(self.journey(), index, place));
            // Nothing follows in this file.
            batch.push(Part::of(rest.begins, true), payload, position);
        }
        if let Some(entry) = self.queue.get_mut(index) {
            entry.refresh();
        }
        Ok(true)
    }

    /// Whether a file was left behind, read to its end, and idle for long enough.
    fn is_over(&self, index: usize, now: Duration) -> bool {
        let Some(entry) = self.queue.get(index) else { return false };
        let Some(reader) = &entry.reader else { return false };
        let Some(left_at) = entry.left_at else { return false };
        let idle_since = left_at.max(entry.grew_at);
        let wait = match planted::is(Plant::NoRotateWait) {
            true => Duration::ZERO,
            false => self.settings.rotate_wait,
        };
        reader.is_at_end() && now.saturating_sub(idle_since) >= wait
    }

    /// When it has to be looked again without a change.
    fn next_look(&self, now: Duration) -> Option<Duration> {
        let left = self.queue.iter().filter(|entry| entry.reader.is_some()).filter_map(|entry| {
            let idle_since = entry.left_at?.max(entry.grew_at);
            Some(idle_since + self.settings.rotate_wait)
        });
        let retry = self.trouble.as_ref().map(|trouble| trouble.retry_at);
        let unsteady = self.is_unsettled().then_some(now + UNSTEADY);
        left.chain(retry).chain(unsteady).min().map(|at| at.saturating_sub(now))
    }

    fn journey(&mut self) -> Arc<Journey> {
        // A copy of which nobody knows yet how much was read is looked at anew after a restart. It stands
        // behind whatever is read at the moment.
        let known = self.queue.iter_mut().filter(|entry| entry.copy.is_none());
        let queue = known.map(|entry| {
            entry.refresh();
            entry.mark
        });
        Arc::new(Journey {
            path: Some(self.path_hash),
            queue: queue.collect(),
            read: self.read.iter().copied().collect(),
        })
    }

    /// Keeps in mind what was read to its end.
    fn remember(&mut self, mark: Mark) {
        if planted::is(Plant::NothingRemembered) {
            return;
        }
        if mark.id != FileId::NONE {
            self.read.retain(|known| known.id != mark.id);
        }
        if self.read.len() == READ_MAX {
            self.read.pop_front();
        }
        self.read.push_back(mark);
    }

    fn is_well(&mut self, notices: &mut Notices) {
        if self.trouble.take().is_some_and(|trouble| trouble.told.is_some()) {
            notices.push(Notice::Readable);
        }
    }

    fn is_in_trouble(&mut self, now: Duration, error: &io::Error, notices: &mut Notices) {
        let reason = format!("cannot read {}: {error}", self.path.display());
        // What is only away between a rename and what follows is no trouble yet.
        let is_short = error.kind() == io::ErrorKind::NotFound && !self.queue.is_empty();
        let patience = if is_short { self.settings.rotate_wait } else { Duration::ZERO };
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            reason: String::new(),
            told: None,
            since: now,
            retry_at: now,
            wait: RETRY_FIRST / 2,
        });
        if now >= trouble.retry_at {
            trouble.wait = (trouble.wait * 2).min(RETRY_MAX);
            trouble.retry_at = now + trouble.wait;
        }
        trouble.reason = reason;
        let is_told = trouble.told.as_ref() == Some(&trouble.reason);
        if !is_told && now.saturating_sub(trouble.since) >= patience {
            trouble.told = Some(trouble.reason.clone());
            notices.push(Notice::Unreadable { reason: trouble.reason.clone() });
        }
    }
}

enum Step {
    /// There is no room for more.
    Full,
    /// To be read on later.
    Next,
    /// Read to its end, for good.
    Over,
    /// Something stands in front of it that comes first.
    Again,
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
