//! One entry of a log, and the line that it is written as.
//!
//! The columns are fixed: 27 bytes of moment, 5 of level, 6 of origin, each followed by one space,
//! then the text. In the text a backslash is `\\`, a line feed `\n`, a carriage return `\r`,
//! whatever else [drives a terminal](drives_terminal) `\u{1b}`, and a byte that is not UTF-8 `\xff`. A single backslash at the
//! end of the line says that the next entry continues this one.

use std::io::Write as _;
use std::time::SystemTime;

use duende_core::wire::link::LogLevel;
use serde::{Serialize, Serializer};

use crate::clock::rfc3339_micros;
use crate::terminal::drives_terminal;

/// Bytes of the moment: `2026-11-21T09:07:29.123456Z`.
const MOMENT_BYTES: usize = 27;
/// Bytes of the longest level.
const LEVEL_BYTES: usize = 5;
/// Bytes of the longest origin.
const ORIGIN_BYTES: usize = 6;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogOrigin {
    /// The daemon, on its standard output.
    Stdout,
    /// The daemon, on its standard error.
    Stderr,
    /// The daemon, through the interface `log` of its contract.
    Log,
    /// Duende, about the daemon.
    Duende,
}

impl LogOrigin {
    /// As it stands in a line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Log => "log",
            Self::Duende => "duende",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Stdout, Self::Stderr, Self::Log, Self::Duende]
            .into_iter()
            .find(|origin| origin.name() == name)
    }
}

/// All levels.
const LEVELS: [LogLevel; 6] = [
    LogLevel::Trace,
    LogLevel::Debug,
    LogLevel::Info,
    LogLevel::Warn,
    LogLevel::Error,
    LogLevel::Critical,
];

/// A level as it stands in a line.
#[must_use]
pub const fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Critical => "crit",
    }
}

fn level_from_name(name: &str) -> Option<LogLevel> {
    LEVELS.into_iter().find(|level| level_name(*level) == name)
}

/// One entry. As JSON: `{"at":"2026-…Z","level":"info","origin":"stdout","text":"…"}`, with
/// `"continues":true` where it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// When it was written; lines carry microseconds.
    #[serde(serialize_with = "serialize_moment")]
    pub at: SystemTime,
    /// How urgent.
    #[serde(serialize_with = "serialize_level")]
    pub level: LogLevel,
    /// Who said it.
    pub origin: LogOrigin,
    /// What was said. A byte that was not UTF-8 reads as the four characters `\xff`.
    pub text: String,
    /// Whether the text goes on in the next entry of this origin: the line that the daemon wrote
    /// was too long for one entry.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
}

// serde hands out references here.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn serialize_level<S: Serializer>(level: &LogLevel, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(level_name(*level))
}

fn serialize_moment<S: Serializer>(at: &SystemTime, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&rfc3339_micros(*at))
}

/// Why a line is not an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseLogError {
    /// The columns are not there: the line is from another program, or a full disk cut it.
    #[error("not a log entry: no moment, level and origin in their columns")]
    Columns,
    /// The moment can't be read.
    #[error("not a log entry: the moment `{0}` is not RFC 3339 in UTC")]
    Moment(String),
    /// No such level.
    #[error("not a log entry: unknown level `{0}`")]
    Level(String),
    /// No such origin.
    #[error("not a log entry: unknown origin `{0}`")]
    Origin(String),
    /// An escape is none of ours.
    #[error("damaged log entry: unknown escape at byte {at_byte} of the text")]
    Escape {
        /// Where in the text.
        at_byte: usize,
    },
}

impl LogEntry {
    /// Reads one line, without its line feed.
    ///
    /// # Errors
    /// [`ParseLogError`], when the line was not written by [`encode_entry`].
    pub fn parse(line: &str) -> Result<Self, ParseLogError> {
        let (moment, rest) = column(line, MOMENT_BYTES)?;
        let (level, rest) = column(rest, LEVEL_BYTES)?;
        let (origin, text) = column(rest, ORIGIN_BYTES)?;
        let at = humantime::parse_rfc3339(moment)
            .map_err(|_| ParseLogError::Moment(moment.to_owned()))?;
        let level = level_from_name(level.trim_end())
            .ok_or_else(|| ParseLogError::Level(level.to_owned()))?;
        let origin = LogOrigin::from_name(origin.trim_end())
            .ok_or_else(|| ParseLogError::Origin(origin.to_owned()))?;
        let (text, continues) = unescape(text)?;
        Ok(Self { at, level, origin, text, continues })
    }
}

/// Splits off a column and the space behind it.
fn column(line: &str, bytes: usize) -> Result<(&str, &str), ParseLogError> {
    let (column, rest) = line.split_at_checked(bytes).ok_or(ParseLogError::Columns)?;
    let rest = rest.strip_prefix(' ').ok_or(ParseLogError::Columns)?;
    Ok((column, rest))
}

/// Writes one entry as a line, with its line feed.
pub fn encode_entry(
    out: &mut Vec<u8>,
    at: SystemTime,
    level: LogLevel,
    origin: LogOrigin,
    text: &[u8],
    continues: bool,
) {
    // Writing to a Vec has no way to fail.
    let _ = write!(
        out,
        "{} {:<LEVEL_BYTES$} {:<ORIGIN_BYTES$} ",
        rfc3339_micros(at),
        level_name(level),
        origin.name(),
    );
    escape(out, text);
    if continues {
        out.push(b'\\');
    }
    out.push(b'\n');
}

fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let plain = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b'\\' || *byte == b'\t';
    if text.iter().all(plain) {
        out.extend_from_slice(text);
        return;
    }
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => out.extend_from_slice(br"\\"),
                '\n' => out.extend_from_slice(br"\n"),
                '\r' => out.extend_from_slice(br"\r"),
                character if drives_terminal(character) && character != '\t' => {
                    let _ = write!(out, "{}", character.escape_unicode());
                }
                character => {
                    let mut utf8 = [0; 4];
                    out.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
                }
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// The text, and whether it continues.
fn unescape(escaped: &str) -> Result<(String, bool), ParseLogError> {
    let mut text = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((plain, after)) = rest.split_once('\\') {
        text.push_str(plain);
        let unknown = ParseLogError::Escape { at_byte: escaped.len() - after.len() - 1 };
        let mut characters = after.chars();
        match characters.next() {
            None => return Ok((text, true)),
            Some('\\') => text.push('\\'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            // Not a character: stays as it was written.
            Some('x') => text.push_str("\\x"),
            Some('u') => {
                let (character, behind) = after
                    .strip_prefix("u{")
                    .and_then(|code| code.split_once('}'))
                    .and_then(|(code, behind)| {
                        let code = u32::from_str_radix(code, 16).ok()?;
                        Some((char::from_u32(code)?, behind))
                    })
                    .ok_or(unknown)?;
                text.push(character);
                rest = behind;
                continue;
            }
            Some(_) => return Err(unknown),
        }
        rest = characters.as_str();
    }
    text.push_str(rest);
    Ok((text, false))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn line(text: &[u8], continues: bool) -> String {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_252_049_123_456);
        let mut out = Vec::new();
        encode_entry(&mut out, at, LogLevel::Info, LogOrigin::Stdout, text, continues);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_what_the_format_says() {
        let head = "2026-11-21T09:07:29.123456Z info  stdout ";
        for (text, written) in [
            (&b"plain text\t1"[..], "plain text\t1\n"),
            ("grün".as_bytes(), "grün\n"),
            (b"two\nlines\r", "two\\nlines\\r\n"),
            (b"C:\\new", "C:\\\\new\n"),
            (b"\x1b[31mred\x00", "\\u{1b}[31mred\\u{0}\n"),
            (b"\xff\xfeA", "\\xff\\xfeA\n"),
            ("\u{9b}2J".as_bytes(), "\\u{9b}2J\n"),
        ] {
            assert_eq!(line(text, false), format!("{head}{written}"));
        }
        assert_eq!(line(b"half\\", true), format!("{head}half\\\\\\\n"));
    }

    #[test]
    fn what_is_not_an_entry_is_refused() {
        use ParseLogError as E;
        for (text, error) in [
            ("", E::Columns),
            ("hello", E::Columns),
            ("2026-11-21T09:07:29.123456Z info  stdoutx", E::Columns),
            (
                "2026-11-21T09:07:29.12345ZZ info  stdout x",
                E::Moment("2026-11-21T09:07:29.12345ZZ".into()),
            ),
            ("2026-11-21T09:07:29.123456Z loud  stdout x", E::Level("loud ".into())),
            ("2026-11-21T09:07:29.123456Z info  stdxxx x", E::Origin("stdxxx".into())),
            (r"2026-11-21T09:07:29.123456Z info  stdout ab\u{110000}", E::Escape { at_byte: 2 }),
            (r"2026-11-21T09:07:29.123456Z info  stdout \q", E::Escape { at_byte: 0 }),
        ] {
            assert_eq!(LogEntry::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn json_names_what_it_holds() {
        let entry = LogEntry::parse(line(b"x", true).trim_end_matches('\n')).unwrap();
        assert_eq!(
            serde_json::to_string(&entry).unwrap(),
            r#"{"at":"2026-11-21T09:07:29.123456Z","level":"info","origin":"stdout","text":"x","continues":true}"#
        );
    }

    fn entries() -> impl Strategy<Value = LogEntry> {
        let origins = [LogOrigin::Stdout, LogOrigin::Stderr, LogOrigin::Log, LogOrigin::Duende];
        // Until the end of the year 9999, which is where four digits end.
        (
            0..253_402_300_800_000_000_u64,
            proptest::sample::select(LEVELS.to_vec()),
            proptest::sample::select(origins.to_vec()),
            any::<String>(),
            any::<bool>(),
        )
            .prop_map(|(micros, level, origin, text, continues)| LogEntry {
                at: SystemTime::UNIX_EPOCH + Duration::from_micros(micros),
                level,
                origin,
                text,
                continues,
            })
    }

    proptest! {
        #[test]
        fn parse_gives_back_what_was_written(entry in entries()) {
            let mut line = Vec::new();
            encode_entry(&mut line, entry.at, entry.level, entry.origin, entry.text.as_bytes(), entry.continues);
            let line = String::from_utf8(line).unwrap();
            let (line, nothing) = line.split_once('\n').unwrap();
            prop_assert_eq!(nothing, "");
            prop_assert_eq!(LogEntry::parse(line), Ok(entry));
        }

        #[test]
        fn any_bytes_become_one_readable_line(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let line = line(&text, false);
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert!(LogEntry::parse(line.trim_end_matches('\n')).is_ok());
        }
    }
}
