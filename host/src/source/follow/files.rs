//! What the machine sees of a file system. The system's own is `super::super::system`; the model in
//! `tests/sources` is another.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use super::mark::FileId;

/// A file system, as far as following a log needs it. A name that nobody has is no error.
pub trait Files {
    /// An open file.
    type File: LogFile;

    /// Where a symbolic link of this name leads; none if it is anything else, or nothing.
    ///
    /// # Errors
    /// What the system says.
    fn read_link(&self, path: &Path) -> io::Result<Option<PathBuf>>;

    /// What has this name, links followed.
    ///
    /// # Errors
    /// What the system says.
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>>;

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::InvalidInput`] for what is not a regular file.
    fn open(&self, path: &Path) -> io::Result<Option<Self::File>>;

    /// The names in a directory, and the inode that each had. Nothing if there is no directory.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, directory: &Path) -> io::Result<Vec<Listed>>;
}

/// An open file. It stays readable when its name is gone. Clones are the same file.
pub trait LogFile: Clone {
    /// What is known of it.
    ///
    /// # Errors
    /// What the system says.
    fn stat(&self) -> io::Result<Stat>;

    /// Reads at a place, as much as there is or fits; 0 at the end. Interruptions are retried.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The name.
    pub name: OsString,
    /// The inode that has it.
    pub inode: u64,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Which file.
    pub id: FileId,
    /// Whether it is a regular file.
    pub is_file: bool,
    /// In bytes.
    pub size: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// How many names it has.
    pub links: u64,
}

/// Fills as much of the buffer as the file has.
pub(super) fn read_full(file: &impl LogFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64)? {
            0 => break,
            bytes => read += bytes,
        }
    }
    Ok(read)
}
