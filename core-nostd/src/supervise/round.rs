//! What a failure in a group leads to: a round, in which those that fall together come back together.
//!
//! Rules, which are OTP's where nothing else is said:
//! 1. Only a restart after a failure concerns the group, or after a clean exit that the daemon's rules
//!    charge as one. A clean exit that came early, what lies outside of the daemon, a daemon that its
//!    policy does not restart, and what an operator did, concern the daemon alone.
//! 2. Such a restart counts against the group's limit. If the limit admits it, the strategy says who
//!    takes part in the round: the one that failed, and perhaps siblings with all that descends from
//!    them.
//! 3. Those that take part and run are stopped, dependents first. When the last of their processes is
//!    gone and the backoff of the one that failed is over, all of them start, each when what it
//!    depends on is ready. Nobody of a new round meets a process of the old one, but for one that could
//!    not be killed: its daemon has failed, and the round goes on without it.
//! 4. If the limit refuses, the group has failed, and its parent takes it as the failure of one child:
//!    rules 2 and 3, one level up. A group that is restarted, for that or together with others, counts
//!    anew, as a new supervisor would.
//! 5. If there is no parent, the daemon that failed is quarantined and the others give up. An operator
//!    starts each again.
//! 6. What an operator stopped, what finished and what has failed stays where it is. (OTP starts
//!    transient children again that had finished.)
//!
//! A round is known by its number, which each daemon that takes part in it carries. Rounds that meet
//! become one.

use super::daemon::{Daemon, Leaving, Slot};
use super::group::GroupSlot;
use super::id::{DaemonId, GroupId};
use super::rules::Fault;
use super::{Effects, Supervisor};
use crate::epitaph::{Epitaph, invariant};
use crate::lifecycle::{Charge, FailureReason, Starting, State, Step, Stopping, Then, Verdict};

/// What becomes of the others after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// Nothing.
    None,
    /// Those below `group` that its strategy takes along when the child at `place` fails restart.
    Round { group: GroupId, place: u64 },
    /// All below `group` give up.
    GiveUp { group: GroupId },
}

