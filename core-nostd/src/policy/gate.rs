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

use core::time::Duration;

use crate::epitaph::{Epitaph, invariant};
use crate::time::Instant;

/// What is done with a message when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// It is refused.
    RejectNew,
    /// The oldest message of the queue is dropped for it.
    DropOldest,
    /// Its sender waits for room, and is refused after a time.
    Park {
        /// How long. Not zero.
        timeout: Duration,
    },
    /// It is set aside until there is room.
    Spill {
        /// The most bytes set aside. Not zero.
        bytes_max: u64,
    },
}

impl Overflow {
    /// For messages whose delay is felt: the sender waits 500 µs.
    pub const LATENCY_SENSITIVE: Self = Self::Park { timeout: Duration::from_micros(500) };
    /// For messages of which the newest counts.
    pub const BEST_EFFORT: Self = Self::DropOldest;
    /// For messages in bulk: 262,144 bytes are set aside.
    pub const BULK: Self = Self::Spill { bytes_max: 262_144 };
}

/// The gate can't be made like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GateError {
    /// Every message would find the queue full.
    #[error("a queue for 0 messages is always full: say at least 1")]
    CapacityIsZero,
    /// Nobody can wait for no time.
    #[error("parking with a timeout of 0 is rejecting: say so, or give a time")]
    TimeoutIsZero,
    /// Nothing can be set aside.
    #[error("spilling to 0 bytes is rejecting: say so, or give a bound")]
    SpillIsZero,
    /// The policy lets messages wait, and the storage has no place for one.
    #[error("to park or to spill, the gate needs storage for at least one place")]
    NoWaitingRoom,
}

/// A sender that waits, or a message set aside. Names one offer for as long as the gate lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// A place in the waiting room.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    bytes: u32,
    deadline: Instant,
}

impl Place {
    /// A place where nobody waits.
    pub const EMPTY: Self = Self { bytes: 0, deadline: Instant::MAX };
}

impl Default for Place {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Where an offered message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "the message goes where the gate says"]
pub enum Offered {
    /// Into the queue.
    Queued,
    /// Into the queue, once the owner has thrown away the queue's oldest message.
    QueuedForOldest,
    /// Nowhere yet: the sender keeps it and waits, for [`GateEffect::Admitted`] or
    /// [`GateEffect::TimedOut`].
    Parked {
        /// The name under which it waits.
        ticket: Ticket,
        /// When it will have waited long enough.
        deadline: Instant,
    },
    /// Aside: the owner keeps it, until [`GateEffect::Admitted`].
    Spilled {
        /// The name under which it is kept.
        ticket: Ticket,
    },
}

/// Why a message was refused: in each case, offer it again later or do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Busy {
    /// The queue is full.
    #[error("the queue is full: {capacity} messages")]
    QueueFull {
        /// How many messages it holds.
        capacity: u32,
    },
    /// The queue is full, and so is the waiting room.
    #[error("the queue is full and {places} more wait for it")]
    WaitingRoomFull {
        /// How many places the waiting room has.
        places: usize,
    },
    /// The queue is full, and with this message too many bytes would be set aside.
    #[error("the queue is full and {spilled_bytes} of {bytes_max} bytes are set aside")]
    SpillFull {
        /// How many bytes are set aside.
        spilled_bytes: u64,
        /// How many may be.
        bytes_max: u64,
    },
}

/// A message was said to be taken from a queue that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("nothing can be taken from the queue: it is empty")]
pub struct QueueEmpty;

/// What the owner is to do for somebody that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GateEffect {
    /// The place in the queue is this one's: put the message set aside there, or let its sender go
    /// on. If the sender is gone, report the place as [taken](Gate::take).
    Admitted(Ticket),
    /// The sender waited long enough: tell it that its message was refused.
    TimedOut(Ticket),
}

