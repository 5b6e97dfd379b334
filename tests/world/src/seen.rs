//! What a world answers: the effects of its machines and their answers, one at a time.

use duende_core::bus::{self, SubscriberId, UnknownSubscriber};
use duende_core::caps::{
    AppendError, DelegateError, GrantError, Handle, Head, LabelError, Object, Refusal, Tampered,
};
use duende_core::ipc::{
    Message, OpenError, Received, ReceiverId, ReserveError, SeatsFull, SendError, SenderId, Sent,
    Taken, TimedOut, UnknownReceiver, UnknownSender,
};
use duende_core::policy::andon::Alert;
use duende_core::policy::breaker::{BreakerRefusal, BreakerState};
use duende_core::policy::bucket::RateLimitError;
use duende_core::policy::gate::{Busy, GateEffect, Offered, QueueEmpty};
use duende_core::policy::quota::{self, ChargeError, GroupId, PressureChange, RefundError};
use duende_core::sched::{self, Level, Pick};
use duende_core::supervise::{AddError, DaemonId, Effect, InputError, RemoveError};
use duende_core::time::Instant;
use duende_core::trace::{TraceContext, TraceparentError, TracestateError};
use duende_core::wire::FrameError;

use crate::{News, Payload};

/// One thing that a world did or answered.
#[derive(Clone, Copy, Debug, Hash)]
pub enum Seen<'a> {
    /// The input named nothing that is there.
    Nothing,
    /// Everything began anew.
    Begun,
    /// A daemon was added, or not.
    Added(Result<DaemonId, AddError>),
    /// A daemon was removed, or not.
    Removed(Result<(), RemoveError>),
    /// The supervisor did something.
    Effect(&'a Effect),
    /// The supervisor took an input, or refused it.
    Supervised(Result<(), InputError>),
    /// When the supervisor wants the next tick.
    NextTick(Option<Instant>),
    /// A daemon that came up is a task, or can't be one.
    TaskAdded {
        /// Which.
        task: u32,
        /// Whether.
        added: Result<(), sched::AddError>,
    },
    /// A task is ready to run, if there is one.
    TaskReady(u32),
    /// A task is held still.
    TaskHeld(u32),
    /// A task is none any more, because its process ended.
    TaskRemoved {
        /// Which.
        task: u32,
        /// Whether it was one.
        removed: bool,
    },
    /// A task inherits a level, or none.
    TaskInherits {
        /// Which.
        task: u32,
        /// Which level.
        level: Option<Level>,
    },
    /// A task was picked, or none was ready.
    Picked(Option<Pick>),
    /// The task that was picked has run.
    Ran {
        /// Which.
        task: u32,
        /// For so long, in nanoseconds.
        used_ns: u64,
        /// What it does then.
        outcome: sched::Outcome,
    },
    /// A daemon that became Running got a seat in the channel.
    Opened {
        /// Which.
        slot: u8,
        /// The seat.
        seat: Result<SenderId, OpenError>,
    },
    /// The daemon's seat was given up.
    Closed {
        /// Which.
        slot: u8,
        /// Whether there was one.
        seat: Result<(), UnknownSender>,
    },
    /// A message was not sent, because its sender may not.
    Denied(Refusal),
    /// A message was sent, or not.
    Sent {
        /// Who sent it.
        slot: u8,
        /// Which message.
        message: Payload,
        /// What became of it.
        sent: &'a Result<Sent<Payload>, SendError>,
    },
    /// A place was reserved or given back, or not.
    Reserved(Result<(), ReserveError>),
    /// A message was received, if there was one.
    Received(&'a Option<Received<Payload>>),
    /// So many messages were abandoned.
    Abandoned(u64),
    /// A sender waited in vain.
    TimedOut(&'a TimedOut<Payload>),
    /// A receiver joined the fan-out, or not.
    Joined(Result<ReceiverId, SeatsFull>),
    /// A receiver left the fan-out, or not; and whether the sender goes on.
    Left(Result<bool, UnknownReceiver>),
    /// A message was sent to all, or not.
    Broadcast {
        /// Which message.
        message: Payload,
        /// What became of it.
        sent: &'a Result<Sent<Payload>, SendError>,
    },
    /// What a receiver of the fan-out took.
    Taken {
        /// From which pocket.
        from: u8,
        /// What.
        taken: &'a Result<Option<Taken<Payload>>, UnknownReceiver>,
    },
    /// The fan-out's sender waited in vain.
    BroadcastTimedOut(Message<Payload>),
    /// Something was published to so many.
    Published {
        /// What.
        news: News,
        /// To how many.
        receivers: usize,
    },
    /// Somebody subscribed, or not.
    Subscribed(Result<SubscriberId, bus::Full>),
    /// Somebody left the bus, or not.
    Unsubscribed(Result<(), UnknownSubscriber>),
    /// What a subscriber heard.
    Heard {
        /// From which pocket.
        from: u8,
        /// What.
        heard: Result<Option<bus::Received<'a, News>>, UnknownSubscriber>,
    },
    /// A capability was granted, or not.
    Granted(Result<Handle, GrantError>),
    /// A capability was handed on, or not.
    Delegated(Result<Handle, DelegateError>),
    /// A capability was used, or not.
    Used(Result<Object, Refusal>),
    /// A capability was revoked, or not.
    Revoked(Handle, Result<(), Refusal>),
    /// A label was revoked, or not.
    LabelRevoked(Result<(), LabelError>),
    /// All that a process held was revoked: so many.
    HolderRevoked(u32),
    /// So many slots were freed.
    Reclaimed(u32),
    /// The audit log has a record more.
    Audited(Result<u64, AppendError>),
    /// The audit log was sealed, and checked against the head before.
    Sealed(Head, Result<(), Tampered>),
    /// A call was admitted, or not.
    Called(Result<(), BreakerRefusal>),
    /// The breaker's state.
    Breaker(BreakerState),
    /// The bucket admitted a call, or not, and says when it will.
    Admitted {
        /// Whether.
        admitted: bool,
        /// When it would, for the same cost again.
        ready_at: Option<Instant>,
    },
    /// The bucket has another limit, or not.
    RateSet(Result<(), RateLimitError>),
    /// What the gate did with a message.
    Offered(Result<Offered, Busy>),
    /// What the gate did for somebody that waited.
    Gate(GateEffect),
    /// A message was taken from the gate's queue, if there was one.
    Accepted(Result<(), QueueEmpty>),
    /// A group was added, or not.
    GroupAdded(Result<GroupId, quota::AddError>),
    /// A group was removed, or not.
    GroupRemoved(Result<(), quota::RemoveError>),
    /// A group was charged, or not.
    Charged(Result<(), ChargeError>),
    /// A group gave back, or not.
    Refunded(Result<(), RefundError>),
    /// A group has other limits, if it is there.
    QuotaSet(bool),
    /// A group is under another pressure.
    Pressure(PressureChange),
    /// A reading was taken, and an alert given or not.
    Observed(Option<Alert>),
    /// The median of what was measured.
    Measured(Option<u64>),
    /// A message came over the wire, here as its bytes.
    Message(&'a [u8]),
    /// The stream was refused.
    Frame(FrameFault),
    /// A `traceparent` was read, or not.
    Parent(Result<TraceContext, TraceparentError>),
    /// A `tracestate` was read, with so many members, or not.
    Members(Result<usize, TracestateError>),
    /// The recorder's text.
    Dumped(&'a str),
}

/// Which fault was found in a stream of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameFault {
    /// The decoder can't hold a header.
    StorageTooSmall,
    /// No frame.
    Magic(u16),
    /// Another version.
    Version(u8),
    /// Another kind.
    Kind(u8),
    /// Too long.
    TooLarge(u32),
    /// Damaged.
    Checksum(u32),
    /// No message.
    Payload,
    /// More than a message.
    Trailing(usize),
}

impl From<FrameError> for FrameFault {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::StorageTooSmall { .. } => Self::StorageTooSmall,
            FrameError::Magic { found } => Self::Magic(found),
            FrameError::Version { found } => Self::Version(found),
            FrameError::Kind { found, .. } => Self::Kind(found),
            FrameError::TooLarge { payload_bytes, .. } => Self::TooLarge(payload_bytes),
            FrameError::Checksum { computed, .. } => Self::Checksum(computed),
            FrameError::Payload { .. } => Self::Payload,
            FrameError::Trailing { bytes, .. } => Self::Trailing(bytes),
        }
    }
}

/// Takes in what a world answers: into its hash, and for whoever watches.
pub(crate) struct Out<'a> {
    pub(crate) digest: &'a mut crate::Digest,
    pub(crate) watcher: &'a mut dyn FnMut(&Seen<'_>),
}

impl Out<'_> {
    pub(crate) fn tell(&mut self, seen: &Seen<'_>) {
        self.digest.take(seen);
        (self.watcher)(seen);
    }
}
