//! The one seam between the manager and the places where daemons run.
//!
//! A backend is a place where incarnations run: native programs (through `keep`) and components (in a
//! worker) today. What crosses the seam is data, in this file: what the manager asks ([`Ask`]), what it
//! hears ([`News`]), and what a backend can do at all ([`Abilities`]).
//!
//! A backend owns its processes and its transports. It has an end of its own, within
//! [`LEAVE_TIMEOUT`] whatever hangs. It refuses to restart anything, to judge whether something is
//! ready, to know groups and dependencies, and to open the store: those are the core's and the
//! manager's. It never names a daemon by a process id, which the system gives to others, but by its
//! [`Address`]; and for each incarnation that it was told to start it reports exactly one end,
//! [`News::StartFailed`] or [`News::Exited`], unless the whole place is lost.
//! Between the end of a place and the moment at which its loss is handled nothing starts there: what was
//! to start is lost with it. Otherwise what started anew would be taken for what was lost, and run
//! beside its successor; the simulator of fleets found that.
//!
//! A third isolation is one folder here, one row of [`PLACES`] and of [`Abilities::of`], one table of the
//! configuration, and one row of the suite `tests/tests/conformance.rs`, which has the same done to real
//! daemons of every place. The model of places in `tests/fleets` plays the rules above.

#[cfg(feature = "manager")]
mod native;
#[cfg(feature = "manager")]
mod printed;
#[cfg(feature = "manager")]
mod set;
#[cfg(feature = "manager")]
mod worker;
#[cfg(feature = "manager")]
mod wos;

#[cfg(feature = "manager")]
pub(crate) use native::{KEEP_LOCK, keep_options};
#[cfg(feature = "manager")]
pub(crate) use set::{Backends, place_of};

use std::time::Duration;

use duende_core::{
    probe::ProbeKind,
    restart::{Exit, StartError},
    supervise::TerminateCause,
    wire::link::{Address, LogLevel},
};

/// How long the processes of a backend may take to end once nobody needs them; then they are killed.
pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a place may take to say that it lives ([`PlaceNews::Lives`]) once it was asked; then it hangs, and is killed with all that
/// runs in it. `keep` answers between two reads.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A place where daemons run. The order is that of [`PLACES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Programs of this machine, held by `duende keep`.
    Native,
    /// Components, in a worker that hosts WOS.
    Wos,
}

/// All places.
pub const PLACES: [Place; 2] = [Place::Native, Place::Wos];

impl Place {
    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Wos => "wos",
        }
    }

    /// What of it people know: the process that is the place.
    #[must_use]
    pub const fn process(self) -> &'static str {
        match self {
            Self::Native => "keep",
            Self::Wos => "wos-worker",
        }
    }
}

/// What a backend can do with one daemon, known before anything is started. What it cannot do is
/// refused by `duende check`, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// The daemon is a process of this machine: it has a process id, a group, signals.
    pub has_process: bool,
    /// The daemon speaks the contract over a link: it has state, channels, configuration, figures.
    pub speaks: bool,
    /// The link is the daemon's own, and ends with it; else it is shared by all of the place.
    pub own_link: bool,
    /// The probes that somebody can answer: over the link.
    pub probes: bool,
    /// It can say by datagram that it is ready, lives, reloads.
    pub notifies: bool,
    /// It can be held still.
    pub pauses: bool,
    /// Its slices have a budget and a priority.
    pub slices: bool,
}

impl Abilities {
    /// Of a daemon in this place; `linked` says whether a native program is built with the SDK.
    #[must_use]
    pub const fn of(place: Place, linked: bool) -> Self {
        match place {
            Place::Native => Self {
                has_process: true,
                speaks: linked,
                own_link: linked,
                probes: linked,
                notifies: true,
                pauses: true,
                slices: false,
            },
            Place::Wos => Self {
                has_process: false,
                speaks: true,
                own_link: false,
                probes: true,
                notifies: false,
                pauses: true,
                slices: true,
            },
        }
    }
}

/// What a backend is asked for one incarnation. It answers by [`News`], and never before it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Ask it to end. Answered by [`News::Exited`].
    Terminate {
        /// Why, which says how: what hangs is asked in a way that leaves a trace.
        cause: TerminateCause,
        /// How long it has.
        grace: Duration,
    },
    /// End it now, and all that belongs to it. Answered by [`News::Exited`].
    Kill,
    /// Hold it still.
    Hold,
    /// Let it go on.
    Release,
    /// Make it read its configuration anew. Answered by [`News::Reloaded`] or
    /// [`News::ReloadRefused`].
    Reload,
    /// Ask for its health. Answered by [`News::Health`].
    Probe {
        /// What for: who answers may differ.
        kind: ProbeKind,
        /// Given back in the answer.
        token: u64,
    },
    /// Ask for its own figures. Answered by [`News::Figure`]s.
    Sample {
        /// Given back in the answers.
        token: u64,
    },
    /// Another process of the daemon is its main one from now on.
    MainProcess {
        /// Which.
        pid: u32,
    },
    /// Count its processes. Answered by [`News::Processes`].
    Count,
}

