//! What each input leads to: the supervisor's rules at work.
//!
//! All of them change a daemon through one function, `step`, which keeps what is counted in step with
//! the state and gives the effects that the new state asks for.

use super::daemon::{Daemon, Leaving, Slot};
use super::group::GroupSlot;
use super::id::DaemonId;
use super::message::{Effect, InputError, TerminateCause};
use super::{Effects, Supervisor};
use crate::epitaph::Epitaph;
use crate::lifecycle::{FailureReason, Starting, State, Step, StepError, Stopping};
use crate::planted::{self, Plant};
use crate::restart::Exit;
use crate::time::Instant;

/// Why an input went no further.
pub(super) enum Fault {
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
            StepError::NotRunning => Self::Refused(InputError::NotRunning(id)),
            StepError::NotPaused => Self::Refused(InputError::NotPaused(id)),
            StepError::Reloading => Self::Refused(InputError::Reloading(id)),
            StepError::Unexpected => Self::Broken(Epitaph::new(format_args!("{id}: {step}"))),
        }
    }
}

/// The answers to each input.
impl<S: AsRef<[Slot]> + AsMut<[Slot]>, G: AsRef<[GroupSlot]> + AsMut<[GroupSlot]>>
    Supervisor<S, G>
{
    pub(super) fn start(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        let now = self.now;
        let daemon = self.known_mut(id)?;
        if daemon.abandoned.is_some() {
            return Err(Fault::Refused(InputError::StillThere(id)));
        }
        if let Err(error) = daemon.state().after(Step::Start) {
            return Err(Fault::of(error, id, Step::Start));
        }
        if !daemon.start_by_operator(now) {
            return Err(Fault::Refused(InputError::TooManyStarts(id)));
        }
        self.step(id, Step::Start, effects)?;
        self.spawn_if_ready(id, effects)
    }

    pub(super) fn forgive(&mut self, id: DaemonId) -> Result<(), Fault> {
        self.known_mut(id)?.forgive();
        Ok(())
    }

    pub(super) fn stop(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        let grace = self.known(id)?.spec.stop_grace;
        let deadline = self.now.saturating_add(grace);
        self.step(id, Step::Stop { deadline }, effects)
    }

    pub(super) fn restart(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        let now = self.now;
        let daemon = self.known_mut(id)?;
        if daemon.abandoned.is_some() {
            return Err(Fault::Refused(InputError::StillThere(id)));
        }
        let deadline = now.saturating_add(daemon.spec.stop_grace);
        if !daemon.state().has_process() && !daemon.start_by_operator(now) {
            return Err(Fault::Refused(InputError::TooManyStarts(id)));
        }
        self.step(id, Step::Restart { deadline }, effects)?;
        self.spawn_if_ready(id, effects)
    }

    pub(super) fn stop_all(&mut self, effects: Effects<'_>) -> Result<(), Fault> {
        for slot in 0..self.slot_count() {
            let Some(id) = self.id_of_slot(slot) else {
                continue;
            };
            self.known_mut(id)?.leaving = None;
            self.leave_in_order(id, Leaving::Stop, effects)?;
        }
        Ok(())
    }

    pub(super) fn kill_all(&mut self, effects: Effects<'_>) -> Result<(), Fault> {
        for slot in 0..self.slot_count() {
            let Some(id) = self.id_of_slot(slot) else {
                continue;
            };
            let daemon = self.known_mut(id)?;
            daemon.leaving = None;
            let deadline = self.now.saturating_add(self.known(id)?.spec.kill_timeout);
            self.step(id, Step::Kill { deadline }, effects)?;
        }
        Ok(())
    }

    pub(super) fn exited(
        &mut self,
        id: DaemonId,
        exit: Exit,
        entropy: u64,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        let now = self.now;
        let daemon = self.known_mut(id)?;
        let Some(charge) = daemon.state().charge(exit, &daemon.spec.exits) else {
            return Ok(());
        };
        daemon.last_exit = Some(exit);
        let (verdict, consequence) = self.judge(id, charge, entropy)?;
        self.step(id, Step::Exited(verdict), effects)?;
        self.process_ended(id, effects)?;
        self.carry_out(id, consequence, effects)?;
        match self.known(id)?.state() {
            State::Backoff { until, .. } if until <= now => self.retry(id, effects),
            _ => self.spawn_if_ready(id, effects),
        }
    }

    pub(super) fn tick(&mut self, effects: Effects<'_>) -> Result<(), Fault> {
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
impl<S: AsRef<[Slot]> + AsMut<[Slot]>, G: AsRef<[GroupSlot]> + AsMut<[GroupSlot]>>
    Supervisor<S, G>
{
    pub(super) fn condemn(
        &mut self,
        id: DaemonId,
        reason: FailureReason,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        let daemon = self.known(id)?;
        let (leaving, round) = (daemon.leaving, daemon.round);
        let deadline = self.now.saturating_add(daemon.spec.stop_grace);
        self.step(id, Step::Condemn { reason, deadline }, effects)?;
        if let Some(leaving) = leaving {
            // It was to end anyway: what that was for goes before the failure.
            self.known_mut(id)?.round = round;
            self.leave(id, leaving, effects)?;
        }
        Ok(())
    }

    /// Makes a daemon leave now, or as soon as nobody who leaves before it has a process.
    pub(super) fn leave_in_order(
        &mut self,
        id: DaemonId,
        leaving: Leaving,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        let state = self.known(id)?.state();
        let stopping = matches!(state, State::Stopping(_));
        if state.has_process() && !stopping && self.is_held(id, leaving)? {
            self.known_mut(id)?.leaving = Some(leaving);
            return Ok(());
        }
        self.leave(id, leaving, effects)
    }

    /// Whether a process that is to end before `id` is still there.
    fn is_held(&self, id: DaemonId, leaving: Leaving) -> Result<bool, Fault> {
        Ok(match leaving {
            Leaving::Stop => self.known(id)?.dependents_alive > 0,
            Leaving::GiveUp | Leaving::Restart => self.is_needed_in_round(id),
        })
    }

    fn leave(&mut self, id: DaemonId, leaving: Leaving, effects: Effects<'_>) -> Result<(), Fault> {
        let daemon = self.known(id)?;
        // What has no process and waits for its backoff or its round goes on waiting.
        if leaving == Leaving::Restart && !daemon.state().has_process() {
            return Ok(());
        }
        let deadline = self.now.saturating_add(daemon.spec.stop_grace);
        self.step(id, leaving.step(deadline), effects)
    }

    pub(super) fn retry(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        let daemon = self.known_mut(id)?;
        daemon.restarts = daemon.restarts.saturating_add(1);
        self.step(id, Step::Retry, effects)?;
        self.spawn_if_ready(id, effects)
    }

    /// Spawns a daemon that waits for its dependencies, if they are ready.
    pub(super) fn spawn_if_ready(
        &mut self,
        id: DaemonId,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        let daemon = self.known(id)?;
        let waits = daemon.state() == State::Starting(Starting::Waiting);
        if !waits || daemon.round.is_some() || self.first_not_ready(daemon).is_some() {
            return Ok(());
        }
        let deadline = self.now.saturating_add(daemon.spec.start_timeout);
        self.step(id, Step::Spawn { deadline }, effects)
    }

    /// Lets those dependencies of `id` leave that waited only for its process to end.
    pub(super) fn process_ended(
        &mut self,
        id: DaemonId,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        let depends_on = self.known(id)?.spec.depends_on.clone();
        for on in &depends_on {
            if let Some(leaving) = self.known(*on)?.leaving
                && !self.is_held(*on, leaving)?
            {
                self.leave(*on, leaving, effects)?;
            }
        }
        Ok(())
    }

    /// The one place where a daemon's state changes: keeps the books and gives the effects.
    pub(super) fn step(
        &mut self,
        id: DaemonId,
        step: Step,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        let now = self.now;
        let daemon = self.known_mut(id)?;
        let from = daemon.lifecycle.step(now, step).map_err(|error| Fault::of(error, id, step))?;
        let to = daemon.state();
        if from == to {
            return Ok(());
        }
        daemon.entered(from, now);
        let deadline = daemon.deadline();
        self.wake_by(deadline);
        if from.has_process() != to.has_process() {
            self.count_process(id, to.has_process())?;
        }
        self.note_block(id, from, to);
        let demand = Demand::of(to);
        let was_paused = from == State::Paused;
        if demand == Some(Demand::Spawn)
            && Demand::of(from) != Some(Demand::Spawn)
            && let Some(slot) = self.slot_mut(id)
        {
            slot.incarnation = slot.incarnation.wrapping_add(1);
        }
        let incarnation = self.incarnation(id)?;
        if !matches!(step, Step::Extend { .. }) {
            effects(Effect::Changed { id, from, to });
        }
        if was_paused && to.has_process() {
            effects(Effect::Resume { id, incarnation });
        }
        let before = Demand::of(from);
        let asked_already = matches!(
            (before, demand),
            (Some(Demand::Terminate { .. }), Some(Demand::Terminate { .. }))
                | (Some(Demand::Reload), Some(Demand::Reload))
                | (Some(Demand::Spawn), Some(Demand::Spawn))
        );
        if demand == before || asked_already {
            return Ok(());
        }
        match demand {
            None => {}
            Some(Demand::Spawn) => effects(Effect::Spawn { id, incarnation }),
            Some(Demand::Terminate { deadline }) => effects(Effect::Terminate {
                id,
                incarnation,
                grace: deadline.saturating_since(now),
                cause: terminate_cause(to),
            }),
            Some(Demand::Kill) => effects(Effect::Kill { id, incarnation }),
            Some(Demand::Pause) => effects(Effect::Pause { id, incarnation }),
            Some(Demand::Reload) => effects(Effect::Reload { id, incarnation }),
        }
        Ok(())
    }

    /// Tells the dependencies of `id` whether it has a process.
    fn count_process(&mut self, id: DaemonId, alive: bool) -> Result<(), Fault> {
        let depends_on = self.known(id)?.spec.depends_on.clone();
        for on in &depends_on {
            let count = &mut self.known_mut(*on)?.dependents_alive;
            *count = if alive { count.saturating_add(1) } else { count.saturating_sub(1) };
        }
        Ok(())
    }

    /// Whom a daemon waits for that is to start.
    pub(super) fn waits_for(&self, daemon: &Daemon) -> Option<DaemonId> {
        let held_by = daemon.round.and_then(|round| self.who_holds(round));
        held_by.or_else(|| self.first_not_ready(daemon))
    }

    pub(super) fn first_not_ready(&self, daemon: &Daemon) -> Option<DaemonId> {
        let skipped = usize::from(planted::is(Plant::SupervisorDependency));
        let mut depends_on = daemon.spec.depends_on.iter().copied().skip(skipped);
        depends_on.find(|on| !self.daemon(*on).is_some_and(Daemon::is_ready))
    }

    /// Runs `news` if it is about the process that the daemon has now.
    pub(super) fn if_current(
        &mut self,
        id: DaemonId,
        incarnation: u32,
        news: impl FnOnce(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let alive = self.known(id)?.state().has_process();
        if alive && self.incarnation(id)? == incarnation { news(self) } else { Ok(()) }
    }

    pub(super) fn tick_is_due(&self) -> bool {
        self.wake_at.is_some_and(|wake_at| wake_at <= self.now)
    }

    pub(super) fn wake_by(&mut self, deadline: Option<Instant>) {
        self.wake_at = match (self.wake_at, deadline) {
            (Some(wake_at), Some(deadline)) => Some(wake_at.min(deadline)),
            (at, None) | (None, at) => at,
        };
    }

    pub(super) fn slot_count(&self) -> u32 {
        u32::try_from(self.slots.as_ref().len()).unwrap_or(u32::MAX)
    }

    pub(super) fn slot(&self, id: DaemonId) -> Option<&Slot> {
        let slot = self.slots.as_ref().get(usize::try_from(id.slot).ok()?)?;
        (slot.generation == id.generation).then_some(slot)
    }

    pub(super) fn slot_mut(&mut self, id: DaemonId) -> Option<&mut Slot> {
        let slot = self.slots.as_mut().get_mut(usize::try_from(id.slot).ok()?)?;
        (slot.generation == id.generation).then_some(slot)
    }

    pub(super) fn daemon(&self, id: DaemonId) -> Option<&Daemon> {
        self.slot(id)?.daemon.as_ref()
    }

    pub(super) fn daemon_mut(&mut self, id: DaemonId) -> Option<&mut Daemon> {
        self.slot_mut(id)?.daemon.as_mut()
    }

    pub(super) fn known(&self, id: DaemonId) -> Result<&Daemon, Fault> {
        self.daemon(id).ok_or(Fault::Refused(InputError::UnknownDaemon(id)))
    }

    pub(super) fn known_mut(&mut self, id: DaemonId) -> Result<&mut Daemon, Fault> {
        self.daemon_mut(id).ok_or(Fault::Refused(InputError::UnknownDaemon(id)))
    }

    pub(super) fn incarnation(&self, id: DaemonId) -> Result<u32, Fault> {
        let slot = self.slot(id).ok_or(Fault::Refused(InputError::UnknownDaemon(id)))?;
        Ok(slot.incarnation)
    }
}

/// What a state wants to happen to the process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    Spawn,
    Terminate { deadline: Instant },
    Kill,
    Pause,
    Reload,
}

impl Demand {
    const fn of(state: State) -> Option<Self> {
        match state {
            State::Starting(Starting::Spawning { .. }) => Some(Self::Spawn),
            State::Stopping(
                Stopping::Asked { deadline, .. } | Stopping::Condemned { deadline, .. },
            ) => Some(Self::Terminate { deadline }),
            State::Stopping(Stopping::Killing { .. } | Stopping::CondemnedKilling { .. }) => {
                Some(Self::Kill)
            }
            State::Paused => Some(Self::Pause),
            State::Reloading { .. } => Some(Self::Reload),
            State::Created
            | State::Starting(Starting::Waiting | Starting::Initialising { .. })
            | State::Running
            | State::Stopped(_)
            | State::Backoff { .. }
            | State::Failed(_) => None,
        }
    }
}

/// Why a process is asked to end in this state.
const fn terminate_cause(state: State) -> TerminateCause {
    match state {
        State::Stopping(Stopping::Condemned { reason, .. }) => match reason {
            FailureReason::StartTimeout => TerminateCause::StartTimeout,
            FailureReason::Watchdog => TerminateCause::Watchdog,
            _ => TerminateCause::Unhealthy,
        },
        _ => TerminateCause::Stop,
    }
}
