//! How a process ends, and what the manager hears of it.

use alloc::{format, string::String};

use duende_core::wire::link::{Event, LogLevel, Outcome, TEXT_BYTES_MAX};

use super::{Emit, Kernel, record::Entry};
use crate::{
    executor::{Ending, Executor},
    log_ring::LogRing,
    process::Phase,
};

/// Something that is needed is missing, and may come: by the one table of exit codes.
const EX_TEMPFAIL: u8 = 75;

impl<E: Executor> Kernel<E> {
    /// Ends a process: it becomes a zombie, and its instance, with an open slice, is gone.
    pub(super) fn end(&mut self, row: u32, outcome: Outcome, reason: String) {
        self.end_with(row, outcome, 0, reason);
    }

    /// The same, with what the daemon says itself of its end.
    pub(super) fn end_as_said(&mut self, row: u32, ending: Ending) {
        let Ending { code, text } = ending;
        let outcome = if code == 0 { Outcome::Graceful } else { Outcome::Error };
        self.end_with(row, outcome, code, text);
    }

    fn end_with(&mut self, row: u32, outcome: Outcome, code: u8, reason: String) {
        self.set_timer(row, None);
        self.give_place_up(row);
        self.scheduler.remove(row);
        self.open.retain(|open| *open != row);
        if let Some(process) = self.table.get_mut(row) {
            let at = process.at;
            process.phase = Phase::Zombie { outcome, code, reason };
            self.zombies.push(row);
            self.record(self.shared.machine.monotonic_ns(), Entry::Ended { at, outcome });
        }
    }

    /// PID 1 reaps its children: the manager hears of each, and of nothing after it.
    pub(super) fn reap(&mut self, emit: Emit<'_>) {
        if self.zombies.is_empty() {
            return;
        }
        self.drain_log(emit);
        while let Some(row) = self.zombies.pop() {
            if let Some(process) = self.table.remove(row)
                && let Phase::Zombie { outcome, code, reason } = process.phase
            {
                emit(Event::Exited { at: process.at, outcome, code, reason: bounded(&reason) });
            }
        }
    }

    pub(super) fn drain_log(&self, emit: Emit<'_>) {
        drain(&self.shared.log, emit);
    }
}

/// The end of a process that there is no room for now. Its manager tries it again without a charge, as
/// if the daemon itself had said that something is missing.
pub(super) const fn no_room(text: String) -> Ending {
    Ending { code: EX_TEMPFAIL, text }
}

pub(super) fn drain(log: &LogRing, emit: Emit<'_>) {
    let mut last = None;
    while let Some(line) = log.pop() {
        last = Some(line.at);
        emit(Event::Log { at: line.at, level: line.level, text: &line.text });
    }
    if let Some(at) = last {
        let dropped = log.take_dropped();
        if dropped > 0 {
            let text =
                format!("{dropped} lines were dropped: they came faster than they could be taken");
            emit(Event::Log { at, level: LogLevel::Warn, text: &text });
        }
    }
}

/// The first [`TEXT_BYTES_MAX`] bytes of a text, cut between characters.
pub(super) fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default()
}
