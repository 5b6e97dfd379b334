//! A file with the id of a daemon's main process, for programs that look for one.
//!
//! It is written to a file beside it and renamed, so nobody reads half a number. What is there already
//! is never believed: it is overwritten if it is a regular file, else the start fails; and it is
//! removed at the end only while it says what was written here
//! (`stop_tests::a_pid_file_says_who_runs_and_goes_with_it`).

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

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
        match fs::symlink_metadata(path) {
            Ok(found) if !found.is_file() => Err(io::Error::other("it is not a regular file")),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(_) | Err(_) => Ok(()),
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
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&temporary)?;
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
        // The program may have written its own number there, or somebody else's.
        if fs::read(&self.path).is_ok_and(|found| found == content(self.pid).as_bytes()) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn content(pid: u32) -> String {
    format!("{pid}\n")
}
