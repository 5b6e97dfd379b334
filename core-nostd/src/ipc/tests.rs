//! The channel against one plain queue in which everything is found by looking at all of it.

use core::time::Duration;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::sched::Level;
use crate::time::Instant;

const SEATS: usize = 3;
const NUMBER: u32 = 9;
const SCHEMA: Schema = Schema { tag: 5, version: 2, length_bytes_max: 32 };

type Payload = Vec<u8>;
type Tested = Channel<Payload, Vec<Place<Payload>>, [Seat<Payload>; SEATS]>;

fn channel(overflow: Overflow, credits_max: usize, beyond: usize) -> Tested {
    let places = vec![Place::EMPTY; credits_max + beyond];
    let spec = Spec { schema: SCHEMA, overflow, credits_max };
    Channel::new(NUMBER, places, [const { Seat::EMPTY }; SEATS], spec).unwrap()
}

fn message(payload: Payload) -> Message<Payload> {
    Message { tag: SCHEMA.tag, version: SCHEMA.version, payload }
}

struct PlainSender {
    id: SenderId,
    credits: usize,
    reserved: bool,
    parked: Option<(Payload, u64)>,
    left: bool,
}

struct Held {
    id: SenderId,
    payload: Payload,
    spilled: bool,
}

/// The rules to the letter, without any of the means.
struct Plain {
    overflow: Overflow,
    credits_max: usize,
    beyond: usize,
    /// In the order in which they came; one that left stays while it has messages.
    senders: Vec<PlainSender>,
    queue: VecDeque<Held>,
    counters: Counters,
}

impl Plain {
    fn known(&mut self, id: SenderId) -> Option<&mut PlainSender> {
        self.senders.iter_mut().find(|sender| sender.id == id && !sender.left)
    }

    fn used(&self, sender: &PlainSender) -> usize {
        let own = self.queue.iter().filter(|held| held.id == sender.id && !held.spilled);
        own.count() + usize::from(sender.reserved)
    }

    fn granted(&self) -> usize {
        self.senders.iter().map(|sender| sender.credits).sum()
    }

    fn forget_the_gone(&mut self) {
        let queue = &self.queue;
        self.senders.retain(|one| !one.left || queue.iter().any(|held| held.id == one.id));
    }

    fn send(
        &mut self,
        now_ns: u64,
        id: SenderId,
        payload: Payload,
    ) -> Result<Sent<Payload>, SendError> {
        let sent = self.try_send(now_ns, id, payload);
        self.counters.refused_total += u64::from(sent.is_err());
        self.counters.sent_total += u64::from(sent.is_ok());
        sent
    }

    fn try_send(
        &mut self,
        now_ns: u64,
        id: SenderId,
        payload: Payload,
    ) -> Result<Sent<Payload>, SendError> {
        let at = self.senders.iter().position(|sender| sender.id == id && !sender.left);
        let at = at.ok_or(UnknownSender(id))?;
        let used = self.used(&self.senders[at]);
        let sender = &mut self.senders[at];
        SCHEMA.check(&message(payload.clone()))?;
        if sender.parked.is_some() {
            return Err(SendError::Parked);
        }
        let has_credit = sender.reserved || used < sender.credits;
        sender.reserved = false;
        if has_credit {
            self.queue.push_back(Held { id, payload, spilled: false });
            return Ok(Sent::Queued);
        }
        match self.overflow {
            Overflow::RejectNew => Err(SendError::NoCredit),
            Overflow::Park { timeout } => {
                let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap();
                let deadline_ns = now_ns.saturating_add(timeout_ns);
                sender.parked = Some((payload, deadline_ns));
                self.counters.parked_total += 1;
                Ok(Sent::Parked { deadline: Instant::from_ns(deadline_ns) })
            }
            Overflow::DropOldest => {
                let oldest = self.queue.iter().position(|held| held.id == id).unwrap();
                let oldest = self.queue.remove(oldest).unwrap();
                self.queue.push_back(Held { id, payload, spilled: false });
                self.counters.displaced_total += 1;
                Ok(Sent::Displaced(message(oldest.payload)))
            }
            Overflow::Spill { bytes_max } => {
                let aside = || self.queue.iter().filter(|held| held.spilled);
                let spilled_bytes = aside().map(|held| held.payload.len() as u64).sum::<u64>();
                let spilled = aside().count();
                if spilled == self.beyond || spilled_bytes + payload.len() as u64 > bytes_max {
                    return Err(SendError::SpillIsFull { spilled, spilled_bytes });
                }
                self.queue.push_back(Held { id, payload, spilled: true });
                self.counters.spilled_total += 1;
                Ok(Sent::Spilled)
            }
        }
    }

