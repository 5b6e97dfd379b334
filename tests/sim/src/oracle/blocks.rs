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
            let mut culprits = Vec::new();
            walk(slots, u32::from(slot), &mut culprits);
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

/// Gathers all that a daemon waits for, directly or through others that wait, and that do not come by
/// themselves.
fn walk(slots: &[Option<Daemon>; DAEMONS], slot: u32, culprits: &mut Vec<u32>) {
    let daemon = |slot: u32| slots.get(usize::try_from(slot).ok()?)?.as_ref();
    let Some(waiting) =
        daemon(slot).filter(|daemon| daemon.state == State::Starting(Starting::Waiting))
    else {
        return;
    };
    for on in waiting.depends_on() {
        match daemon(*on).map(|daemon| daemon.state) {
            Some(State::Created | State::Stopped(_) | State::Failed(_)) => culprits.push(*on),
            _ => walk(slots, *on, culprits),
        }
    }
}
