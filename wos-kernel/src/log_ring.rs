//! Log lines on their way from the daemons to the kernel's owner.
//!
//! A line leaves its daemon at once, outside the slice's transaction: what a daemon logged before it
//! hung or trapped is what its people need. So the ring is shared between the kernel and every
//! context, and survives the slice.

use alloc::{collections::VecDeque, string::String};
use core::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

use duende_core::{
    policy::gate::{Gate, Place},
    time::Instant,
    wire::link::{Address, LogLevel},
};
use spin::Mutex;

use crate::limits::LOG_LINES_MAX;

/// Nobody waits before this gate, so time plays no part.
const NOW: Instant = Instant::ZERO;

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

/// A bounded queue of lines. Over [`LOG_LINES_MAX`] the newest are dropped and counted: whether a line
/// is taken in is for the core's gate to say.
pub struct LogRing {
    /// Whether there may be a line: most looks find none, and need no lock.
    has_lines: AtomicBool,
    inner: Mutex<Inner>,
}

struct Inner {
    gate: Gate<[Place; 0]>,
    lines: VecDeque<LogLine>,
    /// How many of the dropped lines were told of.
    told: u64,
}

impl Default for LogRing {
    fn default() -> Self {
        let gate = Gate::rejecting(LOG_LINES_MAX);
        let inner = Mutex::new(Inner { gate, lines: VecDeque::new(), told: 0 });
        Self { has_lines: AtomicBool::new(false), inner }
    }
}

impl LogRing {
    /// Appends a line, or counts it as dropped.
    pub fn push(&self, line: LogLine) {
        let mut inner = self.inner.lock();
        let bytes = u32::try_from(line.text.len()).unwrap_or(u32::MAX);
        if inner.gate.offer(NOW, bytes, &mut |_| {}).is_ok() {
            inner.lines.push_back(line);
            self.has_lines.store(true, Release);
        }
    }

    /// Takes the oldest line.
    pub fn pop(&self) -> Option<LogLine> {
        if !self.has_lines.load(Acquire) {
            return None;
        }
        let mut inner = self.inner.lock();
        let line = inner.lines.pop_front();
        self.has_lines.store(!inner.lines.is_empty(), Release);
        let line = line?;
        // Refused only for an empty queue.
        let _ = inner.gate.take(NOW, &mut |_| {});
        Some(line)
    }

    /// How many lines were dropped since the last call.
    pub fn take_dropped(&self) -> u64 {
        let mut inner = self.inner.lock();
        let rejected = inner.gate.counts().rejected_total;
        rejected.saturating_sub(core::mem::replace(&mut inner.told, rejected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_drops_the_newest_and_counts_them() {
        let ring = LogRing::default();
        let at = Address::of(1, 1);
        for index in 0..LOG_LINES_MAX.get() + 3 {
            ring.push(LogLine { at, level: LogLevel::Info, text: alloc::format!("{index}") });
        }
        assert_eq!(ring.take_dropped(), 3);
        assert_eq!(ring.take_dropped(), 0);
        assert_eq!(ring.pop().unwrap().text, "0");
        let lines = core::iter::from_fn(|| ring.pop()).count();
        assert_eq!(lines, LOG_LINES_MAX.get() as usize - 1);
        ring.push(LogLine { at, level: LogLevel::Info, text: "there is room".into() });
        assert_eq!((ring.take_dropped(), ring.pop().is_some()), (0, true));
    }
}
