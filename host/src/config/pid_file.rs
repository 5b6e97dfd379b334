//! The file that names a daemon's main process: what may stand in its place.
//!
//! It is replaced at each start and removed at each end, so only what can be one is ever taken for one:
//! nothing, or a regular file that holds a number and no more. A configuration, a program or a log that
//! was named by mistake is refused, by `check` and again by `keep` at each start.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::diagnostic::Report;
use super::reader::Entry;
use super::reading::{Reading, is_barred, lacks_directory};
use crate::reach;

/// More than any number of a process, with what people put around it.
const BYTES_MAX: u64 = 64;

/// Why what is there can't be replaced by a pid file; none: it can, or nothing is there.
///
/// # Errors
/// It can't be looked at.
pub(crate) fn not_a_pid_file(path: &Path) -> io::Result<Option<&'static str>> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    if !found.is_file() {
        return Ok(Some("is there and not a regular file"));
    }
    let mut content = Vec::new();
    fs::File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut content)?;
    let is_number = content.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_whitespace());
    let is_short = u64::try_from(content.len()).is_ok_and(|bytes| bytes <= BYTES_MAX);
    Ok((!(is_number && is_short)).then_some("holds something else than the id of a process"))
}

pub(super) fn read(
    entry: &Entry<'_>,
    reading: &Reading<'_>,
    report: &mut Report<'_>,
) -> Option<PathBuf> {
    let path = reading.path(entry, report)?;
    if let Some(message) = is_barred(&path) {
        entry.report(report, message, reach::HELP);
        return None;
    }
    if let Some(message) = lacks_directory(&path) {
        entry.report(report, message, "create it, or name a file in another directory");
        return None;
    }
    // What can't be looked at now is looked at again at the start.
    match not_a_pid_file(&path) {
        Ok(Some(problem)) => {
            let message = format!("{} {problem}", path.display());
            entry.report(report, message, "name a file of its own: it is written at each start");
            None
        }
        Ok(None) | Err(_) => Some(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_is_replaced() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("x");
        assert_eq!(not_a_pid_file(&path).unwrap(), None);
        for content in ["", "1\n", " 4194304 \n", "12"] {
            fs::write(&path, content).unwrap();
            assert_eq!(not_a_pid_file(&path).unwrap(), None, "{content:?}");
        }
        let long = "1".repeat(65);
        for content in ["[fleet]\n", "#!/bin/sh\n", "\x7fELF", "12 web", "-1", &long] {
            fs::write(&path, content).unwrap();
            assert!(not_a_pid_file(&path).unwrap().is_some(), "{content:?}");
        }
        assert!(not_a_pid_file(directory.path()).unwrap().is_some());
    }
}
