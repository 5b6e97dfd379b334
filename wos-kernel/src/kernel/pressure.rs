//! What the manager hears of quotas: each change of the pressure that a daemon is under.

use duende_core::wire::link::{Event, Held};

use super::{Emit, Kernel};
use crate::executor::Executor;

impl<E: Executor> Kernel<E> {
    /// Tells what has changed. A change far up the tree can concern every daemon, so each is looked at;
    /// but only when there was a change at all.
    pub(super) fn tell_pressure(&mut self, emit: Emit<'_>) {
        if !self.quotas.take_changed() {
            return;
        }
        for process in self.table.processes_mut() {
            let [memory, state] = process.groups;
            for (held, group, told) in [
                (Held::Memory, memory, &mut process.pressure.memory),
                (Held::State, state, &mut process.pressure.state),
            ] {
                let pressure = self.quotas.pressure(group);
                if core::mem::replace(told, pressure) != pressure {
                    emit(Event::Pressure { at: process.at, held, pressure });
                }
            }
        }
    }
}