    fn receive(&mut self, now_ns: u64) -> Option<Received<Payload>> {
        let Held { id, payload, spilled } = self.queue.pop_front()?;
        self.counters.delivered_total += 1;
        let sender = self.senders.iter_mut().find(|sender| sender.id == id).unwrap();
        let resumed = sender.parked.take_if(|(_, deadline_ns)| *deadline_ns > now_ns);
        assert!(!(spilled && resumed.is_some()));
        let answer = Received { sender: id, message: message(payload), resumed: resumed.is_some() };
        if let Some((payload, _)) = resumed {
            self.queue.push_back(Held { id, payload, spilled: false });
        }
        self.forget_the_gone();
        Some(answer)
    }

    fn close(&mut self, id: SenderId) -> Result<(), UnknownSender> {
        let sender = self.known(id).ok_or(UnknownSender(id))?;
        (sender.left, sender.reserved) = (true, false);
        let abandoned = sender.parked.take();
        self.counters.abandoned_total += u64::from(abandoned.is_some());
        self.forget_the_gone();
        Ok(())
    }

    fn abandon(&mut self) -> u64 {
        let parked = self.senders.iter_mut().filter_map(|sender| sender.parked.take()).count();
        let abandoned = (parked + self.queue.drain(..).count()) as u64;
        self.counters.abandoned_total += abandoned;
        self.forget_the_gone();
        abandoned
    }

