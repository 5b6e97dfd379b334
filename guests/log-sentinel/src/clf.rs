//! The common log format and what grew out of it:
//! ```text
//! 192.0.2.1 - - [21/Nov/2026:09:15:15 +0000] "GET / HTTP/1.1" 200 1234
//! 192.0.2.1 - - [21/Nov/2026:09:15:15 +0000] "GET / HTTP/1.1" 200 1234 "-" "curl/8.0" 0.000123
//! ```
//! Rules:
//! 1. What stands before the time is free: hosts, lists of addresses, users with blanks, what syslog puts
//!    in front. The time is the first one in brackets that the request follows. A server escapes the quotes of what
//!    clients send, so nobody can put such a pair into a name.
//! 2. The request ends with the first quote that a status follows, so one that was not escaped does no harm.
//! 3. What stands behind the bytes is free too. A request time is looked for in it: [`latency`] says which
//!    spellings are one. A whole number can be anything (bytes, a count, Apache's `%D` or `%T`), so it is one only
//!    if somebody says its unit.
//! 4. Time and memory are linear in the line (`tests::a_hostile_line_takes_no_longer`).

use crate::number::{Decimal, Unit, microseconds_with_units};
use crate::record::{Misread, Record};
use crate::scan::{closing_quote, find, tail, word};
use crate::time;

/// How much of a line must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As far as the bytes.
    Common,
    /// Referer and agent too.
    Combined,
    /// As combined, with a host in front.
    VhostCombined,
    /// As combined, then traefik's number of the request, router, server and duration.
    Traefik,
}

const TIME: &str = "a time in brackets";
const REQUEST: &str = "the request in quotes, then a status";
const STATUS: &str = "a status of three digits, or `-`";
const BYTES: &str = "a number of bytes, or `-`";
const HOST: &str = "a host, the client, its identity and its user, then a time in brackets";
const REFERER: &str = "the referer in quotes";
const AGENT: &str = "the agent in quotes";
const TRAEFIK: &str = "traefik's number of the request, router, server, and a duration in ms";

/// Reads a line. `unit` is that of a request time that is a whole number.
pub(crate) fn read(line: &[u8], layout: Layout, unit: Option<Unit>) -> Result<Record, Misread> {
    let Head { open, second, request } = head(line)?;
    if layout == Layout::VhostCombined && words(line.get(..open).unwrap_or_default()) < 4 {
        return Err(Misread::new(0, HOST));
    }
    let (status, end) = request_and_status(line, request)?;
    let rest = tail(line, end + 1);
    let size = word(rest);
    let bytes = match size {
        b"-" => Some(0),
        size => crate::number::digits(size),
    };
    let bytes = bytes.ok_or(Misread::new(end + 1, BYTES))?;
    let mut at = end + 1 + size.len();
    if layout != Layout::Common {
        at = quoted(line, at).ok_or(Misread::new(at, REFERER))?;
        at = quoted(line, at).ok_or(Misread::new(at, AGENT))?;
    }
    if layout == Layout::Traefik && !is_traefik(tail(line, at)) {
        return Err(Misread::new(at, TRAEFIK));
    }
    let latency_us = latency(tail(line, at), unit);
    Ok(Record { second: Some(second), status, bytes, latency_us })
}

/// What is known once the time was found.
struct Head {
    /// Where its bracket is.
    open: usize,
    second: u64,
    /// Where the request begins, behind its quote.
    request: usize,
}

fn head(line: &[u8]) -> Result<Head, Misread> {
    let mut misread = None;
    let mut from = 0;
    while let Some(at) = find(tail(line, from), b'[') {
        let open = from + at;
        from = open + 1;
        if let Some((second, length)) = time::prefix(tail(line, from)) {
            let end = from + length;
            if open > 0 && tail(line, end).starts_with(b"] \"") {
                return Ok(Head { open, second, request: end + 3 });
            }
            misread = Some(Misread::new(end, REQUEST));
        } else {
            // What is told of is the first bracket: the time should have been there.
            misread = misread.or(Some(Misread::new(from, TIME)));
        }
    }
    Err(misread.unwrap_or(Misread::new(0, TIME)))
}

fn words(text: &[u8]) -> usize {
    text.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).count()
}

/// The status behind the request that begins at `from`, and where it ends.
fn request_and_status(line: &[u8], from: usize) -> Result<(Option<u16>, usize), Misread> {
    let mut misread = Misread::new(from, REQUEST);
    let mut from = from;
    while let Some(at) = closing_quote(tail(line, from)) {
        from += at + 1;
        let behind = tail(line, from);
        if behind.first() == Some(&b' ') {
            let text = word(tail(behind, 1));
            if let Some(status) = status(text) {
                return Ok((status, from + 1 + text.len()));
            }
        }
        if misread.expected == REQUEST {
            misread = Misread::new(from, STATUS);
        }
    }
    Err(misread)
}

