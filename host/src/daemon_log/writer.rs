//! Appending to a log: batches, the bound, and a disk that is full.
//!
//! State: `buffer` holds whole lines only, `buffered_lines` of them. `lost` is what the file has not
//! been told of yet.
//!
//! A disk that is full cuts lines. Whoever writes next looks how the file ends, whoever wrote that (a
//! writer before it, another process), and ends the piece with [`TORN_END`]: nobody takes it for the
//! line, and nothing is glued to it. The line that was cut is one of those that are counted as lost
//! (`tests::a_line_that_was_cut_is_lost_whoever_comes_next`). How many were lost, and between when, is
//! said in the log before the next line of this writer; so a writer lives as long as its slot, not as
//! long as what runs there.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use duende_core::wire::link::LogLevel;
use rustix::fs::{FlockOperation, flock};

use super::{LogOrigin, encode_entry, old_log_path};
use crate::own_file;

/// Size at which a log is rotated, in bytes. A log takes twice this on the disk.
pub const LOG_BYTES_MAX: u64 = 16 << 20;

/// A buffer of this many bytes is written without waiting for the end of the batch.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// Who may read a log that is made here: its owner. Daemons print secrets.
const LOG_MODE: u32 = 0o600;

/// Who may look into a log directory that is made here.
const DIRECTORY_MODE: u32 = 0o700;

/// What stands at the end of a line that was cut.
const TORN_END: &[u8] = b" [cut here: the log could not be written]\n";

/// Appends to one log.
///
/// The file is opened at the first flush that has something to write, so a silent daemon costs no
/// descriptor.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    old_path: PathBuf,
    bytes_max: u64,
    file: Option<OpenLog>,
    buffer: Vec<u8>,
    buffered_lines: u64,
    lost: Option<Lost>,
    unreported_lines: u64,
}

/// Lines that are missing in the file.
#[derive(Clone, Copy, Debug)]
struct Lost {
    lines: u64,
    first: SystemTime,
    last: SystemTime,
}

#[derive(Debug)]
struct OpenLog {
    file: File,
    device: u64,
    inode: u64,
}

impl LogWriter {
    /// A writer for the log at `path`. Nothing is touched yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self::with_bytes_max(path, LOG_BYTES_MAX)
    }

    /// As [`new`](Self::new), rotated at `bytes_max` bytes.
    #[must_use]
    pub fn with_bytes_max(path: &Path, bytes_max: u64) -> Self {
        Self {
            path: path.to_owned(),
            old_path: old_log_path(path),
            bytes_max,
            file: None,
            buffer: Vec::new(),
            buffered_lines: 0,
            lost: None,
            unreported_lines: 0,
        }
    }

    /// Adds one entry to the batch. `text` may hold any bytes; `continues` says that the next
    /// entry of this origin is the rest of it.
    pub fn append(
        &mut self,
        at: SystemTime,
        level: LogLevel,
        origin: LogOrigin,
        text: &[u8],
        continues: bool,
    ) {
        encode_entry(&mut self.buffer, at, level, origin, text, continues);
        self.buffered_lines = self.buffered_lines.saturating_add(1);
        if self.buffer.len() >= BUFFER_BYTES_MAX {
            self.flush();
        }
    }

    /// Writes the batch, and before it the count of lines that were dropped, if any were. Lines
    /// that can't be written are dropped and counted.
    pub fn flush(&mut self) {
        if self.buffer.is_empty() && self.lost.is_none() {
            return;
        }
        let written_lines = self.write_batch();
        let lost = self.buffered_lines.saturating_sub(written_lines);
        self.lose(lost);
        self.buffered_lines = 0;
        if self.buffer.capacity() > BUFFER_BYTES_MAX {
            // A thousand chatty daemons must not hold a thousand large buffers.
            self.buffer = Vec::new();
        } else {
            self.buffer.clear();
        }
    }

    /// Counts lines that did not come as far as the batch. The log says so with the next flush.
    pub fn lose(&mut self, lines: u64) {
        if lines > 0 {
            let now = SystemTime::now();
            let before = self.lost.unwrap_or(Lost { lines: 0, first: now, last: now });
            self.lost =
                Some(Lost { lines: before.lines.saturating_add(lines), last: now, ..before });
            self.unreported_lines = self.unreported_lines.saturating_add(lines);
        }
    }

    /// Whether lines were dropped that the log does not mention yet. The owner calls
    /// [`flush`](Self::flush) again from time to time, so that it does once there is room.
    #[must_use]
    pub const fn is_dropping(&self) -> bool {
        self.lost.is_some()
    }

    /// How many lines were dropped since this was asked last.
    pub const fn take_dropped_lines(&mut self) -> u64 {
        std::mem::replace(&mut self.unreported_lines, 0)
    }

    /// Writes what it can and returns how many lines of the buffer are in the file.
    fn write_batch(&mut self) -> u64 {
        let notice = self.notice();
        let incoming_bytes = notice.len().saturating_add(self.buffer.len());
        let Ok(mut open) = self.open_for(incoming_bytes as u64) else {
            return 0;
        };
        if open.ends_torn() && !write_some(&mut open.file, TORN_END).1 {
            return 0;
        }
        if !write_some(&mut open.file, &notice).1 {
            return 0;
        }
        self.lost = None;
        let (written, _) = write_some(&mut open.file, &self.buffer);
        self.file = Some(open);
        let written = self.buffer.get(..written).unwrap_or_default();
        written.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// What goes before the batch: the count of lines that are missing.
    fn notice(&self) -> Vec<u8> {
        let mut notice = Vec::new();
        if let Some(Lost { lines, first, last }) = self.lost {
            let plural = if lines == 1 { "line was" } else { "lines were" };
            let [first, last] = [first, last].map(crate::clock::rfc3339_micros);
            let text = format!(
                "{lines} {plural} lost here, from {first} to {last}: the log could not be written"
            );
            let (now, level) = (SystemTime::now(), LogLevel::Warn);
            encode_entry(&mut notice, now, level, LogOrigin::Duende, text.as_bytes(), false);
        }
        notice
    }

    /// The file to append to, after rotation if `incoming_bytes` would pass the bound. Another
    /// process may have rotated or removed the file since the last batch, so the path is looked at
    /// each time.
    fn open_for(&mut self, incoming_bytes: u64) -> io::Result<OpenLog> {
        let found = self.path.metadata().ok();
        let size = found.as_ref().map_or(0, std::fs::Metadata::len);
        let open = match (self.file.take(), found) {
            (Some(open), Some(found)) if open.is(&found) => open,
            _ => OpenLog::open(&self.path)?,
        };
        if size == 0 || size.saturating_add(incoming_bytes) <= self.bytes_max {
            return Ok(open);
        }
        // Whoever holds the lock rotates. Without it the batch goes to the file as it is: waiting
        // for another process is no option here.
        if flock(&open.file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(open);
        }
        if self.path.metadata().is_ok_and(|found| open.is(&found)) {
            std::fs::rename(&self.path, &self.old_path)?;
        }
        OpenLog::open(&self.path)
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.flush();
    }
}

