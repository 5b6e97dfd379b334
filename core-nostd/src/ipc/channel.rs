//! A channel: many senders, one receiver, a bounded queue.
//!
//! Rules:
//! 1. Messages are received in the order in which they were taken in, whoever sent them.
//! 2. A sender holds at most as many places as it has credits. A credit comes back when its message
//!    leaves the queue, received or dropped. No sender's conduct changes what another may send.
//! 3. Without credit the policy decides ([`Overflow`](super::Overflow)): the message is refused, or the
//!    sender is parked with it for a time, or the sender's own oldest message is dropped for it, or it
//!    spills to places beyond the credits.
//! 4. What was taken in is received, counted as dropped, or waits. What is refused is handed back.
//! 5. A sender that leaves abandons what it is parked with; what it has in the queue stays. Its
//!    credits and its seat are free once all of that has left the queue.
//! 6. The owner calls [`poll`](Channel::poll) when [`next_deadline`](Channel::next_deadline) has
//!    come. A parked message whose time is over never enters the queue, however late that call is.
//!
//! Each call costs the same whatever the number of messages. Opening looks at the seats; so do
//! deadlines, while anybody is parked.

mod invariants;

use super::excess::Spilled;
use super::queue::{Own, Queue};
use super::seat::{Parked, Seat, Sender, known, seat_mut};
use super::{
    Counters, Message, NewError, OpenError, Place, Received, Refused, ReserveError, SendError,
    SenderId, SenderView, Sent, Spec, TimedOut, UnknownSender,
};
use crate::planted::{self, Plant};
use crate::policy::overflow::Excess;
use crate::sched::Level;
use crate::time::Instant;

/// How a message is taken in.
enum Admission {
    Reserved,
    Credit,
    Without(Excess),
}

/// A channel of messages with payload `P`, in `places`, from as many senders as `seats` has seats.
///
/// ```
/// use duende_core::ipc::{Channel, Message, Place, Qos, Schema, Seat, Sent, Spec};
/// use duende_core::time::Instant;
///
/// let spec = Spec {
///     schema: Schema { tag: 1, version: 1, length_bytes_max: 16 },
///     overflow: Qos::BestEffort.overflow(),
///     credits_max: 4,
/// };
/// let places = [const { Place::EMPTY }; 4];
/// let mut channel = Channel::new(0, places, [const { Seat::EMPTY }; 2], spec)?;
/// let sensor = channel.open(1)?;
/// let now = Instant::ZERO;
/// let reading = |payload| Message { tag: 1, version: 1, payload };
/// assert_eq!(channel.send(now, sensor, reading(b"20.1"))?, Sent::Queued);
/// // Its one credit is used up: the newer reading replaces the older one.
/// let sent = channel.send(now, sensor, reading(b"20.4"))?;
/// assert_eq!(sent, Sent::Displaced(reading(b"20.1")));
/// let received = channel.receive(now).map(|received| received.message);
/// assert_eq!(received, Some(reading(b"20.4")));
/// assert_eq!(channel.counters().displaced_total, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Channel<P, S, R> {
    number: u32,
    spec: Spec,
    queue: Queue<P, S>,
    seats: R,
    receiver_level: Level,
    /// The credits of all seats, of those who left too.
    granted: usize,
    spilled: Spilled,
    parked: usize,
    /// The last serial that was given to a sender.
    serial: u64,
    counters: Counters,
}

