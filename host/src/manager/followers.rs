//! Those who follow what happens: each reads the events from the core's bus at its own pace.
//!
//! Rules:
//! 1. Publishing never waits. A follower that falls behind by more than [`EVENTS_MAX`] events misses
//!    the oldest; it is told how many, and reads on.
//! 2. The lock is held for the copy of one event, never across an await.
//! 3. When the journal ends, a follower gets what still waits for it, and then the end.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use duende_core::bus::{Bus, Full, NoCapacity, Received, Seat, Slot, SubscriberId};
use tokio::sync::Notify;

use super::control_server::CONNECTIONS_MAX;
use crate::control::protocol::EventRecord;

/// Events that are kept for those who follow.
pub(crate) const EVENTS_MAX: usize = 1_024;
/// Most followers: one for each connection, and one whose connection is just being closed.
const FOLLOWERS_MAX: usize = 2 * CONNECTIONS_MAX;

type EventBus = Bus<EventRecord, Box<[Slot<EventRecord>]>, Box<[Seat]>>;

struct Shared {
    bus: Mutex<EventBus>,
    news: Notify,
    is_closed: AtomicBool,
}

impl Shared {
    fn bus(&self) -> MutexGuard<'_, EventBus> {
        // No panic is possible while it is held.
        self.bus.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where events are published.
pub(crate) struct Followers(Arc<Shared>);

impl Followers {
    /// Without followers.
    ///
    /// # Errors
    /// Never: the bus has room.
    pub(crate) fn new() -> Result<Self, NoCapacity> {
        let ring = vec![Slot::EMPTY; EVENTS_MAX].into_boxed_slice();
        let seats = vec![Seat::EMPTY; FOLLOWERS_MAX].into_boxed_slice();
        let bus = Mutex::new(Bus::new(0, ring, seats)?);
        Ok(Self(Arc::new(Shared { bus, news: Notify::new(), is_closed: AtomicBool::new(false) })))
    }

    /// Tells an event to all who follow; how many they are.
    pub(crate) fn publish(&self, event: EventRecord) -> usize {
        let receivers = self.0.bus().publish(event);
        self.0.news.notify_waiters();
        receivers
    }

    /// Follows what happens from here on.
    ///
    /// # Errors
    /// Too many follow.
    pub(crate) fn follow(&self) -> Result<Follower, Full> {
        let id = self.0.bus().subscribe()?;
        Ok(Follower { id, shared: self.0.clone() })
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0.news.notify_waiters();
    }
}

/// What a follower hears.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// What happened next.
    Event(EventRecord),
    /// It was too slow and missed so many events.
    Missed(u64),
}

/// One who follows.
pub(crate) struct Follower {
    id: SubscriberId,
    shared: Arc<Shared>,
}

impl Follower {
    /// What happens next; none once the journal has ended. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        loop {
            // Made before the look: it hears of what is published after it.
            let news = self.shared.news.notified();
            let is_closed = self.shared.is_closed.load(Ordering::Acquire);
            match self.shared.bus().receive(self.id) {
                Ok(Some(Received::Event(event))) => return Some(Heard::Event(event.clone())),
                Ok(Some(Received::Lagged { events })) => return Some(Heard::Missed(events)),
                Ok(None) if is_closed => return None,
                Ok(None) => {}
                Err(_) => return None,
            }
            news.await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Fails only if it is not there, which is what was wanted.
        let _ = self.shared.bus().unsubscribe(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::EventKind;

    fn event(number: usize) -> EventRecord {
        EventRecord {
            time_unix_us: 0,
            daemon: "web".to_owned(),
            incarnation: u32::try_from(number).unwrap(),
            kind: EventKind::Started,
            detail: String::new(),
            kernel: None,
        }
    }

    #[tokio::test]
    async fn a_slow_follower_holds_up_nobody_and_is_told_what_it_missed() {
        let followers = Followers::new().unwrap();
        assert_eq!(followers.publish(event(0)), 0);
        let mut slow = followers.follow().unwrap();
        let mut quick = followers.follow().unwrap();
        for number in 1..=EVENTS_MAX + 7 {
            assert_eq!(followers.publish(event(number)), 2);
            assert_eq!(quick.next().await, Some(Heard::Event(event(number))));
        }
        assert_eq!(slow.next().await, Some(Heard::Missed(7)));
        for number in 8..=EVENTS_MAX + 7 {
            assert_eq!(slow.next().await, Some(Heard::Event(event(number))));
        }
        // What waits is heard after the end; then nothing is.
        followers.publish(event(1));
        drop(followers);
        assert_eq!(slow.next().await, Some(Heard::Event(event(1))));
        assert_eq!(slow.next().await, None);
        assert_eq!(quick.next().await, Some(Heard::Event(event(1))));
        assert_eq!(quick.next().await, None);
    }

    #[tokio::test]
    async fn one_that_waits_is_woken_by_an_event_and_by_the_end() {
        let followers = Followers::new().unwrap();
        let mut follower = followers.follow().unwrap();
        let task = tokio::spawn(async move {
            let first = follower.next().await;
            (first, follower.next().await)
        });
        tokio::task::yield_now().await;
        followers.publish(event(3));
        tokio::task::yield_now().await;
        drop(followers);
        assert_eq!(task.await.unwrap(), (Some(Heard::Event(event(3))), None));
    }

    #[test]
    fn seats_are_given_back() {
        let followers = Followers::new().unwrap();
        let all: Vec<_> = (0..FOLLOWERS_MAX).map(|_| followers.follow().unwrap()).collect();
        assert!(followers.follow().is_err());
        drop(all);
        assert!(followers.follow().is_ok());
    }
}
