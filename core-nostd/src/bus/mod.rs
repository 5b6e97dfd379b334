//! The bus: what happens in the kernel, told to everybody who wants to know.
//!
//! Rules:
//! 1. Publishing never blocks and never fails. It costs the same however many listen, and returns how
//!    many did at that moment. An event that is published to nobody counts and is not kept.
//! 2. Each event is kept once, in a ring; each subscriber has a place in that ring from where it reads
//!    on. It reads every event that was published since it came, in order.
//! 3. A slow subscriber holds up nobody. What is overwritten before it was read is told to it as a
//!    number, before it reads on at the oldest event that is still kept.
//! 4. Nothing gets lost uncounted: each copy that a publisher was told of has been delivered, missed
//!    by lag, dropped because its subscriber left, or waits.
//! 5. A subscriber's name is never given twice, and says which bus it belongs to: a stale one, and one
//!    of another bus, are refused.
//!
//! An event stays in its place until it is overwritten, also when everybody has read it.

pub mod event;

use core::marker::PhantomData;

#[doc(inline)]
pub use event::{CrashReason, KernelEvent, REASON_BYTES_MAX, ServiceName, ServiceNameError};

use crate::epitaph::{Epitaph, invariant};
use crate::planted::{self, Plant};

/// How many events a host's bus keeps. A bus keeps as many as its storage has slots; this is what
/// hosts give it.
pub const CAPACITY_DEFAULT: usize = 4096;

/// A place for one event in a bus's storage.
#[derive(Clone, Debug)]
pub struct Slot<M>(Option<M>);

impl<M> Slot<M> {
    /// A place without an event.
    pub const EMPTY: Self = Self(None);
}

impl<M> Default for Slot<M> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// A place for one subscriber in a bus's storage.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seat(Option<Subscriber>);

impl Seat {
    /// A place without a subscriber.
    pub const EMPTY: Self = Self(None);
}

#[derive(Clone, Copy, Debug)]
struct Subscriber {
    /// Tells it from those who sat here before.
    serial: u64,
    /// The number of the next event that it reads, perhaps one that is overwritten.
    next: u64,
    /// The events that it was told it has missed.
    lagged: u64,
}

/// Names one subscriber of one bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriberId {
    bus: u32,
    seat: u32,
    serial: u64,
}

impl SubscriberId {
    /// Its place among the seats of its bus, for owners who keep more about a subscriber. Others sit
    /// there after it has left.
    #[must_use]
    pub const fn seat(self) -> u32 {
        self.seat
    }
}

impl core::fmt::Display for SubscriberId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "subscriber {}.{} of bus {}", self.seat, self.serial, self.bus)
    }
}

/// The bus can't work with this storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("a bus needs room for at least one event")]
pub struct NoCapacity;

/// Nobody more can subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("all {capacity} seats of the bus are taken: unsubscribe one, or give it more")]
pub struct Full {
    /// How many subscribers there can be.
    pub capacity: usize,
}

/// The subscriber has left, or belongs to another bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{0} is not known here: it has left, or belongs to another bus")]
pub struct UnknownSubscriber(pub SubscriberId);

/// What a subscriber receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Received<'a, M> {
    /// The next event. Whoever wants to keep it copies it.
    Event(&'a M),
    /// It was too slow and missed some; the next call gives the oldest event that is kept.
    Lagged {
        /// How many.
        events: u64,
    },
}

/// How a subscriber is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriberView {
    /// Events that it can still read.
    pub waiting: u64,
    /// Events that it has missed since it came, also those that it was not told of yet.
    pub lagged_total: u64,
}

/// What a bus has counted since it was made. At any time
/// `copies = delivered + lagged + dropped` and what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Events published, also those to nobody: `bus_published_total`.
    pub published_total: u64,
    /// Events published while nobody listened: `bus_no_receivers_total`.
    pub no_receivers_total: u64,
    /// The sum of what [`Bus::publish`] returned.
    pub copies_total: u64,
    /// Copies that subscribers have read.
    pub delivered_total: u64,
    /// Copies overwritten before their subscribers read them: `bus_lagged_total`.
    pub lagged_total: u64,
    /// Copies that waited when their subscribers left: `bus_dropped_total`.
    pub dropped_total: u64,
}

