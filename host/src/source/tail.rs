//! Follows a file by its name, through rotation, truncation and restarts.
//!
//! Rules:
//! 1. A file that was renamed is read to its end, and for [`LINGER_MS`] more, because its writer may
//!    not have reopened yet; then its successor is read.
//! 2. The successor is the oldest rotated file that is newer than the one that was read (several
//!    rotations may have happened unseen), else the file that has the name now. Rotated files are
//!    those in the same directory whose name goes on with a number or a date: `.1`, `-20261121`. They
//!    are ordered by the time of their last change, then by falling number. Others, compressed ones
//!    among them, are never read.
//! 3. A committed position names a file by device and inode, so that it is found under another name;
//!    the fingerprint before the place tells a reused inode and a file that was written anew. Only
//!    the fingerprint counts if the device has another number since a reboot.
//! 4. What is read is decided in [`Tail::look`], from the files and the given time alone.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::lines::{Found, LineFile};
use super::position::{FileId, Position};
use super::watch::Watch;
use super::{Batch, Notice, Notices, SourceError, StartAt};

/// How long a rotated file is read on after its successor was seen, in milliseconds.
const LINGER_MS: u64 = 1_000;

/// A followed file with what wakes its reader.
#[derive(Debug)]
pub(super) struct Follower {
    tail: Tail,
    watch: Watch,
    /// The file that the watch is on.
    watched: Option<FileId>,
}

impl Follower {
    pub(super) fn open(
        path: PathBuf,
        position: Option<&[u8]>,
        start_at: StartAt,
        notices: &mut Notices,
    ) -> Result<Self, SourceError> {
        let tail = Tail::open(path, position, start_at, Duration::from_millis(LINGER_MS), notices)?;
        let (watch, polling) = Watch::new(&tail.directory);
        if let Some(reason) = polling {
            notices.push(Notice::Polling { reason });
        }
        Ok(Self { tail, watch, watched: None })
    }

    /// Where it is read from next; none while there is no file.
    pub(super) fn position(&self) -> Option<Position> {
        self.tail.file.as_ref().map(LineFile::position)
    }

