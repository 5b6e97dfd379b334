//! The fan-out against one plain queue per receiver.

use core::time::Duration;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::ipc::{MessageError, Overflow, Schema};

const SEATS: usize = 3;
const NUMBER: u32 = 9;
const SCHEMA: Schema = Schema { tag: 5, version: 2, length_bytes_max: 32 };

type Payload = Vec<u8>;

fn message(payload: Payload) -> Message<Payload> {
    Message { tag: SCHEMA.tag, version: SCHEMA.version, payload }
}

/// A receiver with a queue of its own: the numbers of the messages that wait for it.
struct PlainReceiver {
    id: ReceiverId,
    level: Level,
    waiting: VecDeque<usize>,
    missed: u64,
}

/// The rules to the letter: what is kept is found by asking every receiver.
struct Plain {
    overflow: Overflow,
    credits_max: usize,
    beyond: usize,
    receivers: Vec<PlainReceiver>,
    /// Every message that ever entered, and whether it spilled.
    entered: Vec<(Payload, bool)>,
    reserved: bool,
    parked: Option<(Payload, u64)>,
    counters: FanoutCounters,
}

impl Plain {
    fn kept(&self) -> Vec<usize> {
        let waits = |n: &usize| self.receivers.iter().any(|one| one.waiting.contains(n));
        (0..self.entered.len()).filter(waits).collect()
    }

    fn spilled(&self) -> (usize, u64) {
        let kept = self.kept().into_iter().map(|n| &self.entered[n]);
        let spilled: Vec<u64> = kept.filter(|one| one.1).map(|one| one.0.len() as u64).collect();
        (spilled.len(), spilled.iter().sum())
    }

    fn has_credit(&self) -> bool {
        let on_credit = self.kept().len() - self.spilled().0;
        on_credit + usize::from(self.reserved) < self.credits_max
    }

    fn enter(&mut self, payload: Payload, spilled: bool) {
        self.counters.entered_total += 1;
        self.counters.no_receivers_total += u64::from(self.receivers.is_empty());
        self.counters.copies_total += self.receivers.len() as u64;
        for one in &mut self.receivers {
            one.waiting.push_back(self.entered.len());
        }
        self.entered.push((payload, spilled));
    }

    fn send(&mut self, now_ns: u64, payload: Payload) -> Result<Sent<Payload>, SendError> {
        let sent = self.try_send(now_ns, payload);
        self.counters.refused_total += u64::from(sent.is_err());
        self.counters.sent_total += u64::from(sent.is_ok());
        sent
    }

    fn try_send(&mut self, now_ns: u64, payload: Payload) -> Result<Sent<Payload>, SendError> {
        SCHEMA.check(&message(payload.clone()))?;
        if self.parked.is_some() {
            return Err(SendError::Parked);
        }
        if self.reserved || self.has_credit() {
            self.reserved = false;
            self.enter(payload, false);
            return Ok(Sent::Queued);
        }
        match self.overflow {
            Overflow::RejectNew => Err(SendError::NoCredit),
            Overflow::Park { timeout } => {
                let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap();
                let deadline_ns = now_ns.saturating_add(timeout_ns);
                self.parked = Some((payload, deadline_ns));
                self.counters.parked_total += 1;
                Ok(Sent::Parked { deadline: Instant::from_ns(deadline_ns) })
            }
            Overflow::DropOldest => {
                let oldest = self.kept()[0];
                for one in &mut self.receivers {
                    if one.waiting.pop_front_if(|n| *n == oldest).is_some() {
                        one.missed += 1;
                        self.counters.displaced_total += 1;
                    }
                }
                self.enter(payload, false);
                Ok(Sent::Displaced(message(self.entered[oldest].0.clone())))
            }
            Overflow::Spill { bytes_max } => {
                let (spilled, spilled_bytes) = self.spilled();
                if spilled == self.beyond || spilled_bytes + payload.len() as u64 > bytes_max {
                    return Err(SendError::SpillIsFull { spilled, spilled_bytes });
                }
                self.counters.spilled_total += 1;
                self.enter(payload, true);
                Ok(Sent::Spilled)
            }
        }
    }

