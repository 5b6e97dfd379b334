//! What comes over a link, held against who may say it: the machine of a link, without I/O.
//!
//! Rules:
//! 1. A peer speaks for the incarnations that were registered for its link, from before their first
//!    command until their [`Event::Exited`], and for nobody else: an event for another address is a
//!    [`Violation`], whatever it says, and the link is closed.
//! 2. Before its first event a peer has said which versions it speaks, and one of them is spoken here
//!    ([`Sessions::greet`]).
//! 3. What a slice changes is gathered until its [`Event::SliceEnd`], and is then ready to be
//!    committed, whole. A slice that is not closed leaves nothing behind.
//! 4. Slices that can't be handed to the store yet become one: of several writes to a key the last one
//!    counts, what is added to a counter adds up. Nobody else waits for it.
//! 5. A transaction holds at most what the daemon's state may hold and [`SLACK_BYTES`]. A peer that
//!    sends more in one slice breaks the protocol. A daemon whose closed slices come to more, because
//!    the store has had no room for long, goes no further: what it closed is kept, the rest is let go,
//!    and the manager ends that incarnation alone ([`Taken::Overfull`]).

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use duende_core::{
    restart::{Exit, Unavailable},
    wire::link::{
        Address, CHANNELS_MAX, Event, HealthReport, Held, LogLevel, METRICS_MAX, Outcome, Pressure,
    },
    wire::{Agreed, Disagreement, Hello, Role},
};

use crate::{
    backend::{News, Report},
    manager::decide::planted::{self, Plant},
};

/// What a transaction may hold beyond the daemon's state, in bytes: keys that are set and deleted again,
/// names of metrics, and what each entry costs.
pub const SLACK_BYTES: u64 = 1 << 20;
/// What an entry costs beside its key and value, in bytes.
const ENTRY_BYTES: u64 = 64;

/// How a peer broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It spoke for an incarnation that is not its own, or not any more.
    Stranger(Address),
    /// It speaks no version that is spoken here.
    Disagreement(Disagreement),
    /// It did not say which version it speaks.
    NoHello,
    /// One transaction holds more than the daemon may keep.
    TooMuch {
        /// Whose.
        at: Address,
        /// In bytes.
        limit: u64,
    },
    /// It consumed from a channel that it does not have.
    NoChannel(u8),
    /// It publishes more metrics than one daemon may.
    TooManyMetrics,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger(Address { daemon, incarnation, .. }) => write!(
                f,
                "it spoke for daemon {daemon}, incarnation {incarnation}, which it is not"
            ),
            Self::Disagreement(why) => why.fmt(f),
            Self::NoHello => f.write_str("it did not say which version of the link it speaks"),
            Self::TooMuch { limit, .. } => {
                write!(f, "one transaction holds more than {limit} bytes")
            }
            Self::NoChannel(channel) => {
                write!(f, "it consumed from channel {channel}, which it has not")
            }
            Self::TooManyMetrics => write!(f, "it publishes more than {METRICS_MAX} metrics"),
        }
    }
}

/// What slices have changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// By key; none: it is deleted.
    pub writes: BTreeMap<String, Option<Vec<u8>>>,
    /// What is added to counters.
    pub counters: BTreeMap<String, u64>,
    /// The new levels of gauges.
    pub gauges: BTreeMap<String, f64>,
    /// By channel: the last message that was received.
    pub consumed: BTreeMap<u8, u64>,
    /// Messages that were given up, by channel and number, and why.
    pub rejected: Vec<(u8, u64, String)>,
    bytes: u64,
}

impl Changes {
    fn set(&mut self, key: &str, value: Option<&[u8]>) {
        let bytes =
            |value: Option<&[u8]>| ENTRY_BYTES + (key.len() + value.map_or(0, <[u8]>::len)) as u64;
        if let Some(before) = self.writes.insert(key.to_owned(), value.map(<[u8]>::to_vec)) {
            self.bytes = self.bytes.saturating_sub(bytes(before.as_deref()));
        }
        self.bytes = self.bytes.saturating_add(bytes(value));
    }

