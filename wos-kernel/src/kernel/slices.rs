//! One quantum: whose it is, what is called, and what becomes of the answer.

use alloc::{format, string::ToString};
use core::mem;
use duende_core::{
    epitaph::Epitaph,
    sched::{self, Pick},
    time::Instant,
    wire::link::{Address, Event, HealthReport, Outcome},
};

use super::{
    Emit, Kernel, ProtocolError,
    ends::{bounded, drain, no_room},
    record::{Entry, How},
    samples::emit_samples,
};
use crate::{
    context::Opening,
    executor::{
        Call, Ending, Executor, Fault, HealthStatus, Next, Progress, Return, Wake, WakeReasons,
    },
    limits::TICK_NS,
    process::{Hold, Phase, Process},
};

/// A process in its slice.
struct Running<I> {
    instance: I,
    call: Call,
    at: Address,
    /// Whether the slice was open before this quantum.
    was_open: bool,
}

impl<E: Executor> Kernel<E> {
    /// Runs one quantum of one process. False if there was nothing to run.
    ///
    /// # Errors
    /// The kernel has halted, now or earlier: a rule of its own is broken. It says nothing more; its
    /// owner writes down [`dump`](Self::dump) and ends it.
    pub fn step(&mut self, emit: Emit<'_>) -> Result<bool, Epitaph> {
        self.patrol();
        let ran = self.halted.is_none() && self.run_next(emit);
        match &self.halted {
            None => Ok(ran),
            Some(epitaph) => Err(epitaph.clone()),
        }
    }

    fn run_next(&mut self, emit: Emit<'_>) -> bool {
        let now_ns = self.shared.machine.monotonic_ns();
        self.fire_timers(now_ns);
        let Some(Pick { task: row, run_for_ns, .. }) = self.pick(now_ns) else { return false };
        let Some(Running { mut instance, call, at, was_open }) = self.open_slice(row, now_ns)
        else {
            self.halt(Epitaph::new(format_args!("row {row} was picked and cannot run")));
            return false;
        };
        self.shared.turn.begin(now_ns, run_for_ns);
        self.shared.machine.runs(Some(at));
        let progress = self.executor.resume(&mut instance);
        self.shared.machine.runs(None);
        self.count_turn(row, now_ns);
        let over_ns = self.shared.turn.over_ns();
        let how = How::of(&progress);
        self.record_quantum(now_ns, Entry::Quantum { at, export: call.export(), how });
        match progress {
            Progress::Preempted => {
                self.set_phase(row, Phase::Open { instance, call });
                if !was_open {
                    self.open.push_back(row);
                }
                self.drain_log(emit);
            }
            Progress::Returned(returned) => {
                if was_open {
                    self.open.retain(|open| *open != row);
                }
                self.returned(row, instance, call, returned, emit);
            }
            Progress::Failed(fault) => {
                drop(instance);
                match fault {
                    Fault::Trap(reason) => {
                        let reason = format!("{}: {reason}", call.export().name());
                        self.end(row, Outcome::Trap, reason);
                    }
                    Fault::SliceBudget => {
                        let export = call.export().name();
                        let reason = format!("a call of {export} passed the slice budget");
                        self.end(row, Outcome::SliceBudget, reason);
                    }
                    Fault::Refused(reason) => self.end(row, Outcome::Refused, reason),
                    Fault::NoRoom(reason) => self.end_as_said(row, no_room(reason)),
                }
            }
        }
        self.end_turn(row, over_ns, over_ns.saturating_sub(now_ns));
        self.reap(emit);
        self.tell_pressure(emit);
        true
    }

    /// Tells the scheduler what became of the turn, unless the process has ended with it.
    fn end_turn(&mut self, row: u32, over_ns: u64, used_ns: u64) {
        let Some(process) = self.table.get(row).filter(|process| !process.is_over()) else {
            return;
        };
        let outcome =
            if process.is_runnable() { sched::Outcome::Again } else { sched::Outcome::Waits };
        if let Err(error) = self.scheduler.ran(row, Instant::from_ns(over_ns), used_ns, outcome) {
            self.halt(Epitaph::new(format_args!("{error}")));
        }
    }

