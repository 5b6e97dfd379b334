//! Files that somebody else named: opened only if they are regular files.
//!
//! To open a pipe is to wait for its other end, and a device may never end. Whoever names one by mistake is
//! told what it is, and nobody waits (`tests::what_is_no_file_is_told_at_once`).

use std::fs::{File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a file to read it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(io::Error::other(format!("it is {}, and no regular file", what(kind))))
}

/// What something is.
pub(crate) fn what(kind: FileType) -> &'static str {
    if kind.is_file() {
        "a file"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe (FIFO)"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "something else"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(open(&file).is_ok());
        for (path, words) in [
            (fifo.as_path(), "it is a pipe (FIFO), and no regular file"),
            (Path::new("/dev/zero"), "it is a device, and no regular file"),
            (directory.path(), "it is a directory, and no regular file"),
        ] {
            assert_eq!(open(path).unwrap_err().to_string(), words);
        }
    }
}