    fn reject(&mut self, channel: u8, sequence: u64, reason: &str) {
        self.bytes = self.bytes.saturating_add(ENTRY_BYTES + reason.len() as u64);
        self.rejected.push((channel, sequence, reason.to_owned()));
    }

    /// Adds what a later slice changed.
    fn add(&mut self, later: Self) {
        for (key, value) in later.writes {
            self.set(&key, value.as_deref());
        }
        for (name, delta) in later.counters {
            let total = self.counters.entry(name).or_default();
            *total = total.saturating_add(delta);
        }
        self.gauges.extend(later.gauges);
        for (channel, sequence, reason) in later.rejected {
            self.reject(channel, sequence, &reason);
        }
        for (channel, sequence) in later.consumed {
            let last = self.consumed.entry(channel).or_default();
            *last = (*last).max(sequence);
        }
    }

    fn metrics(&self) -> usize {
        self.counters.len() + self.gauges.len()
    }
}

/// Closed slices that the store has not taken yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pending {
    /// What they changed, all together.
    pub changes: Changes,
    /// How many they are.
    pub slices: u64,
    /// Linear memory in use after the last one, in bytes.
    pub memory_bytes: u64,
}

/// One incarnation on the far side of a link.
#[derive(Debug)]
pub struct Session {
    at: Address,
    channels: usize,
    /// Most bytes of one transaction.
    limit: u64,
    open: Changes,
    pending: Option<Pending>,
    over: bool,
    /// Too much waits for the store: nothing more is taken until its end.
    overfull: bool,
}

impl Session {
    /// Of a daemon with so many channels, whose state holds so many bytes at most.
    pub fn new(at: Address, channels: usize, state_bytes_max: u64) -> Self {
        let limit = state_bytes_max.saturating_add(SLACK_BYTES);
        let channels = channels.min(CHANNELS_MAX);
        Self {
            at,
            channels,
            limit,
            open: Changes::default(),
            pending: None,
            over: false,
            overfull: false,
        }
    }

    fn check(&self, changes: &Changes) -> Result<(), Violation> {
        if changes.bytes > self.limit {
            return Err(Violation::TooMuch { at: self.at, limit: self.limit });
        }
        if changes.metrics() > METRICS_MAX {
            return Err(Violation::TooManyMetrics);
        }
        Ok(())
    }

    /// Closes the open slice; false if too much waits already.
    fn close_slice(&mut self, memory_bytes: u64) -> bool {
        let open = std::mem::take(&mut self.open);
        let waiting = self.pending.as_ref().map_or(0, |pending| pending.changes.bytes);
        if waiting > self.limit {
            self.overfull = true;
            return false;
        }
        let pending = self.pending.get_or_insert_default();
        pending.changes.add(open);
        pending.slices = pending.slices.saturating_add(1);
        pending.memory_bytes = memory_bytes;
        true
    }
}

/// What one event leads to.
#[derive(Debug, PartialEq)]
pub enum Taken {
    /// Nothing yet.
    Gathered,
    /// A slice is closed: its session has something pending.
    Closed(Address),
    /// Too much of this daemon waits for the store: it is to be ended.
    Overfull(Address),
    /// The manager is to hear this.
    News(Address, News),
}

/// The incarnations of one link, and what is open of each.
#[derive(Debug, Default)]
pub struct Sessions {
    by_address: HashMap<Address, Session>,
    greeted: bool,
}

impl Sessions {
    /// The peer has said which versions it speaks.
    ///
    /// # Errors
    /// None of them is spoken here.
    pub fn greet(&mut self, theirs: Hello) -> Result<Agreed, Violation> {
        let agreed = Hello::of(Role::MANAGER).agree(theirs).map_err(Violation::Disagreement)?;
        self.greeted = true;
        Ok(agreed)
    }

    /// Lets an incarnation speak.
    pub fn register(&mut self, session: Session) {
        self.by_address.insert(session.at, session);
    }

    /// The incarnations that may speak.
    pub fn addresses(&self) -> Vec<Address> {
        let living = self.by_address.values().filter(|session| !session.over);
        living.map(|session| session.at).collect()
    }