impl OpenLog {
    /// Opens the log; makes it, and its directory, if they are not there.
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        own_file::no_link(options.read(true).append(true).mode(LOG_MODE));
        let file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::make(path, &mut options)?
            }
            opened => opened.map_err(own_file::said)?,
        };
        let metadata = file.metadata()?;
        Ok(Self { file, device: metadata.dev(), inode: metadata.ino() })
    }

    fn make(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
        let mut made = options.create(true).open(path);
        if made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            && let Some(directory) = path.parent()
        {
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
            made = options.open(path);
        }
        let file = made.map_err(own_file::said)?;
        // A mask that hides it from its owner is not meant.
        file.set_permissions(Permissions::from_mode(LOG_MODE))?;
        Ok(file)
    }

    /// Whether it ends in half a line. It is looked at for each batch: who else writes there may have
    /// met a full disk.
    fn ends_torn(&self) -> bool {
        let Ok(Some(end)) = self.file.metadata().map(|found| found.len().checked_sub(1)) else {
            return false;
        };
        let mut last = [b'\n'];
        // What can't be read can't be known; what follows stands on its own line at worst.
        self.file.read_exact_at(&mut last, end).is_ok() && last != [b'\n']
    }

    fn is(&self, found: &std::fs::Metadata) -> bool {
        (self.device, self.inode) == (found.dev(), found.ino())
    }
}

