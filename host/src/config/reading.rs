//! What reading needs besides the text: the place of the file, and the machine; and the one way to take
//! in a file.

use std::fs::Metadata;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use crate::platform::Surroundings;
use crate::reach;
use crate::regular_file;

use super::diagnostic::Report;
use super::dirs;
use super::model::FILE_BYTES_MAX;
use super::reader::Entry;
use super::unexpanded;

/// Range of durations that may be zero.
pub(super) const FROM_ZERO: RangeInclusive<Duration> = Duration::ZERO..=DAY;
/// Range of durations that must take some time.
pub(super) const FROM_1_MS: RangeInclusive<Duration> = Duration::from_millis(1)..=DAY;
const DAY: Duration = Duration::from_secs(86_400);

/// At most [`FILE_BYTES_MAX`] bytes of a file; a longer one is an error, and so is what is no regular file.
pub(super) fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    regular_file::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

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
            Ok(found) => {
                let what = regular_file::what(found.file_type());
                let message = format!("{} is {what}, not a {kind}", path.display());
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
        if let Some((message, help)) = unexpanded::in_path(text, self.base, self.surroundings) {
            entry.report(report, message, help);
            return None;
        }
        Some(dirs::join(self.base, text))
    }
}

fn missing(entry: &Entry<'_>, report: &mut Report<'_>, path: &Path, error: &std::io::Error) {
    let help = way_out(error, "paths are relative to the directory of the configuration file");
    entry.report(report, not_there(path, error), help);
}

/// The way out of a path that can't be looked at: of what is barred, another one.
pub(super) fn way_out(error: &std::io::Error, otherwise: &'static str) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => reach::HELP,
        _ => otherwise,
    }
}

/// What to say of a path that can't be looked at. Only what is not there is said not to be there: a path
/// that is too long, or a loop of links, has its own name, and of what is barred it is said by what and for
/// whom.
pub(super) fn not_there(path: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            format!("{}: its symbolic links lead in a circle: {error}", path.display())
        }
        _ => format!("{}: {}", path.display(), reach::said(path, error)),
    }
}

/// What is wrong with the directory of a file that may come later; none if it is there.
pub(super) fn lacks_directory(path: &Path) -> Option<String> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some(format!("{} is not a directory", directory.display())),
        Err(error) => Some(format!("the directory {}", not_there(directory, &error))),
    }
}

/// What bars a file that may come later; none if it can be looked at, or is not there.
pub(super) fn is_barred(path: &Path) -> Option<String> {
    let error = std::fs::symlink_metadata(path).err()?;
    let barred = error.kind() == std::io::ErrorKind::PermissionDenied;
    barred.then(|| not_there(path, &error))
}
