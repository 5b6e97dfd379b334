//! A fan-out: one sender, many receivers, a bounded queue that is kept once.
//!
//! Rules:
//! 1. Each receiver gets every message that enters the queue while it is there, in order.
//! 2. A message holds its place, and the sender's credit, until the last of its receivers has taken
//!    it: the slowest receiver sets the sender's pace. Who wants a pace of its own for each receiver
//!    gives each a [`Channel`](super::Channel); who wants none, a [`Bus`](crate::bus::Bus).
//! 3. Without credit the policy decides ([`Overflow`](super::Overflow)). Where the oldest message is dropped, those who
//!    had not taken it are told how many they missed, before they go on.
//! 4. Each copy of a message that entered the queue is delivered, counted as dropped, or waits. A
//!    message that enters while nobody is there counts and is not kept.
//! 5. The owner calls [`poll`](Fanout::poll) when [`next_deadline`](Fanout::next_deadline) has come.
//!
//! Each call costs the same whatever the number of messages, except that a receiver that leaves looks
//! at those that wait for it; joining and [`inherited_level`](Fanout::inherited_level) look at the
//! seats.

mod invariants;
mod report;
mod ring;
mod seat;

pub use report::{FanoutCounters, ReceiverId, SeatsFull, Taken, UnknownReceiver};
pub use ring::FanoutPlace;
use ring::{Kept, Ring};
use seat::Receiver;
pub use seat::ReceiverSeat;

use super::seat::Parked;
use super::{Message, NewError, Refused, ReserveError, SendError, Sent, Spec};
use crate::planted::{self, Plant};
use crate::policy::overflow::Excess;
use crate::sched::Level;
use crate::time::Instant;

/// A fan-out of messages with payload `P`, in `places`, to as many receivers as `seats` has seats.
///
/// ```
/// use duende_core::ipc::{Fanout, FanoutPlace, Message, Qos, ReceiverSeat, Schema, Spec, Taken};
/// use duende_core::sched::Level;
/// use duende_core::time::Instant;
///
/// let spec = Spec {
///     schema: Schema { tag: 1, version: 1, length_bytes_max: 16 },
///     overflow: Qos::LatencySensitive.overflow(),
///     credits_max: 2,
/// };
/// let places = [const { FanoutPlace::EMPTY }; 2];
/// let mut fanout = Fanout::new(0, places, [ReceiverSeat::EMPTY; 2], spec)?;
/// let receivers = [fanout.join(Level::default())?, fanout.join(Level::MOST_URGENT)?];
/// let now = Instant::ZERO;
/// let message = Message { tag: 1, version: 1, payload: b"frame" };
/// let _ = fanout.send(now, message)?;
/// for id in receivers {
///     assert_eq!(fanout.receive(now, id)?, Some(Taken::Message { message, resumed: false }));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Fanout<P, S, R> {
    number: u32,
    spec: Spec,
    ring: Ring<P, S>,
    seats: R,
    /// The number of the next message. Numbers wrap; only their distances matter.
    next: u64,
    reserved: bool,
    parked: Option<Parked<P>>,
    receivers: usize,
    /// The last serial that was given to a receiver.
    serial: u64,
    counters: FanoutCounters,
}

