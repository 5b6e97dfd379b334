//! What is wrong with a text that is no TOML, told by its cause.
//!
//! The parser goes on after an error and reports what it stumbles over, so one slip has several errors and
//! the first is not always the cause. Rules:
//! 1. A bracket that is not closed is shown where it opens, and nothing after it is reported: the parser
//!    took the rest for its content (`tests::an_open_bracket_is_shown_where_it_opens`).
//! 2. Of each line only the first error is told: what follows on it comes of that
//!    (`tests::a_line_has_one_error`).
//! 3. What can't be seen (a no-break space, NUL, a carriage return) is named with its code
//!    (`tests::what_can_not_be_seen_is_named`).

use std::ops::Range;

use toml::de::Error;
use toml_parser::lexer::{Token, TokenKind};

use super::diagnostic::DIAGNOSTICS_MAX;
use super::outline::{line_number, line_start};

/// One error, by its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: String,
}

impl Fault {
    fn new(span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: help.into() }
    }
}

/// What the parser's errors mean, in the order of the text. None if there are none.
pub(super) fn faults(source: &str, errors: &[Error]) -> Vec<Fault> {
    let mut errors: Vec<(Range<usize>, &str)> =
        errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message())).collect();
    errors.sort_by_key(|(span, _)| span.start);
    let (Some((first, _)), Some((last, _))) = (errors.first(), errors.last()) else {
        return Vec::new();
    };
    if let Some(fault) = carriage_returns(source) {
        return vec![fault];
    }
    let open = open_bracket(source).filter(|open| last.start > open.at);
    let mut faults: Vec<Fault> = Vec::new();
    let mut rest = errors.as_slice();
    let mut at = first.start;
    while let Some((span, message)) = rest.first() {
        if open.as_ref().is_some_and(|open| span.start > open.at) {
            break;
        }
        at = at.max(span.start);
        let length = source.get(at..).and_then(|rest| rest.find('\n'));
        let line_end = length.map_or(source.len(), |length| at + length);
        let (on_line, behind) =
            rest.split_at(rest.partition_point(|(span, _)| span.start <= line_end));
        rest = behind;
        // Of those that are only counted nobody reads the cause.
        faults.push(if faults.len() < DIAGNOSTICS_MAX {
            fault(source, span, message, on_line)
        } else {
            Fault::new(span.clone(), *message, TOML)
        });
    }
    if let Some(open) = open {
        faults.push(open.fault(source));
    }
    faults.sort_by_key(|fault| fault.span.start);
    // One slip has several errors: a table that comes too early makes each later one a second.
    faults.dedup();
    faults
}

/// Carriage returns that end no line: the first, and what they are.
fn carriage_returns(source: &str) -> Option<Fault> {
    let bytes = source.as_bytes();
    let mut lone = bytes
        .iter()
        .enumerate()
        .filter(|(at, byte)| **byte == b'\r' && bytes.get(at + 1) != Some(&b'\n'))
        .map(|(at, _)| at);
    let first = lone.next()?;
    let lines = source.matches('\n').count();
    Some(if lone.count() + 1 > lines {
        let help = "save the file with the line ends of Unix or Windows: LF or CR LF";
        Fault::new(first..first, "the line ends are carriage returns alone (CR)", help)
    } else {
        let help = "remove it: line ends are LF or CR LF";
        Fault::new(first..first, "a carriage return (CR) that ends no line", help)
    })
}

