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

#[cfg(test)]
mod tests;

use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use core::{fmt, mem};
use duende_core::{
    sched::{Level, Link, RunQueue, quantum_ms},
    wire::link::{
        Address, Command, Event, HealthReport, LINK_VERSION, LogLevel, Outcome, TEXT_BYTES_MAX,
    },
};

use crate::{
    context::{Context, Message, check_metric_name},
    executor::{
        Call, Executor, Fault, Health, ImageState, Next, Progress, Return, Sample, Wake,
        WakeReasons,
    },
    limits::OPEN_SLICES_MAX,
    log_ring::LogRing,
    machine::Machine,
    process::{Phase, Process, ProcessTable, ProcessView, Questions},
};

/// The manager said something that the protocol does not allow; the link is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// An address was created that is in use.
    AddressInUse(Address),
    /// A priority that is no level.
    NoSuchLevel(u8),
    /// More channels or configuration entries than the protocol's limits allow.
    TooMany(Address),
    /// A message for a channel that was not opened, or more of them than its window.
    OutsideWindow(Address),
    /// A description or a start came after the start.
    AlreadyStarted(Address),
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressInUse(at) => write!(formatter, "address {at:?} is in use"),
            Self::NoSuchLevel(level) => write!(formatter, "priority {level} is not in 0..=7"),
            Self::TooMany(at) => write!(formatter, "{at:?} has too many channels or entries"),
            Self::OutsideWindow(at) => {
                write!(formatter, "a message to {at:?} is outside its window")
            }
            Self::AlreadyStarted(at) => write!(formatter, "{at:?} is started already"),
        }
    }
}

impl core::error::Error for ProtocolError {}

