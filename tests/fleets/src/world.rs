//! Everything around the machine: processes, places, links, datagrams, the store, the clock.
//!
//! A descriptor is a queue. What lies in one is taken in order; which queue is taken next is the
//! history's choice. A place that hangs does nothing of what it is told until it is ended; what it had
//! said before is still heard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use duende::{
    backend::{Ask, Heard, News, Obstacle, Place, PlaceNews},
    manager::{
        decide::{Answer, DaemonSpec, Decider, Effect, Event, Notice, QuestionId, ReadyBy, Verb},
        link::session::{self, Session, Sessions},
        turn::{Source, Taken, Turns, Woken, is_end},
    },
};
use duende_core::{
    lifecycle::State,
    restart::{Exit, StartError, Unavailable},
    time::Instant,
    wire::{
        Hello, Role,
        link::{Address, Event as LinkEvent, HealthReport, LogLevel, Outcome},
    },
};
use duende_history::{Draw, Fault};

use crate::fleet::ms;

/// A process, or an instance in a place without processes.
#[derive(Clone, Debug)]
pub(crate) struct Proc {
    pub(crate) pid: u32,
    pub(crate) alive: bool,
    /// It was asked to end.
    pub(crate) asked: bool,
    /// It does not end when it is asked.
    pub(crate) stubborn: bool,
    /// It does not end when it is killed.
    pub(crate) unkillable: bool,
    /// It says nothing.
    pub(crate) hung: bool,
    /// Somebody else holds its link, too.
    pub(crate) link_kept: bool,
    /// Its backend's word was heard, and its own that it is ready.
    pub(crate) known: bool,
    pub(crate) ready_heard: bool,
    pub(crate) said_ready: bool,
}

/// Something on one's own link.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OnLink {
    Ready,
    Reloaded,
    Health(u64),
    Samples(u64),
    /// A line for this address, which may be another's.
    Log(Address),
    /// An end for this address.
    End(Address),
    Closed,
}

/// Most news at one instant.
const HEARD_MAX: u64 = 20_000;

/// See the module.
pub(crate) struct World {
    pub(crate) decider: Decider,
    pub(crate) specs: Vec<DaemonSpec>,
    pub(crate) now: Instant,
    pub(crate) draw: Draw,
    pub(crate) procs: BTreeMap<(u32, u32), Proc>,
    /// By place: its word.
    from_places: [VecDeque<Heard>; 2],
    /// By incarnation: its own link, and who may speak on it.
    links: BTreeMap<(u32, u32), (VecDeque<OnLink>, Sessions)>,
    /// The worker's link.
    worker: (VecDeque<(Address, OnLink)>, Sessions),
    datagrams: VecDeque<(u32, Notice)>,
    /// Whose turn it is, and what it keeps back.
    pub(crate) turns: Turns,
    pub(crate) held: Option<Heard>,
    preparing: Vec<Address>,
    pub(crate) hung: [bool; 2],
    /// Its loss is not heard yet: nothing starts there.
    lost: [bool; 2],
    pub(crate) store_down: bool,
    pub(crate) no_room: Option<StartError>,
    next_pid: u32,
    pub(crate) questions: BTreeMap<QuestionId, (Instant, Verb)>,
    last_question: u64,
    /// By slot: the process that is looked at.
    pub(crate) watched: BTreeMap<u32, Option<u32>>,
    /// By slot: its state, and whether it was blocked, before the event that is handled.
    pub(crate) before: Vec<Option<(State, bool)>>,
    /// What was recorded since, with the words of whoever crashed.
    pub(crate) recorded: BTreeSet<(u32, String, Option<String>)>,
    /// By slot: ends that were the daemon's own doing.
    pub(crate) own_ends: Vec<u32>,
    /// By slot: deaths of its place with a slice of it open.
    pub(crate) deaths: Vec<u32>,
    pub(crate) asked_to_end: u32,
    pub(crate) over: bool,
    /// Whether every event and effect is printed.
    pub(crate) told: bool,
    pub(crate) steps: u64,
}

