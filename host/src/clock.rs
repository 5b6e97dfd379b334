//! The clock on the wall, for people: what is written with it, never what is decided by it.
//!
//! It may stand before 1970, beyond the year 9999, or jump. A moment outside of what can be written is
//! written as the nearest one that can: nobody's line is lost for it, and nobody panics.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The first microsecond of the year 10000, which RFC 3339 can't write.
const YEAR_10000_US: u64 = 253_402_300_800_000_000;

/// Microseconds since 1970-01-01T00:00:00Z; 0 before it.
#[must_use]
pub(crate) fn unix_us(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A moment as RFC 3339, in UTC, with six digits after the second.
#[must_use]
pub(crate) fn rfc3339_micros(at: SystemTime) -> impl fmt::Display {
    let us = unix_us(at).min(YEAR_10000_US - 1);
    humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_micros(us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_moment_can_be_written() {
        #[track_caller]
        fn check(at: SystemTime, us: u64, text: &str) {
            assert_eq!(unix_us(at), us);
            assert_eq!(rfc3339_micros(at).to_string(), text);
        }
        let us = |us| UNIX_EPOCH + Duration::from_micros(us);
        check(us(1_500_000), 1_500_000, "1970-01-01T00:00:01.500000Z");
        check(UNIX_EPOCH - Duration::from_secs(1), 0, "1970-01-01T00:00:00.000000Z");
        let last = "9999-12-31T23:59:59.999999Z";
        check(us(YEAR_10000_US - 1), YEAR_10000_US - 1, last);
        check(us(YEAR_10000_US), YEAR_10000_US, last);
        check(us(u64::MAX), u64::MAX, last);
    }
}
