//! The kernel: takes the manager's commands, decides which process runs, and turns what its slice
//! did into events.
//!
//! Rules:
//! 1. One process runs at a time, one turn at a time, chosen by the core's scheduler: the most urgent
//!    level first, round robin within it, and whoever waits long ages. A row of the process table is a
//!    task of the scheduler. Only the bound on open slices is the kernel's own.
//! 2. At a boundary the questions of the outside — health, metrics, shutdown, in this order — go
//!    ahead of work.
//! 3. What arrives while a slice is open waits for its end, and is a reason for the next slice.
//! 4. A command that names an address that is gone is ignored: the end of that process is on its way
//!    to the manager. A command that breaks the protocol is an error, and the owner closes the link.
//! 5. A kernel that finds one of its own rules broken halts, with what it did last.
//!
//! | file | idea |
//! |---|---|
//! | `commands.rs` | what the manager says |
//! | `slices.rs` | one quantum, and what becomes of it |
//! | `places.rs` | how many slices are open, and whose turn it is |
//! | `pause.rs` | holding a process still |
//! | `pressure.rs` | what is told of quotas |
//! | `ends.rs` | how a process ends |
//! | `record.rs` | what the kernel did last, and when it halts |
//! | `protocol.rs` | what the manager may not say |
//! | `usage.rs` | what each process has used |
//! | `samples.rs` | a daemon's figures, as the manager takes them |

mod commands;
mod ends;
mod pause;
mod places;
mod pressure;
mod protocol;
mod record;
mod samples;
mod slices;
#[cfg(test)]
mod tests;
mod usage;

use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};
use duende_core::{
    epitaph::Epitaph,
    recorder::{self, Recorder},
    sched::{self, Rules, Scheduler},
    time::Instant,
    wire::link::Event,
};

pub use self::protocol::ProtocolError;
pub(crate) use self::{places::Place, record::require};
use self::{places::Places, record::Entry};
use crate::{
    context::Shared,
    executor::Executor,
    limits::RECORDS_MAX,
    machine::Machine,
    process::{ProcessTable, ProcessView},
    quota::Quotas,
};

/// Receives the kernel's events, in order.
pub type Emit<'a> = &'a mut dyn FnMut(Event<'_>);

/// A WOS.
pub struct Kernel<E: Executor> {
    executor: E,
    table: ProcessTable<E::Instance>,
    scheduler: Scheduler<Box<[sched::Slot]>>,
    quotas: Arc<Quotas>,
    shared: Shared,
    timers: BTreeSet<(u64, u32)>,
    /// Rows whose slice is open, the oldest first.
    open: VecDeque<u32>,
    places: Places,
    /// Whether a process has used what was not told yet.
    has_usage: bool,
    /// The thread's processor time when it was looked at last, in nanoseconds.
    processor_seen_ns: Option<u64>,
    /// Rows that PID 1 has to reap.
    zombies: Vec<u32>,
    recorder: Recorder<Entry, Box<[recorder::Slot<Entry>]>>,
    /// The quantum that was recorded last, if nothing was recorded since.
    last_quantum: Option<Entry>,
    /// Why nothing goes on any more.
    halted: Option<Epitaph>,
    steps: u32,
    /// The row that was looked over last.
    patrolled: u32,
}

impl<E: Executor> Kernel<E> {
    /// A kernel for `processes_max` processes, PID 1 included.
    pub fn new(executor: E, processes_max: u32, machine: Arc<dyn Machine>) -> Self {
        let table = ProcessTable::new(processes_max);
        let rows = usize::try_from(table.rows_max()).unwrap_or(0);
        let records = alloc::vec![recorder::Slot::EMPTY; RECORDS_MAX].into_boxed_slice();
        let tasks = alloc::vec![sched::Slot::EMPTY; rows].into_boxed_slice();
        Self {
            executor,
            table,
            scheduler: Scheduler::new(tasks, Rules::default()),
            quotas: Arc::new(Quotas::new(rows, machine.memory_bytes_max())),
            shared: Shared { log: Arc::default(), machine, turn: Arc::default() },
            timers: BTreeSet::new(),
            open: VecDeque::new(),
            places: Places::default(),
            has_usage: false,
            processor_seen_ns: None,
            zombies: Vec::new(),
            recorder: Recorder::new(records),
            last_quantum: None,
            halted: None,
            steps: 0,
            patrolled: 0,
        }
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
        // There is no deadline class here, so time plays no part.
        self.scheduler.is_busy(Instant::ZERO)
    }

    /// The process table, PID 1 first.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessView> {
        self.table.views()
    }
}