    fn resume(&mut self, now_ns: u64) -> bool {
        if !self.has_credit() {
            return false;
        }
        let parked = self.parked.take_if(|(_, deadline_ns)| *deadline_ns > now_ns);
        parked.map(|(payload, _)| self.enter(payload, false)).is_some()
    }

    fn receive(
        &mut self,
        now_ns: u64,
        id: ReceiverId,
    ) -> Result<Option<Taken<Payload>>, UnknownReceiver> {
        let one = self.receivers.iter_mut().find(|one| one.id == id).ok_or(UnknownReceiver(id))?;
        if one.missed > 0 {
            return Ok(Some(Taken::Missed { messages: core::mem::take(&mut one.missed) }));
        }
        let Some(number) = one.waiting.pop_front() else { return Ok(None) };
        self.counters.delivered_total += 1;
        let message = message(self.entered[number].0.clone());
        Ok(Some(Taken::Message { message, resumed: self.resume(now_ns) }))
    }

    fn leave(&mut self, now_ns: u64, id: ReceiverId) -> Result<bool, UnknownReceiver> {
        let at = self.receivers.iter().position(|one| one.id == id).ok_or(UnknownReceiver(id))?;
        self.counters.abandoned_total += self.receivers.remove(at).waiting.len() as u64;
        Ok(self.resume(now_ns))
    }
}

#[derive(Clone, Debug)]
enum Op {
    Join(u8),
    /// Names are picked among all that were given so far, also of those who left.
    Leave(usize),
    SetLevel(usize, u8),
    Send(usize),
    Reserve,
    Cancel,
    Receive(usize),
    Poll,
    Pass(u64),
    StepBack(u64),
}

fn ops() -> impl Strategy<Value = Op> {
    let pick = || 0..32_usize;
    prop_oneof![
        3 => (0..8_u8).prop_map(Op::Join),
        1 => pick().prop_map(Op::Leave),
        1 => (pick(), 0..8_u8).prop_map(|(pick, level)| Op::SetLevel(pick, level)),
        10 => (0..34_usize).prop_map(Op::Send),
        2 => Just(Op::Reserve),
        1 => Just(Op::Cancel),
        12 => pick().prop_map(Op::Receive),
        2 => Just(Op::Poll),
        3 => (0..8_u64).prop_map(Op::Pass),
        1 => (0..8_u64).prop_map(Op::StepBack),
    ]
}

fn overflows() -> impl Strategy<Value = Overflow> {
    prop_oneof![
        Just(Overflow::Park { timeout: Duration::from_nanos(10) }),
        Just(Overflow::DropOldest),
        Just(Overflow::RejectNew),
        (1..80_u64).prop_map(|bytes_max| Overflow::Spill { bytes_max }),
    ]
}