pub(crate) const fn key(at: Address) -> (u32, u32) {
    (at.daemon, at.incarnation)
}

const fn place_index(place: Place) -> usize {
    match place {
        Place::Native => 0,
        Place::Wos => 1,
    }
}

fn greeted() -> Sessions {
    let mut sessions = Sessions::default();
    // The version that is spoken here is taken.
    let _ = sessions.greet(Hello::of(Role::WORKER));
    sessions
}

impl World {
    pub(crate) fn new(specs: Vec<DaemonSpec>, seed: u64) -> Result<Self, Fault> {
        let decider = Decider::new(&[], specs.clone(), false).map_err(|error| error.to_string())?;
        Ok(Self {
            decider,
            own_ends: vec![0; specs.len()],
            deaths: vec![0; specs.len()],
            now: Instant::from_ns(1_000_000_000),
            draw: Draw::new(seed),
            procs: BTreeMap::new(),
            from_places: [VecDeque::new(), VecDeque::new()],
            links: BTreeMap::new(),
            worker: (VecDeque::new(), greeted()),
            datagrams: VecDeque::new(),
            turns: Turns::default(),
            held: None,
            preparing: Vec::new(),
            hung: [false; 2],
            lost: [false; 2],
            store_down: false,
            no_room: None,
            next_pid: 100,
            questions: BTreeMap::new(),
            last_question: 0,
            watched: BTreeMap::new(),
            before: vec![None; specs.len()],
            recorded: BTreeSet::new(),
            asked_to_end: 0,
            over: false,
            told: false,
            steps: 0,
            specs,
        })
    }

    pub(crate) fn spec(&self, slot: u32) -> &DaemonSpec {
        &self.specs[slot as usize]
    }

    /// Gives the machine an event, performs what follows, and looks whether all holds.
    pub(crate) fn event(&mut self, event: Event) -> Result<(), Fault> {
        self.steps += 1;
        let entropy = self.draw.word();
        if self.told {
            println!("{:>9} ms <- {event:?}", self.now.as_ns() / 1_000_000);
        }
        for (slot, before) in (0_u32..).zip(&mut self.before) {
            let view = self.decider.view(slot);
            *before = view.map(|view| (view.state, view.blocked_by.is_some()));
        }
        self.recorded.clear();
        for effect in self.decider.handle(self.now, entropy, event) {
            if self.told {
                println!("             -> {effect:?}");
            }
            self.perform(effect)?;
        }
        self.check()
    }

    fn perform(&mut self, effect: Effect) -> Result<(), Fault> {
        match effect {
            Effect::Prepare(at) => self.preparing.push(at),
            Effect::Start(at) => self.start(at)?,
            Effect::Ask(at, ask) => self.ask(at, ask),
            Effect::AskPlace(place) => {
                if !self.hung[place_index(place)] {
                    self.say_of(place, PlaceNews::Lives);
                }
            }
            Effect::EndPlace(place) => self.lose(place),
            Effect::LetGo(at) | Effect::CloseLink(at) => {
                self.links.remove(&key(at));
                self.preparing.retain(|preparing| *preparing != at);
            }
            Effect::Answer(question, answer) => self.answered(question, &answer)?,
            Effect::End => self.over = true,
            Effect::Watch(at, pid) => drop(self.watched.insert(at.daemon, pid)),
            Effect::Record { slot: Some(slot), kind, crash, .. } => {
                self.recorded.insert((slot, kind.as_str().to_owned(), crash));
            }
            Effect::Record { slot: None, .. }
            | Effect::Say(..)
            | Effect::Log { .. }
            | Effect::Dump(_) => {}
        }
        Ok(())
    }

