//! What a world is told: one step at a time, each a record of a trace.
//!
//! An input is small numbers only. A daemon is named by its slot, a capability, permit or subscriber
//! by the pocket of the world that it was put into. What a number does not name is answered with
//! [`Nothing`](crate::Seen::Nothing), so every sequence of inputs has a meaning and a part of one, left
//! out, leaves a sequence that has one too: that is what makes a failing run easy to shorten.

use core::time::Duration;

use duende_core::policy::overflow::Overflow;
use duende_core::restart::{Exit, Unavailable};
use serde::{Deserialize, Serialize};

/// Slots for daemons.
pub const DAEMONS: usize = 8;
/// Pockets for capabilities.
pub const HANDLES: usize = 16;
/// Pockets for a breaker's permits.
pub const PERMITS: usize = 4;
/// Pockets for subscribers of the bus, and as many for receivers of the fan-out.
pub const LISTENERS: usize = 4;
/// Pockets for groups of the quota tree.
pub const GROUPS: usize = 6;
/// The slot that stands for a daemon that was removed: its identifier is stale.
pub const REMOVED: u8 = u8::MAX;
/// The pocket that stands for the capability that a daemon got when it became Running.
pub const OWN: u8 = u8::MAX;
/// Most bytes of a frame or a header in one input.
pub const CHUNK_BYTES_MAX: usize = 64;
/// Longest payload of a message, in bytes; one beyond what the schema admits.
pub const PAYLOAD_BYTES_MAX: u8 = 33;

/// Bytes from outside.
pub type Chunk = heapless::Vec<u8, CHUNK_BYTES_MAX>;

