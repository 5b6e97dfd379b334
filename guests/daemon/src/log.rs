//! Lines on stderr, with the level prefixes of sd-daemon(3) (`<3>` and so on).
//!
//! Whoever captures stderr (journald, the manager) reads the level from the prefix. On a terminal,
//! where a person reads, there is none.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// How urgent a line is: the levels of syslog that a daemon has a use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Something failed.
    Error,
    /// Something to look at.
    Warning,
    /// Normal, but worth knowing.
    Notice,
    /// Normal course.
    Info,
    /// For finding a fault.
    Debug,
}

impl Priority {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Error => "<3>",
            Self::Warning => "<4>",
            Self::Notice => "<5>",
            Self::Info => "<6>",
            Self::Debug => "<7>",
        }
    }
}

/// Writes a text to stderr, each of its lines with the level's prefix, in one piece.
pub fn log(priority: Priority, text: impl Display) {
    let prefix = if io::stderr().is_terminal() { "" } else { priority.prefix() };
    // There is nobody left to tell when stderr is gone.
    let _ = io::stderr().lock().write_all(lines(prefix, &text.to_string()).as_bytes());
}

fn lines(prefix: &str, text: &str) -> String {
    text.lines().map(|line| format!("{prefix}{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_prefix() {
        assert_eq!(lines(Priority::Error.prefix(), "a\nb"), "<3>a\n<3>b\n");
        assert_eq!(lines("", "a\n"), "a\n");
    }
}
