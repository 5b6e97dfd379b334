//! Of the fan-out: a list of what waits for each receiver, each kept apart.

use std::collections::VecDeque;
use std::time::Duration;

use duende_core::ipc::{Message, SendError, Sent, Taken};
use duende_core::time::Instant;
use duende_world::{Flow, Input, LISTENERS, PAYLOAD_BYTES_MAX, Payload, Seen, Setup, Step, World};

use super::Oracle;
use crate::failure::{Failure, hold};

/// What the world gives its fan-out.
const CREDITS: usize = 6;
const PLACES: usize = 8;
const PARK_TIMEOUT: Duration = Duration::from_micros(500);
const SPILL_BYTES_MAX: u64 = 96;

/// What one receiver has not taken.
#[derive(Debug, Default)]
struct Receiver {
    waiting: VecDeque<u64>,
    missed: u64,
}

/// The receivers, and what waits for any of them.
#[derive(Debug, Default)]
pub(super) struct Fanout {
    flow: Flow,
    now: Instant,
    input: Option<Input>,
    receivers: [Option<Receiver>; LISTENERS],
    /// In order; `true` for what was sent without credit.
    queue: VecDeque<(Payload, bool)>,
    parked: Option<(Payload, Instant)>,
}

const fn message(payload: Payload) -> Message<Payload> {
    Message { tag: 1, version: 1, payload }
}

impl Fanout {
    /// How many copies those in the pockets have not taken.
    pub(super) fn waiting(&self) -> usize {
        self.receivers.iter().flatten().map(|receiver| receiver.waiting.len()).sum()
    }

    fn used(&self) -> usize {
        self.queue.iter().filter(|(_, spilled)| !spilled).count()
    }

    fn enter(&mut self, payload: Payload, spilled: bool) {
        let mut present = false;
        for receiver in self.receivers.iter_mut().flatten() {
            receiver.waiting.push_back(payload.number);
            present = true;
        }
        if present {
            self.queue.push_back((payload, spilled));
        }
    }

    /// What nobody waits for is not kept.
    fn sweep(&mut self) {
        let receivers = &self.receivers;
        self.queue.retain(|(payload, _)| {
            receivers.iter().flatten().any(|receiver| receiver.waiting.contains(&payload.number))
        });
    }

    fn resume(&mut self) -> bool {
        if self.used() >= CREDITS {
            return false;
        }
        let now = self.now;
        let Some((payload, _)) = self.parked.take_if(|(_, deadline)| *deadline > now) else {
            return false;
        };
        self.enter(payload, false);
        true
    }

    fn send(&mut self, payload: Payload) -> Result<Sent<Payload>, &'static str> {
        if payload.length >= PAYLOAD_BYTES_MAX {
            return Err("message");
        }
        if self.parked.is_some() {
            return Err("parked");
        }
        if self.used() < CREDITS {
            self.enter(payload, false);
            return Ok(Sent::Queued);
        }
        match self.flow {
            Flow::Reject => Err("no credit"),
            Flow::Park => {
                let deadline = self.now.saturating_add(PARK_TIMEOUT);
                self.parked = Some((payload, deadline));
                Ok(Sent::Parked { deadline })
            }
            Flow::DropOldest => {
                let Some((oldest, _)) = self.queue.pop_front() else { return Err("no oldest") };
                for receiver in self.receivers.iter_mut().flatten() {
                    let before = receiver.waiting.len();
                    receiver.waiting.retain(|number| *number != oldest.number);
                    receiver.missed += u64::from(receiver.waiting.len() < before);
                }
                self.enter(payload, false);
                Ok(Sent::Displaced(message(oldest)))
            }
            Flow::Spill => {
                let spilled = self.queue.iter().filter(|(_, spilled)| *spilled);
                let bytes: u64 = spilled.clone().map(|(p, _)| u64::from(p.length)).sum();
                let room = spilled.count() < PLACES - CREDITS
                    && bytes + u64::from(payload.length) <= SPILL_BYTES_MAX;
                if !room {
                    return Err("spill is full");
                }
                self.enter(payload, true);
                Ok(Sent::Spilled)
            }
        }
    }

    fn take(&mut self, from: u8) -> Option<Taken<Payload>> {
        let receiver = self.receivers.get_mut(usize::from(from))?.as_mut()?;
        if receiver.missed > 0 {
            return Some(Taken::Missed { messages: std::mem::take(&mut receiver.missed) });
        }
        let number = receiver.waiting.pop_front()?;
        let payload = self.queue.iter().find(|(payload, _)| payload.number == number)?.0;
        self.sweep();
        let resumed = self.resume();
        Some(Taken::Message { message: message(payload), resumed })
    }
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

impl Oracle for Fanout {
    fn step(&mut self, now: Instant, step: &Step) {
        self.now = now;
        self.input = Some(step.input.clone());
        if let Input::Begin(Setup { fanout, .. }) = step.input {
            self.flow = fanout;
        }
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Failure> {
        match seen {
            Seen::Joined(joined) => {
                hold!(joined.is_ok(), "fan-out: a seat is given while one is free", "{joined:?}");
                if let Some(Input::Join { into, .. }) = self.input
                    && let Some(pocket) = self.receivers.get_mut(usize::from(into))
                {
                    *pocket = Some(Receiver::default());
                }
            }
            Seen::Left(left) => {
                let Some(Input::Leave { from }) = self.input else { return Ok(()) };
                let pocket = self.receivers.get_mut(usize::from(from));
                let known = pocket.and_then(Option::take).is_some();
                self.sweep();
                let expected = known.then(|| self.resume());
                hold!(
                    left.ok() == expected,
                    "fan-out: who leaves makes room",
                    "{left:?} for {expected:?}"
                );
            }
            Seen::Broadcast { message, sent } => {
                let expected = self.send(*message);
                let found = (**sent).clone().map_err(name);
                hold!(
                    found == expected,
                    "fan-out: credits and policy decide",
                    "{found:?} instead of {expected:?}"
                );
            }
            Seen::Taken { from, taken } => {
                let known = self.receivers.get(usize::from(*from)).is_some_and(Option::is_some);
                hold!(taken.is_ok() == known, "fan-out: who left takes nothing", "{taken:?}");
                let expected = self.take(*from);
                hold!(
                    taken.as_ref().ok().is_none_or(|taken| *taken == expected),
                    "fan-out: each receiver gets every message in order, or is told how many it missed",
                    "{taken:?} instead of {expected:?}"
                );
            }
            Seen::BroadcastTimedOut(message) => {
                let now = self.now;
                let parked = self.parked.take_if(|(_, deadline)| *deadline <= now);
                hold!(
                    parked.map(|(payload, _)| payload) == Some(message.payload),
                    "fan-out: a wait ends at its deadline",
                    "{message:?}, {parked:?}"
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn done(&mut self, _: &World) -> Result<(), Failure> {
        let overdue = self.parked.filter(|(_, deadline)| *deadline <= self.now);
        let ticked = matches!(self.input, Some(Input::Tick));
        hold!(overdue.is_none() || !ticked, "fan-out: no wait goes on for ever", "{overdue:?}");
        Ok(())
    }
}