/// What an error of the parser means. `on_line` are all errors of its line.
fn fault(
    source: &str,
    span: &Range<usize>,
    message: &str,
    on_line: &[(Range<usize>, &str)],
) -> Fault {
    let text = source.get(span.clone()).unwrap_or_default();
    let line_end = source.get(span.start..).and_then(|rest| rest.find('\n'));
    let line_end = line_end.map_or(source.len(), |length| span.start + length);
    let line = source.get(line_start(source, span.start)..line_end).unwrap_or_default();
    if message == "duplicate key" {
        return duplicate(source, span, text);
    }
    if let Some((at, character, name)) = unseen(source, span) {
        let code = u32::from(character);
        let end = at + character.len_utf8();
        let help = "remove it, or write a blank in its place";
        return Fault::new(at..end, format!("{name} (U+{code:04X}) stands here"), help);
    }
    if let Some(quote) = text.chars().find(|character| QUOTES.contains(character)) {
        let help = "write \" around texts";
        return Fault::new(span.clone(), format!("`{quote}` is no quote here"), help);
    }
    if message.starts_with("string values") && text.contains("//") {
        return Fault::new(span.clone(), "`//` begins no comment", "comments stand behind #");
    }
    if on_line.iter().any(|(_, message)| message.starts_with("unexpected key or value")) {
        let help = "one `key = value` a line; texts in quotes, comments behind #";
        return Fault::new(span.clone(), "more than a value on this line", help);
    }
    let is_assigned = line.trim_start().split_once([':', '=']).is_some_and(|(key, _)| {
        let key = key.trim_end();
        let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        !key.is_empty() && key.bytes().all(is_bare)
    });
    if text == ":" && is_assigned {
        return Fault::new(span.clone(), "`:` where `=` belongs", "write  key = value");
    }
    Fault::new(span.clone(), message, help(message, text))
}

/// Marks that editors put in the place of `"` and `'`.
const QUOTES: [char; 6] = ['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{ab}'];

/// The first character of an error's place that can't be seen.
fn unseen(source: &str, span: &Range<usize>) -> Option<(usize, char, &'static str)> {
    let begin = source.floor_char_boundary(span.start);
    let rest = source.get(begin..)?;
    // An empty span stands before the character that it is about.
    let length = span.end.saturating_sub(begin).max(1);
    rest.char_indices().take_while(|(at, _)| *at < length).find_map(|(at, character)| {
        let name = match character {
            '\0' => "a zero character (NUL)",
            '\u{a0}' => "a no-break space",
            '\u{feff}' => "a byte order mark",
            '\u{200b}'..='\u{200d}' | '\u{2060}' => "a character without width",
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                "a mark that turns the direction of writing"
            }
            '\t' | '\n' | '\r' => return None,
            control if control.is_control() => "a control character",
            blank if blank != ' ' && blank.is_whitespace() => "a blank that is none of TOML's",
            _ => return None,
        };
        Some((begin + at, character, name))
    })
}

/// The same key, or table, twice; or a daemon's table before there is one.
fn duplicate(source: &str, span: &Range<usize>, key: &str) -> Fault {
    let start = line_start(source, span.start);
    let is_list = source.get(start..).is_some_and(|line| line.trim_start().starts_with("[["));
    if is_list && let Some(early) = header_within(source, key, start) {
        let header = source.get(early.clone()).unwrap_or_default();
        let message = format!("{header} stands before the first [[{key}]], so it is of none");
        let help = format!("move it and its keys below the [[{key}]] that it belongs to");
        return Fault::new(early, message, help);
    }
    let help = "remove one of the two";
    Fault::new(span.clone(), format!("duplicate key `{key}`"), help)
}

/// The first header of a table within `key` before an offset.
fn header_within(source: &str, key: &str, before: usize) -> Option<Range<usize>> {
    let mut at = 0;
    for line in source.get(..before)?.split_inclusive('\n') {
        let text = line.trim();
        let name = text.strip_prefix('[').unwrap_or_default().trim_start();
        let within = name.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', ']']));
        if within {
            let begin = at + line.len() - line.trim_start().len();
            let end = text.find(']').map_or(text.len(), |end| end + 1);
            return Some(begin..begin + end);
        }
        at += line.len();
    }
    None
}

