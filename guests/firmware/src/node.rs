//! The node: owns the supervisor and the tasks, and does what the supervisor asks for.
//!
//! Rules:
//! 1. Effects are performed where they arise; what comes of them is news, told to the supervisor before
//!    any task runs again.
//! 2. A task runs only while the supervisor knows of it: it exists exactly while its state has a process.
//! 3. One slice at a time, of the most urgent task that is ready. A slice that took longer than
//!    [`SLICE_BUDGET`] ends its task.
//! 4. A task is ready for others after its first slice, and each later one is a sign of life for its
//!    watchdog.
//! 5. When there is nothing to do, the earliest deadline says how long.

use core::fmt;
use core::time::Duration;

use duende_core::epitaph::Epitaph;
use duende_core::ipc::{Channel, Place, Qos, Seat, Spec as ChannelSpec};
use duende_core::limiter::RestartLimit;
use duende_core::probe::ProbeSpec;
use duende_core::restart::Exit;
use duende_core::sched::{self, Outcome, Rules, Scheduler};
use duende_core::supervise::{DaemonId, Effect, Input, InputError, Slot, Spec, Supervisor};
use duende_core::time::Instant;
use heapless::{Deque, Vec};

use crate::Board;
use crate::task::radio::Modem;
use crate::task::sensor::SCHEMA;
use crate::task::{Context, Kind, Next, Reading, Readings, TASKS, Task};
use crate::words::InWords;

/// Longest slice.
pub const SLICE_BUDGET: Duration = Duration::from_millis(10);

/// SIGKILL, by which a killed process of a host ends: the same exit leads to the same verdict here.
const KILLED: Exit = Exit::Signal(9);

/// Most news that wait: of each task at most that it was spawned, is ready, is healthy, and ended.
const NEWS_MAX: usize = 4 * TASKS;

/// Most readings that wait for the logger.
const READINGS_MAX: usize = 4;

/// Most sensors at a time: a new incarnation, and one that ended while its readings wait.
const SENSORS_MAX: usize = 2;

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A slice ran.
    Ran,
    /// No task is ready.
    Idle {
        /// When something will be due.
        until: Option<Instant>,
    },
}

/// Where a node's larger tables lie: in a static, so that no copy of them is ever on the stack. They are
/// empty until the node is made, so that no image of them lies in flash.
#[derive(Debug)]
pub struct Storage {
    slots: Vec<Slot, TASKS>,
    places: Vec<Place<Reading>, READINGS_MAX>,
    seats: Vec<Seat<Reading>, SENSORS_MAX>,
}

impl Storage {
    /// Nothing.
    pub const EMPTY: Self = Self { slots: Vec::new(), places: Vec::new(), seats: Vec::new() };
}

/// Three supervised tasks.
#[derive(Debug)]
pub struct Node<'a> {
    supervisor: Supervisor<&'a mut [Slot]>,
    ids: [DaemonId; TASKS],
    floor: Floor<'a>,
}

/// Where tasks run: what the supervisor's effects change.
#[derive(Debug)]
struct Floor<'a> {
    /// By [`Kind::index`].
    running: [Option<Running>; TASKS],
    scheduler: Scheduler<[sched::Slot; TASKS]>,
    readings: Readings<'a>,
    modem: Modem,
    news: Deque<Input, NEWS_MAX>,
    /// What was found broken while an effect was performed.
    broken: Option<Epitaph>,
}

/// An incarnation of a task.
#[derive(Debug)]
struct Running {
    incarnation: u32,
    task: Task,
    next: Next,
    /// It was asked to end.
    stop: bool,
    /// It is held still.
    paused: bool,
    /// Its first slice is over.
    said_ready: bool,
}