    fn start(&mut self, at: Address) -> Result<(), Fault> {
        let second = self.procs.iter().find(|((slot, _), proc)| *slot == at.daemon && proc.alive);
        if let Some(((slot, incarnation), _)) = second {
            return Err(format!("a second process of d{slot}: incarnation {incarnation} lives"));
        }
        let place = self.spec(at.daemon).place;
        if self.hung[place_index(place)] || self.lost[place_index(place)] {
            return Ok(());
        }
        if let Some(error) = self.no_room {
            let reason = "there is no room".to_owned();
            self.say(place, at, News::StartFailed { error, reason });
            return Ok(());
        }
        let abilities = self.spec(at.daemon).abilities;
        let pid = self.number();
        let proc = Proc {
            pid,
            alive: true,
            asked: false,
            stubborn: false,
            unkillable: false,
            hung: false,
            link_kept: false,
            known: false,
            ready_heard: false,
            said_ready: false,
        };
        if abilities.own_link {
            let mut sessions = greeted();
            sessions.register(Session::new(at, 0, 1_000));
            self.links.insert(key(at), (VecDeque::new(), sessions));
        } else if abilities.speaks {
            self.worker.1.register(Session::new(at, 0, 1_000));
        }
        let pid = abilities.has_process.then_some(proc.pid);
        self.procs.insert(key(at), proc);
        self.say(place, at, News::Started { pid });
        Ok(())
    }

    /// A number for a process: a new one, or one of the dead whose end and last words were heard.
    fn number(&mut self) -> u32 {
        let silent = |pid: u32| !self.datagrams.iter().any(|(sender, _)| *sender == pid);
        let ends = |key: &(u32, u32), heard: &Heard| match heard {
            Heard::Of(at, News::Exited { .. }) => (at.daemon, at.incarnation) == *key,
            Heard::Of(..) => false,
            Heard::Place(..) => true,
        };
        let unheard = |key| self.from_places[0].iter().any(|heard| ends(key, heard));
        let living = |pid: u32| {
            let mut its = self.procs.iter().filter(|(_, proc)| proc.pid == pid);
            its.any(|(key, proc)| proc.alive || unheard(key))
        };
        let free = self.procs.values().map(|proc| proc.pid);
        let free: Vec<u32> = free.filter(|pid| silent(*pid) && !living(*pid)).collect();
        if !free.is_empty() && self.draw.once_in(2) {
            let which = self.draw.below(free.len());
            return free[which];
        }
        self.next_pid += 1;
        self.next_pid
    }

    fn ask(&mut self, at: Address, ask: Ask) {
        let spec = self.spec(at.daemon);
        let (place, speaks) = (spec.place, spec.abilities.speaks);
        if self.hung[place_index(place)] && !(spec.abilities.own_link && is_for_link(ask)) {
            return;
        }
        let Some(proc) = self.procs.get_mut(&key(at)) else { return };
        if !proc.alive {
            return;
        }
        match ask {
            Ask::Terminate { .. } => proc.asked = true,
            Ask::Kill if !proc.unkillable => {
                self.end(at, Exit::Signal(9), "killed by SIGKILL", false);
            }
            Ask::Reload if speaks && !proc.hung => self.on_link(at, OnLink::Reloaded),
            Ask::Reload if !speaks => {
                let news = if proc.pid.is_multiple_of(2) {
                    News::Reloaded
                } else {
                    News::ReloadRefused { reason: "it catches no SIGHUP".to_owned() }
                };
                self.say(place, at, news);
            }
            Ask::Probe { token, .. } if !proc.hung => self.on_link(at, OnLink::Health(token)),
            Ask::Sample { token } if !proc.hung => self.on_link(at, OnLink::Samples(token)),
            Ask::Count => self.say(place, at, News::Processes { count: 1 }),
            Ask::MainProcess { pid } => {
                proc.pid = pid;
                self.say(place, at, News::MainProcess { pid });
            }
            Ask::Kill
            | Ask::Hold
            | Ask::Release
            | Ask::Reload
            | Ask::Probe { .. }
            | Ask::Sample { .. } => {}
        }
    }

