//! A pattern of one's own: the text of nginx's `log_format`, or of Apache's `LogFormat`.
//!
//! Rules:
//! 1. A pattern is literals and fields in turn. A field whose value is wanted (status, bytes, time, request time)
//!    has a form of its own; any other reaches to the literal behind it.
//! 2. Where that literal occurs more than once, the first counts behind which a wanted field, if one follows, has
//!    its form: so a user may have blanks and brackets. Nothing else is tried again, and wanted fields are
//!    short, so a line takes linear time.
//! 3. Between quotes, a backslash hides the byte after it. Elsewhere a blank within a list (`a, b : c`, as nginx
//!    writes what it had from several upstreams) ends no field.
//! 4. More may stand behind the pattern, separated by a blank.
//! 5. A pattern that can't work is refused, with the column (from 1, in characters): no status, two fields that
//!    nothing separates, a name that nobody writes.

mod apache;
mod nginx;

use core::fmt;

use crate::clf;
use crate::number::{Decimal, NUMBER_BYTES_MAX, Unit};
use crate::record::{Misread, Record};
use crate::scan::{closing_quote, find, tail};
use crate::time;

/// Most bytes of a pattern.
pub(crate) const PATTERN_BYTES_MAX: usize = 4_096;

/// The shortest time, `1/Nov/2026:09:15:15`, in bytes.
const TIME_BYTES_MIN: usize = 19;

/// What a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Not wanted.
    Other,
    Status,
    Bytes,
    Time,
    /// A number of units since 1970.
    Epoch(Unit),
    Latency(Unit),
}

impl Kind {
    /// What the line lacks where it should be.
    const fn expected(self) -> &'static str {
        match self {
            Self::Other => "the text behind a field of the pattern",
            Self::Status => "a status of three digits, or `-`",
            Self::Bytes => "a number of bytes, or `-`",
            Self::Time => "a time",
            Self::Epoch(_) => "a number of seconds since 1970",
            Self::Latency(_) => "a request time, or `-`",
        }
    }
}

/// A part of a pattern, as its syntax was read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(u8),
    Field(Field),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    kind: Kind,
    /// Of several fields of a kind the one of the highest rank counts, and the first of those.
    rank: u8,
    /// As it is written.
    name: String,
    column: usize,
}

/// A field, and what stands behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    kind: Kind,
    is_quoted: bool,
    behind: Vec<u8>,
}

/// A pattern that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    front: Vec<u8>,
    pieces: Vec<Piece>,
}

/// Why a pattern was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What, for people.
    pub problem: String,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at column {}: {}", self.column, self.problem)
    }
}

impl PatternError {
    fn new(column: usize, problem: impl Into<String>) -> Self {
        Self { column, problem: problem.into() }
    }
}

impl Pattern {
    /// Whether a text is a pattern, not the name of a format.
    pub(crate) fn is_one(text: &str) -> bool {
        text.contains(['$', '%', ' '])
    }

    /// Reads a pattern, in nginx's syntax if it has a `$`, else in Apache's.
    ///
    /// # Errors
    /// It can't work.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.len() > PATTERN_BYTES_MAX {
            let problem = format!("a pattern has at most {PATTERN_BYTES_MAX} bytes");
            return Err(PatternError::new(1, problem));
        }
        let is_nginx = text.contains('$');
        let tokens = if is_nginx { nginx::tokens(text)? } else { apache::tokens(text)? };
        Self::compile(&tokens, text.chars().count() + 1, is_nginx)
    }

    fn compile(tokens: &[Token], end: usize, is_nginx: bool) -> Result<Self, PatternError> {
        let best = |wanted: fn(Kind) -> bool| {
            let fields = tokens.iter().filter_map(|token| match token {
                Token::Field(field) if wanted(field.kind) => Some((field.rank, field.column)),
                _ => None,
            });
            // The first of the highest rank.
            fields.max_by_key(|(rank, column)| (*rank, core::cmp::Reverse(*column)))
        };
        let wanted: [fn(Kind) -> bool; 4] = [
            |kind| kind == Kind::Status,
            |kind| kind == Kind::Bytes,
            |kind| matches!(kind, Kind::Time | Kind::Epoch(_)),
            |kind| matches!(kind, Kind::Latency(_)),
        ];
        let columns = wanted.map(|kind| best(kind).map(|(_, column)| column));
        if columns[0].is_none() {
            let names = if is_nginx { "`$status`" } else { "`%>s`" };
            let problem =
                format!("it has no status ({names}), and without one nothing can be counted");
            return Err(PatternError::new(end, problem));
        }
        let mut pattern = Self { front: Vec::new(), pieces: Vec::new() };
        let mut before: Option<&Field> = None;
        for token in tokens {
            match token {
                Token::Literal(byte) => pattern.push(*byte),
                Token::Field(field) => {
                    let is_wanted = columns.contains(&Some(field.column));
                    let kind = if is_wanted { field.kind } else { Kind::Other };
                    if let (Some(before), Some(last)) = (before, pattern.pieces.last())
                        && last.behind.is_empty()
                        && last.kind == Kind::Other
                    {
                        let problem = format!(
                            "nothing tells where `{}` ends and `{}` begins: put something between them",
                            before.name, field.name
                        );
                        return Err(PatternError::new(field.column, problem));
                    }
                    let opening = pattern.pieces.last().map_or(&pattern.front, |last| &last.behind);
                    let is_quoted = opening.last() == Some(&b'"');
                    pattern.pieces.push(Piece { kind, is_quoted, behind: Vec::new() });
                    before = Some(field);
                }
            }
        }
        for piece in &mut pattern.pieces {
            piece.is_quoted &= piece.behind.first() == Some(&b'"');
        }
        if let Some(last) = pattern.pieces.last_mut() {
            let end = last.behind.trim_ascii_end().len();
            last.behind.truncate(end);
        }
        Ok(pattern)
    }

    fn push(&mut self, byte: u8) {
        self.pieces.last_mut().map_or(&mut self.front, |last| &mut last.behind).push(byte);
    }

    /// Reads a line.
    ///
    /// # Errors
    /// It does not fit.
    pub(crate) fn read(&self, line: &[u8]) -> Result<Record, Misread> {
        if !line.starts_with(&self.front) {
            return Err(Misread::new(0, "what the pattern begins with"));
        }
        let mut record = Record::default();
        let mut at = self.front.len();
        let mut pieces = self.pieces.iter().peekable();
        while let Some(piece) = pieces.next() {
            let next = pieces.peek().map_or(Kind::Other, |next| next.kind);
            let misread = Misread::new(at, piece.kind.expected());
            at += match piece.kind {
                Kind::Other => piece.end(tail(line, at), next).ok_or(misread)?,
                Kind::Time => {
                    let (second, length) = piece.time(tail(line, at)).ok_or(misread)?;
                    record.second = Some(second);
                    length
                }
                kind => take(kind, tail(line, at), &mut record).ok_or(misread)?,
            };
            let behind = tail(line, at);
            if !behind.starts_with(&piece.behind) {
                return Err(Misread::new(at, "what the pattern has behind a field"));
            }
            at += piece.behind.len();
        }
        match tail(line, at).first() {
            None | Some(b' ') => Ok(record),
            Some(_) => Err(Misread::new(at, "a blank, or the end")),
        }
    }
}

