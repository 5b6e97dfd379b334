//! Of the supervisor: who is told that they wait in vain, and for whom.

use duende_core::lifecycle::{Starting, State};
use duende_core::supervise::DaemonId;
use duende_world::{DAEMONS, World};

use super::Daemon;
use crate::failure::{Failure, hold};

/// For whom each daemon waits in vain, as was told.
#[derive(Debug, Default)]
pub(super) struct Blocks([Option<u32>; DAEMONS]);

impl Blocks {
    /// A daemon is told.
    pub(super) fn told(&mut self, id: DaemonId, on: DaemonId) -> Result<(), Failure> {
        let Some(place) = usize::try_from(id.slot()).ok().and_then(|slot| self.0.get_mut(slot))
        else {
            return Err(Failure::new("supervisor: effect on nobody", format!("{id}")));
        };
        let before = place.replace(on.slot());
        hold!(
            before != Some(on.slot()),
            "supervisor: who waits in vain is told once for each cause",
            "{id} for {on}"
        );
        Ok(())
    }

    /// After each step: what can be seen was told, and is so.
    pub(super) fn done(
        &mut self,
        slots: &[Option<Daemon>; DAEMONS],
        world: &World,
    ) -> Result<(), Failure> {
        for (slot, told) in (0..).zip(&mut self.0) {
            let blocked_by = world.view(slot).and_then(|view| view.blocked_by);
            let named = blocked_by.map(DaemonId::slot);
            if named.is_none() {
                *told = None;
            }
            hold!(
                named == *told,
                "supervisor: who waits in vain is told",
                "{slot} waits for {named:?} and was told of {told:?}"
            );
            let culprits = culprits(slots, u32::from(slot));
            let is_one = named.map_or(culprits.is_empty(), |on| culprits.contains(&on));
            hold!(
                is_one,
                "supervisor: who waits for one that does not come waits in vain",
                "{slot} waits for {named:?} of {culprits:?}"
            );
        }
        Ok(())
    }
}

/// Whom a daemon that waits in vain may name: of what it depends on itself, what does not come by itself;
/// else what those that it waits for may name.
fn culprits(slots: &[Option<Daemon>; DAEMONS], slot: u32) -> Vec<u32> {
    let daemon = |slot: u32| slots.get(usize::try_from(slot).ok()?)?.as_ref();
    let Some(waiting) =
        daemon(slot).filter(|daemon| daemon.state == State::Starting(Starting::Waiting))
    else {
        return Vec::new();
    };
    let stays = |on: &u32| {
        matches!(
            daemon(*on).map(|daemon| daemon.state),
            Some(State::Created | State::Stopped(_) | State::Failed(_) | State::Paused)
        )
    };
    let direct: Vec<u32> = waiting.depends_on().iter().copied().filter(stays).collect();
    if !direct.is_empty() {
        return direct;
    }
    waiting.depends_on().iter().flat_map(|on| culprits(slots, *on)).collect()
}