impl<S: AsRef<[Slot]> + AsMut<[Slot]>, G: AsRef<[GroupSlot]> + AsMut<[GroupSlot]>>
    Supervisor<S, G>
{
    /// Decides what becomes of a daemon after an exit, and of its siblings.
    pub(super) fn judge(
        &mut self,
        id: DaemonId,
        charge: Charge,
        entropy: u64,
    ) -> Result<(Verdict, Consequence), Fault> {
        let now = self.now;
        let daemon = self.known_mut(id)?;
        let is_leaving = daemon.leaving.is_some();
        let verdict = daemon.verdict(charge, now, entropy);
        let (mut at, mut place) = (daemon.spec.group, daemon.place);
        let is_charged = matches!(charge, Charge::Unasked(exit) if exit.is_charged);
        if is_leaving || !is_charged || !matches!(verdict, Verdict::Retry { .. }) {
            return Ok((verdict, Consequence::None));
        }
        let mut refused = None;
        while let Some(id) = at
            && let Some(group) = self.group_mut(id)
        {
            if group.limiter.admit(now) {
                return Ok((verdict, Consequence::Round { group: id, place }));
            }
            group.limiter.clear();
            refused = Some((id, group.spec.limit));
            at = group.spec.parent;
            place = group.place;
        }
        Ok(refused.map_or((verdict, Consequence::None), |(group, limit)| {
            let reason =
                FailureReason::Quarantined { restarts: limit.intensity, period: limit.period };
            (Verdict::Fail(reason), Consequence::GiveUp { group })
        }))
    }

    /// Carries out what was decided for the siblings of `failed`, whose own state has changed already.
    pub(super) fn carry_out(
        &mut self,
        failed: DaemonId,
        consequence: Consequence,
        effects: Effects<'_>,
    ) -> Result<(), Fault> {
        let (group, leaving) = match consequence {
            Consequence::None => return Ok(()),
            Consequence::Round { group, .. } => (group, Leaving::Restart),
            Consequence::GiveUp { group } => (group, Leaving::GiveUp),
        };
        let strategy = self.group(group).map(|group| group.spec.strategy).unwrap_or_default();
        let taken = |below: u64| match consequence {
            Consequence::Round { place, .. } => strategy.takes(below, place),
            Consequence::GiveUp { .. } => true,
            Consequence::None => false,
        };
        self.forgive_groups(group, taken);
        let round = self.next_place();
        for slot in 0..self.slot_count() {
            let Some(id) = self.id_of_slot(slot) else {
                continue;
            };
            let daemon = self.known(id)?;
            let below = self.place_below(group, daemon.spec.group, daemon.place);
            if below.is_some_and(taken) && takes_part(daemon) {
                self.join(id, round)?;
            }
        }
        // Alone, it would only wait for itself.
        let others = self.ids().filter(|id| *id != failed);
        if !others.filter_map(|id| self.daemon(id)).any(|daemon| daemon.round == Some(round)) {
            self.known_mut(failed)?.round = None;
            return Ok(());
        }
        self.round_is_open = true;
        for slot in 0..self.slot_count() {
            let Some(id) = self.id_of_slot(slot) else {
                continue;
            };
            let daemon = self.known_mut(id)?;
            if id == failed || daemon.round != Some(round) {
                continue;
            }
            // A stop of all that is under way goes before a restart.
            if daemon.leaving != Some(Leaving::Stop) {
                daemon.leaving = None;
                self.leave_in_order(id, leaving, effects)?;
            }
        }
        Ok(())
    }

    /// Ends the rounds that have come to rest: those who wait in them start.
    pub(super) fn end_rounds(&mut self, effects: Effects<'_>) -> Result<(), Fault> {
        if !self.round_is_open {
            return Ok(());
        }
        self.round_is_open = false;
        for slot in 0..self.slot_count() {
            let Some(id) = self.id_of_slot(slot) else {
                continue;
            };
            let daemon = self.known(id)?;
            let Some(round) = daemon.round else {
                continue;
            };
            let waits = daemon.state() == State::Starting(Starting::Waiting);
            if waits && self.who_holds(round).is_none() {
                self.known_mut(id)?.round = None;
                self.spawn_if_ready(id, effects)?;
            } else {
                self.round_is_open = true;
            }
        }
        Ok(())
    }

    /// The first daemon for which a round waits.
    pub(super) fn who_holds(&self, round: u64) -> Option<DaemonId> {
        self.ids().find(|id| {
            self.daemon(*id).is_some_and(|daemon| {
                let at_rest = !daemon.state().has_process()
                    && !matches!(daemon.state(), State::Backoff { .. });
                daemon.round == Some(round) && !at_rest
            })
        })
    }

    /// Whether a daemon of the same round that depends on `id` still has a process.
    pub(super) fn is_needed_in_round(&self, id: DaemonId) -> bool {
        let round = self.daemon(id).and_then(|daemon| daemon.round);
        let mut daemons = self.slots.as_ref().iter().filter_map(|slot| slot.daemon.as_ref());
        round.is_some()
            && daemons.any(|other| {
                other.round == round
                    && other.state().has_process()
                    && other.spec.depends_on.contains(&id)
            })
    }

    /// What holds of the rounds between any two inputs.
    pub(super) fn check_rounds(&self) -> Result<(), Epitaph> {
        for id in self.ids() {
            let Some(daemon) = self.daemon(id) else {
                continue;
            };
            if let Some(round) = daemon.round {
                invariant!(self.round_is_open, "{id}: its round is overlooked");
                invariant!(daemon.spec.group.is_some(), "{id}: a round without a group");
                let waits = daemon.state() == State::Starting(Starting::Waiting);
                // Who held it may have been removed; then a tick is due.
                let held = !waits || self.tick_is_due() || self.who_holds(round).is_some();
                invariant!(held, "{id}: its round waits for nobody");
            }
        }
        Ok(())
    }

    /// Makes a daemon take part in a round, with all that take part in the one that it is in.
    fn join(&mut self, id: DaemonId, round: u64) -> Result<(), Fault> {
        let daemon = self.known_mut(id)?;
        let Some(earlier) = daemon.round.replace(round) else {
            return Ok(());
        };
        for slot in self.slots.as_mut() {
            if let Some(daemon) = &mut slot.daemon
                && daemon.round == Some(earlier)
            {
                daemon.round = Some(round);
            }
        }
        Ok(())
    }
}

/// Whether a daemon that belongs to a group which restarts has anything to restart.
const fn takes_part(daemon: &Daemon) -> bool {
    match daemon.state() {
        State::Starting(_)
        | State::Running
        | State::Reloading { .. }
        | State::Paused
        | State::Backoff { .. }
        | State::Stopping(
            Stopping::Condemned { .. }
            | Stopping::CondemnedKilling { .. }
            | Stopping::Asked { then: Then::Start, .. }
            | Stopping::Killing { then: Then::Start, .. },
        ) => true,
        State::Created
        | State::Stopped(_)
        | State::Failed(_)
        | State::Stopping(
            Stopping::Asked { then: Then::Stop | Then::GiveUp, .. }
            | Stopping::Killing { then: Then::Stop | Then::GiveUp, .. },
        ) => false,
    }
}

impl Leaving {
    /// The step that it comes to.
    pub(super) const fn step(self, deadline: crate::time::Instant) -> Step {
        match self {
            Self::Stop => Step::Stop { deadline },
            Self::GiveUp => Step::GiveUp { deadline },
            Self::Restart => Step::Restart { deadline },
        }
    }
}