impl<P, S, R> Fanout<P, S, R>
where
    P: AsRef<[u8]> + Clone,
    S: AsRef<[FanoutPlace<P>]> + AsMut<[FanoutPlace<P>]>,
    R: AsRef<[ReceiverSeat]> + AsMut<[ReceiverSeat]>,
{
    /// A fan-out without receivers. Its number tells it from the others of its owner. The sender has
    /// all of the specification's credits.
    ///
    /// # Errors
    /// [`NewError`], when a bound is zero or `places` is too short for the specification.
    pub fn new(number: u32, places: S, mut seats: R, spec: Spec) -> Result<Self, NewError> {
        let ring = Ring::new(places);
        spec.check(ring.capacity())?;
        seats.as_mut().fill(ReceiverSeat::EMPTY);
        Ok(Self {
            number,
            spec,
            ring,
            seats,
            next: 0,
            reserved: false,
            parked: None,
            receivers: 0,
            serial: 0,
            counters: FanoutCounters::default(),
        })
    }

    /// How many messages are in the queue.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether nobody has anything to receive.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many receivers there are.
    #[must_use]
    pub const fn receivers(&self) -> usize {
        self.receivers
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counters(&self) -> FanoutCounters {
        self.counters
    }

    /// Adds a receiver of this urgency. It gets what enters from here on.
    ///
    /// # Errors
    /// [`SeatsFull`], when no seat is free.
    pub fn join(&mut self, level: Level) -> Result<ReceiverId, SeatsFull> {
        let seats = self.seats.as_mut();
        let capacity = seats.len();
        let Some((place, seat)) =
            seats.iter_mut().zip(0_u32..).find(|(place, _)| place.0.is_none())
        else {
            return Err(SeatsFull { capacity });
        };
        // One per nanosecond would take 584 years to come round.
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        place.0 = Some(Receiver { serial, next: self.next, level });
        self.receivers = self.receivers.saturating_add(1);
        Ok(ReceiverId { channel: self.number, seat, serial })
    }

    /// Lets a receiver go, and whether the sender was parked and goes on. What the receiver had not
    /// taken counts as abandoned.
    ///
    /// # Errors
    /// [`UnknownReceiver`], when there is none of this name.
    pub fn leave(&mut self, now: Instant, id: ReceiverId) -> Result<bool, UnknownReceiver> {
        let receiver = *self.receiver_mut(id)?;
        // What it has missed was counted when it was dropped.
        let (_, waiting) = self.behind(receiver);
        for ago in 1..=waiting {
            if let Some(kept) = self.ring.get_mut(ago) {
                kept.readers = kept.readers.saturating_sub(1);
            }
        }
        add(&mut self.counters.abandoned_total, widen(waiting));
        if let Some(seat) = self.seat_mut(id.seat) {
            *seat = ReceiverSeat::EMPTY;
        }
        self.receivers = self.receivers.saturating_sub(1);
        while self.ring.get_mut(self.ring.len()).is_some_and(|oldest| oldest.readers == 0) {
            self.ring.pop();
        }
        Ok(self.resume(now))
    }

    /// Takes a message in for all receivers, as far as credits and policy allow.
    ///
    /// # Errors
    /// [`Refused`], with the reason and the message.
    pub fn send(&mut self, now: Instant, message: Message<P>) -> Result<Sent<P>, Refused<P>> {
        let admission = match self.admission(&message) {
            Ok(admission) => admission,
            Err(reason) => {
                add(&mut self.counters.refused_total, 1);
                return Err(Refused { reason, message });
            }
        };
        add(&mut self.counters.sent_total, 1);
        Ok(match admission {
            Admission::Without(Excess::Park { timeout }) => {
                let deadline = now.saturating_add(timeout);
                add(&mut self.counters.parked_total, 1);
                self.parked = Some(Parked { message, deadline });
                Sent::Parked { deadline }
            }
            Admission::Credit => {
                self.reserved = false;
                self.enter(message, false);
                Sent::Queued
            }
            Admission::Without(Excess::DropOldest) => {
                let oldest = self.ring.pop();
                self.enter(message, false);
                match oldest {
                    Some(oldest) => {
                        add(&mut self.counters.displaced_total, widen(oldest.readers));
                        Sent::Displaced(oldest.message)
                    }
                    None => Sent::Queued,
                }
            }
            Admission::Without(Excess::Spill) => {
                add(&mut self.counters.spilled_total, 1);
                self.enter(message, true);
                Sent::Spilled
            }
        })
    }

    /// Reserves a place for the message that is sent next. While it is reserved the sender inherits
    /// the level of the most urgent receiver.
    ///
    /// # Errors
    /// [`ReserveError`], when there is no place for it.
    pub fn reserve(&mut self) -> Result<(), ReserveError> {
        if self.parked.is_some() {
            return Err(ReserveError::Parked);
        }
        if self.reserved {
            return Err(ReserveError::AlreadyReserved);
        }
        if !self.has_credit() {
            return Err(ReserveError::NoCredit { credits: self.spec.credits_max });
        }
        self.reserved = true;
        Ok(())
    }

    /// Gives the reserved place back unused.
    ///
    /// # Errors
    /// [`ReserveError::NotReserved`].
    pub fn cancel(&mut self) -> Result<(), ReserveError> {
        if core::mem::take(&mut self.reserved) { Ok(()) } else { Err(ReserveError::NotReserved) }
    }

    /// What a receiver takes next; `None` when it has taken all.
    ///
    /// # Errors
    /// [`UnknownReceiver`], when there is none of this name.
    pub fn receive(
        &mut self,
        now: Instant,
        id: ReceiverId,
    ) -> Result<Option<Taken<P>>, UnknownReceiver> {
        let receiver = *self.receiver_mut(id)?;
        let (missed, waiting) = self.behind(receiver);
        let receiver = self.receiver_mut(id)?;
        if missed > 0 {
            let one_more = u64::from(planted::is(Plant::FanoutMissed));
            receiver.next = receiver.next.wrapping_add(missed).wrapping_add(one_more);
            return Ok(Some(Taken::Missed { messages: missed }));
        }
        let next = receiver.next.wrapping_add(1);
        let Some(kept) = self.ring.get_mut(waiting) else {
            return Ok(None);
        };
        let message = if kept.readers > 1 {
            kept.readers = kept.readers.saturating_sub(1);
            Some(kept.message.clone())
        } else {
            // The last to take it. Whoever waits for an older message waits for this one too, so
            // there is no older one.
            self.ring.pop().map(|kept| kept.message)
        };
        self.receiver_mut(id)?.next = next;
        add(&mut self.counters.delivered_total, 1);
        let resumed = self.resume(now);
        Ok(message.map(|message| Taken::Message { message, resumed }))
    }

    /// When [`poll`](Self::poll) has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.parked.as_ref().map(|parked| parked.deadline)
    }

    /// Ends the sender's wait if its time is over, and gives the message that is not sent.
    pub fn poll(&mut self, now: Instant) -> Option<Message<P>> {
        let parked = self.parked.take_if(|parked| parked.deadline <= now)?;
        add(&mut self.counters.timed_out_total, 1);
        Some(parked.message)
    }

    /// Says how urgent a receiver is, with what it inherits itself.
    ///
    /// # Errors
    /// [`UnknownReceiver`], when there is none of this name.
    pub fn set_level(&mut self, id: ReceiverId, level: Level) -> Result<(), UnknownReceiver> {
        self.receiver_mut(id)?.level = level;
        Ok(())
    }

    /// The level at which the sender should run at least: that of the most urgent receiver, while it
    /// holds a reserved place. `None`: its own will do.
    #[must_use]
    pub fn inherited_level(&self) -> Option<Level> {
        if !self.reserved {
            return None;
        }
        let levels = self.seats.as_ref().iter().filter_map(|seat| Some(seat.0?.level));
        levels.reduce(|most, level| if level.is_more_urgent_than(most) { level } else { most })
    }

    fn admission(&self, message: &Message<P>) -> Result<Admission, SendError> {
        self.spec.schema.check(message)?;
        if self.parked.is_some() {
            return Err(SendError::Parked);
        }
        if self.reserved || self.has_credit() {
            return Ok(Admission::Credit);
        }
        let (places, spilled) = (self.ring.capacity(), self.ring.spilled());
        let excess = self.spec.excess(places, spilled, message.length_bytes())?;
        Ok(Admission::Without(excess))
    }

    /// Credits in use: by messages that were sent with one, and by the reserved place.
    fn used(&self) -> usize {
        self.ring.on_credit().saturating_add(usize::from(self.reserved))
    }

    fn has_credit(&self) -> bool {
        self.used() < self.spec.credits_max
    }

    /// Puts a message at the end of the queue, if anybody is there to receive it.
    fn enter(&mut self, message: Message<P>, spilled: bool) {
        let readers = self.receivers;
        add(&mut self.counters.entered_total, 1);
        add(&mut self.counters.copies_total, widen(readers));
        if readers == 0 {
            add(&mut self.counters.no_receivers_total, 1);
            return;
        }
        self.ring.push(Kept { message, readers, spilled });
        self.next = self.next.wrapping_add(1);
    }

    /// Lets the parked message in, if there is a credit for it and its time is not over.
    fn resume(&mut self, now: Instant) -> bool {
        if !self.has_credit() {
            return false;
        }
        let Some(parked) = self.parked.take_if(|parked| parked.deadline > now) else {
            return false;
        };
        self.enter(parked.message, false);
        true
    }

    /// How many messages a receiver has missed without being told, and how many wait for it.
    fn behind(&self, receiver: Receiver) -> (u64, usize) {
        let behind = self.next.wrapping_sub(receiver.next);
        let waiting = usize::try_from(behind).unwrap_or(usize::MAX).min(self.ring.len());
        (behind.saturating_sub(widen(waiting)), waiting)
    }

    fn receiver_mut(&mut self, id: ReceiverId) -> Result<&mut Receiver, UnknownReceiver> {
        let number = self.number;
        match self.seat_mut(id.seat) {
            Some(ReceiverSeat(Some(receiver)))
                if id.channel == number && id.serial == receiver.serial =>
            {
                Ok(receiver)
            }
            _ => Err(UnknownReceiver(id)),
        }
    }

    fn seat_mut(&mut self, seat: u32) -> Option<&mut ReceiverSeat> {
        self.seats.as_mut().get_mut(usize::try_from(seat).ok()?)
    }
}

/// How a message is taken in.
enum Admission {
    Credit,
    Without(Excess),
}

/// Counters stop at their end instead of starting again.
fn add(counter: &mut u64, count: u64) {
    *counter = counter.saturating_add(count);
}

/// Lossless: no target has a `usize` of more than 64 bits.
fn widen(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