    /// Takes out what is ready to be committed.
    pub fn take_pending(&mut self, at: Address) -> Option<Pending> {
        let session = self.by_address.get_mut(&at)?;
        let pending = session.pending.take();
        if session.over {
            self.by_address.remove(&at);
        }
        pending
    }

    /// Puts back what the store had no room for, before what was closed since.
    pub fn put_back(&mut self, at: Address, mut pending: Pending) {
        let session = self
            .by_address
            .entry(at)
            .or_insert_with(|| Session { over: true, ..Session::new(at, CHANNELS_MAX, u64::MAX) });
        if let Some(later) = session.pending.take() {
            pending.changes.add(later.changes);
            pending.slices = pending.slices.saturating_add(later.slices);
            pending.memory_bytes = later.memory_bytes;
        }
        session.pending = Some(pending);
    }

    fn session(&mut self, at: Address) -> Result<&mut Session, Violation> {
        if !self.greeted {
            return Err(Violation::NoHello);
        }
        match self.by_address.get_mut(&at) {
            Some(session) if !session.over => Ok(session),
            _ => Err(Violation::Stranger(at)),
        }
    }

    /// Whether the peer may speak for this incarnation.
    ///
    /// # Errors
    /// It may not: its link is to be closed.
    pub fn check(&mut self, at: Address) -> Result<(), Violation> {
        self.session(at).map(|_| ())
    }

    /// Takes one event.
    ///
    /// # Errors
    /// The peer broke the protocol: its link is to be closed.
    pub fn take(&mut self, event: Event<'_>) -> Result<Taken, Violation> {
        let (at, news) = match event {
            Event::StateSet { at, key, value } => {
                return self.gather(at, |open| open.set(key, Some(value)));
            }
            Event::StateDelete { at, key } => return self.gather(at, |open| open.set(key, None)),
            Event::Consumed { at, channel, sequence } => {
                if usize::from(channel) >= self.session(at)?.channels {
                    return Err(Violation::NoChannel(channel));
                }
                return self.gather(at, |open| {
                    let last = open.consumed.entry(channel).or_default();
                    *last = (*last).max(sequence);
                });
            }
            Event::CounterAdd { at, name, delta } => {
                return self.gather(at, |open| {
                    let total = open.counters.entry(name.to_owned()).or_default();
                    *total = total.saturating_add(delta);
                });
            }
            Event::GaugeSet { at, name, value } => {
                return self.gather(at, |open| {
                    open.gauges.insert(name.to_owned(), value);
                });
            }
            Event::SliceEnd { at, slice: _, memory_bytes } => {
                let session = self.session(at)?;
                if session.overfull {
                    session.open = Changes::default();
                    return Ok(Taken::Gathered);
                }
                let closed = session.close_slice(memory_bytes);
                return Ok(if closed { Taken::Closed(at) } else { Taken::Overfull(at) });
            }
            Event::Running { at, pid } => (at, News::Ready { pid: Some(pid) }),
            Event::Log { at, level, text } => (at, News::Log { level, text: text.to_owned() }),
            Event::Pressure { at, held, pressure } => (at, pressure_news(held, pressure)),
            Event::Health { at, token, report, memory_bytes } => {
                let report = match report {
                    HealthReport::Healthy => Report::Healthy,
                    HealthReport::Degraded(text) => Report::Degraded(text.to_owned()),
                    HealthReport::Unhealthy(text) => Report::Unhealthy(text.to_owned()),
                    HealthReport::Busy { slice_ns } => Report::Busy(slice_ns),
                    HealthReport::Paused => Report::Paused,
                };
                (at, News::Health { token, report, memory_bytes })
            }
            Event::Sample { at, token, name, counter: _, value } => {
                (at, News::Figure { token, figure: Some((name.to_owned(), value)) })
            }
            Event::SamplesEnd { at, token } => (at, News::Figure { token, figure: None }),
            Event::Reloaded { at } => (at, News::Reloaded),
            Event::ReloadRefused { at, reason } => {
                (at, News::ReloadRefused { reason: reason.to_owned() })
            }
            Event::Rejected { at, channel, sequence, reason } => {
                if usize::from(channel) >= self.session(at)?.channels {
                    return Err(Violation::NoChannel(channel));
                }
                return self.gather(at, |open| open.reject(channel, sequence, reason));
            }
            Event::Exited { at, outcome, code, reason } => {
                let exit = match outcome {
                    Outcome::Graceful => Exit::Code(0),
                    // 1 is what every error has that names no other; an older peer names none.
                    Outcome::Error => Exit::Code(code.max(1).into()),
                    Outcome::Trap => Exit::Trap,
                    Outcome::SliceBudget => Exit::SliceBudget,
                    Outcome::Killed => Exit::Signal(9),
                    Outcome::Refused => Exit::Refused,
                    Outcome::Unavailable => Exit::Unavailable(Unavailable::Image),
                };
                let session = self.session(at)?;
                session.over = true;
                session.open = Changes::default();
                if session.pending.is_none() {
                    self.by_address.remove(&at);
                }
                return Ok(Taken::News(at, News::Exited { exit, reason: reason.to_owned() }));
            }
        };
        if !planted::is(Plant::ForeignAddress) {
            self.session(at)?;
        }
        Ok(Taken::News(at, news))
    }

