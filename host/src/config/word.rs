//! The words that a program can be given: its arguments, and its variables with their names.
//!
//! Rules:
//! - Linux takes no longer single word at `exec` than `MAX_ARG_STRLEN`, whatever room there is for all of
//!   them, and a start that meets it fails with a bare E2BIG
//!   (`tests::the_limit_is_the_systems`).
//! - All of them together reach `keep` in one frame, at most [`WORDS_BYTES_MAX`]
//!   (`keep::tests::what_the_configuration_takes_fits_into_a_request`). Linux takes more, a quarter of the
//!   stack's limit, unless that is below 2 MiB. What is inherited counts: it is the program's, too.
//!
//! So what stands in a configuration is refused there, by the name of what is largest.

use std::ffi::OsString;

use duende_core::wire::FRAME_BYTES_MAX;

use super::environment::native_env;
use super::model::NativeConfig;

/// All words of a program, each with its final zero, and the directories and groups that go with them: a frame
/// less room for its log's path, its name, what a manager adds, and the lengths of long words.
pub(crate) const WORDS_BYTES_MAX: usize = FRAME_BYTES_MAX - (8 << 10);

/// Pages of one word, the zero at its end included.
const PAGES_MAX: usize = 32;
/// The number of a group, as it is sent.
const GROUP_BYTES_MAX: usize = 5;

/// Bytes of one word, without the zero at its end.
pub(super) fn word_bytes_max() -> usize {
    (rustix::param::page_size() * PAGES_MAX).saturating_sub(1)
}

/// What is wrong with an argument; none: it fits.
pub(super) fn argument_too_long(word: &str) -> Option<String> {
    let max = word_bytes_max();
    (word.len() > max)
        .then(|| format!("an argument of {} bytes: the system takes {max}", word.len()))
}

/// What is wrong with a variable; none: it fits.
pub(super) fn variable_too_long(name: &str, value: &str) -> Option<String> {
    let (max, bytes) = (word_bytes_max(), name.len() + "=".len() + value.len());
    (bytes > max).then(|| {
        format!("the variable `{name}` has {bytes} bytes with its name: the system takes {max}")
    })
}

/// What is wrong with all that a program is given; none: it fits, or what is wrong was said of a single word or of
/// its file of variables. `inherited` is the manager's own environment.
pub(crate) fn words_too_long(
    native: &NativeConfig,
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
) -> Option<String> {
    let env = native_env(native, inherited).ok()?;
    if native.args.iter().any(|arg| argument_too_long(arg).is_some()) {
        return None;
    }
    let variables = env.iter().map(|(name, value)| {
        let bytes = name.len() + "=".len() + value.len();
        (bytes, format!("variable `{}`", String::from_utf8_lossy(name)))
    });
    let program = (native.program.as_os_str().len(), "program's path".to_owned());
    let arguments = (1..).zip(&native.args);
    let arguments = arguments.map(|(number, word)| (word.len(), format!("argument {number}")));
    let words: Vec<_> = variables.chain([program]).chain(arguments).collect();

    let pid_file = native.pid_file.as_ref().map_or(0, |path| path.as_os_str().len());
    let groups = native.user.as_ref().map_or(0, |user| user.groups.len());
    let around = native.working_dir.as_os_str().len() + pid_file + groups * GROUP_BYTES_MAX;
    let bytes = words.iter().fold(around, |sum, (bytes, _)| sum + bytes + "\0".len());
    let (largest, name) = words.into_iter().max_by_key(|(bytes, _)| *bytes)?;
    (bytes > WORDS_BYTES_MAX).then(|| {
        format!(
            "command line and environment have {bytes} bytes, and {WORDS_BYTES_MAX} is the most; its {name} has {largest} of them"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// It is the system's own limit: it takes the longest, and no longer one.
    #[test]
    fn the_limit_is_the_systems() {
        let starts = |bytes: usize| {
            let value = "x".repeat(bytes - "A=".len());
            let by_variable = Command::new("true").env_clear().env("A", &value).status();
            let by_argument = Command::new("true").arg("x".repeat(bytes)).status();
            assert_eq!(by_variable.is_ok(), variable_too_long("A", &value).is_none());
            assert_eq!(by_argument.is_ok(), argument_too_long(&"x".repeat(bytes)).is_none());
            by_variable.is_ok()
        };
        assert!(starts(word_bytes_max()));
        assert!(!starts(word_bytes_max() + 1));
    }
}
