//! What a `keep` is told when it is started, as the arguments of `duende keep`.

use std::ffi::OsString;
use std::path::PathBuf;

/// Whose `keep` it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepOptions {
    /// The fleet's name.
    pub fleet: String,
    /// The file that it locks until its last process is gone: `<state_dir>/keep.lock`.
    pub lock: PathBuf,
    /// The soft limit of open files that daemons get; when absent, `keep`'s own at its start.
    pub open_files: Option<u64>,
}

impl KeepOptions {
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            vec!["--fleet".into(), (&self.fleet).into(), "--lock".into(), (&self.lock).into()];
        if let Some(open_files) = self.open_files {
            arguments.extend(["--open-files".into(), open_files.to_string().into()]);
        }
        arguments
    }

    /// None for what [`arguments`](Self::arguments) does not write.
    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let (mut fleet, mut lock, mut open_files) = (None, None, None);
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next()?;
            match name.to_str()? {
                "--fleet" => fleet = Some(value.into_string().ok()?),
                "--lock" => lock = Some(PathBuf::from(value)),
                "--open-files" => open_files = Some(value.to_str()?.parse().ok()?),
                _ => return None,
            }
        }
        Some(Self { fleet: fleet?, lock: lock?, open_files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for open_files in [None, Some(1_024)] {
            let lock = PathBuf::from("/a b/keep.lock");
            let options = KeepOptions { fleet: "edge".into(), lock, open_files };
            assert_eq!(KeepOptions::parse(options.arguments()), Some(options));
        }
        for text in ["", "--fleet a", "--fleet a --lock", "--fleet a --lock b --x 1", "a b"] {
            let arguments = text.split_whitespace().map(OsString::from);
            assert_eq!(KeepOptions::parse(arguments), None, "{text}");
        }
    }
}