/// The way out of the mistakes in TOML that people make most.
fn help(message: &str, text: &str) -> &'static str {
    if message.contains("string values must be quoted") && text.is_empty() {
        "write a value behind the =; texts stand in quotes: key = \"value\""
    } else if message.contains("escape") {
        "write \\\\ for a backslash, or put the text in '…', where it is itself"
    } else if message.contains("string") || message.contains("quote") {
        "texts stand in quotes: key = \"value\""
    } else if message.contains("boolean") {
        "write true or false; texts stand in quotes"
    } else if message.contains("comma") {
        "put a comma between two elements"
    } else {
        TOML
    }
}

const TOML: &str =
    "one `key = value` a line, texts in quotes, tables as [name]; see https://toml.io";

/// A bracket that is not closed.
#[derive(Debug)]
struct Open {
    at: usize,
    character: char,
    /// Where what can't be its content begins; none: the end of the text.
    before: Option<usize>,
}

impl Open {
    fn fault(&self, source: &str) -> Fault {
        let close = if self.character == '[' { ']' } else { '}' };
        let until = match self.before {
            Some(at) => format!("before line {}", line_number(source, at)),
            None => "before the end of the file".to_owned(),
        };
        let span = self.at..self.at + self.character.len_utf8();
        Fault::new(
            span,
            format!("`{}` is not closed {until}", self.character),
            format!("add `{close}` where its content ends"),
        )
    }
}

/// The innermost bracket that is open where a line begins that can't be its content: a header, or within
/// an array a `key =`; or at the end of the text. That lines look so is a guess, so it is asked only of a
/// text that is known to be wrong.
fn open_bracket(source: &str) -> Option<Open> {
    let lexed = toml_parser::Source::new(source);
    let tokens: Vec<Token> = lexed.lex().collect();
    let mut open: Vec<(usize, char)> = Vec::new();
    let mut is_value = false;
    let mut begins_line = true;
    for (index, token) in tokens.iter().enumerate() {
        let kind = token.kind();
        let at = token.span().start();
        if matches!(kind, TokenKind::Whitespace) {
            continue;
        }
        let is_text = !matches!(kind, TokenKind::Newline | TokenKind::Comment | TokenKind::Eof);
        if begins_line
            && is_text
            && let Some(&(open_at, character)) = open.last()
            && let Some(rest) = tokens.get(index..)
        {
            // Between braces an assignment is content, where one may begin.
            let may_begin = character == '{'
                && matches!(
                    last_before(&tokens, index),
                    Some(TokenKind::Comma | TokenKind::LeftCurlyBracket)
                );
            let is_other = is_header(source, rest) || (is_assignment(rest) && !may_begin);
            if is_other {
                return Some(Open { at: open_at, character, before: Some(at) });
            }
        }
        begins_line = false;
        match kind {
            TokenKind::Newline => {
                begins_line = true;
                is_value &= !open.is_empty();
            }
            TokenKind::Equals => is_value = true,
            // A header's brackets end on their line.
            TokenKind::LeftSquareBracket if is_value => open.push((at, '[')),
            TokenKind::LeftCurlyBracket if is_value => open.push((at, '{')),
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket if is_value => {
                open.pop();
            }
            _ => {}
        }
    }
    open.last().map(|&(at, character)| Open { at, character, before: None })
}

/// What stands before a token, blanks, comments and line ends aside.
fn last_before(tokens: &[Token], index: usize) -> Option<TokenKind> {
    let is_text = |kind: &TokenKind| {
        !matches!(kind, TokenKind::Whitespace | TokenKind::Newline | TokenKind::Comment)
    };
    tokens.get(..index)?.iter().rev().map(Token::kind).find(is_text)
}

