//! The kernel: takes the manager's commands, decides which process runs, and turns what its slice
//! did into events.
//!
//! Rules:
//! 1. One process runs at a time, chosen by the run queue: the most urgent level first, round robin
//!    within it, one quantum at a time.
//! 2. At a boundary the questions of the outside — health, metrics, shutdown, in this order — go
//!    ahead of work.
//! 3. What arrives while a slice is open waits for its end, and is a reason for the next slice.
//! 4. A command that names an address that is gone is ignored: the end of that process is on its way
//!    to the manager. A command that breaks the protocol is an error, and the owner closes the link.

mod commands;
mod ends;
mod pause;
mod protocol;
mod slices;
#[cfg(test)]
mod tests;

use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};
use duende_core::{
    sched::{Link, RunQueue},
    wire::link::{Event, LINK_VERSION},
};

pub use self::protocol::ProtocolError;
use crate::{
    executor::Executor,
    log_ring::LogRing,
    machine::Machine,
    process::{Phase, ProcessTable, ProcessView},
};

/// Receives the kernel's events, in order.
pub type Emit<'a> = &'a mut dyn FnMut(Event<'_>);

/// A WOS.
pub struct Kernel<E: Executor> {
    executor: E,
    table: ProcessTable<E::Instance>,
    queue: RunQueue<Box<[Link]>>,
    timers: BTreeSet<(u64, u32)>,
    /// Rows whose slice is open, the oldest first.
    open: VecDeque<u32>,
    /// Rows that PID 1 has to reap.
    zombies: Vec<u32>,
    log: Arc<LogRing>,
    machine: Arc<dyn Machine>,
}

impl<E: Executor> Kernel<E> {
    /// A kernel for `processes_max` processes, PID 1 included.
    pub fn new(executor: E, processes_max: u32, machine: Arc<dyn Machine>) -> Self {
        let table = ProcessTable::new(processes_max);
        let rows = usize::try_from(table.rows_max()).unwrap_or(0);
        let links = alloc::vec![Link::default(); rows].into_boxed_slice();
        Self {
            executor,
            table,
            queue: RunQueue::new(links),
            timers: BTreeSet::new(),
            open: VecDeque::new(),
            zombies: Vec::new(),
            log: Arc::default(),
            machine,
        }
    }

    /// Says hello. The first event of a kernel.
    pub fn hello(&self, emit: Emit<'_>) {
        emit(Event::Hello { version: LINK_VERSION });
    }

    /// The executor.
    pub fn executor(&mut self) -> &mut E {
        &mut self.executor
    }

    /// When the next timer fires, in nanoseconds on the monotonic clock.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.timers.first().map(|(deadline_ns, _)| *deadline_ns)
    }

    /// Whether a process waits for the processor.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.queue.most_urgent().is_some()
    }

    /// The process table, PID 1 first.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessView> {
        self.table.views()
    }

    /// Whether the kernel's invariants hold.
    #[must_use]
    pub fn check_invariants(&self) -> bool {
        self.table.check_invariants()
            && self.zombies.is_empty()
            && self.table.rows().all(|(row, process)| {
                let fires_ns = process.timer_fires_ns();
                let timer = fires_ns.is_none_or(|at_ns| self.timers.contains(&(at_ns, row)));
                let open = matches!(process.phase, Phase::Open { .. }) == self.open.contains(&row);
                timer && open && process.is_runnable() == self.queue.contains(row)
            })
    }
}