    /// A process ends, and its place says so after everything that it said before.
    pub(crate) fn end(&mut self, at: Address, exit: Exit, reason: &str, by_itself: bool) {
        let Some(proc) = self.procs.get_mut(&key(at)) else { return };
        if !std::mem::replace(&mut proc.alive, false) {
            return;
        }
        let kept = proc.link_kept;
        if by_itself || exit != Exit::Lost {
            self.own_ends[at.daemon as usize] += 1;
        }
        let abilities = self.spec(at.daemon).abilities;
        if !abilities.has_process {
            self.on_link(at, OnLink::End(at));
            return;
        }
        if abilities.own_link && !kept {
            self.on_link(at, OnLink::Closed);
        }
        // A place that hangs does not notice, and will not.
        if !self.hung[place_index(Place::Native)] {
            if self.draw.once_in(4) {
                self.say(Place::Native, at, News::MainEnded { how: reason.to_owned() });
            }
            self.say(Place::Native, at, News::Exited { exit, reason: reason.to_owned() });
        }
    }

    /// A place is gone, and all that ran in it. What it had said is heard before.
    pub(crate) fn lose(&mut self, place: Place) {
        self.hung[place_index(place)] = false;
        if std::mem::replace(&mut self.lost[place_index(place)], true) {
            return;
        }
        let lost: Vec<(u32, u32)> = self
            .procs
            .iter()
            .filter(|((slot, _), proc)| proc.alive && self.spec(*slot).place == place)
            .map(|(key, _)| *key)
            .collect();
        // Whose slice is open then is chance.
        let open = match place {
            Place::Wos if !lost.is_empty() && self.draw.once_in(3) => {
                lost.get(self.draw.below(lost.len())).map(|(slot, incarnation)| {
                    if let Some(deaths) = self.deaths.get_mut(*slot as usize) {
                        *deaths += 1;
                    }
                    Address::of(*slot, *incarnation)
                })
            }
            _ => None,
        };
        for key in lost {
            if let Some(proc) = self.procs.get_mut(&key) {
                proc.alive = false;
            }
        }
        if place == Place::Wos {
            // What is left on its link is of the past once it is closed.
            self.worker = (VecDeque::new(), greeted());
        }
        self.say_of(place, PlaceNews::Lost { how: "signal: 9".to_owned(), open });
    }

    fn say(&mut self, place: Place, at: Address, news: News) {
        self.from_places[place_index(place)].push_back(Heard::Of(at, news));
    }

    fn say_of(&mut self, place: Place, news: PlaceNews) {
        self.from_places[place_index(place)].push_back(Heard::Place(place, news));
    }

    pub(crate) fn on_link(&mut self, at: Address, said: OnLink) {
        if self.spec(at.daemon).place == Place::Wos {
            self.worker.0.push_back((at, said));
        } else if let Some((queue, _)) = self.links.get_mut(&key(at)) {
            queue.push_back(said);
        }
    }

    pub(crate) fn datagram(&mut self, pid: u32, notice: Notice) {
        self.datagrams.push_back((pid, notice));
    }

    // Hearing.