/// How each task is supervised.
fn spec(kind: Kind, sensor: Option<DaemonId>) -> Result<Spec, Epitaph> {
    let mut spec = Spec { stop_grace: Duration::from_millis(500), ..Spec::default() };
    match kind {
        Kind::Sensor => {}
        Kind::Logger => {
            if let Some(sensor) = sensor {
                spec.depends_on.push(sensor).map_err(|_| broken("the logger's dependency"))?;
            }
        }
        Kind::Radio => {
            spec.limit = RestartLimit {
                intensity: 5,
                period: Duration::from_secs(60),
                ..RestartLimit::default()
            };
            spec.probes.liveness = Some(ProbeSpec {
                initial_delay: Duration::from_millis(500),
                period: Duration::from_millis(500),
                timeout: Duration::from_millis(100),
                failure_threshold: 2,
                ..ProbeSpec::default()
            });
            spec.watchdog = Some(Duration::from_secs(1));
        }
    }
    Ok(spec)
}

impl<'a> Node<'a> {
    /// A node whose tasks have not been started.
    ///
    /// # Errors
    /// An [`Epitaph`], when the tables above contradict each other.
    pub fn new(board: &mut dyn Board, storage: &'a mut Storage) -> Result<Self, Epitaph> {
        let Storage { slots, places, seats } = storage;
        while slots.push(Slot::default()).is_ok() {}
        while places.push(Place::EMPTY).is_ok() {}
        while seats.push(Seat::EMPTY).is_ok() {}
        let mut supervisor = Supervisor::new(slots.as_mut_slice());
        let mut add = |kind, sensor| supervisor.add(spec(kind, sensor)?).map_err(broken);
        let sensor = add(Kind::Sensor, None)?;
        let ids = [sensor, add(Kind::Logger, Some(sensor))?, add(Kind::Radio, None)?];
        let channel = ChannelSpec {
            schema: SCHEMA,
            overflow: Qos::BestEffort.overflow(),
            credits_max: READINGS_MAX,
        };
        let readings = Channel::new(0, places.as_mut_slice(), seats.as_mut_slice(), channel)
            .map_err(broken)?;
        let mut scheduler = Scheduler::new([sched::Slot::EMPTY; TASKS], Rules::default());
        for kind in Kind::ALL {
            scheduler.add(number(kind), kind.level()).map_err(broken)?;
        }
        let floor = Floor {
            running: [const { None }; TASKS],
            scheduler,
            readings,
            modem: Modem::default(),
            news: Deque::new(),
            broken: None,
        };
        board.print(format_args!("node      {TASKS} tasks"));
        Ok(Self { supervisor, ids, floor })
    }

    /// A task's name for the supervisor.
    #[must_use]
    pub fn id(&self, kind: Kind) -> DaemonId {
        let [sensor, logger, radio] = self.ids;
        match kind {
            Kind::Sensor => sensor,
            Kind::Logger => logger,
            Kind::Radio => radio,
        }
    }

    /// From now on the modem works.
    pub fn replace_modem(&mut self) {
        self.floor.modem.works = true;
    }