/// Why an incarnation could not even be begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What it counts as: mostly something is missing that may come.
    pub exit: Exit,
    /// In words, with the way out.
    pub text: String,
}

/// What a health check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Working.
    Healthy,
    /// Working, with less than promised.
    Degraded(String),
    /// Not working.
    Unhealthy(String),
    /// In a slice for this long, in nanoseconds.
    Busy(u64),
    /// Held still.
    Paused,
}

/// What the words of a source are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceWord {
    /// Of interest.
    Note,
    /// It gives nothing for now, or not as it should.
    Trouble,
    /// Lines were lost.
    Gap,
}

/// What is heard of one incarnation, whoever says it.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Its image is being made; said once a second until [`Prepared`](Self::Prepared). Its start begins with
    /// that.
    Compiles {
        /// How far it is, in words.
        words: String,
    },
    /// Its image is there, and its state and its sources are open; or they can't be.
    Prepared(Result<(), Obstacle>),
    /// It exists.
    Started {
        /// Its main process, if it has one.
        pid: Option<u32>,
    },
    /// It could not be made; nothing follows of it.
    StartFailed {
        /// What the system said: the core knows which of these are final.
        error: StartError,
        /// In words, with the way out.
        reason: String,
    },
    /// It said over its link that it is ready.
    Ready {
        /// Its id within a place whose daemons have no process.
        pid: Option<u32>,
    },
    /// Its main process is another one now.
    MainProcess {
        /// Which.
        pid: u32,
    },
    /// It has read its configuration, or was told to in a way that has no answer.
    Reloaded,
    /// It can't be told to read its configuration.
    ReloadRefused {
        /// Why, with the way out.
        reason: String,
    },
    /// It gives up a message, and has consumed it.
    Rejected {
        /// Which, in words.
        message: String,
        /// Why, in its words.
        reason: String,
    },
    /// What it said of its own end; the end itself follows.
    Said {
        /// In its words.
        reason: String,
    },
    /// Its main process has ended; what that left is being ended, and [`News::Exited`] follows.
    MainEnded {
        /// How, in words.
        how: String,
    },
    /// It is over, with everything that belonged to it.
    Exited {
        /// How.
        exit: Exit,
        /// In words.
        reason: String,
    },
    /// The answer to [`Ask::Probe`].
    Health {
        /// From the question.
        token: u64,
        /// What was found.
        report: Report,
        /// Linear memory in use, in bytes; 0 of a process.
        memory_bytes: u64,
    },
    /// One answer to [`Ask::Sample`]; none: there are no more.
    Figure {
        /// From the question.
        token: u64,
        /// Name and value.
        figure: Option<(String, f64)>,
    },
    /// Of a component: the processor time that this incarnation has used.
    Used {
        /// So far.
        processor: Duration,
        /// Slices that changed nothing and asked for the next one at once, so far.
        empty_slices: u64,
    },
    /// Slices were handed to the store.
    Committed {
        /// How many.
        slices: u64,
        /// Messages that it consumed.
        messages: u64,
        /// What it added to counters.
        counters: Vec<(String, u64)>,
        /// New levels of gauges.
        gauges: Vec<(String, f64)>,
        /// Linear memory in use, in bytes.
        memory_bytes: u64,
    },
    /// A line for its log.
    Log {
        /// How urgent.
        level: LogLevel,
        /// The line.
        text: String,
    },
    /// The source of a channel has something to say.
    Source {
        /// What its words are.
        word: SourceWord,
        /// What.
        text: String,
    },
    /// The source of a channel gives nothing any more, and all it gave was consumed.
    SourceDrained {
        /// Why, if that is not its end.
        failure: Option<String>,
    },
    /// Its own link is closed, or was closed because the peer broke the protocol.
    LinkClosed {
        /// Why, if it broke the protocol.
        reason: Option<String>,
    },
    /// Too much of what it committed waits for the store.
    Overfull,
    /// How many processes belong to it.
    Processes {
        /// The main one included.
        count: u32,
    },
    /// Lines of its output could not be written to its log.
    OutputLost {
        /// Since this was said last.
        lines: u64,
    },
}

/// What is heard of a whole place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceNews {
    /// It was asked whether it lives, and does.
    Lives,
    /// It is gone, and with it everything that ran in it.
    Lost {
        /// How, in words.
        how: String,
        /// Whose code it ran when it ended, if it runs any.
        open: Option<Address>,
    },
    /// It could not be made. Whatever was to start there gets [`News::StartFailed`].
    Refused {
        /// Why, in words.
        how: String,
    },
}

/// News with whom it is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// Of one incarnation.
    Of(Address, News),
    /// Of a place.
    Place(Place, PlaceNews),
}

/// Hands a daemon its new configuration over its link, and makes it read it.
#[cfg(feature = "manager")]
fn send_config(
    at: Address,
    config: &crate::config::DaemonConfig,
    outbox: &crate::manager::link::peer::Outbox,
) {
    use duende_core::wire::link::Command;
    for (key, value) in &config.config {
        let (value, kind) = (&value.text, value.kind);
        // As long as it was when the configuration was checked.
        let _ = outbox.send(&Command::ConfigEntry { at, key, value, kind });
    }
    let _ = outbox.send(&Command::Reload { at });
}
