//! The manager as a machine: events in, effects out, and nothing else.
//!
//! It owns what is decided about a fleet: the supervisor of the core, the incarnations, who speaks for
//! whom, the questions that wait, and how the fleet ends. It performs nothing, knows no clock but what
//! it is told, and names no descriptor, file or task: so the simulator of fleets (`tests/fleets`) drives
//! the very code that ships, through every order of events that come from different descriptors.
//!
//! Rules, each held by an oracle of that simulator and by the tests of the file that is named:
//! 1. **One process of a daemon.** A start is asked for only after the end of the incarnation before
//!    it was reported, or its place was lost with everything in it (`news`).
//! 2. **An incarnation is let go in one place**, [`Decider::ended`], once, whatever ended it (`news`).
//! 3. **Nobody speaks for another.** News count for the incarnation that they name if it is the one
//!    that runs; a datagram counts for the daemon of which its sender is a process (`notice`).
//! 4. **Early news are not lost.** A datagram of a process that is not known yet is kept, within
//!    [`UNCLAIMED_MAX`], until its backend says who that is (`notice`).
//! 5. **Every question is answered.** One that waits is looked at after each event, and ends when its
//!    daemons are settled, whoever moved them, or cannot get there (`waiter`).
//! 6. **Nothing is waited for without a deadline.** Each is in [`Decider::next_deadline`]: those of the
//!    supervisor, of a link that outlives its process, of a place that was asked whether it lives, of
//!    figures (`deadline`).
//! 7. **The end comes.** After a stop of all, each process has its grace, then the kill, then
//!    [`Spec::kill_timeout`](duende_core::supervise::Spec) a few times; a signal meanwhile leaves
//!    out the grace (`leave`).
//! 8. What the owner hands over at [`Event::Tick`] was judged on everything that it had heard before:
//!    it reads what has arrived before it ticks.
//!
//! `repeat` counts what repeats itself; `event` is the vocabulary; `perform` turns the supervisor's effects into the manager's; `verb` takes
//! questions; `reason` words all of it.

mod daemon;
mod deadline;
mod event;
mod leave;
mod news;
mod notice;
mod perform;
pub mod planted;
mod rate;
mod reason;
mod repeat;
#[cfg(test)]
mod tests;
mod verb;
mod waiter;
mod whole;

pub use daemon::{Daemon, DaemonSpec, NotifyAccess, ReadyBy};
pub use event::{Answer, Effect, Event, Notice, Outcome, QuestionId, Verb};
pub use notice::{UNCLAIMED_MAX, UNCLAIMED_TIME};
pub use reason::{Detail, failure_text, signal_name};

use std::collections::{HashMap, VecDeque};

use duende_core::{
    epitaph::Epitaph,
    health::{self, Registry, Slot as HealthSlot},
    recorder::{Recorder, Slot as RecorderSlot},
    supervise::{
        AddError, AddGroupError, Effect as Decision, GroupId, GroupSlot, GroupSpec, Input, Slot,
        Supervisor, View,
    },
    time::Instant,
    wire::link::{Address, LogLevel},
};

use self::{
    leave::Leaving,
    notice::Unclaimed,
    repeat::{Remark, Repeats, To, ToTell, Words},
    waiter::Waiter,
};
use crate::backend::{PLACES, Place};

/// Inputs and decisions that are kept for a dump. A restart is about six of them.
const RECORDS_MAX: usize = 1_024;
/// Most questions that wait at a time: one for each connection of the control socket.
pub const WAITERS_MAX: usize = 64;

/// What the flight recorder keeps: what went into the supervisor and what came out.
#[derive(Clone, Debug)]
enum Record {
    Input(Input),
    Decision(Decision),
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Input(input) => write!(f, "<- {input:?}"),
            Self::Decision(decision) => write!(f, "-> {decision:?}"),
        }
    }
}

