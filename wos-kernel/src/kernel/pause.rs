//! Holding a process still, and letting it go on.
//!
//! Rules:
//! 1. A pause takes effect at a slice boundary. A slice that is open is finished, and its budget
//!    bounds how long that takes: so a paused process holds no stack and no open transaction.
//! 2. Time does not pass for a paused process: its clock stands (`Process::on_its_clock_ns`), so its timer
//!    has as far to go after the pause as before it.
//! 3. What arrives waits for the first slice after the pause, which is told
//!    [`RESUMED`](WakeReasons::RESUMED).
//! 4. Nobody waits for a paused process: the kernel answers for it, at once.
//! 5. Who is asked to stop is not paused, or not any longer.

use core::mem;

use duende_core::wire::link::{Address, Event, HealthReport};

use super::{Emit, Kernel};
use crate::{
    executor::{Executor, WakeReasons},
    process::{Hold, Phase},
};

impl<E: Executor> Kernel<E> {
    pub(super) fn pause(&mut self, at: Address, emit: Emit<'_>) {
        let Some(row) = self.table.row_of(at) else { return };
        let Some(process) = self.table.get_mut(row) else { return };
        if process.hold != Hold::No || process.stops_at_ns().is_some() {
            return;
        }
        process.hold = Hold::AtBoundary;
        if !matches!(process.phase, Phase::Open { .. }) {
            self.hold_still(row, emit);
        }
    }

    /// Carries out a pause, at a boundary.
    pub(super) fn hold_still(&mut self, row: u32, emit: Emit<'_>) {
        let now_ns = self.shared.machine.monotonic_ns();
        self.disarm(row);
        self.give_place_up(row);
        // A task that is not the scheduler's has ended.
        let _ = self.scheduler.unready(row);
        self.hurry_no_more(row);
        let Some(process) = self.table.get_mut(row) else { return };
        process.hold = Hold::Since(now_ns);
        let (at, memory_bytes) = (process.at, process.memory_bytes);
        let report = HealthReport::Paused;
        for token in process.questions.health.drain(..) {
            emit(Event::Health { at, token, report, memory_bytes });
        }
        for token in process.questions.metrics.drain(..) {
            emit(Event::SamplesEnd { at, token });
        }
    }

    pub(super) fn resume(&mut self, at: Address) {
        let Some(row) = self.table.row_of(at) else { return };
        let now_ns = self.shared.machine.monotonic_ns();
        let Some(process) = self.table.get_mut(row) else { return };
        if let Hold::Since(paused_ns) = mem::replace(&mut process.hold, Hold::No) {
            let length_ns = now_ns.saturating_sub(paused_ns);
            process.behind_ns = process.behind_ns.saturating_add(length_ns);
            process.reasons.insert(WakeReasons::RESUMED);
            self.arm(row);
            self.enqueue(row);
        }
    }
}