/// Whether a line begins a table: `[name]` or `[[name]]`, and nothing but a comment behind it.
fn is_header(source: &str, tokens: &[Token]) -> bool {
    let mut depth = 0_u32;
    let mut is_name = false;
    for token in tokens {
        match token.kind() {
            TokenKind::LeftSquareBracket if !is_name => depth += 1,
            TokenKind::RightSquareBracket if is_name && depth > 0 => depth -= 1,
            TokenKind::Atom if depth > 0 => {
                let span = token.span();
                let text = source.get(span.start()..span.end()).unwrap_or_default();
                // An array of numbers or truth values may stand on a line of its own.
                let is_word = text.starts_with(|first: char| first.is_ascii_alphabetic());
                if !is_name && (!is_word || matches!(text, "true" | "false" | "inf" | "nan")) {
                    return false;
                }
                is_name = true;
            }
            TokenKind::Dot | TokenKind::BasicString | TokenKind::LiteralString if is_name => {}
            TokenKind::Whitespace => {}
            TokenKind::Newline | TokenKind::Comment | TokenKind::Eof => {
                return is_name && depth == 0;
            }
            _ => return false,
        }
    }
    is_name && depth == 0
}

/// Whether a line begins with `key =`.
fn is_assignment(tokens: &[Token]) -> bool {
    for token in tokens {
        match token.kind() {
            TokenKind::Atom
            | TokenKind::Dot
            | TokenKind::BasicString
            | TokenKind::LiteralString
            | TokenKind::Whitespace => {}
            TokenKind::Equals => return true,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toml::de::DeTable;

    use super::super::diagnostic::Place;
    use super::*;

    fn of(source: &str) -> Vec<Fault> {
        faults(source, &DeTable::parse_recoverable(source).1)
    }

    /// Each fault as `line:column message | help`.
    #[track_caller]
    fn check(source: &str, expected: &[&str]) {
        let found: Vec<String> = of(source)
            .iter()
            .map(|fault| {
                let place = Place::new(source, &fault.span);
                format!("{}:{} {} | {}", place.line, place.column, fault.message, fault.help)
            })
            .collect();
        assert_eq!(found, expected, "{source:?}");
    }

    #[test]
    fn an_open_bracket_is_shown_where_it_opens() {
        let square = |place: &str, until: &str| {
            format!("{place} `[` is not closed before {until} | add `]` where its content ends")
        };
        let curly = |place: &str, until: &str| {
            format!("{place} `{{` is not closed before {until} | add `}}` where its content ends")
        };
        let array = "a = 1\nx = [\"log\", \"state\"\n";
        for (rest, until) in [
            ("[daemon.channel.lines]\nfrom = { tail = \"a\" }\n", "line 3"),
            ("[[daemon]]\nname = \"a\"\n", "line 3"),
            ("[a.\"b c\"] # note\n", "line 3"),
            ("# a comment\n\nisolation = \"wos\"\n", "line 5"),
            ("\"a b\".c = 1\n", "line 3"),
            ("", "the end of the file"),
            ("# a comment\n", "the end of the file"),
        ] {
            check(&format!("{array}{rest}"), &[&square("2:5", until)]);
            check(
                &format!("x = {{ y = [\n1,\n2\n{rest}"),
                &[&square("1:11", &until.replace("line 3", "line 4").replace("line 5", "line 6"))],
            );
        }
        let table = "from = { tail = \"a\"\n";
        for (rest, until) in [
            ("[daemon.config]\nx = 1\n", "line 2"),
            ("x = 1\n", "line 2"),
            ("", "the end of the file"),
        ] {
            check(&format!("{table}{rest}"), &[&curly("1:8", until)]);
        }
        // Before it there may be others; what it swallowed is not looked at.
        check(
            "a = b\nx = [1\ny = z\n[c\n",
            &[
                "1:5 string values must be quoted, expected literal string | texts stand in quotes: key = \"value\"",
                &square("2:5", "line 3"),
            ],
        );
        // Arrays in arrays are no headers, and the error is another one.
        check(
            "x = [\n[1],\n[true],\n[\"a\"]\n]\ny = z\n",
            &[
                "6:5 string values must be quoted, expected literal string | texts stand in quotes: key = \"value\"",
            ],
        );
    }

    #[test]
    fn a_line_has_one_error() {
        check("isolation: \"wos\"\n", &["1:10 `:` where `=` belongs | write  key = value"]);
        let more = "more than a value on this line | one `key = value` a line; texts in quotes, comments behind #";
        check("a = 1; b = 2\n", &[&format!("1:5 {more}")]);
        check("a = 1 // note\n", &["1:5 `//` begins no comment | comments stand behind #"]);
        check(
            "a = b\nc\nd = 1\n",
            &[
                "1:5 string values must be quoted, expected literal string | texts stand in quotes: key = \"value\"",
                "2:2 key with no value, expected `=` | one `key = value` a line, texts in quotes, tables as [name]; see https://toml.io",
            ],
        );
    }

    #[test]
    fn what_can_not_be_seen_is_named() {
        let named = |place: &str, what: &str| {
            format!("{place} {what} stands here | remove it, or write a blank in its place")
        };
        for (source, place, what) in [
            ("\u{a0}name = \"x\"\n", "1:1", "a no-break space (U+00A0)"),
            ("name\u{a0}= 1\n", "1:5", "a no-break space (U+00A0)"),
            ("name =\u{a0}\"x\"\n", "1:7", "a no-break space (U+00A0)"),
            ("a = 1\u{a0}\n", "1:6", "a no-break space (U+00A0)"),
            ("\nname = \"a\0b\"\n", "2:10", "a zero character (NUL) (U+0000)"),
            ("a = 1\0\n", "1:6", "a zero character (NUL) (U+0000)"),
            ("# c\0\n", "1:4", "a zero character (NUL) (U+0000)"),
            ("a = \"x\u{1b}y\"\n", "1:7", "a control character (U+001B)"),
            ("a\u{200b} = 1\n", "1:2", "a character without width (U+200B)"),
            ("a =\u{3000}1\n", "1:4", "a blank that is none of TOML's (U+3000)"),
        ] {
            check(source, &[&named(place, what)]);
        }
        check("a = “x”\n", &["1:5 `“` is no quote here | write \" around texts"]);
        check(
            "[fleet]\rname = \"t\"\r\r[[daemon]]\r",
            &[
                "1:8 the line ends are carriage returns alone (CR) | save the file with the line ends of Unix or Windows: LF or CR LF",
            ],
        );
        check(
            "a = 1\nb = 2\rc = 3\nd = 4\n",
            &[
                "2:6 a carriage return (CR) that ends no line | remove it: line ends are LF or CR LF",
            ],
        );
        check("a = 1\r\nb = 2\r\n", &[]);
    }

    #[test]
    fn a_table_of_a_list_that_has_not_begun_is_told_so() {
        check(
            "[fleet]\n[daemon.channel.lines]\nfrom = 1\n[[daemon]]\nname = \"s\"\n[[daemon]]\n",
            &[
                "2:1 [daemon.channel.lines] stands before the first [[daemon]], so it is of none | move it and its keys below the [[daemon]] that it belongs to",
            ],
        );
        check("[a]\nb = 1\nb = 2\n", &["3:1 duplicate key `b` | remove one of the two"]);
    }

    proptest! {
        /// Whatever the text, each error is somewhere in it, in order, and there is one if the parser has one.
        #[test]
        fn any_text_has_an_answer(text in "([a-c]|=|\\[|\\]|\\{|\\}|,|\\n|\\r|\"|'|#|\\.| |1|\u{a0}|\u{0}|:){0,40}") {
            let errors = DeTable::parse_recoverable(&text).1;
            let faults = faults(&text, &errors);
            prop_assert_eq!(faults.is_empty(), errors.is_empty());
            prop_assert!(faults.is_sorted_by_key(|fault| fault.span.start));
            prop_assert!(faults.iter().all(|fault| fault.span.start <= text.len()));
        }
    }
}