    /// Takes what one descriptor has next. False if it has nothing.
    pub(crate) fn hear(&mut self, descriptor: usize) -> Result<bool, Fault> {
        let links = self.links.len();
        match descriptor % (5 + links) {
            0 | 1 => {
                let Some(heard) = self.from_places[descriptor % (5 + links)].pop_front() else {
                    return Ok(false);
                };
                if is_end(&heard) {
                    self.held = Some(heard);
                    self.turns.woken(Woken::End);
                    self.release()?;
                } else {
                    self.heard_of_place(heard)?;
                }
                Ok(true)
            }
            2 => {
                let Some((pid, notice)) = self.datagrams.pop_front() else { return Ok(false) };
                let of = self.procs.iter_mut().rev().find(|(_, proc)| proc.pid == pid);
                let part_of = of.filter(|(_, proc)| proc.alive).map(|(key, proc)| {
                    proc.ready_heard |= notice.ready;
                    Address::of(key.0, key.1)
                });
                self.event(Event::Noticed { pid, part_of, notice })?;
                Ok(true)
            }
            3 => self.prepared(),
            4 => {
                let Some((at, said)) = self.worker.0.pop_front() else { return Ok(false) };
                let heard = take(&mut self.worker.1, said, at, false);
                self.heard_on_link(heard, None)
            }
            link => {
                let Some(key) = self.links.keys().nth(link - 5).copied() else { return Ok(false) };
                let Some((queue, sessions)) = self.links.get_mut(&key) else { return Ok(false) };
                let Some(said) = queue.pop_front() else { return Ok(false) };
                let at = Address::of(key.0, key.1);
                let heard = take(sessions, said, at, true);
                self.heard_on_link(heard, Some(at))
            }
        }
    }

    fn heard_on_link(
        &mut self,
        heard: Result<Option<(Address, News)>, String>,
        own: Option<Address>,
    ) -> Result<bool, Fault> {
        match heard {
            Ok(Some((at, news))) => {
                if let Some(own) = own
                    && own != at
                {
                    return Err(format!("{own:?} spoke for {at:?}"));
                }
                if matches!(news, News::Ready { .. })
                    && let Some(proc) = self.procs.get_mut(&key(at))
                {
                    proc.ready_heard = true;
                }
                self.event(Event::Heard(Heard::Of(at, news)))?;
            }
            Ok(None) => {}
            Err(reason) => match own {
                Some(at) => {
                    if let Some((queue, _)) = self.links.get_mut(&key(at)) {
                        queue.clear();
                    }
                    let news = News::LinkClosed { reason: Some(reason) };
                    self.event(Event::Heard(Heard::Of(at, news)))?;
                }
                // A worker that lies is ended as one.
                None => self.lose(Place::Wos),
            },
        }
        Ok(true)
    }

    fn prepared(&mut self) -> Result<bool, Fault> {
        if self.store_down || self.preparing.is_empty() {
            return Ok(false);
        }
        let which = self.draw.below(self.preparing.len());
        // Its image may have to be made first.
        if self.draw.once_in(4) {
            let Some(at) = self.preparing.get(which).copied() else { return Ok(false) };
            let words = "its image is compiled".to_owned();
            self.event(Event::Heard(Heard::Of(at, News::Compiles { words })))?;
            return Ok(true);
        }
        let at = self.preparing.remove(which);
        let result = if self.draw.once_in(12) && self.no_room.is_some() {
            Err(Obstacle {
                exit: Exit::Unavailable(Unavailable::Source),
                text: "no such directory".to_owned(),
            })
        } else {
            Ok(())
        };
        self.event(Event::Heard(Heard::Of(at, News::Prepared(result))))?;
        Ok(true)
    }

    /// Hears all that lies in any descriptor.
    pub(crate) fn hear_all(&mut self) -> Result<(), Fault> {
        let before = self.steps;
        loop {
            if self.steps - before > HEARD_MAX {
                return Err("the world never falls silent".to_owned());
            }
            let mut any = false;
            for descriptor in 0..5 + self.links.len() {
                any |= self.hear(descriptor)?;
            }
            if !any {
                return Ok(());
            }
        }
    }

    /// What a place says comes to the machine.
    pub(crate) fn heard_of_place(&mut self, heard: Heard) -> Result<(), Fault> {
        match &heard {
            // From now on something can start there again.
            Heard::Place(place, PlaceNews::Lost { .. }) => self.lost[place_index(*place)] = false,
            Heard::Of(at, News::Started { .. }) => {
                if let Some(proc) = self.procs.get_mut(&key(*at)) {
                    proc.known = true;
                }
            }
            _ => {}
        }
        self.event(Event::Heard(heard))
    }

