//! Processor time, by process.
//!
//! Rules:
//! 1. A turn counts from its beginning to its end, whatever it did: a slice that only asks for another one has
//!    used the processor as well.
//! 2. A turn of a tick and more counts no more than the thread had of the processor since the last such look:
//!    what other programs had meanwhile is not the daemon's. A shorter one is not worth the look.

use duende_core::wire::link::Usage;

use super::Kernel;
use crate::{executor::Executor, limits::TICK_NS};

impl<E: Executor> Kernel<E> {
    /// A turn that began then is over.
    pub(super) fn count_turn(&mut self, row: u32, began_ns: u64) {
        let turn_ns = self.shared.machine.monotonic_ns().saturating_sub(began_ns);
        let used_ns = if turn_ns < TICK_NS { turn_ns } else { self.at_most_ours(turn_ns) };
        if let Some(process) = self.table.get_mut(row) {
            process.processor_ns = process.processor_ns.saturating_add(used_ns);
            self.has_usage = true;
        }
    }

    fn at_most_ours(&mut self, turn_ns: u64) -> u64 {
        let Some(now_ns) = self.shared.machine.processor_ns() else { return turn_ns };
        let since = self.processor_seen_ns.replace(now_ns);
        since.map_or(turn_ns, |since| turn_ns.min(now_ns.saturating_sub(since)))
    }

    /// Whether there is news of [`usage`](Self::usage).
    #[must_use]
    pub const fn has_usage(&self) -> bool {
        self.has_usage
    }

    /// Tells what each process has used, if that has changed since it was told.
    pub fn usage(&mut self, mut tell: impl FnMut(Usage)) {
        self.has_usage = false;
        for (_, process) in self.table.rows_mut() {
            if process.told_ns != process.processor_ns {
                process.told_ns = process.processor_ns;
                let (processor_ns, empty_slices) = (process.processor_ns, process.empty_slices);
                tell(Usage { at: process.at, processor_ns, empty_slices });
            }
        }
    }
}
