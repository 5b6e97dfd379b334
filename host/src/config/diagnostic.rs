//! What is wrong with a configuration: where, what, and the way out.
//!
//! Reading a configuration collects as many problems as can be found in one go. Each names file,
//! line, column, key, value and a way out, and shows the line with a caret, so that nobody has to
//! look one up to understand the other.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::terminal::drives_terminal;

/// Most problems that are reported at once; the rest is counted.
pub const DIAGNOSTICS_MAX: usize = 50;
/// Longest excerpt of a line, in characters: a longer line is cut around the caret.
const EXCERPT_CHARS_MAX: usize = 100;

/// Where something is in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line's text, without its end; at most 100 characters around the column.
    pub excerpt: String,
    /// How many characters precede the marked ones in the excerpt.
    #[serde(skip)]
    caret_offset: usize,
    /// How many characters are marked.
    #[serde(skip)]
    caret_width: usize,
}

impl Place {
    /// The place of a range of bytes in `source`. Offsets past the end, or within a character, mean
    /// the nearest place before.
    #[must_use]
    pub fn new(source: &str, span: &Range<usize>) -> Self {
        let start = source.floor_char_boundary(span.start.min(source.len()));
        let end = source.floor_char_boundary(span.end.clamp(start, source.len()));
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = source[..line_start].bytes().filter(|&byte| byte == b'\n').count() + 1;
        let line_end = source[start..].find('\n').map_or(source.len(), |at| start + at);
        let text = source[line_start..line_end].trim_end_matches('\r');
        let before = source[line_start..start].chars().count();
        let marked = source[start..end.min(line_end)].chars().count().max(1);

        // A window of the line in which the caret is visible.
        let first = (before + marked.min(EXCERPT_CHARS_MAX / 2)).saturating_sub(EXCERPT_CHARS_MAX);
        let excerpt: String = text
            .chars()
            .skip(first)
            .take(EXCERPT_CHARS_MAX)
            // A tab would move the caret, any other control character the terminal.
            .map(|character| if character.is_control() { ' ' } else { character })
            .collect();
        let caret_offset = before - first;
        let room = excerpt.chars().count().saturating_sub(caret_offset).max(1);
        Self { line, column: before + 1, excerpt, caret_offset, caret_width: marked.min(room) }
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file; none for a problem with flags or the environment.
    pub file: Option<PathBuf>,
    /// Where in the file; none if the file could not be read at all.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// The dotted key, with the daemon's name in it where there is one (`daemon.web.restart.limit`);
    /// empty: the file as a whole.
    pub key: String,
    /// The value as written, if one is there.
    pub value: Option<String>,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub help: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", Shown(&self.key))?;
        }
        writeln!(f, "{}", Shown(&self.message))?;
        let help = Shown(&self.help);
        match (&self.file, &self.place) {
            (Some(file), Some(place)) => {
                let number = place.line.to_string();
                let gutter = number.len();
                writeln!(
                    f,
                    "{:gutter$}--> {}:{}:{}",
                    "",
                    file.display(),
                    place.line,
                    place.column
                )?;
                writeln!(f, "{:gutter$} |", "")?;
                writeln!(f, "{number} | {}", place.excerpt)?;
                let (offset, width) = (place.caret_offset, place.caret_width);
                writeln!(f, "{:gutter$} | {:offset$}{:^<width$}", "", "", "")?;
                write!(f, "{:gutter$} = help: {help}", "")
            }
            (Some(file), None) => {
                writeln!(f, " --> {}", file.display())?;
                write!(f, "  = help: {help}")
            }
            (None, _) => write!(f, "  = help: {help}"),
        }
    }
}

/// A text in which whatever drives a terminal is escaped. Keys, messages and helps repeat what the file says, and
/// a file must not drive the terminal that shows what is wrong with it.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if drives_terminal(character) {
                write!(f, "{}", character.escape_default())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

/// All problems that were found, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostics {
    /// At most [`DIAGNOSTICS_MAX`].
    pub problems: Vec<Diagnostic>,
    /// How many more there are.
    pub more: usize,
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                write!(f, "\n\n")?;
            }
            write!(f, "{problem}")?;
        }
        if self.more > 0 {
            write!(f, "\n\nand {} more", self.more)?;
        }
        Ok(())
    }
}

