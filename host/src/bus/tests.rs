//! The bus with real threads and tasks. Every interleaving of a few is tried by `tests/loom`.

#![allow(clippy::unwrap_used, reason = "a test: its helpers fail it too")]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use super::*;

fn small(events: usize) -> Bus<u64> {
    Bus::with_capacity(events, 8).unwrap()
}

#[test]
fn every_subscriber_receives_everything_from_its_coming_on() {
    let bus = small(64);
    assert_eq!(bus.publish(0), 0);
    let mut early = bus.subscribe().unwrap();
    assert_eq!(bus.publish(1), 1);
    let mut late = bus.subscribe().unwrap();
    assert_eq!(bus.publish(2), 2);
    assert_eq!((early.try_recv(), early.try_recv()), (Ok(1), Ok(2)));
    assert_eq!((late.try_recv(), late.try_recv()), (Ok(2), Err(TryRecvError::Empty)));
    let expected = Counters {
        published_total: 3,
        no_receivers_total: 1,
        copies_total: 3,
        delivered_total: 3,
        ..Counters::default()
    };
    assert_eq!(bus.counters(), expected);
}

#[test]
fn what_was_missed_is_told_once_and_then_it_goes_on() {
    let bus = small(4);
    let mut slow = bus.subscribe().unwrap();
    for event in 0..10 {
        bus.publish(event);
    }
    assert_eq!(slow.view(), SubscriberView { waiting: 4, lagged_total: 6 });
    assert_eq!(slow.try_recv(), Err(RecvError::Lagged { events: 6 }.into()));
    assert_eq!(slow.try_recv(), Ok(6));
    // What was taken with it is safe.
    assert_eq!(slow.view().waiting, 3);
    for event in 10..15 {
        bus.publish(event);
    }
    for event in 7..10 {
        assert_eq!(slow.try_recv(), Ok(event));
    }
    assert_eq!(slow.try_recv(), Err(RecvError::Lagged { events: 1 }.into()));
    assert_eq!(slow.try_recv(), Ok(11));
}

#[test]
fn who_leaves_leaves_its_count_right() {
    let bus = small(64);
    let mut taker = bus.subscribe().unwrap();
    let idle = bus.subscribe().unwrap();
    for event in 0..40 {
        bus.publish(event);
    }
    // One is given out, 31 are taken, 8 wait.
    assert_eq!(taker.try_recv(), Ok(0));
    drop((taker, idle));
    let counters = bus.counters();
    assert_eq!((counters.delivered_total, counters.dropped_total), (1, 79));
    assert_eq!((bus.subscribers(), bus.publish(40)), (0, 0));
}

#[test]
fn a_seat_is_free_again_when_its_subscriber_was_dropped() {
    let bus: Bus<u64> = Bus::with_capacity(1, 1).unwrap();
    let first = bus.subscribe().unwrap();
    assert_eq!(bus.subscribe().err(), Some(Full { capacity: 1 }));
    drop(first);
    assert!(bus.subscribe().is_ok());
    assert_eq!(Bus::<u64>::with_capacity(0, 1).err(), Some(NoCapacity));
}

#[test]
fn a_closed_bus_is_read_to_its_end() {
    let bus = small(8);
    let mut subscriber = bus.subscribe().unwrap();
    bus.publish(1);
    bus.close();
    assert_eq!(bus.publish(2), 0);
    let counters = bus.counters();
    assert_eq!((counters.published_total, counters.no_receivers_total), (2, 1));
    assert_eq!(subscriber.recv_blocking(), Ok(1));
    assert_eq!(subscriber.recv_blocking(), Err(RecvError::Closed));
    let mut late = bus.subscribe().unwrap();
    assert_eq!(late.try_recv(), Err(RecvError::Closed.into()));
}

#[test]
fn the_last_bus_to_go_closes_it_and_wakes_a_thread_that_waits() {
    let bus = small(8);
    let mut subscriber = bus.subscribe().unwrap();
    let other = bus.clone();
    let waiting = thread::spawn(move || (subscriber.recv_blocking(), subscriber.recv_blocking()));
    drop(bus);
    other.publish(7);
    drop(other);
    assert_eq!(waiting.join().unwrap(), (Ok(7), Err(RecvError::Closed)));
}

