//! `env_file`: variables as people write them for shells, systemd and containers.
//!
//! ```text
//! # a comment, ; too
//! export NAME=value        # `export` may stand there, and a comment behind a blank
//! ONE='taken as it is: \ " $'
//! ALL="two words, \" \\ \$ \` and a line that goes on \
//! here"
//! ```
//!
//! Rules:
//! 1. What is read is what `sh` would read: a file that it takes is taken with the same values, or it is
//!    refused (`tests::what_is_read_is_what_sh_reads`). Only `;` before a comment, the mark of UTF-8 and
//!    `\r\n` at the end of a line are nothing that `sh` knows.
//! 2. Nothing is expanded, and nothing is run. What a shell would expand, run or split (`$HOME`, `~/x`, a
//!    blank or a `;` amid a plain value) is refused by line: it is not known whether the shell's value was
//!    meant, or the text as systemd and containers have it
//!    (`tests::what_is_ambiguous_or_no_variable_is_refused_by_line`). In `'…'` every text is itself.
//! 3. Of a name that comes twice the last counts.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::reach;

use super::reading::read_bounded;
use super::word::variable_too_long;

/// What is wrong with a file of variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EnvFileError {
    path: PathBuf,
    /// From 1; none when the file can't be read at all.
    line: Option<usize>,
    what: String,
    pub(super) help: &'static str,
}

impl EnvFileError {
    /// The place and what is wrong there, without the way out.
    pub(super) fn message(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}: {}", self.path.display(), self.what),
            None => format!("{} {}", self.path.display(), self.what),
        }
    }
}

impl fmt::Display for EnvFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message(), self.help)
    }
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Vec<(String, String)>, EnvFileError> {
    let error =
        |line, (what, help): Problem| EnvFileError { path: path.to_owned(), line, what, help };
    let bytes = read_bounded(path).map_err(|cause| {
        let cause = reach::said(path, &cause);
        error(None, (format!("can't be read: {cause}"), "name a file that can be read"))
    })?;
    parse(&bytes).map_err(|(line, problem)| error(Some(line), problem))
}

/// Whether every shell takes this as the name of a variable.
pub(super) fn is_variable(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(letter)
        && name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
}

/// What separates words, as shells have it.
const BLANKS: [char; 2] = [' ', '\t'];

/// The way out of blanks around the `=`.
const NO_BLANKS: &str = "write NAME=value without blanks around the =: a shell would run the rest";

/// What is wrong with a character of a plain value: `done` is what a shell does with it.
fn refused(what: impl fmt::Display, done: &str) -> Problem {
    let what = format!("{what} amid a plain value, {done}");
    (what, "put the whole value in '…', which is taken as it is")
}

fn name_of(character: char) -> String {
    format!("`{character}`")
}

/// What is wrong, and the way out.
type Problem = (String, &'static str);

/// Where in the text the reader is.
struct Cursor<'t> {
    rest: &'t str,
    line: usize,
}

