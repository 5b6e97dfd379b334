//! Of the channel: one list of messages in the order of their entry, and nothing counted but by
//! counting it again.

use std::time::Duration;

use duende_core::ipc::{Message, ReserveError, SendError, SenderId, Sent};
use duende_core::time::Instant;
use duende_world::{DAEMONS, Flow, Input, PAYLOAD_BYTES_MAX, Payload, Seen, Setup, Step};

use super::Oracle;
use crate::failure::{Failure, hold};

/// What the world gives its channel.
const CREDITS: usize = 6;
const PLACES: usize = 8;
const PARK_TIMEOUT: Duration = Duration::from_micros(500);
const SPILL_BYTES_MAX: u64 = 96;

#[derive(Debug)]
struct Sender {
    id: SenderId,
    credits: usize,
    reserved: bool,
    parked: Option<(Payload, Instant)>,
    left: bool,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    from: SenderId,
    payload: Payload,
    spilled: bool,
}

/// The senders and what waits.
#[derive(Debug, Default)]
pub(super) struct Mail {
    flow: Flow,
    now: Instant,
    input: Option<Input>,
    senders: Vec<Sender>,
    queue: Vec<Waiting>,
    /// Whose seat each daemon has, or had last.
    seats: [Option<SenderId>; DAEMONS],
}

impl Mail {
    /// How many messages wait, in the queue or with their senders.
    pub(super) fn waiting(&self) -> usize {
        let parked = self.senders.iter().filter(|sender| sender.parked.is_some());
        self.queue.len() + parked.count()
    }

    fn used(&self, sender: &Sender) -> usize {
        let own = self.queue.iter().filter(|waiting| waiting.from == sender.id && !waiting.spilled);
        own.count() + usize::from(sender.reserved)
    }

    fn named(&self, slot: u8) -> Option<usize> {
        let id = (*self.seats.get(usize::from(slot))?)?;
        self.senders.iter().position(|sender| sender.id == id && !sender.left)
    }

    /// Seats of those who left are given again once nothing of theirs waits.
    fn vacate(&mut self) {
        let queue = &self.queue;
        self.senders
            .retain(|sender| !sender.left || queue.iter().any(|waiting| waiting.from == sender.id));
    }

    /// What should become of a message, and the same done to the list.
    fn send(&mut self, slot: u8, tag: u8, payload: Payload) -> Result<Sent<Payload>, &'static str> {
        let Some(index) = self.named(slot) else { return Err("unknown sender") };
        if tag != 1 || payload.length >= PAYLOAD_BYTES_MAX {
            return Err("message");
        }
        let used = self.used(&self.senders[index]);
        let spilled: Vec<_> = self.queue.iter().filter(|waiting| waiting.spilled).collect();
        let bytes: u64 = spilled.iter().map(|waiting| u64::from(waiting.payload.length)).sum();
        let room = spilled.len() < PLACES - CREDITS
            && bytes + u64::from(payload.length) <= SPILL_BYTES_MAX;
        let sender = &mut self.senders[index];
        let from = sender.id;
        if sender.parked.is_some() {
            return Err("parked");
        }
        let mut spilled = false;
        let sent = if sender.reserved || used < sender.credits {
            sender.reserved = false;
            Sent::Queued
        } else {
            match self.flow {
                Flow::Reject => return Err("no credit"),
                Flow::Park => {
                    let deadline = self.now.saturating_add(PARK_TIMEOUT);
                    sender.parked = Some((payload, deadline));
                    return Ok(Sent::Parked { deadline });
                }
                Flow::DropOldest => match self.queue.iter().position(|w| w.from == from) {
                    Some(oldest) => Sent::Displaced(message(self.queue.remove(oldest).payload)),
                    None => Sent::Queued,
                },
                Flow::Spill if room => {
                    spilled = true;
                    Sent::Spilled
                }
                Flow::Spill => return Err("spill is full"),
            }
        };
        self.queue.push(Waiting { from, payload, spilled });
        Ok(sent)
    }

    fn reserve(&mut self, slot: u8, cancel: bool) -> Result<(), &'static str> {
        let Some(index) = self.named(slot) else { return Err("unknown sender") };
        let used = self.used(&self.senders[index]);
        let sender = &mut self.senders[index];
        if cancel {
            return if std::mem::take(&mut sender.reserved) { Ok(()) } else { Err("not reserved") };
        }
        if sender.parked.is_some() {
            return Err("parked");
        }
        if sender.reserved {
            return Err("already reserved");
        }
        if used >= sender.credits {
            return Err("no credit");
        }
        sender.reserved = true;
        Ok(())
    }
}

const fn message(payload: Payload) -> Message<Payload> {
    Message { tag: 1, version: 1, payload }
}

fn name(error: SendError) -> &'static str {
    match error {
        SendError::UnknownSender(_) => "unknown sender",
        SendError::Message(_) => "message",
        SendError::Parked => "parked",
        SendError::SpillIsFull { .. } => "spill is full",
        SendError::NoCredit => "no credit",
    }
}