proptest! {
    #[test]
    fn delivers_or_counts_like_a_queue_per_receiver(
        overflow in overflows(),
        credits_max in 1..6_usize,
        beyond in 1..4_usize,
        first in prop_oneof![Just(0), Just(u64::MAX - 5)],
        start_ns in prop_oneof![Just(0), Just(u64::MAX - 60)],
        history in proptest::collection::vec(ops(), 0..250),
    ) {
        let places = vec![FanoutPlace::EMPTY; credits_max + beyond];
        let spec = Spec { schema: SCHEMA, overflow, credits_max };
        let seats = [ReceiverSeat::EMPTY; SEATS];
        let mut tested = Fanout::new(NUMBER, places, seats, spec).unwrap();
        tested.next = first;
        let mut model = Plain {
            overflow,
            credits_max,
            beyond,
            receivers: Vec::new(),
            entered: Vec::new(),
            reserved: false,
            parked: None,
            counters: FanoutCounters::default(),
        };
        // A name that no channel of this number gave.
        let mut names = vec![ReceiverId { channel: NUMBER + 1, seat: 0, serial: 1 }];
        let mut now_ns: u64 = start_ns;
        for (step, op) in history.into_iter().enumerate() {
            let now = Instant::from_ns(now_ns);
            match op {
                Op::Join(_) if model.receivers.len() == SEATS => {
                    let full = Err(SeatsFull { capacity: SEATS });
                    prop_assert_eq!(tested.join(Level::default()), full);
                }
                Op::Join(level) => {
                    let level = Level::new(level).unwrap();
                    let id = tested.join(level).unwrap();
                    prop_assert!(!names.contains(&id), "{} was given twice", id);
                    names.push(id);
                    let waiting = VecDeque::new();
                    model.receivers.push(PlainReceiver { id, level, waiting, missed: 0 });
                }
                Op::Leave(pick) => {
                    let id = names[pick % names.len()];
                    prop_assert_eq!(tested.leave(now, id), model.leave(now_ns, id));
                }
                Op::SetLevel(pick, level) => {
                    let (id, level) = (names[pick % names.len()], Level::new(level).unwrap());
                    let one = model.receivers.iter_mut().find(|one| one.id == id);
                    let expected = one.map(|one| one.level = level).ok_or(UnknownReceiver(id));
                    prop_assert_eq!(tested.set_level(id, level), expected);
                }
                Op::Send(bytes) => {
                    let payload = vec![step.to_le_bytes()[0]; bytes];
                    let expected = model.send(now_ns, payload.clone());
                    let sent = tested.send(now, message(payload.clone()));
                    let message = message(payload);
                    prop_assert_eq!(sent, expected.map_err(|reason| Refused { reason, message }));
                }
                Op::Reserve => {
                    let expected = if model.parked.is_some() {
                        Err(ReserveError::Parked)
                    } else if model.reserved {
                        Err(ReserveError::AlreadyReserved)
                    } else if !model.has_credit() {
                        Err(ReserveError::NoCredit { credits: credits_max })
                    } else {
                        model.reserved = true;
                        Ok(())
                    };
                    prop_assert_eq!(tested.reserve(), expected);
                }
                Op::Cancel => {
                    let was = core::mem::take(&mut model.reserved);
                    let expected = if was { Ok(()) } else { Err(ReserveError::NotReserved) };
                    prop_assert_eq!(tested.cancel(), expected);
                }
                Op::Receive(pick) => {
                    let id = names[pick % names.len()];
                    prop_assert_eq!(tested.receive(now, id), model.receive(now_ns, id));
                }
                Op::Poll => {
                    let due = model.parked.take_if(|(_, deadline_ns)| *deadline_ns <= now_ns);
                    model.counters.timed_out_total += u64::from(due.is_some());
                    prop_assert_eq!(tested.poll(now), due.map(|(payload, _)| message(payload)));
                }
                Op::Pass(ns) => now_ns = now_ns.saturating_add(ns),
                Op::StepBack(ns) => now_ns = now_ns.saturating_sub(ns),
            }
            prop_assert_eq!(tested.check_invariants(), Ok(()));
            prop_assert_eq!(tested.counters(), model.counters);
            let kept = model.kept();
            prop_assert_eq!((tested.len(), tested.is_empty()), (kept.len(), kept.is_empty()));
            prop_assert_eq!(tested.receivers(), model.receivers.len());
            let deadline = model.parked.as_ref().map(|(_, at)| Instant::from_ns(*at));
            prop_assert_eq!(tested.next_deadline(), deadline);
            let most = model.receivers.iter().map(|one| one.level.number()).min();
            let most = most.filter(|_| model.reserved).and_then(Level::new);
            prop_assert_eq!(tested.inherited_level(), most);
        }
    }
}

#[test]
fn bad_input_is_refused() {
    let make = |places, credits_max| {
        let spec = Spec { schema: SCHEMA, overflow: Overflow::DropOldest, credits_max };
        Fanout::new(0, vec![FanoutPlace::<Payload>::EMPTY; places], [], spec)
    };
    let error = NewError::TooFewPlaces { credits_max: 2, places: 1 };
    assert_eq!(make(1, 2).err(), Some(error));
    let mut nobody = make(1, 1).unwrap();
    assert_eq!(nobody.join(Level::default()), Err(SeatsFull { capacity: 0 }));
    let other = Message { tag: 6, ..message(vec![1]) };
    let reason = SendError::Message(MessageError::Tag { found: 6, expected: 5 });
    let refused = Refused { reason, message: other.clone() };
    // What is refused leaves the reserved place as it is.
    nobody.reserve().unwrap();
    assert_eq!(nobody.send(Instant::ZERO, other), Err(refused));
    assert_eq!(nobody.cancel(), Ok(()));
}
