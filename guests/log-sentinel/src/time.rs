//! Times of day as servers write them, in seconds since 1970. None before 1970. One without a zone is taken
//! as UTC.

use crate::number::Decimal;

/// Reads the time with which a text begins, in one of both spellings, and says how long it is.
#[inline]
pub(crate) fn prefix(text: &[u8]) -> Option<(u64, usize)> {
    clf(text).or_else(|| iso(text))
}

/// All of a text as a time in one of both spellings, or as a number of seconds since 1970.
pub(crate) fn parse(text: &[u8]) -> Option<u64> {
    match prefix(text) {
        Some((second, length)) if length == text.len() => Some(second),
        _ => epoch(Decimal::parse(text)?),
    }
}

/// A number of seconds since 1970, or of milliseconds, microseconds, nanoseconds: no log is older than March
/// 1973 or younger than the year 5138, and in between they differ by their size.
pub(crate) fn epoch(number: Decimal) -> Option<u64> {
    let whole = number.times_ten_to(0)?;
    Some(match whole {
        0..100_000_000_000 => whole,
        100_000_000_000..100_000_000_000_000 => whole / 1_000,
        100_000_000_000_000..100_000_000_000_000_000 => whole / 1_000_000,
        _ => whole / 1_000_000_000,
    })
}

/// `21/Nov/2026:09:15:15 +0000`: a day of one digit, a blank before the hour, and no zone are read too.
fn clf(text: &[u8]) -> Option<(u64, usize)> {
    let day_digits = if text.get(1) == Some(&b'/') { 1 } else { 2 };
    let day = match text.first_chunk::<2>()? {
        [b' ', one] | [one, b'/'] => digit(*one)?,
        pair => two(*pair)?,
    };
    let rest = text.get(day_digits..)?.first_chunk::<18>()?;
    let [b'/', a, b, c, b'/', y1, y2, y3, y4, b':' | b' ', h1, h2, b':', m1, m2, b':', s1, s2] =
        *rest
    else {
        return None;
    };
    let month = match [a, b, c] {
        [b'J', b'a', b'n'] => 1,
        [b'F', b'e', b'b'] => 2,
        [b'M', b'a', b'r'] => 3,
        [b'A', b'p', b'r'] => 4,
        [b'M', b'a', b'y'] => 5,
        [b'J', b'u', b'n'] => 6,
        [b'J', b'u', b'l'] => 7,
        [b'A', b'u', b'g'] => 8,
        [b'S', b'e', b'p'] => 9,
        [b'O', b'c', b't'] => 10,
        [b'N', b'o', b'v'] => 11,
        [b'D', b'e', b'c'] => 12,
        _ => return None,
    };
    let year = two([y1, y2])? * 100 + two([y3, y4])?;
    let time = [two([h1, h2])?, two([m1, m2])?, two([s1, s2])?];
    zoned(seconds_since_1970([year, month, day], time)?, text, day_digits + 18)
}

/// `2026-11-21T09:15:15.123+00:00`: a blank in the place of `T`, and no zone are read too.
pub(crate) fn iso(text: &[u8]) -> Option<(u64, usize)> {
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        n1,
        n2,
        b'-',
        d1,
        d2,
        b'T' | b't' | b' ',
        h1,
        h2,
        b':',
        m1,
        m2,
        b':',
        s1,
        s2,
    ] = *text.first_chunk::<19>()?
    else {
        return None;
    };
    let year = two([y1, y2])? * 100 + two([y3, y4])?;
    let date = [year, two([n1, n2])?, two([d1, d2])?];
    let time = [two([h1, h2])?, two([m1, m2])?, two([s1, s2])?];
    zoned(seconds_since_1970(date, time)?, text, 19)
}

/// Takes the zone from a local time that ends at `end`, after a fraction of a second, which is skipped.
fn zoned(local: u64, text: &[u8], mut end: usize) -> Option<(u64, usize)> {
    if let Some(b'.' | b',') = text.get(end) {
        let fraction = text.iter().skip(end + 1).take_while(|byte| byte.is_ascii_digit());
        match fraction.count() {
            0 => return Some((local, end)),
            digits => end += 1 + digits,
        }
    }
    let at = end + usize::from(text.get(end) == Some(&b' '));
    let sign = match text.get(at) {
        Some(b'Z' | b'z') if at == end => return Some((local, end + 1)),
        Some(sign @ (b'+' | b'-')) => sign,
        _ => return Some((local, end)),
    };
    let pair = |at: usize| text.get(at..)?.first_chunk::<2>().copied().and_then(two);
    let Some(hours) = pair(at + 1) else { return Some((local, end)) };
    let colon = usize::from(text.get(at + 3) == Some(&b':'));
    let (minutes, length) = match pair(at + 3 + colon) {
        Some(minutes) => (minutes, 5 + colon),
        None => (0, 3),
    };
    let offset = hours * 3_600 + minutes * 60;
    let second =
        if *sign == b'+' { local.checked_sub(offset)? } else { local.checked_add(offset)? };
    Some((second, at + length))
}

