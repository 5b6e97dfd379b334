//! The bus against one plain queue per subscriber.

use std::collections::VecDeque;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const SEATS: usize = 4;

/// One subscriber, to the letter: a queue that forgets its head when it is full.
struct Plain {
    id: SubscriberId,
    queue: VecDeque<u32>,
    untold: u64,
    lagged: u64,
}

#[derive(Clone, Debug)]
enum Op {
    Publish(u8),
    Subscribe,
    /// Of the names given so far, also of those who left.
    Unsubscribe(usize),
    Receive(usize),
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1..12_u8).prop_map(Op::Publish),
        2 => Just(Op::Subscribe),
        1 => (0..64_usize).prop_map(Op::Unsubscribe),
        8 => (0..64_usize).prop_map(Op::Receive),
    ]
}

proptest! {
    #[test]
    fn delivers_or_counts_like_a_queue_per_subscriber(
        capacity in 1..9_usize,
        first in prop_oneof![Just(0), Just(u64::MAX - 5)],
        history in proptest::collection::vec(ops(), 0..200),
    ) {
        let mut bus = Bus::new(7, vec![Slot::EMPTY; capacity], [Seat::EMPTY; SEATS]).unwrap();
        bus.next = first;
        let mut model: Vec<Plain> = Vec::new();
        let mut names: Vec<SubscriberId> = Vec::new();
        let mut expected = Counters::default();
        let mut event = 0;
        for op in history {
            match op {
                Op::Publish(times) => {
                    for _ in 0..times {
                        event += 1;
                        expected.published_total += 1;
                        expected.no_receivers_total += u64::from(model.is_empty());
                        expected.copies_total += model.len() as u64;
                        for plain in &mut model {
                            plain.queue.push_back(event);
                            if plain.queue.len() > capacity {
                                plain.queue.pop_front();
                                plain.untold += 1;
                                plain.lagged += 1;
                                expected.lagged_total += 1;
                            }
                        }
                        prop_assert_eq!(bus.publish(event), model.len());
                    }
                }
                Op::Subscribe if model.len() == SEATS => {
                    prop_assert_eq!(bus.subscribe(), Err(Full { capacity: SEATS }));
                }
                Op::Subscribe => {
                    let id = bus.subscribe().unwrap();
                    prop_assert!(!names.contains(&id), "{} was given twice", id);
                    names.push(id);
                    model.push(Plain { id, queue: VecDeque::new(), untold: 0, lagged: 0 });
                }
                Op::Unsubscribe(pick) => {
                    let Some(id) = names.get(pick % names.len().max(1)).copied() else { continue };
                    let at = model.iter().position(|plain| plain.id == id);
                    let answer = at.map(|at| model.remove(at)).map(|plain| {
                        expected.dropped_total += plain.queue.len() as u64;
                    });
                    prop_assert_eq!(bus.unsubscribe(id), answer.ok_or(UnknownSubscriber(id)));
                }
                Op::Receive(pick) => {
                    let Some(id) = names.get(pick % names.len().max(1)).copied() else { continue };
                    let Some(plain) = model.iter_mut().find(|plain| plain.id == id) else {
                        prop_assert_eq!(bus.receive(id), Err(UnknownSubscriber(id)));
                        continue;
                    };
                    if plain.untold > 0 {
                        let events = core::mem::take(&mut plain.untold);
                        prop_assert_eq!(bus.receive(id), Ok(Some(Received::Lagged { events })));
                    } else {
                        let next = plain.queue.pop_front();
                        expected.delivered_total += u64::from(next.is_some());
                        let next = next.as_ref().map(Received::Event);
                        prop_assert_eq!(bus.receive(id), Ok(next));
                    }
                }
            }
            prop_assert_eq!(bus.check_invariants(), Ok(()));
            prop_assert_eq!(bus.counters(), expected);
            prop_assert_eq!(bus.subscribers(), model.len());
            for plain in &model {
                let waiting = plain.queue.len() as u64;
                let view = SubscriberView { waiting, lagged_total: plain.lagged };
                prop_assert_eq!(bus.view(plain.id), Ok(view));
            }
        }
    }
}

#[test]
fn names_of_another_bus_are_refused() {
    let bus = |number| Bus::new(number, [Slot::EMPTY; 2], [Seat::EMPTY; 2]).unwrap();
    let (mut one, mut other) = (bus(1), bus(2));
    // The same seat, the same serial.
    let (here, there) = (one.subscribe().unwrap(), other.subscribe().unwrap());
    assert_eq!(one.publish(5), 1);
    assert_eq!(one.receive(there), Err(UnknownSubscriber(there)));
    assert_eq!(one.view(there), Err(UnknownSubscriber(there)));
    assert_eq!(one.unsubscribe(there), Err(UnknownSubscriber(there)));
    assert_eq!(one.receive(here), Ok(Some(Received::Event(&5))));
    assert_eq!([here.seat(), one.subscribe().unwrap().seat()], [0, 1]);
    let told = std::format!("{}", UnknownSubscriber(there));
    assert!(told.starts_with(&std::format!("subscriber 0.{} of bus 2 is not", there.serial)));
    // A bus with fewer seats.
    let mut small = Bus::<u32, _, _>::new(1, [Slot::EMPTY; 1], []).unwrap();
    assert_eq!(small.receive(here), Err(UnknownSubscriber(here)));
    assert_eq!(small.subscribe(), Err(Full { capacity: 0 }));
    assert_eq!(small.publish(5), 0);
    assert_eq!((small.counters().published_total, small.counters().no_receivers_total), (1, 1));
}

#[test]
fn a_bus_without_room_is_refused() {
    assert_eq!(Bus::<(), _, _>::new(0, [], [Seat::EMPTY; 2]).err(), Some(NoCapacity));
}

#[test]
fn an_event_is_kept_once_and_not_for_nobody() {
    let event = Rc::new(());
    let mut bus = Bus::new(0, [const { Slot::EMPTY }; 1], [Seat::EMPTY; 2]).unwrap();
    bus.publish(Rc::clone(&event));
    assert_eq!(Rc::strong_count(&event), 1, "nobody listens");
    let _ = (bus.subscribe().unwrap(), bus.subscribe().unwrap());
    bus.publish(Rc::clone(&event));
    bus.publish(Rc::clone(&event));
    assert_eq!(Rc::strong_count(&event), 2, "one place, one event");
}
