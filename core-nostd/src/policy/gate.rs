//! The backpressure gate: what becomes of a message for which the queue has no room.
//!
//! The gate keeps the accounts of a bounded queue, not the messages. Its owner says what is offered
//! and what was taken, and does what the gate answers.
//!
//! Rules:
//! 1. A queue with room takes the message, whatever the policy.
//! 2. A full one refuses the new message, or drops its oldest, or lets the sender wait for at most a
//!    time, or sets the message aside (spills it) up to a number of bytes.
//! 3. Nobody overtakes: what waits or was set aside enters first, in the order of its coming. So while
//!    anything waits the queue is full.
//! 4. The waiting room has as many places as its storage, and refuses when they are taken.
//! 5. Nothing is lost in silence. Every message offered is queued, refused, waiting or timed out, and
//!    every message queued is taken, dropped or still there: the counts say how many.

mod message;

use core::num::NonZeroU32;

pub use message::{Busy, GateCounts, GateEffect, GateError, Offered, Place, QueueEmpty, Ticket};

pub use super::overflow::Overflow;
use super::overflow::{Aside, Excess, Full};
use crate::epitaph::{Epitaph, invariant};
use crate::planted::{self, Plant};
use crate::time::Instant;

/// The accounts of a bounded queue.
///
/// ```
/// use duende_core::policy::gate::{Gate, Offered, Overflow, Place};
/// use duende_core::time::Instant;
///
/// let now = Instant::ZERO;
/// let mut gate = Gate::new([Place::EMPTY; 0], 1, Overflow::RejectNew)?;
/// assert_eq!(gate.offer(now, 64, &mut |_| {})?, Offered::Queued);
/// assert!(gate.offer(now, 64, &mut |_| {}).is_err());
/// gate.take(now, &mut |_| {})?;
/// assert_eq!(gate.offer(now, 64, &mut |_| {})?, Offered::Queued);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Gate<S> {
    /// A ring of those that wait.
    places: S,
    /// Where the one that has waited longest stands.
    first: usize,
    waiting: usize,
    waiting_bytes: u64,
    /// The ticket of the one that has waited longest; those behind have the next ones.
    first_ticket: u64,
    capacity: u32,
    depth: u32,
    overflow: Overflow,
    /// The latest instant that was told.
    now: Instant,
    counts: GateCounts,
}

impl Gate<[Place; 0]> {
    /// A gate before an empty queue that refuses what it has no room for: it needs no waiting room, and
    /// no time.
    #[must_use]
    pub const fn rejecting(capacity: NonZeroU32) -> Self {
        Self::closed([], capacity.get(), Overflow::RejectNew)
    }
}

impl<S> Gate<S> {
    const fn closed(places: S, capacity: u32, overflow: Overflow) -> Self {
        Self {
            places,
            first: 0,
            waiting: 0,
            waiting_bytes: 0,
            first_ticket: 0,
            capacity,
            depth: 0,
            overflow,
            now: Instant::ZERO,
            counts: GateCounts::NONE,
        }
    }
}

impl<S: AsRef<[Place]> + AsMut<[Place]>> Gate<S> {
    /// A gate before an empty queue for `capacity` messages. `places` is the waiting room, for parked
    /// senders or spilled messages; the other policies need none.
    ///
    /// # Errors
    /// [`GateError`], when the policy can't be kept.
    pub fn new(places: S, capacity: u32, overflow: Overflow) -> Result<Self, GateError> {
        if capacity == 0 {
            return Err(GateError::CapacityIsZero);
        }
        overflow.check()?;
        if overflow.keeps_aside() && places.as_ref().is_empty() {
            return Err(GateError::NoWaitingRoom);
        }
        Ok(Self::closed(places, capacity, overflow))
    }

    /// A message of so many bytes is offered.
    ///
    /// # Errors
    /// [`Busy`], when it is refused.
    pub fn offer(
        &mut self,
        now: Instant,
        bytes: u32,
        effects: &mut dyn FnMut(GateEffect),
    ) -> Result<Offered, Busy> {
        self.tick(now, effects);
        let one_more = u32::from(planted::is(Plant::GateDepth));
        if self.depth < self.capacity.saturating_add(one_more) {
            self.enter();
            return Ok(Offered::Queued);
        }
        let places = self.places.as_ref().len();
        let aside = Aside { messages: self.waiting, places, bytes: self.waiting_bytes };
        let refusal = match self.overflow.excess(aside, u64::from(bytes)) {
            Ok(Excess::DropOldest) => {
                self.counts.dropped_total = self.counts.dropped_total.saturating_add(1);
                self.depth = self.depth.saturating_sub(1);
                self.enter();
                return Ok(Offered::QueuedForOldest);
            }
            Ok(Excess::Park { timeout }) => {
                let deadline = self.now.saturating_add(timeout);
                let ticket = self.wait(Place { bytes, deadline });
                return Ok(Offered::Parked { ticket, deadline });
            }
            Ok(Excess::Spill) => {
                let ticket = self.wait(Place { bytes, deadline: Instant::MAX });
                return Ok(Offered::Spilled { ticket });
            }
            Err(Full::Queue) => Busy::QueueFull { capacity: self.capacity },
            Err(Full::Places) => Busy::WaitingRoomFull { places },
            Err(Full::Bytes { bytes_max }) => {
                Busy::SpillFull { spilled_bytes: self.waiting_bytes, bytes_max }
            }
        };
        self.counts.rejected_total = self.counts.rejected_total.saturating_add(1);
        Err(refusal)
    }

