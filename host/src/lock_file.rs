//! A lock that goes with its process, however that ends. Its file says who holds it, or held it last.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::own_file;

/// Longest text of the file that is read, in bytes.
const TEXT_BYTES_MAX: u64 = 8_192;

/// Held as long as this lives.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: File,
    before: String,
}

impl LockFile {
    /// Takes the lock; if another process has it, what that says of itself. Who took it a moment ago may
    /// not have said anything yet.
    ///
    /// # Errors
    /// The file can't be made or locked.
    pub(crate) fn take(path: &Path) -> io::Result<Result<Self, String>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = own_file::no_link(&mut options).open(path).map_err(own_file::said)?;
        let is_ours = match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => true,
            Err(Errno::WOULDBLOCK) => false,
            Err(error) => return Err(error.into()),
        };
        let mut text = String::new();
        // What can't be read is less to be told.
        let _ = (&mut file).take(TEXT_BYTES_MAX).read_to_string(&mut text);
        let text = text.trim().to_owned();
        Ok(if is_ours { Ok(Self { file, before: text }) } else { Err(text) })
    }

    /// What stood there when it was taken: of the last holder, if that did not [clear](Self::write) it.
    pub(crate) fn before(&self) -> &str {
        &self.before
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Says who holds it.
    ///
    /// # Errors
    /// The disk is full. The lock holds all the same.
    pub(crate) fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first_and_the_next_of_the_last() {
        let directory = tempfile::TempDir::new().unwrap();
        let take = || LockFile::take(&directory.path().join("lock")).unwrap();
        let mut first = take().unwrap();
        assert_eq!(first.before(), "");
        first.write("a long text\n").unwrap();
        for _ in 0..2 {
            assert_eq!(take().unwrap_err(), "a long text");
        }
        drop(first);
        let mut next = take().unwrap();
        assert_eq!(next.before(), "a long text");
        next.write("short\n").unwrap();
        assert_eq!(take().unwrap_err(), "short");
        next.write("").unwrap();
        drop(next);
        assert_eq!(take().unwrap().before(), "");
    }
}
