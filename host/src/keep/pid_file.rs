//! A file with the id of a daemon's main process, for programs that look for one.
//!
//! It is written to a file beside it and renamed, so nobody reads half a number. What is there already
//! is never believed: it is replaced if it could be a pid file, else the start fails; and it is
//! removed at the end only while it says what was written here
//! (`stop_tests::a_pid_file_says_who_runs_and_goes_with_it`). Of a `keep` that was killed, the manager
//! removes it, by the same rule ([`remove_pid_file`]).

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::config::not_a_pid_file;
use crate::own_file;

/// Everybody may read which process it is.
const MODE: u32 = 0o644;

/// A file that was written.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    pid: u32,
}

impl PidFile {
    /// Whether a file can be written there, before there is something to write.
    pub(super) fn check(path: &Path) -> io::Result<()> {
        match not_a_pid_file(path)? {
            Some(problem) => Err(io::Error::other(problem)),
            None => Ok(()),
        }
    }

    /// Writes the file.
    pub(super) fn write(path: &Path, pid: u32) -> io::Result<Self> {
        Self::check(path)?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{pid}.new"));
        // What an earlier process of this id left half done. No link is followed: the directory may be
        // one that others write into.
        let _ = fs::remove_file(&temporary);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(MODE);
        let mut file = own_file::no_link(&mut options).open(&temporary)?;
        let written = file.write_all(content(pid).as_bytes());
        if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        Ok(Self { path: path.to_owned(), pid })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        remove_pid_file(&self.path, self.pid);
    }
}

/// Removes the file if it is the one of this process: the program may have written its own number there,
/// or somebody else's.
pub(crate) fn remove_pid_file(path: &Path, pid: u32) {
    if fs::read(path).is_ok_and(|found| found == content(pid).as_bytes()) {
        let _ = fs::remove_file(path);
    }
}

fn content(pid: u32) -> String {
    format!("{pid}\n")
}
