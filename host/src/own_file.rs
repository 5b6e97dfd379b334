//! Files that a manager writes by a name that others can know beforehand: locks, logs, copies and images that
//! are not finished yet.
//!
//! Whoever may write to the directory that such a file lies in could have put a symbolic link there before, and
//! what root writes would go to a file of the link's choosing. So the last part of the path is not followed
//! (`tests::what_is_written_is_no_link`), and such a link is an error that says what it is.

use std::fs::OpenOptions;
use std::io;
#[cfg(feature = "manager")]
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
#[cfg(feature = "manager")]
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Writes a whole file, as [`std::fs::write`] does, but through no link.
#[cfg(feature = "manager")]
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    no_link(&mut options).open(path).map_err(said)?.write_all(bytes)
}

/// Lets nothing be opened through a link.
pub(crate) fn no_link(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
}

/// The error of an open, in words if it was a link.
pub(crate) fn said(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
        io::Error::other(
            "it is a symbolic link, which is not followed: remove it, or name another directory",
        )
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::SystemTime;

    use duende_core::wire::link::LogLevel;

    use crate::daemon_log::{LogOrigin, LogWriter};
    use crate::lock_file::LockFile;

    #[test]
    fn what_is_written_is_no_link() {
        let directory = tempfile::TempDir::new().unwrap();
        let target = directory.path().join("target");
        fs::write(&target, "precious").unwrap();
        let link = |name: &str| {
            let link = directory.path().join(name);
            std::os::unix::fs::symlink(&target, &link).unwrap();
            link
        };
        let lock = LockFile::take(&link("manager.lock")).map(drop).unwrap_err();
        assert!(lock.to_string().contains("symbolic link"), "{lock}");
        // A log that can't be opened loses its lines, and counts them.
        let write = |path: &Path| {
            let mut log = LogWriter::new(path);
            log.append(SystemTime::now(), LogLevel::Info, LogOrigin::Log, b"a line", false);
            log.flush();
        };
        write(&link("d.log"));
        let image = super::write(&link("image.unfinished"), b"code").unwrap_err();
        assert!(image.to_string().contains("symbolic link"), "{image}");
        // What stands in the place of a database that is not finished.
        link("state.redb.new");
        let state = crate::store::Store::open(directory.path().join("state.redb"));
        assert!(state.is_err_and(|error| error.to_string().contains("symbolic link")));
        // One that leads nowhere makes nothing there.
        let nowhere = directory.path().join("nowhere");
        let dangling = directory.path().join("e.log");
        std::os::unix::fs::symlink(&nowhere, &dangling).unwrap();
        write(&dangling);
        assert!(LockFile::take(&dangling).is_err());
        assert!(!nowhere.exists());
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }
}
