//! The supervisor: decides when each daemon is started, stopped, killed, asked for its health and
//! started again.
//!
//! Rules:
//! 1. It performs nothing. [`Supervisor::handle`] takes one [`Input`] and gives [`Effect`]s; the
//!    owner performs them and reports what came of them as further inputs. It calls with
//!    [`Input::Tick`] when [`Supervisor::next_deadline`] has come.
//! 2. A daemon has at most one process. Each start has a number, its *incarnation*, and what is heard
//!    of an earlier one is ignored.
//! 3. A daemon is spawned when everything that it depends on is Running, and
//!    [`Input::StopAll`] stops it before anything that it depends on. A dependency that fails later
//!    takes nobody with it.
//! 4. Whether an exit leads to a restart is decided in one place (`Daemon::verdict`): policy, then
//!    retries, then restart limit, then backoff. What an operator asked for is never charged.
//! 5. Dependencies are known before their dependents, so they form no circle.
//! 6. The clock may stall, and if it steps back it counts as stalled.
//!
//! Every input costs the same whatever the number of daemons, except these, which look at each of
//! them once: a tick with something due, a stop of all, and a dependency that becomes ready.

mod daemon;
mod message;

pub use daemon::{DEPENDENCIES_MAX, INTENSITY_MAX, Slot, Spec};
pub use message::{AddError, DaemonId, Effect, Input, InputError, RemoveError, View};

use daemon::Daemon;

use crate::epitaph::{Epitaph, invariant};
use crate::lifecycle::{FailureReason, Starting, State, Step, StepError, Stopping};
use crate::probe::{Health, Probe, ProbeAction};
use crate::restart::Exit;
use crate::time::Instant;

/// Where the effects of one input go.
type Effects<'a> = &'a mut dyn FnMut(Effect);

/// Supervises as many daemons as its storage has slots.
#[derive(Debug)]
pub struct Supervisor<S> {
    slots: S,
    /// The latest instant that was told.
    now: Instant,
    /// At or before the earliest deadline of any daemon. It is made exact by each tick; in between
    /// it only moves forward, so that no input has to look at every daemon.
    wake_at: Option<Instant>,
    halted: bool,
}

impl<S: AsRef<[Slot]> + AsMut<[Slot]>> Supervisor<S> {
    /// A supervisor without daemons.
    pub fn new(storage: S) -> Self {
        Self {
            slots: storage,
            now: Instant::ZERO,
            wake_at: None,
            halted: false,
        }
    }

    /// Adds a daemon, in state Created.
    ///
    /// # Errors
    /// [`AddError`], when there is no slot for it or `spec` can't be kept.
    pub fn add(&mut self, spec: Spec) -> Result<DaemonId, AddError> {
        if self.halted {
            return Err(AddError::Halted);
        }
        if spec.start_timeout.is_zero() {
            return Err(AddError::StartTimeoutIsZero);
        }
        if spec.probe.is_some_and(|probe| !probe.is_valid()) {
            return Err(AddError::ProbeHasZero);
        }
        for id in &spec.depends_on {
            if self.daemon(*id).is_none() {
                return Err(AddError::UnknownDependency(*id));
            }
        }
        let depends_on = spec.depends_on.clone();
        let daemon = Daemon::new(spec, self.now)?;
        let slots = self.slots.as_mut();
        let capacity = slots.len();
        let free = slots
            .iter_mut()
            .zip(0_u32..)
            .find(|(slot, _)| slot.daemon.is_none());
        let Some((slot, index)) = free else {
            return Err(AddError::Full { capacity });
        };
        slot.daemon = Some(daemon);
        let id = DaemonId {
            slot: index,
            generation: slot.generation,
        };
        for dependency in &depends_on {
            if let Some(dependency) = self.daemon_mut(*dependency) {
                dependency.dependents = dependency.dependents.saturating_add(1);
            }
        }
        Ok(id)
    }