/// A bounded broadcast: keeps as many events as `ring` has slots, for as many subscribers as `seats`
/// has seats.
///
/// ```
/// use duende_core::bus::{Bus, Received, Seat, Slot};
///
/// let mut bus = Bus::new(0, [const { Slot::EMPTY }; 4], [Seat::EMPTY; 8])?;
/// assert_eq!(bus.publish("nobody hears it"), 0);
/// let watcher = bus.subscribe()?;
/// assert_eq!(bus.publish("service crashed"), 1);
/// assert_eq!(bus.receive(watcher)?, Some(Received::Event(&"service crashed")));
/// assert_eq!(bus.receive(watcher)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Bus<M, S, R> {
    number: u32,
    ring: S,
    seats: R,
    /// The number of the next event that is kept. Numbers wrap; only their distances matter.
    next: u64,
    /// Where that event will lie in the ring.
    next_index: usize,
    /// The last serial that was given to a subscriber.
    serial: u64,
    subscribers: usize,
    /// Without the copies that are overwritten but not yet told of: reading them adds these up, so
    /// that publishing need not look at subscribers.
    counters: Counters,
    events: PhantomData<M>,
}

impl<M, S, R> Bus<M, S, R>
where
    S: AsRef<[Slot<M>]> + AsMut<[Slot<M>]>,
    R: AsRef<[Seat]> + AsMut<[Seat]>,
{
    /// A bus without subscribers. Its number tells it from the other buses of its owner.
    ///
    /// # Errors
    /// [`NoCapacity`], when `ring` is empty.
    pub fn new(number: u32, mut ring: S, mut seats: R) -> Result<Self, NoCapacity> {
        if ring.as_ref().is_empty() {
            return Err(NoCapacity);
        }
        ring.as_mut().fill_with(|| Slot::EMPTY);
        seats.as_mut().fill(Seat::EMPTY);
        Ok(Self {
            number,
            ring,
            seats,
            next: 0,
            next_index: 0,
            serial: 0,
            subscribers: 0,
            counters: Counters::default(),
            events: PhantomData,
        })
    }

    /// How many events are kept.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.as_ref().len()
    }

    /// How many listen.
    #[must_use]
    pub const fn subscribers(&self) -> usize {
        self.subscribers
    }

    /// Tells an event to all who listen, and returns how many they are.
    pub fn publish(&mut self, event: M) -> usize {
        let receivers = self.subscribers;
        add(&mut self.counters.published_total, 1);
        if receivers == 0 {
            add(&mut self.counters.no_receivers_total, 1);
            return 0;
        }
        let ring = self.ring.as_mut();
        let capacity = ring.len();
        if let Some(slot) = ring.get_mut(self.next_index) {
            slot.0 = Some(event);
        }
        self.next = self.next.wrapping_add(1);
        self.next_index = match self.next_index.saturating_add(1) {
            end if end >= capacity => 0,
            index => index,
        };
        add(&mut self.counters.copies_total, widen(receivers));
        receivers
    }

    /// Adds a subscriber. It receives what is published from here on.
    ///
    /// # Errors
    /// [`Full`], when no seat is free.
    pub fn subscribe(&mut self) -> Result<SubscriberId, Full> {
        let seats = self.seats.as_mut();
        let capacity = seats.len();
        let Some((place, seat)) =
            seats.iter_mut().zip(0_u32..).find(|(place, _)| place.0.is_none())
        else {
            return Err(Full { capacity });
        };
        // One per nanosecond would take 584 years to come round.
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        place.0 = Some(Subscriber { serial, next: self.next, lagged: 0 });
        self.subscribers = self.subscribers.saturating_add(1);
        Ok(SubscriberId { bus: self.number, seat, serial })
    }

    /// Lets a subscriber go. What it had not read counts as dropped.
    ///
    /// # Errors
    /// [`UnknownSubscriber`], when there is none of this name.
    pub fn unsubscribe(&mut self, id: SubscriberId) -> Result<(), UnknownSubscriber> {
        let subscriber = self.subscriber(id)?;
        let (missed, waiting) = self.behind(subscriber);
        if let Some(seat) = self.seat_mut(id.seat) {
            *seat = Seat::EMPTY;
        }
        self.subscribers = self.subscribers.saturating_sub(1);
        add(&mut self.counters.lagged_total, missed);
        add(&mut self.counters.dropped_total, waiting);
        Ok(())
    }

    /// What a subscriber has to hear next; `None` when it has heard all.
    ///
    /// # Errors
    /// [`UnknownSubscriber`], when there is none of this name.
    pub fn receive(
        &mut self,
        id: SubscriberId,
    ) -> Result<Option<Received<'_, M>>, UnknownSubscriber> {
        let subscriber = self.subscriber(id)?;
        let (missed, waiting) = self.behind(subscriber);
        if missed > 0 {
            add(&mut self.counters.lagged_total, missed);
            if let Some(Seat(Some(subscriber))) = self.seat_mut(id.seat) {
                subscriber.next = subscriber.next.wrapping_add(missed);
                add(&mut subscriber.lagged, missed);
            }
            return Ok(Some(Received::Lagged { events: missed }));
        }
        if waiting == 0 {
            return Ok(None);
        }
        add(&mut self.counters.delivered_total, 1);
        if let Some(Seat(Some(subscriber))) = self.seat_mut(id.seat) {
            subscriber.next = subscriber.next.wrapping_add(1);
        }
        Ok(self.kept(waiting).map(Received::Event))
    }

    /// How a subscriber is doing.
    ///
    /// # Errors
    /// [`UnknownSubscriber`], when there is none of this name.
    pub fn view(&self, id: SubscriberId) -> Result<SubscriberView, UnknownSubscriber> {
        let subscriber = self.subscriber(id)?;
        let (missed, waiting) = self.behind(subscriber);
        Ok(SubscriberView { waiting, lagged_total: subscriber.lagged.saturating_add(missed) })
    }

    /// What was counted so far. Looks at every seat once.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        for subscriber in self.seats.as_ref().iter().filter_map(|seat| seat.0) {
            let (missed, _) = self.behind(subscriber);
            add(&mut counters.lagged_total, missed);
        }
        counters
    }

    /// What holds between any two calls.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        let (index, capacity) = (self.next_index, self.capacity());
        invariant!(index < capacity, "bus at {index} of {capacity}");
        let mut taken = 0_usize;
        let mut waiting = 0_u64;
        for (seat, number) in self.seats.as_ref().iter().zip(0_u32..) {
            let Some(subscriber) = seat.0 else { continue };
            taken = taken.saturating_add(1);
            let (_, unread) = self.behind(subscriber);
            add(&mut waiting, unread);
            invariant!(self.kept(unread).is_some() || unread == 0, "seat {number} reads a hole");
            invariant!(subscriber.serial <= self.serial, "seat {number} is from the future");
        }
        let counted = self.subscribers;
        invariant!(taken == counted, "bus: {taken} seats taken, {counted} counted");
        let Counters { copies_total: copies, delivered_total, lagged_total, dropped_total, .. } =
            self.counters();
        let sum = delivered_total
            .saturating_add(lagged_total)
            .saturating_add(dropped_total)
            .saturating_add(waiting);
        invariant!(copies == sum, "bus: {copies} copies, {sum} accounted for");
        Ok(())
    }

    /// How many events a subscriber has missed without being told, and how many wait for it.
    fn behind(&self, subscriber: Subscriber) -> (u64, u64) {
        let behind = self.next.wrapping_sub(subscriber.next);
        let one_more = u64::from(planted::is(Plant::BusLag));
        let waiting = behind.min(widen(self.capacity()).saturating_add(one_more));
        (behind.saturating_sub(waiting), waiting)
    }

    /// The event published as the `ago`-th before the next: 1 is the latest.
    fn kept(&self, ago: u64) -> Option<&M> {
        let ring = self.ring.as_ref();
        let ago = usize::try_from(ago).ok()?;
        let index = match self.next_index.checked_sub(ago) {
            Some(index) => index,
            None => self.next_index.saturating_add(ring.len()).checked_sub(ago)?,
        };
        ring.get(index)?.0.as_ref()
    }

    fn subscriber(&self, id: SubscriberId) -> Result<Subscriber, UnknownSubscriber> {
        let seat = usize::try_from(id.seat).ok().and_then(|seat| self.seats.as_ref().get(seat));
        match seat {
            Some(Seat(Some(subscriber)))
                if id.bus == self.number && id.serial == subscriber.serial =>
            {
                Ok(*subscriber)
            }
            _ => Err(UnknownSubscriber(id)),
        }
    }

    fn seat_mut(&mut self, seat: u32) -> Option<&mut Seat> {
        self.seats.as_mut().get_mut(usize::try_from(seat).ok()?)
    }
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
