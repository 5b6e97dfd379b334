//! The daemons that `keep` holds: seeing that they ended, and performing what is decided about it.
//!
//! State: `slots`, of which `running` hold something; `mains`, from the process id of each living main
//! process to its slot; `busy`, the slots that have a deadline. A main process leaves `mains` when it
//! is reaped, seen to be gone, or succeeded by another, and nowhere else. What happens to a daemon is
//! decided by its [`Ending`](super::ending::Ending), and performed here; starts are in
//! [`super::starts`], what the manager asks in [`super::asks`].

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::time::Instant;

use duende_core::wire::link::Address;
use rustix::event::epoll;
use rustix::process::Signal;

use super::background;
use super::cgroup::Tree;
use super::ending::{Effect, Event};
use super::held::{Held, Slot, Source};
use super::launch::Launcher;
use super::members::Mains;
use super::protocol::{Exit, KeepEvent};
use super::reports::Reports;
use super::spawn::OpenFilesLimit;
use super::sys::{self, Death, Which};

/// All daemons.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) fleet: String,
    pub(super) slots: HashMap<u32, Slot>,
    pub(super) mains: HashMap<u32, u32>,
    busy: BTreeSet<u32>,
    pub(super) running: usize,
    /// None where no cgroup can be made.
    pub(super) tree: Option<Tree>,
    pub(super) launcher: Launcher,
    pub(super) open_files: OpenFilesLimit,
    buffer: Box<[u8]>,
}

impl Table {
    pub(super) fn new(
        fleet: String,
        tree: Option<Tree>,
        launcher: Launcher,
        open_files: OpenFilesLimit,
        buffer: Box<[u8]>,
    ) -> Self {
        let (slots, mains, busy) = (HashMap::new(), HashMap::new(), BTreeSet::new());
        Self { fleet, slots, mains, busy, running: 0, tree, launcher, open_files, buffer }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.running == 0
    }

    /// Whether a link comes with the request to start this again.
    pub(super) fn takes_link(&self, at: Address) -> bool {
        self.slots.get(&at.daemon).is_some_and(|slot| slot.request.link)
    }

    /// The slot of an incarnation that is held.
    pub(super) fn held(&self, at: Address) -> Option<&Held> {
        self.slots.get(&at.daemon)?.held.as_ref().filter(|held| held.at == at)
    }

    pub(super) fn held_mut(&mut self, slot: u32) -> Option<&mut Held> {
        self.slots.get_mut(&slot)?.held.as_mut()
    }

