//! What must hold after each step, said independently of the machine.

use std::time::Duration;

use duende::manager::decide::{Daemon, ReadyBy};
use duende_core::lifecycle::{FailureReason, Starting, State};

use crate::world::{Fault, World, key};

/// Within what time every question is answered: the times of a whole chain of daemons, of a place that
/// hangs and is found out, and of kills that are not answered.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(60);

impl World {
    pub(crate) fn check(&self) -> Result<(), Fault> {
        self.decider.check_invariants()?;
        for (slot, spec) in (0_u32..).zip(&self.specs) {
            let Some(view) = self.decider.view(slot) else { continue };
            let name = &spec.name;
            let living =
                self.procs.iter().filter(|((of, _), proc)| *of == slot && proc.alive).count();
            if living > 1 {
                return Err(format!("{living} processes of {name}"));
            }
            let there = self.decider.daemon(slot).and_then(Daemon::running);
            if let Some((at, Some(pid), _)) = there
                && spec.abilities.has_process
                && self.procs.get(&key(at)).is_some_and(|proc| proc.alive && proc.pid != pid)
            {
                return Err(format!("{name} is said to be process {pid}, which is another"));
            }
            // What it said counts, whenever it said it.
            let at = self.decider.daemon(slot).and_then(Daemon::running);
            let proc = at.and_then(|(at, ..)| self.procs.get(&key(at)));
            if let (Some(proc), ReadyBy::Datagram) = (proc, spec.ready_by)
                && proc.alive
                && proc.known
                && proc.ready_heard
                && matches!(
                    view.state,
                    State::Starting(Starting::Spawning { .. } | Starting::Initialising { .. })
                )
            {
                return Err(format!("{name} said that it is ready, and nobody heard it"));
            }
            if let (Some(proc), ReadyBy::Datagram, State::Running) =
                (proc, spec.ready_by, view.state)
                && proc.alive
                && !proc.said_ready
            {
                return Err(format!("{name} is said to be ready, and said nothing"));
            }
            if let State::Failed(FailureReason::Quarantined { restarts, .. }) = view.state {
                let ends = self.own_ends[slot as usize];
                if ends <= restarts {
                    return Err(format!("{name} is quarantined for {ends} ends of its own"));
                }
            }
            if view.state == State::Failed(FailureReason::Refused) {
                return Err(format!("{name} has failed for good, for want of room"));
            }
        }
        for (question, (since, verb)) in &self.questions {
            let open = self.now.saturating_since(*since);
            if open > ANSWER_TIME {
                return Err(format!("{question:?} ({verb:?}) is open for {} s", open.as_secs()));
            }
        }
        Ok(())
    }
}
