//! Numbers, and lengths of time, in the spellings of servers. Nothing here is a float: equal texts are equal
//! numbers on every target.

use serde::Deserialize;

/// A unit of time. Settings name it as a word, or as what Apache writes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Unit {
    /// As Apache's `%T`.
    #[serde(rename = "s", alias = "%T")]
    Seconds,
    /// As Apache's `%{ms}T`.
    #[serde(rename = "ms", alias = "%{ms}T")]
    Milliseconds,
    /// As Apache's `%D`.
    #[serde(rename = "us", alias = "%D")]
    Microseconds,
    /// As Go writes a duration into JSON.
    #[serde(rename = "ns")]
    Nanoseconds,
}

impl Unit {
    /// By which power of ten it is longer than a microsecond.
    const fn power(self) -> i32 {
        match self {
            Self::Seconds => 6,
            Self::Milliseconds => 3,
            Self::Microseconds => 0,
            Self::Nanoseconds => -3,
        }
    }
}

/// Decimal digits and nothing else; none over `u64::MAX`.
pub(crate) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// A number that is not negative: `digits` times ten to the `power`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    digits: u64,
    power: i32,
    /// How many digits stood behind the point.
    pub(crate) fraction_digits: usize,
    /// Written without point and exponent.
    pub(crate) is_whole: bool,
}

/// Longest text of a number that is read, in bytes.
pub(crate) const NUMBER_BYTES_MAX: usize = 48;

impl Decimal {
    /// Reads `12`, `0.005`, `1.2e-05`; digits behind the point that have no room are cut off.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (number, length) = Self::prefix(text)?;
        (length == text.len()).then_some(number)
    }

    /// Reads the number with which a text begins, and says how long it is.
    pub(crate) fn prefix(text: &[u8]) -> Option<(Self, usize)> {
        let text = text.get(..text.len().min(NUMBER_BYTES_MAX))?;
        let run = |from: usize| {
            let digits = text.iter().skip(from).take_while(|byte| byte.is_ascii_digit());
            digits.count()
        };
        let whole = run(0);
        let mut value = digits(text.get(..whole)?)?;
        let mut end = whole;
        let mut power = 0_i32;
        let mut fraction_digits = 0;
        if text.get(end) == Some(&b'.') {
            fraction_digits = run(end + 1);
            if fraction_digits == 0 {
                return None;
            }
            for byte in text.get(end + 1..end + 1 + fraction_digits)? {
                let digit = u64::from(byte - b'0');
                let Some(longer) = value.checked_mul(10).and_then(|ten| ten.checked_add(digit))
                else {
                    break;
                };
                value = longer;
                power -= 1;
            }
            end += 1 + fraction_digits;
        }
        let mut is_whole = fraction_digits == 0;
        if let Some(b'e' | b'E') = text.get(end) {
            let sign = text.get(end + 1);
            let from = end + if matches!(sign, Some(b'+' | b'-')) { 2 } else { 1 };
            let length = run(from);
            let exponent = digits(text.get(from..from + length)?)?;
            let exponent = i32::try_from(exponent).ok().filter(|exponent| *exponent < 1_000)?;
            power += if sign == Some(&b'-') { -exponent } else { exponent };
            end = from + length;
            is_whole = false;
        }
        Some((Self { digits: value, power, fraction_digits, is_whole }, end))
    }

    /// How often ten to the `-power` is in it, rounded down; none over `u64::MAX`.
    pub(crate) fn times_ten_to(self, power: i32) -> Option<u64> {
        let power = self.power.checked_add(power)?;
        if power == 0 {
            return Some(self.digits);
        }
        let factor = 10_u64.checked_pow(power.unsigned_abs());
        match factor {
            _ if self.digits == 0 => Some(0),
            None if power < 0 => Some(0),
            None => None,
            Some(factor) if power < 0 => self.digits.checked_div(factor),
            Some(factor) => self.digits.checked_mul(factor),
        }
    }

    /// As so many of a unit of time, in microseconds; what is finer is cut off.
    pub(crate) fn microseconds(self, unit: Unit) -> Option<u64> {
        self.times_ten_to(unit.power())
    }
}

/// A length of time with its units, as Go writes it (`3ms`, `1m2.5s`, `512.3µs`), in microseconds; none of
/// anything else, a number without unit too.
pub(crate) fn microseconds_with_units(text: &[u8]) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let (number, length) = Decimal::prefix(rest)?;
        rest = rest.get(length..)?;
        let end = rest.iter().position(u8::is_ascii_digit).unwrap_or(rest.len());
        let (unit, tail) = rest.split_at_checked(end)?;
        rest = tail;
        let (unit, factor) = match unit {
            b"h" => (Unit::Seconds, 3_600),
            b"m" => (Unit::Seconds, 60),
            b"s" => (Unit::Seconds, 1),
            b"ms" => (Unit::Milliseconds, 1),
            // The micro sign, and the Greek letter.
            b"us" | b"\xc2\xb5s" | b"\xce\xbcs" => (Unit::Microseconds, 1),
            b"ns" => (Unit::Nanoseconds, 1),
            _ => return None,
        };
        sum = sum.checked_add(number.microseconds(unit)?.checked_mul(factor)?)?;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn seconds_as_they_are_written() {
        for (text, expected) in [
            ("0.000123", Some(123)),
            ("12", Some(12_000_000)),
            ("1.5", Some(1_500_000)),
            ("0.1234567", Some(123_456)),
            ("1.2e-05", Some(12)),
            ("5e-07", Some(0)),
            ("1E+3", Some(1_000_000_000)),
            ("0e999", Some(0)),
            ("1e999", None),
            ("18446744073709.551615", Some(u64::MAX)),
            ("18446744073709.551616", Some(u64::MAX - 5)),
            ("99999999999999999999", None),
            ("1.", None),
            (".5", None),
            ("-1", None),
            ("1e", None),
            ("1.2.3", None),
            ("", None),
        ] {
            let found = Decimal::parse(text.as_bytes());
            let found = found.and_then(|number| number.microseconds(Unit::Seconds));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn lengths_with_units() {
        for (text, expected) in [
            ("3ms", Some(3_000)),
            ("0s", Some(0)),
            ("1m2.5s", Some(62_500_000)),
            ("1h0m0s", Some(3_600_000_000)),
            ("512.3µs", Some(512)),
            ("512.3μs", Some(512)),
            ("1500ns", Some(1)),
            ("12", None),
            ("10.0.0.5:80", None),
            ("3 ms", None),
            ("ms", None),
            ("", None),
        ] {
            assert_eq!(microseconds_with_units(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(us: u64) {
            let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
            let number = Decimal::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(number.microseconds(Unit::Seconds), Some(us));
            let number = Decimal::parse(us.to_string().as_bytes()).unwrap();
            prop_assert_eq!(number.microseconds(Unit::Microseconds), Some(us));
            prop_assert!(number.is_whole);
        }
    }
}