impl<P, S, R> Channel<P, S, R>
where
    P: AsRef<[u8]>,
    S: AsRef<[Place<P>]> + AsMut<[Place<P>]>,
    R: AsRef<[Seat<P>]> + AsMut<[Seat<P>]>,
{
    /// A channel without senders. Its number tells it from the other channels of its owner.
    ///
    /// # Errors
    /// [`NewError`], when a bound is zero or `places` is too short for the specification.
    pub fn new(number: u32, places: S, mut seats: R, spec: Spec) -> Result<Self, NewError> {
        let queue = Queue::new(places);
        spec.check(queue.capacity())?;
        seats.as_mut().fill_with(|| Seat::EMPTY);
        Ok(Self {
            number,
            spec,
            queue,
            seats,
            receiver_level: Level::default(),
            granted: 0,
            spilled: Spilled::default(),
            parked: 0,
            serial: 0,
            counters: Counters::default(),
        })
    }

    /// How many messages are in the queue.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is nothing to receive.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message that is received next.
    #[must_use]
    pub fn peek(&self) -> Option<&Message<P>> {
        self.queue.first().map(|entry| &entry.message)
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Adds a sender with so many credits.
    ///
    /// # Errors
    /// [`OpenError`], when the channel has no seat or not as many credits left.
    pub fn open(&mut self, credits: usize) -> Result<SenderId, OpenError> {
        if credits == 0 {
            return Err(OpenError::NoCredits);
        }
        let left = self.spec.credits_max.saturating_sub(self.granted);
        if credits > left {
            return Err(OpenError::CreditsOverflow { credits, left });
        }
        let seats = self.seats.as_mut();
        let capacity = seats.len();
        let Some((place, seat)) =
            seats.iter_mut().zip(0_u32..).find(|(place, _)| place.0.is_none())
        else {
            return Err(OpenError::Full { capacity });
        };
        // One per nanosecond would take 584 years to come round.
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        place.0 = Some(Sender {
            serial,
            credits,
            used: 0,
            reserved: false,
            parked: None,
            own: Own::EMPTY,
            left: false,
        });
        self.granted = self.granted.saturating_add(credits);
        Ok(SenderId { channel: self.number, seat, serial })
    }

    /// Lets a sender go.
    ///
    /// # Errors
    /// [`UnknownSender`], when there is none of this name.
    pub fn close(&mut self, id: SenderId) -> Result<(), UnknownSender> {
        let sender = known(self.number, &mut self.seats, id)?;
        sender.left = true;
        if core::mem::take(&mut sender.reserved) {
            sender.used = sender.used.saturating_sub(1);
        }
        if sender.parked.take().is_some() {
            self.parked = self.parked.saturating_sub(1);
            add(&mut self.counters.abandoned_total, 1);
        }
        self.vacate(id.seat);
        Ok(())
    }

    /// Takes a message in, as far as credits and policy allow.
    ///
    /// # Errors
    /// [`Refused`], with the reason and the message.
    pub fn send(
        &mut self,
        now: Instant,
        id: SenderId,
        message: Message<P>,
    ) -> Result<Sent<P>, Refused<P>> {
        let admission = match self.admission(id, &message) {
            Ok(admission) => admission,
            Err(reason) => {
                add(&mut self.counters.refused_total, 1);
                return Err(Refused { reason, message });
            }
        };
        let sender = match known(self.number, &mut self.seats, id) {
            Ok(sender) => sender,
            Err(unknown) => return Err(Refused { reason: unknown.into(), message }),
        };
        add(&mut self.counters.sent_total, 1);
        let length_bytes = message.length_bytes();
        Ok(match admission {
            Admission::Without(Excess::Park { timeout }) => {
                let deadline = now.saturating_add(timeout);
                sender.parked = Some(Parked { message, deadline });
                self.parked = self.parked.saturating_add(1);
                add(&mut self.counters.parked_total, 1);
                Sent::Parked { deadline }
            }
            Admission::Reserved => {
                sender.reserved = false;
                self.queue.push(&mut sender.own, id.seat, false, message);
                Sent::Queued
            }
            Admission::Credit => {
                sender.used = sender.used.saturating_add(1);
                self.queue.push(&mut sender.own, id.seat, false, message);
                Sent::Queued
            }
            Admission::Without(Excess::DropOldest) => {
                let oldest = self.queue.pop(&mut sender.own);
                self.queue.push(&mut sender.own, id.seat, false, message);
                match oldest {
                    Some(oldest) => {
                        add(&mut self.counters.displaced_total, 1);
                        Sent::Displaced(oldest.message)
                    }
                    None => Sent::Queued,
                }
            }
            Admission::Without(Excess::Spill) => {
                self.queue.push(&mut sender.own, id.seat, true, message);
                self.spilled.add(length_bytes);
                add(&mut self.counters.spilled_total, 1);
                Sent::Spilled
            }
        })
    }

    /// Reserves a place for the message that the sender will send next. While it is reserved the
    /// sender inherits the receiver's level.
    ///
    /// # Errors
    /// [`ReserveError`], when there is no place for it.
    pub fn reserve(&mut self, id: SenderId) -> Result<(), ReserveError> {
        let sender = known(self.number, &mut self.seats, id)?;
        if sender.parked.is_some() {
            return Err(ReserveError::Parked);
        }
        if sender.reserved {
            return Err(ReserveError::AlreadyReserved);
        }
        if sender.used >= sender.credits {
            return Err(ReserveError::NoCredit { credits: sender.credits });
        }
        sender.used = sender.used.saturating_add(1);
        sender.reserved = true;
        Ok(())
    }

    /// Gives a reserved place back unused.
    ///
    /// # Errors
    /// [`ReserveError::NotReserved`] and [`ReserveError::UnknownSender`].
    pub fn cancel(&mut self, id: SenderId) -> Result<(), ReserveError> {
        let sender = known(self.number, &mut self.seats, id)?;
        if !core::mem::take(&mut sender.reserved) {
            return Err(ReserveError::NotReserved);
        }
        sender.used = sender.used.saturating_sub(1);
        Ok(())
    }

    /// Takes the oldest message, and gives its sender the credit back.
    pub fn receive(&mut self, now: Instant) -> Option<Received<P>> {
        let seat = self.queue.first_seat()?;
        let sender = seat_mut(&mut self.seats, seat)?.0.as_mut()?;
        let entry = self.queue.pop(&mut sender.own)?;
        add(&mut self.counters.delivered_total, 1);
        let id = SenderId { channel: self.number, seat, serial: sender.serial };
        if entry.spilled {
            self.spilled.take(entry.message.length_bytes());
        } else {
            sender.used = sender.used.saturating_sub(1);
        }
        let resumed = sender.parked.take_if(|parked| parked.deadline > now);
        let is_resumed = resumed.is_some();
        if let Some(parked) = resumed {
            self.parked = self.parked.saturating_sub(1);
            sender.used = sender.used.saturating_add(1);
            self.queue.push(&mut sender.own, seat, false, parked.message);
        }
        self.vacate(seat);
        Some(Received { sender: id, message: entry.message, resumed: is_resumed })
    }

    /// Discards all that waits, because the receiver is gone: the queue, and what senders are parked
    /// with, who then go on. Returns how many messages that were; they count as abandoned.
    pub fn abandon(&mut self) -> u64 {
        let before = self.counters.abandoned_total;
        for seat in self.seats.as_mut() {
            let Some(sender) = &mut seat.0 else { continue };
            while self.queue.pop(&mut sender.own).is_some() {
                add(&mut self.counters.abandoned_total, 1);
            }
            if sender.parked.take().is_some() {
                add(&mut self.counters.abandoned_total, 1);
            }
            sender.used = usize::from(sender.reserved);
            if sender.left {
                self.granted = self.granted.saturating_sub(sender.credits);
                *seat = Seat::EMPTY;
            }
        }
        (self.parked, self.spilled) = (0, Spilled::default());
        self.counters.abandoned_total.saturating_sub(before)
    }

    /// When [`poll`](Self::poll) has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.parked == 0 {
            return None;
        }
        let senders = self.seats.as_ref().iter().filter_map(|seat| seat.0.as_ref());
        senders.filter_map(|sender| Some(sender.parked.as_ref()?.deadline)).min()
    }

    /// Ends one wait whose time is over. Call it until it gives `None`.
    pub fn poll(&mut self, now: Instant) -> Option<TimedOut<P>> {
        if self.parked == 0 {
            return None;
        }
        let (number, seats) = (self.number, self.seats.as_mut());
        let timed_out = seats.iter_mut().zip(0_u32..).find_map(|(place, seat)| {
            let sender = place.0.as_mut()?;
            let parked = sender.parked.take_if(|parked| parked.deadline <= now)?;
            let id = SenderId { channel: number, seat, serial: sender.serial };
            Some(TimedOut { sender: id, message: parked.message })
        })?;
        self.parked = self.parked.saturating_sub(1);
        add(&mut self.counters.timed_out_total, 1);
        Some(timed_out)
    }

    /// Says how urgent the receiver is, with what it inherits itself.
    pub fn set_receiver_level(&mut self, level: Level) {
        self.receiver_level = level;
    }

    /// The level at which a sender should run at least: the receiver's, while the sender holds a
    /// reserved place of its queue. `None`: its own will do.
    ///
    /// # Errors
    /// [`UnknownSender`], when there is none of this name.
    pub fn inherited_level(&self, id: SenderId) -> Result<Option<Level>, UnknownSender> {
        Ok(self.sender(id)?.reserved.then_some(self.receiver_level))
    }

    /// How a sender is doing.
    ///
    /// # Errors
    /// [`UnknownSender`], when there is none of this name.
    pub fn view(&self, id: SenderId) -> Result<SenderView, UnknownSender> {
        let &Sender { credits, used, reserved, ref parked, .. } = self.sender(id)?;
        let parked_until = parked.as_ref().map(|parked| parked.deadline);
        Ok(SenderView { credits, used, reserved, parked_until })
    }

    fn admission(&self, id: SenderId, message: &Message<P>) -> Result<Admission, SendError> {
        let sender = self.sender(id)?;
        self.spec.schema.check(message)?;
        if sender.parked.is_some() {
            return Err(SendError::Parked);
        }
        if sender.reserved {
            return Ok(Admission::Reserved);
        }
        let one_more = usize::from(planted::is(Plant::ChannelCredits));
        if sender.used < sender.credits.saturating_add(one_more) {
            return Ok(Admission::Credit);
        }
        let excess =
            self.spec.excess(self.queue.capacity(), self.spilled, message.length_bytes())?;
        Ok(Admission::Without(excess))
    }

    fn sender(&self, id: SenderId) -> Result<&Sender<P>, UnknownSender> {
        let seat = usize::try_from(id.seat).ok().and_then(|seat| self.seats.as_ref().get(seat));
        match seat.and_then(|seat| seat.0.as_ref()) {
            Some(sender) if sender.is_named(self.number, id) => Ok(sender),
            _ => Err(UnknownSender(id)),
        }
    }

    /// Frees the seat of a sender that has left, once none of its messages waits.
    fn vacate(&mut self, seat: u32) {
        let Some(place) = seat_mut(&mut self.seats, seat) else { return };
        if let Some(gone) = place.0.take_if(|sender| sender.left && sender.own.is_empty()) {
            self.granted = self.granted.saturating_sub(gone.credits);
        }
    }
}

/// Counters stop at their end instead of starting again.
fn add(counter: &mut u64, count: u64) {
    *counter = counter.saturating_add(count);
}