    fn gather(
        &mut self,
        at: Address,
        gather: impl FnOnce(&mut Changes),
    ) -> Result<Taken, Violation> {
        let session = self.session(at)?;
        gather(&mut session.open);
        session.check(&session.open)?;
        Ok(Taken::Gathered)
    }
}

fn pressure_news(held: Held, pressure: Pressure) -> News {
    let held = match held {
        Held::Memory => "memory",
        Held::State => "state",
    };
    let (level, text) = match pressure {
        Pressure::Calm => (LogLevel::Info, "there is room again"),
        Pressure::Elevated => (LogLevel::Warn, "80 % of the limit are in use"),
        Pressure::Critical => (LogLevel::Warn, "at the limit: more may be refused"),
    };
    News::Log { level, text: format!("{held}: {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Address = Address::of(1, 3);

    fn greeted() -> Sessions {
        let mut sessions = Sessions::default();
        sessions.register(Session::new(OWN, 1, 100));
        sessions.greet(Hello::of(Role::SDK)).unwrap();
        sessions
    }

    /// Every event that names somebody.
    fn events(at: Address) -> [Event<'static>; 16] {
        [
            Event::Running { at, pid: 1 },
            Event::Log { at, level: LogLevel::Info, text: "x" },
            Event::StateSet { at, key: "k", value: b"v" },
            Event::StateDelete { at, key: "k" },
            Event::Consumed { at, channel: 0, sequence: 1 },
            Event::CounterAdd { at, name: "c", delta: 1 },
            Event::GaugeSet { at, name: "g", value: 1.0 },
            Event::SliceEnd { at, slice: 1, memory_bytes: 0 },
            Event::Health { at, token: 1, report: HealthReport::Healthy, memory_bytes: 0 },
            Event::Sample { at, token: 1, name: "m", counter: true, value: 1.0 },
            Event::SamplesEnd { at, token: 1 },
            Event::Pressure { at, held: Held::State, pressure: Pressure::Calm },
            Event::Reloaded { at },
            Event::ReloadRefused { at, reason: "r" },
            Event::Rejected { at, channel: 0, sequence: 1, reason: "r" },
            Event::Exited { at, outcome: Outcome::Error, code: 1, reason: "r" },
        ]
    }

    #[test]
    fn nobody_speaks_for_another_before_its_start_or_after_its_end() {
        let others = [Address::of(1, 2), Address::of(1, 4), Address::of(0, 3)];
        for event in events(OWN) {
            let taken = Sessions::default().take(event);
            assert_eq!(taken, Err(Violation::NoHello), "{event:?}");
            assert!(greeted().take(event).is_ok(), "{event:?}");
            let mut ended = greeted();
            let end = Event::Exited { at: OWN, outcome: Outcome::Graceful, code: 0, reason: "" };
            assert!(ended.take(end).is_ok());
            assert_eq!(ended.take(event), Err(Violation::Stranger(OWN)), "{event:?}");
        }
        for at in others {
            for event in events(at) {
                assert_eq!(greeted().take(event), Err(Violation::Stranger(at)), "{event:?}");
            }
        }
        let past = Hello { min: 0, max: 2, ..Hello::of(Role::SDK) };
        let mut sessions = Sessions::default();
        assert!(matches!(sessions.greet(past), Err(Violation::Disagreement(_))));
        assert_eq!(sessions.take(events(OWN)[0]), Err(Violation::NoHello));
    }

    #[test]
    fn closed_slices_become_one_and_an_open_one_leaves_nothing() {
        let at = OWN;
        let mut sessions = greeted();
        let mut take = |event| sessions.take(event).unwrap();
        take(Event::StateSet { at, key: "a", value: b"1" });
        take(Event::CounterAdd { at, name: "c", delta: 2 });
        take(Event::Consumed { at, channel: 0, sequence: 4 });
        assert_eq!(take(Event::SliceEnd { at, slice: 1, memory_bytes: 7 }), Taken::Closed(at));
        take(Event::StateDelete { at, key: "a" });
        take(Event::StateSet { at, key: "b", value: b"2" });
        take(Event::CounterAdd { at, name: "c", delta: 3 });
        take(Event::SliceEnd { at, slice: 2, memory_bytes: 8 });
        take(Event::StateSet { at, key: "lost", value: b"x" });
        take(Event::Exited { at, outcome: Outcome::Trap, code: 0, reason: "" });
        let pending = sessions.take_pending(at).unwrap();
        assert_eq!((pending.slices, pending.memory_bytes), (2, 8));
        let writes: Vec<_> = pending.changes.writes.clone().into_iter().collect();
        assert_eq!(writes, [("a".to_owned(), None), ("b".to_owned(), Some(b"2".to_vec()))]);
        assert_eq!(pending.changes.counters["c"], 5);
        assert_eq!(pending.changes.consumed[&0], 4);
        // The store had no room: it waits on, though its daemon is gone.
        sessions.put_back(at, pending.clone());
        assert_eq!(sessions.take_pending(at), Some(pending));
        assert_eq!(sessions.take_pending(at), None);
        assert_eq!(sessions.addresses(), []);
    }

    #[test]
    fn what_waits_for_the_store_is_bounded_by_what_the_daemon_may_keep() {
        let at = OWN;
        let mut sessions = greeted();
        let close = Event::SliceEnd { at, slice: 0, memory_bytes: 0 };
        // The same keys over and over take no more room.
        for _ in 0..1_000 {
            for key in ["a", "b"] {
                sessions.take(Event::StateSet { at, key, value: &[1; 200] }).unwrap();
            }
            assert_eq!(sessions.take(close), Ok(Taken::Closed(at)));
        }
        // Others do, and there is an end to it: what was closed is kept, and nothing more is taken.
        let mut slices = 0;
        let end = loop {
            let key = format!("{slices}");
            sessions.take(Event::StateSet { at, key: &key, value: &[1; 2_000] }).unwrap();
            match sessions.take(close).unwrap() {
                Taken::Closed(_) => slices += 1,
                end => break end,
            }
        };
        assert_eq!(end, Taken::Overfull(at));
        assert!((500..600).contains(&slices), "{slices}");
        assert_eq!(sessions.take(close), Ok(Taken::Gathered));
        let kept = sessions.take_pending(at).unwrap();
        assert_eq!(kept.changes.writes.len(), slices + 2);
        let limit = 100 + SLACK_BYTES;
        let mut broken = None;
        for number in 0..100_000 {
            let key = format!("{number}");
            let event = Event::StateSet { at, key: &key, value: &[1; 200] };
            if let Err(violation) = sessions.take(event) {
                broken = Some((number, violation));
                break;
            }
        }
        let (number, violation) = broken.expect("it ends");
        assert_eq!(violation, Violation::TooMuch { at, limit });
        assert!(number < 5_000, "{number}");
        let metric = |number: usize| format!("m{number}");
        let mut sessions = greeted();
        let mut publish = |number| {
            let name = metric(number);
            sessions.take(Event::GaugeSet { at, name: &name, value: 1.0 })
        };
        assert!((0..METRICS_MAX).all(|number| publish(number).is_ok()));
        assert_eq!(publish(METRICS_MAX), Err(Violation::TooManyMetrics));
    }
}
