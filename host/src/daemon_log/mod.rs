//! The log of one daemon: a file of lines that people can read and programs can parse.
//!
//! ```text
//! 2026-11-21T09:07:29.123456Z info  stdout listening on 127.0.0.1:8080
//! ```
//!
//! Rules:
//! 1. One entry is one line: moment (RFC 3339, UTC, microseconds), level, origin, text, in fixed
//!    columns. What would break a line or drive a terminal is escaped, so `parse` gives back what
//!    was written.
//! 2. A log is at most two files: `<name>.log`, and `<name>.log.1` once the first reached
//!    [`LOG_BYTES_MAX`].
//! 3. Several processes may append to one log: `keep` writes what a daemon prints, the manager
//!    what it says of the daemon. Whoever reaches the bound rotates, the others notice.
//! 4. A log that can't be written (a full disk) stops nobody. Lines are lost and counted, and the
//!    first line after that says how many, and between when.
//! 5. A log is its owner's: nobody else reads what is made here. A directory that was removed is made
//!    again.

mod entry;
mod reader;
mod writer;

pub use entry::{LogEntry, LogOrigin, ParseLogError, encode_entry, level_name};
pub use reader::{LogFollower, tail_last};
pub use writer::{LOG_BYTES_MAX, LogWriter};

use std::path::{Path, PathBuf};

/// The log of the daemon `name` in `directory`.
#[must_use]
pub fn log_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.log"))
}

/// The fleet's own log in the directory of its daemons' logs: its events, and what its manager says.
#[must_use]
pub fn fleet_log(directory: &Path) -> PathBuf {
    log_path(directory, "duende")
}

/// What a detached manager prints: why it could not start, and its last words. Mostly empty.
#[must_use]
pub fn printed_log(directory: &Path) -> PathBuf {
    log_path(directory, "manager")
}

/// Of the two that tell of the fleet itself the one that has something in it; of both, its own.
#[must_use]
pub fn telling_log(directory: &Path) -> PathBuf {
    let has_text = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.len() > 0);
    let (own, printed) = (fleet_log(directory), printed_log(directory));
    if !has_text(&own) && has_text(&printed) { printed } else { own }
}

/// Where the lines before the current file are: `<name>.log.1`.
#[must_use]
pub fn old_log_path(path: &Path) -> PathBuf {
    let mut old = path.as_os_str().to_owned();
    old.push(".1");
    PathBuf::from(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_that_is_named_has_something_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let (own, printed) = (fleet_log(directory.path()), printed_log(directory.path()));
        let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
        assert_eq!(telling_log(directory.path()), own);
        write(&printed, "");
        assert_eq!(telling_log(directory.path()), own);
        write(&printed, "duende: no room\n");
        assert_eq!(telling_log(directory.path()), printed);
        write(&own, "");
        assert_eq!(telling_log(directory.path()), printed);
        write(&own, "web started\n");
        assert_eq!(telling_log(directory.path()), own);
    }
}
