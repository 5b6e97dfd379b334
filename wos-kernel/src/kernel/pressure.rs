//! What is heard of quotas: each change of the pressure that a daemon is under. The manager is told, and
//! the daemon is woken if its contract has a word for it.

use alloc::vec::Vec;

use duende_core::wire::link::{Event, Held};

use super::{Emit, Kernel};
use crate::{
    executor::{Executor, WakeReasons},
    process::Phase,
};

impl<E: Executor> Kernel<E> {
    /// Tells what has changed. A change far up the tree can concern every daemon, so each is looked at;
    /// but only when there was a change at all.
    pub(super) fn tell_pressure(&mut self, emit: Emit<'_>) {
        if !self.quotas.take_changed() {
            return;
        }
        let mut woken = Vec::new();
        for (row, process) in self.table.rows_mut() {
            let [memory, state] = process.groups;
            let mut has_changed = false;
            for (held, group, told) in [
                (Held::Memory, memory, &mut process.pressure.memory),
                (Held::State, state, &mut process.pressure.state),
            ] {
                let pressure = self.quotas.pressure(group);
                if core::mem::replace(told, pressure) != pressure {
                    emit(Event::Pressure { at: process.at, held, pressure });
                    has_changed = true;
                }
            }
            let reasons = match &process.phase {
                Phase::Boundary(instance) | Phase::Open { instance, .. } => {
                    self.executor.reasons(instance)
                }
                // It finds the pressure at its start.
                Phase::Created { .. } | Phase::Loading { .. } | Phase::Zombie { .. } => continue,
            };
            if has_changed && process.initialised && reasons.contains(WakeReasons::PRESSURE) {
                process.reasons.insert(WakeReasons::PRESSURE);
                woken.push(row);
            }
        }
        for row in woken {
            self.enqueue(row);
        }
    }
}