/// The variables in their order, or the first line that is none, from 1.
fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, (usize, Problem)> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        (line, ("not UTF-8".to_owned(), "save the file as UTF-8"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut cursor = Cursor { rest: &text, line: 1 };
    let mut variables = Vec::new();
    while !cursor.rest.is_empty() {
        // Where a quote that is not closed begins is where to look.
        let began = cursor.line;
        variables.extend(cursor.assignment().map_err(|problem| (began, problem))?);
    }
    Ok(variables)
}

impl Cursor<'_> {
    /// Reads up to the end of the line on which the variable ends; none on an empty line and a
    /// comment.
    fn assignment(&mut self) -> Result<Option<(String, String)>, Problem> {
        self.skip_blanks();
        if self.rest.is_empty() || self.rest.starts_with(['\n', '#', ';']) {
            self.skip_line();
            return Ok(None);
        }
        let line = self.rest.split('\n').next().unwrap_or_default();
        let Some((name, _)) = line.split_once('=') else {
            return Err((
                "not a variable".to_owned(),
                "write NAME=value, or start a comment with #",
            ));
        };
        let name_bytes = name.len();
        let name = match name.strip_prefix("export") {
            Some(exported) if exported.starts_with(BLANKS) => exported.trim_start_matches(BLANKS),
            _ => name,
        };
        if is_variable(name.trim_end_matches(BLANKS)) && name.ends_with(BLANKS) {
            return Err(("a blank before the =".to_owned(), NO_BLANKS));
        }
        if !is_variable(name) {
            return Err((
                format!("`{}` can't be the name of a variable", name.escape_debug()),
                "use letters, digits and `_`, and no digit first",
            ));
        }
        let name = name.to_owned();
        self.advance(name_bytes + 1);
        let value = match self.rest.chars().next() {
            Some('\'') => self.single_quoted()?,
            Some('"') => self.double_quoted()?,
            _ => self.plain()?,
        };
        if value.contains('\0') {
            return Err(("a zero character".to_owned(), "no variable can hold it: remove it"));
        }
        if let Some(message) = variable_too_long(&name, &value) {
            return Err((message, "put it into a file of its own, and name that file"));
        }
        Ok(Some((name, value)))
    }

    fn single_quoted(&mut self) -> Result<String, Problem> {
        self.advance(1);
        let Some(end) = self.rest.find('\'') else {
            return Err(("a ' is not closed".to_owned(), "end the value with '"));
        };
        let value = self.rest.get(..end).unwrap_or_default().to_owned();
        self.advance(end + 1);
        self.end_of_quoted()?;
        Ok(value)
    }

    fn double_quoted(&mut self) -> Result<String, Problem> {
        self.advance(1);
        let mut value = String::new();
        let mut characters = self.rest.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.advance(at + 1);
                    self.end_of_quoted()?;
                    return Ok(value);
                }
                '\\' => match characters.next() {
                    Some((_, escaped @ ('"' | '\\' | '$' | '`'))) => value.push(escaped),
                    // The line goes on.
                    Some((_, '\n')) => {}
                    Some((_, other)) => {
                        return Err((
                            format!("`\\{}` is not known within \"…\"", other.escape_debug()),
                            "write \\\\ for a backslash, or put the value in '…', which is taken as it is",
                        ));
                    }
                    None => break,
                },
                '$' | '`' => {
                    return Err((
                        format!("`{character}` within \"…\", which a shell would expand"),
                        "put the value in '…', which is taken as it is; or write a \\ before it, if it is meant as it is",
                    ));
                }
                other => value.push(other),
            }
        }
        Err(("a \" is not closed".to_owned(), "end the value with \""))
    }

    /// Behind a quoted value there is nothing, or a comment.
    fn end_of_quoted(&mut self) -> Result<(), Problem> {
        let blank = self.rest.starts_with(BLANKS);
        self.skip_blanks();
        let ends = self.rest.is_empty() || self.rest.starts_with('\n');
        if ends || blank && self.rest.starts_with('#') {
            self.skip_line();
            return Ok(());
        }
        Err((
            "text behind a quoted value".to_owned(),
            "quote the whole value, and put a blank before a # comment",
        ))
    }

    /// A value without quotes: to the end of the line, or to blanks with nothing or a comment behind them. A
    /// line goes on behind a backslash.
    fn plain(&mut self) -> Result<String, Problem> {
        let mut value = String::new();
        let mut blank = false;
        let mut characters = self.rest.char_indices().peekable();
        let end = loop {
            let Some((at, character)) = characters.next() else { break self.rest.len() };
            match character {
                '\n' => break at,
                '\\' if matches!(characters.peek(), Some((_, '\n'))) => drop(characters.next()),
                ' ' | '\t' => blank = true,
                '#' if blank => {
                    let line = self.rest.get(at..).unwrap_or_default();
                    break at + line.find('\n').unwrap_or(line.len());
                }
                _ if blank && value.is_empty() => {
                    return Err(("a blank behind the =".to_owned(), NO_BLANKS));
                }
                _ if blank => return Err(refused("a blank", "where a shell ends the value")),
                '\\' | '\'' | '"' => {
                    return Err(refused(name_of(character), "which a shell takes as a quote"));
                }
                '$' | '`' => return Err(refused(name_of(character), "which a shell would expand")),
                '~' if value.is_empty() || value.ends_with(':') => {
                    return Err(refused("`~`", "which a shell would expand"));
                }
                ';' | '&' | '|' | '<' | '>' | '(' | ')' => {
                    return Err(refused(name_of(character), "where a shell ends the value"));
                }
                '\r' => {
                    return Err(refused("a carriage return", "which a shell takes into the value"));
                }
                other => value.push(other),
            }
        };
        self.advance(end);
        self.skip_line();
        Ok(value)
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches(BLANKS);
    }

    fn skip_line(&mut self) {
        let end = self.rest.find('\n').map_or(self.rest.len(), |end| end + 1);
        self.advance(end);
    }

    /// Goes on by this many bytes.
    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += passed.matches('\n').count();
        self.rest = rest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected = expected.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        assert_eq!(parse(text.as_bytes()), Ok(expected.collect()), "{text:?}");
    }

    #[test]
    fn what_people_write_is_read_as_they_mean_it() {
        check("", &[]);
        check("\u{feff}A=1", &[("A", "1")]);
        check("# c\n ; c\n\n  \nA=1\r\nB=2\r\n", &[("A", "1"), ("B", "2")]);
        check("export A=yes\nexport\tB=2\nexport=3", &[("A", "yes"), ("B", "2"), ("export", "3")]);
        check("A=\"x\" # note\nB='y'\t# note", &[("A", "x"), ("B", "y")]);
        check(
            "A=word  # note\nB=a#b\nC= # note\nD=#d",
            &[("A", "word"), ("B", "a#b"), ("C", ""), ("D", "#d")],
        );
        check("A=x=y,z~ \nB=a~b", &[("A", "x=y,z~"), ("B", "a~b")]);
        check("A=\nB=\"\"\nC=''", &[("A", ""), ("B", ""), ("C", "")]);
        check("A='\\n \" $X'", &[("A", "\\n \" $X")]);
        check(r#"A="\" \\ \$X \`y ~""#, &[("A", "\" \\ $X `y ~")]);
        check(r#"A="x\\y""#, &[("A", r"x\y")]);
        check("A=one\\\ntwo\nB=\"one\\\ntwo\"", &[("A", "onetwo"), ("B", "onetwo")]);
        check("A=\"first\nsecond\"\nB=2", &[("A", "first\nsecond"), ("B", "2")]);
        check("A=1\nA=2", &[("A", "1"), ("A", "2")]);
        check("A=postgres://u:p@h/d?x=1", &[("A", "postgres://u:p@h/d?x=1")]);
        let all = "$HOME `id` a b;c&d|e<f>(g) ~/x \\ \"";
        check(&format!("A='{all}'"), &[("A", all)]);
    }

    #[test]
    fn what_is_ambiguous_or_no_variable_is_refused_by_line() {
        for (text, line, what) in [
            ("A=1\nnonsense\n", 2, "not a variable"),
            ("=1", 1, "`` can't be the name"),
            ("\n\n1A=1", 3, "`1A` can't be the name"),
            ("A-B=1", 1, "`A-B` can't be the name"),
            ("set A=1", 1, "`set A` can't be the name"),
            ("Ä=1", 1, "`Ä` can't be the name"),
            ("A=\"x\"y", 1, "text behind"),
            ("A='x'#y", 1, "text behind"),
            ("A='it''s'", 1, "text behind"),
            ("A=it's", 1, "`'` amid a plain value"),
            ("A={\"a\":1}", 1, "`\"` amid a plain value"),
            ("A=C:\\temp", 1, "`\\` amid a plain value"),
            ("A=1\rB=2", 1, "a carriage return amid a plain value"),
            ("A=1\nB=$HOME/data", 2, "`$` amid a plain value, which a shell would expand"),
            ("A=x`id`", 1, "``` amid a plain value, which a shell would expand"),
            ("A=~/x", 1, "`~` amid a plain value"),
            ("A=/x:~/y", 1, "`~` amid a plain value"),
            ("A=two words", 1, "a blank amid a plain value"),
            ("A=one\\\n two", 1, "a blank amid a plain value"),
            ("A=a;b", 1, "`;` amid a plain value, where a shell ends the value"),
            ("A=http://h/?a=1&b=2", 1, "`&` amid a plain value"),
            ("A=<b>", 1, "`<` amid a plain value"),
            ("A=(x)", 1, "`(` amid a plain value"),
            ("A= 1", 1, "a blank behind the ="),
            ("A= '1'", 1, "a blank behind the ="),
            ("A =1", 1, "a blank before the ="),
            ("export A =1", 1, "a blank before the ="),
            ("A=\"$HOME\"", 1, "`$` within \"…\", which a shell would expand"),
            ("A=\"`id`\"", 1, "``` within \"…\""),
            ("A=\"one\\ntwo\"", 1, "`\\n` is not known"),
            ("A=\"C:\\temp\"", 1, "`\\t` is not known"),
            ("A=1\nB=\"open\nC=3", 2, "a \" is not closed"),
            ("A='open", 1, "a ' is not closed"),
            ("A=\"x\\", 1, "a \" is not closed"),
            ("A='\0'", 1, "a zero character"),
        ] {
            let (found, (message, _)) = parse(text.as_bytes()).unwrap_err();
            assert!(message.contains(what), "{text:?}: {message}");
            assert_eq!(found, line, "{text:?}");
        }
        assert_eq!(parse(b"A=1\nB=\xff").unwrap_err().0, 2);
    }

    proptest! {
        /// Whatever a value is, quoted it is read as it was meant.
        #[test]
        fn quoted_values_come_back(values in proptest::collection::vec("[^\0\r]{0,20}", 0..6)) {
            let mut text = String::new();
            for (index, value) in values.iter().enumerate() {
                let escaped = value.chars().fold(String::new(), |mut escaped, character| {
                    if matches!(character, '\\' | '"' | '$' | '`') {
                        escaped.push('\\');
                    }
                    escaped.push(character);
                    escaped
                });
                text += &format!("export V{index}=\"{escaped}\" # note\n");
            }
            let read = parse(text.as_bytes()).unwrap();
            let read: Vec<_> = read.into_iter().map(|(_, value)| value).collect();
            prop_assert_eq!(read, values);
        }

        /// Whatever is taken, `sh` takes too, and finds the same values.
        #[test]
        fn what_is_read_is_what_sh_reads(
            values in proptest::collection::vec(
                "( |\"|'|\\\\|\n|#|\\$|`|~|:|/|a|=|\\*|;|&|\\(|!|\\{|,|\t|é){0,7}",
                1..5,
            ),
        ) {
            // Each by itself: most of them are refused.
            let lines = values.iter().enumerate().map(|(index, value)| format!("V{index}={value}"));
            let taken: Vec<String> = lines
                .filter(|line| {
                    // A further line of it may be a note behind a `;`, which is known here only.
                    let is_note = |line: &str| line.trim_start_matches([' ', '\t']).starts_with(';');
                    parse(line.as_bytes()).is_ok_and(|read| read.len() == 1)
                        && !line.split('\n').skip(1).any(is_note)
                })
                .collect();
            let text = taken.join("\n") + "\n";
            let read = parse(text.as_bytes()).unwrap();
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("e.env"), &text).unwrap();
            let said = std::process::Command::new("sh")
                .args(["-ec", "set -a; . ./e.env; exec env -0"])
                .current_dir(&directory)
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("HOME", "/home")
                .output()
                .unwrap();
            prop_assert!(said.status.success(), "{:?}: {:?}", text, said);
            let said = String::from_utf8(said.stdout).unwrap();
            let mut said: Vec<_> = said
                .split_terminator('\0')
                .filter_map(|variable| variable.split_once('='))
                .filter(|(name, _)| name.starts_with('V'))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            said.sort();
            prop_assert_eq!(said, read, "{:?}", text);
        }

        /// Any bytes are variables with names and values that an environment can hold, or refused.
        #[test]
        fn any_bytes_are_variables_or_refused(
            text in "([A-B]|=|export |\"|'|\\\\|\n|#| |;|\0|\r){0,24}",
        ) {
            for (name, value) in parse(text.as_bytes()).unwrap_or_default() {
                prop_assert!(is_variable(&name) && !value.contains('\0'));
            }
        }
    }
}
