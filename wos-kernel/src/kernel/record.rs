//! What the kernel did last, for the day on which it must not go on.
//!
//! Rules:
//! 1. Every command but messages, every quantum and every end is recorded, the last
//!    [`RECORDS_MAX`](crate::limits::RECORDS_MAX) of them. Messages would push out all else, and so
//!    would a busy process: of quanta that differ in nothing the first is recorded.
//! 2. A kernel that finds a rule of its own broken halts: it takes nothing, runs nothing and says
//!    nothing more, and [`Kernel::step`] gives its epitaph. Its owner writes down [`Kernel::dump`] and
//!    ends it: what was committed is with the manager, and what was not is done again.
//! 3. Besides what a step comes across, one row of the process table is looked over in each
//!    [`PATROL_STEPS`] steps, whoever runs.

use core::fmt;

use duende_core::{
    epitaph::Epitaph,
    time::Instant,
    wire::link::{Address, Command, Outcome},
};

use super::Kernel;
use crate::{
    executor::{Executor, Export, Progress},
    limits::PATROL_STEPS,
    process::Phase,
};

/// One thing that the kernel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It took a command.
    Command { what: &'static str, at: Address },
    /// It ran a process for a quantum.
    Quantum { at: Address, export: Export, how: How },
    /// A process ended.
    Ended { at: Address, outcome: Outcome },
}

/// How a quantum ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Preempted,
    Returned,
    Failed,
}

impl How {
    pub(super) const fn of(progress: &Progress) -> Self {
        match progress {
            Progress::Preempted => Self::Preempted,
            Progress::Returned(_) => Self::Returned,
            Progress::Failed(_) => Self::Failed,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Preempted => "was preempted",
            Self::Returned => "returned",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Command { at, .. } | Self::Quantum { at, .. } | Self::Ended { at, .. }) = self;
        write!(f, "{}.{} ", at.daemon, at.incarnation)?;
        match self {
            Self::Command { what, .. } => f.write_str(what),
            Self::Quantum { export, how, .. } => write!(f, "{} {}", export.name(), how.name()),
            Self::Ended { outcome, .. } => write!(f, "ended: {outcome:?}"),
        }
    }
}

impl Entry {
    /// What is recorded of a command, if it is.
    pub(super) const fn of(command: &Command<'_>) -> Option<Self> {
        let (what, at) = match *command {
            Command::Create { at, .. } => ("create", at),
            Command::ConfigEntry { at, .. } => ("config", at),
            Command::StateEntry { at, .. } => ("state", at),
            Command::ChannelOpen { at, .. } => ("channel", at),
            Command::Start { at } => ("start", at),
            Command::Setting { .. } | Command::Grant { .. } | Command::Messages { .. } => {
                return None;
            }
            Command::Pause { at } => ("pause", at),
            Command::Resume { at } => ("resume", at),
            Command::Reload { at } => ("reload", at),
            Command::Shutdown { at, .. } => ("shutdown asked for", at),
            Command::Kill { at } => ("kill", at),
            Command::HealthCheck { at, .. } => ("health asked for", at),
            Command::Metrics { at, .. } => ("figures asked for", at),
        };
        Some(Self::Command { what, at })
    }
}

impl<E: Executor> Kernel<E> {
    /// Why the kernel has halted, if it has.
    #[must_use]
    pub const fn halted(&self) -> Option<&Epitaph> {
        self.halted.as_ref()
    }

    /// Writes the epitaph, if the kernel has halted, and what it did last, the newest first.
    pub fn dump(&self, out: &mut impl fmt::Write) {
        // A writer that is full has what matters most.
        let _ = self.recorder.dump(self.halted.as_ref(), out);
    }

    pub(super) fn record(&mut self, now_ns: u64, entry: Entry) {
        self.last_quantum = None;
        self.recorder.record(Instant::from_ns(now_ns), entry);
    }

    /// Records a quantum, unless it is like the one that was recorded last.
    pub(super) fn record_quantum(&mut self, now_ns: u64, entry: Entry) {
        if self.last_quantum != Some(entry) {
            self.record(now_ns, entry);
            self.last_quantum = Some(entry);
        }
    }

    /// Halts, unless the kernel has halted before: the first broken rule explains the others.
    #[cold]
    pub(super) fn halt(&mut self, epitaph: Epitaph) {
        self.halted.get_or_insert(epitaph);
    }

    /// Looks over a row now and then.
    pub(super) fn patrol(&mut self) {
        self.steps = self.steps.wrapping_add(1);
        if !self.steps.is_multiple_of(PATROL_STEPS) {
            return;
        }
        let rows = self.table.rows_max().max(1);
        self.patrolled = self.patrolled.wrapping_add(1) % rows;
        if let Err(epitaph) = self.check_row(self.patrolled) {
            self.halt(epitaph);
        }
    }

    /// Whether the kernel's invariants hold. It looks at every row: for tests and simulators.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not hold.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        self.halted.clone().map_or(Ok(()), Err)?;
        self.table.check_invariants()?;
        self.recorder.check_invariants()?;
        self.scheduler.check_invariants()?;
        self.quotas.check_invariants()?;
        require(self.zombies.is_empty(), format_args!("a zombie is not reaped"))?;
        let timers = self.table.rows().filter_map(|(_, process)| process.timer_fires_ns()).count();
        require(timers == self.timers.len(), format_args!("a timer is nobody's"))?;
        (0..self.table.rows_max()).try_for_each(|row| self.check_row(row))
    }

    fn check_row(&self, row: u32) -> Result<(), Epitaph> {
        let Some(process) = self.table.get(row) else {
            return require(
                !self.scheduler.is_ready(row),
                format_args!("row {row} waits, and is free"),
            );
        };
        let fires_ns = process.timer_fires_ns();
        let is_armed = fires_ns.is_none_or(|at_ns| self.timers.contains(&(at_ns, row)));
        require(is_armed, format_args!("row {row} has a timer that is not armed"))?;
        let is_open = matches!(process.phase, Phase::Open { .. });
        let is_listed = self.open.contains(&row);
        require(is_open == is_listed, format_args!("row {row}: open {is_open}, not {is_listed}"))?;
        let (wants, waits) = (process.is_runnable(), self.scheduler.is_ready(row));
        let is_held_back = self.is_held_back(row);
        require(
            wants == (waits || is_held_back) && !(waits && is_held_back),
            format_args!("row {row}: runnable {wants}, queued {waits}, held back {is_held_back}"),
        )
    }
}

/// An epitaph unless the condition holds.
pub(crate) fn require(condition: bool, what: fmt::Arguments<'_>) -> Result<(), Epitaph> {
    if condition { Ok(()) } else { Err(Epitaph::new(what)) }
}