fn name_of_reserve(error: ReserveError) -> &'static str {
    match error {
        ReserveError::UnknownSender(_) => "unknown sender",
        ReserveError::AlreadyReserved => "already reserved",
        ReserveError::NotReserved => "not reserved",
        ReserveError::NoCredit { .. } => "no credit",
        ReserveError::Parked => "parked",
    }
}

impl Oracle for Mail {
    fn step(&mut self, now: Instant, step: &Step) {
        self.now = now;
        self.input = Some(step.input.clone());
        if let Input::Begin(Setup { channel, .. }) = step.input {
            self.flow = channel;
        }
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Failure> {
        match seen {
            Seen::Opened { slot, seat } => {
                let credits = 1 + usize::from(slot % 2);
                let granted: usize = self.senders.iter().map(|sender| sender.credits).sum();
                let room = granted + credits <= CREDITS && self.senders.len() < DAEMONS;
                hold!(
                    seat.is_ok() == room,
                    "channel: a seat is given while there are credits",
                    "{seat:?} with {granted} given and {} seated",
                    self.senders.len()
                );
                if let Some(place) = self.seats.get_mut(usize::from(*slot)) {
                    *place = seat.ok();
                }
                if let Ok(id) = *seat {
                    let sender = Sender { id, credits, reserved: false, parked: None, left: false };
                    self.senders.push(sender);
                }
            }
            Seen::Closed { slot, seat } => {
                let index = self.named(*slot);
                hold!(
                    seat.is_ok() == index.is_some(),
                    "channel: who left is not known any more",
                    "{seat:?}, {index:?}"
                );
                if let Some(index) = index {
                    let sender = &mut self.senders[index];
                    (sender.left, sender.reserved, sender.parked) = (true, false, None);
                }
                self.vacate();
            }
            Seen::Sent { slot, message, sent } => {
                let tag = match self.input {
                    Some(Input::Send { tag, .. }) => tag,
                    _ => 1,
                };
                let expected = self.send(*slot, tag, *message);
                let found = (**sent).clone().map_err(name);
                hold!(
                    found == expected,
                    "channel: credits and policy decide",
                    "{found:?} instead of {expected:?}"
                );
            }
            Seen::Reserved(reserved) => {
                let expected = match self.input {
                    Some(Input::Reserve { slot }) => self.reserve(slot, false),
                    Some(Input::Cancel { slot }) => self.reserve(slot, true),
                    _ => Ok(()),
                };
                let found = reserved.map_err(name_of_reserve);
                hold!(
                    found == expected,
                    "channel: a place is reserved on credit",
                    "{found:?} instead of {expected:?}"
                );
            }
            Seen::Received(received) => {
                let first = (!self.queue.is_empty()).then(|| self.queue.remove(0));
                let found = received.as_ref().map(|r| (r.sender, r.message.payload));
                let expected = first.map(|first| (first.from, first.payload));
                hold!(
                    found == expected,
                    "channel: messages come in order, each once",
                    "{found:?} instead of {expected:?}"
                );
                let Some(first) = first else { return Ok(()) };
                let now = self.now;
                let sender = self.senders.iter_mut().find(|sender| sender.id == first.from);
                let parked = sender
                    .and_then(|sender| sender.parked.take_if(|(_, deadline)| *deadline > now));
                let resumed = received.as_ref().is_some_and(|received| received.resumed);
                hold!(
                    resumed == parked.is_some(),
                    "channel: a credit lets the parked one go on",
                    "{resumed}, {parked:?}"
                );
                if let Some((payload, _)) = parked {
                    self.queue.push(Waiting { from: first.from, payload, spilled: false });
                }
                self.vacate();
            }
            Seen::Abandoned(count) => {
                let parked = self.senders.iter_mut().filter_map(|sender| sender.parked.take());
                let expected = parked.count() + self.queue.len();
                hold!(
                    usize::try_from(*count) == Ok(expected),
                    "channel: what is abandoned is counted",
                    "{count} for {expected}"
                );
                self.queue.clear();
                self.vacate();
            }
            Seen::TimedOut(timed_out) => {
                let now = self.now;
                let sender = self.senders.iter_mut().find(|sender| sender.id == timed_out.sender);
                let parked = sender
                    .and_then(|sender| sender.parked.take_if(|(_, deadline)| *deadline <= now));
                let expected = parked.map(|(payload, _)| payload);
                hold!(
                    expected == Some(timed_out.message.payload),
                    "channel: a wait ends at its deadline",
                    "{timed_out:?}, {expected:?}"
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn done(&mut self, _: &duende_world::World) -> Result<(), Failure> {
        if matches!(self.input, Some(Input::Tick)) {
            let overdue = self
                .senders
                .iter()
                .filter_map(|sender| sender.parked)
                .find(|(_, deadline)| *deadline <= self.now);
            hold!(overdue.is_none(), "channel: no wait goes on for ever", "{overdue:?}");
        }
        Ok(())
    }
}
