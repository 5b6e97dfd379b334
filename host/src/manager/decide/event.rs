//! What goes into the manager's machine and what comes out.

use std::time::Duration;

use duende_core::{
    epitaph::Epitaph,
    wire::link::{Address, LogLevel},
};

use crate::{
    backend::{Ask, Heard, Place},
    control::protocol::{ErrorCode, EventKind},
};

/// Names a question until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuestionId(pub u64);

/// What a datagram of a program says, in the words of `sd_notify`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// `READY=1`.
    pub ready: bool,
    /// `RELOADING=1`.
    pub reloading: bool,
    /// `STOPPING=1`.
    pub stopping: bool,
    /// `WATCHDOG=1`.
    pub alive: bool,
    /// `EXTEND_TIMEOUT_USEC=…`.
    pub extend: Option<Duration>,
    /// `MAINPID=…`.
    pub main_pid: Option<u32>,
    /// `STATUS=…`.
    pub status: Option<String>,
    /// `FDSTORE=1`, which is not kept.
    pub fdstore: bool,
    /// What of it counts for nothing, in words.
    pub ignored: Option<String>,
}

/// What an operator asks for, with daemons by their slots; an empty list is all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Start these and what they depend on; answered when all are settled.
    Start(Vec<u32>),
    /// Stop these and what depends on them; answered when all have stopped.
    Stop(Vec<u32>),
    /// Stop and start these; answered when all are settled.
    Restart(Vec<u32>),
    /// Hold these still.
    Pause(Vec<u32>),
    /// Let these go on.
    Resume(Vec<u32>),
    /// Make these read their configuration; answered when all have.
    Reload(Vec<u32>),
    /// Answered when every daemon that is to run is settled.
    Settled,
    /// Tell one daemon's own figures.
    Figures(u32),
    /// Stop everything, then end. Has no answer of its own: the end is one.
    Down,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The manager begins: everything that is configured is to start.
    Begin,
    /// A backend, or a link, has news. Before an end, the datagrams that had arrived were handed over.
    Heard(Heard),
    /// A datagram came.
    Noticed {
        /// Who sent it, by the kernel's word.
        pid: u32,
        /// The daemon of which that process is a part, if that could be seen.
        part_of: Option<Address>,
        /// What it says.
        notice: Notice,
    },
    /// An operator asks.
    Asked {
        /// Names the answer.
        question: QuestionId,
        /// What for.
        verb: Verb,
    },
    /// Whoever asked does not wait any more.
    Forgotten(QuestionId),
    /// A signal asks for the end: the first in order, the second at once.
    Interrupted {
        /// Its name.
        signal: &'static str,
    },
    /// The store can't be written, in words; or can again. Until then who needs it waits.
    Store(Option<String>),
    /// The file of the store is not the one at its path any more, in words; or is again. Everybody goes on.
    Astray(Option<String>),
    /// [`Decider::next_deadline`](super::Decider::next_deadline) has come, and whatever had arrived
    /// before was handed over.
    Tick,
}

/// What became of one daemon that a question named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which.
    pub slot: u32,
    /// Why it is not as was asked for; none if it is.
    pub refused: Option<ErrorCode>,
    /// In words; empty if there is nothing to say.
    pub detail: String,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// What became of each.
    Outcomes(Vec<Outcome>),
    /// One daemon's own figures, as far as they came in time.
    Figures {
        /// Which.
        slot: u32,
        /// Name and value.
        figures: Vec<(String, f64)>,
    },
    /// It was not done.
    Refused {
        /// For programs.
        code: ErrorCode,
        /// For people, with the way out.
        message: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make a daemon's image, and open its state and sources; answer with [`News::Prepared`](crate::backend::News).
    Prepare(Address),
    /// Start it in its place.
    Start(Address),
    /// Ask its backend.
    Ask(Address, Ask),
    /// Ask a whole place whether it lives.
    AskPlace(Place),
    /// End a place that hangs, and everything in it; answer with
    /// [`PlaceNews::Lost`](crate::backend::PlaceNews).
    EndPlace(Place),
    /// An incarnation is over: close its link, stop its feeds, forget its session. What it committed
    /// is kept.
    LetGo(Address),
    /// Close its link, which broke a rule or outlived its process.
    CloseLink(Address),
    /// Answer a question.
    Answer(QuestionId, Answer),
    /// Something happened that people can follow.
    Record {
        /// To which daemon; none: to the fleet.
        slot: Option<u32>,
        /// In which incarnation.
        incarnation: u32,
        /// What.
        kind: EventKind,
        /// More, for people.
        detail: String,
        /// Why it crashed, if it did.
        crash: Option<String>,
    },
    /// A line for the fleet's own log.
    Say(LogLevel, String),
    /// A line for a daemon's log, from itself or about it.
    Log {
        /// Which.
        at: Address,
        /// How urgent.
        level: LogLevel,
        /// Whether the daemon said it; else it is the manager's.
        own: bool,
        /// The line.
        text: String,
    },
    /// Which process is to be looked at for a daemon's figures.
    Watch(Address, Option<u32>),
    /// The supervisor halted: keep what led to it.
    Dump(Epitaph),
    /// The fleet is over: leave.
    End,
}
