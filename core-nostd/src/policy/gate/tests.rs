//! The gate against plain queues, and its edges.

use core::time::Duration;
use std::collections::VecDeque;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::policy::overflow::OverflowError;

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
                if !room && self.waiting.len() < PLACES && held + u64::from(bytes) <= bytes_max =>
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
        (
            1,
            1,
            Overflow::Park { timeout: Duration::ZERO },
            GateError::Overflow(OverflowError::TimeoutIsZero),
        ),
        (1, 1, Overflow::Spill { bytes_max: 0 }, GateError::Overflow(OverflowError::SpillIsZero)),
        (0, 1, Overflow::LATENCY_SENSITIVE, GateError::NoWaitingRoom),
        (0, 1, Overflow::BULK, GateError::NoWaitingRoom),
    ] {
        let places = std::vec![Place::default(); places];
        assert_eq!(Gate::new(places, capacity, overflow).err(), Some(error));
    }
    assert!(Gate::new([], 1, Overflow::BEST_EFFORT).is_ok());
}

/// Each field that a stray write could spoil, spoiled.
#[test]
fn a_broken_gate_is_noticed() {
    let full = || {
        let mut gate = Gate::new([Place::EMPTY; 2], 1, Overflow::LATENCY_SENSITIVE).unwrap();
        for _ in 0..2 {
            let _ = gate.offer(Instant::ZERO, 3, &mut |_| {}).unwrap();
        }
        gate
    };
    assert_eq!(full().check_invariants(), Ok(()));
    let spoilers: [fn(&mut Gate<[Place; 2]>); 7] = [
        |gate| gate.depth = 2,
        |gate| gate.depth = 0,
        |gate| gate.waiting = 3,
        |gate| gate.waiting = 0,
        |gate| gate.first = 2,
        |gate| gate.waiting_bytes += 1,
        |gate| gate.counts.queued_total += 1,
    ];
    for (index, spoil) in spoilers.into_iter().enumerate() {
        let mut gate = full();
        spoil(&mut gate);
        assert!(gate.check_invariants().is_err(), "spoiler {index}");
    }
}