    /// Takes one of the news of a source, as the loop does.
    pub(crate) fn take(&mut self, source: Source) -> Result<Taken, Fault> {
        let any = match source {
            Source::Places => {
                let first = self.draw.below(2);
                let place = if self.from_places[first].is_empty() { 1 - first } else { first };
                match self.from_places[place].pop_front() {
                    Some(heard) if is_end(&heard) => {
                        self.held = Some(heard);
                        return Ok(Taken::End);
                    }
                    Some(heard) => {
                        self.heard_of_place(heard)?;
                        true
                    }
                    None => false,
                }
            }
            Source::Datagrams => self.hear(2)?,
            Source::Preparations => self.hear(3)?,
            Source::Links => {
                let links = 1 + self.links.len();
                let first = self.draw.below(links);
                let mut any = false;
                for next in 0..links {
                    any = self.hear(4 + (first + next) % links)?;
                    if any {
                        break;
                    }
                }
                any
            }
        };
        Ok(if any { Taken::News } else { Taken::Nothing })
    }

    /// Whether a source has something to be heard.
    pub(crate) fn has(&self, source: Source) -> bool {
        match source {
            Source::Places => self.from_places.iter().any(|queue| !queue.is_empty()),
            Source::Datagrams => !self.datagrams.is_empty(),
            Source::Preparations => !self.store_down && !self.preparing.is_empty(),
            Source::Links => {
                !self.worker.0.is_empty() || self.links.values().any(|(queue, _)| !queue.is_empty())
            }
        }
    }

    /// Keeps a source full; false if nobody is there who could say anything.
    pub(crate) fn flood(&mut self, source: Source) -> bool {
        let living = self.living();
        let one = living.get(self.draw.below(living.len())).copied();
        match (source, one) {
            (Source::Datagrams, _) => {
                // One of the living, or nobody that is known.
                let pid = one.and_then(|at| self.procs.get(&key(at))).map_or(7, |proc| proc.pid);
                self.datagram(pid, Notice::default());
            }
            (Source::Links, Some(at)) if self.spec(at.daemon).abilities.speaks => {
                self.on_link(at, OnLink::Log(at));
            }
            (Source::Places, Some(at)) if self.spec(at.daemon).abilities.has_process => {
                self.say(Place::Native, at, News::OutputLost { lines: 1 });
            }
            _ => return self.has(source),
        }
        true
    }

    // Operators.

    pub(crate) fn operator(&mut self, verb: Verb) -> Result<(), Fault> {
        self.last_question += 1;
        let question = QuestionId(self.last_question);
        if verb != Verb::Down {
            self.questions.insert(question, (self.now, verb.clone()));
        } else {
            self.asked_to_end += 1;
        }
        self.event(Event::Asked { question, verb })
    }

    /// One who asked does not wait any more.
    pub(crate) fn forget(&mut self) -> Result<(), Fault> {
        let which = self.draw.below(self.questions.len());
        let Some(question) = self.questions.keys().nth(which).copied() else { return Ok(()) };
        self.questions.remove(&question);
        self.event(Event::Forgotten(question))
    }

