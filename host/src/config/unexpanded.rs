//! What a shell would expand and nothing here does: `~`, `$NAME` and patterns.
//!
//! A path that begins with `~` or holds a variable is refused with what was probably meant, and one that
//! holds a pattern where it names nothing. A file that is really named so can be named still: with `./`
//! in front of a `~`, and as what is there in the other cases
//! (`tests::what_a_shell_would_expand_is_named`).

use std::path::Path;

use crate::platform::Surroundings;

use super::dirs;

/// What is wrong, and the way out.
type Problem = (String, String);

/// What of a path a shell would have expanded; none: it says what it is.
pub(super) fn in_path(text: &str, base: &Path, surroundings: &Surroundings) -> Option<Problem> {
    if let Some(rest) = text.strip_prefix('~') {
        let home = surroundings.var("HOME").map(|home| home.to_string_lossy().into_owned());
        let help = match home {
            Some(home) if rest.is_empty() || rest.starts_with('/') => {
                format!(
                    "write \"{}{rest}\"; a file of that name is \"./{text}\"",
                    home.trim_end_matches('/')
                )
            }
            _ => format!("write the whole path; a file of that name is \"./{text}\""),
        };
        return Some(("`~` is not expanded here".to_owned(), help));
    }
    let is_there = || dirs::join(base, text).symlink_metadata().is_ok();
    if let Some(variable) = variable_in(text) {
        let problem = || {
            let name = variable.trim_matches(['$', '{', '}']);
            let value = surroundings.var(name).map(|value| value.to_string_lossy().into_owned());
            let help = match value {
                Some(value) => format!("write \"{}\"", text.replace(variable, &value)),
                None => "write the whole path".to_owned(),
            };
            (format!("`{variable}` is not expanded here"), help)
        };
        return (!is_there()).then(problem);
    }
    if text.contains(['*', '?']) {
        let problem = || {
            let help = "name one file; patterns such as `*` are not expanded";
            ("a pattern, and no file has this name".to_owned(), help.to_owned())
        };
        return (!is_there()).then(problem);
    }
    None
}

/// What a shell would expand of an argument or the value of a variable, where people expect it: a `~` and
/// a variable at the beginning, a variable in a list as of PATH. None: it says what it is.
pub(super) fn in_word(text: &str) -> Option<&str> {
    if text == "~" || text.starts_with("~/") {
        return Some("~");
    }
    let variable = variable_in(text)?;
    let begins = text.split(':').any(|part| part.starts_with(variable));
    let is_path = |rest: &str| rest.is_empty() || rest.starts_with(['/', ':']);
    let ends = text
        .match_indices(variable)
        .all(|(at, _)| text.get(at + variable.len()..).is_some_and(is_path));
    (begins && ends).then_some(variable)
}

/// The first `$NAME` or `${NAME}`.
fn variable_in(text: &str) -> Option<&str> {
    text.match_indices('$').find_map(|(at, _)| {
        let rest = text.get(at + 1..)?;
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let name_length = |rest: &str| rest.bytes().take_while(|byte| is_letter(*byte)).count();
        let begins = |rest: &str| !rest.starts_with(|first: char| first.is_ascii_digit());
        let length = if let Some(braced) = rest.strip_prefix('{') {
            let length = name_length(braced);
            let closed = braced.get(length..).is_some_and(|rest| rest.starts_with('}'));
            (length > 0 && closed && begins(braced)).then_some(length + 2)
        } else {
            let length = name_length(rest);
            (length > 0 && begins(rest)).then_some(length)
        }?;
        text.get(at..=at + length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_expand_is_named() {
        let house = tempfile::TempDir::new().unwrap();
        for name in ["price$list", "what?"] {
            std::fs::write(house.path().join(name), "").unwrap();
        }
        let surroundings = Surroundings {
            vars: [("HOME", "/home/me"), ("LOGS", "/srv/logs")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            uid: 0,
            open_files_max: None,
            root: house.path().to_owned(),
        };
        for (text, expected) in [
            (
                "~/a.log",
                Some(
                    "`~` is not expanded here | write \"/home/me/a.log\"; a file of that name is \"./~/a.log\"",
                ),
            ),
            (
                "~",
                Some(
                    "`~` is not expanded here | write \"/home/me\"; a file of that name is \"./~\"",
                ),
            ),
            (
                "~web/a.log",
                Some(
                    "`~` is not expanded here | write the whole path; a file of that name is \"./~web/a.log\"",
                ),
            ),
            ("./~/a.log", None),
            ("a~", None),
            ("$LOGS/a.log", Some("`$LOGS` is not expanded here | write \"/srv/logs/a.log\"")),
            ("/x/${LOGS}.log", Some("`${LOGS}` is not expanded here | write \"/x//srv/logs.log\"")),
            ("/x/$NOWHERE", Some("`$NOWHERE` is not expanded here | write the whole path")),
            ("price$list", None),
            ("a$", None),
            ("a$5", None),
            ("${}", None),
            (
                "logs/*.log",
                Some(
                    "a pattern, and no file has this name | name one file; patterns such as `*` are not expanded",
                ),
            ),
            ("what?", None),
            ("a[1].log", None),
            ("plain", None),
        ] {
            let found = in_path(text, house.path(), &surroundings);
            let found = found.map(|(what, help)| format!("{what} | {help}"));
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn of_a_word_only_what_looks_like_a_path_is_named() {
        for (text, expected) in [
            ("~/public", Some("~")),
            ("$HOME/public", Some("$HOME")),
            ("${HOME}", Some("${HOME}")),
            ("/opt/bin:$PATH", Some("$PATH")),
            ("echo $HOME", None),
            ("^[a-z]+$", None),
            ("$HOME says", None),
            ("a~b", None),
            ("~web", None),
            ("pa$$word", None),
        ] {
            assert_eq!(in_word(text), expected, "{text}");
        }
    }
}
