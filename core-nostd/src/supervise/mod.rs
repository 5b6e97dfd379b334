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
//!    takes nobody with it. Who waits for one that does not come by itself is told
//!    ([`Effect::Blocked`]), and starts when it comes all the same.
//! 4. Whether an exit leads to a restart is decided in one place (`Daemon::verdict`): policy, then
//!    retries, then restart limit, then backoff. What an operator asked for is never charged.
//! 5. Daemons may form groups, with a [`Strategy`] and a limit on restarts each, and groups a tree.
//!    What a failure means for the siblings is decided in `round`.
//! 6. Dependencies are known before their dependents, and groups before their children, so neither
//!    form a circle.
//! 7. A daemon is Running when it said that it is ready and its startup probe has succeeded. It
//!    satisfies those that depend on it while it runs and its readiness probe says so.
//! 8. Time does not pass for a daemon that is paused: its checks, its watchdog and the run after
//!    which its failures are forgotten go on where they stopped.
//! 9. The clock may stall, and if it steps back it counts as stalled.
//! 10. Whatever a process is ended for, it is asked first, and has its grace. A kill that is not
//!     answered within [`Spec::kill_timeout`] is repeated; after [`KILL_ATTEMPTS_MAX`] the daemon has
//!     failed, holds up nobody, and is not started again before its process has ended after all.
//! 11. Only a tick judges who is late: what the owner hands over before it counts.
//!
//! Every input costs the same whatever the number of daemons, except these, which look at each of
//! them: a tick with something due, a stop or a kill of all, a dependency that becomes ready or comes
//! no more, and a failure in a group. A start with dependencies and a stop with dependents compare each daemon with each other,
//! once for each link of the longest chain.

mod blocks;
mod chain;
mod daemon;
mod group;
mod id;
mod message;
mod round;
mod rules;
mod running;

pub use daemon::{
    DEPENDENCIES_MAX, EXTENSION_MAX, INTENSITY_MAX, KILL_ATTEMPTS_MAX, LOST_DELAY_MAX,
    OBSTACLE_DELAY_MIN, STOP_GRACE_DEFAULT, Slot, Spec,
};
pub use group::{AddGroupError, GroupSlot, GroupSpec, RemoveGroupError, Strategy};
pub use id::{DaemonId, GroupId};
pub use message::{AddError, Effect, Input, InputError, RemoveError, TerminateCause, View};

use daemon::Daemon;
use rules::Fault;

use crate::epitaph::{Epitaph, invariant};
use crate::lifecycle::{Starting, State, Step};
use crate::probe::{Health, ProbeSet};
use crate::time::Instant;

/// Where the effects of one input go.
type Effects<'a> = &'a mut dyn FnMut(Effect);

/// Supervises as many daemons as its storage has slots, in as many groups as there are slots for
/// those.
#[derive(Debug)]
pub struct Supervisor<S, G = [GroupSlot; 0]> {
    slots: S,
    groups: G,
    /// The latest instant that was told.
    now: Instant,
    /// At or before the earliest deadline of any daemon. Each tick makes it exact; in between it
    /// only moves earlier, so that no input has to look at every daemon.
    wake_at: Option<Instant>,
    /// Numbers children in the order in which they are added, and rounds.
    places: u64,
    /// Whether any daemon may be in a round.
    round_is_open: bool,
    /// Whether somebody may wait for another daemon in vain than before.
    blocks_changed: bool,
    halted: bool,
}

impl<S: AsRef<[Slot]> + AsMut<[Slot]>> Supervisor<S> {
    /// A supervisor without daemons, and without groups.
    pub fn new(storage: S) -> Self {
        Self::with_groups(storage, [])
    }
}

