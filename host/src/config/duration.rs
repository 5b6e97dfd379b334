//! Lengths of time as people write them, in files and in flags: what is wrong with one, in words.
//!
//! Rule: whatever the text, there is an answer and it says the way out
//! (`tests::what_is_no_length_of_time_is_told_in_words`).

use std::ops::RangeInclusive;
use std::time::Duration;

use humantime::DurationError;

/// What is wrong, and the way out.
type Problem = (String, String);

const UNITS: &str = "write a number and a unit, for example \"10s\", \"100ms\", \"1min 30s\"";

/// A length of time such as `10s` or `1min 30s`, within a range.
pub(crate) fn read(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, Problem> {
    let from_to = || {
        let (low, high) = (in_words(*range.start()), in_words(*range.end()));
        format!("from {low} to {high}")
    };
    match humantime::parse_duration(text) {
        Ok(found) if range.contains(&found) => Ok(found),
        Ok(found) if found < *range.start() => {
            Err(("out of range: too short".to_owned(), from_to()))
        }
        Ok(_) | Err(DurationError::NumberOverflow) => {
            Err(("out of range: too long".to_owned(), from_to()))
        }
        Err(error) => Err(no_duration(text.trim(), &error, from_to)),
    }
}

fn no_duration(text: &str, error: &DurationError, from_to: impl Fn() -> String) -> Problem {
    if text.starts_with('-') {
        return ("not a duration: no time is negative".to_owned(), from_to());
    }
    match error {
        DurationError::UnknownUnit { unit, .. } if unit.is_empty() => {
            let help = format!("write \"{text}s\" for seconds, \"{text}ms\" for milliseconds");
            ("not a duration: a number without a unit".to_owned(), help)
        }
        DurationError::Empty => ("not a duration: an empty text".to_owned(), UNITS.to_owned()),
        DurationError::UnknownUnit { unit, .. } => {
            let help = "units are ms, s, min, h, day; for example \"10s\", \"1min 30s\"";
            (format!("not a duration: there is no unit `{unit}`"), help.to_owned())
        }
        DurationError::NumberExpected(_)
        | DurationError::InvalidCharacter(_)
        | DurationError::NumberOverflow => ("not a duration".to_owned(), UNITS.to_owned()),
    }
}

/// As it is written.
fn in_words(length: Duration) -> String {
    humantime::format_duration(length).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RANGE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);

    #[test]
    fn what_is_no_length_of_time_is_told_in_words() {
        for (text, expected) in [
            ("-1s", "not a duration: no time is negative | from 1ms to 1day"),
            ("-1", "not a duration: no time is negative | from 1ms to 1day"),
            ("1000000000d", "out of range: too long | from 1ms to 1day"),
            ("99999999999999999999999s", "out of range: too long | from 1ms to 1day"),
            ("99999999999999999y", "out of range: too long | from 1ms to 1day"),
            ("0s", "out of range: too short | from 1ms to 1day"),
            (
                "1.5",
                "not a duration: a number without a unit | write \"1.5s\" for seconds, \"1.5ms\" for milliseconds",
            ),
            (
                "100",
                "not a duration: a number without a unit | write \"100s\" for seconds, \"100ms\" for milliseconds",
            ),
            (
                "10 parsecs",
                "not a duration: there is no unit `parsecs` | units are ms, s, min, h, day; for example \"10s\", \"1min 30s\"",
            ),
            ("", &format!("not a duration: an empty text | {UNITS}")),
            ("soon", &format!("not a duration | {UNITS}")),
        ] {
            let found = read(text, &RANGE).map_err(|(what, help)| format!("{what} | {help}"));
            assert_eq!(found, Err(expected.to_owned()), "{text}");
        }
        assert_eq!(read("1min 30s", &RANGE), Ok(Duration::from_secs(90)));
        assert_eq!(read("1.5s", &RANGE), Ok(Duration::from_millis(1_500)));
    }

    proptest! {
        #[test]
        fn any_text_has_an_answer(text in "[-0-9a-zµ., ]{0,24}|.{0,12}") {
            match read(&text, &RANGE) {
                Ok(found) => prop_assert!(RANGE.contains(&found)),
                Err((what, help)) => prop_assert!(!what.is_empty() && !help.is_empty()),
            }
        }
    }
}