/// One step of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// By how much the clock differs from the step before, in nanoseconds. Below zero: it steps back.
    pub elapsed_ns: i64,
    /// For the one machine that decides by chance; zero where none does.
    pub entropy: u64,
    /// What happens.
    pub input: Input,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Everything is thrown away and begun anew, the clock too: it stands at `elapsed_ns`.
    Begin(Setup),
    /// Whatever is due in any machine is done.
    Tick,
    /// A daemon is added; bit n of `depends_on` is the daemon in slot n.
    Add {
        /// Which [template](crate::template) it is made by.
        template: u8,
        /// What it depends on.
        depends_on: u8,
        /// The [group](crate::GROUPS_OF_DAEMONS) that it belongs to; none from there on.
        group: u8,
    },
    /// A daemon is removed.
    Remove {
        /// Which.
        slot: u8,
    },
    /// An operator starts a daemon.
    Start {
        /// Which.
        slot: u8,
    },
    /// An operator stops a daemon.
    Stop {
        /// Which.
        slot: u8,
    },
    /// An operator restarts a daemon.
    Restart {
        /// Which.
        slot: u8,
    },
    /// An operator starts a daemon and what it depends on.
    StartChain {
        /// Which.
        slot: u8,
    },
    /// An operator stops a daemon and what depends on it.
    StopChain {
        /// Which.
        slot: u8,
    },
    /// An operator restarts a daemon, and starts what it depends on.
    RestartChain {
        /// Which.
        slot: u8,
    },
    /// An operator forgets what a daemon did.
    Forgive {
        /// Which.
        slot: u8,
    },
    /// An operator holds a daemon still.
    Pause {
        /// Which.
        slot: u8,
    },
    /// An operator lets a daemon go on.
    Resume {
        /// Which.
        slot: u8,
    },
    /// An operator has a daemon read its configuration anew.
    Reload {
        /// Which.
        slot: u8,
    },
    /// An operator stops all daemons.
    StopAll,
    /// An operator has all processes killed.
    KillAll,
    /// A process has read its configuration anew.
    Reloaded(Process),
    /// A process can't be told to read its configuration anew.
    ReloadRefused(Process),
    /// A process says that what it does takes longer.
    Extend {
        /// Which.
        of: Process,
        /// By how much from now, in microseconds.
        by_us: u64,
    },
    /// A process gives a sign of life.
    Alive(Process),
    /// A process exists.
    Spawned(Process),
    /// A process is ready.
    Ready(Process),
    /// A process ended.
    Exited {
        /// Which.
        of: Process,
        /// How.
        end: End,
    },
    /// A process answered a health check.
    Probed {
        /// Which.
        of: Process,
        /// From the question.
        token: u64,
        /// What it said.
        healthy: bool,
    },
    /// A daemon's task has something to do.
    Wake {
        /// Which.
        slot: u8,
    },
    /// The next task runs, and then waits or goes to the end of its turn. The clock goes on meanwhile.
    Run {
        /// For how long, in microseconds; at most as long as the scheduler lets it.
        ran_us: u16,
        /// Whether it then waits.
        waits: bool,
    },
    /// A daemon sends a message.
    Send {
        /// Which daemon.
        slot: u8,
        /// With which capability; [`OWN`] is its own.
        handle: u8,
        /// The message's tag; the channel takes 1.
        tag: u8,
        /// Length of the payload in bytes.
        length: u8,
    },
    /// A daemon reserves a place for its next message.
    Reserve {
        /// Which.
        slot: u8,
    },
    /// A daemon gives the place back.
    Cancel {
        /// Which.
        slot: u8,
    },
    /// The channel's receiver takes a message.
    Receive,
    /// The channel's receiver is gone, and another one comes.
    Abandon,
    /// A receiver joins the fan-out.
    Join {
        /// The pocket that it is put into.
        into: u8,
        /// How urgent it is.
        level: u8,
    },
    /// A receiver leaves the fan-out.
    Leave {
        /// Which pocket.
        from: u8,
    },
    /// A message is sent to all receivers of the fan-out.
    Broadcast {
        /// Length of the payload in bytes.
        length: u8,
    },
    /// A receiver of the fan-out takes what it has next.
    Take {
        /// Which pocket.
        from: u8,
    },
    /// Somebody subscribes to the bus.
    Subscribe {
        /// The pocket that it is put into.
        into: u8,
    },
    /// Somebody leaves the bus.
    Unsubscribe {
        /// Which pocket.
        from: u8,
    },
    /// A subscriber hears what comes next.
    Listen {
        /// Which pocket.
        from: u8,
    },
    /// A daemon is granted a capability.
    Grant {
        /// Which daemon.
        slot: u8,
        /// The pocket that it is put into.
        into: u8,
        /// The rights' bits; those that are none are left out.
        rights: u8,
        /// The label.
        label: u8,
        /// For how long, in microseconds; zero for ever.
        valid_us: u32,
        /// Whether only below the daemon's parent.
        scoped: bool,
    },
    /// A daemon hands a capability on.
    Delegate {
        /// Who gives.
        from: u8,
        /// Which pocket it is in.
        handle: u8,
        /// Who gets.
        to: u8,
        /// The pocket that the new one is put into.
        into: u8,
        /// The rights' bits.
        rights: u8,
        /// Whether only below the recipient.
        scoped: bool,
    },
    /// A daemon uses a capability.
    Use {
        /// Which daemon.
        slot: u8,
        /// Which pocket.
        handle: u8,
        /// The rights' bits that it needs.
        rights: u8,
    },
    /// The owner of the table revokes a capability.
    Revoke {
        /// Which pocket.
        handle: u8,
    },
    /// A daemon revokes a capability.
    RevokeBy {
        /// Which daemon.
        slot: u8,
        /// Which pocket.
        handle: u8,
    },
    /// The owner of the table revokes a label.
    RevokeLabel {
        /// Which.
        label: u8,
    },
    /// Slots of what was revoked are freed.
    Reclaim {
        /// At most so many.
        budget: u8,
    },
    /// The audit log is sealed, its head kept elsewhere, and the chain checked up to there.
    Audit,
    /// Somebody calls through the breaker.
    Call {
        /// The pocket that the permit is put into.
        into: u8,
    },
    /// The call came back.
    Answer {
        /// Which pocket.
        from: u8,
        /// Whether it did what was asked.
        success: bool,
    },
    /// An operator closes the breaker.
    CloseBreaker,
    /// Somebody asks the bucket.
    Admit {
        /// For so many tokens.
        cost: u8,
    },
    /// The bucket's limit is changed.
    SetRate {
        /// Tokens per millisecond; zero is refused.
        tokens: u8,
        /// The burst; zero is refused.
        burst: u8,
    },
    /// A message is offered to the gate.
    Offer {
        /// Of so many bytes.
        bytes: u16,
    },
    /// A message was taken from the gate's queue.
    Accept,
    /// A group is added to the quota tree.
    AddGroup {
        /// The pocket that it is put into.
        into: u8,
        /// The pocket of the group above; none if it is empty.
        parent: u8,
        /// Its limit on each resource; zero is none.
        limit: u16,
    },
    /// A group is removed.
    RemoveGroup {
        /// Which pocket.
        from: u8,
    },
    /// A group is charged.
    Charge {
        /// Which pocket.
        group: u8,
        /// Of which resource.
        resource: u8,
        /// How much.
        amount: u16,
    },
    /// A group gives back.
    Refund {
        /// Which pocket.
        group: u8,
        /// Of which resource.
        resource: u8,
        /// How much.
        amount: u16,
    },
    /// A group's limits are changed.
    SetQuota {
        /// Which pocket.
        group: u8,
        /// The limit on each resource; zero is none.
        limit: u16,
    },
    /// A figure of a running daemon was read.
    Observe {
        /// Memory, or else processor time.
        memory: bool,
        /// In tenths of its limit.
        tenths: u8,
    },
    /// A duration was measured.
    Measure {
        /// In nanoseconds.
        value_ns: u32,
    },
    /// A peer connects: a new stream of frames.
    Connect,
    /// Bytes of the stream.
    Frame(Chunk),
    /// A `traceparent`.
    Parent(Chunk),
    /// A `tracestate`.
    Members(Chunk),
    /// The recorder is dumped.
    Dump,
}

