//! Whom an operator takes along: what a daemon depends on must be started before it, and what depends
//! on it stopped before it.
//!
//! A chain is found by marks: the daemon's own, then that of each daemon next to a marked one, until
//! no more are found. Dependencies form no circle, so that takes as many passes as the longest chain
//! has links.

use super::daemon::{Daemon, Leaving, Slot};
use super::group::GroupSlot;
use super::id::DaemonId;
use super::rules::Fault;
use super::{Effects, Supervisor};
use crate::lifecycle::{Starting, State};

impl<S: AsRef<[Slot]> + AsMut<[Slot]>, G: AsRef<[GroupSlot]> + AsMut<[GroupSlot]>>
    Supervisor<S, G>
{
    /// Starts a daemon and all that it depends on. A dependency that is just stopping starts again
    /// when it has stopped; one whose limit admits no start stays where it is.
    pub(super) fn start_with_dependencies(
        &mut self,
        id: DaemonId,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        // One that waits already is started for the sake of what it waits for.
        if self.known(id)?.state() != State::Starting(Starting::Waiting) {
            self.start(id, effects)?;
        }
        self.start_dependencies(id, effects)
    }

    /// Restarts a daemon, and starts all that it depends on and that is not started.
    pub(super) fn restart_with_dependencies(
        &mut self,
        id: DaemonId,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        self.restart(id, effects)?;
        self.start_dependencies(id, effects)
    }

    fn start_dependencies(&mut self, of: DaemonId, effects: Effects<'_>) -> Result<(), Fault> {
        self.mark_chain(of, |marked, other| marked.1.spec.depends_on.contains(&other.0))?;
        for slot in 0..self.slot_count() {
            let Some(id) = self.take_mark(slot) else {
                continue;
            };
            if id == of {
                continue;
            }
            let started = match self.known(id)?.state() {
                State::Created | State::Stopped(_) | State::Backoff { .. } | State::Failed(_) => {
                    self.start(id, effects)
                }
                State::Stopping(_) => self.restart(id, effects),
                State::Starting(_) | State::Running | State::Reloading { .. } | State::Paused => {
                    Ok(())
                }
            };
            match started {
                // Its dependents wait, and say for whom.
                Ok(()) | Err(Fault::Refused(_)) => {}
                Err(broken @ Fault::Broken(_)) => return Err(broken),
            }
        }
        Ok(())
    }

    /// Stops a daemon and all that depend on it, those first.
    pub(super) fn stop_with_dependents(
        &mut self,
        id: DaemonId,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        self.mark_chain(id, |marked, other| other.1.spec.depends_on.contains(&marked.0))?;
        for slot in 0..self.slot_count() {
            if let Some(id) = self.take_mark(slot) {
                self.known_mut(id)?.leaving = None;
                self.leave_in_order(id, Leaving::Stop, effects)?;
            }
        }
        Ok(())
    }

    /// Marks a daemon, and each one that `is_next` to a marked one.
    fn mark_chain(
        &mut self,
        id: DaemonId,
        is_next: impl Fn((DaemonId, &Daemon), (DaemonId, &Daemon)) -> bool,
    ) -> Result<(), Fault> {
        self.known_mut(id)?.marked = true;
        let mut found = true;
        while found {
            found = false;
            for slot in 0..self.slot_count() {
                let Some((id, daemon)) = self.in_slot(slot).filter(|next| !next.1.marked) else {
                    continue;
                };
                let mut marked = (0..self.slot_count())
                    .filter_map(|slot| self.in_slot(slot))
                    .filter(|other| other.1.marked);
                if marked.any(|marked| is_next(marked, (id, daemon))) {
                    self.known_mut(id)?.marked = true;
                    found = true;
                }
            }
        }
        Ok(())
    }

    /// The daemon in a slot if it was marked. It is so no longer.
    fn take_mark(&mut self, slot: u32) -> Option<DaemonId> {
        let id = self.id_of_slot(slot)?;
        core::mem::take(&mut self.daemon_mut(id)?.marked).then_some(id)
    }

    fn in_slot(&self, slot: u32) -> Option<(DaemonId, &Daemon)> {
        let id = self.id_of_slot(slot)?;
        Some((id, self.daemon(id)?))
    }
}