    fn next_deadline(&self) -> Option<Instant> {
        let parked = self.senders.iter().filter_map(|sender| sender.parked.as_ref());
        parked.map(|(_, deadline_ns)| Instant::from_ns(*deadline_ns)).min()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Open(usize),
    /// Names are picked among all that were given so far, also of those who left.
    Close(usize),
    Send(usize, usize),
    Reserve(usize),
    Cancel(usize),
    Receive,
    Poll,
    Pass(u64),
    StepBack(u64),
    Abandon,
}

fn ops() -> impl Strategy<Value = Op> {
    let pick = || 0..32_usize;
    prop_oneof![
        3 => (0..4_usize).prop_map(Op::Open),
        1 => pick().prop_map(Op::Close),
        12 => (pick(), 0..34_usize).prop_map(|(pick, bytes)| Op::Send(pick, bytes)),
        3 => pick().prop_map(Op::Reserve),
        1 => pick().prop_map(Op::Cancel),
        6 => Just(Op::Receive),
        3 => Just(Op::Poll),
        4 => (0..8_u64).prop_map(Op::Pass),
        1 => (0..8_u64).prop_map(Op::StepBack),
        1 => Just(Op::Abandon),
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
    fn delivers_or_counts_like_a_plain_queue(
        overflow in overflows(),
        credits_max in 1..6_usize,
        beyond in 1..4_usize,
        start_ns in prop_oneof![Just(0), Just(u64::MAX - 60)],
        history in proptest::collection::vec(ops(), 0..250),
    ) {
        let mut tested = channel(overflow, credits_max, beyond);
        let mut model = Plain {
            overflow,
            credits_max,
            beyond,
            senders: Vec::new(),
            queue: VecDeque::new(),
            counters: Counters::default(),
        };
        // A name that no channel of this number gave.
        let mut names = vec![SenderId { channel: NUMBER + 1, seat: 0, serial: 1 }];
        let mut now_ns: u64 = start_ns;
        for (step, op) in history.into_iter().enumerate() {
            let now = Instant::from_ns(now_ns);
            match op {
                Op::Open(credits) => {
                    let left = model.credits_max - model.granted();
                    let expected = if credits == 0 {
                        Err(OpenError::NoCredits)
                    } else if credits > left {
                        Err(OpenError::CreditsOverflow { credits, left })
                    } else if model.senders.len() == SEATS {
                        Err(OpenError::Full { capacity: SEATS })
                    } else {
                        Ok(())
                    };
                    let opened = tested.open(credits);
                    prop_assert_eq!(opened.map(|_| ()), expected);
                    if let Ok(id) = opened {
                        prop_assert!(!names.contains(&id), "{} was given twice", id);
                        names.push(id);
                        model.senders.push(PlainSender {
                            id,
                            credits,
                            reserved: false,
                            parked: None,
                            left: false,
                        });
                    }
                }
                Op::Close(pick) => {
                    let id = names[pick % names.len()];
                    prop_assert_eq!(tested.close(id), model.close(id));
                }
                Op::Send(pick, bytes) => {
                    let id = names[pick % names.len()];
                    let payload = vec![step.to_le_bytes()[0]; bytes];
                    let expected = model.send(now_ns, id, payload.clone());
                    let sent = tested.send(now, id, message(payload.clone()));
                    let expected = expected
                        .map_err(|reason| Refused { reason, message: message(payload) });
                    prop_assert_eq!(sent, expected);
                }
                Op::Reserve(pick) => {
                    let id = names[pick % names.len()];
                    let used = model.known(id).map(|one| one.id).map(|id| {
                        model.used(model.senders.iter().find(|one| one.id == id).unwrap())
                    });
                    let expected = match (model.known(id), used) {
                        (Some(one), _) if one.parked.is_some() => Err(ReserveError::Parked),
                        (Some(one), _) if one.reserved => Err(ReserveError::AlreadyReserved),
                        (Some(one), Some(used)) if used == one.credits => {
                            Err(ReserveError::NoCredit { credits: used })
                        }
                        (Some(one), _) => {
                            one.reserved = true;
                            Ok(())
                        }
                        (None, _) => Err(UnknownSender(id).into()),
                    };
                    prop_assert_eq!(tested.reserve(id), expected);
                }
                Op::Cancel(pick) => {
                    let id = names[pick % names.len()];
                    let expected = match model.known(id) {
                        Some(one) if one.reserved => {
                            one.reserved = false;
                            Ok(())
                        }
                        Some(_) => Err(ReserveError::NotReserved),
                        None => Err(UnknownSender(id).into()),
                    };
                    prop_assert_eq!(tested.cancel(id), expected);
                }
                Op::Receive => {
                    let next = tested.peek().cloned();
                    let received = tested.receive(now);
                    prop_assert_eq!(next, received.clone().map(|received| received.message));
                    prop_assert_eq!(received, model.receive(now_ns));
                }
                Op::Poll => {
                    // Those who are due, in any order.
                    while let Some(TimedOut { sender, message: found }) = tested.poll(now) {
                        let parked = model.known(sender).and_then(|one| {
                            one.parked.take_if(|(_, deadline_ns)| *deadline_ns <= now_ns)
                        });
                        prop_assert_eq!(parked.map(|(payload, _)| message(payload)), Some(found));
                        model.counters.timed_out_total += 1;
                    }
                    prop_assert!(model.next_deadline().is_none_or(|deadline| deadline > now));
                }
                Op::Pass(ns) => now_ns = now_ns.saturating_add(ns),
                Op::StepBack(ns) => now_ns = now_ns.saturating_sub(ns),
                Op::Abandon => prop_assert_eq!(tested.abandon(), model.abandon()),
            }
            prop_assert_eq!(tested.check_invariants(), Ok(()));
            prop_assert_eq!(tested.counters(), model.counters);
            prop_assert_eq!(tested.next_deadline(), model.next_deadline());
            prop_assert_eq!((tested.len(), tested.is_empty()),
                (model.queue.len(), model.queue.is_empty()));
            for id in &names {
                let view = model.senders.iter().find(|one| one.id == *id && !one.left);
                let view = view.map(|one| SenderView {
                    credits: one.credits,
                    used: model.used(one),
                    reserved: one.reserved,
                    parked_until: one.parked.as_ref().map(|(_, at)| Instant::from_ns(*at)),
                });
                prop_assert_eq!(tested.view(*id), view.ok_or(UnknownSender(*id)));
                let inherited = view.map(|view| view.reserved.then_some(Level::default()));
                let inherited = inherited.ok_or(UnknownSender(*id));
                prop_assert_eq!(tested.inherited_level(*id), inherited);
            }
        }
    }
}

#[test]
fn a_sender_inherits_while_it_holds_a_reserved_place() {
    let mut tested = channel(Overflow::DropOldest, 2, 0);
    let (holder, other) = (tested.open(1).unwrap(), tested.open(1).unwrap());
    tested.set_receiver_level(Level::MOST_URGENT);
    assert_eq!(tested.inherited_level(holder), Ok(None));
    tested.reserve(holder).unwrap();
    assert_eq!(tested.inherited_level(holder), Ok(Some(Level::MOST_URGENT)));
    assert_eq!(tested.inherited_level(other), Ok(None));
    // What the receiver inherits itself is passed on.
    tested.set_receiver_level(Level::LEAST_URGENT);
    assert_eq!(tested.inherited_level(holder), Ok(Some(Level::LEAST_URGENT)));
    assert_eq!(tested.send(Instant::ZERO, holder, message(vec![1])), Ok(Sent::Queued));
    assert_eq!(tested.inherited_level(holder), Ok(None), "it was sent");
}

#[test]
fn the_classes_keep_their_promises() {
    let mut parks = channel(Qos::LatencySensitive.overflow(), 1, 0);
    let id = parks.open(1).unwrap();
    let now = Instant::from_ns(7);
    assert_eq!(parks.send(now, id, message(vec![1])), Ok(Sent::Queued));
    let deadline = Instant::from_ns(7 + 500_000);
    assert_eq!(parks.send(now, id, message(vec![2])), Ok(Sent::Parked { deadline }));
    assert_eq!(parks.poll(Instant::from_ns(7 + 499_999)), None);
    // At the deadline it is over, even for a receiver that comes before the tick.
    assert!(parks.receive(deadline).is_some_and(|received| !received.resumed));
    assert_eq!(parks.poll(deadline), Some(TimedOut { sender: id, message: message(vec![2]) }));
    assert_eq!((parks.receive(deadline), parks.counters().dropped_total()), (None, 1));

    // 8,192 messages of 32 bytes are 262,144.
    let mut spills = channel(Qos::Bulk.overflow(), 1, 9000);
    let id = spills.open(1).unwrap();
    assert_eq!(spills.send(now, id, message(vec![0; 32])), Ok(Sent::Queued));
    for _ in 0..8192 {
        assert_eq!(spills.send(now, id, message(vec![0; 32])), Ok(Sent::Spilled));
    }
    let reason = SendError::SpillIsFull { spilled: 8192, spilled_bytes: 262_144 };
    let refused = Refused { reason, message: message(vec![0]) };
    assert_eq!(spills.send(now, id, message(vec![0])), Err(refused));
    assert_eq!(Qos::BestEffort.overflow(), Overflow::DropOldest);
}

#[test]
fn messages_of_another_schema_never_get_in() {
    let mut tested = channel(Overflow::DropOldest, 1, 0);
    let id = tested.open(1).unwrap();
    let later = Message { version: 3, ..message(vec![1]) };
    let error = MessageError::Version { found: 3, expected: 2 };
    let refused = Refused { reason: error.into(), message: later.clone() };
    assert_eq!(tested.send(Instant::ZERO, id, later), Err(refused));
    assert_eq!((tested.len(), tested.counters().refused_total), (0, 1));
}

#[test]
fn a_channel_that_cannot_work_is_refused() {
    let make = |credits_max, places, overflow| {
        let spec = Spec { schema: SCHEMA, overflow, credits_max };
        let places = vec![Place::<Payload>::EMPTY; places];
        Channel::new(0, places, [const { Seat::EMPTY }; 1], spec).err()
    };
    let drop_oldest = Overflow::DropOldest;
    for (credits_max, places) in [(0, 0), (0, 4), (5, 4)] {
        let error = NewError::TooFewPlaces { credits_max, places };
        assert_eq!(make(credits_max, places, drop_oldest), Some(error));
    }
    let never = Overflow::Park { timeout: Duration::ZERO };
    assert_eq!(make(1, 1, never), Some(NewError::Overflow(OverflowError::TimeoutIsZero)));
    let nothing = Overflow::Spill { bytes_max: 0 };
    assert_eq!(make(1, 2, nothing), Some(NewError::Overflow(OverflowError::SpillIsZero)));
    let error = NewError::NoPlaceToSpill { places: 2, credits_max: 2 };
    assert_eq!(make(2, 2, Qos::Bulk.overflow()), Some(error));
    assert_eq!(make(2, 2, drop_oldest), None);
}

#[test]
fn a_stranger_is_named_with_its_channel() {
    let stranger = UnknownSender(SenderId { channel: 7, seat: 2, serial: 5 });
    let words =
        "sender 2.5 of channel 7 is not known here: it has left, or belongs to another channel";
    assert_eq!(std::format!("{stranger}"), words);
}
