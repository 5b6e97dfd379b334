//! Appending to a log: batches, the bound, and a disk that is full.
//!
//! State: `buffer` holds whole lines only, `buffered_lines` of them. `torn` is set while the file
//! may end in half a line. `dropped_lines` counts what the file has not been told of yet.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use duende_core::wire::link::LogLevel;
use rustix::fs::{FlockOperation, flock};

use super::{LogOrigin, encode_entry, old_log_path};

/// Size at which a log is rotated, in bytes. A log takes twice this on the disk.
pub const LOG_BYTES_MAX: u64 = 16 << 20;

/// A buffer of this many bytes is written without waiting for the end of the batch.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// Who may read a log: its owner and the group. Daemons print secrets.
const LOG_MODE: u32 = 0o640;

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
    torn: bool,
    dropped_lines: u64,
    unreported_lines: u64,
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
            torn: false,
            dropped_lines: 0,
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
        if self.buffer.is_empty() && self.dropped_lines == 0 {
            return;
        }
        let written_lines = self.write_batch();
        let lost = self.buffered_lines.saturating_sub(written_lines);
        self.dropped_lines = self.dropped_lines.saturating_add(lost);
        self.unreported_lines = self.unreported_lines.saturating_add(lost);
        self.buffered_lines = 0;
        if self.buffer.capacity() > BUFFER_BYTES_MAX {
            // A thousand chatty daemons must not hold a thousand large buffers.
            self.buffer = Vec::new();
        } else {
            self.buffer.clear();
        }
    }

    /// Whether lines were dropped that the log does not mention yet. The owner calls
    /// [`flush`](Self::flush) again from time to time, so that it does once there is room.
    #[must_use]
    pub const fn is_dropping(&self) -> bool {
        self.dropped_lines > 0
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
        let (written, whole) = write_some(&mut open.file, &notice);
        if !whole {
            self.torn |= written > 0;
            return 0;
        }
        if !notice.is_empty() {
            self.torn = false;
            self.dropped_lines = 0;
        }
        let (written, _) = write_some(&mut open.file, &self.buffer);
        self.file = Some(open);
        let written = self.buffer.get(..written).unwrap_or_default();
        self.torn = written.last().is_some_and(|last| *last != b'\n');
        written.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// What goes before the batch: the end of a line that a full disk cut, and the count of lines
    /// that are missing.
    fn notice(&self) -> Vec<u8> {
        let mut notice = Vec::new();
        if self.torn {
            notice.push(b'\n');
        }
        if self.dropped_lines > 0 {
            let lines = self.dropped_lines;
            let plural = if lines == 1 { "line was" } else { "lines were" };
            let text = format!("{lines} {plural} dropped here: the log could not be written");
            encode_entry(
                &mut notice,
                SystemTime::now(),
                LogLevel::Warn,
                LogOrigin::Duende,
                text.as_bytes(),
                false,
            );
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
            self.torn = false;
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
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(LOG_MODE).open(path)?;
        let metadata = file.metadata()?;
        Ok(Self { file, device: metadata.dev(), inode: metadata.ino() })
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
    fn a_missing_directory_costs_lines_and_they_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs").join("web.log");
        let mut log = LogWriter::new(&path);
        say(&mut log, "lost");
        say(&mut log, "lost too");
        log.flush();
        assert!(log.is_dropping());
        assert_eq!(log.take_dropped_lines(), 2);
        assert_eq!(log.take_dropped_lines(), 0);
        std::fs::create_dir(directory.path().join("logs")).unwrap();
        log.flush();
        assert!(!log.is_dropping());
        assert_eq!(texts(&path), ["2 lines were dropped here: the log could not be written"]);
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
        assert_eq!(
            last,
            [
                format!("{lost} lines were dropped here: the log could not be written"),
                "room again".to_owned()
            ]
        );
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
