//! What is wrong with a configuration: where, what, and the way out.
//!
//! Reading a configuration collects as many problems as can be found in one go. Each names file,
//! line, column, key, value and a way out, and shows the line with a caret, so that nobody has to
//! look one up to understand the other.
//!
//! Rules:
//! 1. However long what the file says, a problem is a few lines ([`Diagnostic::new`] shortens,
//!    `tests::what_is_long_is_shortened_in_its_middle`).
//! 2. Of more than [`DIAGNOSTICS_MAX`] the first in the file are kept, in whatever order they were found
//!    (`tests::the_first_of_the_file_are_kept`).
//! 3. Nothing that a file says drives a terminal (`tests::a_file_does_not_drive_the_terminal`).

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::terminal::{drives_terminal, harmless};

use super::outline::{self, Outline};

/// Most problems that are reported at once; the rest is counted.
pub const DIAGNOSTICS_MAX: usize = 50;
/// Longest excerpt of a line, in characters: a longer line is cut around the caret.
const EXCERPT_CHARS_MAX: usize = 100;
/// Longest message, and longest way out, in characters.
const TEXT_CHARS_MAX: usize = 300;
/// Longest key and longest value, in characters.
const KEY_CHARS_MAX: usize = 160;
const VALUE_CHARS_MAX: usize = 200;

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
            // A tab would move the caret, and others the terminal.
            .map(|character| if drives_terminal(character) { ' ' } else { character })
            .collect();
        let caret_offset = before - first;
        let room = excerpt.chars().count().saturating_sub(caret_offset).max(1);
        Self { line, column: before + 1, excerpt, caret_offset, caret_width: marked.min(room) }
    }
}

/// What a problem is to whoever wants to use the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It can't be used.
    Error,
    /// It can, and probably something else was meant.
    Warning,
}

impl Severity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether the configuration can be used nevertheless.
    pub severity: Severity,
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

impl Diagnostic {
    /// A problem; what is long of its texts is shortened. `key` may be empty.
    pub(super) fn new(
        severity: Severity,
        file: Option<&Path>,
        place: Option<Place>,
        (key, value): (&str, Option<&str>),
        message: &str,
        help: &str,
    ) -> Self {
        Self {
            severity,
            file: file.map(Path::to_owned),
            place,
            key: shortened(key, KEY_CHARS_MAX),
            // As it is written, so that it can be found: its beginning.
            value: value.map(|value| value.chars().take(VALUE_CHARS_MAX).collect()),
            message: shortened(message, TEXT_CHARS_MAX),
            help: shortened(help, TEXT_CHARS_MAX),
        }
    }
}

/// A text without its middle if it is longer than `chars_max` characters.
fn shortened(text: &str, chars_max: usize) -> String {
    let count = text.chars().count();
    if count <= chars_max {
        return text.to_owned();
    }
    const GAP: &str = " … ";
    let kept = chars_max.saturating_sub(GAP.chars().count());
    let end = kept / 3;
    let begin: String = text.chars().take(kept - end).collect();
    let end: String = text.chars().skip(count - end).collect();
    format!("{begin}{GAP}{end}")
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.severity.as_str())?;
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
                    harmless(&file.display().to_string()),
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
                writeln!(f, " --> {}", harmless(&file.display().to_string()))?;
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
    errors: First,
    warnings: First,
    outline: Outline,
}

impl<'s> Report<'s> {
    pub(super) fn new(file: Option<&'s Path>, source: &'s str) -> Self {
        let (errors, warnings) = (First::default(), First::default());
        Self { file, source, errors, warnings, outline: Outline::default() }
    }

    /// The whole text.
    pub(super) const fn source(&self) -> &'s str {
        self.source
    }

    /// Whether what stands there is a part of a header.
    pub(super) fn is_in_header(&self, span: &Range<usize>) -> bool {
        outline::is_in_header(self.source, span)
    }

    /// The line on which it begins, from 1.
    pub(super) fn line_of(&self, span: &Range<usize>) -> usize {
        outline::line_number(self.source, span.start)
    }

    /// A place for a text, as `file:line:column`.
    pub(super) fn point(&self, span: &Range<usize>) -> String {
        let Place { line, column, .. } = Place::new(self.source, span);
        let file = self.file.and_then(Path::file_name).unwrap_or_default();
        format!("{}:{line}:{column}", file.to_string_lossy())
    }

    /// Where the tables of what is being read begin.
    pub(super) const fn outline(&self) -> &Outline {
        &self.outline
    }

    pub(super) const fn outline_mut(&mut self) -> &mut Outline {
        &mut self.outline
    }

    /// Adds a problem at a place in the source. `key` may be empty.
    pub(super) fn add(
        &mut self,
        span: &Range<usize>,
        key: &str,
        message: impl AsRef<str>,
        help: impl AsRef<str>,
    ) {
        self.push(Severity::Error, span, (key, None), message.as_ref(), help.as_ref());
    }

    /// Adds a problem with the value that stands at `span`.
    pub(super) fn add_value(
        &mut self,
        span: &Range<usize>,
        key: &str,
        message: impl AsRef<str>,
        help: impl AsRef<str>,
    ) {
        let value = self.source.get(span.clone());
        self.push(Severity::Error, span, (key, value), message.as_ref(), help.as_ref());
    }

    /// Adds what is allowed, and probably not meant.
    pub(super) fn warn(
        &mut self,
        span: &Range<usize>,
        key: &str,
        message: impl AsRef<str>,
        help: impl AsRef<str>,
    ) {
        self.push(Severity::Warning, span, (key, None), message.as_ref(), help.as_ref());
    }

    fn push(
        &mut self,
        severity: Severity,
        span: &Range<usize>,
        key_and_value: (&str, Option<&str>),
        message: &str,
        help: &str,
    ) {
        let (file, source) = (self.file, self.source);
        let list = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        list.add(span.start, || {
            let place = file.map(|_| Place::new(source, span));
            Diagnostic::new(severity, file, place, key_and_value, message, help)
        });
    }

    /// Whether an error at this place would only be counted, so that nobody need think of a way out.
    pub(super) fn only_counts(&self, span: &Range<usize>) -> bool {
        self.errors.only_counts(span.start)
    }

    /// How much was reported so far: whether something was, since.
    pub(super) fn errors(&self) -> usize {
        self.errors.kept.len() + self.errors.more
    }

    pub(super) fn is_empty(&self) -> bool {
        self.errors() == 0
    }

    /// All errors, in the order of the file.
    pub(super) fn into_diagnostics(self) -> Diagnostics {
        let (problems, more) = self.errors.into_order();
        Diagnostics { problems, more }
    }

    /// The warnings, if there was no error; else all errors.
    pub(super) fn finish(self) -> Result<Vec<Diagnostic>, Diagnostics> {
        if self.is_empty() {
            Ok(self.warnings.into_order().0)
        } else {
            Err(self.into_diagnostics())
        }
    }
}