    /// Whether no task runs and none will by itself.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.floor.running.iter().all(Option::is_none)
            && self.floor.news.is_empty()
            && self.supervisor.next_deadline().is_none()
    }

    /// Tells the supervisor something, and performs what it asks for.
    ///
    /// # Errors
    /// An [`Epitaph`], when an invariant is broken.
    pub fn tell(&mut self, board: &mut dyn Board, input: Input) -> Result<(), Epitaph> {
        let (now, entropy) = (board.now(), board.entropy());
        let floor = &mut self.floor;
        let told = self.supervisor.handle(now, entropy, input, &mut |effect| {
            floor.perform(board, now, effect);
        });
        if let Some(epitaph) = self.floor.broken.take() {
            return Err(epitaph);
        }
        match told {
            Ok(()) => Ok(()),
            Err(InputError::Halted) => Err(broken("the supervisor has halted")),
            Err(refused) => {
                board.print(format_args!("operator  refused: {refused}"));
                Ok(())
            }
        }
    }

    /// Does what is due, then runs one slice.
    ///
    /// # Errors
    /// An [`Epitaph`], when an invariant is broken.
    pub fn turn(&mut self, board: &mut dyn Board) -> Result<Turn, Epitaph> {
        let now = board.now();
        if self.supervisor.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.tell(board, Input::Tick)?;
        }
        while let Some(news) = self.floor.news.pop_front() {
            self.tell(board, news)?;
        }
        self.check_invariants()?;
        let wake_at = self.floor.wake(now)?;
        let Some(kind) = self.floor.pick(now) else {
            let until = [self.supervisor.next_deadline(), wake_at].into_iter().flatten().min();
            return Ok(Turn::Idle { until });
        };
        self.floor.run_slice(board, kind, self.id(kind))?;
        Ok(Turn::Ran)
    }

    /// What holds when all news were told.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        self.supervisor.check_invariants()?;
        self.floor.scheduler.check_invariants()?;
        self.floor.readings.check_invariants()?;
        for (kind, running) in Kind::ALL.iter().zip(&self.floor.running) {
            let view = self.supervisor.view(self.id(*kind));
            let process = view.filter(|view| view.state.has_process()).map(|view| view.incarnation);
            let running = running.as_ref().map(|running| running.incarnation);
            if process != running {
                // Zero, which no incarnation has, stands for none.
                let [known, runs] = [process, running].map(Option::unwrap_or_default);
                let name = kind.name();
                return Err(Epitaph::new(format_args!(
                    "{name}: incarnation {runs} runs, the supervisor knows {known}"
                )));
            }
        }
        Ok(())
    }

    /// Prints what was counted.
    pub fn print_summary(&self, board: &mut dyn Board) {
        for kind in Kind::ALL {
            if let Some(view) = self.supervisor.view(self.id(kind)) {
                let (starts, restarts) = (view.incarnation, view.restarts);
                let name = kind.name();
                board.print(format_args!("{name:<9} {starts} starts, {restarts} restarts"));
            }
        }
        let counters = self.floor.readings.counters();
        board.print(format_args!(
            "readings  {} sent, {} delivered, {} dropped",
            counters.sent_total,
            counters.delivered_total,
            counters.dropped_total()
        ));
        board.print(format_args!("modem     {} beacons sent", self.floor.modem.sent));
    }
}