    /// Forgets a daemon that has no process and on which no other depends.
    ///
    /// # Errors
    /// [`RemoveError`], when it is not known or still needed.
    pub fn remove(&mut self, id: DaemonId) -> Result<(), RemoveError> {
        let daemon = self.daemon(id).ok_or(RemoveError::UnknownDaemon(id))?;
        if daemon.state().has_process() {
            return Err(RemoveError::HasProcess(id));
        }
        let dependents = daemon.dependents;
        if dependents > 0 {
            return Err(RemoveError::HasDependents { id, dependents });
        }
        let depends_on = daemon.spec.depends_on.clone();
        if let Some(slot) = self.slot_mut(id) {
            slot.daemon = None;
            slot.generation = slot.generation.wrapping_add(1);
        }
        for dependency in &depends_on {
            if let Some(dependency) = self.daemon_mut(*dependency) {
                dependency.dependents = dependency.dependents.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Takes one input and gives its effects, in the order in which they are to be performed.
    ///
    /// `entropy` is uniform over all of `u64`, and new for each call.
    ///
    /// # Errors
    /// [`InputError`], when the input is refused; it then had no effect, except that a broken
    /// invariant gives [`Effect::Halt`].
    pub fn handle(
        &mut self,
        now: Instant,
        entropy: u64,
        input: Input,
        effects: Effects<'_>,
    ) -> Result<(), InputError> {
        if self.halted {
            return Err(InputError::Halted);
        }
        self.now = self.now.max(now);
        let (about, done) = match input {
            Input::Start(id) => (Some(id), self.start(id, effects)),
            Input::Stop(id) => (Some(id), self.stop(id, effects)),
            Input::Restart(id) => (Some(id), self.restart(id, effects)),
            Input::StopAll => (None, self.stop_all(effects)),
            Input::Spawned { id, incarnation } => {
                let done = self.if_current(id, incarnation, |this| {
                    this.step(id, Step::Spawned, effects)
                });
                (Some(id), done)
            }
            Input::Ready { id, incarnation } => {
                let done = self.if_current(id, incarnation, |this| this.ready(id, effects));
                (Some(id), done)
            }
            Input::Exited {
                id,
                incarnation,
                exit,
            } => {
                let done = self.if_current(id, incarnation, |this| {
                    this.exited(id, exit, entropy, effects)
                });
                (Some(id), done)
            }
            Input::Probed {
                id,
                incarnation,
                token,
                healthy,
            } => {
                let done = self.if_current(id, incarnation, |this| {
                    this.probed(id, token, healthy, effects)
                });
                (Some(id), done)
            }
            Input::Tick => (None, self.tick(effects)),
        };
        let daemon = about.and_then(|id| self.daemon(id));
        let sound = daemon.map_or(Ok(()), |daemon| daemon.check_invariants(self.now));
        match (done, sound) {
            (Ok(()), Ok(())) => Ok(()),
            (_, Err(epitaph)) | (Err(Fault::Broken(epitaph)), Ok(())) => {
                self.halted = true;
                effects(Effect::Halt(epitaph));
                Err(InputError::Halted)
            }
            (Err(Fault::Refused(error)), Ok(())) => Err(error),
        }
    }

    /// When [`Input::Tick`] is due; `None` if nothing is pending. It is never later than the earliest
    /// deadline. It may be earlier, if what it was for has been called off; the tick then does
    /// nothing but find the next one.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.wake_at
    }

    /// What can be seen of a daemon; `None` if it is not known.
    #[must_use]
    pub fn view(&self, id: DaemonId) -> Option<View> {
        let daemon = self.daemon(id)?;
        let state = daemon.state();
        Some(View {
            state,
            since: daemon.lifecycle.since(),
            incarnation: self.slot(id)?.incarnation,
            restarts: daemon.restarts,
            health: daemon.probe.as_ref().map_or(Health::Unknown, Probe::health),
            waits_for: match state {
                State::Starting(Starting::Waiting) => self.first_not_ready(daemon),
                _ => None,
            },
            restart_at: match state {
                State::Backoff { until, .. } => Some(until),
                _ => None,
            },
            last_exit: daemon.last_exit,
        })
    }

    /// The daemon that has a slot now.
    #[must_use]
    pub fn id_of_slot(&self, slot: u32) -> Option<DaemonId> {
        let place = self.slots.as_ref().get(usize::try_from(slot).ok()?)?;
        place.daemon.as_ref()?;
        Some(DaemonId {
            slot,
            generation: place.generation,
        })
    }

    /// All daemons, by slot.
    pub fn ids(&self) -> impl Iterator<Item = DaemonId> {
        (0..self.slot_count()).filter_map(|slot| self.id_of_slot(slot))
    }

    /// What holds between any two inputs. Looks at every pair of daemons: for tests and simulators.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not hold.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        for id in self.ids() {
            let Some(daemon) = self.daemon(id) else {
                continue;
            };
            daemon.check_invariants(self.now)?;
            let (mut dependents, mut alive) = (0, 0);
            for other in self.ids().filter_map(|other| self.daemon(other)) {
                for _ in other.spec.depends_on.iter().filter(|on| **on == id) {
                    dependents += 1;
                    alive += u32::from(other.state().has_process());
                }
            }
            invariant!(
                daemon.dependents == dependents,
                "{id}: {dependents} dependents"
            );
            invariant!(
                daemon.dependents_alive == alive,
                "{id}: {alive} dependents alive"
            );
            for on in &daemon.spec.depends_on {
                invariant!(self.daemon(*on).is_some(), "{id} depends on nothing");
            }
            if let Some(deadline) = daemon.deadline() {
                let heard = self.wake_at.is_some_and(|wake_at| wake_at <= deadline);
                invariant!(heard, "{id}: its deadline is overslept");
            }
            if daemon.state() == State::Starting(Starting::Waiting) {
                let waits = self.first_not_ready(daemon).is_some();
                invariant!(waits, "{id} waits for nothing");
            }
        }
        Ok(())
    }
}

