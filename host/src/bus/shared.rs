//! The core's bus behind its lock, with those who wait.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use duende_core::bus::{self, Counters, Full, Received, Seat, Slot, SubscriberId, SubscriberView};

use super::BATCH_MAX;
use super::sync::{Mutex, MutexGuard};
use super::waiters::Waiters;

/// What publishers and subscribers share.
pub(super) struct Shared<M> {
    state: Mutex<State<M>>,
    /// Counts what there is to look for, without the lock: a hint for who is about to sleep. Whether
    /// there is something is only known under the lock.
    news: AtomicU64,
}

type Boxed<M> = bus::Bus<M, Box<[Slot<M>]>, Box<[Seat]>>;

struct State<M> {
    bus: Boxed<M>,
    waiters: Waiters,
    /// Once closed, how many were published since then.
    closed: Option<u64>,
    /// Events that subscribers had taken and not given out when they were dropped.
    unread_total: u64,
}

/// What came of a look for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Some were taken.
    Events,
    /// So many were missed.
    Lagged(u64),
    /// There is none; the waker, if there was one, is called when there is.
    Nothing,
    /// There is none, and none will follow.
    Closed,
}

impl<M> Shared<M> {
    /// With room for `events`, at least one, and for `subscribers`.
    pub(super) fn new(events: usize, subscribers: usize) -> Self {
        let mut ring = Vec::new();
        ring.resize_with(events.max(1), || Slot::EMPTY);
        let seats = vec![Seat::EMPTY; subscribers].into_boxed_slice();
        let Ok(bus) = bus::Bus::new(0, ring.into_boxed_slice(), seats) else {
            unreachable!("a ring with a place is refused only for having none");
        };
        let waiters = Waiters::new(subscribers);
        let news = AtomicU64::new(0);
        Self { news, state: Mutex::new(State { bus, waiters, closed: None, unread_total: 0 }) }
    }

    pub(super) fn publish(&self, event: M) -> usize {
        let mut state = self.lock();
        if let Some(late) = &mut state.closed {
            *late = late.saturating_add(1);
            return 0;
        }
        let receivers = state.bus.publish(event);
        self.tell();
        self.wake(state);
        receivers
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        if state.closed.is_none() {
            state.closed = Some(0);
            self.tell();
            self.wake(state);
        }
    }

    pub(super) fn subscribe(&self) -> Result<SubscriberId, Full> {
        self.lock().bus.subscribe()
    }

    /// A subscriber leaves. So many of the events that it took were not given out.
    pub(super) fn unsubscribe(&self, id: SubscriberId, unread: usize) {
        let mut state = self.lock();
        // It is known: only its own drop unsubscribes it.
        let _ = state.bus.unsubscribe(id);
        let unread = u64::try_from(unread).unwrap_or(u64::MAX);
        state.unread_total = state.unread_total.saturating_add(unread);
        let waker = state.waiters.forget(id.seat());
        drop(state);
        drop(waker);
    }

    pub(super) fn subscribers(&self) -> usize {
        self.lock().bus.subscribers()
    }

    pub(super) fn counters(&self) -> Counters {
        let state = self.lock();
        let mut counters = state.bus.counters();
        let late = state.closed.unwrap_or(0);
        counters.published_total = counters.published_total.saturating_add(late);
        counters.no_receivers_total = counters.no_receivers_total.saturating_add(late);
        let unread = state.unread_total;
        counters.delivered_total = counters.delivered_total.saturating_sub(unread);
        counters.dropped_total = counters.dropped_total.saturating_add(unread);
        counters
    }

    /// How a subscriber is doing, without what it has taken.
    pub(super) fn view(&self, id: SubscriberId) -> SubscriberView {
        let view = self.lock().bus.view(id);
        view.unwrap_or(SubscriberView { waiting: 0, lagged_total: 0 })
    }

    /// How much there was to look for so far.
    pub(super) fn news(&self) -> u64 {
        self.news.load(Ordering::Relaxed)
    }

    /// There is one more. Only under the lock, so no other comes in between.
    fn tell(&self) {
        self.news.store(self.news().wrapping_add(1), Ordering::Relaxed);
    }

    /// Wakes those who wait now, without the lock. Who begins to wait meanwhile has seen what they are
    /// woken for.
    fn wake<'a>(&'a self, mut state: MutexGuard<'a, State<M>>) {
        let mut left = state.waiters.len();
        while left > 0 {
            let (count, taken) = state.waiters.take(left);
            drop(state);
            taken.wake();
            // Another publisher may have taken the rest.
            left = if count == 0 { 0 } else { left.saturating_sub(count) };
            if left == 0 {
                return;
            }
            state = self.lock();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        // Only a clone of an event can panic under the lock, and that changes nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Clone> Shared<M> {
    /// Takes up to [`BATCH_MAX`] events for a subscriber into `taken`, which is empty.
    pub(super) fn take(
        &self,
        id: SubscriberId,
        taken: &mut VecDeque<M>,
        waker: Option<&Waker>,
    ) -> Found {
        let mut state = self.lock();
        let State { bus, waiters, closed, .. } = &mut *state;
        while taken.len() < BATCH_MAX {
            match bus.receive(id) {
                Ok(Some(Received::Event(event))) => taken.push_back(event.clone()),
                // Nothing is published meanwhile, so it can only come first.
                Ok(Some(Received::Lagged { events })) => return Found::Lagged(events),
                // It is known as long as it is there to ask.
                Ok(None) | Err(_) => break,
            }
        }
        if !taken.is_empty() {
            return Found::Events;
        }
        if closed.is_some() {
            return Found::Closed;
        }
        let replaced = waker.and_then(|waker| waiters.wait(id.seat(), waker));
        drop(state);
        drop(replaced);
        Found::Nothing
    }
}