impl Floor<'_> {
    /// Does one thing that the supervisor asks for.
    fn perform(&mut self, board: &mut dyn Board, now: Instant, effect: Effect) {
        match effect {
            Effect::Changed { id, to, .. } => {
                let Some(kind) = kind_of(id) else { return };
                let state = InWords { state: to, now };
                board.print(format_args!("{:<9} {state}", kind.name()));
            }
            Effect::Spawn { id, incarnation } => {
                let Some(kind) = kind_of(id) else { return };
                if let Some(place) = self.running.get_mut(kind.index()) {
                    *place = Some(Running {
                        incarnation,
                        task: Task::start(kind, incarnation),
                        next: Next::Again,
                        stop: false,
                        paused: false,
                        said_ready: false,
                    });
                }
                self.report(Input::Spawned { id, incarnation });
            }
            Effect::Terminate { id, incarnation, .. } => {
                if let Some(running) = self.incarnation_mut(id, incarnation) {
                    // It runs once more, to find out.
                    running.stop = true;
                    running.next = Next::Again;
                }
            }
            Effect::Kill { id, incarnation } => {
                if self.incarnation_mut(id, incarnation).is_some() {
                    if !cfg!(feature = "prove-epitaph") {
                        self.end(id);
                    }
                    self.report(Input::Exited { id, incarnation, exit: KILLED });
                }
            }
            Effect::Probe { id, incarnation, token, .. } => {
                if let Some(running) = self.incarnation_mut(id, incarnation) {
                    let healthy = running.task.is_healthy();
                    self.report(Input::Probed { id, incarnation, token, healthy });
                }
            }
            Effect::Pause { id, incarnation } | Effect::Resume { id, incarnation } => {
                let paused = matches!(effect, Effect::Pause { .. });
                if let Some(running) = self.incarnation_mut(id, incarnation) {
                    running.paused = paused;
                    if paused && let Some(kind) = kind_of(id) {
                        self.withdraw(kind);
                    }
                }
            }
            // Tasks keep no configuration that could be another one now.
            Effect::Reload { id, incarnation } => self.report(Input::Reloaded { id, incarnation }),
            Effect::ReloadTimedOut { .. } => {}
            Effect::Blocked { id, on } => {
                if let (Some(kind), Some(on)) = (kind_of(id), kind_of(on)) {
                    board.print(format_args!("{:<9} waits in vain for {}", kind.name(), on.name()));
                }
            }
            // A kill is done when it is asked for: it comes too late only if this is broken.
            Effect::KillTimedOut { .. } => {
                self.broken = Some(broken("a task outlived its kill"));
            }
            Effect::Halt(epitaph) => self.broken = Some(epitaph),
        }
    }

    /// Makes those tasks ready that have what they waited for. Returns when the next one will.
    fn wake(&mut self, now: Instant) -> Result<Option<Instant>, Epitaph> {
        let mut wake_at: Option<Instant> = None;
        for (kind, running) in Kind::ALL.iter().zip(&self.running) {
            let Some(running) = running else { continue };
            if running.paused {
                continue;
            }
            let is_ready = match running.next {
                Next::Again => true,
                Next::Until(at) => at <= now,
                Next::Reading => !self.readings.is_empty(),
                Next::Answer | Next::Exit(_) => false,
            };
            if is_ready {
                self.scheduler.ready(number(*kind), now).map_err(broken)?;
            }
            if let Next::Until(at) = running.next {
                wake_at = Some(wake_at.map_or(at, |earlier| earlier.min(at)));
            }
        }
        Ok(wake_at)
    }

    /// Takes the task that goes first of those that are ready.
    fn pick(&mut self, now: Instant) -> Option<Kind> {
        let pick = self.scheduler.pick(now)?;
        Kind::ALL.into_iter().find(|kind| number(*kind) == pick.task)
    }

    fn run_slice(
        &mut self,
        board: &mut dyn Board,
        kind: Kind,
        id: DaemonId,
    ) -> Result<(), Epitaph> {
        let Some(running) = self.running.get_mut(kind.index()).and_then(Option::as_mut) else {
            return Err(broken("a task is ready that does not run"));
        };
        let now = board.now();
        let mut context = Context {
            now,
            stop: running.stop,
            readings: &mut self.readings,
            modem: &mut self.modem,
            board: &mut *board,
        };
        let mut next = running.task.slice(&mut context);
        let over = board.now();
        if over.saturating_since(now) > SLICE_BUDGET {
            next = Next::Exit(Exit::SliceBudget);
        }
        running.next = next;
        let used_ns = over.as_ns().saturating_sub(now.as_ns());
        // Whether it has more to do is found out when tasks are next made ready.
        self.scheduler.ran(number(kind), over, used_ns, Outcome::Waits).map_err(broken)?;
        let incarnation = running.incarnation;
        if let Next::Exit(exit) = next {
            self.end(id);
            self.report(Input::Exited { id, incarnation, exit });
        } else if !core::mem::replace(&mut running.said_ready, true) {
            self.report(Input::Ready { id, incarnation });
        } else {
            self.report(Input::Alive { id, incarnation });
        }
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Drops a task with all that it holds.
    fn end(&mut self, id: DaemonId) {
        let Some(kind) = kind_of(id) else { return };
        self.withdraw(kind);
        if let Some(running) = self.running.get_mut(kind.index()).and_then(Option::take) {
            running.task.end(&mut self.readings);
        }
    }

    /// A task is given no slice, though it had something to do.
    fn withdraw(&mut self, kind: Kind) {
        if let Err(error) = self.scheduler.unready(number(kind)) {
            self.broken = Some(broken(error));
        }
    }

    fn incarnation_mut(&mut self, id: DaemonId, incarnation: u32) -> Option<&mut Running> {
        let running = self.running.get_mut(kind_of(id)?.index())?.as_mut()?;
        (running.incarnation == incarnation).then_some(running)
    }

    fn report(&mut self, news: Input) {
        if self.news.push_back(news).is_err() {
            self.broken = Some(broken("more news than tasks can make"));
        }
    }
}

/// The task with this name: tasks were added in the order of their numbers.
fn kind_of(id: DaemonId) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| number(*kind) == id.slot())
}

/// A task's number for the scheduler.
const fn number(kind: Kind) -> u32 {
    kind as u32
}

fn broken(what: impl fmt::Display) -> Epitaph {
    Epitaph::new(format_args!("{what}"))
}