/// Collects problems while a configuration is read.
#[derive(Debug)]
pub(super) struct Report<'s> {
    file: Option<&'s Path>,
    source: &'s str,
    problems: Vec<(usize, Diagnostic)>,
    more: usize,
}

impl<'s> Report<'s> {
    pub(super) const fn new(file: Option<&'s Path>, source: &'s str) -> Self {
        Self { file, source, problems: Vec::new(), more: 0 }
    }

    /// Adds a problem at a place in the source. `key` and `value` may be empty.
    pub(super) fn add(
        &mut self,
        span: &Range<usize>,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(span, key, None, message.into(), help.into());
    }

    /// Adds a problem with the value that stands at `span`.
    pub(super) fn add_value(
        &mut self,
        span: &Range<usize>,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let value = self.source.get(span.clone()).map(|text| {
            let end = text.floor_char_boundary(text.len().min(200));
            text[..end].to_owned()
        });
        self.push(span, key, value, message.into(), help.into());
    }

    fn push(
        &mut self,
        span: &Range<usize>,
        key: &str,
        value: Option<String>,
        message: String,
        help: String,
    ) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let place = self.file.map(|_| Place::new(self.source, span));
        let file = self.file.map(Path::to_owned);
        let key = key.to_owned();
        self.problems.push((span.start, Diagnostic { file, place, key, value, message, help }));
    }

    /// Whether further problems are only counted.
    pub(super) const fn is_full(&self) -> bool {
        self.problems.len() >= DIAGNOSTICS_MAX
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// All problems, in the order of the file.
    pub(super) fn into_diagnostics(mut self) -> Diagnostics {
        self.problems.sort_by_key(|(start, _)| *start);
        Diagnostics {
            problems: self.problems.into_iter().map(|(_, problem)| problem).collect(),
            more: self.more,
        }
    }

    /// Nothing, if there was no problem; else all of them.
    pub(super) fn finish(self) -> Result<(), Diagnostics> {
        if self.is_empty() { Ok(()) } else { Err(self.into_diagnostics()) }
    }
}

/// A problem with a file as a whole.
pub(super) fn whole_file(
    file: &Path,
    place: Option<Place>,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Diagnostics {
    Diagnostics {
        problems: vec![Diagnostic {
            file: Some(file.to_owned()),
            place,
            key: String::new(),
            value: None,
            message: message.into(),
            help: help.into(),
        }],
        more: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Line, column and what is under the caret.
    #[track_caller]
    fn check(source: &str, span: Range<usize>, line: usize, column: usize, marked: &str) {
        let place = Place::new(source, &span);
        assert_eq!((place.line, place.column), (line, column));
        let under: String =
            place.excerpt.chars().skip(place.caret_offset).take(place.caret_width).collect();
        assert_eq!(under, marked);
    }

    #[test]
    fn a_file_does_not_drive_the_terminal() {
        let source = "\x1b[2J = 1";
        let mut report = Report::new(Some(Path::new("f.toml")), source);
        report.add(&(0..4), "a.\x1b[2J", "unknown key\n`\x1b[2J`", "remove\t\u{9b}2J");
        assert_eq!(
            report.into_diagnostics().to_string(),
            "error: a.\\u{1b}[2J: unknown key\\n`\\u{1b}[2J`\n --> f.toml:1:1\n  |\n1 |  [2J = 1\n  \
             | ^^^^\n  = help: remove\\t\\u{9b}2J"
        );
    }

    #[test]
    fn a_place_is_counted_in_characters() {
        check("a = 1\nb = 2\n", 6..7, 2, 1, "b");
        check("\"äö\" = 1", 7..8, 1, 6, "=");
        check("a = \"x\ny\"", 4..9, 1, 5, "\"x");
        check("a\r\nb", 3..4, 2, 1, "b");
        check("", 0..0, 1, 1, "");
        check("a", 9..20, 1, 2, "");
        let long = format!("{}X{}", "-".repeat(300), "-".repeat(300));
        check(&long, 300..301, 1, 301, "X");
    }
}