    pub(super) const fn mains(&self, slot: u32) -> Mains<'_> {
        Mains { by_pid: &self.mains, slot }
    }

    // Deaths.

    /// Reaps everything that is dead: daemons, and orphans that came to this process. `hint` saves the
    /// kernel a walk over all children to find the first of the dead.
    pub(super) fn reap(&mut self, hint: Option<u32>, pipes: &OwnedFd, reports: &mut Reports) {
        let mut dead = hint.and_then(|pid| sys::dead_child(Which::This(pid)));
        let mut orphans = false;
        while let Some(pid) = dead.or_else(|| sys::dead_child(Which::Any)) {
            dead = None;
            let Some(death) = sys::reap(pid) else { break };
            match self.mains.remove(&pid) {
                Some(slot) => self.main_ended(slot, death, pipes, reports),
                None => orphans = true,
            }
        }
        if orphans {
            // Perhaps it was the last of its daemon.
            let busy: Vec<u32> = self.busy.iter().copied().collect();
            for slot in busy {
                self.perform(slot, Effect::Look, pipes, reports);
            }
        }
    }

    fn main_ended(&mut self, slot: u32, death: Death, pipes: &OwnedFd, reports: &mut Reports) {
        let Some(held) = self.held_mut(slot) else { return };
        held.death = Some(death);
        if let Some(process) = held.watch.take() {
            let _ = epoll::delete(pipes, &process);
        }
        let well = death.exit == Exit::Code(0);
        self.step(slot, Event::MainEnded { well }, pipes, reports);
    }

    /// A main process that is no child of this one has ended.
    fn watched_ended(&mut self, slot: u32, pipes: &OwnedFd, reports: &mut Reports) {
        let Some(pid) = self.held_mut(slot).filter(|held| held.watch.is_some()).map(|h| h.pid)
        else {
            return;
        };
        // Its parent may have died meanwhile, and it come here.
        let death = sys::dead_child(Which::This(pid)).and_then(sys::reap);
        self.mains.remove(&pid);
        self.main_ended(slot, death.unwrap_or(Death::UNSEEN), pipes, reports);
    }

    // Deciding and performing.

    pub(super) fn step(&mut self, slot: u32, event: Event, pipes: &OwnedFd, reports: &mut Reports) {
        let Some(held) = self.held_mut(slot) else { return };
        let mut effects = Vec::new();
        held.ending.step(Instant::now(), event, &mut |effect| effects.push(effect));
        for effect in effects {
            self.perform(slot, effect, pipes, reports);
        }
        match self.held_mut(slot).and_then(|held| held.ending.next_deadline()) {
            Some(_) => self.busy.insert(slot),
            None => self.busy.remove(&slot),
        };
    }

    fn perform(&mut self, slot: u32, effect: Effect, pipes: &OwnedFd, reports: &mut Reports) {
        let mains = Mains { by_pid: &self.mains, slot };
        let Some(entry) = self.slots.get_mut(&slot) else { return };
        let Some(held) = &mut entry.held else { return };
        let at = held.at;
        // What is stopped would sleep through its grace.
        let ask = |signal| Signal::from_named_raw(signal).map(|signal| [signal, Signal::CONT]);
        match effect {
            Effect::AskMain { signal } => {
                ask(signal).into_iter().for_each(|signals| held.signal_main(&signals));
            }
            Effect::AskAll { signal } => {
                ask(signal).into_iter().for_each(|signals| held.signal_all(&signals, mains));
            }
            Effect::KillAll => held.kill_all(mains),
            Effect::Look => {
                let left = held.members.is_any_left(mains);
                self.step(slot, Event::Looked { left }, pipes, reports);
            }
            Effect::TellMainEnded => {
                let exit = held.death.unwrap_or(Death::UNSEEN).exit;
                if !held.ending.was_asked() {
                    let lived = held.began.elapsed();
                    held.hint = background::hint(&entry.request.argv, exit, lived);
                }
                reports.tell(&KeepEvent::MainExited { at, exit });
            }
            Effect::TellOver => {
                if let Some(held) = entry.held.take() {
                    self.running -= 1;
                    over(entry, held, &mut self.buffer, pipes, reports);
                }
            }
        }
    }

    // Output.

    /// Takes what an epoll event is about.
    pub(super) fn ready(&mut self, token: u64, pipes: &OwnedFd, reports: &mut Reports) -> bool {
        match Source::of(token) {
            Some((slot, Source::Watch)) => self.watched_ended(slot, pipes, reports),
            Some((slot, source)) => {
                if let Some(slot) = self.slots.get_mut(&slot) {
                    slot.read(source, pipes, &mut self.buffer);
                    return slot.log.is_dropping();
                }
            }
            None => {}
        }
        false
    }

    /// Tries again what could not be written to logs; whether something is left.
    pub(super) fn retry_logs(&mut self, reports: &mut Reports) -> bool {
        let mut is_dropping = false;
        for slot in self.slots.values_mut() {
            if slot.log.is_dropping() {
                slot.log.flush();
                is_dropping |= slot.log.is_dropping();
            }
            reports.tell_dropped(slot.request.at, slot.log.take_dropped_lines());
        }
        is_dropping
    }

    // Deadlines.

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadline = |slot| self.slots.get(slot)?.held.as_ref()?.ending.next_deadline();
        self.busy.iter().filter_map(deadline).min()
    }

    pub(super) fn tick(&mut self, now: Instant, pipes: &OwnedFd, reports: &mut Reports) {
        let is_due = |slot: &&u32| {
            let held = self.slots.get(slot).and_then(|slot| slot.held.as_ref());
            held.and_then(|held| held.ending.next_deadline()).is_none_or(|at| at <= now)
        };
        let due: Vec<u32> = self.busy.iter().filter(is_due).copied().collect();
        for slot in due {
            self.step(slot, Event::Tick, pipes, reports);
        }
    }
}

/// Nothing of a daemon is left.
fn over(
    slot: &mut Slot,
    mut held: Held,
    buffer: &mut [u8],
    pipes: &OwnedFd,
    reports: &mut Reports,
) {
    let (at, pid) = (held.at, held.pid);
    for stream in held.streams.iter_mut().flatten() {
        stream.drain(buffer, &mut slot.log);
    }
    slot.log.flush();
    held.pid_file = None;
    if held.ending.was_killed() {
        held.members.clean_up();
    }
    let Death { exit, cpu_ns, rss_bytes_max } = held.death.unwrap_or(Death::UNSEEN);
    let hint = held.hint.take();
    reports.tell(&KeepEvent::Exited { at, pid, exit, cpu_ns, rss_bytes_max, hint });
    reports.tell_dropped(at, slot.log.take_dropped_lines());
    for stream in held.streams.into_iter().flatten() {
        let _ = epoll::delete(pipes, &stream.pipe);
    }
}
