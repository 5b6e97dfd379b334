//! What reading a daemon needs besides the text: the place of the file, and the machine.

use std::fs::Metadata;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::platform::Surroundings;

use super::diagnostic::Report;
use super::dirs;
use super::reader::Entry;

/// Range of durations that may be zero.
pub(super) const FROM_ZERO: RangeInclusive<Duration> = Duration::ZERO..=DAY;
/// Range of durations that must take some time.
pub(super) const FROM_1_MS: RangeInclusive<Duration> = Duration::from_millis(1)..=DAY;
const DAY: Duration = Duration::from_secs(86_400);

/// What reading needs besides the text.
pub(super) struct Reading<'a> {
    /// The directory of the configuration file.
    pub(super) base: &'a Path,
    /// Variables, users, programs.
    pub(super) surroundings: &'a Surroundings,
}

impl Reading<'_> {
    /// The file that an entry names, if it is there.
    pub(super) fn existing_file(
        &self,
        entry: &Entry<'_>,
        report: &mut Report<'_>,
    ) -> Option<PathBuf> {
        self.existing(entry, report, "file", Metadata::is_file)
    }

    /// The directory that an entry names, if it is there.
    pub(super) fn existing_dir(
        &self,
        entry: &Entry<'_>,
        report: &mut Report<'_>,
    ) -> Option<PathBuf> {
        self.existing(entry, report, "directory", Metadata::is_dir)
    }

    fn existing(
        &self,
        entry: &Entry<'_>,
        report: &mut Report<'_>,
        kind: &str,
        is_kind: fn(&Metadata) -> bool,
    ) -> Option<PathBuf> {
        let path = self.path(entry, report)?;
        match std::fs::metadata(&path) {
            Ok(metadata) if is_kind(&metadata) => return Some(path),
            Ok(_) => {
                let message = format!("{} is not a {kind}", path.display());
                entry.report(report, message, format!("name a {kind}"));
            }
            Err(error) => missing(entry, report, &path, &error),
        }
        None
    }

    /// The path that an entry names, whether it is there or not.
    pub(super) fn path(&self, entry: &Entry<'_>, report: &mut Report<'_>) -> Option<PathBuf> {
        let text = entry.string(report)?;
        if text.is_empty() {
            entry.report(report, "an empty path", "name a file or directory");
            return None;
        }
        Some(dirs::join(self.base, text))
    }
}

fn missing(entry: &Entry<'_>, report: &mut Report<'_>, path: &Path, error: &std::io::Error) {
    let message = match error.kind() {
        std::io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        _ => format!("{}: {error}", path.display()),
    };
    entry.report(report, message, "paths are relative to the directory of the configuration file");
}