impl Piece {
    /// The time with which a text begins: as long as it can be, but for what stands behind it in the pattern.
    fn time(&self, text: &[u8]) -> Option<(u64, usize)> {
        let (second, length) = time::prefix(text)?;
        if tail(text, length).starts_with(&self.behind) {
            return Some((second, length));
        }
        let shorter = |end: &usize| tail(text, *end).starts_with(&self.behind);
        let end = (TIME_BYTES_MIN..length).find(shorter)?;
        time::prefix(text.get(..end)?).filter(|(_, length)| *length == end)
    }

    /// Whether the blank at `at` is one between the elements of a list.
    fn is_amid_list(&self, text: &[u8], at: usize) -> bool {
        let before = text.get(..at).unwrap_or_default();
        self.behind == b" "
            && (before.ends_with(b",")
                || before.ends_with(b" :")
                || tail(text, at).starts_with(b" : "))
    }

    /// Where a field that is not wanted ends.
    fn end(&self, text: &[u8], next: Kind) -> Option<usize> {
        let Some(first) = self.behind.first() else { return Some(text.len()) };
        let mut from = 0;
        loop {
            let rest = tail(text, from);
            let at = if self.is_quoted { closing_quote(rest)? } else { find(rest, *first)? };
            let behind = tail(rest, at).strip_prefix(self.behind.as_slice());
            let is_end = self.is_quoted || !self.is_amid_list(text, from + at);
            if is_end && behind.is_some_and(|behind| has_form(next, behind)) {
                return Some(from + at);
            }
            from += at + 1;
        }
    }
}

/// Whether a text begins with a field of this kind.
fn has_form(kind: Kind, text: &[u8]) -> bool {
    kind == Kind::Other || take(kind, text, &mut Record::default()).is_some()
}

/// Reads the field of this kind with which a text begins, and says how long it is.
fn take(kind: Kind, text: &[u8], record: &mut Record) -> Option<usize> {
    let short = text.get(..text.len().min(NUMBER_BYTES_MAX))?;
    let number = |also: &[u8]| {
        short.iter().take_while(|byte| byte.is_ascii_digit() || also.contains(byte)).count()
    };
    let (is_absent, length) = match kind {
        Kind::Other => return None,
        Kind::Time => {
            let (second, length) = time::prefix(text)?;
            record.second = Some(second);
            return Some(length);
        }
        _ if text.first() == Some(&b'-') => (true, 1),
        Kind::Status | Kind::Bytes => (false, number(&[])),
        Kind::Epoch(_) | Kind::Latency(_) => (false, Decimal::prefix(short)?.1),
    };
    let field = short.get(..length)?;
    match kind {
        Kind::Status => record.status = clf::status(field)?,
        _ if is_absent => {}
        Kind::Bytes => record.bytes = crate::number::digits(field)?,
        Kind::Epoch(unit) => {
            record.second = Some(Decimal::parse(field)?.microseconds(unit)? / 1_000_000);
        }
        Kind::Latency(unit) => record.latency_us = Some(Decimal::parse(field)?.microseconds(unit)?),
        Kind::Other | Kind::Time => {}
    }
    Some(length)
}

/// Whether `text` is `known` but for one slip of the keyboard: a letter too many, too few, wrong, or two swapped.
fn is_slip_of(text: &str, known: &str) -> bool {
    let (text, known) = (text.as_bytes(), known.as_bytes());
    let same = text.iter().zip(known).take_while(|(one, other)| one == other).count();
    let (text, known) = (tail(text, same), tail(known, same));
    let swapped = match (text, known) {
        ([a, b, text @ ..], [c, d, known @ ..]) => a == d && b == c && text == known,
        _ => false,
    };
    let is_same = text.is_empty() && known.is_empty();
    !is_same
        && (swapped
            || tail(text, 1) == known
            || text == tail(known, 1)
            || (!text.is_empty() && !known.is_empty() && tail(text, 1) == tail(known, 1)))
}

#[cfg(test)]
mod tests;