    fn answered(&mut self, question: QuestionId, answer: &Answer) -> Result<(), Fault> {
        let Some((_, verb)) = self.questions.remove(&question) else {
            return Err(format!("{question:?} was answered twice, or never asked"));
        };
        // Whoever is refused something is told of whom, and why.
        if let Answer::Outcomes(outcomes) = answer {
            for outcome in outcomes.iter().filter(|outcome| outcome.refused.is_some()) {
                let name = &self.spec(outcome.slot).name;
                let is_told =
                    outcome.detail.contains(name) || outcome.detail.contains("another operator");
                if !is_told {
                    return Err(format!("{verb:?} of {name} was refused: {outcome:?}"));
                }
            }
        }
        // Who asked for a start is told "done" only of what is up.
        if let (Verb::Start(_) | Verb::Restart(_), Answer::Outcomes(outcomes)) = (&verb, answer) {
            for outcome in outcomes.iter().filter(|outcome| outcome.refused.is_none()) {
                let view = self.decider.view(outcome.slot);
                let is_fine = view.is_some_and(|view| {
                    view.state.is_up()
                        || matches!(view.state, State::Stopped(_))
                        || outcomes.len() > 1
                });
                if !is_fine {
                    let state = view.map(|view| view.state);
                    return Err(format!("{verb:?}: done, said of {outcome:?}, which is {state:?}"));
                }
            }
        }
        Ok(())
    }

    /// What a process says when it does as it should.
    pub(crate) fn behave(&mut self, at: Address) {
        let Some(proc) = self.procs.get_mut(&key(at)) else { return };
        if !proc.alive || proc.hung {
            return;
        }
        if proc.asked && !proc.stubborn {
            self.end(at, Exit::Signal(15), "killed by SIGTERM", false);
            return;
        }
        let (pid, first) = (proc.pid, !std::mem::replace(&mut proc.said_ready, true));
        let spec = self.spec(at.daemon);
        let (ready_by, watched) = (spec.ready_by, spec.supervision.watchdog.is_some());
        match ready_by {
            ReadyBy::Link if first => self.on_link(at, OnLink::Ready),
            // A reload ends with it, too.
            ReadyBy::Datagram => {
                self.datagram(pid, Notice { ready: true, alive: watched, ..Notice::default() });
            }
            ReadyBy::Link | ReadyBy::Start => {}
        }
    }

    /// The living, by address.
    pub(crate) fn living(&self) -> Vec<Address> {
        let living = self.procs.iter().filter(|(_, proc)| proc.alive);
        living.map(|(key, _)| Address::of(key.0, key.1)).collect()
    }

    /// Whoever was given up may not keep its number for ever: forgets the dead.
    pub(crate) fn forget_the_dead(&mut self) {
        self.procs.retain(|_, proc| proc.alive);
    }

    pub(crate) fn later(&self, by_ms: u64) -> Instant {
        self.now.saturating_add(ms(by_ms))
    }
}

const fn is_for_link(ask: Ask) -> bool {
    matches!(ask, Ask::Reload | Ask::Probe { .. } | Ask::Sample { .. })
}

/// What the machine of a link makes of something that was said; `own` of a link of one daemon.
fn take(
    sessions: &mut Sessions,
    said: OnLink,
    at: Address,
    own: bool,
) -> Result<Option<(Address, News)>, String> {
    let event = match said {
        OnLink::Closed => return Ok(Some((at, News::LinkClosed { reason: None }))),
        OnLink::Ready => LinkEvent::Running { at, pid: 1 },
        OnLink::Reloaded => LinkEvent::Reloaded { at },
        OnLink::Health(token) => {
            LinkEvent::Health { at, token, report: HealthReport::Healthy, memory_bytes: 0 }
        }
        OnLink::Samples(token) => LinkEvent::SamplesEnd { at, token },
        OnLink::Log(of) => LinkEvent::Log { at: of, level: LogLevel::Info, text: "x" },
        OnLink::End(of) => {
            LinkEvent::Exited { at: of, outcome: Outcome::Error, code: 1, reason: "it says" }
        }
    };
    match sessions.take(event) {
        // The process ends next, and that is what counts.
        Ok(session::Taken::News(at, News::Exited { reason, .. })) if own => {
            Ok(Some((at, News::Said { reason })))
        }
        Ok(session::Taken::News(at, news)) => Ok(Some((at, news))),
        Ok(_) => Ok(None),
        Err(violation) => Err(violation.to_string()),
    }
}
