//! One line of an access log.
//!
//! The combined format, with or without the request time in seconds at its end:
//! ```text
//! 127.0.0.1 - - [21/Nov/2026:09:15:15 +0000] "GET / HTTP/1.1" 200 1234 "-" "curl/8.0" 0.000123
//! ```
//! The common format (nothing after the bytes) is read too. Quoted fields may hold `\"`.

/// What is kept of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// When, in seconds since 1970.
    pub second: u64,
    /// The HTTP status, 100 to 599.
    pub status: u16,
    /// Bytes of the response's body.
    pub bytes: u64,
    /// How long the request took, in microseconds, if the line says so.
    pub latency_us: Option<u64>,
}

impl Line {
    /// Reads a line, with or without its line end; none if it is malformed.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let rest = line.strip_suffix(b"\n").unwrap_or(line);
        let mut rest = rest.strip_suffix(b"\r").unwrap_or(rest);
        for _host_identity_user in 0..3 {
            word(&mut rest)?;
        }
        expect(&mut rest, b"[")?;
        let second = timestamp(until(&mut rest, b']')?)?;
        expect(&mut rest, b" ")?;
        quoted(&mut rest)?;
        expect(&mut rest, b" ")?;
        let status = number(word(&mut rest)?)?;
        let status = u16::try_from(status).ok().filter(|status| (100..600).contains(status))?;
        // The last field of the common format, or followed by a blank.
        let bytes = match word(&mut rest)? {
            b"-" => 0,
            digits => number(digits)?,
        };
        let mut latency_us = None;
        if !rest.is_empty() {
            quoted(&mut rest)?;
            expect(&mut rest, b" ")?;
            quoted(&mut rest)?;
            if !rest.is_empty() {
                expect(&mut rest, b" ")?;
                latency_us = match rest {
                    b"-" => None,
                    seconds => Some(microseconds(seconds)?),
                };
            }
        }
        Some(Self { second, status, bytes, latency_us })
    }
}

/// Takes a field that is not empty, and the blank after it.
fn word<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
    let (word, tail) = rest.split_at_checked(end)?;
    *rest = tail.strip_prefix(b" ").unwrap_or(tail);
    (!word.is_empty()).then_some(word)
}

fn expect(rest: &mut &[u8], prefix: &[u8]) -> Option<()> {
    *rest = rest.strip_prefix(prefix)?;
    Some(())
}

/// Takes what stands before `end`, and `end`.
fn until<'a>(rest: &mut &'a [u8], end: u8) -> Option<&'a [u8]> {
    let at = rest.iter().position(|byte| *byte == end)?;
    let (taken, tail) = rest.split_at_checked(at)?;
    *rest = tail.get(1..)?;
    Some(taken)
}

/// Takes a quoted field; a backslash hides the byte after it.
fn quoted(rest: &mut &[u8]) -> Option<()> {
    expect(rest, b"\"")?;
    loop {
        let at = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        let skip = if rest.get(at) == Some(&b'"') { 1 } else { 2 };
        let found_end = skip == 1;
        *rest = rest.get(at + skip..)?;
        if found_end {
            return Some(());
        }
    }
}

/// Decimal digits and nothing else; none over `u64::MAX`.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// `0.000123` in microseconds; what is finer is cut off.
fn microseconds(text: &[u8]) -> Option<u64> {
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        None => (text, &b"0"[..]),
        Some(point) => (text.get(..point)?, text.get(point + 1..)?),
    };
    let mut digits = *b"000000";
    for (digit, byte) in digits.iter_mut().zip(fraction) {
        *digit = *byte;
    }
    let is_number = !fraction.is_empty() && fraction.iter().all(u8::is_ascii_digit);
    let fraction_us = number(&digits).filter(|_| is_number)?;
    number(whole)?.checked_mul(1_000_000)?.checked_add(fraction_us)
}

/// `21/Nov/2026:09:15:15 +0000` in seconds since 1970; none before 1970.
fn timestamp(text: &[u8]) -> Option<u64> {
    let text: &[u8; 26] = text.try_into().ok()?;
    let separators = [(2, b'/'), (6, b'/'), (11, b':'), (14, b':'), (17, b':'), (20, b' ')];
    if separators.iter().any(|(at, byte)| text.get(*at) != Some(byte)) {
        return None;
    }
    let field = |from: usize, to: usize| number(text.get(from..to)?);
    let months = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months.chunks(3).position(|name| text.get(3..6) == Some(name))? as u64 + 1;
    let (day, year) = (field(0, 2)?, field(7, 11)?);
    let (hour, minute, second) = (field(12, 14)?, field(15, 17)?, field(18, 20)?);
    let offset = field(22, 24)? * 3_600 + field(24, 26)? * 60;
    // A leap second is written as 60.
    if !(1..=31).contains(&day) || year < 1970 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let local = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    match text.get(21)? {
        b'+' => local.checked_sub(offset),
        b'-' => local.checked_add(offset),
        _ => None,
    }
}