/// What became of all messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GateCounts {
    /// Entered the queue, at once or after waiting.
    pub queued_total: u64,
    /// Left the queue for a receiver.
    pub taken_total: u64,
    /// Left the queue for a newer message.
    pub dropped_total: u64,
    /// Were refused when they were offered.
    pub rejected_total: u64,
    /// Were refused after they had waited.
    pub timed_out_total: u64,
    /// Had to wait or were set aside.
    pub waited_total: u64,
}

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
        let waits = match overflow {
            Overflow::RejectNew | Overflow::DropOldest => false,
            Overflow::Park { timeout } if timeout.is_zero() => {
                return Err(GateError::TimeoutIsZero);
            }
            Overflow::Spill { bytes_max: 0 } => return Err(GateError::SpillIsZero),
            Overflow::Park { .. } | Overflow::Spill { .. } => true,
        };
        if waits && places.as_ref().is_empty() {
            return Err(GateError::NoWaitingRoom);
        }
        Ok(Self {
            places,
            first: 0,
            waiting: 0,
            waiting_bytes: 0,
            first_ticket: 0,
            capacity,
            depth: 0,
            overflow,
            now: Instant::ZERO,
            counts: GateCounts::default(),
        })
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
        if self.depth < self.capacity {
            self.enter();
            return Ok(Offered::Queued);
        }
        let offered = match self.overflow {
            Overflow::RejectNew => Err(Busy::QueueFull { capacity: self.capacity }),
            Overflow::DropOldest => {
                self.counts.dropped_total = self.counts.dropped_total.saturating_add(1);
                self.depth = self.depth.saturating_sub(1);
                self.enter();
                Ok(Offered::QueuedForOldest)
            }
            Overflow::Park { timeout } => {
                let deadline = self.now.saturating_add(timeout);
                let ticket = self.wait(Place { bytes, deadline });
                ticket.map(|ticket| Offered::Parked { ticket, deadline })
            }
            Overflow::Spill { bytes_max } => {
                let spilled_bytes = self.waiting_bytes;
                if spilled_bytes.saturating_add(u64::from(bytes)) > bytes_max {
                    Err(Busy::SpillFull { spilled_bytes, bytes_max })
                } else {
                    let ticket = self.wait(Place { bytes, deadline: Instant::MAX });
                    ticket.map(|ticket| Offered::Spilled { ticket })
                }
            }
        };
        if offered.is_err() {
            self.counts.rejected_total = self.counts.rejected_total.saturating_add(1);
        }
        offered
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

    fn wait(&mut self, newcomer: Place) -> Result<Ticket, Busy> {
        let places = self.places.as_mut();
        let count = places.len();
        let behind = self.first.saturating_add(self.waiting);
        let at = if behind < count { behind } else { behind.saturating_sub(count) };
        let Some(place) = places.get_mut(at).filter(|_| self.waiting < count) else {
            return Err(Busy::WaitingRoomFull { places: count });
        };
        *place = newcomer;
        // Lossless: no more wait than there are places.
        let ticket = self.first_ticket.wrapping_add(self.waiting as u64);
        self.waiting = self.waiting.saturating_add(1);
        self.waiting_bytes = self.waiting_bytes.saturating_add(u64::from(newcomer.bytes));
        self.counts.waited_total = self.counts.waited_total.saturating_add(1);
        Ok(Ticket(ticket))
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
mod tests {
    use std::collections::VecDeque;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const PLACES: usize = 3;
    const CAPACITY: u32 = 2;

    /// Messages by number, in plain queues; those that wait with their bytes and deadline.
    #[derive(Default)]
    struct Naive {
        queue: VecDeque<u64>,
        waiting: VecDeque<(u64, u32, u64)>,
        taken: Vec<u64>,
    }

    #[derive(Debug, Default, PartialEq)]
    struct Fates {
        queued: bool,
        waits: bool,
        dropped: Option<u64>,
        timed_out: Vec<u64>,
        admitted: Option<u64>,
    }

    impl Naive {
        fn expire(&mut self, now: u64, overflow: Overflow, fates: &mut Fates) {
            if !matches!(overflow, Overflow::Park { .. }) {
                return;
            }
            let late = self.waiting.iter().filter(|(_, _, deadline)| *deadline <= now);
            fates.timed_out = late.map(|(message, ..)| *message).collect();
            self.waiting.retain(|(_, _, deadline)| *deadline > now);
        }

        fn offer(&mut self, now: u64, message: u64, bytes: u32, overflow: Overflow) -> Fates {
            let mut fates = Fates::default();
            self.expire(now, overflow, &mut fates);
            let held: u64 = self.waiting.iter().map(|(_, bytes, _)| u64::from(*bytes)).sum();
            let room = self.queue.len() < 2;
            match overflow {
                Overflow::DropOldest if !room => fates.dropped = self.queue.pop_front(),
                Overflow::Park { timeout } if !room && self.waiting.len() < PLACES => {
                    let deadline = now.saturating_add(u64::try_from(timeout.as_nanos()).unwrap());
                    self.waiting.push_back((message, bytes, deadline));
                    fates.waits = true;
                }
                Overflow::Spill { bytes_max }
                    if !room
                        && self.waiting.len() < PLACES
                        && held + u64::from(bytes) <= bytes_max =>
                {
                    self.waiting.push_back((message, bytes, 0));
                    fates.waits = true;
                }
                _ => {}
            }
            if self.queue.len() < 2 {
                self.queue.push_back(message);
                fates.queued = true;
            }
            fates
        }

        fn take(&mut self, now: u64, overflow: Overflow) -> Fates {
            let mut fates = Fates::default();
            self.expire(now, overflow, &mut fates);
            if let Some(message) = self.queue.pop_front() {
                self.taken.push(message);
                if let Some((message, ..)) = self.waiting.pop_front() {
                    self.queue.push_back(message);
                    fates.admitted = Some(message);
                }
            }
            fates
        }
    }

    proptest! {
        #[test]
        fn keeps_the_accounts_of_a_plain_queue(
            overflow in prop_oneof![
                Just(Overflow::RejectNew),
                Just(Overflow::DropOldest),
                (1..9_u64).prop_map(|ns| Overflow::Park { timeout: Duration::from_nanos(ns) }),
                (1..9_u64).prop_map(|bytes_max| Overflow::Spill { bytes_max }),
            ],
            start in prop_oneof![Just(0), Just(u64::MAX - 100)],
            history in prop::collection::vec((0..3_u64, any::<bool>(), 0..6_u32), 0..200),
        ) {
            let mut gate = Gate::new([Place::EMPTY; PLACES], CAPACITY, overflow).unwrap();
            let mut naive = Naive::default();
            let (mut now, mut offers) = (start, 0);
            // Which message each ticket is.
            let mut tickets = std::collections::HashMap::new();
            for (step, offer, bytes) in history {
                now = now.saturating_add(step);
                let mut told = Vec::new();
                let mut real = Fates::default();
                let expected = if offer {
                    let offered = gate.offer(Instant::from_ns(now), bytes, &mut |e| told.push(e));
                    offers += 1;
                    match offered {
                        Ok(Offered::Queued) => real.queued = true,
                        Ok(Offered::QueuedForOldest) => {
                            (real.queued, real.dropped) = (true, naive.queue.front().copied());
                        }
                        Ok(Offered::Parked { ticket, .. } | Offered::Spilled { ticket }) => {
                            prop_assert_eq!(tickets.insert(ticket, offers), None);
                            real.waits = true;
                        }
                        Err(Busy::QueueFull { .. }) => {
                            prop_assert_eq!(overflow, Overflow::RejectNew);
                        }
                        Err(Busy::WaitingRoomFull { .. }) => {
                            prop_assert_eq!(gate.waiting(), PLACES);
                        }
                        Err(Busy::SpillFull { spilled_bytes, bytes_max }) => {
                            prop_assert!(spilled_bytes + u64::from(bytes) > bytes_max);
                        }
                    }
                    naive.offer(now, offers, bytes, overflow)
                } else {
                    let taken = gate.take(Instant::from_ns(now), &mut |e| told.push(e));
                    prop_assert_eq!(taken.is_err(), naive.queue.is_empty());
                    naive.take(now, overflow)
                };
                for effect in told {
                    match effect {
                        GateEffect::Admitted(ticket) => real.admitted = Some(tickets[&ticket]),
                        GateEffect::TimedOut(ticket) => real.timed_out.push(tickets[&ticket]),
                    }
                }
                prop_assert_eq!(real, expected);
                prop_assert_eq!(usize::try_from(gate.depth()).unwrap(), naive.queue.len());
                prop_assert_eq!(gate.waiting(), naive.waiting.len());
                let due = gate.next_deadline().is_some_and(|at| at <= Instant::from_ns(now));
                prop_assert!(!due || now == u64::MAX, "nobody waits past the deadline");
                prop_assert_eq!(gate.check_invariants(), Ok(()));
                let counts = gate.counts();
                prop_assert_eq!(
                    counts.queued_total
                        + counts.rejected_total
                        + counts.timed_out_total
                        + u64::try_from(gate.waiting()).unwrap(),
                    offers,
                );
                prop_assert_eq!(usize::try_from(counts.taken_total).unwrap(), naive.taken.len());
            }
            // What was taken came in order: nobody overtook.
            prop_assert!(naive.taken.is_sorted());
        }
    }

    /// Claims F068 and F069.
    #[test]
    fn a_full_queue_rejects_and_a_drained_one_accepts() {
        let now = Instant::ZERO;
        let mut gate = Gate::new([], 128, Overflow::RejectNew).unwrap();
        for _ in 0..128 {
            assert_eq!(gate.offer(now, 1, &mut |_| {}), Ok(Offered::Queued));
        }
        assert_eq!(gate.offer(now, 1, &mut |_| {}), Err(Busy::QueueFull { capacity: 128 }));
        for _ in 0..128 {
            assert_eq!(gate.take(now, &mut |_| {}), Ok(()));
        }
        assert_eq!(gate.take(now, &mut |_| {}), Err(QueueEmpty));
        assert_eq!(gate.offer(now, 1, &mut |_| {}), Ok(Offered::Queued));
    }

    #[test]
    fn the_classes_have_their_numbers() {
        let mut parks = Gate::new([Place::EMPTY], 1, Overflow::LATENCY_SENSITIVE).unwrap();
        let _ = parks.offer(Instant::ZERO, 1, &mut |_| {}).unwrap();
        let _ = parks.offer(Instant::ZERO, 1, &mut |_| {}).unwrap();
        assert_eq!(parks.next_deadline(), Some(Instant::from_ns(500_000)));
        let mut spills = Gate::new([Place::EMPTY; 2], 1, Overflow::BULK).unwrap();
        let _ = spills.offer(Instant::ZERO, 1, &mut |_| {}).unwrap();
        let whole = spills.offer(Instant::ZERO, 262_144, &mut |_| {});
        assert!(matches!(whole, Ok(Offered::Spilled { .. })));
        let error = Busy::SpillFull { spilled_bytes: 262_144, bytes_max: 262_144 };
        assert_eq!(spills.offer(Instant::ZERO, 1, &mut |_| {}), Err(error));
        assert_eq!(spills.waiting_bytes(), 262_144);
        assert_eq!(spills.capacity(), 1);
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for (places, capacity, overflow, error) in [
            (1, 0, Overflow::RejectNew, GateError::CapacityIsZero),
            (1, 1, Overflow::Park { timeout: Duration::ZERO }, GateError::TimeoutIsZero),
            (1, 1, Overflow::Spill { bytes_max: 0 }, GateError::SpillIsZero),
            (0, 1, Overflow::LATENCY_SENSITIVE, GateError::NoWaitingRoom),
            (0, 1, Overflow::BULK, GateError::NoWaitingRoom),
        ] {
            let places = std::vec![Place::default(); places];
            assert_eq!(Gate::new(places, capacity, overflow).err(), Some(error));
        }
        assert!(Gate::new([], 1, Overflow::BEST_EFFORT).is_ok());
    }
}