impl<S: AsRef<[Slot]> + AsMut<[Slot]>, G: AsRef<[GroupSlot]> + AsMut<[GroupSlot]>>
    Supervisor<S, G>
{
    /// A supervisor without daemons, with room for groups.
    pub fn with_groups(storage: S, groups: G) -> Self {
        Self {
            slots: storage,
            groups,
            now: Instant::ZERO,
            wake_at: None,
            places: 0,
            round_is_open: false,
            blocks_changed: false,
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
        if spec.kill_timeout.is_zero() {
            return Err(AddError::KillTimeoutIsZero);
        }
        if spec.reload_timeout.is_zero() {
            return Err(AddError::ReloadTimeoutIsZero);
        }
        if spec.watchdog.is_some_and(|timeout| timeout.is_zero()) {
            return Err(AddError::WatchdogIsZero);
        }
        if let Some(group) = spec.group
            && self.group(group).is_none()
        {
            return Err(AddError::UnknownGroup(group));
        }
        spec.probes.check()?;
        for id in &spec.depends_on {
            if self.daemon(*id).is_none() {
                return Err(AddError::UnknownDependency(*id));
            }
        }
        let depends_on = spec.depends_on.clone();
        let place = self.next_place();
        let daemon = Daemon::new(spec, place, self.now)?;
        let slots = self.slots.as_mut();
        let capacity = slots.len();
        let free = slots.iter_mut().zip(0_u32..).find(|(slot, _)| slot.daemon.is_none());
        let Some((slot, index)) = free else {
            return Err(AddError::Full { capacity });
        };
        slot.daemon = Some(daemon);
        let id = DaemonId { slot: index, generation: slot.generation };
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
        if daemon.round.is_some() {
            // Others may have waited for its backoff only: a tick lets them go on.
            let now = self.now;
            self.wake_by(Some(now));
        }
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
            Input::StartWithDependencies(id) => {
                (Some(id), self.start_with_dependencies(id, effects))
            }
            Input::Stop(id) => (Some(id), self.stop(id, effects)),
            Input::StopWithDependents(id) => (Some(id), self.stop_with_dependents(id, effects)),
            Input::Restart(id) => (Some(id), self.restart(id, effects)),
            Input::RestartWithDependencies(id) => {
                (Some(id), self.restart_with_dependencies(id, effects))
            }
            Input::Forgive(id) => (Some(id), self.forgive(id)),
            Input::Pause(id) => (Some(id), self.step(id, Step::Pause, effects)),
            Input::Resume(id) => (Some(id), self.resume(id, effects)),
            Input::Reload(id) => (Some(id), self.reload(id, effects)),
            Input::StopAll => (None, self.stop_all(effects)),
            Input::KillAll => (None, self.kill_all(effects)),
            Input::Spawned { id, incarnation } => {
                let done =
                    self.if_current(id, incarnation, |this| this.step(id, Step::Spawned, effects));
                (Some(id), done)
            }
            Input::Ready { id, incarnation } => {
                let done = self.if_current(id, incarnation, |this| this.ready(id, effects));
                (Some(id), done)
            }
            Input::Reloaded { id, incarnation } | Input::ReloadRefused { id, incarnation } => {
                let done =
                    self.if_current(id, incarnation, |this| this.step(id, Step::Reloaded, effects));
                (Some(id), done)
            }
            Input::Extend { id, incarnation, by } => {
                let done = self.if_current(id, incarnation, |this| this.extend(id, by, effects));
                (Some(id), done)
            }
            Input::Alive { id, incarnation } => {
                let done = self.if_current(id, incarnation, |this| this.alive(id));
                (Some(id), done)
            }
            Input::Exited { id, incarnation, exit } => {
                let released = self.release_abandoned(id, incarnation, exit);
                let done = self
                    .if_current(id, incarnation, |this| this.exited(id, exit, entropy, effects));
                (Some(id), released.and(done))
            }
            Input::Probed { id, incarnation, token, healthy } => {
                let done = self
                    .if_current(id, incarnation, |this| this.probed(id, token, healthy, effects));
                (Some(id), done)
            }
            Input::Tick => (None, self.tick(effects)),
        };
        let done = done.and_then(|()| self.end_rounds(effects));
        self.tell_blocks(effects);
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
    /// nothing but find the next one. An instant that is past means at once, also after a tick.
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
            health: daemon.probe.as_ref().map_or(Health::Unknown, ProbeSet::health),
            up_since: daemon.up_since(),
            is_ready: daemon.is_ready(),
            waits_for: match state {
                State::Starting(Starting::Waiting) => self.waits_for(daemon),
                _ => None,
            },
            blocked_by: daemon.blocked_by,
            unkillable: daemon.abandoned.is_some(),
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
        Some(DaemonId { slot, generation: place.generation })
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
        self.check_groups()?;
        self.check_rounds()?;
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
            invariant!(daemon.dependents == dependents, "{id}: {dependents} dependents");
            invariant!(daemon.dependents_alive == alive, "{id}: {alive} dependents alive");
            for on in &daemon.spec.depends_on {
                invariant!(self.daemon(*on).is_some(), "{id} depends on nothing");
            }
            if let Some(deadline) = daemon.deadline() {
                let heard = self.wake_at.is_some_and(|wake_at| wake_at <= deadline);
                invariant!(heard, "{id}: its deadline is overslept");
            }
            let blocked_by = self.who_blocks(daemon);
            invariant!(daemon.blocked_by == blocked_by, "{id} waits in vain and was not told");
            if daemon.state() == State::Starting(Starting::Waiting) {
                let waits = self.waits_for(daemon).is_some() || self.tick_is_due();
                invariant!(waits, "{id} waits for nothing");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