/// Days of the Gregorian calendar, for years from 1970 on. The year is taken to begin in March, so
/// that the leap day is its last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let before_1970 = 719_468;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - before_1970
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(second: u64, status: u16, bytes: u64, latency_us: Option<u64>) -> Option<Line> {
        Some(Line { second, status, bytes, latency_us })
    }

    #[test]
    fn lines_as_they_are_found() {
        let time = "[21/Nov/2026:09:15:15 +0000]";
        let at = 1_795_252_515;
        let cases = [
            (
                format!(
                    r#"127.0.0.1 - - {time} "GET / HTTP/1.1" 200 1234 "-" "curl/8.0" 0.000123"#
                ),
                line(at, 200, 1234, Some(123)),
            ),
            (
                format!(r#"::1 - bob {time} "GET / HTTP/1.1" 404 - "-" "-" 12"#) + "\r\n",
                line(at, 404, 0, Some(12_000_000)),
            ),
            (
                format!(r#"h - - {time} "GET / HTTP/1.1" 500 1 "-" "-" 1.5"#),
                line(at, 500, 1, Some(1_500_000)),
            ),
            (
                format!(r#"h - - {time} "GET / HTTP/1.1" 500 1 "-" "-" 0.1234567"#),
                line(at, 500, 1, Some(123_456)),
            ),
            (
                format!(r#"h - - {time} "GET / HTTP/1.1" 200 1 "-" "a \"b\" \\" -"#),
                line(at, 200, 1, None),
            ),
            (format!(r#"h - - {time} "GET / HTTP/1.1" 200 1 "-" "agent""#), line(at, 200, 1, None)),
            (format!(r#"h - - {time} "" 200 1"#), line(at, 200, 1, None)),
            (r#"h - - [01/Jan/1970:01:00:00 +0100] "" 200 1"#.to_owned(), line(0, 200, 1, None)),
            (
                r#"h - - [29/Feb/2000:23:59:60 -0130] "" 200 1"#.to_owned(),
                line(951_874_200, 200, 1, None),
            ),
            (r#"h - - [01/Jan/1970:00:00:00 +0100] "" 200 1"#.to_owned(), None),
            (r#"h - - [01/Foo/2026:00:00:00 +0000] "" 200 1"#.to_owned(), None),
            (format!(r#"h - - {time} "GET / 200 1"#), None),
            (format!(r#"h - - {time} "" 600 1"#), None),
            (format!(r#"h - - {time} "" 99 1"#), None),
            (format!(r#"h - - {time} "" 200 x"#), None),
            (format!(r#"h - - {time} "" 200 99999999999999999999"#), None),
            (format!(r#"h - - {time} "" 200 1 "-""#), None),
            (format!(r#"h - - {time} "" 200 1 "-" "-" 1.2.3"#), None),
            (format!(r#"h - - {time} "" 200 1 "-" "-" 1."#), None),
            (format!(r#"h - - {time} "" 200 1 "-" "-" 1 more"#), None),
            (format!(r#"h - {time} "" 200 1"#), None),
            (String::new(), None),
        ];
        for (text, expected) in cases {
            assert_eq!(Line::parse(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_a_server_writes_is_read_back(
            day in 1_u64..=28, hour in 0_u64..24, status in 100_u16..600, bytes: u64,
            latency_us in proptest::option::of(0_u64..1 << 40), agent in r#"([^"\\\r\n]|\\"|\\\\){0,20}"#,
        ) {
            let seconds = latency_us.map_or(String::new(), |us| {
                format!(" {}.{:06}", us / 1_000_000, us % 1_000_000)
            });
            let text = format!(
                "1.2.3.4 - - [{day:02}/Jan/1970:{hour:02}:00:00 +0000] \"GET / HTTP/1.1\" {status} \
                 {bytes} \"-\" \"{agent}\"{seconds}\n"
            );
            let second = (day - 1) * 86_400 + hour * 3_600;
            prop_assert_eq!(Line::parse(text.as_bytes()), line(second, status, bytes, latency_us));
        }

        #[test]
        fn nothing_makes_it_panic(
            bytes: Vec<u8>,
            cut in 0_usize..96,
            flip in 0_usize..96,
            byte: u8,
        ) {
            let _ = Line::parse(&bytes);
            let mut text = br#"127.0.0.1 - - [21/Nov/2026:09:15:15 +0000] "GET / HTTP/1.1" 200 1234 "-" "curl/8.0" 0.000123"#.to_vec();
            let flip = flip % text.len();
            text[flip] = byte;
            text.truncate(cut);
            let _ = Line::parse(&text);
        }
    }
}