/// Why an input went no further.
enum Fault {
    /// It was refused; nothing has changed.
    Refused(InputError),
    /// A rule of this module is broken.
    Broken(Epitaph),
}

impl Fault {
    fn of(error: StepError, id: DaemonId, step: Step) -> Self {
        match error {
            StepError::AlreadyStarted => Self::Refused(InputError::AlreadyStarted(id)),
            StepError::Stopping => Self::Refused(InputError::Stopping(id)),
            StepError::Unexpected => Self::Broken(Epitaph::new(format_args!("{id}: {step:?}"))),
        }
    }
}

/// The answers to each input.
impl<S: AsRef<[Slot]> + AsMut<[Slot]>> Supervisor<S> {
    fn start(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        self.step(id, Step::Start, effects)?;
        self.known_mut(id)?.forgive();
        self.spawn_if_ready(id, effects)
    }

    fn stop(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        let grace = self.known(id)?.spec.stop_grace;
        let deadline = self.now.saturating_add(grace);
        self.step(id, Step::Stop { deadline }, effects)
    }

    fn restart(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        let deadline = self.now;
        let daemon = self.known_mut(id)?;
        let deadline = deadline.saturating_add(daemon.spec.stop_grace);
        if !daemon.state().has_process() {
            daemon.forgive();
        }
        self.step(id, Step::Restart { deadline }, effects)?;
        self.spawn_if_ready(id, effects)
    }

    fn stop_all(&mut self, effects: Effects<'_>) -> Result<(), Fault> {
        for slot in 0..self.slot_count() {
            let Some(id) = self.id_of_slot(slot) else {
                continue;
            };
            let daemon = self.known_mut(id)?;
            let state = daemon.state();
            let stopping = matches!(state, State::Stopping(_));
            // What has a process that depends on it stays until that one is gone: `process_ended`.
            daemon.leaving = state.has_process() && !stopping && daemon.dependents_alive > 0;
            if !daemon.leaving {
                self.stop(id, effects)?;
            }
        }
        Ok(())
    }

    fn ready(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        self.step(id, Step::Ready, effects)?;
        if self.known(id)?.dependents == 0 {
            return Ok(());
        }
        for slot in 0..self.slot_count() {
            let Some(other) = self.id_of_slot(slot) else {
                continue;
            };
            if self.known(other)?.spec.depends_on.contains(&id) {
                self.spawn_if_ready(other, effects)?;
            }
        }
        Ok(())
    }

    fn exited(
        &mut self,
        id: DaemonId,
        exit: Exit,
        entropy: u64,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        let now = self.now;
        let daemon = self.known_mut(id)?;
        let Some(charge) = daemon.state().charge(exit) else {
            return Ok(());
        };
        daemon.last_exit = Some(exit);
        let verdict = daemon.verdict(charge, now, entropy);
        self.step(id, Step::Exited(verdict), effects)?;
        self.process_ended(id, effects)?;
        match self.known(id)?.state() {
            State::Backoff { until, .. } if until <= now => self.retry(id, effects),
            _ => self.spawn_if_ready(id, effects),
        }
    }

