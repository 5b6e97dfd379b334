//! Log lines on their way from the daemons to the kernel's owner.
//!
//! A line leaves its daemon at once, outside the slice's transaction: what a daemon logged before it
//! hung or trapped is what its people need. So the ring is shared between the kernel and every
//! context, and survives the slice.

use alloc::{collections::VecDeque, string::String};
use duende_core::wire::link::{Address, LogLevel};
use spin::Mutex;

use crate::limits::LOG_LINES_MAX;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Who logged it.
    pub at: Address,
    /// How urgent it is.
    pub level: LogLevel,
    /// Its text.
    pub text: String,
}

/// A bounded queue of lines. Over [`LOG_LINES_MAX`] the newest are dropped and counted.
#[derive(Default)]
pub struct LogRing {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    lines: VecDeque<LogLine>,
    dropped: u64,
}

impl LogRing {
    /// Appends a line, or counts it as dropped.
    pub fn push(&self, line: LogLine) {
        let mut inner = self.inner.lock();
        if inner.lines.len() >= LOG_LINES_MAX {
            inner.dropped = inner.dropped.saturating_add(1);
        } else {
            inner.lines.push_back(line);
        }
    }

    /// Takes the oldest line.
    pub fn pop(&self) -> Option<LogLine> {
        self.inner.lock().lines.pop_front()
    }

    /// How many lines were dropped since the last call.
    pub fn take_dropped(&self) -> u64 {
        core::mem::take(&mut self.inner.lock().dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_drops_the_newest_and_counts_them() {
        let ring = LogRing::default();
        let at = Address { daemon: 1, incarnation: 1 };
        for index in 0..LOG_LINES_MAX + 3 {
            ring.push(LogLine { at, level: LogLevel::Info, text: alloc::format!("{index}") });
        }
        assert_eq!(ring.take_dropped(), 3);
        assert_eq!(ring.take_dropped(), 0);
        assert_eq!(ring.pop().unwrap().text, "0");
    }
}