    /// The reads block the thread: they are short, and mostly from the page cache.
    pub(super) async fn fill(
        &mut self,
        batch: &mut Batch,
        notices: &mut Notices,
    ) -> Result<(), SourceError> {
        let known = notices.count();
        loop {
            let linger = match self.tail.look(Instant::now(), batch, notices) {
                Ok(linger) => linger,
                Err(error) if batch.items.is_empty() => return Err(error),
                // What was read comes first; the next call meets the error again.
                Err(_) => return Ok(()),
            };
            let current = self.tail.file.as_ref();
            let unwatched = current.filter(|file| self.watched != Some(file.id()));
            let look_again = unwatched.is_some();
            if let Some(file) = unwatched {
                if let Some(reason) = self.watch.watch_file(file.file()) {
                    notices.push(Notice::Polling { reason });
                }
                self.watched = Some(file.id());
            }
            if !batch.items.is_empty() || notices.count() > known {
                return Ok(());
            }
            // A file that is watched from now on may have grown since it was read.
            if !look_again {
                self.watch.changed(linger).await;
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    directory: PathBuf,
    name: OsString,
    /// The file that is read. None until there is one.
    file: Option<LineFile>,
    linger: Duration,
    /// When it was seen that another file has the name.
    superseded_at: Option<Instant>,
}

impl Tail {
    pub(super) fn open(
        path: PathBuf,
        position: Option<&[u8]>,
        start_at: StartAt,
        linger: Duration,
        notices: &mut Notices,
    ) -> Result<Self, SourceError> {
        let name = path
            .file_name()
            .ok_or_else(|| SourceError::NotAFile { path: path.clone() })?
            .to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.unwrap_or(Path::new(".")).to_owned();
        let mut tail = Self { path, directory, name, file: None, linger, superseded_at: None };
        let Some(position) = position else {
            tail.file = LineFile::open(&tail.path)?;
            if start_at == StartAt::End
                && let Some(file) = &mut tail.file
            {
                file.skip_to_end().map_err(|source| tail.error(source))?;
            }
            return Ok(tail);
        };
        let position = Position::decode(position)
            .ok_or_else(|| SourceError::Position { path: tail.path.clone() })?;
        tail.file = tail.resume(&position, notices)?;
        Ok(tail)
    }

    /// The file of a committed position, at that position; or else what comes closest to it.
    fn resume(
        &self,
        position: &Position,
        notices: &mut Notices,
    ) -> Result<Option<LineFile>, SourceError> {
        let named = LineFile::open(&self.path)?;
        let mut candidates = vec![self.path.clone()];
        for entry in self.entries()? {
            let entry = entry.map_err(|source| self.error(source))?;
            if entry.ino() == position.file.inode && entry.file_name() != self.name {
                candidates.push(entry.path());
            }
        }
        let offset_bytes = position.offset;
        let mut rewritten = None;
        for path in candidates {
            // Whatever else has this inode number cannot be the file.
            let Ok(Some(mut file)) = LineFile::open(&path) else {
                continue;
            };
            if file.id().inode != position.file.inode {
                continue;
            }
            if file.resume(position).map_err(|source| self.error(source))? {
                return Ok(Some(file));
            }
            // The same file with a new content, or a newer file with the same inode: all new.
            if file.id() == position.file
                && (path == self.path || self.rotation_of(&path).is_some())
            {
                rewritten = Some(file);
            }
        }
        if rewritten.is_some() {
            notices.push(Notice::Truncated { offset_bytes });
            return Ok(rewritten);
        }
        notices.push(Notice::Gap { offset_bytes });
        Ok(named)
    }

    /// Moves what there is to the batch. Returns after what time it has to be called again even if
    /// nothing changes, if there is such a time.
    pub(super) fn look(
        &mut self,
        now: Instant,
        batch: &mut Batch,
        notices: &mut Notices,
    ) -> Result<Option<Duration>, SourceError> {
        loop {
            let file = match &mut self.file {
                Some(file) => file,
                None => match LineFile::open(&self.path)? {
                    Some(file) => self.file.insert(file),
                    None => return Ok(None),
                },
            };
            if file.take_lines(batch, notices) {
                return Ok(None);
            }
            let offset_bytes = file.offset();
            let found = file
                .read()
                .map_err(|source| SourceError::Io { path: self.path.clone(), source })?;
            match found {
                Found::Lines => continue,
                Found::Truncated => {
                    notices.push(Notice::Truncated { offset_bytes });
                    continue;
                }
                Found::End => {}
            }
            let current = file.id();
            let named = metadata(&self.path).map_err(|source| self.error(source))?;
            let Some(named) = named.filter(|named| FileId::of(named) != current) else {
                self.superseded_at = None;
                return Ok(None);
            };
            let Some(superseded_at) = self.superseded_at else {
                // What was written before the other file came is read first.
                self.superseded_at = Some(now);
                continue;
            };
            let rotated = self.rotated_after(current, FileId::of(&named))?;
            if rotated.is_none() {
                // Only the last rotation can be so recent that the writer has not reopened yet.
                let left = self.linger.saturating_sub(now.saturating_duration_since(superseded_at));
                if !left.is_zero() {
                    return Ok(Some(left));
                }
            }
            let next = rotated.unwrap_or_else(|| self.path.clone());
            let Some(next) = LineFile::open(&next)? else {
                return Ok(None);
            };
            if let Some(file) = &mut self.file
                && !file.take_rest(batch, notices)
            {
                return Ok(None);
            }
            notices.push(Notice::Rotated);
            self.file = Some(next);
            self.superseded_at = None;
        }
    }

    /// The oldest rotated file that is newer than the current one.
    fn rotated_after(
        &self,
        current: FileId,
        named: FileId,
    ) -> Result<Option<PathBuf>, SourceError> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let changed = file.metadata().map_err(|source| self.error(source))?;
        // If it was deleted: the newest of those that changed at the same time.
        let mut current_age =
            Age { changed: changed_at(&changed), number: Reverse(0), path: PathBuf::new() };
        let mut others = Vec::new();
        for entry in self.entries()? {
            let path = entry.map_err(|source| self.error(source))?.path();
            let Some(number) = self.rotation_of(&path) else {
                continue;
            };
            // It may have gone since it was listed.
            let Some(metadata) = metadata(&path).map_err(|source| self.error(source))? else {
                continue;
            };
            let age = Age { changed: changed_at(&metadata), number: Reverse(number), path };
            if FileId::of(&metadata) == current {
                current_age = age;
            } else if metadata.is_file() && FileId::of(&metadata) != named {
                others.push(age);
            }
        }
        Ok(others.into_iter().filter(|other| *other > current_age).min().map(|next| next.path))
    }

    /// The number of a rotated file, 0 if it has a date; none if it is not one.
    fn rotation_of(&self, path: &Path) -> Option<u32> {
        /// Longer numbers are dates.
        const DIGITS_MAX: usize = 4;
        let suffix = path.file_name()?.as_bytes().strip_prefix(self.name.as_bytes())?;
        let (separator, rest) = suffix.split_first()?;
        let digits = rest.first().is_some_and(u8::is_ascii_digit);
        let dated = rest.iter().all(|byte| byte.is_ascii_digit() || b"-._T:".contains(byte));
        if !(matches!(separator, b'.' | b'-') && digits && dated) {
            return None;
        }
        let number = std::str::from_utf8(rest).ok().filter(|rest| rest.len() <= DIGITS_MAX);
        Some(number.and_then(|number| number.parse().ok()).unwrap_or(0))
    }

    /// What lies in the directory; nothing if there is no directory.
    fn entries(&self) -> Result<impl Iterator<Item = io::Result<fs::DirEntry>>, SourceError> {
        match fs::read_dir(&self.directory) {
            Ok(entries) => Ok(Some(entries).into_iter().flatten()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
            Err(error) => Err(self.error(error)),
        }
    }

    fn error(&self, source: io::Error) -> SourceError {
        SourceError::Io { path: self.path.clone(), source }
    }
}

/// Orders rotated files, the oldest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    changed: (i64, i64),
    number: Reverse<u32>,
    path: PathBuf,
}

/// Seconds and nanoseconds.
fn changed_at(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