/// Writes until an error; how many bytes were written, and whether it was all of them.
fn write_some(file: &mut File, bytes: &[u8]) -> (usize, bool) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (written, false),
            Ok(count) => written = written.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return (written, false),
        }
    }
    (written, true)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::{LogEntry, tail_last};
    use super::*;

    fn say(log: &mut LogWriter, text: &str) {
        log.append(SystemTime::now(), LogLevel::Info, LogOrigin::Stdout, text.as_bytes(), false);
    }

    fn texts(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| LogEntry::parse(line).unwrap().text)
            .collect()
    }

    #[test]
    fn nothing_is_opened_before_there_is_something_to_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("quiet.log");
        drop(LogWriter::new(&path));
        assert!(!path.exists());
    }

    #[test]
    fn two_writers_rotate_one_log_without_losing_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        let bytes_max = 4_000;
        let mut writers = [
            LogWriter::with_bytes_max(&path, bytes_max),
            LogWriter::with_bytes_max(&path, bytes_max),
        ];
        // 60 bytes a line: the bound is reached once, so all lines are in the two files.
        for number in 0..100 {
            let log = &mut writers[number % 2];
            say(log, &format!("line number {number:06}"));
            log.flush();
        }
        let old = old_log_path(&path);
        for file in [&path, &old] {
            assert!(file.metadata().unwrap().len() <= bytes_max, "{file:?}");
        }
        let mut seen = texts(&old);
        seen.extend(texts(&path));
        let all: Vec<_> = (0..100).map(|n| format!("line number {n:06}")).collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn a_log_that_was_removed_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        let mut log = LogWriter::new(&path);
        say(&mut log, "before");
        log.flush();
        std::fs::remove_file(&path).unwrap();
        say(&mut log, "after");
        log.flush();
        assert_eq!(texts(&path), ["after"]);
    }

    #[test]
    fn a_log_is_its_owners_and_so_is_a_directory_that_is_made_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs").join("edge").join("web.log");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let mut log = LogWriter::new(&path);
        for text in ["before", "after"] {
            say(&mut log, text);
            log.flush();
            assert_eq!(texts(&path), [text]);
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
            // What somebody wanted otherwise stays so, as long as the file does.
            std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
            log.flush();
            assert_eq!(mode(&path), 0o640);
            std::fs::remove_dir_all(directory.path().join("logs")).unwrap();
        }
        assert_eq!(log.take_dropped_lines(), 0);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_said_later() {
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path().join("logs");
        let path = logs.join("web.log");
        // A file stands where the directory should be.
        std::fs::write(&logs, "").unwrap();
        let mut log = LogWriter::new(&path);
        say(&mut log, "lost");
        say(&mut log, "lost too");
        log.flush();
        assert!(log.is_dropping());
        assert_eq!(log.take_dropped_lines(), 2);
        assert_eq!(log.take_dropped_lines(), 0);
        std::fs::remove_file(&logs).unwrap();
        log.flush();
        assert!(!log.is_dropping());
        let [said] = &texts(&path)[..] else { panic!() };
        let moments = said.strip_prefix("2 lines were lost here, from ").unwrap();
        let moments = moments.strip_suffix(": the log could not be written").unwrap();
        let (first, last) = moments.split_once(" to ").unwrap();
        assert!(
            humantime::parse_rfc3339(first).unwrap() <= humantime::parse_rfc3339(last).unwrap()
        );
    }

    #[test]
    fn a_line_that_was_cut_is_lost_whoever_comes_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        let mut log = LogWriter::new(&path);
        say(&mut log, "whole");
        say(&mut log, "this one is cut");
        log.flush();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        // Another writer, and the same one again, which do not know of it.
        for text in ["another", "one more"] {
            let mut next = LogWriter::new(&path);
            say(&mut next, text);
            next.flush();
        }
        say(&mut log, "the same");
        log.flush();
        let cut = "this one is [cut here: the log could not be written]";
        assert_eq!(texts(&path), ["whole", cut, "another", "one more", "the same"]);
    }

    /// A tiny filesystem that can be filled; unmounted when dropped.
    struct TinyDisk(tempfile::TempDir);

    impl TinyDisk {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=64k", "duende-test"])
                .arg(directory.path())
                .status()
                .unwrap();
            assert!(
                mounted.success(),
                "this test fills a tmpfs of its own: run it as root, or with CAP_SYS_ADMIN"
            );
            Self(directory)
        }
    }

    impl Drop for TinyDisk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
        }
    }

    #[test]
    fn a_full_disk_drops_whole_lines_counts_them_and_says_so_when_there_is_room() {
        let disk = TinyDisk::new();
        let path = disk.0.path().join("web.log");
        let ballast = disk.0.path().join("ballast");
        std::fs::write(&ballast, vec![0; 40 << 10]).unwrap();
        let mut log = LogWriter::new(&path);
        let said = 1_000;
        for number in 0..said {
            say(&mut log, &format!("{number} {}", "x".repeat(100)));
            log.flush();
        }
        let lost = log.take_dropped_lines();
        assert!(log.is_dropping());
        assert!(lost > 0);
        std::fs::remove_file(&ballast).unwrap();
        say(&mut log, "room again");
        log.flush();
        assert!(!log.is_dropping());

        let lines = tail_last(&path, 2).unwrap();
        let last: Vec<_> = lines.iter().map(|line| LogEntry::parse(line).unwrap().text).collect();
        assert!(last[0].starts_with(&format!("{lost} lines were lost here, from ")), "{last:?}");
        assert_eq!(last[1], "room again");
        // Every line that was not counted as dropped is there, whole; the cut one stands alone.
        let kept = std::fs::read_to_string(&path).unwrap();
        let whole = kept
            .lines()
            .filter_map(|line| LogEntry::parse(line).ok())
            .filter(|entry| entry.text.ends_with(&"x".repeat(100)))
            .count() as u64;
        assert_eq!(whole + lost, said);
    }
}