    fn probed(
        &mut self,
        id: DaemonId,
        token: u64,
        healthy: bool,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        let daemon = self.known_mut(id)?;
        let Some(probe) = &mut daemon.probe else {
            return Ok(());
        };
        let action = probe.answer(token, healthy);
        let deadline = daemon.deadline();
        self.wake_by(deadline);
        self.act_on_probe(id, action, effects)
    }

    fn tick(&mut self, effects: Effects<'_>) -> Result<(), Fault> {
        if self.wake_at.is_none_or(|wake_at| wake_at > self.now) {
            return Ok(());
        }
        self.wake_at = None;
        for slot in 0..self.slot_count() {
            let Some(id) = self.id_of_slot(slot) else {
                continue;
            };
            self.on_deadline(id, effects)?;
            let deadline = self.known(id)?.deadline();
            self.wake_by(deadline);
        }
        Ok(())
    }
}

/// The parts that they share.
impl<S: AsRef<[Slot]> + AsMut<[Slot]>> Supervisor<S> {
    /// Does what is due for one daemon.
    fn on_deadline(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        let now = self.now;
        let state = self.known(id)?.state();
        if state.deadline().is_some_and(|deadline| deadline <= now) {
            return match state {
                State::Starting(_) => self.condemn(id, FailureReason::StartTimeout, effects),
                State::Stopping(_) => self.step(id, Step::Overdue, effects),
                State::Backoff { .. } => self.retry(id, effects),
                State::Created | State::Running | State::Stopped(_) | State::Failed(_) => Ok(()),
            };
        }
        // A question that timed out may be followed by the next one at once.
        for _ in 0..2 {
            let Some(probe) = &mut self.known_mut(id)?.probe else {
                return Ok(());
            };
            let action = probe.poll(now);
            self.act_on_probe(id, action, effects)?;
        }
        Ok(())
    }

    fn act_on_probe(
        &mut self,
        id: DaemonId,
        action: ProbeAction,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        match action {
            ProbeAction::Wait => Ok(()),
            ProbeAction::Ask { token } => {
                let incarnation = self.incarnation(id)?;
                effects(Effect::Probe {
                    id,
                    incarnation,
                    token,
                });
                Ok(())
            }
            ProbeAction::Condemn => self.condemn(id, FailureReason::Unhealthy, effects),
        }
    }

    fn condemn(
        &mut self,
        id: DaemonId,
        reason: FailureReason,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        let leaving = self.known(id)?.leaving;
        self.step(id, Step::Condemn(reason), effects)?;
        if leaving {
            // It was to stop anyway: the stop of all goes before the failure.
            self.stop(id, effects)?;
        }
        Ok(())
    }

    fn retry(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        let daemon = self.known_mut(id)?;
        daemon.restarts = daemon.restarts.saturating_add(1);
        self.step(id, Step::Retry, effects)?;
        self.spawn_if_ready(id, effects)
    }

    /// Spawns a daemon that waits for its dependencies, if they are ready.
    fn spawn_if_ready(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        let daemon = self.known(id)?;
        let waits = daemon.state() == State::Starting(Starting::Waiting);
        if !waits || self.first_not_ready(daemon).is_some() {
            return Ok(());
        }
        let deadline = self.now.saturating_add(daemon.spec.start_timeout);
        self.step(id, Step::Spawn { deadline }, effects)
    }

    /// Stops those dependencies of `id` that waited only for its process to end.
    fn process_ended(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        let depends_on = self.known(id)?.spec.depends_on.clone();
        for on in &depends_on {
            let dependency = self.known_mut(*on)?;
            if dependency.leaving && dependency.dependents_alive == 0 {
                dependency.leaving = false;
                self.stop(*on, effects)?;
            }
        }
        Ok(())
    }

