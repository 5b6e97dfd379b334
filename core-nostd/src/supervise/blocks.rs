//! Who waits in vain: a daemon that waits for one that does not come by itself.
//!
//! A dependency that failed, was stopped, was never started or is paused comes only if somebody sees to
//! it; so does everything that waits for it, directly or through others. Each of those is told once, by
//! [`Effect::Blocked`], and what it depends on itself is named before what is in the way of that. Found
//! anew after each input that may have changed it, until nothing changes any more: dependencies form no
//! circle, so that takes at most as many passes as the longest chain has links, and one.

use super::daemon::{Daemon, Slot};
use super::group::GroupSlot;
use super::id::DaemonId;
use super::message::Effect;
use super::{Effects, Supervisor};
use crate::lifecycle::{Starting, State};
use crate::planted::{self, Plant};

impl<S: AsRef<[Slot]> + AsMut<[Slot]>, G: AsRef<[GroupSlot]> + AsMut<[GroupSlot]>>
    Supervisor<S, G>
{
    /// Notes that a step may have changed who waits in vain.
    pub(super) fn note_block(&mut self, id: DaemonId, from: State, to: State) {
        let matters = |state| comes_by_itself(state) == Some(false) || waits(state);
        let in_chain = self
            .daemon(id)
            .is_some_and(|daemon| daemon.dependents > 0 || !daemon.spec.depends_on.is_empty());
        self.blocks_changed |= in_chain && (matters(from) || matters(to));
    }

    /// Tells who waits in vain, and did not before, or not for the same one.
    pub(super) fn tell_blocks(&mut self, effects: Effects<'_>) {
        if !core::mem::take(&mut self.blocks_changed) {
            return;
        }
        let mut changed = true;
        while changed {
            changed = false;
            for slot in 0..self.slot_count() {
                let Some(id) = self.id_of_slot(slot) else {
                    continue;
                };
                let blocked_by = self.daemon(id).and_then(|daemon| self.who_blocks(daemon));
                if let Some(daemon) = self.daemon_mut(id)
                    && daemon.blocked_by != blocked_by
                {
                    daemon.blocked_by = blocked_by;
                    changed = true;
                }
            }
        }
        let now = self.now;
        for slot in 0..self.slot_count() {
            let Some(id) = self.id_of_slot(slot) else {
                continue;
            };
            let Some(daemon) = self.daemon_mut(id) else {
                continue;
            };
            let on = daemon.blocked_by;
            let waited = daemon.lifecycle.since() < now;
            if daemon.blocked_told != on {
                daemon.blocked_told = on;
                if let Some(on) = on
                    && !(waited && planted::is(Plant::SupervisorBlocked))
                {
                    effects(Effect::Blocked { id, on });
                }
            }
        }
    }

    /// For whom a daemon waits in vain, given for whom its dependencies do.
    pub(super) fn who_blocks(&self, daemon: &Daemon) -> Option<DaemonId> {
        if !waits(daemon.state()) {
            return None;
        }
        let depends_on = &daemon.spec.depends_on;
        let state = |on: &DaemonId| self.daemon(*on).map(Daemon::state);
        let direct = depends_on
            .iter()
            .find(|on| state(on).is_some_and(|state| comes_by_itself(state) == Some(false)));
        direct.copied().or_else(|| {
            depends_on.iter().find_map(|on| self.daemon(*on).and_then(|other| other.blocked_by))
        })
    }
}

fn waits(state: State) -> bool {
    state == State::Starting(Starting::Waiting)
}

/// Whether a dependency becomes ready by itself; none if that depends on others.
const fn comes_by_itself(state: State) -> Option<bool> {
    match state {
        // A paused one is there, and goes on when somebody lets it.
        State::Created | State::Stopped(_) | State::Failed(_) | State::Paused => Some(false),
        State::Starting(Starting::Waiting) => None,
        State::Starting(_)
        | State::Running
        | State::Reloading { .. }
        | State::Stopping(_)
        | State::Backoff { .. } => Some(true),
    }
}
