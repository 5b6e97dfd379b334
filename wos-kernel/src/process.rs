//! The process table.
//!
//! A process is a row: who made it, what it may do, and where it stands between its making and its
//! reaping. PID 1 is a row without an instance: the parent of everything that the manager makes. A
//! process that ends becomes a zombie and stays until its parent reaps it; PID 1 reaps by telling
//! the manager.
//!
//! Invariants: process ids are never reused while the kernel runs; each address of the manager names
//! at most one row; `free` holds exactly the empty rows.

use alloc::{boxed::Box, collections::BTreeMap, collections::VecDeque, string::String, vec::Vec};
use core::mem;
use duende_core::{
    epitaph::Epitaph,
    policy::quota::{GroupId, Pressure},
    sched::Level,
    wire::link::{Address, Outcome, ValueKind},
};

use crate::{
    context::{Config, Context},
    executor::{Call, WakeReasons},
    inbox::Message,
    kernel::{Place, require},
    limits::{PROCESSES_MAX, QUESTIONS_MAX},
};

/// The id of a process within its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub u32);

impl Pid {
    /// The parent of what the manager creates.
    pub const INIT: Self = Self(1);
}

/// Where a process stands. The instance lives in the states that have one.
pub(crate) enum Phase<I> {
    /// Described, not started.
    Created { image: String, context: Box<Context> },
    /// Started; waits for its image.
    Loading { image: String, context: Box<Context> },
    /// Between slices.
    Boundary(I),
    /// In a slice.
    Open { instance: I, call: Call },
    /// Over; waits for its parent.
    Zombie { outcome: Outcome, code: u8, reason: String },
}

/// Where a process stands, for people and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// Described, not started.
    Created,
    /// Started; waits for its image.
    Loading,
    /// Between slices.
    Boundary,
    /// In a slice.
    Open,
    /// Between slices, and held there.
    Paused,
    /// Over; waits for its parent.
    Zombie,
}

/// A row of the process table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessView {
    /// Its id.
    pub pid: Pid,
    /// Who made it.
    pub parent: Pid,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: ProcessState,
}

/// Whether a process is held still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It goes on.
    No,
    /// It will be, once its open slice is over.
    AtBoundary,
    /// It is, since this instant of the kernel's clock, in nanoseconds.
    Since(u64),
}

impl Hold {
    pub(crate) const fn is_still(self) -> bool {
        matches!(self, Self::Since(_))
    }
}

/// What waits for a slice boundary, ahead of work.
#[derive(Default)]
pub(crate) struct Questions {
    pub(crate) health: VecDeque<u64>,
    pub(crate) metrics: VecDeque<u64>,
    pub(crate) shutdown_deadline_ns: Option<u64>,
}

impl Questions {
    pub(crate) fn ask(queue: &mut VecDeque<u64>, token: u64) {
        if queue.len() >= QUESTIONS_MAX {
            queue.pop_front();
        }
        queue.push_back(token);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.health.is_empty() && self.metrics.is_empty() && self.shutdown_deadline_ns.is_none()
    }
}

/// The pressure that the manager was told of last.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) memory: Pressure,
    pub(crate) state: Pressure,
}

pub(crate) struct Process<I> {
    pub(crate) pid: Pid,
    pub(crate) parent: Pid,
    pub(crate) at: Address,
    pub(crate) name: String,
    pub(crate) phase: Phase<I>,
    /// How urgent its slices are.
    pub(crate) level: Level,
    /// The place for its next slice.
    pub(crate) place: Place,
    /// Since when it waits for one: a number, later ones are higher.
    pub(crate) held_back_since: Option<u64>,
    /// Whether `init` returned.
    pub(crate) initialised: bool,
    /// Why the next `run` is called.
    pub(crate) reasons: WakeReasons,
    /// Whether the last `run` asked for another slice.
    pub(crate) again: bool,
    pub(crate) questions: Questions,
    /// What arrived while a slice was open.
    pub(crate) arrived: Vec<(u8, Message)>,
    /// Whether it is paused.
    pub(crate) hold: Hold,
    /// How long it was paused so far: as far as its clock is behind the kernel's, in nanoseconds.
    pub(crate) behind_ns: u64,
    /// When its timer fires, in nanoseconds on its own clock.
    pub(crate) timer_ns: Option<u64>,
    /// The configuration that the next reload puts in force, as far as it is known.
    next_config: Config,
    /// The configuration that the next slice finds.
    pub(crate) reloaded: Option<Config>,
    /// When it is killed, on the kernel's clock, once its `shutdown` has asked for more slices.
    pub(crate) stop_deadline_ns: Option<u64>,
    /// Running time of the open slice began, in nanoseconds.
    pub(crate) slice_began_ns: u64,
    /// The groups that its memory and its state are charged to.
    pub(crate) groups: [GroupId; 2],
    pub(crate) pressure: Told,
    /// Processor time that it has used, and how much of that its manager knows, in nanoseconds.
    pub(crate) processor_ns: u64,
    pub(crate) told_ns: u64,
    /// Slices that changed nothing and asked for the next one at once.
    pub(crate) empty_slices: u64,
    /// Slices that committed something.
    pub(crate) slices: u64,
    /// Linear memory at the last boundary, in bytes.
    pub(crate) memory_bytes: u64,
}