/// Why a fleet can't be decided about.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The supervisor can't keep what is configured of a daemon.
    #[error("daemon {name}: {source}")]
    Daemon {
        /// Its name.
        name: String,
        /// What it is.
        source: AddError,
    },
    /// The supervisor can't keep a group.
    #[error("group {number}: {source}")]
    Group {
        /// Its number among those of the fleet.
        number: usize,
        /// What it is.
        source: AddGroupError,
    },
    /// A daemon has no place in the health of the fleet.
    #[error("the health of the fleet: {0}")]
    Health(#[from] health::AddError),
    /// A daemon depends on one that does not come before it.
    #[error("daemon {name} depends on slot {on}, which does not come before it")]
    Order {
        /// Its name.
        name: String,
        /// The slot.
        on: u32,
    },
}

/// A group, with its parent by number.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    /// What the supervisor is to keep; `parent` is filled in.
    pub spec: GroupSpec,
    /// The number of its parent, smaller than its own.
    pub parent: Option<usize>,
}

/// What is known of a place.
#[derive(Clone, Copy, Debug, Default)]
struct PlaceState {
    /// Whether it is the place that tells of ends: what runs in it are processes. Where a link says all,
    /// the probes over it show a hang.
    tells_of_ends: bool,
    /// Since when an answer is waited for.
    asked_at: Option<Instant>,
    /// When it is asked next, while something runs in it.
    ask_at: Option<Instant>,
    /// It hung, and was told to end; when it is told again.
    end_again_at: Option<Instant>,
}

/// Draws for one event: the core wants new entropy for each decision.
#[derive(Clone, Copy, Debug, Default)]
struct Draws(u64);

impl Draws {
    /// splitmix64: uniform if its seed is.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// See the module.
pub struct Decider {
    supervisor: Supervisor<Box<[Slot]>, Box<[GroupSlot]>>,
    /// By the slot of their ids.
    daemons: Vec<Daemon>,
    by_name: HashMap<String, u32>,
    now: Instant,
    draws: Draws,
    inputs: VecDeque<Input>,
    effects: Vec<Effect>,
    health: Registry<Box<[HealthSlot]>>,
    unclaimed: Unclaimed,
    repeats: Repeats,
    /// Why the store can't be written.
    store_fault: Option<String>,
    /// What became of the store's file.
    store_astray: Option<String>,
    waiters: Vec<Waiter>,
    next_token: u64,
    places: [PlaceState; PLACES.len()],
    leaving: Leaving,
    /// Its last words, once the supervisor has halted.
    halted: Option<String>,
    recorder: Recorder<Record, Box<[RecorderSlot<Record>]>>,
}

impl std::fmt::Debug for Decider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decider")
            .field("now", &self.now)
            .field("daemons", &self.daemons)
            .finish_non_exhaustive()
    }
}