    /// The one place where a daemon's state changes: keeps the books and gives the effects.
    fn step(&mut self, id: DaemonId, step: Step, effects: Effects<'_>) -> Result<(), Fault> {
        let now = self.now;
        let daemon = self.known_mut(id)?;
        let from = daemon
            .lifecycle
            .step(now, step)
            .map_err(|error| Fault::of(error, id, step))?;
        let to = daemon.state();
        if from == to {
            return Ok(());
        }
        daemon.entered(to, now);
        let deadline = daemon.deadline();
        self.wake_by(deadline);
        if from.has_process() != to.has_process() {
            self.count_process(id, to.has_process())?;
        }
        let demand = Demand::of(to);
        if demand == Some(Demand::Spawn)
            && let Some(slot) = self.slot_mut(id)
        {
            slot.incarnation = slot.incarnation.wrapping_add(1);
        }
        let incarnation = self.incarnation(id)?;
        effects(Effect::Changed { id, from, to });
        if demand == Demand::of(from) {
            return Ok(());
        }
        match demand {
            None => {}
            Some(Demand::Spawn) => effects(Effect::Spawn { id, incarnation }),
            Some(Demand::Terminate { deadline }) => effects(Effect::Terminate {
                id,
                incarnation,
                grace: deadline.saturating_since(now),
            }),
            Some(Demand::Kill) => effects(Effect::Kill { id, incarnation }),
        }
        Ok(())
    }

    /// Tells the dependencies of `id` whether it has a process.
    fn count_process(&mut self, id: DaemonId, alive: bool) -> Result<(), Fault> {
        let depends_on = self.known(id)?.spec.depends_on.clone();
        for on in &depends_on {
            let count = &mut self.known_mut(*on)?.dependents_alive;
            *count = if alive {
                count.saturating_add(1)
            } else {
                count.saturating_sub(1)
            };
        }
        Ok(())
    }

    fn first_not_ready(&self, daemon: &Daemon) -> Option<DaemonId> {
        let mut depends_on = daemon.spec.depends_on.iter().copied();
        depends_on.find(|on| !self.daemon(*on).is_some_and(Daemon::is_ready))
    }

    /// Runs `news` if it is about the process that the daemon has now.
    fn if_current(
        &mut self,
        id: DaemonId,
        incarnation: u32,
        news: impl FnOnce(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let alive = self.known(id)?.state().has_process();
        if alive && self.incarnation(id)? == incarnation {
            news(self)
        } else {
            Ok(())
        }
    }

    fn wake_by(&mut self, deadline: Option<Instant>) {
        self.wake_at = match (self.wake_at, deadline) {
            (Some(wake_at), Some(deadline)) => Some(wake_at.min(deadline)),
            (at, None) | (None, at) => at,
        };
    }

    fn slot_count(&self) -> u32 {
        u32::try_from(self.slots.as_ref().len()).unwrap_or(u32::MAX)
    }

    fn slot(&self, id: DaemonId) -> Option<&Slot> {
        let slot = self.slots.as_ref().get(usize::try_from(id.slot).ok()?)?;
        (slot.generation == id.generation).then_some(slot)
    }

    fn slot_mut(&mut self, id: DaemonId) -> Option<&mut Slot> {
        let slot = self
            .slots
            .as_mut()
            .get_mut(usize::try_from(id.slot).ok()?)?;
        (slot.generation == id.generation).then_some(slot)
    }

    fn daemon(&self, id: DaemonId) -> Option<&Daemon> {
        self.slot(id)?.daemon.as_ref()
    }

    fn daemon_mut(&mut self, id: DaemonId) -> Option<&mut Daemon> {
        self.slot_mut(id)?.daemon.as_mut()
    }

    fn known(&self, id: DaemonId) -> Result<&Daemon, Fault> {
        self.daemon(id)
            .ok_or(Fault::Refused(InputError::UnknownDaemon(id)))
    }

    fn known_mut(&mut self, id: DaemonId) -> Result<&mut Daemon, Fault> {
        self.daemon_mut(id)
            .ok_or(Fault::Refused(InputError::UnknownDaemon(id)))
    }

    fn incarnation(&self, id: DaemonId) -> Result<u32, Fault> {
        let slot = self
            .slot(id)
            .ok_or(Fault::Refused(InputError::UnknownDaemon(id)))?;
        Ok(slot.incarnation)
    }
}

/// What a state wants to happen to the process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    Spawn,
    Terminate { deadline: Instant },
    Kill,
}

impl Demand {
    const fn of(state: State) -> Option<Self> {
        match state {
            State::Starting(Starting::Spawning { .. }) => Some(Self::Spawn),
            State::Stopping(Stopping::Asked { deadline, .. }) => Some(Self::Terminate { deadline }),
            State::Stopping(Stopping::Killing { .. } | Stopping::Condemned(_)) => Some(Self::Kill),
            State::Created
            | State::Starting(Starting::Waiting | Starting::Initialising { .. })
            | State::Running
            | State::Stopped(_)
            | State::Backoff { .. }
            | State::Failed(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