/// Nanoseconds in a millisecond.
const NS_PER_MS: u64 = 1_000_000;

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

    /// Takes a command.
    ///
    /// # Errors
    /// The command breaks the protocol.
    pub fn command(&mut self, command: Command<'_>, emit: Emit<'_>) -> Result<(), ProtocolError> {
        match command {
            Command::Create { at, name, image, limits, level, grants } => {
                if self.table.row_of(at).is_some() {
                    return Err(ProtocolError::AddressInUse(at));
                }
                let level = Level::new(level).ok_or(ProtocolError::NoSuchLevel(level))?;
                let context =
                    Context::new(at, grants, limits, self.log.clone(), self.machine.clone());
                if self.table.insert(at, name, level, image, Box::new(context)).is_none() {
                    let reason = format!(
                        "the process table is full: {} processes run in this WOS",
                        self.table.rows_max()
                    );
                    emit(Event::Exited { at, outcome: Outcome::Refused, reason: &reason });
                }
            }
            Command::ConfigEntry { at, key, value } => {
                if let Some(context) = self.described(at)?
                    && !context.configure(key, value)
                {
                    return Err(ProtocolError::TooMany(at));
                }
            }
            Command::StateEntry { at, key, value } => {
                if let Some(context) = self.described(at)? {
                    context.load_state(key, value);
                }
            }
            Command::ChannelOpen { at, name, granted } => {
                if let Some(context) = self.described(at)?
                    && !context.open_channel(name, granted)
                {
                    return Err(ProtocolError::TooMany(at));
                }
            }
            Command::Start { at } => {
                if self.described(at)?.is_some()
                    && let Some(row) = self.table.row_of(at)
                {
                    self.load(row);
                }
            }
            Command::Message { at, channel, sequence, payload } => {
                self.deliver(at, channel, Message { sequence, payload: payload.into() })?;
            }
            Command::Shutdown { at, grace_ns } => {
                self.shut_down(at, grace_ns);
            }
            Command::Kill { at } => {
                if let Some(row) = self.table.row_of(at) {
                    self.end(row, Outcome::Killed, "killed".into());
                }
            }
            Command::HealthCheck { at, token } => self.check_health(at, token, emit),
            Command::Metrics { at, token } => {
                self.ask(at, |questions| Questions::ask(&mut questions.metrics, token));
            }
        }
        self.reap(emit);
        Ok(())
    }

    /// The executor has made an image ready, or found it unusable: whoever waits for it goes on.
    pub fn image_settled(&mut self, image: &str, emit: Emit<'_>) {
        let waiting: Vec<u32> = self
            .table
            .rows()
            .filter(|(_, process)| {
                matches!(&process.phase, Phase::Loading { image: wanted, .. } if wanted == image)
            })
            .map(|(row, _)| row)
            .collect();
        for row in waiting {
            self.load(row);
        }
        self.reap(emit);
    }

    /// Runs one quantum of one process. False if there was nothing to run.
    pub fn step(&mut self, emit: Emit<'_>) -> bool {
        let now_ns = self.machine.monotonic_ns();
        self.fire_timers(now_ns);
        let Some(row) = self.pick() else { return false };
        let Some(process) = self.table.get_mut(row) else { return true };
        let level = process.level;
        let phase = mem::replace(
            &mut process.phase,
            Phase::Zombie { outcome: Outcome::Error, reason: String::new() },
        );
        let (mut instance, call, was_open) = match phase {
            Phase::Open { instance, call } => (instance, call, true),
            Phase::Boundary(mut instance) => {
                let call = Self::next_call(process, now_ns);
                if let Some(context) = self.executor.context(&mut instance) {
                    context.begin_slice();
                    context.begin_quantum(now_ns, u64::from(quantum_ms(level)) * NS_PER_MS);
                }
                process.slice_began_ns = now_ns;
                self.executor.enter(&mut instance, call);
                (instance, call, false)
            }
            // Only rows in these two phases are ever queued.
            other @ (Phase::Created { .. } | Phase::Loading { .. } | Phase::Zombie { .. }) => {
                process.phase = other;
                return true;
            }
        };
        let progress = self.executor.resume(&mut instance);
        match progress {
            Progress::Preempted => {
                process.phase = Phase::Open { instance, call };
                if !was_open {
                    self.open.push_back(row);
                }
                self.enqueue(row);
            }
            Progress::Returned(returned) => {
                if was_open {
                    self.open.retain(|open| *open != row);
                }
                process.phase = Phase::Boundary(instance);
                self.returned(row, returned, emit);
            }
            Progress::Failed(fault) => {
                drop(instance);
                let (outcome, reason) = match fault {
                    Fault::Trap(reason) => (Outcome::Trap, reason),
                    Fault::SliceBudget => (
                        Outcome::SliceBudget,
                        format!("a call of {} passed the slice budget", name_of(call)),
                    ),
                    Fault::Refused(reason) => (Outcome::Refused, reason),
                };
                self.end(row, outcome, reason);
            }
        }
        self.drain_log(emit);
        self.reap(emit);
        true
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
                let timer = process.timer_ns.is_none_or(|at| self.timers.contains(&(at, row)));
                let open = matches!(process.phase, Phase::Open { .. }) == self.open.contains(&row);
                timer && open && process.is_runnable() == self.queue.contains(row)
            })
    }

    // Commands.

    /// The context of a process that is still being described.
    fn described(&mut self, at: Address) -> Result<Option<&mut Context>, ProtocolError> {
        let Some(row) = self.table.row_of(at) else { return Ok(None) };
        match self.table.get_mut(row).map(|process| &mut process.phase) {
            Some(Phase::Created { context, .. }) => Ok(Some(context)),
            Some(_) => Err(ProtocolError::AlreadyStarted(at)),
            None => Ok(None),
        }
    }

    fn load(&mut self, row: u32) {
        let Some(process) = self.table.get_mut(row) else { return };
        let (Phase::Created { image, context } | Phase::Loading { image, context }) = mem::replace(
            &mut process.phase,
            Phase::Zombie { outcome: Outcome::Error, reason: String::new() },
        ) else {
            return;
        };
        match self.executor.image(&image) {
            ImageState::Ready(ready) => {
                process.phase = Phase::Boundary(self.executor.create(ready, context));
                self.enqueue(row);
            }
            ImageState::Pending => process.phase = Phase::Loading { image, context },
            ImageState::Unusable(reason) => self.end(row, Outcome::Refused, reason),
        }
    }

    fn deliver(&mut self, at: Address, channel: u8, message: Message) -> Result<(), ProtocolError> {
        let Some(row) = self.table.row_of(at) else { return Ok(()) };
        let Some(process) = self.table.get_mut(row) else { return Ok(()) };
        let in_window = match &mut process.phase {
            Phase::Created { context, .. } | Phase::Loading { context, .. } => {
                context.deliver(channel, message)
            }
            Phase::Boundary(instance) => self
                .executor
                .context(instance)
                .is_some_and(|context| context.deliver(channel, message)),
            Phase::Open { .. } => {
                process.arrived.push((channel, message));
                true
            }
            Phase::Zombie { .. } => return Ok(()),
        };
        if !in_window {
            return Err(ProtocolError::OutsideWindow(at));
        }
        process.reasons.insert(WakeReasons::MESSAGE);
        self.enqueue(row);
        Ok(())
    }

    fn shut_down(&mut self, at: Address, grace_ns: u64) {
        let Some(row) = self.table.row_of(at) else { return };
        if let Some(Phase::Created { .. } | Phase::Loading { .. }) =
            self.table.get(row).map(|process| &process.phase)
        {
            // There is nothing yet that could be asked.
            let reason = "it was asked to stop before its start";
            return self.end(row, Outcome::Graceful, reason.into());
        }
        let deadline_ns = self.machine.monotonic_ns().saturating_add(grace_ns);
        self.ask(at, |questions| {
            questions.shutdown_deadline_ns.get_or_insert(deadline_ns);
        });
    }

    fn ask(&mut self, at: Address, ask: impl FnOnce(&mut Questions)) {
        if let Some(row) = self.table.row_of(at)
            && let Some(process) = self.table.get_mut(row)
        {
            ask(&mut process.questions);
            self.enqueue(row);
        }
    }

    fn check_health(&mut self, at: Address, token: u64, emit: Emit<'_>) {
        let Some(process) = self.table.row_of(at).and_then(|row| self.table.get(row)) else {
            return;
        };
        if let Phase::Open { .. } = process.phase {
            let slice_ns = self.machine.monotonic_ns().saturating_sub(process.slice_began_ns);
            let report = HealthReport::Busy { slice_ns };
            emit(Event::Health { at, token, report, memory_bytes: process.memory_bytes });
        } else {
            self.ask(at, |questions| Questions::ask(&mut questions.health, token));
        }
    }

    // Slices.

    fn fire_timers(&mut self, now_ns: u64) {
        while let Some(&(deadline_ns, row)) = self.timers.first()
            && deadline_ns <= now_ns
        {
            self.timers.pop_first();
            if let Some(process) = self.table.get_mut(row) {
                process.timer_ns = None;
                process.reasons.insert(WakeReasons::TIMER);
                self.enqueue(row);
            }
        }
    }

    /// The row that runs next; it has left the queue.
    fn pick(&mut self) -> Option<u32> {
        let (row, level) = self.queue.pop()?;
        if self.open.len() < OPEN_SLICES_MAX || self.open.contains(&row) {
            return Some(row);
        }
        // Every stack is taken: the oldest open slice goes first.
        let _ = self.queue.push(row, level);
        let oldest = *self.open.front()?;
        self.queue.remove(oldest);
        Some(oldest)
    }

    fn next_call(process: &mut Process<E::Instance>, now_ns: u64) -> Call {
        if !process.initialised {
            return Call::Init;
        }
        if !process.questions.health.is_empty() {
            return Call::HealthCheck;
        }
        if !process.questions.metrics.is_empty() {
            return Call::Metrics;
        }
        if let Some(deadline_ns) = process.questions.shutdown_deadline_ns {
            return Call::Shutdown { deadline_ns };
        }
        process.again = false;
        Call::Run(Wake { reasons: mem::take(&mut process.reasons), now_ns })
    }

    fn returned(&mut self, row: u32, returned: Return, emit: Emit<'_>) {
        let Some(process) = self.table.get_mut(row) else { return };
        let at = process.at;
        let Phase::Boundary(instance) = &mut process.phase else { return };
        let Some(context) = self.executor.context(instance) else { return };
        process.memory_bytes = context.memory_bytes();
        // The daemon's lines stand before what its slice made happen.
        drain(&self.log, emit);
        let ended = match returned {
            Return::Init(Ok(())) => {
                context.commit(&mut process.slices, emit);
                process.initialised = true;
                emit(Event::Running { at, pid: process.pid.0 });
                None
            }
            Return::Run(Ok(next)) => {
                let partly_drained = context.left_messages();
                context.commit(&mut process.slices, emit);
                if partly_drained {
                    process.reasons.insert(WakeReasons::MESSAGE);
                }
                match next {
                    Next::Exit => Some((Outcome::Graceful, "it has done its work".to_string())),
                    Next::Again => {
                        process.again = true;
                        self.set_timer(row, None);
                        None
                    }
                    Next::Wait => {
                        self.set_timer(row, None);
                        None
                    }
                    Next::Until(deadline_ns) => {
                        self.set_timer(row, Some(deadline_ns));
                        None
                    }
                }
            }
            Return::Shutdown(Ok(())) => {
                context.commit(&mut process.slices, emit);
                Some((Outcome::Graceful, "it was asked to stop".to_string()))
            }
            Return::Init(Err(text)) => Some((Outcome::Error, format!("init: {text}"))),
            Return::Run(Err(text)) => Some((Outcome::Error, format!("run: {text}"))),
            Return::Shutdown(Err(text)) => Some((Outcome::Error, format!("shutdown: {text}"))),
            Return::HealthCheck(health) => {
                let memory_bytes = process.memory_bytes;
                if let Some(token) = process.questions.health.pop_front() {
                    let report = match &health {
                        Health::Healthy => HealthReport::Healthy,
                        Health::Degraded(text) => HealthReport::Degraded(bounded(text)),
                        Health::Unhealthy(text) => HealthReport::Unhealthy(bounded(text)),
                    };
                    emit(Event::Health { at, token, report, memory_bytes });
                }
                None
            }
            Return::Metrics(samples) => {
                if let Some(token) = process.questions.metrics.pop_front() {
                    emit_samples(at, token, &samples, emit);
                }
                None
            }
        };
        if let Some((outcome, reason)) = ended {
            self.end(row, outcome, reason);
        } else {
            self.take_arrived(row);
            self.enqueue(row);
        }
    }

    /// Moves what arrived during the slice into the inboxes.
    fn take_arrived(&mut self, row: u32) {
        let Some(process) = self.table.get_mut(row) else { return };
        if process.arrived.is_empty() {
            return;
        }
        let Phase::Boundary(instance) = &mut process.phase else { return };
        let Some(context) = self.executor.context(instance) else { return };
        let at = process.at;
        let overflow = process.arrived.drain(..).fold(false, |overflow, (channel, message)| {
            !context.deliver(channel, message) | overflow
        });
        if overflow {
            let reason = ProtocolError::OutsideWindow(at).to_string();
            self.end(row, Outcome::Refused, reason);
        }
    }

    fn set_timer(&mut self, row: u32, deadline_ns: Option<u64>) {
        let Some(process) = self.table.get_mut(row) else { return };
        if let Some(old_ns) = mem::replace(&mut process.timer_ns, deadline_ns) {
            self.timers.remove(&(old_ns, row));
        }
        if let Some(deadline_ns) = deadline_ns {
            self.timers.insert((deadline_ns, row));
        }
    }

    fn enqueue(&mut self, row: u32) {
        if let Some(process) = self.table.get(row)
            && process.is_runnable()
            && !self.queue.contains(row)
        {
            // The queue has a link for each row of the table: it cannot be full.
            let _ = self.queue.push(row, process.level);
        }
    }

    /// Ends a process: it becomes a zombie, and its instance, with an open slice, is gone.
    fn end(&mut self, row: u32, outcome: Outcome, reason: String) {
        self.set_timer(row, None);
        self.queue.remove(row);
        self.open.retain(|open| *open != row);
        if let Some(process) = self.table.get_mut(row) {
            process.phase = Phase::Zombie { outcome, reason };
            self.zombies.push(row);
        }
    }

    /// PID 1 reaps its children: the manager hears of each, and of nothing after it.
    fn reap(&mut self, emit: Emit<'_>) {
        if self.zombies.is_empty() {
            return;
        }
        self.drain_log(emit);
        while let Some(row) = self.zombies.pop() {
            if let Some(process) = self.table.remove(row)
                && let Phase::Zombie { outcome, reason } = process.phase
            {
                emit(Event::Exited { at: process.at, outcome, reason: bounded(&reason) });
            }
        }
    }

    fn drain_log(&self, emit: Emit<'_>) {
        drain(&self.log, emit);
    }
}

fn drain(log: &LogRing, emit: Emit<'_>) {
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

/// Answers with the samples; what has no legal name, or is over the limit, is left out.
fn emit_samples(at: Address, token: u64, samples: &[Sample], emit: Emit<'_>) {
    let is_named = |sample: &&Sample| check_metric_name(&sample.name).is_ok();
    for sample in samples.iter().filter(is_named).take(crate::limits::METRICS_MAX) {
        emit(Event::Sample {
            at,
            token,
            name: &sample.name,
            counter: sample.counter,
            value: sample.value,
        });
    }
    emit(Event::SamplesEnd { at, token });
}

/// The first [`TEXT_BYTES_MAX`] bytes of a text, cut between characters.
fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default()
}

fn name_of(call: Call) -> &'static str {
    match call {
        Call::Init => "init",
        Call::Run(_) => "run",
        Call::Shutdown { .. } => "shutdown",
        Call::HealthCheck => "health-check",
        Call::Metrics => "metrics",
    }
}