impl Decider {
    /// A machine for these daemons, in the order of their slots: each after those that it depends on.
    /// `ends_with_work` makes the fleet end when no daemon is left that could run.
    ///
    /// # Errors
    /// The supervisor can't keep what is configured.
    pub fn new(
        groups: &[GroupPlan],
        daemons: Vec<DaemonSpec>,
        ends_with_work: bool,
    ) -> Result<Self, FleetError> {
        let mut supervisor = Supervisor::with_groups(
            vec![Slot::default(); daemons.len()].into_boxed_slice(),
            vec![GroupSlot::EMPTY; groups.len()].into_boxed_slice(),
        );
        let mut group_ids: Vec<GroupId> = Vec::with_capacity(groups.len());
        for (number, group) in groups.iter().enumerate() {
            let parent = group.parent.and_then(|parent| group_ids.get(parent).copied());
            let spec = GroupSpec { parent, ..group.spec };
            let added = supervisor.add_group(spec);
            group_ids.push(added.map_err(|source| FleetError::Group { number, source })?);
        }
        let mut health = whole::registry(daemons.len());
        let mut kept: Vec<Daemon> = Vec::with_capacity(daemons.len());
        let mut by_name = HashMap::new();
        let tells_of_ends = |place: Place| {
            daemons.iter().any(|spec| spec.place == place && spec.abilities.has_process)
        };
        let places = PLACES.map(|place| PlaceState {
            tells_of_ends: tells_of_ends(place),
            ..PlaceState::default()
        });
        for (slot, mut spec) in (0_u32..).zip(daemons) {
            let mut supervision = spec.supervision.clone();
            supervision.group = spec.group.and_then(|group| group_ids.get(group).copied());
            supervision.depends_on.clear();
            for on in &spec.depends_on {
                let before = index(*on).and_then(|on| kept.get(on)).map(|on| on.id);
                let Some(before) = before else {
                    return Err(FleetError::Order { name: spec.name, on: *on });
                };
                // The core's bound is that of the configuration; a longer list is refused there.
                let _ = supervision.depends_on.push(before);
            }
            spec.supervision = supervision;
            let id = supervisor
                .add(spec.supervision.clone())
                .map_err(|source| FleetError::Daemon { name: spec.name.clone(), source })?;
            let component = health.add(&spec.name, health::Need::Required)?;
            by_name.insert(spec.name.clone(), slot);
            kept.push(Daemon::new(id, spec, component));
        }
        Ok(Self {
            supervisor,
            daemons: kept,
            by_name,
            now: Instant::ZERO,
            draws: Draws::default(),
            inputs: VecDeque::new(),
            effects: Vec::new(),
            health,
            unclaimed: Unclaimed::default(),
            repeats: Repeats::default(),
            store_fault: None,
            store_astray: None,
            waiters: Vec::new(),
            next_token: 0,
            places,
            leaving: Leaving::new(ends_with_work),
            halted: None,
            recorder: Recorder::new(vec![RecorderSlot::EMPTY; RECORDS_MAX].into_boxed_slice()),
        })
    }

    /// Takes one event and gives what is to be done, in this order.
    ///
    /// `entropy` is uniform over all of `u64`, and new for each call.
    pub fn handle(&mut self, now: Instant, entropy: u64, event: Event) -> Vec<Effect> {
        self.now = self.now.max(now);
        self.draws = Draws(entropy);
        match event {
            Event::Begin => {
                let ids = self.daemons.iter().map(|daemon| daemon.id);
                self.inputs.extend(ids.map(Input::Start));
            }
            Event::Heard(heard) => self.hear(heard),
            Event::Store(fault) => self.take_store(fault),
            Event::Astray(astray) => self.take_astray(astray),
            Event::Noticed { pid, part_of, notice } => self.notice(pid, part_of, notice),
            Event::Asked { question, verb } => self.ask(question, verb),
            Event::Forgotten(question) => {
                self.waiters.retain(|waiter| waiter.question() != question);
            }
            Event::Interrupted { signal } => self.interrupt(signal),
            Event::Tick => self.tick(),
        }
        self.decide();
        self.answer_waiters();
        self.look_for_end();
        std::mem::take(&mut self.effects)
    }