impl<I> Process<I> {
    /// Whether it has a reason for a slice.
    pub(crate) fn is_runnable(&self) -> bool {
        match self.phase {
            Phase::Open { .. } => true,
            Phase::Boundary(_) if self.hold.is_still() => false,
            Phase::Boundary(_) => {
                !self.initialised
                    || self.again
                    || !self.reasons.is_empty()
                    || !self.questions.is_empty()
            }
            Phase::Created { .. } | Phase::Loading { .. } | Phase::Zombie { .. } => false,
        }
    }

    /// Whether its next slice answers a question of health.
    pub(crate) fn is_asked_for_health(&self) -> bool {
        self.initialised && !self.questions.health.is_empty()
    }

    /// Whether it was asked to stop, and when it is killed, on the kernel's clock.
    pub(crate) fn stops_at_ns(&self) -> Option<u64> {
        self.stop_deadline_ns.or(self.questions.shutdown_deadline_ns)
    }

    /// Whether it has ended, and waits for its parent.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Zombie { .. })
    }

    /// Takes the phase out; whoever does puts the next one in.
    pub(crate) fn take_phase(&mut self) -> Phase<I> {
        mem::replace(
            &mut self.phase,
            Phase::Zombie { outcome: Outcome::Error, code: 0, reason: String::new() },
        )
    }

    /// An instant of the kernel's clock on the clock of this process, while it is not paused.
    pub(crate) const fn on_its_clock_ns(&self, kernel_ns: u64) -> u64 {
        kernel_ns.saturating_sub(self.behind_ns)
    }

    /// When its timer fires, in nanoseconds on the kernel's clock; none while it is paused.
    pub(crate) fn timer_fires_ns(&self) -> Option<u64> {
        let timer_ns = self.timer_ns.filter(|_| !self.hold.is_still())?;
        Some(timer_ns.saturating_add(self.behind_ns))
    }

    /// Takes an entry of the configuration: of the first one before the start, of the next one
    /// after it. False if there are too many.
    pub(crate) fn configure(&mut self, key: &str, value: &str, kind: ValueKind) -> bool {
        if let Phase::Created { context, .. } = &mut self.phase {
            return context.configure(key, value, kind);
        }
        self.next_config.insert(key, value, kind)
    }

    /// Puts the next configuration in force from the next slice on.
    pub(crate) fn reload(&mut self) {
        self.reloaded = Some(mem::take(&mut self.next_config));
        self.reasons.insert(WakeReasons::RELOAD);
    }

    fn state(&self) -> ProcessState {
        match self.phase {
            Phase::Boundary(_) if self.hold.is_still() => ProcessState::Paused,
            Phase::Created { .. } => ProcessState::Created,
            Phase::Loading { .. } => ProcessState::Loading,
            Phase::Boundary(_) => ProcessState::Boundary,
            Phase::Open { .. } => ProcessState::Open,
            Phase::Zombie { .. } => ProcessState::Zombie,
        }
    }
}

pub(crate) struct ProcessTable<I> {
    rows: Vec<Option<Process<I>>>,
    free: Vec<u32>,
    by_daemon: BTreeMap<u32, u32>,
    next_pid: u32,
    rows_max: u32,
}