/// A process, by the slot of its daemon and its incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The daemon's slot.
    pub slot: u8,
    /// Which of its starts.
    pub incarnation: u32,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// By itself, with a code.
    Code(i8),
    /// By a signal.
    Signal(u8),
    /// With an error.
    Error,
    /// By a trap.
    Trap,
    /// Over its slice's budget.
    SliceBudget,
    /// It could not be made.
    Refused,
    /// What it ran in died.
    Lost,
    /// Something outside keeps it from being made.
    Unavailable,
}

impl From<End> for Exit {
    fn from(end: End) -> Self {
        match end {
            End::Code(code) => Self::Code(i32::from(code)),
            End::Signal(signal) => Self::Signal(i32::from(signal)),
            End::Error => Self::Error,
            End::Trap => Self::Trap,
            End::SliceBudget => Self::SliceBudget,
            End::Refused => Self::Refused,
            End::Lost => Self::Lost,
            End::Unavailable => Self::Unavailable(Unavailable::Memory),
        }
    }
}

/// What differs between worlds from their beginning on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The channel's overflow policy.
    pub channel: Flow,
    /// The fan-out's.
    pub fanout: Flow,
    /// The gate's.
    pub gate: Flow,
}

/// An overflow policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flow {
    /// The sender waits.
    #[default]
    Park,
    /// The oldest message is dropped.
    DropOldest,
    /// The message is set aside.
    Spill,
    /// The message is refused.
    Reject,
}

impl From<Flow> for Overflow {
    fn from(flow: Flow) -> Self {
        match flow {
            Flow::Park => Self::Park { timeout: PARK_TIMEOUT },
            Flow::DropOldest => Self::DropOldest,
            Flow::Spill => Self::Spill { bytes_max: SPILL_BYTES_MAX },
            Flow::Reject => Self::RejectNew,
        }
    }
}

/// How long a sender is parked.
const PARK_TIMEOUT: Duration = Duration::from_micros(500);
/// Most bytes set aside.
const SPILL_BYTES_MAX: u64 = 96;