fn digit(byte: u8) -> Option<u64> {
    byte.is_ascii_digit().then(|| u64::from(byte - b'0'))
}

fn two([tens, ones]: [u8; 2]) -> Option<u64> {
    Some(digit(tens)? * 10 + digit(ones)?)
}

fn seconds_since_1970([year, month, day]: [u64; 3], time: [u64; 3]) -> Option<u64> {
    let [hour, minute, second] = time;
    let is_date = year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day);
    // A leap second is written as 60.
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
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
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_as_they_are_written() {
        let at = Some(1_795_252_515);
        for (text, expected) in [
            ("21/Nov/2026:09:15:15 +0000", at),
            ("21/Nov/2026:10:15:15 +0100", at),
            ("21/Nov/2026:09:15:15.123 +0000", at),
            ("21/Nov/2026 09:15:15", at),
            ("21/Nov/2026:09:15:15", at),
            ("2026-11-21T09:15:15Z", at),
            ("2026-11-21T09:15:15+00:00", at),
            ("2026-11-21 09:15:15.123456789 +0000", at),
            ("2026-11-21T04:15:15,1-05", at),
            ("1795252515", at),
            ("1795252515.123", at),
            ("1795252515123", at),
            ("1795252515123456", at),
            ("1795252515123456789", at),
            ("1.795252515123e9", at),
            ("1/Jan/1970:00:00:00 +0000", Some(0)),
            (" 1/Jan/1970:00:00:07 +0000", Some(7)),
            ("01/Jan/1970:01:00:00 +0100", Some(0)),
            ("29/Feb/2000:23:59:60 -0130", Some(951_874_200)),
            ("01/Jan/1970:00:00:00 +0100", None),
            ("31/Dec/1969:23:59:59 +0000", None),
            ("21/nov./2026:09:15:15 +0000", None),
            ("32/Nov/2026:09:15:15 +0000", None),
            ("21/Nov/2026:24:15:15 +0000", None),
            ("2026-13-21T09:15:15Z", None),
            ("2026-11-21T09:15", None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
        // A dash behind a time is no zone, nor is a word.
        for text in ["2026-11-21 09:15:15 - x", "2026-11-21 09:15:15 200", "2026-11-21 09:15:15. x"]
        {
            assert_eq!(prefix(text.as_bytes()), at.map(|at| (at, 19)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(second in 0_u64..1 << 33, zone in 0_u64..24) {
            for text in [
                clf_text(second, zone),
                clf_text(second, zone).trim_start_matches('0').to_owned(),
                iso_text(second, zone),
            ] {
                let utc = second + zone * 3_600;
                prop_assert_eq!(prefix(text.as_bytes()), Some((utc, text.len())), "{}", text);
            }
        }
    }

    /// As servers write it, so many hours west of Greenwich.
    pub(crate) fn clf_text(second: u64, zone: u64) -> String {
        let ([year, month, day], clock) = date(second);
        let names = "JanFebMarAprMayJunJulAugSepOctNovDec";
        let name = &names[(month - 1) * 3..month * 3];
        format!("{day:02}/{name}/{year}:{clock} -{zone:02}00")
    }

    /// The same in ISO 8601.
    pub(crate) fn iso_text(second: u64, zone: u64) -> String {
        let ([year, month, day], clock) = date(second);
        format!("{year}-{month:02}-{day:02}T{clock}-{zone:02}:00")
    }

    /// By a calendar that counts day by day.
    fn date(second: u64) -> ([usize; 3], String) {
        let is_leap = |year: usize| {
            year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
        };
        let (mut year, mut day) = (1970, usize::try_from(second / 86_400).unwrap());
        while day >= 365 + usize::from(is_leap(year)) {
            day -= 365 + usize::from(is_leap(year));
            year += 1;
        }
        let lengths = [31, 28 + usize::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 0;
        while day >= lengths[month] {
            day -= lengths[month];
            month += 1;
        }
        let time = second % 86_400;
        let clock = format!("{:02}:{:02}:{:02}", time / 3_600, time / 60 % 60, time % 60);
        ([year, month + 1, day + 1], clock)
    }
}
