//! What happens to a daemon from its start until it is asked to end: it becomes ready, is asked for its
//! health, pauses, reloads, and may miss a deadline.

use core::time::Duration;

use super::daemon::{EXTENSION_MAX, KILL_ATTEMPTS_MAX, Slot};
use super::group::GroupSlot;
use super::id::DaemonId;
use super::message::Effect;
use super::rules::Fault;
use super::{Effects, Supervisor};
use crate::lifecycle::{FailureReason, State, Step, Stopping};
use crate::planted::{self, Plant};
use crate::probe::{ProbeAction, ProbeKind, ProbeSet};
use crate::restart::Exit;

impl<S: AsRef<[Slot]> + AsMut<[Slot]>, G: AsRef<[GroupSlot]> + AsMut<[GroupSlot]>>
    Supervisor<S, G>
{
    pub(super) fn resume(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        self.step(id, Step::Resume, effects)?;
        self.became_ready(id, effects)
    }

    pub(super) fn reload(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        let timeout = self.known(id)?.spec.reload_timeout;
        let deadline = self.now.saturating_add(timeout);
        self.step(id, Step::Reload { deadline }, effects)
    }

    pub(super) fn alive(&mut self, id: DaemonId) -> Result<(), Fault> {
        let now = self.now;
        self.known_mut(id)?.alive(now);
        Ok(())
    }

    pub(super) fn ready(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        let now = self.now;
        let daemon = self.known_mut(id)?;
        if !daemon.said_ready(now) {
            // What is ready exists: the word that it was spawned may come late or never.
            self.step(id, Step::Spawned, effects)?;
            let deadline = self.known(id)?.deadline();
            self.wake_by(deadline);
            return Ok(());
        }
        self.step(id, Step::Ready, effects)?;
        self.became_ready(id, effects)
    }

    pub(super) fn probed(
        &mut self,
        id: DaemonId,
        token: u64,
        healthy: bool,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        let daemon = self.known_mut(id)?;
        let was_ready = daemon.is_ready();
        let Some(probe) = &mut daemon.probe else {
            return Ok(());
        };
        let action = probe.answer(token, healthy);
        let deadline = daemon.deadline();
        self.wake_by(deadline);
        self.act_on_probe(id, action, was_ready, effects)
    }

    /// Does what is due for one daemon.
    pub(super) fn on_deadline(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        let now = self.now;
        let state = self.known(id)?.state();
        if state.deadline().is_some_and(|deadline| deadline <= now) {
            return match state {
                State::Starting(_) => self.condemn(id, FailureReason::StartTimeout, effects),
                State::Stopping(stopping) => self.stop_is_overdue(id, stopping, effects),
                State::Reloading { .. } => self.reload_timed_out(id, effects),
                State::Backoff { .. } => self.retry(id, effects),
                State::Created
                | State::Running
                | State::Paused
                | State::Stopped(_)
                | State::Failed(_) => Ok(()),
            };
        }
        if state == State::Paused {
            return Ok(());
        }
        if self.known(id)?.watchdog_expired(now) {
            return self.condemn(id, FailureReason::Watchdog, effects);
        }
        loop {
            let daemon = self.known_mut(id)?;
            let was_ready = daemon.is_ready();
            let Some(probe) = &mut daemon.probe else {
                return Ok(());
            };
            let action = probe.poll(now);
            self.act_on_probe(id, action, was_ready, effects)?;
            if action == ProbeAction::Wait {
                return Ok(());
            }
        }
    }

    /// Does what a probe wants, and what follows if it was the last thing that kept the daemon from
    /// being started or ready.
    fn act_on_probe(
        &mut self,
        id: DaemonId,
        action: ProbeAction,
        was_ready: bool,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        match action {
            ProbeAction::Wait => {
                let daemon = self.known(id)?;
                let has_come_up = daemon.probe.as_ref().is_some_and(ProbeSet::is_started);
                if has_come_up && !daemon.state().is_up() {
                    self.step(id, Step::Ready, effects)?;
                }
                if was_ready { Ok(()) } else { self.became_ready(id, effects) }
            }
            ProbeAction::Ask { kind, token } => {
                let incarnation = self.incarnation(id)?;
                effects(Effect::Probe { id, incarnation, kind, token });
                Ok(())
            }
            ProbeAction::Condemn { kind: ProbeKind::Startup } => {
                self.condemn(id, FailureReason::StartTimeout, effects)
            }
            ProbeAction::Condemn { kind: ProbeKind::Liveness | ProbeKind::Readiness } => {
                self.condemn(id, FailureReason::Unhealthy, effects)
            }
        }
    }

    /// A process did not end when it was asked, or when it was killed.
    fn stop_is_overdue(
        &mut self,
        id: DaemonId,
        stopping: Stopping,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        let attempt = match stopping {
            Stopping::Asked { .. } | Stopping::Condemned { .. } => 0,
            Stopping::Killing { attempt, .. } | Stopping::CondemnedKilling { attempt, .. } => {
                attempt
            }
        };
        let incarnation = self.incarnation(id)?;
        if attempt > 0 {
            effects(Effect::KillTimedOut { id, incarnation, attempt });
        }
        if attempt >= KILL_ATTEMPTS_MAX {
            self.step(id, Step::Abandon, effects)?;
            let forgets = planted::is(Plant::SupervisorAbandon);
            self.known_mut(id)?.abandoned = (!forgets).then_some(incarnation);
            return self.process_ended(id, effects);
        }
        let deadline = self.now.saturating_add(self.known(id)?.spec.kill_timeout);
        self.step(id, Step::Overdue { deadline }, effects)?;
        if attempt > 0 {
            effects(Effect::Kill { id, incarnation });
        }
        Ok(())
    }

    /// A process that was given up has ended after all.
    pub(super) fn release_abandoned(
        &mut self,
        id: DaemonId,
        incarnation: u32,
        exit: Exit,
    ) -> Result<(), Fault> {
        let daemon = self.known_mut(id)?;
        if daemon.abandoned == Some(incarnation) {
            daemon.abandoned = None;
            daemon.last_exit = Some(exit);
        }
        Ok(())
    }

    pub(super) fn extend(
        &mut self,
        id: DaemonId,
        by: Duration,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        let deadline = self.now.saturating_add(by.min(EXTENSION_MAX));
        self.step(id, Step::Extend { deadline }, effects)
    }

    fn reload_timed_out(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        // A reload that is overdue leads to no kill.
        let deadline = self.now;
        self.step(id, Step::Overdue { deadline }, effects)?;
        let incarnation = self.incarnation(id)?;
        effects(Effect::ReloadTimedOut { id, incarnation });
        Ok(())
    }

    /// Starts what waited for this daemon.
    fn became_ready(&mut self, id: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        let daemon = self.known(id)?;
        if daemon.dependents == 0 || !daemon.is_ready() {
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
}