/// Three digits from 100 on; `-` and zeros where no answer was sent.
pub(crate) fn status(text: &[u8]) -> Option<Option<u16>> {
    match text {
        b"-" | b"0" | b"000" => Some(None),
        [b'1'..=b'9', _, _] => {
            let status = u16::try_from(crate::number::digits(text)?).ok()?;
            Some(Some(status))
        }
        _ => None,
    }
}

/// Where the quoted field ends that begins with a blank at `at`.
fn quoted(line: &[u8], at: usize) -> Option<usize> {
    let inside = tail(line, at).strip_prefix(b" \"")?;
    Some(at + 2 + closing_quote(inside)? + 1)
}

/// ` 7 "web@docker" "http://192.0.2.7:80" 3ms`
fn is_traefik(text: &[u8]) -> bool {
    let number = word(tail(text, 1));
    let is_number = matches!(number, b"-") || crate::number::digits(number).is_some();
    let end = quoted(text, 1 + number.len()).and_then(|end| quoted(text, end));
    is_number && end.is_some_and(|end| word(tail(text, end + 1)).ends_with(b"ms"))
}

/// Names in front of a request time, as in `rt=0.005`.
const LATENCY_NAMES: &[&[u8]] = &[
    b"rt",
    b"request_time",
    b"req_time",
    b"response_time",
    b"time",
    b"duration",
    b"latency",
    b"elapsed",
    b"took",
];
/// The longest of them.
const LATENCY_NAME_BYTES_MAX: usize = 13;
/// Servers write milliseconds, or finer; a compression ratio has two digits behind its point.
const FRACTION_DIGITS_MIN: usize = 3;
/// What is longer, in microseconds, is the time of day: ten days.
const US_MAX: u64 = 1_000_000_000_000;

/// The request time among free fields, in microseconds: the first number with at least three digits behind its
/// point, in seconds, or with a unit behind it, perhaps with a known name and `=` before it. If a unit is given
/// and there is no such number, the last whole number.
fn latency(fields: &[u8], unit: Option<Unit>) -> Option<u64> {
    let mut rest = fields;
    let mut whole = None;
    loop {
        rest = match rest {
            [] => return whole,
            [b' ', tail @ ..] => tail,
            // What is not closed has no end, so nothing stands behind it.
            [b'"', inside @ ..] => match closing_quote(inside) {
                Some(end) => {
                    let inner = inside.get(..end).unwrap_or_default();
                    if let Some(Time::Known(us)) = request_time(inner, None) {
                        return Some(us);
                    }
                    tail(inside, end + 1)
                }
                None => return whole,
            },
            [b'[', inside @ ..] => find(inside, b']').map_or(&[], |end| tail(inside, end + 1)),
            _ => {
                let field = word(rest);
                match request_time(field, unit) {
                    Some(Time::Known(us)) => return Some(us),
                    Some(Time::Whole(us)) => whole = Some(us),
                    None => {}
                }
                tail(rest, field.len())
            }
        };
    }
}

enum Time {
    Known(u64),
    /// Only because somebody has said the unit.
    Whole(u64),
}

fn request_time(field: &[u8], unit: Option<Unit>) -> Option<Time> {
    let value = match field.first()? {
        b'0'..=b'9' => field,
        b'a'..=b'z' => {
            let equals =
                field.iter().take(LATENCY_NAME_BYTES_MAX + 1).position(|byte| *byte == b'=')?;
            let name = field.get(..equals)?;
            let value = tail(field, equals + 1);
            let value = value
                .strip_prefix(b"\"")
                .and_then(|value| value.strip_suffix(b"\""))
                .unwrap_or(value);
            LATENCY_NAMES.contains(&name).then_some(value)?
        }
        _ => return None,
    };
    match Decimal::parse(value) {
        Some(number) if number.is_whole => Some(Time::Whole(number.microseconds(unit?)?)),
        Some(number) => {
            let us = number.microseconds(Unit::Seconds)?;
            let is_time = number.fraction_digits >= FRACTION_DIGITS_MIN && us < US_MAX;
            is_time.then_some(Time::Known(us))
        }
        None => Some(Time::Known(microseconds_with_units(value)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_longer() {
        let longest = LATENCY_NAMES.iter().map(|name| name.len()).max();
        assert_eq!(longest, Some(LATENCY_NAME_BYTES_MAX));
    }

    /// Lines of 4 MB of what is looked for again and again: with steps that grow as the square they would take hours.
    #[test]
    fn a_hostile_line_takes_no_longer() {
        let begin = "h - - [21/Nov/2026:09:15:15 +0000] \"";
        for part in [
            "[",
            " [21/Nov/2026:09:15:15 +0000] ",
            "\" ",
            "\\\"",
            "\" 200 \"",
            "rt=",
            "1e9 ",
            "[[]",
        ] {
            for begin in ["", begin, &format!("{begin}\" 200 1 ")] {
                let line = begin.to_owned() + &part.repeat(4_000_000 / part.len());
                let _ = read(line.as_bytes(), Layout::Common, None);
            }
        }
    }
}