impl<I> ProcessTable<I> {
    /// A table for `processes_max` processes, PID 1 included, and at most [`PROCESSES_MAX`].
    pub(crate) fn new(processes_max: u32) -> Self {
        Self {
            rows: Vec::new(),
            free: Vec::new(),
            by_daemon: BTreeMap::new(),
            next_pid: Pid::INIT.0 + 1,
            rows_max: processes_max.min(PROCESSES_MAX).saturating_sub(1),
        }
    }

    pub(crate) fn rows_max(&self) -> u32 {
        self.rows_max
    }

    /// The row of an address; none if the address is stale or was never used.
    pub(crate) fn row_of(&self, at: Address) -> Option<u32> {
        let row = *self.by_daemon.get(&at.daemon)?;
        (self.get(row)?.at == at).then_some(row)
    }

    pub(crate) fn get(&self, row: u32) -> Option<&Process<I>> {
        self.rows.get(usize::try_from(row).ok()?)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, row: u32) -> Option<&mut Process<I>> {
        self.rows.get_mut(usize::try_from(row).ok()?)?.as_mut()
    }

    /// Makes a process of PID 1's. None if the table is full; the address must not be in use.
    pub(crate) fn insert(
        &mut self,
        at: Address,
        name: &str,
        image: &str,
        context: Box<Context>,
        groups: [GroupId; 2],
    ) -> Option<u32> {
        let row = match self.free.pop() {
            Some(row) => row,
            None => {
                let row = u32::try_from(self.rows.len()).ok()?;
                if row >= self.rows_max {
                    return None;
                }
                self.rows.push(None);
                row
            }
        };
        let pid = Pid(self.next_pid);
        self.next_pid = self.next_pid.checked_add(1)?;
        let process = Process {
            pid,
            parent: Pid::INIT,
            at,
            name: name.into(),
            phase: Phase::Created { image: image.into(), context },
            level: Level::default(),
            place: Place::default(),
            held_back_since: None,
            initialised: false,
            reasons: WakeReasons::STARTED,
            again: false,
            questions: Questions::default(),
            arrived: Vec::new(),
            hold: Hold::No,
            behind_ns: 0,
            timer_ns: None,
            next_config: Config::default(),
            reloaded: None,
            stop_deadline_ns: None,
            slice_began_ns: 0,
            groups,
            pressure: Told::default(),
            processor_ns: 0,
            told_ns: 0,
            empty_slices: 0,
            slices: 0,
            memory_bytes: 0,
        };
        *self.rows.get_mut(usize::try_from(row).ok()?)? = Some(process);
        self.by_daemon.insert(at.daemon, row);
        Some(row)
    }

    /// Takes a row out for good.
    pub(crate) fn remove(&mut self, row: u32) -> Option<Process<I>> {
        let process = self.rows.get_mut(usize::try_from(row).ok()?)?.take()?;
        if self.by_daemon.get(&process.at.daemon) == Some(&row) {
            self.by_daemon.remove(&process.at.daemon);
        }
        self.free.push(row);
        Some(process)
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = (u32, &Process<I>)> {
        (0_u32..).zip(&self.rows).filter_map(|(row, process)| Some((row, process.as_ref()?)))
    }

    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = (u32, &mut Process<I>)> {
        (0_u32..).zip(&mut self.rows).filter_map(|(row, process)| Some((row, process.as_mut()?)))
    }

    /// The table as people see it, PID 1 first.
    pub(crate) fn views(&self) -> Vec<ProcessView> {
        let init = ProcessView {
            pid: Pid::INIT,
            parent: Pid(0),
            name: "init".into(),
            state: ProcessState::Boundary,
        };
        let mut views: Vec<_> = self
            .rows()
            .map(|(_, process)| ProcessView {
                pid: process.pid,
                parent: process.parent,
                name: process.name.clone(),
                state: process.state(),
            })
            .collect();
        views.sort_by_key(|view| view.pid);
        views.insert(0, init);
        views
    }

    /// Whether the invariants of this module hold.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not hold.
    pub(crate) fn check_invariants(&self) -> Result<(), Epitaph> {
        let live = self.rows().count();
        let (rows, free, named) = (self.rows.len(), self.free.len(), self.by_daemon.len());
        require(live + free == rows, format_args!("{live} live and {free} free of {rows} rows"))?;
        require(live == named, format_args!("{live} rows live, {named} have an address"))?;
        self.rows().try_for_each(|(row, process)| {
            require(self.row_of(process.at) == Some(row), format_args!("row {row}: wrong address"))
        })
    }
}