    /// Gives the supervisor what it is to be told, until nothing is left.
    fn decide(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            if self.halted.is_some() {
                self.inputs.clear();
                return;
            }
            let (now, entropy) = (self.now, self.draws.next());
            self.recorder.record(now, Record::Input(input));
            let mut decisions = Vec::new();
            let decided = self
                .supervisor
                .handle(now, entropy, input, &mut |decision| decisions.push(decision));
            if let Err(error) = decided {
                // What operators ask for is checked where they ask it; this is news of the past.
                self.say(LogLevel::Debug, error.to_string());
            }
            for decision in decisions {
                self.recorder.record(now, Record::Decision(decision.clone()));
                self.perform(decision);
            }
        }
    }

    /// What can be seen of a daemon's supervision.
    #[must_use]
    pub fn view(&self, slot: u32) -> Option<View> {
        self.supervisor.view(self.daemon(slot)?.id)
    }

    /// The daemon in a slot.
    #[must_use]
    pub fn daemon(&self, slot: u32) -> Option<&Daemon> {
        self.daemons.get(index(slot)?)
    }

    /// All daemons, by slot.
    #[must_use]
    pub fn daemons(&self) -> &[Daemon] {
        &self.daemons
    }

    /// The slot of the daemon of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The totals and levels that a daemon goes on from, once they were read.
    pub fn go_on_from(
        &mut self,
        at: Address,
        counters: impl IntoIterator<Item = (String, u64)>,
        gauges: impl IntoIterator<Item = (String, f64)>,
    ) {
        if let Some(daemon) = self.daemon_mut(at)
            && daemon.current(at).is_some()
        {
            daemon.go_on_from(counters, gauges);
        }
    }

    /// The last words of a supervisor that has halted.
    #[must_use]
    pub fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    /// Whether a stop of all was asked for.
    #[must_use]
    pub const fn is_stopping(&self) -> bool {
        self.leaving.is_asked()
    }

    /// The time that it was told last.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// What went into the supervisor and came out, the newest first.
    #[must_use]
    pub fn dump(&self, epitaph: &Epitaph) -> String {
        let mut text = String::new();
        // A string takes all.
        let _ = self.recorder.dump(Some(epitaph), &mut text);
        text
    }

    /// What holds between any two events; the first thing that does not, in words. Looks at every pair
    /// of daemons: for tests and simulators.
    ///
    /// # Errors
    /// Something does not hold.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.supervisor.check_invariants().map_err(|epitaph| epitaph.to_string())?;
        for (slot, daemon) in (0_u32..).zip(&self.daemons) {
            daemon.check(slot)?;
            let Some(view) = self.view(slot) else { continue };
            let name = &daemon.spec.name;
            let there = daemon.incarnation.as_ref();
            if view.state.has_process() && there.is_none() {
                return Err(format!("{name}: the supervisor thinks that it has a process"));
            }
            if let Some(there) = there
                && there.at.incarnation != view.incarnation
            {
                return Err(format!(
                    "{name}: incarnation {} is not its last",
                    there.at.incarnation
                ));
            }
            if there.is_some() && !view.state.has_process() && !view.unkillable {
                return Err(format!("{name}: the supervisor thinks that it has no process"));
            }
        }
        if self.waiters.len() > WAITERS_MAX {
            return Err(format!("{} questions wait", self.waiters.len()));
        }
        self.unclaimed.check()
    }

    // Small things that the rooms share.

    fn daemon_mut(&mut self, at: Address) -> Option<&mut Daemon> {
        self.daemons.get_mut(index(at.daemon)?)
    }

    fn place_mut(&mut self, place: Place) -> &mut PlaceState {
        let [native, wos] = &mut self.places;
        match place {
            Place::Native => native,
            Place::Wos => wos,
        }
    }

    fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn say(&mut self, level: LogLevel, line: String) {
        self.effect(Effect::Say(level, line));
    }

    /// Tells something of a daemon that may repeat itself: once a minute (`repeat`).
    fn tell_of(&mut self, at: Address, to: To, level: LogLevel, words: Words) {
        let told = self.repeats.take(self.now, Remark { slot: at.daemon, to, level, words });
        self.tell_all(told);
    }

    fn tell_all(&mut self, told: Vec<ToTell>) {
        for (Remark { slot, to, level, words }, again) in told {
            let text = words.text(again);
            match to {
                To::Fleet => {
                    let line = format!("{}: {text}", self.name(slot));
                    self.say(level, line);
                }
                To::Daemon => {
                    let incarnation = self.view(slot).map_or(0, |view| view.incarnation);
                    let at = Address::of(slot, incarnation);
                    self.effect(Effect::Log { at, level, own: false, text });
                }
            }
        }
    }

    fn name(&self, slot: u32) -> &str {
        self.daemon(slot).map_or("", |daemon| daemon.spec.name.as_str())
    }
}

/// A slot as the index of a table.
fn index(slot: u32) -> Option<usize> {
    usize::try_from(slot).ok()
}