/// Those problems that come first in a file, and how many more there are.
#[derive(Debug, Default)]
struct First {
    /// By place; of the same place in the order in which they were found.
    kept: Vec<(usize, Diagnostic)>,
    more: usize,
}

impl First {
    fn only_counts(&self, at: usize) -> bool {
        self.kept.len() == DIAGNOSTICS_MAX && self.kept.last().is_some_and(|(last, _)| *last <= at)
    }

    fn add(&mut self, at: usize, problem: impl FnOnce() -> Diagnostic) {
        if self.only_counts(at) {
            self.more += 1;
            return;
        }
        if self.kept.len() == DIAGNOSTICS_MAX {
            self.kept.pop();
            self.more += 1;
        }
        let index = self.kept.partition_point(|(before, _)| *before <= at);
        self.kept.insert(index, (at, problem()));
    }

    fn into_order(self) -> (Vec<Diagnostic>, usize) {
        (self.kept.into_iter().map(|(_, problem)| problem).collect(), self.more)
    }
}

/// A problem with a file as a whole.
pub(super) fn whole_file(
    file: &Path,
    place: Option<Place>,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Diagnostics {
    let (message, help) = (message.into(), help.into());
    let problem = Diagnostic::new(Severity::Error, Some(file), place, ("", None), &message, &help);
    Diagnostics { problems: vec![problem], more: 0 }
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
        let source = "\x1b[2J\u{202e} = 1";
        let mut report = Report::new(Some(Path::new("f.toml")), source);
        report.add(&(0..4), "a.\x1b[2J", "unknown key\n`\x1b[2J`", "remove\t\u{9b}2J");
        assert_eq!(
            report.into_diagnostics().to_string(),
            "error: a.\\u{1b}[2J: unknown key\\n`\\u{1b}[2J`\n --> f.toml:1:1\n  |\n1 |  [2J  = 1\n  \
             | ^^^^\n  = help: remove\\t\\u{9b}2J"
        );
    }

    #[test]
    fn what_is_long_is_shortened_in_its_middle() {
        let long = "x".repeat(1 << 20);
        let source = format!("a = \"{long}\"");
        let mut report = Report::new(Some(Path::new("f.toml")), &source);
        let (message, help) = (format!("`{long}` is no word"), format!("not `{long}` but a word"));
        report.add_value(&(4..source.len()), &format!("daemon.{long}.key"), message, help);
        let text = report.into_diagnostics().to_string();
        assert!(text.len() < 2_000, "{}", text.len());
        for part in
            ["error: daemon.xxx", "xxx.key: `xxx", " … ", "xxx` is no word", "xxx` but a word"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(shortened(&"ä".repeat(300), 300), "ä".repeat(300));
        assert_eq!(shortened("abcdefghijkl", 9), "abcd … kl");
    }

    proptest::proptest! {
        #[test]
        fn the_first_of_the_file_are_kept(places in proptest::collection::vec(0_usize..200, 0..200)) {
            let source = " ".repeat(200);
            let mut report = Report::new(Some(Path::new("f.toml")), &source);
            for &place in &places {
                let counts = report.only_counts(&(place..place));
                let before = report.errors.more;
                report.add(&(place..place), "", "m", "h");
                assert!(!counts || report.errors.more == before + 1);
            }
            assert_eq!(report.errors(), places.len());
            let Diagnostics { problems, more } = report.into_diagnostics();
            let mut first = places.clone();
            first.sort_unstable();
            first.truncate(DIAGNOSTICS_MAX);
            let columns = problems.iter().map(|problem| problem.place.as_ref().map(|at| at.column - 1));
            assert_eq!(columns.collect::<Option<Vec<_>>>(), Some(first));
            assert_eq!(problems.len() + more, places.len());
        }
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
