//! Independent opinions of what a world should answer.
//!
//! Each oracle is a naive model of one machine, written from its rules and not from its code: plain
//! vectors that are searched, windows that are counted again each time, nothing clever. It sees the
//! steps and the answers, never the machine. So a run can be judged from its steps alone, which is
//! what makes it possible to leave some out.

mod blocks;
mod bus;
mod caps;
mod channel;
mod daemons;
mod fanout;
mod moves;
mod policies;
mod process;
mod quota;
mod records;
mod tasks;
mod verdict;
mod wires;

use duende_core::time::Instant;
use duende_world::{Seen, Step, World};

pub use daemons::{Daemon, Daemons};
pub use process::{Process, Told};

use crate::failure::Failure;

/// One opinion.
pub trait Oracle {
    /// A step is about to be done, at `now`.
    fn step(&mut self, now: Instant, step: &Step);

    /// The world answered.
    ///
    /// # Errors
    /// A [`Failure`], when it should have answered otherwise.
    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Failure>;

    /// The step is done.
    ///
    /// # Errors
    /// A [`Failure`], when something is missing.
    fn done(&mut self, _world: &World) -> Result<(), Failure> {
        Ok(())
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Oracles {
    /// Of the supervisor.
    pub daemons: Daemons,
    channel: channel::Mail,
    caps: caps::Caps,
    bus: bus::Listeners,
    fanout: fanout::Fanout,
    policies: policies::Policies,
    quota: quota::Quotas,
    records: records::Records,
    wires: wires::Wires,
    tasks: tasks::Tasks,
}

impl Oracles {
    /// Messages of the channel that nobody received and that were not counted as dropped.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        self.channel.waiting()
    }

    /// Events that subscribers could hear and messages of the fan-out that receivers could take, and
    /// have not.
    #[must_use]
    pub fn unheard(&self) -> usize {
        self.bus.waiting() + self.fanout.waiting()
    }

    fn all(&mut self) -> [&mut dyn Oracle; 10] {
        let Self { daemons, channel, caps, bus, fanout, policies, quota, records, wires, tasks } =
            self;
        [daemons, channel, caps, bus, fanout, policies, quota, records, wires, tasks]
    }
}

impl Oracle for Oracles {
    fn step(&mut self, now: Instant, step: &Step) {
        if matches!(step.input, duende_world::Input::Begin(_)) {
            *self = Self::default();
        }
        for oracle in self.all() {
            oracle.step(now, step);
        }
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Failure> {
        self.all().into_iter().try_for_each(|oracle| oracle.see(seen))
    }

    fn done(&mut self, world: &World) -> Result<(), Failure> {
        self.all().into_iter().try_for_each(|oracle| oracle.done(world))
    }
}
