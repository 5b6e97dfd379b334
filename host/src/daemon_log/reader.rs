//! Reading a log: its last lines, and what is added from there on.
//!
//! A line counts once its line feed is there: half a line is left for the next poll. A follower
//! holds the file open, so after a rotation it first reads the old file to its end. Of what was rotated
//! away twice meanwhile it can only say that it is missing ([`LogFollower::take_gap`]).

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::old_log_path;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Most bytes that one poll reads; what is left comes with the next one.
const POLL_BYTES_MAX: usize = 1 << 20;

/// The last `count` lines of the log at `path`, oldest first, from before the last rotation too.
/// A log that does not exist yet has no lines.
///
/// # Errors
/// When the file is there and can't be read.
pub fn tail_last(path: &Path, count: usize) -> io::Result<Vec<String>> {
    LogFollower::open(path, count).map(|(lines, _)| lines)
}

/// Reads what is added to a log.
#[derive(Debug)]
pub struct LogFollower {
    path: PathBuf,
    file: Option<File>,
    /// The bytes after the last line feed.
    partial: Vec<u8>,
    /// The log was rotated more than once since it was looked at.
    gap: bool,
}

impl LogFollower {
    /// The last `count` lines, and a follower that goes on behind them.
    ///
    /// # Errors
    /// When the file is there and can't be read.
    pub fn open(path: &Path, count: usize) -> io::Result<(Vec<String>, Self)> {
        let file = open(path)?;
        let mut follower =
            Self { path: path.to_owned(), file: None, partial: Vec::new(), gap: false };
        let mut lines = match file {
            Some(mut file) => {
                let (lines, end) = last_lines(&mut file, count)?;
                file.seek(SeekFrom::Start(end))?;
                follower.file = Some(file);
                lines
            }
            None => Vec::new(),
        };
        if let missing @ 1.. = count.saturating_sub(lines.len())
            && let Some(mut old) = open(&old_log_path(path))?
        {
            let (mut older, _) = last_lines(&mut old, missing)?;
            older.append(&mut lines);
            lines = older;
        }
        Ok((lines, follower))
    }

    /// The lines that were added since the last call, at most a megabyte of them; none when there
    /// is nothing new. Call it again at once while it gives some, and after a while when not.
    ///
    /// # Errors
    /// When the file is there and can't be read.
    pub fn poll_lines(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        let mut budget_bytes = POLL_BYTES_MAX;
        loop {
            // Looked up before reading to the end: if it is another file, nobody adds to ours
            // after that, apart from a writer in the middle of a batch.
            let current = open(&self.path)?;
            let Some(file) = &mut self.file else {
                match current {
                    Some(current) => self.file = Some(current),
                    None => return Ok(lines),
                }
                continue;
            };
            if !read_lines(file, &mut self.partial, &mut lines, &mut budget_bytes)? {
                return Ok(lines);
            }
            match current {
                Some(current) if !same_file(file, &current)? => {
                    // Ours was put aside. If it lies there no more, another one did, and is gone, or is
                    // what lies there now.
                    let aside = open(&old_log_path(&self.path))?;
                    let between = match aside {
                        Some(aside) if same_file(file, &aside)? => None,
                        aside => {
                            self.gap = true;
                            aside
                        }
                    };
                    // The rest of a torn line never comes.
                    self.partial.clear();
                    self.file = Some(between.unwrap_or(current));
                    if self.gap {
                        // Who reads hears of it before what comes after it.
                        return Ok(lines);
                    }
                }
                _ => return Ok(lines),
            }
        }
    }

    /// Whether lines are missing between those that were read and those that come: the log is rotated
    /// faster than it is read. Says it once.
    pub fn take_gap(&mut self) -> bool {
        std::mem::take(&mut self.gap)
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn same_file(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Reads whole lines; false when the budget ran out before the end of the file.
fn read_lines(
    file: &mut File,
    partial: &mut Vec<u8>,
    lines: &mut Vec<String>,
    budget_bytes: &mut usize,
) -> io::Result<bool> {
    let mut chunk = vec![0; CHUNK_BYTES];
    while *budget_bytes > 0 {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(true);
        }
        *budget_bytes = budget_bytes.saturating_sub(read);
        let bytes = chunk.get(..read).unwrap_or_default();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    partial.extend_from_slice(end);
                    lines.push(String::from_utf8_lossy(partial).into_owned());
                    partial.clear();
                }
                None => partial.extend_from_slice(piece),
            }
        }
    }
    Ok(false)
}

