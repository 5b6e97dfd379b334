//! The bus of `duende::bus` in every interleaving.

use loom::future::block_on;
use loom::thread;

use duende_loom::bus::{Bus, Counters, RecvError, Subscriber};

/// Tries every order in which the threads of `model` can come by, with at most so many places where a
/// thread is interrupted although it could go on. Without a limit it would take hours; what goes wrong
/// at all goes wrong with two or three of them, as loom's authors have found.
fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Everything until the bus is closed, and how many were missed on the way.
fn receive_all(subscriber: &mut Subscriber<u32>) -> (Vec<u32>, u64) {
    let (mut received, mut missed) = (Vec::new(), 0);
    loop {
        match block_on(subscriber.recv()) {
            Ok(event) => received.push(event),
            Err(RecvError::Lagged { events }) => missed += events,
            Err(RecvError::Closed) => return (received, missed),
        }
    }
}

/// Every copy that a publisher was told of is accounted for.
fn assert_balanced(counters: Counters) {
    let Counters { copies_total, delivered_total, lagged_total, dropped_total, .. } = counters;
    assert_eq!(copies_total, delivered_total + lagged_total + dropped_total, "{counters:?}");
}

#[test]
fn who_waits_is_woken_by_each_event_and_by_the_end() {
    check(3, || {
        let bus: Bus<u32> = Bus::with_capacity(4, 3).unwrap();
        let mut subscriber = bus.subscribe().unwrap();
        let receiver = thread::spawn(move || receive_all(&mut subscriber));
        assert_eq!(bus.publish(1), 1);
        assert_eq!(bus.publish(2), 1);
        drop(bus);
        assert_eq!(receiver.join().unwrap(), (vec![1, 2], 0));
    });
}

#[test]
fn two_who_wait_are_both_woken() {
    check(2, || {
        let bus: Bus<u32> = Bus::with_capacity(4, 3).unwrap();
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                let mut subscriber = bus.subscribe().unwrap();
                thread::spawn(move || block_on(subscriber.recv()))
            })
            .collect();
        assert_eq!(bus.publish(7), 2);
        for receiver in receivers {
            assert_eq!(receiver.join().unwrap(), Ok(7));
        }
        assert_balanced(bus.counters());
    });
}

#[test]
fn two_publishers_lose_and_double_nothing() {
    check(2, || {
        let bus: Bus<u32> = Bus::with_capacity(4, 3).unwrap();
        let mut subscriber = bus.subscribe().unwrap();
        let publishers: Vec<_> = (0..2)
            .map(|publisher| {
                let bus = bus.clone();
                thread::spawn(move || {
                    bus.publish(10 * publisher);
                    bus.publish(10 * publisher + 1);
                })
            })
            .collect();
        drop(bus);
        let (received, missed) = receive_all(&mut subscriber);
        for first in [0, 10] {
            let own: Vec<_> = received.iter().filter(|event| **event / 10 == first / 10).collect();
            assert_eq!(own, [&first, &(first + 1)]);
        }
        assert_eq!((received.len(), missed), (4, 0));
        for publisher in publishers {
            publisher.join().unwrap();
        }
    });
}

#[test]
fn what_a_slow_one_misses_is_told_exactly() {
    check(3, || {
        let bus: Bus<u32> = Bus::with_capacity(1, 3).unwrap();
        let mut subscriber = bus.subscribe().unwrap();
        let publisher = {
            let bus = bus.clone();
            thread::spawn(move || (0..3).for_each(|event| assert_eq!(bus.publish(event), 1)))
        };
        let counted = bus.clone();
        let counted = thread::spawn(move || counted.counters());
        drop(bus);
        let (received, missed) = receive_all(&mut subscriber);
        assert!(received.is_sorted() && received.last() == Some(&2), "{received:?}");
        assert_eq!(received.len() as u64 + missed, 3);
        let Counters { copies_total, delivered_total, lagged_total, .. } = counted.join().unwrap();
        assert!(delivered_total + lagged_total <= copies_total);
        publisher.join().unwrap();
    });
}

#[test]
fn who_leaves_meanwhile_takes_its_count_along_and_frees_its_seat() {
    check(3, || {
        let bus: Bus<u32> = Bus::with_capacity(2, 1).unwrap();
        let mut leaves = bus.subscribe().unwrap();
        let publisher = {
            let bus = bus.clone();
            thread::spawn(move || bus.publish(1) + bus.publish(2) + bus.publish(3))
        };
        let _ = leaves.try_recv();
        drop(leaves);
        // In the same seat, perhaps in the middle of what is published.
        let mut comes = bus.subscribe().unwrap();
        let copies = publisher.join().unwrap();
        assert_eq!(bus.counters().copies_total, copies as u64);
        assert_eq!(bus.counters().published_total, 3);
        bus.close();
        let (received, missed) = receive_all(&mut comes);
        assert!(received.is_empty() || received.last() == Some(&3), "{received:?}");
        assert!(missed <= 1);
        drop(comes);
        assert_balanced(bus.counters());
    });
}

#[test]
fn closing_is_seen_by_who_waits_and_by_who_publishes() {
    check(3, || {
        let bus: Bus<u32> = Bus::with_capacity(4, 3).unwrap();
        let mut subscriber = bus.subscribe().unwrap();
        let closer = {
            let bus = bus.clone();
            thread::spawn(move || bus.close())
        };
        let receiver = thread::spawn(move || receive_all(&mut subscriber));
        let told = bus.publish(1);
        let (received, missed) = receiver.join().unwrap();
        // Whether it came in time, both sides say the same.
        assert_eq!((received.len(), missed), (told, 0));
        closer.join().unwrap();
        let counters = bus.counters();
        assert_eq!((counters.published_total, counters.copies_total), (1, told as u64));
        assert_eq!(counters.no_receivers_total, 1 - told as u64);
    });
}

#[test]
fn a_future_that_is_given_up_loses_nothing() {
    check(3, || {
        let bus: Bus<u32> = Bus::with_capacity(4, 3).unwrap();
        let mut subscriber = bus.subscribe().unwrap();
        let publisher = {
            let bus = bus.clone();
            thread::spawn(move || bus.publish(1))
        };
        drop(bus);
        // Polled once with a waker that leads nowhere, then given up.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let first = subscriber.poll_recv(&mut context);
        let (mut received, missed) = receive_all(&mut subscriber);
        if let std::task::Poll::Ready(first) = first {
            received.insert(0, first.unwrap());
        }
        assert_eq!((received, missed), (vec![1], 0));
        assert_eq!(publisher.join().unwrap(), 1);
    });
}
