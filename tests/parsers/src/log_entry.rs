//! The lines of a daemon's log. The input is read as a line, and it is logged as what a daemon prints.
//!
//! What is promised:
//! 1. A line that is read is written and read again as the same entry.
//! 2. Whatever a daemon prints becomes one line without a control character but tabs, and text comes
//!    back as it was.

use std::time::{Duration, SystemTime};

use duende::daemon_log::{LogEntry, LogOrigin, encode_entry};
use duende_core::wire::link::LogLevel;

/// Checks one input.
pub fn check(input: &[u8]) {
    if let Ok(line) = str::from_utf8(input)
        && let Ok(entry) = LogEntry::parse(line)
    {
        let LogEntry { at, level, origin, ref text, continues } = entry;
        assert_eq!(written(at, level, origin, text.as_bytes(), continues), entry);
    }

    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_252_049_123_456);
    for continues in [false, true] {
        let entry = written(at, LogLevel::Warn, LogOrigin::Stderr, input, continues);
        assert_eq!((entry.at, entry.continues), (at, continues));
        assert_eq!((entry.level, entry.origin), (LogLevel::Warn, LogOrigin::Stderr));
        if let Ok(text) = str::from_utf8(input) {
            assert_eq!(entry.text, text);
        }
    }
}

/// Writes an entry and reads it.
fn written(
    at: SystemTime,
    level: LogLevel,
    origin: LogOrigin,
    text: &[u8],
    continues: bool,
) -> LogEntry {
    let mut line = Vec::new();
    encode_entry(&mut line, at, level, origin, text, continues);
    let Some(line) = String::from_utf8(line).ok().and_then(|mut line| {
        let end = line.pop()?;
        (end == '\n').then_some(line)
    }) else {
        panic!("not a line of text");
    };
    let control = |character: char| character.is_control() && character != '\t';
    assert!(!line.contains(control), "would drive a terminal: {line:?}");
    match LogEntry::parse(&line) {
        Ok(entry) => entry,
        Err(error) => panic!("{error}: {line:?}"),
    }
}
