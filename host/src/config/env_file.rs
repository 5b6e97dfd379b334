//! `env_file`: variables as people write them for shells, systemd and containers.
//!
//! ```text
//! # a comment, ; too
//! export NAME=value        # `export` may stand there, and a comment behind a blank
//! TWO = two words
//! ONE='taken as it is: \ " $'
//! ALL="with \" \\ \n \$ and a line that goes on \
//! here"
//! ```
//!
//! Nothing is expanded. Of a name that comes twice the last counts. What shells, systemd and
//! containers read differently (quotes or a backslash amid a plain value) is refused by line, as is
//! everything else: a variable is never silently another one than was meant
//! (`tests::what_is_ambiguous_or_no_variable_is_refused_by_line`).

use std::fmt;
use std::path::{Path, PathBuf};

use super::fleet::read_bounded;

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
        let name = name.trim_end();
        let name = match name.strip_prefix("export") {
            Some(exported) if exported.starts_with([' ', '\t']) => exported.trim_start(),
            _ => name,
        };
        if !is_variable(name) {
            return Err((
                format!("`{}` can't be the name of a variable", name.escape_debug()),
                "use letters, digits and `_`, and no digit first",
            ));
        }
        let name = name.to_owned();
        self.advance(name_bytes + 1);
        self.skip_blanks();
        let value = match self.rest.chars().next() {
            Some('\'') => self.single_quoted()?,
            Some('"') => self.double_quoted()?,
            _ => self.plain()?,
        };
        if value.contains('\0') {
            return Err(("a zero character".to_owned(), "no variable can hold it: remove it"));
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
                    Some((_, 'n')) => value.push('\n'),
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
                other => value.push(other),
            }
        }
        Err(("a \" is not closed".to_owned(), "end the value with \""))
    }

    /// Behind a quoted value there is nothing, or a comment.
    fn end_of_quoted(&mut self) -> Result<(), Problem> {
        let blank = self.rest.starts_with([' ', '\t']);
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

    /// A value without quotes: to the end of the line or a comment, without the blanks around it.
    fn plain(&mut self) -> Result<String, Problem> {
        let mut value = String::new();
        loop {
            let line = self.rest.split('\n').next().unwrap_or_default();
            let piece = line.find(" #").into_iter().chain(line.find("\t#")).min();
            let piece = if line.starts_with('#') { Some(0) } else { piece };
            let text = piece.and_then(|end| line.get(..end)).unwrap_or(line);
            let (text, goes_on) = match (piece, text.strip_suffix('\\')) {
                (None, Some(text)) => (text, true),
                _ => (text, false),
            };
            if text.contains(['\\', '\'', '"', '\r']) {
                return Err((
                    "a quote, a backslash or a carriage return amid a plain value".to_owned(),
                    "put the whole value in '…', which is taken as it is",
                ));
            }
            value.push_str(text);
            self.skip_line();
            if !goes_on || self.rest.is_empty() {
                return Ok(value.trim_end().to_owned());
            }
        }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
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
        check(
            "export A=yes\nexport\tB = 2\nexport=3",
            &[("A", "yes"), ("B", "2"), ("export", "3")],
        );
        check("A=\"x\" # note\nB='y'\t# note", &[("A", "x"), ("B", "y")]);
        check(
            "A=two words  # note\nB=a#b\nC= # note",
            &[("A", "two words"), ("B", "a#b"), ("C", "")],
        );
        check("A=\nB=\"\"\nC=''", &[("A", ""), ("B", ""), ("C", "")]);
        check("A='\\n \" $X'", &[("A", "\\n \" $X")]);
        check(r#"A="\" \\ \n \$X $Y""#, &[("A", "\" \\ \n $X $Y")]);
        check("A=one\\\ntwo\nB=\"one\\\ntwo\"", &[("A", "onetwo"), ("B", "onetwo")]);
        check("A=\"first\nsecond\"\nB=2", &[("A", "first\nsecond"), ("B", "2")]);
        check("A=1\nA=2", &[("A", "1"), ("A", "2")]);
        check("A=postgres://u:p@h/d?x=1&y=2;z", &[("A", "postgres://u:p@h/d?x=1&y=2;z")]);
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
            ("A=it's", 1, "amid a plain value"),
            ("A={\"a\":1}", 1, "amid a plain value"),
            ("A=C:\\temp", 1, "amid a plain value"),
            ("A=1\rB=2", 1, "amid a plain value"),
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
                let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
                text += &format!("export V{index}=\"{escaped}\" # note\n");
            }
            let read = parse(text.as_bytes()).unwrap();
            let read: Vec<_> = read.into_iter().map(|(_, value)| value).collect();
            prop_assert_eq!(read, values);
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