#[test]
fn a_timeout_is_no_loss() {
    let bus = small(8);
    let mut subscriber = bus.subscribe().unwrap();
    let timeout = RecvTimeoutError::Timeout;
    assert_eq!(subscriber.recv_timeout(Duration::ZERO), Err(timeout));
    assert_eq!(subscriber.recv_timeout(Duration::from_micros(1)), Err(timeout));
    bus.publish(1);
    assert_eq!(subscriber.recv_timeout(Duration::MAX), Ok(1));
    bus.close();
    let closed = RecvTimeoutError::Recv(RecvError::Closed);
    assert_eq!(subscriber.recv_timeout(Duration::MAX), Err(closed));
}

/// A waker that counts, and whether its seat was still waiting.
fn counting() -> (Arc<Counting>, Waker) {
    let counting = Arc::new(Counting::default());
    (Arc::clone(&counting), Waker::from(counting))
}

#[derive(Default)]
struct Counting(std::sync::atomic::AtomicU32);

impl std::task::Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn each_waiter_is_woken_once_by_the_waker_that_it_gave_last() {
    // More than are woken at a time.
    let bus: Bus<u64> = Bus::with_capacity(4, 40).unwrap();
    let (old, old_waker) = counting();
    let (new, new_waker) = counting();
    let mut subscribers: Vec<_> = (0..40).map(|_| bus.subscribe().unwrap()).collect();
    for subscriber in &mut subscribers {
        for waker in [&old_waker, &new_waker, &new_waker] {
            assert_eq!(subscriber.poll_recv(&mut Context::from_waker(waker)), Poll::Pending);
        }
    }
    // One leaves while it waits.
    subscribers.truncate(39);
    assert_eq!((bus.publish(1), bus.publish(2)), (39, 39));
    let woken = |counting: &Counting| counting.0.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((woken(&old), woken(&new)), (0, 39));
}

#[test]
fn a_waker_may_come_back_to_the_bus_when_it_is_called_or_dropped() {
    struct Nosy(Bus<u64>);
    impl std::task::Wake for Nosy {
        fn wake(self: Arc<Self>) {
            assert_eq!(self.0.subscribers(), 1);
        }
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            assert_eq!(self.0.publish(0), self.0.subscribers());
        }
    }
    let bus = small(4);
    let mut subscriber = bus.subscribe().unwrap();
    let mut wait = |waker: Waker| {
        assert!(subscriber.poll_recv(&mut Context::from_waker(&waker)).is_pending());
    };
    let nosy = || Waker::from(Arc::new(Nosy(bus.clone())));
    wait(nosy());
    // Replaces the first one, whose drop publishes and so wakes this one, whose drop publishes.
    wait(Waker::noop().clone());
    bus.publish(1);
    drop(subscriber);
    assert_eq!(bus.subscribers(), 0);
}

#[tokio::test]
async fn tasks_receive_in_order_whoever_publishes() {
    const EVENTS: u64 = 2_000;
    let bus: Bus<(u64, u64)> = Bus::with_capacity(8_192, 8).unwrap();
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let mut subscriber = bus.subscribe().unwrap();
        tasks.push(tokio::spawn(async move {
            let mut next = [0; 2];
            while let Ok((publisher, number)) = subscriber.recv().await {
                let next = &mut next[usize::try_from(publisher).unwrap()];
                assert_eq!(number, *next);
                *next += 1;
            }
            next
        }));
    }
    let publishers: Vec<_> = (0..2)
        .map(|publisher| {
            let bus = bus.clone();
            thread::spawn(move || {
                for number in 0..EVENTS {
                    assert_eq!(bus.publish((publisher, number)), 4);
                }
            })
        })
        .collect();
    drop(bus);
    for task in tasks {
        assert_eq!(task.await.unwrap(), [EVENTS; 2]);
    }
    for publisher in publishers {
        publisher.join().unwrap();
    }
}

#[tokio::test]
async fn a_task_that_always_finds_an_event_lets_others_run() {
    let bus = small(4_096);
    let mut subscriber = bus.subscribe().unwrap();
    for event in 0..4_096 {
        bus.publish(event);
    }
    let greedy = tokio::spawn(async move {
        let mut received = 0;
        while received < 4_096 && subscriber.recv().await.is_ok() {
            received += 1;
        }
        received
    });
    // With `greedy` on the same thread: this is polled before it has come to its end.
    tokio::task::yield_now().await;
    assert!(bus.counters().delivered_total < 4_096);
    assert_eq!(greedy.await.unwrap(), 4_096);
}