    /// The receiver took the oldest message of the queue. Its place goes to the one that has waited
    /// longest.
    ///
    /// # Errors
    /// [`QueueEmpty`]; the accounts and the queue differ then, and that is the owner's mistake.
    pub fn take(
        &mut self,
        now: Instant,
        effects: &mut dyn FnMut(GateEffect),
    ) -> Result<(), QueueEmpty> {
        self.tick(now, effects);
        self.depth = self.depth.checked_sub(1).ok_or(QueueEmpty)?;
        self.counts.taken_total = self.counts.taken_total.saturating_add(1);
        if let Some(ticket) = self.leave_waiting_room() {
            self.enter();
            effects(GateEffect::Admitted(ticket));
        }
        Ok(())
    }

    /// Refuses those that waited long enough at `now`. The other calls do it too.
    pub fn tick(&mut self, now: Instant, effects: &mut dyn FnMut(GateEffect)) {
        self.now = self.now.max(now);
        // All wait for the same length of time, so the first is the first to be due.
        while self.next_deadline().is_some_and(|deadline| self.now >= deadline) {
            if let Some(ticket) = self.leave_waiting_room() {
                self.counts.timed_out_total = self.counts.timed_out_total.saturating_add(1);
                effects(GateEffect::TimedOut(ticket));
            }
        }
    }

    /// When [`Gate::tick`] is due; `None` if nobody waits that could have waited long enough.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let parks = matches!(self.overflow, Overflow::Park { .. });
        if !parks || self.waiting == 0 {
            return None;
        }
        self.places.as_ref().get(self.first).map(|place| place.deadline)
    }

    /// How many messages are in the queue.
    #[must_use]
    pub const fn depth(&self) -> u32 {
        self.depth
    }

    /// How many messages the queue holds.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many senders wait, or messages are set aside.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// The bytes of the messages that wait or are set aside.
    #[must_use]
    pub const fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// What became of all messages.
    #[must_use]
    pub const fn counts(&self) -> GateCounts {
        self.counts
    }

    /// What holds between any two calls. Looks at everyone that waits: for tests and simulators.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not hold.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        let (depth, capacity, waiting) = (self.depth, self.capacity, self.waiting);
        let places = self.places.as_ref();
        invariant!(depth <= capacity, "gate: {depth} of {capacity} queued");
        invariant!(waiting <= places.len(), "gate: {waiting} in {} places", places.len());
        invariant!(self.first < places.len().max(1), "gate: first at {}", self.first);
        invariant!(waiting == 0 || depth == capacity, "gate: {waiting} wait before room");
        let ring = places.iter().skip(self.first).chain(places).take(waiting);
        let bytes: u64 = ring.clone().map(|place| u64::from(place.bytes)).sum();
        invariant!(bytes == self.waiting_bytes, "gate: {bytes} bytes wait");
        invariant!(ring.is_sorted_by_key(|place| place.deadline), "gate: deadlines out of order");
        let bytes_max = match self.overflow {
            Overflow::Spill { bytes_max } => bytes_max,
            Overflow::RejectNew | Overflow::DropOldest => 0,
            Overflow::Park { .. } => u64::MAX,
        };
        invariant!(bytes <= bytes_max, "gate: {bytes} of {bytes_max} bytes wait");
        let GateCounts { queued_total, taken_total, dropped_total, .. } = self.counts;
        let left = taken_total.saturating_add(dropped_total).saturating_add(u64::from(depth));
        invariant!(queued_total == left, "gate: {queued_total} queued, {left} accounted for");
        Ok(())
    }

    fn enter(&mut self) {
        self.depth = self.depth.saturating_add(1);
        self.counts.queued_total = self.counts.queued_total.saturating_add(1);
    }

    /// Gives a place in the waiting room, which has one.
    fn wait(&mut self, newcomer: Place) -> Ticket {
        let places = self.places.as_mut();
        let count = places.len();
        let behind = self.first.saturating_add(self.waiting);
        let at = if behind < count { behind } else { behind.saturating_sub(count) };
        if let Some(place) = places.get_mut(at) {
            *place = newcomer;
        }
        // Lossless: no more wait than there are places.
        let ticket = self.first_ticket.wrapping_add(self.waiting as u64);
        self.waiting = self.waiting.saturating_add(1);
        self.waiting_bytes = self.waiting_bytes.saturating_add(u64::from(newcomer.bytes));
        self.counts.waited_total = self.counts.waited_total.saturating_add(1);
        Ticket(ticket)
    }

    fn leave_waiting_room(&mut self) -> Option<Ticket> {
        self.waiting = self.waiting.checked_sub(1)?;
        let places = self.places.as_ref();
        let place = places.get(self.first).copied().unwrap_or_default();
        let next = self.first.saturating_add(1);
        self.first = if next < places.len() { next } else { 0 };
        self.waiting_bytes = self.waiting_bytes.saturating_sub(u64::from(place.bytes));
        let ticket = Ticket(self.first_ticket);
        self.first_ticket = self.first_ticket.wrapping_add(1);
        Some(ticket)
    }
}

#[cfg(test)]
mod tests;