/// The last `count` whole lines, read from the end backwards, and the offset behind them.
fn last_lines(file: &mut File, count: usize) -> io::Result<(Vec<String>, u64)> {
    let size = file.metadata()?.len();
    let mut start = size;
    let mut bytes: Vec<u8> = Vec::new();
    let mut line_feeds = 0_usize;
    // One line feed more than lines: the one before the first of them. At least one, to find where
    // the last whole line ends.
    while start > 0 && line_feeds <= count {
        let step = start.min(CHUNK_BYTES as u64);
        start -= step;
        file.seek(SeekFrom::Start(start))?;
        let mut chunk = Vec::new();
        file.by_ref().take(step).read_to_end(&mut chunk)?;
        line_feeds += chunk.iter().filter(|byte| **byte == b'\n').count();
        chunk.append(&mut bytes);
        bytes = chunk;
    }
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let end = start + whole as u64;
    let text = String::from_utf8_lossy(bytes.get(..whole).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    let first = lines.len().saturating_sub(count);
    let lines = lines.into_iter().skip(first).map(str::to_owned).collect();
    Ok((lines, end))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use super::*;

    fn add(path: &Path, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_last_lines_come_from_both_files_and_end_at_a_line_feed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        assert_eq!(tail_last(&path, 3).unwrap(), Vec::<String>::new());
        add(&old_log_path(&path), "1\n2\n3\n");
        add(&path, "4\n5\nhal");
        for (count, expected) in
            [(0, &[][..]), (1, &["5"]), (3, &["3", "4", "5"]), (9, &["1", "2", "3", "4", "5"])]
        {
            assert_eq!(tail_last(&path, count).unwrap(), expected, "{count}");
        }
    }

    #[test]
    fn the_last_lines_of_a_large_file_cross_chunks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        let all: Vec<_> = (0..5_000).map(|n| format!("{n:0>40}")).collect();
        add(&path, &(all.join("\n") + "\n"));
        assert_eq!(tail_last(&path, 3_000).unwrap(), all[2_000..]);
    }

    #[test]
    fn what_was_rotated_away_is_said_to_be_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        add(&path, "1\n");
        let (_, mut follower) = LogFollower::open(&path, 10).unwrap();
        for line in ["2\n", "3\n", "4\n"] {
            std::fs::rename(&path, old_log_path(&path)).unwrap();
            add(&path, line);
        }
        assert_eq!(follower.poll_lines().unwrap(), Vec::<String>::new());
        assert!(follower.take_gap());
        assert!(!follower.take_gap());
        assert_eq!(follower.poll_lines().unwrap(), ["3", "4"]);
        assert!(!follower.take_gap());
    }

    #[test]
    fn a_follower_misses_nothing_through_a_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        let (lines, mut follower) = LogFollower::open(&path, 10).unwrap();
        assert!(lines.is_empty());
        assert!(follower.poll_lines().unwrap().is_empty());
        add(&path, "1\n2\nha");
        assert_eq!(follower.poll_lines().unwrap(), ["1", "2"]);
        assert!(follower.poll_lines().unwrap().is_empty());
        add(&path, "lf\n3\n");
        std::fs::rename(&path, old_log_path(&path)).unwrap();
        add(&path, "4\n");
        assert_eq!(follower.poll_lines().unwrap(), ["half", "3", "4"]);
        add(&path, "5\n");
        assert_eq!(follower.poll_lines().unwrap(), ["5"]);
    }

    #[test]
    fn a_follower_goes_on_where_the_last_lines_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        add(&path, "1\n2\npart");
        let (lines, mut follower) = LogFollower::open(&path, 1).unwrap();
        assert_eq!(lines, ["2"]);
        add(&path, "ial\n");
        assert_eq!(follower.poll_lines().unwrap(), ["partial"]);
    }

    #[test]
    fn a_poll_is_bounded_and_the_next_one_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        let (_, mut follower) = LogFollower::open(&path, 0).unwrap();
        let line = "x".repeat(999);
        add(&path, &format!("{line}\n").repeat(3_000));
        let mut polls = 0;
        let mut seen = 0;
        loop {
            let lines = follower.poll_lines().unwrap();
            if lines.is_empty() {
                break;
            }
            assert!(lines.iter().all(|found| *found == line));
            seen += lines.len();
            polls += 1;
        }
        assert_eq!((seen, polls), (3_000, 3));
    }
}