    /// Takes the instance of a row out, with its slice open. None if the row cannot run.
    fn open_slice(&mut self, row: u32, now_ns: u64) -> Option<Running<E::Instance>> {
        let process = self.table.get_mut(row)?;
        let at = process.at;
        match process.take_phase() {
            Phase::Open { instance, call } => Some(Running { instance, call, at, was_open: true }),
            Phase::Boundary(mut instance) => {
                let call = Self::next_call(process, now_ns);
                let context = self.executor.context(&mut instance)?;
                if matches!(call, Call::Init | Call::Run(_))
                    && let Some(config) = process.reloaded.take()
                {
                    context.set_config(config);
                }
                context.begin_slice(Opening {
                    behind_ns: process.behind_ns,
                    now_ns: process.on_its_clock_ns(now_ns),
                    is_question: matches!(call, Call::HealthCheck | Call::Metrics),
                    is_init: call == Call::Init,
                    stop_deadline_ns: process.stops_at_ns().map(|at| process.on_its_clock_ns(at)),
                });
                process.slice_began_ns = now_ns;
                self.executor.enter(&mut instance, call);
                self.take_place(row, call);
                Some(Running { instance, call, at, was_open: false })
            }
            Phase::Created { .. } | Phase::Loading { .. } | Phase::Zombie { .. } => None,
        }
    }

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
            return Call::Shutdown { deadline_ns: process.on_its_clock_ns(deadline_ns) };
        }
        process.again = false;
        if process.stop_deadline_ns.is_some() {
            process.reasons.insert(WakeReasons::STOPPING);
        }
        let now_ns = process.on_its_clock_ns(now_ns);
        Call::Run(Wake { reasons: mem::take(&mut process.reasons), now_ns })
    }

    fn returned(
        &mut self,
        row: u32,
        mut instance: E::Instance,
        call: Call,
        returned: Return,
        emit: Emit<'_>,
    ) {
        let (Some(process), Some(context)) =
            (self.table.get_mut(row), self.executor.context(&mut instance))
        else {
            return self.halt(Epitaph::new(format_args!("row {row} returned to no boundary")));
        };
        let at = process.at;
        process.memory_bytes = context.memory_bytes();
        // The daemon's lines stand before what its slice made happen.
        drain(&self.shared.log, emit);
        let ended = match returned {
            Return::Init(Ok(())) => {
                context.commit(&mut process.slices, emit);
                process.initialised = true;
                emit(Event::Running { at, pid: process.pid.0 });
                None
            }
            Return::Run(Ok(next)) => {
                let partly_drained = context.left_messages();
                let before = process.slices;
                context.commit(&mut process.slices, emit);
                let at_once = match next {
                    Next::Again => true,
                    Next::Until(deadline_ns) => {
                        let began_ns = process.on_its_clock_ns(process.slice_began_ns);
                        deadline_ns <= began_ns.saturating_add(TICK_NS)
                    }
                    Next::Wait | Next::Exit(_) => false,
                };
                if at_once && process.slices == before {
                    process.empty_slices = process.empty_slices.saturating_add(1);
                }
                if partly_drained {
                    process.reasons.insert(WakeReasons::MESSAGE);
                }
                if call.tells(WakeReasons::RELOAD) {
                    match context.settle_config() {
                        None => emit(Event::Reloaded { at }),
                        Some(reason) => {
                            emit(Event::ReloadRefused { at, reason: bounded(&reason) });
                        }
                    }
                }
                self.go_on(row, next, "it has done its work")
            }
            Return::Shutdown(Ok(next)) => {
                context.commit(&mut process.slices, emit);
                process.stop_deadline_ns = process.questions.shutdown_deadline_ns.take();
                self.go_on(row, next, "it was asked to stop")
            }
            Return::Init(Err(ending)) => Some(failed("init", &ending)),
            Return::Run(Err(ending)) => Some(failed("run", &ending)),
            Return::Shutdown(Err(ending)) => Some(failed("shutdown", &ending)),
            Return::HealthCheck(health) => {
                let memory_bytes = process.memory_bytes;
                if let Some(token) = process.questions.health.pop_front() {
                    let line = health.line();
                    let report = match health.status {
                        HealthStatus::Healthy => HealthReport::Healthy,
                        HealthStatus::Degraded => HealthReport::Degraded(bounded(&line)),
                        HealthStatus::Unhealthy => HealthReport::Unhealthy(bounded(&line)),
                    };
                    emit(Event::Health { at, token, report, memory_bytes });
                }
                if process.questions.health.is_empty() {
                    self.hurry_no_more(row);
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
        self.set_phase(row, Phase::Boundary(instance));
        if let Some(ending) = ended {
            self.end_as_said(row, ending);
        } else {
            self.take_arrived(row);
            if self.table.get(row).is_some_and(|process| process.hold == Hold::AtBoundary) {
                self.hold_still(row, emit);
            }
        }
    }

    /// Does what a slice that has committed said of the next one: how it ends, if it does.
    fn go_on(&mut self, row: u32, next: Next, why: &str) -> Option<Ending> {
        let timer_ns = match next {
            Next::Exit(ending) if ending.code == 0 && ending.text.is_empty() => {
                return Some(Ending { code: 0, text: why.to_string() });
            }
            Next::Exit(ending) => return Some(ending),
            Next::Again | Next::Wait => None,
            Next::Until(deadline_ns) => Some(deadline_ns),
        };
        if let (Next::Again, Some(process)) = (&next, self.table.get_mut(row)) {
            process.again = true;
        }
        self.set_timer(row, timer_ns);
        None
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
            !context.deliver(channel, [message]) | overflow
        });
        if overflow {
            let reason = ProtocolError::OutsideWindow(at).to_string();
            self.end(row, Outcome::Refused, reason);
        }
    }

    pub(super) fn set_timer(&mut self, row: u32, deadline_ns: Option<u64>) {
        self.disarm(row);
        if let Some(process) = self.table.get_mut(row) {
            process.timer_ns = deadline_ns;
        }
        self.arm(row);
    }

    /// Takes a process's timer out of the kernel's. The process still has it.
    pub(super) fn disarm(&mut self, row: u32) {
        if let Some(armed_ns) = self.table.get(row).and_then(Process::timer_fires_ns) {
            self.timers.remove(&(armed_ns, row));
        }
    }

    /// Puts a process's timer among the kernel's.
    pub(super) fn arm(&mut self, row: u32) {
        if let Some(armed_ns) = self.table.get(row).and_then(Process::timer_fires_ns) {
            self.timers.insert((armed_ns, row));
        }
    }

    /// A process may have got a reason for a slice. If it has, and the scheduler does not know yet, it
    /// hears of it; that of the process whose turn it is, it hears with the turn's end.
    pub(super) fn enqueue(&mut self, row: u32) {
        if self.scheduler.is_ready(row)
            || self.is_held_back(row)
            || !self.table.get(row).is_some_and(Process::is_runnable)
        {
            return;
        }
        let now = Instant::from_ns(self.shared.machine.monotonic_ns());
        if let Err(error) = self.scheduler.ready(row, now) {
            self.halt(Epitaph::new(format_args!("{error}")));
        }
    }

    fn set_phase(&mut self, row: u32, phase: Phase<E::Instance>) {
        if let Some(process) = self.table.get_mut(row) {
            process.phase = phase;
        }
    }
}

/// An export returned an error. One that says that all is well did not mean it.
fn failed(export: &str, ending: &Ending) -> Ending {
    Ending { code: ending.code.max(1), text: format!("{export}: {}", ending.text) }
}
